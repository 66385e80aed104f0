"""``skxmc evaluate``: measures a model on a table, or on the test part of a data folder."""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import gen_batches

from skxmc._base import TextRankerMixin
from skxmc._cli.data import is_table, load_data
from skxmc._cli.model import choose_k, load_model
from skxmc._cli.report import count_texts, print_json, print_lines
from skxmc._input.validation import Labels, align_labels, check_labels, find_columns
from skxmc._topk import TopK
from skxmc._utils.quoting import quoted
from skxmc._utils.warnings import warn_user
from skxmc.metrics import label_propensities, ndcg_at_k, precision_at_k, psp_at_k, recall_at_k

RANKS = (1, 3, 5)
# Number of texts of the first call, and per update of the progress bar.
WARM_UP, PROGRESS_BLOCK = 64, 4096


def run(args: argparse.Namespace) -> None:
    """Load model and data, match their labels, predict and measure."""
    clf = load_model(args)
    k = choose_k(args.k, clf.n_labels_)
    data = load_data(args)
    has_training = data.X_test is not None or not is_table(args.data)
    if not has_training:
        data.update(X_test=data.X_train, y_test=data.y_train)
        data.n_unknown_test = np.zeros(len(data.X_test), dtype=np.int64)
    if not data.X_test:
        raise ValueError(
            f"{args.data} has no test part, or no text in it. Add the files of the test part, or "
            "give a data folder that has them."
        )
    # Label names of data are str. Names that spell the numbers of a model match these.
    known = np.array([str(label) for label in clf.classes_.tolist()], dtype=object)
    is_known = find_columns(data.label_names, known, "label_names") >= 0
    if not is_known.any():
        raise ValueError(
            f"{args.data} and the model have no label in common. The first label of the data is "
            f"{quoted(data.label_names[0])}, that of the model is {quoted(clf.classes_[0])}. "
            "Evaluate on the data set that the model was trained on, or on one with the same label "
            "names."
        )
    true = align_labels(Labels(data.y_test, data.label_names, data.n_unknown_test), known)
    true = true._replace(classes=clf.classes_)
    used = np.bincount(data.y_test.indices, minlength=len(data.label_names)) > 0
    n_missed = int(true.n_unknown.sum())
    report = {
        "texts": len(data.X_test),
        "labels_of_the_model": clf.n_labels_,
        "labels_in_the_test_part": int(used.sum()),
        "labels_unknown_to_the_model": int((used & ~is_known).sum()),
        "true_labels": true.matrix.nnz + n_missed,
        "true_labels_unknown_to_the_model": n_missed,
    }
    if n_missed:
        warn_user(
            f"{n_missed:,} of {report['true_labels']:,} true labels are unknown to the model and "
            "count as missed.",
        )
    propensities = None
    if has_training:  # all rows of a table do not say how frequent labels are in training
        train = check_labels(data.y_train, name="y_train", label_names=data.label_names)
        a, b = args.propensity
        propensities = label_propensities(align_labels(train, known).matrix, a=a, b=b)
    top, milliseconds = predict_timed(clf, data.X_test, max(k, min(clf.n_labels_, max(RANKS))))
    report |= measure(true, top, k, clf.classes_, propensities)
    report["ms_per_text"] = milliseconds
    (print_json if args.json else print_lines)(report)


def predict_timed(clf: TextRankerMixin, texts: list[str], k: int) -> tuple[TopK, float]:
    """Predict, and measure the milliseconds per text, including tokenization."""
    clf.predict_topk(texts[:WARM_UP], k)  # the first call converts weights
    tops = []
    started = time.perf_counter()
    with count_texts(len(texts)) as counter:
        for chunk in gen_batches(len(texts), PROGRESS_BLOCK):
            tops.append(clf.predict_topk(texts[chunk], k))
            counter.update(len(texts[chunk]))
    milliseconds = 1000 * (time.perf_counter() - started) / len(texts)
    return TopK(*map(np.concatenate, zip(*tops, strict=True))), milliseconds


def measure(
    true: Labels,
    top: TopK,
    k: int,
    classes: ArrayLike | None,
    propensities: NDArray[np.float64] | None,
) -> dict[str, float]:
    """Compute all metrics: at k, and at those of 1, 3 and 5 that `top` has labels for.

    Without `propensities`, there is no PSP.
    """
    ranks = [rank for rank in RANKS if rank <= top.labels.shape[1]]
    measured = {f"P@{r}": precision_at_k(true, top, k=r, classes=classes) for r in ranks}
    if propensities is not None:
        for r in ranks:
            psp = psp_at_k(true, top, k=r, classes=classes, propensities=propensities)
            measured[f"PSP@{r}"] = psp
    measured[f"R@{k}"] = recall_at_k(true, top, k=k, classes=classes)
    measured[f"nDCG@{k}"] = ndcg_at_k(true, top, k=k, classes=classes)
    return measured
