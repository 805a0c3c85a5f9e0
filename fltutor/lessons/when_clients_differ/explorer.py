"""The sliders of notebook 05."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ipywidgets as ipw
from matplotlib.figure import Figure

from fltutor.lessons.when_clients_differ.plots import draw_differing_run
from fltutor.lessons.when_clients_differ.runs import (
    METHODS,
    ROUNDS,
    DifferingRun,
    differing_run,
    even_run,
)
from fltutor.progress import progress_bar
from fltutor.widgets import Explorer, explorer


def differing_explorer(rounds: int = ROUNDS) -> Explorer:
    """Slide how clients differ, who takes part, and what the server does; watch them drift.

    Both compiled loops are made here, so that no slider waits for the compiler.

    Args:
        rounds: How many rounds every run has.
    """
    for method in progress_bar(("FedAvg", "FedProx"), "compiling"):
        list(differing_run(method=method, rounds=1))
    even_run(rounds)

    def compute(**settings: Any) -> Iterator[DifferingRun]:
        return differing_run(rounds=rounds, **settings)

    return explorer(
        compute,
        draw_differing_run,
        {
            "alpha": ipw.SelectionSlider(
                options=[0.03, 0.1, 0.3, 1.0, 10.0, 100.0], value=0.1, description="alpha (alike)"
            ),
            "fraction": ipw.FloatSlider(
                1.0,
                min=0.1,
                max=1,
                step=0.1,
                readout_format=".0%",
                description="clients in a round",
            ),
            "method": ipw.Dropdown(options=list(METHODS), description="method"),
            "server_learning_rate": ipw.FloatLogSlider(
                1.0, min=-2, max=0.5, step=0.1, readout_format=".2g", description="server rate"
            ),
        },
        figure=Figure(figsize=(11, 3.4), dpi=80),  # without a layout engine, for speed
    )
