"""Notebook 07: what it claims, computes, draws and checks."""

import numpy as np
import pytest

from fltutor.attacks import Recovery, inversion_attack, invert_dense_gradient, psnr
from fltutor.clients import cohort_gradients
from fltutor.data import load_digits
from fltutor.lessons.what_updates_leak.checks import check_blur, check_count, check_single_image
from fltutor.lessons.what_updates_leak.explorer import leak_explorer
from fltutor.lessons.what_updates_leak.plots import (
    draw_exact_shares,
    draw_leak,
    draw_noise,
    draw_recovery,
    draw_units,
)
from fltutor.lessons.what_updates_leak.runs import MAX_IMAGES, NOISES, exact_shares, leak
from fltutor.models import get_params, mlp, params_spec
from fltutor.plotting import RED, new_figure
from fltutor.tensorflow_quietly import num_compiled
from fltutor.vectors import flatten, unflatten

DIGITS = load_digits()


def standard_error(values):
    return np.std(values) / np.sqrt(len(values))


@pytest.mark.parametrize("local_epochs", [1, 7, 50])
def test_a_client_with_one_image_hides_nothing_however_long_it_trains(local_epochs):
    for draw in range(10):
        run = leak(1, local_epochs, draw=draw)
        assert run.recovery.exact.all()
        assert run.recovery.psnr[0] > 120


def test_local_epochs_cost_the_attacker_images_of_a_batch_but_not_all():
    once, often = (
        np.array([leak(5, epochs, draw=draw).recovery.exact_share for draw in range(21)])
        for epochs in (1, 20)
    )
    gap = once - often  # the same images, so that the pairs can be compared
    assert gap.mean() > 3 * standard_error(gap)
    assert often.mean() > 3 * standard_error(often)


def test_more_noise_leaves_less_until_the_mean_digit_is_a_better_guess():
    runs = [[leak(1, 1, noise, draw) for draw in range(8)] for noise in NOISES]
    closeness = np.array([[run.recovery.psnr[0] for run in line] for line in runs])
    assert (np.diff(closeness.mean(axis=1)) < 0).all()
    blind = np.array([run.blind[0] for run in runs[0]])
    assert (closeness[NOISES.index(1e-2)] > blind).all()
    assert (closeness[NOISES.index(0.3)] < blind).all()
    exact = [np.mean([run.recovery.exact[0] for run in line]) for line in runs]
    assert exact[NOISES.index(1e-3)] == 1
    assert exact[NOISES.index(1e-2)] == 0


def test_more_images_keep_the_first_ones_and_another_draw_takes_others():
    few, many = leak(3, draw=2), leak(MAX_IMAGES, draw=2)
    np.testing.assert_array_equal(few.originals, many.originals[:3])
    assert not np.array_equal(few.originals, leak(3, draw=3).originals)
    np.testing.assert_array_equal(few.recovery.psnr, leak(3, draw=2).recovery.psnr)
    assert few.blind == pytest.approx(psnr(few.originals, DIGITS.x.mean(axis=0)))


def test_sliders_compile_nothing_once_the_first_update_is_attacked():
    leak()
    compiled = num_compiled()
    for images, local_epochs, noise in ((2, 1, 0.0), (50, 50, 0.1), (17, 3, 1.0)):
        leak(images, local_epochs, noise)
    assert num_compiled() == compiled


def test_larger_batches_give_back_less_and_wider_layers_more():
    narrow = {size: exact_shares(size) for size in (1, 5, 20, 50)}
    assert [len(values) for values in narrow.values()] == [100] * 4
    assert narrow[1].min() == 1
    for smaller, larger in ((1, 5), (5, 20), (20, 50)):
        gap = narrow[smaller] - narrow[larger]
        assert gap.mean() > 3 * standard_error(gap)
    assert narrow[50].mean() > 3 * standard_error(narrow[50])
    gap = exact_shares(20, units=256, batches=4) - exact_shares(20, batches=4)
    assert gap.mean() > 3 * standard_error(gap)
    fixed = exact_shares(5, batches=2, seeds=2, params=get_params(mlp(seed=1)))
    assert fixed.shape == (4,)


def test_a_made_up_model_gives_back_what_its_thresholds_separate():
    """The trap of the notebook, against the share that equal bins predict."""
    model, spec, units, size = mlp(), params_spec(mlp()), 32, 20
    shares = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        weights = rng.normal(size=64) / 8
        thresholds = np.quantile(DIGITS.x_test @ weights, np.arange(units) / units)
        outputs = np.tile(0.1 * rng.normal(size=10), (units, 1))
        made_up = [np.tile(weights[:, None], units), -thresholds, outputs, np.zeros(10)]
        params = flatten(made_up)[0].astype(np.float32)
        parts = [rng.choice(len(DIGITS.y), size, replace=False) for _ in range(16)]
        gradients = cohort_gradients(model, params, DIGITS.x, DIGITS.y, parts)
        for gradient, part in zip(gradients, parts, strict=True):
            kernel, bias, *rest = unflatten(gradient, spec)
            neighbours = [np.diff(kernel, axis=1, append=0), np.diff(bias, append=0), *rest]
            vector = flatten(neighbours)[0]
            shares.append(inversion_attack(vector, spec, DIGITS.x[part]).exact_share)
    alone = (1 - 1 / units) ** (size - 1)  # nobody else of the batch in the same bin
    assert abs(np.mean(shares) - alone) < 4 * standard_error(shares) + 0.03


def test_explorer_runs_at_the_ends_of_every_slider():
    view = leak_explorer()
    assert view.message.startswith("5 images, 1 local epoch, noise 0. Exact recoveries: ")
    for name, *ends in (
        ("images", 1, MAX_IMAGES),
        ("local_epochs", 50, 1),
        ("noise", 1, 1e-4, 0),
        ("draw", 20, 0),
    ):
        for end in ends:
            before = view.message
            view.controls[name].value = end
            assert view.message != before
            assert "Median PSNR" in view.message


def texts(ax):
    return [text.get_text() for text in ax.texts]


def test_drawing_of_a_leak_shows_images_guesses_and_every_psnr():
    run = leak(10, draw=3)
    figure = new_figure()
    sentence = draw_leak(figure, run)
    num_exact = int(run.recovery.exact.sum())
    assert f"10 images, 1 local epoch, noise 0. Exact recoveries: {num_exact} of 10." in sentence
    assert f"{np.median(run.recovery.psnr):.0f} dB" in sentence
    pictures, dots = figure.axes
    sheet = pictures.images[0].get_array()
    np.testing.assert_array_equal(sheet[2:10, 1:9].ravel(), run.originals[0].astype(float))
    np.testing.assert_array_equal(sheet[13:21, 71:79].ravel(), run.recovery.images[7].astype(float))
    assert "8 of 10 images" in pictures.get_title(loc="left")
    titles = texts(pictures)
    assert titles[:2] == ["image 1", "image 2"]
    assert sum("✓" in title for title in titles) == run.recovery.exact[:8].sum()
    thick = [patch for patch in pictures.patches if patch.get_linewidth() > 1]
    assert len(thick) == run.recovery.exact[:8].sum()
    shown = np.concatenate([line.get_ydata() for line in dots.lines[1:]])
    np.testing.assert_allclose(shown, -np.sort(-run.recovery.psnr))
    assert dots.get_title(loc="left") == f"Exact: {num_exact} of 10"

    figure.clear()
    assert draw_leak(figure, leak(1, 2)).startswith("1 image, 2 local epochs, noise 0.")


def test_drawings_say_the_numbers_they_are_given():
    figure = new_figure()
    kernel_gradient = np.array([[0.0, 2.0], [0.0, -4.0], [0.0, 0.0], [0.0, 1.0]])
    assert draw_units(figure, kernel_gradient) == (
        "Weight gradients of 2 units, up to 4 in size; 1 units are silent."
    )
    assert texts(figure.axes[0])[:2] == ["0", "1"]

    figure.clear()
    recovery = Recovery(np.eye(2, 4), np.array([12.0, 150.0]), np.array([False, True]))
    assert draw_recovery(figure, np.eye(2, 4), recovery) == (
        "Exact recoveries: 1 of 2. Median PSNR 81 dB."
    )

    figure.clear()
    shares = {"some units": {1: np.array([1.0, 1.0]), 2: np.array([1.0, 0.5])}}
    assert draw_exact_shares(figure, shares) == (
        "Share recovered exactly from batches of [1, 2]:\n1.00, 0.75 (some units)"
    )
    [container] = figure.axes[0].containers
    assert container.lines[0].get_color() == RED
    low, high = container.lines[2][0].get_segments()[1][:, 1]
    assert (high - low) / 4 == pytest.approx(0.25 / np.sqrt(2))

    figure.clear()
    closeness = {"a": np.array([[30.0, 32.0], [9.0, 7.0]]), "b": np.array([[30.0], [29.0]])}
    assert draw_noise(figure, (0.01, 0.1), closeness, blind=11.0) == (
        "a: below the mean digit from noise 0.1; b: above the mean digit throughout."
    )


def said(capsys, check, mine) -> str:
    check(mine)
    return capsys.readouterr().out.strip().splitlines()[-1]


def test_checks_accept_the_package_and_wait_for_an_attempt(capsys):
    for check in (check_single_image, check_blur, check_count):
        assert said(capsys, check, lambda *case: ...) == "· not attempted yet"
        assert said(capsys, check, lambda *case: case[9]).startswith("✗")

    def of_vector(invert):
        return lambda kernel, bias: invert(*flatten([kernel, bias]))

    loudest = of_vector(invert_dense_gradient)
    right = said(capsys, check_single_image, lambda k, b: k @ b / (b @ b))
    assert right.startswith("✓ one guess from all units")
    wrong = said(capsys, check_single_image, lambda k, b: loudest(k, b)[np.abs(b).argmax()])
    assert "the loudest unit alone" in wrong
    assert said(capsys, check_blur, lambda x, b: b @ x / b.sum()).startswith("✓ my_blur agrees")


def test_check_of_one_image_takes_any_answer_that_is_as_good(capsys):
    def ridge(kernel, bias):  # shrinks a little: not the formula, nearly the same image
        return kernel @ bias / (bias @ bias * 1.0001)

    def integer_powers(kernel, bias):  # louder still for the loud
        return kernel @ bias**3 / (bias @ bias**3)

    assert said(capsys, check_single_image, ridge).startswith("✓")
    assert said(capsys, check_single_image, integer_powers).startswith("✗ there is more")


def test_checks_call_a_named_function_by_its_name(capsys):
    def my_own_count(guesses, originals):
        return -1

    assert said(capsys, check_count, my_own_count).startswith("✗ my_own_count differs in case 1")
