"""Columns of texts that are read block by block, because a list of them may not fit in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, MutableSequence, Sequence
from typing import Any, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from skxmc._input.texts import check_texts
from skxmc._input.types import Texts
from skxmc._input.values import COLUMN_METHODS, as_list, is_sequence, ndim_of

# Texts that are read from a column at once.
TEXTS_BLOCK = 10_000


class TextColumn(Sequence[str]):
    """Texts of a column that stays where it is. Each block becomes ``str`` when it is read.

    Parameters
    ----------
    column : sequence of str
        Column of PyArrow, pandas or polars, array of NumPy, or any other sequence.
    name : str, default="X"
        Name in error messages.
    rows : sequence of int, default=None
        Ascending rows of the column that count. None is all.
    added : list of str, default=()
        Further texts, which follow those of the column.
    block : int, default=TEXTS_BLOCK
        Number of rows to read at once.
    """

    def __init__(
        self,
        column: Any,
        name: str = "X",
        rows: Sequence[int] | NDArray[np.int64] | None = None,
        added: Sequence[str] = (),
        block: int = TEXTS_BLOCK,
    ) -> None:
        self.column = column
        self.name = name
        self.rows = range(len(column)) if rows is None else rows
        self.added = added
        self.block = block

    def __len__(self) -> int:
        return len(self.rows) + len(self.added)

    @overload
    def __getitem__(self, place: int) -> str: ...

    @overload
    def __getitem__(self, place: slice) -> list[str]: ...

    def __getitem__(self, place: int | slice) -> str | list[str]:
        if not isinstance(place, slice):
            row = range(len(self))[place]
            return self[row : row + 1][0]
        start, stop, step = place.indices(len(self))
        assert step == 1
        before = len(self.rows)
        added = self.added[max(start - before, 0) : max(stop - before, 0)]
        return [*self._read(np.asarray(self.rows[start:stop])), *added]

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), self.block):
            yield from self[start : start + self.block]

    def take(self, rows: NDArray[np.int64]) -> TextColumn:
        """Return the texts of ascending `rows`, before any text was added."""
        return TextColumn(self.column, self.name, np.asarray(self.rows)[rows], (), self.block)

    def plus(self, added: Sequence[str]) -> TextColumn:
        """Return these texts followed by others."""
        return TextColumn(self.column, self.name, self.rows, [*self.added, *added], self.block)

    def digest(self) -> str:
        """Hash the texts, whatever the column is made of."""
        found = hashlib.sha256()
        for text in self:
            encoded = text.encode()
            found.update(b"%d:%b" % (len(encoded), encoded))
        return found.hexdigest()

    def _read(self, rows: NDArray[np.int64]) -> list[str]:
        """Read ascending rows of the column, at most a block at once."""
        texts: list[str] = []
        ends = np.flatnonzero(np.diff(rows // self.block)) + 1
        for part in np.split(rows, ends) if len(rows) else []:
            first, last = int(part[0]), int(part[-1])
            values = _values(self.column, first, last + 1)
            read = check_texts(values, name=self.name, first_row=first)
            texts += read if len(part) == len(read) else [read[row - first] for row in part]
        return texts


AnyTexts = TypeVar("AnyTexts", bound=list[str] | TextColumn)


def check_column(X: Texts, *, block: int = TEXTS_BLOCK) -> list[str] | TextColumn:
    """Check raw texts as `check_texts` does, without a list of those that are not ``str`` yet.

    Parameters
    ----------
    X : sequence of str
        Texts in any form that `check_texts` takes.
    block : int, default=TEXTS_BLOCK
        Number of texts to read at once.

    Returns
    -------
    list of str or TextColumn
        A `TextColumn` if X is a column or an array that holds no Python objects, or a sequence of
        a class of its own.

    Raises
    ------
    TypeError, ValueError
        See `check_texts`.
    """
    if not _is_column(X) or len(X) == 0:  # type: ignore[arg-type]
        return check_texts(X)
    texts = TextColumn(X, block=block)
    for _ in texts:  # each block is checked when it is read
        pass
    return texts


def take(texts: AnyTexts, rows: NDArray[np.int64]) -> AnyTexts:
    """Return the texts of ascending `rows`."""
    if isinstance(texts, TextColumn):
        return cast(AnyTexts, texts.take(rows))
    return cast(AnyTexts, [texts[row] for row in rows])


def plus(texts: AnyTexts, added: list[str]) -> AnyTexts:
    """Return texts followed by others."""
    if isinstance(texts, TextColumn):
        return cast(AnyTexts, texts.plus(added))
    return cast(AnyTexts, [*texts, *added])


def content_of(value: Any) -> Any:
    """Return what decides the hash of a value: of a column the texts, not the way it is kept."""
    return value.digest() if isinstance(value, TextColumn) else value


def _is_column(X: Any) -> bool:
    if isinstance(X, Sequence):
        return not isinstance(X, str | bytes | list | tuple | MutableSequence)
    has_method = any(hasattr(X, method) for method in COLUMN_METHODS)
    is_plain = getattr(X, "dtype", None) == np.dtype(object)  # in memory anyway
    return has_method and not is_plain and is_sequence(X) and ndim_of(X) == 1


def _values(column: Any, start: int, stop: int) -> list[Any]:
    """Read rows from `start` to `stop`."""
    if isinstance(column, Sequence):  # some take no slices
        return [column[row] for row in range(start, stop)]
    return as_list(getattr(column, "iloc", column)[start:stop])
