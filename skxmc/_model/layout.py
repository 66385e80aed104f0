"""Which labels are ranked: where labels lie in their clusters, and which clusters are taken.

Labels are stored cluster by cluster: label l is slot `slot_of[l]` of cluster `cluster_of[l]`, so
that the candidates of a text are whole blocks of memory. Nothing here is ever of shape (texts,
labels), waits for a GPU, or loops over texts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn


class Positives(NamedTuple):
    """The positive labels of a batch, one entry for each (text, label) pair."""

    rows: torch.Tensor  # (P,) int64, the text's row in the batch
    labels: torch.Tensor  # (P,) int64

    def to(self, device: torch.device) -> Positives:
        """The same pairs on `device`."""
        return Positives(*(t.to(device, non_blocking=device.type == "cuda") for t in self))


class Candidates(NamedTuple):
    """The clusters that the texts of a batch rank."""

    clusters: torch.Tensor  # (M,) int64 ascending; filled up with the dummy cluster C
    position: torch.Tensor  # (C + 1,) int64, where in `clusters` a cluster stands
    chosen: torch.Tensor  # (B, b) int64, the clusters that each text recalled


class LabelLayout(nn.Module):
    """Where each label lies: its cluster, and its slot in it.

    Parameters
    ----------
    cluster_of : ndarray of shape (n_labels,)
        Cluster of each label, 0 to C - 1, none empty.

    Attributes
    ----------
    cluster_of, slot_of : Tensor of shape (n_labels,), int64
    labels_of : Tensor of shape (C + 1, s), int64
        The labels of each cluster, -1 in slots without a label. Row C is a dummy cluster without
        labels: it fills lists of clusters up to a length that is known without asking the GPU.
    """

    cluster_of: torch.Tensor
    slot_of: torch.Tensor
    labels_of: torch.Tensor

    def __init__(self, cluster_of: np.ndarray) -> None:
        super().__init__()
        sizes = np.bincount(cluster_of)
        self.n_labels = len(cluster_of)
        self.n_clusters = len(sizes)
        self.min_size = int(sizes.min())
        self.max_size = int(sizes.max())
        by_cluster = np.argsort(cluster_of, kind="stable")
        starts = np.cumsum(sizes) - sizes
        slot_of = np.empty(self.n_labels, dtype=np.int64)
        slot_of[by_cluster] = np.arange(self.n_labels) - np.repeat(starts, sizes)
        labels_of = np.full((self.n_clusters + 1, self.max_size), -1, dtype=np.int64)
        labels_of[cluster_of, slot_of] = np.arange(self.n_labels)
        # Rebuilt from the clusters whenever a model is loaded, so not part of the state.
        self.register_buffer("cluster_of", torch.tensor(cluster_of).long(), persistent=False)
        self.register_buffer("slot_of", torch.from_numpy(slot_of), persistent=False)
        self.register_buffer("labels_of", torch.from_numpy(labels_of), persistent=False)

    def cluster_targets(self, positives: Positives, n_texts: int) -> torch.Tensor:
        """Multi-hot clusters of the positive labels, y_g of eq. 1: (n_texts, C) float32."""
        targets = torch.zeros(n_texts, self.n_clusters, device=self.cluster_of.device)
        targets[positives.rows, self.cluster_of[positives.labels]] = 1.0
        return targets


@torch.no_grad()
def dynamic_clusters(
    recall_logits: torch.Tensor, cluster_targets: torch.Tensor, n_candidate_clusters: int
) -> torch.Tensor:
    """Choose the clusters to rank by the current generator, positive ones first: (B, b) int64.

    These are the b clusters with the highest sigmoid(g) + [is a positive cluster]; no gradient
    flows through the choice.
    """
    preference = torch.sigmoid(recall_logits.float()) + cluster_targets
    return preference.topk(n_candidate_clusters, dim=1).indices


@torch.no_grad()
def top_clusters(recall_logits: torch.Tensor, n_candidate_clusters: int) -> torch.Tensor:
    """Choose the clusters to rank in prediction, the best first: (B, b) int64."""
    return recall_logits.topk(n_candidate_clusters, dim=1).indices


@torch.no_grad()
def gather_candidates(
    chosen: torch.Tensor, n_clusters: int, positive_clusters: torch.Tensor | None = None
) -> Candidates:
    """List every cluster that some text of the batch needs, each once.

    Parameters
    ----------
    chosen : Tensor of shape (B, b), int64
        Clusters that each text ranks as a whole.
    n_clusters : int
        C, the number of clusters.
    positive_clusters : Tensor of shape (P,), int64, optional
        Clusters of the positive labels. They are listed too, as a text with more than b positive
        clusters has positives outside of its chosen ones.
    """
    needed = torch.zeros(n_clusters, dtype=torch.bool, device=chosen.device)
    needed[chosen.flatten()] = True
    n_listed = chosen.numel()
    if positive_clusters is not None:
        needed[positive_clusters] = True
        n_listed += len(positive_clusters)
    if needed.is_cuda:
        # Counting them would wait for the GPU: list as many as there can be.
        clusters = _list_padded(needed, min(n_listed, n_clusters))
    else:
        clusters = needed.nonzero().squeeze(1)
    position = torch.zeros(n_clusters + 1, dtype=torch.int64, device=chosen.device)
    position[clusters] = torch.arange(len(clusters), device=chosen.device)
    return Candidates(clusters, position, chosen)


def _list_padded(needed: torch.Tensor, size: int) -> torch.Tensor:
    """Clusters that are needed, ascending, filled up to `size` with C; nothing is counted.

    As `torch.nonzero_static` does, which older versions of torch do not have on a GPU.
    """
    first = torch.argsort(needed.logical_not().to(torch.int8), stable=True)[:size]
    return torch.where(needed[first], first, len(needed))
