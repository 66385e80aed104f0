"""An example whose metrics are computed by hand, shared by the tests of metrics."""

import math
from collections import namedtuple

import numpy as np
from scipy import sparse

from skxmc.metrics import ndcg_at_k, precision_at_k, psndcg_at_k, psp_at_k, recall_at_k

TopK = namedtuple("TopK", ["labels", "scores"])
PLAIN = [precision_at_k, recall_at_k, ndcg_at_k]
SCORED = [psp_at_k, psndcg_at_k]
LOG3 = math.log2(3)

# Ranked 0 1 2 3, 3 2 1 0 and 1 0 2 3; hits at k=2 are 1, 2 and 0.
Y_TRUE = sparse.csr_array([[1, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]])
Y_SCORE = np.array([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.3, 0.4], [0.3, 0.5, 0.3, 0.1]])
PROPENSITIES = np.array([1, 0.5, 0.5, 0.25])  # gains 1, 2, 2, 4
BY_HAND = {
    precision_at_k: (1 / 2 + 2 / 2 + 0) / 3,
    recall_at_k: (1 / 3 + 2 / 2 + 0) / 3,
    ndcg_at_k: (1 / (1 + 1 / LOG3) + 1 + 0) / 3,
    psp_at_k: (1 + (4 + 2)) / ((4 + 2) + (4 + 2)),
    psndcg_at_k: (1 + (4 + 2 / LOG3)) / (2 * (4 + 2 / LOG3)),
}


def evaluate(metric, y_true, y_score, *, propensities=PROPENSITIES, **options):
    if metric in SCORED:
        options["propensities"] = propensities
    return metric(y_true, y_score, **options)
