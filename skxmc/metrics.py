"""Metrics of extreme multi-label classification, and scorers for sklearn's model selection.

All of them look at the k best labels of each text. `y_true` comes in any form that ``fit`` takes;
`y_score` is a matrix of scores, sparse or dense, or what ``predict_topk`` returns. The rules are:

- In a sparse matrix, stored entries rank by value and absent ones after all of them.
- Equal scores, and absent ones, rank by lower column.
- A true label that is not among the model's labels counts as missed.
- A text without true labels counts as 0.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from ._topk import check_k, rank_columns, top_k_of_csr
from ._validation import Labels, check_labels, find_columns, names_labels

__all__ = [
    "label_propensities",
    "make_at_k_scorer",
    "ndcg_at_k",
    "precision_at_k",
    "precision_at_k_scorer",
    "psndcg_at_k",
    "psp_at_k",
    "recall_at_k",
]


def precision_at_k(y_true: Any, y_score: Any, *, k: int = 5, classes: Any = None) -> float:
    r"""Mean share of true labels among the k best, P@k.

    Equation 7 of the LightXML paper, averaged over texts:

    .. math:: P@k = \frac{1}{k} \sum_{l \in \mathrm{rank}_k(\hat y)} y_l

    The divisor is k also where a text has fewer than k true labels.

    Parameters
    ----------
    y_true : sparse matrix or array, 2-D array, frame, or sequence of collections
        True labels of n texts, in any form that ``fit`` takes.
    y_score : sparse matrix, ndarray of shape (n, n_labels), or named tuple (labels, scores)
        Scores, the higher the better, or the result of ``predict_topk`` with at least k labels.
    k : int, default=5
        How many labels of each text are looked at.
    classes : array-like of shape (n_labels,), default=None
        The labels of the columns of `y_score`, that is ``classes_`` of the estimator. Needed where
        `y_true` names its labels and `y_score` is a matrix; None numbers the columns from 0.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError
        If an argument is of a type that cannot stand for labels or scores.
    ValueError
        If k is not a whole number from 1 to the number of labels, shapes disagree, scores are not
        finite, `y_true` is not binary, or `classes` is missing.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from skxmc.metrics import precision_at_k
    >>> y_true = csr_array([[1, 0, 1], [0, 1, 0]])
    >>> y_score = np.array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.1]])
    >>> precision_at_k(y_true, y_score, k=1)
    1.0
    >>> precision_at_k([["tax", "law"], ["art"]], y_score, k=2, classes=["law", "art", "tax"])
    0.5
    """
    hits, _ = _hits(y_true, y_score, k, classes)
    return float(hits.mean())


def recall_at_k(y_true: Any, y_score: Any, *, k: int = 5, classes: Any = None) -> float:
    r"""Mean share of each text's true labels that are among the k best, R@k.

    .. math:: R@k = \frac{1}{\sum_l y_l} \sum_{l \in \mathrm{rank}_k(\hat y)} y_l

    Parameters
    ----------
    y_true, y_score, k, classes
        As for `precision_at_k`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        As `precision_at_k` does.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from skxmc.metrics import recall_at_k
    >>> y_true = csr_array([[1, 0, 1], [0, 1, 0]])
    >>> recall_at_k(y_true, csr_array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.1]]), k=1)
    0.75
    """
    hits, true = _hits(y_true, y_score, k, classes)
    return _mean_ratio(np.count_nonzero(hits, axis=1), _n_true(true))


def ndcg_at_k(y_true: Any, y_score: Any, *, k: int = 5, classes: Any = None) -> float:
    r"""Mean normalised discounted cumulative gain of the k best labels, nDCG@k.

    .. math::
        DCG@k = \sum_{i=1}^{k} \frac{y_{\mathrm{rank}(i)}}{\log_2(i + 1)}, \qquad
        nDCG@k = DCG@k \Big/ \sum_{i=1}^{\min(k, \sum_l y_l)} \frac{1}{\log_2(i + 1)}

    Parameters
    ----------
    y_true, y_score, k, classes
        As for `precision_at_k`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        As `precision_at_k` does.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from skxmc.metrics import ndcg_at_k
    >>> y_true = csr_array([[1, 0, 1], [0, 1, 0]])
    >>> round(ndcg_at_k(y_true, csr_array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.1]]), k=3), 4)
    0.9599
    """
    hits, true = _hits(y_true, y_score, k, classes)
    return _mean_ratio(hits @ _discounts(k), _ideal_dcg(_n_true(true), k))


def psp_at_k(
    y_true: Any, y_score: Any, *, propensities: Any, k: int = 5, classes: Any = None
) -> float:
    r"""Propensity-scored precision of the k best labels, PSP@k, over the best attainable.

    Rare labels are missing from annotations more often than common ones, which their propensity
    p makes up for. As in the Extreme Classification Repository, the sums run over all texts i
    before the division:

    .. math::
        PSP@k = \sum_i \sum_{l \in \mathrm{rank}_k(\hat y_i)} \frac{y_{il}}{p_l} \Big/
        \sum_i \max_{|S| = k} \sum_{l \in S} \frac{y_{il}}{p_l}

    A true label that is not among `classes` has no propensity of its own. It is missed, and weighs
    in the divisor as much as the rarest label that is known.

    Parameters
    ----------
    y_true, y_score, k, classes
        As for `precision_at_k`; but where `y_true` names its labels, `classes` is always needed.
    propensities : array-like of shape (n_labels,)
        p of each label in (0, 1], as from `label_propensities` of the TRAINING labels.

    Returns
    -------
    float
        From 0 to 1; 0 if no text has a true label.

    Raises
    ------
    TypeError, ValueError
        As `precision_at_k` does, and ValueError for propensities of another length or outside
        (0, 1].

    References
    ----------
    H. Jain, Y. Prabhu, M. Varma: Extreme multi-label loss functions for recommendation, tagging,
    ranking & other missing label applications. KDD 2016.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from skxmc.metrics import psp_at_k
    >>> y_true = csr_array([[1, 0, 1], [0, 1, 0]])
    >>> y_score = csr_array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.1]])
    >>> psp_at_k(y_true, y_score, k=1, propensities=[1.0, 0.5, 0.25])
    0.5
    """
    gains, best, _ = _weighted_gains(y_true, y_score, k, classes, propensities)
    return _ratio_of_sums(gains.sum(axis=1), best.sum(axis=1))


def psndcg_at_k(
    y_true: Any, y_score: Any, *, propensities: Any, k: int = 5, classes: Any = None
) -> float:
    r"""Propensity-scored nDCG of the k best labels, PSnDCG@k, over the best attainable.

    Each text's discounted gain is divided by its ideal one without propensities, as in
    `ndcg_at_k`; the sum over texts is then divided by the best attainable sum. This is the
    definition of the Extreme Classification Repository's tools (pyxclib) and of napkinXC.

    .. math::
        PSDCG_i = \frac{\sum_{j=1}^{k} y_{i,\mathrm{rank}(j)} /
        (p_{\mathrm{rank}(j)} \log_2(j + 1))}
        {\sum_{j=1}^{\min(k, \sum_l y_{il})} 1 / \log_2(j + 1)}, \qquad
        PSnDCG@k = \frac{\sum_i PSDCG_i(\hat y_i)}{\sum_i PSDCG_i(\mathrm{best\ ranking})}

    Parameters
    ----------
    y_true, y_score, propensities, k, classes
        As for `psp_at_k`, unknown labels included.

    Returns
    -------
    float
        From 0 to 1; 0 if no text has a true label.

    Raises
    ------
    TypeError, ValueError
        As `psp_at_k` does.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from skxmc.metrics import psndcg_at_k
    >>> y_true = csr_array([[1, 0, 1], [0, 1, 0]])
    >>> y_score = csr_array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.1]])
    >>> round(psndcg_at_k(y_true, y_score, k=3, propensities=[1.0, 0.5, 0.25]), 4)
    0.7934
    """
    gains, best, n_true = _weighted_gains(y_true, y_score, k, classes, propensities)
    ideal = _ideal_dcg(np.maximum(n_true, 1), k)
    return _ratio_of_sums(gains @ _discounts(k) / ideal, best @ _discounts(k) / ideal)


def label_propensities(y_train: Any, *, a: float = 0.55, b: float = 1.5) -> NDArray[np.float64]:
    r"""Propensity of each label: how likely it was annotated where it is true.

    With N texts, :math:`N_l` of them with label l (Jain et al. 2016):

    .. math:: p_l = \frac{1}{1 + C (N_l + b)^{-a}}, \qquad C = (\log N - 1)(b + 1)^a

    C would be negative for N = 1 and 2; it is taken as 0 there, and all propensities as 1.

    Parameters
    ----------
    y_train : sparse matrix or array, 2-D array, frame, or sequence of collections
        Training labels, in any form that ``fit`` takes; never those of the test texts.
    a, b : float, default=0.55, 1.5
        Published are 0.5 and 0.4 for Wikipedia, 0.6 and 2.6 for Amazon, the defaults otherwise.

    Returns
    -------
    ndarray of shape (n_labels,), float64
        In (0, 1], in the order of ``classes_`` of an estimator that was fitted on `y_train`.

    Raises
    ------
    TypeError
        If y_train is of a type that cannot stand for labels.
    ValueError
        If y_train is not binary or empty, a is negative, or b not positive.

    Examples
    --------
    >>> from skxmc.metrics import label_propensities
    >>> y_train = [["law"]] * 90 + [["law", "tax"]] * 10
    >>> label_propensities(y_train).round(3)
    array([0.68 , 0.391])
    """
    if not (0 <= a < np.inf and 0 < b < np.inf):
        raise ValueError(f"a must be at least 0 and b above 0, both finite; got a={a}, b={b}.")
    matrix = check_labels(y_train, name="y_train").matrix
    n_texts, n_labels = matrix.shape
    counts = np.bincount(matrix.indices, minlength=n_labels)
    c = max(0.0, np.log(n_texts) - 1) * (b + 1) ** a
    return 1 / (1 + c * (counts + float(b)) ** -a)


def make_at_k_scorer(metric: Callable[..., float], *, k: int = 5, **kwargs: Any) -> AtKScorer:
    """Make a scorer of one of this module's metrics, for ``scoring=`` in sklearn.

    It ranks by ``decision_function`` and reads the labels from ``classes_``, also through a
    Pipeline or a search, so that true labels may come in any form, named ones included.

    Parameters
    ----------
    metric : callable
        Called as ``metric(y_true, y_score, k=k, classes=estimator.classes_, **kwargs)``.
    k : int, default=5
        How many labels of each text are looked at.
    **kwargs
        Passed to `metric`, such as ``propensities``.

    Returns
    -------
    AtKScorer
        Picklable callable ``scorer(estimator, X, y_true) -> float``.

    Raises
    ------
    ValueError
        If k is not a whole number from 1.

    Examples
    --------
    >>> from skxmc.metrics import make_at_k_scorer, ndcg_at_k
    >>> make_at_k_scorer(ndcg_at_k, k=3)
    make_at_k_scorer(ndcg_at_k, k=3)
    """
    return AtKScorer(metric, k, kwargs)


def precision_at_k_scorer(k: int = 5) -> AtKScorer:
    """Make a scorer of `precision_at_k`; see `make_at_k_scorer`.

    Parameters
    ----------
    k : int, default=5
        How many labels of each text are looked at.

    Returns
    -------
    AtKScorer
        Picklable callable ``scorer(estimator, X, y_true) -> float``.

    Raises
    ------
    ValueError
        If k is not a whole number from 1.

    Examples
    --------
    >>> from skxmc.metrics import precision_at_k_scorer
    >>> precision_at_k_scorer(k=1)
    make_at_k_scorer(precision_at_k, k=1)
    """
    return make_at_k_scorer(precision_at_k, k=k)


class AtKScorer:
    """What `make_at_k_scorer` returns.

    sklearn's own ``make_scorer`` does not serve: it knows no ``classes_``, and takes two labels for
    a binary problem, whose scores it slices or negates.
    """

    def __init__(self, metric: Callable[..., float], k: int, kwargs: dict[str, Any]) -> None:
        self.metric = metric
        self.k = check_k(k)
        self.kwargs = kwargs

    def __call__(self, estimator: Any, X: Any, y_true: Any) -> float:
        decide = estimator.decision_function
        # Bounds the memory of the scores; a Pipeline or a search does not pass it on.
        takes_top_k = "top_k" in inspect.signature(decide).parameters
        y_score = decide(X, top_k=self.k) if takes_top_k else decide(X)
        return self.metric(y_true, y_score, k=self.k, classes=estimator.classes_, **self.kwargs)

    def __repr__(self) -> str:
        metric = getattr(self.metric, "__name__", repr(self.metric))
        names = "".join(f", {name}=..." for name in self.kwargs)
        return f"make_at_k_scorer({metric}, k={self.k}{names})"


def _hits(y_true: Any, y_score: Any, k: int, classes: Any) -> tuple[NDArray[np.bool_], Labels]:
    """Which of the k best of each text are true, of shape (n, k), and the true labels."""
    columns, true = _ranked(y_true, y_score, k, classes)
    return _look_up(columns, true.matrix), true


def _ranked(y_true: Any, y_score: Any, k: int, classes: Any) -> tuple[NDArray[np.int64], Labels]:
    """Columns of the k best of each text, of shape (n, k), and the true labels."""
    k = check_k(k)
    is_top_k = hasattr(y_score, "labels")
    if classes is None and names_labels(y_true) and not is_top_k:
        raise ValueError(
            "y_true names its labels, but which columns of y_score they are is not known. Pass "
            "classes=estimator.classes_."
        )
    true = check_labels(y_true, name="y_true", classes=classes)
    if is_top_k:
        may_be_new = classes is None and names_labels(y_true)
        columns = _columns_of_top_k(y_score.labels, k, true.classes, may_be_new=may_be_new)
    else:
        columns = rank_columns(y_score, k, len(true.classes))
    if len(columns) != true.matrix.shape[0]:
        raise ValueError(
            f"y_true has {true.matrix.shape[0]} rows, but y_score has {len(columns)}. Pass both "
            "for the same texts."
        )
    return columns, true


def _columns_of_top_k(
    labels: Any, k: int, classes: NDArray[Any], *, may_be_new: bool
) -> NDArray[np.int64]:
    labels = np.asarray(labels)
    if labels.ndim != 2:
        raise ValueError(f"y_score.labels must be of shape (n, k), got {labels.shape}.")
    if k > labels.shape[1]:
        raise ValueError(
            f"k is {k}, but y_score has {labels.shape[1]} labels a text. Call predict_topk with "
            f"k={k} or more."
        )
    labels = labels[:, :k]
    columns = find_columns(labels, classes, "y_score.labels")
    if not may_be_new and (columns < 0).any():
        row, rank = np.argwhere(columns < 0)[0]
        raise ValueError(
            f"y_score.labels holds {labels[row, rank]!r} in row {row}, which is not among the "
            "classes. Pass classes=estimator.classes_ of the estimator that predicted it."
        )
    ordered = np.sort(columns, axis=1)
    repeated = ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any(axis=1)
    if repeated.any():
        raise ValueError(
            f"y_score.labels holds a label twice in row {repeated.argmax()}; the k best labels "
            "must be distinct."
        )
    return columns


def _look_up(columns: NDArray[np.int64], matrix: sparse.csr_array) -> NDArray[np.bool_]:
    """Whether row i of canonical `matrix` has an entry in columns[i, j]; -1 is never an entry."""
    n, n_labels = matrix.shape
    rows = np.repeat(np.arange(n), np.diff(matrix.indptr))
    # One sorted number for each entry; the sentinel stands for "beyond the last".
    entries = np.append(rows * n_labels + matrix.indices, n * n_labels)
    wanted = np.arange(n)[:, np.newaxis] * n_labels + columns
    return (entries[np.searchsorted(entries, wanted)] == wanted) & (columns >= 0)


def _n_true(true: Labels) -> NDArray[np.int64]:
    """Number of true labels of each text, unknown ones included."""
    return np.diff(true.matrix.indptr) + true.n_unknown


def _discounts(k: int) -> NDArray[np.float64]:
    return 1 / np.log2(np.arange(2, k + 2))


def _ideal_dcg(n_true: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    return np.append(0, np.cumsum(_discounts(k)))[np.minimum(n_true, k)]


def _weighted_gains(
    y_true: Any, y_score: Any, k: int, classes: Any, propensities: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Gains 1/p of the k best of each text and of its best ranking, (n, k) each, and its n_true."""
    if classes is None and names_labels(y_true):
        raise ValueError(
            "y_true names its labels, but which propensities are theirs is not known. Pass "
            "classes=estimator.classes_."
        )
    columns, true = _ranked(y_true, y_score, k, classes)
    weights = _inverse(propensities, len(true.classes))
    gains = np.where(_look_up(columns, true.matrix), weights[columns], 0)

    weighted = sparse.csr_array(
        (weights[true.matrix.indices], true.matrix.indices, true.matrix.indptr),
        shape=true.matrix.shape,
    )
    _, known = top_k_of_csr(weighted, k)
    # Unknown labels weigh most, so in the best ranking they come first.
    rank = np.arange(k) - true.n_unknown[:, np.newaxis]
    best = np.take_along_axis(known, np.maximum(rank, 0), axis=1)
    best = np.where(rank < 0, weights.max(), best)
    return gains, best, _n_true(true)


def _inverse(propensities: Any, n_labels: int) -> NDArray[np.float64]:
    propensities = np.asarray(propensities, dtype=np.float64)
    if propensities.shape != (n_labels,):
        raise ValueError(
            f"propensities must hold one value for each of {n_labels} labels, got shape "
            f"{propensities.shape}. Compute them with label_propensities(y_train)."
        )
    if not ((propensities > 0) & (propensities <= 1)).all():
        raise ValueError("propensities must lie in (0, 1]; pass p itself, not its inverse 1/p.")
    return 1 / propensities


def _mean_ratio(numerators: NDArray[Any], divisors: NDArray[Any]) -> float:
    """Mean ratio over texts; a text without true labels is the one with a divisor below 1."""
    return float((numerators / np.maximum(divisors, 1)).mean())


def _ratio_of_sums(gains: NDArray[np.float64], best: NDArray[np.float64]) -> float:
    return float(gains.sum() / best.sum()) if best.any() else 0.0
