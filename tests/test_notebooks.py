"""Every notebook runs from a clean kernel, keeps the house rules, and answers its exercises."""

import importlib
import os
import re
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbconvert import ScriptExporter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.browser.lab import find_browser
from tests.lessons import Exercise
from tests.notebook_runner import (
    HARD_LIMIT,
    LANGUAGE,
    SECONDS,
    anatomy_faults,
    answer_faults,
    exercise_faults,
    run_faults,
)

PROJECT = Path(__file__).parents[1]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def exercises_of(path: Path) -> list[Exercise]:
    return importlib.import_module(f"tests.lessons.{path.stem[3:]}.answers").EXERCISES


@each_notebook
def test_notebook_keeps_the_anatomy(path):
    assert anatomy_faults(path) == []


@each_notebook
def test_notebook_has_one_folder_for_its_lesson_and_one_for_its_tests(path):
    rooms = {"__init__.py", "checks.py", "explorer.py", "plots.py", "runs.py"}
    assert rooms == {
        file.name for file in (PROJECT / "fltutor/lessons" / path.stem[3:]).glob("*.py")
    }
    tests = PROJECT / "tests/lessons" / path.stem[3:]
    assert (tests / "answers.py").exists()
    assert (tests / "test_lesson.py").exists()
    moved = (tests / "test_browser.py").read_text(encoding="utf-8")
    assert re.search(r"^def test_\w+\(view\b", moved, re.MULTILINE), "no test moves the explorer"


@each_notebook
def test_notebook_becomes_a_script(path):
    notebook = nbformat.read(path, as_version=4)
    script, resources = ScriptExporter().from_notebook_node(notebook)
    assert resources["output_extension"] == ".py"
    compile(script, path.stem, "exec")


@each_notebook
def test_notebook_runs_and_answers_its_exercises(path, request, tmp_path):
    """In a real JupyterLab, from a clean kernel; by a client alone where there is no browser."""
    exercises = exercises_of(path)
    assert exercise_faults(path, exercises) == []
    if find_browser() or os.environ.get("CI") == "true":
        lab = request.getfixturevalue("lab")
        lab.open(path.name)
        start = time.monotonic()
        faults = lab.run_all(HARD_LIMIT)
        seconds = time.monotonic() - start
        lab.screenshot(path.stem)
        faults += lab.said("✗") + lab.page.locator(".fltutor-error").all_text_contents()
        faults = faults or answer_faults(path, exercises, lab.server.connection_file())
    else:
        faults, seconds = run_faults(path, exercises, tmp_path)
    print(f"{path.stem}: all cells in {seconds:.1f} s")
    assert faults == []
    if seconds > SECONDS:
        warnings.warn(f"{path.stem} took {seconds:.0f} s, should take {SECONDS}", stacklevel=1)


# The runner itself, on a small notebook with one fault at a time.

TITLE = """# 07 Small

> One idea.

[← 06 Before](06_before.ipynb) · [Contents](00_start_here.ipynb) · 08 After (coming)

**You will** see.

**You will be able to** say.

**You need** nothing.

| Party | Trusted to | Sees | Learns |
|---|---|---|---|
| server | add | sums | sums |
"""

BUILD = """
from fltutor.checks import agree
from fltutor.lessons import fewer_bytes as lesson

def my_double(x):
    return 2 * x

agree(my_double, lambda x: x + x, (3,))
"""

EXPLORER = """
from fltutor.widgets import explorer
explorer(lambda: 3, lambda figure, x: f"x = {x}", {})
"""

EXERCISE = """
def my_half(x):
    ...

agree(my_half, lambda x: x / 2, (3,), mistakes={"the double": my_double})
"""

HALF = Exercise(
    cell="half-code",
    solution=EXERCISE.replace("...", "return x / 2"),
    says="✓ my_half agrees",
    mistakes=((EXERCISE.replace("...", "return 2 * x"), "this is the double"),),
)
OTHER = Exercise("other-code", HALF.solution, HALF.says, HALF.mistakes)


def small_notebook():
    cells = [
        new_markdown_cell(TITLE, id="title"),
        new_code_cell(BUILD, id="build-code"),
        new_code_cell(EXPLORER, id="explorer-code"),
        new_markdown_cell("## What this does NOT protect\n\nMuch.\n\n## Recap\n\n1. So.", id="end"),
        new_markdown_cell("### Exercise 7.1 · Half\n\n[Up](#Recap)", id="half"),
        new_code_cell(EXERCISE, id="half-code"),
        new_markdown_cell("### Exercise 7.2 · Other", id="other"),
        new_code_cell(EXERCISE, id="other-code"),
        new_markdown_cell("## Further reading\n\n<https://example.org>", id="reading"),
    ]
    kernel = {"name": "python3", "display_name": "Python 3"}
    metadata = {"kernelspec": kernel, "language_info": LANGUAGE.copy()}
    return new_notebook(cells=cells, metadata=metadata)


def store(notebook, folder: Path) -> Path:
    for name in ("00_start_here", "06_before", "07_fewer_bytes"):
        nbformat.write(notebook, folder / f"{name}.ipynb")
    return folder / "07_fewer_bytes.ipynb"


def test_small_notebook_has_no_fault_of_anatomy(tmp_path):
    assert anatomy_faults(store(small_notebook(), tmp_path)) == []


@pytest.mark.parametrize(
    ("cell", "old", "new", "fault"),
    [
        ("title", "# 07", "# 7", "title `# 07 ...`"),
        ("title", "> One", "One", "the one-line idea"),
        ("title", "06_before.ipynb", "06_gone.ipynb", "links to 06_gone.ipynb"),
        ("title", "08 After (coming)", "", "no link to 08"),
        ("title", "[Contents](00_start_here.ipynb)", "Contents", "does not link to the contents"),
        ("title", "**You will** see", "You see", "lacks **You will**"),
        ("title", "**You will be able to**", "You can", "lacks **You will be able to**"),
        ("title", "**You need**", "Know", "lacks **You need**"),
        ("title", "| Sees ", "", "lacks the table"),
        ("end", "What this does NOT protect", "Limits", "no heading `What this does NOT protect`"),
        ("end", "## Recap", "So:", "no heading `Recap`"),
        ("reading", "Further reading", "Links", "no heading `Further reading`"),
        ("half", "7.1", "6.1", "needed `Exercise 7.1"),
        ("other", "### Exercise 7.2 · Other", "Other", "1 exercises, needed two or three"),
        ("half", "#Recap", "#Summary", "links to #Summary"),
        ("explorer-code", "explorer(", "exploded(", "no code cell calls explorer("),
        ("build-code", "def", "x = 1\n" * 31 + "def", "cell build-code has 36 lines"),
        ("build-code", "def", "import os\n" * 9 + "def", "imports in 11 lines, at most 10"),
        (
            "build-code",
            " as lesson",
            "",
            "lacks `from fltutor.lessons import fewer_bytes as lesson`",
        ),
        (
            "build-code",
            "def",
            "from fltutor.lessons.start_here.runs import CLIENTS\ndef",
            "names fltutor.lessons; needed `from fltutor.lessons import fewer_bytes as lesson`",
        ),
        (
            "explorer-code",
            "explorer(",
            "lesson.compression_explorer()\nexplorer(",
            "cell explorer-code lacks `from fltutor.lessons import fewer_bytes as lesson`",
        ),
    ],
)
def test_anatomy_names_the_fault(tmp_path, cell, old, new, fault):
    notebook = small_notebook()
    [changed] = [c for c in notebook.cells if c.id == cell]
    assert old in changed.source
    changed.source = changed.source.replace(old, new, 1)
    assert fault in "\n".join(anatomy_faults(store(notebook, tmp_path)))


def test_anatomy_names_stored_outputs_a_foreign_kernel_and_a_language_without_its_ending(tmp_path):
    notebook = small_notebook()
    notebook.cells[1].execution_count = 1
    notebook.metadata.kernelspec.name = "my-venv"
    del notebook.metadata.language_info["file_extension"]
    kernel, language, outputs = anatomy_faults(store(notebook, tmp_path))
    assert "not python3" in kernel
    assert "or nbconvert makes no script" in language
    assert outputs == "cell build-code is stored with outputs"


@pytest.mark.parametrize(
    ("exercises", "fault"),
    [
        ([HALF], "`Exercise 7.2 · Other` has no entry in tests/lessons"),
        ([HALF, OTHER, Exercise("gone", "", "")], "the entry gone is no cell of an exercise"),
        ([HALF, Exercise("other-code", "", "")], "the entry other-code tries no mistake"),
    ],
)
def test_every_exercise_has_an_entry_with_a_mistake(tmp_path, exercises, fault):
    path = store(small_notebook(), tmp_path)
    assert exercise_faults(path, [HALF, OTHER]) == []
    assert fault in exercise_faults(path, exercises)


@pytest.mark.parametrize(
    ("seconds", "faults"),
    [(HARD_LIMIT, []), (HARD_LIMIT + 1, [f"took {HARD_LIMIT + 1} s, at most {HARD_LIMIT}"])],
    ids=["in time", "late"],
)
def test_small_notebook_runs_without_a_fault_unless_it_is_late(
    tmp_path, monkeypatch, seconds, faults
):
    clock = iter([5.0, 5.0 + seconds])  # before its first cell, and after its last
    monkeypatch.setattr("tests.notebook_runner.time", SimpleNamespace(monotonic=clock.__next__))
    path = store(small_notebook(), tmp_path)
    assert run_faults(path, [HALF, OTHER], tmp_path / "run") == (faults, seconds)


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("1 / 0", "raises ZeroDivisionError"),
        ("import sys; print('careful', file=sys.stderr)", "writes to stderr: careful"),
        ("import warnings; warnings.warn('careful')", "writes to stderr"),
        ("print('✗ my_clip differs')", "✗ my_clip differs"),
        ("import urllib.request as u; u.urlopen('http://192.0.2.1')", "the course runs offline"),
        (EXPLORER.replace("3", "1 / 0"), "a widget shows: "),
    ],
)
def test_run_names_the_fault(tmp_path, source, fault):
    notebook = new_notebook(cells=[new_code_cell(source), new_code_cell("never_reached()")])
    faults, _ = run_faults(store(notebook, tmp_path), [], tmp_path / "run")
    assert fault in "\n".join(faults)


def test_run_names_wrong_answers_of_an_exercise(tmp_path):
    half = Exercise("half-code", HALF.mistakes[0][0], "✓", ((HALF.solution, "this is the double"),))
    notebook = small_notebook()
    del notebook.cells[2]
    notebook.cells[-2].source = OTHER.solution
    faults, _ = run_faults(store(notebook, tmp_path), [half, OTHER], tmp_path / "run")
    solution, mistake, untouched = faults
    assert solution.startswith("exercise half-code, solution: needed '✓', printed '✗")
    assert mistake.startswith("exercise half-code, mistake 1: needed 'this is the double'")
    assert untouched == "exercise other-code, untouched, does not print 'not attempted yet'"
