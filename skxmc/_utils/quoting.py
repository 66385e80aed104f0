"""Values of users in messages, cut to a length that can be read."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable
from typing import Any

MAX_QUOTED, MAX_PATH, MAX_ERROR = 80, 200, 300
MAX_ITEMS, MAX_LISTED = 20, 10


class _Quotes(reprlib.Repr):
    """Repr that stays fast for large values, and only describes those that have a shape."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxlist = self.maxtuple = self.maxset = self.maxfrozenset = self.maxdict = MAX_ITEMS
        self.maxarray = self.maxdeque = MAX_ITEMS
        self.maxlong = self.maxstring = self.maxother = MAX_PATH

    def repr1(self, x: Any, level: int) -> str:
        shape = getattr(x, "shape", None)
        if isinstance(shape, tuple):  # by its attributes, so that NumPy need not be imported
            kind = getattr(getattr(x, "dtype", None), "kind", "O")
            if not shape and kind in "iufU":
                x = x.item()  # the 3 of numpy.int64(3)
            is_array = type(x).__name__ == "ndarray" and kind != "O"
            if shape and not (is_array and x.size <= MAX_ITEMS):
                return f"{type(x).__name__} of shape {tuple(shape)}"
        return super().repr1(x, level)


_QUOTES = _Quotes()


def quoted(value: Any, width: int = MAX_QUOTED) -> str:
    """Return the repr of a value in one line of at most `width` characters.

    The middle of longer ones is "...". Large arrays, matrices and frames are described by their
    shape.
    """
    try:
        text = _QUOTES.repr(value)
    except Exception:  # such as that of a number with more digits than Python prints
        text = f"<{type(value).__name__}>"
    return shortened(re.sub(r"\s*\n\s*", " ", text), width)


def shortened(text: str, width: int) -> str:
    """Return a text of at most `width` characters. The middle of longer ones is "..."."""
    if len(text) <= width:
        return text
    head = (width - 3) // 2
    return f"{text[:head]}...{text[head + 3 - width :]}"


def quoted_path(path: str) -> str:
    """Quote a path, of which more is shown than of other values."""
    return quoted(path, MAX_PATH)


def quoted_type(dtype: Any) -> str:
    """Name a dtype, of which structured ones may have many fields."""
    return shortened(str(dtype), MAX_QUOTED)


def listed(names: Iterable[str]) -> str:
    """Return "a, b, c and 12 more", with names that are cut as by `quoted`."""
    given = [shortened(name, MAX_QUOTED) for name in names]
    rest = len(given) - MAX_LISTED
    return ", ".join(given[:MAX_LISTED]) + (f" and {rest} more" if rest > 0 else "")
