"""Helpers for benchmarks of accuracy: data, the classifier, and a row of results."""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.feature_extraction.text import TfidfVectorizer

from skxmc import BalancedLabelClusterer, LightXMLClassifier, save_pretrained
from skxmc.datasets import load_icd10cm, load_xmc
from skxmc.metrics import label_propensities, precision_at_k, psp_at_k

# A text is left out of training if its TF-IDF cosine to a held-out text is at least
# MIN_ALIKE_COSINE, or if both have the same labels, at least MIN_ALIKE_LABELS.
MIN_ALIKE_COSINE, MIN_ALIKE_LABELS = 0.6, 4
# Groups of labels by their number of training texts.
FREQUENCIES = {"<= 5": (0, 5), "6-50": (6, 50), "> 50": (51, np.inf)}
# On a CPU, other work on the machine hardly changes the processor time.
seconds = time.perf_counter if torch.cuda.is_available() else time.process_time
HEADER = (
    "| what | P@1/3/5 | PSP@1/3/5 | "
    + " | ".join(f"labels of {name} texts" for name in FREQUENCIES)
    + " | minutes of training | ms per text | MB |\n|"
    + "---|" * (6 + len(FREQUENCIES))
)


class Data(NamedTuple):
    """Texts and labels for training and for measuring."""

    X_train: list[str]
    y_train: sp.csr_array
    X_test: list[str]
    y_test: sp.csr_array
    label_texts: list[str]


def add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the data."""
    parser.add_argument("data", help="folder of the data set, or icd10cm")
    parser.add_argument("--chapters", type=int, nargs="+", help="of ICD-10-CM (default: all)")
    parser.add_argument("--hold-out", type=int, help="measure on so many training texts")
    parser.add_argument("--texts", type=int, help="train on so many texts only")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for the data and the classifier."""
    add_data_arguments(parser)
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--max-cluster-size", type=int, help="1 is the direct mode")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="parameter of LightXMLClassifier, repeat for more",
    )


def make_classifier(arguments: argparse.Namespace, **defaults: Any) -> LightXMLClassifier:
    """Make the classifier that the arguments describe."""
    parameters = {"random_state": 0, "verbose": 1, **defaults, "encoder": arguments.encoder}
    parameters |= {name: value_of(text) for name, text in (s.split("=", 1) for s in arguments.set)}
    if arguments.max_cluster_size:
        parameters["clusterer"] = BalancedLabelClusterer(arguments.max_cluster_size)
    return LightXMLClassifier(**parameters)


def value_of(text: str) -> Any:
    """Parse a JSON value, or return the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def load(arguments: argparse.Namespace) -> Data:
    """Load the data set, and hold out or leave out the same texts every time."""
    is_icd = arguments.data == "icd10cm"
    data = load_icd10cm(chapters=arguments.chapters) if is_icd else load_xmc(arguments.data)
    X_train, y_train = list(data.X_train), sp.csr_array(data.y_train)
    X_test, y_test = list(data.X_test), sp.csr_array(data.y_test)
    order = np.random.default_rng(0).permutation(len(X_train))
    if arguments.hold_out:
        n_held_out = arguments.hold_out
        if is_icd:
            held_out, order = hold_out_synonyms(X_train, order, n_held_out)
        else:
            held_out, order = hold_out(X_train, y_train, order, n_held_out)
        X_test, y_test = [X_train[i] for i in held_out], y_train[held_out]
    if arguments.hold_out or arguments.texts:
        order = order[: arguments.texts]
        X_train, y_train = [X_train[i] for i in order], y_train[order]
    print(
        f"{Path(arguments.data).name}: {len(X_train):,} texts, {y_train.shape[1]:,} labels, "
        f"{len(X_test):,} to test"
    )
    # Names in some sets end in the key of the label, such as "art handicraft <p1000>".
    label_texts = data.label_texts if is_icd else data.label_names
    label_texts = [re.sub(r" <\S+>$", "", text) for text in label_texts]
    return Data(X_train, y_train, X_test, y_test, label_texts)


def hold_out_synonyms(
    X: list[str], order: np.ndarray, n_held_out: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows of ICD-10-CM into a held-out set and the rest, both in `order`.

    As in its test part, held-out texts are synonyms, and descriptions of codes stay in training.
    """
    import simple_icd_10_cm as icd

    described = {icd.get_description(code) for code in icd.get_all_codes(with_dots=True)}
    is_held_out = np.zeros(len(X), bool)
    is_held_out[[i for i in order if X[i] not in described][:n_held_out]] = True
    return order[is_held_out[order]], order[~is_held_out[order]]


def hold_out(
    X: list[str], y: sp.csr_array, order: np.ndarray, n_held_out: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split rows into a held-out set and the rest, both in `order`.

    Texts similar to held-out ones are in neither part. The test parts of the other data sets were
    made in this way.
    """
    held_out, rest = order[:n_held_out], order[n_held_out:]
    words = TfidfVectorizer(ngram_range=(1, 2), max_df=0.1, dtype=np.float32).fit_transform(X)
    label_sets = [y.indices[a:b].tobytes() for a, b in zip(y.indptr, y.indptr[1:], strict=False)]
    seen = {label_sets[i] for i in held_out if np.diff(y.indptr)[i] >= MIN_ALIKE_LABELS}
    chunks = np.array_split(rest, -(-len(rest) // 1000))
    cosines = [(words[chunk] @ words[held_out].T).max(axis=1).toarray().ravel() for chunk in chunks]
    alike = np.concatenate(cosines) >= MIN_ALIKE_COSINE
    alike |= np.array([label_sets[i] in seen for i in rest])
    return held_out, rest[~alike]


def row(what: str, model: Any, data: Data, minutes: float) -> str:
    """Make a row of the table: P@k, PSP@k, found mentions by label frequency, times and size.

    A mention is a label of a test text. It is found if it is among the best 5.
    """
    started = seconds()
    top = model.predict_topk(data.X_test, k=5)
    milliseconds = 1000 * (seconds() - started) / len(data.X_test)
    p = [precision_at_k(data.y_test, top, k=k) for k in (1, 3, 5)]
    propensities = label_propensities(data.y_train)
    psp = [psp_at_k(data.y_test, top, k=k, propensities=propensities) for k in (1, 3, 5)]
    cells = [" / ".join(f"{100 * x:.1f}" for x in figures) for figures in (p, psp)]

    n_texts = data.y_train.sum(axis=0)
    rows = np.repeat(np.arange(len(top.labels)), 5)
    predicted = sp.csr_array((np.ones(rows.size), (rows, top.labels.ravel())), data.y_test.shape)
    found = predicted.multiply(data.y_test).sum(axis=0)
    mentions = data.y_test.sum(axis=0)
    for least, most in FREQUENCIES.values():
        part = (n_texts >= least) & (n_texts <= most)
        cells.append(f"{100 * found[part].sum() / max(1, mentions[part].sum()):.1f} %")
    cells += [f"{minutes:.1f}", f"{milliseconds:.2f}", f"{megabytes(model):.0f}"]
    return f"| {what} | {' | '.join(cells)} |"


def megabytes(model: Any) -> float:
    """Measure the size of the saved model."""
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder)
        return sum(path.stat().st_size for path in Path(folder).rglob("*")) / 1e6
