"""CalibratedClassifier: makes the scores of a classifier probabilities."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.isotonic import IsotonicRegression
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skxmc._input.allowed import AllowedLabels
from skxmc._input.ranking import rank_entries
from skxmc._input.sparse import row_of_entry
from skxmc._input.types import LabelsOfTexts, PerLabel, RandomState, Texts, ValidationData
from skxmc._meta.held_out import fit_and_hold_out
from skxmc._meta.wrapping import WrapperMixin
from skxmc._utils.warnings import warn_user

# Probabilities are at least this, so that every candidate has a score.
MIN_PROBABILITY = 1e-6
# Ranks from which on labels have a map of their own: 1, 2, 6 and 21, counted from 0.
FIRST_RANKS = (0, 1, 5, 20)
# Calibration needs at least so many true candidates, and so many false ones.
MIN_EXAMPLES = 20


class CalibratedClassifier(WrapperMixin, ClassifierMixin, BaseEstimator):
    """Meta-estimator whose scores are probabilities, learned from held-out texts.

    An isotonic regression [1]_ maps the score of a label to the share of true labels among those
    with such scores on the held-out texts. There is one for the best label, one for ranks 2 to 5,
    one for ranks 6 to 20 and one for the rest, because a label with the same score is true more
    often if it is the best of its text. The order of the labels of a text stays the same.

    Read more in the user guide: :doc:`/guide/decisions`.

    Parameters
    ----------
    estimator : estimator
        A classifier or an ensemble of this package, or any that takes texts and has
        ``predict_proba``. A ``FrozenEstimator`` is not fitted again, and the texts of `fit` are
        those from which the calibration is learned. The estimator must not have seen them.
    validation_fraction : float or "auto", default="auto"
        Share of the texts to hold out. The estimator is not fitted to them. "auto" is 0.05, or
        more for small data sets, at most 2,000 texts.
    n_candidates : int, default=100
        Number of labels per text that get a probability.
    threshold : float, default=0.5
        `predict` returns labels whose probability is at least this.
    random_state : int, RandomState instance or None, default=None
        Seed for the choice of held-out texts.

    Attributes
    ----------
    classes_ : ndarray of shape (n_labels,)
        Name or number of each label.
    n_labels_ : int
        Number of labels.
    estimator_ : estimator
        Fitted estimator.
    calibration_scores_, calibration_probabilities_ : list of ndarray of shape (n_points,), float64
        Scores of the estimator and their probabilities, for each group of ranks. Between the
        points, the map is linear.

    See Also
    --------
    skxmc.metrics.ece_at_k : Measures how far scores are from probabilities.
    skxmc.plotting.ReliabilityDisplay : Draws it.
    TunedThresholdClassifier : Chooses thresholds for a target.

    Notes
    -----
    With ``exclude`` or ``allow``, labels rank among the allowed ones.

    References
    ----------
    .. [1] B. Zadrozny, C. Elkan, "Transforming Classifier Scores into Accurate Multiclass
       Probability Estimates", KDD 2002.

    Examples
    --------
    >>> from skxmc import CalibratedClassifier, OmikujiClassifier
    >>> from skxmc.datasets import make_xmc
    >>> X, y = make_xmc(n_samples=400, n_labels=20, random_state=0)
    >>> clf = CalibratedClassifier(OmikujiClassifier(), random_state=0).fit(X, y)
    >>> clf.predict_topk(X[:3], k=2).scores.shape
    (3, 2)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "estimator": [HasMethods(["fit"])],
        "validation_fraction": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="neither")],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
    }

    _prediction_params = ("n_candidates", "threshold")

    def __init__(
        self,
        estimator: Any,
        *,
        validation_fraction: float | str = "auto",
        n_candidates: int = 100,
        threshold: float = 0.5,
        random_state: RandomState = None,
    ) -> None:
        self.estimator = estimator
        self.validation_fraction = validation_fraction
        self.n_candidates = n_candidates
        self.threshold = threshold
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: Texts,
        y: LabelsOfTexts,
        *,
        label_names: PerLabel | None = None,
        validation_data: ValidationData | None = None,
        X_val: Texts | None = None,
        y_val: LabelsOfTexts = None,
        **fit_params: Any,
    ) -> CalibratedClassifier:
        """Fit the estimator, and learn from the held-out texts what its scores mean.

        Parameters
        ----------
        X : sequence of str
            Raw texts. If the estimator is frozen, texts that it has not seen.
        y : sparse matrix, array, frame or sequence of label collections
            Labels of each text, in any form that the estimator takes: see :doc:`/guide/data`.
        label_names : array-like of shape (n_labels,) or callable, default=None
            Names of the columns of a matrix, passed on to the estimator.
        validation_data : tuple (X, y), default=None
            Texts and labels from which the calibration is learned, in place of held-out ones.
        X_val, y_val : texts and labels, default=None
            The same in two arguments. With ``transform_input=["X_val"]``, the steps of a
            pipeline change these texts too: see :doc:`/guide/searching`.
        **fit_params : dict
            Further parameters for the `fit` of the estimator, or of a pipeline's last step.

        Returns
        -------
        CalibratedClassifier
            The estimator itself.

        Raises
        ------
        ValueError
            If texts or labels are invalid, or the estimator has other labels than y.
        TypeError
            If the estimator cannot score labels, or its `fit` does not take a parameter.

        Warns
        -----
        RuntimeWarning
            If the held-out texts have too few true or false candidates. Scores stay as they are.
        """
        self._others()
        fitted = fit_and_hold_out(
            self.estimator,
            X,
            y,
            label_names=label_names,
            validation_data=validation_data,
            X_val=X_val,
            y_val=y_val,
            fraction=self.validation_fraction,
            random_state=self.random_state,
            fit_params=fit_params,
        )
        candidates, is_true = self._held_out_candidates(fitted)
        order, ranks = rank_entries(candidates)
        maps = _calibration(candidates.data[order], is_true[order], ranks)
        self._become(
            {
                "estimator_": fitted.estimator,
                "classes_": fitted.classes,
                "n_labels_": len(fitted.classes),
                "calibration_scores_": [scores for scores, _ in maps],
                "calibration_probabilities_": [probabilities for _, probabilities in maps],
            }
        )
        return self

    def _rescore(
        self, texts: list[str], n_candidates: int, k: int, allowed: AllowedLabels | None
    ) -> sp.csr_matrix:
        scores = self._candidates(texts, n_candidates, k, allowed)
        order, ranks = rank_entries(scores)
        maps = zip(self.calibration_scores_, self.calibration_probabilities_, strict=True)
        probabilities = np.empty(scores.nnz)
        for (x, y), is_here in zip(maps, _groups(ranks), strict=True):
            probabilities[is_here] = np.interp(scores.data[order][is_here], x, y)
        rows = row_of_entry(scores)
        scores.data = scores.data.astype(np.float32)
        scores.data[order] = strictly_falling(probabilities, rows)
        return scores


def _groups(ranks: np.ndarray) -> list[np.ndarray]:
    """Return the members of each group of ranks."""
    group = np.searchsorted(FIRST_RANKS, ranks, side="right") - 1
    return [group == number for number in range(len(FIRST_RANKS))]


def _calibration(
    scores: np.ndarray, is_true: np.ndarray, ranks: np.ndarray
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the points of the map from scores to probabilities, for each group of ranks."""
    of_all = _isotonic(scores, is_true)
    if of_all is None:
        n_true = np.count_nonzero(is_true)
        warn_user(
            "Too few held-out texts to calibrate the scores, so they stay as they are. Of their "
            f"proposed labels, {n_true} are true and {len(is_true) - n_true} false. Hold out more "
            f"texts, for {MIN_EXAMPLES} of each.",
            RuntimeWarning,
        )
        of_all = np.array([0.0, 1.0]), np.array([0.0, 1.0])
    return [_isotonic(scores[here], is_true[here]) or of_all for here in _groups(ranks)]


def _isotonic(scores: np.ndarray, is_true: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the points of an isotonic regression, or None if there are too few examples."""
    if min(np.count_nonzero(is_true), np.count_nonzero(~is_true)) < MIN_EXAMPLES:
        return None
    isotonic = IsotonicRegression(y_min=0, y_max=1).fit(scores.astype(np.float64), is_true)
    return isotonic.X_thresholds_, isotonic.y_thresholds_


def strictly_falling(probabilities: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Lower probabilities as little as makes them fall in each row: each below the one before.

    Parameters
    ----------
    probabilities : ndarray of shape (n,)
        Probabilities row by row, each row in the order of its labels.
    rows : ndarray of shape (n,), int64
        Row of each probability, in rising order.

    Returns
    -------
    ndarray of shape (n,), float32
        At least about `MIN_PROBABILITY`.
    """
    # The bits of positive floats sort like the floats. Each is at most that of its neighbor less 1.
    bits = np.maximum(probabilities, MIN_PROBABILITY).astype(np.float32).view(np.int32)
    place = np.arange(len(bits)) - rows * 2**33  # so a row does not limit the next one
    bits = np.minimum.accumulate(bits + place) - place
    return bits.astype(np.int32).view(np.float32)
