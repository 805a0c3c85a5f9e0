"""Every notebook of the course opens, runs and shows its explorers in a real browser."""

import pytest

from tests.browser.lab import PROJECT

NOTEBOOKS = sorted(path.name for path in (PROJECT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_notebook_runs_in_a_browser_and_its_explorers_show(lab, notebook):
    lab.open(notebook)
    assert lab.run_all() == []
    for view in lab.explorers():
        assert view.readout
        assert view.picture().startswith(b"\x89PNG")
    lab.screenshot("run-" + notebook.removesuffix(".ipynb"))
