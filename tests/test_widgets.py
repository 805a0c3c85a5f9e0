"""The explorer: the newest value wins, errors are sentences, and one figure is reused."""

import asyncio
import base64
import re
import threading
import time

import ipywidgets as ipw
import numpy as np
import pytest
from matplotlib.figure import Figure

from fltutor import widgets
from fltutor.errors import InvalidParameterError
from fltutor.widgets import explorer, predict


class Recorder:
    """A drawing function that remembers what it was given."""

    def __init__(self):
        self.drawn, self.figures = [], []

    def __call__(self, figure, result):
        self.drawn.append(result)
        self.figures.append(figure)
        figure.subplots().bar(["x"], [result])
        return f"x is {result} & <more>"


@pytest.fixture
def draw():
    return Recorder()


@pytest.fixture
def slider():
    return ipw.IntSlider(1, min=-9, max=99, description="x")


@pytest.fixture
def kernel(monkeypatch):
    """Explorers run on a thread of their own, as under a Jupyter kernel."""
    monkeypatch.setattr(widgets, "in_notebook", lambda: True)


def png(view):
    return base64.b64decode(re.search(r"base64,([^\"]*)", view.children[-1].value)[1])


def readout(view):
    return view.children[1].value


def is_busy(view):
    return "fltutor-busy" in view._dom_classes


async def finished(view):
    for _ in range(3000):
        if not is_busy(view):
            return
        await asyncio.sleep(0.01)
    raise TimeoutError("the explorer is still busy after 30 seconds")


def test_the_first_picture_is_there_at_once_and_a_move_changes_it(draw, slider):
    view = explorer(lambda x: x * x, draw, {"x": slider})
    first = png(view)
    assert first.startswith(b"\x89PNG")
    slider.value = 5
    assert draw.drawn == [1, 25]
    assert png(view) != first
    slider.value = 1
    assert png(view) == first  # equal results, equal pictures
    assert not is_busy(view)


def test_numbers_are_readable_on_screen_and_by_screen_readers(draw, slider):
    view = explorer(lambda x: x, draw, {"x": slider})
    assert view.message == "x is 1 & <more>"
    assert 'role="status"' in readout(view)
    assert "x is 1 &amp; &lt;more&gt;" in readout(view)
    assert 'alt="x is 1 &amp; &lt;more&gt;"' in view.children[-1].value


def test_one_figure_is_reused_and_cleared(draw, slider):
    figure = Figure(figsize=(2, 2))
    explorer(lambda x: x, draw, {"x": slider}, figure=figure)
    for value in (2, 3, 4):
        slider.value = value
    assert all(used is figure for used in draw.figures)
    assert len(figure.axes) == 1


def test_each_control_reaches_its_own_argument(draw):
    controls = {"a": ipw.IntSlider(2), "b": ipw.IntSlider(3), "c": ipw.Checkbox(False)}
    explorer(lambda a, b, c: (a - b) * (-1 if c else 1), draw, controls)
    controls["a"].value = 7
    controls["c"].value = True
    assert draw.drawn == [-1, 4, -4]


def test_the_first_and_the_last_result_of_a_generator_are_painted(draw, slider, monkeypatch):
    monkeypatch.setattr(widgets, "FIRST_PICTURE", 0.0)
    monkeypatch.setattr(widgets, "BETWEEN_PICTURES", 1e9)
    explorer(lambda x: iter_squares(x), draw, {"x": slider})
    assert draw.drawn == [0, 16]


def iter_squares(x):
    yield from (i * i * x for i in range(5))


def test_every_result_is_painted_if_there_is_time_and_only_the_last_if_there_is_none(
    draw, slider, monkeypatch
):
    monkeypatch.setattr(widgets, "FIRST_PICTURE", 0.0)
    monkeypatch.setattr(widgets, "BETWEEN_PICTURES", 0.0)
    explorer(iter_squares, draw, {"x": slider})
    assert draw.drawn == [0, 1, 4, 9, 16]
    monkeypatch.setattr(widgets, "FIRST_PICTURE", 1e9)
    slider.value = 2
    assert draw.drawn[5:] == [32]


def test_pictures_on_the_way_look_like_the_last_one(slider, monkeypatch):
    monkeypatch.setattr(widgets, "FIRST_PICTURE", 0.0)
    monkeypatch.setattr(widgets, "BETWEEN_PICTURES", 0.0)
    laid_out, pictures = [], []

    def draw(figure, columns):
        laid_out.append(type(figure.get_layout_engine()).__name__)
        for number, ax in enumerate(figure.subplots(1, columns, squeeze=False)[0]):
            ax.set(xlabel="rounds", ylabel=f"a label that needs room, {number}")
        return f"{columns} columns"

    def compute(x):
        for _ in range(3):
            if view:
                pictures.append(png(view[0]))
            yield x

    view = []
    view.append(explorer(compute, draw, {"x": slider}))
    for columns in (2, 1):  # another number of axes is laid out anew
        pictures.clear()
        slider.value = columns
        assert pictures[1] == pictures[2] == png(view[0])
    assert set(laid_out) == {"ConstrainedLayoutEngine"}


def test_a_picture_has_the_size_it_had_before_a_wider_and_a_higher_one(slider, monkeypatch):
    monkeypatch.setattr(widgets, "FIRST_PICTURE", 0.0)

    def draw(figure, x):
        figure.set_layout_engine("none")
        ax = figure.add_axes((0.1, 0.1, 0.8, 0.8))
        ax.imshow(np.zeros((1, 9) if x == 1 else (9, 1)))  # equal units shrink the axes
        return "nine pixels"

    view = explorer(lambda x: x, draw, {"x": slider})
    pictures = []
    for value in (1, 2, 1, 2):
        slider.value = value
        pictures.append(png(view))
    assert pictures[0] == pictures[2] != pictures[1] == pictures[3]


def test_a_generator_without_results_leaves_the_picture(draw, slider):
    view = explorer(lambda x: (y for y in range(x)), draw, {"x": slider})
    before = png(view)
    slider.value = 0
    assert png(view) == before
    assert draw.drawn == [0]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (InvalidParameterError("x must be <small>"), "x must be <small>"),
        (ValueError("bad luck"), "ValueError: bad luck"),
        (ZeroDivisionError(), "ZeroDivisionError: "),
    ],
    ids=["ours", "other", "without text"],
)
@pytest.mark.parametrize("stage", ["compute", "generator", "draw"])
def test_an_error_is_a_sentence_and_the_next_move_works(
    draw, slider, error, message, stage, capsys
):
    def stumble(here):
        if here == stage and slider.value == 2:
            raise error

    def compute(x):
        stumble("compute")
        return results(x)

    def results(x):
        stumble("generator")
        yield x

    def drawing(figure, result):
        stumble("draw")
        return draw(figure, result)

    view = explorer(compute, drawing, {"x": slider})
    before = png(view)
    slider.value = 2
    assert view.message == message
    assert 'class="fltutor-error"' in readout(view)
    assert "<small>" not in readout(view)
    assert "Traceback" not in readout(view)
    assert png(view) == before
    assert not is_busy(view)
    slider.value = 3
    assert view.message.startswith("x is 3")
    assert "fltutor-error" not in readout(view)
    assert capsys.readouterr() == ("", "")


def test_an_error_in_the_first_run_still_gives_a_working_explorer(draw, slider):
    view = explorer(lambda x: 1 / (x - 1), draw, {"x": slider})
    assert view.message == "ZeroDivisionError: division by zero"
    slider.value = 3
    assert view.message.startswith("x is 0.5")


def test_the_newest_value_wins(draw, slider, kernel, monkeypatch):
    """A slow run gives way at its next result; a value passed over is never computed."""
    monkeypatch.setattr(widgets, "FIRST_PICTURE", 0.0)
    started, steps = [], []

    def slow(x):
        started.append(x)
        for step in range(100 if x > 1 else 1):
            steps.append(x)
            yield x * 1000 + step
            time.sleep(0.01)

    async def move():
        view = explorer(slow, draw, {"x": slider})
        slider.value = 2
        while 2 not in steps:
            await asyncio.sleep(0.005)
        slider.value = 3  # while 2 runs ...
        slider.value = 4  # ... and before it can give way
        assert is_busy(view)
        await finished(view)
        return view

    view = asyncio.run(move())
    assert started == [1, 2, 4]
    assert steps.count(2) < 100
    assert steps.count(4) == 100
    assert view.message.startswith("x is 4099 ")
    assert draw.drawn[-1] == 4099


def test_a_move_does_not_block_the_kernel(draw, slider, kernel):
    release = threading.Event()
    view = explorer(lambda x: (x == 1 or release.wait(10)) * x, draw, {"x": slider})
    slider.value = 2
    assert is_busy(view)  # the move returned while the run is waiting
    release.set()
    asyncio.run(finished(view))
    assert view.message.startswith("x is 2")


def test_many_moves_end_with_the_last_one(draw, slider, kernel):
    view = explorer(lambda x: x, draw, {"x": slider})

    async def move():
        for value in range(2, 60):
            slider.value = value
            await asyncio.sleep(0.002)
        await finished(view)

    asyncio.run(move())
    assert view.message.startswith("x is 59 ")
    assert draw.drawn == sorted(set(draw.drawn))  # none twice, none out of order


def test_an_error_on_the_thread_of_its_own_is_a_sentence_too(draw, slider, kernel, capsys):
    view = explorer(lambda x: 1 / (x - 2), draw, {"x": slider})
    slider.value = 2
    asyncio.run(finished(view))
    assert view.message == "ZeroDivisionError: division by zero"
    slider.value = 3
    asyncio.run(finished(view))
    assert view.message.startswith("x is 1.0")
    assert capsys.readouterr().err == ""


# --- predictions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("guess", "words"),
    [
        (None, "The run says: up. (You made no guess"),
        ("up", "You said: up. The run agrees."),
        ("down", "You said: down. The run says: up."),
    ],
)
def test_a_prediction_is_compared_with_the_run(guess, words, capsys):
    prediction = predict("Up or <down>?", ["up", "down"])
    question, choice = prediction.children
    assert "Up or &lt;down&gt;?" in question.value
    assert choice.value is None  # nothing is chosen for the reader
    choice.value = guess
    prediction.reveal("up")
    assert capsys.readouterr().out.startswith(words)
