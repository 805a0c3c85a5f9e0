"""A real JupyterLab and what a reader does with it, for the browser tests.

In a test, the fixture ``lab`` is a :class:`LabPage`::

    def test_more_noise_lowers_epsilon(lab):
        lab.open("00_start_here.ipynb")
        assert lab.run_all() == []
        view = lab.explorer(0)
        before = view.picture()
        view.slider("noise").press("ArrowRight", 3)
        view.wait_for_change(before)
        assert "epsilon" in view.readout
        lab.screenshot("00_after_more_noise")
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from tests.notebook_runner import OFFLINE, run_at_startup

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

PROJECT = Path(__file__).resolve().parents[2]
SCREENSHOTS = PROJECT / "build" / "screenshots"
PAGE_HEIGHT = 1800  # pixels of notebook in one picture file

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# A traceback, a warning on stderr, a widget that cannot be shown.
FAULTS = '[data-mime-type="application/vnd.jupyter.stderr"], .jupyter-widgets-error-widget'

# JupyterLab keeps cells outside the window unrendered; tests and pictures want all of them.
RENDER_ALL_CELLS = {
    "@jupyterlab/notebook-extension:tracker": {"windowingMode": "none", "scrollPastEnd": False}
}


def find_browser() -> str | None:
    """The first Chromium or Chrome on the path."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


class LabServer:
    """A JupyterLab on 127.0.0.1 that knows nothing of the user's own settings."""

    def __init__(self, folder: Path, notebooks: Path):
        self.notebooks = notebooks
        self.root = folder / "notebooks"
        shutil.copytree(notebooks, self.root)  # Lab saves by itself: work on a copy
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.token = secrets.token_hex(16)
        self._folder = folder
        run_at_startup(folder / "ipythondir", OFFLINE)
        self._log = (folder / "lab.log").open("wb+")
        self._process = subprocess.Popen(
            self._command(folder), env=self._environment(folder), stdout=self._log, stderr=self._log
        )
        self._wait_until_ready()

    def _command(self, folder: Path) -> list[str]:
        settings = folder / "settings"
        settings.mkdir()
        overrides = json.loads((PROJECT / ".ci" / "overrides.json").read_text())
        (settings / "overrides.json").write_text(json.dumps(overrides | RENDER_ALL_CELLS))
        return [
            *(sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"),
            *("--ip=127.0.0.1", f"--port={self.port}", "--ServerApp.port_retries=0"),
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={self.root}",
            f"--LabApp.app_settings_dir={settings}",
        ]

    @staticmethod
    def _environment(folder: Path) -> dict[str, str]:
        own = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
        more = ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
        return os.environ | {name: str(folder / name.lower()) for name in (*own, *more)}

    def _wait_until_ready(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                self.request("GET", "status")
                return
            except OSError:
                time.sleep(0.1)
        self._log.seek(0)
        raise RuntimeError("JupyterLab did not start:\n" + self._log.read().decode())

    def request(self, method: str, path: str) -> object:
        """Call the server's REST interface, for example ``request("GET", "kernels")``."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/{path}",
            method=method,
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or "null")

    def restore(self, notebook: str) -> Path:
        """Put the stored notebook back over whatever an earlier test has saved."""
        return Path(shutil.copy(self.notebooks / notebook, self.root / notebook))

    def connection_file(self) -> Path:
        """How to talk to the kernel of the notebook that is open."""
        [session] = self.request("GET", "sessions")
        return self._folder / "jupyter_runtime_dir" / f"kernel-{session['kernel']['id']}.json"

    def stop_kernels(self) -> None:
        """End every kernel, so that the next notebook has the memory."""
        for session in self.request("GET", "sessions"):
            self.request("DELETE", f"sessions/{session['id']}")

    def stop(self) -> None:
        """End the server."""
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._log.close()


class LabPage:
    """One notebook open in the browser."""

    def __init__(self, page: Page, server: LabServer):
        self.page = page
        self.server = server

    def open(self, notebook: str) -> None:
        """Open a notebook by file name and wait until its kernel is idle."""
        stored = json.loads(self.server.restore(notebook).read_text(encoding="utf-8"))
        code = (cell["source"] for cell in stored["cells"] if cell["cell_type"] == "code")
        self.num_code_cells = sum(bool("".join(source).strip()) for source in code)
        server = self.server
        self.page.goto(
            f"http://127.0.0.1:{server.port}/lab/tree/{notebook}?token={server.token}&reset"
        )
        self._wait_until_idle(60)

    def _wait_until_idle(self, seconds: float) -> None:
        # The indicator alone says "idle" before there is a kernel; the status bar does not.
        self.page.wait_for_function(
            """() => document.querySelector(
                '.jp-Notebook-ExecutionIndicator[data-status="idle"]')
                && /\\(ipykernel\\) \\| Idle/.test(
                    document.querySelector('#jp-main-statusbar').textContent)""",
            timeout=1000 * seconds,
        )

    def run_all(self, timeout: float = 180) -> list[str]:
        """Choose *Run All Cells* and wait for the end; return every error and warning shown.

        A slow machine may take as long as it needs, but no single cell longer than `timeout`.
        """
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.locator('[data-command="runmenu:run-all"]').click()
        prompts = self.page.locator(".jp-CodeCell .jp-InputArea-prompt")
        seen, since = [], time.monotonic()
        while True:
            now = [text.strip() for text in prompts.all_text_contents()]
            if now != seen:
                seen, since = now, time.monotonic()
            if "[*]:" not in now and any(map(str.isdigit, "".join(now))):
                break
            if time.monotonic() - since > timeout:
                raise TimeoutError(f"one cell takes longer than {timeout} s; so far: {now}")
            self.page.wait_for_timeout(100)
        self._wait_until_idle(timeout)
        faults = self.faults()
        numbered = self.page.locator(
            ".jp-CodeCell .jp-InputArea-prompt", has_text=re.compile(r"\d")
        )
        if numbered.count() != self.num_code_cells:
            faults.append(f"{numbered.count()} of {self.num_code_cells} code cells ran")
        if not faults:
            for view in self.explorers():
                view.wait_until_drawn(timeout)
        return faults

    def faults(self) -> list[str]:
        """Every error and warning that the notebook shows."""
        return self.page.locator(FAULTS).all_text_contents()

    def said(self, mark: str) -> list[str]:
        """The lines of all outputs that hold a mark."""
        texts = self.page.locator(".jp-OutputArea-output").all_text_contents()
        return [line for text in texts for line in text.splitlines() if mark in line]

    def run_explorer_alone(self) -> ExplorerView:
        """Run the cell that makes the explorer, and no other, as after a restart."""
        cell = self.page.locator(".jp-CodeCell", has_text=re.compile(r"\w_explorer\(")).last
        cell.locator(".jp-InputArea-prompt").click()
        self.page.keyboard.press("Control+Enter")
        view = self.explorer(0)
        view.box.wait_for(timeout=180_000)
        view.wait_until_drawn()
        return view

    def explorers(self) -> list[ExplorerView]:
        """Every explorer that the notebook shows, top to bottom."""
        return [ExplorerView(box) for box in self.page.locator(".fltutor-explorer").all()]

    def explorer(self, index: int = 0) -> ExplorerView:
        """The explorer at this place, counted from the top."""
        return ExplorerView(self.page.locator(".fltutor-explorer").nth(index))

    def screenshot(self, name: str) -> list[Path]:
        """Take the whole notebook, a page of 1800 pixels after the other: NAME-1.png, ..."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        for old in SCREENSHOTS.glob(f"{name}-*.png"):
            old.unlink(missing_ok=True)
        scroller = self.page.locator(".jp-WindowedPanel-outer").first
        usual = self.page.viewport_size
        chrome = usual["height"] - scroller.evaluate("e => e.clientHeight")
        self.page.set_viewport_size({"width": usual["width"], "height": PAGE_HEIGHT + chrome})
        height = scroller.evaluate("e => e.scrollHeight")
        paths = []
        for number, top in enumerate(range(0, height, PAGE_HEIGHT), start=1):
            scroller.evaluate("(e, top) => e.scrollTo({top, behavior: 'instant'})", top)
            self.page.wait_for_timeout(150)
            paths.append(SCREENSHOTS / f"{name}-{number}.png")
            scroller.screenshot(path=paths[-1])
        self.page.set_viewport_size(usual)
        return paths


class ExplorerView:
    """One explorer: its sliders, its sentence of numbers, its picture."""

    def __init__(self, box: Locator):
        self.box = box

    def control(self, name: str) -> Locator:
        """The widget of a control, whatever its kind: `view.control("mode").locator("select")`."""
        return self.box.locator(f".fltutor-{name}")

    def slider(self, name: str) -> SliderView:
        """A control that is a slider."""
        return SliderView(self.control(name))

    @property
    def readout(self) -> str:
        """The sentence of numbers beside the picture."""
        return self.box.locator(".fltutor-readout").first.text_content().strip()

    def picture(self) -> bytes:
        """The bytes of the picture that is shown now."""
        source = "async e => [...new Uint8Array(await (await fetch(e.src)).arrayBuffer())]"
        return bytes(self.box.locator("img").first.evaluate(source))

    @property
    def is_busy(self) -> bool:
        """Whether a run is going on."""
        return "fltutor-busy" in self.box.get_attribute("class")

    def wait_until_drawn(self, timeout: float = 60) -> None:
        """Wait until the newest setting is computed to the end, and shown, for half a second.

        A run that goes on may take as long as it needs; one that shows nothing new may not.
        """
        seen, since = None, time.monotonic()
        while True:
            now = (self.is_busy, self.readout, self.picture())
            if now != seen:
                seen, since = now, time.monotonic()
            still = time.monotonic() - since
            if not self.is_busy and self.readout and still > 0.5:
                return
            if still > timeout:
                raise TimeoutError(f"nothing new after {timeout} s; the readout: {self.readout!r}")
            self.box.page.wait_for_timeout(30)

    def wait_for_change(self, before: bytes, timeout: float = 60) -> float:
        """Wait until another picture than `before` is shown, then for the end of the run.

        Returns the seconds to the first changed picture, as this slow way of asking sees it.
        """
        start = time.monotonic()
        self._wait(lambda: self.picture() != before, timeout)
        seconds = time.monotonic() - start
        self.wait_until_drawn(timeout)
        return seconds

    def change(self, act) -> str:
        """Do something to a control, wait for another picture, and return the new numbers."""
        before = self.picture()
        act()
        self.wait_for_change(before)
        return self.readout

    def _wait(self, condition, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing new after {timeout} s; the readout: {self.readout!r}")
            self.box.page.wait_for_timeout(30)


class SliderView:
    """A slider, moved as a reader moves it."""

    def __init__(self, box: Locator):
        self.box = box

    @property
    def value(self) -> str:
        """The number beside the slider, as text."""
        return self.box.locator(".widget-readout").text_content().strip()

    def press(self, key: str, times: int = 1) -> None:
        """Focus the handle and press a key: ArrowRight, ArrowLeft, PageUp, Home, End."""
        handle = self.box.locator(".noUi-handle")
        handle.focus()
        for _ in range(times):
            handle.press(key)

    def drag(self, fraction: float) -> None:
        """Drag the handle with the mouse to this fraction of the track, 0 left, 1 right."""
        self.box.scroll_into_view_if_needed()
        mouse, handle = self.box.page.mouse, self.box.locator(".noUi-handle").bounding_box()
        track = self.box.locator(".noUi-base").bounding_box()
        middle = handle["y"] + handle["height"] / 2
        mouse.move(handle["x"] + handle["width"] / 2, middle)
        mouse.down()
        mouse.move(track["x"] + fraction * track["width"], middle, steps=8)
        mouse.up()
