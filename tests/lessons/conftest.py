"""The explorer of a lesson's notebook, in a real browser."""

import pytest

from tests.browser.lab import PROJECT, SCREENSHOTS


@pytest.fixture
def view(lab, request):
    """The explorer; its cell alone has run. A picture shows it after the test."""
    [notebook] = (PROJECT / "notebooks").glob(f"*_{request.path.parent.name}.ipynb")
    lab.open(notebook.name)
    view = lab.run_explorer_alone()
    yield view
    assert lab.faults() == []
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    view.box.screenshot(path=SCREENSHOTS / f"{notebook.stem}_moved.png")
