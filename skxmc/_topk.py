"""The k best labels: of any estimator, of any score matrix; and sound CSR copies."""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

# Rows are ranked in blocks of about so many scores, which bounds the working memory (some 40 MB).
BLOCK_SIZE = 1 << 20


class TopK(NamedTuple):
    """The best labels of each text, best first.

    Parameters
    ----------
    labels : ndarray of shape (n_texts, k)
        Entries of the estimator's ``classes_``.
    scores : ndarray of shape (n_texts, k), float32
        Their scores, descending.
    """

    labels: NDArray[Any]
    scores: NDArray[Any]


def predict_topk(estimator: Any, X: Any, k: int = 5) -> TopK:
    """Predict the k best labels of each text with any fitted estimator that scores labels.

    Reaches through a ``Pipeline``, a ``GridSearchCV`` and the like to the ``predict_topk`` of the
    estimator inside; without one, ranks what its ``decision_function`` or ``predict_proba``
    returns.

    Parameters
    ----------
    estimator : estimator
        Fitted; with ``classes_``.
    X : array-like of shape (n_texts,)
        What the estimator predicts from.
    k : int, default=5
        Labels a text.

    Returns
    -------
    TopK
        Named tuple of labels and scores, two arrays of shape (n_texts, k).

    Raises
    ------
    ValueError
        If k is not a whole number from 1 to the number of labels.
    TypeError
        If the estimator does not score labels, or is a search with ``refit=False``.

    Examples
    --------
    >>> from sklearn.feature_extraction.text import TfidfVectorizer
    >>> from sklearn.multiclass import OneVsRestClassifier
    >>> from sklearn.naive_bayes import MultinomialNB
    >>> from sklearn.pipeline import make_pipeline
    >>> from skxmc import predict_topk
    >>> model = make_pipeline(TfidfVectorizer(), OneVsRestClassifier(MultinomialNB()))
    >>> model = model.fit(["red apple", "red car"], [[1, 0], [0, 1]])
    >>> predict_topk(model, ["an apple"], k=1).labels
    array([[0]])
    """
    if hasattr(estimator, "predict_topk"):
        return estimator.predict_topk(X, k=k)
    if hasattr(estimator, "best_estimator_"):
        return predict_topk(estimator.best_estimator_, X, k)
    if hasattr(innermost(estimator)[0], "predict_topk"):
        estimator, X = innermost(estimator, X)
        return estimator.predict_topk(X, k=k)
    for method in ("decision_function", "predict_proba"):
        if hasattr(estimator, method):
            scores = getattr(estimator, method)(X)
            break
    else:
        raise TypeError(
            f"{type(estimator).__name__} does not score labels: it has neither predict_topk, nor "
            "decision_function, nor predict_proba."
        )
    classes = np.asarray(estimator.classes_)
    columns = rank_columns(scores, check_k(k, len(classes)), len(classes))
    rows = np.arange(len(columns))[:, None]
    values = scores[rows, columns] if not sparse.issparse(scores) else scores.tocsr()[rows, columns]
    values = values.toarray() if sparse.issparse(values) else np.asarray(values)
    return TopK(classes[columns], values)


def innermost(estimator: Any, X: Any = None) -> tuple[Any, Any]:
    """The estimator inside pipelines and searches, however nested, and `X` as it sees it."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "cv_results_") and getattr(estimator, "refit", True) is False:
            raise TypeError(
                f"this {type(estimator).__name__} has refit=False and so holds no fitted model. "
                "Search with refit=True, or fit a model with its best_params_."
            )
        elif hasattr(estimator, "steps"):
            for _, transformer in estimator.steps[:-1]:
                if X is not None and transformer not in (None, "passthrough"):
                    X = transformer.transform(X)
            estimator = estimator.steps[-1][1]
        else:
            return estimator, X


def check_k(k: Any, n_labels: int | None = None, name: str = "k") -> int:
    """Check that `k` labels can be predicted, of `n_labels` if known, and return it as an int."""
    if not isinstance(k, Integral) or isinstance(k, bool) or int(k) < 1:
        raise ValueError(f"{name} is {k!r}, but must be a whole number from 1.")
    if n_labels is not None and int(k) > n_labels:
        raise ValueError(f"{name} is {k}, but there are only {n_labels} labels. Lower {name}.")
    return int(k)


def rank_columns(y_score: Any, k: int, n_labels: int) -> NDArray[np.int64]:
    """Columns of the k best labels of each row of any score matrix, of shape (n, k).

    Equal scores rank by lower column; absent entries of a sparse matrix follow all stored ones.

    Parameters
    ----------
    y_score : sparse matrix or array, or array-like, of shape (n, n_labels)
        Scores, the higher the better.
    k : int
        At least 1.
    n_labels : int
        How many columns there must be.

    Returns
    -------
    ndarray of shape (n, k), int64

    Raises
    ------
    TypeError
        If y_score is no matrix of numbers.
    ValueError
        If its shape does not fit, k is above n_labels, or scores are not finite.
    """
    if sparse.issparse(y_score):
        y_score = checked_csr(y_score, "y_score")
        values = y_score.data
    else:
        y_score = values = _dense_scores(y_score)
    if y_score.shape[1] != n_labels:
        raise ValueError(
            f"y_score has {y_score.shape[1]} columns, but there are {n_labels} labels. Pass one "
            "score for each label, or the named tuple that predict_topk returns."
        )
    k = check_k(k, n_labels)
    if not all_finite(values):
        raise ValueError("y_score holds NaN or infinite scores. Replace them, so that they rank.")
    if sparse.issparse(y_score):
        return _fill_absent(top_k_of_csr(y_score, k)[0])
    return _top_k_of_dense(y_score, k)


def all_finite(values: NDArray[Any]) -> bool:
    """Whether there is no inf or NaN, without a mask of the size of the values."""
    return values.size == 0 or bool(np.isfinite([values.min(), values.max()]).all())


def top_k_of_csr(matrix: Any, k: int) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The k highest stored entries of each row, best first; equal ones by lower column.

    Absent entries are never taken, whatever the sign of the stored ones.

    Parameters
    ----------
    matrix : csr_array or csr_matrix of shape (n, n_columns)
        Canonical (as `checked_csr` returns it), with finite values.
    k : int
        At least 1; may exceed the number of columns.

    Returns
    -------
    columns : ndarray of shape (n, k), int64
        -1 where a row has fewer than k stored entries.
    scores : ndarray of shape (n, k), dtype of matrix (float64 for integers)
        0 where columns is -1.
    """
    data = _as_float(matrix.data)
    n_stored = np.diff(matrix.indptr)
    columns = np.full((len(n_stored), k), -1, dtype=np.int64)
    scores = np.zeros((len(n_stored), k), dtype=data.dtype)
    # Rows of similar length together, so that blocks hold little padding.
    by_length = np.argsort(-n_stored, kind="stable")
    by_length = by_length[: np.count_nonzero(n_stored)]
    while by_length.size:
        width = n_stored[by_length[0]]
        rows, by_length = np.split(by_length, [max(1, BLOCK_SIZE // width)])
        slots = np.arange(width)
        filled = slots < n_stored[rows, np.newaxis]
        entries = np.where(filled, matrix.indptr[rows, np.newaxis] + slots, 0)
        block = np.where(filled, data[entries], -np.inf)
        best = _best_positions(block, min(k, width))
        found = np.take_along_axis(filled, best, axis=1)
        entries = np.take_along_axis(entries, best, axis=1)
        columns[rows, : best.shape[1]] = np.where(found, matrix.indices[entries], -1)
        scores[rows, : best.shape[1]] = np.where(found, data[entries], 0)
    return columns, scores


def checked_csr(matrix: Any, name: str) -> sparse.csr_array:
    """Canonical CSR copy of a sparse matrix, refused if broken before compiled code reads it."""
    if matrix.ndim != 2:
        raise ValueError(f"{name} must be two-dimensional, got a {matrix.ndim}-D sparse array.")
    if matrix.dtype.kind not in "buif":
        raise TypeError(
            f"{name} has dtype {matrix.dtype}; it must be bool, int or float. Convert it with "
            f"{name}.astype(np.float32)."
        )
    wide = matrix.dtype
    if wide.kind in "iu":  # many duplicates of a small type would add up to less than they are
        wide = np.result_type(wide, np.int64)
    csr = _to_csr(matrix, wide) if _is_sound(matrix) else None
    # Looked at again because a lil matrix hands on whatever column numbers it holds.
    if csr is None or not _is_sound(csr):
        raise ValueError(
            f"{name} is a broken {matrix.format} matrix: its indices do not fit its shape "
            f"{matrix.shape}. Build it anew; check_format() of csr and csc says what is wrong."
        )
    # From its arrays, so that flags such as has_canonical_format are not taken on trust.
    arrays = csr.data.astype(wide, copy=False), csr.indices, csr.indptr
    csr = sparse.csr_array(arrays, shape=csr.shape, copy=True)
    csr.sum_duplicates()
    narrow_indices(csr)
    return csr


def narrow_indices(csr: sparse.csr_array) -> None:
    """Make indices int32 where they fit: SciPy's constructors give int64, and so does all after."""
    if max(csr.nnz, csr.shape[1]) <= np.iinfo(np.int32).max:
        csr.indices = csr.indices.astype(np.int32, copy=False)
        csr.indptr = csr.indptr.astype(np.int32, copy=False)


def as_array(values: Any, name: str) -> NDArray[Any]:
    """Whatever makes a full rectangular array, as one."""
    if np.ma.is_masked(values):
        raise ValueError(f"{name} has masked entries. Fill them, with {name}.filled(0).")
    try:
        return np.asarray(values)
    except ValueError as error:
        raise ValueError(
            f"{name} must be an array or lists of equal length, but numpy says: {error}"
        ) from error


def _to_csr(matrix: Any, dtype: np.dtype[Any]) -> Any:
    """CSR of a sound matrix; where the conversion adds up duplicates, they are of `dtype`."""
    if matrix.format in ("coo", "bsr"):
        coo = matrix.tocoo(copy=False)
        entries = coo.data.astype(dtype, copy=False), (coo.row, coo.col)
        matrix = sparse.coo_array(entries, shape=coo.shape)
    return matrix.tocsr()


def _top_k_of_dense(scores: NDArray[Any], k: int) -> NDArray[np.int64]:
    n_rows, n_columns = scores.shape
    columns = np.empty((n_rows, k), dtype=np.int64)
    step = max(1, BLOCK_SIZE // n_columns)
    for start in range(0, n_rows, step):
        rows = slice(start, start + step)
        columns[rows] = _best_positions(_as_float(scores[rows]), k)
    return columns


def _fill_absent(columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Replace each -1 that ends a row by the lowest columns that the row does not hold yet."""
    short = np.flatnonzero((columns < 0).any(axis=1))
    ranked = columns[short]
    k = columns.shape[1]
    # A row lacks at most k columns, so the first k columns hold enough that it does not have.
    taken = np.zeros(ranked.shape, dtype=bool)
    rows, ranks = np.nonzero((ranked >= 0) & (ranked < k))
    taken[rows, ranked[rows, ranks]] = True
    free = np.argsort(taken, axis=1, kind="stable")
    n_stored = np.count_nonzero(ranked >= 0, axis=1)[:, np.newaxis]
    fill = np.take_along_axis(free, np.maximum(np.arange(k) - n_stored, 0), axis=1)
    columns[short] = np.where(ranked >= 0, ranked, fill)
    return columns


def _dense_scores(y_score: Any) -> NDArray[Any]:
    scores = None if isinstance(y_score, tuple) else as_array(y_score, "y_score")
    if scores is None or scores.dtype.kind not in "buif":
        raise TypeError(
            "y_score must be a matrix of scores, sparse or dense, or the named tuple (labels, "
            f"scores) that predict_topk returns, got {type(y_score).__name__}"
            f"{'' if scores is None else f' of dtype {scores.dtype}'}."
        )
    if scores.ndim != 2:
        raise ValueError(f"y_score must be of shape (n, n_labels), got {scores.shape}.")
    return scores


def _best_positions(block: NDArray[Any], k: int) -> NDArray[np.int64]:
    """Positions of the k highest of each row of floats, best first; equal ones by position."""
    n_rows, width = block.shape
    if k == width:
        positions = np.broadcast_to(np.arange(width), block.shape)
    else:
        # argpartition breaks ties arbitrarily, so: all above the k-th value, then as many of
        # those equal to it, from the left, as there is room for.
        kth = np.partition(block, width - k, axis=1)[:, width - k, np.newaxis]
        above, tied = block > kth, block == kth
        room = k - np.count_nonzero(above, axis=1)[:, np.newaxis]
        chosen = above | (tied & (np.cumsum(tied, axis=1) <= room))
        positions = np.nonzero(chosen)[1].reshape(n_rows, k)
    order = np.argsort(-np.take_along_axis(block, positions, axis=1), axis=1, kind="stable")
    return np.take_along_axis(positions, order, axis=1)


def _as_float(scores: NDArray[Any]) -> NDArray[Any]:
    """Floats as they are, other numbers as float64: unsigned and bool ones cannot be negated."""
    return scores if scores.dtype.kind == "f" else scores.astype(np.float64)


def _is_sound(matrix: Any) -> bool:
    """Whether the indices fit the shape; the constructors of other formats see to it themselves."""
    n_rows, n_columns = matrix.shape
    if matrix.format == "coo":
        return (
            len(matrix.row) == len(matrix.col) == len(matrix.data)
            and _within(matrix.row, n_rows)
            and _within(matrix.col, n_columns)
        )
    if matrix.format == "lil":
        return list(map(len, matrix.rows)) == list(map(len, matrix.data))
    if matrix.format == "dia":
        return matrix.offsets.shape == matrix.data.shape[:1] and matrix.offsets.dtype.kind == "i"
    if matrix.format not in ("csr", "csc", "bsr"):
        return True
    n_major, n_minor = (n_columns, n_rows) if matrix.format == "csc" else (n_rows, n_columns)
    if matrix.format == "bsr":
        n_major, n_minor = n_rows // matrix.blocksize[0], n_columns // matrix.blocksize[1]
    starts, indices = np.asarray(matrix.indptr), np.asarray(matrix.indices)
    return bool(
        starts.shape == (n_major + 1,)
        and starts.dtype.kind in "iu"
        and starts[0] == 0
        and (starts[:-1] <= starts[1:]).all()
        and starts[-1] <= min(len(indices), len(matrix.data))
        and _within(indices[: starts[-1]], n_minor)
    )


def _within(indices: NDArray[Any], bound: int) -> bool:
    if indices.dtype.kind not in "iu":
        return False
    return indices.size == 0 or bool(indices.min() >= 0 and indices.max() < bound)
