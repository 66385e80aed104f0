"""Seeds that leave the global random generators of torch unchanged."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import torch

from skxmc._model.defaults import torch_defaults
from skxmc._utils.parallel import ProcessLock

_seeding = ProcessLock()
_n_seeded = 0
_found: dict[torch.device, torch.Tensor] = {}


def _forget_seeds() -> None:
    """Forget all seeds in a forked child, which lacks the threads that would restore them."""
    global _n_seeded
    _n_seeded = 0
    _found.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_seeds)


@contextlib.contextmanager
def local_seed(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch inside the context, and restore its global generators at the end.

    If several threads are inside at once, the last one to leave restores the generators.
    """
    global _n_seeded
    with _seeding:
        _n_seeded += 1
    try:
        with _seeding:
            _found.setdefault(torch.device("cpu"), torch.get_rng_state())
            torch.default_generator.manual_seed(seed)
            if device.type == "cuda":
                _found.setdefault(device, torch.cuda.get_rng_state(device))
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            elif device.type == "mps":
                _found.setdefault(device, torch.mps.get_rng_state())
                torch.mps.manual_seed(seed)
        yield
    finally:
        with _seeding:
            _n_seeded -= 1
            if _n_seeded == 0:
                for generator, state in _found.items():
                    if generator.type == "cuda":
                        torch.cuda.set_rng_state(state, generator)
                    elif generator.type == "mps":
                        torch.mps.set_rng_state(state)
                    else:
                        torch.set_rng_state(state)
                _found.clear()


@contextlib.contextmanager
def training_mode(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch, and compute gradients whatever the user's code around it has set."""
    with (
        torch_defaults(),
        local_seed(seed, device),
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
    ):
        yield
