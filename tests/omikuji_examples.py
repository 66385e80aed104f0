"""Data and a comparison for the tests of OmikujiClassifier."""

import numpy as np
from scipy import sparse

from skxmc.datasets import make_xmc

# Labels 0 to 2 have no text.
X, Y = make_xmc(300, 60, n_labels_per_sample=2, n_noise_words=2, random_state=0)
Y = sparse.csr_array(Y.toarray() * (np.arange(60) > 2))
WITHOUT_TEXT = sorted(set(range(60)) - set(Y.indices.tolist()))


def assert_same(left, right, texts=X):
    left, right = left.decision_function(texts), right.decision_function(texts)
    assert (left != right).nnz == 0
    assert left.nnz == right.nnz > 0
