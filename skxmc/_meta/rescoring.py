"""RescorerMixin: base of estimators that rescore the labels which other estimators propose."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.frozen import FrozenEstimator

from skxmc._base import TEXT_BLOCK, TextRankerMixin, from_score_on
from skxmc._inference.explanation import NearestTexts
from skxmc._input.allowed import AllowedLabels
from skxmc._input.ranking import SCORE_BLOCK, all_finite, blocks, rank_columns, top_k_of_csr
from skxmc._input.texts import check_texts
from skxmc._topk import innermost


class RescorerMixin(TextRankerMixin):
    """Mixin of classifiers that rescore the candidates of other estimators.

    A class defines `_rescore` and `_others`. Its `fit` passes parameters on to the others.
    """

    n_candidates: int
    # Parameters that `fit` passes on, which `set_fit_request` takes too. None are requested.
    __metadata_request__fit = dict.fromkeys(
        ("sample_weight", "label_names", "label_texts", "label_features")
    )

    def _others(self) -> list[Any]:
        """Check and return the unfitted estimators that propose candidates."""
        raise AttributeError(f"{type(self).__name__} must define _others.")

    def _rescore(
        self, texts: list[str], n_candidates: int, k: int, allowed: AllowedLabels | None
    ) -> sp.csr_matrix:
        """Score at least k labels of `n_candidates` per estimator: CSR (n_texts, n_labels).

        If not all labels are allowed, it scores none of the others.
        """
        raise AttributeError(f"{type(self).__name__} must define _rescore.")

    def _top_k(self, texts: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        columns = [np.empty((0, k), dtype=np.int64)]
        scores = [np.empty((0, k), dtype=np.float32)]
        for block in self._blocks(texts, k):
            columns.append(rank_columns(block, k, self.n_labels_))
            scores.append(_gather(block, columns[-1]))
        return np.concatenate(columns), np.concatenate(scores)

    def _best_of_block(
        self, texts: list[str], k: int, allowed: AllowedLabels
    ) -> tuple[np.ndarray, np.ndarray]:
        (block,) = self._blocks(texts, k, allowed)
        columns, scores = top_k_of_csr(block, k)
        lacking = np.flatnonzero(allowed.lacks(columns))  # other labels have a score of 0
        n_enough = allowed.n_enough(k)
        for part in blocks(len(lacking), SCORE_BLOCK // n_enough):
            rows = lacking[part]
            ranked = rank_columns(block[rows], n_enough, self.n_labels_)
            found = allowed.of(rows).first(ranked, _gather(block[rows], ranked), k)
            columns[rows], scores[rows] = found
        return columns, scores

    def _scores(
        self, texts: list[str], *, top_k: int | None = None, min_score: float = 0.0
    ) -> sp.csr_matrix:
        found = [sp.csr_matrix((0, self.n_labels_), dtype=np.float32)]
        for block in self._blocks(texts, top_k or 1):
            block = block if top_k is None else keep_best(block, top_k)
            found.append(from_score_on(block, min_score))
        return sp.vstack(found, format="csr")

    def _blocks(
        self, texts: list[str], k: int, allowed: AllowedLabels | None = None
    ) -> Iterator[sp.csr_matrix]:
        """Yield the scores of at least k labels per text, block by block."""
        n_candidates = min(max(self.n_candidates, k), self.n_labels_)
        for start in range(0, len(texts), TEXT_BLOCK):
            scores = self._rescore(texts[start : start + TEXT_BLOCK], n_candidates, k, allowed)
            scores.eliminate_zeros()
            yield scores


def nearest_texts_of(estimators: list[Any], text: str, n: int) -> NearestTexts | None:
    """Find the nearest texts of the first estimator that compares texts."""
    for estimator in estimators:
        inside, (seen,) = innermost(estimator, [text])
        while isinstance(inside, FrozenEstimator):
            inside = inside.estimator
        found = inside._nearest_texts(seen, n) if isinstance(inside, TextRankerMixin) else None
        if found is not None:
            return found
    return None


def ranks_texts(estimator: Any) -> bool:
    """Return whether an estimator has the interface of this package."""
    if isinstance(estimator, FrozenEstimator):
        return ranks_texts(estimator.estimator)
    return isinstance(estimator, TextRankerMixin)


def check_scores_labels(what: str, estimator: Any) -> None:
    """Check that an estimator will score labels, before it is fitted."""
    if isinstance(estimator, type):
        raise TypeError(f"{what} is a class. Pass an instance: {estimator.__name__}().")
    if not (ranks_texts(estimator) or hasattr(estimator, "predict_proba")):
        raise TypeError(
            f"{what}, {type(estimator).__name__}, cannot score labels: it is not a classifier of "
            "this package and has no predict_proba. Use another estimator."
        )


def classes_of(what: str, estimator: Any) -> np.ndarray:
    """Return the labels of a fitted estimator, in the order of its columns."""
    classes = getattr(estimator, "classes_", None)
    if not isinstance(classes, np.ndarray) or classes.ndim != 1:
        raise ValueError(
            f"{what}, {type(estimator).__name__}, has no one-dimensional array classes_. Wrap it "
            "in OneVsRestClassifier, or use another estimator."
        )
    return classes


def same_labels(left: np.ndarray, right: np.ndarray) -> bool:
    """Return whether both have the same labels in the same order."""
    return left is right or np.array_equal(left, right)


def candidate_scores(
    what: str,
    estimator: Any,
    texts: list[str],
    n_candidates: int,
    *,
    k: int | None = None,
    allowed: AllowedLabels | None = None,
) -> sp.csr_matrix:
    """Score the best labels with an estimator of this package, or any with `predict_proba`.

    Parameters
    ----------
    what : str
        Name of the estimator in error messages.
    estimator : estimator
        Fitted estimator with ``classes_``.
    texts : list of str
    n_candidates : int
        Number of labels per text. An estimator of this package considers more labels than it does
        by itself to find so many, which changes the scores of an ensemble.
    k : int, optional
        If given, the estimator considers more labels only for texts with fewer than k labels.
    allowed : AllowedLabels, optional
        Labels that may be candidates. None allows all.
    """
    if ranks_texts(innermost(estimator)[0]):
        inside, seen = innermost(estimator, texts)
        seen = check_texts(seen, allow_empty=True)  # steps may return any kind of column
        if k is None:
            return _best_scores(inside, seen, n_candidates, allowed)
        scores = inside.decision_function(seen)
        scores = keep_best(scores if allowed is None else allowed.kept(scores), n_candidates)
        lacking = np.flatnonzero(np.diff(scores.indptr) < k)
        if lacking.size == 0:
            return scores
        of_lacking = None if allowed is None else allowed.of(lacking)
        more = _best_scores(inside, [seen[i] for i in lacking], n_candidates, of_lacking)
        place = np.arange(len(texts))
        place[lacking] = len(texts) + np.arange(lacking.size)
        return sp.vstack([scores, more], format="csr")[place]
    of_blocks = [
        _best_by_proba(
            what,
            estimator,
            texts[block],
            n_candidates,
            None if allowed is None else allowed.of(block),
        )
        for block in blocks(len(texts), TEXT_BLOCK)
    ]
    return sp.vstack(of_blocks)


def _best_scores(
    estimator: Any, texts: list[str], k: int, allowed: AllowedLabels | None
) -> sp.csr_matrix:
    """Score the k best allowed labels with an estimator of this package."""
    if allowed is None:
        return estimator.decision_function(texts, top_k=k)
    columns, scores = estimator._ready()._top_k_allowed(texts, k, allowed)
    found = columns >= 0
    ends = np.concatenate([[0], np.cumsum(found.sum(axis=1))])
    shape = (len(texts), len(estimator.classes_))
    best = sp.csr_matrix((scores[found], columns[found], ends), shape=shape)
    best.sort_indices()
    return best


def _best_by_proba(
    what: str, estimator: Any, texts: list[str], k: int, allowed: AllowedLabels | None
) -> sp.csr_matrix:
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
    if allowed is not None:
        scores = allowed.kept(sp.csr_matrix(scores))
    return keep_best(scores, k)


def _gather(scores: Any, columns: np.ndarray) -> np.ndarray:
    """Return the scores at `columns` of each row, as a dense array of the same shape."""
    found = scores[np.arange(len(columns))[:, np.newaxis], columns]
    return found.toarray() if sp.issparse(found) else np.asarray(found)


def keep_best(scores: Any, k: int) -> sp.csr_matrix:
    """Keep the k best scores of each row of a sparse or dense matrix, without those that are 0."""
    n_rows, n_labels = scores.shape
    columns = rank_columns(scores, k, n_labels)
    starts = np.arange(0, n_rows * k + 1, k)
    best = sp.csr_matrix(
        (_gather(scores, columns).ravel(), columns.ravel(), starts), shape=scores.shape
    )
    best.sort_indices()
    best.eliminate_zeros()
    return best
