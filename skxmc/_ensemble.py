"""LightXMLEnsemble: several classifiers of texts, whose scores become one."""

from __future__ import annotations

from contextlib import suppress
from itertools import compress
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import ClassifierMixin, _fit_context, clone
from sklearn.ensemble import VotingClassifier
from sklearn.utils import Bunch, check_random_state, get_tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from skxmc._input.sparse import as_array
from skxmc._input.split import hold_out
from skxmc._input.validation import check_labels, check_texts, names_labels
from skxmc._meta.fit_params import check_fit_params
from skxmc._meta.fusion import LearnedFusion
from skxmc._meta.members import (
    check_members,
    common_classes,
    fit_member,
    is_dropped,
    is_frozen,
    labels_of_members,
    scores_of_members,
)
from skxmc._meta.rescoring import RescorerMixin
from skxmc._utils.parallel import clip_jobs

# validation_fraction="auto" is the share AUTO_HELD_OUT of the texts; at most MOST_HELD_OUT of them,
# as more teach the fusion nothing; and at least LEAST_HELD_OUT, as fewer are worth less than the
# mean, but no more than the share MOST_AUTO_HELD_OUT.
AUTO_HELD_OUT, MOST_AUTO_HELD_OUT = 0.05, 0.2
LEAST_HELD_OUT, MOST_HELD_OUT = 200, 2000


def auto_validation_fraction(n_texts: int) -> float:
    """Share of the texts of validation_fraction="auto"."""
    least = min(LEAST_HELD_OUT / n_texts, MOST_AUTO_HELD_OUT)
    return min(max(AUTO_HELD_OUT, least), MOST_HELD_OUT / n_texts)


class LightXMLEnsemble(RescorerMixin, ClassifierMixin, _BaseComposition):
    """Ensemble of classifiers of texts: the mean of their scores, or what is learnt from them.

    The paper has two of them (table 4 of [1]_): on small label sets, three encoders, such as BERT,
    RoBERTa and XLNet; on large ones, one encoder with three clusterings, that is three
    ``random_state`` of the clusterer (in the direct mode, which has no clusters to differ, members
    would be the same: let their own ``random_state`` differ). Language and words together, a
    `LightXMLClassifier` and an `OmikujiClassifier`, cost little more than language alone.

    Parameters
    ----------
    estimators : list of (str, estimator)
        The members and their names. ``"drop"`` instead of a member leaves it out, as with
        ``set_params(words="drop")``. Members are classifiers of this package, or any with
        ``predict_proba`` that take texts, such as a ``Pipeline`` that starts with a vectorizer.
        A ``FrozenEstimator`` is taken as it is.
    weights : array-like of shape (n_estimators,), default=None
        One for each member, dropped ones included; None is the same for all. They can be set
        after `fit`. No effect with ``fusion="learned"``.
    fusion : {"mean", "learned"}, default="mean"
        "mean" is the weighted mean of the members' scores, an absent one counting 0. "learned" is
        the probability that a label is true, given all scores and the label's number of texts, by
        gradient-boosted trees that are fitted to the members' scores of held-out texts. It gains
        the most where members differ in kind, as language and words do, and on rare labels. Of one
        member that is left, the others dropped, both are the member's own scores.
    validation_fraction : float or "auto", default="auto"
        Share of the texts that members are not trained on, for ``fusion="learned"``. "auto" is
        0.05, but at least 200 texts (a fifth of them where that is less) and at most 2,000.
    n_candidates : int, default=100
        Labels that each member proposes for a text; k, where more are asked for, which changes the
        scores a little.
    threshold : float, default=0.5
        Score from which `predict` takes a label.
    random_state : int, RandomState instance or None, default=None
        Draws the held-out texts of ``fusion="learned"``. The members have their own.
    n_jobs : int or None, default=None
        Members that are fitted at a time. Leave it for members on a GPU.
    verbose : bool, default=False
        Whether to print the time that each member takes to be fitted.

    Attributes
    ----------
    classes_ : ndarray of shape (n_labels,)
        Name or number of each label.
    n_labels_ : int
        Number of labels.
    estimators_ : list of estimator
        The fitted members, without dropped ones.
    named_estimators_ : Bunch
        The same by name; "drop" for dropped ones.

    See Also
    --------
    LightXMLClassifier : Reads language.
    OmikujiClassifier : Reads words.
    skxmc.predict_topk : Predicts through pipelines and searches.

    References
    ----------
    .. [1] T. Jiang, D. Wang, L. Sun, H. Yang, Z. Zhao, F. Zhuang, "LightXML: Transformer with
       Dynamic Negative Sampling for High-Performance Extreme Multi-label Text Classification",
       AAAI 2021.

    Examples
    --------
    >>> from skxmc import LightXMLClassifier, LightXMLEnsemble, OmikujiClassifier
    >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
    >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
    >>> language = LightXMLClassifier(
    ...     "sentence-transformers/all-MiniLM-L6-v2", max_epochs=1, random_state=0
    ... )
    >>> ensemble = LightXMLEnsemble([("language", language), ("words", OmikujiClassifier())])
    >>> top = ensemble.fit(texts, tags).predict_topk(["stocks and bonds"], k=2)
    >>> top.labels.shape, top.scores.shape
    ((1, 2), (1, 2))
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "estimators": [list],
        "weights": ["array-like", None],
        "fusion": [StrOptions({"mean", "learned"})],
        "validation_fraction": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="neither")],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
        "n_jobs": [
            Interval(Integral, None, -1, closed="right"),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "verbose": ["boolean"],
    }

    _prediction_params = ("n_candidates", "threshold")

    def __init__(
        self,
        estimators: list[tuple[str, Any]],
        *,
        weights: Any = None,
        fusion: str = "mean",
        validation_fraction: float | str = "auto",
        n_candidates: int = 100,
        threshold: float = 0.5,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.estimators = estimators
        self.weights = weights
        self.fusion = fusion
        self.validation_fraction = validation_fraction
        self.n_candidates = n_candidates
        self.threshold = threshold
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    # ------------------------------------------------------------------ fit

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        validation_data: tuple[Any, Any] | None = None,
        **fit_params: Any,
    ) -> LightXMLEnsemble:
        """Fit a clone of each member.

        Parameters
        ----------
        X : list, tuple, ndarray, or column of pandas, polars or PyArrow, of str, of length n_texts
            Raw texts.
        y : sparse matrix, array, frame, or sequence of label collections
            The labels of each text, in any form that all members take.
        validation_data : tuple (X, y), default=None
            What ``fusion="learned"`` learns from, instead of held-out texts. No effect otherwise.
        **fit_params : dict
            ``label_names``, ``label_texts`` and so on: each is handed on to the members whose `fit`
            has a parameter of this name, such as ``label_features`` to language alone, or takes
            any; in a pipeline to its last step.

        Returns
        -------
        LightXMLEnsemble
            The estimator itself.

        Raises
        ------
        ValueError
            If members, their names or weights are not what they must be, or if members have come
            to know other labels, or the same in another order.
        TypeError
            If a member cannot score labels, or if no member takes a parameter of `fit`.
        """
        members = self._check_members()
        check_fit_params(members.values(), fit_params)
        texts = check_texts(X)
        if self.fusion == "mean" or len(members) == 1:
            fitted = self._fitted_by(self._fit_members(members, texts, y, fit_params))
            self._become({**fitted, "_fusion": None})
            return self
        label_names = fit_params.get("label_names")
        labels = check_labels(y, label_names=label_names, n_texts=len(texts), require_positive=True)
        if all(is_frozen(member) for member in members.values()):
            for member in members.values():
                check_is_fitted(member)
            by_name = label_names is not None or names_labels(y)
            labels = labels_of_members(labels, common_classes(members), by_name=by_name)
        seed = int(check_random_state(self.random_state).randint(np.iinfo(np.int32).max))
        fraction = self.validation_fraction
        fraction = auto_validation_fraction(len(texts)) if fraction == "auto" else float(fraction)
        train, held_out = hold_out(texts, labels, validation_data, fraction, seed)
        assert held_out is not None
        # A label may be on held-out texts alone: members are told all there are.
        if not np.array_equal(labels.classes, np.arange(len(labels.classes))):
            fit_params["label_names"] = labels.classes
        members = self._fit_members(members, *train, fit_params)
        fitted = self._fitted_by(members)
        labels_of_members(labels, fitted["classes_"], by_name=False)  # to say if they are others
        n_labels = fitted["n_labels_"]
        counts = np.bincount(train[1].indices, minlength=n_labels)
        scores = scores_of_members(members, held_out[0], min(self.n_candidates, n_labels))
        fusion = LearnedFusion(counts, seed).fit(scores, held_out[1].matrix)
        self._become({**fitted, "_fusion": fusion})
        return self

    def _fit_members(
        self, members: dict[str, Any], texts: list[str], y: Any, fit_params: dict[str, Any]
    ) -> dict[str, Any]:
        fitted = Parallel(n_jobs=clip_jobs(self.n_jobs))(
            delayed(fit_member)(
                clone(member),
                texts,
                y,
                fit_params,
                f"({number} of {len(members)}) Fitting {name}" if self.verbose else None,
            )
            for number, (name, member) in enumerate(members.items(), start=1)
        )
        return dict(zip(members, fitted, strict=True))

    @classmethod
    def from_fitted(
        cls,
        estimators: list[tuple[str, Any]],
        *,
        weights: Any = None,
        n_candidates: int = 100,
        threshold: float = 0.5,
    ) -> LightXMLEnsemble:
        """Make the mean of members that were fitted earlier; it needs no `fit`.

        For ``fusion="learned"``, which needs labelled texts, wrap the members in
        ``FrozenEstimator`` and call `fit` with the texts they were trained on, and with
        `validation_data` that they were not trained on.

        Parameters
        ----------
        estimators : list of (str, estimator)
            The members, fitted to the same labels, and their names. They are not cloned.
        weights : array-like of shape (n_estimators,), default=None
            One for each member; None is the same for all.
        n_candidates : int, default=100
            Labels that each member proposes for a text.
        threshold : float, default=0.5
            Score from which `predict` takes a label.

        Returns
        -------
        LightXMLEnsemble
            Ready to predict.

        Raises
        ------
        NotFittedError
            If a member is not fitted.
        ValueError
            As in `fit`.
        TypeError
            As in `fit`.
        """
        ensemble = cls(estimators, weights=weights, n_candidates=n_candidates, threshold=threshold)
        ensemble._validate_params()
        members = ensemble._check_members()
        for member in members.values():
            check_is_fitted(member)
        ensemble._become({**ensemble._fitted_by(members), "_fusion": None})
        return ensemble

    def _check_members(self) -> dict[str, Any]:
        """Check estimators and weights, and return the members that are not dropped, by name."""
        members = check_members(self.estimators)
        self._validate_names([name for name, _ in self.estimators])
        self._kept_weights([name in members for name, _ in self.estimators])
        return members

    def _others(self) -> list[Any]:
        return list(self._check_members().values())

    def _kept_weights(self, kept: list[bool]) -> list[float]:
        """Weights of the members that are kept, of all; they sum to 1."""
        weights = np.ones(len(kept)) if self.weights is None else self.weights
        weights = as_array(weights, "weights")
        if weights.dtype.kind not in "buif":
            raise TypeError(f"weights is {self.weights!r}; weights must be numbers, from 0.")
        weights = weights.astype(np.float64)
        if weights.shape != (len(kept),):
            raise ValueError(
                f"weights is of shape {weights.shape}, but there are {len(kept)} "
                "estimators. Pass one weight for each, also for those that are dropped."
            )
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError(f"weights is {self.weights}; weights must be finite, from 0.")
        weights = weights[kept]
        if not weights.any():
            raise ValueError(
                f"weights is {self.weights}, 0 for all members that are not dropped; at least one "
                "must be above 0."
            )
        weights = weights / weights.max()
        return (weights / weights.sum()).tolist()

    def _fitted_by(self, members: dict[str, Any]) -> dict[str, Any]:
        """What fitted members make of the ensemble, if they know the same labels in one order."""
        classes = common_classes(members)
        names = [name for name, _ in self.estimators]
        return {
            "classes_": classes,
            "n_labels_": len(classes),
            "estimators_": list(members.values()),
            "named_estimators_": Bunch(**{name: members.get(name, "drop") for name in names}),
            "_kept": [name in members for name in names],
        }

    # ------------------------------------------------------------------ predict

    def _rescore(self, texts: list[str], n_candidates: int, k: int) -> sp.csr_matrix:
        kept = compress(self.named_estimators_, self._kept)
        members = dict(zip(kept, self.estimators_, strict=True))
        if self._fusion is not None:
            return self._fusion(scores_of_members(members, texts, n_candidates))
        weights = dict(zip(members, self._kept_weights(self._kept), strict=True))
        used = {name: member for name, member in members.items() if weights[name] > 0}
        total = sp.csr_matrix((len(texts), self.n_labels_), dtype=np.float64)
        matrices = scores_of_members(used, texts, n_candidates)
        for name, matrix in zip(used, matrices, strict=True):
            total = total + matrix.astype(np.float64) * weights[name]
        return total.astype(np.float32)

    # ------------------------------------------------------------------ sklearn

    @property
    def named_estimators(self) -> Bunch:
        """The members, not fitted, by name.

        Returns
        -------
        Bunch
            Members by name, as attributes and as keys.
        """
        return Bunch(**dict(self.estimators))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters of the ensemble, its members by name, and their parameters.

        Parameters
        ----------
        deep : bool, default=True
            Whether to give the members and their parameters too.

        Returns
        -------
        dict
            Values by name, such as ``words`` and ``words__C``.
        """
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params: Any) -> LightXMLEnsemble:
        """Set parameters of the ensemble or of its members, or replace members.

        Parameters
        ----------
        **params : dict
            Such as ``n_candidates=100``, ``words__C=2``, ``words=OmikujiClassifier()`` or
            ``words="drop"``.

        Returns
        -------
        LightXMLEnsemble
            The estimator itself.
        """
        self._set_params("estimators", **params)
        return self

    def _sk_visual_block_(self) -> Any:  # the members, beside each other, in a notebook
        return VotingClassifier(self.estimators)._sk_visual_block_()

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        with suppress(TypeError, ValueError, AttributeError):  # of estimators that fit refuses
            tags.non_deterministic = any(
                get_tags(member).non_deterministic
                for _, member in self.estimators
                if not is_dropped(member)
            )
        return tags
