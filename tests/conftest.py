"""What tests share: a wheel, a Python that has nothing but that wheel, and a real browser."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from tests.browser.lab import (
    BROWSER_FLAGS,
    PROJECT,
    SCREENSHOTS,
    LabPage,
    LabServer,
    find_browser,
)

settings.register_profile("any machine", deadline=None)  # a busy one is no fault of the code
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> Path:
    """Built from the working tree, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    code = f"from flit_core.buildapi import build_wheel; build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=True, capture_output=True)
    [path] = folder.iterdir()
    return path


@pytest.fixture
def bare_python(wheel, tmp_path) -> Path:
    """The interpreter of a fresh environment with the wheel and none of its dependencies."""
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    python = venv / Path(sys.executable).relative_to(sys.prefix)
    install = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--offline", "--no-deps"]
    subprocess.run([*install, "--python", python, wheel], check=True)
    return python


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Keep a picture of the window in which a test failed."""
    report = yield
    page = getattr(item, "funcargs", {}).get("page")
    if report.when == "call" and report.failed and page is not None:
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=SCREENSHOTS / f"failed-{item.name}.png")
    return report


@pytest.fixture(scope="session")
def lab_server(tmp_path_factory):
    """JupyterLab on a copy of the course's notebooks."""
    server = LabServer(tmp_path_factory.mktemp("lab"), PROJECT / "notebooks")
    yield server
    server.stop()


@pytest.fixture
def page():
    """A page of headless Chromium, closed after each test: its event loop disturbs others."""
    executable = find_browser()
    if executable is None:
        reason = "no Chromium or Chrome is installed, so nothing was tried in a browser"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=BROWSER_FLAGS)
        yield browser.new_page(viewport={"width": 1400, "height": 1000})
        browser.close()


@pytest.fixture
def lab(page, lab_server) -> LabPage:
    """JupyterLab in the browser; its kernels end with the test."""
    yield LabPage(page, lab_server)
    lab_server.stop_kernels()


@pytest.fixture
def lab_on(page, tmp_path):
    """Makes a page on a JupyterLab of its own for a folder of notebooks."""
    servers = []

    def open_folder(notebooks: Path) -> LabPage:
        servers.append(LabServer(tmp_path / "server", notebooks))
        return LabPage(page, servers[-1])

    (tmp_path / "server").mkdir()
    yield open_folder
    for server in servers:
        server.stop()
