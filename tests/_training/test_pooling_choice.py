"""The pooling that `pooling="auto"` chooses for encoders that were trained for the mean."""

import dataclasses
import functools
import json
import re
import shutil
import time

import numpy as np
import pytest
import torch
from classifier_fixtures import make_classifier
from stopped_training import assert_resumes, assert_same_model
from training_fixtures import weights
from trial_fixtures import N_SAMPLE, trial_arguments

from skxmc import LightXMLClassifier
from skxmc._model.fitted import Model
from skxmc._training import pooling_choice, trials
from skxmc._training.pooling_choice import choose_pooling
from skxmc.datasets import make_xmc

X, Y = make_xmc(64, 30, n_labels_per_sample=2, random_state=0)


@pytest.fixture(params=["two-stage", "direct"])
def make_choice(request, make_trainer, monkeypatch):
    """Return a function that makes the choice. Only the states of one pooling tell the labels."""
    trainer = make_trainer(direct=request.param == "direct")
    network, data, y, sample, settings = trial_arguments(trainer, is_clean=True)
    network.pooling = "alternate"

    class Rows(list):
        def subset(self, rows):
            return Rows(rows)

    data.tokens = Rows(range(N_SAMPLE))
    noise = np.random.default_rng(0).normal(size=sample.features.shape).astype(np.float32)

    def choose(best, **changes):
        class Predictor:
            def features(self, rows, progress):
                progress(len(rows))
                kinds = network.pooling.split("+")
                return np.hstack(
                    [(sample.features if kind == best else noise)[rows] for kind in kinds]
                )

        monkeypatch.setattr(pooling_choice, "fit_predictor", lambda *args: Predictor())
        model = Model(network, None, None, np.arange(y.shape[1]), None)
        changed = dataclasses.replace(settings, **changes)
        return choose_pooling(model, data, y, N_SAMPLE, changed, min_texts=N_SAMPLE)

    choose.network = network
    return choose


@pytest.mark.parametrize("best", ["alternate", "cls"])
def test_choose_pooling_takes_the_one_that_tells_the_labels(make_choice, best):
    before, state = weights(make_choice.network), torch.get_rng_state()
    assert make_choice(best) == best
    assert make_choice.network.pooling == "alternate"
    assert torch.equal(torch.get_rng_state(), state)
    after = weights(make_choice.network)
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_choose_pooling_cls_must_be_clearly_better(make_choice, monkeypatch):
    for other, expected in [(0.509, "alternate"), (0.511, "cls")]:
        found = iter([0.5, other])
        monkeypatch.setattr(trials.Trial, "score", lambda *args, found=found: next(found))
        assert make_choice("cls") == expected


def test_choose_pooling_says_what_it_does(make_choice, capsys):
    make_choice("cls", verbose=1)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "trying two poolings on 600 texts"
    known = r'the pooling is "cls": nDCG@5 of "alternate" [\d.]+ %, of "cls" [\d.]+ %'
    assert re.fullmatch(known, said[-1])


def test_choose_pooling_few_texts_or_little_time_takes_the_usual(make_choice, monkeypatch):
    assert make_choice("cls", deadline=time.perf_counter() + 1000) == "alternate"
    monkeypatch.setattr(trials, "MAX_ENTRIES", make_choice.network.label_table.n_entries - 1)
    assert make_choice("cls") == "alternate"


@pytest.fixture
def encoder(tiny_encoder, tmp_path):
    """Copy a tiny encoder, and let its files say that it was trained for the mean."""
    folder = tmp_path / "encoder"
    shutil.copytree(tiny_encoder(), folder)
    (folder / "1_Pooling").mkdir()
    content = json.dumps({"pooling_mode_mean_tokens": True})
    (folder / "1_Pooling" / "config.json").write_text(content)
    return str(folder)


@pytest.fixture
def choosing_cls(monkeypatch):
    """Let the choice fall on [CLS], and count how often it is made."""
    calls = []

    def choose(*args):
        calls.append(args)
        return "cls"

    monkeypatch.setattr("skxmc._training.build.choose_pooling", choose)
    return calls


@pytest.mark.parametrize("params", [{}, {"freeze_encoder": True}])
@pytest.mark.parametrize("mode", ["direct", "two-stage"])
def test_fit_auto_trains_like_the_chosen_pooling(mode, params, encoder, choosing_cls):
    clf = make_classifier(mode, encoder=encoder, max_epochs=1, **params).fit(X, Y)
    assert len(choosing_cls) == 1
    same = make_classifier(mode, encoder=encoder, max_epochs=1, pooling="cls", **params)
    assert clf.network_.pooling == same.fit(X, Y).network_.pooling == "cls"
    assert len(choosing_cls) == 1
    assert_same_model(clf, same)


@pytest.mark.parametrize("long_text", ["truncate", "windows"])
def test_fit_auto_trial_leaves_training_as_it_is(encoder, long_text, monkeypatch):
    scores = []
    score = trials.Trial.score
    monkeypatch.setattr(
        trials.Trial, "score", lambda *args: scores.append(score(*args)) or scores[-1]
    )
    data = make_xmc(trials.MIN_TEXTS, 30, n_words=40, random_state=0)
    params = {"encoder": encoder, "max_epochs": 1, "batch_size": 64, "max_length": 12}
    params["long_text"] = long_text
    clf = make_classifier("direct", **params).fit(*data)
    assert len(set(scores)) == 2
    same = make_classifier("direct", pooling=clf.network_.pooling, **params).fit(*data)
    assert_same_model(clf, same)
    assert len(scores) == 2


@pytest.mark.parametrize("head_init", ["priors", "random"])
def test_fit_auto_without_centroids_chooses_nothing(head_init, encoder, choosing_cls):
    clf = make_classifier("direct", encoder=encoder, max_epochs=1, head_init=head_init)
    assert clf.fit(X, Y).network_.pooling == "alternate"
    assert not choosing_cls


def test_fit_auto_encoder_for_cls_chooses_nothing(choosing_cls):
    assert make_classifier("direct", max_epochs=1).fit(X, Y).network_.pooling == "cls"
    assert not choosing_cls


def test_warm_start_auto_keeps_the_pooling_of_the_fit_before(encoder, choosing_cls, tmp_path):
    clf = make_classifier("direct", encoder=encoder, max_epochs=1, warm_start=True).fit(X, Y)
    clf.save_pretrained(tmp_path / "model")
    for known in (clf, LightXMLClassifier.from_pretrained(tmp_path / "model")):
        assert known.fit(X, Y).network_.pooling == "cls"
    assert len(choosing_cls) == 1


def test_resumed_fit_auto_keeps_the_pooling(encoder, choosing_cls, tmp_path):
    make = functools.partial(make_classifier, "direct", checkpoint_every=1, encoder=encoder)
    assert_resumes(make, tmp_path / "run", X, Y)
    assert len(choosing_cls) == 2
