"""Take the README's picture from a real run: ``make pictures`` (needs Chromium)."""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

PROJECT = Path(__file__).parents[1]
sys.path.insert(0, str(PROJECT))

from tests.browser.lab import BROWSER_FLAGS, LabPage, LabServer, find_browser  # noqa: E402


def main() -> None:
    """Open notebook 00, run it, set the sliders, and keep what a reader sees."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server = LabServer(Path(folder), PROJECT / "notebooks")
        browser = playwright.chromium.launch(executable_path=find_browser(), args=BROWSER_FLAGS)
        lab = LabPage(browser.new_page(viewport={"width": 1300, "height": 900}), server)
        lab.open("00_start_here.ipynb")
        assert lab.run_all() == []
        view = lab.explorer(0)
        view.slider("noise").press("ArrowRight", 6)
        view.slider("clients").press("ArrowRight", 3)
        view.wait_until_drawn()
        view.box.screenshot(path=PROJECT / "docs" / "explorer.png")
        print(view.readout)
        browser.close()
        server.stop()


if __name__ == "__main__":
    main()
