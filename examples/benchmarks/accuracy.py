"""P@k and PSP@k of LightXML, of a linear model on words, and of both together, on one data set.

    python examples/benchmarks/accuracy.py DATA_DIR --set max_epochs=1
    python examples/benchmarks/accuracy.py icd10cm --max-cluster-size 16 --no-words

DATA_DIR is a folder that `skxmc.datasets.load_xmc` reads. With `--hold-out N`, N training texts
are measured on instead of the test part, which is what parameters are chosen by.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp

from skxmc import (
    BalancedLabelClusterer,
    LightXMLClassifier,
    LightXMLEnsemble,
    OmikujiClassifier,
    paper_params,
)
from skxmc.datasets import load_icd10cm, load_xmc
from skxmc.metrics import label_propensities, precision_at_k, psp_at_k

# Labels by their number of training texts.
FREQUENCIES = {"<= 5": (0, 5), "6-50": (6, 50), "> 50": (51, np.inf)}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", help="folder of the data set, or icd10cm")
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--max-cluster-size", type=int, help="1 is the direct mode")
    parser.add_argument("--label-texts", action="store_true", help="label names are texts, too")
    parser.add_argument("--no-words", action="store_true", help="without the linear model")
    parser.add_argument("--no-language", action="store_true", help="without LightXML")
    parser.add_argument("--paper", action="store_true", help="the recipe of the paper")
    parser.add_argument("--weights", type=float, nargs=2, help="of LightXML and the linear model")
    parser.add_argument("--hold-out", type=int, help="measure on so many training texts")
    parser.add_argument("--texts", type=int, help="train on so many texts only")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of LightXMLClassifier; repeat for more",
    )
    return parser.parse_args()


def value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def make_classifier(arguments: argparse.Namespace) -> LightXMLClassifier:
    parameters = {"random_state": 0, "verbose": 1}
    if arguments.paper:
        of_paper = paper_params("eurlex-4k")
        for name in ("max_epochs", "max_length", "swa_start", "swa_every", "clusterer"):
            del of_paper[name]  # these belong to the data set
        parameters |= of_paper
    parameters["encoder"] = arguments.encoder
    parameters |= {name: value_of(text) for name, text in (s.split("=", 1) for s in arguments.set)}
    if arguments.max_cluster_size:
        parameters["clusterer"] = BalancedLabelClusterer(arguments.max_cluster_size)
    return LightXMLClassifier(**parameters)


def load(arguments: argparse.Namespace) -> tuple[list[str], Any, list[str], Any, Any]:
    data = load_icd10cm() if arguments.data == "icd10cm" else load_xmc(arguments.data)
    X_train, y_train = list(data.X_train), sp.csr_array(data.y_train)
    X_test, y_test = list(data.X_test), sp.csr_array(data.y_test)
    order = np.random.default_rng(0).permutation(len(X_train))
    if arguments.hold_out:
        held_out, order = order[: arguments.hold_out], order[arguments.hold_out :]
        X_test, y_test = [X_train[i] for i in held_out], y_train[held_out]
    if arguments.texts:
        order = order[: arguments.texts]
    if arguments.hold_out or arguments.texts:
        X_train, y_train = [X_train[i] for i in order], y_train[order]
    return X_train, y_train, X_test, y_test, data.label_names


def by_frequency(y_train: Any, y_test: Any, top: Any) -> str:
    """What labels of each frequency add to P@5, and the share of their mentions in the top 5."""
    n_texts = np.asarray(y_train.sum(axis=0)).ravel()
    rows = np.repeat(np.arange(len(top.labels)), top.labels.shape[1])
    shape = y_test.shape
    predicted = sp.csr_array((np.ones(rows.size), (rows, top.labels.ravel())), shape=shape)
    hits = np.asarray(predicted.multiply(y_test).sum(axis=0)).ravel()
    mentions = np.asarray(y_test.sum(axis=0)).ravel()
    cells = []
    for name, (least, most) in FREQUENCIES.items():
        part = (n_texts >= least) & (n_texts <= most)
        share = 100 * hits[part].sum() / max(1, mentions[part].sum())
        cells.append(f"{name}: {100 * hits[part].sum() / rows.size:.2f}, {share:.1f} %")
    return "; ".join(cells)


def main() -> None:
    arguments = parse()
    X_train, y_train, X_test, y_test, label_names = load(arguments)
    name = Path(arguments.data).name
    print(f"{name}: {len(X_train):,} texts, {y_train.shape[1]:,} labels, {len(X_test):,} to test")
    label_texts = label_names if arguments.label_texts else None
    members = {}
    if not arguments.no_words:
        members["words"] = OmikujiClassifier(n_jobs=-1)
    if not arguments.no_language:
        members["language"] = make_classifier(arguments)
        print(members["language"].__repr__(N_CHAR_MAX=10_000))
    propensities = label_propensities(y_train)

    def measure(what: str, model: Any, minutes: float) -> None:
        started = time.perf_counter()
        top = model.predict_topk(X_test, k=5)
        milliseconds = 1000 * (time.perf_counter() - started) / len(X_test)
        p = [100 * precision_at_k(y_test, top, k=k) for k in (1, 3, 5)]
        psp = [100 * psp_at_k(y_test, top, k=k, propensities=propensities) for k in (1, 3, 5)]
        figures = " | ".join(" / ".join(f"{x:.1f}" for x in row) for row in (p, psp))
        print(f"| {what} | {figures} | {minutes:.1f} | {milliseconds:.2f} |")
        print(
            f"  P@5 and share found by training texts of the label: "
            f"{by_frequency(y_train, y_test, top)}",
            flush=True,
        )

    print("| what | P@1/3/5 | PSP@1/3/5 | minutes of training | ms a text |")
    total = 0.0
    for what, model in members.items():
        started = time.perf_counter()
        model.fit(X_train, y_train, label_texts=label_texts)
        minutes = (time.perf_counter() - started) / 60
        total += minutes
        measure(what, model, minutes)
    if len(members) == 2:
        weights = arguments.weights
        both = LightXMLEnsemble.from_fitted(
            [(what, members[what]) for what in ("language", "words")], weights=weights
        )
        measure("both", both, total)


if __name__ == "__main__":
    main()
