"""Trials of heads on representations, before the encoder trains.

Some choices depend on the data in a way that neither sizes nor the encoder tell. A trial starts
heads at the centroids of some texts, and measures how they rank the labels of others.
"""

from __future__ import annotations

import copy

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.utils import gen_batches

from skxmc._inference.predictor import best_first
from skxmc._model.device import autocast, copy_to
from skxmc._model.network import LightXMLNetwork
from skxmc._topk import TopK
from skxmc._training.calibration import NoisyTexts, calibrate
from skxmc._training.initialization import Sample, set_priors, start_at_centroids
from skxmc._training.settings import Settings
from skxmc._training.trainer import TrainingSet
from skxmc.metrics import ndcg_at_k

# How many times better than the usual choice another must be. Below that, chance may decide.
MIN_RATIO = 1.02
# With fewer texts, or with more entries of the label table, which is copied, nothing is tried.
MIN_TEXTS = 2000
MAX_ENTRIES = 50_000_000
# One of so many texts is held out.
HELD_OUT_EVERY = 5


def is_worth_trying(network: LightXMLNetwork, n_texts: int, min_texts: int) -> bool:
    """Return whether there are enough texts for a trial, and few enough weights."""
    return n_texts >= min_texts and network.label_table.n_entries <= MAX_ENTRIES


class Trial:
    """Representations of some texts to learn from, and of others to rank labels for.

    Parameters
    ----------
    data : TrainingSet
        All training texts.
    y : csr_array of shape (n_texts, n_labels)
        Their labels.
    sample : Sample
        Representations of some of them.
    settings : Settings
        Parameters of the fit.

    Attributes
    ----------
    known : TrainingSet
        Texts to learn from, with their representations.
    """

    def __init__(
        self, data: TrainingSet, y: sp.csr_array, sample: Sample, settings: Settings
    ) -> None:
        is_held_out = np.arange(len(sample.rows)) % HELD_OUT_EVERY == 0
        rows, unknown = sample.rows[~is_held_out], sample.rows[is_held_out]
        weights = None if data.weights is None else data.weights[rows]
        tokens = data.tokens.subset(rows)
        self.known = TrainingSet(tokens, y[rows], data.device, weights, data.label_weights)
        self.known.features = sample.features[~is_held_out]
        self.y_known, self.y_unknown = y[rows], y[unknown]
        self.unknown = sample.features[is_held_out]
        self.settings = settings

    def start(self, network: LightXMLNetwork, rng: np.random.Generator) -> LightXMLNetwork:
        """Copy the network, and start the heads of the copy at centroids of the known texts."""
        network, known, settings = copy_heads(network), self.known, self.settings
        assert known.features is not None
        set_priors(network, self.y_known, known.weights)
        start_at_centroids(
            network, self.y_known, known.features.__getitem__, rng, weights=known.weights
        )
        rows = np.arange(min(len(known), settings.batch_size))
        features = copy_to(torch.from_numpy(known.features[rows]), known.device)
        positives = known.positives(rows).to(known.device)
        calibrate(network, [NoisyTexts(rows, features, positives)], settings)
        return network

    @torch.no_grad()
    def score(self, network: LightXMLNetwork) -> float:
        """Compute the nDCG@5 of a network on the unknown texts."""
        settings, y = self.settings, self.y_unknown
        k, layout = min(5, y.shape[1]), network.layout
        n_clusters = k
        if not network.direct:
            n_clusters = min(max(settings.candidate_clusters(layout), k), layout.n_clusters)
        found = []
        with autocast(settings.device, settings.dtype):
            for rows in gen_batches(len(self.unknown), settings.batch_size):
                part = copy_to(torch.from_numpy(self.unknown[rows]), settings.device)
                best, scores = best_first(*network.scores(part, n_clusters), k)
                found.append((best.cpu().numpy(), scores.cpu().numpy()))
        labels, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
        return ndcg_at_k(y, TopK(labels, values), k=k)


def copy_heads(network: LightXMLNetwork) -> LightXMLNetwork:
    """Copy the heads. The encoders are shared, and do not train."""
    shared = {id(encoder): encoder for encoder in network.encoders}
    copied = copy.deepcopy(network, shared).requires_grad_(True)
    for encoder in copied.encoders:
        encoder.requires_grad_(False)
    return copied
