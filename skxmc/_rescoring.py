"""What estimators have in common that score the labels which other estimators propose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from ._ranker import TextRankerMixin
from ._topk import TopK, check_k, rank_columns
from ._validation import check_texts

# Texts that are scored together: bounds what their candidates take.
BLOCK_TEXTS = 2048


class RescorerMixin(TextRankerMixin):
    """Mixin of classifiers that score candidates of others; they define `_scores`."""

    n_candidates: int
    n_labels_: int

    def _scores(self, texts: list[str], n_candidates: int) -> sp.csr_matrix:
        """Scores, (n_texts, n_labels) float32, where each member proposes `n_candidates`."""
        raise AttributeError(f"{type(self).__name__} must define _scores.")

    def predict_topk(self, X: Any, k: int = 5) -> TopK:
        """Predict the k best labels of each text.

        Parameters
        ----------
        X : list, tuple, ndarray, or pandas or polars column, of str, of length n_texts
            Raw texts.
        k : int, default=5
            Labels a text, at most the number of labels. Where it is above `n_candidates`, so many
            are proposed.

        Returns
        -------
        TopK
            Named tuple ``(labels, scores)`` of two arrays of shape (n_texts, k), best first:
            entries of `classes_`, and float32 scores from 0 to 1, above 0 but where an estimator
            that is not of this package left too many labels at 0.

        Raises
        ------
        ValueError
            If k is not a whole number from 1 to the number of labels.
        """
        check_is_fitted(self)
        k = check_k(k, self.n_labels_)
        columns = [np.empty((0, k), dtype=np.int64)]
        scores = [np.empty((0, k), dtype=np.float32)]
        for block in self._score_blocks(X, k):
            columns.append(rank_columns(block, k, self.n_labels_))
            scores.append(_gather(block, columns[-1]))
        return TopK(self.classes_[np.concatenate(columns)], np.concatenate(scores))

    def decision_function(self, X: Any, *, top_k: int | None = None) -> sp.csr_matrix:
        """Score the labels that are proposed for each text.

        Parameters
        ----------
        X : list, tuple, ndarray, or pandas or polars column, of str, of length n_texts
            Raw texts.
        top_k : int, default=None
            Keep only the best so many labels of each text, so that memory stays bounded.

        Returns
        -------
        csr_matrix of shape (n_texts, n_labels), float32
            Scores in (0, 1]. Labels that nothing proposes are absent: 0, below all others.
        """
        check_is_fitted(self)
        if top_k is not None:
            top_k = check_k(top_k, self.n_labels_, "top_k")
        blocks = [sp.csr_matrix((0, self.n_labels_), dtype=np.float32)]
        for block in self._score_blocks(X, top_k or 1):
            blocks.append(block if top_k is None else keep_best(block, top_k))
        return sp.vstack(blocks, format="csr")

    def _score_blocks(self, X: Any, k: int) -> Iterator[sp.csr_matrix]:
        """Scores of block after block of texts, of k labels or more."""
        texts = check_texts(X, allow_empty=True)
        n_candidates = min(max(self.n_candidates, k), self.n_labels_)
        for start in range(0, len(texts), BLOCK_TEXTS):
            scores = self._scores(texts[start : start + BLOCK_TEXTS], n_candidates)
            scores.eliminate_zeros()
            yield scores


def ranks_texts(estimator: Any) -> bool:
    """Whether it has the interface of this package."""
    if isinstance(estimator, FrozenEstimator):
        return ranks_texts(estimator.estimator)
    return isinstance(estimator, TextRankerMixin)


def candidate_scores(
    what: str, estimator: Any, texts: list[str], n_candidates: int
) -> sp.csr_matrix:
    """Scores of the best labels by an estimator of this package, or by any `predict_proba`.

    Parameters
    ----------
    what : str
        What error messages call the estimator.
    estimator : estimator
        Fitted, with ``classes_``.
    texts : list of str
    n_candidates : int
        Labels a text.
    """
    if ranks_texts(estimator):
        return estimator.decision_function(texts, top_k=n_candidates)
    scores = estimator.predict_proba(texts)
    shape, n_labels = getattr(scores, "shape", None), len(estimator.classes_)
    if shape != (len(texts), n_labels):
        raise ValueError(
            f"{what} has a predict_proba that returns {type(scores).__name__} of shape {shape}, "
            f"but there are {len(texts)} texts and {n_labels} labels. Leave it out, or wrap it in "
            "OneVsRestClassifier."
        )
    return keep_best(sp.csr_matrix(scores) if sp.issparse(scores) else scores, n_candidates)


def _gather(scores: Any, columns: np.ndarray) -> np.ndarray:
    """Scores at `columns` of each row, as a dense array of their shape."""
    found = scores[np.arange(len(columns))[:, np.newaxis], columns]
    return found.toarray() if sp.issparse(found) else np.asarray(found)


def keep_best(scores: Any, k: int) -> sp.csr_matrix:
    """The k best of each row of a sparse or dense matrix, less those that are 0."""
    n_rows, n_labels = scores.shape
    columns = rank_columns(scores, k, n_labels)
    starts = np.arange(0, n_rows * k + 1, k)
    best = sp.csr_matrix(
        (_gather(scores, columns).ravel(), columns.ravel(), starts), shape=scores.shape
    )
    best.sort_indices()
    best.eliminate_zeros()
    return best
