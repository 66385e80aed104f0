"""Pooling: the representation of a text, from the states of its tokens in some layers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from skxmc._model.tokens import TokenBatch

# How the layers are pooled by turns, the last one first.
TURNS = {"cls": ("cls",), "mean": ("mean",), "alternate": ("mean", "cls")}
POOLINGS = tuple(TURNS)
# File of sentence-transformers that says how an encoder was trained.
POOLING_FILE = "1_Pooling/config.json"


def pool(layers: Sequence[torch.Tensor], batch: TokenBatch, pooling: str) -> torch.Tensor:
    """Pool the states of tokens (B, T, hidden) of each layer: (B, n_layers * hidden).

    Of several poolings, such as "alternate+cls", the results follow one another.
    """
    states = [
        pool_layer(layer, batch, turn)
        for one in pooling.split("+")
        for layer, turn in zip(layers, itertools.cycle(TURNS[one]), strict=False)
    ]
    return torch.cat(states, dim=1)


def pool_layer(states: torch.Tensor, batch: TokenBatch, turn: str) -> torch.Tensor:
    """Pool the states of tokens (B, T, hidden) of a layer: (B, hidden).

    "cls" takes the state of the [CLS] token. "mean" takes the mean over all tokens but padding, as
    sentence-transformers does.
    """
    if turn == "cls":
        if batch.cls_position is None:
            return states[:, 0]
        # `torch.onnx` would fix the number of texts in an index by `arange`.
        place = batch.cls_position[:, None, None].expand(-1, 1, states.shape[2])
        return states.gather(1, place)[:, 0]
    mask = batch.attention_mask.to(states.dtype)
    return torch.bmm(mask[:, None], states).squeeze(1) / mask.sum(dim=1, keepdim=True)


def trained_pooling(source: str) -> str:
    """Return the pooling that an encoder was trained for, "cls" if its files do not say it.

    Parameters
    ----------
    source : str
        Local folder or hub id of an encoder that was loaded before.
    """
    from transformers.utils import cached_file

    found = cached_file(
        source,
        POOLING_FILE,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
    )
    if found is None:
        return "cls"
    config: dict[str, Any] = json.loads(Path(found).read_text(encoding="utf-8"))
    is_mean = config.get("pooling_mode_mean_tokens") or config.get("pooling_mode") == "mean"
    return "mean" if is_mean else "cls"
