"""Members with given scores, and an ensemble of two of them."""

import numpy as np
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin

from skxmc import LightXMLEnsemble
from skxmc._base import TextRankerMixin
from skxmc._meta.rescoring import keep_best


class Fixed(TextRankerMixin, ClassifierMixin, BaseEstimator):
    """Classifier that returns row i of a table as the scores of the text "i"."""

    def __init__(self, scores=None, classes=None):
        self.scores = scores
        self.classes = classes

    def fit(self, X, y, **params):
        self.params_ = params
        n_labels = np.shape(self.scores)[1]
        self.classes_ = np.arange(n_labels) if self.classes is None else np.asarray(self.classes)
        return self

    def decision_function(self, X, *, top_k=None):
        self.asked_ = [*getattr(self, "asked_", []), (len(X), top_k)]
        scores = np.array(self.scores, dtype=np.float32)[[int(text) for text in X]]
        return keep_best(sparse.csr_matrix(scores), top_k)


class Proba(ClassifierMixin, BaseEstimator):
    """The same classifier with `predict_proba` only, whose result `convert` converts."""

    def __init__(self, scores=None, convert=np.asarray):
        self.scores = scores
        self.convert = convert

    def fit(self, X, y):
        self.classes_ = np.arange(np.shape(self.scores)[1])
        return self

    def predict_proba(self, X):
        return self.convert(np.array(self.scores)[[int(text) for text in X]])


LEFT = Fixed([[0.8, 0.4, 0.0, 0.2], [0.0, 0.0, 1.0, 0.5]])
RIGHT = Fixed([[0.0, 0.6, 0.0, 0.4], [1.0, 0.0, 1.0, 0.0]])
PAIR = [("left", LEFT), ("right", RIGHT)]
TEXTS, LABELS = ["0", "1"], np.eye(2, 4)
MEAN = [[0.4, 0.5, 0.0, 0.3], [0.5, 0.0, 1.0, 0.25]]


def fit(estimators=PAIR, **params):
    return LightXMLEnsemble(estimators, **params).fit(TEXTS, LABELS)
