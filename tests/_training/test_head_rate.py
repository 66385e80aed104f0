"""The rate of the heads that `head_learning_rate="auto"` chooses."""

import dataclasses
import functools
import json
import time

import numpy as np
import pytest
import torch
from classifier_fixtures import make_classifier
from stopped_training import assert_resumes, assert_same_model
from training_fixtures import N_LABELS, weights
from trial_fixtures import N_SAMPLE, trial_arguments

from skxmc import LightXMLClassifier
from skxmc._storage.plain import DESCRIPTION
from skxmc._storage.pretrained import read_model
from skxmc._training import head_rate, trials
from skxmc._training.head_rate import LOW_RATE, choose_head_rate
from skxmc._training.settings import HEAD_RATE
from skxmc._training.trainer import TrainingSet
from skxmc.datasets import make_xmc


@pytest.fixture(params=["two-stage", "direct"])
def trainer(request, make_trainer):
    return make_trainer(direct=request.param == "direct")


@pytest.mark.parametrize("first_row", [0, 50])
@pytest.mark.parametrize(("is_clean", "expected"), [(True, HEAD_RATE), (False, LOW_RATE)])
def test_choose_head_rate_low_only_if_labels_are_noisy(trainer, is_clean, expected, first_row):
    given = trial_arguments(trainer, is_clean=is_clean, first_row=first_row)
    assert choose_head_rate(*given, min_texts=N_SAMPLE) == expected


def test_choose_head_rate_leaves_network_and_generators_as_they_are(trainer):
    given = trial_arguments(trainer, is_clean=True)
    before = weights(trainer.network)
    state = torch.get_rng_state()
    choose_head_rate(*given, min_texts=0)
    assert torch.equal(torch.get_rng_state(), state)
    after = weights(trainer.network)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_choose_head_rate_trains_on_known_texts_only(trainer, monkeypatch):
    """Held-out texts count neither in the centroids nor in training."""
    started, scored = [], []
    start, score = trials.start_at_centroids, trials.Trial.score

    def note_start(network, y, *args, **kwargs):
        started.append(y.shape[0])
        return start(network, y, *args, **kwargs)

    def note_score(trial, network):
        scored.append(trial.y_unknown.shape[0])
        return score(trial, network)

    monkeypatch.setattr(trials, "start_at_centroids", note_start)
    monkeypatch.setattr(trials.Trial, "score", note_score)
    choose_head_rate(*trial_arguments(trainer, is_clean=True), min_texts=0)
    assert started == [N_SAMPLE * 4 // 5]
    assert scored == 2 * [N_SAMPLE // 5]


def test_choose_head_rate_trials_differ_from_training_in_length_only(trainer, monkeypatch):
    """Weights of texts and labels count, and a trial averages nothing."""
    network, data, y, sample, settings = trial_arguments(trainer, is_clean=True)
    weights = np.linspace(1, 2, len(data)).astype(np.float32)
    label_weights = np.linspace(1, 3, N_LABELS).astype(np.float32)
    data = TrainingSet(data.tokens, y, data.device, weights, label_weights)
    now = time.perf_counter()
    settings = dataclasses.replace(
        settings, max_epochs=7, swa_start=1, n_iter_no_change=1, deadline=now + 1000, verbose=1
    )
    runs, started = [], []

    class Noted(head_rate.Trainer):
        def __init__(self, network, data, settings, rng, **options):
            runs.append((network, data, settings, options["deadline"]))
            super().__init__(network, data, settings, rng, **options)

    set_priors, start_at_centroids = trials.set_priors, trials.start_at_centroids

    def note_priors(network, y, weights):
        started.append(weights)
        set_priors(network, y, weights)

    def note_centroids(*args, weights):
        started.append(weights)
        start_at_centroids(*args, weights=weights)

    monkeypatch.setattr(head_rate, "Trainer", Noted)
    monkeypatch.setattr(trials, "set_priors", note_priors)
    monkeypatch.setattr(trials, "start_at_centroids", note_centroids)
    choose_head_rate(network, data, y, sample, settings, min_texts=0)
    known = sample.rows[np.arange(N_SAMPLE) % 5 != 0]
    assert [run[2].head_learning_rate for run in runs] == [HEAD_RATE, LOW_RATE]
    for trained, part, used, deadline in runs:
        assert not any(p.requires_grad for p in trained.encoder.parameters())
        assert trained.encoder is network.encoder
        assert np.allclose(part.weights, weights[known] / weights[known].mean())
        assert (part.label_weights == label_weights).all()
        assert (used.max_epochs, used.swa_start, used.n_iter_no_change) == (2, None, None)
        assert used.verbose == 0
        assert now + 20 < deadline < now + 40
    assert len(started) == 2
    for given in started:
        assert np.allclose(given / given.mean(), weights[known] / weights[known].mean())


def test_choose_head_rate_low_must_be_clearly_better(trainer, monkeypatch):
    given = trial_arguments(trainer, is_clean=True)
    for low, expected in [(0.509, HEAD_RATE), (0.511, LOW_RATE)]:
        found = iter([0.5, low])
        monkeypatch.setattr(trials.Trial, "score", lambda *args, found=found: next(found))
        assert choose_head_rate(*given, min_texts=0) == expected


def test_choose_head_rate_says_what_it_does(trainer, capsys):
    *given, settings = trial_arguments(trainer, is_clean=True)
    choose_head_rate(*given, dataclasses.replace(settings, verbose=1), min_texts=0)
    said = capsys.readouterr().err
    assert said == "trying two rates of the heads on 600 texts\nthe rate of the heads is 0.002\n"


def test_choose_head_rate_few_texts_or_large_table_takes_the_usual(trainer, monkeypatch):
    given = trial_arguments(trainer, is_clean=False)
    assert choose_head_rate(*given, min_texts=N_SAMPLE + 1) == HEAD_RATE
    monkeypatch.setattr(trials, "MAX_ENTRIES", trainer.network.label_table.n_entries - 1)
    assert choose_head_rate(*given, min_texts=0) == HEAD_RATE


@pytest.fixture
def choosing_low(monkeypatch):
    """Let the choice fall on the low rate, and count how often it is made."""
    calls = []

    def choose(*args):
        calls.append(args)
        return LOW_RATE

    monkeypatch.setattr("skxmc._training.build.choose_head_rate", choose)
    return calls


X, Y = make_xmc(64, 30, n_labels_per_sample=2, random_state=0)


@pytest.mark.parametrize("mode", ["direct", "two-stage"])
def test_fit_auto_trains_like_the_chosen_rate(mode, choosing_low):
    clf = make_classifier(mode, head_learning_rate="auto").fit(X, Y)
    same = make_classifier(mode, head_learning_rate=LOW_RATE).fit(X, Y)
    assert len(choosing_low) == 1
    assert clf.head_learning_rate_ == same.head_learning_rate_ == LOW_RATE
    assert_same_model(clf, same)


def test_fit_auto_trial_leaves_training_as_it_is():
    data = make_xmc(trials.MIN_TEXTS, 30, n_words=40, random_state=0)
    params = {"max_epochs": 1, "batch_size": 64, "max_length": 16}
    clf = make_classifier("direct", head_learning_rate="auto", **params).fit(*data)
    rate = clf.head_learning_rate_
    assert rate in (HEAD_RATE, LOW_RATE)
    same = make_classifier("direct", head_learning_rate=rate, **params).fit(*data)
    assert_same_model(clf, same)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"head_learning_rate": "auto", "head_init": "priors"}, HEAD_RATE),
        ({"head_learning_rate": "auto", "head_init": "random"}, HEAD_RATE),
        ({"head_learning_rate": 3e-3}, 3e-3),
        ({"head_learning_rate": None}, None),
    ],
)
def test_fit_without_choice_keeps_the_rate(params, expected, choosing_low):
    clf = make_classifier("direct", max_epochs=1, **params).fit(X, Y)
    assert not choosing_low
    assert clf.head_learning_rate_ == expected


def test_warm_start_auto_keeps_the_rate_of_the_fit_before(choosing_low, tmp_path):
    clf = make_classifier("direct", max_epochs=1, head_learning_rate="auto", warm_start=True)
    clf.fit(X, Y).save_pretrained(tmp_path / "model")
    for known in (clf, LightXMLClassifier.from_pretrained(tmp_path / "model")):
        assert known.head_learning_rate_ == LOW_RATE
        assert known.fit(X, Y).head_learning_rate_ == LOW_RATE
        assert known.set_params(head_learning_rate=1e-3).fit(X, Y).head_learning_rate_ == 1e-3
    assert len(choosing_low) == 1


def test_resumed_fit_auto_keeps_the_rate(choosing_low, tmp_path):
    make = functools.partial(
        make_classifier, "direct", checkpoint_every=1, head_learning_rate="auto"
    )
    clf = assert_resumes(make, tmp_path / "run", X, Y)
    assert clf.head_learning_rate_ == LOW_RATE
    assert len(choosing_low) == 2


def test_model_of_earlier_versions_has_the_rate_of_its_parameter(tmp_path):
    clf = make_classifier("direct", max_epochs=1).fit(X, Y)
    state = clf.__getstate__()
    del state["head_learning_rate_"]
    unpickled = LightXMLClassifier()
    unpickled.__setstate__(state)
    assert unpickled.head_learning_rate_ == clf.head_learning_rate
    model = tmp_path / "model"
    clf.save_pretrained(model)
    (file,) = model.rglob(DESCRIPTION)
    description = json.loads(file.read_text())
    assert description.pop("head_learning_rate") == clf.head_learning_rate
    read = read_model(file.parent, description)
    assert read.head_learning_rate == clf.head_learning_rate
