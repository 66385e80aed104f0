"""Metrics of extreme multi-label classification, and scorers for sklearn's model selection.

All of them look at the k best labels of each text. `y_true` comes in any form that ``fit`` takes;
`y_score` is a matrix of scores, sparse or dense, or what ``predict_topk`` returns. The rules are:

- In a sparse matrix, stored entries rank by value and absent ones after all of them.
- Equal scores, and absent ones, rank by lower column.
- A true label that is not among the model's labels counts as missed.
- A text without true labels counts as 0.
"""

from skxmc.metrics._plain import ndcg_at_k, precision_at_k, recall_at_k
from skxmc.metrics._propensity import label_propensities, psndcg_at_k, psp_at_k
from skxmc.metrics._scorers import AtKScorer as AtKScorer  # for scorers pickled by this name
from skxmc.metrics._scorers import make_at_k_scorer, precision_at_k_scorer

__all__ = [
    "label_propensities",
    "make_at_k_scorer",
    "ndcg_at_k",
    "precision_at_k",
    "precision_at_k_scorer",
    "psndcg_at_k",
    "psp_at_k",
    "recall_at_k",
]
