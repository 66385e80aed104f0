"""How long a phase of training takes, and how many steps of it fit into a time limit."""

from __future__ import annotations

import time
from collections.abc import Callable

from skxmc._model.network import LightXMLNetwork
from skxmc._model.tokens import TokenStore
from skxmc._training.settings import Settings
from skxmc._utils.progress import show_line
from skxmc._utils.warnings import warn_user

# The first steps do not count, because they are slower: memory is allocated.
WARM_UP_STEPS = 2
# Number of steps after which their time is known for the first time. It is measured again whenever
# this number has doubled.
FIRST_TIMED_STEPS = 8
# Number of timed steps after which the user is told.
TOLD_STEPS = 16
# Seconds of training from which the user is told with `verbose`, and from which without it.
SHORT, LONG = 10, 300


class StepPlan:
    """Plan of the number of steps: all of them, or as many as end before a deadline.

    Parameters
    ----------
    n_steps : int
        Number of steps without a deadline.
    deadline : float or None
        Time by `time.perf_counter` at which the phase must end.
    tell : callable
        Function that is called once, with the seconds per step and the number of steps left.
    """

    def __init__(
        self, n_steps: int, deadline: float | None, tell: Callable[[float, int], object]
    ) -> None:
        self.n_possible = n_steps
        self.n_steps = n_steps
        self.deadline = deadline
        self.tell = tell
        self.n_timed = -WARM_UP_STEPS
        self.started = 0.0

    def note(self, step: int, wait: Callable[[], object]) -> None:
        """Note that `step` steps are done, and plan `n_steps` again if there is news.

        `wait` is called before a measurement. It returns when the device has done these steps.
        """
        self.n_timed += 1
        measures = self.n_timed >= FIRST_TIMED_STEPS and self.n_timed.bit_count() == 1
        if measures or self.n_timed == 0:
            wait()
        now = time.perf_counter()
        if self.n_timed == 0:
            self.started = now
        if self.deadline is not None and now >= self.deadline:
            self.n_steps = step
        elif measures:
            seconds = (now - self.started) / self.n_timed
            if self.deadline is not None:
                self.n_steps = min(step + int((self.deadline - now) / seconds), self.n_possible)
            if self.n_timed == TOLD_STEPS:
                self.tell(seconds, self.n_steps - step)


def tell_task(settings: Settings, network: LightXMLNetwork, tokens: TokenStore) -> None:
    """Tell the user who wants to see progress what will be trained."""
    layout, n_texts = network.layout, len(tokens)
    mode = "direct mode"
    if not network.direct:
        mode = f"two stages with {layout.n_clusters:,} clusters of up to {layout.max_size} labels"
    n_steps = -(-n_texts // settings.batch_size)
    show_line(
        settings.verbose,
        f"{n_texts:,} texts of {tokens.lengths.mean():.0f} tokens on average, "
        f"{layout.n_labels:,} labels, {mode}, {settings.max_epochs} x {n_steps:,} steps",
    )


def tell_time(settings: Settings, n_phases: int, seconds: float, n_left: int) -> None:
    """Tell the user how long training will take.

    Parameters
    ----------
    settings : Settings
    n_phases : int
        Number of phases that are left. They are assumed to take the same time.
    seconds : float
        Seconds per step.
    n_left : int
        Number of steps left in this phase.

    Warns
    -----
    UserWarning
        If training will take long, and the user has asked for neither progress nor a limit.
    """
    total = seconds * n_left * n_phases
    steps = f"{n_left * n_phases:,} steps of {seconds:.2g} s"
    if settings.verbose and total >= SHORT:
        show_line(settings.verbose, f"training will take about {duration(total)}: {steps}")
    elif total > LONG and not settings.verbose and settings.deadline is None:
        warn_user(
            f"Training will take about {duration(total)}: {steps}. Set verbose=1 to see its "
            "progress, and time_limit or max_epochs to shorten it."
        )


def duration(seconds: float) -> str:
    """Return a time in words: seconds, minutes, or hours."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"
