"""Measure predictions that agree with a hierarchy of labels, before and after.

    python examples/benchmarks/hierarchy.py [DATA_DIR] [--texts 12000] [--specific]

The default is the embedded ICD-10-CM texts. In DATA_DIR, a folder that `load_xmc` reads, the parent
of the label "landscape / hill" is "landscape", if that is a label. An answer is inconsistent if a
label among the best five scores higher than one above it. LightXML is trained for two epochs.
With `--specific`, training texts have only labels that are not above another one of the text, and
`HierarchicalClassifier` trains with those above them. Otherwise only the scores differ.
"""

import argparse
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator

from skxmc import (
    HierarchicalClassifier,
    LightXMLClassifier,
    NeighborsClassifier,
    OmikujiClassifier,
    TextEncoder,
)
from skxmc._input.hierarchy import check_label_parents
from skxmc.datasets import load_icd10cm, load_xmc
from skxmc.metrics import label_propensities, precision_at_k, psp_at_k


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", nargs="?")
    parser.add_argument("--encoder", default="all-MiniLM-L6-v2")
    parser.add_argument("--texts", type=int, default=12_000)
    parser.add_argument("--specific", action="store_true")
    arguments = parser.parse_args()
    data = load_xmc(arguments.data) if arguments.data else load_icd10cm()
    names = [str(name) for name in data.label_names]
    parents = parents_by_name(names) if arguments.data else parents_of_codes(names)
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(data.X_train))[: arguments.texts]
    test = rng.permutation(len(data.X_test))[:2000]
    X, y = [data.X_train[i] for i in rows], sp.csr_array(data.y_train)[rows]
    X_test, y_test = [data.X_test[i] for i in test], sp.csr_array(data.y_test)[test]
    propensities = label_propensities(y)
    if arguments.specific:
        _, ancestors = check_label_parents(
            parents, np.array(names, dtype=object), adds_labels=False
        )
        y = sp.csr_array(y - y.multiply(y @ ancestors > 0))
        y.eliminate_zeros()
    for name, model in {
        "words": OmikujiClassifier(n_jobs=1),
        "neighbors": NeighborsClassifier(TextEncoder(arguments.encoder, max_length=64)),
        "language": LightXMLClassifier(arguments.encoder, max_epochs=2, random_state=0),
    }.items():
        inner: Any = clone(model) if arguments.specific else FrozenEstimator(model)
        wrapped = HierarchicalClassifier(inner, label_parents=parents)
        model.fit(X, y, label_names=names)
        wrapped.fit(X, y, label_names=names)
        # Ancestors must be among the true labels too, or predicting them counts as an error.
        full = sp.csr_array((y_test + y_test @ wrapped.ancestors_) > 0).astype(np.float32)
        print(f"{name}: {np.mean(full.sum(axis=1)):.1f} labels per text")
        for what, clf in (("before", model), ("after", wrapped)):
            scores = clf.decision_function(X_test, top_k=100)
            precisions = " / ".join(
                f"{100 * precision_at_k(full, scores, k=k):.1f}" for k in (1, 3, 5)
            )
            psp = 100 * psp_at_k(full, scores, k=5, propensities=propensities)
            share = np.mean(is_inconsistent(scores, wrapped.ancestors_))
            print(f"  {what:6} P@1/3/5 {precisions}, PSP@5 {psp:.1f}, inconsistent {share:.1%}")


def parents_of_codes(names: list[str]) -> dict[str, str]:
    """Return the parents of ICD-10-CM's codes."""
    import simple_icd_10_cm as icd

    ancestors = {name: [a for a in icd.get_ancestors(name) if a != name] for name in names}
    return {name: above[0] for name, above in ancestors.items() if above}


def parents_by_name(names: list[str]) -> dict[str, str]:
    """Return the parents of labels whose names are paths."""
    known = set(names)
    pairs = ((name, name.rpartition(" / ")[0]) for name in names)
    return {name: parent for name, parent in pairs if parent in known}


def is_inconsistent(scores: sp.csr_matrix, ancestors: sp.csr_array) -> list[bool]:
    """Return for which texts one of the best five labels scores higher than one above it."""
    found = []
    for row in scores.toarray():
        best = np.argsort(-row, kind="stable")[:5]
        best = best[row[best] > 0]
        above = ancestors[best]
        is_lower = row[above.indices] < np.repeat(row[best], np.diff(above.indptr))
        found.append(bool(is_lower.any()))
    return found


if __name__ == "__main__":
    main()
