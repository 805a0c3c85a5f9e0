"""Notebook 08: its claims over several seeds, its explorer at every end, its drawings."""

import math

import numpy as np
import pytest
from matplotlib.figure import Figure

from fltutor.errors import AuthenticationError, InvalidParameterError
from fltutor.fixed_point import DEFAULT_GRID
from fltutor.lessons.pictures import draw_guesses
from fltutor.lessons.secure_aggregation.checks import highest_threshold
from fltutor.lessons.secure_aggregation.explorer import masked_round_explorer
from fltutor.lessons.secure_aggregation.plots import draw_masked_round, draw_sum_leak, draw_uploads
from fltutor.lessons.secure_aggregation.runs import (
    MASK_BITS,
    exact_from_sums,
    masked_round,
    masks_of,
    two_lists,
)
from fltutor.lessons.single_digits import attack_uploads, one_digit_each, uploads
from fltutor.protocols import plain_sum, secagg_sum
from fltutor.protocols.masking import Session
from fltutor.transcript import Phase

# --- the claims ----------------------------------------------------------------------------------


def test_the_sum_of_two_gives_both_images_back_and_an_upload_none():
    """At least 38 of 40 images in 20 draws; all of them, in every draw tried."""
    from_sums, from_uploads = exact_from_sums(2, seeds=20)
    assert from_sums.mean() >= 0.95
    assert from_uploads.max() == 0


def test_the_sum_of_ten_still_gives_some_and_the_more_clients_the_fewer():
    shares = {n: exact_from_sums(n, seeds=10)[0] for n in (1, 3, 10, 20)}
    means = [share.mean() for share in shares.values()]
    assert means[0] == 1
    assert means == sorted(means, reverse=True)
    error = shares[10].std() / math.sqrt(10)
    assert means[2] - 3 * error > 0.05  # three standard errors above what the notebook asserts


def test_the_sum_is_inverted_as_well_as_the_plain_sum():
    """Masks cost the attack on the sum nothing: the same images come back from both."""
    cohort, everybody = one_digit_each(5), tuple(range(5))
    masked = cohort.attack(secagg_sum(cohort.updates, threshold=3).total, everybody)
    plain = cohort.attack(plain_sum(cohort.updates).total, everybody)
    np.testing.assert_array_equal(masked.exact, plain.exact)


def test_a_bare_update_gives_its_image_to_machine_precision():
    cohort = one_digit_each(10)
    for client in range(10):
        recovery = cohort.attack(cohort.updates[client], (client,))
        assert recovery.exact.all()
        assert recovery.psnr[0] > 120


# --- one round -----------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", Phase)
def test_who_leaves_before_the_upload_is_neither_seen_nor_summed(phase):
    done = masked_round(clients=6, threshold=4, leaving=2, phase=phase)
    present = range(6) if phase > Phase.UPLOAD else range(4)
    assert list(done.uploaded) == list(present)
    assert done.from_total.exact.shape == (len(present),)
    assert done.error <= 6 * DEFAULT_GRID.resolution / 2
    assert done.knowledge.knows("server", "sum")
    assert not done.knowledge.foreign.any()
    assert not done.from_uploads.exact.any()


@pytest.mark.parametrize("phase", Phase)
def test_too_few_leave_no_sum_and_no_knowledge(phase):
    done = masked_round(clients=6, threshold=4, leaving=3, phase=phase)
    if phase == Phase.CONSISTENCY:  # without that round they leave before unmasking
        phase = Phase.UNMASKING
    assert done.total is None
    assert done.from_total is None
    assert f"stopped in phase {phase.name}" in done.abort
    assert not done.knowledge.matrix[0].any()


def test_short_masks_show_the_images_and_the_sum_never_notices():
    rounds = {bits: masked_round(mask_bits=bits) for bits in MASK_BITS}
    for done in rounds.values():
        np.testing.assert_array_equal(done.total, rounds[64].total)
    closeness = {bits: done.from_uploads.psnr.mean() for bits, done in rounds.items()}
    assert rounds[0].from_uploads.exact.all()
    noise = max(closeness[bits] for bits in MASK_BITS if bits >= 20)
    assert closeness[0] > closeness[16] + 50 > closeness[18] + 55
    assert closeness[18] > noise + 2


def test_masks_of_few_bits_are_of_so_many_bits():
    for bits in (16, 20, 32):
        masked = np.zeros(5000, np.uint64)
        masks_of(bits)(masked, bytes(32))
        assert 2 ** (bits - 1) < masked.max() < 2**bits
        masks_of(bits)(masked, bytes(32), subtract=True)
        assert not masked.any()


@pytest.mark.parametrize("colluding", range(7))
def test_colluders_learn_the_others_from_the_threshold_on(colluding):
    done = masked_round(clients=6, threshold=4, colluding=colluding)
    others_known = done.knowledge.foreign[-1].sum()
    last_one = 1 if colluding == 5 else 0  # the sum minus five rows is the sixth
    assert others_known == (max(6 - colluding, last_one) if colluding >= 4 else 0)


def test_a_threshold_of_half_is_refused():
    with pytest.raises(InvalidParameterError, match="above half of 6 clients"):
        masked_round(clients=6, threshold=3)


def test_attacking_uploads_of_a_run_without_any_finds_none():
    done = masked_round(leaving=6, phase=Phase.KEYS)
    assert done.uploaded == {}
    assert done.from_uploads.images.shape == (0, 64)


def test_each_upload_is_attacked_for_its_own_client():
    cohort = one_digit_each(4)
    run = secagg_sum(
        cohort.updates, {1: Phase.UPLOAD}, threshold=3, add_mask=masks_of(0), keep_payloads=True
    )
    assert list(uploads(run.transcript)) == [0, 2, 3]
    assert attack_uploads(cohort, run.transcript).exact.all()


# --- two lists of survivors ----------------------------------------------------------------------

SIZES = [(4, 3, 2), (5, 4, 3), (7, 5, 3), (10, 7, 4), (16, 11, 6), (31, 21, 11), (9, 8, 7)]


@pytest.mark.parametrize(("clients", "threshold", "colluding"), SIZES, ids=str)
def test_a_lying_server_unmasks_a_row_with_as_many_colluders_as_two_groups_share(
    clients, threshold, colluding
):
    assert colluding == 2 * threshold - clients
    session = Session(clients, threshold, active_server=True)
    assert session.most_colluding == colluding - 1
    rows = np.random.default_rng(clients).normal(size=(clients, 6))
    on_the_grid = DEFAULT_GRID.decode(DEFAULT_GRID.encode(rows[0]).values)
    np.testing.assert_array_equal(two_lists(rows, threshold, colluding), on_the_grid)
    if colluding + 1 < threshold:  # and with more
        np.testing.assert_array_equal(two_lists(rows, threshold, colluding + 1), on_the_grid)


@pytest.mark.parametrize(("clients", "threshold", "colluding"), SIZES, ids=str)
def test_with_one_colluder_fewer_the_clients_reveal_nothing(clients, threshold, colluding):
    rows = np.ones((clients, 6))
    for fewer in {colluding - 1, colluding // 2, 0}:
        with pytest.raises(AuthenticationError, match=f"needed {threshold}"):
            two_lists(rows, threshold, fewer)


@pytest.mark.parametrize(("threshold", "colluding"), [(5, 3), (3, 2), (4, 4), (4, -1), (4, True)])
def test_an_attack_that_makes_no_sense_is_refused(threshold, colluding):
    with pytest.raises(InvalidParameterError, match=r"threshold|num_colluding"):
        two_lists(np.ones((5, 2)), threshold, colluding)


# --- the explorer and the drawings ---------------------------------------------------------------


def test_every_slider_moves_to_its_ends_and_says_what_it_shows():
    view = masked_round_explorer()
    assert "6 clients, threshold 4, nobody leaves, masks of 64 bits" in view.message
    for name, control in view.controls.items():
        before = control.value
        if hasattr(control, "options"):
            ends = [control.options[0][1], control.options[-1][1]]
        else:
            ends = [control.min, control.max]
        for end in ends:
            control.value = end
            known = "uploads" in view.message or "threshold must be" in view.message
            assert known, f"{name} at {end}: {view.message}"
        control.value = before
    view.controls["threshold"].value = 3
    assert "threshold must be above half of 6 clients" in view.message


@pytest.mark.parametrize(
    "settings",
    [
        {},
        dict(leaving=3),
        dict(leaving=6, phase=Phase.KEYS),
        dict(mask_bits=16, colluding=4),
        dict(clients=2, threshold=2),
        dict(clients=10, threshold=6, leaving=2, phase=Phase.UNMASKING),
    ],
    ids=str,
)
def test_every_outcome_is_drawn_with_its_numbers(settings):
    done = masked_round(**settings)
    sentence = draw_masked_round(Figure(), done)
    assert sentence.startswith(done.settings)
    assert f"Of {len(done.uploaded)} uploads" in sentence
    if done.abort:
        assert done.abort in sentence
    else:
        assert f"{done.from_total.exact.sum()} of {len(done.uploaded)} images" in sentence


@pytest.mark.parametrize("mask_bits", MASK_BITS)
def test_the_sentence_says_what_the_picture_says_of_weak_masks(mask_bits):
    done, figure = masked_round(mask_bits=mask_bits), Figure()
    sentence = draw_masked_round(figure, done)
    title = figure.axes[-1].get_title(loc="left")
    weak = mask_bits < DEFAULT_GRID.ring_bits
    assert ("if masks were perfect" in title) == weak
    assert ("If masks were perfect, rows of others known" in sentence) == weak
    assert ("Rows of others known" in sentence) == (not weak)


def test_uploads_are_drawn_with_what_tells_noise_from_data():
    cohort = one_digit_each(6)
    run = secagg_sum(cohort.updates, threshold=4, keep_payloads=True)
    noise = np.stack(list(uploads(run.transcript).values()))
    sentence = draw_uploads(Figure(), cohort.updates, noise, run.total)
    # 720 uniform numbers: standard error 0.011; five of them are 0.054.
    assert abs(float(sentence.split("the mean is ")[1][:4]) - 0.5) < 0.06
    assert "differ by at most" in sentence


def test_lines_of_guesses_and_leaks_are_drawn_with_their_counts():
    cohort = one_digit_each(3)
    recovery = cohort.attack(plain_sum(cohort.updates).total, (0, 1, 2))
    lines = {"has": (cohort.images, None), "sum": (recovery.images, recovery)}
    count = int(recovery.exact.sum())
    assert draw_guesses(Figure(), lines) == f"Exact recoveries: sum {count} of 3."
    shares = {1: (np.ones(2), np.zeros(2)), 2: (np.array([0.5, 1.0]), np.zeros(2))}
    sentence = draw_sum_leak(Figure(), shares)
    assert "the sum: 1: 1.00, 2: 0.75" in sentence
    assert "one masked upload: 2: 0.00" in sentence


# --- exercise 8.2 --------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_clients", "leave"), [(20, 0.1), (100, 0.1), (30, 0.25)])
def test_the_threshold_of_exercise_2_keeps_its_promise_and_one_more_would_not(num_clients, leave):
    """200,000 simulated rounds; the standard error of one in a thousand is 7e-5."""
    threshold = highest_threshold(num_clients, leave)
    staying = np.random.default_rng(2).binomial(num_clients, 1 - leave, size=200_000)
    assert np.mean(staying < threshold) <= 0.001 + 5 * 7e-5
    assert np.mean(staying < threshold + 1) > 0.001
