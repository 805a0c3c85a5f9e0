"""pyproject.toml, requirements.lock and environment.yml agree, and the wheel works elsewhere.

What is not tested here: that conda itself finds a solution. Its lines are only
parsed. conda brings Python and pip; everything else comes from pip.
"""

import itertools
import re
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import fltutor

PROJECT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
LOCK = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
ENVIRONMENT = yaml.safe_load((PROJECT / "environment.yml").read_text(encoding="utf-8"))

DEPENDENCIES = [Requirement(line) for line in PYPROJECT["project"]["dependencies"]]
GROUPS = [Requirement(line) for group in PYPROJECT["dependency-groups"].values() for line in group]
MACHINES = [
    {"python_version": version, "python_full_version": f"{version}.0", "sys_platform": platform}
    for version, platform in itertools.product(
        ("3.11", "3.12", "3.13"), ("linux", "darwin", "win32")
    )
]


def entries(lock: str) -> list[tuple[Requirement, list[str]]]:
    """Every pinned package with its hashes."""
    blocks = re.findall(r"^(\S[^\\\n]*) \\\n((?:    --hash=.*\n?)+)", lock, re.MULTILINE)
    return [(Requirement(line), re.findall(r"--hash=(\S+)", hashes)) for line, hashes in blocks]


PINNED = [requirement for requirement, _ in entries(LOCK)]


def pins(name: str, machine: dict[str, str]) -> list[str]:
    """The versions that this machine would install."""
    found = [pin for pin in PINNED if canonicalize_name(pin.name) == canonicalize_name(name)]
    found = [pin for pin in found if pin.marker is None or pin.marker.evaluate(machine)]
    return [specifier.version for pin in found for specifier in pin.specifier]


def test_every_package_in_the_lock_has_one_version_and_hashes():
    lines = [line for line in LOCK.splitlines() if line and line[0] not in " #"]
    assert len(lines) == len(PINNED) > 100
    for pin, hashes in entries(LOCK):
        assert re.fullmatch(r"==[\w.!+]+", str(pin.specifier)), pin
        assert hashes, pin
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", value) for value in hashes), pin


def test_the_lock_records_no_addresses():
    assert "://" not in LOCK
    assert not re.search(r"^--?(?:index|extra-index|find-links|i |f )", LOCK, re.MULTILINE)


@pytest.mark.parametrize("requirement", DEPENDENCIES + GROUPS, ids=str)
def test_the_lock_satisfies_pyproject_on_every_machine(requirement):
    for machine in MACHINES:
        [version] = pins(requirement.name, machine)
        assert requirement.specifier.contains(version), machine


def test_conda_brings_python_and_pip_only():
    conda = [line for line in ENVIRONMENT["dependencies"] if isinstance(line, str)]
    python, pip = conda
    matched = re.fullmatch(r"python (>=3\.\d+,<3\.\d+)", python)
    assert SpecifierSet(matched[1]) == SpecifierSet(PYPROJECT["project"]["requires-python"])
    assert pip == "pip"
    assert ENVIRONMENT["channels"] == ["conda-forge", "nodefaults"]
    assert ENVIRONMENT["name"] == "fltutor"


def test_the_pip_part_is_the_lock_for_the_direct_dependencies_and_the_package_itself():
    *_, part = ENVIRONMENT["dependencies"]
    *lines, package = part["pip"]
    direct = {canonicalize_name(requirement.name) for requirement in DEPENDENCIES}
    expected = [str(pin) for pin in PINNED if canonicalize_name(pin.name) in direct]
    assert [str(Requirement(line)) for line in lines] == expected, "\n".join(
        ["the pip part should be", *expected]
    )
    assert package == "-e ."


def test_the_supported_pythons_are_the_same_everywhere():
    classified = re.findall(r"Python :: (3\.\d+)", str(PYPROJECT["project"]["classifiers"]))
    needed = SpecifierSet(PYPROJECT["project"]["requires-python"])
    assert classified == [f"3.{n}" for n in range(30) if needed.contains(f"3.{n}")]
    bootstrap = (PROJECT / ".ci" / "environment.py").read_text(encoding="utf-8")
    supported = str(tuple(tuple(map(int, version.split("."))) for version in classified))
    assert f"SUPPORTED = {supported}" in bootstrap
    selfcheck = (PROJECT / "fltutor" / "__main__.py").read_text(encoding="utf-8")
    assert f"PYTHONS = {supported}" in selfcheck


def test_the_version_is_the_same_everywhere():
    version = PYPROJECT["project"]["version"]
    assert fltutor.__version__ == version
    assert f"## [{version}]" in (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_wheel_holds_the_package_and_its_licence_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "fltutor").rglob("*.py")}
    assert modules <= names
    assert any(name.endswith("/LICENSE") for name in names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"fltutor"}


def test_homework_runs_on_the_wheel_in_another_folder(bare_python, tmp_path):
    site = Path(run(bare_python, "-c", "import site; print(site.getsitepackages()[0])").strip())
    # The packages that fltutor needs; a path in a .pth brings no editable install along.
    (site / "needs.pth").write_text(str(Path(yaml.__file__).parents[1]), encoding="utf-8")

    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1]
    homework = tmp_path / "homework" / "mine.py"
    homework.parent.mkdir()
    homework.write_text(example + "\nimport fltutor\nprint(fltutor.__file__)\n", encoding="utf-8")
    result, file = run(bare_python, homework, cwd=homework.parent).splitlines()
    accuracy = float(re.fullmatch(r"accuracy (0\.\d\d), \d+\.\d\d MB both ways", result)[1])
    assert accuracy > 0.8
    assert Path(file).is_relative_to(site)


def run(*command, cwd=None) -> str:
    """What a command prints; it must succeed and say nothing on stderr."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
