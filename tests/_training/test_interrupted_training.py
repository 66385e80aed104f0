"""Ctrl-C and errors during training: the state of the classifier afterwards."""

import copy
import os
import signal
import threading

import pytest
import torch
from classifier_fixtures import (
    assert_same_predictions,
    dataset,
    differ,
    fitted,
    make_classifier,
)
from stopped_training import Stopped, assert_same_model, stop_after

from skxmc._training import trainer

X, Y = dataset()


@pytest.mark.parametrize("n_steps", [0, 3, 4, 6])
@pytest.mark.parametrize("sampling", ["dynamic", "static", "static-separate"])
def test_fit_ctrl_c_leaves_a_fitted_classifier(n_steps, sampling, monkeypatch):
    whole = fitted()
    stop_after(n_steps, monkeypatch, KeyboardInterrupt)
    clf = make_classifier(negative_sampling=sampling)
    with pytest.warns(UserWarning, match=rf"interrupted after {n_steps // 4} epochs. The classi"):
        clf.fit(X, Y)
    assert clf.n_iter_ == len(clf.history_) == n_steps // 4
    assert not clf.network_.training
    assert all(p.requires_grad for p in clf.network_.parameters())
    assert clf.predict_topk(X, k=3).labels.shape == (64, 3)
    assert differ(clf, whole)


def test_fit_ctrl_c_with_early_stopping_keeps_best_weights(monkeypatch):
    best = make_classifier(max_epochs=3, early_stopping=True, n_iter_no_change=9)
    calls = iter([0.5, 0.1, 0.2])
    monkeypatch.setattr("skxmc._training.evaluation.precision_at_k", lambda *a, **k: next(calls))
    n_steps = -(-58 // 16)
    stop_after(2 * n_steps + 1, monkeypatch, KeyboardInterrupt)
    seen = []
    note_validation = trainer.Trainer._note_validation

    def noting(self):
        note_validation(self)
        seen.append({name: w.clone() for name, w in self.network.state_dict().items()})

    monkeypatch.setattr(trainer.Trainer, "_note_validation", noting)
    with pytest.warns(UserWarning, match="interrupted after 2 epochs"):
        best.fit(X, Y)
    assert len(seen) == 2
    assert not torch.equal(seen[0]["recall_head.weight"], seen[1]["recall_head.weight"])
    for name, weight in best.network_.state_dict().items():
        assert torch.equal(weight, seen[0][name])  # 0.5 is better than 0.1


def test_fit_after_ctrl_c_resumes_to_same_model(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(6, patch, KeyboardInterrupt)
        with pytest.warns(UserWarning, match="interrupted after 1 epochs"):
            make_classifier(checkpoint_dir=tmp_path, checkpoint_every=1).fit(X, Y)
    assert_same_model(make_classifier(checkpoint_dir=tmp_path).fit(X, Y), fitted())


def test_fit_after_ctrl_c_with_warm_start_resumes_to_same_model(tmp_path, monkeypatch):
    """The checkpoint has precedence over the warm start, although the classifier is fitted."""
    clf = make_classifier(checkpoint_dir=tmp_path, checkpoint_every=1, warm_start=True)
    with monkeypatch.context() as patch:
        stop_after(6, patch, KeyboardInterrupt)
        with pytest.warns(UserWarning, match="interrupted after 1 epochs"):
            clf.fit(X, Y)
    assert_same_model(clf.fit(X, Y), fitted())


def test_fit_after_ctrl_c_with_other_parameters_raises_error(tmp_path, monkeypatch):
    clf = make_classifier(checkpoint_dir=tmp_path, checkpoint_every=1)
    with monkeypatch.context() as patch:
        stop_after(6, patch, KeyboardInterrupt)
        with pytest.warns(UserWarning, match="interrupted after 1 epochs"):
            clf.fit(X, Y)
    with pytest.raises(ValueError, match="holds a training run with bottleneck_dim=8, not 4"):
        clf.set_params(bottleneck_dim=4).fit(X, Y)


@pytest.mark.parametrize("is_new", [True, False])
def test_fit_checkpoint_of_other_warm_start_raises_error(is_new, tmp_path, monkeypatch):
    """A warm start continues from the classifier's own weights, or raises an error."""
    clf = make_classifier() if is_new else copy.deepcopy(fitted())
    clf.set_params(checkpoint_dir=tmp_path, checkpoint_every=1, warm_start=True)
    with monkeypatch.context() as patch:
        stop_after(6, patch, KeyboardInterrupt)
        with pytest.warns(UserWarning, match="interrupted after 1 epochs"):
            clf.fit(X, Y)
    other = make_classifier(random_state=3).fit(X, Y)
    other.set_params(random_state=0, checkpoint_dir=tmp_path, warm_start=True)
    with pytest.raises(ValueError, match="holds a training run with other weights of the warm st"):
        other.fit(X, Y)
    whole = copy.deepcopy(fitted()).set_params(warm_start=True).fit(X, Y)
    assert_same_model(clf.fit(X, Y), fitted() if is_new else whole)


def test_fit_ctrl_c_before_training_leaves_estimator_unchanged(monkeypatch):
    clf = make_classifier()
    other = copy.deepcopy(fitted("direct"))

    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("skxmc._training.build.start_at_centroids", interrupt)
    with pytest.raises(KeyboardInterrupt):
        clf.fit(X, Y)
    assert not hasattr(clf, "network_")
    with pytest.raises(KeyboardInterrupt):
        other.set_params(max_epochs=1).fit(X, Y)
    assert_same_predictions(other, fitted("direct"))


@pytest.mark.skipif(os.name == "nt", reason="signals need POSIX")
def test_fit_real_ctrl_c_leaves_a_fitted_classifier(monkeypatch):
    clf = make_classifier(max_epochs=10_000, time_limit=1e9)  # the limit silences a warning
    timer = threading.Timer(0.5, signal.raise_signal, [signal.SIGINT])
    train_step = trainer.Trainer.train_step

    def step(self, rows, factor):
        if self.step == 0:
            timer.start()
        return train_step(self, rows, factor)

    monkeypatch.setattr(trainer.Trainer, "train_step", step)
    with pytest.warns(UserWarning, match="interrupted after"):
        clf.fit(X, Y)
    timer.join()
    assert 0 < clf.n_iter_ < 10_000
    clf.predict_topk(X, k=3)


# ---------------------------------------------------------------- a failing fit


def test_fit_error_leaves_estimator_unfitted_and_usable(monkeypatch):
    clf = make_classifier()
    with monkeypatch.context() as patch:
        stop_after(3, patch)
        with pytest.raises(Stopped):
            clf.fit(X, Y)
    assert not [name for name in vars(clf) if name.endswith("_")]
    assert_same_model(clf.fit(X, Y), fitted())
