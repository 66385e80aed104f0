"""Paths that users give."""

from __future__ import annotations

import os
from pathlib import Path


def user_path(path: str | os.PathLike[str]) -> Path:
    """Return a path in which a leading `~` is the home directory."""
    return Path(os.path.expanduser(path))
