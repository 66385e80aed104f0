"""Compare words and trees of the linear model on one data set, with one thread.

    python examples/benchmarks/linear.py DATA_DIR --hold-out 2000 --texts 6000 \
        --rows '{}' '{"ngram_range": [1, 2]}' '{"cluster_k": 100, "cluster_balanced": false}'

A row is a JSON object. Its names are parameters of `OmikujiClassifier`, `TfidfVectorizer`, or
omikuji itself. Seconds and milliseconds are of the processor, so other work matters less.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import joblib
import numpy as np
from _measure import add_data_arguments, load
from sklearn.feature_extraction.text import TfidfVectorizer

from skxmc import OmikujiClassifier, _omikuji
from skxmc._omikuji_io import train_model
from skxmc.metrics import label_propensities, precision_at_k, psp_at_k

N_ALONE = 50  # texts that are predicted one at a time


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_arguments(parser)
    parser.add_argument("--rows", type=json.loads, nargs="+", default=[{}])
    arguments = parser.parse_args()
    data = load(arguments)
    propensities = label_propensities(data.y_train)
    print("| what | P@1/3/5, PSP@5 | s of fit | ms per text, all at once | alone | MB |")
    print("|---|---|---|---|---|---|")
    for given in arguments.rows:
        clf, native = make_linear(given)
        with patch.object(_omikuji, "train_model", partial(train_with, native)):
            seconds = processor_seconds(clf.fit, data.X_train, data.y_train)
        at_once = processor_seconds(clf.predict_topk, data.X_test) / len(data.X_test)
        alone = [processor_seconds(clf.predict_topk, [text]) for text in data.X_test[:N_ALONE]]
        top = clf.predict_topk(data.X_test)
        figures = [precision_at_k(data.y_test, top, k=k) for k in (1, 3, 5)]
        psp = psp_at_k(data.y_test, top, k=5, propensities=propensities)
        with tempfile.TemporaryDirectory() as folder:
            (path,) = joblib.dump(clf, Path(folder) / "model.joblib")
            megabytes = Path(path).stat().st_size / 1e6
        print(
            f"| {given} | {' / '.join(f'{100 * x:.1f}' for x in figures)}, {100 * psp:.1f} "
            f"| {seconds:.0f} | {1000 * at_once:.2f} | {1000 * np.median(alone):.1f} "
            f"| {megabytes:.0f} |",
            flush=True,
        )


def make_linear(given: dict[str, Any]) -> tuple[OmikujiClassifier, dict[str, Any]]:
    """Make a classifier of the given parameters, and return those of omikuji itself."""
    clf = OmikujiClassifier(vectorizer=TfidfVectorizer(dtype=np.float32))
    params = {
        name: tuple(value) if name == "ngram_range" else value for name, value in given.items()
    }
    ours = {name: params.pop(name) for name in list(params) if name in clf.get_params(deep=False)}
    of_words = set(params) & set(clf.vectorizer.get_params())
    clf.vectorizer.set_params(**{name: params.pop(name) for name in of_words})
    return clf.set_params(**ours), params


def train_with(
    native: dict[str, Any], features: Any, labels: Any, settings: Any, *rest: Any
) -> Any:
    """Train a model after changing settings of omikuji that `OmikujiClassifier` does not have."""
    for name, value in native.items():
        setattr(settings, name, value)
    return train_model(features, labels, settings, *rest)


def processor_seconds(call: Any, *args: Any) -> float:
    started = time.process_time()
    call(*args)
    return time.process_time() - started


if __name__ == "__main__":
    main()
