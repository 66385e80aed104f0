"""PropensityRanker: rare labels move up, by how likely a true label is to be recorded."""

from __future__ import annotations

from contextlib import suppress
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin, MetaEstimatorMixin, _fit_context, clone
from sklearn.utils import get_tags
from sklearn.utils._param_validation import HasMethods, Interval

from skxmc._input.validation import check_labels, check_texts
from skxmc._meta.fit_params import check_fit_params, fit_with
from skxmc._meta.rescoring import RescorerMixin, candidate_scores, check_scores_labels, classes_of
from skxmc.metrics import label_propensities


class PropensityRanker(RescorerMixin, MetaEstimatorMixin, ClassifierMixin, BaseEstimator):
    """Rank by score / propensity ** exponent, which brings rare labels up.

    The propensity of a label is the probability that it is recorded where it is true, by the model
    of [1]_, which the propensity-scored metrics share: low for rare labels. Where scores are
    probabilities, exponent 1 is the best order for PSP@k and 0, the scores themselves, that for
    P@k; a little goes a long way. It changes only what is predicted, not what is learnt, and can be
    set after `fit`. `predict` and `predict_proba` use the scores of the estimator, not divided.

    Parameters
    ----------
    estimator : estimator
        What scores labels: a classifier or an ensemble of this package, or any with
        ``predict_proba`` that takes texts. A ``FrozenEstimator`` is taken as it is; it was fitted
        to the labels of the `y` that `fit` is given.
    exponent : float, default=0.1
        0 leaves the order by score, 1 divides by the propensity.
    a, b : float, default=0.55 and 1.5
        Of the model of propensities, see `skxmc.metrics.label_propensities`.
    n_candidates : int, default=200
        Labels of each text that are ranked anew.
    threshold : float, default=0.5
        Score by the estimator, not divided, from which `predict` takes a label.

    Attributes
    ----------
    classes_ : ndarray of shape (n_labels,)
        Name or number of each label.
    n_labels_ : int
        Number of labels.
    estimator_ : estimator
        The fitted one.
    propensities_ : ndarray of shape (n_labels,), float64
        In (0, 1].

    See Also
    --------
    skxmc.metrics.psp_at_k : The metric that this order is for.

    References
    ----------
    .. [1] H. Jain, Y. Prabhu, M. Varma, "Extreme Multi-label Loss Functions for Recommendation,
       Tagging, Ranking & Other Missing Label Applications", KDD 2016.

    Examples
    --------
    >>> from skxmc import OmikujiClassifier, PropensityRanker
    >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
    >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
    >>> ranker = PropensityRanker(OmikujiClassifier(), exponent=1).fit(texts, tags)
    >>> ranker.predict_topk(["stocks and bonds"], k=2).labels.shape
    (1, 2)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "estimator": [HasMethods(["fit"])],
        "exponent": [Interval(Real, 0, None, closed="left")],
        "a": [Interval(Real, 0, None, closed="neither")],
        "b": [Interval(Real, 0, None, closed="neither")],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "threshold": [Interval(Real, 0, 1, closed="both")],
    }

    _prediction_params = ("exponent", "n_candidates", "threshold")

    def __init__(
        self,
        estimator: Any,
        *,
        exponent: float = 0.1,
        a: float = 0.55,
        b: float = 1.5,
        n_candidates: int = 200,
        threshold: float = 0.5,
    ) -> None:
        self.estimator = estimator
        self.exponent = exponent
        self.a = a
        self.b = b
        self.n_candidates = n_candidates
        self.threshold = threshold

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self, X: Any, y: Any, *, label_names: Any = None, **fit_params: Any
    ) -> PropensityRanker:
        """Fit the estimator, and count the texts of each label.

        Parameters
        ----------
        X : list, tuple, ndarray, or column of pandas, polars or PyArrow, of str, of length n_texts
            Raw texts.
        y : sparse matrix, array, frame, or sequence of label collections
            The labels of each text, in any form that the estimator takes.
        label_names : array-like of shape (n_labels,), default=None
            Names of the columns of a matrix, handed on to the estimator.
        **fit_params : dict
            Handed on to the `fit` of the estimator; in a pipeline to its last step.

        Returns
        -------
        PropensityRanker
            The estimator itself.

        Raises
        ------
        ValueError
            If texts or labels are not what they must be, or the estimator has other labels.
        TypeError
            If the estimator cannot score labels, or does not take a parameter of `fit`.
        """
        texts = check_texts(X)
        labels = check_labels(y, label_names=label_names, n_texts=len(texts), require_positive=True)
        if label_names is not None:
            fit_params["label_names"] = label_names
        check_fit_params(self._others(), fit_params)
        fitted = fit_with(clone(self.estimator), texts, y, fit_params)
        if not np.array_equal(classes_of("estimator", fitted), labels.classes):
            raise ValueError(
                f"{type(fitted).__name__} has other labels than y, or in another order. Fit it to "
                "the same labels, by the same names."
            )
        self._become(
            {
                "estimator_": fitted,
                "classes_": labels.classes,
                "n_labels_": len(labels.classes),
                "propensities_": label_propensities(labels.matrix, a=self.a, b=self.b),
            }
        )
        return self

    def _others(self) -> list[Any]:
        check_scores_labels("estimator", self.estimator)
        return [self.estimator]

    def _ready_to_score(self) -> Any:
        ready = self._ready()
        ready.exponent = 0
        return ready

    def _rescore(self, texts: list[str], n_candidates: int, k: int) -> sp.csr_matrix:
        what = f"estimator, {type(self.estimator_).__name__},"
        scores = candidate_scores(what, self.estimator_, texts, n_candidates, k=k)
        # By the rarest label, so that scores stay at most 1.
        of_labels = self.propensities_[scores.indices]
        weighted = scores.data * (self.propensities_.min() / of_labels) ** self.exponent
        scores.data = np.maximum(weighted, np.finfo(np.float32).tiny).astype(np.float32)
        return scores

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        with suppress(TypeError, AttributeError):  # of an estimator that fit refuses
            tags.non_deterministic = get_tags(self.estimator).non_deterministic
        return tags
