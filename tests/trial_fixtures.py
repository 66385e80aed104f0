"""Representations for trials of heads."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from training_fixtures import N_LABELS, N_TEXTS

from skxmc._model.network import LightXMLNetwork
from skxmc._training.initialization import Sample
from skxmc._training.settings import Settings
from skxmc._training.trainer import Trainer, TrainingSet

N_SAMPLE = 600


def trial_arguments(
    trainer: Trainer, *, is_clean: bool, first_row: int = 0
) -> tuple[LightXMLNetwork, TrainingSet, sp.csr_array, Sample, Settings]:
    """Make representations around the prototypes of labels.

    If they are not clean, much noise hides the prototypes, and most labels are wrong.
    """
    rng = np.random.default_rng(1)
    label = rng.integers(N_LABELS, size=N_SAMPLE)
    prototypes = rng.normal(size=(N_LABELS, trainer.network.n_features))
    noise = (1 if is_clean else 3) * rng.normal(size=(N_SAMPLE, prototypes.shape[1]))
    features = (prototypes[label] + noise).astype(np.float32)
    dense = np.zeros((first_row + N_SAMPLE, N_LABELS), np.float32)
    rows = first_row + np.arange(N_SAMPLE)
    dense[rows, label] = is_clean | (rng.random(N_SAMPLE) < 0.6)
    for _ in range(0 if is_clean else 3):
        dense[rows, rng.integers(N_LABELS, size=N_SAMPLE)] = 1
    y = sp.csr_array(dense)
    tokens = trainer.data.tokens.subset(np.arange(first_row + N_SAMPLE) % N_TEXTS)
    data = TrainingSet(tokens, y, torch.device("cpu"))
    return trainer.network, data, y, Sample(rows, features), trainer.settings
