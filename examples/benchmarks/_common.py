"""Helpers for benchmarks: timing of A and B in turn, random data, and the machine's name."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc._model.encoder import build_encoder, load_encoder
from skxmc._model.fitted import Model
from skxmc._model.network import LightXMLNetwork
from skxmc._model.tokens import TokenStore
from skxmc._training import optim

# Maximum numbers of entries with full moments.
LABEL_MOMENTS = {"full": 1 << 62, "compact": 0, "auto": optim.MAX_FULL_ENTRIES}

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def describe_machine(device: torch.device, dtype: torch.dtype) -> str:
    """Describe processor, threads, precision and versions in one line."""
    if device.type == "cuda":
        processor = torch.cuda.get_device_name(device)
    else:
        processor = f"{cpu_name()}, {torch.get_num_threads()} threads"
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    return f"{processor}; {str(dtype).removeprefix('torch.')}; {packages}"


def cpu_name() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Measure the wall time of one call, including the work of the device."""
    synchronize(device)
    started = time.perf_counter()
    run()
    synchronize(device)
    return time.perf_counter() - started


def synchronize(device: torch.device) -> None:
    """Wait for a GPU. A CPU has no pending work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_in_turn(
    a: Callable[[], Any], b: Callable[[], Any], n_pairs: int, device: torch.device
) -> np.ndarray:
    """Measure seconds of a and b, (n_pairs, 2), in pairs whose order alternates."""
    for run in (a, b, a, b):  # warm-up
        seconds(run, device)
    times = np.empty((n_pairs, 2))
    for pair in range(n_pairs):
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            times[pair, which] = seconds((a, b)[which], device)
    return times


def spread(values: np.ndarray, unit: str = "", scale: float = 1.0) -> str:
    """Format the median, with quartiles in brackets."""
    low, middle, high = scale * np.quantile(values, [0.25, 0.5, 0.75])
    return f"{middle:.3g}{unit} ({low:.3g}-{high:.3g})"


def load_shape(name: str) -> Any:
    """Load MiniLM, or build an encoder of BERT-base's shape with random weights."""
    if name == "minilm":
        return load_encoder(MINILM).model
    from transformers import BertConfig

    return build_encoder(BertConfig())


def random_texts(n_texts: int, n_tokens: int, vocab: int, rng: np.random.Generator) -> TokenStore:
    """Make texts of `n_tokens` random tokens, with no padding and few repeated words."""
    ids = rng.integers(1000, vocab, n_texts * n_tokens, dtype=np.int32)
    return TokenStore(ids, np.arange(n_texts + 1) * n_tokens, None, pad_id=0, cls_last=False)


def random_labels(
    n_texts: int, n_labels: int, n_positives: int, rng: np.random.Generator
) -> sp.csr_array:
    """Draw `n_positives` distinct random labels per text."""
    labels = np.concatenate(
        [np.sort(rng.choice(n_labels, n_positives, replace=False)) for _ in range(n_texts)]
    )
    indptr = np.arange(n_texts + 1) * n_positives
    return sp.csr_array(
        (np.ones(len(labels), dtype=np.float32), labels, indptr), shape=(n_texts, n_labels)
    )


def random_network(
    encoder: Any, n_labels: int, n_clusters: int, bottleneck_dim: int, device: torch.device
) -> LightXMLNetwork:
    """Make a network on an encoder, with equally many labels per cluster."""
    cluster_of = np.arange(n_labels, dtype=np.int64) * n_clusters // n_labels
    network = LightXMLNetwork(
        encoder, cluster_of, n_feature_layers=5, bottleneck_dim=bottleneck_dim, dropout=0.5
    )
    network.place_on(device)
    torch.nn.init.normal_(network.label_table.weight, std=bottleneck_dim**-0.5)
    return network


def memory_of(device: torch.device) -> float:
    """Return the peak memory so far, of the process or the GPU, in GB."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def n_cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def random_classifier(
    network: LightXMLNetwork, tokenizer: Any, n_tokens: int, **params: Any
) -> LightXMLClassifier:
    """Make a classifier from an untrained network, whose predictions do not matter."""
    clf = LightXMLClassifier(max_length=n_tokens, device=str(device_of(network)), **params)
    classes = np.arange(network.layout.n_labels)
    model = Model(network.eval(), tokenizer, BalancedLabelClusterer(), classes, None)
    clf._adopt(model, history=[])
    return clf


def device_of(network: torch.nn.Module) -> torch.device:
    """Return the device of a network."""
    return next(network.parameters()).device


def use_label_moments(which: str) -> None:
    """Train all label tables with full or compact moments. "auto" restores the default."""
    optim.MAX_FULL_ENTRIES = LABEL_MOMENTS[which]
