"""Steps and predictions on a GPU wait for nothing."""

import numpy as np
import pytest
import torch
from no_waits import NoWaits
from training_fixtures import CPU, N_TEXTS

from skxmc._model.device import autocast
from skxmc._model.encoder import use_fast_attention
from skxmc._model.seeds import local_seed

CASES = [
    {"precision": "bf16"},
    {"precision": "bf16", "max_grad_norm": None},
    {"precision": "bf16", "negative_sampling": "static"},
    {"precision": "bf16", "direct": True},
    {"precision": "bf16", "accumulate_steps": 2, "gradient_checkpointing": True},
]


def make_static(trainer):
    """Choose the clusters of static negatives, if they are the case."""
    if trainer.settings.negative_sampling == "static":
        trainer.data.chosen = np.tile(np.arange(3, dtype=np.int32), (N_TEXTS, 1))


def step_and_predict(trainer, rows):
    """Take a step, and score the same texts."""
    network, device = trainer.network, trainer.data.device
    network.train()
    trainer.train_step(rows, 1.0)
    network.eval()
    with torch.inference_mode(), autocast(device, trainer.settings.dtype):
        network.scores(network.represent(trainer.data.tokens.batch(rows).to(device)), 3)


@pytest.mark.parametrize("case", CASES)
def test_step_and_prediction_wait_for_nothing(case, make_trainer, monkeypatch):
    """The code of a GPU runs on the CPU."""
    trainer = make_trainer(sparse_words=False, **case)
    make_static(trainer)
    use_fast_attention(trainer.network.encoder, torch.device("cuda"))
    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    with local_seed(0, CPU), NoWaits():
        step_and_predict(trainer, np.arange(16))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("case", [*CASES, {"precision": "fp16"}])
def test_step_and_prediction_on_cuda_wait_for_nothing(case, make_trainer):
    trainer = make_trainer(device=torch.device("cuda", 0), **case)
    make_static(trainer)
    step_and_predict(trainer, np.arange(16))  # makes the states of the optimizers
    torch.cuda.set_sync_debug_mode("error")
    try:
        step_and_predict(trainer, np.arange(16, 32))
    finally:
        torch.cuda.set_sync_debug_mode("default")
