"""
From scores to decisions
========================

A classifier ranks labels. Which of them should be assigned? This example leaves labels out, makes
scores probabilities, and tunes thresholds.
"""

# %%
# A ranking
# ---------
# `OmikujiClassifier` is a linear model on TF-IDF, which trains in seconds. A part of the training
# texts is kept from it. Frozen, it is the estimator of all that follows.

from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split

from skxmc import OmikujiClassifier
from skxmc.datasets import load_icd10cm

data = load_icd10cm(chapters=[4, 10])
X, X_held_out, y, y_held_out = train_test_split(
    data.X_train, data.y_train, test_size=0.2, random_state=0
)
clf = OmikujiClassifier().fit(X, y, label_names=data.label_names)
clf.predict_topk(data.X_test[:3], k=3).to_frame()

# %%
# Labels that must not be predicted
# ---------------------------------
# The best label of each text is excluded, as if the text had it already. There are three others.

best = clf.predict_topk(data.X_test[:3], k=1)
clf.predict_topk(data.X_test[:3], k=3, exclude=best.to_lists()).to_lists()

# %%
# Probabilities
# -------------
# `CalibratedClassifier` learns from texts that the classifier has not seen what its scores mean.

from skxmc import CalibratedClassifier
from skxmc.plotting import ReliabilityDisplay

calibrated = CalibratedClassifier(FrozenEstimator(clf)).fit(X_held_out, y_held_out)
display = ReliabilityDisplay.from_estimator(clf, data.X_test, data.y_test, name="scores")
ReliabilityDisplay.from_estimator(
    calibrated, data.X_test, data.y_test, name="probabilities", ax=display.ax_
)

# %%
# Thresholds
# ----------
# `predict` returns the labels whose score is at least `threshold`. `TunedThresholdClassifier` finds
# the best threshold for a target, one per label, or the best number of labels per text.

from sklearn.metrics import precision_recall_fscore_support

from skxmc import TunedThresholdClassifier


def report(name, model):
    predicted = model.predict(data.X_test)
    precision, recall, f1, _ = precision_recall_fscore_support(
        data.y_test, predicted, average="micro", zero_division=0
    )
    print(f"{name:20} P {precision:.2f}  R {recall:.2f}  F1 {f1:.2f}")


report("threshold of 0.5", clf.set_params(threshold=0.5))
for rule in ("threshold", "threshold_per_label", "n_labels"):
    tuned = TunedThresholdClassifier(FrozenEstimator(clf), rule=rule)
    report(rule, tuned.fit(X_held_out, y_held_out))

# %%
# If wrong labels are costly, ask for a precision. It holds for texts like the held-out ones, and
# these test texts are harder.

careful = TunedThresholdClassifier(FrozenEstimator(clf), scoring="precision", min_precision=0.95)
report("precision of 0.95", careful.fit(X_held_out, y_held_out))
