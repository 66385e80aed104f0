"""HierarchicalClassifier: predictions that agree with a hierarchy of labels."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.utils._param_validation import HasMethods, Interval

from skxmc._input.allowed import AllowedLabels
from skxmc._input.hierarchy import LabelParents, check_label_parents, with_ancestors
from skxmc._input.sparse import has_entries, ranges, row_of_entry
from skxmc._input.split import check_held_out
from skxmc._input.texts import check_texts
from skxmc._input.types import LabelsOfTexts, PerLabel, Texts, ValidationData
from skxmc._input.validation import check_labels, names_labels
from skxmc._meta.fit_params import check_fit_params, fit_with
from skxmc._meta.held_out import name_labels
from skxmc._meta.rescoring import classes_of
from skxmc._meta.wrapping import WrapperMixin

# Each ancestor of a label lowers its score by this share, so that it ranks below them if equal.
TIE_SHARE = 1e-6


class HierarchicalClassifier(WrapperMixin, ClassifierMixin, BaseEstimator):
    """Meta-estimator whose predictions agree with a hierarchy of labels.

    In training, each text also gets the ancestors of its labels. In prediction, a label never
    scores higher than its parents. Two consistent scores are nearest to those of the estimator:
    the highest one of a label and all below it, and the lowest one of a label and all above it.
    The score is their mean.

    Read more in the user guide: :doc:`/guide/decisions`.

    Parameters
    ----------
    estimator : estimator
        A classifier or an ensemble of this package, or any that takes texts and has
        ``predict_proba``. A ``FrozenEstimator`` is not fitted again. It must know all labels,
        those above included.
    label_parents : mapping, or sparse matrix or array of shape (n_labels, n_labels)
        Parent of each label, such as ``{"E10": "E08-E13", "E08-E13": "4"}``, or a list of its
        parents. Labels without a parent may be missing, or have None or NaN. In a matrix, row i
        holds ones in the columns of the parents of label i. If `y` is a list of label collections,
        ancestors that no text has become labels too. If it is a matrix or a frame, or if another
        meta-estimator wraps this one, no label is added.
    most_specific : bool, default=False
        Whether `predict` leaves out labels above others that it returns. Then it returns a broader
        label only if none below it reaches `threshold`.
    n_candidates : int, default=100
        Number of labels per text that the estimator scores. Labels above them get a score too.
    threshold : float, default=0.5
        `predict` returns labels whose score is at least this.

    Attributes
    ----------
    classes_ : ndarray of shape (n_labels,)
        Name or number of each label. Labels that were added come last.
    n_labels_ : int
        Number of labels.
    estimator_ : estimator
        Fitted estimator.
    ancestors_ : csr_array of shape (n_labels, n_labels), float32
        1 in the columns of all labels above the label of the row.

    See Also
    --------
    CalibratedClassifier : Makes scores probabilities. It may be the estimator.
    TunedThresholdClassifier : Tunes what `predict` returns. It may wrap this one.

    Notes
    -----
    Equal scores of a label and one above it are told apart: each ancestor lowers the score of a
    label by a millionth. So the best k labels of a text contain all labels above them, unless
    ``exclude`` or ``allow`` forbids some.

    Examples
    --------
    >>> from skxmc import HierarchicalClassifier, NeighborsClassifier
    >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
    >>> tags = [["cats"], ["shares"], ["bonds"]]
    >>> parents = {"cats": "animals", "shares": "finance", "bonds": "finance"}
    >>> clf = HierarchicalClassifier(NeighborsClassifier(), label_parents=parents)
    >>> clf.fit(texts, tags).predict_topk(["stocks and shares"], k=2).labels
    array([['finance', 'shares']], dtype=object)
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "estimator": [HasMethods(["fit"])],
        "label_parents": [Mapping, "array-like", "sparse matrix"],
        "most_specific": ["boolean"],
        "n_candidates": [Interval(Integral, 1, None, closed="left")],
        "threshold": [Interval(Real, 0, 1, closed="both")],
    }

    _prediction_params = ("most_specific", "n_candidates", "threshold")

    def __init__(
        self,
        estimator: Any,
        *,
        label_parents: LabelParents,
        most_specific: bool = False,
        n_candidates: int = 100,
        threshold: float = 0.5,
    ) -> None:
        self.estimator = estimator
        self.label_parents = label_parents
        self.most_specific = most_specific
        self.n_candidates = n_candidates
        self.threshold = threshold

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
    ) -> HierarchicalClassifier:
        """Fit the estimator to texts with all labels above their own.

        Parameters
        ----------
        X : sequence of str
            Raw texts.
        y : sparse matrix, array, frame or sequence of label collections
            Labels of each text, in any form that the estimator takes: see :doc:`/guide/data`.
        label_names : array-like of shape (n_labels,) or callable, default=None
            Names of the columns of a matrix.
        validation_data : tuple (X, y), default=None
            Held-out texts and their labels, passed on to the estimator with all labels above.
        X_val, y_val : texts and labels, default=None
            The same in two arguments. With ``transform_input=["X_val"]``, the steps of a
            pipeline change these texts too: see :doc:`/guide/searching`.
        **fit_params : dict
            Further parameters for the `fit` of the estimator, or of a pipeline's last step.

        Returns
        -------
        HierarchicalClassifier
            The estimator itself.

        Raises
        ------
        ValueError
            If texts or labels are invalid, if a label is an ancestor of itself, or if the estimator
            has other labels than y and those above them.
        TypeError
            If label_parents is no mapping and no matrix, if the estimator cannot score labels, or
            if its `fit` does not take a parameter.
        """
        texts = check_texts(X)
        labels = check_labels(y, label_names=label_names, n_texts=len(texts), require_positive=True)
        is_listed = names_labels(y) and not hasattr(y, "columns")
        classes, ancestors = check_label_parents(
            self.label_parents, labels.classes, adds_labels=is_listed
        )
        held_out = check_held_out(validation_data, X_val, y_val, classes)
        fit_params = {**fit_params}
        if held_out is not None:
            held_out_texts, held_out_y = held_out[0], with_ancestors(held_out[1].matrix, ancestors)
            if validation_data is not None:
                fit_params["validation_data"] = held_out_texts, held_out_y
            else:  # by the names that the steps of a pipeline inside may request
                fit_params |= {"X_val": held_out_texts, "y_val": held_out_y}
        check_fit_params(self._others(), fit_params)
        name_labels(fit_params, classes)
        full = with_ancestors(labels.matrix, ancestors)
        fitted = fit_with(clone(self.estimator), texts, full, fit_params)
        found = classes_of("estimator", fitted)
        if not (np.array_equal(found, classes) or np.array_equal(found, np.arange(len(classes)))):
            raise ValueError(
                f"{type(fitted).__name__} has other labels than y and those above them, or has "
                "them in another order. Fit it to the same labels, with the same names."
            )
        self._become(
            {
                "estimator_": fitted,
                "classes_": classes,
                "n_labels_": len(classes),
                "ancestors_": ancestors,
            }
        )
        return self

    def _rescore(
        self, texts: list[str], n_candidates: int, k: int, allowed: AllowedLabels | None
    ) -> sp.csr_matrix:
        scores = consistent(self._candidates(texts, n_candidates, k, allowed), self.ancestors_)
        return scores if allowed is None else allowed.kept(scores)

    def _predicted(self, texts: list[str]) -> sp.csr_matrix:
        predicted = super()._predicted(texts)
        if self.most_specific:
            above = sp.csr_array(predicted) @ self.ancestors_
            above.sort_indices()
            is_above = has_entries(above, row_of_entry(predicted), predicted.indices)
            predicted.data[is_above] = 0
            predicted.eliminate_zeros()
        return predicted


def consistent(scores: sp.csr_matrix, ancestors: sp.csr_array) -> sp.csr_matrix:
    """Score labels so that none scores as high as one above it.

    Parameters
    ----------
    scores : csr_matrix of shape (n_texts, n_labels), float32
        Scores of candidates. Others are absent.
    ancestors : csr_array of shape (n_labels, n_labels)
        1 in the columns of all labels above the label of the row.

    Returns
    -------
    csr_matrix of shape (n_texts, n_labels), float32
        Scores of the candidates and of all labels above them.
    """
    n_texts, n_labels = scores.shape
    entry, above = _above(scores, ancestors)
    key = row_of_entry(scores) * n_labels + scores.indices
    keys, place = np.unique(
        np.concatenate([key, key[entry] - scores.indices[entry] + above]), return_inverse=True
    )
    # The highest score of a label and all below it.
    high = np.zeros(len(keys), dtype=np.float32)
    np.maximum.at(high, place, np.concatenate([scores.data, scores.data[entry]]))
    # The lowest score of a label and all above it. Labels without a score have the highest one.
    own = high.copy()
    own[place[: len(key)]] = scores.data
    indptr = np.searchsorted(keys, np.arange(n_texts + 1) * n_labels)
    full = sp.csr_matrix((high, keys % n_labels, indptr), shape=scores.shape)
    entry, above = _above(full, ancestors)
    low = own.copy()
    place = np.searchsorted(keys, keys[entry] - full.indices[entry] + above)
    np.minimum.at(low, entry, own[place])
    n_above = np.bincount(entry, minlength=len(keys))
    full.data = ((high + low) / 2 * (1 - TIE_SHARE * n_above)).astype(np.float32)
    return full


def _above(scores: sp.csr_matrix, ancestors: sp.csr_array) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of an entry of `scores` and the column of a label above it."""
    starts = ancestors.indptr[scores.indices]
    n_above = ancestors.indptr[scores.indices + 1] - starts
    return np.repeat(np.arange(scores.nnz), n_above), ancestors.indices[ranges(starts, n_above)]
