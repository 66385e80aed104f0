"""Excluded and allowed labels, and thresholds, in predict_topk of all estimators."""

import functools

import numpy as np
import pytest
from classifier_fixtures import dataset, encoder_path, fitted, make_classifier
from ensemble_members import LABELS, LEFT, TEXTS, Proba
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxmc import (
    LightXMLEnsemble,
    NeighborsClassifier,
    OmikujiClassifier,
    PropensityRanker,
    TextEncoder,
    predict_topk,
)
from skxmc._base import TextRankerMixin
from skxmc._input.ranking import best_positions
from skxmc._meta.rescoring import keep_best

X, Y = dataset()
N_LABELS = 30
KINDS = ["direct", "two-stage", "words", "neighbors", "ensemble", "ranker", "pipeline", "linear"]


@functools.cache
def estimator(kind):
    if kind in ("direct", "two-stage"):
        return fitted(kind)
    if kind == "words":
        return OmikujiClassifier(beam_size=N_LABELS).fit(X, Y)
    if kind == "neighbors":
        encoder = TextEncoder(encoder_path(), max_length=32, precision="fp32", device="cpu")
        return NeighborsClassifier(encoder, n_neighbors=3).fit(X, Y)
    if kind == "ensemble":
        members = [(name, estimator(name)) for name in ("two-stage", "words", "neighbors")]
        return LightXMLEnsemble.from_fitted(members, n_candidates=N_LABELS)
    if kind == "ranker":
        ensemble = FrozenEstimator(estimator("ensemble"))
        return PropensityRanker(ensemble, exponent=0.5, n_candidates=N_LABELS).fit(X, Y)
    if kind == "pipeline":
        keep = FunctionTransformer(lambda texts: texts)
        return make_pipeline(keep, estimator("two-stage")).fit(X, Y)
    return make_pipeline(TfidfVectorizer(), OneVsRestClassifier(MultinomialNB())).fit(
        X, np.vstack([Y[:-1].toarray(), np.ones(N_LABELS)])
    )


def ranking(kind):
    """Rank all labels of all texts."""
    return predict_topk(estimator(kind), X, N_LABELS)


def assert_is_filtered(top, everything, is_allowed):
    """Check that `top` holds the first allowed labels of the ranking of all labels, then None."""
    k = top.labels.shape[1]
    for row, labels in enumerate(everything.labels):
        places = [i for i, label in enumerate(labels) if is_allowed[row, label]][:k]
        n_lacking = k - len(places)
        assert top.labels[row].tolist() == labels[places].tolist() + [None] * n_lacking
        expected = [*everything.scores[row, places], *[0] * n_lacking]
        np.testing.assert_allclose(top.scores[row], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_predict_topk_with_choice_is_ranking_of_allowed_labels(kind):
    everything = ranking(kind)
    best = everything.labels[:, 0]
    for exclude in ([*np.unique(best)[:2]], everything.labels[:, :4].tolist()):
        excluded = np.zeros(Y.shape, dtype=bool)
        if isinstance(exclude[0], list):
            np.put_along_axis(excluded, np.array(exclude), True, axis=1)
        else:
            excluded[:, exclude] = True
        top = predict_topk(estimator(kind), X, 3, exclude=exclude)
        assert_is_filtered(top, everything, ~excluded)
        assert top.labels.dtype == everything.labels.dtype  # k labels are left
        allow = sparse.csr_matrix(excluded)
        top = predict_topk(estimator(kind), X, 3, allow=allow)
        assert_is_filtered(top, everything, excluded)
    allow, exclude = np.arange(8), np.arange(5, 20)
    is_allowed = np.tile(np.arange(N_LABELS) < 5, (len(X), 1))
    top = predict_topk(estimator(kind), X, 6, allow=allow, exclude=exclude)
    assert_is_filtered(top, everything, is_allowed)


@pytest.mark.parametrize("kind", KINDS)
def test_predict_topk_threshold_leaves_low_scores_out(kind):
    everything = predict_topk(estimator(kind), X, 5)
    threshold = float(np.median(everything.scores))
    top = predict_topk(estimator(kind), X, 5, threshold=threshold)
    is_kept = everything.scores >= threshold
    assert 0 < is_kept.sum() < is_kept.size
    assert (top.labels[is_kept] == everything.labels[is_kept]).all()
    np.testing.assert_allclose(top.scores, np.where(is_kept, everything.scores, 0), rtol=1e-5)
    assert set(top.labels[~is_kept].tolist()) == {None}


@pytest.mark.parametrize("kind", ["words", "ensemble"])
def test_predict_topk_with_choice_and_no_texts_is_empty(kind):
    assert estimator(kind).predict_topk([], 2, exclude=[0], threshold=0.5).labels.shape == (0, 2)


@pytest.mark.parametrize("wrong", ["high", np.nan, True, [0.5]])
def test_predict_topk_threshold_of_wrong_type_is_an_error(wrong):
    with pytest.raises(TypeError, match=r"^threshold is .*\. Pass a number, or None"):
        fitted().predict_topk(X, threshold=wrong)


def test_predict_topk_few_candidate_clusters_recalls_more_for_allowed_labels():
    narrow = make_classifier(n_candidate_clusters=1, max_epochs=1).fit(X, Y)
    assert np.diff(narrow.decision_function(X).indptr).max() == 4
    top = narrow.predict_topk(X, 3, allow=[0, 9, 19, 29])
    assert set(top.labels.ravel().tolist()) <= {0, 9, 19, 29}
    assert (top.scores > 0).all()


def test_ensemble_excluded_labels_take_no_places_of_candidates():
    members = [(name, estimator(name)) for name in ("two-stage", "words")]
    few = LightXMLEnsemble.from_fitted(members, n_candidates=2)
    every = LightXMLEnsemble.from_fitted(members, n_candidates=N_LABELS)
    allow = [3, 17]  # all of them are candidates, so both ensembles know all scores
    top, expected = (ensemble.predict_topk(X, 2, allow=allow) for ensemble in (few, every))
    np.testing.assert_array_equal(top.labels, expected.labels)
    np.testing.assert_allclose(top.scores, expected.scores, rtol=1e-4)


def test_ensemble_member_with_predict_proba_only_is_restricted():
    both = LightXMLEnsemble([("proba", Proba(LEFT.scores))]).fit(TEXTS, LABELS)
    top = both.predict_topk(TEXTS, 2, exclude=[[0], [2]])
    assert top.labels.tolist() == [[1, 3], [3, 0]]
    np.testing.assert_allclose(top.scores, [[0.4, 0.2], [0.5, 0]])


def test_predict_topk_function_search_passes_choice_on():
    search = GridSearchCV(make_classifier(max_epochs=1), {"threshold": [0.5]}, cv=2)
    search.best_estimator_ = estimator("pipeline")
    top = predict_topk(search, X[:2], 2, allow=[4, 5])
    assert np.sort(top.labels).tolist() == [[4, 5], [4, 5]]


class Recalling(TextRankerMixin, ClassifierMixin, BaseEstimator):
    """Ranker of 3,000 labels by random scores, which recalls 50 of them by itself."""

    def fit(self, X, y=None):
        self.classes_, self.n_labels_ = np.arange(3000), 3000
        self.asked = []
        return self

    def table(self, texts):
        seeds = [int(text) for text in texts]
        return np.array([np.random.default_rng(s).random(3000, np.float32) for s in seeds])

    def _top_k(self, texts, k):
        self.asked.append((len(texts), k))
        table = self.table(texts)
        columns = best_positions(table, k)
        return columns, np.take_along_axis(table, columns, axis=1)

    def _scores(self, texts, *, top_k=None, min_score=0.0):
        return keep_best(self.table(texts), 50)


@pytest.mark.parametrize("n_allowed", [2, 400, 2990])
def test_predict_topk_large_label_sets_score_all_labels_only_if_needed(n_allowed):
    texts = [str(i) for i in range(20)]
    is_allowed = np.zeros((20, 3000), dtype=bool)
    is_allowed[:, :n_allowed] = True
    ranker = Recalling().fit(texts)
    top = ranker.predict_topk(texts, 4, allow=sparse.csr_array(is_allowed))
    expected = ranker.predict_topk(texts, 3000)
    assert_is_filtered(top, expected, is_allowed)
    n_texts, most = sum(n for n, _ in ranker.asked[:-1]), ranker.asked[0][1]
    if n_allowed == 2990:
        assert (n_texts, most) == (20, 14)
    elif n_allowed == 400:  # 50 recalled labels hold six or seven allowed ones
        assert 0 < n_texts < 10
    else:
        assert n_texts == 20
