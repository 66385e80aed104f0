"""
How large should the bottleneck be?
===================================

With two stages, each label has an embedding of ``bottleneck_dim`` numbers, which decide the
size of the model: a search over them, and over the size of the clusters, as scikit-learn does
it.
"""

# %%
# A search
# --------
# Parameters of the clusterer are reached by two underscores. ``memory`` keeps tokens and
# clusters, so that they are computed once and not for each candidate.

import tempfile

from sklearn.model_selection import GridSearchCV

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc.datasets import load_icd10cm
from skxmc.metrics import precision_at_k_scorer

data = load_icd10cm(chapters=[4])
cache = tempfile.TemporaryDirectory()
clf = LightXMLClassifier(
    "sentence-transformers/all-MiniLM-L6-v2",
    clusterer=BalancedLabelClusterer(max_cluster_size=8),
    max_length=24,
    max_epochs=1,
    memory=cache.name,
    random_state=0,
)
search = GridSearchCV(
    clf,
    {"bottleneck_dim": [8, 32, 128], "clusterer__max_cluster_size": [8, 32]},
    scoring=precision_at_k_scorer(k=5),
    cv=2,
    refit=False,  # the winner is trained on more than one epoch below
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
for size, part in results.groupby("param_clusterer__max_cluster_size"):
    ax.errorbar(
        part["param_bottleneck_dim"],
        part["mean_test_score"],
        part["std_test_score"],
        marker="o",
        capsize=3,
        label=f"clusters of {size}",
    )
ax.set_xscale("log", base=2)
ax.set_xticks([8, 32, 128], ["8", "32", "128"])
ax.set(xlabel="bottleneck_dim", ylabel="P@5, mean of two folds")
ax.legend()

# %%
# The winner, on all training texts
# ---------------------------------

best = clf.set_params(**search.best_params_, max_epochs=3)
best.fit(data.X_train, data.y_train)
print(f"P@5 on test texts: {precision_at_k_scorer(k=5)(best, data.X_test, data.y_test):.3f}")
cache.cleanup()
