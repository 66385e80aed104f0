"""The learning rate of the heads, tried on representations before the encoder trains.

The heads start at centroids. On some sets a high rate learns what the centroids do not say. On
others it undoes them, for example if many labels of the texts are missing. The size of a set does
not tell which. So both rates train copies of the heads on a part of the representations that the
start has computed, and the rest decides.
"""

from __future__ import annotations

import copy
import dataclasses
import time

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
from skxmc._training.settings import HEAD_RATE, Settings
from skxmc._training.trainer import Trainer, TrainingSet
from skxmc._utils.progress import show_line
from skxmc.metrics import ndcg_at_k

# The other rate, and how many times better it must be. Below that, chance may decide.
LOW_RATE = HEAD_RATE / 8
MIN_RATIO = 1.02
# With fewer texts, or with more entries of the label table, which is copied, nothing is tried.
MIN_TEXTS = 2000
MAX_ENTRIES = 50_000_000
# One of so many texts is held out.
HELD_OUT_EVERY = 5
# Maximum number of epochs of a trial, and the share of a time limit that one may take.
MAX_EPOCHS = 2
TRIAL_SHARE = 0.03


def choose_head_rate(
    network: LightXMLNetwork,
    data: TrainingSet,
    y: sp.csr_array,
    sample: Sample,
    settings: Settings,
    *,
    min_texts: int = MIN_TEXTS,
) -> float:
    """Choose the rate whose heads have the higher nDCG@5 on held-out texts of the sample.

    `LOW_RATE` must be better by more than chance.

    Parameters
    ----------
    network : LightXMLNetwork
        Network that is about to be trained. Its weights stay as they are.
    data : TrainingSet
        All training texts.
    y : csr_array of shape (n_texts, n_labels)
        Their labels.
    sample : Sample
        Representations of some texts.
    settings : Settings
    min_texts : int, default=MIN_TEXTS

    Returns
    -------
    float
        `HEAD_RATE` or `LOW_RATE`.
    """
    if len(sample.rows) < min_texts or network.label_table.n_entries > MAX_ENTRIES:
        return HEAD_RATE
    show_line(settings.verbose, f"trying two rates of the heads on {len(sample.rows):,} texts")
    is_held_out = np.arange(len(sample.rows)) % HELD_OUT_EVERY == 0
    known = Sample(sample.rows[~is_held_out], sample.features[~is_held_out])
    unknown = Sample(sample.rows[is_held_out], sample.features[is_held_out])
    weights = None if data.weights is None else data.weights[known.rows]
    y_known, tokens = y[known.rows], data.tokens.subset(known.rows)
    part = TrainingSet(tokens, y_known, data.device, weights, data.label_weights)
    part.features = known.features

    def score(started: LightXMLNetwork, rate: float, rng: np.random.Generator) -> float:
        _train(started, part, rate, rng, settings)
        return _score(started, y[unknown.rows], unknown.features, settings)

    gpus = [data.device] if data.device.type == "cuda" else []
    with torch.random.fork_rng(gpus):
        rng = np.random.default_rng(settings.seed)
        started = _start(_copy(network), part, y_known, rng, settings)
        high = score(_copy(started), HEAD_RATE, copy.deepcopy(rng))  # with the same batches
        is_low = MIN_RATIO * high < score(started, LOW_RATE, rng)
    rate = LOW_RATE if is_low else HEAD_RATE
    show_line(settings.verbose, f"the rate of the heads is {rate:g}")
    return rate


def _copy(network: LightXMLNetwork) -> LightXMLNetwork:
    """Copy the heads. The encoders are shared, and do not train."""
    shared = {id(encoder): encoder for encoder in network.encoders}
    copied = copy.deepcopy(network, shared).requires_grad_(True)
    for encoder in copied.encoders:
        encoder.requires_grad_(False)
    return copied


def _start(
    network: LightXMLNetwork,
    data: TrainingSet,
    y: sp.csr_array,
    rng: np.random.Generator,
    settings: Settings,
) -> LightXMLNetwork:
    """Start the heads at the centroids of representations, and return the network."""
    assert data.features is not None
    set_priors(network, y, data.weights)
    start_at_centroids(network, y, data.features.__getitem__, rng, weights=data.weights)
    rows = np.arange(min(len(data), settings.batch_size))
    features = copy_to(torch.from_numpy(data.features[rows]), data.device)
    positives = data.positives(rows).to(data.device)
    calibrate(network, [NoisyTexts(rows, features, positives)], settings)
    return network


def _train(
    network: LightXMLNetwork,
    data: TrainingSet,
    rate: float,
    rng: np.random.Generator,
    settings: Settings,
) -> None:
    """Train the heads for a few epochs."""
    deadline = None
    if settings.deadline is not None:
        now = time.perf_counter()
        deadline = now + TRIAL_SHARE * (settings.deadline - now)
    of_trial = dataclasses.replace(
        settings,
        head_learning_rate=rate,
        max_epochs=min(settings.max_epochs, MAX_EPOCHS),
        swa_start=None,
        n_iter_no_change=None,
        verbose=0,
    )
    generator = torch.Generator().manual_seed(settings.seed)
    Trainer(network, data, of_trial, rng, generator=generator, deadline=deadline).run()


@torch.no_grad()
def _score(
    network: LightXMLNetwork, y: sp.csr_array, features: np.ndarray, settings: Settings
) -> float:
    """Compute the nDCG@5 of representations of shape (n, n_feature_layers * hidden)."""
    k, layout = min(5, y.shape[1]), network.layout
    n_clusters = k
    if not network.direct:
        n_clusters = min(max(settings.candidate_clusters(layout), k), layout.n_clusters)
    found = []
    with autocast(settings.device, settings.dtype):
        for rows in gen_batches(len(features), settings.batch_size):
            part = copy_to(torch.from_numpy(features[rows]), settings.device)
            best, scores = best_first(*network.scores(part, n_clusters), k)
            found.append((best.cpu().numpy(), scores.cpu().numpy()))
    labels, values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return ndcg_at_k(y, TopK(labels, values), k=k)
