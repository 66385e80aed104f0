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

from skxmc._model.network import LightXMLNetwork
from skxmc._training.initialization import Sample
from skxmc._training.settings import HEAD_RATE, Settings
from skxmc._training.trainer import Trainer, TrainingSet
from skxmc._training.trials import MIN_RATIO, MIN_TEXTS, Trial, copy_heads, is_worth_trying
from skxmc._utils.progress import show_line

LOW_RATE = HEAD_RATE / 8
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
    if not is_worth_trying(network, len(sample.rows), min_texts):
        return HEAD_RATE
    show_line(settings.verbose, f"trying two rates of the heads on {len(sample.rows):,} texts")
    trial = Trial(data, y, sample, settings)

    def score(started: LightXMLNetwork, rate: float, rng: np.random.Generator) -> float:
        _train(started, trial.known, rate, rng, settings)
        return trial.score(started)

    gpus = [data.device] if data.device.type == "cuda" else []
    with torch.random.fork_rng(gpus):
        rng = np.random.default_rng(settings.seed)
        started = trial.start(network, rng)
        high = score(copy_heads(started), HEAD_RATE, copy.deepcopy(rng))  # with the same batches
        is_low = MIN_RATIO * high < score(started, LOW_RATE, rng)
    rate = LOW_RATE if is_low else HEAD_RATE
    show_line(settings.verbose, f"the rate of the heads is {rate:g}")
    return rate


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
