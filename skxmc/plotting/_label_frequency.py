"""LabelFrequencyDisplay: precision and recall of frequent and rare labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skxmc._utils.quoting import quoted

if TYPE_CHECKING:
    from matplotlib.axes import Axes


from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from skxmc._input.types import LabelsOfTexts, Scores, Texts
from skxmc._input.validation import check_labels, names_labels
from skxmc._topk import predict_topk
from skxmc.metrics._ranking import look_up, ranked_columns
from skxmc.plotting._common import axes_for, check_choice, draw_line, import_pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D

METRICS = {"precision": ("P", "o", "-"), "recall": ("R", "s", "--")}


class LabelFrequencyDisplay:
    r"""P@k and R@k by the number of training texts of a label, from head to tail.

    Labels are put into bins by their number of training texts. For the labels of bin B, over all
    texts i, precision and recall are

    .. math::
        P_B@k = \frac{\sum_i \sum_{l \in \mathrm{rank}_k(\hat y_i) \cap B} y_{il}}
        {\sum_i |\mathrm{rank}_k(\hat y_i) \cap B|}, \qquad
        R_B@k = \frac{\sum_i \sum_{l \in \mathrm{rank}_k(\hat y_i) \cap B} y_{il}}
        {\sum_i \sum_{l \in B} y_{il}}.

    Precision is the share of the predictions from the bin that are right. Its mean, weighted by
    the number of predictions, is `skxmc.metrics.precision_at_k`. A mention is a true label of a
    text. Recall is the share of the bin's mentions that are among the k best. Its mean, weighted by
    the number of mentions, is the share of all mentions that are found.

    True labels that the model does not know count as mentions of labels without a training text.
    Read more in the user guide: :doc:`/guide/understanding`.

    Parameters
    ----------
    bins : ndarray of shape (n_bins + 1,), int
        Ascending edges. Bin j holds labels with ``bins[j]`` to ``bins[j + 1] - 1`` training texts.
    precision, recall : ndarray of shape (n_bins,), float64
        P_B@k and R_B@k. NaN means no predictions from the bin, or no mentions.
    n_labels, n_predictions, n_mentions : ndarray of shape (n_bins,), int64
        Number of labels of each bin, of predictions from it, and of mentions of its labels.
    k : int
        Number of predictions per text.
    name : str, default="Classifier"
        Name of the model, for the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    lines_ : dict of str to matplotlib Line2D
        The lines ``"precision"`` and ``"recall"``.

    See Also
    --------
    skxmc.metrics.psp_at_k : Weights rare labels more, in one number.
    skxmc.PropensityRanker : Ranks rare labels higher.

    Examples
    --------
    >>> from scipy.sparse import csr_array
    >>> from skxmc.plotting import LabelFrequencyDisplay
    >>> y_train = csr_array([[1, 0, 1], [1, 0, 0], [1, 1, 0]])
    >>> y_true = csr_array([[1, 0, 1], [0, 1, 0]])
    >>> y_score = csr_array([[0.9, 0.5, 0.1], [0.2, 0.3, 0.1]])
    >>> display = LabelFrequencyDisplay.from_predictions(y_true, y_score, y_train=y_train, k=1)
    >>> display.bins, display.precision, display.recall
    (array([ 1,  3, 10]), array([1., 1.]), array([0.5, 1. ]))
    """

    ax_: Axes
    figure_: Figure | SubFigure
    lines_: dict[str, Line2D]

    def __init__(
        self,
        *,
        bins: NDArray[np.int64],
        precision: NDArray[np.float64],
        recall: NDArray[np.float64],
        n_labels: NDArray[np.int64],
        n_predictions: NDArray[np.int64],
        n_mentions: NDArray[np.int64],
        k: int,
        name: str = "Classifier",
    ) -> None:
        self.bins = bins
        self.precision = precision
        self.recall = recall
        self.n_labels = n_labels
        self.n_predictions = n_predictions
        self.n_mentions = n_mentions
        self.k = k
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Texts,
        y: LabelsOfTexts,
        *,
        y_train: LabelsOfTexts,
        k: int = 5,
        bins: Any = "auto",
        name: str | None = None,
        ax: Axes | None = None,
        metric: str = "both",
        **line_kw: Any,
    ) -> LabelFrequencyDisplay:
        """Predict labels, and draw P@k and R@k by label frequency.

        Parameters
        ----------
        estimator : estimator
            Fitted estimator that `skxmc.predict_topk` takes, pipelines and searches included.
        X : array-like of shape (n_texts,)
            Texts, usually of a test part.
        y : sparse matrix, array, frame, or sequence of label collections
            True labels, in any form that ``fit`` takes.
        y_train : sparse matrix, array, frame, or sequence of label collections
            TRAINING labels, to count the training texts of each label.
        k : int, default=5
            Number of predictions per text.
        bins : "auto" or array-like of int, default="auto"
            Edges of the bins of frequency, as for `from_predictions`.
        name : str, default=None
            Name of the model, for the legend. None uses the name of its class.
        ax : matplotlib Axes, default=None
            Axes to draw into. None makes a figure.
        metric : {"both", "precision", "recall"}, default="both"
            Lines to draw.
        **line_kw
            Arguments of ``Axes.plot``.

        Returns
        -------
        LabelFrequencyDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If `skxmc.predict_topk` or `from_predictions` raises them.
        """
        import_pyplot(cls.__name__)
        top_k = predict_topk(estimator, X, k)
        return cls.from_predictions(
            y,
            top_k,
            y_train=y_train,
            k=k,
            bins=bins,
            classes=estimator.classes_,
            name=type(estimator).__name__ if name is None else name,
            ax=ax,
            metric=metric,
            **line_kw,
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: LabelsOfTexts,
        y_score: Scores,
        *,
        y_train: LabelsOfTexts,
        k: int = 5,
        bins: Any = "auto",
        classes: ArrayLike | None = None,
        name: str = "Classifier",
        ax: Axes | None = None,
        metric: str = "both",
        **line_kw: Any,
    ) -> LabelFrequencyDisplay:
        """Draw P@k and R@k by label frequency from predictions.

        Parameters
        ----------
        y_true : sparse matrix or array, 2-D array, frame, or sequence of collections
            True labels of n texts, as for `skxmc.metrics.precision_at_k`.
        y_score : sparse matrix, ndarray of shape (n, n_labels), or named tuple (labels, scores)
            Scores, or the result of ``predict_topk``.
        y_train : sparse matrix, array, frame, or sequence of label collections
            TRAINING labels, to count the training texts of each label.
        k : int, default=5
            Number of predictions per text.
        bins : "auto" or array-like of int, default="auto"
            Ascending edges. Labels with fewer or more training texts are left out. "auto" means 1,
            3, 10, 30, 100 and so on, up to the most frequent label. It starts with 0 if some labels
            have no training text.
        classes : array-like of shape (n_labels,), default=None
            ``classes_`` of the estimator. Required if `y_true` or `y_train` names its labels.
        name : str, default="Classifier"
            Name of the model, for the legend.
        ax : matplotlib Axes, default=None
            Axes to draw into. None makes a figure.
        metric : {"both", "precision", "recall"}, default="both"
            Lines to draw.
        **line_kw
            Arguments of ``Axes.plot``.

        Returns
        -------
        LabelFrequencyDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If `skxmc.metrics.precision_at_k` or `plot` raises them. ValueError also if `bins` are
            not ascending whole numbers.
        """
        import_pyplot(cls.__name__)
        if classes is None and (names_labels(y_true) or names_labels(y_train)):
            raise ValueError(
                "y_true or y_train names its labels, but which columns they are is not known. Pass "
                "classes=estimator.classes_."
            )
        columns, true = ranked_columns(y_true, y_score, k, classes)
        train = check_labels(y_train, name="y_train", classes=true.classes)
        frequency = np.bincount(train.matrix.indices, minlength=len(true.classes))
        unknown = np.zeros(true.n_unknown.sum(), dtype=np.int64)
        mentioned = np.append(frequency[true.matrix.indices], unknown)
        edges = _edges(bins, np.append(frequency, unknown))
        is_predicted = columns >= 0  # not so if predict_topk was given a threshold
        predicted = frequency[columns[is_predicted]]
        n_predictions = _histogram(predicted, edges)
        n_mentions = _histogram(mentioned, edges)
        n_hits = _histogram(predicted[look_up(columns, true.matrix)[is_predicted]], edges)
        display = cls(
            bins=edges,
            precision=_share(n_hits, n_predictions),
            recall=_share(n_hits, n_mentions),
            n_labels=_histogram(frequency, edges),
            n_predictions=n_predictions,
            n_mentions=n_mentions,
            k=k,
            name=name,
        )
        return display.plot(ax, metric=metric, **line_kw)

    def plot(
        self, ax: Axes | None = None, *, metric: str = "both", **line_kw: Any
    ) -> LabelFrequencyDisplay:
        """Draw the lines, also of several models into the same axes, to compare them.

        Bins without predictions and mentions are left out at both ends.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into. None makes a figure.
        metric : {"both", "precision", "recall"}, default="both"
            Lines to draw. P@k is solid and R@k dashed, in one color.
        **line_kw
            Arguments of ``Axes.plot``.

        Returns
        -------
        LabelFrequencyDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `metric` is not known, or `ax` shows other bins.
        """
        check_choice("metric", [metric], ["both", *METRICS])
        ticks = self._tick_labels()
        size = (max(6.4, 1 + 0.9 * len(ticks)), 4.8)
        (ax,) = axes_for(type(self).__name__, ax, ["frequency"], figsize=size)
        shown = [tick.get_text() for tick in ax.get_xticklabels()]
        if ax.get_lines() and shown != ticks:
            raise ValueError(
                f"ax shows other bins, or labels of other frequencies: {shown}, not {ticks}. Pass "
                "the same y_train and bins for all models, or another ax."
            )
        positions = np.arange(len(ticks))
        self.lines_ = {}
        for key in METRICS if metric == "both" else [metric]:
            letter, marker, style = METRICS[key]
            values = getattr(self, key)[::-1]
            defaults = {
                "marker": marker,
                "linestyle": style,
                "label": f"{self.name}, {letter}@{self.k}",
            }
            if self.lines_:
                defaults["color"] = next(iter(self.lines_.values())).get_color()
            self.lines_[key] = draw_line(ax, positions, values, defaults, line_kw)
        ax.set_xticks(positions, ticks, fontsize="small")
        ax.autoscale(axis="x")  # without the bins at the ends that have no point
        ax.set_xlabel("Training texts of a label (in brackets: number of labels)")
        names = dict.fromkeys(METRICS[key][0] for key in self.lines_)
        ax.set_ylabel(" and ".join(f"{letter}@{self.k}" for letter in names))
        ax.set_ylim(-0.02, 1.02)
        # The legend is above the axes, because lines may run anywhere inside. Each model has a
        # column.
        n_columns = -(-len(ax.get_lines()) // len(self.lines_))
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=n_columns, frameon=False)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _tick_labels(self) -> list[str]:
        """Describe each bin, the most frequent labels first."""
        ranges = [
            f"{low:,}" if high == low + 1 else f"{low:,}-{high - 1:,}"
            for low, high in zip(self.bins[:-1], self.bins[1:], strict=True)
        ]
        rows = zip(ranges, self.n_labels, strict=True)
        return [f"{texts}\n({n_labels:,})" for texts, n_labels in rows][::-1]


def _edges(bins: Any, frequency: NDArray[np.int64]) -> NDArray[np.int64]:
    """Check the edges of the bins, or compute "auto" edges that include every frequency."""
    if isinstance(bins, str) and bins == "auto":
        most, least = max(frequency.max(), 1), frequency.min()
        n_decades = len(str(most))
        edges = np.outer(10 ** np.arange(n_decades + 1), [1, 3]).ravel()
        edges = edges[: np.searchsorted(edges, most, side="right") + 1]
        return np.append(0, edges) if least == 0 else edges
    edges = np.asarray(bins)
    if edges.ndim != 1 or len(edges) < 2 or edges.dtype.kind not in "iu" or edges[0] < 0:
        raise ValueError(
            'bins must be "auto" or two or more ascending whole numbers from 0, got '
            f"{quoted(bins)}."
        )
    if (np.diff(edges) <= 0).any():
        raise ValueError(f"bins must ascend, got {quoted(bins)}. Pass np.unique(bins).")
    return edges.astype(np.int64)


def _histogram(frequency: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the values in each bin, without its upper edge. Values outside are ignored."""
    bin_of = np.searchsorted(edges, frequency.ravel(), side="right")
    return np.bincount(bin_of, minlength=len(edges) + 1)[1:-1]


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
