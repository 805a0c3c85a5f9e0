"""Notebook 12: what it claims, computes, draws and checks."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from fltutor.attacks import BUGS, Attacked, CoinModels, lira_scores
from fltutor.lessons.auditing_privacy.checks import check_bugs, check_leak, check_offline
from fltutor.lessons.auditing_privacy.explorer import audit_explorer
from fltutor.lessons.auditing_privacy.plots import (
    draw_audit,
    draw_bounds,
    draw_examples,
    draw_roc,
    draw_worlds,
)
from fltutor.lessons.auditing_privacy.runs import (
    CANARY_NORM,
    CLIP_NORM,
    EPOCHS,
    EXAMPLES,
    GUESSES,
    NUM_CANARIES,
    SMALL_DIMENSION,
    SMALL_NOISE,
    SMALL_ROUNDS,
    TRIALS,
    audit_view,
    audited_training,
    claim,
    small_runs,
    small_start,
    small_world,
    suspects,
    train_halves,
)
from fltutor.plotting import RED, new_figure
from fltutor.privacy.auditing import two_world_audit, two_world_scores


def last(epochs=20, examples=100, target=0, bug="forgets to clip", trials=300):
    return [*audit_view(epochs, examples, target, bug, trials)][-1]


# The mechanisms


def test_the_training_and_the_small_mechanism_make_the_same_claim():
    assert claim().epsilon == pytest.approx(claim(SMALL_ROUNDS, SMALL_NOISE).epsilon, abs=1e-3)
    assert str(claim()).endswith("(client, add-or-remove-one, no sampling, PLD)")


def test_more_trials_keep_the_first_ones_and_other_seeds_take_others():
    for few, many in zip(small_runs("no bug", 150), small_runs("no bug", 250), strict=True):
        assert (few.shape, many.shape) == ((150,), (250,))
        np.testing.assert_array_equal(few, many[:150])
    other, _ = small_runs("no bug", 150, seed=1)
    assert not np.isin(other, small_runs("no bug", 250)[0]).any()


def test_scores_of_the_small_mechanism_are_what_its_noise_predicts():
    """Both worlds are normal, sqrt(2) * 2 / 5 wide and 2 * 1 / 5 apart."""
    without, with_canary = small_runs("no bug", 2000)
    width = np.sqrt(SMALL_ROUNDS) * SMALL_NOISE / 5
    for scores, centre in ((without, 0.0), (with_canary, SMALL_ROUNDS * CLIP_NORM / 5)):
        assert abs(scores.mean() - centre) < 5 * width / np.sqrt(2000)
        assert abs(scores.std() / width - 1) < 5 / np.sqrt(2 * 2000)


def test_suspects_are_one_of_each_bug():
    seen = {}
    for name, start in suspects().items():
        without, with_canary = two_world_scores(start, *small_world(), runs=200)
        seen[name] = (round(2 * without.std() / 0.57) / 2, with_canary.mean() - without.mean() > 2)
    assert sorted(seen.values()) == [(0, False), (0.5, False), (1, False), (1, True)]


# The real training


@pytest.mark.parametrize(
    ("bug", "caught"), [("forgets to clip", True), ("reuses the noise", True), ("no bug", False)]
)
def test_one_real_training_shows_a_forgotten_clip_and_reused_noise(bug, caught):
    """Measured: eight of eight runs each, and none of eight without a bug."""
    runs = [audited_training(bug, seed) for seed in range(10, 14)]
    assert all(run.audit.refutes(claim()) == caught for run in runs)
    for run in runs:
        assert (
            run.history.accuracy[-1] > 0.6
        )  # they really train, under a noise that means something
        assert run.scores.shape == run.canaries.included.shape == (NUM_CANARIES,)
        assert run.audit.guesses == GUESSES
        assert run.audit.experiment == "one run, 128 canaries"


def test_one_real_training_does_not_show_halved_noise():
    runs = [audited_training("halves the noise", seed) for seed in range(10, 14)]
    assert not any(run.audit.refutes(claim()) for run in runs)
    assert CANARY_NORM > CLIP_NORM  # or nobody would see whether there is a clip


def test_the_same_seed_gives_the_same_training_and_another_one_another():
    first, again, other = (audited_training("no bug", seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.canaries.included, again.canaries.included)
    np.testing.assert_allclose(first.scores, again.scores, rtol=1e-4, atol=1e-6)
    assert not np.allclose(first.scores, other.scores)


# The explorer


def test_explorer_yields_a_first_answer_and_ends_with_all_models_and_trials():
    views = [*audit_view(2, 100, 3, "no bug", 1000)]
    assert views[0].attacked.models == 31
    assert views[0].runs == (100,)
    final = views[-1]
    assert (final.attacked.models, final.runs) == (63, (100, 300, 1000))
    for size, bound in zip(final.runs, final.bounds, strict=True):
        audit = two_world_audit(*small_runs("no bug", size), delta=1e-3)
        assert bound == audit.epsilon
    assert final.audit.epsilon == final.bounds[-1]


def test_target_slider_attacks_that_model():
    trained = train_halves(100, 20, 64)
    for target in (0, 7):
        rest = np.arange(64) != target
        expected = lira_scores(
            trained.confidences[target], trained.confidences[rest], trained.members[rest]
        )
        got = last(target=target).attacked
        np.testing.assert_array_equal(got.members[0], trained.members[target])
        np.testing.assert_allclose(got.scores["LiRA"][0], expected, rtol=1e-3, atol=1e-3)
    assert isinstance(trained, CoinModels)


def test_explorer_runs_at_the_ends_of_every_slider():
    view = audit_explorer()
    assert "400 examples, 20 epochs, target 0" in view.message
    for name, *ends in (
        ("examples", EXAMPLES[0], EXAMPLES[-1]),
        ("epochs", EPOCHS[0], EPOCHS[-1]),
        ("target", 15, 0),
        ("bug", *BUGS),
        ("trials", TRIALS[0], 2000),
    ):
        for end in ends:
            if view.controls[name].value == end:
                continue
            before = view.message
            view.controls[name].value = end
            assert view.message != before
            assert "epsilon = 2.05 at delta = 1e-3 (client" in view.message
            assert "LiRA finds" in view.message


# The drawings


def texts(figure):
    return [ax.get_title(loc="left") for ax in figure.axes]


def test_drawing_of_an_audit_says_what_it_shows():
    view, figure = last(target=4, trials=300), Figure(figsize=(11, 6), dpi=80)
    sentence = draw_audit(figure, view)
    for part in (
        "100 examples, 20 epochs, target 4, 63 shadow models.",
        f"LiRA finds {view.attacked.found('LiRA'):.3f}",
        "Mechanism: forgets to clip, 300 trials.",
        f"Audited {view.audit.epsilon:.2f}, claimed 2.05: refuted.",
        f"Claim: {view.claim}; confidence 95%.",
    ):
        assert part in sentence
    scores, roc, worlds, bounds = texts(figure)
    assert scores == "Target 4: what LiRA says of 100 examples"
    best = max(view.attacked.scores, key=view.attacked.found)
    assert roc.startswith(f"1% accused falsely: {best} finds")
    assert worlds.startswith("Forgets to clip, 300 runs each:")
    assert bounds == f"Audited {view.audit.epsilon:.2f}, claimed 2.05: refuted"
    line = figure.axes[3].lines[0]
    np.testing.assert_array_equal(line.get_xdata(), view.runs)
    np.testing.assert_array_equal(line.get_ydata(), view.bounds)
    first, *_ = audit_view(20, 100, 4, "forgets to clip", 300)
    assert "(100 runs done)" in draw_audit(Figure(figsize=(11, 6)), first)


def test_drawing_of_curves_names_the_better_attack():
    members = np.array([[True, True, False, False]])
    good, bad = np.array([[4.0, 3.0, 2.0, 1.0]]), np.array([[1.0, 2.0, 3.0, 4.0]])
    figure = new_figure()
    sentence = draw_roc(figure, Attacked(members, {"loss threshold": bad, "LiRA": good}, 9))
    assert sentence == (
        "Of the members, with 1% of the others accused: loss threshold finds 0.000, "
        "LiRA finds 1.000."
    )
    assert texts(figure) == ["1% accused falsely: LiRA finds 100% of the members"]
    styles = {line.get_label(): line.get_linestyle() for line in figure.axes[0].lines}
    assert styles["LiRA"] != styles["loss threshold"]


def test_drawing_of_bounds_fills_the_dots_above_the_claim():
    figure = new_figure()
    sentence = draw_bounds(figure, {"a": [1.0, 3.0], "b": np.array([0.5, 1.0])}, claim())
    assert sentence == "Claims refuted: a 1 of 2, b 0 of 2."
    filled = [line for line in figure.axes[0].lines if line.get_color() == RED]
    assert [list(line.get_xdata()) for line in filled] == [[3.0], []]


def test_drawings_of_histograms_say_the_means_they_show():
    figure = new_figure()
    shadow = np.array([[1.0, 5.0], [3.0, 5.0], [7.0, 5.0], [9.0, 5.0]])
    members = np.array([[False, False], [False, True], [True, False], [True, True]])
    assert draw_examples(figure, shadow, members, [8.0, 5.0], ["One", "Two"]) == (
        "One: models without it 2.0 on average, with it 8.0, the target 8.0.\n"
        "Two: models without it 5.0 on average, with it 5.0, the target 5.0."
    )
    figure.clear()
    scores = small_runs("reuses the noise", 100)
    audit = two_world_audit(*scores, delta=1e-3)
    sentence = draw_worlds(figure, *scores, audit, claim())
    assert sentence == f"Claimed: {claim()}\nAudited: {audit}"
    assert texts(figure) == ["100 runs each: as far apart as can be"]


# The checks


def said(capsys, check, mine) -> str:
    check(mine)
    return capsys.readouterr().out.strip().splitlines()[-1]


def test_checks_wait_for_an_attempt_and_stop_at_nothing(capsys):
    for check in (check_offline, check_leak):
        assert said(capsys, check, lambda *case: ...) == "· not attempted yet"
        assert said(capsys, check, lambda *case: None) == "· not attempted yet"
        assert said(capsys, check, lambda *case: case[9]).startswith("✗")
        assert said(capsys, check, 7).startswith("✗")
        assert said(capsys, check, lambda *case: "text").startswith("✗")
    assert said(capsys, check_bugs, dict.fromkeys("ABCD", ...)) == "· not attempted yet"
    assert said(capsys, check_bugs, {}) == "· not attempted yet"
    assert said(capsys, check_bugs, "A").startswith("✗")


def test_check_of_the_offline_attack_takes_either_standard_deviation(capsys):
    def by_example(ddof):
        def attack(target, shadow, members):
            pairs = zip(target, shadow.T, members.T, strict=True)
            return np.array([(t - s[~m].mean()) / s[~m].std(ddof=ddof) for t, s, m in pairs])

        return attack

    for ddof in (0, 1):
        done = said(capsys, check_offline, by_example(ddof))
        assert done == "✓ attack agrees with offline_lira on 4 cases"
    assert said(capsys, check_offline, lira_scores).startswith("✗ lira_scores differs")


def test_check_of_the_leak_runs_both_audits(capsys):
    rng = np.random.default_rng(0)
    honest = small_start("no bug", rng)()

    def leaks(coordinate):
        def mechanism(updates):
            published = honest(updates)
            published[coordinate] = updates[:, coordinate].mean()
            return published

        return mechanism

    assert said(capsys, check_leak, leaks(-1)).startswith("✓")
    assert said(capsys, check_leak, leaks(3)).startswith("✗ nothing shows in the last coordinate")
    assert said(capsys, check_leak, leaks(0)).startswith("✗ the first auditor refutes")
    short = said(capsys, check_leak, lambda updates: updates[0, :3])
    assert short == f"✗ my_leak gives shape (3,), needed ({SMALL_DIMENSION},)"
