"""Progress that `verbose=1` shows on standard error."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm

# A log gets a line at the start of a bar, at its end, and every so often between them.
SECONDS_PER_LINE = 30.0
# A bar of work that is often short appears after so many seconds.
SECONDS_BEFORE_BAR = 2.0
LINE = "{desc}: {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}{postfix}]"


class _Lines:
    """Standard error that ends a line where a bar would overwrite itself."""

    def write(self, text: str) -> None:
        line = text.strip("\r\n ")
        if line:
            sys.stderr.write(f"{line}\n")

    def flush(self) -> None:
        if hasattr(sys.stderr, "flush"):
            sys.stderr.flush()


def progress_bar(
    verbose: int, *args: Any, seconds_per_line: float = SECONDS_PER_LINE, **kwargs: Any
) -> Any:
    """Make a bar with `tqdm`'s arguments; none if `verbose` is 0 or there is no standard error.

    If standard error is not a terminal, such as a log file, the bar prints a line now and then.
    """
    disable = not verbose or sys.stderr is None
    if not disable and not _in_notebook() and not _in_terminal():
        seconds = {"mininterval": seconds_per_line, "maxinterval": seconds_per_line}
        kwargs |= {"file": _Lines(), "bar_format": LINE, **seconds}
    return tqdm(*args, disable=disable, dynamic_ncols=True, leave=True, **kwargs)


def slow_bar(verbose: int, **kwargs: Any) -> Any:
    """Make a bar as `progress_bar`, which appears only if the work takes some seconds."""
    return progress_bar(verbose, delay=SECONDS_BEFORE_BAR, **kwargs)


def show_line(verbose: int, text: str) -> None:
    """Print a line above the bars; none if `verbose` is 0 or there is no standard error."""
    if verbose and sys.stderr is not None:
        tqdm.write(text, file=sys.stderr)


def _in_terminal() -> bool:
    """Whether standard error is a terminal. Objects that replace it may be unable to tell."""
    return hasattr(sys.stderr, "isatty") and sys.stderr.isatty()


def _in_notebook() -> bool:
    """Whether bars are widgets, which need no terminal."""
    return any(cls.__module__ == "tqdm.notebook" for cls in tqdm.__mro__)
