"""LightXMLEnsemble: means of scores, members by name, and model selection."""

import copy
import os
import pickle
import re

import joblib
import numpy as np
import pytest
from classifier_fixtures import dataset, fitted, make_classifier
from ensemble_members import LABELS, LEFT, MEAN, PAIR, RIGHT, TEXTS, Fixed, Proba, fit
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import Bunch, get_tags
from sklearn.utils.parallel import Parallel

import skxmc
from skxmc import BalancedLabelClusterer, LightXMLEnsemble, OmikujiClassifier
from skxmc._meta import members as _members
from skxmc._meta import rescoring
from skxmc._topk import TopK
from skxmc.metrics import precision_at_k, precision_at_k_scorer

pytest.importorskip("omikuji")

X, Y = dataset()
SHAPE = (64, 30)
FREQUENT = Y.toarray()[:, Y.sum(axis=0) > 1]  # OneVsRestClassifier learns it without a warning


@pytest.fixture(scope="module")
def both():
    """Return a fitted, shared ensemble of language and words. Copy it before changing it."""
    members = [("language", fitted()), ("words", OmikujiClassifier().fit(X, Y))]
    return LightXMLEnsemble.from_fitted(members)


# ---------------------------------------------------------------- the mean


def test_mean_absent_scores_count_as_0():
    scores = fit().decision_function(TEXTS)
    np.testing.assert_allclose(scores.toarray(), MEAN, rtol=1e-6)
    assert scores.nnz == 6


@pytest.mark.parametrize("weights", [[3, 1], (0.75, 0.25), np.array([1.5e308, 0.5e308])], ids=repr)
def test_mean_weights_of_any_scale_are_normalized(weights):
    scores = fit(weights=weights).decision_function(TEXTS).toarray()
    np.testing.assert_allclose(scores, [[0.6, 0.45, 0, 0.25], [0.25, 0, 1, 0.375]], rtol=1e-6)


def test_mean_weight_of_0_leaves_a_member_out():
    ensemble = fit(weights=[0, 2])
    scores = ensemble.decision_function(TEXTS)
    np.testing.assert_allclose(scores.toarray(), RIGHT.scores, rtol=1e-6)
    assert scores.nnz == 4
    assert len(ensemble.estimators_) == 2
    assert not hasattr(ensemble.estimators_[0], "asked_")


def test_set_params_members_after_fit_wait_for_next_fit():
    ensemble = fit()
    ensemble.set_params(estimators=[*PAIR, ("third", LEFT)])
    np.testing.assert_allclose(ensemble.decision_function(TEXTS).toarray(), MEAN, rtol=1e-6)
    assert len(ensemble.fit(TEXTS, LABELS).estimators_) == 3


def test_set_params_weights_after_fit_change_scores():
    ensemble = fit().set_params(weights=[0, 1])
    np.testing.assert_allclose(ensemble.decision_function(TEXTS).toarray(), RIGHT.scores, rtol=1e-6)
    with pytest.raises(ValueError, match=r"weights is of shape \(3,\)"):
        ensemble.set_params(weights=[1, 1, 1]).predict_topk(TEXTS, 1)


def test_mean_dropped_member_is_left_out_with_its_weight():
    ensemble = fit([("first", "drop"), *PAIR], weights=[7, 3, 1])
    expected = fit(weights=[3, 1]).decision_function(TEXTS)
    assert (ensemble.decision_function(TEXTS) != expected).nnz == 0
    assert len(ensemble.estimators_) == 2
    assert ensemble.named_estimators_["first"] == "drop"


@pytest.mark.parametrize("convert", [np.asarray, sparse.csr_matrix, sparse.coo_array])
def test_mean_members_with_predict_proba_only_give_candidates(convert):
    dense = Proba(RIGHT.scores, convert)
    ensemble = fit([("left", LEFT), ("right", dense)], n_candidates=1)
    expected = [[0.4, 0.3, 0, 0], [0.5, 0, 0.5, 0]]  # ties go to the lower column
    np.testing.assert_allclose(ensemble.decision_function(TEXTS).toarray(), expected, rtol=1e-6)
    np.testing.assert_allclose(
        ensemble.set_params(n_candidates=9).decision_function(TEXTS).toarray(), MEAN, rtol=1e-6
    )


def test_n_candidates_members_propose_as_many_labels():
    ensemble = fit(n_candidates=2)
    scores = ensemble.decision_function(TEXTS)
    expected = [[0.4, 0.5, 0, 0.2], [0.5, 0, 1, 0.25]]
    np.testing.assert_allclose(scores.toarray(), expected, rtol=1e-6)
    ensemble.predict_topk(TEXTS, 1)
    ensemble.predict_topk(TEXTS, 3)
    ensemble.decision_function(TEXTS, top_k=4)
    fit().predict_topk(TEXTS, 3)
    assert ensemble.estimators_[0].asked_ == [(2, 2), (2, 2), (2, 3), (2, 4)]
    assert fit().set_params(n_candidates=99).fit(TEXTS, LABELS).decision_function(TEXTS).nnz == 6


def test_decision_function_scores_are_above_0_and_at_most_1(both):
    sure = Fixed([[1.0, 1e-44, 0.0]])
    for n in (3, 6, 7):
        ensemble = LightXMLEnsemble([(f"m{i}", sure) for i in range(n)], weights=np.full(n, 0.1))
        scores = ensemble.fit(["0"], np.eye(1, 3)).decision_function(["0"])
        assert scores[0, 0] == 1
    rare = LightXMLEnsemble([("a", sure), ("b", Fixed([[1.0, 0, 0]]))], weights=[1e-9, 1])
    assert rare.fit(["0"], np.eye(1, 3)).decision_function(["0"]).indices.tolist() == [0]
    for scores in (both.decision_function(X), both.decision_function(X, top_k=3)):
        assert isinstance(scores, sparse.csr_matrix)
        assert scores.shape == SHAPE
        assert scores.dtype == np.float32
        assert (scores.data > 0).all()
        assert (scores.data <= 1).all()
        assert scores.has_canonical_format


# ---------------------------------------------------------------- predict_topk and the rest


@pytest.mark.parametrize("k", [1, 5, 30, np.int64(2)])
@pytest.mark.parametrize("n_candidates", [1, 4, 200])
def test_predict_topk_any_k_returns_k_labels_best_first(both, k, n_candidates):
    ensemble = copy.copy(both).set_params(n_candidates=n_candidates)
    best = ensemble.predict_topk([*X, ""], k)
    assert isinstance(best, TopK)
    assert best.labels.shape == best.scores.shape == (65, k)
    assert best.scores.dtype == np.float32
    assert (best.scores > 0).all()
    assert (best.scores <= 1).all()
    assert (np.diff(best.scores, axis=1) <= 0).all()
    assert all(len(set(row)) == k for row in best.labels.tolist())
    stored = ensemble.decision_function([*X, ""], top_k=k).toarray()
    np.testing.assert_array_equal(np.take_along_axis(stored, best.labels, axis=1), best.scores)
    assert ((stored > 0).sum(axis=1) == k).all()


@pytest.mark.parametrize("frozen", [False, True])
def test_predict_topk_members_in_pipelines_propose_as_many(frozen):
    clf = make_classifier(n_candidate_clusters=1).fit(X, Y)  # clusters of four labels
    member = make_pipeline(FunctionTransformer(list), clf)
    member = FrozenEstimator(member) if frozen else member
    ensemble = LightXMLEnsemble.from_fitted([("a", member)], n_candidates=10)
    for expected, found in zip(clf.predict_topk(X, 10), ensemble.predict_topk(X, 10), strict=True):
        np.testing.assert_array_equal(expected, found)


def test_predict_topk_pipeline_transforms_texts_once():
    seen = []

    def note(texts):
        seen.append(len(texts))
        return texts

    words = OneVsRestClassifier(MultinomialNB())
    member = make_pipeline(FunctionTransformer(note), TfidfVectorizer(), words).fit(X, FREQUENT)
    del seen[:]
    LightXMLEnsemble.from_fitted([("a", member)]).predict_topk(X, 3)
    assert seen == [64]


def test_predict_topk_members_with_fewer_labels_still_gives_k():
    assert fit().decision_function(TEXTS, top_k=4).nnz == 6
    best = fit().predict_topk(TEXTS, 4)
    assert best.labels.tolist() == [[1, 0, 3, 2], [2, 0, 3, 1]]
    np.testing.assert_allclose(best.scores, [[0.5, 0.4, 0.3, 0], [1, 0.5, 0.25, 0]], rtol=1e-6)


def test_classes_are_those_of_the_members():
    named = [("left", clone(LEFT).set_params(classes=list("wxyz")))]
    ensemble = fit(named)
    assert ensemble.classes_.tolist() == list("wxyz")
    assert ensemble.n_labels_ == 4
    assert ensemble.predict_topk(TEXTS, 1).labels.tolist() == [["w"], ["y"]]


def test_prediction_many_texts_in_blocks_gives_same_scores(both, monkeypatch):
    expected = (
        both.predict_topk(X, 4),
        both.decision_function(X),
        both.decision_function(X, top_k=2),
    )
    monkeypatch.setattr(rescoring, "TEXT_BLOCK", 10)
    found = both.predict_topk(X, 4), both.decision_function(X), both.decision_function(X, top_k=2)
    np.testing.assert_array_equal(found[0].labels, expected[0].labels)
    for left, right in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(left.toarray(), right.toarray(), atol=1e-6)
    ensemble = fit()
    ensemble.predict_topk(["0"] * 25, 2)
    assert [n for n, _ in ensemble.estimators_[1].asked_] == [10, 10, 5]


def test_prediction_no_texts_gives_empty_results(both):
    assert both.predict_topk([], 3).labels.shape == (0, 3)
    assert both.decision_function([]).shape == (0, 30)
    assert both.predict([]).shape == (0, 30)


def test_predict_and_score_agree_with_decision_function(both):
    scores = both.decision_function(X)
    assert (both.predict_proba(X) != scores).nnz == 0
    predicted = copy.copy(both).set_params(threshold=0.3).predict(X)
    assert predicted.dtype == np.int64
    np.testing.assert_array_equal(predicted.toarray(), scores.toarray() >= np.float32(0.3))
    assert both.score(X, Y) == precision_at_k(Y, both.predict_topk(X, 1), k=1)


def test_predict_topk_function_equals_method(both):
    best = skxmc.predict_topk(both, X, 3)
    np.testing.assert_array_equal(best.labels, both.predict_topk(X, 3).labels)


def test_mean_nested_ensemble_multiplies_weights():
    inner = LightXMLEnsemble(PAIR, weights=[1, 3])
    scores = fit([("inner", inner), ("left", LEFT)]).decision_function(TEXTS).toarray()
    expected = (5 * np.array(LEFT.scores) + 3 * np.array(RIGHT.scores)) / 8
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


# ---------------------------------------------------------------- fit


def test_fit_clones_members_and_passes_fit_params():
    left = clone(LEFT)
    ensemble = LightXMLEnsemble([("left", left), ("right", RIGHT)])
    assert ensemble.fit(TEXTS, LABELS, label_names=list("abcd")) is ensemble
    assert not hasattr(left, "classes_")
    assert [member.params_ for member in ensemble.estimators_] == [
        {"label_names": list("abcd")}
    ] * 2
    assert ensemble.named_estimators_ == dict(
        zip(("left", "right"), ensemble.estimators_, strict=True)
    )
    assert isinstance(ensemble.named_estimators_, Bunch)
    assert ensemble.named_estimators_.right is ensemble.estimators_[1]


def test_fit_members_of_four_kinds_average_their_scores():
    nb = make_pipeline(TfidfVectorizer(), OneVsRestClassifier(MultinomialNB()))
    y = FREQUENT
    ensemble = LightXMLEnsemble(
        [
            ("language", make_classifier(max_epochs=1)),
            ("words", OmikujiClassifier()),
            ("bayes", nb),
            ("search", GridSearchCV(OmikujiClassifier(n_trees=1), {"C": [0.5, 1.0]}, cv=2)),
        ]
    )
    ensemble.fit(X, y)
    parts = [ensemble.estimators_[i].decision_function(X) for i in (0, 1)]
    parts += [ensemble.estimators_[i].predict_proba(X) for i in (2, 3)]
    expected = sum(np.asarray(p.todense() if sparse.issparse(p) else p) for p in parts) / 4
    full = ensemble.set_params(n_candidates=y.shape[1]).decision_function(X).toarray()
    np.testing.assert_allclose(full[expected > 0.05], expected[expected > 0.05], atol=0.05)
    assert ensemble.predict_topk(X, 7).labels.shape == (64, 7)


def test_fit_in_parallel_gives_same_scores():
    members = [("a", make_classifier(max_epochs=1)), ("b", make_classifier("direct", max_epochs=1))]
    one = LightXMLEnsemble(members).fit(X, Y).decision_function(X)
    with joblib.parallel_backend("threading"):
        two = LightXMLEnsemble(members, n_jobs=2).fit(X, Y).decision_function(X)
    assert (one != two).nnz == 0


def test_fit_n_jobs_is_passed_to_joblib_up_to_number_of_cpus(monkeypatch):
    asked = []

    def parallel(n_jobs):
        asked.append(n_jobs)
        return Parallel()

    monkeypatch.setattr(_members, "Parallel", parallel)
    for n_jobs in (None, 1, -1, 10**6):
        fit(n_jobs=n_jobs)
    assert asked == [None, 1, -1, os.cpu_count()]


def test_fit_several_clusterings_averages_their_scores():
    clusterers = [BalancedLabelClusterer(max_cluster_size=4, random_state=i) for i in range(3)]
    members = [(f"c{i}", make_classifier(clusterer=c)) for i, c in enumerate(clusterers)]
    ensemble = LightXMLEnsemble(members).fit(X, Y)
    clusterings = [tuple(member.clusterer_.labels_) for member in ensemble.estimators_]
    assert len(set(clusterings)) == 3
    alone = [member.decision_function(X) for member in ensemble.estimators_]
    mean = sum(scores.toarray() for scores in alone) / 3
    np.testing.assert_allclose(ensemble.decision_function(X).toarray(), mean, rtol=1e-5)


def test_fit_frozen_members_are_not_fitted_again():
    words = OmikujiClassifier().fit(X, Y)
    ensemble = LightXMLEnsemble(
        [("words", FrozenEstimator(words)), ("language", FrozenEstimator(fitted()))]
    ).fit(X[:3], Y[:3])
    assert ensemble.estimators_[0].estimator is words
    expected = LightXMLEnsemble.from_fitted([("words", words), ("language", fitted())])
    assert (ensemble.decision_function(X) != expected.decision_function(X)).nnz == 0


def test_predict_topk_frozen_members_propose_n_candidates():
    ensemble = fit([("left", FrozenEstimator(clone(LEFT).fit(TEXTS, LABELS)))], n_candidates=2)
    ensemble.predict_topk(TEXTS, 1)
    assert ensemble.estimators_[0].asked_ == [(2, 2)]


def test_fit_verbose_prints_time_of_each_member(capsys):
    fit()
    assert capsys.readouterr().out == ""
    fit(verbose=True)
    assert re.search(r"\(2 of 2\) Fitting right, total=", capsys.readouterr().out)


# ---------------------------------------------------------------- from_fitted


def test_from_fitted_members_give_same_scores_as_fit():
    left, right = clone(LEFT).fit(TEXTS, LABELS), clone(RIGHT).fit(TEXTS, LABELS)
    ensemble = LightXMLEnsemble.from_fitted(
        [("left", left), ("right", right)], weights=[1, 3], n_candidates=3, threshold=0.25
    )
    assert ensemble.estimators_[0] is left
    assert ensemble.named_estimators_.right is right
    assert ensemble.get_params(deep=False) == {
        "estimators": [("left", left), ("right", right)],
        "weights": [1, 3],
        "n_candidates": 3,
        "threshold": 0.25,
        "n_jobs": None,
        "verbose": False,
        "fusion": "mean",
        "validation_fraction": "auto",
        "random_state": None,
    }
    expected = fit(weights=[1, 3], n_candidates=3).decision_function(TEXTS)
    assert (ensemble.decision_function(TEXTS) != expected).nnz == 0
    assert not hasattr(clone(ensemble), "estimators_")


def test_from_fitted_unfitted_member_or_bad_param_is_an_error():
    with pytest.raises(NotFittedError, match="OmikujiClassifier"):
        LightXMLEnsemble.from_fitted([("words", OmikujiClassifier())])
    with pytest.raises(ValueError, match="'threshold' parameter"):
        LightXMLEnsemble.from_fitted([("left", clone(LEFT).fit(TEXTS, LABELS))], threshold=2)


def test_from_fitted_members_loaded_from_files_give_same_scores(both, tmp_path):
    for name, member in both.estimators:
        joblib.dump(member, tmp_path / name)
    loaded = [(name, joblib.load(tmp_path / name)) for name, _ in both.estimators]
    ensemble = LightXMLEnsemble.from_fitted(loaded)
    assert (ensemble.decision_function(X) != both.decision_function(X)).nnz == 0


# ---------------------------------------------------------------- scikit-learn


def test_params_members_are_read_and_set_by_name():
    words = OmikujiClassifier(C=2.0)
    ensemble = LightXMLEnsemble([("words", words), ("left", LEFT)])
    params = ensemble.get_params()
    assert params["words"] is words
    assert params["words__C"] == 2.0
    assert "words" not in ensemble.get_params(deep=False)
    ensemble.set_params(words__C=3.0, n_candidates=5)
    assert words.C == 3.0
    assert ensemble.n_candidates == 5
    assert ensemble.set_params(words="drop").estimators == [("words", "drop"), ("left", LEFT)]
    assert ensemble.named_estimators == {"words": "drop", "left": LEFT}
    other = OmikujiClassifier()
    assert ensemble.set_params(words=other, words__n_trees=1).named_estimators.words is other
    assert other.n_trees == 1
    with pytest.raises(ValueError, match="Invalid parameter 'speed'"):
        ensemble.set_params(speed=1)


def test_clone_keeps_params_and_repr_shows_them(both):
    ensemble = LightXMLEnsemble([("words", OmikujiClassifier(C=2.0))], weights=[1], n_jobs=2)
    cloned = clone(ensemble)
    assert repr(cloned) == repr(ensemble)
    assert repr(ensemble).startswith("LightXMLEnsemble(estimators=[('words', OmikujiClassifier(C=2")
    members = [("words", OmikujiClassifier(C=2.0)), ("language", "drop")]
    html = LightXMLEnsemble(members)._repr_html_()
    assert html.count('class="sk-parallel-item"') == 2
    assert cloned.estimators[0][1] is not ensemble.estimators[0][1]
    assert not hasattr(clone(both), "classes_")


def test_pickle_fitted_ensemble_predicts_the_same(both, tmp_path):
    joblib.dump(both, tmp_path / "both")
    for loaded in (pickle.loads(pickle.dumps(both)), joblib.load(tmp_path / "both")):
        assert (loaded.decision_function(X) != both.decision_function(X)).nnz == 0
        np.testing.assert_array_equal(
            loaded.predict_topk(X, 4).labels, both.predict_topk(X, 4).labels
        )


def test_tags_depend_on_members_that_are_not_dropped():
    tags = get_tags(LightXMLEnsemble([("left", LEFT), ("right", "drop")]))
    assert tags.estimator_type == "classifier"
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert tags.classifier_tags.multi_label
    assert not tags.non_deterministic
    words = ("words", OmikujiClassifier())
    assert get_tags(LightXMLEnsemble([("left", "drop"), words])).non_deterministic
    for broken in (None, 3, [LEFT], [("a", 1)]):
        assert not get_tags(LightXMLEnsemble(broken)).non_deterministic


def test_grid_search_over_weights_and_members_finds_the_best():
    tags = [[f"tag {column}" for column in row.indices] for row in Y]
    texts = [*X, *X]  # so that each half has all labels
    ensemble = LightXMLEnsemble(
        [("language", make_classifier(max_epochs=1)), ("words", OmikujiClassifier())]
    )
    grid = {"weights": [None, [1, 3]], "words": ["drop", OmikujiClassifier(n_trees=1)]}
    search = GridSearchCV(ensemble, grid, scoring=precision_at_k_scorer(k=3), cv=KFold(2))
    search.fit(texts, [*tags, *tags])
    results = search.cv_results_
    assert np.isfinite(results["mean_test_score"]).all()
    words_score = max(results["mean_test_score"][[1, 3]])
    assert words_score > results["mean_test_score"][0] == results["mean_test_score"][2]
    assert isinstance(search.best_params_["words"], OmikujiClassifier)
    best = skxmc.predict_topk(search, X, 3)
    assert set(best.labels.ravel()) <= {tag for row in tags for tag in row}
    assert len(search.best_estimator_.estimators_) == 2
