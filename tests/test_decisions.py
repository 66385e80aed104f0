"""Decisions about labels are the same through pipelines, searches and files of joblib."""

import functools

import joblib
import numpy as np
import pytest
from classifier_fixtures import dataset, make_classifier
from sklearn import config_context
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxmc import (
    CalibratedClassifier,
    HierarchicalClassifier,
    LightXMLEnsemble,
    TunedThresholdClassifier,
    explain_topk,
    predict_topk,
)
from skxmc.metrics import precision_at_k_scorer

X, Y = dataset()
WEIGHTS = np.arange(64) % 3.0
HELD_OUT = {"validation_fraction": 0.5, "random_state": 0}
PARENTS = {2: 0, 5: 2, 7: [1, 3]}


def classifier():
    return make_classifier("direct", max_epochs=1)


# ---------------------------------------------------------------- what is decided


def add_and_remove_labels(model):
    model = getattr(model, "best_estimator_", model)
    last = model[-1] if isinstance(model, Pipeline) else model
    last.add_labels([31], label_texts=["ba be"], X=X[:2], y=[[31], [31]]).remove_labels([4])
    assert model.classes_.tolist() == [*range(4), *range(5, 30), 31]
    return predict_topk(model, X, 30).scores


def choose_labels(model):
    top = predict_topk(model, X, 3, exclude=[0, 1], threshold=0.1)
    return [top.scores, predict_topk(model, X, 2, allow=Y.toarray()).to_lists()]


def probabilities(model):
    return predict_topk(model, X, 5).scores


def decisions(model):
    return model.predict(X).toarray()


def consistent_scores(model):
    return [model.predict_proba(X).toarray(), decisions(model)]


def reasons(model):
    return str(explain_topk(model, X[3], 2))


def plots(model):
    plt = pytest.importorskip("matplotlib.pyplot")
    from skxmc.plotting import LabelFrequencyDisplay, RecallCeilingDisplay, ReliabilityDisplay

    found = [
        RecallCeilingDisplay.from_estimator(model, X, Y).recall,
        ReliabilityDisplay.from_estimator(model, X, Y).prob_true,
        LabelFrequencyDisplay.from_estimator(model, X, Y, y_train=Y).precision,
    ]
    plt.close("all")
    return found


# An estimator, parameters of its fit, and what is asked of it.
KINDS = {
    "new labels": (classifier, {}, add_and_remove_labels),
    "chosen labels": (classifier, {}, choose_labels),
    "probabilities": (lambda: CalibratedClassifier(classifier(), **HELD_OUT), {}, probabilities),
    "thresholds": (
        lambda: TunedThresholdClassifier(classifier(), rule="threshold_per_label", **HELD_OUT),
        {},
        decisions,
    ),
    "weights": (
        lambda: classifier().set_fit_request(sample_weight=True),
        {"sample_weight": WEIGHTS},
        probabilities,
    ),
    "weights in an ensemble": (
        lambda: LightXMLEnsemble([("a", classifier())]).set_fit_request(sample_weight=True),
        {"sample_weight": WEIGHTS},
        probabilities,
    ),
    "weights of labels": (
        lambda: classifier().set_params(label_weight=dict.fromkeys(range(9), 3.0)),
        {},
        probabilities,
    ),
    "windows": (
        lambda: classifier().set_params(long_text="windows", max_length=5),
        {},
        probabilities,
    ),
    "hierarchy": (
        lambda: HierarchicalClassifier(classifier(), label_parents=PARENTS, threshold=0.1),
        {},
        consistent_scores,
    ),
    "reasons": (classifier, {}, reasons),
    "plots": (classifier, {}, plots),
}


def fitted(kind, wrap=lambda estimator: estimator):
    make, given, _ = KINDS[kind]
    with config_context(enable_metadata_routing=bool(given)):
        return wrap(make()).fit(X, Y, **given)


@functools.cache
def expected(kind):
    return KINDS[kind][2](fitted(kind))


# ---------------------------------------------------------------- through what


def by_pipeline(kind, ask, folder):
    return ask(fitted(kind, lambda clf: make_pipeline(FunctionTransformer(), clf)))


def by_search(kind, ask, folder):
    scoring = precision_at_k_scorer(k=1)
    options = {"cv": 2, "scoring": scoring, "error_score": "raise", "n_jobs": 2}
    with joblib.parallel_config("threading"):
        return ask(fitted(kind, lambda clf: GridSearchCV(clf, {}, **options)))


def by_joblib_file(kind, ask, folder):
    joblib.dump(fitted(kind), folder / "model")
    return ask(joblib.load(folder / "model"))


@pytest.mark.parametrize("through", [by_pipeline, by_search, by_joblib_file])
@pytest.mark.parametrize("kind", KINDS)
def test_decisions_through_others_are_those_of_the_estimator(kind, through, tmp_path):
    found = through(kind, KINDS[kind][2], tmp_path)
    assert_equal(found, expected(kind))


def assert_equal(found, wanted):
    if isinstance(wanted, list) and not isinstance(wanted[0], list):
        for one, other in zip(found, wanted, strict=True):
            assert_equal(one, other)
    elif isinstance(wanted, np.ndarray):
        np.testing.assert_allclose(found, wanted, rtol=1e-5)
        assert np.nan_to_num(wanted).any()
    else:
        assert found == wanted
