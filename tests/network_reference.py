"""A network with made-up representations, and its losses in plain Python."""

import math
from types import SimpleNamespace

import numpy as np
import torch

from skxmc._model.layout import Positives
from skxmc._model.network import LightXMLNetwork

CLUSTER_OF = np.array([3, 0, 2, 0, 1, 4, 3, 2, 0, 1, 4, 2])  # clusters of 3, 2, 3, 2 and 2 labels
LABELS_OF_TEXTS = [
    [0],  # one label
    [1, 3, 4, 7, 5],  # in four clusters, more than are recalled
    [],  # no label
    [2, 7, 11],  # all labels of a cluster
    [8],
    [6, 9],
]
DIM = 6


class StubEncoder(torch.nn.Module):
    """An encoder with a hidden size and no computation."""

    config = SimpleNamespace(hidden_size=3)


def make_network(cluster_of=CLUSTER_OF, dropout=0.0, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LightXMLNetwork(
            StubEncoder(), cluster_of, n_feature_layers=2, bottleneck_dim=4, dropout=dropout
        )
        if not network.direct:
            torch.nn.init.normal_(network.recall_head.weight)
        torch.nn.init.normal_(network.feature_mean)
        torch.nn.init.normal_(network.bottleneck.weight)
        torch.nn.init.normal_(network.label_table.weight, std=0.5)
        torch.nn.init.normal_(network.label_table.bias)
    return network


def make_features(n=6):
    return torch.randn(n, DIM, generator=torch.Generator().manual_seed(1))


def as_positives(labels_of_texts, device="cpu"):
    rows = [i for i, labels in enumerate(labels_of_texts) for _ in labels]
    labels = [label for labels in labels_of_texts for label in labels]
    return Positives(
        torch.tensor(rows, dtype=torch.int64, device=device),
        torch.tensor(labels, dtype=torch.int64, device=device),
    )


def note_clusters(network):
    """Return a list that records the clusters of each lookup in the label table."""
    listed = []
    network.label_table.register_forward_pre_hook(lambda table, inputs: listed.append(inputs[0]))
    return listed


# ---------------------------------------------------------------- losses in plain Python


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def cross_entropy(logit, target):
    margin = logit if target else -logit
    return math.log1p(math.exp(-abs(margin))) + max(-margin, 0)


@torch.no_grad()
def cluster_logits(network, e):
    head = network.recall_head
    e = e.double() - network.feature_mean.double()
    return (head.weight.double() @ e + head.bias.double()).tolist()


@torch.no_grad()
def label_logit(network, e, label):
    layout, table = network.layout, network.label_table
    e = e.double() - network.feature_mean.double()
    z = network.bottleneck.weight.double() @ e + network.bottleneck.bias.double()
    place = layout.cluster_of[label], layout.slot_of[label]
    return float(table.by_cluster()[place].double() @ z + table.bias[place].double())


def every_label_loss(network, features, labels_of_texts):
    """Compute the cross-entropy of all labels, per text."""
    total = sum(
        cross_entropy(label_logit(network, e, label), label in labels)
        for e, labels in zip(features, labels_of_texts, strict=True)
        for label in range(network.layout.n_labels)
    )
    return total / len(features)


def clusters_to_rank(logits, positive, n):
    return sorted(range(len(logits)), key=lambda c: -sigmoid(logits[c]) - (c in positive))[:n]


@torch.no_grad()
def losses_in_python(
    network, features, labels_of_texts, n_candidate_clusters, chosen=None, label_weights=None
):
    """Compute eq. 1 and eq. 5 per text and label, and return the candidates of each text too.

    True labels have `label_weights`, and a true cluster that of the heaviest true label in it.
    """
    cluster_of = network.layout.cluster_of.tolist()
    weight_of = [1.0] * len(cluster_of) if label_weights is None else label_weights
    recall = rank = 0.0
    candidates = []
    for i, (e, labels) in enumerate(zip(features, labels_of_texts, strict=True)):
        positive: dict[int, float] = {}  # with their weights
        for label in labels:
            weight = positive.get(cluster_of[label], 0.0)
            positive[cluster_of[label]] = max(weight, weight_of[label])
        logits = cluster_logits(network, e)
        recall += sum(
            cross_entropy(g, c in positive) * positive.get(c, 1.0) for c, g in enumerate(logits)
        )
        clusters = (
            clusters_to_rank(logits, positive, n_candidate_clusters)
            if chosen is None
            else chosen[i].tolist()
        )
        candidates.append(
            {label for label, c in enumerate(cluster_of) if c in clusters} | set(labels)
        )
        rank += sum(
            cross_entropy(label_logit(network, e, label), label in labels)
            * (weight_of[label] if label in labels else 1.0)
            for label in candidates[-1]
        )
    return recall / len(features), rank / len(features), candidates
