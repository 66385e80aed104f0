"""Representations of texts that estimators with the same encoder share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


class SharedRepresentations(dict[Any, Any]):
    """Representations by encoder and texts."""

    grows = True  # whether all that are computed are kept


_shared: ContextVar[SharedRepresentations | None] = ContextVar("shared_representations")


@contextmanager
def encode_once(*, grows: bool = True) -> Iterator[None]:
    """Within this context, estimators with the same encoder encode the same texts once.

    All representations are kept until its end, so read a bounded number of texts in it. With
    ``grows=False``, only those are kept that are added, such as those of a frozen encoder in `fit`.
    """
    outer = shared_representations()
    if outer is not None and (outer.grows or not grows):
        yield
        return
    shared = SharedRepresentations()
    shared.grows = grows
    token = _shared.set(shared)
    try:
        yield
    finally:
        _shared.reset(token)


def shared_representations() -> SharedRepresentations | None:
    """Return the representations of this context. Outside of one, None."""
    return _shared.get(None)
