"""A progress bar shows how far it is, and passes every item on."""

import subprocess
import sys

import pytest

from fltutor import progress
from fltutor.progress import in_notebook, progress_bar


def test_every_item_comes_through_in_order(capsys):
    assert [*progress_bar("abc", "letters", show=False)] == ["a", "b", "c"]
    assert capsys.readouterr() == ("", "")
    assert [*progress_bar("abc", "letters")] == ["a", "b", "c"]


def test_a_terminal_sees_one_line_that_fills(capsys):
    for item in progress_bar(range(3), "rounds"):
        shown = capsys.readouterr().out
        assert shown == "" if item == 0 else f"{item} of 3" in shown
    assert capsys.readouterr().out == f"\rrounds [{'#' * 30}] 3 of 3\n"


@pytest.mark.parametrize("show", [True, False])
def test_nothing_to_do_is_no_error(show):
    assert [*progress_bar([], "rounds", show=show)] == []


def test_a_notebook_sees_a_bar_that_counts_what_is_done(monkeypatch, capsys):
    shown = []
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr("IPython.display.display", shown.append)
    for item in progress_bar(range(4), "rounds"):
        bar, count = shown[0].children
        assert (bar.value, bar.max) == (item, 4)
        assert count.value == f"{item} of 4"
    assert (bar.value, count.value) == (4, "4 of 4")
    assert capsys.readouterr().out == ""


def test_a_script_is_no_notebook_and_loads_nothing_to_find_out():
    assert not in_notebook()
    code = (
        "import sys; from fltutor.progress import progress_bar; list(progress_bar('ab', 'x'));"
        "sys.exit(bool({'IPython', 'ipywidgets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0
