"""Runs a notebook from a clean kernel, then its exercises, and lists what is wrong.

``anatomy_faults`` reads the stored file; ``run_faults`` executes a copy; ``answer_faults``
tries exercises in a kernel that has run it, such as one behind a browser. All return
sentences, none for a notebook that is in order.
"""

import ast
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import nbformat
from ipykernel.kernelspec import write_kernel_spec
from jupyter_client import BlockingKernelClient
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from tests.lessons import Exercise

SECONDS = 60  # what a reader should wait at most for all cells
HARD_LIMIT = 180  # what a busy test machine may take
MAX_LINES = 30
MAX_IMPORT_LINES = 10  # before the first idea; the rest is imported where the reader meets it
LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
}
"""What JupyterLab writes of the language, less the version, which differs from reader to reader."""
LAST_NOTEBOOK = 15
NOT_ATTEMPTED = "not attempted yet"

FIRST_CELL = {
    r"^> \S": "the one-line idea, `> ...`",
    r"^\*\*You will\*\* ": "**You will**",
    r"^\*\*You will be able to\*\* ": "**You will be able to**",
    r"^\*\*You need\*\* ": "**You need**",
    r"^\| Party \| Trusted to \| Sees \| Learns \|$": "the table Party, Trusted to, Sees, Learns",
}
HEADINGS = ("What this does NOT protect", "Recap", "Further reading")

EXPLORER_CALL = re.compile(r"\blesson\.\w+_explorer\(")

# Runs in the kernel before the notebook: the course must not need a network.
OFFLINE = """
import socket

class OfflineSocket(socket.socket):
    def connect(self, address):
        if self.family != getattr(socket, "AF_UNIX", None) and address[0] not in (
            "127.0.0.1", "::1", "localhost"
        ):
            raise OSError(f"the course runs offline, but a cell connects to {address[0]}")
        return super().connect(address)

socket.socket = OfflineSocket
"""


def anatomy_faults(path: Path) -> list[str]:
    """What the stored notebook lacks, without running it."""
    notebook = nbformat.read(path, as_version=nbformat.NO_CONVERT)
    try:
        nbformat.validate(notebook)
    except nbformat.ValidationError as error:
        return [f"not a valid notebook: {error}"]
    return [
        *_storage_faults(notebook),
        *_first_cell_faults(notebook, path),
        *_section_faults(notebook, _number(path)),
        *_import_faults(notebook, path.stem[3:]),
        *_link_faults(notebook, path),
    ]


def _number(path: Path) -> int:
    return int(path.name[:2])


def _storage_faults(notebook) -> Iterator[str]:
    if (notebook.nbformat, notebook.nbformat_minor) != (4, 5):
        yield f"stored as nbformat {notebook.nbformat}.{notebook.nbformat_minor}, needed 4.5"
    if notebook.metadata.get("kernelspec", {}).get("name") != "python3":
        yield "the kernel in the metadata is not python3: JupyterLab would ask for one"
    if notebook.metadata.get("language_info") != LANGUAGE:
        yield f"language_info in the metadata must be {LANGUAGE}, or nbconvert makes no script"
    for cell in _code_cells(notebook):
        if cell.outputs or cell.execution_count is not None:
            yield f"cell {cell.id} is stored with outputs"
        num_lines = sum(bool(line.strip()) for line in cell.source.splitlines())
        if num_lines > MAX_LINES:
            yield f"cell {cell.id} has {num_lines} lines, at most {MAX_LINES}"


def _first_cell_faults(notebook, path: Path) -> Iterator[str]:
    first, number = notebook.cells[0].source, _number(path)
    if not re.match(rf"# {number:02d} \S", first):
        yield f"the first cell does not start with the title `# {number:02d} ...`"
    for pattern, name in FIRST_CELL.items():
        if not re.search(pattern, first, re.MULTILINE):
            yield f"the first cell lacks {name}"
    if number > 0 and "](00_start_here.ipynb)" not in first:
        yield "the first cell does not link to the contents in 00_start_here.ipynb"
    for neighbour in (number - 1, number + 1):
        entry = re.search(rf"[^·\n]*\b{neighbour:02d} [^·\n]*", first)
        if 0 < neighbour <= LAST_NOTEBOOK and not (
            entry and ("coming" in entry[0] or f"]({neighbour:02d}_" in entry[0])
        ):
            yield f"the navigation has no link to {neighbour:02d}, nor says it is coming"


def _section_faults(notebook, number: int) -> Iterator[str]:
    headings = _headings(notebook)
    for needed in HEADINGS:
        if not any(heading.startswith(needed) for heading in headings):
            yield f"no heading `{needed}`"
    found = [heading for heading in headings if heading.startswith("Exercise ")]
    if len(found) < 2:
        yield f"{len(found)} exercises, needed two or three"
    for place, heading in enumerate(found, start=1):
        if not re.match(rf"Exercise 0?{number}\.{place} · \S", heading):
            yield f"heading `{heading}`, needed `Exercise {number}.{place} · ...`"
    code = "\n".join(cell.source for cell in _code_cells(notebook))
    for call in ("explorer(", "agree("):
        if call not in code:
            yield f"no code cell calls {call}...)"


def _import_faults(notebook, lesson: str) -> Iterator[str]:
    cells = _code_cells(notebook)
    first = next(cell for cell in cells if "import " in cell.source)
    for cell in cells:
        lines = sum(
            node.end_lineno - node.lineno + 1
            for node in ast.parse(cell.source).body
            if isinstance(node, ast.Import | ast.ImportFrom)
        )
        if lines > MAX_IMPORT_LINES:
            yield f"cell {cell.id} imports in {lines} lines, at most {MAX_IMPORT_LINES}"
    needed = f"from fltutor.lessons import {lesson} as lesson"
    for cell in (first, *(cell for cell in cells if EXPLORER_CALL.search(cell.source))):
        if needed not in cell.source:
            yield f"cell {cell.id} lacks `{needed}`"
    for line in "\n".join(cell.source for cell in cells).splitlines():
        if re.search(r"\blessons\b", line) and line != needed:
            yield f"`{line}` names fltutor.lessons; needed `{needed}` alone"


def _link_faults(notebook, path: Path) -> Iterator[str]:
    anchors = {heading.replace(" ", "-") for heading in _headings(notebook)}
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            continue
        for target in re.findall(r"\]\(([^)\s]+)\)", cell.source):
            if target.startswith("#"):
                missing = target[1:] not in anchors
            else:
                file = target.partition("#")[0]
                missing = "://" not in target and not (path.parent / file).exists()
            if missing:
                yield f"cell {cell.id} links to {target}, which is not there"


def _headings(notebook) -> list[str]:
    return [heading for cell in notebook.cells for heading in _headings_of(cell)]


def _headings_of(cell) -> list[str]:
    if cell.cell_type != "markdown":
        return []
    return re.findall(r"^#+ (.+)$", cell.source, re.MULTILINE)


def _code_cells(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def exercise_faults(path: Path, exercises: Sequence[Exercise]) -> list[str]:
    """Exercises of the notebook without an entry, and entries without a cell or a mistake."""
    cells_below: dict[str, set[str]] = {}
    heading = ""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            heading = (_headings_of(cell) or [heading])[-1]
        elif heading.startswith("Exercise "):
            cells_below.setdefault(heading, set()).add(cell.id)
    entries = {exercise.cell: exercise for exercise in exercises}
    faults = [
        f"`{heading}` has no entry in tests/lessons"
        for heading, cells in cells_below.items()
        if cells.isdisjoint(entries)
    ]
    for cell, exercise in entries.items():
        if not any(cell in cells for cells in cells_below.values()):
            faults.append(f"the entry {cell} is no cell of an exercise")
        if not exercise.mistakes:
            faults.append(f"the entry {cell} tries no mistake")
    return faults


def run_faults(
    path: Path, exercises: Sequence[Exercise], folder: Path, *, startup: str = ""
) -> tuple[list[str], float]:
    """Execute a copy of the notebook in ``folder``, then feed exercises to the same kernel.

    Args:
        path: The stored notebook.
        exercises: Answers to try.
        folder: Where the copy runs.
        startup: What the kernel runs beforehand.

    Returns:
        The faults, and the seconds that all cells took.
    """
    folder.mkdir(exist_ok=True)
    notebook = nbformat.read(shutil.copy(path, folder), as_version=4)
    client = _client(notebook, folder)
    place = {cell.id: index for index, cell in enumerate(notebook.cells)}

    def run(cell) -> None:
        client.execute_cell(cell, place[cell.id])

    with client.setup_kernel(env=_environment(folder, startup), cleanup_kc=True):
        try:
            start = time.monotonic()
            faults = [*_cell_faults(run, notebook), *_widget_faults(client)]
            seconds = time.monotonic() - start
            if not faults:
                faults = _answer_faults(run, notebook, exercises)
        except (CellTimeoutError, DeadKernelError) as error:
            faults, seconds = [str(error)], time.monotonic() - start
    if seconds > HARD_LIMIT:
        faults.append(f"took {seconds:.0f} s, at most {HARD_LIMIT}")
    return faults, seconds


def _client(notebook, folder: Path) -> NotebookClient:
    """A client with a kernel of this very Python, whatever kernels the user has."""
    kernels = folder / "kernels"
    write_kernel_spec(str(kernels / "python3"))
    specs = KernelSpecManager(kernel_dirs=[str(kernels)])
    return NotebookClient(
        notebook,
        km=AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs),
        timeout=HARD_LIMIT,
        allow_errors=True,
        resources={"metadata": {"path": str(folder)}},
    )


def _environment(folder: Path, startup: str) -> dict[str, str]:
    run_at_startup(folder / "ipython", OFFLINE + startup)
    return os.environ | {"IPYTHONDIR": str(folder / "ipython")}


def run_at_startup(ipython: Path, source: str) -> None:
    """Let kernels with this folder as IPYTHONDIR run a source before anything else."""
    profile = ipython / "profile_default" / "startup"
    profile.mkdir(parents=True)
    (profile / "startup.py").write_text(source, encoding="utf-8")


def answer_faults(path: Path, exercises: Sequence[Exercise], connection: Path) -> list[str]:
    """Feed exercises to a living kernel that has run the notebook.

    Args:
        path: The stored notebook.
        exercises: Answers to try.
        connection: The kernel's connection file.
    """
    kernel = BlockingKernelClient()
    kernel.load_connection_file(str(connection))
    kernel.start_channels()

    def run(cell) -> None:
        cell.outputs = []

        def keep(message) -> None:
            if message["msg_type"] in ("stream", "error", "display_data", "execute_result"):
                cell.outputs.append(nbformat.v4.output_from_msg(message))

        kernel.execute_interactive(cell.source, output_hook=keep, timeout=HARD_LIMIT)

    try:
        kernel.wait_for_ready(timeout=HARD_LIMIT)
        return _answer_faults(run, nbformat.read(path, as_version=4), exercises)
    finally:
        kernel.stop_channels()


def _cell_faults(run: Callable, notebook) -> list[str]:
    """Run all cells, up to the first with a fault."""
    for cell in _code_cells(notebook):
        faults = _execute(run, cell)
        faults += [f"cell {cell.id}: {line}" for line in _text(cell).splitlines() if "✗" in line]
        if faults:
            return faults
    return []


def _execute(run: Callable, cell) -> list[str]:
    """Run one cell in the living kernel; its errors and its lines on stderr."""
    run(cell)
    return [
        f"cell {cell.id} raises {output.ename}: {output.evalue}"
        if output.output_type == "error"
        else f"cell {cell.id} writes to stderr: {output.text}"
        for output in cell.outputs
        if output.output_type == "error" or output.get("name") == "stderr"
    ]


def _text(cell) -> str:
    """All that a cell prints or shows as text."""
    return "\n".join(
        output.text if output.output_type == "stream" else output.data.get("text/plain", "")
        for output in cell.outputs
        if output.output_type != "error"
    )


def _widget_faults(client: NotebookClient) -> list[str]:
    """Messages that an explorer shows in place of its numbers."""
    values = [str(state.get("value", "")) for state in client.widget_state.values()]
    return [f"a widget shows: {value}" for value in values if "fltutor-error" in value]


def _answer_faults(run: Callable, notebook, exercises: Sequence[Exercise]) -> list[str]:
    """Wrong answers of exercises, to nothing, to the solution and to each mistake."""
    faults = []
    for exercise in exercises:
        [cell] = [cell for cell in _code_cells(notebook) if cell.id == exercise.cell]
        _execute(run, cell)
        if NOT_ATTEMPTED not in _text(cell):
            faults.append(f"exercise {cell.id}, untouched, does not print {NOT_ATTEMPTED!r}")
        answers = [(exercise.solution, exercise.says), *exercise.mistakes]
        for number, (source, message) in enumerate(answers):
            name = f"exercise {cell.id}, {f'mistake {number}' if number else 'solution'}"
            variant = nbformat.v4.new_code_cell(source, id=cell.id)
            faults += [f"{name}: {fault}" for fault in _execute(run, variant)]
            text = _text(variant)
            if message not in text or (number == 0 and ("✗" in text or NOT_ATTEMPTED in text)):
                faults.append(f"{name}: needed {message!r}, printed {text!r}")
        _execute(run, cell)
    return faults
