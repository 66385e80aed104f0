"""Encoder requirements, checked before training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from skxmc._model.device import is_out_of_memory
from skxmc._model.encoder import text_states
from skxmc._model.tokens import TokenStore, tokenize
from skxmc._utils.quoting import MAX_ERROR, quoted, quoted_path, shortened
from skxmc._utils.warnings import warn_user

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# Two texts of unequal length, and their maximum number of tokens.
PROBES = ["sea", "the law of the sea, and what it says of the land"]
MAX_PROBE_LENGTH = 16
# Bounds of differences, relative to the mean absolute value. Below the first, representations
# count as equal. Rounding makes a text differ by up to the second if it shares a batch.
MAX_EQUAL_DIFFERENCE = 1e-6
MAX_ROUNDING_DIFFERENCE = 1e-3
# Share of the tokens of texts that may be unknown without a warning.
MAX_UNKNOWN = 0.1
# Tokens that are compared at once.
IDS_BLOCK = 1 << 24
# Texts that are tried in lower case to find the remedy.
MAX_LOWERED = 100


def longest_input(encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the maximum number of tokens per text, including special tokens."""
    limit = int(min(tokenizer.model_max_length, 2**31 - 1))
    positions = getattr(encoder.config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        # RoBERTa and related encoders count positions from padding_idx + 1.
        table = getattr(getattr(encoder, "embeddings", None), "position_embeddings", None)
        padding_idx = getattr(table, "padding_idx", None)
        limit = min(limit, positions - (0 if padding_idx is None else padding_idx + 1))
    return limit


def check_states(encoder: PreTrainedModel, n_feature_layers: int, *, name: str) -> None:
    """Check that the encoder has at least `n_feature_layers` hidden states."""
    n_states = encoder.config.num_hidden_layers + 1
    if n_feature_layers > n_states:
        raise ValueError(
            f"n_feature_layers={quoted(n_feature_layers)}, but encoder={quoted_path(name)} has "
            f"only {n_states} hidden states. Lower n_feature_layers."
        )


def check_length(
    encoder: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, max_length: int, *, name: str
) -> None:
    """Check that the encoder has positions for `max_length` tokens."""
    longest = longest_input(encoder, tokenizer)
    if max_length > longest:
        raise ValueError(
            f"max_length={quoted(max_length)}, but encoder={quoted_path(name)} takes at most "
            f"{longest} tokens. Lower max_length."
        )


def check_ids(
    tokens: TokenStore,
    tokenizer: PreTrainedTokenizerBase,
    encoder: PreTrainedModel,
    texts: Sequence[str],
) -> None:
    """Check that the encoder has an embedding of each token of the texts.

    Otherwise, a CPU would raise an IndexError, and a GPU would fail until the process ends.

    Raises
    ------
    ValueError
        If a token has none. The message names it and its text.
    """
    n_words = getattr(encoder.config, "vocab_size", None)
    largest = int(tokens.ids.max(initial=0))
    if n_words is not None and largest >= n_words:
        word = quoted(tokenizer.convert_ids_to_tokens(largest))
        row = int(np.searchsorted(tokens.offsets, tokens.ids.argmax(), side="right")) - 1
        raise ValueError(
            f"The text {quoted(texts[row])} has the token {word}, number {largest} of the "
            f"tokenizer, but the encoder has embeddings of {n_words} tokens only. Call "
            "model.resize_token_embeddings(len(tokenizer)), save both again, and train again."
        )


def check_words(
    tokens: TokenStore, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, name: str
) -> None:
    """Check that the tokenizer knows the words of the texts.

    Warns
    -----
    UserWarning
        If more than `MAX_UNKNOWN` of the tokens are the unknown token.
    """
    n_special = tokenizer.num_special_tokens_to_add() * len(tokens)
    n_words = max(1, len(tokens.ids) - n_special)
    starts = range(0, len(tokens.ids), IDS_BLOCK)
    parts = (tokens.ids[start : start + IDS_BLOCK] for start in starts)
    n_unknown = sum(np.count_nonzero(part == tokenizer.unk_token_id) for part in parts)
    if n_unknown <= MAX_UNKNOWN * n_words:
        return
    unknown = np.flatnonzero(tokens.ids == tokenizer.unk_token_id)
    rows = np.searchsorted(tokens.offsets, unknown, side="right") - 1
    rows, counts = np.unique(rows, return_counts=True)
    rows, counts = rows[:MAX_LOWERED], counts[:MAX_LOWERED]
    n_tokens = int(np.diff(tokens.offsets).max())  # of whole texts, if they are read in windows
    lowered = tokenize(tokenizer, [texts[row].lower() for row in rows], n_tokens)
    is_case = np.count_nonzero(lowered.ids == tokenizer.unk_token_id) <= counts.sum() / 2
    warn_user(
        f"The tokenizer of encoder={quoted_path(name)} does not know "
        f"{n_unknown / n_words:.0%} of the words, such as some in {quoted(texts[rows[0]])}, "
        "and takes them all for the same. "
        + (
            "It knows them in lower case: pass [text.lower() for text in X] to fit and predict."
            if is_case
            else "Choose an encoder for the language of the texts."
        )
    )


def check_representations(
    encoder: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    n_layers: int,
    pooling: str,
    *,
    name: str,
) -> None:
    """Check on two texts that the pooled states of an encoder in evaluation mode are usable.

    Raises
    ------
    ValueError
        If the encoder returns no such states, or the same states for all texts.

    Warns
    -----
    UserWarning
        If the states of a text depend on a longer text in the batch, or if the tokenizer has more
        tokens than the encoder.
    """
    who = f"encoder={quoted_path(name)}, {type(encoder).__name__},"
    length = min(MAX_PROBE_LENGTH, longest_input(encoder, tokenizer))
    tokens = tokenize(tokenizer, PROBES, length)
    n_words = getattr(encoder.config, "vocab_size", None)
    if n_words is not None and len(tokenizer) > n_words:
        warn_user(
            f"{who} has embeddings of {n_words} tokens, but its tokenizer has {len(tokenizer)}. A "
            "text with one of the other tokens will fail. Call "
            "model.resize_token_embeddings(len(tokenizer)), and save both again.",
        )
    check_ids(tokens, tokenizer, encoder, PROBES)
    try:
        encoder.get_input_embeddings()  # raises an error if there are none
        with torch.no_grad():
            both = text_states(encoder, tokens.batch(np.arange(2)), n_layers, pooling)
            alone = text_states(encoder, tokens.batch(np.arange(1)), n_layers, pooling)
    except Exception as error:  # models raise errors of any type
        if is_out_of_memory(error):
            raise
        raise ValueError(
            f"{who} has no hidden states of a [CLS] token ({type(error).__name__}: "
            f"{shortened(str(error), MAX_ERROR)}). Choose an encoder such as BERT."
        ) from error
    width = n_layers * encoder.config.hidden_size
    if both.shape[1] != width:
        raise ValueError(
            f"{who} has states of width {both.shape[1]}, but its configuration says {width}. "
            "Choose an encoder such as BERT."
        )
    scale = float(both.abs().mean())
    lengths = tokens.lengths
    if (
        lengths[0] != lengths[1]
        and float((both[0] - both[1]).abs().max()) <= MAX_EQUAL_DIFFERENCE * scale
    ):
        raise ValueError(
            f"{who} represents all texts alike: its [CLS] token comes first and does not see the "
            "tokens that follow. Choose an encoder such as BERT."
        )
    if float((both[0] - alone[0]).abs().max()) > MAX_ROUNDING_DIFFERENCE * scale:
        warn_user(
            f"{who} does not hide padding from texts: the predictions for a text depend on the "
            "others in its batch. Choose an encoder such as BERT, or predict one text at a time.",
        )
