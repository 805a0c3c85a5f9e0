"""The explorer of a lesson's notebook, in a real browser."""

import pytest

from tests.browser.lab import PROJECT


@pytest.fixture
def view(lab, request):
    """The explorer; its cell alone has run. Screenshots show the notebook after the test."""
    [notebook] = (PROJECT / "notebooks").glob(f"*_{request.path.parent.name}.ipynb")
    lab.open(notebook.name)
    yield lab.run_explorer_alone()
    assert lab.faults() == []
    lab.screenshot(f"{notebook.stem}_moved")
