"""accumulate_steps and gradient_checkpointing: the same steps with less memory."""

import contextlib
import functools

import numpy as np
import pytest
import torch
from classifier_fixtures import MODES, dataset, make_classifier, weights_digest
from stopped_training import Stopped, stop_after
from tiny_encoders import MODERNBERT
from torch.utils.checkpoint import checkpoint
from training_fixtures import assert_same_weights, make_trainer_with, take_step, weights

from skxmc._model.network import LightXMLNetwork
from skxmc._model.seeds import local_seed
from skxmc._training import phases, recompute

X, Y = dataset()
BOTH = {"accumulate_steps": 3, "gradient_checkpointing": True}
FAMILIES = ["bert", "distilbert", "deberta-v2", "electra", "mpnet", "roberta", "xlnet", MODERNBERT]


def without_recomputing(monkeypatch):
    """Keep all activations, with the same parts and the same dropout."""
    monkeypatch.setattr(recompute, "checkpoint", lambda function, *args, **options: function(*args))
    monkeypatch.setattr(recompute, "_layers", lambda encoder: [])


def after_two_steps(trainer):
    for rows in (np.arange(16), np.arange(16, 29)):
        take_step(trainer, rows)
    return weights(trainer.network)


# ---------------------------------------------------------------- the same steps


@pytest.mark.parametrize("direct", [False, True])
def test_trainer_accumulate_steps_gives_step_of_whole_batch(make_trainer, direct):
    """Without dropout, so that parts draw the same. 13 texts have parts of 5, 5 and 3."""
    found = []
    for n_parts in (1, 3, 100):
        trainer = make_trainer(direct=direct, accumulate_steps=n_parts)
        trainer.network.set_dropout(0.0, 0.0)
        found.append(after_two_steps(trainer))
    for of_parts in found[1:]:
        assert_same_weights(found[0], of_parts, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_trainer_recomputed_activations_have_same_dropout(tiny_encoder, family, monkeypatch):
    make_trainer = functools.partial(make_trainer_with, tiny_encoder(family), **BOTH)
    calls = []

    def noting(function, *args, **options):
        calls.append(function)
        return checkpoint(function, *args, **options)

    monkeypatch.setattr(recompute, "checkpoint", noting)
    found = after_two_steps(make_trainer())
    # Two steps of three parts. Two parts are recomputed, with their two layers.
    assert len(calls) == 2 * (2 + 3 * 2 + 2 * 2)
    without_recomputing(monkeypatch)
    assert_same_weights(after_two_steps(make_trainer()), found)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", FAMILIES)
def test_trainer_recomputed_activations_on_cuda_have_same_dropout(
    tiny_encoder, family, monkeypatch
):
    device, found = torch.device("cuda", 0), []
    for recomputes in (True, False):
        if not recomputes:
            without_recomputing(monkeypatch)
        trainer = make_trainer_with(tiny_encoder(family), device=device, **BOTH)
        with local_seed(0, device):
            trainer.network.train()
            trainer._losses_with_gradients(np.arange(16))
        weights = dict(trainer.network.encoder.named_parameters())
        found.append({name: w.grad.to_dense() for name, w in weights.items() if w.grad is not None})
    assert_same_weights(*found, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mode", [*MODES, "static-separate"])
def test_fit_gradient_checkpointing_gives_same_weights(mode):
    """Weights that autocast has converted for one step do not serve the next."""
    params = {"dropout": 0.2, "encoder_dropout": 0.3, "precision": "bf16", "max_epochs": 1}
    if mode == "static-separate":
        mode, params = "two-stage", {**params, "negative_sampling": mode}
    plain = make_classifier(mode, **params).fit(X, Y)
    found = make_classifier(mode, **params, gradient_checkpointing=True).fit(X, Y)
    assert weights_digest(found) == weights_digest(plain)


@pytest.mark.parametrize("mode", MODES)
def test_fit_frozen_encoder_is_not_recomputed(mode):
    clf = make_classifier(mode, freeze_encoder=True, max_epochs=1).fit(X, Y)
    digest = weights_digest(clf)
    assert weights_digest(clf.set_params(**BOTH).fit(X, Y)) == digest


def test_fit_resumes_with_gradient_checkpointing(tmp_path, monkeypatch):
    """After it ran out of memory, for example."""
    params = {"encoder_dropout": 0.3, "checkpoint_dir": tmp_path, "checkpoint_every": 1}
    with monkeypatch.context() as patch:
        stop_after(5, patch)
        with pytest.raises(Stopped):
            make_classifier(**params).fit(X, Y)
    found = make_classifier(**params, gradient_checkpointing=True).fit(X, Y)
    whole = make_classifier(encoder_dropout=0.3).fit(X, Y)
    assert weights_digest(found) == weights_digest(whole)


# ---------------------------------------------------------------- less memory


def bytes_kept(trainer, n_parts, encoders):
    """Return the bytes that autograd keeps for the backward pass of the encoder."""
    kept = {}

    def note(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    network, batch = trainer.network.train(), trainer.data.tokens.batch(np.arange(32))
    own = {weights.untyped_storage().data_ptr() for weights in network.parameters()}
    with (
        recompute.recomputed_layers(encoders, contexts),
        torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor),
    ):
        features = recompute.represent_in_parts(network, batch, n_parts, contexts)
    assert features.requires_grad
    return sum(n_bytes for pointer, n_bytes in kept.items() if pointer not in own)


def contexts():
    return contextlib.nullcontext(), contextlib.nullcontext()


def test_represent_keeps_activations_of_one_part(make_trainer):
    trainer = make_trainer()
    whole = bytes_kept(trainer, 1, [])
    assert bytes_kept(trainer, 4, []) < whole / 3.5
    assert bytes_kept(trainer, 1, trainer.network.encoders) < whole / 3.5


def test_trainer_parts_are_recomputed_one_by_one_from_the_last(make_trainer):
    trainer, calls = make_trainer(**BOTH), []
    first, second = trainer.network.encoder.encoder.layer
    first.output.register_forward_pre_hook(lambda *args: calls.append(("first", len(args[1][0]))))
    second.output.register_forward_pre_hook(lambda *args: calls.append(("second", len(args[1][0]))))
    take_step(trainer, np.arange(16))
    forward = [(name, n) for n in (6, 6, 4) for name in ("first", "second")]
    backward = [("second", 4), ("first", 4)]
    for _ in range(2):
        backward += [("first", 6), ("second", 6), ("first", 6)]
    assert calls == forward + backward


# ---------------------------------------------------------------- no traces


def has_traces(network):
    return any("forward" in vars(module) for module in network.modules())


def test_fit_leaves_no_traces_in_network_or_checkpoint(monkeypatch):
    """Not in copies during training either, such as that of averaged weights."""
    networks = []

    class NotedTrainer(phases.Trainer):
        def _average_weights(self):
            super()._average_weights()
            networks.extend([self.network, self.average.module])

    monkeypatch.setattr(phases, "Trainer", NotedTrainer)
    clf = make_classifier(**BOTH, swa_start=0).fit(X, Y)
    assert len(networks) == 16
    assert not any(has_traces(network) for network in [*networks, clf.network_])


def test_trainer_error_in_step_leaves_no_traces(make_trainer, monkeypatch):
    trainer = make_trainer(gradient_checkpointing=True)

    def fail(network, *args, **options):
        assert has_traces(network)
        raise torch.OutOfMemoryError

    monkeypatch.setattr(LightXMLNetwork, "losses", fail)
    with pytest.raises(torch.OutOfMemoryError):
        take_step(trainer, np.arange(16))
    assert not has_traces(trainer.network)
