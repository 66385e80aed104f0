"""Measure P@k and PSP@k of words, language, neighbors and their ensembles on one data set.

    python examples/benchmarks/accuracy.py DATA_DIR --set max_epochs=1
    python examples/benchmarks/accuracy.py icd10cm --max-cluster-size 16 --no-words

DATA_DIR is a folder that `skxmc.datasets.load_xmc` reads. To choose parameters, use `--hold-out N`.
It measures on N training texts instead of the test part, and leaves similar texts out of training.
The row "words" is trained on all training texts. With words, the other members and all ensembles
train without the texts that a `LightXMLEnsemble` holds out to learn the fusion. The neighbors use
the encoder of the language member, or with `--no-language` the encoder as it comes. Minutes of an
ensemble are those of all members. Times are those of the processor, on a GPU those of the clock. MB
is the size of the saved model, and neighbors contain the model of their encoder. `--predict` adds a
row of the language member with other parameters of prediction, such as '{"long_text": "windows"}'.
"""

import argparse
import copy
import json
from typing import Any

import numpy as np
from _measure import HEADER, add_arguments, load, make_classifier, row, seconds
from sklearn.frozen import FrozenEstimator

from skxmc import (
    LightXMLEnsemble,
    NeighborsClassifier,
    OmikujiClassifier,
    PropensityRanker,
    TextEncoder,
    paper_params,
)
from skxmc._meta.held_out import auto_validation_fraction

# Parameters that the paper chooses per data set.
OF_DATA_SET = ("max_epochs", "max_length", "swa_start", "swa_every", "clusterer")
# Ensembles of two members, besides that of all.
PAIRS = [("language", "words"), ("language", "neighbors")]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--label-texts", action="store_true", help="train on texts of labels too")
    parser.add_argument("--no-words", action="store_true", help="leave out the linear model")
    parser.add_argument("--no-language", action="store_true", help="leave out LightXML")
    parser.add_argument("--no-neighbors", action="store_true", help="leave out the neighbors")
    parser.add_argument("--paper", action="store_true", help="train LightXML by the paper's recipe")
    parser.add_argument("--predict", type=json.loads, nargs="+", default=[], metavar="JSON")
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
        started = seconds()
        model.fit(X, y, **fit_params)
        return (seconds() - started) / 60

    recipe = paper_params("eurlex-4k") if arguments.paper else {}
    recipe = {name: value for name, value in recipe.items() if name not in OF_DATA_SET}
    language = make_classifier(arguments, **recipe)
    encoder: Any = FrozenEstimator(language)
    if arguments.no_language:
        encoder = TextEncoder(arguments.encoder, max_length=language.max_length)
    members: dict[str, Any] = {
        "language": language,
        "neighbors": NeighborsClassifier(encoder),
        "words": OmikujiClassifier(n_jobs=-1),
    }
    members = {name: members[name] for name in members if not getattr(arguments, f"no_{name}")}
    print(language.__repr__(N_CHAR_MAX=10_000))
    print(HEADER)
    X, y = data.X_train, data.y_train
    if "words" in members:
        minutes = fit(members["words"], X, y, label_texts=label_texts)
        print(row("words", members["words"], data, minutes), flush=True)
    fusions = ["mean"]
    held_out: dict[str, Any] = {}
    if len(members) > 1 and "words" in members:
        fusions.append("learned")
        order = np.random.default_rng(1).permutation(len(X))
        kept_out, rest = np.split(order, [round(auto_validation_fraction(len(X)) * len(X))])
        held_out["validation_data"] = [X[i] for i in kept_out], y[kept_out]
        X, y = [X[i] for i in rest], y[rest]
    total = 0.0
    for name, model in members.items():
        if name != "words" or held_out:
            total += fit(model, X, y, label_texts=label_texts)
        if name != "words":
            print(row(name, model, data, total), flush=True)
        for params in arguments.predict if name == "language" else []:
            other = copy.copy(model).set_params(**params)
            print(row(f"language, {params}", other, data, total), flush=True)
    for names in [pair for pair in PAIRS if members.keys() > set(pair)] + [tuple(members)]:
        for fusion in fusions if len(names) > 1 else []:
            frozen = [(name, FrozenEstimator(members[name])) for name in names]
            model = LightXMLEnsemble(frozen, fusion=fusion, random_state=0)
            minutes = total + fit(model, X, y, **held_out if fusion == "learned" else {})
            print(row(f"{' + '.join(names)}, {fusion}", model, data, minutes), flush=True)
    for exponent in arguments.exponents or []:
        ranker = PropensityRanker(FrozenEstimator(model), exponent=exponent)
        ranker.fit(data.X_train, data.y_train)
        print(row(f"the last, exponent {exponent}", ranker, data, total), flush=True)


if __name__ == "__main__":
    main()
