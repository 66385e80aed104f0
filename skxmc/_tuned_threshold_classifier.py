"""TunedThresholdClassifier: chooses on held-out texts which labels `predict` returns."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils import gen_batches
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skxmc._base import from_score_on
from skxmc._input.allowed import AllowedLabels
from skxmc._input.ranking import rank_entries
from skxmc._input.types import LabelsOfTexts, PerLabel, RandomState, Texts, ValidationData
from skxmc._meta.held_out import fit_and_hold_out
from skxmc._meta.rescoring import keep_best
from skxmc._meta.wrapping import WrapperMixin
from skxmc._utils.warnings import warn_user

# Thresholds to compare: quantiles of the scores of true labels.
N_THRESHOLDS = 200
# Labels whose thresholds are chosen at once.
LABEL_BLOCK = 4096


class TunedThresholdClassifier(WrapperMixin, ClassifierMixin, BaseEstimator):
    """Meta-estimator that tunes on held-out texts which labels `predict` returns.

    `predict` then returns the labels from a threshold on, from a threshold per label on, or the
    same number of labels for each text. Scores and ranking are those of the estimator. It does for
    many labels what scikit-learn's ``TunedThresholdClassifierCV`` does for two classes.

    Read more in the user guide: :doc:`/guide/decisions`.

    Parameters
    ----------
    estimator : estimator
        A classifier or an ensemble of this package, or any that takes texts and has
        ``predict_proba``. A ``FrozenEstimator`` is not fitted again, and the texts of `fit` are
        those from which thresholds are learned. The estimator must not have seen them.
    scoring : {"f1_micro", "f1_macro", "precision"}, default="f1_micro"
        Target. "f1_micro" counts all pairs of text and label alike, "f1_macro" all labels alike.
        "precision" is the highest recall with a precision of at least `min_precision`.
    rule : {"threshold", "threshold_per_label", "n_labels"}, default="threshold"
        What is tuned: one threshold, one per label, or the number of labels per text.
    min_precision : float, default=0.9
        Precision that ``scoring="precision"`` asks for.
    shrinkage : float, default=10.0
        Number of mentions by which the threshold of a label is shrunk towards the one of all
        labels. A label with so many mentions on the held-out texts is halfway.
    validation_fraction : float or "auto", default="auto"
        Share of the texts to hold out. The estimator is not fitted to them. "auto" is 0.05, or
        more for small data sets, at most 2,000 texts.
    n_candidates : int, default=100
        Number of labels per text that may be returned.
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
    best_threshold_ : float
        Threshold for all labels. Not with ``rule="n_labels"``.
    thresholds_ : ndarray of shape (n_labels,), float64
        Threshold of each label. Only with ``rule="threshold_per_label"``.
    n_labels_per_text_ : int
        Number of labels per text. Only with ``rule="n_labels"``.
    best_score_ : float
        Target on the held-out texts with one threshold or number: F1, or recall.

    See Also
    --------
    CalibratedClassifier : Makes scores probabilities.

    Notes
    -----
    For a threshold per label, the counts of a label's true and predicted texts at each threshold
    are added to those of all labels, scaled to `shrinkage` mentions. The best threshold by the sum
    is the label's own if it has many mentions, and the common one if it has none. With
    "f1_micro", a label gains 2 TP - F1 (TP + FP), where F1 is that of the common threshold [1]_.
    With "f1_macro", the F1 of a label, times its mentions, is added to the mean F1 of all labels,
    times `shrinkage`.

    References
    ----------
    .. [1] Z. C. Lipton, C. Elkan, B. Naryanaswamy, "Optimal Thresholding of Classifiers to Maximize
       F1 Measure", ECML PKDD 2014.

    Examples
    --------
    >>> from skxmc import OmikujiClassifier, TunedThresholdClassifier
    >>> from skxmc.datasets import make_xmc
    >>> X, y = make_xmc(n_samples=400, n_labels=20, random_state=0)
    >>> clf = TunedThresholdClassifier(OmikujiClassifier(), random_state=0).fit(X, y)
    >>> 0 < clf.best_threshold_ < 1
    True
    >>> clf.predict(X[:3]).shape
    (3, 20)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "estimator": [HasMethods(["fit"])],
        "scoring": [StrOptions({"f1_micro", "f1_macro", "precision"})],
        "rule": [StrOptions({"threshold", "threshold_per_label", "n_labels"})],
        "min_precision": [Interval(Real, 0, 1, closed="right")],
        "shrinkage": [Interval(Real, 0, None, closed="left")],
        "validation_fraction": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="neither")],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "random_state": ["random_state"],
    }

    _prediction_params = ("n_candidates",)

    def __init__(
        self,
        estimator: Any,
        *,
        scoring: str = "f1_micro",
        rule: str = "threshold",
        min_precision: float = 0.9,
        shrinkage: float = 10.0,
        validation_fraction: float | str = "auto",
        n_candidates: int = 100,
        random_state: RandomState = None,
    ) -> None:
        self.estimator = estimator
        self.scoring = scoring
        self.rule = rule
        self.min_precision = min_precision
        self.shrinkage = shrinkage
        self.validation_fraction = validation_fraction
        self.n_candidates = n_candidates
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
    ) -> TunedThresholdClassifier:
        """Fit the estimator, and tune thresholds on the held-out texts.

        Parameters
        ----------
        X : sequence of str
            Raw texts. If the estimator is frozen, texts that it has not seen.
        y : sparse matrix, array, frame or sequence of label collections
            Labels of each text, in any form that the estimator takes: see :doc:`/guide/data`.
        label_names : array-like of shape (n_labels,) or callable, default=None
            Names of the columns of a matrix, passed on to the estimator.
        validation_data : tuple (X, y), default=None
            Texts and labels on which thresholds are tuned, in place of held-out ones.
        X_val, y_val : texts and labels, default=None
            The same in two arguments. With ``transform_input=["X_val"]``, the steps of a
            pipeline change these texts too: see :doc:`/guide/searching`.
        **fit_params : dict
            Further parameters for the `fit` of the estimator, or of a pipeline's last step.

        Returns
        -------
        TunedThresholdClassifier
            The estimator itself.

        Raises
        ------
        ValueError
            If texts or labels are invalid, if the estimator has other labels than y, or if no label
            that it proposes for the held-out texts is true.
        TypeError
            If the estimator cannot score labels, or its `fit` does not take a parameter.

        Warns
        -----
        RuntimeWarning
            If no threshold has the precision `min_precision` on the held-out texts. The one with
            the highest precision is taken.
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
        if not is_true.any():
            raise ValueError(
                "No label that the estimator proposes for the held-out texts is true. Hold out "
                "more texts."
            )
        n_labels = len(fitted.classes)
        if self.rule == "n_labels":
            order, ranks = rank_entries(candidates)
            values = np.empty(candidates.nnz, dtype=np.int64)
            values[order] = -1 - ranks
            levels = np.arange(values.min(), 0)
        else:
            values = candidates.data.astype(np.float64)
            levels = np.unique(np.quantile(values[is_true], np.linspace(0, 1, N_THRESHOLDS)))
        true = fitted.labels.matrix
        n_true = np.bincount(true.indices, minlength=n_labels)
        counter = Counter(levels, candidates.indices, values, is_true, n_true)
        counts = counter.of_all(fitted.labels.n_unknown.sum())
        target = self._mean_f1(counter) if self.scoring == "f1_macro" else self._target(counts)
        best = _last_argmax(target)
        if self.scoring == "precision" and target[best] < 0:
            what = "number of labels" if self.rule == "n_labels" else "threshold"
            warn_user(
                f"No {what} has a precision of {self.min_precision} on the held-out texts. The "
                "one with the highest precision is taken. Lower min_precision, or hold out more.",
                RuntimeWarning,
            )
        result = {
            "estimator_": fitted.estimator,
            "classes_": fitted.classes,
            "n_labels_": n_labels,
            "best_score_": float(max(target[best], 0)),
            "_rule": self.rule,
        }
        if self.rule == "n_labels":
            result["n_labels_per_text_"] = int(-levels[best])
        else:
            result["best_threshold_"] = float(levels[best])
        if self.rule == "threshold_per_label":
            result["thresholds_"] = self._per_label(counter, counts, target)
        self._become(result)
        return self

    def _target(self, counts: Counts) -> np.ndarray:
        """Return the target at each level. Below 0, the precision is too low."""
        n_hits, n_predicted, n_true = counts
        if self.scoring == "precision":
            precision = n_hits / np.maximum(n_predicted, 1e-9)
            recall = n_hits / np.maximum(n_true, 1e-9)
            return np.where(precision >= self.min_precision, recall, precision - 1)
        return _f1(counts)

    def _mean_f1(self, counter: Counter) -> np.ndarray:
        """Return the mean F1 of the labels that are true somewhere."""
        total = sum(_f1(counts).sum(axis=0) for _, counts in counter.by_label())
        return total / np.count_nonzero(counter.n_true)

    def _per_label(self, counter: Counter, of_all: Counts, of_one: np.ndarray) -> np.ndarray:
        """Return the best threshold of each label.

        `of_all` are the counts of all labels, and `of_one` the target of a common threshold.
        """
        best = _last_argmax(of_one)
        thresholds = np.full(len(counter.n_true), counter.levels[best])
        prior = [count * (self.shrinkage / of_all.n_true.item()) for count in of_all]
        f1 = _f1(of_all)[best]
        for labels, counts in counter.by_label():
            smoothed = Counts(*(own + common for own, common in zip(counts, prior, strict=True)))
            if self.scoring == "f1_macro":
                target = counts.n_true * _f1(counts) + self.shrinkage * of_one
            elif self.scoring == "f1_micro":
                target = 2 * smoothed.n_hits - f1 * smoothed.n_predicted
            else:
                target = self._target(smoothed)
            thresholds[labels] = counter.levels[_last_argmax(target)]
        return thresholds

    def _rescore(
        self, texts: list[str], n_candidates: int, k: int, allowed: AllowedLabels | None
    ) -> sp.csr_matrix:
        return self._candidates(texts, n_candidates, k, allowed)

    def _predicted(self, texts: list[str]) -> sp.csr_matrix:
        blocks = [sp.csr_matrix((0, self.n_labels_), dtype=np.float32)]
        for scores in self._blocks(texts, 1):
            if self._rule == "n_labels":
                blocks.append(keep_best(scores, self.n_labels_per_text_))
            elif self._rule == "threshold_per_label":
                scores.data[scores.data < self.thresholds_[scores.indices]] = 0
                blocks.append(from_score_on(scores, 0))
            else:
                blocks.append(from_score_on(scores, self.best_threshold_))
        return sp.vstack(blocks, format="csr")


class Counts(NamedTuple):
    """Numbers of pairs of text and label, at each of the levels."""

    n_hits: np.ndarray  # true and predicted, (..., n_levels)
    n_predicted: np.ndarray  # (..., n_levels)
    n_true: np.ndarray  # (..., 1)


class Counter:
    """Counts of predictions at each level, if labels are predicted from this value on.

    Parameters
    ----------
    levels : ndarray of shape (n_levels,)
        Values in rising order.
    columns, values, is_true : ndarray of shape (n_candidates,)
        Label, value and truth of each candidate.
    n_true : ndarray of shape (n_labels,)
        Number of texts for which each label is true.
    """

    def __init__(
        self,
        levels: np.ndarray,
        columns: np.ndarray,
        values: np.ndarray,
        is_true: np.ndarray,
        n_true: np.ndarray,
    ) -> None:
        self.levels = levels
        self.n_true = n_true
        n_reached = np.searchsorted(levels, values, side="right")  # levels from the lowest on
        kept = n_reached > 0
        order = np.argsort(columns[kept], kind="stable")
        self.columns, self.is_true = columns[kept][order], is_true[kept][order]
        self.level_of = n_reached[kept][order] - 1

    def of_all(self, n_unknown: int) -> Counts:
        """Count all labels together, and true labels that the model does not know."""
        hits, predicted = (
            np.bincount(self.level_of, weights, len(self.levels))[::-1].cumsum()[::-1]
            for weights in (self.is_true, None)
        )
        return Counts(hits, predicted, np.array([self.n_true.sum() + n_unknown]))

    def by_label(self) -> Iterator[tuple[np.ndarray, Counts]]:
        """Yield labels that are candidates, and their counts, in blocks of labels."""
        labels, starts = np.unique(self.columns, return_index=True)
        ends = np.append(starts, len(self.columns))
        for block in gen_batches(len(labels), LABEL_BLOCK):
            found = slice(ends[block.start], ends[block.stop])
            shape = (block.stop - block.start, len(self.levels))
            place = np.searchsorted(labels[block], self.columns[found])
            places = place * shape[1] + self.level_of[found]
            hits, predicted = (
                np.bincount(places, weights, shape[0] * shape[1])
                .reshape(shape)[:, ::-1]
                .cumsum(axis=1)[:, ::-1]
                for weights in (self.is_true[found], None)
            )
            yield labels[block], Counts(hits, predicted, self.n_true[labels[block], np.newaxis])


def _f1(counts: Counts) -> np.ndarray:
    return 2 * counts.n_hits / np.maximum(counts.n_predicted + counts.n_true, 1e-9)


def _last_argmax(values: np.ndarray) -> Any:
    """Return the place of the maximum along the last axis. Of equal ones, the last."""
    return values.shape[-1] - 1 - np.argmax(values[..., ::-1], axis=-1)
