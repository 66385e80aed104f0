"""Helpers of all displays: matplotlib, axes, colors, the classifier inside an estimator."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from skxmc._classifier import LightXMLClassifier
from skxmc._input.types import Texts
from skxmc._topk import innermost
from skxmc._utils.quoting import quoted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.lines import Line2D

# Colors of Okabe and Ito, which color-blind people can distinguish, on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GRAY = "#777777"


def import_pyplot(what: str) -> Any:
    """Import matplotlib.pyplot, or say that `what` needs it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{what} draws with matplotlib, which is not installed. Install it: pip install "
            "matplotlib"
        ) from error
    return plt


def axes_for(what: str, ax: Any, panels: Sequence[str], **subplots: Any) -> NDArray[Any]:
    """Return one Axes per panel: the given ones, or those of a new figure, made by `subplots`."""
    plt = import_pyplot(what)
    if ax is None:
        ax = plt.subplots(layout="constrained", **subplots)[1]
    axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    if len(axes) != len(panels):
        raise ValueError(
            f"ax must be {len(panels)} Axes, one for each of the panels {list(panels)}, got "
            f"{len(axes)}. Pass {len(panels)} Axes, leave ax out, or choose other panels."
        )
    return axes


def check_choice(name: str, choices: Collection[str], known: Collection[str]) -> None:
    """Check that `choices`, the argument `name`, are known and distinct."""
    if not choices or not set(choices) <= set(known) or len(set(choices)) < len(choices):
        raise ValueError(
            f"{name} is {quoted(list(choices))}, but must be one or more of {list(known)}, each "
            "once."
        )


def draw_line(
    ax: Axes, x: ArrayLike, y: ArrayLike, defaults: dict[str, Any], line_kw: Any
) -> Line2D:
    """Draw a line in the first color that no line of `ax` has yet, or as `line_kw` says."""
    used = [line.get_color() for line in ax.get_lines()]
    color = min(COLORS, key=used.count)
    (line,) = ax.plot(x, y, **{"color": color, **defaults, **line_kw})
    return line


def show_counts(log_axis: Axis) -> None:
    """Show ticks at 1, 10, 100 and so on, and at 2 and 5 if there is room, as whole numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    least, most = log_axis.get_data_interval()
    log_axis.set_major_locator(LogLocator(subs=(1, 2, 5) if most < 1000 * least else (1,)))
    log_axis.set_major_formatter("{x:,.0f}")
    log_axis.set_minor_formatter(NullFormatter())


def reach_classifier(
    what: str, estimator: Any, X: Texts | None = None
) -> tuple[LightXMLClassifier, Any]:
    """Return the LightXMLClassifier inside pipelines and searches, and `X` as it receives it."""
    check_is_fitted(estimator)
    estimator, X = innermost(estimator, X)
    if not isinstance(estimator, LightXMLClassifier):
        raise TypeError(
            f"{what} shows a LightXMLClassifier, alone or in a pipeline or a search, got "
            f"{type(estimator).__name__}. Pass one of the estimators_ of an ensemble, or the "
            "estimator_ of a PropensityRanker."
        )
    return estimator, X
