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
from collections.abc import Callable, Mapping
from typing import Any

import ipywidgets as ipw
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from fltutor.errors import FltutorError
from fltutor.plotting import new_figure
from fltutor.progress import in_notebook

FIRST_PICTURE = 0.02
BETWEEN_PICTURES = 0.25
"""Seconds. While results improve, pictures follow at this pace; the last always shows."""


class Explorer(ipw.VBox):
    """Controls, one sentence of numbers, and one picture. Made by :func:`explorer`.

    The newest setting wins: a slider moved during a run abandons that run. An
    error shows its message in place of the numbers; the last picture stays.
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
        self._working = True
        self._places: list[Bbox] = []
        self._image = ipw.HTML()  # not ipw.Image, which has no alternative text
        self._readout = ipw.HTML()
        self._readout.add_class("fltutor-readout")
        for name, control in self.controls.items():
            control.add_class(f"fltutor-{name}")
            control.style.description_width = "11em"
            control.layout.width = "32em"
            control.observe(self._changed, names="value")
        row = ipw.Layout(flex_flow="row wrap")
        super().__init__([ipw.Box(list(self.controls.values()), layout=row), self._readout])
        self.children = (*self.children, self._image)
        self.add_class("fltutor-explorer")
        self._wanted = self._values()
        self._work()  # the first picture belongs to the cell that shows it

    def _values(self) -> dict[str, Any]:
        return {name: control.value for name, control in self.controls.items()}

    def _changed(self, change: Any) -> None:
        """Run the newest setting; a run that is under way gives way to it."""
        with self._lock:
            self._wanted = self._values()
            if self._working:
                return
            self._working = True
        if in_notebook():
            # A kernel may deliver a slider's moves on a thread of its own, and the next
            # move must be heard during a run: one worker thread computes and paints.
            threading.Thread(target=self._work, daemon=True).start()
        else:
            self._work()

    def _work(self) -> None:
        self.add_class("fltutor-busy")
        while True:
            with self._lock:
                values, self._wanted = self._wanted, None
                if values is None:
                    self._working = False
                    self.remove_class("fltutor-busy")  # before another worker may begin
                    break
            self._run(values)

    def _run(self, values: dict[str, Any]) -> None:
        """Compute and paint one setting, result by result, unless a newer one is wanted."""
        try:
            next_picture = time.monotonic() + FIRST_PICTURE
            unseen = None
            outcome = self._compute(**values)
            for unseen in outcome if inspect.isgenerator(outcome) else [outcome]:
                if self._wanted is not None:
                    return
                if time.monotonic() >= next_picture:
                    self._paint(unseen, quickly=True)
                    unseen = None
                    next_picture = time.monotonic() + BETWEEN_PICTURES
            if unseen is not None:
                self._paint(unseen)
        except FltutorError as error:
            self._say(str(error), error=True)
        except Exception as error:
            self._say(f"{type(error).__name__}: {error}", error=True)

    def _paint(self, result: Any, *, quickly: bool = False) -> None:
        """Draw a result; quickly keeps the places of the last picture, half of the work."""
        self.figure.clear()
        sentence = self._draw(self.figure, result)
        layout, axes = self.figure.get_layout_engine(), self.figure.axes
        if quickly and len(axes) == len(self._places):
            self.figure.set_layout_engine("none")
            for ax, place in zip(axes, self._places, strict=True):
                ax.set_position(place)
        png = io.BytesIO()
        # savefig would draw everything once more beforehand, to lay it out twice
        FigureCanvasAgg(self.figure).print_png(png, pil_kwargs={"compress_level": 1})
        self.figure.set_layout_engine(layout)
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
        controls: One widget per argument of ``compute``.
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

    def __init__(self, question: str, options: list[str]):
        self._choice = ipw.RadioButtons(
            options=options, value=None, layout={"width": "max-content"}
        )
        self._choice.add_class("fltutor-predict")
        super().__init__([ipw.HTML(f"<b>Predict first.</b> {html.escape(question)}"), self._choice])

    def reveal(self, answer: str) -> None:
        """Print the guess beside what the run has shown."""
        guess = self._choice.value
        if guess is None:
            print(f"The run says: {answer}. (You made no guess; the surprise is smaller that way.)")
        elif guess == answer:
            print(f"You said: {guess}. The run agrees.")
        else:
            print(f"You said: {guess}. The run says: {answer}.")


def predict(question: str, options: list[str]) -> Prediction:
    """Ask for a guess. *Run all* goes on without one.

    Example:
        >>> guess = predict("Which is larger, 2^10 or 10^3?", ["2^10", "10^3"])
        >>> guess.reveal("2^10" if 2**10 > 10**3 else "10^3")
        The run says: 2^10. (You made no guess; the surprise is smaller that way.)
    """
    return Prediction(question, options)
