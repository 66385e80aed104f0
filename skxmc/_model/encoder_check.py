"""What an encoder must be able to do, looked at before anything is trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from skxmc._model.device import is_out_of_memory
from skxmc._model.encoder import cls_states
from skxmc._model.tokens import tokenize
from skxmc._utils.warnings import warn_user

# Two texts of unequal length, cut to so many tokens.
PROBES = ["sea", "the law of the sea, and what it says of the land"]
PROBE_LENGTH = 16
# Representations that differ by less than this share of their size are the same; those of one text,
# alone and beside another, are rounded otherwise, but not by more than that.
SAME, ROUNDED = 1e-6, 1e-3


def longest_input(encoder: Any, tokenizer: Any) -> int:
    """Largest number of tokens, special ones included, that the encoder has positions for."""
    limit = int(min(tokenizer.model_max_length, 2**31 - 1))
    positions = getattr(encoder.config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa and its kin count positions from padding_idx + 1.
        table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
        padding_idx = getattr(table, "padding_idx", None)
        limit = min(limit, positions - (0 if padding_idx is None else padding_idx + 1))
    return limit


def check_states(encoder: Any, n_feature_layers: int, *, name: str) -> None:
    """Check that the encoder has as many hidden states as are asked for."""
    n_states = encoder.config.num_hidden_layers + 1
    if n_feature_layers > n_states:
        raise ValueError(
            f"n_feature_layers={n_feature_layers}, but encoder={name!r} has only {n_states} hidden "
            "states. Lower it."
        )


def check_length(encoder: Any, tokenizer: Any, max_length: int, *, name: str) -> None:
    """Check that the encoder has positions for texts of so many tokens."""
    longest = longest_input(encoder, tokenizer)
    if max_length > longest:
        raise ValueError(
            f"max_length={max_length}, but encoder={name!r} takes at most {longest} tokens. "
            "Lower it."
        )


def check_representations(encoder: Any, tokenizer: Any, n_layers: int, *, name: str) -> None:
    """Check on two texts that an encoder, in evaluation mode, represents texts as it must.

    Raises
    ------
    ValueError
        If it cannot, or represents all texts alike.

    Warns
    -----
    UserWarning
        If it represents a text otherwise where a longer one stands beside it, or has fewer words
        than its tokenizer.
    """
    who = f"encoder={name!r}, {type(encoder).__name__},"
    length = min(PROBE_LENGTH, longest_input(encoder, tokenizer))
    tokens = tokenize(tokenizer, PROBES, length)
    n_words = getattr(encoder.config, "vocab_size", None)
    if n_words is not None and len(tokenizer) > n_words:
        warn_user(
            f"{who} has embeddings of {n_words} tokens, but its tokenizer has {len(tokenizer)}: a "
            "text with one of the others will fail. Call "
            "model.resize_token_embeddings(len(tokenizer)), and save both again.",
        )
    try:
        encoder.get_input_embeddings()  # some have none
        with torch.no_grad():
            both = cls_states(encoder, tokens.batch(np.arange(2)), n_layers)
            alone = cls_states(encoder, tokens.batch(np.arange(1)), n_layers)
    except Exception as error:  # of any kind, from a model of any kind
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"{who} has no hidden states of a [CLS] token ({type(error).__name__}: {error}). Give "
            "an encoder such as BERT."
        ) from error
    width = n_layers * encoder.config.hidden_size
    if both.shape[1] != width:
        raise ValueError(
            f"{who} has states of width {both.shape[1]}, where its configuration says {width}. "
            "Give an encoder such as BERT."
        )
    scale = float(both.abs().mean())
    lengths = tokens.lengths
    if lengths[0] != lengths[1] and float((both[0] - both[1]).abs().max()) <= SAME * scale:
        raise ValueError(
            f"{who} represents all texts alike: its [CLS] token comes first and does not see those "
            "that follow. Give an encoder such as BERT."
        )
    if float((both[0] - alone[0]).abs().max()) > ROUNDED * scale:
        warn_user(
            f"{who} does not hide padding from texts: what is predicted for one depends on those "
            "beside it. Prefer an encoder such as BERT, or predict one at a time.",
        )
