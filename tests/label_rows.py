"""Rows of features that the tests of clusters and of their input share."""

import numpy as np
from scipy import sparse as sp


def topical(n_rows, n_columns=400, n_topics=20, n_words=12, seed=0):
    """Make sparse rows, half of words of a topic, half of a power law over all columns."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(n_topics, size=(n_rows, 1))
    own = (topic * 31 + rng.integers(15, size=(n_rows, n_words))) % n_columns
    common = (n_columns * rng.random((n_rows, n_words)) ** 4).astype(int)
    columns = np.hstack([own, common])
    rows = np.broadcast_to(np.arange(n_rows)[:, np.newaxis], columns.shape)
    values = rng.random(columns.shape, dtype=np.float32) + np.float32(0.1)
    X = sp.coo_matrix((values.ravel(), (rows.ravel(), columns.ravel())), (n_rows, n_columns))
    return X.tocsr()
