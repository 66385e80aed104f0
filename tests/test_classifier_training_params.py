"""LightXMLClassifier.fit: epochs, learning rates, dropout, and other training parameters."""

import copy
from pathlib import Path

import pytest
import torch
from classifier_fixtures import (
    MODES,
    assert_same_predictions,
    dataset,
    differ,
    fitted,
    make_classifier,
)
from sklearn.base import clone
from tiny_encoders import save_tiny_encoder

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc._model.encoder import dropout_rates
from skxmc._training import settings

X, Y = dataset()


def test_fit_swa_start_after_last_epoch_only_warns():
    with pytest.warns(UserWarning, match="^swa_start=2 is not reached in epochs 0 to 1, so") as w:
        late = make_classifier(swa_start=2, max_epochs=2).fit(X, Y)
    assert [Path(warning.filename).name for warning in w] == [Path(__file__).name]
    assert_same_predictions(late, make_classifier(max_epochs=2).fit(X, Y))


@pytest.mark.parametrize(
    "params",
    [
        {"dropout": 0.5},
        {"encoder_dropout": 0.3},
        {"n_feature_layers": 1},
        {"n_candidate_clusters": 1},
        {"head_init": "priors"},
        {"head_init": "random"},
        {"negative_sampling": "static"},
        {"negative_sampling": "static-separate"},
        {"max_epochs": 1},
        {"batch_size": 8},
        {"learning_rate": 1e-2},
        {"head_learning_rate": None},
        {"weight_decay": 0.5},
        {"warmup_fraction": 0.5},
        {"lr_schedule": "constant"},
        {"max_grad_norm": 0.1},
        {"swa_start": 0, "swa_every": 1},
        {"swa_start": 0, "swa_every": 2},
        {"precision": "bf16"},
        {"max_length": 4},
        {"random_state": 1},
    ],
    ids=str,
)
def test_fit_each_training_parameter_changes_model(params):
    assert differ(make_classifier(**params).fit(X, Y), fitted())


def test_auto_epochs_more_texts_give_fewer_epochs():
    epochs = {1: 10, 5_000: 10, 20_000: 5, 45_000: 4, 53_000: 3, 200_000: 2, 600_000: 1, 10**9: 1}
    assert {n: settings.auto_epochs(n) for n in epochs} == epochs


@pytest.mark.parametrize(("n_at_one_epoch", "epochs"), [(64, 1), (9 * 64, 3), (12 * 64, 3), (1, 1)])
def test_fit_auto_epochs_follow_number_of_texts(n_at_one_epoch, epochs, monkeypatch):
    monkeypatch.setattr(settings, "AUTO_TEXTS", n_at_one_epoch)
    assert make_classifier(max_epochs="auto").fit(X, Y).n_iter_ == epochs


@pytest.mark.parametrize(("max_epochs", "dropout", "of_encoder"), [(4, 0.3, 0.0), (5, 0.5, 0.1)])
def test_fit_auto_dropout_is_higher_with_many_epochs(max_epochs, dropout, of_encoder, tmp_path):
    """With many epochs, the encoder keeps its own rate, which is 0.1 here."""
    encoder = save_tiny_encoder(tmp_path / "encoder", n_layers=1)
    params = {"encoder": encoder, "dropout": "auto", "encoder_dropout": "auto"}
    clf = make_classifier(max_epochs=max_epochs, **params).fit(X[:16], Y[:16])
    assert clf.network_.dropout.p == clf.network_.settings["dropout"] == dropout
    rates = {m.p for m in clf.network_.encoder.modules() if isinstance(m, torch.nn.Dropout)}
    assert rates == {of_encoder}
    given = {**params, "dropout": 0.25, "encoder_dropout": None}
    clf = make_classifier(max_epochs=max_epochs, **given).fit(X[:16], Y[:16])
    assert clf.network_.dropout.p == 0.25
    rates = {m.p for m in clf.network_.encoder.modules() if isinstance(m, torch.nn.Dropout)}
    assert rates == {0.1}


@pytest.mark.parametrize("mode", MODES)
def test_warm_start_other_model_parameters_raise_error(mode):
    clf = copy.deepcopy(fitted(mode)).set_params(warm_start=True)
    size, dim = clf.clusterer.max_cluster_size, clf.bottleneck_dim
    for params, message in (
        ({"n_feature_layers": 1}, "n_feature_layers is 1, .* was built with 2. Set it back, or"),
        ({"bottleneck_dim": 9}, f"bottleneck_dim is 9, .* was built with {dim}"),
        ({"pooling": "mean"}, "pooling is 'mean', .* was built with 'cls'"),
        (
            {"clusterer": BalancedLabelClusterer(max_cluster_size=9)},
            f"clusterer__max_cluster_size is 9, .* was built with {size}",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            copy.deepcopy(clf).set_params(**params).fit(X, Y)
    assert differ(copy.deepcopy(clf).set_params(clusterer__n_jobs=1).fit(X, Y), clf)


def test_warm_start_without_clusters_takes_any_clusterer():
    clusterer = BalancedLabelClusterer(max_cluster_size=4, max_iter=3)
    clf = make_classifier(negative_sampling="none", clusterer=clusterer, warm_start=True)
    before = copy.deepcopy(clf.fit(X, Y))
    assert differ(clf.fit(X, Y), before)
    clf.set_params(negative_sampling="auto", clusterer__max_cluster_size="auto").fit(X, Y)
    clf.set_params(clusterer__max_cluster_size=9)
    with pytest.raises(ValueError, match=r"clusterer__max_cluster_size is 9, .* built with 1"):
        clf.fit(X, Y)


def test_warm_start_encoder_dropout_none_restores_its_rates(tmp_path):
    rates = []
    encoder = save_tiny_encoder(tmp_path)
    for first in (0.0, None):
        clf = make_classifier(encoder=encoder, encoder_dropout=first, warm_start=True).fit(X, Y)
        clf.set_params(encoder_dropout=None).fit(X, Y)
        rates.append(dropout_rates(clf.network_.encoder))
    assert rates[0] == rates[1]
    assert set(rates[0].values()) == {0.1}


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_fit_without_gradients_in_context_gives_same_model(context):
    with context():
        clf = make_classifier().fit(X, Y)
    assert_same_predictions(clf, fitted())


def test_warm_start_changed_dropout_is_used():
    clf = copy.deepcopy(fitted()).set_params(warm_start=True, max_epochs=1, dropout=0.75)
    clf.fit(X, Y)
    assert clf.network_.dropout.p == clf.network_.settings["dropout"] == 0.75


def test_fit_auto_epochs_are_at_most_10():
    assert LightXMLClassifier().max_epochs == "auto"
    assert make_classifier(max_epochs="auto").fit(X, Y).n_iter_ == 10


def test_fit_auto_learning_rate_falls_with_encoder_width():
    assert LightXMLClassifier().learning_rate == "auto"
    clf = make_classifier(learning_rate="auto", lr_schedule="constant").fit(X, Y)
    width = clf.network_.encoder.config.hidden_size
    assert clf.history_[-1]["learning_rate"] == pytest.approx(1e-4 * 768 / width)
    by_hand = clone(clf).set_params(learning_rate=1e-4 * 768 / width).fit(X, Y)
    assert_same_predictions(clf, by_hand)


def test_fit_head_learning_rate_none_uses_learning_rate():
    left = make_classifier(learning_rate=3e-3, head_learning_rate=None).fit(X, Y)
    right = make_classifier(learning_rate=3e-3, head_learning_rate=3e-3).fit(X, Y)
    assert_same_predictions(left, right)


def test_fit_verbose_1_shows_progress(capsys):
    clf = make_classifier(verbose=1, batch_size=4).fit(X, Y, validation_data=(X, Y))
    shown = capsys.readouterr()
    assert "epoch 2/2" in shown.err
    assert "loss=" in shown.err
    assert f"validation P@5 {clf.history_[0]['valid_p_at_5']:.4f}" in shown.err
    assert f"encoding texts: {len(X)}/{len(X)}" in shown.err
    assert not shown.out
    make_classifier(max_epochs=1).fit(X, Y)
    assert "epoch" not in capsys.readouterr().err
