"""In which order the heads are trained: together (LightXML), or one after the other (table 5)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from skxmc._inference.predictor import Predictor
from skxmc._model.layout import LabelLayout, dynamic_clusters
from skxmc._model.network import LightXMLNetwork
from skxmc._model.tokens import TokenBatch
from skxmc._training.trainer import Trainer, TrainingSet, TrainingSettings
from skxmc._utils.warnings import warn_user


class Training:
    """Training of recall and ranking, stage after stage, which can be left and taken up again.

    Parameters
    ----------
    network, data, settings, rng, validate, generator, save_every
        See `Trainer`.
    negative_sampling : {"dynamic", "static", "static-separate"}
        "dynamic": both heads together, negatives from the current generator (eq. 6). "static", S
        of table 5: the recall first; then the ranking, encoder included, against the clusters that
        the trained generator chose once; then the generator again, as the encoder has moved away
        from it and stays as it is now. "static-separate", BS: the same with a copy of the encoder
        for the ranking, so that the generator is as good as it was.
    predictor : callable
        Makes the `Predictor` of the network as it is at that time.
    save : callable, optional
        Takes this training when it is time to keep its `state_dict()`.
    """

    def __init__(
        self,
        network: LightXMLNetwork,
        data: TrainingSet,
        settings: TrainingSettings,
        rng: np.random.Generator,
        *,
        negative_sampling: str,
        validate: Callable[[LightXMLNetwork], float] | None = None,
        predictor: Callable[[], Predictor],
        generator: torch.Generator | None = None,
        save: Callable[[Training], None] | None = None,
        save_every: int = 0,
    ) -> None:
        self.network = network
        self.data = data
        self.settings = settings
        self.rng = rng
        self.validate = validate
        self.predictor = predictor
        self.generator = generator
        self.save = save
        self.save_every = save_every
        self.separates = negative_sampling == "static-separate"
        if negative_sampling == "dynamic" or network.direct:
            self.objectives = ["both"]
        elif self.separates:
            self.objectives = ["recall", "rank"]
        else:
            self.objectives = ["recall", "rank", "recall"]
        self.stage = 0
        self.finished: list[dict[str, Any]] = []  # history of the stages before
        self.trainer: Trainer | None = None

    @property
    def history(self) -> list[dict[str, Any]]:
        """An entry for each epoch of each stage."""
        current = [] if self.trainer is None else self._history_of(self.trainer)
        return [{**epoch, "epoch": i} for i, epoch in enumerate(self.finished + current)]

    def run(self) -> bool:
        """Train to the end, or until Ctrl-C: then the network is what it is by then.

        Returns
        -------
        bool
            Whether it came to the end.

        Warns
        -----
        UserWarning
            If it was interrupted.
        """
        try:
            while self.stage < len(self.objectives):
                if self.trainer is None:
                    self._prepare_stage()
                    self.trainer = self._make_trainer()
                self.trainer.run()
                self.finished += self._history_of(self.trainer)
                self.trainer = None
                self.stage += 1
        except KeyboardInterrupt:
            if self.trainer is not None:
                self.trainer.keep_best()
            warn_user(
                f"Training was interrupted after {len(self.history)} epochs; the classifier is "
                "fitted with what it has learned so far.",
            )
            return False
        finally:
            self.network.requires_grad_(True)
            self.network.eval()
        return True

    def _prepare_stage(self) -> None:
        """Before the ranking, choose the clusters to rank, and part the encoders if need be."""
        if self.stage == 1:
            n_clusters = self.settings.n_candidate_clusters
            self.data.chosen = static_clusters(self.predictor(), self.data, n_clusters)
            if self.separates and self.network.rank_encoder is None:  # it is there in a warm start
                self.network.separate_encoders()

    def _make_trainer(self) -> Trainer:
        objective = self.objectives[self.stage]
        self.network.requires_grad_(True)
        for module in self._frozen(objective):
            module.requires_grad_(False)
        return Trainer(
            self.network,
            self.data,
            self.settings,
            self.rng,
            None if objective == "recall" else self.validate,
            objective,
            self.generator,
            self.save and functools.partial(self.save, self),
            self.save_every,
        )

    def _frozen(self, objective: str) -> list[nn.Module]:
        """What a stage must leave as it is: the other head, and the encoder of that alone."""
        network = self.network
        if objective == "rank":
            return [network.recall_head, *network.encoders[:-1]]
        if objective == "recall":
            encoders = network.encoders if self.stage == 2 else network.encoders[1:]
            return [network.bottleneck, network.label_table, *encoders]
        return []

    def _history_of(self, trainer: Trainer) -> list[dict[str, Any]]:
        return [{**epoch, "objective": trainer.objective} for epoch in trainer.history]

    def state_dict(self) -> dict[str, Any]:
        """All that changes in training, but for the weights, see `Trainer.state_dict`."""
        assert self.trainer is not None
        chosen = self.data.chosen
        return {
            "stage": self.stage,
            "finished": self.finished,
            "chosen": None if chosen is None else torch.from_numpy(chosen),
            "trainer": self.trainer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned; the weights are as they were then."""
        self.stage = state["stage"]
        self.finished = state["finished"]
        self.data.chosen = None if state["chosen"] is None else state["chosen"].numpy()
        self.trainer = self._make_trainer()
        self.trainer.load_state_dict(state["trainer"])


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
