"""A trainer of a tiny network for the tests of training, and helpers for its weights."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy import sparse

from skxmc import LightXMLClassifier
from skxmc._model.encoder import load_encoder, use_fast_attention, use_sparse_embedding
from skxmc._model.network import LightXMLNetwork
from skxmc._model.seeds import local_seed
from skxmc._model.tokens import TokenStore, tokenize
from skxmc._training.settings import resolve_settings
from skxmc._training.trainer import Trainer, TrainingSet
from skxmc.datasets import make_xmc

CPU = torch.device("cpu")
N_TEXTS, N_LABELS = 120, 30
HISTORY = {
    *("epoch", "loss", "recall_loss", "rank_loss"),
    *("learning_rate", "n_steps", "n_texts", "seconds"),
}
WORDS = "encoder.embeddings.word_embeddings.weight"


@functools.cache
def tokens_and_labels(folder: str) -> tuple[TokenStore, sparse.csr_array]:
    """Make training data, tokenized for the encoder in `folder`."""
    tokenizer, _ = load_encoder(folder)
    texts, y = make_xmc(
        N_TEXTS, N_LABELS, n_labels_per_sample=2, n_noise_words=1, n_words=40, random_state=0
    )
    return tokenize(tokenizer, texts, 24), y


def make_trainer_with(
    folder: str,
    validate: Callable[[LightXMLNetwork], float] | None = None,
    *,
    seed: int = 0,
    direct: bool = False,
    sparse_words: bool = True,
    device: torch.device = CPU,
    **changes: Any,
) -> Trainer:
    """Make a trainer with the encoder in `folder`, set up as a classifier does."""
    params = {
        **LightXMLClassifier().get_params(deep=False),
        "max_epochs": 2,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "head_learning_rate": 1e-2,
        "weight_decay": 0.01,
        "warmup_fraction": 0.1,
        "lr_schedule": "linear",
        "max_grad_norm": 10.0,
        "n_candidate_clusters": 3,
        "precision": "fp32",
        "early_stopping": "n_iter_no_change" in changes,
        **changes,
        "device": str(device),
    }
    settings = resolve_settings(params, n_texts=N_TEXTS, n_labels=N_LABELS, seed=seed)
    _, encoder = load_encoder(folder)
    use_fast_attention(encoder, device)
    if sparse_words:
        use_sparse_embedding(encoder, device)
    with local_seed(seed, CPU):
        network = LightXMLNetwork(
            encoder,
            np.arange(N_LABELS) % (N_LABELS if direct else 8),
            n_feature_layers=2,
            bottleneck_dim=8,
            dropout=0.1,
        )
        torch.nn.init.normal_(network.label_table.weight, std=0.35)
    network.to(device)
    data = TrainingSet(*tokens_and_labels(folder), device)
    rng = np.random.default_rng(seed)
    return Trainer(network, data, settings, rng, validate)


def run(trainer: Trainer, seed: int = 0) -> list[dict[str, Any]]:
    """Train to the end."""
    with local_seed(seed, trainer.data.device):
        return trainer.run()


def take_step(trainer: Trainer, rows: np.ndarray, factor: float = 1.0, seed: int = 0) -> None:
    """Train on one batch."""
    trainer.network.train()
    with local_seed(seed, trainer.data.device):
        trainer.train_step(rows, factor)


def weights(network: LightXMLNetwork) -> dict[str, torch.Tensor]:
    """Copy the state of the network."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_same_weights(
    a: dict[str, torch.Tensor], b: dict[str, torch.Tensor], **tolerance: float
) -> None:
    """Compare two results of `weights`, exactly unless `tolerance` is given."""
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], **(tolerance or {"rtol": 0, "atol": 0}))


def sparse_rows(rows: torch.Tensor, values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Make a sparse gradient of the shape of `like` with these rows, as embeddings have."""
    return torch.sparse_coo_tensor(rows[None], values, like.shape, check_invariants=False)


def after_each_step(trainer: Trainer, action: Callable[[], Any]) -> None:
    """Call `action` after each optimizer step."""
    train_step = trainer.train_step

    def step(rows, factor):
        losses = train_step(rows, factor)
        action()
        return losses

    trainer.train_step = step


class FakeValidation:
    """Validation with given scores, which records weights and leaves networks in eval mode."""

    def __init__(self, scores: list[float]) -> None:
        self.scores = list(scores)
        self.seen: list[tuple[Any, dict[str, torch.Tensor]]] = []

    def __call__(self, network: Any) -> float:
        network.eval()
        self.seen.append((network, weights(network)))
        return self.scores[len(self.seen) - 1]
