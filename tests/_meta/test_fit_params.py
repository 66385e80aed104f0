"""Routing of `fit` parameters through ensembles, rankers, pipelines and searches."""

import numpy as np
import pytest
from classifier_fixtures import assert_same_predictions, dataset, make_classifier
from ensemble_members import LABELS, TEXTS, Fixed, Proba
from sklearn import config_context
from sklearn.ensemble import AdaBoostClassifier
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxmc import LightXMLEnsemble, OmikujiClassifier, PropensityRanker
from skxmc._meta.fit_params import names_taken
from skxmc._topk import innermost
from skxmc.metrics import precision_at_k_scorer

pytest.importorskip("omikuji")

X, Y = dataset()
NAMES = [f"tag {i}" for i in range(30)]


def search(estimator):
    return GridSearchCV(estimator, {}, cv=2, scoring=precision_at_k_scorer(k=1))


def piped(estimator):
    return make_pipeline(FunctionTransformer(list), estimator)


def ensemble(estimator):
    return LightXMLEnsemble([("dropped", "drop"), ("member", estimator)])


def test_ensemble_fit_params_reach_members_that_take_them():
    plain, features = Proba([[0.5, 0.1]] * 64), np.eye(30)
    clean = FunctionTransformer(lambda texts: [text.lower() for text in texts])
    members = [
        ("language", make_classifier(max_epochs=1)),
        ("words", OmikujiClassifier()),
        ("cleaned", make_pipeline(clean, Fixed(np.zeros((64, 30)), classes=list(range(30))))),
    ]
    ensemble = LightXMLEnsemble(members)
    ensemble.fit(X, Y, label_features=features, label_names=list(range(30)))
    by_hand = make_classifier(max_epochs=1).fit(X, Y, label_features=features)
    assert_same_predictions(ensemble.estimators_[0], by_hand)
    assert ensemble.estimators_[2][-1].params_.keys() == {"label_features", "label_names"}
    with pytest.raises(TypeError, match="No estimator has a fit that takes 'label_features'"):
        LightXMLEnsemble([("a", plain), ("b", OmikujiClassifier())]).fit(
            TEXTS, LABELS, label_features=features
        )


def test_ensemble_label_names_and_texts_reach_members():
    names = [f"tag {i}" for i in range(30)]
    members = [("one", OmikujiClassifier()), ("two", OmikujiClassifier(n_trees=1))]
    ensemble = LightXMLEnsemble(members)
    ensemble.fit(X, Y, label_names=names, label_texts=["zyzzyva"] + [None] * 29)
    assert ensemble.classes_.tolist() == names
    for member in ensemble.estimators_:
        assert "zyzzyva" in member.vectorizer_.vocabulary_


def test_ranker_label_names_and_texts_reach_pipeline():
    names = [f"tag {i}" for i in range(30)]
    pipeline = make_pipeline(FunctionTransformer(list), OmikujiClassifier())
    ranker = PropensityRanker(pipeline).fit(X, Y, label_names=names, label_texts=names)
    assert ranker.classes_.tolist() == names
    assert "tag" in ranker.estimator_[-1].vectorizer_.vocabulary_
    ranker.fit(X, Y, omikujiclassifier__label_texts=names)
    assert "tag" in ranker.estimator_[-1].vectorizer_.vocabulary_
    with pytest.raises(TypeError, match=r"^No estimator has a fit that takes 'label_features'"):
        ranker.fit(X, Y, label_features=1)


INNER, OUTER = "omikujiclassifier__{}", "pipeline__omikujiclassifier__{}"


@pytest.mark.parametrize(
    ("wrap", "name"),
    [
        (lambda words: words, "{}"),
        (piped, INNER),
        (lambda words: piped(piped(words)), OUTER),
        (search, "{}"),
        (lambda words: search(piped(words)), INNER),
        (lambda words: piped(search(words)), "gridsearchcv__{}"),
        (PropensityRanker, "{}"),
        (lambda words: PropensityRanker(piped(words)), "{}"),
        (ensemble, "{}"),
        (lambda words: ensemble(PropensityRanker(search(words))), "{}"),
        (lambda words: search(ensemble(words)), "{}"),
    ],
)
def test_names_taken_nested_estimator_gives_names_of_inner_fit(wrap, name):
    estimator = wrap(OmikujiClassifier())
    taken = names_taken(estimator, ["label_names", "label_features", "label_texts"])
    expected = ("label_names", "label_texts")
    assert taken == {key: name.format(key) for key in expected}


@pytest.mark.parametrize("wrap", [search, PropensityRanker, ensemble])
def test_ensemble_nested_members_get_only_params_they_take(wrap):
    both = LightXMLEnsemble(
        [("fixed", Fixed(np.ones((64, 30)), NAMES)), ("words", wrap(piped(OmikujiClassifier())))]
    )
    y = np.ones((64, 30))
    y[:10] = Y[:10].toarray()
    both.fit(X, y, label_names=NAMES, label_features=np.eye(30), label_texts=["zyzzyva"] * 30)
    assert both.estimators_[0].params_.keys() == {"label_names", "label_features", "label_texts"}
    assert both.classes_.tolist() == NAMES
    inside = both.estimators_[1]
    inside = getattr(inside, "estimators_", [inside])[-1]
    inside = innermost(getattr(inside, "estimator_", inside))[0]
    assert "zyzzyva" in inside.vectorizer_.vocabulary_


@pytest.mark.parametrize("wrap", [PropensityRanker, ensemble])
def test_ensemble_param_that_no_inner_fit_takes_is_an_error(wrap):
    inner = wrap(OmikujiClassifier())
    with pytest.raises(TypeError, match=r"^No estimator has a fit that takes 'label_features'"):
        ensemble(inner).fit(X, Y, label_features=np.eye(30))


def test_names_taken_ensemble_takes_validation_data():
    inner = ensemble(OmikujiClassifier())
    assert names_taken(inner, ["validation_data", "label_features"]) == {
        "validation_data": "validation_data"
    }


def test_names_taken_router_takes_only_what_is_routed():
    """Its fit has ``**fit_params``, but refuses them without metadata routing."""
    linear, both = LogisticRegression(), ["label_names", "sample_weight"]
    assert names_taken(OneVsRestClassifier(linear), both) == {}
    with config_context(enable_metadata_routing=True):
        linear.set_fit_request(sample_weight=True)
        taken = names_taken(OneVsRestClassifier(linear), both)
    assert taken == {"sample_weight": "sample_weight"}


def test_ranker_estimator_that_cannot_route_fits():
    """scikit-learn's AdaBoostClassifier raises NotImplementedError if asked for its routing."""
    boosted = OneVsRestClassifier(AdaBoostClassifier(n_estimators=1))
    ranker = PropensityRanker(make_pipeline(CountVectorizer(), boosted))
    ranker.fit(X, np.eye(2)[np.arange(64) % 2])
    assert ranker.predict_topk(X[:2], 1).labels.shape == (2, 1)


@pytest.mark.parametrize("wrap", [PropensityRanker, ensemble])
def test_fit_metadata_routing_without_request_asks_for_one(wrap):
    message = r"'sample_weight'\. Leave it out\. Or request it by set_fit_request on the est"
    with config_context(enable_metadata_routing=True), pytest.raises(TypeError, match=message):
        wrap(piped(OmikujiClassifier())).fit(X, Y, sample_weight=np.ones(64))


@pytest.mark.parametrize("wrap", [piped, lambda words: search(piped(words))])
def test_names_taken_metadata_routing_gives_only_requested_params(wrap):
    with config_context(enable_metadata_routing=True):
        asks = wrap(OmikujiClassifier().set_fit_request(label_names=True, label_texts=False))
        assert names_taken(asks, ["label_names", "label_texts"]) == {"label_names": "label_names"}
        both = LightXMLEnsemble([("words", asks)]).fit(X, np.ones((64, 30)), label_names=NAMES)
        assert both.classes_.tolist() == NAMES
