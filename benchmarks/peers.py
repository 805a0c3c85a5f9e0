"""An environment of its own for the libraries that fltutor is measured against.

They never enter the course's environment: Flower pins what it needs, and a
comparison must not change what is compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]
FOLDER = PROJECT / ".venv-bench"
PYTHON = FOLDER / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
PACKAGES = ["flwr==1.41.0", "phe==1.5.0", "gmpy2==2.3.2"]


class PeerMissingError(RuntimeError):
    """The peer cannot be installed here, for example without a network."""


def peer_python() -> Path:
    """The Python that has the peers; made on the first call."""
    marker = FOLDER / ".ready"
    if not marker.exists() or marker.read_text().split() != PACKAGES:
        uv = [sys.executable, "-m", "uv", "--quiet"]
        _run([*uv, "venv", "--clear", "--python", sys.executable, str(FOLDER)])
        _run([*uv, "pip", "install", "--compile-bytecode", "--python", str(PYTHON), *PACKAGES])
        marker.write_text("\n".join(PACKAGES))
    return PYTHON


def measure_beside_peer(module: str, *args: str) -> dict[str, float]:
    """Run ``python -m benchmarks.MODULE`` where the peer is; it prints one line of JSON.

    fltutor's own part runs in the same process, from this source tree. Both have one
    thread for linear algebra.
    """
    paths = os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")])
    quiet = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    one_thread = {"OPENBLAS_NUM_THREADS": "1"}  # on two cores, two threads lose on small products
    environment = os.environ | {"PYTHONPATH": paths} | quiet | one_thread
    command = [str(peer_python()), "-m", f"benchmarks.{module}", *args]
    return json.loads(_run(command, environment).splitlines()[-1])


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, env=environment, cwd=PROJECT, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise PeerMissingError(reason)
    return done.stdout
