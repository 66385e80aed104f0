"""
Phrases in, diagnosis codes out
===============================

A classifier of texts learns one chapter of ICD-10-CM, diseases of the circulatory system, from
the descriptions of its codes and half of their synonyms, and is asked for the other half.
"""

# %%
# The data
# --------
# 2,096 short texts; each has its code as a label, and the groups that the code belongs to.

from skxmc.datasets import load_icd10cm

data = load_icd10cm(chapters=[9])
print(f"{len(data.X_train):,} training texts, {len(data.label_names)} labels, for example:")
print(data.X_train[5], "->", *data.label_names[data.y_train[[5]].indices])

# %%
# Training
# --------
# The encoder is a small one that comes with ``[demo]``. Any other from the Hugging Face hub goes
# the same way.

from skxmc import LightXMLClassifier

clf = LightXMLClassifier(
    "sentence-transformers/all-MiniLM-L6-v2",
    max_length=32,
    max_epochs=3,
    random_state=0,
)
clf.fit(data.X_train, data.y_train, label_names=data.label_names)

# %%
# How good is it?
# ---------------
# P@k is the share of the best k labels that is true. A text has four or five labels here.

from skxmc.metrics import precision_at_k

top = clf.predict_topk(data.X_test, k=5)
for k in (1, 3, 5):
    print(f"P@{k}: {precision_at_k(data.y_test, top, k=k, classes=clf.classes_):.3f}")

# %%
# The loss is a sum over all labels; that of the first epoch is low already, because labels start at
# the centroids of their texts.

from skxmc.plotting import TrainingHistoryDisplay

TrainingHistoryDisplay.from_estimator(clf)

# %%
# A prediction
# ------------
# The classification says "myocardial infarction": "attack" is in none of its texts here.

names = dict(zip(data.label_names, data.label_texts, strict=True))
labels, scores = clf.predict_topk(["heart attack"], k=5)
for label, score in zip(labels[0], scores[0], strict=True):
    print(f"{score:.2f}  {label:8} {names[label]}")

# %%
# Why? The nearest labels, and the nearest training texts:

clf.explain_topk("heart attack", k=3, texts=data.X_train, y=data.y_train)
