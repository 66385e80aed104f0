"""CalibratedClassifier: scores become probabilities, and the ranking stays the same."""

import pickle
import re

import numpy as np
import pytest
from classifier_fixtures import assert_same_predictions, dataset, fitted
from ensemble_members import LABELS, LEFT, TEXTS, Proba
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.svm import LinearSVC

from skxmc import (
    CalibratedClassifier,
    LightXMLEnsemble,
    OmikujiClassifier,
    PropensityRanker,
    from_pretrained,
    predict_topk,
)
from skxmc._calibrated_classifier import strictly_falling
from skxmc.metrics import ece_at_k, precision_at_k_scorer

N_TEXTS, N_LABELS = 2000, 10


class Overconfident(ClassifierMixin, BaseEstimator):
    """Classifier whose score of a label is the root of its probability, in steps of 1/8."""

    def fit(self, X, y):
        self.classes_ = np.arange(N_LABELS)
        return self

    def predict_proba(self, X):
        return np.sqrt(probabilities([int(text) for text in X]))


def probabilities(seeds):
    rng = np.random.default_rng(0)
    return np.round(rng.random((2 * N_TEXTS, N_LABELS)) ** 3 * 8)[seeds] / 8


def labels_of(texts):
    drawn = np.random.default_rng(1).random((2 * N_TEXTS, N_LABELS))
    rows = [int(text) for text in texts]
    return (drawn[rows] < probabilities(rows)).astype(int)


HELD_OUT = [str(i) for i in range(N_TEXTS)]
TEST = [str(i) for i in range(N_TEXTS, 2 * N_TEXTS)]


@pytest.fixture(scope="module")
def calibrated():
    frozen = FrozenEstimator(Overconfident().fit(TEST, None))
    return CalibratedClassifier(frozen).fit(HELD_OUT, labels_of(HELD_OUT))


def test_fit_frozen_learns_probabilities_from_texts_of_fit(calibrated):
    before = predict_topk(calibrated.estimator_, TEST, 5)
    after = calibrated.predict_topk(TEST, 5)
    true = labels_of(TEST)
    assert ece_at_k(true, before) > 0.15
    assert ece_at_k(true, after) < 0.02
    found = calibrated.decision_function(TEST).toarray()
    expected = probabilities(range(N_TEXTS, 2 * N_TEXTS))
    assert np.abs(found - expected).mean() < 0.02


def test_same_score_is_a_higher_probability_for_the_best_label():
    """All scores are 0.5, and only the first label is true, in four of five texts."""
    texts = [str(i) for i in range(100)]
    true = np.zeros((100, 4), dtype=int)
    true[20:, 0] = true[:25, 1] = 1
    frozen = FrozenEstimator(Proba(np.full((100, 4), 0.5)).fit(texts, true))
    found = CalibratedClassifier(frozen).fit(texts, true).predict_topk(texts[:1], 4)
    np.testing.assert_allclose(found.scores, [[0.8, 25 / 300, 25 / 300, 25 / 300]], atol=1e-5)


def test_calibrated_scores_keep_ranking_and_ties(calibrated):
    before = predict_topk(calibrated.estimator_, TEST, N_LABELS)
    assert (np.diff(before.scores, axis=1) == 0).any()
    after = calibrated.predict_topk(TEST, 7)
    np.testing.assert_array_equal(after.labels, before.labels[:, :7])
    matrix = calibrated.decision_function(TEST)
    assert matrix.dtype == np.float32
    assert (matrix.data > 0).all()
    by_matrix = np.argsort(-matrix.toarray(), axis=1, kind="stable")
    is_scored = np.take_along_axis(matrix.toarray(), before.labels, axis=1) > 0
    np.testing.assert_array_equal(by_matrix[is_scored], before.labels[is_scored])


def test_strictly_falling_lowers_equal_values_of_a_row_only():
    values = np.array([1.0, 1.0, 1.0, 0.5, 1.0, 0.25, 0.0, 0.0])
    rows = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    falling = strictly_falling(values, rows)
    assert (np.diff(falling[:4]) < 0).all()
    assert (np.diff(falling[4:]) < 0).all()
    assert falling[[0, 3, 4, 5]].tolist() == [1, 0.5, 1, 0.25]
    np.testing.assert_allclose(falling, values, atol=2e-6)
    assert (falling > 0).all()
    assert len(strictly_falling(np.empty(0), np.empty(0, dtype=np.int64))) == 0


def test_predict_returns_labels_from_threshold_on(calibrated):
    predicted = calibrated.set_params(threshold=0.7).predict(TEST)
    expected = calibrated.predict_proba(TEST).toarray() >= 0.7
    calibrated.set_params(threshold=0.5)
    np.testing.assert_array_equal(predicted.toarray(), expected)
    assert 0 < predicted.nnz < calibrated.predict(TEST).nnz


def test_predict_topk_restricted_keeps_probabilities(calibrated):
    everything = calibrated.predict_topk(TEST[:20], N_LABELS)
    top = calibrated.predict_topk(TEST[:20], 3, exclude=everything.labels[:, :2].tolist())
    np.testing.assert_array_equal(top.labels, everything.labels[:, 2:5])
    np.testing.assert_allclose(top.scores, everything.scores[:, 2:5], atol=0.2)


def test_fit_holds_texts_out_of_the_estimator():
    X, Y = dataset()
    clf = CalibratedClassifier(OmikujiClassifier(), validation_fraction=0.5, random_state=0)
    clf.fit(X, Y, label_names=[f"tag {i}" for i in range(30)])
    assert clf.classes_[0] == "tag 0"
    assert len(clf.calibration_scores_) == 4
    assert 0 < clf.score(X, Y) <= 1
    with pytest.raises(ValueError, match="leaves none to train on"):
        clf.set_params(validation_fraction=0.999).fit(X, Y)


def test_fit_validation_data_is_used_in_place_of_held_out_texts():
    X, Y = dataset()
    frozen = FrozenEstimator(fitted())
    pairs = [
        CalibratedClassifier(frozen).fit(X, Y),
        CalibratedClassifier(frozen).fit(X[:2], Y[:2], validation_data=(X, Y)),
        CalibratedClassifier(frozen).fit(X[:2], Y[:2], X_val=X, y_val=Y),
    ]
    for one in pairs[1:]:
        assert_same_predictions(one, pairs[0])


def test_fit_frozen_finds_labels_by_name():
    X, Y = dataset()
    rows = [Y[[i]].indices.tolist() for i in range(len(X))]
    by_name = CalibratedClassifier(FrozenEstimator(fitted())).fit(X, [*rows[:-1], [999]])
    with_less = CalibratedClassifier(FrozenEstimator(fitted())).fit(X, [*rows[:-1], []])
    assert_same_predictions(by_name, with_less)
    with pytest.raises(ValueError, match="y has 12 columns, but there are 30 classes"):
        CalibratedClassifier(FrozenEstimator(fitted())).fit(X, Y[:, :12])


@pytest.mark.parametrize("name", ["y", "validation_data[1]", "y_val"])
def test_fit_no_known_label_is_an_error_that_names_a_class(name):
    X, Y = dataset()
    unknown = [[999]] * len(X)
    given = {
        "y": {"y": unknown},
        "validation_data[1]": {"y": Y, "validation_data": (X, unknown)},
        "y_val": {"y": Y, "X_val": X, "y_val": unknown},
    }
    message = (
        rf"^None of the labels of {re.escape(name)} is among the classes\. The first class is 0"
    )
    with pytest.raises(ValueError, match=message):
        CalibratedClassifier(FrozenEstimator(fitted())).fit(X, **given[name])


def test_fit_few_examples_warns_and_keeps_scores():
    frozen = FrozenEstimator(Overconfident().fit(TEST, None))
    message = r"^Too few held-out texts to calibrate .*, \d are true and \d+ false.* for 20 of each"
    with pytest.warns(RuntimeWarning, match=message):
        clf = CalibratedClassifier(frozen).fit(HELD_OUT[:3], labels_of(HELD_OUT[:3]))
    np.testing.assert_allclose(
        clf.predict_topk(TEST, 5).scores, predict_topk(frozen, TEST, 5).scores, atol=1e-5
    )


@pytest.mark.parametrize(
    "params",
    [{"n_candidates": 0}, {"validation_fraction": 1.0}, {"estimator": 3}, {"threshold": 2}],
    ids=str,
)
def test_fit_bad_parameter_is_an_error_that_names_it(params):
    clf = CalibratedClassifier(OmikujiClassifier()).set_params(**params)
    message = f"'{next(iter(params))}' parameter of CalibratedClassifier"
    with pytest.raises(ValueError, match=message):
        clf.fit(*dataset())


def test_fit_estimator_of_other_interface_or_labels_is_an_error():
    with pytest.raises(TypeError, match=r"^estimator, LinearSVC, cannot score labels"):
        CalibratedClassifier(LinearSVC()).fit(*dataset())
    with pytest.raises(TypeError, match=r"^estimator is a class\. Pass an instance: Omikuji"):
        CalibratedClassifier(OmikujiClassifier).fit(*dataset())
    with pytest.raises(ValueError, match=r"^Proba has other labels than y.*Wrap a fitted"):
        CalibratedClassifier(Proba(LEFT.scores), validation_fraction=0.5).fit(TEXTS, LABELS[:, :3])
    with pytest.raises(TypeError, match="No estimator has a fit that takes 'wrong'"):
        CalibratedClassifier(OmikujiClassifier()).fit(*dataset(), wrong=1)


def test_calibrated_keeps_scikit_learn_conventions(calibrated, tmp_path):
    X, Y = dataset()
    with pytest.raises(NotFittedError):
        CalibratedClassifier(OmikujiClassifier()).predict(X)
    clf = CalibratedClassifier(FrozenEstimator(fitted())).fit(X, Y)
    assert_same_predictions(pickle.loads(pickle.dumps(clf)), clf)
    clf.save_pretrained(tmp_path / "model")
    assert_same_predictions(from_pretrained(tmp_path / "model"), clf)
    assert clone(clf).get_params()["estimator"].estimator is fitted()
    search = GridSearchCV(
        make_pipeline(FunctionTransformer(), clf),
        {"calibratedclassifier__n_candidates": [5, 30]},
        cv=2,
        scoring=precision_at_k_scorer(k=2),
        error_score="raise",
    )
    best = predict_topk(search.fit(X, Y), X[:3], 4)
    np.testing.assert_array_equal(best.labels, fitted().predict_topk(X[:3], 4).labels)
    members = [("one", clf), ("other", PropensityRanker(FrozenEstimator(clf)).fit(X, Y))]
    assert LightXMLEnsemble.from_fitted(members).predict_topk(X[:3], 2).labels.shape == (3, 2)
