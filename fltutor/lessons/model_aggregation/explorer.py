"""The sliders of notebook 04."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import ipywidgets as ipw
import numpy as np

from fltutor.data import Dataset
from fltutor.lessons.model_aggregation.plots import draw_local_work
from fltutor.lessons.model_aggregation.runs import (
    BATCH_SIZES,
    MAX_ROUNDS,
    LocalWork,
    fedsgd_run,
    local_work,
    ten_clients,
)
from fltutor.progress import progress_bar
from fltutor.simulation import run_federated
from fltutor.tensorflow_quietly import keras
from fltutor.widgets import Explorer, explorer


def local_work_explorer(
    model: keras.Model | None = None,
    data: Dataset | None = None,
    parts: Sequence[np.ndarray] | None = None,
    *,
    rounds: int = MAX_ROUNDS,
) -> Explorer:
    """Slide how much clients learn at home; watch accuracy per round and per megabyte.

    Every batch size is compiled here, so that no slider waits for the compiler.

    Args:
        model: Gives the architecture and, by its weights now, the start of every run. With
            none of the three, ten clients share the digits evenly, as in the notebook.
        data: The examples of all clients, and the test examples.
        parts: One array of example indices per client.
        rounds: How many rounds every run has.
    """
    if model is None:
        model, data, parts = ten_clients()
    fedsgd = fedsgd_run(model, data, parts, rounds=rounds)
    for size in progress_bar(BATCH_SIZES, "compiling"):
        run_federated(model, data, parts, rounds=1, learning_rate=0.1, batch_size=size)
    largest = max(len(part) for part in parts)
    batch_sizes = [*((str(size), size) for size in BATCH_SIZES), ("all", largest)]

    def compute(**settings: float) -> Iterator[LocalWork]:
        return local_work(model, data, parts, fedsgd, rounds=rounds, **settings)

    return explorer(compute, draw_local_work, _controls(batch_sizes))


def _controls(batch_sizes: list[tuple[str, int]]) -> dict[str, ipw.Widget]:
    return {
        "local_epochs": ipw.IntSlider(1, min=1, max=20, description="local epochs"),
        "batch_size": ipw.SelectionSlider(options=batch_sizes, value=10, description="batch size"),
        "learning_rate": ipw.FloatLogSlider(
            0.1, min=-2, max=0.5, step=0.1, readout_format=".2g", description="learning rate"
        ),
        "fraction": ipw.FloatSlider(
            1.0, min=0.1, max=1, step=0.1, readout_format=".0%", description="clients in a round"
        ),
    }
