"""
Rare labels
===========

In a large label set, half of the labels have only a handful of texts. This example shows how well a
classifier finds them, and how to rank them higher.
"""

# %%
# Head and tail
# -------------
# Only the heads are trained here, which takes seconds.

from sklearn.frozen import FrozenEstimator

from skxmc import LightXMLClassifier, PropensityRanker
from skxmc.datasets import load_icd10cm
from skxmc.metrics import label_propensities, precision_at_k, psp_at_k
from skxmc.plotting import LabelFrequencyDisplay

data = load_icd10cm(chapters=[10])
clf = LightXMLClassifier(
    "sentence-transformers/all-MiniLM-L6-v2",
    max_length=32,
    freeze_encoder=True,
    max_epochs=4,
    random_state=0,
)
clf.fit(data.X_train, data.y_train)
LabelFrequencyDisplay.from_estimator(clf, data.X_test, data.y_test, y_train=data.y_train)

# %%
# Propensities
# ------------
# Annotators miss labels, and miss rare labels most often. The propensity of a label is the
# probability that annotators assign it if it is true. Propensity-scored precision, PSP@k, weighs
# each hit by the inverse propensity. `PropensityRanker` divides scores by a power of it.

propensities = label_propensities(data.y_train)
print("exponent   P@1   P@5  PSP@1  PSP@5")
rankers = {}
for exponent in (0, 0.1, 0.25, 1):
    ranker = PropensityRanker(FrozenEstimator(clf), exponent=exponent)
    rankers[exponent] = ranker.fit(data.X_train, data.y_train)
    top = ranker.predict_topk(data.X_test, k=5)
    p = [precision_at_k(data.y_test, top, k=k) for k in (1, 5)]
    psp = [psp_at_k(data.y_test, top, k=k, propensities=propensities) for k in (1, 5)]
    print(f"{exponent:8}  {p[0]:.2f}  {p[1]:.2f}   {psp[0]:.2f}   {psp[1]:.2f}")

# %%
# A small exponent loses little on frequent labels and gains on rare ones. An exponent of 1 is the
# optimum of PSP@k, and loses more on frequent labels.

# sphinx_gallery_thumbnail_number = 2
display = None
for exponent in (0, 0.1, 1):
    display = LabelFrequencyDisplay.from_estimator(
        rankers[exponent],
        data.X_test,
        data.y_test,
        y_train=data.y_train,
        metric="recall",
        name=f"exponent {exponent}",
        ax=display and display.ax_,
    )
