"""The explorer of a lesson's notebook, in a real browser."""

import pytest

from tests.browser.lab import PROJECT


@pytest.fixture
def view(lab, request):
    """The explorer after *Run All*; screenshots show the notebook before and after the test."""
    [notebook] = (PROJECT / "notebooks").glob(f"*_{request.path.parent.name}.ipynb")
    lab.open(notebook.name)
    assert lab.run_all() == []
    lab.screenshot(notebook.stem)
    yield lab.explorer(0)
    lab.screenshot(f"{notebook.stem}_moved")
