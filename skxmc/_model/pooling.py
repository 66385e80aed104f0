"""Pooling: the state of a text, from the states of its tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from skxmc._model.tokens import TokenBatch

POOLINGS = ("cls", "mean")
# File of sentence-transformers that says how an encoder was trained.
POOLING_FILE = "1_Pooling/config.json"


def pool(states: torch.Tensor, batch: TokenBatch, pooling: str) -> torch.Tensor:
    """Pool the states of tokens (B, T, hidden) of a layer: (B, hidden).

    "cls" takes the state of the [CLS] token. "mean" takes the mean over all tokens but padding, as
    sentence-transformers does.
    """
    if pooling == "cls":
        if batch.cls_position is None:
            return states[:, 0]
        rows = torch.arange(len(states), device=states.device)
        return states[rows, batch.cls_position]
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
