"""Folders of images as people have them: unpacked, divided, and with what does not belong there."""

import glob
import io
import re
import shlex
import shutil
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from trainer.data import DataError, image_folders, load, load_labelled

SIZE = (3, 2)


def save(path, grey, size=SIZE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, grey).save(path, **options)
    return path


def classes(folder, labels=(2, 10), images=2, first=0, **options):
    """Write images of each class, whose grey is their number in the class, from `first` on."""
    for label in labels:
        for i in range(images):
            save(folder / str(label) / f"{i}.png", first + i, **options)
    return folder


def greys(x, y, names):
    """Return the label and the grey of each image, in an order of their own."""
    return sorted((str(names[code]), int(value)) for value, code in zip(x[:, 0], y, strict=True))


def part_to_train(data):
    return greys(data.train_x, data.train_y, data.classes)


def part_to_test(data):
    return greys(data.test_x, data.test_y, data.classes)


def fault(folder):
    with pytest.raises(DataError) as caught:
        load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path):
    """Write two images of each class 2 and 10."""
    return classes(tmp_path / "set")


def test_a_folder_of_classes(folder):
    data = load(folder, test_data=folder)
    assert data.classes == (2, 10)
    assert part_to_train(data) == [("10", 0), ("10", 1), ("2", 0), ("2", 1)]
    assert (data.kind, data.name, data.image_shape) == ("images", "set", (2, 3))
    assert (data.train_x.dtype, data.value_range, data.note) == (np.uint8, (0, 255), "")
    (folder / "10").rename(folder / "ten")
    data = load(folder, test_data=folder)
    assert data.classes == ("2", "ten")
    x, y = load_labelled(folder, ("ten", "2", "x"), 6)
    assert greys(x, y, ("ten", "2", "x")) == part_to_train(data)


def test_the_order_is_that_of_older_versions(tmp_path):
    names = [f"{label}/{i}.png" for label in "abc" for i in range(9)]
    for i, name in enumerate(names):
        save(tmp_path / "set" / name, i)
    data = load(tmp_path / "set", test_data=tmp_path / "set")
    order = np.random.default_rng(0).permutation(27)
    assert data.train_x[:, 0].tolist() == order.tolist()


# --- what does not belong there ---------------------------------------------------------------


def test_what_systems_and_people_put_there_is_passed_over(folder):
    before = load(folder, test_data=folder)
    for name in (
        *("Thumbs.db", "desktop.ini", "notes.txt", "labels.csv", "a.json", "readme.md", "a.xml"),
        *(".DS_Store", "._0.png", ".git/0.png", ".ipynb_checkpoints/0.png"),
    ):
        for place in (folder, folder / "2"):
            (place / name).parent.mkdir(exist_ok=True)
            (place / name).write_bytes(b"no image")
    for place in (folder, folder / "2"):
        (place / "__MACOSX").mkdir()
        (place / "__MACOSX" / "._0.png").write_bytes(b"no image")
    data = load(folder, test_data=folder)
    assert data.note == ""
    assert data.fingerprint() == before.fingerprint()


def test_names_in_capitals_without_a_suffix_or_with_a_number_are_images_too(tmp_path):
    for i, name in enumerate(("0.PNG", "one", "digit.2", "3.JPeG")):
        save(tmp_path / "set" / "a" / name, 10 * i, format="PNG")
        save(tmp_path / "set" / "b" / name, 10 * i, format="PNG")
    data = load(tmp_path / "set", test_data=tmp_path / "set")
    assert part_to_train(data) == [(label, 10 * i) for label in "ab" for i in range(4)]


def test_images_that_cannot_be_read_are_left_out_and_counted(folder):
    before = load(folder, test_data=folder)
    empty, cut = folder / "10" / "z.png", folder / "2" / "cut.png"
    empty.touch()
    data = load(folder, test_data=folder)
    assert data.note == f"1 of 5 images cannot be read and is left out: {empty}: an empty file"
    cut.write_bytes((folder / "2" / "0.png").read_bytes()[:40])
    (folder / "2" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "2" / "gone.png").symlink_to("nowhere")
    data = load(folder, test_data=folder)
    assert data.note.startswith("4 of 8 images cannot be read and are left out; the first: ")
    assert f"{empty}: an empty file" in data.note
    assert data.fingerprint() == before.fingerprint()
    notes = []
    load_labelled(folder, (2, 10), 6, on_note=notes.append)
    assert notes == [data.note.splitlines()[0]]


def test_a_class_of_which_nothing_is_left_is_an_error(folder):
    for path in (folder / "2").glob("*.png"):
        path.write_bytes(b"GIF89a nonsense")
    said = fault(folder)
    assert f"{folder / '2'}: a class without a single image: 2 cannot be read, the first: " in said
    assert "0.png: not a readable image" in said
    shutil.rmtree(folder / "2")
    (folder / "2").mkdir()
    assert fault(folder).endswith("2: a class without a single image")


def test_a_folder_in_a_class_is_an_error(folder):
    save(folder / "2" / "more" / "9.png", 9)
    said = fault(folder)
    assert f"{folder / '2' / 'more'}: a folder in 2, where only images of the class 2" in said


# --- sizes ------------------------------------------------------------------------------------


def test_mixed_sizes_are_told_with_what_to_type(folder):
    odd = save(folder / "2" / "1.png", 0, (5, 4))
    large = save(folder / "2" / "b.jpg", 0, (50, 4))
    classes(folder, images=8)
    for path, size in ((odd, (5, 4)), (large, (50, 4))):
        save(path, 0, size)
    said = fault(folder)
    sizes = f"3×2 (15), 5×4 (1, such as {odd}), 50×4 (1, such as {large})"
    assert f"{folder}: 17 images are of 3 sizes, where one is wanted: {sizes}; " in said
    assert "mogrify -resize '3x2!'" in said


def test_the_command_goes_over_all_images_of_a_copy(tmp_path):
    whole = tmp_path / "it's a set"
    classes(whole / "train", size=(4, 4))
    classes(whole / "test", size=(5, 5))
    save(whole / "test" / "2" / "x.jpg", 0, (7, 7))
    said = fault(whole)
    assert "9 images are of 3 sizes, where one is wanted: 5×5 (4), 4×4 (4, such as" in said
    copying, resizing = said.split("ImageMagick: ")[1].split(" && ")
    command, option, source, copy = shlex.split(copying)
    assert (command, option, source) == ("cp", "-r", str(whole))
    shutil.copytree(source, copy)
    words = shlex.split(resizing)
    assert words[:3] == ["mogrify", "-resize", "28x28!"]  # no size is that of most
    found = {path for pattern in words[3:] for path in glob.glob(pattern)}
    assert found == {str(path) for path in (tmp_path / copy).glob("*/*/*.*")}
    for path in found:  # as mogrify does
        with Image.open(path) as image:
            image.resize((28, 28)).save(path)
    assert load(copy).image_shape == (28, 28)


def test_many_images_of_many_sizes_are_not_all_read(folder, monkeypatch):
    monkeypatch.setattr(image_folders, "_COUNTED", 6)
    for i in range(20):
        save(folder / "20" / f"{i:02}.png", 0, (i + 4, 2))
    said = fault(folder)
    assert "the first 6 images are of 3 sizes" in said
    for i in range(20):
        save(folder / "20" / f"{i:02}.png", 0, (i // 10 + 4, 2))
    monkeypatch.setattr(image_folders, "_COUNTED", 1000)
    (folder / "20" / "20.png").write_bytes(b"")
    assert re.search(
        r"24 images are of 3 sizes, .*: 4×2 \(10\), 5×2 \(10, .*\), 3×2 \(4,", fault(folder)
    )


# --- parts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("train", "valid", "test"),
        ("Training", "Validation", "Testing"),
        ("TRAIN", "val", "TEST"),
        ("training", None, "testing"),
    ],
)
def test_a_divided_folder(tmp_path, train, validation, test):
    whole = tmp_path / "divided"
    classes(whole / train, images=3)
    classes(whole / test, first=20)
    if validation:
        classes(whole / validation, first=10, images=1)
    (whole / "readme.txt").write_text("train")
    data = load(whole)
    assert part_to_train(data) == [(label, i) for label in ("10", "2") for i in range(3)]
    assert part_to_test(data) == [(label, i) for label in ("10", "2") for i in (20, 21)]
    if validation:
        assert greys(*data.validation, data.classes) == [("10", 10), ("2", 10)]
    else:
        assert data.validation is None
    assert (data.name, data.source, data.note) == ("divided", str(whole), "")
    x, y = load_labelled(whole, data.classes, 6)
    assert greys(x, y, data.classes) == part_to_test(data)


def test_without_a_test_part_the_validation_part_tests(tmp_path):
    whole = tmp_path / "divided"
    classes(whole / "train", images=30)
    classes(whole / "val", first=40)
    data = load(whole)
    assert (len(data.train_y), data.validation) == (60, None)
    assert part_to_test(data) == [(label, i) for label in ("10", "2") for i in (40, 41)]
    assert data.note.startswith(f"{whole} has no test part: its validation part tests and chooses")
    x, y = load_labelled(whole, data.classes, 6)
    assert greys(x, y, data.classes) == part_to_test(data)
    other = classes(tmp_path / "other", first=50)
    data = load(whole, test_data=other)  # which leaves it free to choose
    assert part_to_test(data) == [(label, i) for label in ("10", "2") for i in (50, 51)]
    assert greys(*data.validation, data.classes) == greys(x, y, data.classes)
    assert part_to_test(load(other, test_data=whole)) == greys(x, y, data.classes)


def test_only_a_training_part_is_split(tmp_path):
    classes(tmp_path / "set" / "train", images=20)
    data = load(tmp_path / "set")
    assert (data.name, data.classes) == ("set", (2, 10))
    assert (len(data.train_y), len(data.test_y)) == (32, 8)


def test_classes_named_like_parts_are_classes(tmp_path):
    whole = classes(tmp_path / "set", labels=("train", "test", "valid"))
    data = load(whole, test_data=whole)
    assert data.classes == ("test", "train", "valid")
    assert len(data.train_y) == 6
    classes(tmp_path / "rails", labels=("train", "rail"))
    assert load(tmp_path / "rails").classes == ("rail", "train")


@pytest.mark.parametrize("other", ["extra", "tests"])
def test_a_folder_beside_parts_is_an_error(tmp_path, other):
    whole = tmp_path / "set"
    for part in ("train", "test", other):
        classes(whole / part)
    assert "parts are folders train, valid and test, train among them, and no other" in fault(whole)


def test_parts_that_do_not_go_together(tmp_path):
    whole = tmp_path / "set"
    classes(whole / "train")
    classes(whole / "val")
    classes(whole / "Valid")
    assert f"{whole}: Valid and val are both a validation part; expected one" in fault(whole)
    shutil.rmtree(whole / "Valid")
    save(whole / "test" / "1.png", 0)
    said = fault(whole)
    assert f"{whole / 'test'}: no sub-folder of images, one a class, is in it" in said
    shutil.rmtree(whole / "train")
    assert "train among them" in fault(whole)


def test_classes_of_one_part_only(tmp_path):
    whole = tmp_path / "set"
    classes(whole / "train", labels=("a", "b"))
    classes(whole / "valid", labels=("b", "c"))
    classes(whole / "test", labels=("a", "d"), images=3)
    data = load(whole)
    assert data.classes == ("a", "b", "c", "d")
    assert data.note.splitlines() == [
        f"no training sample is of {label}: {few} of {all_} samples of {whole} ({part}) can never"
        " be right"
        for label, few, all_, part in (("d", 3, 6, "test"), ("c", 2, 4, "validation"))
    ]


# --- unpacked archives ------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("divided", [True, False])
def test_an_unpacked_archive_is_looked_into(tmp_path, depth, divided):
    content = tmp_path / "content"
    classes(content / "train" if divided else content, images=10)
    if divided:
        classes(content / "test", first=20)
    archive = tmp_path / "archive.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in content.rglob("*.png"):
            name = "/".join(["set"] * depth + [str(path.relative_to(content))])
            file.write(path, name)
            file.writestr(f"__MACOSX/{name.replace(path.name, '._' + path.name)}", b"x")
        file.writestr("set/README", b"x")
    zipfile.ZipFile(archive).extractall(tmp_path / "archive")
    data = load(tmp_path / "archive")
    assert (data.name, data.source) == ("archive", str(tmp_path / "archive"))
    assert data.classes == (2, 10)
    assert len(data.test_y) == 4
    assert data.fingerprint() == load(content).fingerprint()


def test_other_data_in_a_folder_is_found_too(tmp_path):
    table = "".join(f"{i},{i % 2}\n" for i in range(30))
    for part in ("train", "test"):
        (tmp_path / "titanic" / "titanic").mkdir(parents=True, exist_ok=True)
        (tmp_path / "titanic" / "titanic" / f"{part}.csv").write_text(f"a,label\n{table}")
    data = load(tmp_path / "titanic")
    assert (data.kind, len(data.test_y), data.source) == ("csv", 30, str(tmp_path / "titanic"))


def test_one_class_alone_is_a_class(tmp_path):
    classes(tmp_path / "set", labels=("a",))
    x, y = load_labelled(tmp_path / "set", ("b", "a"), 6)
    assert greys(x, y, ("b", "a")) == [("a", 0), ("a", 1)]


def test_folders_without_end_are_one_line(tmp_path):
    (tmp_path / "loop").mkdir()
    (tmp_path / "loop" / "loop").symlink_to(tmp_path / "loop")
    assert str(tmp_path / "loop") in fault(tmp_path / "loop")


# --- whatever it is ---------------------------------------------------------------------------


def picture(kind, grey, size=SIZE):
    buffer = io.BytesIO()
    Image.new("L", size, grey).save(buffer, kind)
    return buffer.getvalue()


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_folder_gives_its_images_or_one_line(tmp_path_factory, data):
    whole = tmp_path_factory.mktemp("any") / "set"
    parts = data.draw(st.sampled_from([(".",), ("train", "test"), ("Train", "VAL", "testing")]))
    wanted, sizes, empty_class, unread = {}, set(), False, 0
    for part in parts:
        wanted[part] = []
        fewest = 2 if part == "." else 1  # one alone is what an archive has been unpacked to
        for label in data.draw(st.sets(st.sampled_from("abc"), min_size=fewest)):
            (whole / part / label).mkdir(parents=True)
            images = data.draw(st.lists(st.sampled_from("gggbxo"), max_size=4))
            for i, what in enumerate(images):
                grey = data.draw(st.integers(0, 255))
                content, suffix = picture("PNG", grey), ".png"
                if what == "b":
                    content, unread = content[: data.draw(st.integers(0, 40))], unread + 1
                elif what == "o" and data.draw(st.integers(0, 9)) == 0:
                    content = picture("PNG", grey, (4, 4))
                    sizes.add((4, 4))
                elif what == "x":
                    suffix = data.draw(st.sampled_from([".db", ".txt", ".tar.gz"]))
                if what in "go" and (4, 4) not in sizes:
                    wanted[part].append((label, grey))
                    sizes.add(SIZE)
                (whole / part / label / f"{i}{suffix}").write_bytes(content)
            empty_class |= not set(images) & set("go")
    if empty_class or len(sizes) > 1:
        said = fault(whole)
        assert "a class without a single image" in said or "sizes, where one is wanted" in said
        return
    if (4, 4) in sizes:
        return
    one = parts == (".",)
    loaded = load(whole, test_data=whole if one else None)
    assert part_to_train(loaded) == sorted(wanted[parts[0]])
    assert part_to_test(loaded) == sorted(wanted[parts[-1]])
    if len(parts) == 3:
        assert greys(*loaded.validation, loaded.classes) == sorted(wanted["VAL"])
    images = unread + sum(map(len, wanted.values()))
    assert (f"{unread} of {images} images cannot be read" in loaded.note) == (unread > 0)
