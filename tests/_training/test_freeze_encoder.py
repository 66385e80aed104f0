"""freeze_encoder=True: heads alone, on representations that are computed once."""

import copy

import numpy as np
import pytest
import torch
from classifier_fixtures import (
    MODES,
    assert_same_predictions,
    dataset,
    differ,
    make_classifier,
)

from skxmc._model.network import LightXMLNetwork
from skxmc._training import phases

X, Y = dataset()


def encoder_state(clf):
    return {name: weights.clone() for name, weights in clf.network_.encoder.state_dict().items()}


@pytest.mark.parametrize("mode", MODES)
def test_fit_frozen_encoder_keeps_its_weights_and_trains_heads(mode):
    clf = make_classifier(mode, warm_start=True, max_epochs=1, freeze_encoder=True).fit(X, Y)
    encoder = encoder_state(clf)
    table = clf.network_.label_table.weight.clone()
    twin = copy.deepcopy(clf).set_params(freeze_encoder=False).fit(X, Y)
    clf.fit(X, Y)
    assert all(torch.equal(value, encoder[name]) for name, value in encoder_state(clf).items())
    assert not torch.equal(clf.network_.label_table.weight, table)
    changed = [not torch.equal(v, encoder[name]) for name, v in encoder_state(twin).items()]
    assert any(changed)
    assert all(p.requires_grad for p in clf.network_.parameters())


def test_fit_frozen_encoder_has_no_moments_of_its_weights(trainers):
    make_classifier("direct", freeze_encoder=True, max_epochs=1).fit(X, Y)
    (trainer,) = trainers
    trained = {id(p) for o in trainer.optimizers for g in o.param_groups for p in g["params"]}
    names = {name for name, p in trainer.network.named_parameters() if id(p) in trained}
    assert {name.split(".")[0] for name in names} == {"bottleneck", "label_table"}


@pytest.mark.parametrize("start", ["priors", "centroids"])
@pytest.mark.parametrize("epochs", [1, 5])
def test_fit_frozen_encoder_trains_on_representations_computed_once(monkeypatch, epochs, start):
    rows, sets = [], []
    represent, train = LightXMLNetwork.represent, phases.Training.run

    def counted(network, batch):
        rows.append(len(batch.input_ids))
        return represent(network, batch)

    def noted(training):
        sets.append(training.data)
        return train(training)

    monkeypatch.setattr(phases.Training, "run", noted)
    monkeypatch.setattr(LightXMLNetwork, "represent", counted)
    params = {"head_init": start, "freeze_encoder": True, "max_epochs": epochs}
    clf = make_classifier(**params).fit(X, Y)
    assert sum(rows) == len(X)
    assert len(clf.history_) == epochs
    np.testing.assert_allclose(sets[0].features, clf.encode(X), atol=1e-6)


def test_fit_frozen_encoder_has_no_dropout_inside():
    clf = make_classifier("direct", freeze_encoder=True, encoder_dropout=0.5, dropout=0.0)
    other = make_classifier("direct", freeze_encoder=True, encoder_dropout=0.0, dropout=0.0)
    assert_same_predictions(clf.fit(X, Y), other.fit(X, Y))


@pytest.mark.parametrize("sampling", ["none", "dynamic", "static"])
def test_fit_frozen_encoder_lowers_the_loss(sampling):
    clf = make_classifier(negative_sampling=sampling, freeze_encoder=True, max_epochs=8).fit(X, Y)
    ranking = [epoch for epoch in clf.history_ if epoch["rank_loss"]]
    assert ranking[-1]["loss"] < 0.98 * ranking[0]["loss"]


@pytest.mark.parametrize("max_grad_norm", [None, 1.0])
def test_fit_frozen_encoder_without_bottleneck_trains_table_alone(max_grad_norm):
    """No gradient is left to clip then, because the loss itself updates the table."""
    params = {"bottleneck_dim": None, "max_grad_norm": max_grad_norm}
    clf = make_classifier("direct", freeze_encoder=True, **params).fit(X, Y)
    assert clf.history_[1]["loss"] < clf.history_[0]["loss"]


def test_fit_frozen_encoder_resumes_bit_for_bit(tmp_path):
    whole = make_classifier("direct", freeze_encoder=True, max_epochs=3).fit(X, Y)
    clf = make_classifier(
        "direct", freeze_encoder=True, max_epochs=3, checkpoint_dir=tmp_path / "run"
    )
    stopped = []

    class Killed(Exception):
        pass

    save = phases.Training.save

    def save_once(training):
        save(training)
        stopped.append(True)
        if len(stopped) == 2:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phases.Training, "save", save_once)
        with pytest.raises(Killed):
            clf.fit(X, Y)
    assert_same_predictions(clf.fit(X, Y), whole)
    assert not differ(clf, whole)


def test_fit_frozen_encoder_static_separate_raises_value_error():
    clf = make_classifier(negative_sampling="static-separate", freeze_encoder=True)
    with pytest.raises(ValueError, match=r"^negative_sampling='static-separate' trains two enc"):
        clf.fit(X, Y)
