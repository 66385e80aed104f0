"""The training loop: optimizers, schedule, precision, weight averaging, early stopping."""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Callable
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
from torch.optim.swa_utils import AveragedModel

from skxmc._input.sparse import ranges
from skxmc._model.device import autocast, copy_to
from skxmc._model.layout import Positives
from skxmc._model.network import LightXMLNetwork, Losses
from skxmc._model.tokens import TokenBatch, TokenStore, training_batches
from skxmc._training.adamw import RowAdamW
from skxmc._training.callbacks import NoTasks
from skxmc._training.distributed import OneProcess
from skxmc._training.dropout import dropout_contexts, fast_dropout
from skxmc._training.optim import build_optimizers, clip_gradients, schedule_factor
from skxmc._training.plan import StepPlan
from skxmc._training.recompute import recomputed_layers, represent_in_parts
from skxmc._training.settings import Settings
from skxmc._training.table_rmsprop import TableRMSprop
from skxmc._utils.memory import return_freed_memory
from skxmc._utils.progress import progress_bar, show_line

# Reading the loss waits for the GPU, so the progress bar shows it only after so many steps.
STEPS_PER_PROGRESS_UPDATE = 10
# On a CPU, freed memory goes back to the system after so many steps. Training on texts of many
# lengths took up to 8 GB otherwise.
STEPS_PER_RETURN_OF_MEMORY = 100


# Attributes of a `Trainer` that are plain values and change during training.
PROGRESS = (
    "epoch",
    "step",
    "epoch_rng",
    "n_done",
    "seconds",
    "history",
    "best_score",
    "epochs_without_gain",
)


class TrainingSet:
    """Tokens and labels of the training texts, by batches.

    Parameters
    ----------
    tokens : TokenStore
    y : csr_array of shape (n_texts, n_labels)
    device : torch.device
    weights : ndarray of shape (n_texts,), optional
        Positive weights of the texts. The mean over all texts is made 1, so that a batch counts as
        much as its texts, and rates suit any scale.
    label_weights : ndarray of shape (n_labels,), optional
        Weights of the labels where they are true.
    """

    def __init__(
        self,
        tokens: TokenStore,
        y: sp.csr_array,
        device: torch.device,
        weights: np.ndarray | None = None,
        label_weights: np.ndarray | None = None,
    ) -> None:
        self.tokens = tokens
        self.indptr = y.indptr.astype(np.int64)
        self.labels = y.indices.astype(np.int64)
        self.device = device
        self.weights = None if weights is None else (weights / weights.mean()).astype(np.float32)
        self.label_weights = None if label_weights is None else label_weights.astype(np.float32)
        # Returns the texts of a batch that this process represents.
        self.dealt: Callable[[np.ndarray], np.ndarray] = lambda rows: rows
        # Clusters to rank, (n_texts, n_candidate_clusters), if negatives are static.
        self.chosen: np.ndarray | None = None
        # Representations, (n_texts, n_feature_layers * hidden), if the encoder is frozen.
        self.features: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def positives(self, rows: np.ndarray) -> Positives:
        """Return the positive labels of the texts `rows`, and all weights, on the CPU."""
        starts = self.indptr[rows]
        n_labels = self.indptr[rows + 1] - starts
        labels = self.labels[ranges(starts, n_labels)]
        text_of = np.repeat(np.arange(len(rows)), n_labels)
        weights = None if self.weights is None else self.weights[rows]
        of_pairs = None if self.label_weights is None else self.label_weights[labels]
        parts = text_of, labels, weights, of_pairs
        return Positives._make(None if part is None else torch.from_numpy(part) for part in parts)

    def batch(
        self, rows: np.ndarray
    ) -> tuple[TokenBatch | torch.Tensor, Positives, torch.Tensor | None]:
        """Move tokens, positive labels and chosen clusters of the texts `rows` to the device.

        If the encoder is frozen, representations are moved instead of tokens. Both are only those
        of `dealt`.
        """
        inputs: TokenBatch | torch.Tensor
        dealt = self.dealt(rows)
        if self.features is None:
            inputs = self.tokens.batch(dealt, self.device.type == "cuda").to(self.device)
        else:
            inputs = copy_to(torch.from_numpy(self.features[dealt]), self.device)
        chosen = None
        if self.chosen is not None:
            chosen = copy_to(torch.from_numpy(self.chosen[rows]), self.device).long()
        return inputs, self.positives(rows).to(self.device), chosen


class Trainer:
    """Training loop of one phase, which keeps its whole state in attributes.

    Parameters
    ----------
    network : LightXMLNetwork
        Network on its device. It is trained in place.
    data : TrainingSet
        Texts and their labels.
    settings : Settings
        Parameters of the fit.
    rng : numpy.random.Generator
        Generator of the batches.
    validate : callable, optional
        Function that returns the P@5 of a network on the held-out set.
    objective : {"both", "recall", "rank"}, default="both"
        Losses to train on. Weights that do not require a gradient stay as they are.
    generator : torch.Generator, optional
        Generator of dropout on a CPU, by default torch's global one.
    save : callable, optional
        Function that stores `state_dict()` if it is time to. The loop calls it after every step
        and, instead of the last step of an epoch, after every epoch.
    deadline : float, optional
        Time by `time.perf_counter` at which training must end, see `StepPlan`.
    tell : callable, optional
        Function that is called with the seconds per step and the number of steps left.
    tasks : NoTasks, optional
        Callbacks that are told of epochs and steps.
    end_epoch : callable, optional
        Function that is called after each epoch, and returns whether training ends here.
    processes : OneProcess, optional
        Processes that share the steps. Each cuts the network to its clusters.
    """

    def __init__(
        self,
        network: LightXMLNetwork,
        data: TrainingSet,
        settings: Settings,
        rng: np.random.Generator,
        validate: Callable[[LightXMLNetwork], float] | None = None,
        objective: str = "both",
        generator: torch.Generator | None = None,
        save: Callable[[], object] = lambda: None,
        deadline: float | None = None,
        tell: Callable[[float, int], object] = lambda seconds, n_left: None,
        tasks: NoTasks | None = None,
        end_epoch: Callable[[], bool] = lambda: False,
        processes: OneProcess | None = None,
    ) -> None:
        self.network = network
        self.objective = objective
        self.settings = settings
        self.rng = rng
        self.validate = validate
        self.n_candidate_clusters = settings.candidate_clusters(network.layout)
        self.processes = OneProcess() if processes is None else processes
        self.shards = self.processes.cut(network)
        self.data = self.shards.part_of(data)
        rate, head_rate = settings.peak_rates(network.encoder.config.hidden_size)
        self.learning_rate = rate
        self.optimizers = build_optimizers(
            network,
            learning_rate=rate,
            head_learning_rate=head_rate,
            weight_decay=settings.weight_decay,
        )
        # In the direct mode the loss itself updates the label table, chunk by chunk.
        *_, last = self.optimizers
        self.table_optimizer = last if isinstance(last, TableRMSprop) else None
        self.base_rates = [[g["lr"] for g in o.param_groups] for o in self.optimizers]
        self.scaler = torch.amp.GradScaler(
            data.device.type, enabled=settings.dtype == torch.float16
        )
        self.generator = generator
        self.save = save
        self.tasks = NoTasks() if tasks is None else tasks
        self.end_epoch = end_epoch
        self.average: AveragedModel | None = None
        self.n_batches = -(-len(data) // settings.batch_size)  # per epoch
        self.plan = StepPlan(self.n_batches * settings.max_epochs, deadline, tell)
        self.epoch = 0
        self.step = 0
        # The current epoch: state of `rng` at its start, steps done, sums of their losses, time.
        self.epoch_rng = rng.bit_generator.state
        self.n_done = 0
        self.sums = torch.zeros(2, device=data.device)
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        self.best_score = -np.inf
        self.best_state: dict[str, torch.Tensor] | None = None
        self.epochs_without_gain = 0

    def run(self) -> list[dict[str, Any]]:
        """Train to the end, leave the weights to keep in the network, and return the history."""
        patience = self.settings.n_iter_no_change
        while self.step < self.plan.n_steps and (
            patience is None or self.epochs_without_gain < patience
        ):
            self._run_epoch()
            if self.validate is not None:
                self._note_validation()
            self.save()
            if self.end_epoch():
                break
        self.keep_best()
        return self.history

    def keep_best(self) -> None:
        """Load the weights to keep into the network, and give it all its clusters if they fit."""
        self._load_best(self.network)
        self.shards.join(self.network)

    def kept_network(self) -> LightXMLNetwork:
        """Return a copy of the network with the weights to keep if training ended now."""
        network = copy.deepcopy(self.network).requires_grad_(True)
        self._load_best(network)
        network.label_table.convert(torch.float32)
        return self.shards.kept(network)

    def _load_best(self, network: LightXMLNetwork) -> None:
        """Load the best weights, or the mean, or leave the last ones."""
        if self.best_state is not None:
            network.load_state_dict(self.best_state)
        elif self.average is not None:
            network.load_state_dict(self.average.module.state_dict())
        network.eval()

    def _run_epoch(self) -> None:
        """Run an epoch, or the rest of it after a resume, or as much of it as is planned."""
        settings, plan = self.settings, self.plan
        self.rng.bit_generator.state = self.epoch_rng
        batches = training_batches(self.data.tokens.lengths, settings.batch_size, self.rng)
        self.data.tokens.draw(self.rng)
        self.network.train()
        started = time.perf_counter() - self.seconds
        bar = progress_bar(
            settings.verbose,
            batches[self.n_done :],
            desc=f"epoch {self.epoch + 1}/{math.ceil(plan.n_steps / self.n_batches)}",
            initial=self.n_done,
            total=len(batches),
        )
        self.tasks.begin_epoch(len(batches) - self.n_done)
        for rows in bar:
            self.tasks.begin_step()
            factor = schedule_factor(
                settings.lr_schedule, self.step, plan.n_steps, settings.warmup_fraction
            )
            losses = self.train_step(rows, factor)
            self.sums += self.processes.sum(torch.stack([part.detach() for part in losses]))
            self.step += 1
            self.n_done += 1
            if settings.swa_start is not None and self.epoch >= settings.swa_start:
                self._average_weights()
            if self.data.device.type == "cpu" and self.step % STEPS_PER_RETURN_OF_MEMORY == 0:
                return_freed_memory()
            plan.note(self.step, self.sums.tolist)
            ends, plan.n_steps = self.processes.agree(self.tasks.end_step(), plan.n_steps)
            if ends:  # rates and the number of epochs stay as planned
                self.step += len(batches) - self.n_done
                is_last = True
            else:
                is_last = self.n_done == len(batches) or self.step >= plan.n_steps
            shows_loss = self.n_done % STEPS_PER_PROGRESS_UPDATE == 0 or is_last
            if settings.verbose and shows_loss:
                bar.set_postfix(loss=f"{float(self.sums.sum()) / self.n_done:.3f}", refresh=False)
            if not is_last:
                self.seconds = time.perf_counter() - started
                self.save()
                started = time.perf_counter() - self.seconds
            if is_last and self.n_done < len(batches):
                break
        bar.close()
        recall_loss, rank_loss = (self.sums / self.n_done).tolist()  # waits for the device
        self.history.append(
            {
                "epoch": self.epoch,
                "loss": recall_loss + rank_loss,
                "recall_loss": recall_loss,
                "rank_loss": rank_loss,
                "learning_rate": self.learning_rate * factor,
                "n_steps": self.n_done,
                "n_texts": len(self.data),
                "seconds": time.perf_counter() - started,
            }
        )
        self.epoch += 1
        self.epoch_rng = self.rng.bit_generator.state
        self.n_done = 0
        self.sums.zero_()
        self.seconds = 0.0

    def train_step(self, rows: np.ndarray, factor: float) -> Losses:
        """Take one optimizer step on the texts `rows`, with rates scaled by `factor`."""
        for optimizer, rates in zip(self.optimizers, self.base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        losses = self._losses_with_gradients(rows)
        with_gradients = [o for o in self.optimizers if o is not self.table_optimizer]
        self.shards.sum_gradients(with_gradients, self.settings.dtype)
        for optimizer in with_gradients:
            if isinstance(optimizer, RowAdamW):
                optimizer.coalesce()
            self.scaler.unscale_(optimizer)
        self.shards.share_overflow(self.scaler, with_gradients)
        max_norm, may_overflow = self.settings.max_grad_norm, self.scaler.is_enabled()
        if with_gradients and (max_norm is not None or may_overflow):
            norm = clip_gradients(with_gradients, max_norm, self.shards)
            # If any gradient overflows, all optimizers skip the step. They read this on the
            # device. The scaler would wait for the device, and ask each optimizer on its own.
            found_inf = norm.isfinite().logical_not().float() if may_overflow else None
            for optimizer in with_gradients:
                optimizer.found_inf = found_inf  # type: ignore[attr-defined]
        for optimizer in with_gradients:
            optimizer.step()
            optimizer.zero_grad()
        if self.table_optimizer is not None:
            self.table_optimizer.step()
        if with_gradients:
            self.scaler.update()
        return losses

    def _losses_with_gradients(self, rows: np.ndarray) -> Losses:
        """Compute the losses of the texts `rows`, and the gradients of the weights."""
        network, settings, device = self.network, self.settings, self.data.device
        inputs, positives, chosen = self.data.batch(rows)
        contexts = functools.partial(dropout_contexts, device, self.generator)
        recomputed = network.encoders if settings.gradient_checkpointing else []
        with recomputed_layers(recomputed, contexts):
            with autocast(device, settings.dtype), fast_dropout(device, self.generator):
                if isinstance(inputs, TokenBatch):
                    inputs = represent_in_parts(
                        network, inputs, settings.accumulate_steps, contexts
                    )
                losses = network.losses(
                    inputs,
                    positives,
                    self.n_candidate_clusters,
                    chosen=chosen,
                    objective=self.objective,
                    update=None if self.table_optimizer is None else self.table_optimizer.update,
                    gather=functools.partial(self.shards.gather, n_texts=len(rows)),
                    choose=self.shards.choose,
                )
            loss = losses.recall + losses.rank
            if loss.requires_grad:  # not if only the label table trains, which has its gradient
                self.scaler.scale(loss).backward()
        # Casts of weights are kept until the outermost autocast ends, which is that around `fit`.
        torch.clear_autocast_cache()
        return losses

    def _average_weights(self) -> None:
        """Add the current weights to the running mean every `swa_every` steps."""
        if self.average is None:
            self.average = AveragedModel(self.network)
            self.average.update_parameters(self.network)
        elif self.step % self.settings.swa_every == 0:
            self.average.update_parameters(self.network)

    def _note_validation(self) -> None:
        """Validate the weights that would be kept now, and store them if they are the best."""
        assert self.validate is not None
        network = self.network if self.average is None else cast(Any, self.average.module)
        score = self.processes.compute(network, self.validate)
        self.history[-1]["valid_p_at_5"] = score
        epoch = self.history[-1]["epoch"] + 1
        show_line(self.settings.verbose, f"epoch {epoch}: validation P@5 {score:.4f}")
        if self.settings.n_iter_no_change is None:
            return
        if score > self.best_score:
            self.best_score = score
            # On the host, so that a GPU does not hold the weights twice.
            self.best_state = {
                name: weights.to("cpu", copy=True) for name, weights in network.state_dict().items()
            }
            self.epochs_without_gain = 0
        else:
            self.epochs_without_gain += 1

    # ------------------------------------------------------------------ checkpoints

    def state_dict(self) -> dict[str, Any]:
        """Return the state of training without the weights: dicts, lists, tensors, plain values.

        A trainer with the same weights can load it. On a CPU, the rest of training is then
        reproducible bit for bit.
        """
        device = self.data.device
        moments = [
            [
                self.shards.whole_moments(p, dict(o.state.get(p, {})))
                for group in o.param_groups
                for p in group["params"]
            ]
            for o in self.optimizers
        ]
        average = self.average and {
            "weights": self.shards.whole_weights(dict(self.average.module.state_dict())),
            "n_averaged": self.average.n_averaged,
        }
        return {
            "progress": {name: getattr(self, name) for name in PROGRESS},
            "planned": self.plan.n_steps,
            "sums": self.sums,
            "moments": moments,
            "scaler": self.scaler.state_dict(),
            "average": average,
            "best_state": self.best_state and self.shards.whole_weights(dict(self.best_state)),
            "generators": {
                "torch": torch.get_rng_state(),
                "dropout": self.generator and self.generator.get_state(),
                "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            },
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from the `state_dict` of an equal trainer."""
        device = self.data.device
        for name, value in state["progress"].items():
            setattr(self, name, value)
        if self.plan.deadline is not None:
            self.plan.n_steps = state.get("planned", self.plan.n_steps)
        self.rng.bit_generator.state = self.epoch_rng
        self.sums.copy_(state["sums"])
        for optimizer, of_optimizer in zip(self.optimizers, state["moments"], strict=True):
            parameters = (p for group in optimizer.param_groups for p in group["params"])
            for parameter, moments in zip(parameters, of_optimizer, strict=True):
                for name, value in self.shards.own_moments(parameter, moments).items():
                    is_tensor = isinstance(value, torch.Tensor)
                    optimizer.state[parameter][name] = value.to(device) if is_tensor else value
        self.scaler.load_state_dict(state["scaler"])
        if state["average"] is not None:
            self.average = AveragedModel(self.network)
            weights = self.shards.own_weights(state["average"]["weights"])
            self.average.module.load_state_dict(weights)
            self.average.n_averaged.copy_(state["average"]["n_averaged"])
        self.best_state = state["best_state"] and self.shards.own_weights(state["best_state"])
        generators = state["generators"]
        torch.set_rng_state(generators["torch"])
        if self.generator is not None:
            self.generator.set_state(generators["dropout"])
        if device.type == "cuda" and generators["cuda"] is not None:
            torch.cuda.set_rng_state(generators["cuda"], device)
