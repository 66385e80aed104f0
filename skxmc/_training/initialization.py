"""Initialization of the heads by label priors and by the centroids of each label's texts.

Randomly initialized tables learn rare labels last. But a pretrained encoder already separates
texts. The centroids of the labels' texts in its whitened representations form a linear
discriminant, which is a fair classifier before any training.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.preprocessing import normalize
from torch import nn

from skxmc._input.weights import weighted
from skxmc._model.network import LightXMLNetwork

# Maximum number of texts to encode for the centroids, one forward pass each.
MAX_TEXTS = 200_000
# Maximum number of texts for the mean and the covariance of the representations.
MAX_TEXTS_FOR_COVARIANCE = 20_000
# Number of principal components without a bottleneck. Otherwise it is the bottleneck's size.
MAX_COMPONENTS = 256
# Standard deviation of random weights that multiply the representation itself.
HEAD_STD = 0.01
# Texts to encode, and labels to initialize, at once.
ROWS_BLOCK = 8192
# Added to the variances, as a fraction of their mean, to avoid amplifying noise.
SHRINKAGE = 1.0
# Variances below this fraction of the mean square of the features are noise. The [CLS] states of
# some encoders hardly differ before training, and amplified differences would destabilize it.
MIN_VARIANCE = 0.01
# Minimum of the mean norm of whitened texts, as a fraction of its expected value. The texts of such
# encoders lie near 0, and dividing by a smaller norm would amplify noise again.
MIN_NORM = 0.1
# Centroids closer than this to the mean of all texts count as equal to it. The unit is the mean
# distance of a text from that mean.
MIN_CENTROID = 1e-3
# CENTROID_LOGIT is the logit of a text of average norm for the label or cluster whose centroid it
# lies on. CENTROID_SHIFT is added to all biases in return. With these values the loss starts low:
# on ICD-10-CM at 18.5 to 20 per text. The priors alone give 35.3, and the values 20 and 0 give 62.
CENTROID_LOGIT = 12.0
CENTROID_SHIFT = -1.0
# Weight of the text about a label in the label's centroid, where each of its other texts weighs 1.
LABEL_TEXT_WEIGHT = 2.0

Represent = Callable[[np.ndarray], np.ndarray]


class Sample(NamedTuple):
    """Representations of some training texts."""

    rows: np.ndarray  # (n,) int64
    features: np.ndarray  # (n, n_feature_layers * hidden) float32


def start_at_random(network: LightXMLNetwork, generator: torch.Generator | None = None) -> None:
    """Draw the weights of the heads, and set their biases to 0."""
    with torch.no_grad():
        if not network.direct:
            nn.init.normal_(network.recall_head.weight, std=HEAD_STD, generator=generator)
            network.recall_head.bias.zero_()
        bottleneck, table, std = network.bottleneck, network.label_table, HEAD_STD
        if isinstance(bottleneck, nn.Linear):
            std = 1 / math.sqrt(table.dim)
            bound = 1 / math.sqrt(bottleneck.in_features)
            nn.init.uniform_(bottleneck.weight, -bound, bound, generator=generator)
            bottleneck.bias.zero_()
        nn.init.normal_(table.weight, std=std, generator=generator)
        table.bias.zero_()


def start_at_priors(
    network: LightXMLNetwork,
    y: sp.csr_array,
    generator: torch.Generator | None = None,
    weights: np.ndarray | None = None,
) -> None:
    """Draw the weights, and set the output biases to log odds, see `set_priors`."""
    start_at_random(network, generator)
    set_priors(network, y, weights)


def set_priors(
    network: LightXMLNetwork, y: sp.csr_array, weights: np.ndarray | None = None
) -> None:
    """Set the output biases to the log odds of clusters and labels.

    The odds are those among all texts. A label's odds within its cluster are higher, but most
    labels that the network ranks are in wrongly recalled clusters. A text of weight 2 counts twice.
    """
    layout, table = network.layout, network.label_table
    n_texts = y.shape[0] if weights is None else float(weights.sum())
    with torch.no_grad():
        if not network.direct:
            clusters = weighted(_cluster_matrix(network, y), weights)
            cluster_bias = log_odds(clusters.sum(axis=0), n_texts)
            network.recall_head.bias.copy_(torch.from_numpy(cluster_bias))
        label_bias = torch.from_numpy(log_odds(weighted(y, weights).sum(axis=0), n_texts))
        table.bias[layout.cluster_of, layout.slot_of] = label_bias.to(table.bias.device)


def start_at_centroids(
    network: LightXMLNetwork,
    y: sp.csr_array,
    represent: Represent,
    rng: np.random.Generator,
    n_label_texts: int = 0,
    noise: np.ndarray | None = None,
    max_texts: int = MAX_TEXTS,
    weights: np.ndarray | None = None,
) -> Sample:
    """Set the weights of the heads to the centroids of the labels' and clusters' texts.

    The bottleneck is set to the whitened principal components of the representations. Labels
    without an encoded text are set to the centroid of their cluster.

    Parameters
    ----------
    network : LightXMLNetwork
        Network after `start_at_priors`.
    y : csr_array of shape (n_texts, n_labels)
        Training labels.
    represent : callable
        Function that maps row numbers to representations (n, n_feature_layers * hidden).
    rng : numpy.random.Generator
        Generator that draws the texts to encode if there are more than `max_texts`.
    n_label_texts : int, default=0
        Number of texts about labels. They are the last rows, and are all encoded.
    noise : ndarray of shape (n, n_feature_layers * hidden), optional
        What the encoder's dropout adds to the representations of some texts.
    max_texts : int, default=MAX_TEXTS
        Maximum number of texts to encode. Texts about labels do not count.
    weights : ndarray of shape (n_texts,), optional
        Weights of the texts in means, the covariance and centroids.

    Returns
    -------
    Sample
        The texts of the covariance, without texts about labels.
    """
    rows = rng.permutation(y.shape[0])
    is_text = rows < len(rows) - n_label_texts
    is_encoded = ~is_text | (is_text.cumsum() <= max_texts)
    rows, is_text = rows[is_encoded], is_text[is_encoded]
    sample = rows[:MAX_TEXTS_FOR_COVARIANCE]
    has_bottleneck = isinstance(network.bottleneck, nn.Linear)
    n_components = network.label_table.dim if has_bottleneck else MAX_COMPONENTS
    features = represent(sample)
    share = np.ones((len(rows), 1), np.float32)
    if weights is not None:
        share = weights[rows, None].astype(np.float32)
    on_gpu, device = network.feature_mean.is_cuda, network.feature_mean.device
    gpu = device if on_gpu else None
    mean, components = _whitening(features, share[: len(sample)], n_components, noise, gpu)
    projection = torch.from_numpy(components).to(device)

    def project(features: np.ndarray) -> np.ndarray:
        if not on_gpu:
            return (features - mean) @ components.T
        return (torch.from_numpy(features - mean).to(device) @ projection.T).cpu().numpy()

    projected = np.empty((len(rows), len(components)), np.float32)
    projected[: len(sample)] = project(features)
    for start in range(len(sample), len(rows), ROWS_BLOCK):
        part = slice(start, start + ROWS_BLOCK)
        projected[part] = project(represent(rows[part]))
    norms = np.linalg.norm(projected, axis=1, keepdims=True)
    mean_norm = float((norms * (share / share.mean())).mean())
    norm = max(mean_norm, MIN_NORM * math.sqrt(min(projected.shape)))
    scale = CENTROID_LOGIT / norm
    layout = network.layout

    def scaled(directions: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(directions * scale).float().to(device)

    with torch.no_grad():
        network.feature_mean.copy_(torch.from_numpy(mean))
        if not network.direct:
            of_clusters = weighted(_cluster_matrix(network, y[rows]), share[:, 0])
            clusters = _directions(of_clusters, projected, mean_norm)
            network.recall_head.weight.copy_(scaled(clusters) @ projection)
            network.recall_head.bias.add_(CENTROID_SHIFT)
        if isinstance(network.bottleneck, nn.Linear):
            network.bottleneck.weight[: len(components)] = projection
            network.bottleneck.bias.zero_()
            projection = torch.eye(len(components), network.label_table.dim, device=device)
        table = network.label_table.by_cluster().zero_()
        weight_of = np.where(is_text, 1.0, LABEL_TEXT_WEIGHT).astype(np.float32) * share[:, 0]
        y_by_label = sp.csc_array(weighted(y[rows], weight_of))
        for start in range(0, layout.n_labels, ROWS_BLOCK):
            part = slice(start, start + ROWS_BLOCK)
            labels = _directions(y_by_label[:, part], projected, mean_norm)
            if not network.direct:
                unseen = ~labels.any(axis=1)
                labels[unseen] = clusters[layout.cluster_of[part].cpu().numpy()[unseen]]
            place = layout.cluster_of[part], layout.slot_of[part]
            table[place] = scaled(labels) @ projection
        network.label_table.bias.add_(CENTROID_SHIFT)
    is_text = is_text[: len(sample)]
    return Sample(sample[is_text], features[is_text])


def _whitening(
    features: np.ndarray,
    weights: np.ndarray,
    n_components: int,
    noise: np.ndarray | None = None,
    gpu: torch.device | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the mean, and whitened principal components as rows by decreasing variance.

    Texts have `weights` of shape (n, 1). The variance of the noise along a component counts too,
    because training will see it. `gpu` is the GPU of the network, which is faster than the host at
    large products.
    """
    share = weights / weights.mean()
    counted = features * share
    mean = counted.mean(axis=0, dtype=np.float64)
    centered = features - mean
    centered *= np.sqrt(share)
    if gpu is None:
        variances, axes = np.linalg.eigh(centered.T @ centered / len(features))
    else:
        there = torch.from_numpy(centered).to(gpu)
        found = torch.linalg.eigh(there.T @ there / len(features))
        variances, axes = (tensor.cpu().numpy() for tensor in found)
    keep = np.argsort(-variances, kind="stable")[:n_components]
    level = float(np.einsum("ij,ij->", counted, features, dtype=np.float64) / features.size)
    floor = SHRINKAGE * float(variances.mean()) + MIN_VARIANCE * level + 1e-12
    variances = np.maximum(variances[keep], 0) + floor
    if noise is not None:
        variances += np.square(noise @ axes[:, keep]).mean(axis=0)
    components = axes[:, keep] / np.sqrt(variances)
    return mean.astype(np.float32), components.T.astype(np.float32)


def _directions(y: sp.sparray, projected: np.ndarray, mean_norm: float) -> np.ndarray:
    """Compute the unit vectors from the mean to the centroid of the texts of each column of `y`.

    Entries of `y` are weights of the texts.

    A column without texts gets zeros. So does a column whose centroid is at the mean, such as a
    label of all texts, because rounding errors alone would decide its direction. They are small
    compared to `mean_norm`, the mean norm of the texts.
    """
    sums = y.T @ projected
    n_texts = np.asarray(y.sum(axis=0)).ravel()  # of two dimensions in scipy 1.11
    noise = MIN_CENTROID * mean_norm * n_texts
    sums[np.linalg.norm(sums, axis=1) <= noise] = 0.0
    return normalize(sums)


def _cluster_matrix(network: LightXMLNetwork, y: sp.csr_array) -> sp.csr_array:
    """Mark the clusters in which each text has a label: (n_texts, n_clusters) 0/1."""
    cluster_of = network.layout.cluster_of.cpu().numpy()
    membership = sp.csr_array(
        (np.ones(len(cluster_of), np.float32), (np.arange(len(cluster_of)), cluster_of)),
        shape=(len(cluster_of), network.layout.n_clusters),
    )
    clusters = y @ membership
    clusters.data[:] = 1.0
    return clusters


def log_odds(counts: np.ndarray, n_texts: float) -> np.ndarray:
    """Compute the log odds of `counts` among `n_texts`, finite for counts 0 and `n_texts` too."""
    counts = np.asarray(counts, dtype=np.float64).ravel()
    return np.log((counts + 0.1) / (n_texts - counts + 1.0)).astype(np.float32)
