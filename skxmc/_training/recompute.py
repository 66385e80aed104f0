"""Less memory in training: activations are forgotten, and computed again in the backward pass.

The activations of the encoder are most of the memory of a step, and grow with the batch. The heads
see the representations of the whole batch in any case, so a step is the same with and without.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from skxmc._model.text_network import TextNetwork
from skxmc._model.tokens import TokenBatch

# Returns the contexts of a first computation and of its repetition, see `dropout_contexts`.
Contexts = Callable[
    [], tuple[contextlib.AbstractContextManager[Any], contextlib.AbstractContextManager[Any]]
]


def represent_in_parts(
    network: TextNetwork, batch: TokenBatch, n_parts: int, contexts: Contexts
) -> torch.Tensor:
    """Represent a batch in parts, of which the backward pass holds one at a time.

    Only the last part keeps its activations. The backward pass, which begins with this part,
    computes those of the others again.

    Parameters
    ----------
    network : TextNetwork
    batch : TokenBatch
    n_parts : int
        Number of parts, at most one per text.
    contexts : callable
        See `dropout_contexts`.

    Returns
    -------
    Tensor of shape (B, n_encoders * n_feature_layers * hidden)
        Result of ``network.represent(batch)``.
    """
    size = -(-len(batch.input_ids) // n_parts)
    *parts, last = (
        TokenBatch._make(v[i : i + size] if isinstance(v, torch.Tensor) else v for v in batch)
        for i in range(0, len(batch.input_ids), size)
    )
    if not parts:
        return network.represent(batch)
    repeated = functools.partial(checkpoint, use_reentrant=False, context_fn=contexts)
    return torch.cat(
        [*(repeated(network.represent, part) for part in parts), network.represent(last)]
    )


@contextlib.contextmanager
def recomputed_layers(encoders: Iterable[nn.Module], contexts: Contexts) -> Iterator[None]:
    """Make a context for forward and backward pass, in which layers keep only their inputs.

    transformers has this for many encoders, but not for MPNet and XLNet, and leaves traces behind.
    """
    layers = [layer for encoder in encoders for layer in _layers(encoder)]
    for layer in layers:
        layer.forward = functools.partial(
            checkpoint, layer.forward, use_reentrant=False, context_fn=contexts
        )
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _layers(encoder: nn.Module) -> nn.ModuleList:
    """Return the layers of an encoder, its longest list of modules."""
    return max((m for m in encoder.modules() if isinstance(m, nn.ModuleList)), key=len)
