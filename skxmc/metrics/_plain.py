"""Precision, recall and nDCG at k."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skxmc._input.types import LabelsOfTexts, Scores
from skxmc.metrics._ranking import count_true, discounts, hits_at_k, ideal_dcg


def precision_at_k(
    y_true: LabelsOfTexts, y_score: Scores, *, k: int = 5, classes: ArrayLike | None = None
) -> float:
    r"""Compute P@k, the mean share of true labels among the k best.

    P@k is equation 7 of the LightXML paper, averaged over texts:

    .. math:: P@k = \frac{1}{k} \sum_{l \in \mathrm{rank}_k(\hat y)} y_l

    The divisor is k even if a text has fewer than k true labels.
    Read more in the user guide: :doc:`/guide/metrics`.

    Parameters
    ----------
    y_true : sparse matrix or array, 2-D array, frame, or sequence of collections
        True labels of n texts, in any form that ``fit`` takes.
    y_score : sparse matrix, ndarray of shape (n, n_labels), or named tuple (labels, scores)
        Scores (higher is better), or the result of ``predict_topk`` with at least k labels.
    k : int, default=5
        Number of labels per text that count.
    classes : array-like of shape (n_labels,), default=None
        Labels of the columns of `y_score`, that is ``classes_`` of the estimator. Required if
        `y_true` names its labels and `y_score` is a matrix. None numbers the columns from 0.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError
        If an argument is of a type that cannot stand for labels or scores.
    ValueError
        If k is not a whole number from 1 to the number of labels, or if `classes` is missing. Also
        if shapes disagree, scores are not finite, or `y_true` is not binary.

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
    hits, _ = hits_at_k(y_true, y_score, k, classes)
    return float(hits.mean())


def recall_at_k(
    y_true: LabelsOfTexts, y_score: Scores, *, k: int = 5, classes: ArrayLike | None = None
) -> float:
    r"""Compute R@k, the mean share of a text's true labels that are among the k best.

    .. math:: R@k = \frac{1}{\sum_l y_l} \sum_{l \in \mathrm{rank}_k(\hat y)} y_l

    Read more in the user guide: :doc:`/guide/metrics`.

    Parameters
    ----------
    y_true : sparse matrix or array, 2-D array, frame, or sequence of collections
        True labels of n texts, as for `precision_at_k`.
    y_score : sparse matrix, ndarray of shape (n, n_labels), or named tuple (labels, scores)
        Scores, or the result of ``predict_topk``.
    k : int, default=5
        Number of labels per text that count.
    classes : array-like of shape (n_labels,), default=None
        Labels of the columns of `y_score`, as for `precision_at_k`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If `precision_at_k` raises them.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from skxmc.metrics import recall_at_k
    >>> y_true = csr_array([[1, 0, 1], [0, 1, 0]])
    >>> recall_at_k(y_true, csr_array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.1]]), k=1)
    0.75
    """
    hits, true = hits_at_k(y_true, y_score, k, classes)
    return _mean_ratio(np.count_nonzero(hits, axis=1), count_true(true))


def ndcg_at_k(
    y_true: LabelsOfTexts, y_score: Scores, *, k: int = 5, classes: ArrayLike | None = None
) -> float:
    r"""Compute nDCG@k, the mean normalized discounted cumulative gain of the k best labels.

    .. math::
        DCG@k = \sum_{i=1}^{k} \frac{y_{\mathrm{rank}(i)}}{\log_2(i + 1)}, \qquad
        nDCG@k = DCG@k \Big/ \sum_{i=1}^{\min(k, \sum_l y_l)} \frac{1}{\log_2(i + 1)}

    Read more in the user guide: :doc:`/guide/metrics`.

    Parameters
    ----------
    y_true : sparse matrix or array, 2-D array, frame, or sequence of collections
        True labels of n texts, as for `precision_at_k`.
    y_score : sparse matrix, ndarray of shape (n, n_labels), or named tuple (labels, scores)
        Scores, or the result of ``predict_topk``.
    k : int, default=5
        Number of labels per text that count.
    classes : array-like of shape (n_labels,), default=None
        Labels of the columns of `y_score`, as for `precision_at_k`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        If `precision_at_k` raises them.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from skxmc.metrics import ndcg_at_k
    >>> y_true = csr_array([[1, 0, 1], [0, 1, 0]])
    >>> round(ndcg_at_k(y_true, csr_array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.1]]), k=3), 4)
    0.9599
    """
    hits, true = hits_at_k(y_true, y_score, k, classes)
    return _mean_ratio(hits @ discounts(k), ideal_dcg(count_true(true), k))


def _mean_ratio(numerators: NDArray[Any], divisors: NDArray[Any]) -> float:
    """Average the ratios over texts. A divisor below 1 means a text without true labels."""
    return float((numerators / np.maximum(divisors, 1)).mean())
