"""A fit in several processes, which torch.distributed connects.

Every process gets the same texts and labels, calls `fit`, and ends with the same model. The first
process decides, reports and writes files. `sharding` says how they share a training step.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import secrets
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from joblib import Memory

from skxmc._inference.joint_calls import Connections
from skxmc._inference.sharded import Part, ShardedNetwork
from skxmc._model.network import LightXMLNetwork
from skxmc._storage.checkpoint import Checkpoint, Found, NoCheckpoint
from skxmc._training import joining
from skxmc._training.broadcasting import broadcast_value
from skxmc._training.callbacks import NoTasks
from skxmc._training.joining import clear_errors, has_peers, process_device
from skxmc._training.settings import Settings
from skxmc._training.sharding import Shards, Whole
from skxmc._utils.warnings import warn_user

Value = TypeVar("Value")
Given = ParamSpec("Given")
Fitted = TypeVar("Fitted")

# Messages by which the first process shows that it is alive, in the time that others wait for it.
PULSES = 60


class _Placed(Protocol):
    """An estimator with the parameter that chooses the device of training."""

    device: str


Estimator = TypeVar("Estimator", bound=_Placed)


class OneProcess:
    """A fit in one process, which shares nothing."""

    rank = 0
    size = 1

    def same(self, value: Value) -> Value:
        """Return the value of the first process."""
        return value

    def from_first(self, compute: Callable[[], Value]) -> Value:
        """Call `compute` in the first process, and return its result in all."""
        return compute()

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over the processes, in place."""
        return tensor

    def deal(self, rows: np.ndarray, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Let each process compute a part of the rows of an array, and return all rows."""
        return compute(rows)

    def agree(self, ends: bool, n_steps: int) -> tuple[bool, int]:
        """Agree after each step on whether the epoch ends, and on the number of steps."""
        return ends, n_steps

    def check_same(self, describe: Callable[[], dict[str, int]], advice: str) -> None:
        """Check that all processes have the same data or parameters, see `same_data`."""

    def adapt(self, settings: Settings) -> Settings:
        """Return the settings of this process."""
        return settings

    def share_weights(self, network: LightXMLNetwork) -> None:
        """Copy the weights of the first process to the others."""

    def share_checkpoint(
        self, open_it: Callable[[], Checkpoint | NoCheckpoint]
    ) -> Checkpoint | NoCheckpoint:
        """Open a checkpoint in the first process, and return what others know of it."""
        return open_it()

    def share_tasks(self, begin: Callable[[], NoTasks]) -> NoTasks:
        """Begin tasks whose callbacks run in the first process, and decide for all."""
        return begin()

    def cut(self, network: LightXMLNetwork) -> Whole:
        """Cut the network to the clusters of this process."""
        return Whole()

    def compute(
        self, network: LightXMLNetwork, compute: Callable[[LightXMLNetwork], Value]
    ) -> Value:
        """Compute something from the network with all its clusters."""
        return compute(network)

    def whole_weights(self, network: LightXMLNetwork) -> dict[str, torch.Tensor]:
        """Return the state of the network with all its clusters."""
        return network.state_dict()

    def fitted(self, network: LightXMLNetwork) -> LightXMLNetwork:
        """Return the network for predictions after the fit."""
        return network

    @contextlib.contextmanager
    def training(self, generator: torch.Generator) -> Iterator[None]:
        """Make the context in which the processes take steps together."""
        yield


class ManyProcesses(Connections, OneProcess):
    """A fit in several processes, with connections of its own.

    When a process leaves the fit, for whatever reason, it closes its connections.

    Parameters
    ----------
    device : torch.device
        Device of training in this process.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__(device, joining.TIMEOUT)
        self.is_interrupted = False
        self.shards: Shards | None = None
        # Of the fitted model, if its labels stay in parts.
        self.part: Part | None = None
        self.name = ""

    def close(self) -> None:
        """Close the connections. A model whose labels stay in parts may predict from now on."""
        super().close()
        if self.part is not None:
            self.part.name = self.name

    @contextlib.contextmanager
    def clear_errors(self, verb: str) -> Iterator[None]:
        """Say what an error of torch.distributed means for the fit of this process."""
        with clear_errors(verb, self.rank, self.size):
            yield

    def same(self, value: Value) -> Value:
        """Return the value of the first process."""
        return broadcast_value(self, value)

    def from_first(self, compute: Callable[[], Value]) -> Value:
        """Call `compute` in the first process, and return its result in all.

        The others wait for hours if they must, because messages show them that the first process
        is alive.
        """
        works = torch.ones((), dtype=torch.uint8, device="cpu")
        if self.rank:
            while works:
                self.broadcast(works)
            return self.same(None)  # type: ignore[return-value]
        try:
            with self._showing_life(works):
                value = compute()
        except BaseException:
            self.close()  # whoever catches it
            raise
        self.broadcast(torch.zeros_like(works))
        return self.same(value)

    @contextlib.contextmanager
    def _showing_life(self, works: torch.Tensor) -> Iterator[None]:
        """Send `works` from a thread again and again, while this process sends nothing else."""
        ends, seconds = threading.Event(), joining.TIMEOUT.total_seconds() / PULSES

        def send() -> None:
            try:
                while not ends.wait(seconds):
                    self.broadcast(works)
            except RuntimeError:  # this process meets it at its next message, the others now
                self.close()

        thread = threading.Thread(target=send, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ends.set()
            thread.join()

    def sum_dealt(self, rows: torch.Tensor) -> torch.Tensor:
        """Sum rows over the processes, and return those that `dealt` gives to this process."""
        n_each = -(-len(rows) // self.size)
        precise = rows.to(torch.promote_types(rows.dtype, torch.float32))
        padded = precise.new_zeros(n_each * self.size, *rows.shape[1:])
        padded[: len(rows)] = precise
        by_process = padded.unflatten(0, (n_each, self.size)).transpose(0, 1)
        if rows.is_cuda:
            own = torch.empty_like(by_process[0]).contiguous()
            self.call(dist.reduce_scatter, own, [part.contiguous() for part in by_process])
        else:  # not all versions of gloo have reduce_scatter
            own = self.sum(padded)[self.rank :: self.size]
        return own.to(rows.dtype)

    def deal(self, rows: np.ndarray, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Let each process compute a part of the rows of an array, and return all rows."""
        own = torch.from_numpy(compute(self.dealt(rows)))
        return self.gather(own).transpose(0, 1).flatten(0, 1)[: len(rows)].numpy()

    def agree(self, ends: bool, n_steps: int) -> tuple[bool, int]:
        """Agree after each step on whether the epoch ends, and on the number of steps.

        The first process decides. If Ctrl-C has reached any, all are interrupted here.
        """
        decided = [int(ends), n_steps] if self.rank == 0 else [0, 0]
        news = self.sum(torch.tensor([int(self.is_interrupted), *decided])).tolist()
        if news[0]:
            self.is_interrupted = False
            raise KeyboardInterrupt
        return bool(news[1]), news[2]

    def check_same(self, describe: Callable[[], dict[str, int]], advice: str) -> None:
        """Check that all processes have the same data or parameters, see `same_data`.

        Raises
        ------
        ValueError
            If a number differs.
        """
        numbers = describe()
        found = self.gather(torch.tensor(list(numbers.values())))
        for rank, place in (found != found[0]).nonzero().tolist()[:1]:
            name = list(numbers)[place]
            difference = f"{name} of process {rank} differs from that of process 0"
            if name.startswith("n_"):
                first, other = found[[0, rank], place].tolist()
                difference = f"{name} is {other} in process {rank}, and {first} in process 0"
            raise ValueError(f"{difference}. {advice}")

    def adapt(self, settings: Settings) -> Settings:
        """Return the settings of this process. Only the first shows progress and writes files."""
        if self.rank == 0:
            return settings
        return dataclasses.replace(settings, verbose=0, memory=Memory(None))

    def share_weights(self, network: LightXMLNetwork) -> None:
        """Copy the weights of the first process to the others."""
        for tensor in (*network.parameters(), *network.buffers()):
            self.broadcast(tensor.detach())

    def share_checkpoint(
        self, open_it: Callable[[], Checkpoint | NoCheckpoint]
    ) -> Checkpoint | NoCheckpoint:
        """Open a checkpoint in the first process, and return what others know of it."""
        checkpoint = open_it() if self.rank == 0 else NoCheckpoint()
        keeps, found = self.same((checkpoint.keeps, checkpoint.found))
        return FollowedCheckpoint(found) if self.rank and keeps else checkpoint

    def share_tasks(self, begin: Callable[[], NoTasks]) -> NoTasks:
        """Begin tasks whose callbacks run in the first process, and decide for all."""
        return SharedTasks(self, begin() if self.rank == 0 else NoTasks())

    def cut(self, network: LightXMLNetwork) -> Whole:
        """Cut the network to the clusters of this process, unless the last phase has left it so."""
        self.shards = self._shards_of(network) or Shards(self, network)
        return self.shards

    def _shards_of(self, network: LightXMLNetwork) -> Shards | None:
        """Return what has cut the network, or None if it has all its clusters."""
        is_whole = self.shards is None or network.layout is self.shards.layout
        return None if is_whole else self.shards

    def compute(
        self, network: LightXMLNetwork, compute: Callable[[LightXMLNetwork], Value]
    ) -> Value:
        """Compute something from the network with all its clusters.

        The first process does it, if they fit. Otherwise all do it together.
        """
        shards = self._shards_of(network)
        if shards is not None and not shards.fits():
            return self.same(compute(ShardedNetwork(network, shards, shards.layout)))
        whole = network if shards is None else shards.whole(network)
        return self.from_first(lambda: compute(whole))

    def whole_weights(self, network: LightXMLNetwork) -> dict[str, torch.Tensor]:
        """Return the state of the network with all its clusters, in the first process."""
        weights, shards = network.state_dict(), self._shards_of(network)
        return weights if shards is None else shards.whole_weights(weights)

    def fitted(self, network: LightXMLNetwork) -> LightXMLNetwork:
        """Return the network for predictions after the fit.

        Warns
        -----
        UserWarning
            If its labels stay in parts.
        """
        shards = self._shards_of(network)
        if shards is None:
            return network
        warn_user(
            f"The weights of {shards.layout.n_labels} labels do not fit into the memory of each "
            "process, so they stay in parts. Call all methods that predict in all processes, with "
            "the same texts. Call save_pretrained in all of them too."
        )
        self.part = Part(shards.n_clusters, self.rank, self.size)
        self.name = self.same(secrets.token_hex(8))
        return ShardedNetwork(network, self.part, shards.layout)

    @contextlib.contextmanager
    def training(self, generator: torch.Generator) -> Iterator[None]:
        """Make the context in which the processes take steps together.

        Each process has dropout of its own. Ctrl-C waits for the end of the step, when `agree`
        interrupts all processes. A second Ctrl-C does not wait.
        """
        seed = int(torch.randint(1 << 62, (), generator=generator)) if self.rank else None
        if seed is not None:
            generator.manual_seed(seed + self.rank)
            torch.default_generator.manual_seed(seed + self.rank)
            if torch.cuda.is_available():
                torch.cuda.manual_seed(seed + self.rank)
        is_main = threading.current_thread() is threading.main_thread()
        if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            yield
            return

        def interrupt(*_: object) -> None:
            if self.is_interrupted:
                self.close()
                raise KeyboardInterrupt
            self.is_interrupted = True

        signal.signal(signal.SIGINT, interrupt)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if self.is_interrupted:  # after the last step
            raise KeyboardInterrupt


class FollowedCheckpoint(NoCheckpoint):
    """The checkpoint of the first process, as others see it."""

    keeps = True

    def __init__(self, found: Found | None) -> None:
        self.found = found


class SharedTasks(NoTasks):
    """Tasks of a fit in several processes.

    Parameters
    ----------
    group : ManyProcesses
    tasks : NoTasks
        Tasks with callbacks in the first process, without in others.
    """

    def __init__(self, group: ManyProcesses, tasks: NoTasks) -> None:
        self.group = group
        self.has_callbacks = group.same(type(tasks) is not NoTasks)
        self.begin_epoch = tasks.begin_epoch  # type: ignore[method-assign]
        self.begin_step = tasks.begin_step  # type: ignore[method-assign]
        self.end_step = tasks.end_step  # type: ignore[method-assign]
        self.end = tasks.end  # type: ignore[method-assign]
        self.tasks = tasks

    def end_epoch(self, fitted: Callable[[], dict[str, Any]]) -> bool:
        """End an epoch, and return whether a callback ends training."""
        if not self.has_callbacks:
            return False
        attributes = fitted()  # in all processes, because they hold parts of the weights
        return self.group.from_first(lambda: self.tasks.end_epoch(lambda: attributes))


_alone = OneProcess()
_current: OneProcess = _alone
_fitting = threading.Lock()


def current_processes() -> OneProcess:
    """Return the processes of the fit that runs now."""
    return _current


def in_process_group(
    fit: Callable[Concatenate[Estimator, Given], Fitted],
) -> Callable[Concatenate[Estimator, Given], Fitted]:
    """Decorate `fit`: connect it with the fits in other processes, if there are any."""

    @functools.wraps(fit)
    def fit_together(estimator: Estimator, *args: Given.args, **kwargs: Given.kwargs) -> Fitted:
        if not has_peers():
            return fit(estimator, *args, **kwargs)
        with _joined(estimator.device):
            return fit(estimator, *args, **kwargs)

    return fit_together


@contextlib.contextmanager
def _joined(device: str) -> Iterator[None]:
    """Make the processes of one fit the current ones, and close their connections at the end."""
    global _current
    if not _fitting.acquire(blocking=False):
        raise RuntimeError(
            "Two fits at once cannot share one process group of torch.distributed. Run one after "
            "the other, with n_jobs=1."
        )
    try:
        group = ManyProcesses(process_device(device))
        _current = group
        try:
            with warnings.catch_warnings() if group.rank else contextlib.nullcontext():
                if group.rank:
                    warnings.simplefilter("ignore")
                yield
        finally:
            _current = _alone
            group.close()
    finally:
        _fitting.release()
