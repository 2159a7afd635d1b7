"""What becomes of a table's columns, against scikit-learn's encoders and by hand."""

import json

import numpy as np
import polars as pl
import pytest

from trainer.data import Columns, DataError
from trainer.data.tables import Table


def table(path="t.csv", named=True, **columns):
    return Table(pl_path(path), pl.DataFrame(columns, strict=False), named, 2)


def pl_path(name):
    from pathlib import Path

    return Path(name)


PEOPLE = {
    "age": [20, 30, None, 60],
    "income": [1250.5, -1.0, 3.0, None],
    "city": ["Ulm", "Bonn", "Ulm", None],
    "name": ["a", "b", "c", "d"],
    "empty": [None] * 4,
}


class TestKinds:
    def test_are_numbers_categories_and_what_is_left_out(self):
        columns = Columns.learned(table(**PEOPLE), "y")
        assert [c.kind for c in columns.columns] == [
            "number", "number", "category", "left out", "left out",
        ]  # fmt: skip
        assert [c.median for c in columns.columns][:2] == [30, 3.0]
        assert columns.names == ["age", "income", "city=Bonn", "city=Ulm", "city missing"]
        assert columns.numbers.tolist() == [True, True, False, False, False]

    @pytest.mark.parametrize(
        ("count", "most", "high"),
        [(784, 255, 255), (64, 16, 16), (49, 1, 1), (64, 5, 0), (16, 15, 0), (50, 255, 0)],
    )
    def test_pixels_fill_a_range_of_an_image(self, count, most, high):
        rng = np.random.default_rng(0)
        cells = rng.integers(0, most + 1, (100, count))
        columns = Columns.learned(table(**{f"p{i}": cells[:, i] for i in range(count)}), "y")
        assert columns.high == high
        assert (columns.image_shape is not None) == (high > 0 or count == 64)
        x, notes = columns.encode(table(**{f"p{i}": cells[:, i] for i in range(count)}))
        assert x.dtype == (np.uint8 if high else np.float32)
        assert not notes
        np.testing.assert_array_equal(x, cells)

    def test_a_table_without_any_feature_is_refused(self):
        with pytest.raises(DataError, match="no column of features besides the label 'y'"):
            Columns.learned(table(name=["a", "b"]), "y")


class TestInputs:
    def test_are_scikit_learns(self):
        from sklearn.impute import SimpleImputer
        from sklearn.preprocessing import OneHotEncoder

        rng = np.random.default_rng(1)
        numbers = rng.normal(size=(200, 2))
        numbers[rng.random((200, 2)) < 0.1] = np.nan
        words = rng.choice(["red", "green", "blue", "teal"], (200, 1))
        cells = {"a": numbers[:, 0], "b": numbers[:, 1], "c": words[:, 0]}
        frame = pl.DataFrame(cells).fill_nan(None)
        given = Table(pl_path("t.csv"), frame, True, 2)
        x, notes = Columns.learned(given, "y").encode(given)
        wanted = [
            SimpleImputer(strategy="median").fit_transform(numbers),
            OneHotEncoder(sparse_output=False).fit_transform(words),
        ]
        np.testing.assert_allclose(x, np.hstack(wanted), rtol=1e-6)
        assert notes == [f"missing numbers ({np.isnan(numbers).sum()}) took their column's"
                         " training median"]  # fmt: skip

    def test_come_back_from_json(self):
        columns = Columns.learned(table(**PEOPLE), "y")
        assert Columns.from_json(json.loads(json.dumps(columns.as_json()))) == columns

    @pytest.mark.parametrize(
        ("key", "value"),
        [("columns", 3), ("label", 3), ("columns", [{}]), ("high", "much"), ("more", 1)],
    )
    def test_damaged_json_is_refused(self, key, value):
        recorded = Columns.learned(table(**PEOPLE), "y").as_json() | {key: value}
        with pytest.raises((KeyError, TypeError, ValueError)):
            Columns.from_json(recorded)

    @pytest.mark.parametrize(
        ("key", "value"),
        [("name", 3), ("kind", "odd"), ("median", "x"), ("categories", 5), ("categories", [5])],
    )
    def test_a_damaged_column_is_refused(self, key, value):
        recorded = json.loads(json.dumps(Columns.learned(table(**PEOPLE), "y").as_json()))
        recorded["columns"][0][key] = value
        with pytest.raises((KeyError, TypeError, ValueError)):
            Columns.from_json(recorded)

    def test_unknown_categories_are_counted(self):
        columns = Columns.learned(table(**PEOPLE), "y")
        other = PEOPLE | {"city": ["Rom", "Ulm", "Oslo", "Bonn"]}
        x, notes = columns.encode(table(**other))
        np.testing.assert_array_equal(x[:, 2:], [[0, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]])
        assert any("rare or absent in training: city (2)" in note for note in notes)

    def test_words_among_numbers_are_refused_with_their_place(self):
        columns = Columns.learned(table(**PEOPLE), "y")
        with pytest.raises(DataError, match=r"line 3.*'old' found, a number wanted"):
            columns.encode(table(**PEOPLE | {"age": ["1", "old", "2", None]}))


class TestOtherTables:
    def test_go_by_name_in_any_order(self):
        columns = Columns.learned(table(**PEOPLE), "y")
        turned = dict(reversed(PEOPLE.items()))
        features, label = columns.features(table(y=[0, 1, 0, 1], **turned), (0, 1))
        assert label == "y"
        np.testing.assert_array_equal(
            columns.encode(features)[0], columns.encode(table(**PEOPLE))[0]
        )

    def test_a_column_left_out_is_not_needed(self):
        columns = Columns.learned(table(**PEOPLE), "y")
        fewer = {name: cells for name, cells in PEOPLE.items() if name not in ("name", "empty")}
        features, label = columns.features(table(**fewer), ())
        assert label is None
        assert columns.encode(features)[0].shape == (4, 5)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"age": None}, "missing: age"),
            ({"weight": [1, 2, 3, 4]}, "unknown: weight"),
        ],
    )
    def test_missing_and_unknown_columns_are_errors(self, change, message):
        columns = Columns.learned(table(**PEOPLE), "y")
        cells = {k: v for k, v in (PEOPLE | change).items() if v is not None}
        with pytest.raises(DataError, match=message):
            columns.features(table(**cells), ())

    @pytest.mark.parametrize(
        ("cells", "label"),
        [
            ([[1.5, 2.5], [3.5, 0.5]], None),
            ([["a", "b"], [1.5, 2.5], [3.5, 0.5]], "c0"),
            ([[1.5, 2.5], [3.5, 0.5], ["b", "a"]], "c2"),
        ],
    )
    def test_without_names_they_go_by_place(self, cells, label):
        columns = Columns.learned(table(u=[1.0, 2.0], v=[3.0, 4.0]), "y")
        given = table(named=False, **{f"c{i}": column for i, column in enumerate(cells)})
        features, found = columns.features(given, ("a", "b"))
        assert found == label
        np.testing.assert_array_equal(columns.encode(features)[0], [[1.5, 3.5], [2.5, 0.5]])

    @pytest.mark.parametrize("cells", [[[0, 1], [3, 4], [1, 0]], [[7, 8], [3, 4], [5, 6]]])
    def test_a_label_that_cannot_be_told_is_refused(self, cells):
        columns = Columns.learned(table(u=[1.0, 2.0], v=[3.0, 4.0]), "y")
        given = table(named=False, **{f"c{i}": column for i, column in enumerate(cells)})
        with pytest.raises(DataError, match="3 columns found, 2 were trained on"):
            columns.features(given, (0, 1))

    def test_pixels_may_have_the_label_first_beside_a_dark_corner(self):
        cells = np.random.default_rng(0).integers(0, 256, (20, 49))
        cells[:, -1] = 0
        columns = Columns.learned(table(**{f"p{i}": cells[:, i] for i in range(49)}), "y")
        given = {f"c{i}": cells[:, i] for i in range(49)}
        labels = np.arange(20) % 3
        found = columns.features(table(named=False, label=labels, **given), (0, 1, 2))
        assert found[1] == "label"

    def test_an_index_is_no_unknown_column(self):
        columns = Columns.learned(table(**PEOPLE), "y")
        features, _ = columns.features(table(Id=[7, 3, 9, 1], **PEOPLE), ())
        assert columns.encode(features)[0].shape == (4, 5)

    @pytest.mark.parametrize("names", [("*", "b"), ("^a.*$", "ab"), ("a", "^.*$")])
    def test_names_are_no_patterns(self, names):
        cells = {names[0]: [1.0, 2.0], names[1]: [3.0, 4.0], "y": [0, 1]}
        given = table(**cells)
        features = given.without(["y"])
        columns = Columns.learned(features, "y")
        np.testing.assert_array_equal(columns.encode(features)[0], [[1, 3], [2, 4]])
        turned, label = columns.features(given.select([names[1], "y", names[0]]), (0, 1))
        assert label == "y"
        np.testing.assert_array_equal(columns.encode(turned)[0], [[1, 3], [2, 4]])
        assert given.without([names[0]]).frame.columns == [names[1], "y"]
