"""Attacks: what an update gives back, how exactly, and what takes it away."""

import numpy as np
import pytest

from fltutor.attacks import (
    HALF_GREY_LEVEL,
    MAX_PSNR,
    gradient_from_update,
    infer_label_counts,
    inversion_attack,
    invert_by_optimisation,
    invert_dense_gradient,
    invert_single_image,
    psnr,
    score,
)
from fltutor.attacks.inversion import _compiled_search
from fltutor.clients import cohort_gradients, local_batches, train_client, train_cohort
from fltutor.data import load_digits
from fltutor.errors import InvalidParameterError, InvalidUpdateError, UnsupportedModelError
from fltutor.fixed_point import FixedPoint
from fltutor.models import architecture, cnn, get_params, mlp, params_spec
from fltutor.protocols.masking import secagg_sum
from fltutor.tensorflow_quietly import keras, tf
from fltutor.vectors import VectorSpec, flatten, unflatten

DIGITS = load_digits()
MODEL = mlp()
SPEC = params_spec(MODEL)
BLIND = DIGITS.x.mean(axis=0)  # a guess that needs no update


def batches_of(num_images, seed, count=16):
    """Weights drawn anew, batches of digits, and the gradient of each."""
    rng = np.random.default_rng([41, seed])
    params = get_params(mlp(seed=100 + seed))
    parts = [rng.choice(len(DIGITS.y), num_images, replace=False) for _ in range(count)]
    return params, parts, cohort_gradients(MODEL, params, DIGITS.x, DIGITS.y, parts)


def own_units(params, images):
    """Which images light some hidden unit that no other image lights."""
    kernel, bias = unflatten(params, SPEC)[:2]
    lit = images @ kernel + bias > 0
    return lit[:, lit.sum(axis=0) == 1].any(axis=1)


def float_gradient(params, x, y, dtype):
    """Gradient for one image, by a tape in the precision asked for."""
    weights = [tf.constant(w, dtype) for w in unflatten(params, SPEC)]
    with tf.GradientTape() as tape:
        tape.watch(weights)
        hidden = tf.nn.relu(tf.constant(x[None], dtype) @ weights[0] + weights[1])
        logits = hidden @ weights[2] + weights[3]
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits([y], logits)
    return flatten([g.numpy() for g in tape.gradient(loss, weights)])[0]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", range(5))
def test_every_unit_that_speaks_gives_one_image_back_to_the_rounding_of_its_precision(dtype, seed):
    digit = np.random.default_rng(seed).integers(len(DIGITS.y))
    image = (0.9 * DIGITS.x[digit]).astype(dtype)  # pixels that are no round numbers
    params = get_params(mlp(seed=seed))
    guesses = invert_dense_gradient(float_gradient(params, image, DIGITS.y[digit], dtype), SPEC)

    assert guesses.dtype == dtype
    assert len(guesses) == (image @ unflatten(params, SPEC)[0] > 0).sum() > 5
    eps = np.finfo(dtype).eps  # one rounding in the product, one in the quotient: half eps each
    assert (np.abs(guesses - image) <= eps * image).all()


@pytest.mark.parametrize("seed", range(5))
def test_gradient_of_a_client_with_one_image_gives_it_back(seed):
    _, parts, gradients = batches_of(1, seed)
    for part, gradient in zip(parts, gradients, strict=True):
        guesses = invert_dense_gradient(gradient, SPEC)
        assert np.abs(guesses - DIGITS.x[part]).max() <= 2 * np.finfo(np.float32).eps
        recovery = inversion_attack(gradient, SPEC, DIGITS.x[part])
        assert recovery.exact.all()
        assert recovery.psnr[0] > 130


@pytest.mark.parametrize("local_epochs", [1, 20])
def test_update_of_a_client_with_one_image_gives_it_back_however_often_it_trained(local_epochs):
    learning_rate = 0.1
    for seed in range(5):
        params, parts, _ = batches_of(1, seed, count=8)
        rng = np.random.default_rng(seed)
        batches = local_batches(parts, batch_size=1, local_epochs=local_epochs, rng=rng)
        updates = train_cohort(MODEL, params, DIGITS.x, DIGITS.y, batches, learning_rate)
        for part, update in zip(parts, updates, strict=True):
            [image] = DIGITS.x[part]
            kernel, bias = unflatten(update, SPEC)[:2]
            loudest = np.abs(bias).argmax()
            # each step rounds a weight of size up to 1 to float32
            rounding = local_epochs * np.finfo(np.float32).eps
            error = np.abs(kernel[:, loudest] / bias[loudest] - image)
            assert (error <= 2 * rounding / np.abs(bias[loudest])).all()
            assert inversion_attack(update, SPEC, image[None]).exact.all()


@pytest.mark.parametrize("num_images", [2, 5, 10, 20, 50])
def test_an_image_of_a_batch_comes_back_if_and_almost_only_if_a_unit_is_its_own(num_images):
    exact, alone = [], []
    for seed in range(5):
        params, parts, gradients = batches_of(num_images, seed)
        for part, gradient in zip(parts, gradients, strict=True):
            exact.append(inversion_attack(gradient, SPEC, DIGITS.x[part]).exact)
            alone.append(own_units(params, DIGITS.x[part]))
    exact, alone = np.array(exact), np.array(alone)
    # A gradient can vanish on an image without its unit being dark, if the model is sure of it.
    assert exact[alone].mean() > 0.995
    assert exact[~alone].mean() < 0.05 + 0.2 * (num_images < 5)
    assert 0 < exact.mean() < 1 or num_images == 2


@pytest.mark.parametrize(
    ("num_images", "measured"), [(1, 1.0), (2, 0.99), (5, 0.63), (10, 0.28), (20, 0.09), (50, 0.02)]
)
def test_share_of_exact_recoveries_by_batch_size(num_images, measured):
    shares = [
        inversion_attack(gradient, SPEC, DIGITS.x[part]).exact_share
        for seed in range(5)
        for _, parts, gradients in [batches_of(num_images, seed)]
        for part, gradient in zip(parts, gradients, strict=True)
    ]
    standard_error = np.std(shares) / np.sqrt(len(shares))
    rounding = 0.01  # of the figures above, and their own standard error of 0.02 at most
    assert abs(np.mean(shares) - measured) < 4 * np.hypot(standard_error, 0.02) + rounding


def test_sum_of_two_clients_gives_both_images_back():
    shares = []
    for seed in range(5):
        _, parts, gradients = batches_of(1, seed)
        for first in range(0, 16, 2):
            total = gradients[first] + gradients[first + 1]
            originals = DIGITS.x[np.concatenate(parts[first : first + 2])]
            shares.append(inversion_attack(total, SPEC, originals).exact_share)
    assert np.mean(shares) > 0.9


def test_noise_takes_recovery_away_and_all_units_together_resist_it_best():
    noises = (0, 1e-4, 1e-3, 1e-2, 0.1, 1)
    closeness = {noise: [] for noise in noises}
    advantage = []
    for seed in range(5):
        _, parts, gradients = batches_of(1, seed, count=8)
        rng = np.random.default_rng(seed)
        for part, gradient in zip(parts, gradients, strict=True):
            draw = np.linalg.norm(gradient) * rng.standard_normal(len(gradient))
            for noise in noises:
                recovery = inversion_attack(gradient + noise * draw, SPEC, DIGITS.x[part])
                closeness[noise].append(recovery.psnr[0])
            together = invert_single_image(gradient + 1e-3 * draw, SPEC)
            alone = invert_dense_gradient(gradient + 1e-3 * draw, SPEC)
            best = psnr(DIGITS.x[part], alone).max()  # picked by someone who knows the image
            advantage.append(psnr(DIGITS.x[part][0], together) - best)
    means = [np.mean(closeness[noise]) for noise in noises]
    assert (np.diff(means) < 0).all()
    blind = psnr(DIGITS.x, BLIND).mean()
    assert means[noises.index(1e-2)] > blind + 5  # one percent of noise: still readable
    assert means[noises.index(0.1)] < blind  # ten percent: worse than not looking
    assert np.mean(advantage) > 3 * np.std(advantage) / np.sqrt(len(advantage))
    assert np.mean(advantage) > 3


def test_masked_upload_gives_nothing_and_the_same_upload_without_its_mask_everything():
    _, parts, gradients = batches_of(1, 0, count=4)
    grid = FixedPoint()
    result = secagg_sum(gradients, threshold=3, grid=grid, keep_payloads=True)
    uploads = [m.payload for m in result.transcript if hasattr(m.payload, "values")]
    assert len(uploads) == 4
    for part, gradient, upload in zip(parts, gradients, uploads, strict=True):
        bare = inversion_attack(grid.encode(gradient).values, SPEC, DIGITS.x[part])
        assert bare.exact.all()
        masked = inversion_attack(upload.values, SPEC, DIGITS.x[part])
        assert not masked.exact.any()
        assert masked.psnr[0] < psnr(DIGITS.x[part], BLIND)[0]


def test_vectors_that_say_nothing_give_a_blank_guess_and_never_nan():
    originals = DIGITS.x[:2]
    nothing = inversion_attack(np.zeros(SPEC.size), SPEC, originals)
    assert not nothing.images.any()
    assert not nothing.exact.any()
    assert invert_dense_gradient(np.zeros(SPEC.size), SPEC).shape == (0, 64)

    rng = np.random.default_rng(0)
    for vector in (
        rng.standard_normal(SPEC.size) * 1e300,
        rng.standard_normal(SPEC.size) * 1e-310,
        (rng.standard_normal(SPEC.size) * 1e37).astype(np.float32),
        rng.standard_normal(SPEC.size).astype(np.float16),
        rng.integers(0, 2**64, SPEC.size, dtype=np.uint64),
        np.where(np.arange(SPEC.size) < 64 * 32, 1e308, 1e-308),
    ):
        recovery = inversion_attack(vector, SPEC, originals)
        assert np.isfinite(recovery.psnr).all()
        assert ((recovery.images >= 0) & (recovery.images <= 1)).all()


def test_inversion_refuses_what_it_cannot_read():
    image = DIGITS.x[:1]
    with pytest.raises(
        InvalidUpdateError, match=r"shape \(2410,\), as the model has, got \(2411,\)"
    ):
        inversion_attack(np.zeros(2411), SPEC, image)
    with pytest.raises(InvalidUpdateError, match="the vector must be finite, got NaN at 0"):
        inversion_attack(np.full(2410, np.nan), SPEC, image)
    with pytest.raises(InvalidUpdateError, match="got dtype complex128"):
        inversion_attack(np.zeros(2410, complex), SPEC, image)
    with pytest.raises(UnsupportedModelError, match="hand over features, not pixels"):
        inversion_attack(np.zeros(cnn().count_params()), params_spec(cnn()), image)
    with pytest.raises(UnsupportedModelError, match=r"dense layer 2 was asked for, and .* has 2"):
        invert_dense_gradient(np.zeros(2410), SPEC, dense=2)
    with pytest.raises(UnsupportedModelError, match="has 0 with a bias"):
        invert_dense_gradient(np.zeros(6), VectorSpec(((3, 2),)))
    with pytest.raises(InvalidParameterError, match=r"got \(1, 3\) and \(1, 64\)"):
        score(np.zeros((1, 3)), image)
    with pytest.raises(InvalidParameterError, match=r"got \(0, 64\)"):
        score(np.zeros((0, 64)), image)
    with pytest.raises(InvalidParameterError, match="tolerance must be positive"):
        score(image, image, tolerance=0)
    with pytest.raises(InvalidParameterError, match="learning_rate must be positive"):
        gradient_from_update(np.zeros(3), 0.0)


def test_a_convolutional_model_hands_over_the_features_before_its_dense_layer():
    model = cnn(seed=3)
    [gradient] = [train_client(model, get_params(model), DIGITS.x, DIGITS.y, np.array([[5]]), 1.0)]
    features = keras.Sequential(model.layers[:-1])(DIGITS.x[5:6]).numpy()
    guesses = invert_dense_gradient(gradient, params_spec(model))
    closest = np.abs(guesses - features).max(axis=1).min()
    assert closest < 1e-5
    np.testing.assert_array_equal(
        guesses, invert_dense_gradient(gradient, params_spec(model), dense=-1)
    )


def test_score_takes_the_closest_guess_and_wants_every_pixel():
    original = np.full((1, 64), 0.5)
    one_wrong = original.copy()
    one_wrong[0, 7] += 1.01 * HALF_GREY_LEVEL
    all_slightly_off = original + 0.99 * HALF_GREY_LEVEL
    assert not score(one_wrong, original).exact[0]
    assert score(all_slightly_off, original).exact[0]
    both = score(np.vstack([all_slightly_off, one_wrong]), original)
    np.testing.assert_array_equal(both.images, one_wrong)  # closer on the whole
    assert both.exact[0]
    assert both.exact_share == 1.0
    assert psnr(original, original)[0] == MAX_PSNR
    assert psnr(original, original + 0.1)[0] == pytest.approx(20)


@pytest.fixture(scope="module")
def trained_params():
    start, everyone = get_params(MODEL), [np.arange(len(DIGITS.y))]
    rng = np.random.default_rng(0)
    batches = local_batches(everyone, batch_size=10, local_epochs=3, rng=rng)
    return start + train_cohort(MODEL, start, DIGITS.x, DIGITS.y, batches, 0.1)[0]


@pytest.mark.parametrize("trained", [False, True])
def test_label_of_one_example_is_always_read_off(trained, trained_params):
    params = trained_params if trained else get_params(MODEL)
    parts = [[example] for example in range(0, 1442, 10)]
    gradients = cohort_gradients(MODEL, params, DIGITS.x, DIGITS.y, parts)
    odd_guess = np.eye(10)[0]  # whatever the attacker believes of the mean output
    for [example], gradient in zip(parts, gradients, strict=True):
        for probabilities in (None, odd_guess):
            counts = infer_label_counts(gradient, SPEC, probabilities=probabilities)
            np.testing.assert_array_equal(counts, np.eye(10, dtype=int)[DIGITS.y[example]])


@pytest.mark.parametrize("trained", [False, True])
def test_labels_with_a_negative_entry_are_in_the_batch(trained, trained_params):
    params = trained_params if trained else get_params(MODEL)
    rng = np.random.default_rng(1)
    parts = [rng.choice(len(DIGITS.y), 10, replace=False) for _ in range(60)]
    gradients = cohort_gradients(MODEL, params, DIGITS.x, DIGITS.y, parts)
    outputs = tf.nn.softmax(public_logits(params)).numpy().mean(axis=0)
    right, chance = [], []
    for part, gradient in zip(parts, gradients, strict=True):
        truth = np.bincount(DIGITS.y[part], minlength=10)
        negative = unflatten(gradient, SPEC)[-1] < 0
        assert negative.any()
        assert (truth[negative] > 0).all()
        counts = infer_label_counts(gradient, SPEC, 10, probabilities=outputs)
        assert counts.sum() == 10
        assert (counts[negative] > 0).all()
        right.append(np.minimum(counts, truth).sum() / 10)
        drawn = np.bincount(rng.integers(0, 10, 10), minlength=10)
        chance.append(np.minimum(drawn, truth).sum() / 10)
    gain = np.subtract(right, chance)
    assert gain.mean() > 4 * gain.std() / np.sqrt(60)
    assert trained or np.mean(right) > 0.98


def public_logits(params):
    """What the model says of public digits: the attacker has a model and can run it."""
    kernel_1, bias_1, kernel_2, bias_2 = unflatten(params, SPEC)
    return np.maximum(DIGITS.x_test @ kernel_1 + bias_1, 0) @ kernel_2 + bias_2


def test_labels_refuse_numbers_that_do_not_fit():
    with pytest.raises(
        InvalidParameterError, match="num_examples must be a whole number of at least 1, got 0"
    ):
        infer_label_counts(np.zeros(2410), SPEC, 0)
    with pytest.raises(InvalidParameterError, match="each of the 10 labels, got shape"):
        infer_label_counts(np.zeros(2410), SPEC, 1, probabilities=[0.5, 0.5])


def small_cnn(seed, activation="tanh"):
    """Two convolutions, smooth by default: no dense layer sees a pixel."""
    keras.utils.set_random_seed(seed)
    layers = [keras.Input((64,)), keras.layers.Reshape((8, 8, 1))]
    layers += [
        keras.layers.Conv2D(filters, 3, 2, padding="same", activation=activation)
        for filters in (8, 16)
    ]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(10)])


@pytest.fixture(scope="module")
def convolutional():
    return small_cnn(0)


def sent(model, params, examples, *, local_steps=1, noise=0.0, seed=0):
    """The mean gradient that a client's update stands for."""
    batches = np.tile(np.asarray(examples, np.int32), (local_steps, 1))
    update = train_client(model, params, DIGITS.x, DIGITS.y, batches, 0.1)
    draw = np.random.default_rng(seed).standard_normal(len(update))
    noisy = update + noise * np.linalg.norm(update) * draw
    return gradient_from_update(noisy, 0.1, num_steps=local_steps)


@pytest.mark.parametrize("seed", range(4))
def test_optimisation_finds_an_image_that_no_dense_layer_saw(convolutional, seed):
    params, example = get_params(small_cnn(seed)), 11 + 100 * seed
    gradient = sent(convolutional, params, [example])
    [label] = np.flatnonzero(infer_label_counts(gradient, params_spec(convolutional)))
    assert label == DIGITS.y[example]
    match = invert_by_optimisation(gradient, convolutional, params, [label])
    recovery = score(match.images, DIGITS.x[[example]])
    assert recovery.exact.all()
    assert recovery.psnr[0] > 40
    assert match.distance < 1e-6

    again = invert_by_optimisation(gradient, convolutional, params, [label])
    np.testing.assert_array_equal(again.images, match.images)
    longer = invert_by_optimisation(1000 * gradient, convolutional, params, [label])
    assert score(longer.images, DIGITS.x[[example]]).exact.all()


def searched(model, num_images, *, activation="tanh", **options):
    """PSNR of the worst image of a batch, for two draws of weights and digits."""
    worst = []
    for seed in range(2):
        params = get_params(small_cnn(seed, activation))
        examples = [11 + 100 * seed + place for place in range(num_images)]
        gradient = sent(model, params, examples, seed=seed, **options)
        match = invert_by_optimisation(gradient, model, params, DIGITS.y[examples])
        worst.append(score(match.images, DIGITS.x[examples]).psnr.min())
    return np.array(worst)


def test_optimisation_separates_a_few_images_and_blurs_many(convolutional):
    assert (searched(convolutional, 4) > 40).all()
    assert (searched(convolutional, 16) < 20).all()
    what = architecture(convolutional, np.zeros((1, *convolutional.input_shape[1:]), "f4"), 1)
    search = _compiled_search(convolutional, what.digest)
    assert search.experimental_get_tracing_count() == 1


def test_optimisation_gets_stuck_where_the_gradient_jumps():
    assert (searched(small_cnn(0, "relu"), 1, activation="relu") < 30).all()


def test_local_steps_and_noise_weaken_the_optimisation(convolutional):
    blind = psnr(DIGITS.x, BLIND).mean()
    assert (searched(convolutional, 1, local_steps=5) < 25).all()
    little, much = (searched(convolutional, 1, noise=noise) for noise in (0.01, 0.1))
    assert (little > 18).all()
    assert (little < 30).all()
    assert (much < blind).all()


def test_optimisation_refuses_what_points_nowhere(convolutional):
    params = get_params(convolutional)
    gradient = np.ones(len(params))
    with pytest.raises(InvalidUpdateError, match="zero everywhere"):
        invert_by_optimisation(0 * gradient, convolutional, params, [1])
    with pytest.raises(InvalidUpdateError, match="as the model has"):
        invert_by_optimisation(gradient[1:], convolutional, params, [1])
    with pytest.raises(InvalidParameterError, match="params must have shape"):
        invert_by_optimisation(gradient, convolutional, params[1:], [1])
    for labels in ([], [0.5], [[1, 0]]):
        with pytest.raises(InvalidParameterError, match="labels must be whole numbers"):
            invert_by_optimisation(gradient, convolutional, params, labels)
    with pytest.raises(InvalidParameterError, match="labels must hold labels from 0 to 9, got 10"):
        invert_by_optimisation(gradient, convolutional, params, [10])
    with pytest.raises(InvalidParameterError, match="steps must be a whole number from 1 to"):
        invert_by_optimisation(gradient, convolutional, params, [1], steps=0)


# --- vectors and images of any type -------------------------------------------------------------


@pytest.mark.parametrize("order", ["<", ">", "="])
def test_ring_elements_are_read_in_any_byte_order(order):
    spec = VectorSpec(((3, 1), (1,)))
    ring = np.array([-2, 4, 6, 2]).astype(f"{order}i8").view(f"{order}u8")
    np.testing.assert_array_equal(invert_single_image(ring, spec), [-1, 2, 3])


@pytest.mark.parametrize("low", [np.uint8, np.int8, np.float16, np.float32])
def test_an_update_of_few_bits_does_not_wrap_around(low):
    got = gradient_from_update(np.array([100, 3], low), np.float16(0.001), num_steps=np.int8(1))
    exact = float(np.float16(0.001))
    np.testing.assert_allclose(got, [-100 / exact, -3 / exact], rtol=1e-6)


@pytest.mark.parametrize("images", [np.uint8([[0, 255]]), np.array([[-0.1, 0.5]])])
def test_originals_with_other_pixels_are_refused(images):
    for call in (score, lambda guesses, originals: psnr(originals, guesses)):
        with pytest.raises(InvalidParameterError, match="originals must have pixels from 0 to 1"):
            call(np.zeros((1, 2)), images)


@pytest.mark.parametrize("bad", [np.ma.masked_equal([1.0, 2.0, 3.0, 0.0], 0.0), [True] * 4, "abcd"])
def test_vectors_that_are_no_numbers_are_refused(bad):
    spec = VectorSpec(((3, 1), (1,)))
    for call in (invert_single_image, invert_dense_gradient):
        with pytest.raises(InvalidUpdateError, match="the vector"):
            call(bad, spec)
    with pytest.raises(InvalidUpdateError, match="update"):
        gradient_from_update(bad, 0.1)


@pytest.mark.parametrize("shape", [(5, 4), (3, 5), (0,), ()], ids=str)
def test_images_of_shapes_that_do_not_fit_are_refused(shape):
    with pytest.raises(InvalidParameterError, match="shapes that fit"):
        psnr(np.zeros((3, 4) if shape else ()), np.zeros(shape))
    with pytest.raises(InvalidParameterError, match="shapes that fit"):
        psnr(np.zeros(0), np.zeros(0))


@pytest.mark.parametrize("rate", [1e-40, 1e-300])
def test_a_gradient_beyond_its_floats_is_refused(rate):
    with pytest.raises(InvalidParameterError, match=r"learning_rate .* too small .* coordinate 1"):
        gradient_from_update(np.float32([0, 1]), rate)
