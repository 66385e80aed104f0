"""Compare a linear model on words and representations with its parts, on one data set.

    python examples/benchmarks/ranker.py icd10cm --texts 8000 --hold-out 2000 --set max_epochs=2
    python examples/benchmarks/ranker.py icd10cm --texts 8000 --hold-out 2000 --unseen 2000

XR-Transformer ranks by linear models on TF-IDF and representations side by side. Here these models
are the trees of `OmikujiClassifier`, and z is the output of the bottleneck, scaled to length 1.
Language trains on all texts but those that the learned fusion holds out. With `--unseen N`, it
trains on all but N texts, and trees on these compare with trees on N texts that it has seen.
"""

import argparse
from typing import Any

import numpy as np
from _measure import HEADER, add_arguments, load, make_classifier, row, seconds
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import Normalizer

from skxmc import LightXMLEnsemble, NeighborsClassifier, OmikujiClassifier
from skxmc._meta.held_out import auto_validation_fraction


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--unseen", type=int, help="texts that language does not train on")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    data = load(arguments)
    X, y = data.X_train, data.y_train
    n_left_out = arguments.unseen or round(auto_validation_fraction(len(X)) * len(X))
    left_out, rest = np.split(np.random.default_rng(1).permutation(len(X)), [n_left_out])
    print(HEADER)

    def fit(what: str, model: Any, rows: np.ndarray, **fit_params: Any) -> Any:
        """Fit the model to these texts, print its row, and return it frozen."""
        started = seconds()
        model.fit([X[i] for i in rows], y[rows], **fit_params)
        print(row(what, model, data, (seconds() - started) / 60), flush=True)
        return FrozenEstimator(model)

    language = fit("language", make_classifier(arguments), rest)
    words = OmikujiClassifier()
    z = make_pipeline(language, Normalizer())
    ranker = OmikujiClassifier(vectorizer=FeatureUnion([("words", TfidfVectorizer()), ("z", z)]))
    if arguments.unseen:
        seen = rest[:n_left_out]
        parts = {"seen": seen, "unseen": left_out, "all seen": rest, "all": np.r_[rest, left_out]}
        for name, rows in parts.items():
            fit(f"words, {len(rows):,} texts, {name}", words, rows)
            fit(f"words and z, {len(rows):,} texts, {name}", ranker, rows)
        return
    neighbors = fit("neighbors", NeighborsClassifier(language), rest)
    both = [("language", language), ("neighbors", neighbors)]
    trees = {"words": fit("words", words, rest), "words and z": fit("words and z", ranker, rest)}
    held_out = [X[i] for i in left_out], y[left_out]
    for members in [[one] for one in trees.items()] + [list(trees.items())]:
        names = " + ".join(["language", "neighbors", *(name for name, _ in members)])
        mean = LightXMLEnsemble(both + members)
        fit(f"{names}, mean", mean, rest)
        learned = LightXMLEnsemble(both + members, fusion="learned", random_state=0)
        fit(f"{names}, learned", learned, rest, validation_data=held_out)


if __name__ == "__main__":
    main()
