"""Encrypted tensors: published vectors first, then every promise and every refusal."""

import copy
import inspect
import pickle
import struct
import threading
import traceback
import tracemalloc
from collections import Counter
from dataclasses import replace

import cryptography_vectors
import ml_dtypes
import numpy as np
import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fltutor.crypto import aead, wire
from fltutor.crypto.aead import (
    MAX_RANDOM_NONCES,
    EncryptedTensor,
    Key,
    NonceCounter,
    _encrypt_with,
    _read_with,
    decrypt_model,
    decrypt_tensor,
    encrypt_model,
    encrypt_tensor,
    generate_key,
    open_with,
    seal_with,
)
from fltutor.crypto.wire import encode_context
from fltutor.errors import (
    AuthenticationError,
    CopyRefusedError,
    InvalidParameterError,
    KeyExhaustedError,
    WireFormatError,
)
from tests.hostile import WRONG, buffers_of, frames_of, in_a_fork, needs_fork, stands

SECRET = bytes(range(32))
CONTEXT = {"round": 3, "client": 7}


@pytest.fixture
def key():
    return generate_key()


@pytest.fixture
def update():
    return np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)


def assert_same_bits(got, expected):
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    assert got.tobytes() == expected.tobytes()


# --- published vectors --------------------------------------------------------------------------


def nist_vectors(name):
    """Yield each vector of a NIST CAVP response file as a dict, section values included."""
    with cryptography_vectors.open_vector_file(f"ciphers/AES/GCM/{name}", "r") as file:
        section, vector = {}, {}
        for line in map(str.strip, file):
            if line.startswith("["):
                name, value = line.strip("[]").split(" = ")
                section[name] = int(value)
            elif line == "FAIL":
                vector["FAIL"] = True
            elif "=" in line:
                name, _, value = (part.strip() for part in line.partition("="))
                vector[name] = value
            elif vector:
                yield section | vector
                vector = {}
        if vector:
            yield section | vector


def split_vectors(name):
    """The vectors of our sizes, and how many others there are, by reason."""
    ours, left_out = [], Counter()
    for vector in nist_vectors(name):
        if vector["IVlen"] != 96:
            left_out[f"nonce of {vector['IVlen']} bits"] += 1
        elif vector["Taglen"] != 128:
            left_out["96-bit nonce, tag shorter than 128 bits"] += 1
        else:
            ours.append(
                {
                    k: bytes.fromhex(v)
                    for k, v in vector.items()
                    if isinstance(v, str) and k != "Count"
                }
                | {"FAIL": vector.get("FAIL", False)}
            )
    print(f"{name}: {len(ours)} vectors run, left out: {dict(left_out)}")
    return ours, left_out


def test_every_nist_encryption_vector_of_our_sizes_is_reproduced():
    vectors, left_out = split_vectors("gcmEncryptExtIV256.rsp")
    for vector in vectors:
        out = bytearray(len(vector["PT"]) + wire.TAG_BYTES)
        seal_with(vector["PT"], vector["IV"], vector["AAD"], Key.from_bytes(vector["Key"]), out)
        assert out == vector["CT"] + vector["Tag"]
    assert (len(vectors), left_out.total()) == (375, 7500)


def test_every_nist_decryption_vector_of_our_sizes_opens_or_is_refused():
    vectors, left_out = split_vectors("gcmDecrypt256.rsp")
    outcomes = Counter()
    for vector in vectors:
        out = bytearray(len(vector["CT"]))
        sealed, key = vector["CT"] + vector["Tag"], Key.from_bytes(vector["Key"])
        try:
            open_with(sealed, vector["IV"], vector["AAD"], key, out)
        except InvalidTag:
            assert vector["FAIL"]
            outcomes["refused"] += 1
        else:
            assert not vector["FAIL"]
            assert out == vector["PT"]
            outcomes["opened"] += 1
    print(outcomes)
    assert (outcomes.total(), left_out.total()) == (375, 7500)
    assert min(outcomes.values()) > 100


def test_the_message_is_what_the_documentation_says():
    values = np.array([[1.0, -2.0, 0.5]], dtype=np.float32)
    nonce, context = bytes(range(12)), {"round": 3, "client": 7}
    sealed = _encrypt_with(
        lambda count: [nonce] * count, [values], wire.TENSOR, Key.from_bytes(SECRET), context, None
    )
    header = b"FLET" + bytes([1, 0]) + struct.pack("<I", 1) + struct.pack("<BBQQ", 11, 2, 1, 3)
    encoded = struct.pack("<I", 2)
    encoded += struct.pack("<I", 6) + b"client" + b"i" + struct.pack("<I", 1) + b"7"
    encoded += struct.pack("<I", 5) + b"round" + b"i" + struct.pack("<I", 1) + b"3"
    bound = header + nonce + struct.pack("<QB", 0, 1) + encoded
    plaintext = struct.pack("<3f", 1.0, -2.0, 0.5)
    assert sealed.to_bytes() == header + nonce + AESGCM(SECRET).encrypt(nonce, plaintext, bound)


# --- what comes back ----------------------------------------------------------------------------

SHAPES = [(), (0,), (5,), (2, 3), (3, 0, 2), (1,) * 32]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", wire.DTYPES)
def test_every_dtype_and_shape_comes_back_equal(key, dtype, shape):
    dtype = wire.numpy_dtype(dtype)
    size = int(np.prod(shape))
    raw = np.random.default_rng(2).integers(0, 2, size * dtype.itemsize, dtype=np.uint8)
    tensor = raw.view(dtype).reshape(shape)
    message = encrypt_tensor(tensor, key, CONTEXT).to_bytes()
    assert_same_bits(decrypt_tensor(EncryptedTensor.from_bytes(message), key, CONTEXT), tensor)


@pytest.mark.parametrize(
    "bits",
    [
        np.array([0x7FC12345, 0x7F800001, 0xFF812345, 0x80000000], np.uint32).view(np.float32),
        np.array([0x7FF8000012345678, 0x7FF0000000000001], np.uint64).view(np.float64),
        np.array([0x7E01, 0x7C01], np.uint16).view(np.float16),
        np.array([0x7FC1, 0x7F81], np.uint16).view(ml_dtypes.bfloat16),
    ],
    ids=["float32", "float64", "float16", "bfloat16"],
)
def test_nan_payloads_and_negative_zero_keep_their_bits(key, bits):
    assert_same_bits(decrypt_tensor(encrypt_tensor(bits, key), key), bits)


@pytest.mark.parametrize(
    "view",
    [lambda a: a[::2], lambda a: a.T, lambda a: a[:, ::-1], np.asfortranarray, lambda a: a[1:, 1]],
    ids=["every second row", "transposed", "reversed", "Fortran order", "column"],
)
def test_non_contiguous_arrays_come_back_equal(key, view):
    tensor = view(np.arange(20.0).reshape(4, 5))
    assert_same_bits(decrypt_tensor(encrypt_tensor(tensor, key), key), tensor)


def test_tensorflow_and_keras_values_come_back_equal(key):
    import keras
    import tensorflow as tf

    values = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    for tensor in (
        tf.constant(values),
        tf.Variable(values),
        keras.Variable(values),
        tf.cast(values, tf.bfloat16),
        tf.constant(3),
        tf.constant([True, False]),
    ):
        assert_same_bits(decrypt_tensor(encrypt_tensor(tensor, key), key), tensor.numpy())
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    opened = decrypt_model(encrypt_model(model.weights, key), key)
    for got, expected in zip(opened, model.get_weights(), strict=True):
        assert_same_bits(got, expected)


@pytest.mark.parametrize("kind", ["symbolic", "ragged", "sparse", "text"])
def test_tensorflow_values_without_numbers_are_refused(key, kind):
    import tensorflow as tf

    if kind == "symbolic":
        with pytest.raises(InvalidParameterError, match="tensor must be"):
            tf.function(lambda x: encrypt_tensor(x, key), autograph=False)(tf.constant(1.0))
        return
    tensor = {
        "ragged": lambda: tf.ragged.constant([[1.0], [2.0, 3.0]]),
        "sparse": lambda: tf.sparse.from_dense([[0.0, 1.0]]),
        "text": lambda: tf.constant("text"),
    }[kind]()
    with pytest.raises(InvalidParameterError, match="tensor must be"):
        encrypt_tensor(tensor, key)
    assert key.uses == 0


def test_a_model_of_mixed_dtypes_comes_back_in_order(key):
    tensors = [
        np.ones((3, 2), np.float32),
        np.array(7),
        np.zeros((0, 4), np.float16),
        np.array([True]),
        np.arange(5, dtype=ml_dtypes.bfloat16),
    ]
    sealed = EncryptedTensor.from_bytes(encrypt_model(tensors, key, CONTEXT).to_bytes())
    for got, expected in zip(decrypt_model(sealed, key, CONTEXT), tensors, strict=True):
        assert_same_bits(got, expected)
    assert "model of 5 tensors" in repr(sealed)
    assert key.uses == len(tensors)


def test_results_are_new_arrays_and_the_input_is_unchanged(key, update):
    before = update.copy()
    opened = decrypt_tensor(encrypt_tensor(update, key), key)
    opened += 1  # writable, and nobody else's memory
    assert_same_bits(update, before)


numbers = st.sampled_from([wire.numpy_dtype(name) for name in wire.DTYPES if name != "bfloat16"])
tensors = numbers.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0)))
contexts = st.dictionaries(
    st.text(max_size=5), st.integers() | st.text(max_size=5) | st.binary(max_size=5), max_size=3
)


@settings(max_examples=60)
@given(tensor=tensors, context=contexts)
def test_any_tensor_in_any_context_comes_back_equal(tensor, context):
    key = Key.from_bytes(SECRET)
    message = encrypt_tensor(tensor, key, context).to_bytes()
    assert_same_bits(decrypt_tensor(EncryptedTensor.from_bytes(message), key, context), tensor)


# --- any flipped bit, a wrong key, another context: no tensor --------------------------------


@pytest.mark.parametrize("is_model", [False, True], ids=["tensor", "model"])
def test_every_flipped_bit_is_refused(key, is_model):
    values = np.array([1.5, -2.0], np.float32)
    sealed = encrypt_model([values, values], key) if is_model else encrypt_tensor(values, key)
    message, header_bytes = sealed.to_bytes(), len(sealed.parts()[0][1])
    open_message = decrypt_model if is_model else decrypt_tensor
    refused = Counter()
    for bit in range(8 * len(message)):
        altered = bytearray(message)
        altered[bit // 8] ^= 1 << bit % 8
        # A header may stop making sense before any key is used; the rest is always well formed.
        expected = (WireFormatError, AuthenticationError, InvalidParameterError)
        with pytest.raises(expected if bit < 8 * header_bytes else AuthenticationError) as caught:
            open_message(EncryptedTensor.from_bytes(altered), key)
        refused[caught.type.__name__] += 1
    print(dict(refused))
    assert refused.total() == 8 * len(message)


def test_another_key_is_refused(key, update):
    with pytest.raises(AuthenticationError, match="another key"):
        decrypt_tensor(encrypt_tensor(update, key, CONTEXT), generate_key(), CONTEXT)


FULL_CONTEXT = {"round": 3, "client": 7, "direction": "up", "name": "dense/kernel"}


@pytest.mark.parametrize(
    "other",
    [
        FULL_CONTEXT | {"round": 4},
        FULL_CONTEXT | {"client": 8},
        FULL_CONTEXT | {"direction": "down"},
        FULL_CONTEXT | {"name": "dense/bias"},
        FULL_CONTEXT | {"round": "3"},
        FULL_CONTEXT | {"extra": 0},
        {k: v for k, v in FULL_CONTEXT.items() if k != "client"},
        {"round": 7, "client": 3, "direction": "up", "name": "dense/kernel"},
        {},
        None,
    ],
    ids=str,
)
def test_another_context_is_refused(key, update, other):
    sealed = encrypt_tensor(update, key, FULL_CONTEXT)
    with pytest.raises(AuthenticationError, match="another context"):
        decrypt_tensor(sealed, key, other)
    assert_same_bits(decrypt_tensor(sealed, key, FULL_CONTEXT), update)


@pytest.mark.parametrize(
    "claim", [("float32", (3, 4)), ("float32", (12,)), ("int32", (4, 3)), ("uint8", (4, 3, 4))]
)
def test_another_shape_or_dtype_of_equal_size_is_refused(key, update, claim):
    sealed = encrypt_tensor(update, key)
    header, body = wire.pack_header(wire.TENSOR, (wire.TensorSpec(*claim),)), sealed.parts()[1:]
    forged = EncryptedTensor.from_bytes(header + b"".join(piece for _, piece in body))
    assert forged.specs == (wire.TensorSpec(*claim),)  # well formed, yet
    with pytest.raises(AuthenticationError):
        decrypt_tensor(forged, key)


def test_a_model_of_one_tensor_is_not_a_tensor(key, update):
    with pytest.raises(InvalidParameterError, match="decrypt_model"):
        decrypt_tensor(encrypt_model([update], key), key)
    with pytest.raises(InvalidParameterError, match="decrypt_tensor"):
        decrypt_model(encrypt_tensor(update, key), key)
    relabelled = bytearray(encrypt_tensor(update, key).to_bytes())
    relabelled[5] = wire.MODEL
    with pytest.raises(AuthenticationError):
        decrypt_model(EncryptedTensor.from_bytes(relabelled), key)


def test_tensors_of_a_model_cannot_change_places(key):
    first, second = np.ones(2), np.zeros(2)
    pieces = [bytes(piece) for _, piece in encrypt_model([first, second], key).parts()]
    swapped = EncryptedTensor.from_bytes(b"".join(pieces[:1] + pieces[4:] + pieces[1:4]))
    with pytest.raises(AuthenticationError):
        decrypt_model(swapped, key)


def test_a_buffer_changed_after_reading_is_refused(key, update):
    data = bytearray(encrypt_tensor(update, key).to_bytes())
    sealed = EncryptedTensor.from_bytes(data)
    data[-1] ^= 1
    with pytest.raises(AuthenticationError):
        decrypt_tensor(sealed, key)


@settings(max_examples=100)
@given(data=st.data())
def test_no_splice_of_two_genuine_messages_opens(data):
    key = Key.from_bytes(SECRET)
    first, second = (encrypt_tensor(np.full(3, i), key).to_bytes() for i in (1, 2))
    start = data.draw(st.integers(0, len(first) - 1))
    stop = data.draw(st.integers(start + 1, len(first)))
    mixed = first[:start] + second[start:stop] + first[stop:]
    if mixed not in (first, second):
        with pytest.raises(AuthenticationError):
            decrypt_tensor(EncryptedTensor.from_bytes(mixed), key)


# --- the wire format refuses by name -------------------------------------------------------------


def test_truncation_at_every_length_is_refused(key, update):
    for message in (
        encrypt_tensor(update, key).to_bytes(),
        encrypt_model([update, update[0]], key).to_bytes(),
    ):
        for length in range(len(message)):
            with pytest.raises(WireFormatError, match="truncated"):
                EncryptedTensor.from_bytes(message[:length])


def test_trailing_bytes_are_refused(key, update):
    with pytest.raises(WireFormatError, match="trailing"):
        EncryptedTensor.from_bytes(encrypt_tensor(update, key).to_bytes() + b"\0")


@pytest.mark.parametrize(
    ("position", "value", "message"),
    [
        (0, 0x80, "not an encrypted tensor"),  # pickle starts like this
        (4, 2, "unknown version 2"),
        (5, 2, "unknown kind 2"),
        (6, 0, "cannot hold 0 tensors"),
        (6, 2, "cannot hold 2 tensors"),
        (10, 0, "unknown dtype code 0"),
        (10, 14, "unknown dtype code 14"),
        (11, 33, "33 dimensions, at most 32"),
    ],
)
def test_header_fields_out_of_range_are_refused_by_name(key, update, position, value, message):
    altered = bytearray(encrypt_tensor(update, key).to_bytes())
    altered[position] = value
    with pytest.raises(WireFormatError, match=message):
        EncryptedTensor.from_bytes(altered)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2**40,), "larger than the limit"),
        ((2**33, 2**33), "larger than the limit"),
        ((2**64 - 1,) * 32, "larger than the limit"),
        ((2**32, 2**32, 0), "larger than the limit"),  # the product is 0, yet NumPy fails on it
        ((2**30,), "truncated: needed 4294967428 bytes, got 48"),  # four chunks of 1 GiB
    ],
    ids=str,
)
def test_absurd_sizes_are_refused_before_any_allocation(shape, message):
    header = wire.pack_header(wire.TENSOR, (wire.TensorSpec("float32", shape),))
    data = header + bytes(max(48 - len(header), 28))
    tracemalloc.start()
    with pytest.raises(WireFormatError, match=message):
        EncryptedTensor.from_bytes(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100_000


def test_a_count_that_cannot_fit_is_refused_before_it_is_read(key):
    data = struct.pack("<4sBBI", b"FLET", 1, wire.MODEL, 2**32 - 1) + bytes(1000)
    with pytest.raises(WireFormatError, match="cannot hold 4294967295 tensors"):
        EncryptedTensor.from_bytes(data)


def test_a_message_beyond_the_limit_is_refused(key, update):
    data = encrypt_tensor(update, key).to_bytes()
    assert EncryptedTensor.from_bytes(data, limit=len(data)).num_bytes == len(data)
    with pytest.raises(WireFormatError, match="limit"):
        EncryptedTensor.from_bytes(data, limit=len(data) - 1)


@settings(max_examples=100)
@given(data=st.binary(max_size=120) | st.binary(max_size=120).map(lambda b: b"FLET\1\0" + b))
def test_noise_is_refused_as_a_message_or_by_the_key(data):
    with pytest.raises((WireFormatError, AuthenticationError)):
        decrypt_tensor(EncryptedTensor.from_bytes(data), Key.from_bytes(SECRET))


@pytest.mark.parametrize("data", ["text", 7, None, np.ones((4, 4))[:, ::2]], ids=repr)
def test_only_contiguous_bytes_are_read(data):
    with pytest.raises(InvalidParameterError, match="data must be bytes"):
        EncryptedTensor.from_bytes(data)


@pytest.mark.parametrize(
    "tensor",
    [
        np.array([object()]),
        np.array(["text"]),
        np.array([b"bytes"]),
        np.array(["2026-01-01"], "datetime64[D]"),
        np.ones(2, np.complex64),
        np.ones(2, ">f4"),
        np.ones(2, ">i8"),
        np.ones(2, np.longdouble),
        np.zeros(2, [("x", "f4")]),
        np.ones(2, ml_dtypes.float8_e4m3fn),
        [[1.0], [2.0, 3.0]],
        {"a": 1},
        None,
    ],
    ids=lambda tensor: str(getattr(tensor, "dtype", tensor)),
)
def test_only_known_little_endian_numbers_are_sealed(key, tensor):
    with pytest.raises(InvalidParameterError, match="tensor must be"):
        encrypt_tensor(tensor, key)
    assert key.uses == 0


def test_more_than_32_dimensions_are_refused(key):
    with pytest.raises(InvalidParameterError, match="33 dimensions"):
        encrypt_tensor(np.ones((1,) * 33), key)


# --- the context -------------------------------------------------------------------------------


def decode_context(data):
    """Read a context back: an encoding that can be read back is unambiguous."""

    def take(count):
        nonlocal data
        piece, data = data[:count], data[count:]
        assert len(piece) == count
        return piece

    def sized():
        return take(*struct.unpack("<I", take(4)))

    context = {}
    for _ in range(*struct.unpack("<I", take(4))):
        name, letter = sized().decode(), take(1)
        value = sized()
        context[name] = {b"i": int, b"s": bytes.decode, b"b": bytes}[letter](value)
    assert not data
    return context


@settings(max_examples=100)
@given(context=contexts)
def test_a_context_is_encoded_unambiguously_and_in_any_order(context):
    encoded = encode_context(context)
    assert decode_context(encoded) == context
    assert encode_context(dict(reversed(context.items()))) == encoded


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"1": "23"}, {"12": "3"}),
        ({"a": "1", "b": "23"}, {"a": "12", "b": "3"}),
        ({"a": "1"}, {"a": 1}),
        ({"a": "1"}, {"a": b"1"}),
        ({"a": ""}, {}),
        ({"round": -1}, {"round": 1}),
    ],
    ids=str,
)
def test_similar_contexts_have_different_encodings(one, other):
    assert encode_context(one) != encode_context(other)


def test_no_context_is_an_empty_one_and_numpy_integers_are_integers(key, update):
    assert encode_context(None) == encode_context({})
    assert encode_context({"round": np.int32(3)}) == encode_context({"round": 3})


@pytest.mark.parametrize(
    "context", [[("round", 3)], "round 3", {3: "round"}, {"a": 1.5}, {"a": None}, {"a": True},
                {"a": [1]}, {"a": "\ud800"}, {"\ud800": 1}], ids=ascii,
)  # fmt: skip
def test_a_context_of_other_types_is_refused(key, update, context):
    with pytest.raises(InvalidParameterError, match="context"):
        encrypt_tensor(update, key, context)
    assert key.uses == 0


# --- keys and nonces ---------------------------------------------------------------------------


def test_nonces_are_fresh_and_never_chosen_by_the_caller(key, update):
    nonces = {bytes(encrypt_tensor(update, key).parts()[1][1]) for _ in range(500)}
    assert len(nonces) == key.uses == 500
    assert {len(nonce) for nonce in nonces} == {12}
    for function in (encrypt_tensor, encrypt_model):
        assert list(inspect.signature(function).parameters)[1:] == ["key", "context", "out"]


def test_a_key_refuses_after_two_to_the_32_nonces(key, update):
    key._uses = MAX_RANDOM_NONCES - 2
    with pytest.raises(KeyExhaustedError, match="generate a new key"):
        encrypt_model([update] * 3, key)
    assert key.uses == MAX_RANDOM_NONCES - 2 == 2**32 - 2  # the refused call spent nothing
    encrypt_model([update] * 2, key)
    with pytest.raises(KeyExhaustedError):
        encrypt_tensor(update, key)


def test_threads_do_not_lose_counts(key):
    start = threading.Barrier(8)

    def work():
        start.wait()
        for _ in range(300):
            encrypt_tensor(1.0, key)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert key.uses == 8 * 300


def test_a_nonce_counter_never_repeats_and_refuses_to_wrap():
    counters = [NonceCounter(sender) for sender in (0, 1, 2**32 - 1)]
    nonces = [counter.next() for counter in counters for _ in range(300)]
    assert len(set(nonces)) == 900
    assert {len(nonce) for nonce in nonces} == {12}
    last = NonceCounter(sender=1, start=2**64 - 1)
    assert last.next() == bytes([0, 0, 0, 1]) + b"\xff" * 8
    for _ in range(2):
        with pytest.raises(KeyExhaustedError, match="new key"):
            last.next()


@pytest.mark.parametrize(
    ("sender", "start"),
    [(-1, 0), (2**32, 0), (0, -1), (0, 2**64), (1.0, 0), ("1", 0), (True, 0), (0, None), (0, 1.5)],
)
def test_a_nonce_counter_outside_its_fields_is_refused(sender, start):
    with pytest.raises(InvalidParameterError, match="must be a whole number from 0 to"):
        NonceCounter(sender, start)


@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
@pytest.mark.parametrize("make", [generate_key, lambda: NonceCounter(1)], ids=["key", "counter"])
def test_keys_and_counters_are_never_copied(make, duplicate):
    with pytest.raises(CopyRefusedError, match="not copied"):
        duplicate(make())


def test_no_text_holds_the_secret(update):
    secret = b"\xabSECRETsecretSECRETsecretSECRET\xcd"
    key = Key.from_bytes(secret)
    shown = [repr(key), str(key), repr(vars(type(key)))]
    shown += [repr(getattr(key, name)) for name in Key.__slots__]
    for attempt in (
        lambda: decrypt_tensor(encrypt_tensor(update, generate_key()), key),
        lambda: Key.from_bytes(secret[:-1]),
        lambda: pickle.dumps(key),
    ):
        with pytest.raises(Exception) as caught:  # noqa: PT011 - the text is what is tested
            attempt()
        frames = traceback.TracebackException.from_exception(caught.value, capture_locals=False)
        shown.append("".join(frames.format()))
    for text in shown:
        assert "ECRET" not in text
        assert secret.hex()[:8] not in text


@pytest.mark.parametrize("secret", [b"", bytes(16), bytes(31), bytes(33)], ids=len)
def test_secrets_of_the_wrong_length_are_refused(secret):
    with pytest.raises(InvalidParameterError, match=f"32 bytes, got {len(secret)}"):
        Key.from_bytes(secret)


@pytest.mark.parametrize(
    "key", [None, SECRET, "key", AESGCM(SECRET)], ids=lambda k: type(k).__name__
)
def test_only_a_key_is_a_key(update, key):
    sealed = encrypt_tensor(update, generate_key())
    for call in (
        lambda: encrypt_tensor(update, key),
        lambda: encrypt_model([update], key),
        lambda: decrypt_tensor(sealed, key),
    ):
        with pytest.raises(InvalidParameterError, match="key must be of class Key"):
            call()


@pytest.mark.parametrize(
    ("argument", "wrong"),
    [
        *(("nonce", wrong) for wrong in (b"", bytes(7), bytes(200), None, 3, "twelve bytes")),
        *(("out", wrong) for wrong in (bytes(24), bytearray(3), bytearray(99), None, "text")),
        *(("data", wrong) for wrong in (None, 3, "text", [1], memoryview(bytes(16))[::2])),
        *(("associated_data", wrong) for wrong in (3, "text", [1])),
        *(("key", wrong) for wrong in (None, SECRET, AESGCM(SECRET))),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value[:15],
)
def test_what_the_cipher_cannot_use_is_refused_by_type(key, argument, wrong):
    sealed = bytearray(24)
    seal_with(bytes(8), bytes(12), b"", key, sealed)
    given = {"data": bytes(8), "nonce": bytes(12), "associated_data": b"", "key": key}
    with pytest.raises(InvalidParameterError, match=r"cannot use this: .|key must be of class Key"):
        seal_with(*(given | {"out": bytearray(24)} | {argument: wrong}).values())
    given |= {"data": sealed, "out": bytearray(8)}
    if argument == "nonce" and isinstance(wrong, bytes) and 8 <= len(wrong) <= 128:
        return
    with pytest.raises(InvalidParameterError, match=r"cannot use this: .|key must be of class Key"):
        open_with(*(given | {argument: wrong}).values())


def test_raw_bytes_are_not_an_encrypted_tensor(key, update):
    with pytest.raises(InvalidParameterError, match="from_bytes"):
        decrypt_tensor(encrypt_tensor(update, key).to_bytes(), key)


@pytest.mark.parametrize("tensors", [[], iter(())], ids=["list", "iterator"])
def test_a_model_without_tensors_is_refused(key, tensors):
    with pytest.raises(InvalidParameterError, match="at least one tensor"):
        encrypt_model(tensors, key)


def test_one_array_is_not_a_model(key, update):
    with pytest.raises(InvalidParameterError, match="encrypt_tensor takes one tensor"):
        encrypt_model(update, key)


# --- large tensors in chunks ---------------------------------------------------------------------


def in_chunks(tensor, key, chunk_bytes=8, context=CONTEXT):
    return _encrypt_with(
        key._fresh_nonces, [tensor], wire.TENSOR, key, context, None, chunk_bytes=chunk_bytes
    )


def chunk_list(sealed):
    """Each whole chunk (nonce, ciphertext, tag) as bytes."""
    pieces = [bytes(piece) for _, piece in sealed.parts()]
    return [b"".join(pieces[i : i + 3]) for i in range(1, len(pieces), 3)]


def test_one_call_of_the_library_is_never_asked_for_more_than_it_takes():
    assert wire.CHUNK_BYTES + wire.TAG_BYTES <= 2**31 - 1


@pytest.mark.parametrize("num_values", range(0, 26))
def test_chunks_come_back_equal_at_every_boundary(key, num_values):
    tensor = np.arange(num_values, dtype=np.uint8)
    sealed = in_chunks(tensor, key)
    assert key.uses == max(1, -(-num_values // 8))
    again = _read_with(sealed.to_bytes(), wire.MAX_BYTES, chunk_bytes=8)
    assert_same_bits(decrypt_tensor(again, key, CONTEXT), tensor)


def test_chunks_reordered_dropped_repeated_or_spliced_are_refused(key):
    tensor, other = np.arange(3.0), np.arange(3.0) + 10
    a, b, c = chunk_list(in_chunks(tensor, key))
    x, y, z = chunk_list(in_chunks(other, key))  # same key, context and shape

    def open_chunks(*chunks, shape=(3,)):
        forged = wire.pack_header(wire.TENSOR, (wire.TensorSpec("float64", shape),))
        data = forged + b"".join(chunks)
        return decrypt_tensor(_read_with(data, wire.MAX_BYTES, chunk_bytes=8), key, CONTEXT)

    assert_same_bits(open_chunks(a, b, c), tensor)
    for chunks in [(b, a, c), (a, c, b), (a, a, c), (a, b, b), (x, b, c), (a, y, c), (a, b, z)]:
        with pytest.raises(AuthenticationError):
            open_chunks(*chunks)
    with pytest.raises(WireFormatError, match="truncated"):
        open_chunks(a, b)  # the final chunk is missing
    with pytest.raises(WireFormatError, match="trailing"):
        open_chunks(a, b, c, c)
    for chunks in [(a, b), (a,), (b, c), (a, b, c, c)]:  # the shape forged to fit
        with pytest.raises(AuthenticationError):
            open_chunks(*chunks, shape=(len(chunks),))


def test_the_final_flag_and_the_index_are_bound_on_their_own():
    header, nonce, context = b"header", bytes(12), encode_context(CONTEXT)
    bound = {
        wire.associated_data(header, nonce, index, num_chunks, context)
        for index in range(3)
        for num_chunks in (index + 1, index + 2)
    }
    assert len(bound) == 6


def test_a_tensor_sealed_in_one_size_of_chunks_does_not_open_in_another(key):
    data = in_chunks(np.arange(3.0), key).to_bytes()
    with pytest.raises(WireFormatError):
        EncryptedTensor.from_bytes(data)


# --- a buffer of one's own -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "make", [bytearray, lambda n: np.zeros(n, np.uint8)], ids=["bytearray", "array"]
)
def test_a_buffer_is_reused_without_a_trace_of_the_last_message(key, update, make):
    size = encrypt_tensor(update, key).num_bytes
    out = make(size + 5)
    for shift in (0, 1):
        sealed = encrypt_tensor(update + shift, key, CONTEXT, out=out)
        assert sealed.num_bytes == size
        assert bytes(out)[:size] == sealed.to_bytes()
        assert_same_bits(decrypt_tensor(sealed, key, CONTEXT), update + shift)


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (bytes(1000), "writable"),
        ("text", "writable"),
        (bytearray(10), "must hold 104 bytes, got 10"),
        (np.zeros((50, 50), np.uint8)[:, ::2], "writable contiguous"),
    ],
    ids=["read-only", "text", "short", "strided"],
)
def test_an_unfit_buffer_is_refused_before_a_nonce_is_spent(key, update, out, message):
    with pytest.raises(InvalidParameterError, match=message):
        encrypt_tensor(update, key, out=out)
    assert key.uses == 0


def test_a_buffer_that_overlaps_the_tensor_is_refused(key):
    memory = np.ones(1000, np.uint8)
    with pytest.raises(InvalidParameterError, match="overlap"):
        encrypt_tensor(memory[500:600], key, out=memory)
    assert memory.all()


# --- nothing unverified is left, and nothing is claimed beside the header -----------------------


@pytest.mark.parametrize("chunk", range(4))
@pytest.mark.parametrize("spoilt", ["tag", "ciphertext"])
def test_a_bad_tag_leaves_no_plaintext_in_any_frame_of_the_traceback(key, chunk, spoilt):
    """Of a message of four chunks, also those that were authentic: it is not whole."""
    plain = b"SECRET_0SECRET_1SECRET_2SECRET_3"
    sealed = in_chunks(np.frombuffer(plain, np.uint8), key)
    message = bytearray(sealed.to_bytes())
    place = sealed._chunks()[chunk].place
    message[place.stop - (1 if spoilt == "tag" else 17)] ^= 1
    with pytest.raises(AuthenticationError) as caught:
        decrypt_tensor(_read_with(message, wire.MAX_BYTES, chunk_bytes=8), key, CONTEXT)
    frames = frames_of(caught.value)
    assert any("opened" in frame for frame in frames)  # the one that held it
    for frame in frames:
        for name, value in frame.items():
            for data in buffers_of(value):
                assert b"SECRET" not in data, name
                assert b"ECRET_" not in data, name


@pytest.mark.parametrize("length", [0, 1, 5, 1000])
@pytest.mark.parametrize("make", [bytearray, lambda n: np.zeros(n, np.uint8)])
def test_open_with_fills_its_buffer_with_zeros_where_the_tag_does_not_fit(key, length, make):
    sealed = bytearray(length + 16)
    seal_with(b"S" * length, bytes(12), b"", key, sealed)
    out = make(length)
    open_with(sealed, bytes(12), b"", key, out)
    assert bytes(out) == b"S" * length
    sealed[-1] ^= 1
    with pytest.raises(InvalidTag):
        open_with(sealed, bytes(12), b"", key, out)
    assert bytes(out) == bytes(length)


def test_an_interrupt_while_decrypting_leaves_no_plaintext_either(key, monkeypatch):
    sealed, opened = in_chunks(np.frombuffer(b"S" * 16, np.uint8), key), []

    def interrupted(*arguments):
        open_with(*arguments)
        opened.append(1)
        if len(opened) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(aead, "open_with", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        decrypt_tensor(sealed, key, CONTEXT)
    held = [data for frame in frames_of(caught.value) for data in buffers_of(frame.get("opened"))]
    assert held == [bytes(16)]


def test_what_a_message_is_can_be_said_by_its_header_only(key):
    sealed = encrypt_tensor(np.float32([1, 2]), key)
    claims = {"specs": (wire.TensorSpec("int32", (2,)),), "is_model": True, "_header": b""}
    for name, claim in claims.items():
        with pytest.raises((TypeError, AttributeError)):
            replace(sealed, **{name: claim})
        with pytest.raises(AttributeError):
            setattr(sealed, name, claim)
    assert EncryptedTensor(sealed.to_bytes()).specs == sealed.specs
    with pytest.raises(WireFormatError, match="truncated"):
        decrypt_tensor(EncryptedTensor(sealed.to_bytes()[:-1]), key)


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_a_header_that_changes_after_it_was_read_is_refused(key, dtype):
    """The buffer is used again for a message of the same size and another dtype, or altered."""
    out = bytearray(encrypt_tensor(np.float32([1, 2]), key).num_bytes)
    first = encrypt_tensor(np.float32([1, 2]), key, out=out)
    assert first.specs[0].dtype == "float32"
    second = encrypt_tensor(np.array([7, 8], dtype), key, out=out)
    with pytest.raises(AuthenticationError, match="header changed"):
        decrypt_tensor(first, key)
    assert_same_bits(decrypt_tensor(second, key), np.array([7, 8], dtype))
    out[10] ^= 1
    with pytest.raises(AuthenticationError, match="header changed"):
        decrypt_tensor(second, key)


# --- everything else that is wrong --------------------------------------------------------------


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: type(value).__name__)
def test_values_of_a_wrong_type_are_refused_by_typed_errors_or_work(key, update, wrong):
    sealed = encrypt_tensor(update, key, CONTEXT)
    for call in (
        lambda: encrypt_tensor(wrong, key),
        lambda: encrypt_tensor(update, wrong),
        lambda: encrypt_tensor(update, key, wrong),
        lambda: encrypt_tensor(update, key, {"round": wrong}),
        lambda: encrypt_tensor(update, key, out=wrong),
        lambda: encrypt_model(wrong, key),
        lambda: encrypt_model([update, wrong], key),
        lambda: decrypt_tensor(wrong, key),
        lambda: decrypt_model(wrong, key),
        lambda: decrypt_tensor(sealed, wrong, CONTEXT),
        lambda: decrypt_tensor(sealed, key, wrong),
        lambda: EncryptedTensor.from_bytes(wrong),
        lambda: EncryptedTensor.from_bytes(sealed.to_bytes(), limit=wrong),
        lambda: repr(EncryptedTensor(wrong)),
        lambda: Key.from_bytes(wrong),
        lambda: NonceCounter(wrong).next(),
        lambda: NonceCounter(0, wrong).next(),
    ):
        stands(call)


@settings(max_examples=150)
@given(data=st.data())
def test_a_mutated_message_is_refused_by_a_typed_error(data):
    """Bytes changed, cut out, put in or moved: never another error, never a tensor."""
    key = Key.from_bytes(SECRET)
    seal = data.draw(st.sampled_from([encrypt_tensor, lambda t, k: encrypt_model([t, t[0]], k)]))
    message = seal(np.arange(6, dtype=np.int16).reshape(2, 3), key).to_bytes()
    altered = bytearray(message)
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(altered)))
        stop = data.draw(st.integers(start, min(len(altered), start + 9)))
        altered[start:stop] = data.draw(st.binary(max_size=9))
    if altered == message:
        return
    with pytest.raises((WireFormatError, AuthenticationError, InvalidParameterError)):
        decrypt_tensor(EncryptedTensor.from_bytes(altered), key)
    with pytest.raises((WireFormatError, AuthenticationError, InvalidParameterError)):
        decrypt_model(EncryptedTensor.from_bytes(altered), key)


def test_masked_arrays_are_refused(key):
    masked = np.ma.masked_equal([1.0, -1.0], -1.0)
    for call in (
        lambda: encrypt_tensor(masked, key),
        lambda: encrypt_tensor(np.ma.masked, key),
        lambda: encrypt_model([np.ones(2), masked], key),
    ):
        with pytest.raises(InvalidParameterError, match="masked array"):
            call()
    assert key.uses == 0


# --- forks ----------------------------------------------------------------------------------------


@needs_fork
def test_a_fork_of_a_counter_refuses_and_the_first_counts_on():
    counter = NonceCounter(1)
    counter.next()
    said = in_a_fork(counter.next)
    assert said.startswith("CopyRefusedError: this NonceCounter is the copy that a fork made")
    assert counter.next()[-1] == 1
    assert in_a_fork(lambda: NonceCounter(1).next()) == "done"


@needs_fork
def test_a_fork_of_a_key_seals_nothing_and_may_open(key, update):
    sealed = encrypt_tensor(update, key)
    for seal in (lambda: encrypt_tensor(update, key), lambda: encrypt_model([update], key)):
        assert in_a_fork(seal).startswith("CopyRefusedError: this Key is the copy")
    assert in_a_fork(lambda: decrypt_tensor(sealed, key)) == "done"
    assert key.uses == 1
    assert in_a_fork(lambda: encrypt_tensor(update, generate_key())) == "done"


@needs_fork
@pytest.mark.parametrize("make", [generate_key, lambda: NonceCounter(1)], ids=["key", "counter"])
def test_a_fork_does_not_wait_for_a_lock_that_nobody_opens(make):
    counter = make()
    use = counter.next if isinstance(counter, NonceCounter) else lambda: counter._fresh_nonces(1)
    with counter._lock:
        assert in_a_fork(use, seconds=5).startswith("CopyRefusedError")


def test_threads_share_a_nonce_counter_without_a_repetition():
    counter, nonces, start = NonceCounter(1), [], threading.Barrier(8)

    def work():
        start.wait()
        nonces.extend([counter.next() for _ in range(2000)])

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(nonces)) == len(nonces) == 16_000
