"""ReliabilityDisplay draws the share of true labels by score."""

import numpy as np
import pytest
from classifier_fixtures import dataset, fitted

from skxmc.metrics import ece_at_k
from skxmc.plotting import ReliabilityDisplay

plt = pytest.importorskip("matplotlib.pyplot")

X, Y = dataset()


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_reliability_display_estimators_share_axes_and_diagonal():
    clf = fitted()
    display = ReliabilityDisplay.from_estimator(clf, X, Y, k=3, n_bins=4)
    top = clf.predict_topk(X, 3)
    assert display.counts.sum() == 3 * len(X)
    assert display.ece == pytest.approx(ece_at_k(Y, top, k=3, n_bins=4))
    assert np.average(display.prob_pred, weights=display.counts) == pytest.approx(top.scores.mean())
    np.testing.assert_array_equal(display.line_.get_xdata(), display.prob_pred)
    np.testing.assert_array_equal(display.line_.get_ydata(), display.prob_true)
    other = ReliabilityDisplay.from_predictions(
        Y, top, k=1, name="first", ax=display.ax_, linewidth=3
    )
    assert other.figure_ is display.figure_
    assert other.line_.get_linewidth() == 3
    texts = [text.get_text() for text in other.ax_.get_legend().get_texts()]
    assert texts == [
        "perfectly calibrated",
        f"LightXMLClassifier (ECE {display.ece:.3f})",
        f"first (ECE {other.ece:.3f})",
    ]
    assert other.ax_.get_xlabel() == "Mean score"
    assert other.ax_.get_ylabel() == "Share of true labels"
