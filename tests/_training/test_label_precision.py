"""label_precision="bf16": label embeddings in bfloat16 while the direct mode trains."""

import numpy as np
import pytest
import torch
from classifier_fixtures import assert_same_predictions, dataset, make_classifier

from skxmc._training.trainer import Trainer

X, Y = dataset()


@pytest.fixture
def dtypes(monkeypatch):
    """Record the dtype of the label embeddings in each step."""
    seen = []
    train_step = Trainer.train_step

    def recorded(self, rows, factor):
        seen.append(self.network.label_table.weight.dtype)
        return train_step(self, rows, factor)

    monkeypatch.setattr(Trainer, "train_step", recorded)
    return seen


def test_fit_bf16_label_embeddings_train_in_bfloat16(dtypes):
    clf = make_classifier("direct", label_precision="bf16", max_epochs=6).fit(X, Y)
    assert set(dtypes) == {torch.bfloat16}
    assert clf.network_.label_table.weight.dtype == torch.float32
    assert clf.history_[-1]["loss"] < 0.9 * clf.history_[0]["loss"]


def test_fit_bf16_label_embeddings_stay_in_float32_in_two_stages(dtypes):
    make_classifier(label_precision="bf16", max_epochs=1).fit(X, Y)
    assert set(dtypes) == {torch.float32}


def test_fit_bf16_label_embeddings_end_as_numbers_of_bfloat16():
    clf = make_classifier("direct", label_precision="bf16").fit(X, Y)
    weight = clf.network_.label_table.weight.detach()
    assert torch.equal(weight.bfloat16().float()[:-1], weight[:-1])
    full = make_classifier("direct").fit(X, Y).predict_topk(X, k=3)
    np.testing.assert_allclose(clf.predict_topk(X, k=3).scores, full.scores, atol=0.1)


def test_fit_bf16_label_embeddings_resume_bit_for_bit(tmp_path, monkeypatch):
    params = {"label_precision": "bf16", "max_epochs": 3}
    whole = make_classifier("direct", **params).fit(X, Y)
    clf = make_classifier("direct", **params, checkpoint_dir=tmp_path, checkpoint_every=1)
    train_step, steps = Trainer.train_step, []

    def stopped(self, rows, factor):
        steps.append(rows)
        if len(steps) == 7:
            raise OSError("the disk is gone")
        return train_step(self, rows, factor)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", stopped)
        with pytest.raises(OSError, match="the disk is gone"):
            clf.fit(X, Y)
    assert_same_predictions(clf.fit(X, Y), whole)
    done = make_classifier("direct", **params, checkpoint_dir=tmp_path, checkpoint_every=1)
    assert done.fit(X, Y).network_.label_table.weight.dtype == torch.float32
    assert_same_predictions(done, whole)


def test_fit_ctrl_c_leaves_bf16_label_embeddings_in_float32(monkeypatch):
    def interrupted(self, rows, factor):
        raise KeyboardInterrupt

    monkeypatch.setattr(Trainer, "train_step", interrupted)
    with pytest.warns(UserWarning, match="Training was interrupted"):
        clf = make_classifier("direct", label_precision="bf16").fit(X, Y)
    assert clf.network_.label_table.weight.dtype == torch.float32


def test_fit_bf16_label_embeddings_with_averaging_raise_value_error():
    clf = make_classifier("direct", label_precision="bf16", swa_start=0)
    with pytest.raises(ValueError, match=r"label_precision='bf16' would round the averages\. Set"):
        clf.fit(X, Y)
