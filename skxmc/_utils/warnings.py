"""Warnings that point to the user's own line."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import joblib
import sklearn

_OWN_FOLDERS = tuple(
    f"{folder}{separator}"
    for folder in (
        Path(__file__).parents[1],
        Path(sklearn.__file__).parent,
        Path(joblib.__file__).parent,
    )
    for separator in ("/", "\\")
)


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn at the line that called skxmc, the first one outside skxmc, scikit-learn and joblib.

    Parameters
    ----------
    message : str
        What is wrong, then what to do.
    category : type of Warning, default=UserWarning
        Class of the warning.
    """
    frame = sys._getframe(1)
    level = 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_OWN_FOLDERS):
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)
