"""The places of labels in their clusters, and the choice of candidate clusters.

Labels are stored cluster by cluster: label l has slot `slot_of[l]` of cluster `cluster_of[l]`. The
candidates of a text are thus whole blocks of memory. No tensor here has the shape (texts, labels),
and no function waits for a GPU or loops over texts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from skxmc._model.device import copy_to

# The length of a list of clusters on a GPU is a multiple of this. Products of such sizes are
# faster, and tensors of few sizes use the memory again that others have freed.
LIST_MULTIPLE = 64


class Positives(NamedTuple):
    """The positive labels of a batch, one entry per pair of text and label."""

    rows: torch.Tensor  # (P,) int64, the text's row in the batch
    labels: torch.Tensor  # (P,) int64
    weights: torch.Tensor | None = None  # (B,) float32, how much each text counts; None: 1
    # (P,) float32, how much each pair counts as true, times the weight of its text; None: 1
    pair_weights: torch.Tensor | None = None

    def to(self, device: torch.device) -> Positives:
        """Copy the pairs and weights from the host to `device`."""
        return Positives._make(None if part is None else copy_to(part, device) for part in self)


class Candidates(NamedTuple):
    """The candidate clusters of the texts of a batch."""

    clusters: torch.Tensor  # (M,) int64, ascending, padded with the dummy cluster C
    position: torch.Tensor  # (C + 1,) int64, index of each cluster in `clusters`
    chosen: torch.Tensor  # (B, b) int64, the clusters recalled per text


class LabelLayout(nn.Module):
    """Places of labels: the cluster of each label, and its slot in the cluster.

    Parameters
    ----------
    cluster_of : ndarray of shape (n_labels,)
        Cluster of each label, 0 to C - 1.
    n_clusters, max_size : int, optional
        Sizes C and s, by default those of `cluster_of`. Parts of a layout give them.

    Attributes
    ----------
    cluster_of, slot_of : Tensor of shape (n_labels,), int64
    labels_of : Tensor of shape (C + 1, s), int64
        The labels of each cluster, -1 in slots without a label. Row C is a dummy cluster without
        labels. It pads lists of clusters to a length that does not depend on data on the GPU.
    """

    cluster_of: torch.Tensor
    slot_of: torch.Tensor
    labels_of: torch.Tensor

    def __init__(self, cluster_of: np.ndarray, *, n_clusters: int = 0, max_size: int = 0) -> None:
        super().__init__()
        sizes = np.bincount(cluster_of, minlength=n_clusters)
        self.n_labels = len(cluster_of)
        self.n_clusters = len(sizes)
        self.max_size = int(sizes.max(initial=max_size))
        self.min_size = int(sizes.min(initial=self.max_size))
        by_cluster = np.argsort(cluster_of, kind="stable")
        starts = np.cumsum(sizes) - sizes
        slot_of = np.empty(self.n_labels, dtype=np.int64)
        slot_of[by_cluster] = np.arange(self.n_labels) - np.repeat(starts, sizes)
        labels_of = np.full((self.n_clusters + 1, self.max_size), -1, dtype=np.int64)
        labels_of[cluster_of, slot_of] = np.arange(self.n_labels)
        # Not part of the state, as a loaded model rebuilds them from the clusters.
        self.register_buffer("cluster_of", torch.tensor(cluster_of).long(), persistent=False)
        self.register_buffer("slot_of", torch.from_numpy(slot_of), persistent=False)
        self.register_buffer("labels_of", torch.from_numpy(labels_of), persistent=False)

    def cluster_targets(self, positives: Positives, n_texts: int) -> torch.Tensor:
        """Mark the clusters of the positive labels, y_g of eq. 1: (n_texts, C) float32."""
        targets = torch.zeros(n_texts, self.n_clusters, device=self.cluster_of.device)
        targets[positives.rows, self.cluster_of[positives.labels]] = 1.0
        return targets

    def cluster_weights(self, positives: Positives, n_texts: int) -> torch.Tensor | None:
        """Weigh clusters in eq. 1: (n_texts, C) or (n_texts, 1) float32, or None if all weigh 1.

        A true cluster weighs as much as the heaviest of its true labels, which needs it most.
        """
        weights = None if positives.weights is None else positives.weights[:, None]
        if positives.pair_weights is None:
            return weights
        of_clusters = torch.ones(n_texts * self.n_clusters, device=self.cluster_of.device)
        place = positives.rows * self.n_clusters + self.cluster_of[positives.labels]
        of_clusters.scatter_reduce_(0, place, positives.pair_weights, "amax", include_self=False)
        of_clusters = of_clusters.view(n_texts, -1)
        return of_clusters if weights is None else of_clusters * weights


@torch.no_grad()
def dynamic_clusters(
    recall_logits: torch.Tensor, cluster_targets: torch.Tensor, n_candidate_clusters: int
) -> torch.Tensor:
    """Choose the candidate clusters in training, positive clusters first: (B, b) int64.

    These are the b clusters with the highest sigmoid(g) + [is a positive cluster], by the current
    logits g of the recall head. No gradient flows through the choice.
    """
    preference = torch.sigmoid(recall_logits.float()) + cluster_targets
    return preference.topk(n_candidate_clusters, dim=1).indices


@torch.no_grad()
def top_clusters(recall_logits: torch.Tensor, n_candidate_clusters: int) -> torch.Tensor:
    """Choose the candidate clusters in prediction, the best first: (B, b) int64."""
    return recall_logits.topk(n_candidate_clusters, dim=1).indices


@torch.no_grad()
def gather_candidates(
    chosen: torch.Tensor, n_clusters: int, positive_clusters: torch.Tensor | None = None
) -> Candidates:
    """List every cluster that a text of the batch needs, each once.

    Parameters
    ----------
    chosen : Tensor of shape (B, b), int64
        Candidate clusters per text, all of whose labels are ranked. The dummy cluster is legal.
    n_clusters : int
        Number of clusters C.
    positive_clusters : Tensor of shape (P,), int64, optional
        Clusters of the positive labels. They are listed too, because a text with more than b
        positive clusters has positives outside its chosen clusters.
    """
    needed = torch.zeros(n_clusters + 1, dtype=torch.bool, device=chosen.device)
    needed[chosen.flatten()] = True
    n_listed = chosen.numel()
    if positive_clusters is not None:
        needed[positive_clusters] = True
        n_listed += len(positive_clusters)
    if needed.is_cuda:
        # To count them, the CPU would wait for the GPU. The list has the maximum length instead.
        rounded = -(-n_listed // LIST_MULTIPLE) * LIST_MULTIPLE
        clusters = _list_padded(needed[:-1], max(1, min(rounded, n_clusters)))
    else:
        clusters = needed.nonzero().squeeze(1)
    position = torch.zeros(n_clusters + 1, dtype=torch.int64, device=chosen.device)
    position[clusters] = torch.arange(len(clusters), device=chosen.device)
    return Candidates(clusters, position, chosen)


def _list_padded(needed: torch.Tensor, size: int) -> torch.Tensor:
    """List the needed clusters, ascending, padded to `size` with C, without counting them.

    `torch.nonzero_static` does the same, but older versions of torch lack it on a GPU.
    """
    first = torch.argsort(needed.logical_not().to(torch.int8), stable=True)[:size]
    return torch.where(needed[first], first, len(needed))
