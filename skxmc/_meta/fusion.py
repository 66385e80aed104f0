"""How the scores of an ensemble's members become one: learnt from texts they have not seen."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from sklearn.ensemble import HistGradientBoostingClassifier

from skxmc._input.sparse import row_of_entry
from skxmc._utils.parallel import usable_threads
from skxmc._utils.warnings import warn_user

# Scores nearer to 0 or 1 than this are taken for it; an absent one is 0.
SMALLEST_PROBABILITY = 1e-4
# True labels among the members' candidates, and others, that it takes to learn anything.
LEAST_EXAMPLES = 20
# Share of a probability that the mean score may take away.
TIE_BREAK = 1e-3


class LearnedFusion:
    """Probability that a label is true, by the scores of all members and its number of texts.

    Gradient-boosted trees, monotone in every score: a higher score never lowers the result. They
    learn how far each member is to be trusted, for frequent and for rare labels, and bring scores
    of different kinds to one scale.

    Parameters
    ----------
    n_texts_of : ndarray of shape (n_labels,)
        Training texts of each label.
    random_state : int
        Seed of the trees.
    """

    def __init__(self, n_texts_of: np.ndarray, random_state: int) -> None:
        self.log_counts = np.log1p(n_texts_of).astype(np.float32)
        self.random_state = random_state
        self.model: HistGradientBoostingClassifier | None = None

    def fit(self, scores: list[sp.csr_matrix], y: sp.csr_array) -> LearnedFusion:
        """Learn from the members' scores, (n_texts, n_labels) each, and the true labels."""
        proposed = _union(scores)
        rows = row_of_entry(proposed)
        is_true = _values_at(sp.csr_matrix(y), rows, proposed.indices) > 0
        if min(np.count_nonzero(is_true), np.count_nonzero(~is_true)) < LEAST_EXAMPLES:
            warn_user(
                "The held-out texts are too few to learn how members go together; their mean is "
                "taken. Hold out more, by validation_fraction or validation_data.",
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
        """Fuse the members' scores of some texts: (n_texts, n_labels) float32."""
        mean = sp.csr_matrix(sum(scores[1:], scores[0]) / len(scores), dtype=np.float32)
        fused = _union(scores)
        if self.model is None or fused.nnz == 0:
            return mean
        rows = row_of_entry(fused)
        with usable_threads():
            probability = self.model.predict_proba(self._features(scores, fused, rows))[:, 1]
        # Trees give few distinct values; equal ones are told apart by the mean score.
        probability *= 1 - TIE_BREAK * (1 - _values_at(mean, rows, fused.indices))
        fused.data = probability.astype(np.float32)
        return fused

    def _features(
        self, scores: list[sp.csr_matrix], proposed: sp.csr_matrix, rows: np.ndarray
    ) -> np.ndarray:
        """Log odds by each member, and the logarithm of the label's texts, of each candidate."""
        columns = []
        for matrix in scores:
            values = _values_at(matrix, rows, proposed.indices)
            values = np.clip(values, SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
            columns.append(np.log(values / (1 - values)))
        return np.stack([*columns, self.log_counts[proposed.indices]], axis=1)


def _union(scores: list[sp.csr_matrix]) -> sp.csr_matrix:
    """The labels that any member proposes, as entries of 1."""
    proposed = sum((matrix.astype(bool) for matrix in scores[1:]), scores[0].astype(bool))
    return sp.csr_matrix(proposed, dtype=np.float32)


def _values_at(matrix: sp.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    if rows.size == 0:  # SciPy gives a sparse matrix then
        return np.empty(0, dtype=np.float32)
    return np.asarray(matrix[rows, columns], dtype=np.float32).ravel()
