"""What all estimators that rank labels for texts have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from ._topk import TopK
from .metrics import precision_at_k


class TextRankerMixin:
    """Mixin of classifiers of raw texts with `predict_topk` and a sparse `decision_function`."""

    classes_: np.ndarray
    threshold: float

    def predict_topk(self, X: Any, k: int = 5) -> TopK:
        """Predict the k best labels of each text."""
        raise AttributeError(f"{type(self).__name__} must define predict_topk.")

    def decision_function(self, X: Any, *, top_k: int | None = None) -> sp.csr_matrix:
        """Score the labels of each text."""
        raise AttributeError(f"{type(self).__name__} must define decision_function.")

    def predict_proba(self, X: Any) -> sp.csr_matrix:
        """Score the recalled labels of each text; the same as `decision_function`.

        Scores of different labels are not exclusive and do not sum to 1.

        Parameters
        ----------
        X : list, tuple, ndarray, or pandas or polars column, of str, of length n_texts
            Raw texts.

        Returns
        -------
        csr_matrix of shape (n_texts, n_labels), float32
            See `decision_function`.
        """
        return self.decision_function(X)

    def predict(self, X: Any) -> sp.csr_matrix:
        """Predict the labels whose score reaches `threshold`.

        Parameters
        ----------
        X : list, tuple, ndarray, or pandas or polars column, of str, of length n_texts
            Raw texts.

        Returns
        -------
        csr_matrix of shape (n_texts, n_labels), int64
            1 where a label is predicted.
        """
        predicted = self.decision_function(X)
        predicted.data = predicted.data >= self.threshold
        predicted.eliminate_zeros()
        return predicted.astype(np.int64)

    def score(self, X: Any, y: Any) -> float:
        """Measure P@1: the share of texts whose best label is a true one.

        The subset accuracy that other classifiers of scikit-learn report is about 0 with
        thousands of labels.

        Parameters
        ----------
        X : list, tuple, ndarray, or pandas or polars column, of str, of length n_texts
            Raw texts.
        y : sparse matrix, array, frame, or sequence of label collections
            True labels in any form that `fit` takes.

        Returns
        -------
        float
            P@1, from 0 to 1.
        """
        return precision_at_k(y, self.predict_topk(X, k=1), k=1, classes=self.classes_)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.two_d_labels = True
        tags.target_tags.single_output = False
        tags.target_tags.multi_output = False  # that one means multiclass-multioutput
        tags.classifier_tags.multi_label = True
        tags.classifier_tags.multi_class = False
        return tags
