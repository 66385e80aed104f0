"""Torch's default dtype and device, which a user may have set for the whole process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from skxmc._utils.parallel import ProcessLock

_changing = ProcessLock()
_n_inside = 0
_found_dtype = torch.float32


def _forget() -> None:
    """In a forked child, forget the threads that are gone, and restore the dtype for them."""
    global _n_inside
    if _n_inside:
        torch.set_default_dtype(_found_dtype)
    _n_inside = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextlib.contextmanager
def torch_defaults() -> Iterator[None]:
    """Compute with float32 and the CPU as defaults, and restore the user's defaults at the end.

    The default dtype belongs to the process. If several threads are inside at once, the last one to
    leave restores it. The default device belongs to the thread.
    """
    global _n_inside, _found_dtype
    with _changing:
        if _n_inside == 0:
            _found_dtype = torch.get_default_dtype()
        _n_inside += 1
        if torch.get_default_dtype() != torch.float32:
            torch.set_default_dtype(torch.float32)
    # A context of a device costs time at each call of torch, so it is entered only if needed.
    is_cpu = torch.get_default_device().type == "cpu"
    try:
        with contextlib.nullcontext() if is_cpu else torch.device("cpu"):
            yield
    finally:
        with _changing:
            _n_inside -= 1
            if _n_inside == 0 and torch.get_default_dtype() != _found_dtype:
                torch.set_default_dtype(_found_dtype)
