"""Short lists of labels per text, for the direct mode with millions of labels on a CPU.

There, prediction of one text reads the embeddings of all labels, which takes longer than the
encoder. Here the embeddings are clustered once. A text then reads the centers of the clusters, and
the embeddings of the clusters whose labels may score highest.
"""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from sklearn.utils import gen_batches

from skxmc._input.sparse import ranges
from skxmc._model.full_label import best_labels, label_logits
from skxmc._model.network import LightXMLNetwork
from skxmc._utils.parallel import ProcessLock

# Number of clusters whose labels are scored per text.
N_PROBED = 256
# Rows per center that a k-means is fitted to.
ROWS_PER_CENTER = 16
# Labels to assign to centers at once.
ROWS_BLOCK = 8192


class ShortList:
    """Clusters of the embeddings of labels.

    Parameters
    ----------
    weight, bias : Tensor of shape (L, d) and (L,)
        Embeddings and biases of the labels, on a CPU.
    n_probed : int, default=N_PROBED
        Number of clusters whose labels are scored per text. Clusters have such a size that a text
        reads about as many centers as labels.
    """

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor, *, n_probed: int = N_PROBED
    ) -> None:
        self.n_probed = n_probed
        vectors = np.empty((len(bias), weight.shape[1] + 1), dtype=np.float32)
        vectors[:, :-1], vectors[:, -1] = weight.float(), bias
        if np.isfinite(vectors).all():
            cluster_of = _cluster(vectors, max(1, round(math.sqrt(len(vectors) / n_probed))))
        else:  # a single cluster is searched exactly, and finds the NaN
            cluster_of = np.zeros(len(vectors), dtype=np.int64)
        by_cluster = np.argsort(cluster_of, kind="stable")
        self.sizes = np.bincount(cluster_of)
        self.starts = np.cumsum(self.sizes) - self.sizes
        centers = np.empty((len(self.sizes), vectors.shape[1]), dtype=np.float32)
        spreads = np.empty(len(self.sizes), dtype=np.float32)
        for cluster, start in enumerate(self.starts):
            members = vectors[by_cluster[start : start + self.sizes[cluster]]]
            centers[cluster] = members.mean(axis=0)
            spreads[cluster] = math.sqrt(members.var(axis=0).sum() / members.shape[1])
        self.by_cluster = torch.from_numpy(by_cluster)
        self.centers, self.spreads = torch.from_numpy(centers), torch.from_numpy(spreads)

    def promise(self, z: torch.Tensor) -> torch.Tensor:
        """Estimate the highest logit of a cluster: (B, C) float32.

        It is the logit of the center, plus twice the standard deviation of its labels' logits if
        their embeddings scattered equally in all directions.
        """
        length = torch.linalg.vector_norm(z, dim=1, keepdim=True)
        return z @ self.centers[:, :-1].T + self.centers[:, -1] + 2 * length * self.spreads

    def best_labels(
        self, z: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, k: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Find the k labels with the highest logits in the most promising clusters.

        Parameters
        ----------
        z : Tensor of shape (B, d)
            Bottleneck states.
        weight, bias : Tensor of shape (L, d) and (L,)
            The embeddings and biases that were clustered.
        k : int
            Number of labels. If it is above `n_probed`, all labels are scored.

        Returns
        -------
        labels : Tensor of shape (B, k), int64
        logits : Tensor of shape (B, k), float32
        """
        if k > self.n_probed or len(self.sizes) <= self.n_probed:
            return best_labels(z, weight, bias, k)
        probed = self.promise(z.float()).topk(self.n_probed, dim=1, sorted=False).indices.numpy()
        labels = torch.empty((len(z), k), dtype=torch.int64)
        logits = torch.empty((len(z), k))
        for row, clusters in enumerate(probed):
            members = self.by_cluster[ranges(self.starts[clusters], self.sizes[clusters])]
            of_members = label_logits(z[row : row + 1], weight[members], bias[members])
            logits[row], best = of_members[0].topk(k)
            labels[row] = members[best]
        return labels, logits


def _cluster(vectors: np.ndarray, cluster_size: int) -> np.ndarray:
    """Cluster rows by k-means in two levels: cluster of each row, (n,) int64.

    Clusters of more than twice `cluster_size` are cut, such as that of all labels without training
    texts, whose embeddings are equal.
    """
    rng = np.random.default_rng(0)
    n_coarse = math.isqrt(-(-len(vectors) // cluster_size))
    n_clusters = 0
    cluster_of = np.empty(len(vectors), dtype=np.int64)
    for coarse in _members(_k_means(vectors, n_coarse, rng)):
        for fine in _members(_k_means(vectors[coarse], -(-len(coarse) // cluster_size), rng)):
            for part in gen_batches(len(fine), 2 * cluster_size):
                cluster_of[coarse[fine[part]]] = n_clusters
                n_clusters += 1
    return cluster_of


def _members(cluster_of: np.ndarray) -> list[np.ndarray]:
    """List the rows of each cluster that is not empty."""
    sizes = np.bincount(cluster_of)
    by_cluster = np.argsort(cluster_of, kind="stable")
    return [rows for rows in np.split(by_cluster, np.cumsum(sizes)[:-1]) if len(rows)]


def _k_means(vectors: np.ndarray, n_clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Assign rows to the centers of a k-means of some rows: (n,) int64."""
    if n_clusters < 2:
        return np.zeros(len(vectors), dtype=np.int64)
    sample = rng.permutation(len(vectors))[: ROWS_PER_CENTER * n_clusters]
    k_means = MiniBatchKMeans(
        n_clusters, init="random", n_init=1, max_iter=3, reassignment_ratio=0, random_state=0
    ).fit(vectors[sample])
    parts = gen_batches(len(vectors), ROWS_BLOCK)
    return np.concatenate([k_means.predict(vectors[part]) for part in parts]).astype(np.int64)


_building = ProcessLock()
_built: WeakKeyDictionary[LightXMLNetwork, ShortList] = WeakKeyDictionary()


def short_list(network: LightXMLNetwork) -> ShortList:
    """Return the short list of a `serving_copy` in the direct mode, which is built once."""
    with _building:
        if network not in _built:
            _built[network] = ShortList(*network.own_labels())
        return _built[network]
