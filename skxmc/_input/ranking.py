"""Rank the k best columns of each row of a score matrix, sparse or dense."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from typing import Any, TypeGuard

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skxmc._input.sparse import as_array, checked_csr, row_of_entry
from skxmc._input.types import Scores
from skxmc._utils.quoting import quoted, quoted_type

# Rows are ranked in blocks of about this many scores, so the working memory is at most about 40 MB.
SCORE_BLOCK = 1 << 20


def blocks(n_rows: int, size: int) -> Iterator[slice]:
    """Cut rows into blocks of at most `size`, at least 1. No rows are no blocks."""
    size = max(1, size)
    return (slice(start, start + size) for start in range(0, n_rows, size))


def check_k(k: Any, n_labels: int | None = None, name: str = "k") -> int:
    """Check that `k` labels can be predicted, of `n_labels` if known, and return it as an int."""
    if not isinstance(k, Integral) or isinstance(k, bool) or int(k) < 1:
        raise ValueError(f"{name} is {quoted(k)}, but must be a whole number from 1.")
    if n_labels is not None and int(k) > n_labels:
        raise ValueError(
            f"{name} is {quoted(k)}, but there are only {n_labels} labels. Lower {name}."
        )
    return int(k)


def rank_columns(y_score: Scores, k: int, n_labels: int) -> NDArray[np.int64]:
    """Return the columns of the k best labels of each row of any score matrix.

    Equal scores rank by lower column. Absent entries of a sparse matrix follow all stored ones.

    Parameters
    ----------
    y_score : sparse matrix or array, or array-like, of shape (n, n_labels)
        Scores, the higher the better.
    k : int
        Number of labels per row, at least 1.
    n_labels : int
        Required number of columns.

    Returns
    -------
    ndarray of shape (n, k), int64

    Raises
    ------
    TypeError
        If y_score is not a matrix of numbers.
    ValueError
        If its shape is wrong, if k is above n_labels, or if scores are not finite.
    """
    return rank_checked(check_scores(y_score, n_labels), check_k(k, n_labels))


def check_scores(y_score: Scores, n_labels: int | None = None) -> sparse.csr_array | NDArray[Any]:
    """Check a score matrix as `rank_columns` does, and return it as canonical CSR or array."""
    if is_list_of_outputs(y_score):
        y_score = stack_outputs(y_score)
    if sparse.issparse(y_score):
        y_score = checked_csr(y_score, "y_score")
        values = y_score.data
    else:
        y_score = values = _dense_scores(y_score)
    if n_labels is not None and y_score.shape[1] != n_labels:
        raise ValueError(
            f"y_score has {y_score.shape[1]} columns, but there are {n_labels} labels. Pass one "
            "score per label, or the named tuple that predict_topk returns."
        )
    if not all_finite(values):
        raise ValueError("y_score holds NaN or infinite scores. Replace them by finite scores.")
    return y_score


def rank_checked(y_score: sparse.csr_array | NDArray[Any], k: int) -> NDArray[np.int64]:
    """Rank scores that `check_scores` returned, see `rank_columns`."""
    if sparse.issparse(y_score):
        return _fill_absent(top_k_of_csr(y_score, k)[0])
    return _top_k_of_dense(y_score, k)


def is_list_of_outputs(scores: object) -> TypeGuard[list[NDArray[Any]]]:
    """Return whether scores are a list of arrays (n, 2), one per label, as forests return them."""
    return (
        isinstance(scores, list)
        and len(scores) > 0
        and all(isinstance(output, np.ndarray) and output.ndim == 2 for output in scores)
    )


def stack_outputs(outputs: list[NDArray[Any]], classes: Any = None) -> NDArray[np.float64]:
    """Make a matrix of scores of a list of arrays (n, 2), one per label.

    Parameters
    ----------
    outputs : list of ndarray of shape (n, 1) or (n, 2)
        Probabilities of the classes of each label. The last column belongs to class 1.
    classes : list of ndarray, default=None
        Classes of each label. They tell the class of an array of one column.

    Returns
    -------
    ndarray of shape (n, n_labels)

    Raises
    ------
    ValueError
        If an array has more than two columns, or if one has a single column of unknown class.
    """
    columns = []
    for number, output in enumerate(outputs):
        width = output.shape[1]
        if width == 2:
            columns.append(output[:, 1])
        elif width == 1 and classes is not None:
            is_one = bool(np.asarray(classes[number]).ravel()[0])
            columns.append(output[:, 0] if is_one else np.zeros(len(output)))
        else:
            raise ValueError(
                f"y_score is a list of arrays, one per label, but array {number} has {width} "
                "columns instead of 2. Pass skxmc.predict_topk(estimator, X) as y_score if a label "
                "has only one class in training."
            )
    return np.column_stack(columns).astype(np.float64)


def all_finite(values: NDArray[Any]) -> bool:
    """Return whether no value is inf or NaN, without a mask as large as the values."""
    return values.size == 0 or bool(np.isfinite([values.min(), values.max()]).all())


def top_k_of_csr(matrix: Any, k: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Return the k highest stored entries of each row, best first, and ties by lower column.

    It never returns absent entries, even if stored ones are negative.

    Parameters
    ----------
    matrix : csr_array or csr_matrix of shape (n, n_columns)
        Canonical matrix, as `checked_csr` returns it, with finite values.
    k : int
        Number of entries per row, at least 1. It may exceed the number of columns.

    Returns
    -------
    columns : ndarray of shape (n, k), int64
        Columns of the entries, -1 if a row has fewer than k stored entries.
    scores : ndarray of shape (n, k), dtype of matrix (float64 for integers)
        Values of the entries, 0 if the column is -1.
    """
    data = _as_float(matrix.data)
    n_stored = np.diff(matrix.indptr)
    columns = np.full((len(n_stored), k), -1, dtype=np.int64)
    scores = np.zeros((len(n_stored), k), dtype=data.dtype)
    # A block holds rows of similar length, so that it has little padding.
    by_length = np.argsort(-n_stored, kind="stable")
    by_length = by_length[: np.count_nonzero(n_stored)]
    while by_length.size:
        width = n_stored[by_length[0]]
        rows, by_length = np.split(by_length, [max(1, SCORE_BLOCK // width)])
        slots = np.arange(width)
        filled = slots < n_stored[rows, np.newaxis]
        entries = np.where(filled, matrix.indptr[rows, np.newaxis] + slots, 0)
        block = np.where(filled, data[entries], -np.inf)
        best = best_positions(block, min(k, width))
        found = np.take_along_axis(filled, best, axis=1)
        entries = np.take_along_axis(entries, best, axis=1)
        columns[rows, : best.shape[1]] = np.where(found, matrix.indices[entries], -1)
        scores[rows, : best.shape[1]] = np.where(found, data[entries], 0)
    return columns, scores


def rank_entries(matrix: Any) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sort the stored entries by row and rank, and return their ranks in this order, from 0.

    Equal entries rank by lower column.
    """
    rows = row_of_entry(matrix)
    order = np.lexsort((matrix.indices, -matrix.data, rows))
    return order, np.arange(matrix.nnz) - matrix.indptr[rows]


def _top_k_of_dense(scores: NDArray[Any], k: int) -> NDArray[np.int64]:
    n_rows, n_columns = scores.shape
    columns = np.empty((n_rows, k), dtype=np.int64)
    step = max(1, SCORE_BLOCK // n_columns)
    for start in range(0, n_rows, step):
        rows = slice(start, start + step)
        columns[rows] = best_positions(_as_float(scores[rows]), k)
    return columns


def _fill_absent(columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Replace each -1 at the end of a row by the lowest columns that the row lacks."""
    short = np.flatnonzero((columns < 0).any(axis=1))
    ranked = columns[short]
    k = columns.shape[1]
    # A row lacks at most k columns, so the first k columns hold enough free ones.
    taken = np.zeros(ranked.shape, dtype=bool)
    rows, ranks = np.nonzero((ranked >= 0) & (ranked < k))
    taken[rows, ranked[rows, ranks]] = True
    free = np.argsort(taken, axis=1, kind="stable")
    n_stored = np.count_nonzero(ranked >= 0, axis=1)[:, np.newaxis]
    fill = np.take_along_axis(free, np.maximum(np.arange(k) - n_stored, 0), axis=1)
    columns[short] = np.where(ranked >= 0, ranked, fill)
    return columns


def _dense_scores(y_score: Scores) -> NDArray[Any]:
    scores = None if isinstance(y_score, tuple) else as_array(y_score, "y_score")
    if scores is None or scores.dtype.kind not in "buif":
        raise TypeError(
            "y_score must be a matrix of scores, sparse or dense, or the named tuple (labels, "
            f"scores) that predict_topk returns, got {type(y_score).__name__}"
            f"{'' if scores is None else f' of dtype {quoted_type(scores.dtype)}'}."
        )
    if scores.ndim != 2:
        raise ValueError(f"y_score must be of shape (n, n_labels), got {scores.shape}.")
    return scores


def best_positions(block: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Return positions of the k highest floats of each row, best first, and ties by position."""
    n_rows, width = block.shape
    if k == width:
        positions = np.broadcast_to(np.arange(width), block.shape)
    else:
        # argpartition breaks ties arbitrarily. So choose all values above the k-th, then fill the
        # remaining places with values equal to it, from the left.
        kth = np.partition(block, width - k, axis=1)[:, width - k, np.newaxis]
        above, tied = block > kth, block == kth
        room = k - np.count_nonzero(above, axis=1)[:, np.newaxis]
        chosen = above | (tied & (np.cumsum(tied, axis=1) <= room))
        positions = np.nonzero(chosen)[1].reshape(n_rows, k)
    order = np.argsort(-np.take_along_axis(block, positions, axis=1), axis=1, kind="stable")
    return np.take_along_axis(positions, order, axis=1)


def _as_float(scores: NDArray[Any]) -> NDArray[Any]:
    """Convert numbers other than floats to float64: unsigned and bool ones cannot be negated."""
    return scores if scores.dtype.kind == "f" else scores.astype(np.float64)
