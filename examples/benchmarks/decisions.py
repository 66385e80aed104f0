"""Measure probabilities and tuned thresholds on test texts.

    python examples/benchmarks/decisions.py DATA_DIR [--set checkpoint_dir=FOLDER]

DATA_DIR is a folder that `skxmc.datasets.load_xmc` reads, or icd10cm. The members are trained
without the texts that a `LightXMLEnsemble` holds out, as in `accuracy.py`. With the checkpoints of
that benchmark, LightXML is not trained again. Half of the held-out texts teach the fusion, and the
other half calibration and thresholds. All is measured on at most 2,000 test texts.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import numpy as np
import scipy.sparse as sp
from _measure import FREQUENCIES, add_arguments, load, make_classifier
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.frozen import FrozenEstimator

from skxmc import (
    CalibratedClassifier,
    LightXMLEnsemble,
    NeighborsClassifier,
    OmikujiClassifier,
    TextEncoder,
    TunedThresholdClassifier,
    predict_topk,
)
from skxmc._meta.held_out import auto_validation_fraction
from skxmc.metrics import ece_at_k, precision_at_k

MAX_TEST = 2000
N_CANDIDATES = 100
SCORINGS = ("f1_micro", "f1_macro", "precision")
RULES = ("threshold", "threshold_per_label", "n_labels")
PROBABILITIES = (
    "| classifier | P@1 | P@5 | ECE@1 of scores | of probabilities | ECE@5 of scores | "
    "of probabilities |\n|---|---|---|---:|---:|---:|---:|"
)
DECISIONS = (
    "| classifier | target | rule | labels per text | precision | recall | micro-F1 | macro-F1 | "
    + " | ".join(f"of labels of {name} texts" for name in FREQUENCIES)
    + " |\n|---|---|---"
    + "|---:" * (5 + len(FREQUENCIES))
    + "|"
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    names = ("words", "language", "neighbors")
    parser.add_argument("--members", nargs="+", choices=names, default=names[:2])
    arguments = parser.parse_args()
    data = load(arguments)
    n_texts = len(data.X_train)
    n_held_out = round(auto_validation_fraction(n_texts) * n_texts)
    order = np.random.default_rng(1).permutation(n_texts)
    of_fusion, of_decisions, rest = np.split(order, [n_held_out // 2, n_held_out])
    test = np.random.default_rng(0).permutation(len(data.X_test))[:MAX_TEST]
    X, y = [data.X_train[i] for i in rest], data.y_train[rest]
    X_other = [data.X_train[i] for i in order[:n_held_out]] + [data.X_test[i] for i in test]
    rows = [str(row) for row in range(len(X_other))]  # texts of `Scores`
    in_test = rows[n_held_out:]

    language = make_classifier(arguments)
    encoder = TextEncoder(arguments.encoder, max_length=language.max_length)
    neighbors = NeighborsClassifier(encoder)
    members = {"words": OmikujiClassifier(), "language": language, "neighbors": neighbors}
    models: dict[str, Any] = {}
    for name in arguments.members:
        member = members[name].fit(X, y)
        top_k = min(N_CANDIDATES, y.shape[1])
        scores = member.decision_function(X_other, top_k=top_k)
        models[name] = Scores(scores, member.threshold).fit()
    both = [(name, FrozenEstimator(model)) for name, model in models.items()]
    if len(both) > 1:
        held_out = rows[: len(of_fusion)], data.y_train[of_fusion]
        for fusion in ("mean", "learned"):
            model = LightXMLEnsemble(both, fusion=fusion, random_state=0)
            given = {"validation_data": held_out} if fusion == "learned" else {}
            models[f"all, {fusion}"] = model.fit(X, y, **given)

    learned_from = rows[len(of_fusion) : n_held_out], data.y_train[of_decisions]
    y_test = data.y_test[test]
    print(PROBABILITIES)
    for name, model in models.items():
        calibrated = CalibratedClassifier(FrozenEstimator(model)).fit(*learned_from)
        before, after = (predict_topk(m, in_test, k=5) for m in (model, calibrated))
        figures = [f"{100 * precision_at_k(y_test, after, k=k):.1f}" for k in (1, 5)]
        figures += [f"{ece_at_k(y_test, top, k=k):.3f}" for k in (1, 5) for top in (before, after)]
        print("|", " | ".join([name, *figures]), "|", flush=True)
    print(DECISIONS)
    n_by_label = y.sum(axis=0)
    groups = [(n_by_label >= least) & (n_by_label <= most) for least, most in FREQUENCIES.values()]
    for name, model in models.items():
        print("|", name, "| none | default |", quality(model.predict(in_test), y_test, groups))
        for scoring, rule in itertools.product(SCORINGS, RULES):
            tuned = TunedThresholdClassifier(FrozenEstimator(model), scoring=scoring, rule=rule)
            predicted = tuned.fit(*learned_from).predict(in_test)
            print("|", name, "|", scoring, "|", rule, "|", quality(predicted, y_test, groups))


class Scores(ClassifierMixin, BaseEstimator):
    """Classifier whose texts are the numbers of rows of scores, which are computed once."""

    def __init__(self, scores: sp.csr_matrix, threshold: float) -> None:
        self.scores = scores
        self.threshold = threshold

    def fit(self, X: Any = None, y: Any = None) -> Scores:
        self.classes_ = np.arange(self.scores.shape[1])
        return self

    def predict_proba(self, X: list[str]) -> sp.csr_matrix:
        return self.scores[[int(row) for row in X]]

    def predict(self, X: list[str]) -> sp.csr_matrix:
        return self.predict_proba(X) >= self.threshold


def quality(predicted: sp.csr_matrix, true: sp.csr_array, groups: list[np.ndarray]) -> str:
    """Make the cells of a row: labels per text, precision, recall and F1, also of rare labels."""
    hits = predicted.multiply(true)
    n_hits, n_predicted, n_true = (
        np.asarray(m.sum(axis=0)).ravel() for m in (hits, predicted, true)
    )
    f1 = 2 * n_hits / np.maximum(n_predicted + n_true, 1)
    micro = 2 * n_hits.sum() / (n_predicted.sum() + n_true.sum())
    parts = [(n_true > 0) & group for group in (True, *groups)]
    figures = [
        predicted.nnz / predicted.shape[0],
        n_hits.sum() / max(predicted.nnz, 1),
        n_hits.sum() / true.nnz,
        micro,
        *(f1[part].sum() / max(1, part.sum()) for part in parts),
    ]
    return " | ".join([f"{figures[0]:.1f}", *(f"{figure:.3f}" for figure in figures[1:])]) + " |"


if __name__ == "__main__":
    main()
