"""Calls that all processes of torch.distributed make together, for the same texts.

A model whose labels are in parts predicts by collectives, in which every process must take part. A
process cannot know whether the others will call too. So each call begins with a roll call in the
store of the process group. It compares what the processes ask for, and a process that is alone
leaves it with an error. Only then do collectives begin. If a process fails in them, it closes its
connections, so that no other waits for it. The next call opens new ones.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.distributed as dist

from skxmc._inference.sharing import store_of_group
from skxmc._model.device import is_out_of_memory
from skxmc._utils.parallel import ProcessLock

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup, Store

# How long a process waits for the others to call, and how long for a message in a call.
WAIT, TIMEOUT = timedelta(minutes=10), timedelta(hours=1)
# Seconds between looks at the store.
POLL = 0.002


class Connections:
    """Connections of this process with the others of its group.

    A process that fails closes them. The others then cannot wait for it, and leave with
    `RuntimeError`.

    Parameters
    ----------
    device : torch.device
        Device of this process. Messages between GPUs go by NCCL, all others by gloo.
    timeout : timedelta
        How long to wait for a message.
    """

    def __init__(self, device: torch.device, timeout: timedelta) -> None:
        self.rank, self.size = dist.get_rank(), dist.get_world_size()
        self.hosts: ProcessGroup | None
        with self.clear_errors("begin"):
            self.hosts = self.devices = dist.new_group(backend="gloo", timeout=timeout)
            if device.type == "cuda":
                self.devices = dist.new_group(backend="nccl", timeout=timeout)

    @contextlib.contextmanager
    def clear_errors(self, verb: str) -> Iterator[None]:
        """Make a context in which errors of torch.distributed say what they mean."""
        try:
            yield
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise RuntimeError(
                f"Process {self.rank} of {self.size} cannot {verb} this call, because another "
                "process has failed, was killed, or has not answered. Read the error of that "
                "process, and make the call again in all processes."
            ) from error

    def close(self) -> None:
        """Close the connections, which ends the waiting of others."""
        groups = dict.fromkeys((self.hosts, self.devices))  # the hosts first, as they notice it
        self.hosts = self.devices = None
        for group in groups:
            if group is not None:
                dist.destroy_process_group(group)

    def call(self, collective: Callable[..., object], *tensors: Any, **options: Any) -> None:
        """Call a function of torch.distributed in which all processes take part.

        Raises
        ------
        RuntimeError
            If another process has closed its connections, or does not answer.
        """
        on_gpu = any(isinstance(part, torch.Tensor) and part.is_cuda for part in tensors)
        group = self.devices if on_gpu else self.hosts
        with self.clear_errors("continue"):
            if group is None:
                raise RuntimeError("The connections are closed.")
            collective(*tensors, group=group, **options)

    def broadcast(self, tensor: torch.Tensor, source: int = 0) -> None:
        """Overwrite a tensor by that of one process."""
        self.call(dist.broadcast, tensor, src=source)

    def gather(self, own: torch.Tensor) -> torch.Tensor:
        """Stack tensors of the same shape by rank: (size, ...)."""
        found = own.new_empty(self.size, *own.shape)
        self.call(dist.all_gather, list(found.unbind()), own.contiguous())
        return found

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over the processes, in place."""
        self.call(dist.all_reduce, tensor)
        return tensor

    def wait_for_all(self) -> None:
        """Wait until all processes are here."""
        self.gather(torch.zeros(1, device="cpu"))

    def dealt(self, rows: np.ndarray) -> np.ndarray:
        """Return the part of the rows of this process: one of `size`, of equal length for all.

        If there are too few rows, some are dealt twice.
        """
        n_each = -(-len(rows) // self.size)
        return np.resize(rows, n_each * self.size)[self.rank :: self.size]


class Calls:
    """The calls that this process makes together with the others, one at a time.

    Attributes
    ----------
    connections : Connections or None
        Those that are open for the next call too.
    """

    def __init__(self) -> None:
        self.connections: Connections | None = None
        self._lock = ProcessLock()
        self._store: Store | None = None
        self._number = 0  # of the roll call, the same in all processes
        self._opened = ""  # which roll call opened the connections, and for which device

    @contextlib.contextmanager
    def together(
        self, rank: int, size: int, asked: str, device: torch.device
    ) -> Iterator[Connections]:
        """Make a context in which all processes take part.

        Parameters
        ----------
        rank, size : int
            The process that this one was when its model was fitted.
        asked : str
            Digest of what is asked for, the same in all processes.
        device : torch.device

        Raises
        ------
        RuntimeError
            If there is no process group, or another process does not call or fails.
        ValueError
            If another process asks for something else.
        """
        with self._lock:
            store = store_of_group()
            if store is None or (dist.get_rank(), dist.get_world_size()) != (rank, size):
                raise RuntimeError(
                    f"The labels of this model are in parts. This is the part of process {rank} of "
                    f"{size}, which is not in a group of {size} processes now. Start all of them "
                    "by torchrun, and do not close the process group after fit."
                )
            if store is not self._store:
                self._store = store
                self.connections, self._opened = None, ""  # they were closed with their group
            asked = f"{asked} on {device.type}"
            if not self._opened.endswith(device.type):
                self.close()
            answers = self._call_roll(store, rank, size, asked)
            for other, answer in enumerate(answers):
                if answer[0] != asked:
                    raise ValueError(
                        f"Process {other} makes another call than process {rank}. The labels of "
                        "this model are in parts. Call the same method in all processes, with the "
                        "same texts and parameters."
                    )
            opened = f"in {self._number} on {device.type}"
            if len({answer[1] for answer in answers}) > 1:
                self.close()  # another process has closed its own
            try:
                if self.connections is None:
                    self.connections, self._opened = Connections(device, TIMEOUT), opened
                token = _now.set(self.connections)
                try:
                    yield self.connections
                finally:
                    _now.reset(token)
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Close the connections, which the next call opens again."""
        connections, self.connections, self._opened = self.connections, None, ""
        if connections is not None:
            connections.close()

    def _call_roll(self, store: Store, rank: int, size: int, asked: str) -> list[list[str]]:
        """Tell the others what this process asks for, and return what each has told."""
        roll, last = (
            dist.PrefixStore(f"skxmc/calls/{number}", store)
            for number in (self._number, self._number - 1)
        )
        names, deadline = list(map(str, range(size))), time.monotonic() + WAIT.total_seconds()
        try:
            roll.set(str(rank), json.dumps([asked, self._opened]))
            try:
                while not roll.check(names):
                    if time.monotonic() > deadline:
                        missing = [name for name in names if not roll.check([name])]
                        raise RuntimeError(
                            f"Process {rank} of {size} has waited {WAIT} for the same call in "
                            f"process {', '.join(missing)}. The labels of this model are in parts. "
                            "Make each call in all processes, with the same texts."
                        )
                    time.sleep(POLL)
            except BaseException:  # also Ctrl-C
                roll.delete_key(str(rank))  # so that a later call of all succeeds
                raise
            answers = [json.loads(roll.get(name)) for name in names]
            last.delete_key(str(rank))  # because all have read it
        except dist.DistError as error:
            raise RuntimeError(
                f"Process {rank} of {size} cannot begin this call, because the process that keeps "
                "the store of the process group has ended. Start all processes again."
            ) from error
        self._number += 1
        return answers


CALLS = Calls()
_now: ContextVar[Connections | None] = ContextVar("connections", default=None)


def connections_now() -> Connections | None:
    """Return the connections of the call that this thread makes, or None."""
    return _now.get()
