"""The explorer: the newest value wins, errors are sentences, and one figure is reused."""

import asyncio
import base64
import gc
import re
import threading
import time
import weakref
from contextlib import suppress

import ipywidgets as ipw
import numpy as np
import pytest
from matplotlib.figure import Figure

from fltutor import widgets
from fltutor.errors import InvalidParameterError, InvalidUpdateError
from fltutor.widgets import INTERRUPTED, RETIRED, explorer, predict


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


@pytest.fixture
def threadless(kernel, monkeypatch):
    """A Jupyter kernel that can start no thread, as in the browser (Pyodide)."""

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)


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


def test_the_first_picture_is_there_at_once_and_a_move_changes_it(draw, slider, monkeypatch):
    monkeypatch.setattr(widgets, "FIRST_PICTURE", 60.0)  # on a busy machine, too
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
    started, steps, moved = [], [], threading.Event()

    def slow(x):
        started.append(x)
        for step in range(100 if x > 1 else 1):
            steps.append(x)
            yield x * 1000 + step
            if x == 2:
                moved.wait(20)  # the run is between two results while the slider moves

    async def move():
        view = explorer(slow, draw, {"x": slider})
        slider.value = 2
        while 2 not in steps:
            await asyncio.sleep(0.005)
        slider.value = 3  # while 2 runs ...
        slider.value = 4  # ... and before it can give way
        assert is_busy(view)
        moved.set()
        await finished(view)
        return view

    view = asyncio.run(move())
    assert started == [1, 2, 4]
    assert steps.count(2) == 2
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


def test_moves_from_many_threads_make_one_run_at_a_time_and_end_with_the_newest(draw, slider):
    running, together = [], []

    def compute(x):
        running.append(x)
        together.append(len(running))
        time.sleep(0.001)
        running.remove(x)
        return x

    view = explorer(compute, draw, {"x": slider})

    def move(values):
        for value in values:
            slider.value = value

    movers = [threading.Thread(target=move, args=(range(k, 24, 3),)) for k in range(3)]
    for mover in movers:
        mover.start()
    for mover in movers:
        mover.join()
    assert set(together) == {1}
    assert view.message.startswith(f"x is {slider.value} ")
    assert not is_busy(view)


# --- where no thread can be started -------------------------------------------------------------


def test_without_threads_a_move_computes_in_place(draw, slider, threadless):
    threads = []

    def compute(x):
        threads.append(threading.current_thread())
        return x

    view = explorer(compute, draw, {"x": slider})
    for value in (2, 3):
        slider.value = value
        assert view.message.startswith(f"x is {value} ")
        assert not is_busy(view)
    assert threads == [threading.current_thread()] * 3


def test_without_threads_an_interrupt_reaches_the_caller(draw, slider, threadless):
    view = explorer(interrupted_at(2, KeyboardInterrupt), draw, {"x": slider})
    with pytest.raises(KeyboardInterrupt):
        slider.value = 2
    slider.value = 3
    assert view.message.startswith("x is 3 ")
    assert not is_busy(view)


def test_a_late_fault_shows_what_was_done_and_why_it_stopped(draw, slider):
    def compute(x):
        yield x
        if x == 2:
            raise InvalidUpdateError("the update of client 17 holds NaN or Inf")

    view = explorer(compute, draw, {"x": slider})
    slider.value = 2
    assert view.message == "the update of client 17 holds NaN or Inf"
    assert "x is 2 " in view._image.value
    slider.value = 3
    assert view.message.startswith("x is 3 ")


# --- interrupts ---------------------------------------------------------------------------------


def interrupted_at(value, interrupt):
    def compute(x):
        if x == value:
            raise interrupt
        return x

    return compute


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("stage", ["compute", "generator", "draw"])
def test_an_interrupted_move_reaches_the_caller_and_the_next_move_works(
    draw, slider, interrupt, stage
):
    def stumble(here):
        if here == stage and slider.value == 2:
            raise interrupt

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
    with pytest.raises(interrupt):
        slider.value = 2
    assert not is_busy(view)
    assert view.message == INTERRUPTED  # the picture is of another setting
    assert 'class="fltutor-error"' in readout(view)
    assert png(view) == before
    slider.value = 3
    assert view.message.startswith("x is 3 ")
    assert not is_busy(view)


def test_an_interrupt_stops_a_run_that_moves_its_own_slider(draw, slider):
    def compute(x):
        if x == 2:
            slider.value = 4
            raise KeyboardInterrupt
        return x

    view = explorer(compute, draw, {"x": slider})
    with pytest.raises(KeyboardInterrupt):
        slider.value = 2
    assert draw.drawn == [1]
    slider.value = 3
    assert draw.drawn == [1, 3]
    assert not is_busy(view)


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_explorer_interrupted_in_its_first_picture_lets_its_slider_go(
    draw, slider, monkeypatch, interrupt
):
    heard = []
    changed = widgets.Explorer._changed
    monkeypatch.setattr(
        widgets.Explorer, "_changed", lambda view, move: (heard.append(view), changed(view, move))
    )
    with pytest.raises(interrupt):
        explorer(interrupted_at(1, interrupt), draw, {"x": slider})
    slider.value = 2
    assert heard == []
    view = explorer(lambda x: x, draw, {"x": slider})  # the reader runs the cell again
    slider.value = 3
    assert heard == [view]
    assert draw.drawn == [2, 3]
    assert not is_busy(view)


def test_a_control_without_a_value_is_refused_and_the_others_are_let_go(draw, slider):
    started = []
    with pytest.raises(AttributeError):
        explorer(lambda x, y: started.append(x), draw, {"x": slider, "y": ipw.Button()})
    slider.value = 2
    assert started == []


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_on_the_thread_of_its_own_leaves_a_working_explorer(
    draw, slider, kernel, interrupt, capsys
):
    view = explorer(interrupted_at(2, interrupt), draw, {"x": slider})
    slider.value = 2
    asyncio.run(finished(view))
    assert view.message == INTERRUPTED
    slider.value = 3
    asyncio.run(finished(view))
    assert view.message.startswith("x is 3 ")
    assert capsys.readouterr().err == ""


def test_an_interrupt_on_the_thread_of_its_own_does_not_lose_the_newest_value(draw, slider, kernel):
    release = threading.Event()

    def compute(x):
        if x == 2:
            release.wait(10)
            raise KeyboardInterrupt
        return x

    view = explorer(compute, draw, {"x": slider})
    slider.value = 2
    slider.value = 3
    release.set()
    asyncio.run(finished(view))
    assert view.message.startswith("x is 3 ")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_picture_that_fails_on_the_way_leaves_the_layout_to_the_next(
    draw, slider, monkeypatch, error
):
    monkeypatch.setattr(widgets, "FIRST_PICTURE", 0.0)
    figure = Figure(layout="constrained")
    explorer(lambda x: x, draw, {"x": slider}, figure=figure)

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch, suppress(KeyboardInterrupt):
        patch.setattr(widgets.FigureCanvasAgg, "print_png", fail)
        slider.value = 2
    assert type(figure.get_layout_engine()).__name__ == "ConstrainedLayoutEngine"


# --- one slider, two explorers ------------------------------------------------------------------


def counted(started, name):
    def compute(**settings):
        started.append((name, *settings.values()))
        return sum(settings.values())

    return compute


@pytest.mark.parametrize("where", ["in place", "on a thread"])
def test_a_cell_run_twice_computes_once_a_move(draw, slider, where, request):
    if where == "on a thread":
        request.getfixturevalue("kernel")
    started = []
    older = explorer(counted(started, "older"), draw, {"x": slider})
    newer = explorer(counted(started, "newer"), draw, {"x": slider})
    started.clear()
    slider.value = 5
    asyncio.run(finished(newer))
    assert started == [("newer", 5)]
    assert newer.message.startswith("x is 5 ")
    assert older.message == RETIRED
    assert RETIRED in readout(older)
    assert "fltutor-error" not in readout(older)
    assert not is_busy(older)


def test_a_cell_run_many_times_leaves_one_that_listens(draw, slider):
    started = []
    views = [explorer(counted(started, name), draw, {"x": slider}) for name in range(5)]
    started.clear()
    slider.value = 5
    assert started == [(4, 5)]
    assert [view.message for view in views[:4]] == [RETIRED] * 4


def test_an_explorer_that_shares_one_control_retires_as_a_whole(draw):
    started = []
    a, b, c = (ipw.IntSlider(value) for value in (1, 2, 3))
    first = explorer(counted(started, "first"), draw, {"a": a, "b": b})
    second = explorer(counted(started, "second"), draw, {"b": b, "c": c})
    other = explorer(counted(started, "other"), draw, {"d": ipw.IntSlider(4)})
    started.clear()
    a.value = 10  # of the first alone
    assert started == []
    b.value = 20
    assert started == [("second", 20, 3)]
    assert first.message == RETIRED
    third = explorer(counted(started, "third"), draw, {"a": a})  # a belongs to nobody now
    c.value = 30
    assert started[-1] == ("second", 20, 30)
    assert RETIRED not in (second.message, third.message, other.message)


def test_one_control_may_be_two_arguments(draw, slider):
    started = []
    explorer(counted(started, "older"), draw, {"x": slider, "y": slider})
    view = explorer(counted(started, "newer"), draw, {"x": slider, "y": slider})
    slider.value = 2
    assert started == [("older", 1, 1), ("newer", 1, 1), ("newer", 2, 2)]
    assert view.message.startswith("x is 4 ")


def test_a_readers_own_observer_stays(draw, slider):
    seen = []
    slider.observe(lambda change: seen.append(change.new), names="value")
    explorer(lambda x: x, draw, {"x": slider})
    explorer(lambda x: x, draw, {"x": slider})
    slider.value = 2
    assert seen == [2]
    slider.unobserve_all()
    slider.observe(lambda change: seen.append(-change.new), names="value")
    view = explorer(lambda x: x, draw, {"x": slider})
    slider.value = 3
    assert seen == [2, -3]
    assert view.message.startswith("x is 3 ")


def test_a_move_that_is_on_its_way_no_longer_reaches_the_older_one(draw, slider):
    """As when the newer explorer is made by an observer that hears the move first."""
    started, views = [], []

    def rebuild(change):
        if not views:
            views.append(explorer(counted(started, "newer"), draw, {"x": slider}))

    slider.observe(rebuild, names="value")
    older = explorer(counted(started, "older"), draw, {"x": slider})
    slider.value = 2
    assert started == [("older", 1), ("newer", 2)]
    assert older.message == RETIRED


@pytest.mark.parametrize("outcome", ["result", "error", "interrupt"])
def test_a_run_of_the_older_one_gives_way_and_cannot_pass_for_current(
    draw, slider, kernel, monkeypatch, outcome
):
    monkeypatch.setattr(widgets, "FIRST_PICTURE", 0.0)
    under_way, release, steps = threading.Event(), threading.Event(), []

    def slow(x):
        yield x
        steps.append(x)
        if x == 2:
            under_way.set()
            release.wait(10)
            if outcome != "result":
                raise ValueError if outcome == "error" else KeyboardInterrupt
            yield 20
            steps.append("too many")

    older = explorer(slow, draw, {"x": slider})
    slider.value = 2
    assert under_way.wait(10)
    newer = explorer(lambda x: x, draw, {"x": slider})
    assert older.message == RETIRED  # at once, though its run has not noticed yet
    slider.value = 3  # and this is for the newer alone
    release.set()
    asyncio.run(finished(older))
    asyncio.run(finished(newer))
    assert older.message == RETIRED
    assert RETIRED in readout(older)
    assert steps == [1, 2]
    assert 20 not in draw.drawn
    assert newer.message.startswith("x is 3 ")


def test_a_picture_that_is_half_drawn_does_not_bring_the_older_one_back(draw, slider, kernel):
    drawing, release = threading.Event(), threading.Event()

    def slow_draw(figure, result):
        if result == 2:
            drawing.set()
            release.wait(10)
        return draw(figure, result)

    older = explorer(lambda x: x, slow_draw, {"x": slider})
    slider.value = 2
    assert drawing.wait(10)
    explorer(lambda x: x, draw, {"x": slider})
    release.set()
    asyncio.run(finished(older))
    assert RETIRED in readout(older)


def test_a_closed_older_explorer_is_forgotten(draw, slider):
    older = explorer(lambda x: x, draw, {"x": slider})
    gone = weakref.ref(older)
    newer = explorer(lambda x: x, draw, {"x": slider})
    older.close()  # until then ipywidgets itself remembers every widget
    del older
    gc.collect()
    assert gone() is None
    slider.value = 2
    assert newer.message.startswith("x is 2 ")


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


@pytest.mark.parametrize(
    ("options", "answer", "shown"),
    [
        ([2, 3], "3", "3"),
        ([2, 3], 3, "3"),
        ([2, 3], np.int64(3), "3"),
        ([2, 3], np.array(3), "3"),
        ([2, 3], 3.0, "3"),
        ([2, 3], np.float32(3), "3"),
        (["2", "3"], 3, "3"),
        ([2.5, 3.0], 3, "3"),
        ([0.1, 0.25], np.float64(0.25), "0.25"),
        (np.array([2, 3]), 3, "3"),
        (np.array(["up", "down"]), "down", "down"),
        ([np.array(2), np.array(3)], 3, "3"),
        ((True, False), False, "False"),
        (["True", "False"], np.bool_(False), "False"),
        ({"up": 1, "down": 2}, "down", "down"),
        (["up", np.nan], float("nan"), "nan"),
    ],
    ids=str,
)
def test_an_answer_of_another_type_that_reads_alike_is_the_same_answer(
    options, answer, shown, capsys
):
    prediction = predict("How many?", options)
    choice = prediction.children[1]
    other, same = choice.options
    assert same == shown
    for guess, words in ((same, f"You said: {shown}. The run agrees."), (other, "The run says")):
        choice.value = guess
        prediction.reveal(answer)
        assert words in capsys.readouterr().out


@pytest.mark.parametrize("answer", ["4", 4, 2.5, "", " 3", True, "three"], ids=repr)
def test_an_answer_that_nobody_could_choose_is_refused(answer):
    with pytest.raises(InvalidParameterError, match="answer must be one of '2', '3', got"):
        predict("How many?", [2, 3]).reveal(answer)


@pytest.mark.parametrize("answer", [None, [3], (3,), {3}, np.array([3]), 3j, b"3", len], ids=repr)
def test_an_answer_that_is_no_answer_is_refused(answer):
    with pytest.raises(InvalidParameterError, match="an answer must be text or a number, got"):
        predict("How many?", [2, 3]).reveal(answer)
    with pytest.raises(InvalidParameterError, match="an answer must be text or a number, got"):
        predict("How many?", [2, answer])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "two or more answers that differ, got none"),
        (["up"], "two or more answers that differ, got up"),
        (["up", "up"], "that differ, got up, up"),
        ([3, "3"], "that differ, got 3, 3"),
        ([3, 3.0], "that differ, got 3, 3"),
        ("up", "two or more answers"),
        (3, "options must be a list of answers, got int"),
        (None, "options must be a list of answers, got NoneType"),
        (np.array(3), "options must be a list of answers, got ndarray"),
    ],
    ids=repr,
)
def test_options_that_leave_no_choice_are_refused(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        predict("How many?", options)
