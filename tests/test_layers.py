"""Imports point down, TensorFlow stays in its layer, and nothing unsafe is imported at all."""

import ast
import graphlib
import re
import shutil
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
    {"border", "errors", "fixed_point", "packages", "progress", "transcript", "vectors"},
    # primitives that know nothing of federated learning
    {"compression", "crypto", "privacy"},
    # protocols and aggregation
    {"aggregation", "knowledge", "protocols", "server_optimizers"},
    # learning and simulating, with TensorFlow
    {
        "attacks",
        "clients",
        "data",
        "fingerprints",
        "joining",
        "models",
        "simulation",
        "tensorflow_quietly",
    },
    # what every lesson stands on
    {"__main__", "checks", "plotting", "widgets"},
    # the lessons
    {"lessons"},
]
LEARNING = 3
LIGHT = sys.stdlib_module_names | {"cryptography", "fltutor", "numpy"}
UNSAFE_MODULES = {"cloudpickle", "dill", "marshal", "pickle", "random", "shelve"}
UNSAFE_CALLS = {"eval", "exec"}


def modules_of(project: Path) -> dict[str, Path]:
    return {
        ".".join(path.relative_to(project).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((project / "fltutor").rglob("*.py"))
    }


MODULES = modules_of(PROJECT)
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


def arrows(modules: dict[str, Path]) -> dict[str, set[str]]:
    """Which modules of the package each one imports, also inside functions and for types.

    ``from fltutor.crypto import aead`` is an arrow to the module aead; a name that is no
    module is an arrow to where it is imported from.
    """
    found: dict[str, set[str]] = {}
    for module, path in modules.items():
        names = [n for n in imports(path.read_text(encoding="utf-8")) if n.startswith("fltutor")]
        named = {name if name in modules else name.rpartition(".")[0] for name in names}
        found[module] = (named & set(modules)) - {"fltutor", module}
    return found


def lesson(module: str) -> str | None:
    """The name of the folder in `lessons` that a module belongs to, if it belongs to one."""
    parts = module.split(".")
    folder = PACKAGE / "lessons" / parts[2] if parts[1] == "lessons" and len(parts) > 2 else None
    return parts[2] if folder and not folder.with_suffix(".py").exists() else None


def faults(modules: dict[str, Path]) -> list[str]:
    """Imports that point up, from one lesson into another, or round in a circle."""
    graph = {name: found for name, found in arrows(modules).items() if name != "fltutor"}
    wrong = []
    for module, found in graph.items():
        for other in sorted(found):
            if layer(other) > layer(module):
                wrong.append(f"{module} imports {other}, which is in a higher layer")
            if lesson(other) not in (None, lesson(module)):
                wrong.append(f"{module} imports {other}: what two lessons need lies beside them")
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        wrong.append("a circle: " + " <- ".join(error.args[1]))
    return wrong


def test_imports_point_down_without_a_circle_and_no_lesson_reaches_into_another():
    assert faults(MODULES) == []


@pytest.mark.parametrize(
    ("file", "line", "fault"),
    [
        (
            "crypto/aead.py",
            "def f():\n    from fltutor.simulation import run_federated",
            "fltutor.crypto.aead imports fltutor.simulation, which is in a higher layer",
        ),
        (
            "widgets.py",
            "import fltutor.lessons.kept_run",
            "fltutor.widgets imports fltutor.lessons.kept_run, which is in a higher layer",
        ),
        (
            "crypto/wire.py",
            "if TYPE_CHECKING:\n    from fltutor.crypto.aead import Key",
            "a circle: fltutor.",
        ),
        (
            "lessons/start_here/runs.py",
            "if TYPE_CHECKING:\n    from fltutor.lessons.start_here import plots",
            "a circle: fltutor.lessons.start_here.",
        ),
        (
            "lessons/fewer_bytes/runs.py",
            "from fltutor.lessons.start_here.runs import CLIENTS",
            "fltutor.lessons.fewer_bytes.runs imports fltutor.lessons.start_here.runs: what two",
        ),
        (
            "lessons/fewer_bytes/runs.py",
            "from fltutor.lessons import start_here as other",
            "fltutor.lessons.fewer_bytes.runs imports fltutor.lessons.start_here: what two",
        ),
        (
            "lessons/curves.py",
            "from fltutor.lessons.start_here.runs import CLIENTS",
            "fltutor.lessons.curves imports fltutor.lessons.start_here.runs: what two",
        ),
    ],
)
def test_a_planted_import_is_seen(tmp_path, file, line, fault):
    shutil.copytree(PACKAGE, tmp_path / "fltutor", ignore=shutil.ignore_patterns("__pycache__"))
    with (tmp_path / "fltutor" / file).open("a", encoding="utf-8") as source:
        source.write(f"\n{line}\n")
    found = faults(modules_of(tmp_path))
    assert any(one.startswith(fault) for one in found), found


def test_a_new_module_must_be_placed(tmp_path):
    (tmp_path / "fltutor").mkdir()
    (tmp_path / "fltutor" / "utils.py").write_text("from fltutor import utils")
    (tmp_path / "fltutor" / "errors.py").write_text("import fltutor.utils")
    with pytest.raises(pytest.fail.Exception, match=r"fltutor\.utils is new: place it"):
        faults(modules_of(tmp_path))


@pytest.mark.parametrize("module", ROOMS)
def test_heavy_packages_are_imported_where_they_belong(module):
    source = ROOMS[module].read_text(encoding="utf-8")
    assert {name.split(".")[0] for name in imports(source)}.isdisjoint({"keras", "tensorflow"}), (
        "import them from fltutor.tensorflow_quietly, which waits for their first use"
    )
    assert "TYPE_CHECKING" not in source, "an import for types is an import, and may make a circle"
    if layer(module) < LEARNING:
        at_import = {name.split(".")[0] for name in imports(source, everywhere=False)}
        assert at_import <= LIGHT, "use fltutor.packages.load where it is needed"


def test_every_module_loads_without_tensorflow():
    code = f"import sys, {', '.join(ROOMS)}; print({{'keras', 'tensorflow'}} & set(sys.modules))"
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
