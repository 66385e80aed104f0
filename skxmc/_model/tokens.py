"""Tokens of texts, tokenized once, and batches of texts of similar length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from skxmc._input.sparse import ranges
from skxmc._model.device import copy_to
from skxmc._utils.parallel import ProcessLock
from skxmc._utils.spill import SpilledArray

if TYPE_CHECKING:
    from transformers import BatchEncoding, PreTrainedTokenizerBase

# Texts per call of the tokenizer. It bounds the memory of intermediate Python lists.
TOKENIZER_BLOCK = 10_000
# Number of tokens in memory. More of them lie in a temporary file, which is mapped into memory.
MAX_TOKENS_IN_MEMORY = 1 << 27
# A maximum length above that of any text.
ANY_LENGTH = 2**31 - 1
# Texts are shuffled, cut into pools of this many batches, and sorted by length inside each pool.
# This leaves nearly no padding, and the batches stay random.
BATCHES_PER_POOL = 64
# On a GPU, padded batches have a multiple of so many tokens. Masks then need no copy, and sizes of
# batches recur, whose memory is used again.
TOKENS_MULTIPLE = 8
# A tokenizer stores its truncation before it tokenizes, so only one thread may use it at a time.
_tokenizing = ProcessLock()


class TokenBatch(NamedTuple):
    """Padded tokens of some texts, the input of the encoder."""

    input_ids: torch.Tensor  # (B, T) int64
    attention_mask: torch.Tensor  # (B, T) int64, 0 on padding
    cls_position: torch.Tensor | None  # (B,) int64, None if [CLS] is the first token
    token_type_ids: torch.Tensor | None  # (B, T) int64, if the encoder has several types
    is_padded: bool  # whether any text is shorter than T, which a GPU would have to be asked

    def to(self, device: torch.device) -> TokenBatch:
        """Copy the batch from the host to `device`."""
        place, types = self.cls_position, self.token_type_ids
        return TokenBatch(
            copy_to(self.input_ids, device),
            copy_to(self.attention_mask, device),
            None if place is None else copy_to(place, device),
            None if types is None else copy_to(types, device),
            self.is_padded,
        )


class TokenStore:
    """Tokens of many texts in one flat array.

    Parameters
    ----------
    ids : ndarray of shape (n_tokens,), int32
        Token ids of all texts in turn, including special tokens.
    offsets : ndarray of shape (n_texts + 1,), int64
        Text i has the tokens ``ids[offsets[i]:offsets[i + 1]]``.
    type_ids : ndarray of shape (n_tokens,), int8, or None
        Token types, or None if all are 0.
    pad_id : int
        Token id that pads short rows of a batch. The attention mask hides it.
    cls_last : bool
        Whether [CLS] is the last token of a text instead of the first.
    """

    def __init__(
        self,
        ids: np.ndarray,
        offsets: np.ndarray,
        type_ids: np.ndarray | None,
        pad_id: int,
        cls_last: bool,
    ) -> None:
        self.ids = ids
        self.offsets = offsets
        self.type_ids = type_ids
        self.pad_id = pad_id
        self.cls_last = cls_last
        self.longest = int(self.lengths.max(initial=0))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Numbers of tokens per text, of shape (n_texts,)."""
        return np.diff(self.offsets)

    def subset(self, rows: np.ndarray) -> TokenStore:
        """Make a store of the texts `rows`, in their order."""
        return self._copy(*self._tokens_of(rows))

    def draw(self, rng: np.random.Generator) -> None:
        """Draw what to read of each text in an epoch. Here it is always the whole text."""

    def _copy(self, source: np.ndarray, lengths: np.ndarray) -> TokenStore:
        """Make a store of the tokens at the places `source`, with new lengths of texts."""
        return TokenStore(
            self.ids[source],
            np.concatenate([[0], np.cumsum(lengths)]),
            None if self.type_ids is None else self.type_ids[source],
            self.pad_id,
            self.cls_last,
        )

    def _tokens_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of the tokens of the texts `rows`, and their numbers per text."""
        lengths = self.offsets[rows + 1] - self.offsets[rows]
        return ranges(self.offsets[rows], lengths), lengths

    def batch(self, rows: np.ndarray, for_gpu: bool = False) -> TokenBatch:
        """Pad the texts `rows` on the right to the longest of them.

        If there is padding anyway, the number of tokens on a GPU becomes a multiple of
        `TOKENS_MULTIPLE`, unless no text of the store is as long.

        BERT-like encoders count positions from the left, and would count padding there. XLNet
        uses distances between tokens, and gives the same result with padding on either side.
        """
        source, lengths = self._tokens_of(rows)
        n_tokens = int(lengths.max())
        if for_gpu and (lengths < n_tokens).any():  # attention is faster without any padding
            n_tokens = min(-(-n_tokens // TOKENS_MULTIPLE) * TOKENS_MULTIPLE, self.longest)
        shape = (len(rows), n_tokens)
        real = np.arange(shape[1]) < lengths[:, None]
        input_ids = np.full(shape, self.pad_id, dtype=np.int64)
        input_ids[real] = self.ids[source]
        token_type_ids = None
        if self.type_ids is not None:
            types = np.zeros(shape, dtype=np.int64)
            types[real] = self.type_ids[source]
            token_type_ids = torch.from_numpy(types)
        return TokenBatch(
            torch.from_numpy(input_ids),
            torch.from_numpy(real.astype(np.int64)),
            torch.from_numpy(lengths - 1) if self.cls_last else None,
            token_type_ids,
            is_padded=not real.all(),
        )


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_length: int,
    progress: Callable[[int], object] | None = None,
    *,
    folder: str | None = None,
    max_in_memory: int = MAX_TOKENS_IN_MEMORY,
) -> TokenStore:
    """Tokenize texts, truncated to `max_length` tokens including special tokens.

    Parameters
    ----------
    tokenizer : Hugging Face tokenizer
    texts : sequence of str
    max_length : int
    progress : callable, default=None
        Function that is called with the number of texts in each finished block.
    folder : str, default=None
        Folder of the temporary file for many tokens. None is that of `tempfile`.
    max_in_memory : int, default=MAX_TOKENS_IN_MEMORY
        Number of tokens from which on they lie in such a file.
    """
    with_types = "token_type_ids" in tokenizer.model_input_names
    ids = SpilledArray(np.int32, max_in_memory, folder)
    types = SpilledArray(np.int8, max_in_memory, folder)
    lengths = [np.zeros(0, dtype=np.int64)]
    for start in range(0, len(texts), TOKENIZER_BLOCK):
        encoded = _encode(
            tokenizer,
            list(texts[start : start + TOKENIZER_BLOCK]),
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=with_types,
        )
        lengths.append(np.fromiter(map(len, encoded["input_ids"]), dtype=np.int64))
        if progress is not None:
            progress(len(lengths[-1]))
        ids.append(_flat(encoded["input_ids"], np.int32))
        if with_types:
            types.append(_flat(encoded["token_type_ids"], np.int8))
    type_ids = types.array()
    return TokenStore(
        ids=ids.array(),
        offsets=np.concatenate([[0], np.cumsum(np.concatenate(lengths))]),
        type_ids=type_ids if type_ids.any() else None,
        pad_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
        cls_last=cls_is_last(tokenizer),
    )


def count_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """Count the tokens of a text without truncation, including special tokens."""
    return len(_encode(tokenizer, text, truncation=False, verbose=False)["input_ids"])


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[int, int]:
    """Count the special tokens before and after the words of a text."""
    ids = _encode(tokenizer, "text")["input_ids"]
    words = _encode(tokenizer, "text", add_special_tokens=False)["input_ids"]
    n_special = len(ids) - len(words)
    n_before = next(n for n in range(n_special + 1) if ids[n : n + len(words)] == words)
    return n_before, n_special - n_before


def cls_is_last(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Return whether [CLS] is at the end of a text (XLNet) and not at its start.

    Raises
    ------
    ValueError
        If [CLS] is at neither end, or if the tokenizer adds none.
    """
    if tokenizer.cls_token_id is not None:
        ids = _encode(tokenizer, "text")["input_ids"]
        if ids[0] == tokenizer.cls_token_id:
            return False
        if ids[-1] == tokenizer.cls_token_id:
            return True
    raise ValueError(
        f"The tokenizer {type(tokenizer).__name__} puts no [CLS] token at the start or the end of "
        "a text. Choose an encoder such as BERT, RoBERTa, XLNet, DistilBERT, DeBERTa, ELECTRA or "
        "ModernBERT."
    )


def _encode(
    tokenizer: PreTrainedTokenizerBase, texts: str | list[str], **options: Any
) -> BatchEncoding:
    """Call the tokenizer under a lock, because a second call would change its `options`."""
    with _tokenizing:
        return tokenizer(texts, **options)


def _flat(rows: list[list[int]], dtype: type) -> np.ndarray:
    return np.fromiter(chain.from_iterable(rows), dtype=dtype)


def training_batches(
    lengths: np.ndarray, batch_size: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Cut all texts into random batches of similar length, as arrays of row numbers."""
    order = rng.permutation(len(lengths))
    pool = batch_size * BATCHES_PER_POOL
    batches = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[i : i + batch_size] for i in range(0, len(rows), batch_size)]
    return [batches[i] for i in rng.permutation(len(batches))]


def prediction_batches(
    lengths: np.ndarray, batch_size: int, max_tokens: int | None = None
) -> Iterator[np.ndarray]:
    """Cut texts into batches, the longest first, so that memory runs out early if at all.

    A batch has at most `batch_size` texts, and, with padding, at most `max_tokens` tokens.
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        n_texts = batch_size
        if max_tokens is not None:
            n_texts = min(n_texts, max(1, max_tokens // int(lengths[order[start]])))
        yield order[start : start + n_texts]
        start += n_texts
