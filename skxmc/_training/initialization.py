"""Where the heads start: at the label priors, and at the centroids of each label's texts.

Rare labels are what randomly started tables learn last. The encoder knows a good deal before any
training: the centroid of a label's texts in its whitened representations is already a fair
classifier, a linear discriminant, and training goes on from there.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.preprocessing import normalize
from torch import nn

from skxmc._model.network import LightXMLNetwork

# Texts whose representations decide where the heads start, a forward pass each, besides all texts
# that are written about labels.
MAX_TEXTS = 200_000
# Texts that the mean and the covariance of the representations are taken from.
MAX_TEXTS_FOR_COVARIANCE = 20_000
# Principal components used in the direct mode, which has no bottleneck that would say.
DIRECT_COMPONENTS = 256
# Texts represented, and labels looked at, at once.
ROWS_BLOCK = 8192
# Added to the variances, as a share of their mean, so that noise is not blown up.
SHRINKAGE = 1.0
# Variances below this share of the mean square of the features are noise: the [CLS] states of some
# encoders hardly differ before training, and blown up differences would upset it.
MIN_VARIANCE = 0.01
# Whitened, such texts lie near 0: their norm is taken for no less than this share of what it should
# be, or the weights would blow up what the whitening did not.
MIN_NORM = 0.1
# Centroids nearer to the mean of all texts than this share of a text's distance are taken for it.
MIN_CENTROID = 1e-3
# What a text of average norm gets, in logits, for a label or cluster whose centroid it lies right
# on, and what all get less than their prior in turn. Chosen so that the loss starts low: on
# ICD-10-CM 18.5 to 20 a text instead of the 35.3 of the priors alone, where 20 and 0 give 62.
CENTROID_LOGIT = 12.0
CENTROID_SHIFT = -1.0

Represent = Callable[[np.ndarray], np.ndarray]


def start_at_random(network: LightXMLNetwork, generator: torch.Generator | None = None) -> None:
    """Draw the weights of the heads; biases are 0."""
    with torch.no_grad():
        nn.init.normal_(network.recall_head.weight, std=0.01, generator=generator)
        network.recall_head.bias.zero_()
        if not network.direct:
            bottleneck, table = network.bottleneck, network.label_table
            bound = 1 / math.sqrt(bottleneck.in_features)
            nn.init.uniform_(bottleneck.weight, -bound, bound, generator=generator)
            bottleneck.bias.zero_()
            nn.init.normal_(table.weight, std=1 / math.sqrt(table.dim), generator=generator)
            table.bias.zero_()


def start_at_priors(
    network: LightXMLNetwork, y: sp.csr_array, generator: torch.Generator | None = None
) -> None:
    """Draw the weights at random; set the output biases to the log odds of clusters and labels.

    The odds are those among all texts. Those of a label within its cluster would be higher, but
    most of the labels that a text ranks are in clusters recalled wrongly.
    """
    start_at_random(network, generator)
    n_texts = y.shape[0]
    cluster_bias = _log_odds(_cluster_matrix(network, y).sum(axis=0), n_texts)
    with torch.no_grad():
        network.recall_head.bias.copy_(torch.from_numpy(cluster_bias))
        if not network.direct:
            table = network.label_table
            label_bias = _log_odds(y.sum(axis=0), n_texts)
            table.bias[network.layout.cluster_of, network.layout.slot_of] = torch.from_numpy(
                label_bias
            ).to(table.bias.device)


def start_at_centroids(
    network: LightXMLNetwork,
    y: sp.csr_array,
    represent: Represent,
    rng: np.random.Generator,
    n_label_texts: int = 0,
) -> None:
    """Set the weights of the heads to the centroids of the labels' and clusters' texts.

    The bottleneck starts as the whitened principal components of the representations. Labels
    without a text (among those looked at) start at the centroid of their cluster.

    Parameters
    ----------
    network : LightXMLNetwork
        Its biases are at the priors already, see `start_at_priors`.
    y : csr_array of shape (n_texts, n_labels)
        The training labels.
    represent : callable
        Takes row numbers, returns their representations (n, n_feature_layers * hidden).
    rng : numpy.random.Generator
        Draws the texts to look at where there are very many.
    n_label_texts : int, default=0
        The last so many rows are texts written about labels: all of them are looked at.
    """
    rows = rng.permutation(y.shape[0])
    is_text = rows < len(rows) - n_label_texts
    rows = rows[~is_text | (is_text.cumsum() <= MAX_TEXTS)]
    sample = rows[:MAX_TEXTS_FOR_COVARIANCE]
    n_components = DIRECT_COMPONENTS if network.direct else network.bottleneck.out_features
    features = represent(sample)
    mean, components = _whitening(features, n_components)
    projected = np.empty((len(rows), len(components)), np.float32)
    projected[: len(sample)] = (features - mean) @ components.T
    for start in range(len(sample), len(rows), ROWS_BLOCK):
        part = slice(start, start + ROWS_BLOCK)
        projected[part] = (represent(rows[part]) - mean) @ components.T
    mean_norm = float(np.linalg.norm(projected, axis=1).mean())
    norm = max(mean_norm, MIN_NORM * math.sqrt(min(projected.shape)))
    clusters = _directions(_cluster_matrix(network, y[rows]), projected, mean_norm)
    device = network.feature_mean.device
    projection = torch.from_numpy(components).to(device)
    with torch.no_grad():
        network.feature_mean.copy_(torch.from_numpy(mean))
        directions = torch.from_numpy(clusters * (CENTROID_LOGIT / norm)).float().to(device)
        network.recall_head.weight.copy_(directions @ projection)
        network.recall_head.bias.add_(CENTROID_SHIFT)
        if not network.direct:
            n = len(components)
            network.bottleneck.weight[:n] = projection
            network.bottleneck.bias.zero_()
            table = network.label_table.by_cluster()
            table.zero_()
            y_by_label = y[rows].tocsc()
            for start in range(0, network.layout.n_labels, ROWS_BLOCK):
                part = slice(start, start + ROWS_BLOCK)
                cluster_of, slot_of = network.layout.cluster_of[part], network.layout.slot_of[part]
                labels = _directions(y_by_label[:, part], projected, mean_norm)
                unseen = ~labels.any(axis=1)
                labels[unseen] = clusters[cluster_of.cpu().numpy()[unseen]]
                embeddings = torch.from_numpy(labels * (CENTROID_LOGIT / norm)).float().to(device)
                table[cluster_of, slot_of, :n] = embeddings
            network.label_table.bias.add_(CENTROID_SHIFT)


def _whitening(features: np.ndarray, n_components: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and the whitened principal components as rows: largest variance first."""
    mean = features.mean(axis=0, dtype=np.float64)
    centred = features - mean
    variances, axes = np.linalg.eigh(centred.T @ centred / len(features))
    keep = np.argsort(-variances, kind="stable")[:n_components]
    level = float(np.einsum("ij,ij->", features, features, dtype=np.float64) / features.size)
    floor = SHRINKAGE * float(variances.mean()) + MIN_VARIANCE * level + 1e-12
    components = axes[:, keep] / np.sqrt(np.maximum(variances[keep], 0) + floor)
    return mean.astype(np.float32), components.T.astype(np.float32)


def _directions(y: sp.sparray, projected: np.ndarray, mean_norm: float) -> np.ndarray:
    """Unit vectors to the centroids of the texts of each column of `y`; 0 where it has none.

    What all texts have is at their mean, 0 but for rounding errors, which point nowhere: they are
    small beside `mean_norm`, that of the texts.
    """
    sums = y.T @ projected
    n_texts = np.asarray(y.sum(axis=0)).ravel()  # of two dimensions in scipy 1.11
    noise = MIN_CENTROID * mean_norm * n_texts
    sums[np.linalg.norm(sums, axis=1) <= noise] = 0.0
    return normalize(sums)


def _cluster_matrix(network: LightXMLNetwork, y: sp.csr_array) -> sp.csr_array:
    """Which texts have a label in which cluster: (n_texts, C) 0/1."""
    cluster_of = network.layout.cluster_of.cpu().numpy()
    membership = sp.csr_array(
        (np.ones(len(cluster_of), np.float32), (np.arange(len(cluster_of)), cluster_of)),
        shape=(len(cluster_of), network.layout.n_clusters),
    )
    clusters = y @ membership
    clusters.data[:] = 1.0
    return clusters


def _log_odds(counts: np.ndarray, n_texts: int) -> np.ndarray:
    """Log odds of labels seen `counts` times in `n_texts` texts, finite for 0 and n_texts too."""
    counts = np.asarray(counts, dtype=np.float64).ravel()
    return np.log((counts + 0.1) / (n_texts - counts + 1.0)).astype(np.float32)
