"""Samples in shards: what is read of them, their order, and training on them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from backends import Backend
from backends.feeding import ShardedFeed
from backends.sharded import MappedShard, ShardedRows
from tests.conftest import assert_weights
from trainer import MLP, fit
from trainer.augmentation import Deformation
from trainer.settings import TrainingSettings
from trainer.training import BatchProgress, EpochReport
from trainer.training.course import Course

FEATURES = 6


def in_shards(folder: Path, x: np.ndarray, lengths: list[int], dtype=None) -> ShardedRows:
    """The samples in files of these lengths, each after some bytes of a header."""
    shards, first = [], 0
    for i, length in enumerate(lengths):
        path = folder / f"{i}.bin"
        part = x[first : first + length]
        path.write_bytes(b"#" * (3 + i) + part.tobytes())
        shards.append(MappedShard(path, part.shape, x.dtype, 3 + i))
        first += length
    return ShardedRows(shards, dtype or x.dtype)


@pytest.fixture
def data(tmp_path):
    """Pixels of three classes, in memory and in four shards, one of a single sample."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (700, FEATURES), np.uint8)
    return x, in_shards(tmp_path, x, [300, 1, 149, 250]), rng.integers(0, 3, 700).astype(np.uint8)


def network(backend, **changes):
    settings = {"loss": "cross_entropy", "bias": True, "seed": 1, "scale": 1 / 255} | changes
    return MLP([FEATURES, 5, 3], backend=backend, **settings)


lengths = st.lists(st.integers(1, 30), min_size=1, max_size=6)


class TestRows:
    @given(lengths=lengths, draw=st.data())
    def test_are_those_of_an_array(self, tmp_path_factory, lengths, draw):
        n = sum(lengths)
        x = np.random.default_rng(n).integers(0, 256, (n, 3), np.uint8)
        rows = in_shards(tmp_path_factory.mktemp("s"), x, lengths)
        assert (rows.shape, len(rows), rows.dtype) == (x.shape, n, x.dtype)
        assert np.array_equal(rows, x)
        first, stop = draw.draw(st.integers(0, n)), draw.draw(st.integers(0, n))
        assert np.array_equal(rows[first:stop, :], x[first:stop])
        assert np.array_equal(rows[first : stop : -2 if first > stop else 3], x[first:stop:3]) or (
            first > stop
        )
        picked = draw.draw(st.lists(st.integers(0, n - 1), max_size=20))
        assert np.array_equal(rows.take(np.array(picked, np.int64)), x[picked])
        kept = np.array(sorted(draw.draw(st.sets(st.integers(0, n - 1), min_size=1))))
        some = rows.keeping(kept)
        assert np.array_equal(some, x[kept])
        assert np.array_equal(some[1:], x[kept][1:])
        assert np.array_equal(some[1:].keeping(np.arange(len(some) - 1)[::2]), x[kept][1::2])

    @pytest.mark.parametrize("stored", [">i4", "<f8", np.float32, np.uint8, bool])
    def test_are_read_as_another_dtype(self, tmp_path, stored):
        x = np.random.default_rng(0).integers(0, 2, (9, 4)).astype(stored)
        for dtype in (np.uint8, np.float32):
            rows = in_shards(tmp_path, x, [4, 5], dtype)
            assert rows[1:8].dtype == dtype
            assert np.array_equal(rows, x.astype(dtype))

    def test_beyond_the_last_are_none(self, data):
        with pytest.raises(IndexError, match="700"):
            data[1].take(np.array([3, 700]))

    def test_have_the_mean_and_the_deviation_of_an_array(self, data, monkeypatch):
        x, rows, _ = data
        for block in (7, 4096):
            monkeypatch.setattr("backends.sharded._BLOCK", block)
            mean, deviation = rows.in_windows(100).mean_and_deviation()
            np.testing.assert_allclose(mean, x.mean(axis=0), rtol=1e-13)
            np.testing.assert_allclose(deviation, x.std(axis=0), rtol=1e-13)
        low, high = rows.in_windows(100).extremes()
        assert np.array_equal([low, high], [x.min(axis=0), x.max(axis=0)])

    def test_become_no_array_that_takes_a_gibibyte(self, tmp_path):
        path = tmp_path / "large.bin"
        with path.open("wb") as file:
            file.truncate(2**31)  # of zeros that take no room
        rows = ShardedRows([MappedShard(path, (2**21, 1024), np.uint8, 0)], np.uint8)
        with pytest.raises(MemoryError, match=r"2\.0 GiB .* a part"):
            np.asarray(rows)
        assert not np.asarray(rows[-3:]).any()

    def test_of_a_file_that_shrinks_are_an_error_that_names_it(self, data):
        _, rows, _ = data
        path = rows._shards[0].path
        with path.open("r+b") as file:
            file.truncate(100)
        with pytest.raises(OSError, match="shorter") as caught:
            rows.take(np.arange(300))
        assert caught.value.filename == str(path)
        assert len(rows.take(np.arange(301, 700))) == 399

    def test_have_a_checksum_of_names_sizes_and_places(self, data):
        _, rows, _ = data
        before, path = rows.checksum(), rows._shards[2].path
        assert rows.checksum() == before != rows.checksum(1)
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert rows.checksum() != before
        path.write_bytes(content + b"0")
        assert rows.checksum() != before


class TestTheOrderOfAnEpoch:
    @given(lengths=lengths, window=st.integers(1, 200), seed=st.integers(0, 99))
    def test_has_every_sample_once_and_none_out_of_its_window(
        self, tmp_path_factory, lengths, window, seed
    ):
        x = np.zeros((sum(lengths), 1), np.uint8)
        rows = in_shards(tmp_path_factory.mktemp("s"), x, lengths).in_windows(window)
        order = rows.order(np.random.default_rng(seed))
        assert sorted(order.tolist()) == list(range(len(x)))
        assert np.array_equal(order, rows.order(np.random.default_rng(seed)))
        # the shards one after the other, in an order that the first draw says
        ends = np.cumsum(lengths)
        drawn = np.random.default_rng(seed).permutation(len(lengths))
        whole = np.concatenate([np.arange(ends[i] - lengths[i], ends[i]) for i in drawn])
        for first in range(0, len(x), window):
            part = slice(first, first + window)
            assert set(order[part].tolist()) == set(whole[part].tolist())

    def test_differs_from_epoch_to_epoch_and_mixes_within_a_window(self, data):
        rng = np.random.default_rng(0)
        one, other = (data[1].order(rng) for _ in range(2))
        assert not np.array_equal(one, other)
        assert np.mean(np.diff(one.astype(int)) == 1) < 0.02

    def test_is_a_courses(self, data):
        settings = TrainingSettings(shuffle=True)
        order = Course(settings, 700, data[1]).order(np.random.default_rng(3), 1)
        assert np.array_equal(order, data[1].order(np.random.default_rng(3)))
        in_file_order = Course(TrainingSettings(), 700, data[1])
        assert in_file_order.order(np.random.default_rng(3), 1) is None


class TestAFeed:
    @example(unit=3, window=81, seed=0)  # an order longer than the samples
    @given(unit=st.integers(1, 40), window=st.integers(1, 90), seed=st.integers(0, 99))
    def test_takes_any_order(self, tmp_path_factory, unit, window, seed):
        rng = np.random.default_rng(seed)
        x, y = rng.integers(0, 256, (80, 3), np.uint8), rng.integers(0, 9, 80).astype(np.uint8)
        rows = in_shards(tmp_path_factory.mktemp("s"), x, [30, 50]).in_windows(window)
        feed = ShardedFeed(Backend(np, "base", "NumPy"), rows, y, unit)
        own_part = rows.order(rng)[1::2]  # as one of two ranks has it
        for order in (None, own_part, rng.integers(0, 80, 200), np.arange(3)):
            feed.start(order)
            wanted = np.arange(80) if order is None else order
            first = int(rng.integers(0, len(wanted)))  # as of a run that goes on
            while first < len(wanted):
                stop = feed.stop(first)
                assert stop == len(wanted) or stop % unit == 0
                values, labels = feed.rows(first, stop)
                assert np.array_equal(values, x[wanted[first:stop]])
                assert np.array_equal(labels, y[wanted[first:stop]])
                assert labels.dtype == np.int64
                first = stop

    def test_tells_in_the_training_what_went_wrong_in_its_thread(self, data):
        _, rows, y = data
        training = fit(
            network("cpu"), rows, y, epochs=9, batch_size=7, shuffle=True, shuffle_window=50
        )
        next(training)
        rows._shards[3].path.unlink()
        with pytest.raises(FileNotFoundError):
            list(training)


class TestTraining:
    @pytest.mark.parametrize(
        ("batch_size", "window"),
        [
            pytest.param(1, 64, marks=pytest.mark.thorough),
            *((1, 10_000), (7, 100), (32, 96), (64, 33)),
        ],
    )
    def test_has_the_bits_of_a_training_in_memory_in_the_same_order(
        self, backend, data, monkeypatch, batch_size, window
    ):
        x, rows, y = data
        rows = rows.in_windows(window)
        how = {"epochs": 2, "batch_size": batch_size, "learning_rate": 0.3, "seed": 4}
        sharded, in_memory = network(backend), network(backend)
        reports = list(
            fit(sharded, rows, y, test=(x, y), shuffle=True, shuffle_window=window, **how)
        )
        monkeypatch.setattr(Course, "order", lambda self, rng, epoch: rows.order(rng))
        others = list(fit(in_memory, x, y, test=(x, y), shuffle=True, **how))
        assert_weights(sharded.get_weights(), in_memory.get_weights(), 0)
        numbers = [
            [(r.train_loss, r.test_accuracy) for r in some if isinstance(r, EpochReport)]
            for some in (reports, others)
        ]
        assert numbers[0] == numbers[1]

    def test_has_the_bits_of_a_training_in_memory_in_file_order(self, backend, data):
        x, rows, y = data
        models = [network(backend) for _ in range(2)]
        for model, values in zip(models, (x, rows.in_windows(99)), strict=True):
            list(fit(model, values, y, epochs=1, batch_size=8))
        assert_weights(models[0].get_weights(), models[1].get_weights(), 0)

    @pytest.mark.parametrize("batch_size", [1, 8])
    @pytest.mark.parametrize("stop_after", [1, 4, 9])
    def test_goes_on_within_an_epoch_to_the_same_bits(
        self, data, monkeypatch, batch_size, stop_after
    ):
        monkeypatch.setattr("trainer.training.loop._REPORT_SECONDS", 1e-9)
        _, rows, y = data
        how = {
            "epochs": 2,
            "batch_size": batch_size,
            "momentum": 0.5,
            "shuffle": True,
            "shuffle_window": 90,
            "seed": 4,
            "test": (rows[:50], y[:50]),
        }
        whole, cut = network("cpu"), network("cpu")
        list(fit(whole, rows, y, **how))
        training = fit(cut, rows, y, **how)
        for _ in range(stop_after):
            report = next(training)
        assert isinstance(report, BatchProgress)
        state = training.state()
        goes_on = network("cpu")
        list(fit(goes_on, rows, y, state=state, **how))
        assert_weights(goes_on.get_weights(), whole.get_weights(), 0)

    def test_deforms_and_weighs_samples_as_in_memory(self, data, monkeypatch):
        x, rows, y = data
        how = {
            "epochs": 2,
            "batch_size": 32,
            "seed": 4,
            "deformation": Deformation((2, 3), rotate=20.0),
            "sample_weight": np.linspace(0.1, 2, 700),
        }
        models = [network("cpu") for _ in range(2)]
        list(fit(models[0], rows, y, shuffle=True, shuffle_window=64, **how))
        monkeypatch.setattr(Course, "order", lambda self, rng, _: rows.in_windows(64).order(rng))
        list(fit(models[1], x, y, shuffle=True, **how))
        assert_weights(models[0].get_weights(), models[1].get_weights(), 0)

    def test_answers_and_gradients_are_those_of_an_array(self, data):
        x, rows, y = data
        model, rows = network("cpu"), rows.in_windows(64)
        assert model.accuracy(rows, y) == model.accuracy(x, y)
        assert model.loss(rows, y) == pytest.approx(model.loss(x, y), rel=1e-6)
        assert_weights(model.gradients(rows, y), model.gradients(x, y), 1e-5)

    def test_needs_memory_for_two_windows(self, tmp_path):
        n, features, window = 60_000, 500, 2000
        path = tmp_path / "x.bin"
        with path.open("wb") as file:
            file.truncate(n * features)
        rows = ShardedRows([MappedShard(path, (n, features), np.uint8, 0)], np.uint8)
        y = np.arange(n, dtype=np.uint8) % 3
        model = MLP([features, 4, 3], backend="cpu", loss="cross_entropy")
        how = {"batch_size": 100, "shuffle": True, "shuffle_window": window}
        list(fit(model, rows[:window], y[:window], epochs=1, **how))
        tracemalloc.start()
        try:
            list(fit(model, rows, y, epochs=1, **how))
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        # two windows, a block that is copied, and some 30 bytes a sample, of 500
        assert peak < 2 * window * features + 4096 * features + 60 * n < n * features / 3

    @pytest.mark.parametrize(
        ("sharded", "settings", "words"),
        [
            (False, {"shuffle": True, "shuffle_window": 9}, "only for samples in shards"),
            (True, {"shuffle_window": 9}, "shuffle_window=9 goes with shuffle=True"),
            (True, {"sampling": "with-replacement"}, "sampling='epochs'"),
            (True, {"shuffle": True, "shuffle_window": 0}, "one or more"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, data, sharded, settings, words):
        x, rows, y = data
        with pytest.raises(ValueError, match=words):
            fit(network("cpu"), rows if sharded else x, y, **settings)

    @pytest.mark.parametrize("label", [3, 200])
    def test_a_label_that_is_no_class_is_refused(self, data, label):
        _, rows, y = data
        y[5] = label
        with pytest.raises(ValueError, match=rf"train_y\[5\] is {label}: expected .* 0 to 2"):
            list(fit(network("cpu"), rows, y))
