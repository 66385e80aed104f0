"""Properties of predictions: sound for any text, k and batch, and errors name wrong input."""

import copy
import functools

import numpy as np
import pytest
from classifier_fixtures import dataset, fitted
from hypothesis import example, given
from hypothesis import strategies as st
from property_checks import assert_sound_predictions, refused, unmodified
from sklearn.frozen import FrozenEstimator
from strategies import (
    HUGE,
    cases,
    columns_of_text,
    huge_text,
    missing_text,
    no_text,
    no_texts,
    text,
    whole,
    wrong_int,
    wrong_k,
    wrong_real,
)

from skxmc import LightXMLEnsemble, NeighborsClassifier, OmikujiClassifier, PropensityRanker

RANKERS = ("direct", "two-stage", "linear", "neighbors", "ensemble", "learned", "propensity")
# Wrong values of the parameters that may be set after fit.
LANGUAGE = {
    "threshold": wrong_real(0, 1),
    "prediction_batch_size": wrong_int(1),
    "n_candidate_clusters": wrong_int(1),
    "max_length": wrong_int(2, most=64),
    "long_text": st.sampled_from([None, "no such", 2, ["windows"]]),
    "precision": st.sampled_from([None, "fp8", 16, b"fp32", ["fp32"]]),
    "device": st.sampled_from([None, 0, b"cpu", ["cpu"]]),
}
LINEAR = {
    "threshold": wrong_real(0, 1),
    "beam_size": wrong_int(1),
    "n_jobs": st.sampled_from([0, "all", 1.5, [1]]),
}
NEAR = {
    "threshold": wrong_real(0, 1),
    "n_neighbors": wrong_int(1),
    "temperature": wrong_real(0, open_low=True),
    "alpha": wrong_real(0, open_low=True),
}
LEARNED = {"threshold": wrong_real(0, 1), "n_candidates": wrong_int(1)}
WEIGHTS = st.sampled_from([[1], "ab", [1, "b"], [1, -1], [0, 0], [1, np.nan], [[1], [1, 2]]])
SETTABLE = {
    "direct": LANGUAGE,
    "two-stage": LANGUAGE,
    "linear": LINEAR,
    "neighbors": NEAR,
    "ensemble": {**LEARNED, "weights": WEIGHTS},
    "learned": LEARNED,
    "propensity": {**LEARNED, "exponent": wrong_real(0)},
}


@functools.cache
def ranker(kind):
    """Return a shared small classifier that predicts from any text. Copy it before changing it."""
    X, y = dataset()
    if kind in ("direct", "two-stage"):
        return fitted(kind)
    if kind == "linear":
        return OmikujiClassifier().fit(X, y)
    if kind == "neighbors":
        return NeighborsClassifier(FrozenEstimator(fitted("direct")), n_neighbors=5).fit(X, y)
    members = [
        ("language", FrozenEstimator(fitted())),
        ("words", FrozenEstimator(ranker("linear"))),
    ]
    if kind == "ensemble":
        return LightXMLEnsemble(members, weights=[3, 1], n_candidates=7).fit(X, y)
    if kind == "learned":
        return LightXMLEnsemble(members, fusion="learned", random_state=0).fit(X, y)
    return PropensityRanker(ranker("linear"), exponent=1).fit(X, y)


def changed(clf, **params):
    """Copy a classifier, sharing the model, and set parameters."""
    return copy.copy(clf).set_params(**params)


@pytest.mark.parametrize("kind", RANKERS)
@cases(5)
@given(st.data(), columns_of_text(min_size=0), whole(1, 30), st.floats(0, 1))
def test_predictions_any_text_are_sound(kind, data, drawn, k, threshold):
    column, _ = drawn
    clf = changed(ranker(kind), threshold=threshold)
    if kind in ("direct", "two-stage"):
        clf.set_params(
            prediction_batch_size=data.draw(whole(1, 70) | st.sampled_from(["auto", 10**30])),
            n_candidate_clusters=data.draw(whole(1, 40) | st.sampled_from(["auto", 10**30])),
            max_length=data.draw(whole(3, 64)),
            long_text=data.draw(st.sampled_from(["truncate", "windows"])),
        )
        assert np.isfinite(clf.encode(column)).all()
    with unmodified(column):
        assert_sound_predictions(clf, column, k)


@pytest.mark.parametrize("kind", ["direct", "two-stage"])
def test_predict_topk_any_k_recalls_enough_clusters(kind):
    clf = changed(ranker(kind), n_candidate_clusters=1)
    for k in (1, 3, 4, 5, 8, 17, 29, 30):
        assert_sound_predictions(clf, ["a text", ""], k)


@pytest.mark.parametrize("kind", ["direct", "two-stage", "linear", "neighbors", "ensemble"])
@cases(4)
@given(st.data(), st.lists(text(), min_size=1, max_size=8), st.integers(1, 9))
def test_predict_topk_any_order_and_batch_gives_same_scores(kind, data, texts, batch_size):
    clf = ranker(kind)
    if kind in ("direct", "two-stage"):
        clf = changed(clf, prediction_batch_size=batch_size)
    order = data.draw(st.permutations(range(len(texts))))
    alone = np.vstack([scores_of_all(ranker(kind), [texts[i]]) for i in order])
    together = scores_of_all(clf, [texts[i] for i in order])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def scores_of_all(clf, texts):
    """Return the scores of all labels in the order of their columns."""
    labels, scores = clf.predict_topk(texts, clf.n_labels_)
    return np.take_along_axis(scores, np.argsort(labels, axis=1), axis=1)


@cases(1)
@given(huge_text())
@example("a" * HUGE)
@example("\ufdfa" * HUGE)  # eighteen times as long after normalization
def test_predict_topk_huge_text_is_read_up_to_max_length(huge):
    for kind in ("two-stage", "linear"):
        labels, scores = ranker(kind).predict_topk([huge], 3)
        assert len(set(labels[0])) == 3
        assert ((scores > 0) & (scores <= 1)).all()
    # The tokenizer keeps only its first tokens.
    start = ranker("two-stage").predict_topk([huge[: HUGE // 10]], 30)
    np.testing.assert_array_equal(ranker("two-stage").predict_topk([huge], 30).scores, start.scores)


@cases(6)
@given(wrong_k(30))
@example(0)
@example(31)
@example(True)
def test_predictions_k_out_of_range_raise_error(k):
    for clf in map(ranker, RANKERS):
        with refused("k", "k is "):
            clf.predict_topk(["text"], k)
        with refused("top_k", "top_k is "):
            clf.decision_function(["text"], top_k=k)
    with refused("k", "k is "):
        ranker("direct").explain_topk("text", k)


@cases(6)
@given(no_texts(), no_text() | missing_text())
def test_predictions_wrong_texts_raise_error(wrong, element):
    for clf in map(ranker, RANKERS):
        for method in ("predict", "predict_topk", "predict_proba", "decision_function", "encode"):
            if hasattr(clf, method) and not (isinstance(wrong, list) and not wrong):
                with refused("X"):
                    getattr(clf, method)(wrong)
                with refused("X", "row 1"):
                    getattr(clf, method)(["text", element])
        with refused("X"):
            clf.score(wrong, [["a"]])


@cases(6)
@given(st.fixed_dictionaries({kind: st.fixed_dictionaries(SETTABLE[kind]) for kind in RANKERS}))
@example({"two-stage": {"prediction_batch_size": -1, "max_length": 65, "threshold": float("nan")}})
def test_predictions_wrong_parameter_set_after_fit_raise_error(wrong):
    for kind, params in wrong.items():
        for name, value in params.items():
            clf = changed(ranker(kind), **{name: value})
            for method in ("predict", "predict_topk", "decision_function", "encode"):
                if hasattr(clf, method):
                    with refused(name):
                        getattr(clf, method)(["text"])


def test_predictions_diverged_model_raise_error():
    clf = copy.deepcopy(fitted())
    clf.network_.recall_head.weight.data[:] = np.nan
    for method in (clf.predict, clf.predict_topk, clf.decision_function):
        with refused("learning_rate", "^The scores are NaN"):
            method(["text"])
