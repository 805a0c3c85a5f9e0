"""Imports point down, TensorFlow stays in its layer, and nothing unsafe is imported at all."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
PACKAGE = PROJECT / "fltutor"

# A module imports from its own layer or a lower one. A folder counts as one name.
LAYERS = [
    # plain data
    {"errors", "fixed_point", "transcript", "vectors"},
    # primitives that know nothing of federated learning
    {"compression", "crypto", "privacy"},
    # protocols and aggregation
    {"aggregation", "knowledge", "protocols", "server_optimizers"},
    # learning and simulating, with TensorFlow
    {"attacks", "clients", "data", "models", "progress", "simulation", "tensorflow_quietly"},
    # what you see
    {"__main__", "checks", "explorers", "plots", "widgets"},
]
LEARNING = 3
LIGHT = sys.stdlib_module_names | {"cryptography", "fltutor", "numpy"}
UNSAFE_MODULES = {"cloudpickle", "dill", "marshal", "pickle", "random", "shelve"}
UNSAFE_CALLS = {"eval", "exec"}

MODULES = {
    ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
ROOMS = {name: path for name, path in MODULES.items() if name != "fltutor"}


def layer(module: str) -> int:
    room = module.split(".")[1]
    for number, names in enumerate(LAYERS):
        if room in names:
            return number
    pytest.fail(f"fltutor.{room} is new: place it in a layer at the top of {Path(__file__).name}")


def imports(source: str, *, everywhere: bool = True) -> Iterator[str]:
    """The modules that a source imports, also inside functions unless told otherwise."""
    tree = ast.parse(source)
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"write `from fltutor...` in full, line {node.lineno}"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward(module: str, source: str) -> list[str]:
    own = [name for name in imports(source) if name.startswith("fltutor.")]
    own = [name for name in own if name.split(".")[1] != "__version__"]
    return [name for name in own if layer(name) > layer(module)]


@pytest.mark.parametrize("module", ROOMS)
def test_imports_point_down(module):
    assert upward(module, ROOMS[module].read_text(encoding="utf-8")) == []


def test_an_upward_import_is_seen():
    source = "def f():\n    from fltutor import simulation\n    import fltutor.widgets"
    assert upward("fltutor.crypto.aead", source) == ["fltutor.simulation", "fltutor.widgets"]
    assert upward("fltutor.widgets", source) == []


def test_a_new_module_must_be_placed():
    with pytest.raises(pytest.fail.Exception, match=r"fltutor\.utils is new: place it"):
        upward("fltutor.utils", "import fltutor.errors")


@pytest.mark.parametrize("module", ROOMS)
def test_heavy_packages_are_imported_where_they_belong(module):
    source = ROOMS[module].read_text(encoding="utf-8")
    if layer(module) != LEARNING:
        assert {name.split(".")[0] for name in imports(source)}.isdisjoint({"keras", "tensorflow"})
    if layer(module) < LEARNING:
        at_import = {name.split(".")[0] for name in imports(source, everywhere=False)}
        assert at_import <= LIGHT, "import it inside the function that needs it"


def test_layers_below_learning_load_without_tensorflow():
    light = [name for name in ROOMS if layer(name) < LEARNING]
    code = f"import sys, {', '.join(light)}; print({{'keras', 'tensorflow'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert done.stderr == ""


@pytest.mark.parametrize("module", MODULES)
def test_nothing_unsafe_is_used(module):
    source = MODULES[module].read_text(encoding="utf-8")
    assert {name.split(".")[0] for name in imports(source)}.isdisjoint(UNSAFE_MODULES)
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    assert {node.func.id for node in calls if isinstance(node.func, ast.Name)}.isdisjoint(
        UNSAFE_CALLS
    )
    keywords = {keyword.arg for call in calls for keyword in call.keywords}
    assert "allow_pickle" not in keywords


def test_no_file_names_a_folder_of_somebodys_machine():
    home = re.compile(r"(?:^|[^\w.])/(?:home|root|Users|work)/\w")
    kept = {".cfg", ".ipynb", ".json", ".lock", ".md", ".py", ".toml", ".yml", ""}
    folders = ("benchmarks", "docs", "fltutor", "notebooks", "tests", ".ci")
    files = [path for path in PROJECT.iterdir() if path.is_file()]
    files += [path for folder in folders for path in (PROJECT / folder).rglob("*")]
    found = [
        f"{path.relative_to(PROJECT)}: {line.strip()}"
        for path in files
        if path.is_file() and path.suffix in kept and "__pycache__" not in path.parts
        for line in path.read_text(encoding="utf-8").splitlines()
        if home.search(line)
    ]
    assert found == []
