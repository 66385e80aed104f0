"""What estimators have in common that score the labels which other estimators propose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.frozen import FrozenEstimator

from skxmc._base import TextRankerMixin, from_score_on
from skxmc._input.ranking import all_finite, rank_columns
from skxmc._input.validation import check_texts
from skxmc._topk import innermost

# Texts that are scored together: bounds what their candidates take.
BLOCK_TEXTS = 2048


class RescorerMixin(TextRankerMixin):
    """Mixin of classifiers that score candidates of others.

    They define `_rescore` and `_others`, and their `fit` hands its parameters on to those.
    """

    n_candidates: int

    def _others(self) -> list[Any]:
        """The estimators, not fitted, whose candidates are scored; checked."""
        raise AttributeError(f"{type(self).__name__} must define _others.")

    def _rescore(self, texts: list[str], n_candidates: int, k: int) -> sp.csr_matrix:
        """Scores of k labels or more, `n_candidates` by each member: CSR of (n_texts, n_labels)."""
        raise AttributeError(f"{type(self).__name__} must define _rescore.")

    def _top_k(self, texts: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        columns = [np.empty((0, k), dtype=np.int64)]
        scores = [np.empty((0, k), dtype=np.float32)]
        for block in self._blocks(texts, k):
            columns.append(rank_columns(block, k, self.n_labels_))
            scores.append(_gather(block, columns[-1]))
        return np.concatenate(columns), np.concatenate(scores)

    def _scores(
        self, texts: list[str], *, top_k: int | None = None, min_score: float = 0.0
    ) -> sp.csr_matrix:
        blocks = [sp.csr_matrix((0, self.n_labels_), dtype=np.float32)]
        for block in self._blocks(texts, top_k or 1):
            block = block if top_k is None else keep_best(block, top_k)
            blocks.append(from_score_on(block, min_score))
        return sp.vstack(blocks, format="csr")

    def _blocks(self, texts: list[str], k: int) -> Iterator[sp.csr_matrix]:
        """Scores of block after block of texts, of k labels or more."""
        n_candidates = min(max(self.n_candidates, k), self.n_labels_)
        for start in range(0, len(texts), BLOCK_TEXTS):
            scores = self._rescore(texts[start : start + BLOCK_TEXTS], n_candidates, k)
            scores.eliminate_zeros()
            yield scores


def ranks_texts(estimator: Any) -> bool:
    """Whether it has the interface of this package."""
    if isinstance(estimator, FrozenEstimator):
        return ranks_texts(estimator.estimator)
    return isinstance(estimator, TextRankerMixin)


def check_scores_labels(what: str, estimator: Any) -> None:
    """Check before it is fitted that an estimator will score labels."""
    if not (ranks_texts(estimator) or hasattr(estimator, "predict_proba")):
        raise TypeError(
            f"{what}, {type(estimator).__name__}, cannot score labels: it is no classifier of "
            "this package and has no predict_proba. Use another one."
        )


def classes_of(what: str, estimator: Any) -> np.ndarray:
    """The labels of a fitted estimator, in the order of its columns."""
    classes = getattr(estimator, "classes_", None)
    if not isinstance(classes, np.ndarray) or classes.ndim != 1:
        raise ValueError(
            f"{what}, {type(estimator).__name__}, has no one-dimensional array classes_. Wrap it "
            "in OneVsRestClassifier, or use another one."
        )
    return classes


def candidate_scores(
    what: str, estimator: Any, texts: list[str], n_candidates: int, *, k: int | None = None
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
    k : int, optional
        An estimator of this package looks at more labels than it does by itself to find
        `n_candidates`, which changes the scores of an ensemble; with `k` only for texts of which
        it finds less than k.
    """
    if ranks_texts(innermost(estimator)[0]):
        inside, seen = innermost(estimator, texts)
        seen = check_texts(seen, allow_empty=True)  # steps may return any column
        if k is None:
            return inside.decision_function(seen, top_k=n_candidates)
        scores = keep_best(inside.decision_function(seen), n_candidates)
        lacking = np.flatnonzero(np.diff(scores.indptr) < k)
        if lacking.size == 0:
            return scores
        more = inside.decision_function([seen[i] for i in lacking], top_k=n_candidates)
        place = np.arange(len(texts))
        place[lacking] = len(texts) + np.arange(lacking.size)
        return sp.vstack([scores, more], format="csr")[place]
    starts = range(0, len(texts), BLOCK_TEXTS)
    blocks = [texts[start : start + BLOCK_TEXTS] for start in starts]
    return sp.vstack([_best_by_proba(what, estimator, block, n_candidates) for block in blocks])


def _best_by_proba(what: str, estimator: Any, texts: list[str], k: int) -> sp.csr_matrix:
    scores = estimator.predict_proba(texts)
    shape, n_labels = getattr(scores, "shape", None), len(estimator.classes_)
    if shape != (len(texts), n_labels):
        raise ValueError(
            f"{what} has a predict_proba that returns {type(scores).__name__} of shape {shape}, "
            f"but there are {len(texts)} texts and {n_labels} labels. Leave it out, or wrap it in "
            "OneVsRestClassifier."
        )
    if sp.issparse(scores):
        scores = sp.csr_matrix(scores)
    if not all_finite(scores.data if sp.issparse(scores) else scores):
        raise ValueError(
            f"{what} has a predict_proba that returns NaN or infinite scores. Leave it out."
        )
    return keep_best(scores, k)


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
