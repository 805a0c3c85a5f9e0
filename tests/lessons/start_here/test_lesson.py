"""Notebook 00: its explorer without sliders."""

import numpy as np
import pytest

from fltutor.lessons.start_here.explorer import training_explorer
from fltutor.lessons.start_here.plots import draw_private_training
from fltutor.lessons.start_here.runs import CLIENTS, MAX_ROUNDS, private_training
from fltutor.plotting import new_figure
from fltutor.privacy.accounting import epsilon_after


def last(clients, noise, rounds, seed=0):
    return [*private_training(clients, noise, rounds, seed=seed)][-1]


def test_fewer_rounds_are_a_prefix_of_the_same_run():
    long, short = last(10, 1.0, 6), last(10, 1.0, 3)
    np.testing.assert_array_equal(short.accuracy, long.accuracy[:4])
    np.testing.assert_array_equal(short.epsilon, long.epsilon[:4])


def test_every_round_is_yielded_as_it_is_done():
    lengths = [len(run.accuracy) for run in private_training(10, 0.5, 4, seed=17)]
    assert lengths == [1, 2, 3, 4, 5]


def test_an_abandoned_run_goes_on_where_it_stopped():
    abandoned = private_training(10, 2.5, 4, seed=3)
    seen = [next(abandoned) for _ in range(3)][-1]
    abandoned.close()
    resumed = last(10, 2.5, 4, seed=3)
    np.testing.assert_array_equal(resumed.accuracy[:3], seen.accuracy)
    assert len(resumed.accuracy) == 5


def test_an_interrupted_run_leaves_a_setting_that_works(monkeypatch):
    stopped = private_training(10, 3.5, 4)
    next(stopped)
    with monkeypatch.context() as patch:
        patch.setattr("fltutor.simulation.train_cohort", interrupt)
        with pytest.raises(KeyboardInterrupt):
            next(stopped)
    assert len(last(10, 3.5, 4).accuracy) == 5


def interrupt(*args, **options):
    raise KeyboardInterrupt  # what a kernel's stop button raises in the running cell


def test_epsilon_is_the_accountants_and_infinite_without_noise():
    run = last(10, 2.0, 5)
    assert run.epsilon[-1] == pytest.approx(
        epsilon_after(5, noise_multiplier=2.0, delta=1e-3).epsilon
    )
    assert last(10, 0.0, 2).epsilon[-1] == np.inf


def test_more_noise_lowers_epsilon_and_accuracy():
    clear, noisy = last(10, 0.0, 10), last(10, 6.0, 10)
    assert noisy.epsilon[-1] < clear.epsilon[-1]
    assert noisy.accuracy[-1] < clear.accuracy[-1] - 0.2


@pytest.mark.parametrize("noise", [0.0, 2.0])
def test_the_picture_says_its_numbers(noise):
    run = last(10, noise, 2)
    figure = new_figure()
    sentence = draw_private_training(figure, run)
    assert f"accuracy {run.accuracy[-1]:.3f}" in sentence
    assert run.spent in sentence
    assert all(ax.get_xlabel() and ax.get_ylabel() for ax in figure.axes)
    assert ("epsilon = infinity" in sentence) == (noise == 0)


def test_sliders_reach_their_ends_without_a_fault():
    view = training_explorer()
    view.controls["rounds"].value = 1
    for clients in (CLIENTS[0], CLIENTS[-1]):
        for noise in (0.0, 8.0):
            view.controls["clients"].value = clients
            view.controls["noise"].value = noise
            assert view.message.startswith(f"{clients} clients, noise {noise:g}, 1 rounds: ")
    view.controls["clients"].value = 10
    view.controls["rounds"].value = MAX_ROUNDS
    assert f"{MAX_ROUNDS} rounds: accuracy" in view.message
