"""LightXMLClassifier in searches and cross-validation of scikit-learn."""

import pickle

import numpy as np
import pytest
from classifier_fixtures import dataset, make_classifier
from sklearn import config_context
from sklearn.base import clone
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    ShuffleSplit,
    cross_val_score,
    cross_validate,
    train_test_split,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import skxmc
from skxmc import LightXMLEnsemble, PropensityRanker
from skxmc.metrics import precision_at_k, precision_at_k_scorer

X, Y = dataset()
FOLDS = KFold(2, shuffle=True, random_state=0)
P_AT_5 = precision_at_k_scorer(k=5)


def lowered(texts):
    return [text.lower() for text in texts]


def reversed_words(texts):
    return [" ".join(word[::-1] for word in text.split()) for text in texts]


@pytest.fixture(scope="module")
def search():
    grid = {"bottleneck_dim": [8, 16]}
    search = GridSearchCV(make_classifier(), grid, scoring=P_AT_5, cv=FOLDS)
    return search.fit(X, Y)


def test_grid_search_over_bottleneck_dim_sets_best_params(search):
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_
    assert best.bottleneck_dim == best.network_.label_table.by_cluster().shape[2]
    assert search.best_params_ == {"bottleneck_dim": best.bottleneck_dim}
    np.testing.assert_array_equal(search.classes_, np.arange(30))


def test_grid_search_scores_are_p_at_5_of_each_fold(search):
    for number, (train, test) in enumerate(FOLDS.split(X)):
        clf = clone(search.estimator).set_params(bottleneck_dim=16)
        clf.fit([X[i] for i in train], Y[train])
        texts = [X[i] for i in test]
        expected = precision_at_k(Y[test], clf.predict_topk(texts, 5), k=5)
        found = search.cv_results_[f"split{number}_test_score"][1]
        assert found == pytest.approx(expected)


def test_grid_search_in_parallel_finds_the_same(search):
    parallel = clone(search).set_params(n_jobs=2).fit(X, Y)
    for key in ("mean_test_score", "std_test_score"):
        np.testing.assert_allclose(parallel.cv_results_[key], search.cv_results_[key], atol=1e-6)
    best = skxmc.predict_topk(parallel, X, k=3)
    np.testing.assert_array_equal(best.labels, skxmc.predict_topk(search, X, k=3).labels)


def test_grid_search_fitted_predicts_as_best_estimator(search):
    best = skxmc.predict_topk(search, X, k=3)
    np.testing.assert_array_equal(best.labels, search.best_estimator_.predict_topk(X, 3).labels)
    assert search.predict(X).shape == Y.shape
    assert search.decision_function(X).nnz == 64 * 30
    assert search.score(X, Y) == pytest.approx(
        precision_at_k(Y, skxmc.predict_topk(search, X, k=5), k=5)
    )


def test_grid_search_of_pipeline_predicts_as_classifier_inside(tmp_path):
    steps = [("lower", FunctionTransformer(lowered)), ("clf", make_classifier(max_epochs=1))]
    search = GridSearchCV(
        Pipeline(steps),
        {"clf__bottleneck_dim": [8, 16], "clf__memory": [str(tmp_path)]},
        scoring=P_AT_5,
        cv=2,
    )
    loud = [text.upper() for text in X]
    search.fit(loud, Y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = skxmc.predict_topk(search, loud, k=3)
    inside = search.best_estimator_.named_steps["clf"].predict_topk(X, 3)
    np.testing.assert_array_equal(best.labels, inside.labels)
    assert search.best_estimator_.score(loud, Y) == pytest.approx(
        search.best_estimator_.named_steps["clf"].score(X, Y)
    )


def test_grid_search_of_pipeline_in_parallel_can_be_pickled():
    steps = [("lower", FunctionTransformer(lowered)), ("clf", make_classifier(max_epochs=1))]
    grid = {"clf__bottleneck_dim": [8, 16]}
    searches = [
        GridSearchCV(Pipeline(steps), grid, scoring=P_AT_5, cv=FOLDS, n_jobs=n_jobs).fit(X, Y)
        for n_jobs in (None, 2)
    ]
    scores = [search.cv_results_["mean_test_score"] for search in searches]
    np.testing.assert_allclose(*scores, atol=1e-6)
    expected = skxmc.predict_topk(searches[0], X, k=3)
    for fitted in (searches[0], searches[0].best_estimator_, searches[1]):
        found = skxmc.predict_topk(pickle.loads(pickle.dumps(fitted)), X, k=3)
        np.testing.assert_array_equal(found.labels, expected.labels)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-6)


def test_grid_search_over_cluster_size_gives_different_scores():
    search = GridSearchCV(
        make_classifier(max_epochs=1, n_candidate_clusters=2),
        {"clusterer__max_cluster_size": [1, 4, 15]},
        cv=FOLDS,
        refit=False,
    )
    search.fit(X, Y)  # scoring defaults to P@1
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert len(set(scores)) > 1
    assert search.estimator.clusterer.max_cluster_size == 4


@pytest.mark.parametrize("cv", [FOLDS, ShuffleSplit(2, test_size=0.3, random_state=0)], ids=repr)
def test_cross_val_score_label_collections_scores_p_at_3(cv):
    lists = [[f"tag {label}" for label in Y[[row]].indices] for row in range(len(X))]
    clf = make_classifier(max_epochs=1)
    scores = cross_val_score(clf, X, lists, cv=cv, scoring=precision_at_k_scorer(k=3))
    assert scores.shape == (2,)
    train, test = next(iter(cv.split(X)))
    clf.fit([X[i] for i in train], [lists[i] for i in train])
    best = clf.predict_topk([X[i] for i in test], 3)
    expected = precision_at_k([lists[i] for i in test], best, k=3, classes=clf.classes_)
    assert scores[0] == pytest.approx(expected)


@pytest.mark.parametrize("form", [lambda y: y, lambda y: y.tocsc(), lambda y: y.toarray()])
def test_train_test_split_any_matrix_keeps_texts_and_labels_aligned(form):
    X_train, X_test, y_train, y_test = train_test_split(X, form(Y), random_state=0)
    clf = make_classifier(max_epochs=1).fit(X_train, y_train)
    train, test = train_test_split(np.arange(len(X)), random_state=0)
    assert X_train == [X[i] for i in train]
    expected = precision_at_k(Y[test], clf.predict_topk([X[i] for i in test], 1), k=1)
    assert clf.score(X_test, y_test) == pytest.approx(expected)


def test_grid_search_label_features_as_long_as_x_is_an_error():
    search = GridSearchCV(make_classifier(max_epochs=1), {"dropout": [0.1]}, cv=FOLDS, refit=False)
    search.set_params(error_score="raise")
    with pytest.raises(ValueError, match="label_features has 32 rows, but there are 64 labels"):
        search.fit(X, np.eye(64), label_features=np.eye(64))


# ---------------------------------------------------------------- held-out texts in pipelines


def asking(estimator):
    return estimator.set_fit_request(X_val=True, y_val=True)


def piped(estimator):
    steps = [("reverse", FunctionTransformer(reversed_words)), ("clf", estimator)]
    return Pipeline(steps, transform_input=["X_val"])


def measured(clf):
    return [epoch["valid_p_at_5"] for epoch in clf.history_]


REVERSED = reversed_words(X)


@pytest.fixture(scope="module")
def by_hand():
    clf = make_classifier().fit(X[:40], Y[:40], X_val=X[40:], y_val=Y[40:])
    unchanged = make_classifier().fit(X[:40], Y[:40], X_val=REVERSED[40:], y_val=Y[40:])
    assert measured(clf) != measured(unchanged)  # otherwise these tests prove nothing
    return clf


@pytest.mark.parametrize(
    ("make", "inside"),
    [
        (lambda: piped(asking(make_classifier())), lambda model: model[-1]),
        (
            lambda: piped(asking(PropensityRanker(make_classifier()))),
            lambda model: model[-1].estimator_,
        ),
        (
            lambda: PropensityRanker(piped(asking(make_classifier()))),
            lambda model: model.estimator_[-1],
        ),
        (
            lambda: GridSearchCV(piped(asking(make_classifier())), {}, cv=2, scoring=P_AT_5),
            lambda model: model.best_estimator_[-1],
        ),
    ],
    ids=["pipeline", "ranker in pipeline", "pipeline in ranker", "search"],
)
def test_pipeline_transform_input_changes_x_val_by_its_steps(make, inside, by_hand):
    with config_context(enable_metadata_routing=True):
        model = make().fit(REVERSED[:40], Y[:40], X_val=REVERSED[40:], y_val=Y[40:])
    assert measured(inside(model)) == measured(by_hand)


def test_pipeline_transform_input_changes_x_val_of_ensemble(by_hand):
    def ensemble():
        members = [("a", make_classifier(max_epochs=1)), ("b", make_classifier(random_state=1))]
        return LightXMLEnsemble(members, fusion="learned", random_state=0)

    with config_context(enable_metadata_routing=True):
        model = piped(asking(ensemble()))
        model.fit(REVERSED[:40], Y[:40], X_val=REVERSED[40:], y_val=Y[40:])
    given = ensemble().fit(X[:40], Y[:40], validation_data=(X[40:], Y[40:]))
    unchanged = ensemble().fit(X[:40], Y[:40], validation_data=(REVERSED[40:], Y[40:]))
    expected = given.decision_function(X)
    assert (expected != unchanged.decision_function(X)).nnz > 0
    assert (expected != model.decision_function(REVERSED)).nnz == 0


def test_cross_validate_pipeline_measures_changed_x_val_in_each_fold(by_hand):
    with config_context(enable_metadata_routing=True):
        found = cross_validate(
            piped(asking(make_classifier())),
            REVERSED,
            Y.toarray(),
            cv=[(np.arange(40), np.arange(40, 64))],
            scoring=P_AT_5,
            params={"X_val": REVERSED[40:], "y_val": Y[40:]},
            return_estimator=True,
            error_score="raise",
        )
    assert measured(found["estimator"][0][-1]) == measured(by_hand)


@pytest.mark.parametrize("wrap", [lambda clf: clf, lambda clf: GridSearchCV(clf, {}, cv=2)])
def test_ranker_held_out_texts_that_would_skip_steps_raise_error(wrap, by_hand):
    steps = [("reverse", FunctionTransformer(reversed_words)), ("clf", make_classifier())]
    ranker = PropensityRanker(wrap(Pipeline(steps)))
    for given in (
        {"X_val": REVERSED[40:], "y_val": Y[40:]},
        {"validation_data": (REVERSED[40:], Y[40:])},
    ):
        skips = rf"{next(iter(given))} would reach the last step .* pass them as clf__"
        with pytest.raises(ValueError, match=skips):
            ranker.fit(REVERSED[:40], Y[:40], **given)
    ranker = PropensityRanker(Pipeline(steps))
    ranker.fit(REVERSED[:40], Y[:40], clf__X_val=X[40:], clf__y_val=Y[40:])
    assert measured(ranker.estimator_[-1]) == measured(by_hand)
