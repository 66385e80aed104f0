"""Time predict_topk of language, words and both on ICD-10-CM, and measure their pickles.

python examples/benchmarks/ensemble.py [--rounds 3] [--texts 3000]

The language model trains on few texts, because its speed depends only on the number of labels. The
linear model trains on all texts. Times are medians of rounds in which the models take turns.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import joblib
import numpy as np
import torch
from _common import MINILM, describe_machine, seconds
from sklearn.frozen import FrozenEstimator

from skxmc import LightXMLClassifier, LightXMLEnsemble, OmikujiClassifier
from skxmc._model.device import resolve_precision
from skxmc.datasets import load_icd10cm


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", default=MINILM)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--single", type=int, default=200, help="texts to predict one at a time")
    parser.add_argument("--texts", type=int, default=3000, help="texts to train language on")
    parser.add_argument("--chapters", type=int, nargs="+", help="of ICD-10-CM (default: all)")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    cpu = torch.device("cpu")
    data = load_icd10cm(chapters=arguments.chapters)
    X, y = data.X_train, data.y_train
    few = slice(arguments.texts)
    language = LightXMLClassifier(arguments.encoder, max_epochs=1, random_state=0, device="cpu")
    members = {"words": OmikujiClassifier().fit(X, y), "language": language.fit(X[few], y[few])}
    frozen = [(name, FrozenEstimator(member)) for name, member in members.items()]
    learned = LightXMLEnsemble(frozen, fusion="learned", random_state=0)
    models = {
        **members,
        "both, mean": LightXMLEnsemble.from_fitted(list(members.items())),
        "both, learned": learned.fit(X, y, validation_data=(X[-2000:], y[-2000:])),
    }
    print(describe_machine(cpu, resolve_precision("auto", cpu)))
    print(f"{y.shape[1]:,} labels, {len(data.X_test):,} texts to predict")
    together = {name: [] for name in models}
    alone = {name: [] for name in models}
    for _ in range(arguments.rounds):
        for name, model in models.items():
            model.predict_topk(data.X_test[:64])  # converts weights at the first call
            taken = seconds(partial(model.predict_topk, data.X_test), cpu)
            together[name].append(taken / len(data.X_test))
            alone[name] += [
                seconds(partial(model.predict_topk, [text]), cpu)
                for text in data.X_test[: arguments.single]
            ]
    print("| | ms per text, all at once | one text at a time, median | MB |\n|---|---|---|---|")
    for name, model in models.items():
        with tempfile.TemporaryDirectory() as folder:
            (path,) = joblib.dump(model, Path(folder) / "model.joblib")
            size = Path(path).stat().st_size / 1e6
        times = [f"{1000 * np.median(part[name]):.2f}" for part in (together, alone)]
        print(f"| {name} | {' | '.join(times)} | {size:.0f} |")


if __name__ == "__main__":
    main()
