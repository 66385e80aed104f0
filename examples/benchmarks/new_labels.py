"""New labels without training: how well they are found, and what the other labels lose.

A tenth of the labels with 5 to 50 training texts are held out, and so are all training texts that
have one of them. A classifier is trained without both. Then it gets the labels by `add_labels`,
from their texts alone or from a few examples too. This is compared with training further by
`warm_start=True`, with training anew on all texts, and with `NeighborsClassifier.partial_fit`.

    python examples/benchmarks/new_labels.py icd10cm --hold-out 1000 --texts 4000
    python examples/benchmarks/new_labels.py icd10cm --chapters 9 11 --only add_labels
"""

from __future__ import annotations

import argparse
import copy
import time
from typing import Any

import numpy as np
import scipy.sparse as sp
from _measure import Data, add_arguments, load, make_classifier

from skxmc import NeighborsClassifier, TopK
from skxmc.metrics import label_propensities, precision_at_k, psp_at_k

# Training texts of labels that are held out, and their share.
MIN_TEXTS, MAX_TEXTS, SHARE = 5, 50, 0.1
N_EXAMPLES = (0, 1, 5)
WAYS = ("add_labels", "warm start, one epoch", "training anew", "neighbors, partial_fit")
HEADER = (
    "| classifier | examples | P@5 | PSP@5 | new labels found | P@5 of other texts | "
    "CPU seconds |\n"
    "|---|---:|---:|---:|---:|---:|---:|"
)


def main() -> None:
    """Print a table of all classifiers and numbers of examples."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=WAYS)
    arguments = parser.parse_args()
    data = used_labels(load(arguments))
    new = choose_new(data)
    old = np.setdiff1d(np.arange(data.y_train.shape[1]), new)
    is_old_text = data.y_train[:, new].sum(axis=1) == 0
    X, y = [data.X_train[i] for i in np.flatnonzero(is_old_text)], data.y_train[is_old_text]
    is_new_text = data.y_test[:, new].sum(axis=1) > 0
    print(f"{len(new)} new labels, {len(X)} texts without them, {is_new_text.sum()} to test")
    print(HEADER)

    def texts_of(labels: np.ndarray) -> dict[int, str]:
        return {label: data.label_texts[label] for label in labels.tolist()}

    def fit(clf: Any, X: list[str], y: sp.csr_array, labels: np.ndarray) -> Any:
        return clf.fit(X, y[:, labels], label_names=labels, label_texts=texts_of(labels))

    def show(what: str, n_examples: object, clf: Any, started: float) -> None:
        seconds = time.process_time() - started
        figures = measure(clf, data, new, is_new_text)
        cells = " | ".join(f"{100 * figure:.1f}" for figure in figures)
        print(f"| {what} | {n_examples} | {cells} | {seconds:.1f} |", flush=True)

    started = time.process_time()
    before = fit(make_classifier(arguments, verbose=0), X, y, old)
    show("without the new labels", "", before, started)
    if WAYS[3] in arguments.only:
        near = fit(NeighborsClassifier(arguments.encoder), X, y, old)
    every = np.concatenate([old, new])
    for n_examples in N_EXAMPLES:
        rows = examples(data.y_train, new, n_examples)
        X_new, y_new = [data.X_train[i] for i in rows], data.y_train[rows]
        X_all, y_all = X + X_new, sp.vstack([y, y_new], format="csr")
        for way in arguments.only:
            started = time.process_time()
            if way == "add_labels":
                clf = copy.copy(before)
                given = {"X": X_new, "y": y_new[:, new]} if n_examples else {}
                clf.add_labels(new, label_texts=texts_of(new), **given)
            elif way == "warm start, one epoch":
                clf = copy.copy(before).set_params(warm_start=True, max_epochs=1)
                fit(clf, X_all, y_all, every)
            elif way == "training anew":
                clf = fit(make_classifier(arguments, verbose=0), X_all, y_all, every)
            else:
                clf = copy.copy(near)
                about = sp.csr_array(
                    (np.ones(len(new)), (np.arange(len(new)), new)), (len(new), y.shape[1])
                )
                X_near = [*X_new, *texts_of(new).values()]
                y_near = sp.vstack([y_new, about], format="csr")
                clf.partial_fit(X_near, y_near[:, every], label_names=every)
            show(way, n_examples, clf, started)


def used_labels(data: Data) -> Data:
    """Leave labels out that have no training text."""
    used = np.flatnonzero(data.y_train.sum(axis=0))
    return data._replace(
        y_train=data.y_train[:, used],
        y_test=data.y_test[:, used],
        label_texts=[data.label_texts[label] for label in used],
    )


def choose_new(data: Data) -> np.ndarray:
    """Choose the labels to hold out, all of which have a text to test."""
    n_texts, n_tested = data.y_train.sum(axis=0), data.y_test.sum(axis=0)
    candidates = np.flatnonzero((n_texts >= MIN_TEXTS) & (n_texts <= MAX_TEXTS))
    n_new = max(1, round(SHARE * len(candidates)))
    candidates = candidates[n_tested[candidates] > 0]
    return np.sort(np.random.default_rng(0).permutation(candidates)[:n_new])


def examples(y: sp.csr_array, new: np.ndarray, n_examples: int) -> np.ndarray:
    """Draw so many texts per new label."""
    rng, by_label = np.random.default_rng(0), sp.csc_array(y)
    rows = [by_label.indices[by_label.indptr[j] : by_label.indptr[j + 1]] for j in new]
    return np.unique([rng.permutation(of_label)[:n_examples] for of_label in rows]).astype(int)


def measure(clf: Any, data: Data, new: np.ndarray, is_new_text: np.ndarray) -> list[float]:
    """Measure P@5, PSP@5 and found new labels on texts that have some, and P@5 on the others."""
    top = clf.predict_topk(data.X_test, k=5)
    best, others = (
        TopK(top.labels[rows].astype(int), top.scores[rows]) for rows in (is_new_text, ~is_new_text)
    )
    y, y_others = data.y_test[is_new_text], data.y_test[~is_new_text]
    given = {"k": 5, "classes": np.arange(y.shape[1])}
    is_true = np.take_along_axis(y.toarray(), best.labels, axis=1) > 0
    return [
        precision_at_k(y, best, **given),
        psp_at_k(y, best, **given, propensities=label_propensities(data.y_train)),
        (is_true & np.isin(best.labels, new)).sum() / y[:, new].sum(),
        precision_at_k(y_others, others, **given),
    ]


if __name__ == "__main__":
    main()
