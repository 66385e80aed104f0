"""LearnedFusion: combines the scores of an ensemble's members, as learned from held-out texts."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.ensemble import HistGradientBoostingClassifier

from skxmc._input.sparse import row_of_entry
from skxmc._utils.parallel import usable_threads
from skxmc._utils.warnings import warn_user
from skxmc.metrics import label_propensities

# Scores, of which absent ones count as 0, are clipped to this and to 1 minus this.
MIN_PROBABILITY = 1e-4
# The trees need at least so many true candidates, and so many false ones.
MIN_EXAMPLES = 20
# Power of the propensity that divides the odds.
EXPONENT = 0.4
# What prediction reads of the nodes of a tree.
NODE_FIELDS = (
    "value",
    "feature_idx",
    "num_threshold",
    "missing_go_to_left",
    "left",
    "right",
    "is_leaf",
)


class LearnedFusion:
    """Model of the probability that a label is true, given members' scores and its text count.

    It consists of gradient-boosted trees. They learn how far to trust each member, for
    frequent and for rare labels, and bring scores of different kinds to one scale. The result is
    the mean of their probability and of the mean score, which makes up for too few held-out texts.
    The mean score is too low for rare labels, so the odds of the result are divided by the
    label's propensity ** 0.4. A higher score never lowers the result.

    Parameters
    ----------
    y_train : csr_array of shape (n_texts, n_labels)
        Labels of the members' training texts.
    random_state : int
        Seed of the trees.
    """

    def __init__(self, y_train: sp.csr_array, random_state: int) -> None:
        counts = np.bincount(y_train.indices, minlength=y_train.shape[1])
        self.log_counts = np.log1p(counts).astype(np.float32)
        self.odds_factors = (label_propensities(y_train) ** -EXPONENT).astype(np.float32)
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
        self.model = _new_trees(len(scores), self.random_state)
        with usable_threads():
            self.model.fit(self._features(scores, proposed, rows), is_true)
        return self

    def state(self) -> dict[str, Any]:
        """Return plain values and arrays, from which `from_state` makes the same model."""
        trees = None if self.model is None else _arrays_of(self.model)
        return {
            "log_counts": self.log_counts,
            "odds_factors": self.odds_factors,
            "random_state": self.random_state,
            "trees": trees,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> LearnedFusion:
        """Make a model from the result of `state`."""
        fusion = cls.__new__(cls)
        fusion.random_state = state["random_state"]
        fusion.log_counts = state["log_counts"]
        # Models of earlier versions have none.
        fusion.odds_factors = state.get("odds_factors", np.ones_like(fusion.log_counts))
        trees = state["trees"]
        fusion.model = None if trees is None else _trees_from(trees, fusion.random_state)
        return fusion

    def __call__(self, scores: list[sp.csr_matrix]) -> sp.csr_matrix:
        """Combine the members' scores: (n_texts, n_labels) float32."""
        mean = sp.csr_matrix(sum(scores[1:], scores[0]) / len(scores), dtype=np.float32)
        fused = _union(scores)
        if self.model is None or fused.nnz == 0:
            return mean
        rows = row_of_entry(fused)
        with usable_threads():
            probability = self.model.predict_proba(self._features(scores, fused, rows))[:, 1]
        probability += _values_at(mean, rows, fused.indices)
        factors = self.odds_factors[fused.indices]
        fused.data = (factors * probability / (2 + (factors - 1) * probability)).astype(np.float32)
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


def _new_trees(n_members: int, random_state: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        max_leaf_nodes=15,
        min_samples_leaf=100,
        early_stopping=False,
        monotonic_cst=[1] * n_members + [0],
        random_state=random_state,
    )


def _arrays_of(model: HistGradientBoostingClassifier) -> dict[str, Any]:
    """Return the trees as arrays: the nodes of all trees in a row, and the size of each tree."""
    nodes = [predictor.nodes for (predictor,) in model._predictors]
    return {
        "n_members": model.n_features_in_ - 1,
        "baseline": float(model._baseline_prediction.item()),
        "sizes": np.array([len(of_tree) for of_tree in nodes]),
        **{field: np.concatenate([tree[field] for tree in nodes]) for field in NODE_FIELDS},
    }


def _trees_from(arrays: dict[str, Any], random_state: int) -> HistGradientBoostingClassifier:
    """Make fitted trees from the result of `_arrays_of`.

    Raises
    ------
    ValueError
        If a node leads out of its tree, which the compiled prediction of scikit-learn would follow.
    """
    n_features = arrays["n_members"] + 1
    # A fit to two rows makes everything around the trees, in any version of scikit-learn.
    model = _new_trees(arrays["n_members"], random_state).set_params(max_iter=1)
    with usable_threads():
        model.fit(np.eye(2, n_features), [False, True])
    (stump,) = model._predictors[0]
    nodes = np.zeros(len(arrays["value"]), dtype=stump.nodes.dtype)
    for field in NODE_FIELDS:
        nodes[field] = arrays[field]
    trees = np.split(nodes, np.cumsum(arrays["sizes"])[:-1])
    if not all(_is_sound(tree, n_features) for tree in trees):
        raise ValueError(
            "A node of the learned fusion leads out of its tree: the model is damaged. Save it "
            "again."
        )
    bitsets = (stump.binned_left_cat_bitsets, stump.raw_left_cat_bitsets)  # empty
    model._predictors = [[type(stump)(tree, *bitsets)] for tree in trees]
    model._baseline_prediction = np.full_like(model._baseline_prediction, arrays["baseline"])
    return model


def _is_sound(tree: np.ndarray, n_features: int) -> bool:
    """Check that each inner node of a tree leads on to nodes of this tree, and reads a feature."""
    if len(tree) == 0:
        return False
    places = np.flatnonzero(tree["is_leaf"] == 0)
    inner = tree[places]
    leads_on = [(places < inner[side]) & (inner[side] < len(tree)) for side in ("left", "right")]
    reads = (inner["feature_idx"] >= 0) & (inner["feature_idx"] < n_features)
    return bool(np.all([*leads_on, reads]))


def _union(scores: list[sp.csr_matrix]) -> sp.csr_matrix:
    """Return a matrix with 1 for each label that any member proposes."""
    proposed = sum((matrix.astype(bool) for matrix in scores[1:]), scores[0].astype(bool))
    return sp.csr_matrix(proposed, dtype=np.float32)


def _values_at(matrix: sp.csr_matrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    if rows.size == 0:  # SciPy would return a sparse matrix
        return np.empty(0, dtype=np.float32)
    return np.asarray(matrix[rows, columns], dtype=np.float32).ravel()
