"""Every notebook of the course is opened, run and moved in a real browser by a test of its own."""

from pathlib import Path

import pytest

from tests.browser.lab import PROJECT

HERE = Path(__file__).parent
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_a_browser_test(notebook):
    topic = notebook.stem.split("_", 1)[1]
    source = (HERE / f"test_{topic}.py").read_text(encoding="utf-8")
    assert f'lab.open("{notebook.name}")' in source
    assert "lab.run_all() == []" in source
    assert "lab.screenshot(" in source
