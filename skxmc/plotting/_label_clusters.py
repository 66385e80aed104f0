"""LabelClustersDisplay: how large the clusters of labels are, and what is in them."""

from __future__ import annotations

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

from skxmc._input.ranking import check_k, top_k_of_csr
from skxmc._input.validation import check_labels, check_texts
from skxmc._model.network import LightXMLNetwork
from skxmc.plotting._common import (
    COLORS,
    axes_for,
    check_choice,
    check_two_stage,
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
# Areas of the markers on the map, in square points, of the cluster with the most texts and of one
# with none.
MOST_AREA, LEAST_AREA = 250.0, 8.0
# Where the name of a cluster may stand: horizontal and vertical direction, and alignments.
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
    r"""A map of the clusters of labels with words that name them, and their sizes.

    A cluster stands where the mean embedding of its labels lies on the first two principal
    components of all clusters' means. It is named by the words w with the highest

    .. math:: n_w \log \frac{1 + C}{C_w},

    where :math:`n_w` of its labels and labels of :math:`C_w` of all C clusters have w in what is
    written about them.

    Parameters
    ----------
    coordinates : ndarray of shape (n_clusters, 2), float64
        Of each cluster on the map.
    explained_variance_ratio : ndarray of shape (2,), float64
        Share of the variance of the clusters' means on each coordinate.
    n_texts : ndarray of shape (n_clusters,), int64
        Texts with a label of the cluster.
    n_labels : ndarray of shape (n_clusters,), int64
        Labels of the cluster.
    names : list of str, of length n_clusters
        Words that name each cluster; "" for none.

    Attributes
    ----------
    ax_ : ndarray of shape (n_panels,), of matplotlib Axes
        The panels.
    figure_ : matplotlib Figure
        What holds them.
    points_ : matplotlib PathCollection
        The clusters on the map, in their order.
    names_ : dict of int to matplotlib Annotation
        The names on the map, by number of the cluster.
    lines_ : dict of str to matplotlib Line2D
        ``"n_texts"`` and ``"n_labels"``, the sizes.

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
        y: Any,
        *,
        label_texts: Any = None,
        n_words: int = 2,
        ax: Any = None,
        panels: Sequence[str] = PANELS,
        n_names: int = 20,
    ) -> LabelClustersDisplay:
        """Draw the clusters of a fitted classifier.

        Parameters
        ----------
        estimator : LightXMLClassifier, or a pipeline or search with one
            Fitted, with clusters of more than one label.
        y : sparse matrix, array, frame, or sequence of label collections
            Labels of texts, such as the training texts, to count those of each cluster.
        label_texts : array-like of shape (n_labels,), of str or None, default=None
            What is written about each label, such as its name, in the order of ``classes_``, in
            upper or lower case. If None, ``classes_`` themselves are taken, as they are.
        n_words : int, default=2
            Words that name a cluster.
        ax : matplotlib Axes or array of them, default=None
            One for each panel; None makes a figure.
        panels : sequence of str, default=("map", "sizes")
            Which to draw, of these two.
        n_names : int, default=20
            How many clusters are named on the map, as for `plot`.

        Returns
        -------
        LabelClustersDisplay
            Drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If `estimator` is not fitted.
        TypeError, ValueError
            If `estimator` holds no `LightXMLClassifier`, or one in the direct mode, if `y` or
            `label_texts` are not what they must be, or as `plot` does.
        """
        import_pyplot(cls.__name__)
        classifier, _ = reach_classifier(cls.__name__, estimator)
        check_two_stage(cls.__name__, classifier)
        labels = check_labels(y, classes=classifier.classes_)
        cluster_of = np.asarray(classifier.clusterer_.labels_)
        membership = sparse.csr_array(
            (np.ones(len(cluster_of)), cluster_of, np.arange(len(cluster_of) + 1))
        )
        coordinates, explained = _principal_components(_mean_embeddings(classifier.network_))
        # The product has one entry for a text and a cluster, however many of its labels they share.
        texts_by_cluster = sparse.csr_array(labels.matrix @ membership)
        display = cls(
            coordinates=coordinates,
            explained_variance_ratio=explained,
            n_texts=np.bincount(texts_by_cluster.indices, minlength=membership.shape[1]),
            n_labels=np.bincount(cluster_of),
            names=_names(
                _checked_label_texts(label_texts, classifier.classes_),
                membership,
                check_k(n_words, name="n_words"),
            ),
        )
        return display.plot(ax, panels=panels, n_names=n_names)

    def plot(
        self, ax: Any = None, *, panels: Sequence[str] = PANELS, n_names: int = 20
    ) -> LabelClustersDisplay:
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            One for each panel; None makes a figure with the panels side by side.
        panels : sequence of str, default=("map", "sizes")
            Of ``"map"``, where areas go with the number of texts, and ``"sizes"``, where clusters
            are in order of their number of texts (as far as they have any), and again of labels.
        n_names : int, default=20
            At most so many clusters are named on the map, those of the most texts first; fewer
            where names would overlap, or not fit.

        Returns
        -------
        LabelClustersDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError, ValueError
            If `panels` are not known, `ax` is not one for each, or `n_names` is no whole number
            from 0.
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
        # The map last: which names have room is known once the rest has its place.
        for panel, axis in sorted(
            zip(panels, axes, strict=True), key=lambda pair: pair[0] == "map"
        ):
            if panel == "map":
                self._plot_map(axis, n_names)
            else:
                self._plot_sizes(axis)
        return self

    def _plot_map(self, ax: Axes, n_names: int) -> None:
        areas = LEAST_AREA + MOST_AREA * self.n_texts / max(self.n_texts.max(), 1)
        x, y = self.coordinates.T
        self.points_ = ax.scatter(
            x, y, s=areas, c=COLORS[0], alpha=0.5, edgecolors="white", linewidths=0.5
        )
        ax.margins(0.1)
        ax.set_title("Clusters of labels, the area by their texts", fontsize="medium")
        for axis, share, rank in zip(
            (ax.xaxis, ax.yaxis), self.explained_variance_ratio, ("First", "Second"), strict=True
        ):
            axis.set_label_text(f"{rank} principal component ({share:.0%} of the variance)")
        largest = np.argsort(-self.n_texts, kind="stable")
        named = [cluster for cluster in largest.tolist() if self.names[cluster]][:n_names]
        self.names_ = {}
        ax.figure.canvas.figure.draw_without_rendering()  # only then are layout and limits final
        radii = np.sqrt(areas) / 2
        for cluster in named:
            name = self._place_name(ax, cluster, radii)
            if name is not None:
                self.names_[cluster] = name

    def _place_name(self, ax: Axes, cluster: int, radii: NDArray[np.float64]) -> Annotation | None:
        """Write the name beside its cluster, where there is room for it and it hides the least.

        `radii` are those of the markers, in points.
        """
        from matplotlib.patheffects import withStroke

        taken = [name.get_window_extent() for name in self.names_.values()]
        centres = ax.transData.transform(self.coordinates)
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
                path_effects=[withStroke(linewidth=2, foreground="white")],  # legible on points
            )
            box = name.get_window_extent().padded(2)
            inside = ax.bbox.count_contains(box.corners()) == 4
            sides = np.minimum(box.max, centres + reach) - np.maximum(box.min, centres - reach)
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
        for key, label, style, color in (
            ("n_texts", "texts", "-", COLORS[0]),
            ("n_labels", "labels", "--", COLORS[1]),
        ):
            sizes = np.sort(getattr(self, key))[::-1]
            sizes = np.where(sizes > 0, sizes, np.nan)
            (self.lines_[key],) = ax.plot(ranks, sizes, style, color=color, label=label)
        ax.set_yscale("log")
        show_counts(ax.yaxis)
        ax.set_xlabel("Clusters, the largest first")
        ax.set_ylabel("Number in a cluster")
        ax.legend(loc="upper right")


def _mean_embeddings(network: LightXMLNetwork) -> NDArray[np.floating]:
    """Mean embedding of the labels of each cluster, (n_clusters, bottleneck_dim) float32."""
    layout, table = network.layout, network.label_table
    slots = torch.arange(layout.labels_of.numel(), device=layout.labels_of.device)
    # Slots without a label hold anything, so they are left out, not weighed with 0.
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
    """Coordinates (n_clusters, 2), and the share of the variance on each; 0 for what is not."""
    coordinates, shares = np.zeros((len(means), 2)), np.zeros(2)
    if len(means) > 1:
        n_components = min(2, means.shape[1])
        pca = PCA(n_components=n_components, svd_solver="full")
        coordinates[:, :n_components] = pca.fit_transform(means.astype(np.float64))
        shares[:n_components] = pca.explained_variance_ratio_
    return coordinates, shares


def _checked_label_texts(label_texts: Any, classes: NDArray[Any]) -> list[str]:
    if label_texts is None:
        return [str(label) for label in classes.tolist()]
    texts = check_texts(label_texts, name="label_texts", allow_empty=True, allow_missing=True)
    if len(texts) != len(classes):
        raise ValueError(
            f"label_texts has {len(texts)} entries, but there are {len(classes)} labels. Pass one "
            "text for each label, in the order of classes_, and None where a label has none."
        )
    return [text.lower() for text in texts]


def _names(texts: list[str], membership: sparse.csr_array, n_words: int) -> list[str]:
    """Name each cluster by the words frequent in its labels' texts and rare in the others'."""
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
