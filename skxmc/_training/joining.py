"""How a process finds the others of its fit, and what it says if they fail."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import re
from collections.abc import Iterator
from datetime import timedelta

import torch
import torch.distributed as dist

from skxmc._model.device import is_out_of_memory, resolve_device

# Variables with which torchrun and others describe the group of a process.
VARIABLES = ("RANK", "WORLD_SIZE", "MASTER_ADDR")
# How long processes wait for a message of another one whose connections are open.
TIMEOUT = timedelta(hours=1)
# How long they wait for all to connect. One that never starts cannot be told from one that is late.
JOIN_TIMEOUT = timedelta(minutes=10)


def has_peers() -> bool:
    """Return whether this is one of several processes, and initialize torch.distributed if so.

    Workers of joblib have the variables of the process that started them, but are no members.

    Raises
    ------
    ValueError
        If MASTER_PORT is missing.
    RuntimeError
        If a process has failed, or has not joined in time.
    """
    if not dist.is_available():
        return False
    if dist.is_initialized():
        return dist.get_world_size() > 1
    is_worker = multiprocessing.parent_process() is not None
    if is_worker or not all(name in os.environ for name in VARIABLES):
        return False
    if int(os.environ["WORLD_SIZE"]) == 1:
        return False
    if "MASTER_PORT" not in os.environ:
        raise ValueError(
            f"The environment variables {', '.join(VARIABLES)} are set, but MASTER_PORT is not. "
            "Set it to a free port of the first machine, the same in all processes. torchrun sets "
            "all of them."
        )
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    with clear_errors("begin", rank, size, f"joined within {JOIN_TIMEOUT.seconds // 60} minutes"):
        store, *_ = next(dist.rendezvous("env://", timeout=JOIN_TIMEOUT))
        _await_all(store, size)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    return True


def _await_all(store: dist.Store, size: int) -> None:
    """Wait until all processes have joined. A store of torchrun is there before them."""
    key = f"skxmc/joined/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    if store.add(key, 1) >= size:
        store.set(f"{key}/all", "")
    try:
        store.wait([f"{key}/all"], JOIN_TIMEOUT)
    except RuntimeError as error:
        raise RuntimeError(f"{store.add(key, 0)}/{size} clients joined") from error


@contextlib.contextmanager
def clear_errors(
    verb: str,
    rank: int,
    size: int,
    late: str = f"answered for {TIMEOUT.seconds // 3600} hour",
) -> Iterator[None]:
    """Say what an error of torch.distributed means for the fit of this process."""
    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        joined = re.search(r"\d+(?=/\d+ clients joined)", str(error))
        counted = f" {joined[0]} of {size} processes have joined." if joined else ""
        raise RuntimeError(
            f"Process {rank} of {size} cannot {verb} this fit, because another process has "
            f"failed, was killed, or has not {late}.{counted} Read the error of that process, and "
            "start all processes again. checkpoint_dir lets them resume."
        ) from error


def process_device(device: str) -> torch.device:
    """Resolve the parameter `device`. If it names no GPU, take the one of LOCAL_RANK.

    Raises
    ------
    ValueError
        If the device cannot be shared.
    """
    if device in ("auto", "cuda") and torch.cuda.is_available() and "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    resolved = resolve_device(device)
    if resolved.type == "mps":
        raise ValueError(
            'device="mps" does not work in several processes. Set device="cpu", or start one '
            "process."
        )
    return resolved
