"""The recommended classifier: its members, their parameters, and the fusion."""

import sys

import numpy as np
import pytest
from classifier_fixtures import dataset, encoder_path
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV

from skxmc import (
    LightXMLClassifier,
    LightXMLEnsemble,
    NeighborsClassifier,
    OmikujiClassifier,
    TextEncoder,
    make_classifier,
)
from skxmc.metrics import precision_at_k_scorer

pytest.importorskip("omikuji")

X, Y = dataset()
QUICK = {"max_epochs": 1, "n_feature_layers": 2, "max_length": 32, "precision": "fp32"}


def test_make_classifier_fine_tune_has_three_members():
    clf = make_classifier("my/encoder", n_jobs=2, random_state=3, max_epochs=5)
    assert isinstance(clf, LightXMLEnsemble)
    members = dict(clf.estimators)
    assert list(members) == ["language", "neighbors", "words"]
    expected = LightXMLClassifier("my/encoder", max_epochs=5, random_state=3)
    assert repr(members["language"]) == repr(expected)
    assert repr(members["neighbors"]) == repr(NeighborsClassifier("language"))
    assert repr(members["words"]) == repr(OmikujiClassifier(n_jobs=2))
    assert (clf.fusion, clf.random_state) == ("auto", 3)


def test_make_classifier_no_fine_tune_has_no_language():
    members = dict(make_classifier("my/encoder", fine_tune=False, max_length=9).estimators)
    assert list(members) == ["neighbors", "words"]
    expected = NeighborsClassifier(TextEncoder("my/encoder", max_length=9))
    assert repr(members["neighbors"]) == repr(expected)


@pytest.mark.parametrize("fine_tune", [True, False])
def test_make_classifier_unknown_parameter_raises(fine_tune):
    with pytest.raises(TypeError, match="unexpected keyword argument 'epochs'"):
        make_classifier(fine_tune=fine_tune, epochs=3)


def test_make_classifier_without_omikuji_raises_before_fit(monkeypatch):
    monkeypatch.setitem(sys.modules, "omikuji", None)
    with pytest.raises(ImportError, match="pip install omikuji"):
        make_classifier()
    assert list(dict(make_classifier(words=False).estimators)) == ["language", "neighbors"]
    assert list(dict(make_classifier(fine_tune=False, words=False).estimators)) == ["neighbors"]


def test_make_classifier_fits_and_predicts_through_a_search():
    clf = make_classifier(encoder_path(), random_state=0, **QUICK)
    grid = {"language__dropout": [0.1, 0.2]}
    search = GridSearchCV(clf, grid, scoring=precision_at_k_scorer(k=1), cv=2).fit(X, Y)
    best = search.best_estimator_
    near = best.named_estimators_["neighbors"]
    assert near.encoder_.estimator is best.named_estimators_["language"]
    assert best.predict_topk(X[:3], k=2).labels.shape == (3, 2)
    again = clone(best).fit(X, Y)
    assert again.predict_topk(X[:3], k=2).labels.shape == (3, 2)


def test_make_classifier_weights_reach_all_members():
    weights = np.arange(64) % 3.0
    kept = np.flatnonzero(weights)
    clf = make_classifier(encoder_path(), random_state=0, **QUICK).fit(X, Y, sample_weight=weights)
    by_name = dict(clf.estimators)
    language = clone(by_name["language"]).fit(X, Y, sample_weight=weights)
    near = NeighborsClassifier(FrozenEstimator(language)).fit(X, Y, sample_weight=weights)
    for name, expected in (("language", language), ("neighbors", near)):
        scores = clf.named_estimators_[name].decision_function(X).toarray()
        np.testing.assert_array_equal(scores, expected.decision_function(X).toarray())
    words = clf.named_estimators_["words"]
    vocabulary = clone(by_name["words"]).fit([X[i] for i in kept], Y[kept]).vectorizer_.vocabulary_
    assert words.vectorizer_.vocabulary_ == vocabulary


# ---------------------------------------------------------------- fusion="auto"


@pytest.mark.filterwarnings("ignore:Too few held-out texts")
@pytest.mark.parametrize(
    ("least", "held_out", "learns"),
    [(64, {}, True), (65, {}, False), (65, {"X_val": X[:30], "y_val": Y[:30]}, True)],
    ids=["enough texts", "too few texts", "held-out texts"],
)
def test_fit_fusion_auto_learns_from_enough_texts(monkeypatch, least, held_out, learns):
    monkeypatch.setattr("skxmc._ensemble.MIN_LEARNED", least)
    members = [("a", OmikujiClassifier()), ("b", OmikujiClassifier(C=2))]
    ensemble = LightXMLEnsemble(members, fusion="auto", random_state=0)
    ensemble.fit(X, Y, **held_out)
    assert (ensemble._fusion is not None) == learns
