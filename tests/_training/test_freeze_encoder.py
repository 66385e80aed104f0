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
from skxmc.metrics import precision_at_k

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


@pytest.mark.parametrize("long_text", ["truncate", "windows"])
def test_fit_frozen_encoder_represents_static_and_held_out_texts_once(monkeypatch, long_text):
    n_represented = []
    represent = LightXMLNetwork.represent

    def counted(network, batch):
        n_represented.append(len(batch.input_ids))
        return represent(network, batch)

    texts = [text[:20] for text in X]  # of one window
    params = {"negative_sampling": "static", "freeze_encoder": True, "head_init": "priors"}
    clf = make_classifier(**params, long_text=long_text)
    with monkeypatch.context() as patch:
        patch.setattr(LightXMLNetwork, "represent", counted)
        clf.fit(texts, Y, validation_data=(texts[:9], Y[:9]))
    assert [epoch["objective"] for epoch in clf.history_[::2]] == ["recall", "rank", "recall"]
    assert sum(n_represented) == 64 + 9


def test_fit_frozen_encoder_validates_what_it_predicts():
    clf = make_classifier("direct", freeze_encoder=True).fit(X[9:], Y[9:], X_val=X[:9], y_val=Y[:9])
    expected = precision_at_k(Y[:9], clf.predict_topk(X[:9], k=5), k=5)
    assert clf.history_[-1]["valid_p_at_5"] == pytest.approx(expected)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_static_clusters_of_representations_are_those_of_tokens(trainers, pooling):
    clf = make_classifier(freeze_encoder=True, pooling=pooling, max_epochs=1).fit(X, Y)
    (trainer,) = trainers
    known = phases.static_clusters(clf._predictor(), trainer.data)
    trainer.data.features = None
    np.testing.assert_array_equal(known, phases.static_clusters(clf._predictor(), trainer.data))


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
