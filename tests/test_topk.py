"""TopK: the best labels of any score matrix, as arrays, lists and frames."""

import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from skxmc import TopK
from skxmc.metrics import precision_at_k, psp_at_k, recall_at_k

SCORES = np.array([[0.5, 0.25, 0.0, 1.0], [0.0, 0.75, 0.75, 0.5]])
NAMES = ["art", "law", "tax", "war"]


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.coo_array, list])
def test_from_scores_any_form_ranks_columns(form):
    top = TopK.from_scores(form(SCORES), 2)
    assert isinstance(top, TopK)
    assert top.labels.tolist() == [[3, 0], [1, 2]]
    assert top.scores.tolist() == [[1, 0.5], [0.75, 0.75]]


def test_from_scores_all_labels_put_absent_ones_last():
    scores = sparse.csr_array((np.array([-1.0]), [2], [0, 1]), shape=(1, 4))
    top = TopK.from_scores(scores, 4)
    assert top.labels.tolist() == [[2, 0, 1, 3]]
    assert top.scores.tolist() == [[-1, 0, 0, 0]]


def test_from_scores_names_come_from_classes_or_frame():
    expected = [["war", "art"], ["law", "tax"]]
    assert TopK.from_scores(SCORES, 2, classes=NAMES).labels.tolist() == expected
    assert TopK.from_scores(pd.DataFrame(SCORES, columns=NAMES), 2).labels.tolist() == expected


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_from_scores_choice_and_threshold_leave_labels_out(form):
    top = TopK.from_scores(form(SCORES), 3, classes=NAMES, exclude=["war"], threshold=0.5)
    assert top.labels.tolist() == [["art", None, None], ["law", "tax", None]]
    assert top.scores.tolist() == [[0.5, 0, 0], [0.75, 0.75, 0]]
    top = TopK.from_scores(form(SCORES), 2, classes=NAMES, allow=[["tax"], ["war", "tax"]])
    assert top.labels.tolist() == [["tax", None], ["tax", "war"]]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"y_score": SCORES, "k": 5}, ValueError, "^k is 5, but there are only 4 labels"),
        ({"y_score": SCORES, "classes": ["a"]}, ValueError, "^y_score has 4 columns, but there"),
        ({"y_score": "abc"}, TypeError, "^y_score must be a matrix of scores"),
        ({"y_score": SCORES, "k": 1, "exclude": [4]}, ValueError, "^exclude holds 4, which is"),
    ],
    ids=str,
)
def test_from_scores_malformed_argument_is_an_error(arguments, error, message):
    with pytest.raises(error, match=message):
        TopK.from_scores(**arguments)


def test_to_lists_holds_labels_of_each_text():
    top = TopK.from_scores(SCORES, 2, classes=NAMES, threshold=0.6)
    assert top.to_lists() == [["war"], ["law", "tax"]]
    assert TopK.from_scores(SCORES, 1).to_lists() == [[3], [1]]


def test_to_frame_has_one_row_per_text_and_label():
    frame = TopK.from_scores(SCORES, 2, threshold=0.6).to_frame()
    assert frame.to_dict("list") == {
        "text": [0, 1, 1],
        "rank": [1, 1, 2],
        "label": [3, 1, 2],
        "score": [1, 0.75, 0.75],
    }
    assert frame.dtypes["label"] == np.int64


def test_to_frame_without_pandas_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"not installed\. Install it: pip install pandas"):
        TopK.from_scores(SCORES, 2).to_frame()


def test_metrics_count_a_place_without_label_as_a_miss():
    true = [["war"], ["law", "tax"]]
    top = TopK.from_scores(SCORES, 2, classes=NAMES, threshold=0.75)
    assert top.labels.tolist() == [["war", None], ["law", "tax"]]
    for classes in (None, NAMES):
        assert precision_at_k(true, top, k=2, classes=classes) == 0.75
        assert recall_at_k(true, top, k=2, classes=classes) == 1
    with pytest.raises(ValueError, match=r"^y_score\.labels holds 'law' in row 1"):
        precision_at_k(true, top, k=2, classes=["art", "tax", "war"])
    assert psp_at_k(true, top, k=2, classes=NAMES, propensities=[1, 1, 1, 1]) == 1
