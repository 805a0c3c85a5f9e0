"""Sliders over real runs: one compute function and one drawing function each.

Example:
    In a notebook::

        explorer(
            compute=lambda noise: budget_curve(noise, 100, delta=1e-5),
            draw=draw_budget,
            controls={"noise": FloatSlider(1.1, min=0.5, max=4.0, description="noise z")},
        )
"""

from __future__ import annotations

import base64
import html
import inspect
import io
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import ipywidgets as ipw
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from fltutor.errors import FltutorError, InvalidParameterError
from fltutor.plotting import new_figure
from fltutor.progress import in_notebook

FIRST_PICTURE = 0.02
BETWEEN_PICTURES = 0.25
"""Seconds. While results improve, pictures follow at this pace; the last always shows."""

INTERRUPTED = "Interrupted. Move a control to run again."
RETIRED = "This picture no longer follows its controls, since a newer explorer took over."

_listening: weakref.WeakSet[Explorer] = weakref.WeakSet()  # weak: a registry must not keep them


class Explorer(ipw.VBox):
    """Controls, one sentence of numbers, and one picture. Made by :func:`explorer`.

    The newest setting wins: a slider moved during a run abandons that run. An
    error shows its message in place of the numbers; the last picture stays.

    A control drives one explorer, the newest. An older one that shares even one
    control with it retires as a whole and says so, since a picture that follows
    only some of its controls would mislead.
    """

    def __init__(
        self,
        compute: Callable[..., Any],
        draw: Callable[[Figure, Any], str],
        controls: Mapping[str, ipw.Widget],
        figure: Figure,
    ):
        self.controls = dict(controls)
        self.figure = figure
        self.message = ""
        self._compute, self._draw = compute, draw
        self._lock = threading.Lock()
        self._working, self._retired = True, False
        self._places: list[Bbox] = []
        self._image = ipw.HTML()  # not ipw.Image, which has no alternative text
        self._readout = ipw.HTML()
        self._readout.add_class("fltutor-readout")
        for name, control in self.controls.items():
            control.add_class(f"fltutor-{name}")
            control.style.description_width = "11em"
            control.layout.width = "32em"
        row = ipw.Layout(flex_flow="row wrap")
        super().__init__([ipw.Box(list(self.controls.values()), layout=row), self._readout])
        self.children = (*self.children, self._image)
        self.add_class("fltutor-explorer")
        try:
            self._listen()
            with self._lock:
                self._wanted = self._values()
            self._work()  # the first picture belongs to the cell that shows it
        except BaseException:
            self._stop_listening()  # nobody will ever see this one
            raise

    def _values(self) -> dict[str, Any]:
        return {name: control.value for name, control in self.controls.items()}

    def _listen(self) -> None:
        """Take over the controls, so that a cell run twice does not compute twice."""
        controls = set(self.controls.values())
        for older in list(_listening):
            if not controls.isdisjoint(older.controls.values()):
                older._retire()
        _listening.add(self)
        for control in controls:
            control.observe(self._changed, names="value")

    def _stop_listening(self) -> None:
        _listening.discard(self)
        for control in set(self.controls.values()):
            with suppress(ValueError):  # the reader's own unobserve_all came first
                control.unobserve(self._changed, names="value")

    def _retire(self) -> None:
        """Hear no more moves, and never show an old picture as if it were current."""
        self._stop_listening()
        with self._lock:
            self._wanted, self._retired = None, True
        self._say(RETIRED)

    def _changed(self, change: Any) -> None:
        """Run the newest setting; a run that is under way gives way to it."""
        with self._lock:
            if self._retired:  # while this move was on its way
                return
            self._wanted = self._values()
            if self._working:
                return
            self._working = True
        try:
            if in_notebook():
                # A kernel may deliver a slider's moves on a thread of its own, and the next
                # move must be heard during a run: one worker thread computes and paints.
                # No caller is there to be interrupted, so it goes on to the next setting.
                with suppress(RuntimeError):  # Pyodide and small containers start no thread
                    threading.Thread(target=self._work, args=(BaseException,), daemon=True).start()
                    return
        except BaseException:  # interrupted before anything ran
            with self._lock:
                self._rest()
            raise
        self._work()

    def _work(self, *passed_over: type[BaseException]) -> None:
        """Run what is wanted until nothing is; after an interrupt the next move works."""
        try:
            self.add_class("fltutor-busy")
            while True:
                with self._lock:
                    values, self._wanted = self._wanted, None
                    if values is None:
                        self._rest()
                        return
                with suppress(*passed_over):
                    self._run(values)
        except BaseException:
            with self._lock:
                self._rest()
            raise

    def _rest(self) -> None:
        """Be ready for the next move. The caller holds the lock."""
        self._wanted, self._working = None, False
        self.remove_class("fltutor-busy")  # before another worker may begin

    def _run(self, values: dict[str, Any]) -> None:
        """Compute and paint one setting, result by result, unless a newer one is wanted."""
        try:
            next_picture = time.monotonic() + FIRST_PICTURE
            unseen = None
            outcome = self._compute(**values)
            for unseen in outcome if inspect.isgenerator(outcome) else [outcome]:
                if self._wanted is not None or self._retired:
                    return
                if time.monotonic() >= next_picture:
                    self._paint(unseen, quickly=True)
                    unseen = None
                    next_picture = time.monotonic() + BETWEEN_PICTURES
            if unseen is not None:
                self._paint(unseen)
        except FltutorError as error:
            with suppress(Exception):  # it may be the drawing that failed
                if unseen is not None:
                    self._paint(unseen)  # what was done before a late fault
            self._say(str(error), error=True)
        except Exception as error:
            self._say(f"{type(error).__name__}: {error}", error=True)
        except BaseException:
            self._say(INTERRUPTED, error=True)
            raise
        finally:
            if self._retired:
                self._say(RETIRED)  # this run may have spoken since

    def _paint(self, result: Any, *, quickly: bool = False) -> None:
        """Draw a result; quickly keeps the places of the last picture, half of the work."""
        self.figure.clear()
        sentence = self._draw(self.figure, result)
        layout, axes = self.figure.get_layout_engine(), self.figure.axes
        png = io.BytesIO()
        try:
            if quickly and len(axes) == len(self._places):
                self.figure.set_layout_engine("none")
                for ax, place in zip(axes, self._places, strict=True):
                    ax.set_position(place)
            # savefig would draw everything once more beforehand, to lay it out twice
            FigureCanvasAgg(self.figure).print_png(png, pil_kwargs={"compress_level": 1})
        finally:
            self.figure.set_layout_engine(layout)  # the next picture needs it, whatever happened
        self._places = [ax.get_position(original=True) for ax in axes]  # not shrunk by aspect
        data = base64.b64encode(png.getvalue()).decode()
        self._image.value = (
            f'<img alt="{html.escape(sentence)}" decoding="sync" style="max-width: 100%" '
            f'src="data:image/png;base64,{data}">'
        )
        self._say(sentence)

    def _say(self, sentence: str, *, error: bool = False) -> None:
        self.message = sentence
        mark = ' class="fltutor-error"' if error else ""
        self._readout.value = (
            f'<div role="status" aria-live="polite"{mark}>{html.escape(sentence)}</div>'
        )


def explorer(
    compute: Callable[..., Any],
    draw: Callable[[Figure, Any], str],
    controls: Mapping[str, ipw.Widget],
    *,
    figure: Figure | None = None,
) -> Explorer:
    """Put sliders on a computation: each move runs it again and redraws one picture.

    Args:
        compute: Called with the controls' values by name. It returns a result, or
            yields better and better ones while it works.
        draw: Draws one result on the figure it is given, and returns a sentence
            that states the numbers; the sentence is also the picture's text
            for screen readers.
        controls: One widget per argument of ``compute``. Used again in a newer
            explorer, a widget leaves the older one, which retires.
        figure: The figure to reuse; a wide one by default.

    Example:
        >>> slider = ipw.IntSlider(2, min=0, max=9, description="x")
        >>> def draw_square(figure, y):
        ...     figure.subplots().bar(["x²"], [y])
        ...     return f"x² = {y}"
        >>> view = explorer(lambda x: x * x, draw_square, {"x": slider})
        >>> slider.value = 5
        >>> view.message
        'x² = 25'
    """
    return Explorer(compute, draw, controls, figure or new_figure())


class Prediction(ipw.VBox):
    """A question to answer before the run. Made by :func:`predict`."""

    def __init__(self, question: str, options: Iterable[Any]):
        if not isinstance(question, str):
            raise InvalidParameterError(f"question must be text, got {type(question).__name__}")
        self._options = _texts(options)
        self._choice = ipw.RadioButtons(
            options=self._options, value=None, layout={"width": "max-content"}
        )
        self._choice.add_class("fltutor-predict")
        super().__init__([ipw.HTML(f"<b>Predict first.</b> {html.escape(question)}"), self._choice])

    def reveal(self, answer: Any) -> None:
        """Print the guess beside what the run has shown.

        Args:
            answer: One of the options, or its text: ``3``, ``np.int64(3)`` and ``"3"`` are
                one answer.

        Raises:
            InvalidParameterError: If it is none of the options.
        """
        answer = _text(answer)
        if answer not in self._options:
            options = ", ".join(map(repr, self._options))
            raise InvalidParameterError(f"answer must be one of {options}, got {answer!r}")
        guess = self._choice.value
        if guess is None:
            print(f"The run says: {answer}. (You made no guess; the surprise is smaller that way.)")
        elif guess == answer:
            print(f"You said: {guess}. The run agrees.")
        else:
            print(f"You said: {guess}. The run says: {answer}.")


def _texts(options: Iterable[Any]) -> list[str]:
    """What the reader chooses from, as it is shown."""
    try:
        texts = [] if isinstance(options, str | bytes) else list(options)
    except TypeError:
        raise InvalidParameterError(
            f"options must be a list of answers, got {type(options).__name__}"
        ) from None
    texts = [_text(option) for option in texts]
    if len(texts) < 2 or len(set(texts)) < len(texts):
        raise InvalidParameterError(
            f"options must be two or more answers that differ, got {', '.join(texts) or 'none'}"
        )
    return texts


def _text(answer: Any) -> str:
    """An answer as it is shown: a text as it is, a number as Python writes it."""
    if isinstance(answer, np.generic | np.ndarray) and answer.ndim == 0:
        answer = answer.item()
    if isinstance(answer, float) and answer.is_integer() and abs(answer) < 2**53:
        answer = int(answer)
    if isinstance(answer, str | bool | float) or (
        isinstance(answer, int) and abs(answer) < 10**1000
    ):
        return str(answer)
    raise InvalidParameterError(f"an answer must be text or a number, got {type(answer).__name__}")


def predict(question: str, options: Iterable[Any]) -> Prediction:
    """Ask for a guess. *Run all* goes on without one.

    Args:
        question: What to ask.
        options: Two or more answers, text or numbers, no two of which read alike.

    Example:
        >>> guess = predict("Which is larger, 2^10 or 10^3?", ["2^10", "10^3"])
        >>> guess.reveal("2^10" if 2**10 > 10**3 else "10^3")
        The run says: 2^10. (You made no guess; the surprise is smaller that way.)
    """
    return Prediction(question, options)
