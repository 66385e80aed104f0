"""P@k and PSP@k of LightXML, of a linear model on words, and of both together, on one data set.

    python examples/benchmarks/accuracy.py DATA_DIR --set max_epochs=1
    python examples/benchmarks/accuracy.py icd10cm --max-cluster-size 16 --no-words

DATA_DIR is a folder that `skxmc.datasets.load_xmc` reads. With `--hold-out N`, N training texts
are measured on instead of the test part, which is what parameters are chosen by.
"""

import argparse
import time

from _measure import HEADER, add_arguments, load, make_classifier, row
from sklearn.frozen import FrozenEstimator

from skxmc import LightXMLEnsemble, OmikujiClassifier, PropensityRanker, paper_params

# Of the paper's recipe, what belongs to a data set and not to the recipe.
OF_DATA_SET = ("max_epochs", "max_length", "swa_start", "swa_every", "clusterer")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--label-texts", action="store_true", help="label names are texts, too")
    parser.add_argument("--no-words", action="store_true", help="without the linear model")
    parser.add_argument("--no-language", action="store_true", help="without LightXML")
    parser.add_argument("--paper", action="store_true", help="LightXML by the paper's recipe")
    parser.add_argument("--exponents", type=float, nargs="+", help="of PropensityRanker, too")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    data = load(arguments)
    label_texts = data.label_names if arguments.label_texts else None
    members = {}
    if not arguments.no_words:
        members["words"] = OmikujiClassifier(n_jobs=-1)
    if not arguments.no_language:
        recipe = paper_params("eurlex-4k") if arguments.paper else {}
        recipe = {name: value for name, value in recipe.items() if name not in OF_DATA_SET}
        members["language"] = make_classifier(arguments, **recipe)
        print(members["language"].__repr__(N_CHAR_MAX=10_000))
    print(HEADER)
    total = 0.0
    for what, model in members.items():
        started = time.perf_counter()
        model.fit(data.X_train, data.y_train, label_texts=label_texts)
        minutes = (time.perf_counter() - started) / 60
        total += minutes
        print(row(what, model, data, minutes), flush=True)
    if len(members) == 2:
        model = LightXMLEnsemble.from_fitted([(n, members[n]) for n in ("language", "words")])
        print(row("both", model, data, total), flush=True)
    for exponent in arguments.exponents or []:
        ranker = PropensityRanker(FrozenEstimator(model), exponent=exponent)
        ranker.fit(data.X_train, data.y_train)
        print(row(f"the last, exponent {exponent}", ranker, data, total), flush=True)


if __name__ == "__main__":
    main()
