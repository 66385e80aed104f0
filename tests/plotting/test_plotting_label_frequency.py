"""LabelFrequencyDisplay draws P@k and R@k from head to tail."""

import numpy as np
import pytest
from classifier_fixtures import dataset, fitted
from scipy import sparse
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline

from skxmc import LightXMLEnsemble, OmikujiClassifier, PropensityRanker, predict_topk
from skxmc._topk import TopK
from skxmc.metrics import precision_at_k
from skxmc.plotting import LabelFrequencyDisplay

plt = pytest.importorskip("matplotlib.pyplot")

X, Y = dataset()
draw = LabelFrequencyDisplay.from_predictions

# Labels 0 to 4 have 12, 4, 3, 1 and 0 training texts: bins 0, 1-2, 3-9, 10-29.
COUNTS = [12, 4, 3, 1, 0]
Y_TRAIN = sparse.csr_array((np.arange(12)[:, np.newaxis] < COUNTS).astype(int))
Y_TRUE = sparse.csr_array([[1, 1, 0, 0, 0], [1, 0, 1, 0, 1], [0, 0, 0, 0, 1]])
Y_SCORE = np.array([[9, 8, 0, 0, 1], [9, 0, 1, 8, 0], [9, 0, 8, 0, 0]])  # ranked 0 1, 0 3, 0 2


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_frequency_display_example_matches_values_by_hand():
    display = draw(Y_TRUE, Y_SCORE, y_train=Y_TRAIN, k=2)
    assert display.bins.tolist() == [0, 1, 3, 10, 30]
    assert display.n_labels.tolist() == [1, 1, 2, 1]
    assert display.n_predictions.tolist() == [0, 1, 2, 3]
    assert display.n_mentions.tolist() == [2, 0, 2, 2]
    np.testing.assert_allclose(display.precision, [np.nan, 0, 1 / 2, 2 / 3])
    np.testing.assert_allclose(display.recall, [0, np.nan, 1 / 2, 1])
    # Head first.
    np.testing.assert_array_equal(display.lines_["precision"].get_ydata(), display.precision[::-1])
    np.testing.assert_array_equal(display.lines_["recall"].get_ydata(), display.recall[::-1])
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == ["10-29\n(1)", "3-9\n(2)", "1-2\n(1)", "0\n(1)"]
    assert display.ax_.get_xlabel().startswith("Training texts of a label")
    assert display.ax_.get_ylabel() == "P@2 and R@2"


def test_frequency_display_place_without_label_is_no_prediction():
    display = draw(Y_TRUE, TopK.from_scores(Y_SCORE, 2, threshold=9), y_train=Y_TRAIN, k=2)
    assert display.n_predictions.tolist() == [0, 0, 0, 3]


def test_frequency_display_mean_over_bins_matches_precision_at_k():
    top = fitted().predict_topk(X, 5)
    display = draw(Y, top, y_train=Y)
    weights = display.n_predictions
    assert weights.sum() == 5 * len(X)
    mean = np.nansum(display.precision * weights) / weights.sum()
    assert mean == pytest.approx(precision_at_k(Y, top, k=5))
    n_found = np.nansum(display.recall * display.n_mentions)
    assert n_found == pytest.approx(np.nansum(display.precision * weights))


@pytest.mark.parametrize(
    "convert", [sparse.csr_matrix, np.asarray, lambda s: TopK(np.argsort(-s, kind="stable"), s)]
)
def test_frequency_display_any_form_of_scores_gives_same_values(convert):
    display = draw(Y_TRUE, convert(Y_SCORE), y_train=Y_TRAIN, k=2)
    assert display.n_predictions.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(display.recall, [0, np.nan, 1 / 2, 1])


def test_frequency_display_named_labels_need_classes():
    classes = list("abcde")
    y_true = [["a", "b"], ["c", "a", "e"], ["e", "new", "newer"]]
    y_train = [[classes[j] for j in Y_TRAIN[[i]].indices] for i in range(12)]
    display = draw(y_true, Y_SCORE, y_train=y_train, k=2, classes=classes)
    # Labels that the model does not know are missed, and have no training text.
    assert display.n_mentions.tolist() == [4, 0, 2, 2]
    np.testing.assert_allclose(display.recall, [0, np.nan, 1 / 2, 1])
    for named in ({"y_train": Y_TRAIN, "y_true": y_true}, {"y_train": y_train, "y_true": Y_TRUE}):
        with pytest.raises(ValueError, match=r"names its labels.*classes=estimator\.classes_"):
            draw(y_score=Y_SCORE, k=2, **named)


def test_frequency_display_unknown_labels_get_their_own_bin():
    y_true = [["a", "new"]]
    display = draw(y_true, [[1.0, 0]], y_train=[["a"], ["b"]], k=1, classes=["a", "b"])
    assert display.bins.tolist() == [0, 1, 3]
    assert display.n_labels.tolist() == [0, 2]
    assert display.recall.tolist() == [0, 1]


def test_frequency_display_given_bins_leave_out_other_labels():
    display = draw(Y_TRUE, Y_SCORE, y_train=Y_TRAIN, k=2, bins=[1, 4, 5])
    assert display.n_labels.tolist() == [2, 1]  # labels with 0 and 12 texts are left out
    assert display.n_predictions.tolist() == [2, 1]
    np.testing.assert_allclose(display.precision, [0, 1])
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == ["4\n(1)", "1-3\n(2)"]


@pytest.mark.parametrize(
    ("most", "edges"), [(1, [1, 3]), (2, [1, 3]), (3, [1, 3, 10]), (1000, [1, 3, 10, 30, 100, 300])]
)
def test_frequency_display_auto_bins_reach_most_frequent_label(most, edges):
    y_train = np.ones((most, 1))
    display = draw([[0]], [[1.0]], y_train=y_train, k=1, classes=[0])
    assert display.bins.tolist() == edges + [1000, 3000] * (most == 1000)
    assert display.n_labels[-1] == 1


def test_frequency_display_empty_bins_at_the_ends_are_not_shown():
    def shown(display):
        left, right = display.ax_.get_xlim()
        ticks = zip(display.ax_.get_xticks(), display.ax_.get_xticklabels(), strict=True)
        return [tick.get_text() for place, tick in ticks if left <= place <= right]

    # Labels 0 to 4 have 12, 4, 3, 1 and 0 training texts, and only the first three are true.
    seen = sparse.csr_array([[1, 0, 0, 0, 0], [0, 1, 1, 0, 0]])
    display = draw(seen, Y_SCORE[[0, 2]], y_train=Y_TRAIN, k=1, bins=[0, 1, 3, 10, 30, 100])
    assert shown(display) == ["10-29\n(1)", "3-9\n(2)"]
    rare = [[0, 0, 0, 1, 0], [0, 0, 0, 1, 0]]
    draw(seen, rare, y_train=Y_TRAIN, k=1, bins=[0, 1, 3, 10, 30, 100], ax=display.ax_)
    assert shown(display) == ["10-29\n(1)", "3-9\n(2)", "1-2\n(1)"]


@pytest.mark.parametrize("bins", [[1], [3, 1], [1, 1, 2], [-1, 2], [0.5, 2], "log", [[1, 2]], 5])
def test_frequency_display_bad_bins_raise_error(bins):
    with pytest.raises(ValueError, match="bins must"):
        draw(Y_TRUE, Y_SCORE, y_train=Y_TRAIN, k=2, bins=bins)


def test_frequency_display_other_training_labels_raise_error():
    with pytest.raises(ValueError, match="y_train has 4 columns, but there are 5 classes"):
        draw(Y_TRUE, Y_SCORE, y_train=Y_TRAIN[:, :4], k=2)


def test_frequency_display_metric_draws_one_line():
    display = draw(Y_TRUE, Y_SCORE, y_train=Y_TRAIN, k=2, metric="recall")
    assert list(display.lines_) == ["recall"]
    assert display.ax_.get_ylabel() == "R@2"
    with pytest.raises(ValueError, match=r"metric is \['f1'\], but must be"):
        display.plot(metric="f1")


def test_frequency_display_two_models_share_axes():
    first = draw(Y_TRUE, Y_SCORE, y_train=Y_TRAIN, k=2, name="first")
    second = draw(Y_TRUE, -Y_SCORE, y_train=Y_TRAIN, k=2, name="second", ax=first.ax_)
    assert second.figure_ is first.figure_
    texts = [text.get_text() for text in first.ax_.get_legend().get_texts()]
    assert texts == ["first, P@2", "first, R@2", "second, P@2", "second, R@2"]
    colors = [line.get_color() for line in first.ax_.get_lines()]
    assert colors[0] == colors[1] != colors[2] == colors[3]
    styles = [line.get_linestyle() for line in first.ax_.get_lines()]
    assert styles == ["-", "--", "-", "--"]
    with pytest.raises(ValueError, match="ax shows other bins"):
        draw(Y_TRUE, Y_SCORE, y_train=Y_TRAIN, k=2, bins=[1, 4, 5], ax=first.ax_)
    with pytest.raises(ValueError, match="ax shows other bins"):
        draw(Y_TRUE, Y_SCORE, y_train=Y_TRAIN[:3], k=2, ax=first.ax_)


def linear():
    return make_pipeline(TfidfVectorizer(), OneVsRestClassifier(MultinomialNB()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: fitted(),
        lambda: fitted("direct"),
        lambda: OmikujiClassifier().fit(X, Y),
        lambda: PropensityRanker(FrozenEstimator(fitted())).fit(X, Y),
        lambda: LightXMLEnsemble.from_fitted([("a", fitted()), ("b", fitted("direct"))]),
        lambda: linear().fit(X[3:], (Y[3:].toarray() > 0)),
    ],
    ids=["two-stage", "direct", "omikuji", "ranker", "ensemble", "pipeline"],
)
@pytest.mark.filterwarnings("ignore:Label not:UserWarning")
def test_frequency_display_any_estimator_matches_predict_topk(make):
    estimator = make()
    display = LabelFrequencyDisplay.from_estimator(estimator, X, Y, y_train=Y, k=3)
    same = draw(Y, predict_topk(estimator, X, 3), y_train=Y, k=3)
    np.testing.assert_array_equal(display.precision, same.precision)
    np.testing.assert_array_equal(display.recall, same.recall)
    assert display.name == type(estimator).__name__
    assert display.n_predictions.sum() == 3 * len(X)


def test_frequency_display_estimator_with_named_classes_is_drawn():
    tags = [[f"t{j}" for j in Y[[i]].indices] for i in range(len(X))]
    clf = OmikujiClassifier().fit(X, tags)
    display = LabelFrequencyDisplay.from_estimator(clf, X, tags, y_train=tags, k=2, name="words")
    assert display.n_mentions.sum() == Y.nnz
    assert display.lines_["recall"].get_label() == "words, R@2"
