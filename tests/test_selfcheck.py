"""`python -m fltutor` says that a machine is ready, or in plain words what is missing."""

import importlib
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

check = importlib.import_module("fltutor.__main__")

PROJECT = Path(__file__).parents[1]


def selfcheck(python, folder):
    return subprocess.run([python, "-m", "fltutor"], cwd=folder, capture_output=True, text=True)


def test_a_ready_machine_trains_encrypted_and_says_what_it_measured(tmp_path):
    done = selfcheck(sys.executable, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "rounds [##############################] 15 of 15" in done.stdout
    assert float(re.search(r"(0\.\d\d) after training", done.stdout)[1]) > 0.85
    assert re.search(r"tensorflow \d+\.\d+\.\d+\n", done.stdout)
    assert re.search(r"\d\.\d\d MB of updates, each sealed", done.stdout)
    assert done.stdout.endswith("This machine is ready for the course.\n")


def test_every_missing_package_is_named(bare_python, tmp_path):
    done = selfcheck(bare_python, tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    _, problems = done.stdout.split("This machine is not ready:\n")
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for dependency in project["dependencies"]:
        assert f"- {re.match(r'[a-z-]+', dependency)[0]} is missing" in problems
    assert "`make lab` installs all of them" in problems


def test_a_package_that_does_not_load_is_named(tmp_path):
    (tmp_path / "tensorflow.py").write_text("raise ImportError('libgcc is too old')")
    done = selfcheck(sys.executable, tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "- tensorflow is there but does not load. ImportError: libgcc is too old" in done.stdout


def test_another_version_than_tested_is_named():
    assert re.fullmatch(
        r"numpy is version [\d.]+, and the course was tested with <2",
        check.package_problem("numpy<2"),
    )


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PYTHONS", ((2, 7),), r"this is Python 3\.\d+\.\d+, and the course needs one of 2\.7"),
        ("GIGABYTES", 1e6, r"only [\d.]+ GB of memory are free"),
        ("ACCURACY", 1.1, r"the training ended at accuracy 0\.9\d, and 1\.1 or more was expected"),
    ],
)
def test_what_else_can_be_wrong_is_said(monkeypatch, capsys, name, value, sentence):
    monkeypatch.setattr(check, name, value)
    assert check.main() == 1
    assert re.search(f"not ready:\n- {sentence}", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("environment", "sentences"),
    [
        ({"KERAS_BACKEND": "jax"}, ["here Keras is set to 'jax': set KERAS_BACKEND=tensorflow"]),
        (
            {"KERAS_HOME": "."},
            ["set to floatx 'float64'", "set to image_data_format 'channels_first'"],
        ),
    ],
    ids=["backend", "file"],
)
def test_a_setting_that_the_course_cannot_work_under_is_named(tmp_path, environment, sentences):
    settings = '{"backend": "jax", "floatx": "float64", "image_data_format": "channels_first"}'
    (tmp_path / "keras.json").write_text(settings)
    done = subprocess.run(
        [sys.executable, "-m", "fltutor"],
        cwd=tmp_path,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "")
    _, problems = done.stdout.split("This machine is not ready:\n")
    for problem, sentence in zip(problems.splitlines(), sentences, strict=True):
        assert sentence in problem
