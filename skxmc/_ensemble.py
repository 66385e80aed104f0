"""LightXMLEnsemble: combines the scores of several text classifiers."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from itertools import compress
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin, _fit_context
from sklearn.ensemble import VotingClassifier
from sklearn.utils import Bunch, Tags, get_tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import _BaseComposition
from sklearn.utils.validation import check_is_fitted

from skxmc._inference.explanation import NearestTexts
from skxmc._input.allowed import AllowedLabels
from skxmc._input.sparse import as_array
from skxmc._input.split import check_held_out, hold_out
from skxmc._input.texts import check_texts
from skxmc._input.types import LabelsOfTexts, RandomState, Texts, ValidationData
from skxmc._input.validation import check_labels, names_labels
from skxmc._input.weights import check_sample_weight
from skxmc._meta.fit_params import check_fit_params
from skxmc._meta.fusion import LearnedFusion
from skxmc._meta.held_out import draw_seed, name_labels, resolve_fraction
from skxmc._meta.members import (
    check_members,
    common_classes,
    fit_members,
    is_dropped,
    is_frozen,
    labels_of_members,
    scores_of_members,
)
from skxmc._meta.rescoring import RescorerMixin, nearest_texts_of, same_labels
from skxmc._utils.parallel import clip_jobs
from skxmc._utils.quoting import MAX_ERROR, quoted, shortened
from skxmc._utils.warnings import warn_user

# fusion="auto" learns the fusion from so many texts on.
MIN_LEARNED = 1000


class LightXMLEnsemble(RescorerMixin, ClassifierMixin, _BaseComposition):
    """Ensemble of text classifiers, by the mean of their scores or by a learned fusion.

    A `LightXMLClassifier` and an `OmikujiClassifier` together cost little more than the first
    alone. The paper has two kinds of ensembles (table 4 of [1]_). For small label sets, it combines
    three encoders. For large ones, it combines three clusterings with one encoder: the members
    differ in the ``random_state`` of the clusterer. In the direct mode, which has no clusters,
    members must differ in their own ``random_state``.

    Read more in the user guide: :doc:`/guide/ensembles`.

    Parameters
    ----------
    estimators : list of (str, estimator)
        Names and members. Members are classifiers of this package, or any that take texts and have
        ``predict_proba``, such as a ``Pipeline`` that starts with a vectorizer. ``"drop"`` in place
        of a member leaves it out. A ``FrozenEstimator`` is not fitted again. The encoder of a
        `NeighborsClassifier` may be the name of another member, which then reads each text once.
    weights : array-like of shape (n_estimators,), default=None
        One weight per member, also for dropped ones. None gives all the same weight. Weights can
        be set after `fit` and have no effect on a learned fusion.
    fusion : {"mean", "learned", "auto"}, default="mean"
        "mean" is the weighted mean of the members' scores, in which an absent score counts as 0.
        "learned" averages the plain mean with the probability that a label is true, given all
        scores and the label's number of texts. Gradient-boosted trees learn it from the members'
        scores of held-out texts. It helps most on rare labels, and if members differ in kind.
        "auto" is "learned" from 1,000 texts on, and with held-out texts that are passed to `fit`.
        If only one member is not dropped, all return its own scores.
    validation_fraction : float or "auto", default="auto"
        Share of texts that ``fusion="learned"`` holds out from the members' training. "auto" is
        0.05, with at least 200 texts but no more than a fifth of all, and at most 2,000.
    n_candidates : int, default=100
        Number of labels per text that each member proposes. If `predict_topk` needs more, members
        propose more, which changes the scores slightly.
    threshold : float, default=0.25
        `predict` returns labels whose score is at least this.
    random_state : int, RandomState instance or None, default=None
        Seed for the choice of held-out texts and for the trees of ``fusion="learned"``. Members
        have their own seeds.
    n_jobs : int or None, default=None
        Number of members to fit in parallel. Keep None for members on a GPU.
    verbose : bool, default=False
        Whether to print how long the fit of each member takes.

    Attributes
    ----------
    classes_ : ndarray of shape (n_labels,)
        Name or number of each label.
    n_labels_ : int
        Number of labels.
    estimators_ : list of estimator
        Fitted members, without dropped ones.
    named_estimators_ : Bunch
        Fitted members by name, with "drop" for dropped ones.

    See Also
    --------
    LightXMLClassifier : Classifier that reads texts with a transformer.
    OmikujiClassifier : Linear classifier that reads single words.
    skxmc.predict_topk : Prediction through pipelines and searches.

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
        "fusion": [StrOptions({"mean", "learned", "auto"})],
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
        weights: ArrayLike | None = None,
        fusion: str = "mean",
        validation_fraction: float | str = "auto",
        n_candidates: int = 100,
        threshold: float = 0.25,
        random_state: RandomState = None,
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
        X: Texts,
        y: LabelsOfTexts,
        *,
        validation_data: ValidationData | None = None,
        X_val: Texts | None = None,
        y_val: LabelsOfTexts = None,
        **fit_params: Any,
    ) -> LightXMLEnsemble:
        """Fit a clone of each member.

        Parameters
        ----------
        X : sequence of str
            Raw texts.
        y : sparse matrix, array, frame or sequence of label collections
            Labels of each text, in any form that all members take: see :doc:`/guide/data`.
        validation_data : tuple (X, y), default=None
            Texts and labels from which ``fusion="learned"`` learns, in place of held-out texts.
        X_val, y_val : texts and labels, default=None
            The same in two arguments. With ``transform_input=["X_val"]``, the steps of a
            pipeline change these texts too: see :doc:`/guide/searching`.
        **fit_params : dict
            Further parameters, such as ``label_names`` or ``label_texts``. A member gets those that
            its `fit` takes, and a pipeline passes them to its last step. All members must take
            ``sample_weight``.

        Returns
        -------
        LightXMLEnsemble
            The estimator itself.

        Raises
        ------
        ValueError
            If members, their names or weights are invalid, or if members have different labels,
            or the same in different orders.
        TypeError
            If a member cannot score labels, if no member takes a parameter, or if a member does not
            take `sample_weight`.

        Warns
        -----
        UserWarning
            If held-out texts are given, but ``fusion="mean"``.
        RuntimeWarning
            If the held-out texts are too few to learn the fusion.
        """
        members = self._check_members()
        check_fit_params(members.values(), fit_params)
        texts = check_texts(X)
        has_held_out = validation_data is not None or X_val is not None or y_val is not None
        learns = has_held_out or len(texts) >= MIN_LEARNED
        if self.fusion != "auto":
            learns = self.fusion == "learned"
        if has_held_out and self.fusion == "mean":
            warn_user(
                "Held-out texts have no effect, because fusion='mean' learns nothing from them. "
                "Set fusion='learned', or leave out validation_data, X_val and y_val."
            )
        fit_on = partial(fit_members, n_jobs=clip_jobs(self.n_jobs), verbose=self.verbose)
        if not learns or len(members) == 1:
            fitted = self._fitted_by(fit_on(members, texts, y, fit_params))
            self._become({**fitted, "_fusion": None})
            return self
        label_names = fit_params.get("label_names")
        labels = check_labels(y, label_names=label_names, n_texts=len(texts), require_positive=True)
        if all(is_frozen(member) for member in members.values()):
            for member in members.values():
                check_is_fitted(member)
            by_name = label_names is not None or names_labels(y)
            labels = labels_of_members(labels, common_classes(members), by_name=by_name)
        seed = draw_seed(self.random_state)
        fraction = resolve_fraction(self.validation_fraction, len(texts))
        given = check_held_out(validation_data, X_val, y_val, labels.classes)
        weights = check_sample_weight(fit_params.get("sample_weight"), len(texts))
        train, weights, held_out = hold_out(texts, labels, given, fraction, seed, weights)
        assert held_out is not None
        if weights is not None:
            fit_params["sample_weight"] = weights
        name_labels(fit_params, labels.classes)
        members = fit_on(members, *train, fit_params)
        fitted = self._fitted_by(members)
        labels_of_members(labels, fitted["classes_"], by_name=False)  # raises if they differ
        n_labels = fitted["n_labels_"]
        scores = scores_of_members(members, held_out[0], min(self.n_candidates, n_labels))
        fusion = LearnedFusion(train[1], seed).fit(scores, held_out[1].matrix)
        self._become({**fitted, "_fusion": fusion})
        return self

    @classmethod
    def from_fitted(
        cls,
        estimators: list[tuple[str, Any]],
        *,
        weights: ArrayLike | None = None,
        n_candidates: int = 100,
        threshold: float = 0.25,
    ) -> LightXMLEnsemble:
        """Make an ensemble of fitted members with ``fusion="mean"``, which needs no `fit`.

        ``fusion="learned"`` needs labeled texts. Wrap the members in ``FrozenEstimator``. Then call
        `fit` with their training texts and with `validation_data` that they have not seen.

        Parameters
        ----------
        estimators : list of (str, estimator)
            Names and members, which were fitted to the same labels. They are not cloned.
        weights : array-like of shape (n_estimators,), default=None
            One weight per member. None gives all the same weight.
        n_candidates : int, default=100
            Number of labels per text that each member proposes.
        threshold : float, default=0.25
            `predict` returns labels whose score is at least this.

        Returns
        -------
        LightXMLEnsemble
            The fitted ensemble.

        Raises
        ------
        NotFittedError
            If a member is not fitted.
        ValueError, TypeError
            For the same reasons as in `fit`.
        """
        ensemble = cls(estimators, weights=weights, n_candidates=n_candidates, threshold=threshold)
        ensemble._validate_params()
        members = ensemble._check_members()
        for member in members.values():
            check_is_fitted(member)
        ensemble._become({**ensemble._fitted_by(members), "_fusion": None})
        return ensemble

    def _check_members(self) -> dict[str, Any]:
        """Check estimators and weights, and return members by name, without dropped ones."""
        members = check_members(self.estimators)
        try:
            self._validate_names([name for name, _ in self.estimators])
        except ValueError as error:
            raise ValueError(shortened(str(error), MAX_ERROR)) from None
        self._kept_weights([name in members for name, _ in self.estimators])
        return members

    def _others(self) -> list[Any]:
        return list(self._check_members().values())

    def _kept_weights(self, kept: list[bool]) -> list[float]:
        """Return the weights of those members that `kept` marks, scaled to a sum of 1."""
        weights = np.ones(len(kept)) if self.weights is None else self.weights
        weights = as_array(weights, "weights")
        if weights.dtype.kind not in "buif":
            raise TypeError(
                f"weights is {quoted(self.weights)}, which does not hold numbers. Pass numbers "
                "from 0 on."
            )
        weights = weights.astype(np.float64)
        if weights.shape != (len(kept),):
            raise ValueError(
                f"weights is of shape {weights.shape}, but there are {len(kept)} estimators. Pass "
                "one weight per estimator, also for dropped ones."
            )
        if not np.isfinite(weights).all() or (weights < 0).any():
            raise ValueError(
                f"weights is {quoted(self.weights)}, but weights must not be negative, infinite or "
                "NaN. Pass finite numbers from 0 on."
            )
        weights = weights[kept]
        if not weights.any():
            raise ValueError(
                f"weights is {quoted(self.weights)}, which is 0 for all members that are not "
                "dropped. Set at least one of these weights above 0."
            )
        weights = weights / weights.max()
        return (weights / weights.sum()).tolist()

    def _fitted_by(self, members: dict[str, Any]) -> dict[str, Any]:
        """Check that fitted members have the same labels, and return the fitted attributes."""
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

    def _rescore(
        self, texts: list[str], n_candidates: int, k: int, allowed: AllowedLabels | None
    ) -> sp.csr_matrix:
        return self._fused(self._member_scores(texts, n_candidates, allowed))

    def _member_scores(
        self, texts: list[str], n_candidates: int, allowed: AllowedLabels | None = None
    ) -> dict[str, sp.csr_matrix]:
        """Score the labels with each member that counts: matrices of shape (n_texts, n_labels)."""
        kept = compress(self.named_estimators_, self._kept)
        members = dict(zip(kept, self.estimators_, strict=True))
        for name, member in members.items():
            if not same_labels(member.classes_, self.classes_):
                raise ValueError(
                    f"The member {quoted(name)} has other labels now than the ensemble. Give all "
                    "members the same labels, and combine them by LightXMLEnsemble.from_fitted."
                )
        if self._fusion is None:
            weights = self._kept_weights(self._kept)
            members = dict(compress(members.items(), weights))
        scores = scores_of_members(members, texts, n_candidates, allowed)
        return dict(zip(members, scores, strict=True))

    def _fused(self, scores: dict[str, sp.csr_matrix]) -> sp.csr_matrix:
        """Combine the results of `_member_scores`."""
        matrices = list(scores.values())
        if self._fusion is not None:
            return self._fusion(matrices)
        total = sp.csr_matrix(matrices[0].shape, dtype=np.float64)
        weights = filter(None, self._kept_weights(self._kept))
        for weight, matrix in zip(weights, matrices, strict=True):
            total = total + matrix.astype(np.float64) * weight
        return total.astype(np.float32)

    def _scores_by_member(
        self, texts: list[str], k: int
    ) -> tuple[sp.csr_matrix, dict[str, sp.csr_matrix]]:
        scores = self._member_scores(texts, min(max(self.n_candidates, k), self.n_labels_))
        return self._fused(scores), scores

    def _nearest_texts(self, text: str, n: int) -> NearestTexts | None:
        return nearest_texts_of(self.estimators_, text, n)

    # ------------------------------------------------------------------ sklearn

    @property
    def named_estimators(self) -> Bunch:
        """Unfitted members by name.

        Returns
        -------
        Bunch
            Members, as attributes and as keys.
        """
        return Bunch(**dict(self.estimators))

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters of the ensemble, its members by name, and their parameters.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the members and their parameters.

        Returns
        -------
        dict
            Values by name, such as ``words`` and ``words__C``.
        """
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params: Any) -> LightXMLEnsemble:
        """Set parameters of the ensemble or its members, or replace members.

        Parameters
        ----------
        **params : dict
            Values by name, such as ``n_candidates=100``, ``words__C=2``,
            ``words=OmikujiClassifier()`` or ``words="drop"``.

        Returns
        -------
        LightXMLEnsemble
            The estimator itself.
        """
        self._set_params("estimators", **params)
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if "named_estimators_" in state:  # plain values, which skops trusts
            state["named_estimators_"] = dict(state["named_estimators_"])
            fusion = state["_fusion"]
            state["_fusion"] = None if fusion is None else fusion.state()
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "named_estimators_" in state:
            state = {**state, "named_estimators_": Bunch(**state["named_estimators_"])}
            if isinstance(state["_fusion"], dict):  # older pickles hold the object itself
                state["_fusion"] = LearnedFusion.from_state(state["_fusion"])
        super().__setstate__(state)

    def _sk_visual_block_(self) -> Any:  # draws the members side by side in a notebook
        return VotingClassifier(self.estimators)._sk_visual_block_()

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        with suppress(TypeError, ValueError, AttributeError):  # fit refuses such estimators
            tags.non_deterministic = any(
                get_tags(member).non_deterministic
                for _, member in self.estimators
                if not is_dropped(member)
            )
        return tags
