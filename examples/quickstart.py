"""Train LightXML on ICD-10-CM: plain phrases in, diagnosis codes out.

The US classification of diagnoses (extra [demo]) has some 14,000 codes and groups of codes. The
model reads descriptions and synonyms of codes, and predicts the codes of synonyms that it has not
seen. By default it trains on a part of the texts, which takes about five minutes on two cores
without AVX512. With ``--full`` it trains on all of them.

    pip install -e ".[demo]" && python examples/quickstart.py
"""

import argparse
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc.datasets import load_icd10cm
from skxmc.metrics import label_propensities, precision_at_k, psp_at_k

N_TEXTS = 10_000  # without --full
PHRASES = [
    "heart attack",
    "broken wrist after a fall",
    "high blood pressure",
    "stomach flu",
    "panic attacks in crowded places",
    "kidney stones",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="train on all texts instead of a part")
    arguments = parser.parse_args()
    data = load_icd10cm()
    n_texts = len(data.X_train) if arguments.full else N_TEXTS
    rows = np.random.default_rng(0).permutation(len(data.X_train))[:n_texts]
    X_train, y_train = [data.X_train[row] for row in rows], data.y_train[rows]
    print(
        f"{n_texts:,} of {len(data.X_train):,} training texts, {len(data.X_test):,} test synonyms, "
        f"{len(data.label_names):,} labels; for example {data.X_test[0]!r}"
    )
    clf = LightXMLClassifier(
        "sentence-transformers/all-MiniLM-L6-v2",
        max_length=32,
        dropout=0.3,
        encoder_dropout=0.0,
        clusterer=BalancedLabelClusterer(max_cluster_size=16),
        max_epochs=2,
        batch_size=128,
        learning_rate=3e-4,
        head_learning_rate=4e-3,
        random_state=0,
        verbose=1,
    )
    started = time.perf_counter()
    clf.fit(X_train, y_train, label_names=data.label_names)
    print(f"training: {time.perf_counter() - started:.0f} s")

    started = time.perf_counter()
    top = clf.predict_topk(data.X_test, k=5)
    milliseconds = 1000 * (time.perf_counter() - started) / len(data.X_test)
    at = {k: precision_at_k(data.y_test, top, k=k, classes=clf.classes_) for k in (1, 3, 5)}
    print("test P@1/3/5: " + " / ".join(f"{100 * p:.1f}" for p in at.values()))
    propensities = label_propensities(y_train)
    psp = psp_at_k(data.y_test, top, propensities=propensities, classes=clf.classes_)
    print(f"test PSP@5: {100 * psp:.1f}")
    print(f"prediction: {milliseconds:.2f} ms per text in batches of {clf.prediction_batch_size}")

    names = dict(zip(data.label_names, data.label_texts, strict=True))
    for phrase, codes, scores in zip(PHRASES, *clf.predict_topk(PHRASES, k=5), strict=True):
        print(f"\n{phrase}")
        for code, score in zip(codes, scores, strict=True):
            print(f"  {score:.3f}  {code:8} {names[code]}")

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "icd10cm.joblib"
        joblib.dump(clf, path)
        reloaded = joblib.load(path)
        assert np.array_equal(
            reloaded.predict_topk(PHRASES).labels, clf.predict_topk(PHRASES).labels
        )
        print(f"\nsaved ({path.stat().st_size / 1e6:.0f} MB), reloaded: the same predictions")


if __name__ == "__main__":
    main()
