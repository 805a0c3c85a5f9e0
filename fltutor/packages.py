"""Packages that only a part of the course needs: imported at first use, or named if missing."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from fltutor.errors import MissingPackageError


def load(module: str, package: str) -> ModuleType:
    """Import a module when it is needed, so that all that does not need it works without it.

    Args:
        module: Its name, such as ``"scipy.special"``.
        package: What to install for it, such as ``"scipy"``.

    Raises:
        MissingPackageError: If it is not installed. An installed one that breaks while it
            loads raises what it raises.

    Example:
        >>> load("math", "python").sqrt(9.0)
        3.0
        >>> load("no_such_module", "no-such-package")
        Traceback (most recent call last):
        fltutor.errors.MissingPackageError: this needs the package no-such-package, which is not
        installed here: pip install no-such-package
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if not _is_missing(module, error):
            raise
        raise MissingPackageError(
            f"this needs the package {package}, which is not installed here: pip install {package}"
        ) from error


def _is_missing(module: str, error: ImportError) -> bool:
    """Whether the module is not there, rather than broken or in need of yet another one."""
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        return True
    try:
        return importlib.util.find_spec(module.partition(".")[0]) is None
    except (ImportError, ValueError):
        return True
