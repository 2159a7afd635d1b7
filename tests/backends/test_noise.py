"""Noise: numbers that follow from their place alone."""

from collections import namedtuple

import numba
import numpy as np
import pytest

from backends import Batches
from backends.kernels.cpu import batches
from backends.kernels.cpu.philox import draw
from backends.noise import noise_key, philox, uniform
from backends.regularization import dropout_masks
from trainer import MLP

# of Salmon et al.'s own Random123, tests/kat_vectors: counter, key, words
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0"),
]
ANSWERS = [
    "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    "408f276d 41c83b0e a20bc7c6 6d5451fd",
    "d16cfe09 94fdcceb 5001e420 24126ea1",
]
LOW = 2**32 - 1


def whole(text):
    return [int(word, 16) for word in text.split()]


def plain_philox(counter, key):
    """Philox 4×32-10 in Python's whole numbers, as the paper's section 3.3 writes it."""
    left_low, right_low, left, right = counter[1], counter[3], counter[0], counter[2]
    first, second = key
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * left, 2**32)
        high1, low1 = divmod(0xCD9E8D57 * right, 2**32)
        left, left_low, right, right_low = (
            high1 ^ left_low ^ first, low1, high0 ^ right_low ^ second, low0,
        )  # fmt: skip
        first, second = (first + 0x9E3779B9) & LOW, (second + 0xBB67AE85) & LOW
    return [left, left_low, right, right_low]


@numba.njit
def drawn(key, first, row, layer, update, words):
    draw(key, first, row, layer, update, words)


@pytest.mark.parametrize(("given", "words"), [*zip(KNOWN, ANSWERS, strict=True)])
def test_philox_gives_the_published_answers(given, words):
    counter, (low, high) = map(whole, given)
    assert plain_philox(counter, (low, high)) == whole(words)
    found = np.zeros(4, np.uint32)
    drawn(np.uint64(high << 32 | low), *counter, found)
    assert found.tolist() == whole(words)


@pytest.mark.parametrize(
    ("key", "update", "layer", "n", "units"),
    [
        (0, 0, 0, 1, 8),
        (2**64 - 1, 2**32 - 1, 3, 5, 17),
        (0x299F31D0A4093822, 2**40 + 7, 1, 3, 1),
        (5, 123_456, 2, 70, 200),
    ],
)
def test_noise_is_philox_at_its_place_on_every_device(backend, key, update, layer, n, units):
    found = backend.to_numpy(philox(backend.xp, key, update, layer, n, units))
    assert found.shape == (n, units)
    groups = -(-units // 8)
    by_kernel = np.zeros((n, 4 * groups), np.uint32)
    for row in range(n):
        drawn(np.uint64(key), 0, row, layer, update, by_kernel[row])
    halves = by_kernel.view("<u2")[:, :units]
    np.testing.assert_array_equal(found, halves)
    for row in {0, n // 2, n - 1}:
        for group in {0, groups // 2, groups - 1}:
            counter = [group, row, layer, update & LOW]
            words = plain_philox(counter, (key & LOW, key >> 32))
            assert by_kernel[row, 4 * group : 4 * group + 4].tolist() == words


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_uniform_noise_is_philox_in_steps_of_16_bits(backend, dtype):
    key, n, units = (2**62 + 7, 3, 2**33 + 5), 37, 21
    real = getattr(backend.xp, dtype)
    words = philox(np, noise_key(key[:-1]), key[-1], 4, n, units).astype(np.int64)
    for found in (
        backend.noise(key, 4, n, units, real),
        uniform(backend.xp, key, 4, n, units, real),
    ):
        found = backend.to_numpy(found)
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, (words - 32768) / 65536)


def test_noise_keys_differ_and_have_64_bits():
    seeds = (0, 1, 2**62 + 7, 2**63 - 1)
    keys = {noise_key((seed, epoch)) for seed in seeds for epoch in range(50)}
    assert len(keys) == 200
    assert all(0 <= key < 2**64 for key in keys)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_masks_are_the_same_on_every_device(backend, base_on_numpy, dtype):
    found = []
    for on in (backend, base_on_numpy):
        spec = MLP([30, 21, 9, 3], backend=on, dtype=dtype).spec
        labels = on.asarray(np.zeros(11, np.int64))
        batch = Batches(labels[:, None], labels, [0.1], 11, key=(2**62 + 7, 3, 2**33 + 5))
        masks = dropout_masks(on.xp, spec, batch, (0.2, 1 / 3))
        found.append([on.to_numpy(mask) for mask in masks])
    for mask, desired in zip(*found, strict=True):
        assert mask.dtype == dtype
        np.testing.assert_array_equal(mask, desired)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9])
def test_the_share_dropped_is_the_probability(base_on_numpy, share):
    spec = MLP([500, 400, 3], backend=base_on_numpy).spec
    labels = np.zeros(300, np.int64)
    batch = Batches(labels[:, None], labels, [0.1], 300, key=(1, 2, 3))
    for mask in dropout_masks(np, spec, batch, (share, share))[:2]:
        spread = np.sqrt(share * (1 - share) / mask.size)
        assert abs((mask == 0).mean() - share) < 4 * spread + 2**-16
        # rows and columns alike
        for axis in (0, 1):
            shares = (mask == 0).mean(axis=axis)
            assert abs(shares - share).max() < 6 * spread * np.sqrt(shares.size) + 2**-16


Job = namedtuple("Job", "key update batch noise_size first_row")
Memory = namedtuple("Memory", "words")
Piece = namedtuple("Piece", "worker start")


@numba.njit
def dropped(job, memory, piece, probability, layer, row, start, a):
    batches._drop(job, memory, piece, probability, layer, row, start, a)


def test_a_kernel_drops_by_the_mask_wherever_a_piece_begins():
    # as tiles do on processors whose registers hold fewer than eight numbers
    job, memory = Job(np.uint64(2**63 + 9), 5, 4, 64, 2), Memory(np.zeros(128, np.uint32))
    mask = philox(np, 2**63 + 9, 7, 2, 6, 60) >= int(0.3 * 65536)
    for start in (0, 2, 4, 7, 8, 28, 36):
        for size in (1, 2, 9, 24):
            a = np.ones(size)
            dropped(job, memory, Piece(1, 8), 0.3, 2, 3, start, a)
            desired = mask[5, start : start + size] / (1 - 0.3)
            np.testing.assert_array_equal(a, desired)
