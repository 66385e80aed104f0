"""Propensities of labels, and the metrics that weigh labels by them."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from sys import float_info
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from skxmc._input.ranking import top_k_of_csr
from skxmc._input.sparse import as_array
from skxmc._input.validation import check_labels, names_labels
from skxmc.metrics._ranking import count_true, discounts, ideal_dcg, look_up, ranked_columns


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
    y_true : sparse matrix or array, 2-D array, frame, or sequence of collections
        True labels of n texts, as for `precision_at_k`.
    y_score : sparse matrix, ndarray of shape (n, n_labels), or named tuple (labels, scores)
        Scores, or the result of ``predict_topk``.
    propensities : array-like of shape (n_labels,), or dict
        The p of each label, in (0, 1], as from `label_propensities` of the TRAINING labels. A dict
        has them by label, for cross-validation with label lists, whose folds differ in their
        labels; those that are not among `classes` have no use.
    k : int, default=5
        How many labels of each text are looked at.
    classes : array-like of shape (n_labels,), default=None
        The labels of the columns of `y_score` and of `propensities`; needed wherever `y_true` names
        its labels.

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
    definition of the Extreme Classification Repository's tools (pyxclib) and of napkinXC. Labels
    that are not among `classes` count as in `psp_at_k`.

    .. math::
        PSDCG_i = \frac{\sum_{j=1}^{k} y_{i,\mathrm{rank}(j)} /
        (p_{\mathrm{rank}(j)} \log_2(j + 1))}
        {\sum_{j=1}^{\min(k, \sum_l y_{il})} 1 / \log_2(j + 1)}, \qquad
        PSnDCG@k = \frac{\sum_i PSDCG_i(\hat y_i)}{\sum_i PSDCG_i(\mathrm{best\ ranking})}

    Parameters
    ----------
    y_true : sparse matrix or array, 2-D array, frame, or sequence of collections
        True labels of n texts, as for `precision_at_k`.
    y_score : sparse matrix, ndarray of shape (n, n_labels), or named tuple (labels, scores)
        Scores, or the result of ``predict_topk``.
    propensities : array-like of shape (n_labels,), or dict
        The p of each label, in (0, 1], as from `label_propensities` of the TRAINING labels. A dict
        has them by label, for cross-validation with label lists, whose folds differ in their
        labels; those that are not among `classes` have no use.
    k : int, default=5
        How many labels of each text are looked at.
    classes : array-like of shape (n_labels,), default=None
        The labels of the columns of `y_score` and of `propensities`; needed wherever `y_true` names
        its labels.

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
    ideal = ideal_dcg(np.maximum(n_true, 1), k)
    return _ratio_of_sums(gains @ discounts(k) / ideal, best @ discounts(k) / ideal)


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
        If y_train is of a type that cannot stand for labels, or a or b is no number.
    ValueError
        If y_train is not binary or empty, a is negative, or b not positive.

    Examples
    --------
    >>> from skxmc.metrics import label_propensities
    >>> y_train = [["law"]] * 90 + [["law", "tax"]] * 10
    >>> label_propensities(y_train).round(3)
    array([0.68 , 0.391])
    """
    if not (isinstance(a, Real) and isinstance(b, Real)):
        raise TypeError(f"a must be a number, and b must be one; got a={a!r}, b={b!r}.")
    if not (0 <= a <= float_info.max and 0 < b <= float_info.max):
        raise ValueError(f"a must be at least 0 and b above 0, both finite; got a={a}, b={b}.")
    matrix = check_labels(y_train, name="y_train").matrix
    n_texts, n_labels = matrix.shape
    counts = np.bincount(matrix.indices, minlength=n_labels)
    factor = np.log(n_texts) - 1
    if factor <= 0:
        return np.ones(n_labels)
    with np.errstate(over="ignore"):  # an odds of infinity is a propensity of 0
        odds = factor * ((float(b) + 1) / (counts + float(b))) ** float(a)
    return np.maximum(1 / (1 + odds), float_info.min)


def _weighted_gains(
    y_true: Any, y_score: Any, k: int, classes: Any, propensities: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Gains 1/p of the k best of each text and of its best ranking, (n, k) each, and its n_true."""
    if classes is None and names_labels(y_true):
        raise ValueError(
            "y_true names its labels, but which propensities are theirs is not known. Pass "
            "classes=estimator.classes_."
        )
    columns, true = ranked_columns(y_true, y_score, k, classes)
    weights = _inverse(propensities, true.classes)
    gains = np.where(look_up(columns, true.matrix), weights[columns], 0)

    weighted = sparse.csr_array(
        (weights[true.matrix.indices], true.matrix.indices, true.matrix.indptr),
        shape=true.matrix.shape,
    )
    _, known = top_k_of_csr(weighted, k)
    # Unknown labels weigh most, so in the best ranking they come first.
    rank = np.arange(k) - true.n_unknown[:, np.newaxis]
    best = np.take_along_axis(known, np.maximum(rank, 0), axis=1)
    best = np.where(rank < 0, weights.max(), best)
    return gains, best, count_true(true)


def _inverse(propensities: Any, classes: NDArray[Any]) -> NDArray[np.float64]:
    """1 / p of each label, up to a factor that all have in common."""
    n_labels = len(classes)
    if isinstance(propensities, Mapping):
        unknown = [label for label in classes.tolist() if label not in propensities]
        if unknown:
            raise ValueError(
                f"propensities has none of the label {unknown[0]!r}. Compute them of all training "
                "labels, with label_propensities(y_train)."
            )
        propensities = [propensities[label] for label in classes.tolist()]
    propensities = as_array(propensities, "propensities")
    if propensities.dtype.kind not in "buif":
        raise TypeError(
            f"propensities must be numbers, got {propensities.dtype}. Compute them with "
            "label_propensities(y_train)."
        )
    propensities = propensities.astype(np.float64)
    if propensities.shape != (n_labels,):
        raise ValueError(
            f"propensities must hold one value for each of {n_labels} labels, got shape "
            f"{propensities.shape}. Compute them with label_propensities(y_train)."
        )
    if not ((propensities > 0) & (propensities <= 1)).all():
        raise ValueError("propensities must lie in (0, 1]; pass p itself, not its inverse 1/p.")
    # Less a power of two, which ratios of sums cancel: 1 / p may be more than a float holds.
    return np.ldexp(1.0, np.frexp(propensities.min())[1]) / propensities


def _ratio_of_sums(gains: NDArray[np.float64], best: NDArray[np.float64]) -> float:
    return float(gains.sum() / best.sum()) if best.any() else 0.0
