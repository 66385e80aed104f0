"""Threads and forks of the process that we run in."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from types import TracebackType

from threadpoolctl import threadpool_limits


class ProcessLock:
    """A lock for the threads of one process; in a forked child it is free.

    A plain lock would stay taken for ever if another thread held it at the moment of the fork. What
    that thread had half done stays so in the child.
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
    """Make torch usable in a forked child, where its pool of threads is gone: use one thread.

    With more, OpenMP would wait for threads for ever that only the parent has. Wherever this module
    was imported, and whatever the child is for. A child that imports torch itself has a new pool.
    """
    global _is_forked
    _is_forked = True
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_settle)


@contextlib.contextmanager
def usable_threads() -> Iterator[None]:
    """Context for libraries with a pool of threads of their own: one in a forked child."""
    if not _is_forked:
        yield
        return
    with threadpool_limits(1, user_api="openmp"):
        yield


def clip_jobs(n_jobs: int | None) -> int | None:
    """`n_jobs` in joblib's sense, at most one a CPU: no machine starts any number of threads."""
    return None if n_jobs is None else min(n_jobs, os.cpu_count() or 1)
