"""Representations of texts that estimators with the same encoder share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

_shared: ContextVar[dict[Any, Any] | None] = ContextVar("shared_representations", default=None)


@contextmanager
def encode_once() -> Iterator[None]:
    """Within this context, estimators with the same encoder encode the same texts once.

    All representations are kept until its end, so read a bounded number of texts in it.
    """
    if shared_representations() is not None:
        yield
        return
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def shared_representations() -> dict[Any, Any] | None:
    """Return the representations of this context by encoder and texts. Outside of one, None."""
    return _shared.get()
