"""TrainingHistoryDisplay draws losses, learning rate and P@5 on validation."""

import numpy as np
import pytest
from classifier_fixtures import dataset, fitted, make_classifier

from skxmc.plotting import TrainingHistoryDisplay

plt = pytest.importorskip("matplotlib.pyplot")

X, Y = dataset()
PARTS = ["sum", "recall head", "ranking head"]
LOSSES = ["loss", "recall_loss", "rank_loss"]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def history(objectives, **columns):
    """Make one dict per epoch, with objectives "both", "recall" or "rank"."""
    epochs = []
    for i, objective in enumerate(objectives):
        recall, rank = 3.0 - i, 5.0 - i
        epoch = {
            "epoch": i,
            "objective": objective,
            "recall_loss": 0.0 if objective == "rank" else recall,
            "rank_loss": 0.0 if objective == "recall" else rank,
            "learning_rate": 1e-4 / (i + 1),
        }
        epoch["loss"] = epoch["recall_loss"] + epoch["rank_loss"]
        epochs.append({**epoch, **{key: values[i] for key, values in columns.items()}})
    return epochs


def shown(display, key):
    return display.lines_[key].get_ydata().tolist()


def test_history_display_two_stage_with_validation_draws_all_lines():
    clf = make_classifier(early_stopping=True, max_epochs=3).fit(X, Y)
    display = TrainingHistoryDisplay.from_estimator(clf)
    assert list(display.lines_) == [*LOSSES, "learning_rate", "valid_p_at_5"]
    for key, line in display.lines_.items():
        assert line.get_ydata().tolist() == [epoch[key] for epoch in clf.history_]
        assert line.get_xdata().tolist() == list(range(1, clf.n_iter_ + 1))
    labels = ["Training loss", "Learning rate", "P@5 on validation"]
    assert [ax.get_ylabel() for ax in display.ax_] == labels
    assert display.ax_[-1].get_xlabel() == "Epoch"
    assert [t.get_text() for t in display.ax_[0].get_legend().get_texts()] == PARTS
    assert display.ax_[1].get_legend() is None


def test_history_display_without_validation_draws_two_panels():
    display = TrainingHistoryDisplay.from_estimator(fitted())
    assert len(display.ax_) == 2
    assert "valid_p_at_5" not in display.lines_
    with pytest.raises(ValueError, match=r"without a validation part\. .*early_stopping=True"):
        display.plot(panels=["valid_p_at_5"])


def test_history_display_direct_mode_draws_rank_loss_alone():
    display = TrainingHistoryDisplay.from_estimator(fitted("direct"))
    assert list(display.lines_) == ["rank_loss", "learning_rate"]
    assert shown(display, "rank_loss") == [e["loss"] for e in fitted("direct").history_]
    assert display.ax_[0].get_legend() is None
    named = TrainingHistoryDisplay.from_estimator(fitted("direct"), name="tiny")
    assert [text.get_text() for text in named.ax_[0].get_legend().get_texts()] == ["tiny"]


def test_history_display_static_negatives_names_stages():
    clf = make_classifier(negative_sampling="static", early_stopping=True).fit(X, Y)
    display = TrainingHistoryDisplay.from_estimator(clf)
    assert list(display.lines_) == ["recall_loss", "rank_loss", "learning_rate", "valid_p_at_5"]
    names = [text.get_text() for text in display.ax_[0].texts]
    assert names == ["recall stage", "rank stage", "recall stage"]


def test_history_display_stages_are_separated():
    stages = ["recall", "recall", "rank", "rank"]
    display = TrainingHistoryDisplay(
        history(stages, valid_p_at_5=[np.nan, np.nan, 0.5, 0.6])
    ).plot()
    gap = np.nan
    np.testing.assert_array_equal(shown(display, "recall_loss"), [3, 2, gap, gap, gap])
    np.testing.assert_array_equal(shown(display, "rank_loss"), [gap, gap, gap, 3, 2])
    np.testing.assert_array_equal(shown(display, "valid_p_at_5"), [gap, gap, gap, 0.5, 0.6])
    x = display.lines_["learning_rate"].get_xdata()
    np.testing.assert_array_equal(x, [1, 2, gap, 3, 4])
    for ax in display.ax_:
        vertical = [line for line in ax.get_lines() if line.get_linestyle() == ":"]
        assert [line.get_xdata() for line in vertical] == [[2.5, 2.5]]
    assert [text.xy[0] for text in display.ax_[0].texts] == [1.5, 3.5]


def test_history_display_epochs_without_validation_have_no_point():
    epochs = history(["both"] * 2)
    epochs[1]["valid_p_at_5"] = 0.25
    display = TrainingHistoryDisplay(epochs).plot(panels=["valid_p_at_5"])
    np.testing.assert_array_equal(shown(display, "valid_p_at_5"), [np.nan, 0.25])


def test_history_display_one_panel_draws_into_given_axes():
    ax = plt.subplots()[1]
    display = TrainingHistoryDisplay(history(["both"] * 2)).plot(ax, panels=["loss"])
    assert display.ax_.tolist() == [ax]
    assert list(display.lines_) == LOSSES
    assert shown(display, "loss") == [8, 6]


def test_history_display_two_models_share_axes():
    low = TrainingHistoryDisplay(history(["both"] * 2), name="low").plot()
    high = history(["both"] * 2, recall_loss=[90.0, 80.0])
    high = TrainingHistoryDisplay(high, name="high").plot(low.ax_)
    loss = low.ax_[0]
    texts = [text.get_text() for text in loss.get_legend().get_texts()]
    assert texts == [f"{name}, {part}" for name in ("low", "high") for part in PARTS]
    assert len({line.get_color() for line in loss.get_lines()}) == 6
    bottom, top = loss.get_ylim()
    assert bottom == 0
    assert top > 90
    assert [t.get_text() for t in low.ax_[1].get_legend().get_texts()] == ["low", "high"]
    assert high.lines_["learning_rate"].get_color() != low.lines_["learning_rate"].get_color()


def test_history_display_epoch_ticks_are_whole_numbers():
    for n_epochs in (1, 2, 30):
        display = TrainingHistoryDisplay(history(["both"] * n_epochs)).plot()
        display.figure_.draw_without_rendering()
        left, right = display.ax_[-1].get_xlim()
        ticks = [t for t in display.ax_[-1].get_xticks() if left <= t <= right]
        assert ticks
        assert all(tick == round(tick) for tick in ticks)
        assert left < 1 <= n_epochs < right
    short = TrainingHistoryDisplay(history(["both"])).plot(display.ax_)
    assert short.ax_[0].get_xlim()[1] > 30


def test_history_display_line_options_reach_all_lines():
    display = TrainingHistoryDisplay(history(["both"])).plot(color="black", linewidth=3)
    assert {line.get_color() for line in display.lines_.values()} == {"black"}
    assert {line.get_linewidth() for line in display.lines_.values()} == {3}
