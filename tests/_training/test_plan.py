"""Time limits, and what the user is told about the time that training takes."""

import itertools
import warnings
from types import SimpleNamespace

import pytest
from classifier_fixtures import dataset, make_classifier
from training_fixtures import run

from skxmc import BalancedLabelClusterer
from skxmc._training import build, plan
from skxmc._training.plan import StepPlan, duration
from skxmc._utils import progress

X, Y = dataset()


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that stands still until its `now` is changed."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(plan.time, "perf_counter", lambda: clock.now)
    return clock


def planned(clock, n_steps, deadline, seconds):
    """Return the planned number of steps after each of them, and what the user was told."""
    told = []
    steps = StepPlan(n_steps, deadline, lambda *args: told.append(args))
    found = []
    for step, duration_of_step in enumerate(seconds, start=1):
        clock.now += duration_of_step
        steps.note(step, wait=lambda: None)
        found.append(steps.n_steps)
        if step >= steps.n_steps:
            break
    return found, told


# ---------------------------------------------------------------- the plan


def test_plan_without_deadline_keeps_all_steps(clock):
    found, told = planned(clock, 1000, None, [1.0] * 40)
    assert set(found) == {1000}
    assert told == [(1.0, 982)]  # after two steps of warm-up and 16 timed ones


def test_plan_deadline_steps_end_in_time(clock):
    found, told = planned(clock, 1000, 100.0, [5.0, 5.0] + [1.0] * 200)
    assert found[8:10] == [1000, 92]  # ten steps have taken 18 s, and 82 more fit
    assert len(found) == 92
    assert clock.now == 100.0
    assert told == [(1.0, 74)]


def test_plan_deadline_beyond_all_steps_changes_nothing(clock):
    found, _ = planned(clock, 50, 1e6, [1.0] * 60)
    assert set(found) == {50}
    assert len(found) == 50


def test_plan_deadline_steps_that_slow_down_are_fewer(clock):
    found, _ = planned(clock, 1000, 100.0, [1.0] * 20 + [2.0] * 200)
    assert found[15] == 100
    assert len(found) == 60
    assert clock.now == 100.0


def test_plan_deadline_before_first_measurement_stops_at_once(clock):
    found, _ = planned(clock, 1000, 3.0, [2.0] * 10)
    assert found == [1000, 2]


def test_plan_waits_for_device_only_when_it_measures(clock):
    waits = []
    steps = StepPlan(1000, None, lambda *args: None)
    for step in range(1, 100):
        clock.now += 1.0
        steps.note(step, wait=lambda step=step: waits.append(step))
    assert waits == [2, 10, 18, 34, 66]


# ---------------------------------------------------------------- the trainer


def test_trainer_deadline_ends_within_epoch_with_rates_near_0(make_trainer, clock):
    trainer = make_trainer(max_epochs=3, time_limit=20.0)  # 8 steps per epoch
    rates, train_step = [], trainer.train_step

    def step(rows, factor):
        clock.now += 1.0
        rates.append(factor)
        return train_step(rows, factor)

    trainer.train_step = step
    trainer.plan.deadline = 20.0
    history = run(trainer)
    assert [epoch["n_steps"] for epoch in history] == [8, 8, 4]
    assert len(rates) == 20
    assert rates[-1] < 0.1 < rates[10]
    assert history[-1]["loss"] < history[0]["loss"]


def test_trainer_resume_keeps_planned_steps(make_trainer):
    trainer = make_trainer(time_limit=100.0)
    trainer.plan.deadline, trainer.plan.n_steps = 1e9, 5
    state = trainer.state_dict()
    resumed = make_trainer(time_limit=100.0)
    resumed.plan.deadline = 1e9
    resumed.load_state_dict(state)
    assert resumed.plan.n_steps == 5
    without_limit = make_trainer()
    without_limit.load_state_dict(state)
    assert without_limit.plan.n_steps == 16


# ---------------------------------------------------------------- fit


def test_fit_time_limit_takes_less_dropout_and_fewer_steps():
    clf = make_classifier(max_epochs=500, dropout="auto", encoder_dropout="auto", time_limit=1e-9)
    clf.fit(X, Y)
    assert [epoch["n_steps"] for epoch in clf.history_] == [1]
    assert clf.network_.dropout.p == 0.3
    assert clf.predict_topk(X[:3], k=2).labels.shape == (3, 2)


def test_fit_time_limit_encodes_fewer_texts_for_the_start(monkeypatch):
    seen = []
    start = build.start_at_centroids

    def noted(*args, max_texts, **kwargs):
        seen.append(max_texts)
        return start(*args, max_texts=max_texts, **kwargs)

    monkeypatch.setattr(build, "start_at_centroids", noted)
    make_classifier(max_epochs=1, time_limit=1e-9).fit(X, Y)
    make_classifier(max_epochs=1).fit(X, Y)
    assert seen[0] <= len(X)
    assert seen[1] == build.MAX_TEXTS


def test_fit_static_phases_share_the_time_limit(monkeypatch):
    deadlines = []
    ticks = itertools.count(0.0, 1e-9)
    monkeypatch.setattr(plan.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(
        "skxmc._training.trainer.StepPlan",
        lambda n_steps, deadline, tell: (
            deadlines.append(deadline) or StepPlan(n_steps, deadline, tell)
        ),
    )
    clf = make_classifier(
        max_epochs=1,
        time_limit=90.0,
        negative_sampling="static",
        clusterer=BalancedLabelClusterer(4),
    )
    clf.fit(X, Y)
    assert deadlines == pytest.approx([30.0, 45.0, 90.0])


@pytest.mark.parametrize("time_limit", [0, -1.0, "1h"])
def test_fit_time_limit_out_of_range_raises(time_limit):
    with pytest.raises(ValueError, match="time_limit"):
        make_classifier(time_limit=time_limit).fit(X, Y)


# ---------------------------------------------------------------- what the user is told


def told(verbose, seconds, deadline=None, n_phases=1):
    settings = SimpleNamespace(verbose=verbose, deadline=deadline)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plan.tell_time(settings, n_phases, seconds, 1000)
    return [str(warning.message) for warning in caught]


def test_tell_time_long_fit_warns_with_remedies():
    (message,) = told(0, 0.5, n_phases=2)
    assert message.startswith("Training will take about 17 minutes: 2,000 steps of 0.5 s. Set")
    assert "verbose=1" in message
    assert "time_limit" in message


def test_tell_time_short_or_limited_fit_does_not_warn(capsys):
    assert told(0, 0.29) == told(0, 9.0, deadline=1e9) == []
    assert capsys.readouterr().err == ""


def test_tell_time_verbose_prints_instead(capsys):
    assert told(1, 0.009) == []
    assert capsys.readouterr().err == ""
    assert told(1, 9.0) == []
    assert "training will take about 2.5 hours: 1,000 steps of 9 s" in capsys.readouterr().err


def test_fit_verbose_1_tells_the_task(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BEFORE_BAR", 0.0)
    make_classifier(max_epochs=2, verbose=1).fit(X, Y)
    shown = capsys.readouterr().err
    n_steps = -(-len(X) // make_classifier().batch_size)
    assert f"{len(X)} texts of " in shown
    assert f" tokens on average, {Y.shape[1]} labels, " in shown
    assert f"2 x {n_steps} steps" in shown
    assert f"tokenizing: {len(X)}/{len(X)}" in shown


def test_duration_takes_the_unit_that_reads_well():
    assert [duration(s) for s in (4.2, 99, 150, 5000, 20160)] == [
        "4 s", "99 s", "2 minutes", "83 minutes", "5.6 hours",
    ]  # fmt: skip
