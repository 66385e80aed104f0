"""Train LightXML on ICD-10-CM: plain phrases in, diagnosis codes out.

The US classification of diagnoses (extra [demo]) has some 14,000 codes and groups of codes. The
model reads their descriptions and half of their synonyms, and is asked for the other half. Done
within ten minutes on two cores without a GPU.

    pip install -e ".[demo]" && python examples/quickstart.py
"""

import tempfile
import time
from pathlib import Path

import joblib
import numpy as np

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc.datasets import load_icd10cm
from skxmc.metrics import label_propensities, precision_at_k, psp_at_k

PHRASES = [
    "heart attack",
    "broken wrist after a fall",
    "high blood pressure",
    "stomach flu",
    "panic attacks in crowded places",
    "kidney stones",
]


def main() -> None:
    data = load_icd10cm()
    print(
        f"{len(data.X_train):,} training texts, {len(data.X_test):,} test synonyms, "
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
    clf.fit(data.X_train, data.y_train, label_names=data.label_names)
    print(f"training: {time.perf_counter() - started:.0f} s")

    started = time.perf_counter()
    top = clf.predict_topk(data.X_test, k=5)
    milliseconds = 1000 * (time.perf_counter() - started) / len(data.X_test)
    at = {k: precision_at_k(data.y_test, top, k=k, classes=clf.classes_) for k in (1, 3, 5)}
    print("test P@1/3/5: " + " / ".join(f"{100 * p:.1f}" for p in at.values()))
    propensities = label_propensities(data.y_train)
    psp = psp_at_k(data.y_test, top, propensities=propensities, classes=clf.classes_)
    print(f"test PSP@5: {100 * psp:.1f}")
    print(f"prediction: {milliseconds:.2f} ms a text in batches of {clf.prediction_batch_size}")

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
