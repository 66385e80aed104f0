"""A tiny encoder, data and fitted classifiers that the tests of LightXMLClassifier share."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import tempfile
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from scipy import sparse
from tiny_encoders import save_tiny_encoder
from transformers import AutoModel

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc.datasets import make_xmc

MODES = ("direct", "two-stage")


def save_lively_encoder(folder: Path, *, hidden: int = 16) -> str:
    """Save a tiny BERT without dropout whose [CLS] states differ from text to text.

    With the usual small random weights, it represents all texts alike, and tests of predictions
    would compare ties.
    """
    path = save_tiny_encoder(folder, n_layers=1, hidden=hidden)
    model = AutoModel.from_pretrained(path)
    model.config.hidden_dropout_prob = model.config.attention_probs_dropout_prob = 0.0
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(10)
    model.save_pretrained(path)
    return path


@functools.cache
def encoder_path() -> str:
    """Return the folder of the encoder that all test processes share."""
    encoder = Path(os.environ["SKXMC_TESTS_FOLDER"]) / "encoder"
    if not encoder.exists():
        made = tempfile.mkdtemp(dir=encoder.parent)
        save_lively_encoder(Path(made))
        with contextlib.suppress(OSError):  # another process was faster
            os.rename(made, encoder)
    return str(encoder)


@functools.cache
def dataset() -> tuple[list[str], sparse.csr_array]:
    """Make 64 texts of up to about 60 tokens with 30 labels, some of them without a text."""
    return make_xmc(64, 30, n_labels_per_sample=2, n_noise_words=2, random_state=0)


def make_classifier(mode: str = "two-stage", **params: Any) -> LightXMLClassifier:
    """Make an unfitted classifier whose `fit` takes a fraction of a second."""
    is_direct = mode == "direct"
    defaults = {
        "encoder": encoder_path(),
        "max_length": 32,
        "n_feature_layers": 2,
        "dropout": 0.1,
        "clusterer": BalancedLabelClusterer(max_cluster_size=1 if is_direct else 4),
        "max_epochs": 2,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "head_learning_rate": 1e-2,
        "precision": "fp32",
        "device": "cpu",
        "random_state": 0,
    }
    if not is_direct:
        defaults["bottleneck_dim"] = 8
    return LightXMLClassifier(**{**defaults, **params})


@functools.cache
def _fitted(mode: str) -> LightXMLClassifier:
    return make_classifier(mode).fit(*dataset())


def fitted(mode: str = "two-stage") -> LightXMLClassifier:
    """Return a shared classifier fitted to `dataset()`. Copy it before changing it."""
    return _fitted(mode)  # the same with and without the default


def assert_same_predictions(left: Any, right: Any, texts: list[str] | None = None) -> None:
    """Check that scores of all recalled labels are equal bit for bit."""
    texts = dataset()[0] if texts is None else texts
    left, right = left.decision_function(texts), right.decision_function(texts)
    assert left.shape == right.shape
    assert (left != right).nnz == 0
    assert left.nnz == right.nnz > 0


def differ(left: Any, right: Any) -> bool:
    """Check if two classifiers score some text differently."""
    texts = dataset()[0]
    left, right = left.decision_function(texts), right.decision_function(texts)
    return left.shape != right.shape or not np.array_equal(left.toarray(), right.toarray())


def generator_states() -> tuple[Any, ...]:
    """Return the states of all global random generators, to compare them."""
    numpy_state = np.random.get_state()[1].tolist()  # noqa: NPY002
    return random.getstate(), numpy_state, torch.get_rng_state().tolist()


def weights_digest(clf: LightXMLClassifier) -> str:
    """Return a hash of all weights, equal only if they are equal bit for bit."""
    return joblib.hash({name: w.numpy() for name, w in clf.network_.state_dict().items()})
