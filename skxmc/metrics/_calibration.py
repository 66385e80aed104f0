"""Expected calibration error at k: how far scores are from probabilities."""

from __future__ import annotations

from numbers import Integral
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skxmc._input.sparse import as_array
from skxmc._input.types import LabelsOfTexts, Scores
from skxmc._topk import TopK, is_label
from skxmc._utils.quoting import quoted
from skxmc.metrics._ranking import look_up, ranked_columns


class Reliability(NamedTuple):
    """Predictions in bins of equal width by their score, without empty bins."""

    prob_true: NDArray[np.float64]  # share of true labels
    prob_pred: NDArray[np.float64]  # mean score
    counts: NDArray[np.int64]  # number of predictions

    @property
    def ece(self) -> float:
        """Mean difference between share and mean score, weighted by the number of predictions."""
        difference = np.abs(self.prob_true - self.prob_pred) * self.counts
        return float(difference.sum() / max(self.counts.sum(), 1))


def ece_at_k(
    y_true: LabelsOfTexts,
    y_score: Scores,
    *,
    k: int = 5,
    n_bins: int = 10,
    classes: ArrayLike | None = None,
) -> float:
    r"""Compute the expected calibration error of the k best labels, which is best at 0.

    The predictions of all texts are put into bins of equal width by their score. In bin B, the mean
    score is compared with the share of true labels:

    .. math::
        ECE@k = \sum_B \frac{|B|}{N} \left| \frac{1}{|B|} \sum_{(i, l) \in B} y_{il}
        - \frac{1}{|B|} \sum_{(i, l) \in B} \hat y_{il} \right|

    where N is the number of predictions.
    Read more in the user guide: :doc:`/guide/decisions`.

    Parameters
    ----------
    y_true : sparse matrix or array, 2-D array, frame, or sequence of collections
        True labels of n texts, as for `precision_at_k`.
    y_score : sparse matrix, ndarray of shape (n, n_labels), or named tuple (labels, scores)
        Scores from 0 to 1, or the result of ``predict_topk``.
    k : int, default=5
        Number of labels per text that count.
    n_bins : int, default=10
        Number of bins.
    classes : array-like of shape (n_labels,), default=None
        Labels of the columns of `y_score`, as for `precision_at_k`.

    Returns
    -------
    float
        From 0 to 1. Lower is better, so do not pass it to `make_at_k_scorer`.

    Raises
    ------
    TypeError, ValueError
        If `precision_at_k` raises them. ValueError also if a score is not from 0 to 1, or if
        n_bins is not a whole number from 1.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.sparse import csr_array
    >>> from skxmc.metrics import ece_at_k
    >>> y_true = csr_array([[1, 0], [1, 0], [0, 1], [1, 0]])
    >>> y_score = np.array([[0.9, 0.0], [0.9, 0.0], [0.9, 0.0], [0.9, 0.0]])
    >>> round(ece_at_k(y_true, y_score, k=1), 2)
    0.15
    """
    return reliability_at_k(y_true, y_score, k, n_bins, classes).ece


def reliability_at_k(
    y_true: LabelsOfTexts, y_score: Scores, k: int, n_bins: int, classes: ArrayLike | None
) -> Reliability:
    """Put the predictions of the k best labels into bins, see `ece_at_k`."""
    if not isinstance(n_bins, Integral) or isinstance(n_bins, bool) or int(n_bins) < 1:
        raise ValueError(f"n_bins is {quoted(n_bins)}, but must be a whole number from 1.")
    columns, true = ranked_columns(y_true, y_score, k, classes)
    if not hasattr(y_score, "labels"):
        y_score = TopK.from_scores(y_score, k, classes=classes)
    top = cast(TopK, y_score)
    is_predicted = is_label(as_array(top.labels, "y_score.labels")[:, :k])
    scores = as_array(top.scores, "y_score.scores")[:, :k][is_predicted].astype(np.float64)
    hits = look_up(columns, true.matrix)[is_predicted]
    outside = ~((scores >= 0) & (scores <= 1))
    if outside.any():
        raise ValueError(
            f"y_score holds the score {scores[outside][0]:.7g}, but probabilities are from 0 to 1. "
            "Pass scores of predict_topk or predict_proba."
        )
    bins = np.minimum((scores * n_bins).astype(np.int64), n_bins - 1)
    counts = np.bincount(bins, minlength=n_bins)
    is_used = counts > 0
    sums = (np.bincount(bins, values, n_bins)[is_used] for values in (hits, scores))
    prob_true, prob_pred = (total / counts[is_used] for total in sums)
    return Reliability(prob_true, prob_pred, counts[is_used])
