"""Tables as people have them: what the reader makes of each is written out by hand here."""

import bz2
import csv
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import sklearn.datasets
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine

from trainer.data import DataError
from trainer.data.tables import (
    SUFFIXES,
    choose_label,
    is_table,
    labels_of,
    read_folder,
    read_table,
)


@pytest.fixture
def table(tmp_path):
    """Return a function that writes a text (or bytes) and reads it as a table."""

    def read(content, name="a.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_table(path)

    return read


def rows(table):
    return [list(row) for row in table.frame.rows()]


def write(path, columns, header=None, separator=","):
    lines = [header] if header else []
    lines += list(zip(*columns, strict=True))
    path.write_text("".join(separator.join(map(str, line)) + "\n" for line in lines))
    return path


PLAIN = [[1, 2.5, "x"], [0, -3.0, "y"], [1, 0.25, "x"], [0, 4.5, "y"]]


@pytest.mark.parametrize(
    "content",
    [
        "1,2.5,x\n0,-3.0,y\n1,.25,x\n0,45e-1,y\n",
        "1,2.5,x\n0,-3.0,y\n1,.25,x\n0,45e-1,y",
        "1,2.5,x\r\n0,-3.0,y\r\n1,.25,x\r\n0,4.5,y\r\n",
        "1,2.5,x\r0,-3.0,y\r1,.25,x\r0,4.5,y\r",
        "\n1,2.5,x\n\n0,-3.0,y\n  \n1,.25,x\n0,4.5,y\n\n\n",
        "1, 2.5, x\n0, -3.0, y \n1, +.25, x\n0, 4.5, y\n",
        '"1","2.5","x"\n"0","-3.0","y"\n"1","0.25","x"\n"0","4.5","y"\n',
        '1, "2.5", "x"\n0, "-3.0", "y"\n1, "0.25", "x"\n0, "4.5", "y"\n',
        '1,"2,5",x\n0,"-3,0",y\n1,",25",x\n0,"4,5",y\n',
        "1;2.5;x\n0;-3.0;y\n1;.25;x\n0;4.5;y\n",
        "1;2,5;x\n0;-3,0;y\n1;,25;x\n0;4,5;y\n",
        "1\t2,5\tx\n0\t-3,0\ty\n1\t,25\tx\n0\t4,5\ty\n",
        "sep=;\n1;2,5;x\n0;-3,0;y\n1;,25;x\n0;4,5;y\n",
        "1|2.5|x\n0|-3.0|y\n1|.25|x\n0|4.5|y\n",
        "1 2.5 x\n0 -3.0 y\n1 .25 x\n0 4.5 y\n",
        "   1     2.5  x\n   0\t   -3.0  y \n   1      .25  x\n   0     4.5  y\n",
        '1   2.5 "x"\n0  -3.0 "y"\n1   .25 "x"\n0   4.5 "y"\n',
        "# made by hand\n1,2.5,x\n0,-3.0,y\n# more\n1,.25,x\n0,4.5,y\n",
        "% made by hand\n1;2.5;x\n0;-3.0;y\n1;.25;x\n0;4.5;y\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_same_cells_however_they_are_written(table, content, encoding):
    read = table(content.encode(encoding))
    assert rows(read) == PLAIN
    assert read.frame.columns == ["column 1", "column 2", "column 3"]
    assert not read.named
    assert read.frame.dtypes[0].is_integer()
    assert read.frame.dtypes[1:] == [pl.Float64, pl.String]


def test_a_blank_within_a_word_is_kept(table):
    read = table('18.0   8   "chevrolet chevelle"\n15.0   4   "buick"\n  16.0  6\t"amc rebel"\n')
    assert read.frame["column 3"].to_list() == ["chevrolet chevelle", "buick", "amc rebel"]
    read = table('a,note,label\n1,"a, ""b""\nc",x\n2,d e,y\n')
    assert read.frame["note"].to_list() == ['a, "b" c', "d e"]
    assert "line 4, column 2 (note)" in read.where(1, "note")


@pytest.mark.parametrize(
    "word", ["", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?", " ? "]
)
def test_missing_cells(table, word):
    read = table(f"1,0.5,x,3\n{word},{word},{word},4\n3,1.5,z,5\n")
    assert rows(read) == [[1, 0.5, "x", 3], [None, None, None, 4], [3, 1.5, "z", 5]]
    assert read.frame.dtypes[0].is_integer()


def test_a_cell_unlike_the_first_thousands_changes_the_type_of_its_column(table):
    lines = [f"{i % 2},{i},{i},{i},w\n" for i in range(3000)]
    lines[2700] = "1,400000,1.5,?,17\n"
    read = table("".join(lines))
    kinds = [pl.Int16, pl.Int64, pl.Float64, pl.Int64, pl.String]
    assert read.frame.dtypes == kinds
    assert rows(read)[2700] == [1, 400_000, 1.5, None, "17"]
    assert rows(read)[2999] == [1, 2999, 2999, 2999, "w"]


def test_integers_beyond_64_bits_are_decimals(table):
    assert rows(table(f"1,{2**63 - 1}\n2,3\n")) == [[1, 2**63 - 1], [2, 3]]
    assert rows(table("1,99999999999999999999\n2,3\n")) == [[1, 1e20], [2, 3.0]]


@pytest.mark.parametrize(
    ("content", "names", "first"),
    [
        ("label,a,b\n1,2,3\n0,2,4\n", ["label", "a", "b"], [1, 2, 3]),
        ("a\tb\n1\t2\n0\t2\n", ["a", "b"], [1, 2]),
        ('"a" ; "b"\n1;2\n0;2\n'.replace(" ", ""), ["a", "b"], [1, 2]),
        ("x,x,,x\n1,2,3,4\n0,2,4,5\n", ["x", "x (2)", "column 3", "x (3)"], [1, 2, 3, 4]),
        ("n,2019,2020\n1,2,3\n2,2,4\n", ["n", "2019", "2020"], [1, 2, 3]),
        ("name,0,1,2\nu,.5,3,4\nu,2,4,4\n", ["name", "0", "1", "2"], ["u", 0.5, 3, 4]),
        ("0,1,2,kind\n.5,3,4,u\n2,4,4,u\n", ["0", "1", "2", "kind"], [0.5, 3, 4, "u"]),
        ("label,0,1,2\n7,2,3,4\n7,2,4,4\n", ["label", "0", "1", "2"], [7, 2, 3, 4]),
        ("cap,odor\nx,a\ny,b\nx,a\ny,b\n", ["cap", "odor"], ["x", "a"]),
        ("odor,class\nx,a\ny,b\n", ["odor", "class"], ["x", "a"]),
        ("text,kind\nab,u\nac,u\nad,v\nae,v\n", ["text", "kind"], ["ab", "u"]),
        ("# label a b\n1 2.5 3\n0 2.5 4\n", ["label", "a", "b"], [1, 2.5, 3]),
        ("a,b,\n1,2,\n0,2,\n", ["a", "b"], [1, 2]),
        ("150,9,a,b\n5.1,3,1.4,0\n4.9,3,1.4,1\n", ["150", "9", "a", "b"], [5.1, 3, 1.4, 0]),
    ],
)
def test_headers(table, content, names, first):
    read = table(content)
    assert read.named
    assert read.frame.columns == names
    assert rows(read)[0] == first


@pytest.mark.parametrize(
    "content",
    [
        "p,x,s\ne,x,y\np,b,y\ne,x,y\n",
        "u,1,2\nv,1,2\nu,2,3\n",
        "0,1\n1,0\n0,0\n",
        "0,1,2,3\n4,5,6,7\n8,9,10,11\n",
        "1,?,3\n2,5,3\n",
        "7,8,9\n",
        "1,2.5,x\n",
    ],
)
def test_a_first_row_that_is_no_header(table, content):
    read = table(content)
    assert not read.named
    assert len(read) == content.count("\n")


@pytest.mark.parametrize("first", [0, 1])
def test_a_header_that_counts_the_columns_is_no_row(tmp_path, first):
    digits = load_digits()
    columns = [*digits.data.T.astype(int), digits.target]
    path = write(tmp_path / "d.csv", columns, range(first, first + 65))
    read = read_table(path)
    assert len(read) == 1797
    assert not read.named  # in another file these numbers may count other columns
    assert "numbers the columns" in read.note
    assert choose_label(read).name == str(first + 64)
    assert choose_label(read, str(first + 64)).name == str(first + 64)
    np.testing.assert_array_equal(labels_of(read, str(first + 64)), digits.target)


def test_names_that_are_known_make_a_header(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("colour,shape\nred,round\n")
    assert len(read_table(path)) == 2
    read = read_table(path, ["shape", "colour", "size"])
    assert read.frame.columns == ["colour", "shape"]
    assert len(read) == 1


# --- An index ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "index", "left_out"),
    [
        (",a,y", [0, 1, 2, 3], True),
        (",a,y", [7, 3, 9, 1], True),  # a part of a shuffled table
        ("Unnamed: 0,a,y", [0, 1, 2, 3], True),
        ("ID,a,y", [0, 1, 2, 3], True),
        ("index,a,y", [1, 2, 3, 4], True),
        ("Id,a,y", [1461, 1462, 1463, 1464], True),  # the test part of a table
        ("id,a,y", [7, 3, 9, 1], False),
        ("b,a,y", [0, 1, 2, 3], False),
    ],
)
def test_a_named_index_is_left_out(table, header, index, left_out):
    read = table(header + "\n" + "".join(f"{i},{i / 2},u\n" for i in index))
    names = ["a", "y"] if left_out else [header.split(",")[0], "a", "y"]
    assert read.frame.columns == names
    assert ("left out" in read.note) == left_out
    assert "column 3 (y)" in read.where(0, "y")
    assert choose_label(table("".join([header, "\n0,1,u\n1,1,v\n2,3,u\n3,3,v\n"])), "3").name == "y"


def test_two_indexes_of_a_table_written_twice_are_left_out(table):
    read = table(",Unnamed: 0,a,y\n0,5,1,u\n1,3,1,v\n")
    assert rows(read) == [[1, "u"], [1, "v"]]
    assert read.note.count("left out") == 2


def test_an_index_beside_counted_columns_is_left_out(table):
    read = table(",0,1\n7,0.5,u\n3,1.5,v\n")
    assert rows(read) == [[0.5, "u"], [1.5, "v"]]
    assert read.frame.columns == ["0", "1"]
    assert not read.named


def test_row_names_of_r(table):
    read = table('"label" "a"\n"1" "x" 2.5\n"2" "y" 1.5\n"3" "x" 2\n', "r.txt")
    assert rows(read) == [["x", 2.5], ["y", 1.5], ["x", 2.0]]
    assert read.frame.columns == ["label", "a"]


def test_an_index_without_a_header(table):
    read = table("".join(f"{i},{i % 3},{i / 2}\n" for i in range(1, 31)))
    assert read.frame.columns == ["column 2", "column 3"]
    assert "column 1 counts the rows from 1 and is left out" in read.note
    assert choose_label(read).name == "column 2"
    kept = table("".join(f"{i},{i / 2}\n" for i in range(30)))
    assert kept.frame.columns == ["column 1", "column 2"]
    assert not kept.note
    few = table("".join(f"{i},{i % 3},{i / 2}\n" for i in range(12)))
    assert few.frame.width == 3


# --- Faults -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["line 1", "empty"]),
        ("\n\n", ["line 1", "empty"]),
        ("# nothing\n", ["line 1", "empty"]),
        ("label,a,b\n", ["line 1", "a header and nothing else"]),
        ("1\n2\n", ["one column"]),
        ("1,2,3\n1,2\n", ["line 2", "2 values found, 3 wanted"]),
        ("1,2,3\n\n1,2,3,4\n", ["line 3", "4 values found, 3 wanted"]),
        ("1,2,3\n1,2\n1,2,3,4\n", ["line 2", "2 values found, 3 wanted"]),
        ("a,b,c\n1,2\n1,2,3,4\n", ["line 2", "2 values found, 3 wanted"]),
        ("a,b,c\n1,2,3\n1,2,3,4\n1,2\n", ["line 3", "4 values found, 3 wanted"]),
        ("1 2 3\n\n  1 2\n", ["line 3", "2 values found, 3 wanted"]),
        ("a,b,y\n1,2,u\n3,inf,v\n", ["line 3", "column 2 (b)", "inf found", "finite"]),
        ("a,b,y\n1,2,u\n3,-Infinity,v\n", ["line 3", "column 2 (b)", "'-Infinity' found"]),
        ("a,b,y\n1,2,u\n3,1e999,v\n", ["line 3", "column 2 (b)", "inf found"]),
        ('a,b,y\n1,2,u\n3,"1,250",v\n', ["line 3", "column 2 (b)", "'1,250' found", "thousands"]),
        ('a,b,y\n1,2,u\n3,"1,250.5",v\n', ["line 3", "column 2 (b)", "'1,250.5' found"]),
        ("a;b;y\n1;2;u\n3;1.250,5;v\n", ["line 3", "column 2 (b)", "'1.250,5' found"]),
        ('a,b\n1,2\n"3,4\n5,6\n', ["line 3", "a quote that is never closed"]),
        (b"1,2\n3,\xfc\n", ["not UTF-8", "0xfc at byte 6"]),
        (b"\xff\xfe1", ["not UTF-16"]),
        (b"1,2\n3,\0\n", ["byte 0 at 6"]),
        ("% iris\n@RELATION iris\n", ["an ARFF file"]),
        ("1," * (1 << 16) + "1\n", ["65,537 columns"]),
    ],
)
def test_faults_name_their_place(tmp_path, complaint, content, words):
    path = tmp_path / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = complaint(lambda: read_table(path), path)
    assert message is not None
    for word in words:
        assert word in message


def test_one_word_among_many_numbers_is_a_fault(table):
    lines = "".join(f"{i % 2},{i}.5,{i % 3}\n" for i in range(200))
    with pytest.raises(DataError, match=r"line 202, column 2 \(age\): 'abc' found, a number wan"):
        table(f"y,age,b\n{lines}1,abc,0\n")
    with pytest.raises(DataError, match=r"line 202, column 3 \(b\): 'abc' found"):
        table("y,age,b\n" + "".join(f"{i % 2},1,{i}\n" for i in range(200)) + "1,1,abc\n")
    words = table(f"y,age,b\n{lines}x,1,0\n")  # the label may be numbers and a word
    assert words.frame["y"].dtype == pl.String


def test_a_single_column_where_that_is_enough(table):
    path = table("a,b\n1,2\n").path
    path.write_text("age\n30\n\n41\n")
    read = read_table(path, fewest=1)
    assert read.frame.to_dict(as_series=False) == {"age": [30, 41]}
    assert "line 4, column 1 (age)" in read.where(1, "age")
    path.write_text("Id,age\n7,30\n8,41\n")
    assert read_table(path, fewest=1).frame.columns == ["age"]
    assert read_table(path).frame.columns == ["Id", "age"]


# --- Files ------------------------------------------------------------------------------------


def zipped(content):
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("inner.csv", content)
        return file.getvalue()


@pytest.mark.parametrize("suffix", SUFFIXES[:-1])
def test_packed_files(table, suffix):
    packers = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zip": zipped}
    pack = next((pack for end, pack in packers.items() if suffix.endswith(end)), bytes)
    read = table(pack(b"label,a\n1,2\n0,3\n"), "A" + suffix.upper())
    assert is_table(read.path)
    assert rows(read) == [[1, 2], [0, 3]]


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zip"])
def test_what_unpacks_to_far_too_much_or_not_at_all(tmp_path, complaint, suffix, monkeypatch):
    monkeypatch.setattr("trainer.data.dialect.unpacked_limit", lambda packed: 1000)
    packers = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zip": zipped}
    path = tmp_path / f"a.csv{suffix}"
    content = packers[suffix](b"1,2\n" * 1000)
    path.write_bytes(content)
    assert "more than 1,000 bytes" in complaint(lambda: read_table(path), path)
    path.write_bytes(content[:20])
    assert "not a readable" in complaint(lambda: read_table(path), path)


@pytest.mark.parametrize("padding", [0, 4, 20_000])
def test_streams_of_xz_are_read_one_after_the_other(table, complaint, padding):
    numbers = np.random.default_rng(0).integers(0, 1000, (3000, 2)).tolist()
    lines = [b"%d,%d\n" % tuple(row) for row in numbers]
    streams = [lzma.compress(b"".join(part)) for part in (lines[:1], lines[1:2000], lines[2000:])]
    whole = b"".join(stream + bytes(padding) for stream in streams)
    read = table(whole, "a.csv.xz")
    assert rows(read) == numbers
    for damaged in (whole[: -padding - 9], whole + b"beyond", whole + streams[0][:40]):
        read.path.write_bytes(damaged)
        assert "not a readable" in complaint(lambda: read_table(read.path), read.path)


def test_parquet(tmp_path):
    frame = pl.DataFrame(
        {
            "whole": [1, None, 3, 3],
            "real": pl.Series([1.5, float("nan"), 2, 2], dtype=pl.Float32),
            "truth": [True, False, None, True],
            "word": [" u ", "", "v", "?"],
            "kind": pl.Series(["a", "b", "a", "b"], dtype=pl.Categorical),
        }
    )
    path = tmp_path / "a.parquet"
    frame.write_parquet(path)
    read = read_table(path)
    assert rows(read)[:2] == [[1, 1.5, "True", "u", "a"], [None, None, "False", None, "b"]]
    assert rows(read)[2:] == [[3, 2.0, None, "v", "a"], [3, 2.0, "True", None, "b"]]
    assert choose_label(read).name == "kind"
    assert "row 2, column 4 (word)" in read.where(1, "word")


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        ({"a": [[1], [2]], "y": [0, 1]}, ["column a holds List"]),
        ({"a": [1.0, float("-inf")], "y": [0, 1]}, ["row 2, column 1 (a)", "-inf found"]),
        ({"a": [], "y": []}, ["no row"]),
        ({"a": [1, 2]}, ["one column"]),
        ({"__index_level_0__": [1, 2]}, ["one column"]),
    ],
)
def test_parquet_that_is_no_table(tmp_path, complaint, frame, words):
    path = tmp_path / "a.parquet"
    pl.DataFrame(frame).write_parquet(path)
    message = complaint(lambda: read_table(path), path)
    for word in words:
        assert word in message
    path.write_bytes(path.read_bytes()[:-9])
    assert "not a readable Parquet file" in complaint(lambda: read_table(path), path)
    path.write_bytes(b"a,b\n1,2\n")
    assert "no Parquet file" in complaint(lambda: read_table(path), path)


@pytest.mark.parametrize("seed", range(6))
def test_damaged_parquet_is_read_or_refused(tmp_path, complaint, capfd, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path / "a.parquet"
    frame = {"a": rng.integers(0, 9, 300), "w": rng.choice(["u", "vv"], 300)}
    pl.DataFrame(frame).write_parquet(path, row_group_size=100)
    content = bytearray(path.read_bytes())
    footer = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    for place in rng.integers(footer, len(content) - 8, 4):
        content[place] = rng.integers(0, 256)
    path.write_bytes(content)
    complaint(lambda: read_table(path), path)
    assert capfd.readouterr() == ("", "")


def test_the_index_that_pandas_writes_is_left_out(tmp_path):
    frame = pl.DataFrame({"a": [1, 2], "y": ["u", "v"], "__index_level_0__": [7, 3]})
    frame.write_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet").frame.columns == ["a", "y"]


def test_a_folder_with_a_pair(tmp_path):
    write(tmp_path / "my_TRAIN.tsv", [[1, 0], [2, 3]], "ya", "\t")
    write(tmp_path / "my_test.csv", [[1, 0, 1], [2, 3, 4]], "ya")
    train, test = read_folder(tmp_path)
    assert (len(train), len(test)) == (2, 3)
    write(tmp_path / "other_test.csv", [[1], [2]])
    with pytest.raises(DataError, match=r"found my_TRAIN\.tsv, my_test\.csv, other_test"):
        read_folder(tmp_path)


@pytest.mark.parametrize("header", [True, False])
def test_kaggles_folder_has_no_labels_to_test_on(tmp_path, header):
    names = [f"pixel{i}" for i in range(4)]
    pixels = np.arange(24).reshape(4, 6)
    write(tmp_path / "train.csv", [[1, 0] * 3, *pixels], ["label", *names] if header else None)
    write(tmp_path / "test.csv", pixels, names if header else None)
    write(tmp_path / "sample_submission.csv", [[1, 2], [0, 0]], ["ImageId", "Label"])
    write(tmp_path / "gender_submission.csv", [[1, 2], [0, 0]], ["ImageId", "Label"])
    with pytest.raises(DataError, match=r"test\.csv has no labels") as error:
        read_folder(tmp_path)
    assert f"--data {tmp_path / 'train.csv'}" in str(error.value)
    assert f"predict RUN --data {tmp_path / 'test.csv'} --out answers.csv" in str(error.value)


def test_kaggles_folder_with_an_index_that_goes_on(tmp_path):
    write(tmp_path / "train.csv", [[1, 2, 3], [5, 6, 5], "uvu"], ["Id", "a", "kind"])
    write(tmp_path / "test.csv", [[4, 5], [7, 8]], ["Id", "a"])
    with pytest.raises(DataError, match=r"test\.csv has no labels"):
        read_folder(tmp_path)


# --- The label --------------------------------------------------------------------------------


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("words", [True, False])
@pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer, load_digits])
def test_the_label_of_known_tables(tmp_path, load, words, last):
    known = load()
    labels = known.target_names[known.target] if words and load is not load_digits else known.target
    columns = [*known.data.T, labels] if last else [labels, *known.data.T]
    read = read_table(write(tmp_path / "a.data", columns))
    choice = choose_label(read)
    assert choice.name == (read.frame.columns[-1] if last else "column 1")
    assert f"{len(known.target_names)} classes" in choice.line
    np.testing.assert_array_equal(labels_of(read, choice.name), labels)
    features = read.without([choice.name]).frame.to_numpy()
    np.testing.assert_array_equal(features, known.data)


@pytest.mark.parametrize(
    ("name", "load"),
    [("iris", load_iris), ("wine_data", load_wine), ("breast_cancer", load_breast_cancer)],
)
def test_the_files_of_scikit_learn(name, load):
    read = read_table(Path(sklearn.datasets.__file__).parent / "data" / f"{name}.csv")
    assert not read.named
    last = read.frame.columns[-1]
    assert choose_label(read).name == last
    np.testing.assert_array_equal(labels_of(read, last), load().target)
    np.testing.assert_array_equal(read.without([last]).frame.to_numpy(), load().data)


@pytest.mark.parametrize(
    ("content", "label", "words"),
    [
        # XOR: both ends can be it, so the first
        ("0,-1,-1\n1,-1,1\n1,1,-1\n0,1,1\n", "column 1", ["column 3 could be it too: --label -1"]),
        ("0,0,0\n0,1,1\n1,0,1\n1,1,0\n", "column 1", ["--label -1"]),
        # UCI's letter, adult, iris
        ("T,2,8\nI,5,8\nT,4,11\nI,7,11\n", "column 1", ["2 classes (I, T)", "could be it too"]),
        ("39, S, 7, <=50K\n50, ?, 8, >50K\n38, S, 7, <=50K\n38, S, 8, >50K\n", "column 4", []),
        ("5.1,3.5,a\n4.9,3,b\n4.7,3,a\n5,3,b\n", "column 3", ["2 classes (a, b)"]),
        # a label written with decimals
        ("1.0,0.5\n0.0,0.7\n1.0,0.2\n0.0,.1\n", "column 1", ["2 classes (0, 1)"]),
        # one end is constant
        ("0,3,1\n0,4,2\n0,5,1\n0,6,2\n", "column 3", []),
        # a header that says so
        ("a,Species,b\n1,u,1\n2,v,2\n1,u,1\n2,v,2\n", "Species", ["column 2 (Species)"]),
        ("y,a,b\n1,.5,1\n2,.5,2\n3,.5,1\n1,.7,2\n", "y", ["3 classes (1, 2, 3)"]),
        ("x,y,label\n1,2,u\n2,3,v\n1,2,u\n4,5,v\n", "label", ["(x, y)"]),
    ],
)
def test_the_label_that_is_found(table, content, label, words):
    choice = choose_label(table(content))
    assert choice.name == label
    assert "--label" in choice.line
    for word in words:
        assert word in choice.line


def test_of_pixels_the_first_column_is_the_label_even_in_few_rows(tmp_path):
    rng = np.random.default_rng(0)
    pixels = np.where(rng.random((784, 12)) < 0.2, rng.integers(1, 256, (784, 12)), 0)
    pixels[-1] = [0] * 6 + [1] * 6
    labels = [5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5]
    assert choose_label(read_table(write(tmp_path / "m.csv", [labels, *pixels]))).name == "column 1"


TITANIC = "PassengerId,Survived,Name,Fare\n" + "".join(
    f'{i},{i % 2},"Mr {i}, Jr",{i / 3}\n' for i in range(1, 30)
)


@pytest.mark.parametrize(
    ("wanted", "label"),
    [
        ("Survived", "Survived"),
        ("survived", "Survived"),
        ("2", "Survived"),
        ("-3", "Survived"),
        ("Nam", None),
        ("0", None),
        ("5", None),
        ("-5", None),
        ("Fare", None),
        ("Name", None),
        (None, None),
    ],
)
def test_the_label_that_is_asked_for(table, wanted, label):
    read = table(TITANIC)
    if label:
        assert choose_label(read, wanted).name == label
        return
    with pytest.raises(DataError) as error:
        choose_label(read, wanted)
    assert str(read.path) in str(error.value)
    if wanted != "Fare":
        assert "Survived" in str(error.value)


def test_a_name_that_is_a_number_comes_before_the_number(table):
    read = table("name,3,2\n5,2,7\n5,2,7\n6,1,8\n6,1,8\n")
    assert choose_label(read, "2").name == "2"
    assert choose_label(read, "3").name == "3"
    assert choose_label(read, "1").name == "name"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,label\n1,2\n2,2\n3,2\n", ["column 2 (label)", "one class only", "--label"]),
        ("a,label\n1,2\n2,3\n3,4\n", ["column 2 (label)", "as many classes as rows", "--label"]),
        ("a,label\n1,2\n2,2.5\n3,2\n", ["line 3", "column 2 (label)", "label 2.5 found"]),
        ("a,label\n1,2\n\n2,?\n3,2\n", ["line 4", "column 2 (label)", "missing"]),
        (f"a,label\n1,u\n2,{'v' * 65}\n3,u\n", ["line 3", "column 2 (label)", "1 to 64"]),
        ("1.5,2.5\n3.5,4.5\n1.5,3.5\n", ["no column at an end", "column 1, column 2", "--label"]),
    ],
)
def test_a_label_that_cannot_be(table, complaint, content, words):
    read = table(content)
    message = complaint(lambda: choose_label(read), read.path)
    for word in words:
        assert word in message


def test_rows_that_are_taken_keep_their_places(table):
    read = table("a,label\n1,u\n\n2,v\n3,u\n4,\n")[np.array([3, 0])]
    assert rows(read) == [[4, None], [1, "u"]]
    with pytest.raises(DataError, match=r"line 6, column 2 \(label\)"):
        labels_of(read, "label")
    plain = table("a,b\n1,2\n3,4\n5,6\n")[np.array([2])].without(["a"])
    assert plain.where(0, "b").endswith("line 4, column 2 (b)")


# --- Anything ---------------------------------------------------------------------------------

CELL_WORDS = st.text("abcxyzäß ,;|\t\"'.#5", min_size=1, max_size=9).map(lambda text: f"w{text}w")


@settings(deadline=None, max_examples=150)
@given(
    data=st.data(),
    kinds=st.lists(st.sampled_from("ifw"), min_size=2, max_size=6),
    length=st.integers(2, 12),
    separator=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    ending=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    header=st.booleans(),
    packed=st.booleans(),
)
def test_what_a_writer_wrote_comes_back(
    tmp_path_factory, data, kinds, length, separator, quoting, ending, encoding, header, packed
):
    cells = {
        "i": st.integers(-(2**63), 2**63 - 1),
        "f": st.floats(allow_nan=False, allow_infinity=False),
        "w": CELL_WORDS,
    }
    kinds = [*kinds, "f"]  # above which no header can be a row
    columns = [
        data.draw(st.lists(st.none() | cells[kind], min_size=length, max_size=length))
        for kind in kinds
    ]
    columns[-1] = [0.5 if value is None else value for value in columns[-1]]
    names = [f"{kind}{place}" for place, kind in enumerate(kinds)]
    written = list(zip(*columns, strict=True))
    if not header:  # or a word in the first row may look like a name of numbers or of words
        written = [row for row in written for _ in (0, 1)]
    with io.StringIO(newline="") as file:
        writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=ending)
        writer.writerows([names, *written] if header else written)
        content = file.getvalue().encode(encoding)
    path = tmp_path_factory.mktemp("tables") / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    read = read_table(path)
    assert read.named == header
    assert read.frame.rows() == written
    assert [read.frame[:, place].dtype == pl.String for place in range(len(kinds))] == [
        kind == "w" and any(value is not None for value in column)
        for kind, column in zip(kinds, columns, strict=True)
    ]


PIECES = [b",", b";", b"\t", b" ", b"|", b"\n", b"\r", b'"', b"1", b"2.5", b"a", b"#", b"?", b"e5"]


@settings(deadline=None, max_examples=400)
@given(
    content=st.binary(max_size=60) | st.lists(st.sampled_from(PIECES), max_size=60).map(b"".join),
    name=st.sampled_from(["a.csv", "a.data", "a.parquet", "a.csv.gz", "a.txt.zip", "a.tsv.xz"]),
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, complaint, content, name):
    path = tmp_path_factory.mktemp("tables") / name
    path.write_bytes(b"PAR1" + content + b"PAR1" if name.endswith("parquet") else content)

    def reader():
        read = read_table(path)
        assert len(read) > 0
        labels_of(read, choose_label(read).name)

    complaint(reader, path)
