"""Values per label that carry their labels: Series, dicts, frames."""

import numpy as np
import pandas as pd
import pytest

from skxmc._input.per_label import (
    check_label_texts,
    column_labels,
    columns_by_label,
    rows_by_label,
)

CLASSES = np.array(["art", "law", "tax"], dtype=object)
TEXTS = {"tax": "about tax", "art": "about art", "law": "about law"}
IN_ORDER = ["about art", "about law", "about tax"]


@pytest.mark.parametrize("given", [TEXTS, pd.Series(TEXTS), pd.Series(TEXTS).sort_index()])
def test_check_label_texts_with_labels_go_by_label(given):
    assert check_label_texts(given, CLASSES) == IN_ORDER


@pytest.mark.parametrize(
    "given",
    [
        list(TEXTS.values()),
        pd.Series(list(TEXTS.values())),
        pd.Series(list(TEXTS.values()), index=[0, 1, 2]),
        pd.Series(["", *TEXTS.values()])[1:],  # a part of a column still only counts
    ],
)
def test_check_label_texts_without_labels_go_by_position(given):
    assert check_label_texts(given, CLASSES) == list(TEXTS.values())


def test_check_label_texts_dict_without_label_is_empty_text():
    assert check_label_texts({"law": "about law", "tax": None}, CLASSES) == ["", "about law", ""]


def test_check_label_texts_integer_labels_go_by_label():
    given = pd.Series(["two", "zero", "one"], index=[2, 0, 1])
    assert check_label_texts(given, np.arange(3)) == ["zero", "one", "two"]


def test_check_label_texts_dict_of_unknown_label_is_refused():
    with pytest.raises(ValueError, match=r"has an entry for 'Law', which is not a label.*'art'"):
        check_label_texts({"Law": "about law"}, CLASSES)


@pytest.mark.parametrize(
    ("index", "fault"),
    [
        (["art", "law", "Tax"], "holds 'Tax', which is not a label"),
        (["art", "law", "law"], "holds 3 of 3 labels"),
        ([2, 0, 1], "holds 2, which is not a label"),
        (pd.to_datetime(["2020", "2021", "2022"]), ".*which is not a label"),
    ],
)
def test_rows_by_label_other_index_is_refused(index, fault):
    values = pd.Series([1.0, 2.0, 3.0], index=index)
    with pytest.raises(ValueError, match=rf"the index of weights {fault}.*weights\.to_numpy\(\)"):
        rows_by_label(values, CLASSES, "weights")


def test_rows_by_label_frame_is_reordered():
    features = pd.DataFrame({"x": [3.0, 1.0, 2.0]}, index=["tax", "art", "law"])
    assert rows_by_label(features, CLASSES, "label_features")["x"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_by_label_frame_is_reordered(library):
    frame = pytest.importorskip(library).DataFrame({"tax": [3.0], "art": [1.0], "law": [2.0]})
    assert np.asarray(columns_by_label(frame, CLASSES, "y_score")).tolist() == [[1, 2, 3]]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_by_label_counted_columns_go_by_position(library):
    frame = pytest.importorskip(library).DataFrame(np.array([[3.0, 1.0, 2.0]]))
    assert column_labels(frame) is None
    assert columns_by_label(frame, CLASSES, "y_score") is frame


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_columns_by_label_other_columns_are_refused(library):
    frame = pytest.importorskip(library).DataFrame({"tax": [3.0], "art": [1.0], "Law": [2.0]})
    with pytest.raises(ValueError, match=r"the header of y_score holds 'Law', which is not a lab"):
        columns_by_label(frame, CLASSES, "y_score")


@pytest.mark.parametrize("values", [[1, 2, 3], np.arange(3), (1, 2, 3), None])
def test_rows_by_label_without_index_returns_values(values):
    assert rows_by_label(values, CLASSES, "weights") is values
