"""Fit in several processes that torch.distributed connects, and write what each of them gets.

    python distributed_training.py ENCODER FOLDER

`test_distributed.py` runs it. One process imports everything and then forks groups of processes.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from process_groups import kill, rank, run, run_under_agent

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc._inference import sharing
from skxmc._inference.extractor import FeatureExtractor
from skxmc._model import tokens
from skxmc._training import broadcasting, build, distributed, joining
from skxmc._training.distributed import ManyProcesses
from skxmc._training.sharding import Shards
from skxmc._training.trainer import Trainer, TrainingSet
from skxmc.datasets import make_xmc

# The last batch of an epoch has one text, so most processes have none of their own in it.
N_TEXTS, BATCH_SIZE = 66, 13
CASES: dict[str, dict[str, Any]] = {
    "dynamic": {
        "max_grad_norm": 0.5,
        "label_texts": True,
        "label_weight": "balanced",
        "max_epochs": 3,
    },
    "direct": {
        "clusterer": BalancedLabelClusterer(max_cluster_size=1),
        "max_epochs": 4,
        "max_length": 12,
        "long_text": "windows",
        "label_weight": np.linspace(0, 3, 30),
    },
    "averaged": {"swa_start": 1, "swa_every": 3, "lr_schedule": "constant"},
    "static": {"negative_sampling": "static", "max_epochs": 1},
    "frozen": {
        "freeze_encoder": True,
        "early_stopping": True,
        "head_init": "centroids",
        "head_learning_rate": "auto",
    },
    # One of three processes has no cluster.
    "few clusters": {"clusterer": BalancedLabelClusterer(max_cluster_size=16)},
    "all labels": {"negative_sampling": "none", "bottleneck_dim": None, "max_epochs": 4},
}
# Cases by the number of processes.
RUNS = {
    1: list(CASES),
    2: ["dynamic", "direct", "all labels", "averaged", "static", "frozen"],
    3: ["dynamic", "direct", "all labels", "few clusters"],
}


def classifier(encoder: str, **params: Any) -> LightXMLClassifier:
    """Make a classifier without dropout whose fit takes 12 steps."""
    given = {
        "max_length": 32,
        "n_feature_layers": 2,
        "dropout": 0.0,
        "encoder_dropout": 0.0,
        "head_init": "priors",
        "clusterer": BalancedLabelClusterer(max_cluster_size=4),
        "n_candidate_clusters": 3,
        "bottleneck_dim": 8,
        "max_epochs": 2,
        "batch_size": BATCH_SIZE,
        "learning_rate": 1e-4,
        "head_learning_rate": 1e-2,
        "precision": "fp32",
        "device": "cpu",
        "random_state": 0,
    }
    return LightXMLClassifier(encoder, **{**given, **params})


def data() -> tuple[list[str], Any]:
    """Make texts and labels."""
    return make_xmc(N_TEXTS, 30, n_labels_per_sample=2, random_state=0)


def result(clf: LightXMLClassifier) -> dict[str, Any]:
    """Return what a process has after a fit."""
    top = clf.predict_topk(data()[0], k=3)
    return {
        "weights": clf.network_.state_dict(),
        "history": clf.history_,
        "labels": top.labels,
        "scores": top.scores,
    }


def at_step(n_steps: int, action: Callable[[], Any], of_rank: int = 1) -> None:
    """Call `action` in one process before it takes a step."""
    train_step, n_done = Trainer.train_step, 0

    def step(self: Trainer, *args: Any) -> Any:
        nonlocal n_done
        if n_done == n_steps and rank() == of_rank:
            action()
        n_done += 1
        return train_step(self, *args)

    Trainer.train_step = step  # type: ignore[method-assign]


def choose_in_first(*_: object) -> float:
    """Stand in for `choose_head_rate`, which only the first process may call."""
    assert rank() == 0
    return 2e-2


def out_of_memory() -> None:
    """Fail as a device without memory does."""
    raise torch.OutOfMemoryError("out of memory in this test")


@contextlib.contextmanager
def represented_texts(*actions: Callable[[], Any]) -> Iterator[list[str]]:
    """Note the texts that this process tokenizes. Before each block, call the next action."""
    texts: list[str] = []
    tokenize, left = FeatureExtractor._tokenize, list(actions)

    def note(self: FeatureExtractor, block: Any) -> Any:
        if left:
            left.pop(0)()
        texts.extend(block)
        return tokenize(self, block)

    FeatureExtractor._tokenize = note  # type: ignore[method-assign]
    yield texts
    FeatureExtractor._tokenize = tokenize  # type: ignore[method-assign]


class Ender:
    """Callback that ends training after one epoch."""

    def __init__(self) -> None:
        self.n_epochs = 0

    def setup(self, estimator: Any, context: Any) -> None:
        """Note nothing."""

    teardown = on_fit_task_begin = setup

    def on_fit_task_end(self, estimator: Any, context: Any, *, fitted_estimator: Any) -> bool:
        """Predict with what would be fitted now, and end training."""
        if context.task_name != "epoch":
            return False
        assert fitted_estimator.predict_topk(data()[0][:2], k=3).labels.shape == (2, 3)
        self.n_epochs += 1
        return True


class Group:
    """The fits that a group of processes does."""

    def __init__(self, encoder: str, folder: Path) -> None:
        self.encoder = encoder
        self.folder = folder
        build.choose_head_rate = choose_in_first
        clf = classifier(encoder, max_epochs=1, prediction_batch_size=4)
        self.fitted = clf.fit(*data())  # runs all late imports

    def fit(self, **params: Any) -> dict[str, Any]:
        """Fit and return the result."""
        X, y = data()
        texts = [f"label {i}" for i in range(30)] if params.pop("label_texts", False) else None
        clf = classifier(self.encoder, **params)
        return result(clf.fit(X, y, label_texts=texts))

    def cases(self) -> dict[str, Any]:
        """Fit all cases of this number of processes, one after the other."""
        names = RUNS[int(os.environ["WORLD_SIZE"])]
        return {name: self.fit(**CASES[name]) for name in names}

    def unseeded(self) -> dict[str, Any]:
        """Fit without a seed, with all that is random."""
        np.random.seed(rank())  # noqa: NPY002
        steps = []
        train_step = Trainer.train_step

        def step(self: Trainer, rows: Any, factor: float) -> Any:
            assert self.generator is not None
            steps.append((rows.tolist(), self.generator.get_state().tolist()))
            return train_step(self, rows, factor)

        Trainer.train_step = step  # type: ignore[method-assign]
        random = {"dropout": 0.5, "encoder_dropout": 0.1, "head_init": "centroids"}
        return {**self.fit(random_state=None, max_epochs=1, **random), "steps": steps}

    def overflowing(self) -> list[float]:
        """Let the gradient of the labels of one process overflow, and note the scales of losses."""
        scales = []
        train_step = Trainer.train_step

        def step(self: Trainer, *args: Any) -> Any:
            if len(scales) == 3 and rank() == 1:
                bias = self.network.label_table.bias
                hook = bias.register_hook(lambda gradient: gradient * torch.inf)
            losses = train_step(self, *args)
            if len(scales) == 3 and rank() == 1:
                hook.remove()
            scales.append(self.scaler.get_scale())
            return losses

        Trainer.train_step = step  # type: ignore[method-assign]
        self.fit(precision="fp16")
        return scales

    def interrupted(self) -> dict[str, Any]:
        """Press Ctrl-C in one process."""
        at_step(8, lambda: os.kill(os.getpid(), signal.SIGINT))
        return self.fit(verbose=1)

    def called_back(self) -> dict[str, Any]:
        """End training by a callback."""
        ender = Ender()
        clf = classifier(self.encoder).set_callbacks(ender)
        return {**result(clf.fit(*data())), "n_epochs": ender.n_epochs}

    def out_of_memory(self) -> dict[str, Any]:
        """Run out of memory in one process."""
        at_step(3, out_of_memory)
        return self.fit()

    def killed(self) -> dict[str, Any]:
        """Kill one process."""
        at_step(3, kill)
        return self.fit()

    def in_bf16(self) -> dict[str, Any]:
        """Fit in bf16, and note the dtype of the longest message."""
        sum_over_processes, messages = ManyProcesses.sum, []

        def note(self: ManyProcesses, tensor: torch.Tensor) -> torch.Tensor:
            messages.append((tensor.numel(), str(tensor.dtype)))
            return sum_over_processes(self, tensor)

        ManyProcesses.sum = note  # type: ignore[method-assign]
        found = self.fit(precision="bf16")
        return {**found, "dtype": max(messages)[1] if messages else None}

    def killed_in_joining(self, of_rank: int) -> dict[str, Any]:
        """Kill one process before it joins."""
        joining.JOIN_TIMEOUT = timedelta(seconds=1)
        if rank() == of_rank:
            kill()
        return self.fit()

    def mapped_tokens(self) -> dict[str, Any]:
        """Fit with more tokens than memory may hold, and note what holds them."""
        cast(Any, tokens.tokenize).__kwdefaults__["max_in_memory"] = 100
        cast(Any, broadcasting.broadcast_value).__kwdefaults__["block"] = 1000
        kinds = []
        part_of = Shards.part_of

        def note(self: Shards, data: TrainingSet) -> TrainingSet:
            ids = data.tokens.ids
            while type(ids) is np.ndarray:
                ids = ids.base
            kinds.append(type(ids).__name__)
            return part_of(self, data)

        Shards.part_of = note  # type: ignore[method-assign]
        return {**self.fit(**CASES["averaged"]), "kinds": kinds}

    def missing_gradients(self) -> list[dict[str, Any]]:
        """Fit without some gradients of the second process, then with zeros for them.

        A gradient of the first process, and one of both, are missing too.
        """
        sum_gradients = Shards.sum_gradients

        def fit(is_missing: bool) -> dict[str, Any]:
            def hurt(self: Shards, optimizers: Any, precision: torch.dtype) -> None:
                found = [p for o in optimizers for group in o.param_groups for p in group["params"]]
                words, *_ = [p for p in found if p.grad is not None and p.grad.is_sparse]
                first, second, third, *_ = [p for p in found if p.shape == (16,)]
                third.grad = None
                for weight in (words, first) if rank() else (second,):
                    weight.grad = None if is_missing else torch.zeros_like(weight.grad)
                sum_gradients(self, optimizers, precision)
                assert third.grad is None

            Shards.sum_gradients = hurt  # type: ignore[method-assign]
            return self.fit(max_epochs=1)

        return [fit(is_missing=True), fit(is_missing=False)]

    def slow_first(self) -> dict[str, Any]:
        """Let what only the first process does take longer than processes wait for one another."""
        joining.TIMEOUT = timedelta(seconds=4)
        cluster = build.cached_clusters

        def cluster_slowly(*args: Any) -> Any:
            time.sleep(6)
            return cluster(*args)

        build.cached_clusters = cluster_slowly
        return self.fit(**CASES["averaged"])

    def killed_in_clustering(self, of_rank: int) -> dict[str, Any]:
        """Kill the first process while it clusters labels, or another one, which then waits."""
        distributed.PULSES = 20_000  # of an hour
        left = self.folder / "left"

        def cluster_until_another_leaves(*_: Any) -> None:
            if of_rank == 0:
                kill()
            deadline = time.monotonic() + 30
            while not left.exists():
                assert time.monotonic() < deadline, "process 1 still waits"
                time.sleep(0.05)

        build.cached_clusters = cluster_until_another_leaves
        if rank() == of_rank:
            ManyProcesses.broadcast = lambda *_: kill()  # type: ignore[method-assign]
        try:
            return self.fit()
        except RuntimeError:
            if rank() == 1:
                left.touch()
            raise

    def failing_first(self) -> dict[str, Any]:
        """Fail in what only the first process does, then fit."""
        cluster, build.cached_clusters = build.cached_clusters, lambda *_: out_of_memory()
        with contextlib.suppress(RuntimeError):
            return self.fit()
        build.cached_clusters = cluster
        return self.fit(max_epochs=1)

    def predicting(self) -> dict[str, Any]:
        """Predict in all processes, then in the first only, then in each its own texts."""
        X, y = data()
        clf = classifier(self.encoder, max_epochs=1, prediction_batch_size=4).fit(X, y)
        with represented_texts(torch.distributed.barrier) as in_all:
            top = clf.predict_topk(X, k=3)
        with represented_texts() as in_first:
            if rank() == 0:
                clf.predict_topk(X, k=2)
        with represented_texts() as in_each:
            clf.predict_topk(X[: 33 + rank()], k=3)
        torch.distributed.barrier()
        n_texts = [len(texts) for texts in (in_all, in_first, in_each)]
        return {"labels": top.labels, "scores": top.scores, "n_texts": n_texts}

    def killed_in_prediction(self, of_rank: int) -> dict[str, Any]:
        """Kill one process in its second block of a prediction."""
        torch.distributed.init_process_group("gloo")
        sharing.PATIENCE = 0.2
        actions = [torch.distributed.barrier, *[kill] * (rank() == of_rank)]
        with represented_texts(*actions):
            top = self.fitted.predict_topk(data()[0], k=3)
        return {"labels": top.labels, "scores": top.scores}

    def other_data(self) -> dict[str, Any]:
        """Fit other data in the last process: a text less, or the same data in another order."""
        about: list[str | None] = [*["a"] * 15, *[None] * 15]
        X, y = data()
        weights, is_last = np.linspace(1, 2, N_TEXTS), rank() == 2
        last = [*range(N_TEXTS - 2), N_TEXTS - 1, N_TEXTS - 2]
        other: dict[str, Any] = {
            "n_texts": (X[:-1], y[:-1], weights[:-1], about),
            "X": ([X[row] for row in last], y, weights, about),
            "y": (X, y[last], weights, about),
            "sample_weight": (X, y, weights[last], about),
            "label_texts": (X, y, weights, about[::-1]),
        }
        errors = {"batch_size": self.other_params()}
        for name, given in other.items():
            texts, labels, of_texts, of_labels = given if is_last else (X, y, weights, about)
            clf = classifier(self.encoder)
            try:
                clf.fit(texts, labels, sample_weight=of_texts, label_texts=of_labels)
            except ValueError as error:
                errors[name] = str(error)
        return errors

    def other_params(self) -> str:
        """Set other parameters in the last process: one that may differ, and one that must not."""
        clf = classifier(self.encoder, verbose=rank() // 2, batch_size=9 + rank() // 2)
        try:
            clf.fit(*data())
        except ValueError as error:
            return str(error)
        return "none"

    def stopped(self) -> dict[str, Any]:
        """Fail after a checkpoint in the middle of an epoch."""
        at_step(8, out_of_memory)
        return self.resumed()

    def resumed(self) -> dict[str, Any]:
        """Fit with a checkpoint."""
        return self.fit(**CASES["averaged"], checkpoint_dir=self.folder / "run", checkpoint_every=1)


def main(encoder: str, folder: Path) -> None:
    """Run all groups."""
    torch.set_num_threads(1)
    group = Group(encoder, folder)
    gc.freeze()  # children copy fewer pages
    torch.save(result(group.fitted), folder / "fitted 0.pt")
    for size in RUNS:
        run(size, group.cases, folder / f"cases {size}")
    run(1, group.in_bf16, folder / "in_bf16 by one")
    for task in (
        "in_bf16",
        "unseeded",
        "overflowing",
        "interrupted",
        "called_back",
        "killed",
        "mapped_tokens",
        "missing_gradients",
        "slow_first",
        "failing_first",
        "predicting",
    ):
        run(2, getattr(group, task), folder / task)
    for victim in range(2):
        for place in ("joining", "prediction"):
            task = functools.partial(getattr(group, f"killed_in_{place}"), victim)
            run(2, task, folder / f"killed {victim} in {place}")
    for victim in (0, 2):
        task = functools.partial(group.killed_in_clustering, victim)
        run(3, task, folder / f"killed {victim} in clustering")
    task = functools.partial(group.killed_in_joining, 0)
    run_under_agent(2, task, folder / "killed 0 in joining under an agent")
    for task in ("out_of_memory", "other_data"):
        run(3, getattr(group, task), folder / task)
    run(2, group.stopped, folder / "stopped")
    shutil.copytree(folder / "run", folder / "copy")
    run(3, group.resumed, folder / "resumed 3")
    shutil.rmtree(folder / "run")
    shutil.move(folder / "copy", folder / "run")
    run(1, group.resumed, folder / "resumed 1")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
