"""The scale of the initial heads, calibrated under the dropout that training uses.

The start at centroids is computed from representations without dropout. The dropout of an encoder
may move a representation further than texts differ, for example if the encoder is untrained. Large
weights would amplify this noise, and training would start far above the loss of the log priors.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from skxmc._model.device import autocast
from skxmc._model.layout import Positives
from skxmc._model.network import LabelTable, LightXMLNetwork
from skxmc._model.tokens import TokenBatch
from skxmc._training.dropout import fast_dropout
from skxmc._training.initialization import CENTROID_SHIFT
from skxmc._training.settings import Settings
from skxmc._training.trainer import TrainingSet

# Maximum number of texts whose loss is measured, and of their logits.
MAX_TEXTS = 256
MAX_LOGITS = 1 << 24
# Minimum scale of the weights of the heads that is tried, besides 0.
MIN_SCALE = 1 / 64


class NoisyTexts(NamedTuple):
    """Texts of one batch, represented under the dropout of training."""

    rows: np.ndarray  # (B,) int64
    features: torch.Tensor  # (B, n_feature_layers * hidden)
    positives: Positives


def noisy_texts(
    network: LightXMLNetwork, data: TrainingSet, settings: Settings
) -> list[NoisyTexts]:
    """Represent a few random training texts under the dropout of training, in batches."""
    n_texts = min(len(data), MAX_TEXTS, max(1, MAX_LOGITS // network.layout.n_labels))
    rng = np.random.default_rng(settings.seed)
    rows = rng.permutation(len(data))[:n_texts]
    data.tokens.draw(rng)
    batches = []
    with _training_pass(network, settings):
        for part in np.array_split(rows, -(-n_texts // settings.batch_size)):
            inputs, positives, _ = data.batch(part)
            features = network.represent(inputs) if isinstance(inputs, TokenBatch) else inputs
            batches.append(NoisyTexts(part, features.float(), positives))
    return batches


def mean_loss(
    network: LightXMLNetwork,
    batches: list[NoisyTexts],
    settings: Settings,
    *,
    only_biases: bool = False,
) -> float:
    """Compute the mean loss per text, on a CPU with the same dropout at each call."""
    total = 0.0
    with _training_pass(network, settings):
        for batch in batches:
            features = batch.features
            if only_biases:  # e minus its mean is 0
                features = network.feature_mean.expand_as(features)
            losses = network.losses(
                features, batch.positives, settings.candidate_clusters(network.layout)
            )
            total += float(sum(losses)) * len(features)
    return total / sum(len(batch.features) for batch in batches)


def calibrate(network: LightXMLNetwork, batches: list[NoisyTexts], settings: Settings) -> float:
    """Scale the weights of the heads, and the shift of their biases, to the lowest loss.

    Scales are 1, its halves down to `MIN_SCALE`, and 0. At 0 the logits are the log priors.

    Returns
    -------
    float
        The scale.
    """
    heads: list[LabelTable | nn.Linear] = [network.label_table]
    if not network.direct:
        heads.append(network.recall_head)
    biases = [head.bias.detach().clone() for head in heads]

    @torch.no_grad()
    def rescale(factor: float, scale: float) -> None:
        for head, bias in zip(heads, biases, strict=True):
            head.weight.mul_(factor)
            head.bias.copy_(bias - (1 - scale) * CENTROID_SHIFT)

    lowest, scale = math.inf, 1.0
    while scale >= MIN_SCALE and (loss := mean_loss(network, batches, settings)) < lowest:
        lowest, scale = loss, scale / 2
        rescale(0.5, scale)
    rescale(1.0, 0.0)
    if mean_loss(network, batches, settings, only_biases=True) <= lowest:
        rescale(0.0, 0.0)
        return 0.0
    scale *= 2
    rescale(2.0, scale)
    return scale


@contextlib.contextmanager
def _training_pass(network: LightXMLNetwork, settings: Settings) -> Iterator[None]:
    """Compute as in a training step, without gradients, and with a generator of its own."""
    device = settings.device
    network.train()
    generator = torch.Generator().manual_seed(settings.seed)
    try:
        with torch.no_grad(), autocast(device, settings.dtype), fast_dropout(device, generator):
            yield
    finally:
        network.eval()
        torch.clear_autocast_cache()
