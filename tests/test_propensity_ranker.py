"""PropensityRanker: ranking by score / propensity ** exponent."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from classifier_fixtures import assert_same_predictions, dataset, fitted, make_classifier
from ensemble_members import LABELS, LEFT, TEXTS, Proba
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC
from sklearn.utils import get_tags

from skxmc import LightXMLEnsemble, OmikujiClassifier, PropensityRanker, predict_topk
from skxmc.metrics import label_propensities, make_at_k_scorer, psp_at_k

X, Y = dataset()
P = label_propensities(Y)


def frozen(**params):
    """Make a ranker of the shared classifier."""
    return PropensityRanker(FrozenEstimator(fitted()), **params).fit(X, Y)


@pytest.mark.parametrize("exponent", [0, 0.25, 1, 3])
def test_decision_function_divides_scores_by_power_of_propensity(exponent):
    ranker = frozen(exponent=exponent)
    np.testing.assert_allclose(ranker.propensities_, P)
    scores = fitted().decision_function(X, top_k=30).toarray()
    expected = scores * (P.min() / P) ** exponent
    found = ranker.decision_function(X)
    np.testing.assert_allclose(found.toarray(), expected, rtol=1e-5)
    assert found.dtype == np.float32
    assert (found.data > 0).all()
    assert (found.data <= 1).all()
    order = np.argsort(-expected, axis=1, kind="stable")[:, :7]
    top = ranker.predict_topk(X, 7)
    np.testing.assert_array_equal(top.labels, order)
    np.testing.assert_allclose(top.scores, np.take_along_axis(expected, order, 1), rtol=1e-5)


def test_predict_topk_higher_exponent_ranks_rarer_labels():
    n_texts = np.asarray(Y.sum(axis=0)).ravel()
    counts = [n_texts[frozen(exponent=e).predict_topk(X, 3).labels].mean() for e in (0, 0.5, 2)]
    assert counts[0] > counts[1] > counts[2]


def test_fit_text_of_weight_0_does_not_count():
    weights = np.arange(64) % 3
    ranker = PropensityRanker(OmikujiClassifier()).fit(X, Y, sample_weight=weights)
    np.testing.assert_array_equal(ranker.propensities_, label_propensities(Y[weights > 0]))


def test_fit_a_and_b_change_propensities():
    ranker = frozen(a=0.4, b=2.6)
    np.testing.assert_allclose(ranker.propensities_, label_propensities(Y, a=0.4, b=2.6))


def test_n_candidates_only_candidates_are_ranked():
    ranker = frozen(n_candidates=3, exponent=1)
    candidates = fitted().predict_topk(X, 3).labels
    assert np.array_equal(np.sort(ranker.predict_topk(X, 3).labels), np.sort(candidates))
    assert ranker.predict_topk(X, 9).labels.shape == (64, 9)  # k needs more candidates
    assert (np.diff(ranker.decision_function(X).indptr) == 3).all()


def test_predict_topk_scores_that_underflow_stay_candidates():
    ranker = frozen(exponent=400)
    assert (ranker.decision_function(X).data > 0).all()
    top = ranker.predict_topk(X, 30)
    assert (np.sort(top.labels) == np.arange(30)).all()


def test_fit_passes_label_names_and_texts_to_estimator():
    names = [f"label {i}" for i in range(30)]
    label_texts = [f"w{i}" for i in range(30)]
    ranker = PropensityRanker(make_classifier()).fit(
        X, Y, label_names=names, label_texts=label_texts
    )
    assert ranker.classes_.tolist() == names
    assert ranker.n_labels_ == 30
    alone = make_classifier().fit(X, Y, label_names=names, label_texts=label_texts)
    assert_same_predictions(ranker.estimator_, alone)
    assert ranker.predict_topk(X[:2], 1).labels[0, 0] in names


def test_fit_estimator_with_predict_proba_only_is_ranked():
    ranker = PropensityRanker(Proba(LEFT.scores), exponent=0).fit(TEXTS, LABELS)
    np.testing.assert_allclose(ranker.decision_function(TEXTS).toarray(), LEFT.scores, rtol=1e-6)


def test_fit_frozen_estimator_with_other_labels_is_an_error():
    with pytest.raises(ValueError, match="FrozenEstimator has other labels than y, or has them"):
        PropensityRanker(FrozenEstimator(fitted())).fit(X, Y, label_names=range(1, 31))
    with pytest.raises(ValueError, match="other labels than y"):
        PropensityRanker(FrozenEstimator(fitted())).fit(X, Y[:, :12])


@pytest.mark.parametrize(
    ("last", "error", "message"),
    [
        (LinearSVC(), TypeError, "^estimator, Pipeline, cannot score labels: it is not a class"),
        (KNeighborsClassifier(), ValueError, "^estimator, Pipeline, has no one-dimensional array "),
    ],
)
def test_fit_estimator_of_other_interface_is_an_error(last, error, message):
    y = Y.toarray()[:, Y.sum(axis=0) > 1]
    with pytest.raises(error, match=message):
        PropensityRanker(make_pipeline(TfidfVectorizer(), last)).fit(X, y)


@pytest.mark.parametrize(
    "params",
    [{"exponent": -1}, {"n_candidates": 0}, {"a": 0}, {"b": -1}, {"estimator": 3}],
    ids=str,
)
def test_fit_bad_parameter_is_an_error_that_names_it(params):
    ranker = PropensityRanker(make_classifier()).set_params(**params)
    with pytest.raises(ValueError, match=f"'{next(iter(params))}' parameter of PropensityRanker"):
        ranker.fit(X, Y)


@pytest.mark.parametrize("exponent", [0, 0.1, 1])
def test_predict_any_exponent_uses_scores_of_estimator(exponent):
    words = OmikujiClassifier().fit(X, Y)
    ranker = PropensityRanker(FrozenEstimator(words), exponent=exponent, threshold=0.3).fit(X, Y)
    expected = words.set_params(threshold=0.3).predict(X)
    assert 0 < expected.nnz < ranker.decision_function(X).nnz
    assert (ranker.predict(X) != expected).nnz == 0
    np.testing.assert_array_equal(
        ranker.predict_proba(X).toarray(), words.predict_proba(X).toarray()
    )
    assert ranker.exponent == exponent


def test_exponent_0_ensemble_keeps_its_own_scores():
    members = [("language", fitted()), ("words", OmikujiClassifier().fit(X, Y))]
    both = LightXMLEnsemble.from_fitted(members, n_candidates=3)
    ranker = PropensityRanker(FrozenEstimator(both), exponent=0).fit(X, Y)
    expected = both.decision_function(X).toarray()
    np.testing.assert_array_equal(ranker.decision_function(X).toarray(), expected)
    np.testing.assert_array_equal(ranker.predict_proba(X).toarray(), expected)
    assert (ranker.set_params(n_candidates=2).predict_topk(X, 20).scores > 0).all()


@pytest.mark.parametrize("k", [1, 5, 20])
def test_predict_topk_estimator_with_few_labels_proposes_more(k):
    """The estimator recalls fewer than k labels by itself."""
    narrow = make_classifier(n_candidate_clusters=1).fit(X, Y)  # clusters of four labels
    ranker = PropensityRanker(FrozenEstimator(narrow), exponent=0.5).fit(X, Y)
    assert (ranker.predict_topk(X, k).scores > 0).all()
    assert (np.diff(ranker.decision_function(X, top_k=k).indptr) == k).all()


def test_predict_topk_more_candidates_are_also_reranked():
    narrow = make_classifier(n_candidate_clusters=1).fit(X, Y)
    ranker = PropensityRanker(FrozenEstimator(narrow), exponent=2, n_candidates=20).fit(X, Y)
    candidates = narrow.decision_function(X, top_k=20).toarray()
    expected = np.argsort(-candidates / P**2, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(ranker.predict_topk(X, 5).labels, expected)
    assert (expected != np.argsort(-candidates, axis=1, kind="stable")[:, :5]).any()


@pytest.mark.parametrize(
    "column", [list, lambda texts: pd.Series(texts, index=range(len(texts))[::-1]), pl.Series]
)
def test_predict_topk_pipeline_step_may_return_any_column(column):
    narrow = make_classifier(n_candidate_clusters=1).fit(X, Y)
    clean = FunctionTransformer(lambda texts: column(list(texts)))
    expected, found = (
        PropensityRanker(FrozenEstimator(model)).fit(X, Y).predict_topk(X, 10)
        for model in (narrow, make_pipeline(clean, narrow))
    )
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_ranker_keeps_scikit_learn_conventions():
    ranker = PropensityRanker(make_classifier())
    with pytest.raises(NotFittedError):
        ranker.predict_topk(X)
    ranker.set_params(estimator__max_epochs=1, exponent=0.5)
    assert clone(ranker).get_params()["estimator__max_epochs"] == 1
    ranker.fit(X, Y)
    assert_same_predictions(pickle.loads(pickle.dumps(ranker)), ranker)
    assert predict_topk(ranker, X[:3], 4).labels.shape == (3, 4)
    assert ranker.predict(X).shape == Y.shape
    assert get_tags(ranker).input_tags.string
    assert not get_tags(ranker).non_deterministic
    assert get_tags(PropensityRanker(OmikujiClassifier())).non_deterministic


def test_grid_search_over_exponent_gives_finite_scores():
    scorer = make_at_k_scorer(psp_at_k, k=3, propensities=P)
    tags = [Y[[i]].indices.tolist() for i in range(Y.shape[0])]
    tags[0] = list(range(30))  # each part has all labels
    tags[1] = tags[63] = tags[0]
    search = GridSearchCV(
        PropensityRanker(OmikujiClassifier()),
        {"exponent": [0, 0.5]},
        scoring=scorer,
        cv=KFold(3),
        error_score="raise",
    )
    search.fit(X, tags)
    plain, weighted = search.cv_results_["mean_test_score"]
    assert 0 < plain != weighted > 0
