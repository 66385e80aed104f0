"""Callbacks of scikit-learn: the tasks of a fit that they see, and how they end it.

A fit has epochs, and an epoch has steps. With static negatives, the epochs of all phases follow
each other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn before 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stand-in without `set_callbacks`."""


class NoTasks:
    """Tasks of a fit without callbacks."""

    def begin_epoch(self, n_steps: int) -> None:
        """Tell nobody."""

    def begin_step(self) -> None:
        """Tell nobody."""

    def end_step(self) -> bool:
        """Return that the epoch goes on."""
        return False

    def end_epoch(self, fitted: Callable[[], dict[str, Any]]) -> bool:
        """Return that the fit goes on."""
        return False

    def end(self, fitted: Callable[[], dict[str, Any]]) -> None:
        """Tell nobody."""


class FitTasks(NoTasks):
    """Tasks of a fit, at whose begin and end the callbacks of an estimator are called.

    Parameters
    ----------
    estimator : estimator
        Estimator with callbacks.
    X, y : object
        Texts and labels, as the user gave them to `fit`.
    n_epochs : int
        Largest number of epochs.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, n_epochs: int) -> None:
        self.data = {"estimator": estimator, "X": X, "y": y}
        self.fit = estimator._init_callback_context(max_subtasks=n_epochs)
        self.fit.call_on_fit_task_begin(**self.data)

    def begin_epoch(self, n_steps: int) -> None:
        """Begin an epoch of so many steps."""
        self.epoch = self.fit.subcontext(task_name="epoch", max_subtasks=n_steps)
        self.epoch.call_on_fit_task_begin(**self.data)

    def begin_step(self) -> None:
        """Begin a step."""
        self.step = self.epoch.subcontext(task_name="step")
        self.step.call_on_fit_task_begin(**self.data)

    def end_step(self) -> bool:
        """End a step, and return whether a callback ends the epoch.

        Callbacks get no fitted estimator, because a copy of the weights per step would be slow.
        """
        return bool(self.step.call_on_fit_task_end(**self.data))

    def end_epoch(self, fitted: Callable[[], dict[str, Any]]) -> bool:
        """End an epoch, and return whether a callback ends training.

        `fitted` returns the attributes of the estimator if the fit ended now. It is called if a
        callback wants the fitted estimator.
        """
        return bool(self.epoch.call_on_fit_task_end(**self.data, reconstruction_attributes=fitted))

    def end(self, fitted: Callable[[], dict[str, Any]]) -> None:
        """End the fit."""
        self.fit.call_on_fit_task_end(**self.data, reconstruction_attributes=fitted)


def fit_tasks(estimator: Any, X: Any, y: Any, n_epochs: int) -> NoTasks:
    """Return the tasks of a fit for the callbacks of the estimator, if it has any."""
    if not hasattr(estimator, "_skl_callbacks"):
        return NoTasks()
    return FitTasks(estimator, X, y, n_epochs)
