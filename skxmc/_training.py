"""The training loop: optimisers, schedule, precision, weight averaging, early stopping."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
from torch.optim.swa_utils import AveragedModel
from tqdm.auto import tqdm

from ._candidates import Positives
from ._device import autocast
from ._dropout import fast_dropout
from ._network import LightXMLNetwork, Losses
from ._optim import RowAdamW, build_optimizers, clip_gradients, schedule_factor
from ._text import TokenBatch, TokenStore, ranges, training_batches

# Reading the loss waits for a GPU; the progress bar does so only every so many steps.
STEPS_PER_PROGRESS_UPDATE = 10


@dataclass(frozen=True)
class TrainingSettings:
    """What a `Trainer` needs to know; names as in `LightXMLClassifier`."""

    max_epochs: int
    batch_size: int
    learning_rate: float
    head_learning_rate: float
    weight_decay: float
    warmup_fraction: float
    lr_schedule: str
    max_grad_norm: float | None
    n_candidate_clusters: int
    dtype: torch.dtype
    loss_reduction: str = "sum"
    label_moments: str = "auto"
    swa_start: int | None = None
    swa_every: int = 10
    n_iter_no_change: int | None = None  # None: no early stopping
    verbose: int = 0


class TrainingSet:
    """Tokens and labels of the texts to train on, handed out in batches."""

    def __init__(self, tokens: TokenStore, y: sp.csr_array, device: torch.device) -> None:
        self.tokens = tokens
        self.indptr = y.indptr.astype(np.int64)
        self.labels = y.indices.astype(np.int64)
        self.device = device
        # Clusters to rank, (n_texts, b), where they are chosen before training (static negatives).
        self.chosen: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def positives(self, rows: np.ndarray) -> Positives:
        """Positive labels of the texts `rows`, on the CPU."""
        starts = self.indptr[rows]
        n_labels = self.indptr[rows + 1] - starts
        labels = self.labels[ranges(starts, n_labels)]
        text_of = np.repeat(np.arange(len(rows)), n_labels)
        return Positives(torch.from_numpy(text_of), torch.from_numpy(labels))

    def batch(self, rows: np.ndarray) -> tuple[TokenBatch, Positives, torch.Tensor | None]:
        """Tokens, positive labels and chosen clusters of the texts `rows`, on the device."""
        tokens = self.tokens.batch(rows)
        positives = self.positives(rows)
        if self.device.type == "cuda":
            tokens = tokens.pin()
            positives = Positives(*(t.pin_memory() for t in positives))
        chosen = None
        if self.chosen is not None:
            chosen = torch.from_numpy(self.chosen[rows]).to(self.device).long()
        return tokens.to(self.device), positives.to(self.device), chosen


class Trainer:
    """Train a network; all that changes on the way is in its attributes.

    Parameters
    ----------
    network : LightXMLNetwork
        On its device already; trained in place.
    data : TrainingSet
        The texts and their labels.
    settings : TrainingSettings
        How to train.
    rng : numpy.random.Generator
        Draws the batches.
    validate : callable, optional
        Takes a network, returns its P@5 on the validation part.
    objective : {"both", "recall", "rank"}, default="both"
        Which losses to train on. Weights that do not require a gradient stay as they are.
    """

    def __init__(
        self,
        network: LightXMLNetwork,
        data: TrainingSet,
        settings: TrainingSettings,
        rng: np.random.Generator,
        validate: Callable[[LightXMLNetwork], float] | None = None,
        objective: str = "both",
    ) -> None:
        self.network = network
        self.objective = objective
        self.data = data
        self.settings = settings
        self.rng = rng
        self.validate = validate
        self.optimizers = build_optimizers(
            network,
            learning_rate=settings.learning_rate,
            head_learning_rate=settings.head_learning_rate,
            weight_decay=settings.weight_decay,
            label_moments=settings.label_moments,
        )
        self.base_rates = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.scaler = torch.amp.GradScaler(
            data.device.type, enabled=settings.dtype == torch.float16
        )
        self.average: AveragedModel | None = None
        self.step = 0
        self.history: list[dict[str, Any]] = []
        self.best_score = -np.inf
        self.best_state: dict[str, torch.Tensor] | None = None
        self.epochs_without_gain = 0

    def run(self) -> list[dict[str, Any]]:
        """Train to the end and leave the weights to keep in the network; returns the history."""
        for epoch in range(self.settings.max_epochs):
            self._run_epoch(epoch)
            if self.validate is not None:
                self._note_validation()
                patience = self.settings.n_iter_no_change
                if patience is not None and self.epochs_without_gain >= patience:
                    break
        if self.best_state is not None:
            self.network.load_state_dict(self.best_state)
        elif self.average is not None:
            self.network.load_state_dict(self.average.module.state_dict())
        self.network.eval()
        return self.history

    def _run_epoch(self, epoch: int) -> None:
        settings = self.settings
        batches = training_batches(self.data.tokens.lengths, settings.batch_size, self.rng)
        n_steps = len(batches) * settings.max_epochs
        sums = torch.zeros(2, device=self.data.device)
        self.network.train()
        started = time.perf_counter()
        bar = tqdm(
            batches,
            desc=f"epoch {epoch + 1}/{settings.max_epochs}",
            disable=not settings.verbose,
            dynamic_ncols=True,
            leave=True,
        )
        for n_done, rows in enumerate(bar, start=1):
            factor = schedule_factor(
                settings.lr_schedule, self.step, n_steps, settings.warmup_fraction
            )
            losses = self.train_step(rows, factor)
            sums += torch.stack([part.detach() for part in losses])
            self.step += 1
            if settings.swa_start is not None and epoch >= settings.swa_start:
                self._average_weights()
            shows_loss = n_done % STEPS_PER_PROGRESS_UPDATE == 0 or n_done == len(batches)
            if settings.verbose and shows_loss:
                bar.set_postfix(loss=f"{float(sums.sum()) / n_done:.3f}", refresh=False)
        recall_loss, rank_loss = (sums / len(batches)).tolist()  # waits for the device
        self.history.append(
            {
                "epoch": epoch,
                "loss": recall_loss + rank_loss,
                "recall_loss": recall_loss,
                "rank_loss": rank_loss,
                "learning_rate": settings.learning_rate * factor,
                "n_steps": len(batches),
                "seconds": time.perf_counter() - started,
            }
        )

    def train_step(self, rows: np.ndarray, factor: float) -> Losses:
        """Take one optimiser step on the texts `rows`, rates scaled by `factor`."""
        for optimizer, rates in zip(self.optimizers, self.base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        tokens, positives, chosen = self.data.batch(rows)
        device = self.data.device
        with autocast(device, self.settings.dtype), fast_dropout(device):
            losses = self.network.losses(
                self.network.represent(tokens),
                positives,
                self.settings.n_candidate_clusters,
                chosen=chosen,
                objective=self.objective,
                reduction=self.settings.loss_reduction,
            )
        self.scaler.scale(losses.recall + losses.rank).backward()
        for optimizer in self.optimizers:
            if isinstance(optimizer, RowAdamW):
                optimizer.coalesce()
            self.scaler.unscale_(optimizer)
        overflows = False
        if self.settings.max_grad_norm is not None:
            norm = clip_gradients(self.optimizers, self.settings.max_grad_norm)
            # The scaler would skip only the optimiser whose own gradients overflowed, and clipping
            # has spoilt those of the other.
            overflows = self.scaler.is_enabled() and not bool(norm.isfinite())
        for optimizer in self.optimizers:
            if not overflows:
                self.scaler.step(optimizer)
            optimizer.zero_grad()
        self.scaler.update()
        return losses

    def _average_weights(self) -> None:
        """Every `swa_every` steps, take the current weights into the running mean."""
        if self.average is None:
            self.average = AveragedModel(self.network)
            self.average.update_parameters(self.network)
        elif self.step % self.settings.swa_every == 0:
            self.average.update_parameters(self.network)

    def _note_validation(self) -> None:
        """Measure the weights that would be kept now, and remember them if they are the best."""
        assert self.validate is not None
        network = self.network if self.average is None else cast(Any, self.average.module)
        score = self.validate(network)
        self.history[-1]["valid_p_at_5"] = score
        if self.settings.verbose:
            tqdm.write(f"epoch {self.history[-1]['epoch'] + 1}: validation P@5 {score:.4f}")
        if self.settings.n_iter_no_change is None:
            return
        if score > self.best_score:
            self.best_score = score
            self.best_state = copy.deepcopy(network.state_dict())
            self.epochs_without_gain = 0
        else:
            self.epochs_without_gain += 1
