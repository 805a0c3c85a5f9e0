"""The self-check before class: ``python -m fltutor``.

It names what is missing in plain words, or trains once for real, encrypted, and
says what it measured. The exit status is 0 if the machine is ready.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import sys
import time
from importlib import metadata

from fltutor import __version__, tensorflow_quietly
from fltutor.errors import FltutorError

PYTHONS = ((3, 11), (3, 12), (3, 13))
GIGABYTES = 1.5
ACCURACY = 0.85

MODULES = {"dp-accounting": "dp_accounting", "scikit-learn": "sklearn"}
"""What to import for a package, where that is not simply its name."""


def main() -> int:
    """Check everything, in the order in which one thing needs the other."""
    where = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    print(f"fltutor {__version__} on Python {platform.python_version()}, {where}\n")
    problems = python_problems() or package_problems() or environment_problems()
    problems = problems + memory_problems() or training_problems()
    if not problems:
        print("\nThis machine is ready for the course.")
        return 0
    print("\nThis machine is not ready:")
    for problem in problems:
        print(f"- {problem}")
    return 1


def python_problems() -> list[str]:
    """A Python that the course does not support."""
    if sys.version_info[:2] in PYTHONS:
        return []
    needed = ", ".join(f"{major}.{minor}" for major, minor in PYTHONS)
    return [
        f"this is Python {platform.python_version()}, and the course needs one of {needed}. "
        "Install one of them, and `make lab` finds it."
    ]


def package_problems() -> list[str]:
    """Packages that are missing, do not load, or have another version than tested."""
    try:
        requirements = metadata.requires("fltutor") or []
    except metadata.PackageNotFoundError:
        return [
            "fltutor itself is not installed in this Python. Run `make lab`, or `pip install .`"
        ]
    problems = [problem for line in requirements if (problem := package_problem(line))]
    if problems:
        problems.append("`make lab` installs all of them; so does `pip install .` in the folder.")
    return problems


def package_problem(requirement: str) -> str | None:
    """One sentence if this requirement is not met.

    Example:
        >>> package_problem("numpy>=2")
          numpy ...
        >>> package_problem("no-such-package>=1")
        'no-such-package is missing (needed: >=1)'
    """
    name, needed = re.match(r"([\w.-]+) *(.*)", requirement).groups()
    try:
        version = metadata.version(name)
        if name == "tensorflow":
            tensorflow_quietly.tf.constant(1.0)
        else:
            importlib.import_module(MODULES.get(name, name))
        from packaging.specifiers import SpecifierSet

        print(f"  {name} {version}", flush=True)
        if not SpecifierSet(needed).contains(version):
            return f"{name} is version {version}, and the course was tested with {needed}"
    except metadata.PackageNotFoundError:
        return f"{name} is missing (needed: {needed})"
    except FltutorError:
        return None  # environment_problems says what is wrong
    except Exception as error:  # a broken package may raise anything while it loads
        return f"{name} is there but does not load. {type(error).__name__}: {error}"
    return None


def environment_problems() -> list[str]:
    """Settings that Keras and TensorFlow cannot work under."""
    try:
        config = tensorflow_quietly.keras.config
    except FltutorError as error:
        return [str(error)]
    found = {
        "floatx": (config.floatx(), "float32"),
        "image_data_format": (config.image_data_format(), "channels_last"),
    }
    return [
        f"Keras is set to {name} {own!r}, and models of the notebooks need {needed!r}: "
        "change it in keras.json, in the folder .keras of your home"
        for name, (own, needed) in found.items()
        if own != needed
    ]


def memory_problems() -> list[str]:
    """Too little memory for TensorFlow beside a browser."""
    try:
        import psutil  # comes with Jupyter
    except ImportError:
        return []
    free = psutil.virtual_memory().available / 1e9
    print(f"  {free:.1f} GB of memory free")
    if free >= GIGABYTES:
        return []
    return [
        f"only {free:.1f} GB of memory are free, and a notebook needs about {GIGABYTES}. "
        "Close other programs, or notebooks that still run."
    ]


def training_problems() -> list[str]:
    """Train ten clients on digits, every update encrypted, and say what came of it."""
    print("\nTen clients train together. Every update is encrypted.")
    start = time.perf_counter()
    try:
        history = train()
    except Exception as error:
        return [f"the training stopped. {type(error).__name__}: {error}"]
    if history.stopped_by is not None:
        return [f"the training stopped early. {history}"]
    seconds = time.perf_counter() - start
    accuracy, rounds = history.accuracy[-1], history.rounds[1:]
    sealed = sum(r.bytes_up for r in rounds) / 1e6
    usual = sorted(r.seconds for r in rounds)[len(rounds) // 2]
    print(f"  test accuracy {history.accuracy[0]:.2f} before, {accuracy:.2f} after training")
    print(f"  {sealed:.2f} MB of updates, each sealed with AES-256-GCM")
    print(f"  {seconds:.1f} s in all, {1000 * usual:.0f} ms for a usual round")
    if accuracy >= ACCURACY:
        return []
    return [
        f"the training ended at accuracy {accuracy:.2f}, and {ACCURACY} or more was expected. "
        "Something computes wrongly here: run `make test`."
    ]


def train():
    """The federated training that the check runs, with a progress bar."""
    from functools import partial

    import numpy as np

    from fltutor.aggregation import mean
    from fltutor.data import load_digits, partition_iid
    from fltutor.models import mlp
    from fltutor.protocols import encrypted_sum
    from fltutor.simulation import run_federated

    digits = load_digits()
    return run_federated(
        mlp(),
        digits,
        partition_iid(digits.y, 10, np.random.default_rng(0)),
        rounds=15,
        learning_rate=0.3,
        aggregate=partial(mean, sum_protocol=encrypted_sum),
        progress=True,
    )


if __name__ == "__main__":
    sys.exit(main())
