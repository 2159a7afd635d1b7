"""Tables of text and of Parquet, read through `load` and its siblings."""

import csv
import gzip

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from trainer.data import Columns, DataError, Scale, load, load_labelled, load_unlabelled
from trainer.data.columns import Column
from trainer.data.dialect import MISSING

SIDE = 7  # of the smallest image


def labels_for(rows):
    """Return labels of two kinds that are none of the features here."""
    return [1001 + i % 2 for i in range(rows)]


def write_pixels(path, x, labels=None):
    """Write images a row each, the label first."""
    labels = labels_for(len(x)) if labels is None else labels
    rows = [",".join(map(str, [label, *row])) for label, row in zip(labels, x, strict=True)]
    path.write_text("\n".join(rows) + "\n")
    return path


@settings(deadline=None, max_examples=60)
@given(
    x=hnp.arrays(np.uint8, st.tuples(st.integers(4, 8), st.integers(1, 6))),
    header=st.booleans(),
    last=st.booleans(),
    quoted=st.booleans(),
    separator=st.sampled_from([",", ";", "\t", "|", " "]),
    ending=st.sampled_from(["\n", "\r\n"]),
    start=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    packed=st.booleans(),
    blanks=st.integers(0, 2),
)
def test_integers_round_trip(
    tmp_path_factory, x, header, last, quoted, separator, ending, start, packed, blanks
):
    y = labels_for(len(x))
    cell = '"{}"' if quoted else "{}"
    rows = [["label", *(f"a{i}" for i in range(x.shape[1]))]] if header else []
    rows += [[label, *row] for label, row in zip(y, x.tolist(), strict=True)]
    rows = [[*row[1:], row[0]] if last else row for row in rows]
    lines = [separator.join(cell.format(value) for value in row) for row in rows]
    content = start + (ending.join(lines) + ending * (1 + blanks)).encode()
    path = tmp_path_factory.mktemp("csv") / ("samples.csv.gz" if packed else "samples.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    data = load(path, test_data=path, label=None if header else "-1" if last else "1")
    np.testing.assert_array_equal(data.train_x, x)
    assert data.train_x.dtype == np.float32
    assert [data.classes[code] for code in data.train_y] == y
    read_x, read_y = load_labelled(path, data.classes, x.shape[1], columns=data.columns)
    np.testing.assert_array_equal(read_x, x)
    assert read_y.tolist() == data.train_y.tolist()
    found = load_unlabelled(path, x.shape[1], columns=data.columns, classes=data.classes)
    np.testing.assert_array_equal(found, x)


@settings(deadline=None, max_examples=60)
@given(
    x=hnp.arrays(
        np.float32,
        st.tuples(st.integers(4, 6), st.integers(1, 5)),
        elements=st.floats(-(2.0**100), 2.0**100, width=32),
    )
)
def test_floats_round_trip(tmp_path_factory, x):
    path = tmp_path_factory.mktemp("csv") / "samples.csv"
    rows = zip(labels_for(len(x)), x.tolist(), strict=True)
    path.write_text("".join(f"{y}," + ",".join(f"{v:.9e}" for v in row) + "\n" for y, row in rows))
    data = load(path, test_data=path, label="1")
    np.testing.assert_array_equal(data.train_x, x)
    assert data.train_x.dtype == np.float32
    assert data.value_range == (x.min(), x.max())


@pytest.mark.parametrize(
    ("pixels", "most"),
    [(SIDE**2, 255), (SIDE**2, 16), (SIDE**2, 1), (SIDE**2, 200), (64, 16), (784, 255)],
)
def test_whole_numbers_that_fill_a_range_are_pixels(tmp_path, pixels, most):
    x = np.random.default_rng(0).integers(0, most + 1, (30, pixels))
    x[0, :2] = 0, most
    path = write_pixels(tmp_path / "a.csv", x)
    data = load(path, test_data=path)
    side = round(pixels**0.5)
    high = {200: 255}.get(most, most)
    assert (data.train_x.dtype, data.value_range) == (np.uint8, (0, high))
    assert data.image_shape == (side, side)
    np.testing.assert_array_equal(data.train_x, x)
    np.testing.assert_array_equal(load_labelled(path, (1001, 1002), pixels)[0], x)


@pytest.mark.parametrize(
    ("pixels", "low", "high", "whole"),
    [
        (4, 0, 255, True),  # a 2×2 image is none
        (36, 0, 255, True),
        (48, 0, 255, True),  # no square
        (SIDE**2, -1, 255, True),
        (SIDE**2, 0, 1250, True),
        (SIDE**2, 0, 100, True),  # no range of pixels ends there
        (SIDE**2, 1, 5, True),
        (SIDE**2, 0, 255, False),
    ],
)
def test_other_numbers_are_no_pixels(tmp_path, pixels, low, high, whole):
    x = np.random.default_rng(0).integers(low, high + 1, (30, pixels)).astype(object)
    x[0, :2] = low, high
    if not whole:
        x[3, 3] = 2.5
    path = write_pixels(tmp_path / "a.csv", x)
    data = load(path, test_data=path)
    assert data.train_x.dtype == np.float32
    assert data.columns is not None
    assert {column.kind for column in data.columns.columns} == {"number"}
    np.testing.assert_array_equal(data.train_x, x.astype(float))
    if pixels < SIDE**2:
        assert data.image_shape is None


@pytest.mark.parametrize("written", ["1", "1.0", "1e0", "+1"])
def test_whole_numbers_are_labels_however_written(tmp_path, written):
    path = tmp_path / "a.csv"
    path.write_text(f"{written},2,3\n0,4,5\n{written},6,7\n0,8,9.5\n")
    data = load(path, test_data=path)
    assert data.classes == (0, 1)
    assert data.train_y.tolist() == [1, 0, 1, 0]
    assert data.train_x.tolist() == [[2, 3], [4, 5], [6, 7], [8, 9.5]]


def test_one_file_is_split_and_described(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("".join(f"{i % 2},{i},0,0,1\n" for i in range(50)))
    data = load(path)
    assert (len(data.train_x), len(data.test_x)) == (40, 10)
    assert np.bincount(data.test_y).tolist() == [5, 5]
    assert (data.name, data.kind, data.source) == ("some", "csv", str(path))
    assert (data.image_shape, data.label) == (None, "column 1")
    assert sorted([*data.train_x[:, 0], *data.test_x[:, 0]]) == list(range(50))
    np.testing.assert_array_equal(data.train_x, load(path).train_x)


def test_a_folder_with_a_pair(tmp_path):
    (tmp_path / "my_TRAIN.csv").write_text("1,2,3\n2,3,4\n1,4,5\n2,5,6\n")
    (tmp_path / "my_test.csv").write_text("7,8,9\n")
    data = load(tmp_path)
    assert data.train_x.tolist() == [[2, 3], [3, 4], [4, 5], [5, 6]]
    assert data.test_x.tolist() == [[8, 9]]
    assert data.classes == (1, 2, 7)
    assert "no training sample is of 7" in data.note
    assert data.image_shape is None
    (tmp_path / "other_test.csv").write_text("7,8,9\n")
    with pytest.raises(DataError, match=r"found my_TRAIN\.csv, my_test\.csv, other_test"):
        load(tmp_path)


def test_a_pair_goes_by_names(tmp_path):
    (tmp_path / "train.csv").write_text("a,b,species\n1,2,x\n3,4,y\n5,6,x\n7,8,y\n")
    test = tmp_path / "test.csv"
    test.write_text("species,b,a\ny,20,10\nx,40,30\n")
    data = load(tmp_path)
    assert data.test_x.tolist() == [[10, 20], [30, 40]]
    assert [data.classes[code] for code in data.test_y] == ["y", "x"]
    test.write_text("species,b,c\ny,20,10\nx,40,30\n")
    with pytest.raises(DataError, match=r"test\.csv: .*missing: a; unknown: c"):
        load(tmp_path)


def test_a_pair_whose_test_table_has_no_labels(tmp_path):
    (tmp_path / "train.csv").write_text("label,a,b\n1,2,3\n2,3,4\n1,4,5\n2,5,6\n")
    (tmp_path / "test.csv").write_text("a,b\n8,9\n1,2\n")
    (tmp_path / "sample_submission.csv").write_text("ImageId,Label\n1,0\n2,0\n")
    with pytest.raises(DataError, match=r"test\.csv has no labels: .*--data .*train\.csv.*predict"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["an empty file"]),
        (b"<!DOCTYPE html>\n<p>a, b</p>\n", ["a web page"]),
        (b"\n\n", ["line 1", "empty"]),
        (b"label,a,b\n", ["line 1", "header and nothing else"]),
        (b"1,2,3\n1,2\n", ["line 2", "2 values found, 3 wanted"]),
        (b"1,2,3\n\n1,2,3,4\n", ["line 3", "4 values found, 3 wanted"]),
        (b"cat,1,2\ndog,3\n", ["line 2", "2 values found, 3 wanted"]),
        (b"cat,1,2\ndog\n", ["line 2", "1 values found, 3 wanted"]),
        (b"1,2,3\n1,2\n1,2,3,4\n", ["line 2", "2 values found, 3 wanted"]),
        (b"label,a,b\n1,2,-inf\n2,2,3.5\n1,1,1\n", ["line 2", "column 3 (b)", "-inf", "finite"]),
        (b"1,2,1e999\n1,2,3.5\n", ["line 1", "column 3", "inf found", "finite"]),
        (b"y,a\n1,1e300\n2,3.5\n1,2\n", ["line 2", "column 2 (a)", "1e+300", "float32"]),
        (b"label,a\n1.5,2\n2,3\n2,4\n", ["line 2", "column 1 (label)", "label 1.5", "whole"]),
        (b"label,a\nnan,2\n1,3\n2,4\n1,5\n", ["line 2", "column 1 (label)", "label", "missing"]),
        (b"cat,1\n,3\ncat,4\ndog,5\ndog,7\n", ["line 2", "column 1", "label", "missing"]),
        (b'cat,1\n"  ",3\ncat,4\ndog,5\n', ["line 2", "column 1", "label", "missing"]),
        (
            b"label,a\ncat,1\ndog,2\ncat,3\n" + b"a" * 65 + b",3\n",
            ["line 5", "column 1 (label)", "'aaaa", "64 printable letters"],
        ),
        (b"label,a\ncat,1\ncat,2\n", ["column 1 (label)", "one class only, 'cat'", "--label"]),
        (b"label,a\n1,1\n2,2\n3,3\n", ["column 1 (label)", "as many classes as rows, 3"]),
        (b"1.5,2.5\n2.5,3.5\n", ["no column at an end can be the label", "--label"]),
        (b"id,a\n5,0.5\n9,1.5\n", ["--label", "1 id, 2 a"]),
        (b"label,a\ncat,x1\ndog,x2\ncat,x3\ndog,x4\ncat,x5\ndog,x6\n", ["no column of features"]),
        (
            b'label,a\na,"1,000"\nb,"2,000"\na,3\n',
            ["line 2", "column 2 (a)", "'1,000'", "thousand"],
        ),
        (b"1\n2\n", ["one column"]),
        (b"cat\ndog\n", ["one column"]),
        (b"1,2,3\n1,\xff,3\n", ["not UTF-8", "0xff at byte 8"]),
        (b"cat,1\n\xff,3\n", ["not UTF-8", "0xff at byte 6"]),
        (b"\x89PNG\r\n\x1a\n\x00\x00", ["one PNG picture", "predict RUN"]),
        (b"\xff\xfe1", ["not UTF-16"]),
        (b"1,2\n\x00\x01,3\n", ["byte 0 at 4"]),
        (b'1,2\n1,"2\n1,2\n', ["line 2", "a quote that is never closed"]),
        (b"@relation iris\n@data\n1,2\n", ["ARFF"]),
    ],
)
def test_bad_file(tmp_path, content, words):
    path = tmp_path / "samples.csv"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load(path)
    for word in [str(path), *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize("cell", ["", "NA", "nan", "NaN", "?", "null", "None", " "])
def test_missing_numbers_are_the_training_median(tmp_path, cell):
    path = tmp_path / "a.csv"
    path.write_text(f"label,a,b\ncat,1,1\ndog,{cell},2\ncat,3,3\ndog,8,4\n")
    data = load(path, test_data=path)
    assert data.train_x[:, 0].tolist() == [1, 3, 3, 8]
    assert "missing numbers (1)" in data.note
    assert data.classes == ("cat", "dog")


def test_large_and_negative_whole_numbers_are_numbers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("label,a\n1,-3\n2,99999999999\n1,9999999999999999999999\n")
    data = load(path, test_data=path)
    np.testing.assert_array_equal(data.train_x[:, 0], np.float32([-3, 99999999999, 1e22]))


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
    assert load_unlabelled(path, 3).tolist() == [[9.5, 1, 2]]
    assert load_unlabelled(path, 3, Scale("float32", 0, 20)).dtype == np.float32
    with pytest.raises(DataError, match=r"a\.csv: 3 columns found, expected the 4 .*or one more"):
        load_unlabelled(path, 4)
    with pytest.raises(DataError, match=r"3 columns found, 2 were trained on, and neither end"):
        load_unlabelled(path, 2, classes=(8, 9))
    path.write_text("9,1,2\n8,4,9\n")
    assert load_unlabelled(path, 2, classes=(8, 9)).tolist() == [[1, 2], [4, 9]]
    assert load_unlabelled(path, 2, Scale("uint8", 0, 255), classes=(8, 9)).dtype == np.uint8
    path.write_text("9,1,8\n8,4,9\n")
    with pytest.raises(DataError, match="both its first and its last column have the labels 8, 9"):
        load_unlabelled(path, 2, classes=(8, 9))


def test_the_lessons_files(real_data):
    folder = real_data / "hundred"
    data = load(folder)
    assert (data.train_x.shape, data.test_x.shape) == ((100, 784), (10, 784))
    assert (data.train_x.dtype, data.value_range) == (np.uint8, (0, 255))
    assert data.image_shape == (28, 28)
    assert data.test_y.tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


@settings(deadline=None, max_examples=60)
@given(
    labels=st.lists(st.text(max_size=9), min_size=2, max_size=8),
    header=st.booleans(),
    decimals=st.booleans(),
    last=st.booleans(),
    data=st.data(),
)
def test_words_are_labels(tmp_path_factory, labels, header, decimals, last, data):
    """As csv.writer of the standard library writes them."""
    words = ["".join(c for c in label if c.isprintable()).strip() for label in labels]
    words = ["cat", "dog", *(word or "-" for word in words), "7"]
    words = [word for word in words if word not in MISSING]
    element = st.integers(0, 9).map(lambda i: i + 0.5 if decimals else i)
    rows = data.draw(
        st.lists(
            st.lists(element, min_size=3, max_size=3),
            min_size=len(words),
            max_size=len(words),
        )
    )
    words, rows = 2 * words, 2 * rows  # labels are mostly repeated
    path = tmp_path_factory.mktemp("csv") / "words.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        lines = [["label", "a", "b", "c"]] if header else []
        lines += [[word, *row] for word, row in zip(words, rows, strict=True)]
        writer.writerows([[*line[1:], line[0]] for line in lines] if last else lines)
    read = load(path, test_data=path, label=None if header else "-1" if last else "1")
    assert read.classes == tuple(sorted(set(words)))
    assert [read.classes[code] for code in read.train_y] == words
    np.testing.assert_array_equal(read.train_x, rows)
    found = load_unlabelled(path, 3, columns=read.columns, classes=read.classes)
    np.testing.assert_array_equal(found, rows)


@pytest.mark.parametrize(
    ("text", "classes", "rows"),
    [
        ("cat,1,2\ndog,3,4\ncat,5,6\n", ("cat", "dog"), 3),  # the other cells are numbers
        ("label,a,b\ncat,1,2\ndog,3,4\ncat,5,6\n", ("cat", "dog"), 3),
        ("label,1,2\n5,1,2\n6,3,4\n5,7,8\n", (5, 6), 3),
        ("label,0,1\n5,1,2\n6,3,4\n5,7,8\n", (5, 6), 3),
        ("species,a\ncat,1\ndog,3\ncat,5\n", ("cat", "dog"), 3),
        ("a,species\n1,cat\n3,dog\n5,cat\n", ("cat", "dog"), 3),
        ("5,1,2\n6,3,4\n5a,1,1\n5,1,2\n6,3,4\n5a,1,1\n", ("5", "5a", "6"), 6),
        ('"cat",1,2\n cat ,3,4\ndog,5,6\ndog ,1,2\n', ("cat", "dog"), 4),
        ('"a, b",1,2\n"say ""x""",3,4\n' * 2, ("a, b", 'say "x"'), 4),
        ("2.5,1,2\ncat,3,4\n" * 2, ("2.5", "cat"), 4),
    ],
)
def test_what_is_a_header_and_what_a_word(tmp_path, text, classes, rows):
    path = tmp_path / "a.csv"
    path.write_text(text)
    data = load(path, test_data=path)
    assert data.classes == classes
    assert len(data.train_x) == rows
    width = data.train_x.shape[1]
    _, codes = load_labelled(path, classes, width, columns=data.columns)
    assert codes.tolist() == data.train_y.tolist()
    found = load_unlabelled(path, width, columns=data.columns, classes=classes)
    np.testing.assert_array_equal(found, data.train_x)


def test_words_where_only_numbers_are_wanted(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("cat,1,2\ndog,3,4\n")
    assert load_unlabelled(path, 2, classes=("cat", "dog")).tolist() == [[1, 2], [3, 4]]
    with pytest.raises(DataError, match=r"line 1, column 1: 'cat' found, a number wanted"):
        load_unlabelled(path, 3)


def test_words_and_numbers_are_no_pair(tmp_path):
    (tmp_path / "train.csv").write_text("cat,1\ndog,2\ncat,3\n")
    (tmp_path / "test.csv").write_text("1,1\n2,2\n")
    with pytest.raises(DataError, match="integer labels, the other part names"):
        load(tmp_path)


def test_a_parquet_file_is_as_its_text(tmp_path):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(
        {
            "age": [20, None, 40, 50],
            "town": ["Ulm", "Bonn", None, "Ulm"],
            "member": [True, False, True, False],
            "species": ["x", "y", "x", "y"],
        }
    )
    parquet, text = tmp_path / "a.parquet", tmp_path / "a.csv"
    frame.write_parquet(parquet)
    frame.with_columns(
        polars.when("member")
        .then(polars.lit("True"))
        .otherwise(polars.lit("False"))
        .alias("member")
    ).write_csv(text)
    one, other = load(parquet, test_data=parquet), load(text, test_data=text)
    np.testing.assert_array_equal(one.train_x, other.train_x)
    assert one.train_x.shape == (4, 1 + 3 + 2)
    assert one.train_y.tolist() == other.train_y.tolist() == [0, 1, 0, 1]
    assert (one.classes, one.label) == (("x", "y"), "species")
    parquet.write_bytes(parquet.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"a\.parquet: not a readable Parquet file"):
        load(parquet)


def test_a_libsvm_file_is_told_apart(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("0 1:3 2:1\n1 1:1.5 2:2\n0 1:3 2:-1e3\n")
    with pytest.raises(DataError, match="line 1: '1:3' found, as in a LIBSVM file"):
        load(path)


@pytest.mark.parametrize("text", ["a,b\n", "a,b", "a,b,label\n\n\n", "label,a,b"])
def test_a_header_alone_has_nothing_to_predict(tmp_path, text):
    columns = Columns("label", True, (Column("a", "number"), Column("b", "number")))
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match="a header and nothing else"):
        load_unlabelled(path, 2, columns=columns)


def test_one_row_under_known_names_is_predicted(tmp_path):
    columns = Columns("label", True, (Column("a", "number"), Column("1", "number")))
    path = tmp_path / "a.csv"
    path.write_text("1,a\n7,8\n")
    np.testing.assert_array_equal(load_unlabelled(path, 2, columns=columns), [[8, 7]])


def test_whole_numbers_are_not_on_the_scale_of_a_network_of_fractions(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("0,255\n1,2\n")
    with pytest.raises(DataError, match="not on the scale of the training data: floats 0…1"):
        load_unlabelled(path, 2, Scale("float32", 0, 1))


def test_a_network_trained_on_no_table_takes_no_gaps(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("0.5,0.25\n,0.5\n")
    with pytest.raises(DataError, match="line 2, column 1: a missing cell found"):
        load_unlabelled(path, 2, Scale("float32", 0, 1))


def test_columns_of_one_name_are_told_apart(tmp_path):
    path = tmp_path / "a.csv"
    rows = "\n".join(f"{k % 2}" + f",{k}.5" * 3000 for k in range(40))
    path.write_text(f"label{',a' * 3000}\n{rows}\n")
    names = [column.name for column in load(path).columns.columns]
    assert len(set(names)) == 3000
    assert names[:3] == ["a", "a (2)", "a (3)"]


def test_words_that_would_be_too_many_inputs_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.data.columns._MOST_INPUTS", 5)
    path = tmp_path / "a.csv"
    rows = [f"{k % 2},{'xyz'[k % 3]},{'uvw'[k % 3]}" for k in range(40)]
    path.write_text("\n".join(["label,a,b", *rows]))
    with pytest.raises(DataError, match="its 2 columns would be 6 inputs; at most 5"):
        load(path)


@pytest.mark.thorough
def test_a_small_parquet_of_endless_words_is_refused(tmp_path):
    path = tmp_path / "a.parquet"
    words = ["a" * 2_000_000, "b" * 2_000_000] * 400
    pl.DataFrame({"a": words, "b": [0.5, 1.5] * 400}).write_parquet(path)
    with pytest.raises(DataError, match="800 rows of 2 columns are over"):
        load(path)


@pytest.mark.parametrize("text", ['""', '""\n""\n'])
def test_one_empty_cell_is_refused(tmp_path, text):
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=r"a\.csv"):
        load(path)
    columns = Columns("y", True, (Column("a", "number"),))
    with pytest.raises(DataError, match=r"a\.csv"):
        load_unlabelled(path, 1, columns=columns)
