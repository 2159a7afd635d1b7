import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainer.data import DataError, load, load_labelled, load_unlabelled


@settings(deadline=None, max_examples=60)
@given(
    x=hnp.arrays(np.uint8, st.tuples(st.integers(2, 8), st.integers(1, 6))),
    header=st.booleans(),
    quoted=st.booleans(),
    ending=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    blanks=st.integers(0, 2),
    data=st.data(),
)
def test_integers_round_trip(tmp_path_factory, x, header, quoted, ending, bom, blanks, data):
    y = data.draw(hnp.arrays(np.int64, len(x), elements=st.integers(-5, 10**6)))
    cell = '"{}"' if quoted else "{}"
    lines = ["label,a.b,e" + "x" * 3] if header else []
    lines += [
        ",".join(cell.format(value) for value in (label, *row))
        for label, row in zip(y.tolist(), x.tolist(), strict=True)
    ]
    path = tmp_path_factory.mktemp("csv") / "samples.csv"
    text = ending.join(lines) + ending * (1 + blanks)
    path.write_bytes(("\ufeff" if bom else "").encode() + text.encode())
    classes = tuple(sorted(set(y.tolist())))
    read_x, read_y = load_labelled(path, classes, x.shape[1])
    np.testing.assert_array_equal(read_x, x)
    assert read_x.dtype == np.uint8
    assert [classes[code] for code in read_y] == y.tolist()
    np.testing.assert_array_equal(load_unlabelled(path, x.shape[1]), x)


@settings(deadline=None, max_examples=60)
@given(
    x=hnp.arrays(
        np.float32,
        st.tuples(st.integers(2, 6), st.integers(1, 5)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
def test_floats_round_trip(tmp_path_factory, x):
    path = tmp_path_factory.mktemp("csv") / "samples.csv"
    path.write_text("".join("3," + ",".join(f"{v:.9e}" for v in row) + "\n" for row in x))
    read_x, _ = load_labelled(path, (3,), x.shape[1])
    np.testing.assert_array_equal(read_x, x)
    assert read_x.dtype == np.float32
    data = load(path)
    assert data.value_range == (data.train_x.min(), data.train_x.max())


@pytest.mark.parametrize(
    ("text", "dtype"),
    [
        ("1.0,2,3\n0,4,5\n", np.uint8),
        ("1e0,2,3\n0,4,5\n", np.uint8),
        ("1,2,3.0\n0,4,5\n", np.float32),
        ("1,2,3\n0,4e1,5\n", np.float32),
    ],
)
def test_a_decimal_point_among_the_pixels_makes_floats(tmp_path, text, dtype):
    path = tmp_path / "a.csv"
    path.write_text(text)
    data = load(path, test_data=path)
    assert data.train_x.dtype == dtype
    assert data.train_x[0].tolist() == [2, 3]
    assert data.classes == (0, 1)


def test_one_file_is_split_and_described(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("".join(f"{i % 2},{i},0,0,1\n" for i in range(50)))
    data = load(path)
    assert (len(data.train_x), len(data.test_x)) == (40, 10)
    assert np.bincount(data.test_y).tolist() == [5, 5]
    assert (data.name, data.kind, data.source) == ("some", "csv", str(path))
    assert (data.image_shape, data.value_range) == ((2, 2), (0, 255))
    np.testing.assert_array_equal(data.train_x, load(path).train_x)


def test_a_folder_with_a_pair(tmp_path):
    (tmp_path / "my_TRAIN.csv").write_text("1,2,3\n2,3,4\n")
    (tmp_path / "my_test.csv").write_text("7,8,9\n")
    data = load(tmp_path)
    assert (data.train_x.tolist(), data.test_x.tolist()) == ([[2, 3], [3, 4]], [[8, 9]])
    assert data.classes == (1, 2, 7)
    assert data.image_shape is None
    (tmp_path / "other_test.csv").write_text("7,8,9\n")
    with pytest.raises(DataError, match=r"found my_TRAIN\.csv, my_test\.csv, other_test"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["line 1", "empty"]),
        (b"\n\n", ["line 1", "empty"]),
        (b"label,a,b\n", ["line 1", "header and nothing else"]),
        (b"1,2,3\n1,2\n", ["line 2", "2 values found, 3 wanted"]),
        (b"1,2,3\n\n1,2,3,4\n", ["line 3", "4 values found, 3 wanted"]),
        (b"label,a,b\n1,2,3\n1,2,x\n", ["line 3", "column 3", "'x' found"]),
        (b"1,2,3\n1,,3\n", ["line 2", "column 2", "'' found"]),
        (b"1,2,3\n1,2_0,3\n", ["line 2", "column 2", "'2_0'"]),
        (b"1,2,3\n1,2,nan\n", ["line 2", "column 3", "nan found", "finite"]),
        (b"1,2,-inf\n1,2,3.5\n", ["line 1", "column 3", "-inf found"]),
        (b"1,2,1e300\n1,2,3.5\n", ["line 1", "column 3", "1e+300 found"]),
        (b"1,2,3\n\n1,2,256\n", ["line 3", "column 3", "256 found", "0…255"]),
        (b"h,h,h\n1,-2,3\n", ["line 2", "column 2", "-2 found", "0…255"]),
        (b"1,2,99999999999\n1,2,3\n", ["line 1", "column 3", "1e+11 found"]),
        (b"1,2,3\n1.5,2,3\n", ["line 2", "column 1", "label 1.5"]),
        (b"nan,2,3\n1,2,3\n", ["line 1", "column 1", "label nan"]),
        (b"1\n2\n", ["one column"]),
        (b"7,1;2\n", ["column 2", "'1;2'"]),
        (b"1,2,3\n1,\xff,3\n", ["not UTF-8", "0xff at byte 8"]),
        (b"\x89PNG\r\n\x1a\n\x00\x00", ["not UTF-8", "0x89 at byte 0"]),
        ("1,2\n".encode("utf-16"), ["not UTF-8", "byte 0"]),
        (b"1,2\n\x00\x01,3\n", ["line 2", "column 1", "label"]),
        (b"cat,1,2\n,3,4\n", ["line 2", "column 1", "label ''", "printable letters"]),
        (b'cat,1\n"  ",3\n', ["line 2", "column 1", "label ''"]),
        (b"cat,1\n" + b"a" * 65 + b",3\n", ["line 2", "column 1", "label 'aaaa"]),
        (b"1,2\n,3\n", ["line 2", "column 1", "label ''"]),
        (b"cat,1,2\n\ndog,3,x\n", ["line 3", "column 3", "'x' found, a number wanted"]),
        (b"cat,1,2\ndog,3\n", ["line 2", "2 values found, 3 wanted"]),
        (b"cat,1,2\ndog\n", ["line 2", "1 values found, 3 wanted"]),
        (b"cat,1\ndog,\n", ["line 2", "column 2", "'' found"]),
        (b"label,a\n\ncat,1\ndog,256\n", ["line 4", "column 2", "256 found", "0…255"]),
        (b"cat,0.5\ndog,nan\n", ["line 2", "column 2", "nan found", "finite"]),
        (b'cat,1\ndog,"1\n2"\n', ["line 2", "column 2"]),
        (b"cat,1\n\xff,3\n", ["not UTF-8", "0xff at byte 6"]),
        (b"cat\ndog\n", ["column"]),
        (b'1,2\n1,"2\n1,2\n', ["samples.csv"]),
    ],
)
def test_bad_file(tmp_path, content, words):
    path = tmp_path / "samples.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


@settings(deadline=None, max_examples=150)
@given(
    content=st.one_of(
        st.binary(max_size=60),
        st.text(alphabet='0123456789,.-+eE"\n\r nainf;_\x00\x1c٣é', max_size=60).map(str.encode),
    )
)
def test_nothing_but_data_errors(complaint, tmp_path_factory, content):
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    path.write_bytes(content)
    complaint(lambda: load(path), path)
    complaint(lambda: load_unlabelled(path, 2), path)


def test_unlabelled_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("9.5,1,2\n")
    assert load_unlabelled(path, 2).tolist() == [[1, 2]]
    assert load_unlabelled(path, 2).dtype == np.uint8
    assert load_unlabelled(path, 3).tolist() == [[9.5, 1, 2]]
    with pytest.raises(DataError, match=r"3 columns found, 4 wanted \(or 5, label first\)"):
        load_unlabelled(path, 4)


def test_the_lessons_files(real_data):
    folder = real_data / "hundred"
    data = load(folder)
    assert (data.train_x.shape, data.test_x.shape) == ((100, 784), (10, 784))
    assert data.test_y.tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_another_separator_is_named(tmp_path, separator):
    path = tmp_path / "a.csv"
    path.write_text(separator.join("123") + "\n")
    with pytest.raises(DataError, match=r"a\.csv: line 1: cells separated by"):
        load(path)


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.text(max_size=9), min_size=2, max_size=8),
    header=st.booleans(),
    decimals=st.booleans(),
    data=st.data(),
)
def test_words_are_labels(tmp_path_factory, labels, header, decimals, data):
    """As csv.writer of the standard library writes them."""
    words = ["".join(c for c in label if c.isprintable()).strip() for label in labels]
    # a number in the second row would make the first one a header
    words = ["cat", "dog", *(word or "-" for word in words), "7"]
    element = st.integers(0, 9).map(lambda i: i + 0.5 if decimals else i)
    rows = data.draw(
        st.lists(
            st.lists(element, min_size=3, max_size=3),
            min_size=len(words),
            max_size=len(words),
        )
    )
    path = tmp_path_factory.mktemp("csv") / "words.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([["label", "a", "b", "c"]] if header else [])
        writer.writerows([word, *row] for word, row in zip(words, rows, strict=True))
    data = load(path, test_data=path)
    assert data.classes == tuple(sorted(set(words)))
    assert [data.classes[code] for code in data.train_y] == words
    np.testing.assert_array_equal(data.train_x, rows)
    assert data.train_x.dtype == (np.float32 if decimals else np.uint8)
    assert data.value_range == ((data.train_x.min(), data.train_x.max()) if decimals else (0, 255))
    np.testing.assert_array_equal(load_unlabelled(path, 3), rows)


@pytest.mark.parametrize(
    ("text", "classes", "rows"),
    [
        ("cat,1,2\ndog,3,4\n", ("cat", "dog"), 2),  # the second cell is a number: no header
        ("label,a,b\ncat,1,2\ndog,3,4\n", ("cat", "dog"), 2),
        ("label,1,2\n5,1,2\n6,3,4\n", (5, 6), 2),  # the next line begins with a number: a header
        ("label,1,2\n5,1,2\ncat,3,4\n", ("5", "cat"), 2),
        ("5,1,2\n6,3,4\n5a,1,1\n", ("5", "5a", "6"), 3),
        ('"cat",1,2\n cat ,3,4\n', ("cat",), 2),
        ('"a, b",1,2\n"say ""x""",3,4\n', ("a, b", 'say "x"'), 2),
        ("2.5,1,2\ncat,3,4\n", ("2.5", "cat"), 2),
        # a quote that is not closed ends with its line
        ('a,1,2\n"b,3,4\nc,5,6\n', ('"b', "a", "c"), 3),
    ],
)
def test_what_is_a_header_and_what_a_word(tmp_path, text, classes, rows):
    path = tmp_path / "a.csv"
    path.write_text(text)
    data = load(path, test_data=path)
    assert data.classes == classes
    assert len(data.train_x) == rows
    assert load_labelled(path, classes, 2)[1].tolist() == data.train_y.tolist()
    np.testing.assert_array_equal(load_unlabelled(path, 2), data.train_x)


def test_words_where_only_features_are_wanted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(",1,2\n?,3,4\n")
    assert load_unlabelled(path, 2).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(DataError, match=r"line 1, column 1: '' found, a number wanted"):
        load_unlabelled(path, 3)


def test_words_and_numbers_are_no_pair(tmp_path):
    (tmp_path / "train.csv").write_text("cat,1\ndog,2\n")
    (tmp_path / "test.csv").write_text("1,1\n2,2\n")
    with pytest.raises(DataError, match="integer labels, the other part names"):
        load(tmp_path)
