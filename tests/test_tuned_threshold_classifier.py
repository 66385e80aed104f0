"""TunedThresholdClassifier: thresholds for a target, tuned on held-out texts."""

import pickle

import numpy as np
import pytest
from classifier_fixtures import dataset, fitted
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import f1_score, precision_score, recall_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxmc import OmikujiClassifier, TunedThresholdClassifier, from_pretrained, predict_topk

N_TEXTS, N_LABELS = 300, 8
TEXTS = [str(i) for i in range(N_TEXTS)]
rng = np.random.default_rng(0)
SCORES = rng.random((N_TEXTS, N_LABELS)).astype(np.float32)
# Labels are true from very different scores on, and more often than not.
TRUE = ((np.linspace(0.3, 0.95, N_LABELS) < SCORES) ^ (rng.random(SCORES.shape) < 0.05)).astype(int)


class Table(ClassifierMixin, BaseEstimator):
    """Classifier whose scores are the rows of a table."""

    def fit(self, X, y):
        self.classes_ = np.arange(N_LABELS)
        return self

    def predict_proba(self, X):
        return SCORES[[int(text) for text in X]]


def tuned(**params):
    frozen = FrozenEstimator(Table().fit(TEXTS, TRUE))
    return TunedThresholdClassifier(frozen, **params).fit(TEXTS, TRUE)


def by_threshold():
    """Return the predictions from each score on."""
    return [threshold <= SCORES for threshold in np.quantile(SCORES, np.linspace(0, 1, 40))]


@pytest.mark.parametrize("average", ["micro", "macro"])
def test_one_threshold_reaches_best_f1(average):
    clf = tuned(scoring=f"f1_{average}")
    scores = [f1_score(TRUE, predicted, average=average) for predicted in by_threshold()]
    predicted = clf.predict(TEXTS)
    np.testing.assert_array_equal(predicted.toarray(), np.float32(clf.best_threshold_) <= SCORES)
    assert clf.best_score_ == pytest.approx(f1_score(TRUE, predicted.toarray(), average=average))
    assert clf.best_score_ >= max(scores) - 0.002


@pytest.mark.parametrize("min_precision", [0.6, 0.8])
def test_one_threshold_reaches_precision_at_highest_recall(min_precision):
    clf = tuned(scoring="precision", min_precision=min_precision)
    predicted = clf.predict(TEXTS).toarray()
    assert precision_score(TRUE, predicted, average="micro") >= min_precision
    assert clf.best_score_ == pytest.approx(recall_score(TRUE, predicted, average="micro"))
    others = [
        recall_score(TRUE, other, average="micro")
        for other in by_threshold()
        if precision_score(TRUE, other, average="micro", zero_division=1) >= min_precision
    ]
    assert clf.best_score_ >= max(others) - 0.01


@pytest.mark.parametrize("scoring", ["f1_micro", "f1_macro"])
def test_threshold_per_label_beats_one_threshold(scoring):
    average = scoring[3:]
    one, each = (tuned(scoring=scoring, rule=rule) for rule in ("threshold", "threshold_per_label"))
    assert each.best_threshold_ == one.best_threshold_
    assert (np.diff(each.thresholds_[[0, 3, 7]]) > 0).all()
    gain = f1_score(TRUE, each.predict(TEXTS).toarray(), average=average)
    assert gain > one.best_score_ + 0.1


def test_threshold_per_label_precision_holds_for_each_label():
    clf = tuned(scoring="precision", min_precision=0.6, rule="threshold_per_label", shrinkage=0)
    precision = precision_score(TRUE, clf.predict(TEXTS).toarray(), average=None)
    assert (precision >= 0.6).sum() >= 6
    assert len(np.unique(clf.thresholds_)) > 3


@pytest.mark.parametrize("scoring", ["f1_micro", "f1_macro"])
def test_shrinkage_moves_thresholds_towards_the_common_one(scoring):
    distances = []
    for shrinkage in (0, 100, 1e6):
        clf = tuned(scoring=scoring, rule="threshold_per_label", shrinkage=shrinkage)
        distances.append(np.abs(clf.thresholds_ - clf.best_threshold_).mean())
    assert distances[0] > distances[1] > distances[2] == 0


def test_threshold_per_label_without_held_out_text_is_the_common_one():
    X, Y = dataset()
    clf = TunedThresholdClassifier(FrozenEstimator(fitted()), rule="threshold_per_label")
    clf.set_params(n_candidates=2).fit(X, Y)
    never = np.setdiff1d(np.arange(30), fitted().predict_topk(X, 2).labels)
    assert len(never)
    assert (clf.thresholds_[never] == clf.best_threshold_).all()


def test_n_labels_returns_as_many_for_each_text():
    clf = tuned(rule="n_labels")
    predicted = clf.predict(TEXTS)
    assert (np.diff(predicted.indptr) == clf.n_labels_per_text_).all()
    scores = [f1_score(TRUE, predict_of_rank(n), average="micro") for n in range(1, N_LABELS + 1)]
    assert clf.n_labels_per_text_ == np.argmax(scores) + 1
    assert clf.best_score_ == pytest.approx(max(scores))


def predict_of_rank(n):
    ranks = np.argsort(np.argsort(-SCORES, axis=1), axis=1)
    return (ranks < n).astype(int)


def test_fit_again_with_another_rule_replaces_it():
    clf = tuned(rule="n_labels").set_params(rule="threshold")
    once = clf.fit(TEXTS, TRUE).predict(TEXTS)
    assert (once != tuned().predict(TEXTS)).nnz == 0


def test_predict_topk_and_scores_are_those_of_the_estimator():
    clf = tuned()
    expected = predict_topk(clf.estimator_, TEXTS, 3)
    found = clf.predict_topk(TEXTS, 3)
    np.testing.assert_array_equal(found.labels, expected.labels)
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(clf.predict_proba(TEXTS).toarray(), SCORES)


def test_fit_precision_out_of_reach_warns_and_takes_the_highest():
    frozen = FrozenEstimator(Table().fit(TEXTS, TRUE))
    low = TRUE * (SCORES < 0.9)
    with pytest.warns(RuntimeWarning, match=r"^No threshold has a precision of 0\.9 on the held"):
        clf = TunedThresholdClassifier(frozen, scoring="precision").fit(TEXTS, low)
    with pytest.warns(RuntimeWarning, match=r"^No number of labels has a precision of 0\.9 on"):
        clone(clf).set_params(rule="n_labels").fit(TEXTS, low)
    assert clf.best_score_ == 0
    predicted = clf.predict(TEXTS).toarray()
    others = [precision_score(low, other, average="micro") for other in by_threshold()]
    assert precision_score(low, predicted, average="micro") >= max(others) - 0.01


def test_fit_no_true_candidate_is_an_error():
    X, _ = dataset()
    best = fitted().predict_topk(X[:1], 1).labels.item()
    wrong = sparse.csr_array(([1], ([0], [(best + 1) % 30])), shape=(1, 30))
    clf = TunedThresholdClassifier(FrozenEstimator(fitted()), n_candidates=1)
    with pytest.raises(ValueError, match=r"^No label that the estimator proposes for the held-out"):
        clf.fit(X[:1], wrong)


@pytest.mark.parametrize(
    "params",
    [{"scoring": "f1"}, {"rule": "none"}, {"min_precision": 0}, {"shrinkage": -1}],
    ids=str,
)
def test_fit_bad_parameter_is_an_error_that_names_it(params):
    clf = TunedThresholdClassifier(OmikujiClassifier()).set_params(**params)
    message = f"'{next(iter(params))}' parameter of TunedThresholdClassifier"
    with pytest.raises(ValueError, match=message):
        clf.fit(*dataset())


@pytest.mark.parametrize("rule", ["threshold", "threshold_per_label", "n_labels"])
def test_tuned_keeps_scikit_learn_conventions(rule, tmp_path):
    X, Y = dataset()
    clf = TunedThresholdClassifier(FrozenEstimator(fitted()), rule=rule).fit(X, Y)
    expected = clf.predict(X)
    clf.save_pretrained(tmp_path / "model")
    for copy in (pickle.loads(pickle.dumps(clf)), from_pretrained(tmp_path / "model")):
        assert (copy.predict(X) != expected).nnz == 0
    pipeline = make_pipeline(FunctionTransformer(), clone(clf)).fit(X, Y)
    assert (pipeline.predict(X) != expected).nnz == 0


def test_grid_search_over_rules_uses_the_f1_of_predict():
    search = GridSearchCV(
        TunedThresholdClassifier(OmikujiClassifier(), validation_fraction=0.5, random_state=0),
        {"rule": ["threshold", "n_labels"]},
        scoring="f1_micro",
        cv=2,
        error_score="raise",
    )
    X, Y = dataset()
    assert search.fit(X, Y).predict(X).shape == Y.shape
