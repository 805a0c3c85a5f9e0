"""Create .venv with the packages of requirements.lock. `make` calls this; nothing else needs to.

It uses the standard library only, and nothing newer than Python 3.7, so that a
wrong version gets a sentence instead of a traceback.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
VENV = PROJECT / ".venv"
VENV_PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
SUPPORTED = ((3, 11), (3, 12), (3, 13))


def main():
    """Create the environment, or bring an existing one up to the lock."""
    if not is_supported(VENV_PYTHON):
        create_venv(find_python())
    install_uv()
    uv_pip("sync", "--require-hashes", "--compile-bytecode", "requirements.lock")
    uv_pip("install", "--no-deps", "--no-build-isolation", "--editable", ".")
    quiet_lab()
    (VENV / ".ready").touch()
    print("Ready.")


def is_supported(python):
    """Whether this interpreter runs and has a version the course supports."""
    code = f"import sys; sys.exit(sys.version_info[:2] not in {SUPPORTED})"
    try:
        return subprocess.run([str(python), "-c", code], stderr=subprocess.DEVNULL).returncode == 0
    except OSError:
        return False


def find_python():
    """The Python that runs this script if it fits, else the newest fitting one by name."""
    names = [f"python{major}.{minor}" for major, minor in reversed(SUPPORTED)]
    for python in [sys.executable, *names]:
        if is_supported(python):
            return python
    sys.exit(
        f"fltutor needs Python 3.11, 3.12 or 3.13. This is Python {sys.version.split()[0]}, "
        f"and no {' or '.join(names)} was found.\n"
        "Install one of them and run: make lab PYTHON=/path/to/that/python"
    )


def create_venv(python):
    """A fresh virtual environment, in place of any that no longer works."""
    print("Creating .venv", flush=True)
    shutil.rmtree(str(VENV), ignore_errors=True)
    if subprocess.run([python, "-m", "venv", str(VENV)]).returncode:
        shutil.rmtree(str(VENV), ignore_errors=True)
        sys.exit(
            "Python could not create a virtual environment. On Debian and Ubuntu, "
            "`apt-get install python3-venv` adds the missing part."
        )


def install_uv():
    """Install the uv that the lock pins, with pip and its hashes."""
    lock = (PROJECT / "requirements.lock").read_text(encoding="utf-8")
    pinned = re.search(r"^uv==(\S+)(?: \\\n +--hash=\S+)+", lock, re.MULTILINE)
    if installed_uv() == pinned.group(1):
        return
    with tempfile.TemporaryDirectory() as folder:
        requirement = Path(folder, "uv.txt")
        requirement.write_text(pinned.group(0), encoding="utf-8")
        quietly = ("--quiet", "--disable-pip-version-check")
        run("pip", "install", *quietly, "--require-hashes", "--requirement", str(requirement))


def installed_uv():
    """The version of uv in the environment, or an empty string."""
    command = [str(VENV_PYTHON), "-m", "uv", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.stdout.split()[1] if done.returncode == 0 else ""


def uv_pip(command, *arguments):
    """Run `uv pip` on the environment, whichever one the shell has active."""
    run("uv", "--system-certs", "pip", command, "--python", str(VENV_PYTHON), *arguments)


def quiet_lab():
    """Switch off JupyterLab's question about news and its look-up of new releases."""
    settings = VENV / "share" / "jupyter" / "lab" / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    shutil.copy(str(PROJECT / ".ci" / "overrides.json"), str(settings))


def run(*arguments):
    """Run a module of the environment and stop with its message when it fails."""
    if subprocess.run([str(VENV_PYTHON), "-m", *arguments], cwd=str(PROJECT)).returncode:
        sys.exit("Installing stopped here. Mend what is said above and run make again.")


if __name__ == "__main__":
    main()
