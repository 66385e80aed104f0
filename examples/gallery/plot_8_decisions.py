"""
From scores to decisions
========================

A classifier ranks labels. Which of them should be assigned? This example adds a new label, leaves
labels out, makes scores probabilities, and tunes thresholds.
"""

# %%
# A classifier from before COVID-19
# ---------------------------------
# The code J12.82 came in 2021. The classifier sees none of its texts. A quarter of the other texts
# is kept from it too, for the last two steps. Only the heads are trained, which takes seconds.

from sklearn.model_selection import train_test_split

from skxmc import LightXMLClassifier
from skxmc.datasets import load_icd10cm

data = load_icd10cm(chapters=[10])
codes = [data.label_names[row.indices].tolist() for row in data.y_train]
known = [i for i, of_text in enumerate(codes) if "J12.82" not in of_text]
X, X_held_out, y, y_held_out = train_test_split(
    [data.X_train[i] for i in known],
    [codes[i] for i in known],
    test_size=0.25,
    random_state=0,
)
clf = LightXMLClassifier(
    "sentence-transformers/all-MiniLM-L6-v2",
    max_length=32,
    freeze_encoder=True,
    max_epochs=8,
    random_state=0,
)
clf.fit(X, y)

# %%
# A new label
# -----------
# `add_labels` needs no training, only a text about the code or a few examples.

clf.add_labels(["J12.82"], label_texts=["Pneumonia due to coronavirus disease 2019"])
text = "Pneumonia due to COVID-19"
clf.predict_topk([text], k=5).to_frame()

# %%
# Labels that must not be predicted
# ---------------------------------
# A coder has assigned the chapter and a group. The best five of the others come in their place.

clf.predict_topk([text], k=5, exclude=["10", "J09-J18"]).to_frame()

# %%
# Probabilities
# -------------
# The scores of a linear model are too low. `CalibratedClassifier` learns from texts that the model
# has not seen what its scores mean. Frozen, the model is not trained again.

from sklearn.frozen import FrozenEstimator

from skxmc import CalibratedClassifier, OmikujiClassifier
from skxmc.plotting import ReliabilityDisplay

words = OmikujiClassifier().fit(X, y)
calibrated = CalibratedClassifier(FrozenEstimator(words)).fit(X_held_out, y_held_out)
y_test = [data.label_names[row.indices].tolist() for row in data.y_test]
display = ReliabilityDisplay.from_estimator(words, data.X_test, y_test, name="scores")
ReliabilityDisplay.from_estimator(
    calibrated, data.X_test, y_test, name="probabilities", ax=display.ax_
)

# %%
# Thresholds
# ----------
# `predict` returns the labels whose score is at least `threshold`. `TunedThresholdClassifier` finds
# the best threshold for a target, one per label, or the best number of labels per text.

from sklearn.metrics import precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer

from skxmc import TunedThresholdClassifier

y_true = MultiLabelBinarizer(classes=clf.classes_).fit_transform(y_test)


def report(name, model):
    predicted = model.predict(data.X_test)
    precision, recall, f1, _ = precision_recall_fscore_support(
        y_true, predicted, average="micro", zero_division=0
    )
    print(f"{name:20} P {precision:.2f}  R {recall:.2f}  F1 {f1:.2f}")


report("default threshold", clf)
for rule in ("threshold", "threshold_per_label", "n_labels"):
    tuned = TunedThresholdClassifier(FrozenEstimator(clf), rule=rule)
    report(rule, tuned.fit(X_held_out, y_held_out))

# %%
# If wrong labels are costly, ask for a precision. It holds for texts like the held-out ones.

careful = TunedThresholdClassifier(FrozenEstimator(clf), scoring="precision", min_precision=0.95)
report("precision of 0.95", careful.fit(X_held_out, y_held_out))
