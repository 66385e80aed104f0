"""In which order the heads are trained: together (LightXML), or one after the other (table 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from ._candidates import LabelLayout, dynamic_clusters
from ._inference import Predictor
from ._network import LightXMLNetwork
from ._text import TokenBatch
from ._training import Trainer, TrainingSet, TrainingSettings


def train_network(
    network: LightXMLNetwork,
    data: TrainingSet,
    settings: TrainingSettings,
    rng: np.random.Generator,
    *,
    negative_sampling: str,
    validate: Callable[[LightXMLNetwork], float] | None = None,
    predictor: Callable[[], Predictor],
) -> list[dict[str, Any]]:
    """Train recall and ranking; returns the history, an entry for each epoch of each stage.

    Parameters
    ----------
    network, data, settings, rng, validate
        See `Trainer`.
    negative_sampling : {"dynamic", "static", "static-separate"}
        "dynamic": both heads together, negatives from the current generator (eq. 6). "static", S
        of table 5: the recall first; then the ranking, encoder included, against the clusters that
        the trained generator chose once; then the generator again, as the encoder has moved away
        from it and stays as it is now. "static-separate", BS: the same with a copy of the encoder
        for the ranking, so that the generator is as good as it was.
    predictor : callable
        Makes the `Predictor` of the network as it is at that time.
    """

    def run(objective: str) -> list[dict[str, Any]]:
        measure = None if objective == "recall" else validate
        history = Trainer(network, data, settings, rng, measure, objective).run()
        return [{**epoch, "objective": objective} for epoch in history]

    if negative_sampling == "dynamic" or network.direct:
        return run("both")
    heads_of_ranking = [network.bottleneck, network.label_table]
    try:
        _freeze(heads_of_ranking)
        history = run("recall")
        data.chosen = static_clusters(predictor(), data, settings.n_candidate_clusters)
        if negative_sampling == "static-separate":
            network.separate_encoders()
            frozen = [network.encoder, network.recall_head]
        else:
            frozen = [network.recall_head]
        network.requires_grad_(True)
        _freeze(frozen)
        history += run("rank")
        if negative_sampling == "static":
            network.requires_grad_(True)
            _freeze([network.encoder, *heads_of_ranking])
            history += run("recall")
    finally:
        network.requires_grad_(True)
    return [{**epoch, "epoch": i} for i, epoch in enumerate(history)]


def static_clusters(predictor: Predictor, data: TrainingSet, n_clusters: int) -> np.ndarray:
    """Choose the clusters to rank once for all texts, positive ones first: (n_texts, b) int32."""
    network = predictor.network
    layout = LabelLayout(network.layout.cluster_of.cpu().numpy())  # on the CPU
    chosen = np.empty((len(data), n_clusters), dtype=np.int32)

    def recall(batch: TokenBatch) -> tuple[torch.Tensor]:
        return (network.recall_logits(network.represent(batch)),)

    for rows, (logits,) in predictor.batches(data.tokens, recall):
        targets = layout.cluster_targets(data.positives(rows), len(rows))
        chosen[rows] = dynamic_clusters(torch.from_numpy(logits), targets, n_clusters).numpy()
    return chosen


def _freeze(modules: list[nn.Module]) -> None:
    for module in modules:
        module.requires_grad_(False)
