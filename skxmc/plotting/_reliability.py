"""ReliabilityDisplay: share of true labels by score."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skxmc._input.types import LabelsOfTexts, Scores, Texts
from skxmc._topk import predict_topk
from skxmc.metrics._calibration import reliability_at_k
from skxmc.plotting._common import GRAY, axes_for, draw_line, import_pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

PERFECT = "perfectly calibrated"


class ReliabilityDisplay:
    """Share of true labels among the k best, by score.

    The predictions of all texts are put into bins of equal width by their score. If scores are
    probabilities, the share of true labels in a bin is the mean score, and the line is the
    diagonal. Below it, scores are too high. Read more in the user guide: :doc:`/guide/decisions`.

    Parameters
    ----------
    prob_true : ndarray of shape (n_bins,), float64
        Share of true labels in each bin.
    prob_pred : ndarray of shape (n_bins,), float64
        Mean score in each bin.
    counts : ndarray of shape (n_bins,), int64
        Number of predictions in each bin.
    ece : float
        Expected calibration error, see `skxmc.metrics.ece_at_k`.
    name : str, default="Classifier"
        Name of the model, for the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    line_ : matplotlib Line2D
        The share of true labels.

    See Also
    --------
    skxmc.CalibratedClassifier : Makes scores probabilities.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.plotting import ReliabilityDisplay
    >>> y_score = np.array([[0.9, 0.2], [0.8, 0.3]])
    >>> display = ReliabilityDisplay.from_predictions([[0], [1]], y_score, classes=[0, 1], k=1)
    >>> display.prob_true, display.counts
    (array([0., 1.]), array([1, 1]))
    """

    ax_: Axes
    figure_: Figure | SubFigure
    line_: Line2D

    def __init__(
        self,
        prob_true: NDArray[np.float64],
        prob_pred: NDArray[np.float64],
        counts: NDArray[np.int64],
        ece: float,
        *,
        name: str = "Classifier",
    ) -> None:
        self.prob_true = prob_true
        self.prob_pred = prob_pred
        self.counts = counts
        self.ece = ece
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Texts,
        y: LabelsOfTexts,
        *,
        k: int = 5,
        n_bins: int = 10,
        name: str | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> ReliabilityDisplay:
        """Predict labels, and draw the share of true ones by score.

        Parameters
        ----------
        estimator : estimator
            Fitted estimator that `skxmc.predict_topk` takes, pipelines and searches included.
        X : array-like of shape (n_texts,)
            Texts that the estimator has not seen.
        y : sparse matrix, array, frame, or sequence of label collections
            True labels, in any form that ``fit`` takes.
        k : int, default=5
            Number of predictions per text.
        n_bins : int, default=10
            Number of bins. Empty ones are left out.
        name : str, default=None
            Name of the model, for the legend. None uses the name of its class.
        ax : matplotlib Axes, default=None
            Axes to draw into. None makes a figure.
        **line_kw
            Arguments of ``Axes.plot``.

        Returns
        -------
        ReliabilityDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If `skxmc.predict_topk` or `skxmc.metrics.ece_at_k` raises them.
        """
        import_pyplot(cls.__name__)
        return cls.from_predictions(
            y,
            predict_topk(estimator, X, k),
            k=k,
            n_bins=n_bins,
            classes=estimator.classes_,
            name=type(estimator).__name__ if name is None else name,
            ax=ax,
            **line_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: LabelsOfTexts,
        y_score: Scores,
        *,
        k: int = 5,
        n_bins: int = 10,
        classes: ArrayLike | None = None,
        name: str = "Classifier",
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> ReliabilityDisplay:
        """Draw the share of true labels by score from predictions.

        Parameters
        ----------
        y_true : sparse matrix or array, 2-D array, frame, or sequence of collections
            True labels of n texts, as for `skxmc.metrics.precision_at_k`.
        y_score : sparse matrix, ndarray of shape (n, n_labels), or named tuple (labels, scores)
            Scores from 0 to 1, or the result of ``predict_topk``.
        k : int, default=5
            Number of predictions per text.
        n_bins : int, default=10
            Number of bins. Empty ones are left out.
        classes : array-like of shape (n_labels,), default=None
            ``classes_`` of the estimator, as for `skxmc.metrics.precision_at_k`.
        name : str, default="Classifier"
            Name of the model, for the legend.
        ax : matplotlib Axes, default=None
            Axes to draw into. None makes a figure.
        **line_kw
            Arguments of ``Axes.plot``.

        Returns
        -------
        ReliabilityDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If `skxmc.metrics.ece_at_k` raises them.
        """
        import_pyplot(cls.__name__)
        reliability = reliability_at_k(y_true, y_score, k, n_bins, classes)
        return cls(*reliability, reliability.ece, name=name).plot(ax, **line_kw)

    def plot(self, ax: Axes | None = None, **line_kw: Any) -> ReliabilityDisplay:
        """Draw the line, also of several models into the same axes, to compare them.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into. None makes a figure.
        **line_kw
            Arguments of ``Axes.plot``.

        Returns
        -------
        ReliabilityDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        (ax,) = axes_for(type(self).__name__, ax, ["reliability"])
        if PERFECT not in [line.get_label() for line in ax.get_lines()]:
            ax.plot([0, 1], [0, 1], linestyle=":", color=GRAY, label=PERFECT)
        defaults = {"label": f"{self.name} (ECE {self.ece:.3f})", "marker": "o"}
        self.line_ = draw_line(ax, self.prob_pred, self.prob_true, defaults, line_kw)
        ax.set_xlim(0, 1)
        ax.set_ylim(0, 1)
        ax.set_aspect("equal")
        ax.set_xlabel("Mean score")
        ax.set_ylabel("Share of true labels")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
