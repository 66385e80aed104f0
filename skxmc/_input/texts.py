"""Checks of texts: any sequence becomes a list of str, or an error with a remedy.

Wrong types raise ``TypeError``, wrong contents ``ValueError``. If scikit-learn has its own wording
or choice of error, it is kept.
"""

from __future__ import annotations

from typing import Any

from skxmc._input.values import as_list, describe, is_missing, is_sequence, ndim_of
from skxmc._utils.quoting import quoted


def check_texts(
    X: Any,
    *,
    name: str = "X",
    allow_empty: bool = False,
    allow_missing: bool = False,
    first_row: int = 0,
) -> list[str]:
    """Check raw texts and return them as a list of ``str``.

    Lone surrogates become U+FFFD, the replacement character.

    Parameters
    ----------
    X : sequence of str
        List, tuple, 1-D array, or column of pandas, polars or pyarrow.
    name : str, default="X"
        Name in error messages.
    allow_empty : bool, default=False
        Whether X may hold no text at all.
    allow_missing : bool, default=False
        Whether None, NaN and other missing values count as empty texts.
    first_row : int, default=0
        Row of the first text, for error messages.

    Returns
    -------
    list of str

    Raises
    ------
    TypeError
        If X is not a sequence of texts, or an element is neither ``str`` nor missing.
    ValueError
        If X is a bare string, has more than one dimension, holds missing values or no text.
    """
    if isinstance(X, str):
        raise ValueError(
            "Iterable over raw text documents expected, string object received. "
            f"Pass a list: {name}=[text]."
        )
    if ndim_of(X) != 1:
        raise ValueError(
            f"{name} must be one-dimensional, got {describe(X)}. Pass raw texts, as one column "
            f"such as {name}['text'] or {name}[:, 0]. {_hint_to_join(X, name)}Do not pass the "
            "output of a vectorizer."
        )
    if not is_sequence(X):
        raise TypeError(
            f"{name} must be a list, tuple, 1-D array or column of str, got {describe(X)}. "
            "Pass a list of texts, in the order of their labels."
        )
    texts = as_list(X)
    if allow_missing:
        texts = ["" if is_missing(text) else text for text in texts]
    if not texts and not allow_empty:
        raise ValueError(f"{name} holds no text. Pass at least one text.")
    if not set(map(type, texts)) <= {str}:
        texts = [_as_text(text, row, name) for row, text in enumerate(texts, first_row)]
    return [text if text.isascii() else _without_surrogates(text) for text in texts]


def _hint_to_join(X: Any, name: str) -> str:
    """Say how to join the columns of a frame, which has at least two."""
    columns = [column for column in getattr(X, "columns", []) if isinstance(column, str)]
    if len(columns) < 2:
        return ""
    parts = [f"{name}[{quoted(column)}].fillna('')" for column in columns[:2]]
    joined = " + ' ' + ".join(parts)
    return f"Join columns with {joined} in pandas. "


def _as_text(text: Any, row: int, name: str) -> str:
    if isinstance(text, str):  # a subclass such as numpy.str_, or an enum with its own str()
        return str.__str__(text)
    if is_missing(text):
        raise ValueError(
            f"{name} holds a missing value ({quoted(text)}) at row {row}. Replace it by an empty "
            f"text, with {name}.fillna('') in pandas, or drop the row and its labels."
        )
    remedy = "Decode it with text.decode()." if isinstance(text, bytes) else "Pass str(text)."
    raise TypeError(
        f"{name} must hold str only, but row {row} is {quoted(text)} of type "
        f"{type(text).__name__}. {remedy}"
    )


def _without_surrogates(text: str) -> str:
    """Make a text that a tokenizer can encode. Pairs of surrogates become their character."""
    encodable = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text if encodable == text else encodable  # not a second string for each text
