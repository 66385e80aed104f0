"""RecallCeilingDisplay draws the share of true labels in the recalled clusters."""

import copy

import numpy as np
import pytest
from classifier_fixtures import dataset, fitted, make_classifier

from skxmc._inference import extractor
from skxmc.plotting import RecallCeilingDisplay

plt = pytest.importorskip("matplotlib.pyplot")

X, Y = dataset()
draw = RecallCeilingDisplay.from_estimator


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("sampling", ["dynamic", "static-separate"])
def test_recall_display_any_sampling_matches_candidates(sampling):
    clf = make_classifier(negative_sampling=sampling).fit(X, Y)
    clf.set_params(n_candidate_clusters=3)
    recall = draw(clf, X, Y).recall
    for b in range(1, clf.clusterer_.n_clusters_ + 1):
        candidates = clf.set_params(n_candidate_clusters=b).decision_function(X)
        found = (candidates > 0).multiply(Y).nnz
        assert recall[b - 1] == pytest.approx(found / Y.nnz)
    assert recall[-1] == 1
    assert 0 < recall[0] < 1


def test_recall_display_fitted_classifier_draws_line_and_mark():
    clf = copy.deepcopy(fitted()).set_params(n_candidate_clusters=2)
    display = draw(clf, X, Y, linewidth=3)
    np.testing.assert_array_equal(display.line_.get_xdata(), np.arange(1, 9))
    np.testing.assert_array_equal(display.line_.get_ydata(), display.recall)
    np.testing.assert_array_equal(display.mark_.get_xydata(), [[2, display.recall[1]]])
    assert display.line_.get_linewidth() == 3
    assert display.ax_.get_xscale() == "log"
    assert display.ax_.get_xlabel() == "Clusters recalled per text"
    assert display.ax_.get_ylabel() == "Recall of true labels"
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    in_use = f"in use: 2 clusters, recall {display.recall[1]:.3f}"
    assert texts == ["LightXMLClassifier", in_use]
    display.figure_.draw_without_rendering()
    ticks = {tick.get_text() for tick in display.ax_.get_xticklabels()}
    assert {"1", "2", "5"} <= ticks


def test_recall_display_direct_mode_draws_recall_of_best_labels():
    display = draw(fitted("direct"), X, Y)
    for k in (1, 5, 30):
        found = fitted("direct").decision_function(X, top_k=k)
        assert display.recall[k - 1] == pytest.approx((found > 0).multiply(Y).nnz / Y.nnz)
    assert display.n_candidate_clusters is None
    assert display.mark_ is None
    assert len(display.ax_.get_lines()) == 1
    assert display.ax_.get_xlabel() == "Labels predicted per text"


def test_recall_display_many_clusters_have_ticks_at_powers_of_10():
    ax = RecallCeilingDisplay(np.linspace(0.5, 1, 4096), 64).plot().ax_
    ax.figure.draw_without_rendering()
    ticks = [tick.get_text() for tick in ax.get_xticklabels()]
    assert ticks[-2:] == ["1,000", "10,000"] or ticks[-3:-1] == ["1,000", "10,000"]
    assert not {"2", "500"} & set(ticks)


def test_recall_display_all_clusters_in_use_marks_the_last():
    display = draw(fitted(), X, Y)  # "auto" recalls all of them
    assert display.n_candidate_clusters == 8
    np.testing.assert_array_equal(display.mark_.get_xydata(), [[8, 1]])


def test_recall_display_small_chunks_give_same_recall(monkeypatch):
    expected = draw(fitted(), X, Y).recall
    monkeypatch.setattr(extractor, "TEXTS_BLOCK", 10)
    np.testing.assert_array_equal(draw(fitted(), X, Y).recall, expected)
    one_by_one = copy.deepcopy(fitted()).set_params(prediction_batch_size=1)
    np.testing.assert_allclose(draw(one_by_one, X, Y).recall, expected, atol=0.01)


def test_recall_display_unknown_labels_count_as_missed():
    tags = [[f"t{j}" for j in Y[[i]].indices] for i in range(len(X))]
    clf = make_classifier().fit(X, tags)
    known = draw(clf, X, tags).recall
    tags[0] = [*tags[0], "new"]
    np.testing.assert_allclose(draw(clf, X, tags).recall, known * Y.nnz / (Y.nnz + 1))


def test_recall_display_two_models_share_axes():
    first = draw(fitted(), X, Y, name="first")
    second = draw(fitted(), X[:9], Y[:9], name="second", ax=first.ax_)
    lines = first.ax_.get_lines()
    assert [line.get_label() for line in lines[::2]] == ["first", "second"]
    assert first.mark_.get_color() == first.line_.get_color() != second.line_.get_color()


def test_recall_display_bad_data_raises_error():
    with pytest.raises(ValueError, match=r"y has 63 rows, but there are 64 texts"):
        draw(fitted(), X, Y[:63])
    with pytest.raises(ValueError, match="no positive label"):
        draw(fitted(), X, Y * 0)
    with pytest.raises(ValueError, match="string object received"):
        draw(fitted(), "a text", Y[:1])
