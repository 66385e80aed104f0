"""What processes compare to notice that their data differ."""

import numpy as np
import pytest

from skxmc._input.text_column import TEXTS_BLOCK, TextColumn
from skxmc._input.validation import check_labels
from skxmc._training.same_data import describe_data

TEXTS = ["ab", "c", "\ud800", ""]
LABELS = [["x", "y"], ["x"], [], ["z"]]


def describe(texts=TEXTS, y=LABELS, weights=None, label_texts=None):
    return describe_data(texts, check_labels(y, n_texts=len(y)), weights, label_texts)


def test_describe_data_of_column_is_that_of_list():
    column = TextColumn(np.array(["one", "two"] * TEXTS_BLOCK))
    y = [["x"]] * len(column)
    assert describe(column, y) == describe(list(column), y)


def test_describe_data_counts_texts_and_labels():
    found = describe()
    assert [found[name] for name in ("n_texts", "n_labels", "n_labels_of_texts")] == [4, 3, 4]


@pytest.mark.parametrize(
    ("changes", "different"),
    [
        ({}, []),
        ({"texts": ["a", "bc", *TEXTS[2:]]}, ["X"]),
        ({"texts": ["c", "ab", *TEXTS[2:]]}, ["X"]),
        ({"y": [["x", "y"], ["x"], ["z"], []]}, ["y"]),
        ({"y": [["x", "y"], ["y"], [], ["z"]]}, ["y"]),
        ({"y": [["x", "y"], ["x"], [], ["v"]]}, ["y"]),
        ({"weights": np.array([1.0, 1, 1, 2])}, []),
        ({"weights": np.array([2.0, 1, 1, 1])}, ["sample_weight"]),
        ({"weights": None}, ["sample_weight"]),
        ({"label_texts": {"z": "c", "x": "a"}}, []),
        ({"label_texts": ["a", "c", ""]}, ["label_texts"]),
        ({"label_texts": None}, ["label_texts"]),
    ],
)
def test_describe_data_names_what_differs(changes, different):
    given = {"weights": np.array([1.0, 1, 1, 2]), "label_texts": ["a", None, "c"]}
    one, other = describe(**given), describe(**{**given, **changes})
    assert [name for name in one if one[name] != other[name]] == different
