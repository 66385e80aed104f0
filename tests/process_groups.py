"""Groups of forked processes, which have the variables that torchrun sets."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import socket
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import torch

# A process that waits longer, in seconds, has hung.
TIMEOUT = 300


def start(size: int, task: Callable[[], Any], path: Path, port: int | None = None) -> list[int]:
    """Start a task in a group of forked processes. Each writes its result to `path`."""
    if port is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            os.environ |= {
                "RANK": str(rank),
                "WORLD_SIZE": str(size),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
            }
            signal.alarm(TIMEOUT)
            shown = io.StringIO()
            try:
                with contextlib.redirect_stderr(shown), warnings.catch_warnings():
                    warnings.simplefilter("always")
                    found = task()
            except BaseException as error:
                found = {"error": f"{type(error).__name__}: {error}"}
            written = f"{path} {rank}"
            torch.save({"found": found, "shown": shown.getvalue()}, written)
            os.replace(written, f"{written}.pt")  # a killed process leaves no half of a result
            os._exit(0)
        children.append(child)
    return children


def run(size: int, task: Callable[[], Any], path: Path, port: int | None = None) -> None:
    """Run a task in a group of forked processes to its end."""
    for child in start(size, task, path, port):
        os.waitpid(child, 0)


def rank() -> int:
    """Return the rank of this process."""
    return int(os.environ["RANK"])


def kill() -> None:
    """Kill this process."""
    os.kill(os.getpid(), signal.SIGKILL)


def run_under_agent(size: int, task: Callable[[], Any], path: Path) -> None:
    """Run a task in forked processes, and keep their store in this one, as torchrun does."""
    store = torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    variables = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    with mock.patch.dict(os.environ, variables):
        run(size, task, path, store.port)
