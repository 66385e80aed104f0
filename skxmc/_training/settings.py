"""The parameters of one fit, with every "auto" resolved."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

import torch
from joblib import Memory
from sklearn.base import clone
from sklearn.utils.validation import check_memory

from skxmc._clusterer import BalancedLabelClusterer, largest_cluster
from skxmc._inference.low_precision import check_int8
from skxmc._model.device import resolve_device, resolve_precision
from skxmc._model.layout import LabelLayout
from skxmc._utils.paths import user_path
from skxmc._utils.quoting import quoted
from skxmc._utils.warnings import warn_user

# n_candidate_clusters="auto" recalls clusters until they hold about this many labels.
AUTO_CANDIDATE_LABELS = 2000
# learning_rate="auto" is this number divided by the width of the encoder.
AUTO_RATE_TIMES_WIDTH = 1e-4 * 768
# head_learning_rate="auto" is this number, if there is nothing to choose it by.
HEAD_RATE = 2e-3
# max_epochs="auto" is the square root of (this number divided by the number of texts).
AUTO_TEXTS = 600_000
MAX_AUTO_EPOCHS = 10
# Minimum number of epochs for the higher values of dropouts "auto".
MIN_HIGH_DROPOUT_EPOCHS = 5


@dataclass(frozen=True)
class Settings:
    """Parameters of one fit, with the names that `LightXMLClassifier` gives them.

    Two values depend on the network. `peak_rates` and `candidate_clusters` compute them from it.
    """

    # The model.
    encoder: str
    n_feature_layers: int
    pooling: str
    clusterer: BalancedLabelClusterer  # a copy with a seed, not fitted
    bottleneck_dim: int | None
    head_init: str
    memory: Memory
    # Training.
    max_length: int
    long_text: str
    dropout: float
    encoder_dropout: float | None  # None: the rates of the encoder's configuration
    n_candidate_clusters: int | str
    negative_sampling: str
    freeze_encoder: bool
    max_epochs: int
    batch_size: int
    accumulate_steps: int
    gradient_checkpointing: bool
    learning_rate: float | str
    head_learning_rate: float | str | None  # "auto": not chosen yet; None: the rate of the encoder
    weight_decay: float
    warmup_fraction: float
    lr_schedule: str
    max_grad_norm: float | None
    swa_start: int | None
    swa_every: int
    n_iter_no_change: int | None  # None: no early stopping
    deadline: float | None  # time by `time.perf_counter` at which training must end
    # Computation.
    device: torch.device
    dtype: torch.dtype
    label_dtype: torch.dtype  # of the embeddings of labels, while the direct mode trains
    prediction_batch_size: int | str
    prediction_dtype: torch.dtype
    seed: int
    verbose: int

    def peak_rates(self, width: int) -> tuple[float, float]:
        """Compute the peak learning rates of an encoder of this width, and of the heads."""
        rate = self.learning_rate
        rate = AUTO_RATE_TIMES_WIDTH / width if isinstance(rate, str) else rate
        head_rate = self.head_learning_rate
        if isinstance(head_rate, str):
            head_rate = HEAD_RATE
        return rate, rate if head_rate is None else head_rate

    def candidate_clusters(self, layout: LabelLayout) -> int:
        """Compute the number of clusters to recall per text, see `resolve_candidate_clusters`."""
        return resolve_candidate_clusters(self.n_candidate_clusters, layout)


def resolve_settings(
    params: Mapping[str, Any], *, n_texts: int, n_labels: int, seed: int
) -> Settings:
    """Replace every "auto" by a value.

    Parameters
    ----------
    params : dict
        Parameters of `LightXMLClassifier`, from ``get_params(deep=False)``.
    n_texts : int
        Number of training texts, including texts about labels.
    n_labels : int
    seed : int
        Seed of this fit. It also seeds the clusterer if that has no `random_state`.

    Raises
    ------
    ValueError
        If this machine does not have the device, or the device cannot compute in the precision,
        or if parameters exclude each other.

    Warns
    -----
    UserWarning
        If training ends before `swa_start`.
    """
    given = dict(params)
    device = resolve_device(given["device"])
    precision = given["precision"]
    if precision == "int8":
        check_int8(device)
    max_epochs = auto_epochs(n_texts) if given["max_epochs"] == "auto" else given["max_epochs"]
    if given["swa_start"] is not None and given["swa_start"] >= max_epochs:
        warn_user(
            f"swa_start={quoted(given['swa_start'])} is not reached in epochs 0 to "
            f"{max_epochs - 1}, so no weights are averaged. Lower swa_start, or set "
            "swa_start=None.",
        )
    if given["swa_start"] is not None and given["label_precision"] == "bf16":
        raise ValueError(
            "swa_start averages weights over steps, and label_precision='bf16' would round the "
            "averages. Set label_precision='fp32' or swa_start=None."
        )
    memory = given["memory"]
    if isinstance(memory, str | os.PathLike):
        # Tokens are mapped into memory, because they may not fit there.
        memory = Memory(str(user_path(memory)), mmap_mode="r", verbose=0)
    dropout, encoder_dropout = given["dropout"], given["encoder_dropout"]
    time_limit = given["time_limit"]
    many = max_epochs >= MIN_HIGH_DROPOUT_EPOCHS and time_limit is None
    if dropout == "auto":
        dropout = 0.5 if many else 0.3
    if given["freeze_encoder"]:
        encoder_dropout = 0.0
        if given["negative_sampling"] == "static-separate":
            raise ValueError(
                "negative_sampling='static-separate' trains two encoders, but "
                "freeze_encoder=True trains none. Set negative_sampling='static'."
            )
    elif encoder_dropout == "auto":
        encoder_dropout = None if many else 0.0
    clusterer = seeded_clusterer(given["clusterer"], seed, given["n_jobs"])
    negative_sampling = resolve_sampling(given["negative_sampling"], clusterer, n_labels, device)
    if negative_sampling == "none":
        clusterer = BalancedLabelClusterer(max_cluster_size=1, random_state=seed)
    given |= {
        "clusterer": clusterer,
        "negative_sampling": negative_sampling,
        "encoder": os.fspath(given["encoder"]),
        "memory": check_memory(memory),
        "max_epochs": max_epochs,
        "dropout": dropout,
        "encoder_dropout": encoder_dropout,
        "deadline": None if time_limit is None else time.perf_counter() + time_limit,
        "n_iter_no_change": given["n_iter_no_change"] if given["early_stopping"] else None,
        "device": device,
        "dtype": resolve_precision("auto" if precision == "int8" else precision, device),
        "label_dtype": torch.bfloat16 if given["label_precision"] == "bf16" else torch.float32,
        "prediction_dtype": resolve_precision(precision, device),
        "seed": seed,
    }
    return Settings(**{field.name: _plain(given[field.name]) for field in fields(Settings)})


def _plain(value: Any) -> Any:
    """Convert numbers of any type, including NumPy numbers and bool, to int or float."""
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else value


def auto_epochs(n_texts: int) -> int:
    """Compute the number of epochs of max_epochs="auto"."""
    return min(max(round(math.sqrt(AUTO_TEXTS / n_texts)), 1), MAX_AUTO_EPOCHS)


def resolve_candidate_clusters(wanted: int | str, layout: LabelLayout) -> int:
    """Compute the number of clusters to recall per text (*b* in the paper), at most all."""
    if isinstance(wanted, str):
        mean_size = layout.n_labels / layout.n_clusters
        wanted = math.ceil(AUTO_CANDIDATE_LABELS / math.ceil(mean_size))
    return min(int(wanted), layout.n_clusters)


def resolve_sampling(
    wanted: str, clusterer: BalancedLabelClusterer, n_labels: int, device: torch.device
) -> str:
    """Choose the negatives. "auto" is "none" in the direct mode, and "dynamic" with clusters.

    On a CUDA GPU, "auto" is "none" for any number of labels, unless the user has chosen the
    clusters.
    """
    if wanted != "auto":
        return wanted
    if type(clusterer) is not BalancedLabelClusterer:  # it may make any clusters
        return "dynamic"
    size = clusterer.max_cluster_size
    is_direct = largest_cluster(size, n_labels) == 1
    return "none" if is_direct or (device.type == "cuda" and size == "auto") else "dynamic"


def seeded_clusterer(
    clusterer: BalancedLabelClusterer | None, seed: int, n_jobs: int | None
) -> BalancedLabelClusterer:
    """Copy a clusterer, and give the copy a seed and a number of threads if it has none."""
    copied = BalancedLabelClusterer() if clusterer is None else clone(clusterer)
    if copied.random_state is None:
        copied.random_state = seed
    if copied.n_jobs is None:
        copied.n_jobs = n_jobs
    copied._validate_params()
    return copied
