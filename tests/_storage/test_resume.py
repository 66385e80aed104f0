"""Resumed training reaches the same weights, whatever stopped it, kill -9 included."""

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from classifier_fixtures import (
    MODES,
    assert_same_predictions,
    dataset,
    encoder_path,
    fitted,
    generator_states,
    make_classifier,
)
from stopped_training import Stopped, assert_same_model, stop_after

from skxmc import LightXMLClassifier
from skxmc._storage import checkpoint as checkpoint_module
from skxmc._storage.checkpoint import Checkpoint
from skxmc._training import optim

X, Y = dataset()


RUNS = {
    "two-stage": {},
    "direct": {"mode": "direct"},
    "dropout": {"dropout": 0.5, "encoder_dropout": 0.3},
    "clipped": {"max_grad_norm": 1.0},
    "compact moments": {},
    "averaged": {"swa_start": 1, "swa_every": 2, "lr_schedule": "constant"},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 2, "max_epochs": 9},
    "static": {"negative_sampling": "static"},
    "static-separate": {"negative_sampling": "static-separate", "encoder_dropout": 0.3},
    "bf16": {"precision": "bf16"},
    "random": {"head_init": "random"},
    "in parts": {"accumulate_steps": 3, "gradient_checkpointing": True, "encoder_dropout": 0.3},
    "weighted": {"mode": "direct", "label_weight": np.linspace(0, 2, 30)},
    "windows": {"max_length": 12, "long_text": "windows"},
    "no seed": {"random_state": None},
}


@pytest.mark.parametrize(
    ("run", "every"),
    [*((run, 1) for run in RUNS), ("two-stage", 3), ("static", 1000), ("two-stage", "auto")],
)
def test_resume_from_checkpoint_reaches_same_weights(run, every, tmp_path, monkeypatch):
    """Training is stopped again and again, after three to five further steps each time."""
    params = {**RUNS[run], "checkpoint_every": every}
    if run == "compact moments":
        monkeypatch.setattr(optim, "MAX_FULL_ENTRIES", 0)
    whole = make_classifier(**params, checkpoint_dir=tmp_path / "whole")
    if run == "no seed":
        np.random.seed(0)  # noqa: NPY002
    whole.fit(X, Y)
    if run == "no seed":
        np.random.seed(0)  # noqa: NPY002
    n_fits = 0
    while True:
        clf = make_classifier(**params, checkpoint_dir=str(tmp_path / "parts"))
        n_fits += 1
        with monkeypatch.context() as patch:
            stop_after({1: 3, 3: 4, 1000: 5, "auto": 3}[every], patch)
            try:
                clf.fit(X, Y)
                break
            except Stopped:
                assert not hasattr(clf, "network_")
        assert n_fits < 30
    assert n_fits >= 2
    assert_same_model(clf, whole)


@pytest.mark.parametrize("mode", MODES)
def test_checkpoints_do_not_change_the_model(mode, tmp_path):
    before = generator_states()
    clf = make_classifier(mode, checkpoint_dir=tmp_path, checkpoint_every=2).fit(X, Y)
    assert generator_states() == before
    assert_same_model(clf, fitted(mode))


def test_checkpoint_every_2_saves_every_2_steps_and_after_epochs(tmp_path, monkeypatch):
    """If both fall together, one checkpoint is saved. The last one is saved at the end."""
    saved = []
    save = Checkpoint.save

    def noting(self, model, history, state, weights):
        progress = state and state["trainer"]["progress"]
        saved.append(progress and (progress["epoch"], progress["n_done"], progress["step"]))
        save(self, model, history, state, weights)

    monkeypatch.setattr(Checkpoint, "save", noting)
    make_classifier(checkpoint_dir=tmp_path, checkpoint_every=2).fit(X, Y)
    assert saved == [(0, 2, 2), (1, 0, 4), (1, 2, 6), (2, 0, 8), None]


def test_checkpoint_every_auto_spends_a_twentieth_of_the_time(tmp_path, monkeypatch):
    """Of 1,000 steps of a second each. The first checkpoint takes 10 seconds, the others 30."""
    now, written = 0.0, []
    monkeypatch.setattr(checkpoint_module, "time", SimpleNamespace(perf_counter=lambda: now))

    def write(*args):
        nonlocal now
        now += 10 if not written else 30
        written.append(step)

    monkeypatch.setattr(checkpoint_module, "replace_content", write)
    checkpoint = Checkpoint(tmp_path, {"checkpoint_every": "auto"})
    for step in range(1, 1001):
        now += 1
        if checkpoint.is_due(step, ends_epoch=step % 10 == 0):
            checkpoint.save(None, [], None, {})
    assert written == [1, 191, 761]


def test_resume_finished_run_returns_its_model_without_training(tmp_path, monkeypatch):
    first = make_classifier(checkpoint_dir=tmp_path).fit(X, Y)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    stop_after(0, monkeypatch)  # no further step
    second = make_classifier(checkpoint_dir=tmp_path).fit(X, Y)
    assert_same_model(second, first)
    assert second.history_ == first.history_
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == files


def test_resume_with_label_data_and_validation_data_reaches_same_weights(tmp_path, monkeypatch):
    names = [f"label {i}" for i in range(30)]
    features = np.random.default_rng(0).random((30, 5))
    data = {
        "label_names": names,
        "label_texts": names,
        "label_features": features,
        "validation_data": (X[:9], Y[:9]),
    }
    whole = make_classifier().fit(X, Y, **data)
    with monkeypatch.context() as patch:
        stop_after(5, patch)
        with pytest.raises(Stopped):
            make_classifier(checkpoint_dir=tmp_path).fit(X, Y, **data)
    clf = make_classifier(checkpoint_dir=tmp_path).fit(X, Y, **data)
    assert_same_model(clf, whole)
    assert clf.classes_.tolist() == names


def test_resume_of_warm_start_reaches_same_weights(tmp_path, monkeypatch):
    whole = copy.deepcopy(fitted()).set_params(warm_start=True).fit(X, Y)
    with monkeypatch.context() as patch:
        stop_after(5, patch)
        clf = copy.deepcopy(fitted()).set_params(warm_start=True, checkpoint_dir=tmp_path)
        with pytest.raises(Stopped):
            clf.fit(X, Y)
    clf = copy.deepcopy(fitted()).set_params(warm_start=True, checkpoint_dir=tmp_path).fit(X, Y)
    assert_same_model(clf, whole)
    other = make_classifier(random_state=5).fit(X, Y)
    other.set_params(random_state=0, warm_start=True, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="with other weights of the warm start"):
        other.fit(X, Y)


@pytest.mark.parametrize("n_labels", [8, 9, 10, 11])
@pytest.mark.parametrize("mode", MODES)
def test_loaded_weights_of_any_size_round_products_alike(mode, n_labels, tmp_path, monkeypatch):
    """The alignment of weights changes the rounding of products with one row (the last batch)."""
    data = X[:33], Y[:33, :n_labels]
    whole = make_classifier(mode).fit(*data)
    with monkeypatch.context() as patch:
        stop_after(4, patch)
        with pytest.raises(Stopped):
            make_classifier(mode, checkpoint_dir=tmp_path).fit(*data)
    clf = make_classifier(mode, checkpoint_dir=tmp_path).fit(*data)
    assert_same_model(clf, whole)
    whole.save_pretrained(tmp_path / "model")
    loaded = LightXMLClassifier.from_pretrained(tmp_path / "model")
    for text in X[:9]:
        assert_same_predictions(loaded, whole, [text])


def test_resume_on_other_type_of_device_raises_value_error(tmp_path, monkeypatch):
    """Word embeddings have moments per row on a CPU, but not on a GPU."""

    identify = Checkpoint.identify

    def on_a_gpu(self, values, *args):
        identify(self, {**values, "device": "cuda"}, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "identify", on_a_gpu)
        stop_after(5, patch)
        with pytest.raises(Stopped):
            make_classifier(checkpoint_dir=tmp_path).fit(X, Y)
    with pytest.raises(ValueError, match=r"holds a training run with device='cuda', not 'cpu'"):
        make_classifier(checkpoint_dir=tmp_path).fit(X, Y)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_resume_on_gpu_reaches_similar_scores(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_after(6, patch)
        with pytest.raises(Stopped):
            make_classifier(device="cuda", checkpoint_dir=tmp_path).fit(X, Y)
    clf = make_classifier(device="cuda", checkpoint_dir=tmp_path).fit(X, Y)
    scores = make_classifier(device="cuda").fit(X, Y).decision_function(X).toarray()
    np.testing.assert_allclose(clf.decision_function(X).toarray(), scores, atol=1e-2)


# ---------------------------------------------------------------- kill -9

KILLER = Path(__file__).parents[1] / "kill_training.py"


def test_resume_after_kills_at_random_moments_reaches_same_weights(tmp_path):
    """Training is killed twenty times, during computation and during writing."""
    done = subprocess.run(
        [sys.executable, str(KILLER), encoder_path(), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=600,  # only guards against hanging
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["kills"] >= 20
    assert report["kills_while_writing"] >= 3
    assert report["runs"] >= 1
    assert report["same_weights"]
