"""
Clusters of labels, and their cost
==================================

With many labels, the recall head selects candidate clusters of labels. The ranking head scores only
the labels in these clusters. This example shows the clusters, and how many of them are needed.
"""

# %%
# Clusters alone
# --------------
# `BalancedLabelClusterer` clusters labels by the words of their texts. It works without a
# classifier.

from sklearn.feature_extraction.text import TfidfVectorizer

from skxmc import BalancedLabelClusterer, LightXMLClassifier, label_features
from skxmc.datasets import load_icd10cm

data = load_icd10cm(chapters=[10])
features = label_features(data.y_train, TfidfVectorizer().fit_transform(data.X_train))
clusterer = BalancedLabelClusterer(max_cluster_size=8, random_state=0).fit(features)
print(f"{len(clusterer.labels_)} labels in {clusterer.n_clusters_} clusters; the last one holds")
for label in (clusterer.labels_ == clusterer.n_clusters_ - 1).nonzero()[0]:
    print(f"  {data.label_names[label]:8} {data.label_texts[label]}")

# %%
# In a classifier
# ---------------
# Only the heads are trained here, which takes seconds.

from skxmc.plotting import LabelClustersDisplay, RecallCeilingDisplay

clf = LightXMLClassifier(
    "sentence-transformers/all-MiniLM-L6-v2",
    clusterer=BalancedLabelClusterer(max_cluster_size=8),
    n_candidate_clusters=8,
    max_length=32,
    freeze_encoder=True,
    max_epochs=4,
    random_state=0,
)
clf.fit(data.X_train, data.y_train)

# %%
# The map places clusters by the embeddings of their labels, and names them by frequent words:

LabelClustersDisplay.from_estimator(clf, data.y_train, label_texts=data.label_texts)

# %%
# How many clusters?
# ------------------
# The classifier cannot predict a label if its cluster is not recalled. So the recall of the recall
# head limits the recall of the classifier. The line marks the number in use.

RecallCeilingDisplay.from_estimator(clf, data.X_test, data.y_test)
