"""Images deformed while they are trained on: compared with SciPy's, one image after the other."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from scipy import ndimage

from backends import Backend, select
from backends.feeding import Resident
from tests.conftest import assert_weights
from trainer import MLP, Deformation, figures, fit, load
from trainer.augmentation import _FIELDS, DeformedFeed, Deformer, deformed_examples, read_augment
from trainer.cli import main

ALL = {"alpha": 34.0, "rotate": 15.0, "scale": 15.0, "shear": 10.0, "shift": 2.0}
SETTINGS = {"epochs": 2, "batch_size": 4, "shuffle": True, "seed": 3}
FAST = ["--data", "digits", "--device", "cpu", "--quiet"]


def images(n, shape, dtype="float64", seed=0):
    drawn = np.random.default_rng(seed).integers(0, 256, (n, *shape))
    return (drawn if dtype == "uint8" else drawn / 255).astype(dtype)


def scipy_deformed(pictures, maps, fields, background):
    """Every image at the same coordinates by `map_coordinates`, in float64."""
    height, width = pictures.shape[1:]
    y, x = np.mgrid[:height, :width].astype(float)
    middle = np.array([(height - 1) / 2, (width - 1) / 2])[:, None, None]
    places = np.stack([y - middle[0], x - middle[1], np.ones_like(x)])
    deformed = []
    for i, picture in enumerate(pictures):
        came_from = np.tensordot(maps[i], places, 1) + middle
        if fields is not None:
            came_from = came_from + fields[i]
        deformed.append(
            ndimage.map_coordinates(
                picture.astype(float), came_from, order=1, mode="constant", cval=background
            )
        )
    return np.array(deformed)


def on(backend, *arrays):
    return [None if a is None else backend.asarray(a) for a in arrays]


def some_maps(n, seed=0):
    return np.eye(2, 3) + np.random.default_rng(seed).normal(0, [0.2, 0.2, 1.0], (n, 2, 3))


class TestLookingUp:
    """`Backend.deform`."""

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
    @pytest.mark.parametrize("shape", [(8, 8), (5, 9), (1, 6), (1, 1)])
    @pytest.mark.parametrize("field", [False, True])
    def test_nothing_is_the_identity(self, backend, dtype, shape, field):
        pictures = images(3, shape, dtype)
        real = "float64" if dtype == "float64" else "float32"
        maps = np.tile(np.eye(2, 3, dtype=real), (3, 1, 1))
        fields = np.zeros((3, 2, *shape), real) if field else None
        same = backend.deform(*on(backend, pictures, maps, fields), 0.0)
        np.testing.assert_array_equal(backend.to_numpy(same), pictures, strict=True)

    @pytest.mark.parametrize("shape", [(8, 8), (5, 9), (28, 28), (1, 6)])
    @pytest.mark.parametrize("background", [0.0, -3.5])
    @pytest.mark.parametrize("field", [False, True])
    def test_is_scipys(self, backend, shape, background, field):
        pictures, maps = images(12, shape), some_maps(12)
        pictures[:, : shape[0] // 3] = pictures[:, :, -shape[1] // 4 :] = background  # as digits
        pictures[0] = background
        fields = np.random.default_rng(1).normal(0, 2, (12, 2, *shape)) if field else None
        deformed = backend.deform(*on(backend, pictures, maps, fields), background)
        expected = scipy_deformed(pictures, maps, fields, background)
        assert not np.allclose(expected, pictures)
        np.testing.assert_allclose(backend.to_numpy(deformed), expected, rtol=0, atol=1e-12)

    @pytest.mark.parametrize(
        ("matrix", "expected"),
        [
            ([[1, 0, 1], [0, 1, 0]], [[4, 5, 6], [7, 8, 9], [0, 0, 0]]),
            ([[1, 0, 0], [0, 1, -0.5]], [[0, 2, 2], [0, 4, 6], [0, 8, 8]]),
            ([[0, 1, 0], [-1, 0, 0]], [[3, 6, 9], [2, 5, 8], [1, 4, 7]]),
            ([[1, 0, 0], [0, -1, 0]], [[3, 2, 1], [6, 5, 4], [9, 8, 7]]),
            ([[2, 0, 0], [0, 2, 0]], [[0, 0, 0], [0, 5, 0], [0, 0, 0]]),
        ],
    )
    def test_bytes_come_from_where_the_map_says(self, backend, matrix, expected):
        """Half a number is rounded to the even one."""
        pictures = np.arange(1, 10, dtype=np.uint8).reshape(1, 3, 3)
        deformed = backend.deform(*on(backend, pictures, np.array([matrix], "float32")), None, 0.0)
        np.testing.assert_array_equal(
            backend.to_numpy(deformed), np.array([expected], np.uint8), strict=True
        )

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
    @pytest.mark.parametrize("n", [0, 1, 77])
    def test_every_backend_does_what_the_textbook_does(self, backend, base_on_numpy, dtype, n):
        pictures, maps = images(n, (9, 7), dtype), some_maps(n).astype("float32")
        fields = np.random.default_rng(1).normal(0, 1, (n, 2, 9, 7)).astype("float32")
        ours = backend.to_numpy(backend.deform(*on(backend, pictures, maps, fields), 0.0))
        theirs = base_on_numpy.deform(pictures, maps, fields, 0.0)
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        # by rounding, a place may be the other side of the edge, and a byte the next one
        different = np.abs(ours.astype(float) - theirs) > (1e-4 if dtype == "float32" else 0)
        assert different.mean() < 0.002 if n else not different.any()

    def test_a_place_that_is_no_number_is_background(self, backend):
        pictures = images(1, (2, 2))
        deformed = backend.deform(*on(backend, pictures, np.full((1, 2, 3), np.nan), None), 7.0)
        np.testing.assert_array_equal(backend.to_numpy(deformed), np.full((1, 2, 2), 7.0))


class TestDrawing:
    """`Deformer`: the maps and the fields."""

    def drawn(self, backend, key=(1, 2), shape=(9, 12), dtype="float64", **settings):
        how = Deformation(shape, **settings)
        deformer = Deformer(backend, how, getattr(backend.xp, dtype))
        maps, fields = deformer._draw(key, 0, deformer.size)
        return backend.to_numpy(maps), None if fields is None else backend.to_numpy(fields)

    @pytest.mark.parametrize("sigma", [0.3, 1.0, 4.0, 30.0])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_the_elastic_field_is_scipys(self, backend, sigma, dtype):
        """`mode="constant"`: what lies outside of the image displaces nothing."""
        _, fields = self.drawn(backend, dtype=dtype, alpha=34.0, sigma=sigma)
        units = int(np.prod(fields.shape[1:]))
        drawn = backend.noise((1, 2), _FIELDS, len(fields), units, getattr(backend.xp, dtype))
        uniform = 2 * backend.to_numpy(drawn).astype(float).reshape(fields.shape)
        expected = 34 * ndimage.gaussian_filter(
            uniform[:20], sigma, axes=(2, 3), mode="constant", truncate=10
        )
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(fields[:20], expected, rtol=0, atol=34 * tolerance)

    def test_the_noise_is_uniform(self, backend):
        for dtype in (backend.xp.float32, backend.xp.float64):
            drawn = backend.noise((3, 1), 5, 50, 1001, dtype)
            assert drawn.dtype == dtype
            drawn = backend.to_numpy(drawn)
            assert drawn.min() >= -0.5
            assert drawn.max() < 0.5
            shares, _ = np.histogram(drawn, 10, (-0.5, 0.5))
            np.testing.assert_allclose(shares / drawn.size, 0.1, atol=0.006)
            assert abs(np.corrcoef(drawn[:, :-1].ravel(), drawn[:, 1:].ravel())[0, 1]) < 0.02

    def test_the_paper_s_field_moves_pixels_by_1_4(self, base_on_numpy):
        _, fields = self.drawn(base_on_numpy, shape=(29, 29), alpha=34, sigma=4)
        middle = fields[:, :, 12:17, 12:17].std()
        assert middle == pytest.approx(34 / (2 * 4 * np.sqrt(3 * np.pi)), rel=0.03)
        assert fields[:, :, 0, 0].std() < 0.6 * middle

    def test_alpha_is_how_far(self, base_on_numpy):
        _, near = self.drawn(base_on_numpy, alpha=1)
        _, far = self.drawn(base_on_numpy, alpha=10)
        np.testing.assert_allclose(far, 10 * near)
        assert self.drawn(base_on_numpy)[1] is None

    @pytest.mark.parametrize(
        ("name", "size", "known"),
        [
            ("rotate", 40.0, lambda u: [[np.cos(u), np.sin(u)], [-np.sin(u), np.cos(u)]]),
            ("shear", 30.0, lambda u: [[1, 0], [-np.tan(u), 1]]),
        ],
    )
    def test_an_angle_is_even_in_its_range(self, backend, name, size, known):
        maps, _ = self.drawn(backend, **{name: size})
        angle = np.arctan2(maps[:, 0, 1], maps[:, 0, 0]) if name == "rotate" else 0
        angle = angle if name == "rotate" else np.arctan(-maps[:, 1, 0])
        expected = np.stack([known(u) for u in angle])
        np.testing.assert_allclose(maps[:, :, :2], expected, atol=1e-12)
        np.testing.assert_array_equal(maps[:, :, 2], 0)
        self.assert_even(np.degrees(angle), size)

    def test_scales_are_even_and_their_own(self, backend):
        maps, _ = self.drawn(backend, scale=25.0)
        np.testing.assert_array_equal(maps[:, [0, 1], [1, 0]], 0)
        tall, wide = 1 / maps[:, 0, 0], 1 / maps[:, 1, 1]
        self.assert_even(100 * (tall - 1), 25)
        self.assert_even(100 * (wide - 1), 25)
        assert abs(np.corrcoef(tall, wide)[0, 1]) < 0.15

    def test_shifts_are_even_and_their_own(self, backend):
        maps, _ = self.drawn(backend, shift=3.0)
        np.testing.assert_array_equal(maps[:, :, :2] - np.eye(2), 0)
        self.assert_even(maps[:, 0, 2], 3)
        self.assert_even(maps[:, 1, 2], 3)
        assert abs(np.corrcoef(maps[:, 0, 2], maps[:, 1, 2])[0, 1]) < 0.15

    @staticmethod
    def assert_even(drawn, size):
        assert np.abs(drawn).max() <= size * (1 + 1e-9)
        np.testing.assert_allclose(
            np.histogram(drawn, 4, (-size, size))[0] / len(drawn), 0.25, atol=0.06
        )

    def test_together_they_are_one_map_back(self, base_on_numpy):
        """Scaled, sheared, turned, shifted; each as if it were drawn alone."""
        whole, _ = self.drawn(base_on_numpy, rotate=15, scale=15, shear=10, shift=2)
        square = np.tile([0.0, 0.0, 1.0], (len(whole), 1, 1))
        forth = np.tile(np.eye(3), (len(whole), 1, 1))
        for alone in ({"scale": 15}, {"shear": 10}, {"rotate": 15}, {"shift": 2}):
            back, _ = self.drawn(base_on_numpy, **alone)
            forth = np.linalg.inv(np.concatenate([back, square], axis=1)) @ forth
        expected = np.linalg.inv(forth)[:, :2]
        np.testing.assert_allclose(whole, expected, atol=1e-12)


class TestFeed:
    def epoch(self, backend, cuts, key=(5, 1), order=None, dtype="uint8", settings=ALL):
        x, y = images(40, (6, 7), dtype).reshape(40, 42), np.arange(40)
        how = Deformation((6, 7), **settings)
        values = backend.asarray(x)
        deformer = Deformer(backend, how, values.dtype)
        feed = DeformedFeed(Resident(backend.xp, values, backend.asarray(y)), deformer, key)
        feed.start(order)
        assert feed.stop(0) == 40
        edges = [0, *sorted(cuts), 40]
        parts = [feed.rows(a, b) for a, b in pairwise(edges)]
        return tuple(np.concatenate([backend.to_numpy(p[i]) for p in parts]) for i in (0, 1))

    @pytest.fixture(autouse=True)
    def _small_blocks(self, backend, monkeypatch):
        monkeypatch.setattr(backend, "chunk_size", 9)

    @given(cuts=st.sets(st.integers(1, 39)), dtype=st.sampled_from(["uint8", "float32"]))
    def test_however_it_is_asked_it_is_the_same(self, backend, cuts, dtype):
        whole, labels = self.epoch(backend, [], dtype=dtype)
        parts, same_labels = self.epoch(backend, cuts, dtype=dtype)
        np.testing.assert_array_equal(parts, whole, strict=True)
        np.testing.assert_array_equal(same_labels, labels)

    def test_another_key_or_place_is_another_image(self, backend):
        x, _ = self.epoch(backend, [])
        again, _ = self.epoch(backend, [])
        np.testing.assert_array_equal(x, again)
        for key in ((5, 2), (6, 1)):
            assert (self.epoch(backend, [], key=key)[0] != x).any(axis=1).all()
        order = np.zeros(40, int)
        versions, labels = self.epoch(backend, [], order=order)
        assert len({row.tobytes() for row in versions}) == 40
        assert not labels.any()

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
    def test_values_keep_their_dtype_and_range(self, backend, dtype):
        x, _ = self.epoch(backend, [], dtype=dtype)
        assert x.dtype == dtype
        assert x.min() >= 0
        assert x.max() <= (255 if dtype == "uint8" else 1) + 1e-6


class TestFit:
    def samples(self, dtype="uint8"):
        return images(30, (6, 7), dtype).reshape(30, 42), np.arange(30) % 3

    def trained(self, backend, state=None, start=0, **changes):
        model = MLP([42, 5, 3], backend=backend, seed=start)
        how = Deformation((6, 7), **ALL)
        settings = {"deformation": how, **SETTINGS, **changes}
        training = fit(model, *self.samples(), **settings, state=state)
        after = [(model.get_weights(), training.state())]
        after += [(model.get_weights(), training.state()) for _ in training]
        return after

    def weights(self, *args, **changes):
        return self.trained(*args, **changes)[-1][0]

    @pytest.fixture(autouse=True)
    def _small_blocks(self, backend, monkeypatch):
        monkeypatch.setattr(backend, "chunk_size", 9)
        monkeypatch.setattr(backend, "block_size", 4)

    @pytest.mark.parametrize(
        "changes",
        [
            {},
            {"batch_size": 1},
            {"shuffle": False, "seed": None},
            {"sampling": "with-replacement"},
        ],
    )
    def test_goes_on_from_anywhere_to_the_same_bits(self, backend, monkeypatch, changes):
        monkeypatch.setattr("trainer.training.loop._REPORT_SECONDS", 1e-9)
        whole = self.trained(backend, **changes)
        assert len(whole) > 8
        for at in range(0, len(whole), 3):
            rest = self.trained(backend, state=whole[at][1], start=1, **changes)
            assert len(rest) == len(whole) - at
            assert_weights(rest[-1][0], whole[-1][0], 0)

    def test_does_not_depend_on_the_reports(self, backend, monkeypatch):
        few = self.weights(backend)
        monkeypatch.setattr("trainer.training.loop._REPORT_SECONDS", 1e-9)
        assert_weights(self.weights(backend), few, 0)

    def test_the_seed_decides(self, backend):
        changes = {"shuffle": False}
        first = self.weights(backend, **changes)
        assert_weights(self.weights(backend, **changes), first, 0)
        assert not np.array_equal(self.weights(backend, **changes | {"seed": 4})[0], first[0])
        plain = self.weights(backend, **changes, deformation=None)
        assert not np.array_equal(plain[0], first[0])

    def test_every_epoch_has_other_images(self, backend, monkeypatch):
        seen = []
        original = DeformedFeed.rows

        def rows(feed, first, stop):
            values, labels = original(feed, first, stop)
            seen.append(backend.to_numpy(values))
            return values, labels

        monkeypatch.setattr(DeformedFeed, "rows", rows)
        self.trained(backend, shuffle=False, batch_size=30)
        assert len(seen) == 2
        assert (seen[0] != seen[1]).any(axis=1).all()

    def test_deforming_by_nothing_is_not_deforming(self, backend):
        nothing = self.weights(backend, deformation=Deformation((6, 7)))
        assert_weights(self.weights(backend, deformation=None), nothing, 0)

    def test_test_and_held_out_samples_stay_as_they_are(self, backend):
        model = MLP([42, 5, 3], backend=backend)
        x, y = self.samples()
        held_out = {"test": (x, y), "validation": (x, y)}
        how = Deformation((6, 7), **ALL)
        *_, last = fit(model, x, y, **SETTINGS, **held_out, deformation=how)
        assert last.test_accuracy == last.validation_accuracy == model.accuracy(x, y)

    def test_images_of_another_size_are_refused(self, backend):
        model = MLP([42, 5, 3], backend=backend)
        with pytest.raises(ValueError, match=r"images of 8×8 pixels.*the network's 42 inputs"):
            fit(model, *self.samples(), deformation=Deformation((8, 8)))


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha", -1), ("sigma", 0), ("rotate", 181), ("scale", 91), ("shear", 90), ("shift", np.nan)],
)
def test_a_setting_out_of_its_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"{name}={value}: expected .* at most"):
        Deformation((8, 8), **{name: value})


def test_examples_are_the_image_and_its_deformations(backend):
    x = images(3, (6, 7), "uint8").reshape(3, 42)
    how = Deformation((6, 7), **ALL)
    shown = backend.to_numpy(deformed_examples(backend, how, x, 4))
    assert shown.shape == (3, 5, 42)
    np.testing.assert_array_equal(shown[:, 0], x)
    assert len({row.tobytes() for row in shown[0]}) == 5


def test_as_many_are_drawn_at_a_time_on_every_device(base_on_numpy):
    """Otherwise what is drawn for an image would follow from the device."""
    how = Deformation((28, 28), **ALL)
    sizes = {Deformer(some, how, np.uint8).size for some in (base_on_numpy, select("cpu"))}
    assert base_on_numpy.chunk_size != select("cpu").chunk_size
    assert sizes == {1024}


def test_large_images_are_deformed_in_few_at_a_time(base_on_numpy):
    how = Deformation((200, 300), **ALL)
    assert Deformer(base_on_numpy, how, np.uint8).size == 1024 * 1024 // 60_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.augmentation._IMAGES", 40)
        assert Deformer(base_on_numpy, how, np.uint8).size == 1
        x = images(2, (200, 300), "uint8").reshape(2, 60_000)
        x[1] = x[0]
        first, second = deformed_examples(base_on_numpy, how, x, 1)[:, 1]
        assert not np.array_equal(first, second)


@pytest.mark.parametrize(("rows", "shape"), [(10, (28, 28)), (1, (3, 9)), (2, (40, 10))])
@pytest.mark.filterwarnings("error")
def test_the_figure_is_a_png_image_of_at_most_200_kb(rows, shape):
    examples = images(rows * 10, shape).reshape(rows, 10, -1)
    drawn = figures.deformed(examples, shape, (0.0, 1.0), [f"class {i}" for i in range(rows)])
    png = figures.encoded(drawn, ".png")
    assert png.startswith(b"\x89PNG")
    assert len(png) <= 200_000


# --- the command line -----------------------------------------------------------------------


def test_what_is_typed_is_read():
    texts = ["elastic:34,4", "copies:10", "rotate:15", "scale:7.5", "copies:5", "shear:10"]
    texts.append("shift:2")
    settings = {**ALL, "sigma": 4, "scale": 7.5}
    assert read_augment(texts) == ([10, 5], settings)
    assert read_augment([]) == ([], {})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("elastic", "α and σ in pixels, above 0 and at most 1000 and 100, such as elastic:34,4"),
        ("elastic:34", "such as elastic:34,4"),
        ("elastic:34,4,5", "such as elastic:34,4"),
        ("elastic:34,0", "such as elastic:34,4"),
        ("elastic:34,101", "such as elastic:34,4"),
        ("elastic:x,4", "such as elastic:34,4"),
        ("rotate:", "degrees above 0 and at most 180, such as rotate:15"),
        ("rotate:181", "degrees above 0 and at most 180, such as rotate:15"),
        ("scale:nan", "per cent above 0 and at most 90, such as scale:15"),
        ("shear:-3", "degrees above 0 and at most 80, such as shear:10"),
        ("shift:0", "pixels above 0 and at most 1000, such as shift:2"),
        ("shift:inf", "such as shift:2"),
        ("twist:3", "one of copies:10, elastic:34,4, rotate:15, scale:15, shear:10, shift:2"),
    ],
)
def test_a_mistake_is_one_line(text, words, capsys):
    assert main([*FAST, "--augment", text]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: --augment {text}: expected")
    assert words in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--augment", "shift:1", "--augment", "shift:2"],
            "--augment shift:2: expected shift once",
        ),
        (["--augment", "shift:1", "--optimizer", "cg"], "--optimizer cg looks at the same images"),
    ],
)
def test_what_does_not_go_together_is_one_line(options, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*FAST, *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_training_deforms_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    texts = ["elastic:10,3", "rotate:15", "copies:10"]
    options = [option for text in texts for option in ("--augment", text)]
    options += ["--epochs", "2", "--limit", "200", "--recipe", "book", "--seed", "4"]
    assert main([*FAST[:-1], *options, "--figures", "--out", "o"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "2 copies of it turned by ±10°" in out
    assert "deformed anew each epoch: elastically with α 10 and σ 3, rotated by up to 15°" in out
    assert "o/figures/deformed.png" in out
    assert Path("o/figures/deformed.png").read_bytes().startswith(b"\x89PNG")
    assert Path("o/figures/curves.png").exists()
    config = json.loads(Path("o/config.json").read_text())
    assert config["settings"]["augment"] == texts
    assert config["data"]["train_samples"] == 600
    assert main([*FAST[:-1], *options, "--json", "--out", "p"]) == 0
    assert not Path("p/figures").exists()
    weights = [MLP.load(run, backend=select("cpu")).get_weights() for run in ("o", "p")]
    assert_weights(*weights, 0)


def test_training_draws_its_turned_copies(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    drawn = []
    monkeypatch.setattr(figures, "deformed", lambda *a, **k: drawn.append((a, k)) or Figure((1, 1)))
    options = [
        "--augment",
        "copies:10",
        "--augment",
        "copies:90",
        "--limit",
        "200",
        "--epochs",
        "1",
    ]
    assert main([*FAST, *options, "--figures", "--out", "o"]) == 0
    assert Path("o/figures/deformed.png").read_bytes().startswith(b"\x89PNG")
    [((values, shape, value_range, labels), named)] = drawn
    assert named == {"angles": [10, -10, 90, -90]}
    assert (values.shape, shape, value_range) == ((10, 5, 64), (8, 8), (0, 16))
    for row, label in zip(values.reshape(10, 5, 8, 8), labels, strict=True):
        first = np.flatnonzero(load("digits").train_y == int(label))[0]
        np.testing.assert_array_equal(row[0].reshape(-1), load("digits").train_x[first])
        # scipy.ndimage.rotate turns likewise, and a quarter is exact
        np.testing.assert_array_equal(row[3], np.rot90(row[0]))
        np.testing.assert_allclose(
            row[1], ndimage.rotate(row[0].astype(float), 10, order=1, reshape=False), atol=0.51
        )


@pytest.mark.parametrize(("deformed", "angles"), [(0, [10, -10]), (3, []), (3, [5, -5])])
def test_every_column_of_examples_has_its_head(deformed, angles):
    examples = np.zeros((2, 1 + len(angles) + deformed, 4))
    drawn = figures.deformed(examples, (2, 2), (0.0, 1.0), ["a", "b"], angles=angles)
    heads = [text.get_text() for text in drawn.axes[0].get_xticklabels()]
    turned = [f"{angle:+d}°".replace("-", "−") for angle in angles]
    assert heads == ["original", *turned, *["deformed"] * bool(deformed)]


def test_deformed_samples_are_no_others_on_another_kind_of_array():
    """The strict namespace and NumPy draw alike, both being the host's."""
    strict = pytest.importorskip("array_api_strict")
    x = images(5, (6, 7)).reshape(5, 42)
    how = Deformation((6, 7), **ALL)
    plain, other = select("cpu"), Backend(strict, "strict", "")
    other.chunk_size = plain.chunk_size
    shown = [backend.to_numpy(deformed_examples(backend, how, x, 3)) for backend in (plain, other)]
    np.testing.assert_allclose(*shown, atol=1e-12)
