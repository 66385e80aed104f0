"""What the displays have in common: matplotlib, axes, colours, the classifier inside."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from skxmc._classifier import LightXMLClassifier
from skxmc._topk import innermost

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.lines import Line2D

# Okabe and Ito's: told apart by the colour-blind, and on white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#777777"


def import_pyplot(what: str) -> Any:
    """matplotlib.pyplot; `what` asks for it."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{what} draws with matplotlib, which is not installed: pip install matplotlib"
        ) from error
    return plt


def axes_for(what: str, ax: Any, panels: Sequence[str], **subplots: Any) -> NDArray[Any]:
    """One Axes for each panel: those given, or those of a new figure, made with `subplots`."""
    plt = import_pyplot(what)
    if ax is None:
        ax = plt.subplots(layout="constrained", **subplots)[1]
    axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
    if len(axes) != len(panels):
        raise ValueError(
            f"ax must be {len(panels)} Axes, one for each of the panels {list(panels)}, got "
            f"{len(axes)}. Pass as many, leave ax out, or name fewer panels."
        )
    return axes


def check_choice(name: str, choices: Collection[str], known: Collection[str]) -> None:
    """Check that `choices`, the argument `name`, are known ones, each once."""
    if not choices or not set(choices) <= set(known) or len(set(choices)) < len(choices):
        raise ValueError(
            f"{name} is {list(choices)}, but must be one or more of {list(known)}, each once."
        )


def draw_line(ax: Axes, x: Any, y: Any, defaults: dict[str, Any], line_kw: Any) -> Line2D:
    """Draw a line in the first colour that no line of `ax` has yet, or as `line_kw` says."""
    used = [line.get_color() for line in ax.get_lines()]
    color = min(COLORS, key=used.count)
    (line,) = ax.plot(x, y, **{"color": color, **defaults, **line_kw})
    return line


def show_counts(log_axis: Axis) -> None:
    """Ticks at 1, 10, 100 and so on, as whole numbers; also at 2 and 5 where there is room."""
    from matplotlib.ticker import LogLocator, NullFormatter

    least, most = log_axis.get_data_interval()
    log_axis.set_major_locator(LogLocator(subs=(1, 2, 5) if most < 1000 * least else (1,)))
    log_axis.set_major_formatter("{x:,.0f}")
    log_axis.set_minor_formatter(NullFormatter())


def reach_classifier(what: str, estimator: Any, X: Any = None) -> tuple[LightXMLClassifier, Any]:
    """The fitted LightXMLClassifier inside pipelines and searches, and `X` as it sees it."""
    check_is_fitted(estimator)
    estimator, X = innermost(estimator, X)
    if not isinstance(estimator, LightXMLClassifier):
        raise TypeError(
            f"{what} shows a LightXMLClassifier, alone or in a pipeline or a search, got "
            f"{type(estimator).__name__}. Of an ensemble, pass one of its estimators_; of a "
            "PropensityRanker, its estimator_."
        )
    return estimator, X


def check_two_stage(what: str, classifier: LightXMLClassifier) -> None:
    """Refuse the direct mode."""
    if classifier.network_.direct:
        raise ValueError(
            f"{what} shows clusters of labels, but this model is in the direct mode: each label is "
            "a cluster of its own, all are scored and nothing is recalled. Fit one with "
            "clusterer=BalancedLabelClusterer(max_cluster_size=16), or another size above 1."
        )
