"""The harness sees what it is there to see, tried on small notebooks of its own."""

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

EXPLORER = """
import ipywidgets as ipw
from fltutor.widgets import explorer

def draw(figure, height):
    figure.subplots().bar(["height"], [height])
    return f"height = {height}"

explorer(lambda size: 2 * size, draw, {"size": ipw.IntSlider(3, min=0, max=10)})
"""


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "stored"
    folder.mkdir()
    write(folder / "slides.ipynb", EXPLORER, "print('after')")
    write(folder / "fails.ipynb", "1 / 0", "print('never reached')")
    write(folder / "warns.ipynb", "import sys\nprint('careful', file=sys.stderr)")
    return folder


def write(path, *sources):
    cells = [new_markdown_cell("# 99 Tall\n\n" + "A paragraph.\n\n" * 80)]
    cells += [new_code_cell(source) for source in sources]
    python = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": python}), path)


def test_harness_moves_sliders_reports_errors_and_takes_pictures(lab_on, folder):
    lab = lab_on(folder)
    lab.open("slides.ipynb")
    assert lab.run_all() == []
    [view] = lab.explorers()
    assert view.readout == "height = 6"

    by_default = view.picture()
    view.slider("size").press("ArrowRight", 2)
    view.wait_for_change(by_default)
    assert (view.slider("size").value, view.readout) == ("5", "height = 10")

    by_keyboard = view.picture()
    view.slider("size").drag(1.0)
    view.wait_for_change(by_keyboard)
    assert (view.slider("size").value, view.readout) == ("10", "height = 20")

    pages = lab.screenshot("harness")
    assert len(pages) >= 2
    assert all(page.read_bytes().startswith(b"\x89PNG") for page in pages)

    lab.open("fails.ipynb")
    error, unfinished = lab.run_all()
    assert "ZeroDivisionError" in error
    assert unfinished == "1 of 2 code cells ran"

    lab.open("warns.ipynb")
    assert lab.run_all() == ["careful\n"]
