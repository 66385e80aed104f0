"""Metrics of extreme multi-label classification, and scorers for scikit-learn's model selection.

Every metric measures the k best labels of each text. `y_true` comes in any form that ``fit`` takes.
`y_score` is a sparse or dense matrix of scores, or the result of ``predict_topk``. The rules are:

- In a sparse matrix, stored entries rank by value, and absent entries rank after all of them.
- Of equal scores, the one in the lower column ranks first. The same holds for absent entries.
- A true label that is not among the model's labels counts as missed.
- A text without true labels counts as 0.
"""

from skxmc.metrics._calibration import ece_at_k
from skxmc.metrics._plain import ndcg_at_k, precision_at_k, recall_at_k
from skxmc.metrics._propensity import label_propensities, psndcg_at_k, psp_at_k
from skxmc.metrics._scorers import AtKScorer as AtKScorer  # for scorers pickled by this name
from skxmc.metrics._scorers import make_at_k_scorer, precision_at_k_scorer

__all__ = [
    "ece_at_k",
    "label_propensities",
    "make_at_k_scorer",
    "ndcg_at_k",
    "precision_at_k",
    "precision_at_k_scorer",
    "psndcg_at_k",
    "psp_at_k",
    "recall_at_k",
]
