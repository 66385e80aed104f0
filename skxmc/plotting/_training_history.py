"""TrainingHistoryDisplay: losses, learning rate and P@5 of a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skxmc.plotting._common import (
    GRAY,
    axes_for,
    check_choice,
    draw_line,
    import_pyplot,
    reach_classifier,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

AXIS_LABELS = {
    "loss": "Training loss",
    "learning_rate": "Learning rate",
    "valid_p_at_5": "P@5 on validation",
}
LOSSES = {"loss": "sum", "recall_loss": "recall head", "rank_loss": "ranking head"}


class TrainingHistoryDisplay:
    """Losses, learning rate and P@5 on the validation part, by epoch.

    Epochs are counted from 1. With static negatives, vertical lines separate the stages. Each stage
    has the name of the head that it trains. In the direct mode there is one head, so its loss has
    no name.
    Read more in the user guide: :doc:`/guide/understanding`.

    Parameters
    ----------
    history : list of dict
        ``history_`` of a fitted `LightXMLClassifier`.
    name : str, default=None
        Name of the model, for the legend.

    Attributes
    ----------
    ax_ : ndarray of shape (n_panels,), of matplotlib Axes
        The panels.
    figure_ : matplotlib Figure
        The figure.
    lines_ : dict of str to matplotlib Line2D
        The drawn lines, by their key in the history: ``loss``, ``recall_loss``, ``rank_loss``,
        ``learning_rate``, ``valid_p_at_5``.

    See Also
    --------
    skxmc.LightXMLClassifier : Its ``history_`` holds the values.

    Examples
    --------
    >>> from skxmc import LightXMLClassifier
    >>> from skxmc.plotting import TrainingHistoryDisplay
    >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
    >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
    >>> clf = LightXMLClassifier(
    ...     "sentence-transformers/all-MiniLM-L6-v2", max_epochs=2, random_state=0
    ... )
    >>> display = TrainingHistoryDisplay.from_estimator(clf.fit(texts, tags))
    >>> display.lines_["rank_loss"].get_xdata()
    array([1., 2.])
    """

    ax_: NDArray[Any]
    figure_: Figure
    lines_: dict[str, Line2D]

    def __init__(self, history: list[dict[str, Any]], *, name: str | None = None) -> None:
        self.history = history
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        name: str | None = None,
        ax: Axes | None = None,
        panels: Sequence[str] | None = None,
        **line_kw: Any,
    ) -> TrainingHistoryDisplay:
        """Draw the history of a fitted classifier.

        Parameters
        ----------
        estimator : LightXMLClassifier, or a pipeline or search with one
            Fitted estimator.
        name : str, default=None
            Name of the model, for the legend.
        ax : matplotlib Axes or array of them, default=None
            One Axes per panel. None makes a figure.
        panels : sequence of str, default=None
            Panels to draw, as for `plot`.
        **line_kw
            Arguments of ``Axes.plot``.

        Returns
        -------
        TrainingHistoryDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError, TypeError
            If `estimator` is not fitted, or holds no `LightXMLClassifier`.
        ValueError
            If `plot` raises it.
        """
        import_pyplot(cls.__name__)
        classifier, _ = reach_classifier(cls.__name__, estimator)
        return cls(classifier.history_, name=name).plot(ax, panels=panels, **line_kw)

    def plot(
        self, ax: Axes | None = None, *, panels: Sequence[str] | None = None, **line_kw: Any
    ) -> TrainingHistoryDisplay:
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            One Axes per panel. None makes a figure with the panels one below the other.
        panels : sequence of str, default=None
            Panels to draw: ``"loss"`` (one line for each trained head and one for their sum),
            ``"learning_rate"`` (of the encoder, at the end of each epoch) and ``"valid_p_at_5"``.
            None draws all for which the history has values.
        **line_kw
            Arguments of ``Axes.plot``.

        Returns
        -------
        TrainingHistoryDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `panels` are not known or not in the history, or if `ax` is not one Axes per panel.
        """
        panels = self._panels(panels)
        size = (6.4, 1.2 + 2.0 * len(panels))
        axes = axes_for(
            type(self).__name__, ax, panels, nrows=len(panels), sharex=True, figsize=size
        )
        self.lines_ = {}
        for axis, panel in zip(axes, panels, strict=True):
            for key in LOSSES if panel == "loss" else [panel]:
                self._draw(axis, key, line_kw)
            axis.set_ylabel(AXIS_LABELS[panel])
            axis.set_xlim(0.5, max(len(self.history) + 0.5, axis.get_xlim()[1]))
            axis.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            if panel != "valid_p_at_5":
                axis.set_ylim(bottom=0, auto=True)  # leave room for other models
            if panel == "learning_rate":
                axis.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
            if any(not line.get_label().startswith("_") for line in axis.get_lines()):
                # The legend is above the axes, because lines may run anywhere inside.
                place = {"loc": "lower right", "bbox_to_anchor": (1, 1), "borderaxespad": 0}
                axis.legend(ncols=3 if self.name is None else 2, frameon=False, **place)
        self._name_stages(axes)
        axes[-1].set_xlabel("Epoch")
        self.ax_, self.figure_ = axes, axes[0].figure
        return self

    def _panels(self, panels: Sequence[str] | None) -> Sequence[str]:
        has_validation = any("valid_p_at_5" in epoch for epoch in self.history)
        if panels is None:
            return [p for p in AXIS_LABELS if p != "valid_p_at_5" or has_validation]
        check_choice("panels", panels, AXIS_LABELS)
        if "valid_p_at_5" in panels and not has_validation:
            raise ValueError(
                "panels names valid_p_at_5, but this model was trained without a validation part. "
                "Fit with early_stopping=True or validation_data=(X, y), or leave valid_p_at_5 out."
            )
        return panels

    def _values(self, key: str) -> NDArray[np.float64]:
        """Return the value of each epoch, NaN if it was not measured or its head not trained."""
        values = np.array([epoch.get(key, np.nan) for epoch in self.history])
        if key == "loss":  # if only one head is trained, its loss is the sum
            parts = self._values("recall_loss") + self._values("rank_loss")
            return np.where(np.isnan(parts), np.nan, values)
        return np.where(values == 0, np.nan, values) if key in LOSSES else values

    def _draw(self, ax: Axes, key: str, line_kw: dict[str, Any]) -> None:
        values = self._values(key)
        if np.isnan(values).all():
            return
        words = [] if self.name is None else [self.name]
        if key in LOSSES and not np.isnan(self._values("recall_loss")).all():
            words.append(LOSSES[key])
        defaults = {"marker": "o", "markersize": 4, "label": ", ".join(words) or None}
        # The line has a gap after each stage but the last, because each stage starts afresh.
        ends = np.cumsum([length for _, length in self._stages()])[:-1]
        epochs = np.insert(np.arange(1.0, len(values) + 1), ends, np.nan)
        values = np.insert(values, ends, np.nan)
        self.lines_[key] = draw_line(ax, epochs, values, defaults, line_kw)

    def _stages(self) -> list[tuple[str, int]]:
        """Return the objective of each stage and its number of epochs."""
        objectives = [epoch["objective"] for epoch in self.history]
        return [(objective, len(list(epochs))) for objective, epochs in groupby(objectives)]

    def _name_stages(self, axes: NDArray[Any]) -> None:
        """Name the stages at the top, and draw a vertical line between them."""
        stages = self._stages()
        if len(stages) == 1:
            return
        bottom, top = axes[0].get_ylim()
        axes[0].set_ylim(top=bottom + 1.2 * (top - bottom), auto=True)  # room for the names
        first = 1
        for name, length in stages:
            axes[0].annotate(
                f"{name} stage",
                (first + (length - 1) / 2, 1),
                xycoords=axes[0].get_xaxis_transform(),
                xytext=(0, -4),
                textcoords="offset points",
                ha="center",
                va="top",
            )
            if first > 1:
                for axis in axes:
                    axis.axvline(first - 0.5, color=GRAY, linestyle=":", linewidth=1)
            first += length
