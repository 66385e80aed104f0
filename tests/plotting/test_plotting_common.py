"""Behavior of all displays: lazy matplotlib, given axes, models in pipelines and searches."""

import importlib
import sys

import numpy as np
import pytest
from classifier_fixtures import dataset, fitted, make_classifier
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import skxmc.plotting
from skxmc import PropensityRanker
from skxmc.plotting import (
    LabelClustersDisplay,
    LabelFrequencyDisplay,
    RecallCeilingDisplay,
    TrainingHistoryDisplay,
)
from skxmc.plotting._common import reach_classifier

plt = pytest.importorskip("matplotlib.pyplot")

X, Y = dataset()
DRAW = {
    TrainingHistoryDisplay: lambda model, **kw: TrainingHistoryDisplay.from_estimator(model, **kw),
    LabelFrequencyDisplay: lambda model, **kw: LabelFrequencyDisplay.from_estimator(
        model, X, Y, y_train=Y, **kw
    ),
    RecallCeilingDisplay: lambda model, **kw: RecallCeilingDisplay.from_estimator(
        model, X, Y, **kw
    ),
    LabelClustersDisplay: lambda model, **kw: LabelClustersDisplay.from_estimator(model, Y, **kw),
}
all_displays = pytest.mark.parametrize("display", DRAW, ids=lambda d: d.__name__)
of_lightxml = [display for display in DRAW if display is not LabelFrequencyDisplay]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def backwards(texts):
    return [text[::-1] for text in texts]


def test_import_plotting_loads_no_matplotlib(monkeypatch):
    monkeypatch.setattr(skxmc, "plotting", skxmc.plotting)  # for the end of the test
    for name in [name for name in sys.modules if name.startswith("skxmc.plotting")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # so that importing it fails
    assert importlib.import_module("skxmc.plotting").__all__


@all_displays
def test_displays_without_matplotlib_raise_error(display, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    # The error comes before any computation, so there is no model here.
    match = rf"{display.__name__} draws with matplotlib.* not installed\. Install it: pip install"
    with pytest.raises(ImportError, match=match):
        DRAW[display](None)


@all_displays
def test_displays_estimator_not_fitted_raise_error(display):
    with pytest.raises(NotFittedError):
        DRAW[display](make_classifier())
    assert plt.get_fignums() == []


@pytest.mark.parametrize("display", of_lightxml, ids=lambda d: d.__name__)
def test_displays_other_estimator_raise_error(display):
    ranker = PropensityRanker(make_classifier(max_epochs=1)).fit(X, Y)
    with pytest.raises(TypeError, match=r"got PropensityRanker\. .* estimator_ of a Prop"):
        DRAW[display](ranker)
    assert display is type(DRAW[display](ranker.estimator_))


@all_displays
@pytest.mark.parametrize("mode", ["two-stage", "direct"])
def test_displays_without_ax_draw_into_new_figure(mode, display):
    drawn = DRAW[display](fitted(mode))
    assert plt.get_fignums() == [drawn.figure_.number]
    assert list(np.ravel(drawn.ax_)) == drawn.figure_.axes
    assert all(ax.get_ylabel() for ax in drawn.figure_.axes)
    assert drawn.figure_.axes[-1].get_xlabel()


@all_displays
def test_displays_given_axes_draw_into_them(display):
    n_panels = len(DRAW[display](fitted()).figure_.axes)
    figure, axes = plt.subplots(1, n_panels)
    drawn = DRAW[display](fitted(), ax=axes)
    assert np.ravel(drawn.ax_).tolist() == np.ravel(axes).tolist()
    assert drawn.figure_ is figure
    assert len(plt.get_fignums()) == 2
    with pytest.raises(ValueError, match=rf"ax must be {n_panels} Axes.* got {n_panels + 1}\."):
        DRAW[display](fitted(), ax=plt.subplots(1, n_panels + 1)[1])


@pytest.mark.parametrize(
    "display", [TrainingHistoryDisplay, LabelClustersDisplay], ids=lambda d: d.__name__
)
@pytest.mark.parametrize("panels", [["no such"], [], ["map", "map"], ["loss", "loss"]], ids=repr)
def test_displays_unknown_panels_raise_error(display, panels):
    with pytest.raises(ValueError, match=r"panels is \[.*\], but must be one or more of"):
        DRAW[display](fitted(), panels=panels)


def test_displays_search_or_pipeline_reach_the_classifier():
    pipeline = Pipeline(
        [("turn", FunctionTransformer(backwards)), ("no", None), ("clf", make_classifier())]
    )
    search = GridSearchCV(pipeline, {"clf__max_epochs": [1]}, cv=2, scoring=lambda *_: 0.0)
    with pytest.raises(NotFittedError):
        reach_classifier("It", search, X)
    unfinished = clone(search).set_params(refit=False).fit(X, sparse.csr_array(Y))
    with pytest.raises(TypeError, match=r"^This GridSearchCV has refit=False"):
        reach_classifier("It", unfinished, X)
    search.fit(X, sparse.csr_array(Y))
    inner = search.best_estimator_.steps[-1][1]
    assert reach_classifier("It", search)[0] is inner
    assert reach_classifier("It", search, X)[1] == backwards(X)
    through = RecallCeilingDisplay.from_estimator(search, X, Y)
    alone = RecallCeilingDisplay.from_estimator(inner, backwards(X), Y)
    np.testing.assert_array_equal(through.recall, alone.recall)
    assert (through.name, alone.name) == ("GridSearchCV", "LightXMLClassifier")
    for draw in DRAW.values():
        draw(search)
