"""Measure P@k and PSP@k of LightXML, a linear model on words, and both, on one data set.

    python examples/benchmarks/accuracy.py DATA_DIR --set max_epochs=1
    python examples/benchmarks/accuracy.py icd10cm --max-cluster-size 16 --no-words

DATA_DIR is a folder that `skxmc.datasets.load_xmc` reads. To choose parameters, use `--hold-out N`.
It measures on N training texts instead of the test part, and leaves similar texts out of training.
The row "words" is trained on all training texts. The row "language" is a member of "both". Members
train without the texts that a `LightXMLEnsemble` holds out to learn the fusion.
"""

import argparse
import time
from typing import Any

import numpy as np
from _measure import HEADER, add_arguments, load, make_classifier, row
from sklearn.frozen import FrozenEstimator

from skxmc import LightXMLEnsemble, OmikujiClassifier, PropensityRanker, paper_params
from skxmc._ensemble import auto_validation_fraction

# Parameters that the paper chooses per data set.
OF_DATA_SET = ("max_epochs", "max_length", "swa_start", "swa_every", "clusterer")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--label-texts", action="store_true", help="train on texts of labels too")
    parser.add_argument("--no-words", action="store_true", help="leave out the linear model")
    parser.add_argument("--no-language", action="store_true", help="leave out LightXML")
    parser.add_argument("--paper", action="store_true", help="train LightXML by the paper's recipe")
    parser.add_argument(
        "--exponents", type=float, nargs="+", help="add a PropensityRanker for each"
    )
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    data = load(arguments)
    label_texts = data.label_texts if arguments.label_texts else None

    def fit(model: Any, X: list[str], y: Any, **fit_params: Any) -> float:
        """Fit the model and return the minutes."""
        started = time.perf_counter()
        model.fit(X, y, **fit_params)
        return (time.perf_counter() - started) / 60

    recipe = paper_params("eurlex-4k") if arguments.paper else {}
    recipe = {name: value for name, value in recipe.items() if name not in OF_DATA_SET}
    language = make_classifier(arguments, **recipe)
    print(language.__repr__(N_CHAR_MAX=10_000))
    print(HEADER)
    model: Any = language
    X, y = data.X_train, data.y_train
    if not arguments.no_words:
        model = OmikujiClassifier(n_jobs=-1)
        total = fit(model, X, y, label_texts=label_texts)
        print(row("words", model, data, total), flush=True)
    if not arguments.no_words and not arguments.no_language:
        order = np.random.default_rng(1).permutation(len(X))
        held_out, rest = np.split(order, [round(auto_validation_fraction(len(X)) * len(X))])
        valid = [X[i] for i in held_out], y[held_out]
        X, y = [X[i] for i in rest], y[rest]
    if not arguments.no_language:
        total = fit(language, X, y, label_texts=label_texts)
        print(row("language", language, data, total), flush=True)
    if not arguments.no_words and not arguments.no_language:
        words = OmikujiClassifier(n_jobs=-1)
        total += fit(words, X, y, label_texts=label_texts)
        members = [("language", FrozenEstimator(language)), ("words", FrozenEstimator(words))]
        for fusion in ("mean", "learned"):
            model = LightXMLEnsemble(members, fusion=fusion, random_state=0)
            total += fit(model, X, y, validation_data=valid)
            print(row(f"both, {fusion}", model, data, total), flush=True)
    for exponent in arguments.exponents or []:
        ranker = PropensityRanker(FrozenEstimator(model), exponent=exponent)
        ranker.fit(data.X_train, data.y_train)
        print(row(f"the last, exponent {exponent}", ranker, data, total), flush=True)


if __name__ == "__main__":
    main()
