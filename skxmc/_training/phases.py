"""Phases of training: both heads together (LightXML), or one after the other (table 5)."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from skxmc._inference.low_precision import forget_copy
from skxmc._inference.predictor import Predictor
from skxmc._input.validation import Labels
from skxmc._model.fitted import Model
from skxmc._model.layout import LabelLayout, dynamic_clusters
from skxmc._model.network import LightXMLNetwork
from skxmc._storage.checkpoint import Checkpoint, NoCheckpoint
from skxmc._training.callbacks import NoTasks
from skxmc._training.distributed import OneProcess
from skxmc._training.evaluation import fit_predictor, make_validator
from skxmc._training.plan import tell_time
from skxmc._training.settings import Settings
from skxmc._training.trainer import Trainer, TrainingSet
from skxmc._utils.warnings import warn_user


class Training:
    """Training of both heads in phases, which can be resumed at any step.

    The phases depend on ``negative_sampling``:

    - "none" has one phase. It trains the ranking head on all labels. There is no recall head.
    - "dynamic" has one phase. It trains both heads together, against negatives from the current
      recall head (eq. 6).
    - "static" (S in table 5) has three. The first trains the recall head and the encoder. The
      second trains the ranking head and the encoder, with fixed clusters from the trained recall
      head. The third trains the recall head again, because the encoder has changed.
    - "static-separate" (BS in table 5) has two. The second trains a copy of the encoder, so the
      recall head stays as accurate as it was.

    Parameters
    ----------
    model : Model
        Model whose network is on the device. It is trained in place.
    data : TrainingSet
        Training texts and their labels.
    held_out : tuple (texts, Labels) or None
        Held-out texts and their labels.
    settings : Settings
        Parameters of the fit.
    checkpoint : Checkpoint or NoCheckpoint
        Checkpoint of the run. If it holds a run already, training resumes there.
    generator : torch.Generator
        Generator of dropout on a CPU.
    tasks : NoTasks
        Callbacks that are told of epochs and steps.
    fitted : callable
        Function that returns the attributes of the estimator for a model and a history.
    processes : OneProcess
        Processes that share the training.
    """

    def __init__(
        self,
        model: Model,
        data: TrainingSet,
        held_out: tuple[list[str], Labels] | None,
        settings: Settings,
        checkpoint: Checkpoint | NoCheckpoint,
        generator: torch.Generator,
        tasks: NoTasks,
        fitted: Callable[[Model, list[dict[str, Any]]], dict[str, Any]],
        processes: OneProcess,
    ) -> None:
        self.model = model
        self.network = model.network
        self.data = data
        settings = dataclasses.replace(settings, head_learning_rate=model.head_learning_rate)
        self.settings = settings
        if self.network.direct:
            self.network.label_table.convert(settings.label_dtype)
        self.validate = make_validator(model, held_out, settings)
        self.checkpoint = checkpoint
        self.tasks = tasks
        self.fitted = fitted
        self.processes = processes
        self.new_trainer = functools.partial(
            Trainer,
            self.network,
            self.data,
            settings,
            np.random.default_rng(settings.seed),
            generator=generator,
            save=self.save,
            tasks=tasks,
            end_epoch=self._end_epoch,
            processes=processes,
        )
        self.separates = settings.negative_sampling == "static-separate"
        self.objectives = objectives_of(settings, self.network)
        self.stage = 0
        self.finished: list[dict[str, Any]] = []  # history of finished phases
        self.trainer: Trainer | None = None
        if checkpoint.found is not None and checkpoint.found.state is not None:
            self.load_state_dict(checkpoint.found.state)
            checkpoint.found = None  # frees memory, because the network holds its weights now

    @property
    def history(self) -> list[dict[str, Any]]:
        """History with an entry per epoch of each phase."""
        current = [] if self.trainer is None else self._history_of(self.trainer)
        return [{**epoch, "epoch": i} for i, epoch in enumerate(self.finished + current)]

    def run(self) -> bool:
        """Train to the end, or until Ctrl-C, which keeps the weights of that moment.

        Returns
        -------
        bool
            Whether training came to its end.

        Warns
        -----
        UserWarning
            If training was interrupted.
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
            self.network.label_table.convert(torch.float32)
            if self.checkpoint.keeps:
                weights = self.processes.whole_weights(self.network)
                self.checkpoint.save(self.model, self.history, None, weights)
        except KeyboardInterrupt:
            if self.trainer is not None:
                self.trainer.keep_best()
            warn_user(
                f"Training was interrupted after {len(self.history)} epochs. The classifier is "
                "fitted with the weights so far. To train to the end, call fit again.",
            )
            return False
        finally:
            self.network.label_table.convert(torch.float32)
            self.network.requires_grad_(True)
            self.network.eval()
        return True

    def fitted_model(self) -> Model:
        """Return the trained model, which predicts after the fit."""
        return self.model._replace(network=self.processes.fitted(self.network))

    def save(self) -> None:
        """Write the current state of the run to the checkpoint, if it is due."""
        trainer, checkpoint = self.trainer, self.checkpoint
        assert trainer is not None
        if not checkpoint.keeps:
            return
        is_due = checkpoint.is_due(trainer.step, ends_epoch=trainer.n_done == 0)
        if self.processes.same(is_due):
            weights = self.processes.whole_weights(self.network)
            checkpoint.save(self.model, self.history, self.state_dict(), weights)

    def _end_epoch(self) -> bool:
        """Tell callbacks that an epoch is over, and return whether one ends the phase."""
        trainer = self.trainer
        assert trainer is not None
        return self.tasks.end_epoch(
            lambda: self.fitted(self.model._replace(network=trainer.kept_network()), self.history)
        )

    def _prepare_stage(self) -> None:
        """Before the ranking head trains, choose its clusters, and copy the encoder if needed."""
        if self.stage == 1:
            self.data.chosen = self.processes.compute(self.network, self._static_clusters)
            if self.separates and self.network.rank_encoder is None:  # a warm start has it
                self.network.separate_encoders()

    def _static_clusters(self, network: LightXMLNetwork) -> np.ndarray:
        model = self.model._replace(network=network)
        predictor = fit_predictor(model, self.settings, self.settings.dtype)
        chosen = static_clusters(predictor, self.data)
        forget_copy(network)
        return chosen

    def _make_trainer(self) -> Trainer:
        objective = self.objectives[self.stage]
        deadline, n_phases_left = self.settings.deadline, len(self.objectives) - self.stage
        if deadline is not None:
            now = time.perf_counter()
            deadline = now + (deadline - now) / n_phases_left
        self.network.requires_grad_(True)
        for module in self._frozen(objective):
            module.requires_grad_(False)
        validate = None if objective == "recall" else self.validate
        return self.new_trainer(
            validate=validate,
            objective=objective,
            deadline=deadline,
            tell=functools.partial(tell_time, self.settings, n_phases_left),
        )

    def _frozen(self, objective: str) -> list[nn.Module]:
        """Return the modules that a phase does not train, such as the other head."""
        network = self.network
        frozen: list[nn.Module] = [*network.encoders] if self.settings.freeze_encoder else []
        if objective == "rank":
            return [*frozen, network.recall_head, *network.encoders[:-1]]
        if objective == "recall":
            encoders = network.encoders if self.stage == 2 else network.encoders[1:]
            return [*frozen, network.bottleneck, network.label_table, *encoders]
        return frozen

    def _history_of(self, trainer: Trainer) -> list[dict[str, Any]]:
        return [{**epoch, "objective": trainer.objective} for epoch in trainer.history]

    def state_dict(self) -> dict[str, Any]:
        """Return the state of training without the weights, see `Trainer.state_dict`."""
        assert self.trainer is not None
        chosen = self.data.chosen
        return {
            "stage": self.stage,
            "finished": self.finished,
            "chosen": None if chosen is None else torch.from_numpy(chosen),
            "trainer": self.trainer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a result of `state_dict`, with the weights of that moment in the network."""
        self.stage = state["stage"]
        self.finished = state["finished"]
        self.data.chosen = None if state["chosen"] is None else state["chosen"].numpy()
        self.trainer = self._make_trainer()
        self.trainer.load_state_dict(state["trainer"])


def objectives_of(settings: Settings, network: LightXMLNetwork) -> list[str]:
    """Return the objective of each phase."""
    if settings.negative_sampling in ("none", "dynamic") or network.direct:
        return ["both"]
    if settings.negative_sampling == "static-separate":
        return ["recall", "rank"]
    return ["recall", "rank", "recall"]


def static_clusters(predictor: Predictor, data: TrainingSet) -> np.ndarray:
    """Choose the clusters to rank for each text, positive ones first.

    Returns
    -------
    ndarray of shape (n_texts, n_candidate_clusters), int32
    """
    network, n_clusters = predictor.network, predictor.n_candidate_clusters
    layout = LabelLayout(network.layout.cluster_of.cpu().numpy())  # on the CPU
    chosen = np.empty((len(data), n_clusters), dtype=np.int32)

    texts = data.tokens if data.features is None else data.features
    for rows, (logits,) in predictor.results(texts, lambda e: (network.recall_logits(e),)):
        targets = layout.cluster_targets(data.positives(rows), len(rows))
        chosen[rows] = dynamic_clusters(torch.from_numpy(logits), targets, n_clusters).numpy()
    return chosen
