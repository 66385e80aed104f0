"""Long texts, read in windows that overlap: one at random per training epoch, all in prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from skxmc._input.sparse import ranges
from skxmc._model.tokens import ANY_LENGTH, TokenStore, special_tokens, tokenize

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

LONG_TEXT = ("truncate", "windows")
# Neighboring windows share at least this part of their words, rounded down.
OVERLAP = 0.25
# Texts whose windows are represented before the heads see them. It bounds memory, and progress bars
# move on after each block.
TEXTS_BLOCK = 512


class WindowStore(TokenStore):
    """Tokens of whole texts, which are read in windows of equal length.

    The special tokens of a text are in each of its windows. A text that fits into one window is
    that window. `batch` reads the window of each text that `draw` has drawn, at first the first.

    Parameters
    ----------
    whole : TokenStore
        Tokens of whole texts.
    max_length : int
        Number of tokens of a window, special tokens included.
    n_special : tuple (int, int)
        Numbers of special tokens before and after the words of a text.
    """

    def __init__(self, whole: TokenStore, max_length: int, n_special: tuple[int, int]) -> None:
        self.whole = whole
        self.max_length = max_length
        self.n_special = n_special
        self.size = max_length - sum(n_special)  # words of a window
        super().__init__(whole.ids, whole.offsets, whole.type_ids, whole.pad_id, whole.cls_last)
        # Words beyond the first window.
        self.n_beyond = np.maximum(whole.lengths - max_length, 0)
        step = self.size - int(OVERLAP * self.size)
        self.n_windows = 1 - (-self.n_beyond // step)
        self.starts = np.zeros(len(self), dtype=np.int64)

    @property
    def lengths(self) -> np.ndarray:
        """Numbers of tokens per window, which are equal in all windows of a text: (n_texts,)."""
        return np.minimum(super().lengths, self.max_length)

    def subset(self, rows: np.ndarray) -> WindowStore:
        """Make a store of the texts `rows`, in their order."""
        return WindowStore(self.whole.subset(rows), self.max_length, self.n_special)

    def draw(self, rng: np.random.Generator) -> None:
        """Draw the window of each text that `batch` reads."""
        places = (rng.random(len(self)) * self.n_windows).astype(np.int64)
        self.starts = self._starts(np.arange(len(self)), places)

    def blocks(self) -> Iterator[tuple[np.ndarray, TokenStore, np.ndarray]]:
        """Yield all windows in blocks: rows of texts, a store of their windows, a text of each.

        Texts of windows are counted from the first row of the block.
        """
        for start in range(0, len(self), TEXTS_BLOCK):
            rows = np.arange(start, min(start + TEXTS_BLOCK, len(self)))
            counts = self.n_windows[rows]
            text_of = np.repeat(np.arange(len(rows)), counts)
            places = ranges(np.zeros_like(counts), counts)
            starts = self._starts(rows[text_of], places)
            yield rows, self._copy(*self._places(rows[text_of], starts)), text_of

    def _tokens_of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._places(rows, self.starts[rows])

    def _starts(self, rows: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return the first word of the windows `places` of the texts `rows`, evenly spread."""
        return places * self.n_beyond[rows] // np.maximum(self.n_windows[rows] - 1, 1)

    def _places(self, rows: np.ndarray, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the places of the tokens of windows, and their numbers per window."""
        n_before, n_after = self.n_special
        begin, end, lengths = self.offsets[rows], self.offsets[rows + 1], self.lengths[rows]
        n_words = lengths - n_before - n_after
        parts = np.stack([begin, begin + n_before + starts, end - n_after], axis=1)
        counts = np.stack(np.broadcast_arrays(n_before, n_words, n_after), axis=1)
        return ranges(parts.ravel(), counts.ravel()), lengths


def tokenize_long(
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_length: int,
    long_text: str,
    tokenize: Callable[..., TokenStore] = tokenize,
) -> TokenStore:
    """Tokenize texts, truncated to `max_length` or to be read in windows of this length.

    Parameters
    ----------
    tokenizer, texts, max_length
        See `tokenize`.
    long_text : {"truncate", "windows"}
    tokenize : callable
        Function with the first three arguments, which tokenizes.

    Raises
    ------
    ValueError
        If windows would hold special tokens only.
    """
    if long_text == "truncate":
        return tokenize(tokenizer, texts, max_length)
    n_special = special_tokens(tokenizer)
    if max_length <= sum(n_special):
        raise ValueError(
            f"max_length={max_length}, but a window holds {sum(n_special)} special tokens besides "
            'words. Raise max_length, or set long_text="truncate".'
        )
    return WindowStore(tokenize(tokenizer, texts, ANY_LENGTH), max_length, n_special)
