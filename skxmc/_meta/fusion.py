"""LearnedFusion: combines the scores of an ensemble's members, as learned from held-out texts."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from sklearn.ensemble import HistGradientBoostingClassifier

from skxmc._input.sparse import row_of_entry
from skxmc._utils.parallel import usable_threads
from skxmc._utils.warnings import warn_user

# Scores, of which absent ones count as 0, are clipped to this and to 1 minus this.
MIN_PROBABILITY = 1e-4
# The trees need at least so many true candidates, and so many false ones.
MIN_EXAMPLES = 20
# The tie break by the mean score lowers a probability by at most this share.
MAX_TIE_BREAK = 1e-3


class LearnedFusion:
    """Model of the probability that a label is true, given members' scores and its text count.

    The model consists of gradient-boosted trees. They learn how far to trust each member, for
    frequent and for rare labels, and bring scores of different kinds to one scale. They are
    monotone: a higher score never lowers the result.

    Parameters
    ----------
    n_texts_of : ndarray of shape (n_labels,)
        Number of training texts per label.
    random_state : int
        Seed of the trees.
    """

    def __init__(self, n_texts_of: np.ndarray, random_state: int) -> None:
        self.log_counts = np.log1p(n_texts_of).astype(np.float32)
        self.random_state = random_state
        self.model: HistGradientBoostingClassifier | None = None

    def fit(self, scores: list[sp.csr_matrix], y: sp.csr_array) -> LearnedFusion:
        """Learn from each member's scores and the true labels, all of shape (n_texts, n_labels)."""
        proposed = _union(scores)
        rows = row_of_entry(proposed)
        is_true = _values_at(sp.csr_matrix(y), rows, proposed.indices) > 0
        if min(np.count_nonzero(is_true), np.count_nonzero(~is_true)) < MIN_EXAMPLES:
            warn_user(
                "Too few held-out texts to learn the fusion, so the mean of the members' scores is "
                "used. Increase validation_fraction, pass validation_data, or set fusion='mean'.",
                RuntimeWarning,
            )
            return self
        self.model = HistGradientBoostingClassifier(
            max_leaf_nodes=15,
            min_samples_leaf=100,
            early_stopping=False,
            monotonic_cst=[1] * len(scores) + [0],
            random_state=self.random_state,
        )
        with usable_threads():
            self.model.fit(self._features(scores, proposed, rows), is_true)
        return self

    def __call__(self, scores: list[sp.csr_matrix]) -> sp.csr_matrix:
        """Combine the members' scores: (n_texts, n_labels) float32."""
        mean = sp.csr_matrix(sum(scores[1:], scores[0]) / len(scores), dtype=np.float32)
        fused = _union(scores)
        if self.model is None or fused.nnz == 0:
            return mean
        rows = row_of_entry(fused)
        with usable_threads():
            probability = self.model.predict_proba(self._features(scores, fused, rows))[:, 1]
        # Trees give few distinct values. The mean score breaks ties.
        probability *= 1 - MAX_TIE_BREAK * (1 - _values_at(mean, rows, fused.indices))
        fused.data = probability.astype(np.float32)
        return fused

    def _features(
        self, scores: list[sp.csr_matrix], proposed: sp.csr_matrix, rows: np.ndarray
    ) -> np.ndarray:
        """Compute each candidate's log odds by each member, and its label's log count of texts."""
        columns = []
        for matrix in scores:
            values = _values_at(matrix, rows, proposed.indices)
            values = np.clip(values, MIN_PROBABILITY, 1 - MIN_PROBABILITY)
            columns.append(np.log(values / (1 - values)))
        return np.stack([*columns, self.log_counts[proposed.indices]], axis=1)


def _union(scores: list[sp.csr_matrix]) -> sp.csr_matrix:
    """Return a matrix with 1 for each label that any member proposes."""
    proposed = sum((matrix.astype(bool) for matrix in scores[1:]), scores[0].astype(bool))
    return sp.csr_matrix(proposed, dtype=np.float32)


def _values_at(matrix: sp.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    if rows.size == 0:  # SciPy would return a sparse matrix
        return np.empty(0, dtype=np.float32)
    return np.asarray(matrix[rows, columns], dtype=np.float32).ravel()
