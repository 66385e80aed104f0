"""Learn a code book: plain phrases in, diagnosis codes out.

ICD-10-CM, the US classification of diagnoses, describes each of its codes, and names synonyms. The
classifier learns descriptions and half of the synonyms, and finds the codes of the other half. It
combines LightXML, the nearest texts and a linear model on words. By default LightXML trains its
heads only, leaves out codes with a single text, and is done in about three minutes on two cores
without AVX512. With ``--full`` it reads all 53,165 texts and trains the encoder too, in about an
hour of processor time.

    pip install -e ".[demo]" && python examples/quickstart.py
"""

import argparse
import time

import numpy as np

import skxmc
from skxmc.datasets import load_icd10cm
from skxmc.metrics import precision_at_k

# The encoder reads each text once, for LightXML and neighbors together. Without a bottleneck,
# neighbors compare what the encoder makes of the texts, which knows everyday words best.
QUICK = {
    "freeze_encoder": True,
    "n_feature_layers": 1,
    "bottleneck_dim": None,
    "max_epochs": 3,
    "batch_size": 128,
    "head_learning_rate": 4e-3,
}
PHRASES = [
    "panic attacks in crowded places",
    "kidney stones",
    "drinking too much alcohol",
    "torn knee ligament",
    "sugar disease in pregnancy",
    "cannot sleep at night",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", action="store_true", help="train the encoder, on all texts")
    parser.add_argument("--model", default="icd10cm-model", help="folder to write")
    arguments = parser.parse_args()
    started = time.perf_counter()
    data = load_icd10cm()
    rows = np.arange(len(data.X_train))
    if not arguments.full:
        rows = np.flatnonzero(np.isin(data.codes_train, data.label_names))
    X_train, y_train = [data.X_train[row] for row in rows], data.y_train[rows]
    print(
        f"Learning {len(X_train):,} of {len(data.X_train):,} texts with {len(data.label_names):,} "
        f"labels (codes and groups of codes)."
    )
    params = {} if arguments.full else QUICK
    clf = skxmc.make_classifier(random_state=0, n_jobs=-1, verbose=1, **params)
    clf.set_params(fusion="mean").fit(X_train, y_train, label_names=data.label_names)
    print(f"Trained after {time.perf_counter() - started:.0f} s.\n")

    members = clf.named_estimators_
    members["language"].set_params(verbose=0)
    print(
        f"P@1 / P@3 / P@5 (share of the best 1, 3, 5 labels that are right, in %) on "
        f"{len(data.X_test):,} synonyms\nthat are not among the texts, such as {data.X_test[0]!r}:"
    )
    for name, model in [("linear model on words", members["words"]), ("all together", clf)]:
        top = model.predict_topk(data.X_test, k=5)
        at = [precision_at_k(data.y_test, top, k=k, classes=model.classes_) for k in (1, 3, 5)]
        print(f"  {name:22}", " / ".join(f"{100 * value:.1f}" for value in at))

    print("\nThe best codes of plain phrases, without groups of codes:")
    names = dict(zip(data.label_names, data.label_texts, strict=True))
    for phrase, labels, scores in zip(PHRASES, *clf.predict_topk(PHRASES, k=15), strict=True):
        print(f"\n{phrase}")
        best = [i for i, label in enumerate(labels) if is_code(label)][:3]
        for i in best:
            print(f"  {scores[i]:.2f}  {labels[i]:8} {names[labels[i]]}")

    clf.save_pretrained(arguments.model)
    loaded = skxmc.from_pretrained(arguments.model)
    assert np.array_equal(loaded.predict_topk(PHRASES).labels, clf.predict_topk(PHRASES).labels)
    print(
        f"\nSaved in {arguments.model} after {time.perf_counter() - started:.0f} s. Try your own:\n"
        f"  echo 'stung by a wasp' | skxmc predict {arguments.model}"
    )


def is_code(label: str) -> bool:
    """Tell codes, such as J30.1, from chapters ("10") and blocks ("J30-J39")."""
    return label[0].isalpha() and "-" not in label


if __name__ == "__main__":
    main()
