"""What `verbose=1` shows, on standard error."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm


def progress_bar(verbose: int, *args: Any, **kwargs: Any) -> Any:
    """A bar with `tqdm`'s arguments; none if `verbose` is 0, or there is no standard error."""
    disable = not verbose or sys.stderr is None
    return tqdm(*args, disable=disable, dynamic_ncols=True, leave=True, **kwargs)


def show_line(verbose: int, text: str) -> None:
    """A line above the bars; none if `verbose` is 0."""
    if verbose:
        tqdm.write(text, file=sys.stderr)
