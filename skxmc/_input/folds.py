"""Values per label in cross-validation: scikit-learn cuts every argument as long as X per fold."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sized
from pathlib import Path
from types import FrameType
from typing import Any

import sklearn
from numpy.typing import NDArray

from skxmc._utils.warnings import warn_user

_CUTS_FOLDS = str(Path(sklearn.__file__).parent / "model_selection" / "_validation.py")


def of_labels(values: Any, labels: NDArray[Any]) -> Any:
    """Return values per label. A function of the labels, which is never cut, is called.

    Parameters
    ----------
    values : object or callable
        Values in the order of `labels`, or a function that returns them.
    labels : ndarray of shape (n_labels,)
        Labels, or numbers of the columns for names of labels.
    """
    return values(labels.copy()) if callable(values) else values


def hint_on_folds(name: str, n_values: int, n_texts: int | None) -> str:
    """Return the end of an error message about values per label whose number is wrong.

    It is empty if they are not as many as the texts and no search or cross-validation calls.
    """
    if n_values != n_texts and not _in_fold():
        return ""
    return (
        " A search or cross-validation cuts arguments that are as long as X for each fold, but not "
        f"a function of the labels. There, pass {name}=lambda labels: ..., which returns one entry "
        "per label."
    )


def warn_if_cut(values: Mapping[str, Any], n_texts: int, n_labels: int) -> None:
    """Warn of values by position that were perhaps cut to the right number for a fold.

    Parameters
    ----------
    values : dict
        Values per label by name of argument, if each fold has labels of its own.
    n_texts, n_labels : int
        Numbers of texts and labels of the fold.
    """
    for name, given in values.items():
        if callable(given) or isinstance(given, Mapping) or hasattr(given, "iloc"):
            continue  # they go by label, or were not cut
        if hasattr(given, "shape"):
            n_values = given.shape[0] if given.shape else None
        else:
            n_values = len(given) if isinstance(given, Sized) else None
        if n_values == n_texts == n_labels and _in_fold():
            warn_user(
                f"{name} has as many entries as this fold has texts and labels, {n_texts}. If "
                "scikit-learn has cut it, its entries belong to other labels. Pass "
                f"{name}=lambda labels: ..., which returns one entry per label."
            )


def _in_fold() -> bool:
    """Return whether a search or cross-validation of scikit-learn calls."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename != _CUTS_FOLDS:
        frame = frame.f_back
    return frame is not None
