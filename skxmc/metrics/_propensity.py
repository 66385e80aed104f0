"""Propensities of labels, and the metrics that weight labels by them."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from sys import float_info
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from skxmc._input.per_label import rows_by_label
from skxmc._input.ranking import top_k_of_csr
from skxmc._input.sparse import as_array
from skxmc._input.types import LabelsOfTexts, Propensities, Scores
from skxmc._input.validation import check_labels, names_labels
from skxmc._utils.quoting import quoted, quoted_type
from skxmc.metrics._ranking import count_true, discounts, ideal_dcg, look_up, ranked_columns


def psp_at_k(
    y_true: LabelsOfTexts,
    y_score: Scores,
    *,
    propensities: Propensities,
    k: int = 5,
    classes: ArrayLike | None = None,
) -> float:
    r"""Compute PSP@k, the propensity-scored precision at k as a share of the best attainable.

    Annotators miss rare labels more often than common ones. Dividing by the propensity p of a label
    corrects for this. As in the Extreme Classification Repository, the sums run over all texts i
    before the division:

    .. math::
        PSP@k = \sum_i \sum_{l \in \mathrm{rank}_k(\hat y_i)} \frac{y_{il}}{p_l} \Big/
        \sum_i \max_{|S| = k} \sum_{l \in S} \frac{y_{il}}{p_l}

    A true label that is not among `classes` has no propensity of its own. It counts as missed, and
    weighs as much in the divisor as the rarest known label.
    Read more in the user guide: :doc:`/guide/metrics`.

    Parameters
    ----------
    y_true : sparse matrix or array, 2-D array, frame, or sequence of collections
        True labels of n texts, as for `precision_at_k`.
    y_score : sparse matrix, ndarray of shape (n, n_labels), or named tuple (labels, scores)
        Scores, or the result of ``predict_topk``.
    propensities : array-like of shape (n_labels,), or dict
        Propensity of each label, in (0, 1], by `label_propensities` of the TRAINING labels. Pass a
        dict by label for cross-validation with label lists, because folds then differ in their
        labels. Entries that are not among `classes` are ignored.
    k : int, default=5
        Number of labels per text that count.
    classes : array-like of shape (n_labels,), default=None
        Labels of the columns of `y_score` and of `propensities`. Required if `y_true` names its
        labels.

    Returns
    -------
    float
        From 0 to 1. It is 0 if no text has a true label.

    Raises
    ------
    TypeError, ValueError
        If `precision_at_k` raises them. ValueError also if the number of propensities is wrong, or
        if one lies outside (0, 1].

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
    y_true: LabelsOfTexts,
    y_score: Scores,
    *,
    propensities: Propensities,
    k: int = 5,
    classes: ArrayLike | None = None,
) -> float:
    r"""Compute PSnDCG@k, the propensity-scored nDCG at k as a share of the best attainable.

    Each text's discounted gain is divided by its ideal gain without propensities, as in
    `ndcg_at_k`. The sum over texts is then divided by the best attainable sum. This is the
    definition of the Extreme Classification Repository's tools (pyxclib) and of napkinXC. Labels
    that are not among `classes` count as in `psp_at_k`.

    .. math::
        PSDCG_i = \frac{\sum_{j=1}^{k} y_{i,\mathrm{rank}(j)} /
        (p_{\mathrm{rank}(j)} \log_2(j + 1))}
        {\sum_{j=1}^{\min(k, \sum_l y_{il})} 1 / \log_2(j + 1)}, \qquad
        PSnDCG@k = \frac{\sum_i PSDCG_i(\hat y_i)}{\sum_i PSDCG_i(\mathrm{best\ ranking})}

    Read more in the user guide: :doc:`/guide/metrics`.

    Parameters
    ----------
    y_true : sparse matrix or array, 2-D array, frame, or sequence of collections
        True labels of n texts, as for `precision_at_k`.
    y_score : sparse matrix, ndarray of shape (n, n_labels), or named tuple (labels, scores)
        Scores, or the result of ``predict_topk``.
    propensities : array-like of shape (n_labels,), or dict
        Propensity p of each label, as for `psp_at_k`.
    k : int, default=5
        Number of labels per text that count.
    classes : array-like of shape (n_labels,), default=None
        Labels of the columns, as for `psp_at_k`.

    Returns
    -------
    float
        From 0 to 1. It is 0 if no text has a true label.

    Raises
    ------
    TypeError, ValueError
        If `psp_at_k` raises them.

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


def label_propensities(
    y_train: LabelsOfTexts, *, a: float = 0.55, b: float = 1.5
) -> NDArray[np.float64]:
    r"""Estimate the propensity of each label, the probability that a true label is annotated.

    If :math:`N_l` of N texts have label l, its propensity is (Jain et al. 2016):

    .. math:: p_l = \frac{1}{1 + C (N_l + b)^{-a}}, \qquad C = (\log N - 1)(b + 1)^a

    The factor C would be negative for one or two texts. It is 0 then, and all propensities are 1.
    Read more in the user guide: :doc:`/guide/metrics`.

    Parameters
    ----------
    y_train : sparse matrix or array, 2-D array, frame, or sequence of collections
        Training labels, in any form that ``fit`` takes. Never pass those of the test texts.
    a, b : float, default=0.55, 1.5
        Constants of the formula. The published values are 0.5 and 0.4 for Wikipedia, 0.6 and 2.6
        for Amazon, and the defaults for other data.

    Returns
    -------
    ndarray of shape (n_labels,), float64
        Values in (0, 1], in the order of ``classes_`` of an estimator that was fitted on `y_train`.

    Raises
    ------
    TypeError
        If `y_train` is of a type that cannot stand for labels, or if a or b is not a number.
    ValueError
        If `y_train` is empty or not binary, if a is negative, or if b is not positive.

    Examples
    --------
    >>> from skxmc.metrics import label_propensities
    >>> y_train = [["law"]] * 90 + [["law", "tax"]] * 10
    >>> label_propensities(y_train).round(3)
    array([0.68 , 0.391])
    """
    if not (isinstance(a, Real) and isinstance(b, Real)):
        raise TypeError(
            f"a must be a number, and b must be a number, got a={quoted(a)}, b={quoted(b)}."
        )
    if not (0 <= a <= float_info.max and 0 < b <= float_info.max):
        raise ValueError(
            f"a must be at least 0 and b above 0, both finite, got a={quoted(a)}, b={quoted(b)}."
        )
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
    y_true: LabelsOfTexts,
    y_score: Scores,
    k: int,
    classes: ArrayLike | None,
    propensities: Propensities,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Compute gains 1/p, (n, k), of the k best and of the best ranking, and n_true of each text."""
    if classes is None and names_labels(y_true):
        raise ValueError(
            "y_true names its labels, but which propensities belong to them is not known. Pass "
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


def _inverse(propensities: Propensities, classes: NDArray[Any]) -> NDArray[np.float64]:
    """Compute 1/p of each label, up to a common factor."""
    n_labels = len(classes)
    if isinstance(propensities, Mapping):
        unknown = [label for label in classes.tolist() if label not in propensities]
        if unknown:
            raise ValueError(
                f"propensities has no entry for the label {quoted(unknown[0])}. Pass those of all "
                "training labels, by label_propensities(y_train)."
            )
        propensities = [propensities[label] for label in classes.tolist()]
    propensities = rows_by_label(propensities, classes, "propensities")
    propensities = as_array(propensities, "propensities")
    if propensities.dtype.kind not in "buif":
        raise TypeError(
            f"propensities must be numbers, got {quoted_type(propensities.dtype)}. Compute them "
            "with label_propensities(y_train)."
        )
    propensities = propensities.astype(np.float64)
    if propensities.shape != (n_labels,):
        raise ValueError(
            f"propensities must hold one value for each of {n_labels} labels, got shape "
            f"{propensities.shape}. Compute them with label_propensities(y_train)."
        )
    if not ((propensities > 0) & (propensities <= 1)).all():
        lowest, highest = propensities.min(), propensities.max()
        raise ValueError(
            f"propensities must lie in (0, 1], got values from {lowest} to {highest}. Pass p "
            "itself, not its inverse 1/p."
        )
    # 1/p may overflow a float, so it is scaled by a power of two, which ratios of sums cancel.
    return np.ldexp(1.0, np.frexp(propensities.min())[1]) / propensities


def _ratio_of_sums(gains: NDArray[np.float64], best: NDArray[np.float64]) -> float:
    return float(gains.sum() / best.sum()) if best.any() else 0.0
