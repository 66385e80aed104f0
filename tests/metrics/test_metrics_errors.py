"""Errors and warnings of the metrics."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from metric_examples import PLAIN, SCORED, Y_SCORE, Y_TRUE, TopK, evaluate
from scipy import sparse

from skxmc.metrics import precision_at_k, psp_at_k


@pytest.mark.parametrize("metric", PLAIN + SCORED)
def test_metrics_wrong_k_raise_error(metric):
    for k in (True, 2.0, "2", None, np.bool_(True), 0, -1):
        message = f"^k is {re.escape(repr(k))}, but must be a whole number from 1"
        with pytest.raises(ValueError, match=message):
            evaluate(metric, Y_TRUE, Y_SCORE, k=k)
    with pytest.raises(ValueError, match=r"^k is 5, but there are only 4 labels"):
        evaluate(metric, Y_TRUE, Y_SCORE)
    assert evaluate(metric, Y_TRUE, Y_SCORE, k=np.int64(4)) > 0


@pytest.mark.parametrize("metric", PLAIN + SCORED)
def test_metrics_named_labels_without_classes_raise_error(metric):
    for y_true in ([["a"]], [[0]], pd.DataFrame({"a": [1]})):
        with pytest.raises(ValueError, match=r"^y_true names its labels, .*Pass classes=estimator"):
            evaluate(metric, y_true, np.eye(1), k=1, propensities=[1])


@pytest.mark.parametrize("metric", PLAIN + SCORED)
def test_metrics_no_known_label_warn(metric):
    """This happens if blanks around tags were stripped in training only."""
    arguments = {"k": 1, "classes": ["a", "b"], "propensities": [1, 1]}
    with pytest.warns(
        UserWarning, match=r"^None of the labels of y_true .* first class is 'a'\. Spell"
    ) as w:
        assert evaluate(metric, [[" a"], [" b"]], np.eye(2), **arguments) == 0
    assert [Path(warning.filename).name for warning in w] == ["metric_examples.py"]
    assert evaluate(metric, [[" a"], ["b"]], np.eye(2), **arguments) == 0.5  # no warning
    with pytest.warns(UserWarning, match=r"first class is 3\."):
        evaluate(metric, [[1], [2]], np.eye(2), **{**arguments, "classes": [3, 4]})


@pytest.mark.parametrize("metric", SCORED)
def test_propensity_metrics_topk_without_classes_raise_error(metric):
    with pytest.raises(ValueError, match=r"^y_true names its labels, but which propensities"):
        metric([["a"]], TopK(np.array([["a"]]), None), propensities=[1], k=1)


def test_precision_different_numbers_of_rows_raises_error():
    for y_score in (Y_SCORE[:2], sparse.csr_array(Y_SCORE[:2]), TopK(np.zeros((2, 1), int), None)):
        with pytest.raises(ValueError, match=r"^y_true has 3 rows, but y_score has 2\."):
            precision_at_k(Y_TRUE, y_score, k=1)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([[0, 1]], ValueError, r"^k is 3, but y_score has 2 labels per text\. Call predict_topk"),
        ([0, 1, 2], ValueError, r"^y_score.labels must be of shape \(n, k\), got \(3,\)"),
        ([[0, 1, 4]], ValueError, r"^y_score.labels holds .*4.* in row 0, which is not among the"),
        ([[0, 1, -1]], ValueError, r"^position 2 of y_score.labels holds the label -1, but int"),
        ([[0, 1, 0]], ValueError, r"^y_score.labels holds a label twice in row 0"),
        ([["a", "b", "c"]], ValueError, r"^y_score.labels has labels of type str, .* of type int"),
        ([[0.0, 1.0, 2.0]], TypeError, r"^position 0 of y_score.labels holds 0.0 of type float"),
    ],
)
def test_precision_wrong_labels_in_topk_raises_error(labels, error, message):
    with pytest.raises(error, match=message):
        precision_at_k(sparse.csr_array([[1, 0, 0, 1]]), TopK(np.array(labels), None), k=3)


def test_precision_predicted_label_outside_classes_raises_error():
    with pytest.raises(ValueError, match=r"^y_score.labels holds .*'x'.* in row 1, which is not"):
        precision_at_k([["a"], []], TopK(np.array([["a"], ["x"]]), None), k=1, classes=["a", "b"])


def test_precision_wrong_argument_error_names_it():
    with pytest.raises(ValueError, match=r"^y_true holds 2.0 at row 0, column 0"):
        precision_at_k(np.array([[2, 0]]), np.eye(2)[:1], k=1)
    with pytest.raises(ValueError, match=r"^y_score holds NaN"):
        precision_at_k(Y_TRUE, np.full((3, 4), np.nan), k=1)
    with pytest.raises(ValueError, match=r"^y_true has 4 columns, but there are 3 classes"):
        precision_at_k(Y_TRUE, Y_SCORE, k=1, classes=["a", "b", "c"])
    with pytest.raises(TypeError, match=r"^y_score must be a matrix .* got tuple"):
        precision_at_k(Y_TRUE, (Y_SCORE, Y_SCORE), k=1)


@pytest.mark.parametrize(
    ("propensities", "message"),
    [
        ([1, 1, 1], r"^propensities must hold one value for each of 4 labels, got shape \(3,\)"),
        ([[1], [1], [1], [1]], r"^propensities must hold .* got shape \(4, 1\)"),
        ({0: 1, 1: 1, 3: 1}, r"^propensities has no entry for the label 2\. Pass those of all"),
        ([1, 1, 1, 0], r"^propensities must lie in \(0, 1\], got values from 0.0 to 1.0\. Pass p"),
        ([1, 1, 1, 4], r"^propensities must lie in \(0, 1\], got values from 1.0 to 4.0\. Pass p"),
        ([1, 1, 1, np.nan], r"^propensities must lie in \(0, 1\]"),
    ],
)
def test_psp_wrong_propensities_raises_error(propensities, message):
    with pytest.raises(ValueError, match=message):
        psp_at_k(Y_TRUE, Y_SCORE, propensities=propensities, k=1)
