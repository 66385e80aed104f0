"""Multilabel estimators of scikit-learn, whose scores and classes have several shapes."""

import numpy as np
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, RidgeClassifier, RidgeClassifierCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, ExtraTreeClassifier

from skxmc import predict_topk
from skxmc.metrics import ndcg_at_k, precision_at_k

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 6))
Y = (X[:, :4] + 0.1 * rng.normal(size=(60, 4)) > 0.3).astype(int)
ESTIMATORS = [
    RandomForestClassifier(20, random_state=0),
    ExtraTreesClassifier(20, random_state=0),
    DecisionTreeClassifier(random_state=0),
    ExtraTreeClassifier(random_state=0),
    KNeighborsClassifier(3),
    DummyClassifier(),
    MultiOutputClassifier(LogisticRegression()),
    ClassifierChain(LogisticRegression()),
    OneVsRestClassifier(LogisticRegression()),
    OneVsRestClassifier(LinearSVC()),
    RidgeClassifier(),
    RidgeClassifierCV(),
    MLPClassifier((8,), max_iter=20, random_state=0),
    make_pipeline(StandardScaler(), RandomForestClassifier(20, random_state=0)),
]


def positive_scores(estimator):
    """The score of class 1 of each label, by the plainest way."""
    if hasattr(estimator, "decision_function"):
        return estimator.decision_function(X)
    scores = estimator.predict_proba(X)
    return np.stack([s[:, 1] for s in scores], axis=1) if isinstance(scores, list) else scores


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: repr(e)[:40])
def test_predict_topk_multilabel_estimator_ranks_class_1(estimator):
    estimator.fit(X, Y)
    top = predict_topk(estimator, X, k=2)
    expected = positive_scores(estimator)
    assert top.labels.shape == top.scores.shape == (60, 2)
    best = np.argsort(-expected, axis=1, kind="stable")[:, :2]
    np.testing.assert_array_equal(top.labels, best)
    np.testing.assert_allclose(top.scores, np.take_along_axis(expected, best, axis=1))
    assert precision_at_k(Y, top, k=2) == precision_at_k(Y, expected, k=2)


@pytest.mark.parametrize("estimator", ESTIMATORS[:7], ids=lambda e: repr(e)[:40])
@pytest.mark.parametrize("metric", [precision_at_k, ndcg_at_k])
def test_metrics_list_of_outputs_equals_matrix(metric, estimator):
    estimator.fit(X, Y)
    outputs = estimator.predict_proba(X)
    assert isinstance(outputs, list)
    assert metric(Y, outputs, k=2) == metric(Y, positive_scores(estimator), k=2)


@pytest.mark.parametrize("constant", [0, 1])
def test_predict_topk_label_of_one_class_in_training_ranks_by_it(constant):
    y = Y.copy()
    y[:, 1] = constant
    forest = RandomForestClassifier(20, random_state=0).fit(X, y)
    top = predict_topk(forest, X, k=4)
    assert (top.scores[top.labels == 1] == constant).all()
    if constant:
        assert (top.scores[:, 0] == 1).all()
    with pytest.raises(ValueError, match=r"array 1 has 1 columns instead of 2\. Pass skxmc\.pred"):
        precision_at_k(y, forest.predict_proba(X), k=2)
    assert precision_at_k(y, top, k=4) == y.mean()


def test_metrics_outputs_of_three_classes_raise_error():
    forest = RandomForestClassifier(5, random_state=0).fit(X, Y + rng.integers(2, size=Y.shape))
    with pytest.raises(ValueError, match=r"array 0 has 3 columns instead of 2"):
        precision_at_k(Y, forest.predict_proba(X), k=2)
