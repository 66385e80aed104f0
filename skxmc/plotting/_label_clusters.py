"""LabelClustersDisplay: a map of the clusters of labels or of the labels, and their sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


import re
from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import sparse
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.utils import check_scalar

from skxmc._input.per_label import LabelTexts, check_label_texts
from skxmc._input.ranking import check_k, top_k_of_csr
from skxmc._input.types import LabelsOfTexts
from skxmc._input.validation import check_labels
from skxmc._model.network import LightXMLNetwork
from skxmc._utils.quoting import shortened
from skxmc.plotting._common import (
    COLORS,
    axes_for,
    check_choice,
    import_pyplot,
    reach_classifier,
    show_counts,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.text import Annotation

PANELS = ("map", "sizes")
# Codes such as "I00-I99" are one word, and so are single letters.
WORD = r"\w+(?:[-.']\w+)*"
# Areas of the markers on the map, in square points, of a cluster without texts and of the cluster
# with the most texts.
MIN_AREA, MAX_AREA = 8.0, 258.0
# Columns of the name of a label on the map.
MAX_NAME = 30
# Places for the name of a cluster: horizontal and vertical direction, and alignments.
SIDES = (
    (1, 0, "left", "center"),
    (-1, 0, "right", "center"),
    (0, 1, "center", "bottom"),
    (0, -1, "center", "top"),
    (0.7, 0.7, "left", "bottom"),
    (-0.7, 0.7, "right", "bottom"),
    (0.7, -0.7, "left", "top"),
    (-0.7, -0.7, "right", "top"),
)


class LabelClustersDisplay:
    r"""Map of the clusters of labels with words that name them, and their sizes.

    The position of a cluster is the mean embedding of its labels, projected on the first two
    principal components of the means of all clusters. A cluster is named by the words w with the
    highest weights

    .. math:: n_w \log \frac{1 + C}{C_w}.

    Here :math:`n_w` is the number of the cluster's labels with w in their `label_texts`. Of all C
    clusters, :math:`C_w` have such a label.

    In the direct mode, each label is a cluster of its own. There the map shows the labels, named by
    their `label_texts`.
    Read more in the user guide: :doc:`/guide/understanding`.

    Parameters
    ----------
    coordinates : ndarray of shape (n_clusters, 2), float64
        Coordinates of each cluster on the map.
    explained_variance_ratio : ndarray of shape (2,), float64
        Share of the variance of the clusters' means on each coordinate.
    n_texts : ndarray of shape (n_clusters,), int64
        Number of texts with a label of the cluster.
    n_labels : ndarray of shape (n_clusters,), int64
        Number of labels of the cluster.
    names : list of str, of length n_clusters
        Words that name each cluster, "" for none.

    Attributes
    ----------
    ax_ : ndarray of shape (n_panels,), of matplotlib Axes
        The panels.
    figure_ : matplotlib Figure
        The figure.
    points_ : matplotlib PathCollection
        The clusters on the map, in their order.
    names_ : dict of int to matplotlib Annotation
        The names on the map, by number of the cluster.
    lines_ : dict of str to matplotlib Line2D
        The lines of sizes, ``"n_texts"`` and ``"n_labels"``.

    See Also
    --------
    skxmc.BalancedLabelClusterer : Makes the clusters.

    Examples
    --------
    >>> from skxmc import BalancedLabelClusterer, LightXMLClassifier
    >>> from skxmc.plotting import LabelClustersDisplay
    >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
    >>> tags = [["animals", "home"], ["finance"], ["finance", "insurance"]]
    >>> clf = LightXMLClassifier(
    ...     "sentence-transformers/all-MiniLM-L6-v2",
    ...     clusterer=BalancedLabelClusterer(max_cluster_size=2),
    ...     max_epochs=1,
    ...     random_state=0,
    ... )
    >>> display = LabelClustersDisplay.from_estimator(clf.fit(texts, tags), tags)
    >>> sorted(display.names)
    ['animals, home', 'finance, insurance']
    """

    ax_: NDArray[Any]
    figure_: Figure
    points_: PathCollection
    names_: dict[int, Annotation]
    lines_: dict[str, Line2D]

    def __init__(
        self,
        *,
        coordinates: NDArray[np.float64],
        explained_variance_ratio: NDArray[np.float64],
        n_texts: NDArray[np.int64],
        n_labels: NDArray[np.int64],
        names: list[str],
    ) -> None:
        self.coordinates = coordinates
        self.explained_variance_ratio = explained_variance_ratio
        self.n_texts = n_texts
        self.n_labels = n_labels
        self.names = names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        y: LabelsOfTexts,
        *,
        label_texts: LabelTexts | None = None,
        n_words: int = 2,
        ax: Axes | None = None,
        panels: Sequence[str] = PANELS,
        n_names: int = 20,
    ) -> LabelClustersDisplay:
        """Draw the clusters of a fitted classifier.

        Parameters
        ----------
        estimator : LightXMLClassifier, or a pipeline or search with one
            Fitted estimator.
        y : sparse matrix, array, frame, or sequence of label collections
            Labels of the training texts or of other texts, to count the texts of each cluster.
        label_texts : array-like of shape (n_labels,), of str or None, default=None
            Texts about each label, such as its name, in the order of ``classes_``. Upper and lower
            case are the same. None uses ``classes_``, with their case.
        n_words : int, default=2
            Number of words that name a cluster of more than one label.
        ax : matplotlib Axes or array of them, default=None
            One Axes per panel. None makes a figure.
        panels : sequence of str, default=("map", "sizes")
            Panels to draw, as for `plot`.
        n_names : int, default=20
            Maximum number of names on the map, as for `plot`.

        Returns
        -------
        LabelClustersDisplay
            The drawn display.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If `estimator` is not fitted.
        TypeError, ValueError
            If `estimator` holds no `LightXMLClassifier`, if `y` or `label_texts` are invalid, or if
            `plot` raises them.
        """
        import_pyplot(cls.__name__)
        classifier, _ = reach_classifier(cls.__name__, estimator)
        labels = check_labels(y, classes=classifier.classes_)
        cluster_of = np.asarray(classifier.clusterer_.labels_)
        membership = sparse.csr_array(
            (np.ones(len(cluster_of)), cluster_of, np.arange(len(cluster_of) + 1))
        )
        texts = [str(label) for label in classifier.classes_.tolist()]
        if label_texts is not None:
            texts = check_label_texts(label_texts, classifier.classes_)
        n_words = check_k(n_words, name="n_words")
        if classifier.network_.direct:
            names = [shortened(texts[label], MAX_NAME) for label in np.argsort(cluster_of)]
        else:
            texts = texts if label_texts is None else [text.lower() for text in texts]
            names = _names(texts, membership, n_words)
        coordinates, explained = _principal_components(_mean_embeddings(classifier.network_))
        # The product has one entry per text and cluster, however many labels they share.
        texts_by_cluster = sparse.csr_array(labels.matrix @ membership)
        display = cls(
            coordinates=coordinates,
            explained_variance_ratio=explained,
            n_texts=np.bincount(texts_by_cluster.indices, minlength=membership.shape[1]),
            n_labels=np.bincount(cluster_of),
            names=names,
        )
        return display.plot(ax, panels=panels, n_names=n_names)

    def plot(
        self, ax: Axes | None = None, *, panels: Sequence[str] = PANELS, n_names: int = 20
    ) -> LabelClustersDisplay:
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            One Axes per panel. None makes a figure with the panels side by side.
        panels : sequence of str, default=("map", "sizes")
            Panels to draw. ``"map"`` shows clusters with areas by their number of texts.
            ``"sizes"`` shows their numbers of texts and of labels, each in descending order.
            Clusters without texts are left out of the first line. In the direct mode there is no
            second line.
        n_names : int, default=20
            Maximum number of names on the map. Clusters with the most texts come first, and names
            that would overlap or not fit are left out.

        Returns
        -------
        LabelClustersDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If `panels` are not known, if `ax` is not one Axes per panel, or if `n_names` is not a
            whole number from 0.
        """
        check_choice("panels", panels, PANELS)
        check_scalar(n_names, "n_names", Integral, min_val=0)
        widths = [3 if panel == "map" else 2 for panel in panels]
        axes = axes_for(
            type(self).__name__,
            ax,
            panels,
            ncols=len(panels),
            width_ratios=widths,
            figsize=(2.4 * sum(widths), 5.5),
        )
        self.ax_, self.figure_ = axes, axes[0].figure
        # The map is drawn last, because the room for names is known once the rest is placed.
        for panel, axis in sorted(
            zip(panels, axes, strict=True), key=lambda pair: pair[0] == "map"
        ):
            if panel == "map":
                self._plot_map(axis, n_names)
            else:
                self._plot_sizes(axis)
        return self

    @property
    def _shows_labels(self) -> bool:
        """Whether each cluster is one label, as in the direct mode."""
        return bool(self.n_labels.max() == 1)

    def _plot_map(self, ax: Axes, n_names: int) -> None:
        areas = MIN_AREA + (MAX_AREA - MIN_AREA) * self.n_texts / max(self.n_texts.max(), 1)
        x, y = self.coordinates.T
        self.points_ = ax.scatter(
            x, y, s=areas, c=COLORS[0], alpha=0.5, edgecolors="white", linewidths=0.5
        )
        ax.margins(0.1)
        what = "Labels" if self._shows_labels else "Clusters of labels"
        ax.set_title(f"{what}, areas by number of texts", fontsize="medium")
        for axis, share, rank in zip(
            (ax.xaxis, ax.yaxis), self.explained_variance_ratio, ("First", "Second"), strict=True
        ):
            axis.set_label_text(f"{rank} principal component ({share:.0%} of the variance)")
        largest = np.argsort(-self.n_texts, kind="stable")
        named = [cluster for cluster in largest.tolist() if self.names[cluster]][:n_names]
        self.names_ = {}
        ax.figure.canvas.figure.draw_without_rendering()  # makes layout and limits final
        radii = np.sqrt(areas) / 2
        for cluster in named:
            name = self._place_name(ax, cluster, radii)
            if name is not None:
                self.names_[cluster] = name

    def _place_name(self, ax: Axes, cluster: int, radii: NDArray[np.float64]) -> Annotation | None:
        """Write the name beside its cluster, at the place with room where it hides least.

        `radii` are the radii of the markers, in points.
        """
        from matplotlib.patheffects import withStroke

        taken = [name.get_window_extent() for name in self.names_.values()]
        centers = ax.transData.transform(self.coordinates)
        reach = radii[:, np.newaxis] * ax.figure.dpi / 72
        distance = radii[cluster] + 1
        best, least_hidden = None, np.inf
        for right, up, horizontal, vertical in SIDES:
            name = ax.annotate(
                self.names[cluster],
                self.coordinates[cluster],
                xytext=(right * distance, up * distance),
                textcoords="offset points",
                ha=horizontal,
                va=vertical,
                fontsize="small",
                parse_math=False,
                path_effects=[withStroke(linewidth=2, foreground="white")],  # legible on points
            )
            box = name.get_window_extent().padded(2)
            inside = ax.bbox.count_contains(box.corners()) == 4
            sides = np.minimum(box.max, centers + reach) - np.maximum(box.min, centers - reach)
            hidden = sides.clip(min=0).prod(axis=1).sum()
            if inside and not box.count_overlaps(taken) and hidden < least_hidden:
                if best is not None:
                    best.remove()
                best, least_hidden = name, hidden
            else:
                name.remove()
        return best

    def _plot_sizes(self, ax: Axes) -> None:
        ranks = np.arange(1, len(self.n_texts) + 1)
        self.lines_ = {}
        lines = [("n_texts", "texts", "-", COLORS[0]), ("n_labels", "labels", "--", COLORS[1])]
        for key, label, style, color in lines[: 1 if self._shows_labels else 2]:
            sizes = np.sort(getattr(self, key))[::-1]
            sizes = np.where(sizes > 0, sizes, np.nan)
            (self.lines_[key],) = ax.plot(ranks, sizes, style, color=color, label=label)
        ax.set_yscale("log")
        show_counts(ax.yaxis)
        if self._shows_labels:
            ax.set_xlabel("Labels, the most frequent first")
            ax.set_ylabel("Texts per label")
            return
        ax.set_xlabel("Clusters, the largest first")
        ax.set_ylabel("Number per cluster")
        ax.legend(loc="upper right")


def _mean_embeddings(network: LightXMLNetwork) -> NDArray[np.floating]:
    """Compute the mean label embedding of each cluster, (n_clusters, bottleneck_dim) float32."""
    layout, table = network.layout, network.label_table
    slots = torch.arange(layout.labels_of.numel(), device=layout.labels_of.device)
    # Slots without a label may hold anything, even NaN, so they are left out, not weighted by 0.
    is_label = layout.labels_of.flatten() >= 0
    sizes = (layout.labels_of[:-1] >= 0).sum(dim=1)
    means = F.embedding_bag(
        slots[is_label],
        table.by_cluster().flatten(0, 1),
        offsets=sizes.cumsum(0) - sizes,
        mode="mean",
    )
    return means.float().cpu().numpy()


def _principal_components(
    means: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coordinates, (n_clusters, 2), and shares of variance. Missing components are 0."""
    coordinates, shares = np.zeros((len(means), 2)), np.zeros(2)
    if len(means) > 1:
        n_components = min(2, means.shape[1])
        pca = PCA(n_components=n_components, svd_solver="full")
        coordinates[:, :n_components] = pca.fit_transform(means.astype(np.float64))
        shares[:n_components] = pca.explained_variance_ratio_
    return coordinates, shares


def _names(texts: list[str], membership: sparse.csr_array, n_words: int) -> list[str]:
    """Name each cluster by words that are frequent in its labels' texts and rare elsewhere."""
    n_clusters = membership.shape[1]
    if not any(re.search(WORD, text) for text in texts):
        return [""] * n_clusters
    vectorizer = CountVectorizer(binary=True, lowercase=False, token_pattern=WORD)
    n_labels = sparse.csr_array(membership.T @ vectorizer.fit_transform(texts))
    n_labels.sort_indices()
    in_clusters = np.bincount(n_labels.indices, minlength=n_labels.shape[1])
    n_labels.data = n_labels.data * np.log((1 + n_clusters) / in_clusters)[n_labels.indices]
    columns, _ = top_k_of_csr(n_labels, n_words)
    words = vectorizer.get_feature_names_out()
    return [", ".join(words[row[row >= 0]]) for row in columns]
