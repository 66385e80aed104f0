"""Locks and thread limits that are safe in threads and forked processes."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import TypeVar

from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


class ProcessLock:
    """Lock for the threads of one process, which is free in a forked child.

    In a child, a plain lock stays locked forever if another thread held it at the fork. Any work
    that this thread had half done stays half done in the child.
    """

    def __init__(self) -> None:
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()


_is_forked = False


def _settle() -> None:
    """Limit torch to one thread in a forked child, which has lost the pool of threads.

    With more threads, OpenMP would wait forever for those of the parent. The limit holds for every
    forked child once this module is imported. A child that imports torch itself has a new pool.
    """
    global _is_forked
    _is_forked = True
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_settle)


@contextlib.contextmanager
def usable_threads() -> Iterator[None]:
    """Limit libraries with their own pool of threads to one thread in a forked child."""
    if not _is_forked:
        yield
        return
    with threadpool_limits(1, user_api="openmp"):
        yield


def clip_jobs(n_jobs: int | None) -> int | None:
    """Limit `n_jobs`, in joblib's sense, to one job per CPU, however large it is."""
    return None if n_jobs is None else min(n_jobs, os.cpu_count() or 1)


def one_behind(items: Iterable[Item]) -> Iterator[Item]:
    """Yield each item after the next one was made."""
    waiting: list[Item] = []
    for item in items:
        waiting.append(item)
        if len(waiting) > 1:
            yield waiting.pop(0)
    yield from waiting


def map_ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield the result for each item, while a thread computes the next one."""
    with ThreadPoolExecutor(1) as pool:
        for future in one_behind(pool.submit(copy_context().run, function, x) for x in items):
            yield future.result()
