"""RecallCeilingDisplay: recall by the number of candidate clusters, or of predicted labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skxmc._input.texts import check_texts
from skxmc._input.types import LabelsOfTexts, Texts
from skxmc._input.validation import check_labels
from skxmc.plotting._common import (
    axes_for,
    draw_line,
    import_pyplot,
    reach_classifier,
    show_counts,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure
    from matplotlib.lines import Line2D


class RecallCeilingDisplay:
    """Recall by the number of candidate clusters, or of labels in the direct mode.

    The recall with b clusters is a share of the true labels of all texts. It counts those that lie
    in the b clusters with the highest scores of the recall head for their text. The ranking head
    ranks only labels of these clusters, so this recall is its ceiling. A true label that the model
    does not know counts as missed.

    In the direct mode, each label is a cluster of its own, and all are ranked. There the recall
    with b labels is the share of the true labels that are among the b best of their text.
    Read more in the user guide: :doc:`/guide/understanding`.

    Parameters
    ----------
    recall : ndarray of shape (n_clusters,), float64
        Recall with 1, 2, ... and all clusters.
    n_candidate_clusters : int or None
        Number of clusters that the model recalls per text. None in the direct mode.
    name : str, default="Classifier"
        Name of the model, for the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes.
    figure_ : matplotlib Figure
        The figure.
    line_ : matplotlib Line2D
        The recall.
    mark_ : matplotlib Line2D or None
        The point at the number of clusters in use, which the direct mode has not.

    See Also
    --------
    skxmc.LightXMLClassifier : ``n_candidate_clusters`` can be set after `fit`.

    Examples
    --------
    >>> from skxmc.plotting import RecallCeilingDisplay
    >>> display = RecallCeilingDisplay([0.6, 0.8, 0.9, 1.0], 2).plot()
    >>> display.mark_.get_xydata()
    array([[2. , 0.8]])
    """

    ax_: Axes
    figure_: Figure | SubFigure
    line_: Line2D
    mark_: Line2D | None

    def __init__(
        self,
        recall: NDArray[np.float64],
        n_candidate_clusters: int | None,
        *,
        name: str = "Classifier",
    ) -> None:
        self.recall = recall
        self.n_candidate_clusters = n_candidate_clusters
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Texts,
        y: LabelsOfTexts,
        *,
        name: str | None = None,
        ax: Axes | None = None,
        **line_kw: Any,
    ) -> RecallCeilingDisplay:
        """Rank clusters or labels for texts in one pass, and draw the share of true labels in them.

        Parameters
        ----------
        estimator : LightXMLClassifier, or a pipeline or search with one
            Fitted estimator.
        X : array-like of shape (n_texts,)
            Texts, except those of the training part, whose recall is higher.
        y : sparse matrix, array, frame, or sequence of label collections
            True labels, in any form that ``fit`` takes.
        name : str, default=None
            Name of the model, for the legend. None uses the name of its class.
        ax : matplotlib Axes, default=None
            Axes to draw into. None makes a figure.
        **line_kw
            Arguments of ``Axes.plot``, for the line.

        Returns
        -------
        RecallCeilingDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If `estimator` is not fitted.
        TypeError, ValueError
            If `estimator` holds no `LightXMLClassifier`, if texts or labels are invalid, or if no
            text has a label that the model knows.
        """
        import_pyplot(cls.__name__)
        classifier, X = reach_classifier(cls.__name__, estimator, X)
        classifier = classifier._ready()
        texts = check_texts(X)
        true = check_labels(
            y, classes=classifier.classes_, n_texts=len(texts), require_positive=True
        )
        predictor = classifier._predictor()
        n_found = predictor.true_labels_by_rank(texts, true.matrix).cumsum()
        return cls(
            n_found / (true.matrix.nnz + true.n_unknown.sum()),
            None if predictor.network.direct else predictor.n_candidate_clusters,
            name=type(estimator).__name__ if name is None else name,
        ).plot(ax, **line_kw)

    def plot(self, ax: Axes | None = None, **line_kw: Any) -> RecallCeilingDisplay:
        """Draw the recall, also of several models into the same axes, to compare them.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into. None makes a figure.
        **line_kw
            Arguments of ``Axes.plot``, for the line.

        Returns
        -------
        RecallCeilingDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        (ax,) = axes_for(type(self).__name__, ax, ["recall"])
        recall = np.asarray(self.recall)
        n_recalled = np.arange(1, len(recall) + 1)
        self.line_ = draw_line(ax, n_recalled, recall, {"label": self.name}, line_kw)
        self.mark_ = None
        if self.n_candidate_clusters is not None:
            in_use = recall[self.n_candidate_clusters - 1]
            (self.mark_,) = ax.plot(
                [self.n_candidate_clusters],
                [in_use],
                marker="o",
                linestyle="none",
                color=self.line_.get_color(),
                label=f"in use: {self.n_candidate_clusters:,} clusters, recall {in_use:.3f}",
            )
        ax.set_xscale("log")
        show_counts(ax.xaxis)
        what = "Labels predicted" if self.mark_ is None else "Clusters recalled"
        ax.set_xlabel(f"{what} per text")
        ax.set_ylabel("Recall of true labels")
        ax.legend()
        self.ax_, self.figure_ = ax, ax.figure
        return self
