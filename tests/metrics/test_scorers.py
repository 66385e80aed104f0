"""Scorers at k in scikit-learn's searches, pipelines and cross-validation."""

import pickle

import numpy as np
import pytest
import sklearn
from metric_examples import PLAIN, SCORED, evaluate
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxmc._input.ranking import rank_columns
from skxmc._input.texts import check_texts
from skxmc._input.validation import check_labels
from skxmc._topk import TopK
from skxmc.metrics import (
    label_propensities,
    make_at_k_scorer,
    ndcg_at_k,
    precision_at_k,
    precision_at_k_scorer,
    psp_at_k,
    recall_at_k,
)


class WordVotes(ClassifierMixin, BaseEstimator):
    """Classifier that scores a label by its count with the words of the text, to a power."""

    def __init__(self, power=1.0):
        self.power = power

    def fit(self, X, y):
        labels = check_labels(y, n_texts=len(X))
        self.vectorizer_ = CountVectorizer(token_pattern=r"\w+")
        self.votes_ = self.vectorizer_.fit_transform(check_texts(X)).T @ labels.matrix
        self.classes_ = labels.classes
        return self

    def decision_function(self, X):
        scores = sparse.csr_array(self.vectorizer_.transform(check_texts(X)) @ self.votes_)
        scores.data = np.abs(scores.data) ** self.power
        return scores if self.power >= 0 else sparse.csr_array(scores.shape)


class WordVotesTopK(WordVotes):
    """Classifier with predict_topk, as in LightXMLClassifier, that records k."""

    def predict_topk(self, X, k=5):
        self.asked_ = k
        columns = rank_columns(self.decision_function(X), k, len(self.classes_))
        return TopK(self.classes_[columns], np.zeros(columns.shape))


NAMES = np.array(["art", "law", "sea", "tax"])
COLLECTIONS = [[NAMES[i % 4], NAMES[(i + 1) % 4]] if i % 5 else [NAMES[i % 4]] for i in range(24)]
TEXTS = [" ".join(f"about_{label}" for label in labels) for labels in COLLECTIONS]
Y = check_labels(COLLECTIONS).matrix


def test_scorer_returns_metric_of_decision_function():
    model = WordVotes().fit(TEXTS, COLLECTIONS)
    scorer = precision_at_k_scorer(k=2)
    scores = model.decision_function(TEXTS)
    value = scorer(model, TEXTS, COLLECTIONS)
    assert value == precision_at_k(COLLECTIONS, scores, k=2, classes=model.classes_) > 0.5
    assert scorer(model, TEXTS, Y) == value
    with pytest.raises(ValueError, match=r"^k is 5, but there are only 4 labels"):
        precision_at_k_scorer()(model, TEXTS, Y)


@pytest.mark.parametrize("metric", PLAIN + SCORED)
def test_make_at_k_scorer_any_metric_returns_its_value(metric):
    model = WordVotes().fit(TEXTS, COLLECTIONS)
    p = label_propensities(COLLECTIONS)
    options = {"propensities": p} if metric in SCORED else {}
    value = make_at_k_scorer(metric, k=2, **options)(model, TEXTS, COLLECTIONS)
    assert value == evaluate(metric, Y, model.decision_function(TEXTS), k=2, propensities=p)


def test_scorer_estimator_with_predict_topk_asks_it_for_k_labels():
    model = WordVotesTopK().fit(TEXTS, COLLECTIONS)
    expected = precision_at_k_scorer(k=2)(WordVotes().fit(TEXTS, COLLECTIONS), TEXTS, Y)
    assert precision_at_k_scorer(k=2)(model, TEXTS, Y) == expected
    assert model.asked_ == 2


def test_scorer_pipeline_or_search_reaches_the_classifier():
    scorer = precision_at_k_scorer(k=2)
    pipeline = make_pipeline(FunctionTransformer(check_texts), WordVotesTopK())
    search = GridSearchCV(pipeline, {"wordvotestopk__power": [1]}, scoring=scorer, cv=KFold(2))
    search.fit(TEXTS, COLLECTIONS)
    expected = scorer(WordVotes().fit(TEXTS, COLLECTIONS), TEXTS, COLLECTIONS)
    assert scorer(search, TEXTS, COLLECTIONS) == expected
    assert scorer(search.best_estimator_, TEXTS, COLLECTIONS) == expected
    assert search.best_estimator_[-1].asked_ == 2
    assert search.score(TEXTS, COLLECTIONS) == expected


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("y", [Y, sparse.csr_matrix(Y), Y.astype(bool)])
def test_scorer_grid_search_with_sparse_labels_selects_best(y, routing):
    with sklearn.config_context(enable_metadata_routing=routing):
        search = GridSearchCV(
            WordVotes(), {"power": [-1, 1]}, scoring=precision_at_k_scorer(k=1), cv=3
        ).fit(TEXTS, y)
    assert search.best_params_ == {"power": 1}
    assert search.best_score_ > search.cv_results_["mean_test_score"].min()
    assert "precision_at_k, k=1" in repr(search)
    assert clone(search).scoring.k == 1


def test_scorer_cross_validation_with_collections_matches_folds():
    scorer = precision_at_k_scorer(k=1)
    folds = KFold(4, shuffle=True, random_state=0)
    values = cross_val_score(WordVotes(), TEXTS, COLLECTIONS, scoring=scorer, cv=folds)
    expected = []
    for train, test in folds.split(TEXTS):
        model = WordVotes().fit([TEXTS[i] for i in train], [COLLECTIONS[i] for i in train])
        expected.append(scorer(model, [TEXTS[i] for i in test], [COLLECTIONS[i] for i in test]))
    assert values.tolist() == expected
    scoring = {"p1": scorer, "r2": make_at_k_scorer(recall_at_k, k=2)}
    results = cross_validate(WordVotes(), TEXTS, COLLECTIONS, scoring=scoring, cv=folds)
    assert results["test_p1"].tolist() == expected
    assert results["test_r2"].shape == (4,)


def test_scorer_propensities_by_label_fit_folds_with_other_labels():
    collections = [["rare", *labels] if i == 0 else labels for i, labels in enumerate(COLLECTIONS)]
    p = label_propensities(collections)
    by_label = dict(zip(sorted({*NAMES, "rare"}), p, strict=True))
    scorer = make_at_k_scorer(psp_at_k, k=2, propensities=by_label)
    scores = cross_val_score(WordVotes(), TEXTS, collections, cv=KFold(2), scoring=scorer)
    model = WordVotes().fit(TEXTS[:12], collections[:12])  # only this fold has the label "rare"
    expected = psp_at_k(
        collections[12:],
        model.decision_function(TEXTS[12:]),
        k=2,
        propensities=p,
        classes=model.classes_,
    )
    assert scores[1] == expected
    assert 0 < scores[0] < 1


def test_scorer_label_absent_from_training_fold_counts_as_missed():
    model = WordVotes().fit(["a b", "b"], [["x"], ["y"]])
    assert make_at_k_scorer(recall_at_k, k=1)(model, ["a"], [["x", "new"]]) == 0.5


@pytest.mark.parametrize("n_labels", [1, 2, 3])
def test_scorer_few_labels_works_in_grid_search(n_labels):
    # scikit-learn's own scorers take two labels for a binary problem, and fail with one label.
    # One column of sparse labels also fails with cv=2, which becomes a StratifiedKFold.
    y = sparse.csr_array([[int(i % n_labels == j) for j in range(n_labels)] for i in range(12)])
    texts = [f"w{i % n_labels}" for i in range(12)]
    search = GridSearchCV(
        WordVotes(), {"power": [1]}, scoring=precision_at_k_scorer(k=1), cv=KFold(2)
    )
    assert search.fit(texts, y).best_score_ == 1


def test_scorer_sklearn_estimator_returns_precision():
    pipeline = make_pipeline(CountVectorizer(), OneVsRestClassifier(LogisticRegression()))
    pipeline.fit(TEXTS, Y.toarray().astype(int))
    assert precision_at_k_scorer(k=1)(pipeline, TEXTS, Y) == 1


def test_scorer_pickled_copy_has_same_repr_and_value():
    scorer = make_at_k_scorer(psp_at_k, k=np.int64(3), propensities=np.ones(4))
    assert repr(scorer) == "make_at_k_scorer(psp_at_k, k=3, propensities=...)"
    model = WordVotes().fit(TEXTS, COLLECTIONS)
    copy = pickle.loads(pickle.dumps(scorer))
    assert repr(copy) == repr(scorer)
    assert copy(model, TEXTS, Y) == scorer(model, TEXTS, Y)
    assert repr(precision_at_k_scorer()) == "make_at_k_scorer(precision_at_k, k=5)"


def test_scorer_metric_without_name_shows_its_repr():
    class Metric:
        def __call__(self, y_true, y_score, *, k, classes):
            return 7.0

        def __repr__(self):
            return "Metric()"

    scorer = make_at_k_scorer(Metric(), k=1)
    assert repr(scorer) == "make_at_k_scorer(Metric(), k=1)"
    assert scorer(WordVotes().fit(TEXTS, Y), TEXTS, Y) == 7


def test_scorer_wrong_k_raises_error_when_made():
    with pytest.raises(ValueError, match=r"^k is 1\.0, but must be a whole number from 1"):
        precision_at_k_scorer(k=1.0)
    with pytest.raises(ValueError, match=r"^k is 0, but must be a whole number from 1"):
        make_at_k_scorer(ndcg_at_k, k=0)
