"""Training that stops after some steps, and a comparison of its final model."""

import pytest
import torch
from classifier_fixtures import assert_same_predictions

from skxmc._training import trainer


class Stopped(Exception):
    """Stand-in for a crash, which nothing in the library catches."""


def stop_after(n_steps, monkeypatch, error=Stopped):
    """Raise `error` in training after `n_steps` steps, as if the process were killed."""
    step = trainer.Trainer.train_step
    n_done = 0

    def stopping(self, rows, factor):
        nonlocal n_done
        if n_done == n_steps:
            raise error
        n_done += 1
        return step(self, rows, factor)

    monkeypatch.setattr(trainer.Trainer, "train_step", stopping)


def assert_resumes(make, folder, X, y, n_steps=6):
    """Check that a fit that stops after `n_steps` steps resumes to the same model. Return it."""
    expected = make().fit(X, y)
    clf = make(checkpoint_dir=folder)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(n_steps, patch)
        with pytest.raises(Stopped):
            clf.fit(X, y)
    assert_same_model(clf.fit(X, y), expected)
    return clf


def assert_same_model(left, right):
    """Check that weights, predictions and histories without times are equal bit for bit."""
    a, b = left.network_.state_dict(), right.network_.state_dict()
    assert a.keys() == b.keys()
    for name, weight in a.items():
        assert torch.equal(weight, b[name]), name
    assert_same_predictions(left, right)
    histories = [
        [{k: v for k, v in epoch.items() if k != "seconds"} for epoch in clf.history_]
        for clf in (left, right)
    ]
    assert histories[0] == histories[1]
    assert left.n_iter_ == right.n_iter_ == len(left.history_)
