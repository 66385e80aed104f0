"""Measure probabilities and tuned thresholds on test texts.

    python examples/benchmarks/decisions.py [DATA_DIR] [--texts 6000] [--held-out 300]

DATA_DIR is a folder that `load_xmc` reads. The default is the embedded ICD-10-CM texts. Words are
an `OmikujiClassifier`, neighbors a `NeighborsClassifier` on a pretrained encoder, and both are
``make_classifier(fine_tune=False)``. Calibration and thresholds are learned from the held-out texts
and measured on at most 2,000 test texts.
"""

import argparse

import numpy as np
import scipy.sparse as sp
from sklearn.frozen import FrozenEstimator

from skxmc import (
    CalibratedClassifier,
    NeighborsClassifier,
    OmikujiClassifier,
    TextEncoder,
    TunedThresholdClassifier,
    make_classifier,
)
from skxmc.datasets import load_icd10cm, load_xmc
from skxmc.metrics import ece_at_k, precision_at_k

MODELS = {
    "words": OmikujiClassifier(),
    "neighbors": NeighborsClassifier(TextEncoder(max_length=32)),
    "both": make_classifier(fine_tune=False, max_length=32, random_state=0),
}
RULES = ("threshold", "threshold_per_label", "n_labels")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?")
    parser.add_argument("--texts", type=int, default=6000)
    parser.add_argument("--held-out", type=int, default=300)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    arguments = parser.parse_args()
    data = load_xmc(arguments.data) if arguments.data else load_icd10cm()
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(data.X_train))[: arguments.texts]
    test = rng.permutation(len(data.X_test))[:2000]
    used = np.flatnonzero(data.y_train[rows].sum(axis=0))  # labels with a training text
    X, y = [data.X_train[i] for i in rows], data.y_train[rows][:, used]
    X_test, y_test = [data.X_test[i] for i in test], data.y_test[test][:, used]
    n = arguments.held_out
    for name in arguments.models:
        model = MODELS[name].fit(X[n:], y[n:])
        frozen = FrozenEstimator(model)
        calibrated = CalibratedClassifier(frozen).fit(X[:n], y[:n])
        before, after = (m.predict_topk(X_test, 5) for m in (model, calibrated))
        precisions = (f"P@{k} {precision_at_k(y_test, after, k=k):.3f}" for k in (1, 5))
        print(f"{name}:", *precisions)
        for k in (1, 5):
            errors = (ece_at_k(y_test, top, k=k) for top in (before, after))
            print("  ECE@{}, scores and probabilities: {:.3f} {:.3f}".format(k, *errors))
        print(f"  {'predict by default':31} {quality(model.predict(X_test), y_test)}")
        for scoring in ("f1_micro", "f1_macro", "precision"):
            for rule in RULES:
                tuned = TunedThresholdClassifier(frozen, scoring=scoring, rule=rule)
                predicted = tuned.fit(X[:n], y[:n]).predict(X_test)
                print(f"  {scoring:10} {rule:20} {quality(predicted, y_test)}")


def quality(predicted: sp.csr_matrix, true: sp.csr_array) -> str:
    """Describe the labels per text, and precision, recall and F1."""
    hits = predicted.multiply(true)
    n_hits, n_predicted, n_true = (
        np.asarray(m.sum(axis=0)).ravel() for m in (hits, predicted, true)
    )
    f1 = 2 * n_hits / np.maximum(n_predicted + n_true, 1)
    micro = 2 * n_hits.sum() / (n_predicted.sum() + n_true.sum())
    return (
        f"labels {predicted.nnz / predicted.shape[0]:4.1f}  "
        f"none {np.mean(np.diff(predicted.indptr) == 0):.2f}  "
        f"P {n_hits.sum() / max(predicted.nnz, 1):.3f}  R {n_hits.sum() / true.nnz:.3f}  "
        f"micro-F1 {micro:.3f}  macro-F1 {f1[n_true > 0].mean():.3f}"
    )


if __name__ == "__main__":
    main()
