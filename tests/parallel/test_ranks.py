"""Ranks as threads: a training divided among several ends where that of one does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from backends import Backend, select
from backends.ranks import ALONE, Share
from trainer import MLP, fit
from trainer.augmentation import Deformation
from trainer.training import Diverged, EpochReport

from .threads import ThreadRanks, together

N = 29  # whole batches of 8, and a last one of 5


class _Rank:
    def __init__(self, index: int, count: int) -> None:
        self.index, self.count = index, count


@given(st.integers(1, 9), st.integers(1, 40), st.integers(0, 200), st.randoms())
def test_shares_divide_every_batch(count: int, batch: int, n: int, random: Any) -> None:
    shares = [Share(_Rank(index, count), batch) for index in range(count)]  # type: ignore[arg-type]
    order = np.array(random.sample(range(1000), n), dtype=int)
    whole = [share.order(order, n) for share in shares]
    assert sorted(np.concatenate(whole)) == sorted(order)
    assert max(share.size for share in shares) == -(-batch // count)
    for share, own in zip(shares, whole, strict=True):
        runs = list(share.runs(0, len(own)))
        np.testing.assert_array_equal(
            np.concatenate([order[:0], *(order[a:b] for a, b in runs)]), own
        )
        assert all(a // batch == (b - 1) // batch for a, b in runs if count > 1)
        np.testing.assert_array_equal(
            share.order(None, n), _places(order, own) if count > 1 else None
        )
        for place in {*range(0, n, batch), n}:
            assert share.own(place) == sum(min(b, place) - a for a, b in runs if a < place)
        for batches in range(n // batch):
            if share.size:
                assert share.place(batches * share.size, n) <= batches * batch + batch
                assert share.own(share.place(batches * share.size, n)) >= batches * share.size


def _places(order: np.ndarray, own: np.ndarray) -> np.ndarray:
    where = {value: place for place, value in enumerate(order)}
    return np.array([where[value] for value in own], dtype=int)


def test_a_process_alone_has_all_of_it() -> None:
    share = Share(ALONE, 8)
    assert (share.first, share.size, share.own(13), share.place(16, 29)) == (0, 8, 13, 16)
    assert list(share.runs(3, 20)) == [(3, 20)]


def trained(
    backend: Backend,
    ranks: Any = ALONE,
    *,
    batch_size: int = 8,
    stop: bool = False,
    **changes: Any,
) -> Any:
    """Train a small network on small images for two epochs, or until the first report."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (N, 16), dtype=np.uint8) * (rng.random((N, 16)) < 0.5)
    x, y = x.astype(np.uint8), rng.integers(0, 3, N)
    bias = changes.pop("bias", True)
    if changes.pop("deformed", False):
        changes["deformation"] = Deformation((4, 4), alpha=4, sigma=2, rotate=10)
    if changes.pop("weighted", False):
        changes["sample_weight"] = rng.random(N) * (rng.random(N) < 0.8)
    model = MLP(
        [16, 7, 5, 3], backend=backend, dtype="float64", bias=bias, seed=3, l2=0.5,
        loss=changes.pop("loss", "cross_entropy"),
    )  # fmt: skip
    settings = {"epochs": 2, "learning_rate": 0.1, "shuffle": True, "seed": 4} | changes
    training = fit(
        model, x, y, batch_size=batch_size, test=(x[:11], y[:11]), ranks=ranks, **settings
    )
    if stop:
        next(training)
        return training.state()
    reports = [report for report in training if isinstance(report, EpochReport)]
    return model.get_weights(), reports, training.losses()


CASES: dict[str, dict[str, Any]] = {
    "sgd": {},
    "file order": {"shuffle": False},
    "momentum": {"momentum": 0.5},
    "nesterov": {"optimizer": "nesterov", "momentum": 0.5},
    "adam": {"optimizer": "adam", "learning_rate": 0.01},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1, "learning_rate": 0.01},
    "rashid": {"loss": "rashid", "bias": False},
    "dropout": {"dropout": 0.3, "input_dropout": 0.2},
    "batch norm": {"batch_norm": True},
    "deformed": {"deformed": True},
    "weighted": {"weighted": True},
    "drawn": {"sampling": "with-replacement"},
    "all of it": {
        "batch_norm": True, "averaging": 0.9, "clip": 0.1, "dropout": 0.2, "weighted": True,
        "schedule": "cosine", "warmup": 0.1,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("count", "batch_size"), [(2, 8), (3, 2), (5, 64)])
def test_ranks_end_where_one_process_does(
    base_on_numpy: Backend, name: str, count: int, batch_size: int
) -> None:
    check_alike(base_on_numpy, count, **CASES[name], batch_size=batch_size)


@pytest.mark.parametrize(
    ("count", "case"),
    [
        (3, CASES["adam"] | {"deformed": True}),
        (2, {"momentum": 0.5, "dropout": 0.3, "input_dropout": 0.2, "clip": 0.1, "averaging": 0.9}),
        (2, CASES["batch norm"]),
        (3, CASES["adam"] | {"batch_size": 4}),
    ],
)
def test_ranks_with_kernels_end_where_one_process_does(count: int, case: dict[str, Any]) -> None:
    check_alike(select("cpu"), count, **case)


def check_alike(backend: Backend, count: int, **case: Any) -> None:
    weights, reports, losses = trained(backend, **case)
    found = together(count, lambda ranks: trained(backend, ranks, **case))
    for others, their_reports, their_losses in found:
        for w, other in zip(weights, others, strict=True):
            np.testing.assert_allclose(other, w, rtol=0, atol=1e-9)
        np.testing.assert_allclose(their_losses, losses, atol=1e-9)
        for report, other in zip(reports, their_reports, strict=True):
            assert other.train_loss == pytest.approx(report.train_loss, abs=1e-9)
            assert other.test_accuracy == report.test_accuracy


def test_ranks_are_portable(base_on_numpy: Backend) -> None:
    array_api_strict = pytest.importorskip("array_api_strict")
    strict = Backend(array_api_strict, "strict", "array-api-strict")
    weights, *_ = trained(base_on_numpy, batch_norm=True, dropout=0.2, weighted=True)

    class Strict(ThreadRanks):
        def sum(self, arrays: Any) -> list[Any]:
            summed = super().sum([np.asarray(a) for a in arrays])
            return [array_api_strict.asarray(a) for a in summed]

    def train(ranks: Any) -> list[np.ndarray]:
        ranks.__class__ = Strict
        return trained(strict, ranks, batch_norm=True, dropout=0.2, weighted=True)[0]

    for others in together(2, train):
        for w, other in zip(weights, others, strict=True):
            np.testing.assert_allclose(other, w, rtol=0, atol=1e-9)


def test_a_divided_training_goes_on_in_other_numbers_of_processes(base_on_numpy: Backend) -> None:
    adam = CASES["adam"]
    desired, *_ = trained(base_on_numpy, **adam)
    states = together(3, lambda ranks: trained(base_on_numpy, ranks, **adam, stop=True))
    assert states[0].samples == states[1].samples > 0
    assert all(np.array_equal(states[0].arrays[k], a) for k, a in states[1].arrays.items())
    again = dict(adam, state=states[0])
    alone = trained(base_on_numpy, **again)
    for found, *_ in [alone, *together(2, lambda ranks: trained(base_on_numpy, ranks, **again))]:
        for w, other in zip(desired, found, strict=True):
            np.testing.assert_allclose(other, w, rtol=0, atol=1e-9)


def test_batch_size_1_is_not_divided(base_on_numpy: Backend) -> None:
    with pytest.raises(ValueError, match=r"batch_size=1 learns one sample after the other.*256"):
        together(2, lambda ranks: trained(base_on_numpy, ranks, batch_size=1))


def test_all_ranks_diverge_at_once(base_on_numpy: Backend) -> None:
    def diverged(ranks: Any) -> str:
        with np.errstate(all="ignore"), pytest.raises(Diverged) as error:
            trained(base_on_numpy, ranks, learning_rate=1e300)
        return str(error.value)

    assert len(set(together(3, diverged))) == 1


def test_weights_that_come_apart_are_noticed(base_on_numpy: Backend) -> None:
    def train(ranks: ThreadRanks) -> Any:
        plain = ranks.sum
        if ranks.index == 1:
            ranks.sum = lambda arrays: [a * 1.5 for a in plain(arrays)]  # type: ignore[method-assign]
        return trained(base_on_numpy, ranks)

    with pytest.raises(RuntimeError, match="ranks' weights are not the same"):
        together(2, train)
