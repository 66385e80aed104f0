"""Callbacks of scikit-learn 1.9 in the fit of LightXMLClassifier."""

import contextlib
import io
import runpy
import sys

import numpy as np
import pytest
from classifier_fixtures import (
    assert_same_predictions,
    dataset,
    fitted,
    make_classifier,
    weights_digest,
)
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

import skxmc
from skxmc import LightXMLEnsemble
from skxmc._training import callbacks
from skxmc.metrics import precision_at_k_scorer

sklearn_callback = pytest.importorskip("sklearn.callback")

X, Y = dataset()
N_STEPS = 4  # per epoch


class Recorder:
    """Callback that notes its calls, and ends the tasks at the given places."""

    def __init__(self, *ends):
        self.ends = ends
        self.calls = []
        self.kept = []

    def setup(self, estimator, context):
        self.calls.append(("setup", ()))

    def teardown(self, estimator, context):
        self.calls.append(("teardown", ()))

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(("begin", self.place(context)))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
        assert X is dataset()[0]
        assert y is dataset()[1]
        self.calls.append(("end", self.place(context)))
        self.kept.append(fitted_estimator)
        return self.place(context) in self.ends

    def place(self, context):
        place = []
        while context.parent is not None:
            place.insert(0, context.task_id)
            context = context.parent
        return tuple(place)

    def ended(self):
        return [place for what, place in self.calls if what == "end"]


def fit_with(recorder, **params):
    return make_classifier(**params).set_callbacks(recorder).fit(X, Y)


def test_callbacks_see_fit_epochs_and_steps_and_change_nothing():
    recorder = Recorder()
    clf = fit_with(recorder)
    expected = [("setup", ()), ("begin", ())]
    for epoch in range(2):
        expected.append(("begin", (epoch,)))
        for step in range(N_STEPS):
            expected += [("begin", (epoch, step)), ("end", (epoch, step))]
        expected.append(("end", (epoch,)))
    assert recorder.calls == [*expected, ("end", ()), ("teardown", ())]
    assert weights_digest(clf) == weights_digest(fitted())
    assert clf.history_[0]["loss"] == fitted().history_[0]["loss"]


@pytest.mark.parametrize("params", [{}, {"early_stopping": True}, {"swa_start": 0, "swa_every": 1}])
def test_fitted_estimator_predicts_as_if_fit_ended_there(params):
    steady = {"lr_schedule": "constant", "warmup_fraction": 0, **params}
    recorder = Recorder()
    clf = fit_with(recorder, **steady)
    kept = [estimator for estimator in recorder.kept if estimator is not None]
    assert len(kept) == 3  # after each epoch, and at the end
    assert_same_predictions(kept[0], make_classifier(max_epochs=1, **steady).fit(X, Y))
    assert_same_predictions(kept[-1], clf)
    assert [len(estimator.history_) for estimator in kept] == [1, 2, 2]


def test_callback_ends_training_after_an_epoch():
    recorder = Recorder((0,))
    clf = fit_with(recorder, max_epochs=3)
    assert clf.n_iter_ == 1
    assert recorder.calls[-2:] == [("end", ()), ("teardown", ())]
    assert_same_predictions(clf, recorder.kept[-1])


def test_callback_ends_an_epoch_after_a_step():
    recorder = Recorder((0, 1))
    clf = fit_with(recorder)
    assert [epoch["n_steps"] for epoch in clf.history_] == [2, N_STEPS]
    last = fitted().history_[-1]  # the learning rate falls as planned
    assert clf.history_[-1]["learning_rate"] == last["learning_rate"]


def test_static_negatives_number_the_epochs_of_all_phases():
    recorder = Recorder((0,))  # ends the first phase
    clf = fit_with(recorder, negative_sampling="static")
    assert [place for place in recorder.ended() if len(place) == 1] == [(i,) for i in range(5)]
    objectives = [epoch["objective"] for epoch in clf.history_]
    assert objectives == ["recall", "rank", "rank", "recall", "recall"]


def test_resumed_training_calls_for_the_steps_that_are_left(tmp_path):
    class Crash(Recorder):
        def on_fit_task_end(self, estimator, context, *, X=None, y=None):
            if self.place(context) == (1, 2):
                raise OSError("crash")

    params = {"checkpoint_dir": tmp_path / "run", "checkpoint_every": 2}
    with pytest.raises(OSError, match="crash"):
        fit_with(Crash(), **params)
    recorder = Recorder()
    clf = fit_with(recorder, **params)
    assert recorder.ended() == [(0, 0), (0, 1), (0,), ()]
    assert weights_digest(clf) == weights_digest(fitted())


def test_callbacks_of_scikit_learn_score_epochs_and_show_progress():
    pytest.importorskip("rich")
    monitor = sklearn_callback.ScoringMonitor(scoring={"P@1": precision_at_k_scorer(k=1)})
    clf = make_classifier().set_callbacks(monitor, sklearn_callback.ProgressBar())
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        clf.fit(X, Y)
    assert "LightXMLClassifier - epoch #1" in shown.getvalue()
    data = monitor.get_logs().data
    assert [row["task_name"] for row in data] == ["fit", "epoch", "epoch"]
    assert data[-1]["P@1"] == data[0]["P@1"] == clf.score(X, Y)


def test_pipeline_hands_progress_on_and_clone_keeps_callbacks():
    recorder = Recorder()
    recorder.max_propagation_depth = None
    clf = clone(make_classifier(max_epochs=1).set_callbacks(Recorder()))
    assert len(clf._skl_callbacks) == 1
    make_pipeline("passthrough", make_classifier(max_epochs=1)).set_callbacks(recorder).fit(X, Y)
    assert (1, 0, 3) in recorder.ended()


def test_saved_models_hold_no_callbacks(tmp_path):
    clf = fit_with(Recorder(), max_epochs=1)
    ensemble = LightXMLEnsemble.from_fitted([("a", clf), ("b", "drop")])
    ensemble.set_params(b=make_classifier().set_callbacks(Recorder()))
    skxmc.save_pretrained(ensemble, tmp_path)
    loaded = skxmc.from_pretrained(tmp_path)
    assert not hasattr(loaded.get_params()["b"], "_skl_callbacks")
    assert_same_predictions(loaded.estimators_[0], clf)


def test_before_scikit_learn_1_9_there_are_no_callbacks(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.callback", None)
    names = runpy.run_path(callbacks.__file__)
    assert not hasattr(names["CallbackSupportMixin"](), "set_callbacks")
    tasks = names["fit_tasks"](make_classifier(), X, Y, 2)
    assert type(tasks) is names["NoTasks"]
    assert not tasks.end_step()
    assert not tasks.end_epoch(dict)


def test_labels_reach_callbacks_as_given():
    """The recorder compares them to the same objects, so other forms are not copied."""
    y = [["a", "b"] if row % 2 else ["c"] for row in range(len(X))]

    class Scored(Recorder):
        def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):
            if fitted_estimator is not None:
                self.kept.append(fitted_estimator.score(X, y))

    recorder = Scored()
    clf = make_classifier("direct", max_epochs=1).set_callbacks(recorder).fit(X, y)
    np.testing.assert_allclose(recorder.kept, clf.score(X, y))
