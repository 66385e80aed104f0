"""
How large should the bottleneck be?
===================================

Each label has an embedding of ``bottleneck_dim`` numbers. These embeddings decide the size of the
model. ``GridSearchCV`` searches for a good value.
"""

# %%
# A search
# --------
# ``memory`` caches tokens and clusters, so the search does not compute them again for each
# candidate. To search over parameters of the clusterer, name them as in
# ``clusterer__max_cluster_size``. With ``freeze_encoder``, only the heads are trained, which takes
# seconds. To save time, this search has one split instead of several folds.

import tempfile

from sklearn.model_selection import GridSearchCV, ShuffleSplit

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc.datasets import load_icd10cm
from skxmc.metrics import precision_at_k_scorer

data = load_icd10cm(chapters=[10])
cache = tempfile.TemporaryDirectory()
clf = LightXMLClassifier(
    "sentence-transformers/all-MiniLM-L6-v2",
    clusterer=BalancedLabelClusterer(max_cluster_size=8),
    max_length=24,
    freeze_encoder=True,
    max_epochs=4,
    memory=cache.name,
    random_state=0,
)
search = GridSearchCV(
    clf,
    {"bottleneck_dim": [4, 16, 64]},
    scoring=precision_at_k_scorer(k=5),
    cv=ShuffleSplit(1, train_size=0.5, test_size=0.25, random_state=0),
    refit=False,  # the winner trains for more epochs below
)
search.fit(data.X_train, data.y_train)
search.best_params_

# %%
# The result
# ----------

import matplotlib.pyplot as plt
import pandas as pd

results = pd.DataFrame(search.cv_results_)
fig, ax = plt.subplots(layout="constrained")
ax.plot(results["param_bottleneck_dim"], results["mean_test_score"], marker="o")
ax.set_xscale("log", base=2)
ax.set_xticks([4, 16, 64], ["4", "16", "64"])
_ = ax.set(xlabel="bottleneck_dim", ylabel="P@5 on a quarter of the texts")

# %%
# The winner, on all training texts
# ---------------------------------

best = clf.set_params(**search.best_params_, max_epochs=10)
best.fit(data.X_train, data.y_train)
print(f"P@5 on test texts: {precision_at_k_scorer(k=5)(best, data.X_test, data.y_test):.3f}")
cache.cleanup()
