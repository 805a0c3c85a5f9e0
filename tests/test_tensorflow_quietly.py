"""TensorFlow comes at its first use: quietly, with the settings that the course computes under."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from fltutor import tensorflow_quietly
from fltutor.errors import UnsupportedEnvironmentError
from fltutor.models import cnn, get_params

TRAIN = """
import numpy as np
from fltutor.data import load_digits, partition_iid
from fltutor.models import mlp
from fltutor.simulation import run_federated

def train():
    digits = load_digits()
    parts = partition_iid(digits.y, 3, np.random.default_rng(0))
    return run_federated(mlp(), digits, parts, rounds=1, learning_rate=0.3).accuracy[-1]
"""

LEARNS = TRAIN + "print(bool(train() > 0.5))"

IN_A_FORK = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

with ProcessPoolExecutor(1, get_context("fork")) as pool:
    print(bool(pool.submit(train).result(timeout=150) > 0.5))
"""


def python(source, *, before="", **environment):
    """Run a script in a Python of its own, at most three minutes."""
    return subprocess.run(
        [sys.executable, "-c", before + source],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=180,
    )


@pytest.mark.parametrize("before", ["sys.stderr = None", "sys.stderr.close()", "os.close(2)"])
def test_a_training_works_and_prints_nothing_whatever_became_of_the_error_output(before):
    done = python(LEARNS, before=f"import os, sys; {before}\n")
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_two_threads_that_come_first_together_leave_the_error_output_as_it_was():
    source = (
        TRAIN
        + """
import sys, threading
threads = [threading.Thread(target=train) for _ in range(2)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("careful", file=sys.stderr)
"""
    )
    done = python(source)
    assert (done.returncode, done.stderr) == (0, "careful\n")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("before", ["", "mlp()"], ids=["imported", "built a model"])
def test_a_forked_worker_trains(before):
    done = python(IN_A_FORK, before=f"{TRAIN}\n{before}\n")
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_worker_forked_after_a_training_says_what_to_do_instead_of_waiting_for_ever():
    done = python(IN_A_FORK, before=f"{TRAIN}\ntrain()\n")
    assert done.returncode == 1
    assert "UnsupportedEnvironmentError: this process was forked from one in which" in done.stderr
    assert 'get_context("spawn")' in done.stderr


def test_another_backend_is_refused_in_one_sentence():
    done = python("from fltutor.models import mlp\nmlp()", KERAS_BACKEND="jax")
    assert done.stderr.splitlines()[-1] == (
        "fltutor.errors.UnsupportedEnvironmentError: the course computes with Keras on TensorFlow, "
        "and here Keras is set to 'jax': set KERAS_BACKEND=tensorflow before Python starts"
    )


def test_keras_that_was_imported_with_another_backend_is_refused(monkeypatch):
    other = SimpleNamespace(config=SimpleNamespace(backend=lambda: "torch"))
    monkeypatch.setitem(sys.modules, "keras", other)
    monkeypatch.setattr(tensorflow_quietly, "_modules", {})
    with pytest.raises(UnsupportedEnvironmentError, match="Keras is set to 'torch'"):
        tensorflow_quietly.keras.Sequential()


def test_a_settings_file_of_keras_changes_no_result(tmp_path):
    settings = '{"backend": "jax", "floatx": "float64", "image_data_format": "channels_first"}'
    (tmp_path / "keras.json").write_text(settings)
    source = """
from fltutor.models import cnn, get_params
print(train(), float(get_params(cnn()).sum()), cnn().layers[1].output.shape)
import keras, os
print(keras.config.floatx(), "KERAS_BACKEND" in os.environ)
"""
    own = python(source, before=TRAIN, KERAS_HOME=str(tmp_path))
    usual = {}
    exec(TRAIN, usual)
    expected = f"{usual['train']()} {float(get_params(cnn()).sum())} {cnn().layers[1].output.shape}"
    assert (own.stdout, own.stderr) == (f"{expected}\nfloat64 False\n", "")


def test_nobody_who_looks_a_namespace_over_loads_it():
    done = python(
        "import inspect, sys\n"
        "from fltutor import tensorflow_quietly as quiet\n"
        "print(inspect.unwrap(quiet.tf), quiet.keras, inspect.getmembers(quiet)[:0])\n"
        "print('tensorflow' in sys.modules, 'Sequential' in dir(quiet.keras))\n"
    )
    assert done.stdout == (
        "<tensorflow, imported at its first use> <keras, imported at its first use> []\n"
        "False True\n"
    )


def test_versions_can_be_read():
    assert tensorflow_quietly.tf.__version__.count(".") == 2
    assert tensorflow_quietly.keras.__version__.count(".") == 2
