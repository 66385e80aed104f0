"""The k best labels of each text, and which of them are true, for all metrics."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from skxmc._input.per_label import column_labels, columns_by_label
from skxmc._input.ranking import check_k, rank_columns
from skxmc._input.sparse import as_array, has_entries
from skxmc._input.types import LabelsOfTexts, Scores
from skxmc._input.validation import Labels, check_labels, find_columns, names_labels
from skxmc._topk import TopK, is_label
from skxmc._utils.quoting import quoted
from skxmc._utils.warnings import warn_user


def hits_at_k(
    y_true: LabelsOfTexts, y_score: Scores, k: int, classes: ArrayLike | None
) -> tuple[NDArray[np.bool_], Labels]:
    """Mark which of the k best labels of each text are true, (n, k), and return the true labels."""
    columns, true = ranked_columns(y_true, y_score, k, classes)
    return look_up(columns, true.matrix), true


def ranked_columns(
    y_true: LabelsOfTexts, y_score: Scores, k: int, classes: ArrayLike | None
) -> tuple[NDArray[np.int64], Labels]:
    """Return the columns of the k best labels of each text, (n, k), and the true labels."""
    k = check_k(k)
    is_top_k = hasattr(y_score, "labels") and not hasattr(y_score, "columns")  # not a frame
    if classes is None:
        classes = column_labels(y_score)
    if classes is None and names_labels(y_true) and not is_top_k:
        raise ValueError(
            "y_true names its labels, but which columns of y_score they are is not known. Pass "
            "classes=estimator.classes_, or pass the whole result of predict_topk as y_score."
        )
    true = check_labels(y_true, name="y_true", classes=classes)
    if true.n_unknown.any() and true.matrix.nnz == 0:
        warn_user(
            "None of the labels of y_true is among the classes, and all count as missed. The first "
            f"class is {quoted(true.classes.tolist()[0])}. Spell the labels of y_true as in fit.",
        )
    if is_top_k:
        may_be_new = classes is None and names_labels(y_true)
        columns = _columns_of_top_k(
            cast(TopK, y_score).labels, k, true.classes, may_be_new=may_be_new
        )
    else:
        y_score = columns_by_label(y_score, true.classes, "y_score")
        columns = rank_columns(y_score, k, len(true.classes))
    if len(columns) != true.matrix.shape[0]:
        raise ValueError(
            f"y_true has {true.matrix.shape[0]} rows, but y_score has {len(columns)}. Pass the "
            "true labels and the scores of the same texts."
        )
    return columns, true


def _columns_of_top_k(
    labels: Any, k: int, classes: NDArray[Any], *, may_be_new: bool
) -> NDArray[np.int64]:
    labels = as_array(labels, "y_score.labels")
    if labels.ndim != 2:
        raise ValueError(
            f"y_score.labels must be of shape (n, k), got {labels.shape}. Pass the result of "
            "predict_topk."
        )
    if k > labels.shape[1]:
        raise ValueError(
            f"k is {quoted(k)}, but y_score has {labels.shape[1]} labels per text. Call "
            f"predict_topk with k={quoted(k)} or more."
        )
    labels = labels[:, :k]
    is_given = is_label(labels)
    columns = np.full(labels.shape, -1, dtype=np.int64)
    columns[is_given] = find_columns(labels[is_given], classes, "y_score.labels")
    is_unknown = (columns < 0) & is_given
    if not may_be_new and is_unknown.any():
        row, rank = np.argwhere(is_unknown)[0]
        raise ValueError(
            f"y_score.labels holds {quoted(labels[row, rank])} in row {row}, which is not among "
            "the classes. Pass classes=estimator.classes_ of the estimator that predicted it."
        )
    ordered = np.sort(columns, axis=1)
    repeated = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if repeated.any():
        raise ValueError(
            f"y_score.labels holds a label twice in row {repeated.argmax()}. Pass k different "
            "labels per text."
        )
    return columns


def look_up(columns: NDArray[np.int64], matrix: sparse.csr_array) -> NDArray[np.bool_]:
    """Check if row i of canonical `matrix` has an entry in columns[i, j]. -1 is never an entry."""
    return has_entries(matrix, np.arange(len(columns))[:, np.newaxis], columns)


def count_true(true: Labels) -> NDArray[np.int64]:
    """Count the true labels of each text, unknown ones included."""
    return np.diff(true.matrix.indptr) + true.n_unknown


def discounts(k: int) -> NDArray[np.float64]:
    return 1 / np.log2(np.arange(2, k + 2))


def ideal_dcg(n_true: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    return np.append(0, np.cumsum(discounts(k)))[np.minimum(n_true, k)]
