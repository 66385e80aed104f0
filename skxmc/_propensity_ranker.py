"""PropensityRanker: moves rare labels up, because annotators miss them most often."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.utils._param_validation import HasMethods, Interval

from skxmc._input.allowed import AllowedLabels
from skxmc._input.texts import check_texts
from skxmc._input.types import LabelsOfTexts, PerLabel, Texts
from skxmc._input.validation import check_labels
from skxmc._input.weights import check_sample_weight
from skxmc._meta.fit_params import check_fit_params, fit_with
from skxmc._meta.rescoring import classes_of
from skxmc._meta.wrapping import WrapperMixin
from skxmc.metrics import label_propensities


class PropensityRanker(WrapperMixin, ClassifierMixin, BaseEstimator):
    """Meta-estimator that ranks by score / propensity ** exponent, to move rare labels up.

    The propensity of a label is the probability that annotators record it when it is true. The
    model of [1]_, which the propensity-scored metrics share, gives rare labels a low propensity.
    If scores are probabilities, exponent 1 gives the best order for PSP@k. Exponent 0, the order
    by score, is the best one for P@k. Small exponents already move many rare labels.

    `predict_topk` and `decision_function` use the divided scores, `predict` and `predict_proba`
    use the scores of the estimator.

    Read more in the user guide: :doc:`/guide/ensembles`.

    Parameters
    ----------
    estimator : estimator
        A classifier or an ensemble of this package, or any that takes texts and has
        ``predict_proba``. A ``FrozenEstimator`` is not fitted again. It must have been fitted to
        the labels of the `y` that `fit` gets.
    exponent : float, default=0.1
        Power of the propensity that divides the score. It has no effect on `fit` and can be set
        afterwards.
    a, b : float, default=0.55 and 1.5
        Parameters of the model of propensities: see `skxmc.metrics.label_propensities`.
    n_candidates : int, default=200
        Number of labels per text to rerank.
    threshold : float, default=0.5
        `predict` returns labels whose score by the estimator is at least this.

    Attributes
    ----------
    classes_ : ndarray of shape (n_labels,)
        Name or number of each label.
    n_labels_ : int
        Number of labels.
    estimator_ : estimator
        Fitted estimator.
    propensities_ : ndarray of shape (n_labels,), float64
        Propensity of each label, in (0, 1].

    See Also
    --------
    skxmc.metrics.psp_at_k : Metric that this order improves.

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
        self,
        X: Texts,
        y: LabelsOfTexts,
        *,
        label_names: PerLabel | None = None,
        X_val: Texts | None = None,
        y_val: LabelsOfTexts = None,
        **fit_params: Any,
    ) -> PropensityRanker:
        """Fit the estimator, and count the texts of each label.

        Texts whose `sample_weight` is 0 do not count.

        Parameters
        ----------
        X : sequence of str
            Raw texts.
        y : sparse matrix, array, frame or sequence of label collections
            Labels of each text, in any form that the estimator takes: see :doc:`/guide/data`.
        label_names : array-like of shape (n_labels,) or callable, default=None
            Names of the columns of a matrix, passed on to the estimator.
        X_val, y_val : texts and labels, default=None
            Held-out texts and their labels, passed on to the estimator. With
            ``transform_input=["X_val"]``, the steps of a pipeline change these texts too.
        **fit_params : dict
            Further parameters for the `fit` of the estimator, or of a pipeline's last step.

        Returns
        -------
        PropensityRanker
            The estimator itself.

        Raises
        ------
        ValueError
            If texts or labels are invalid, or the estimator has other labels than y.
        TypeError
            If the estimator cannot score labels, or its `fit` does not take a parameter.
        """
        texts = check_texts(X)
        labels = check_labels(y, label_names=label_names, n_texts=len(texts), require_positive=True)
        named = {"label_names": label_names, "X_val": X_val, "y_val": y_val}
        fit_params |= {name: value for name, value in named.items() if value is not None}
        check_fit_params(self._others(), fit_params)
        weights = check_sample_weight(fit_params.get("sample_weight"), len(texts))
        counted = labels.matrix if weights is None else labels.matrix[np.flatnonzero(weights)]
        fitted = fit_with(clone(self.estimator), texts, y, fit_params)
        if not np.array_equal(classes_of("estimator", fitted), labels.classes):
            raise ValueError(
                f"{type(fitted).__name__} has other labels than y, or has them in another order. "
                "Fit it to the same labels, with the same names."
            )
        self._become(
            {
                "estimator_": fitted,
                "classes_": labels.classes,
                "n_labels_": len(labels.classes),
                "propensities_": label_propensities(counted, a=self.a, b=self.b),
            }
        )
        return self

    def _ready_to_score(self) -> PropensityRanker:
        ready = self._ready()
        ready.exponent = 0
        return ready

    def _rescore(
        self, texts: list[str], n_candidates: int, k: int, allowed: AllowedLabels | None
    ) -> sp.csr_matrix:
        scores = self._candidates(texts, n_candidates, k, allowed)
        # Times the propensity of the rarest label, so that scores stay at most 1.
        of_labels = self.propensities_[scores.indices]
        weighted = scores.data * (self.propensities_.min() / of_labels) ** self.exponent
        scores.data = np.maximum(weighted, np.finfo(np.float32).tiny).astype(np.float32)
        return scores
