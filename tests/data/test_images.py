import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from trainer.data import DataError, images, prepare_digit, read_grey


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path, **options)


def test_colours_and_depths(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (3, 2), (255, 0, 0)).save(path)
    assert read_grey(path).tolist() == [[76] * 3] * 2
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 3] = (0, 255, 128)
    save(path, rgba)
    assert read_grey(path).tolist() == [[255, 0, 127]]
    Image.fromarray(np.eye(2, dtype=bool)).save(path)
    assert read_grey(path).tolist() == [[255, 0], [0, 255]]
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(path)
    assert read_grey(path).tolist() == [[0, 1, 255]]
    palette = Image.fromarray(np.array([[0, 1]], np.uint8), "L").convert("P")
    palette.putpalette([0, 0, 0, 100, 100, 100])
    palette.save(path, transparency=0)
    assert read_grey(path).tolist() == [[255, 100]]
    Image.fromarray(np.array([[0, 90]], np.uint8)).save(path, transparency=0)
    assert read_grey(path).tolist() == [[255, 90]]
    Image.fromarray(np.array([[7, 9]], np.uint8)).convert("LA").save(path)
    assert read_grey(path).tolist() == [[7, 9]]


def test_the_cameras_orientation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° to the right
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert read_grey(tmp_path / "a.png").tolist() == [[0], [255]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(("width", "height"), [(8001, 8000), (10000, 10000), (60000, 60000)])
def test_a_bomb(tmp_path, width, height):
    buffer = io.BytesIO()
    Image.new("1", (1, 1)).save(buffer, "BMP")
    content = bytearray(buffer.getvalue())
    content[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    path = tmp_path / "bomb.bmp"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"bomb\.bmp: .*(megapixels|decompression bomb)"):
        read_grey(path)


def test_a_digit_under_uneven_light_is_the_same_digit():
    paper = drawn(200, 12).astype(float) / 255
    y, x = np.mgrid[0 : 1 : 200 * 1j, 0 : 1 : 200 * 1j]
    even = prepare_digit((40 + 150 * paper).astype(np.uint8), (28, 28), (0, 255)).astype(int)
    for light in (0.4 + 0.6 * x, 1 - (x - 0.5) ** 2 - (y - 0.5) ** 2):
        shaded = ((40 + 150 * paper) * light).astype(np.uint8)
        digit = prepare_digit(shaded, (28, 28), (0, 255)).astype(int)
        assert np.abs(digit - even).mean() < 5


def test_unreadable(tmp_path):
    with pytest.raises(DataError, match=r"none\.png: there is no such image file"):
        read_grey(tmp_path / "none.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match=r"empty\.png: an empty file$"):
        read_grey(tmp_path / "empty.png")
    Image.fromarray(np.zeros((2, 2), np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="an image of floats"):
        read_grey(tmp_path / "a.tif")


@settings(deadline=None, max_examples=120)
@given(kind=st.sampled_from(["PNG", "GIF", "BMP", "JPEG", "TIFF"]), data=st.data())
def test_damage_gives_nothing_but_data_errors(complaint, tmp_path_factory, kind, data):
    buffer = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(buffer, kind)
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("image") / "a"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    complaint(lambda: read_grey(path), path)


def drawn(size, stroke, *, dark=True, shift=(0, 0)):
    """Draw a 7 on paper of `size` pixels a side."""
    picture = Image.new("L", (size, size), 255)
    corners = [(0.3, 0.3), (0.6, 0.3), (0.4, 0.8)]
    points = [(x * size + shift[0], y * size + shift[1]) for x, y in corners]
    ImageDraw.Draw(picture).line(points, fill=0, width=stroke)
    grey = np.asarray(picture)
    return grey if dark else 255 - grey


def centre_of_mass(picture):
    y, x = np.indices(picture.shape)
    return (y * picture).sum() / picture.sum(), (x * picture).sum() / picture.sum()


@pytest.mark.parametrize(("size", "stroke"), [(28, 2), (100, 1), (300, 20), (1500, 3), (2400, 60)])
def test_a_drawn_digit_is_scaled_and_centred(size, stroke):
    digit = prepare_digit(drawn(size, stroke), (28, 28), (0, 255)).reshape(28, 28)
    rows, columns = np.flatnonzero(digit.any(axis=1)), np.flatnonzero(digit.any(axis=0))
    assert np.ptp(rows) + 1 in (19, 20)
    assert 10 <= np.ptp(columns) + 1 <= 20
    assert centre_of_mass(digit.astype(float)) == pytest.approx((14, 14), abs=0.6)
    assert digit.max() == 255
    assert digit.dtype == np.uint8
    # No row of it may have vanished.
    assert (digit.max(axis=1)[rows[0] : rows[-1] + 1] > 60).all()


def test_neither_polarity_nor_place_nor_contrast_matter():
    expected = prepare_digit(drawn(200, 12), (28, 28), (0, 255)).astype(int)
    for grey in (
        drawn(200, 12, dark=False),
        drawn(200, 12, shift=(40, -30)),
        (drawn(200, 12) // 4 + 100).astype(np.uint8),
    ):
        assert np.abs(prepare_digit(grey, (28, 28), (0, 255)) - expected).mean() < 2


def test_noise_is_removed():
    noise = np.random.default_rng(0).normal(0, 12, (400, 400))
    grey = drawn(400, 24)
    noisy = np.clip(grey * 0.6 + 60 + noise, 0, 255).astype(np.uint8)
    clean = prepare_digit(grey, (28, 28), (0, 255)).astype(int)
    assert np.abs(prepare_digit(noisy, (28, 28), (0, 255)) - clean).mean() < 5


def test_small_frames_are_filled():
    digit = prepare_digit(drawn(200, 20), (8, 8), (0, 16)).reshape(8, 8)
    assert digit.any(axis=1).all()
    assert (digit.max(), digit.dtype) == (16, np.uint8)
    floats = prepare_digit(drawn(200, 20), (20, 20), (-0.5, 1.0))
    assert floats.dtype == np.float32
    assert floats.shape == (400,)
    assert (floats.min(), floats.max()) == (-0.5, 1.0)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_a_blank_picture(grey):
    noise = np.random.default_rng(0).integers(-3, 4, (300, 300))
    for paper in (np.full((300, 300), grey), np.clip(grey + noise, 0, 255)):
        with pytest.raises(ValueError, match="blank"):
            prepare_digit(paper.astype(np.uint8), (28, 28), (0, 255))


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    seed=st.integers(0, 2**16),
    levels=st.integers(1, 255),
    shape=st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
def test_any_picture(size, seed, levels, shape):
    grey = np.random.default_rng(seed).integers(0, levels + 1, size).astype(np.uint8)
    try:
        digit = prepare_digit(grey, shape, (0, 255))
    except DataError:
        return
    assert digit.shape == (shape[0] * shape[1],)
    assert digit.max() == 255


def test_own_images(real_data):
    """The noisy 6 becomes nearly what the clean 6 becomes, and all have MNIST's amount of ink."""
    digits = {
        path.stem: prepare_digit(read_grey(path), (28, 28), (0, 255))
        for path in (real_data / "own_images").glob("*.png")
    }
    assert len(digits) == 7
    for digit in digits.values():
        picture = digit.reshape(28, 28)
        sides = [np.ptp(np.flatnonzero(picture.any(axis=axis))) + 1 for axis in range(2)]
        assert max(sides) in (19, 20)
        assert 10 < digit.mean() < 60
    clean, noisy = digits["2828_my_own_6"], digits["2828_my_own_noisy_6"]
    assert np.corrcoef(clean, noisy)[0, 1] > 0.9


def test_the_limit_is_checked_before_pixels_are_read(tmp_path, monkeypatch):
    save(tmp_path / "a.png", np.zeros((10, 10)))
    monkeypatch.setattr(images, "_MOST_PIXELS", 99)
    with pytest.raises(DataError, match="10×10 pixels, more than"):
        read_grey(tmp_path / "a.png")
