"""LabelClustersDisplay draws the map of clusters, their names and sizes."""

import numpy as np
import pytest
from classifier_fixtures import dataset, fitted, make_classifier
from scipy import sparse

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc.plotting import LabelClustersDisplay
from skxmc.plotting._label_clusters import _mean_embeddings, _names

plt = pytest.importorskip("matplotlib.pyplot")

X, Y = dataset()
draw = LabelClustersDisplay.from_estimator


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def make_display(n_clusters=3, **data):
    defaults = {
        "coordinates": np.arange(2.0 * n_clusters).reshape(n_clusters, 2),
        "explained_variance_ratio": np.array([0.5, 0.25]),
        "n_texts": np.arange(n_clusters),
        "n_labels": np.full(n_clusters, 4),
        "names": [f"name {i}" for i in range(n_clusters)],
    }
    return LabelClustersDisplay(**{**defaults, **data})


def label_vectors(clf):
    """Return the embedding of each label, from the table."""
    layout, table = clf.network_.layout, clf.network_.label_table.by_cluster().float().numpy()
    return table[layout.cluster_of.numpy(), layout.slot_of.numpy()]


def test_clusters_display_fitted_classifier_shows_sizes():
    clusters = fitted().clusterer_.labels_
    display = draw(fitted(), Y)
    dense = Y.toarray() > 0
    n_texts = [dense[:, clusters == c].any(axis=1).sum() for c in range(8)]
    n_labels = [(clusters == c).sum() for c in range(8)]
    assert display.n_texts.tolist() == n_texts
    assert display.n_labels.tolist() == n_labels
    assert display.lines_["n_texts"].get_ydata().tolist() == sorted(n_texts, reverse=True)
    assert display.lines_["n_labels"].get_ydata().tolist() == sorted(n_labels, reverse=True)
    sizes = display.ax_[1]
    assert sizes.get_xlabel() == "Clusters, the largest first"
    assert sizes.get_ylabel() == "Number per cluster"
    assert sizes.get_yscale() == "log"


def test_clusters_display_clusters_without_text_have_no_point():
    display = make_display(n_texts=np.array([0, 7, 2])).plot()
    np.testing.assert_array_equal(display.lines_["n_texts"].get_ydata(), [7, 2, np.nan])
    make_display(n_texts=np.zeros(3, dtype=int)).plot().figure_.draw_without_rendering()


def test_clusters_display_map_matches_pca_of_mean_embeddings():
    clf = fitted()
    vectors = label_vectors(clf)
    means = np.array([vectors[clf.clusterer_.labels_ == c].mean(axis=0) for c in range(8)])
    np.testing.assert_allclose(_mean_embeddings(clf.network_), means, rtol=1e-5, atol=1e-7)
    display = draw(clf, Y)
    centered = means - means.mean(axis=0)
    distances = np.linalg.norm(display.coordinates, axis=1)
    left, singular, _ = np.linalg.svd(centered, full_matrices=False)
    np.testing.assert_allclose(distances, np.linalg.norm(left[:, :2] * singular[:2], axis=1), 1e-4)
    share = singular[:2] ** 2 / (singular**2).sum()
    np.testing.assert_allclose(display.explained_variance_ratio, share, rtol=1e-4)
    np.testing.assert_array_equal(display.points_.get_offsets(), display.coordinates)
    assert display.ax_[0].get_xlabel().startswith(f"First principal component ({share[0]:.0%}")
    assert display.ax_[0].get_ylabel().startswith(f"Second principal component ({share[1]:.0%}")
    areas = display.points_.get_sizes()
    assert (np.argsort(areas, kind="stable") == np.argsort(display.n_texts, kind="stable")).all()


def test_mean_embeddings_slots_without_label_do_not_count():
    clf = make_classifier().fit(X, Y)
    empty = clf.network_.layout.labels_of < 0
    assert empty[:-1].any()
    expected = _mean_embeddings(clf.network_)
    clf.network_.label_table.by_cluster()[empty] = np.nan
    np.testing.assert_array_equal(_mean_embeddings(clf.network_), expected)


def test_clusters_display_half_precision_model_has_close_map(tmp_path):
    fitted().save_pretrained(tmp_path / "model", dtype="float16")
    loaded = LightXMLClassifier.from_pretrained(tmp_path / "model")
    display = draw(loaded, Y)
    np.testing.assert_allclose(display.coordinates, draw(fitted(), Y).coordinates, atol=0.02)


@pytest.mark.parametrize("params", [{"bottleneck_dim": 1}, {"size": 30}], ids=str)
def test_clusters_display_few_dimensions_set_missing_ones_to_0(params):
    clusterer = BalancedLabelClusterer(max_cluster_size=params.pop("size", 4))
    display = draw(make_classifier(clusterer=clusterer, **params).fit(X, Y), Y)
    assert np.isfinite(display.coordinates).all()
    assert display.coordinates[:, 1].tolist() == [0] * len(display.n_texts)
    assert display.explained_variance_ratio[1] == 0


def test_cluster_names_are_frequent_here_and_rare_elsewhere():
    texts = [
        "disease of the heart",
        "disease of the valves of the heart",
        "heart disease",
        "disease of the eye",
        "the eye",
        "",
    ]
    membership = sparse.csr_array(np.repeat(np.eye(3), [3, 2, 1], axis=0))
    # Cluster 0: heart 3 ln(4 / 1), disease 3 ln(4 / 2), valves ln(4 / 1).
    # Cluster 1: eye 2 ln(4 / 1), the 2 ln(4 / 2).
    assert _names(texts, membership, 1) == ["heart", "eye", ""]
    assert _names(texts, membership, 2) == ["heart, disease", "eye, the", ""]
    assert _names(["+", "&"], sparse.csr_array(np.eye(2)), 2) == ["", ""]
    assert _names(["one cluster"], sparse.csr_array([[1]]), 3) == ["cluster, one"]


def test_cluster_names_codes_are_kept_as_words():
    codes = ["I00-I99", "X", "I20.1", "o'clock"]
    assert _names(codes, sparse.csr_array(np.eye(4)), 2) == codes


def test_clusters_display_direct_mode_shows_labels():
    clf = fitted("direct")
    texts = [f"Label {label} costs $5 or $6" for label in range(30)]
    label_of = np.argsort(clf.clusterer_.labels_)
    display = draw(clf, Y, label_texts=texts)
    assert display.names == [texts[label] for label in label_of]
    display.figure_.draw_without_rendering()  # dollars are no formula
    assert display.n_texts.tolist() == np.bincount(Y.indices, minlength=30)[label_of].tolist()
    assert list(display.lines_) == ["n_texts"]
    assert display.ax_[1].get_xlabel() == "Labels, the most frequent first"
    assert display.ax_[1].get_legend() is None
    assert display.ax_[0].get_title() == "Labels, areas by number of texts"
    assert draw(clf, Y).names == [str(label) for label in label_of]
    long = draw(clf, Y, label_texts=[f"{label} {'x' * 99} end" for label in range(30)])
    assert {len(name) for name in long.names} == {30}


def test_cluster_names_come_from_label_texts_or_classes():
    tags = [[f"Tag{j}" for j in Y[[i]].indices] for i in range(len(X))]
    clf = make_classifier().fit(X, tags)
    names = draw(clf, tags, n_words=9).names
    words = {word for name in names for word in name.split(", ")}
    assert words == set(clf.classes_)
    texts = [f"Label {tag}" if i else None for i, tag in enumerate(clf.classes_)]
    names = draw(clf, tags, label_texts=texts, n_words=9).names
    words = {word for name in names for word in name.split(", ")}
    assert words == {"label", *(tag.lower() for tag in clf.classes_[1:])}
    with pytest.raises(ValueError, match=r"label_texts has 2 entries, but there are \d+ labels"):
        draw(clf, tags, label_texts=["a", "b"])
    with pytest.raises(ValueError, match="n_words is 0"):
        draw(clf, tags, n_words=0)


def test_clusters_display_n_names_names_the_largest_clusters():
    display = make_display(5, names=["a", "b", "", "d", "e"]).plot(n_names=3)
    assert sorted(display.names_) == [1, 3, 4]
    assert [display.names_[i].get_text() for i in (1, 3, 4)] == ["b", "d", "e"]
    assert display.names_[4].xy == pytest.approx((8, 9))
    assert make_display().plot(n_names=0).names_ == {}
    for wrong in (-1, 2.5):
        with pytest.raises((ValueError, TypeError), match="n_names"):
            display.plot(n_names=wrong)


def test_clusters_display_many_names_do_not_overlap():
    rng = np.random.default_rng(0)
    display = make_display(
        40,
        coordinates=rng.normal(size=(40, 2)) ** 3,
        n_texts=np.arange(40)[::-1],
        names=[f"quite a long name {i}" for i in range(40)],
    ).plot(n_names=40)
    boxes = [name.get_window_extent() for name in display.names_.values()]
    assert 8 < len(boxes) < 40
    assert 0 in display.names_
    display.figure_.draw_without_rendering()
    for i, box in enumerate(boxes):
        assert display.ax_[0].bbox.count_contains(box.corners()) == 4
        assert box.count_overlaps(boxes[:i]) == 0
    assert len(display.ax_[0].texts) == len(boxes)  # names without room are removed


def test_clusters_display_names_hide_few_clusters():
    # The second cluster is to the right of the first, so the name goes to the left.
    display = make_display(
        2,
        coordinates=np.array([[0.0, 0], [0.1, 0]]),
        n_texts=np.array([9, 1]),
    )
    ax = plt.subplots()[1]
    ax.set_xlim(-1, 1)
    name = display.plot(ax, panels=["map"]).names_[0]
    box = name.get_window_extent()
    assert box.count_contains(ax.transData.transform(display.coordinates)) == 0


def test_clusters_display_names_hide_little_of_large_clusters():
    """A name does not hide the edge of a large cluster if there is another place."""
    ax = plt.figure(figsize=(400 / 72, 300 / 72)).add_axes([0, 0, 1, 1])
    ax.set(xlim=(0, 400), ylim=(0, 300))  # in points
    display = make_display(
        2,
        coordinates=np.array([[200.0, 150], [215, 162]]),
        n_texts=np.array([1, 999]),
        names=["here", ""],
    ).plot(ax, panels=["map"])
    box = display.names_[0].get_window_extent().transformed(ax.transData.inverted())
    radius = np.sqrt(display.points_.get_sizes()[1]) / 2
    assert radius > 7
    assert box.x1 < 215 - radius or box.y1 < 162 - radius


def test_clusters_display_panels_are_drawn_in_given_order():
    display = draw(fitted(), Y, panels=["sizes"])
    assert len(display.ax_) == 1
    assert not hasattr(display, "points_")
    swapped = draw(fitted(), Y, panels=["sizes", "map"])
    assert swapped.ax_[0].get_ylabel() == "Number per cluster"
    assert swapped.points_.axes is swapped.ax_[1]


def test_clusters_display_other_number_of_labels_raises_error():
    with pytest.raises(ValueError, match="y has 29 columns, but there are 30 classes"):
        draw(fitted(), Y[:, :29])
