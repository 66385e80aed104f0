"""Labels that are added to a trained model, or removed from it, without training.

A new label starts as all labels do, at the centroid of its texts. But the trained model no longer
has the whitened space of the start. The label embeddings have a part in common, their mean, along
which no text says anything about one label. So the new embedding is this mean, plus the direction
of the label's texts without the part along the mean, at the mean length of the other embeddings.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
import torch.nn.functional as F
from torch import nn

from skxmc._model.fitted import Model
from skxmc._model.layout import LabelLayout
from skxmc._model.network import LabelTable, LightXMLNetwork
from skxmc._training.initialization import CENTROID_SHIFT, LABEL_TEXT_WEIGHT, log_odds

# A cluster has room for a label while it holds fewer than so many times the mean of all clusters.
# The label table pads each cluster to the largest.
MAX_CROWDING = 1.5
# Number of training texts of models that do not say it. Then new labels count as rarest of all.
MANY_TEXTS = 10**12


def weigh_texts(y: sp.csr_array, n_label_texts: int) -> sp.csr_array:
    """Weigh the entries of y: 1, or `LABEL_TEXT_WEIGHT` in the last rows, the texts of labels."""
    weights = np.ones((y.shape[0], 1), np.float32)
    weights[y.shape[0] - n_label_texts :] = LABEL_TEXT_WEIGHT
    return sp.csr_array(y.multiply(weights))


@torch.no_grad()
def add_labels(
    model: Model,
    names: np.ndarray,
    y: sp.csr_array,
    batches: Iterable[tuple[np.ndarray, list[np.ndarray]]],
    n_texts: int,
) -> Model:
    """Append labels to a model, whose network is changed in place.

    Parameters
    ----------
    model : Model
    names : ndarray of shape (n_new,)
        Labels that the model does not have.
    y : csr_array of shape (n_rows, n_new)
        Weights of the texts in the centroids of the new labels, see `weigh_texts`.
    batches : iterable of (rows, [e])
        Rows of y, and their representations. Only rows with an entry are needed.
    n_texts : int
        Number of texts of the training, for the log priors.

    Returns
    -------
    Model
        The same network, with a new clusterer and with new classes.
    """
    network, clusterer, device = model.network, model.clusterer, model.network.feature_mean.device
    centroids = torch.from_numpy(_centroids(y, batches, network)).to(device)
    embeddings, biases = _by_label(network)
    counts = np.bincount(y.indices, minlength=len(names))
    n_texts = max(n_texts, y.shape[0])  # there may be more examples than training texts
    priors = torch.from_numpy(log_odds(counts, n_texts) + CENTROID_SHIFT).to(device)
    biases = torch.cat([biases, priors.clamp(biases.min(), biases.max())])
    embeddings = torch.cat([embeddings, _new_embeddings(network, embeddings, centroids)])
    cluster_of = np.concatenate([clusterer.labels_, _places(network, centroids)])
    _relabel(network, cluster_of, embeddings, biases)
    return _model_of(model, cluster_of, np.concatenate([model.classes, names]))


@torch.no_grad()
def keep_labels(model: Model, kept: np.ndarray) -> Model:
    """Remove all labels but those of the columns `kept` from a copy of a model.

    Clusters without labels are removed too. If each cluster is left with one label, this is the
    direct mode, in which the score of a label is that of the ranking head.
    """
    network = copy.deepcopy(model.network)
    embeddings, biases = _by_label(network)
    clusters, cluster_of = np.unique(model.clusterer.labels_[kept], return_inverse=True)
    columns = torch.from_numpy(kept).to(biases.device)
    _relabel(network, cluster_of, embeddings[columns], biases[columns])
    if network.layout.max_size == 1 and not network.direct:
        network.direct = True
        del network.recall_head
    if not network.direct:
        head, rows = network.recall_head, torch.from_numpy(clusters).to(biases.device)
        head.weight = nn.Parameter(head.weight[rows])
        head.bias = nn.Parameter(head.bias[rows])
        head.out_features = len(rows)
    return _model_of(model._replace(network=network), cluster_of, model.classes[kept])


def _centroids(
    y: sp.csr_array,
    batches: Iterable[tuple[np.ndarray, list[np.ndarray]]],
    network: LightXMLNetwork,
) -> np.ndarray:
    """Average the representations of each label's texts: (n_new, width) float32.

    A label without a text gets the mean of the texts of the training.
    """
    n_encoders = len(network.encoders)
    sums = np.zeros((y.shape[1], n_encoders * network.n_features), np.float32)
    for rows, (features,) in batches:
        sums += y[rows].T @ features
    weights = np.asarray(y.sum(axis=0)).ravel()  # of two dimensions in scipy 1.11
    sums[weights == 0] = np.tile(network.feature_mean.cpu().numpy(), n_encoders)
    return sums / np.maximum(weights, 1)[:, np.newaxis]


def _by_label(network: LightXMLNetwork) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the embeddings (L, d) float32 and biases (L,) of all labels, in their order."""
    layout, table = network.layout, network.label_table
    place = layout.cluster_of, layout.slot_of
    return table.by_cluster()[place].float(), table.bias[place]


def _new_embeddings(
    network: LightXMLNetwork, embeddings: torch.Tensor, centroids: torch.Tensor
) -> torch.Tensor:
    """Compute the embeddings of labels from the centroids of their texts: (n_new, d)."""
    mean = embeddings.mean(dim=0) * (len(embeddings) > 1)
    others = embeddings - mean
    z = network.embed(centroids)
    z = z - network.embed(network.feature_mean.repeat(1, len(network.encoders)))
    common = F.normalize(mean, dim=0)
    z = z - (z @ common)[:, None] * common
    if isinstance(network.bottleneck, nn.Identity):
        # Representations are not whitened, but the embeddings lie in their whitened components.
        z = z @ others.T @ others
    return mean + others.norm(dim=1).mean() * F.normalize(z)


def _places(network: LightXMLNetwork, centroids: torch.Tensor) -> np.ndarray:
    """Choose a cluster per new label: that of the highest recall score which has room.

    In the direct mode, each label is a new cluster.
    """
    layout = network.layout
    if network.direct:
        return layout.n_clusters + np.arange(len(centroids))
    sizes = np.bincount(layout.cluster_of.cpu().numpy())
    mean_size = (layout.n_labels + len(centroids)) / layout.n_clusters
    room = max(layout.max_size, math.ceil(MAX_CROWDING * mean_size))
    places = np.empty(len(centroids), dtype=np.int64)
    for label, logits in enumerate(network.recall_logits(centroids).cpu().numpy()):
        places[label] = np.where(sizes < room, logits, -np.inf).argmax()
        sizes[places[label]] += 1
    return places


def _relabel(
    network: LightXMLNetwork,
    cluster_of: np.ndarray,
    embeddings: torch.Tensor,
    biases: torch.Tensor,
) -> None:
    """Give a network a layout and a label table of other labels."""
    layout, before = LabelLayout(cluster_of).to(biases.device), network.label_table
    table = LabelTable(layout.n_clusters, layout.max_size, before.dim).to(biases.device)
    table.convert(before.weight.dtype)
    place = layout.cluster_of, layout.slot_of
    table.by_cluster().zero_()[place] = embeddings.to(before.weight.dtype)
    table.bias[place] = biases
    network.layout, network.label_table = layout, table


def _model_of(model: Model, cluster_of: np.ndarray, classes: np.ndarray) -> Model:
    """Replace the clusters and classes of a model."""
    clusterer: Any = copy.copy(model.clusterer)
    clusterer.labels_ = cluster_of
    clusterer.n_clusters_ = clusterer._n_features_out = model.network.layout.n_clusters
    return model._replace(clusterer=clusterer, classes=classes)
