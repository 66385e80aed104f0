"""LightXMLClassifier.fit: forms of X and y, what it learns and leaves alone, its parameters."""

import copy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from classifier_fixtures import (
    MODES,
    assert_same_predictions,
    dataset,
    differ,
    fitted,
    generator_states,
    make_classifier,
)
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from tiny_encoders import save_tiny_encoder

from skxmc import BalancedLabelClusterer, LightXMLClassifier, _fitting, label_features
from skxmc._encoder import dropout_rates
from skxmc.metrics import precision_at_k

X, Y = dataset()
NAMES = [f"tag {i:02d}" for i in range(Y.shape[1])]


@pytest.mark.parametrize("mode", MODES)
def test_learns_what_words_mean(mode):
    words = ["aaaa", "kkkk", "zzzz", "0000", "mmmm", "qqqq", "tttt", "gggg", "xxxx", "dddd"]
    rng = np.random.default_rng(0)
    pairs = [sorted(rng.choice(10, 2, replace=False).tolist()) for _ in range(100)]
    texts = [" ".join(words[i] for i in pair) for pair in pairs]
    clf = make_classifier(mode, max_epochs=10).fit(texts, pairs)
    losses = [epoch["loss"] for epoch in clf.history_]
    assert losses[-1] < losses[0] / 2
    assert clf.score(texts, pairs) > 0.8  # a guess reaches 0.2
    assert precision_at_k(pairs, clf.predict_topk(texts, 2), k=2, classes=clf.classes_) > 0.7


# ---------------------------------------------------------------- forms of X and y


@pytest.mark.parametrize(
    "form",
    [
        sparse.csr_matrix,
        sparse.csc_matrix,
        sparse.coo_matrix,
        sparse.lil_matrix,
        sparse.csc_array,
        lambda y: y.astype(bool),
        lambda y: y.toarray(),
        lambda y: y.toarray().astype(int),
    ],
    ids=["csr", "csc", "coo", "lil", "csc_array", "bool", "dense", "dense int"],
)
def test_every_form_of_y_gives_the_same_model(form):
    clf = make_classifier().fit(X, form(Y))
    np.testing.assert_array_equal(clf.classes_, np.arange(Y.shape[1]))
    assert_same_predictions(clf, fitted())


def test_names_of_labels_become_classes():
    named = make_classifier().fit(X, Y, label_names=NAMES)
    frame = make_classifier().fit(X, pd.DataFrame(Y.toarray(), columns=NAMES))
    for clf in (named, frame):
        assert clf.classes_.tolist() == NAMES
        assert_same_predictions(clf, fitted())
        best = clf.predict_topk(X, 3).labels
        np.testing.assert_array_equal(best, clf.classes_[fitted().predict_topk(X, 3).labels])


def test_lists_of_labels():
    used = np.flatnonzero(Y.sum(axis=0))
    lists = [[NAMES[i] for i in Y[[row]].indices[::-1]] for row in range(len(X))]
    clf = make_classifier().fit(X, lists)
    assert clf.classes_.tolist() == [NAMES[i] for i in used]
    assert_same_predictions(clf, make_classifier().fit(X, Y[:, used]))


@pytest.mark.parametrize(
    "form",
    [tuple, np.array, lambda x: np.array(x, dtype=object), pd.Series],
    ids=["tuple", "array", "array of objects", "series"],
)
def test_every_form_of_x_gives_the_same_model(form):
    clf = make_classifier().fit(form(X), Y)
    assert_same_predictions(clf, fitted())
    np.testing.assert_array_equal(clf.predict_topk(form(X)).scores, fitted().predict_topk(X).scores)


def test_a_frame_keeps_its_order_whatever_its_index():
    index = np.arange(len(X))[::-1]
    frame = pd.DataFrame(Y.toarray(), index=index)
    clf = make_classifier().fit(pd.Series(X, index=index), frame)
    assert_same_predictions(clf, fitted())


# ---------------------------------------------------------------- parameters


def test_init_only_keeps_its_arguments():
    clusterer = BalancedLabelClusterer()
    clf = LightXMLClassifier("no such encoder", max_length=-3, clusterer=clusterer, device=7)
    assert clf.clusterer is clusterer
    assert vars(clf) == clf.get_params(deep=False)
    with pytest.raises(NotFittedError, match="not fitted"):
        clf.predict_topk(["a"])


def test_get_params_set_params_clone_repr():
    clf = make_classifier()
    assert clf.get_params()["clusterer__max_cluster_size"] == 4
    assert clf.set_params(clusterer__max_cluster_size=8, dropout=0.3) is clf
    twin = clone(clf)
    assert twin.clusterer.max_cluster_size == 8
    assert twin.clusterer is not clf.clusterer
    assert twin.get_params(deep=False).keys() == clf.get_params(deep=False).keys()
    assert repr(LightXMLClassifier(dropout=0.3)) == "LightXMLClassifier(dropout=0.3)"
    with pytest.raises(ValueError, match="Invalid parameter"):
        clf.set_params(no_such=1)
    assert not hasattr(clone(fitted()), "network_")


def test_fit_leaves_parameters_alone():
    clf = make_classifier(head_learning_rate=None, n_candidate_clusters=100)
    before = clf.get_params()
    state = dict(vars(clf.clusterer))
    clf.fit(X, Y)
    after = clf.get_params()
    assert all(after[name] is before[name] for name in before)
    assert vars(clf.clusterer) == state


def test_y_and_x_are_not_modified():
    texts, y = list(X), Y.copy()
    y.data[0] = 0
    before = y.copy()
    make_classifier(max_epochs=1).fit(texts, y)
    assert texts == X
    np.testing.assert_array_equal(y.data, before.data)
    np.testing.assert_array_equal(y.indices, before.indices)


def test_clusterer_is_cloned_and_fitted_to_the_labels():
    for size, n_clusters in ((4, 8), (8, 4), (30, 1), ("auto", 30)):
        clf = make_classifier("direct", max_epochs=1)
        clf.set_params(clusterer__max_cluster_size=size).fit(X, Y)
        assert clf.clusterer_.n_clusters_ == clf.network_.layout.n_clusters == n_clusters
        assert clf.clusterer_.labels_.shape == (30,)
        assert not hasattr(clf.clusterer, "labels_")


def test_clusterer_gets_seed_and_threads_unless_it_has_its_own():
    clf = make_classifier(n_jobs=1, max_epochs=1).fit(X, Y)
    assert isinstance(clf.clusterer_.random_state, int)
    assert clf.clusterer_.n_jobs == 1
    own = BalancedLabelClusterer(max_cluster_size=4, random_state=7, n_jobs=2)
    clf = make_classifier(clusterer=own, n_jobs=1, max_epochs=1).fit(X, Y)
    assert (clf.clusterer_.random_state, clf.clusterer_.n_jobs) == (7, 2)
    default = make_classifier("direct", clusterer=None, max_epochs=1).fit(X, Y)
    assert default.clusterer_.get_params()["max_cluster_size"] == "auto"


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, np.ndarray.tolist], ids=repr)
def test_label_features_decide_the_clusters(form):
    odd = np.arange(30) % 2
    clf = make_classifier(max_epochs=1, clusterer=BalancedLabelClusterer(max_cluster_size=15))
    clf.fit(X, Y, label_features=form(np.eye(2)[odd]))
    parts = {tuple(np.flatnonzero(clf.clusterer_.labels_ == i) % 2) for i in range(2)}
    assert parts == {(0,) * 15, (1,) * 15}


def test_label_features_need_a_row_for_each_label():
    with pytest.raises(ValueError, match=r"label_features has 64 rows, but there are 30 labels"):
        make_classifier().fit(X, Y, label_features=np.ones((64, 2)))


@pytest.mark.parametrize("mode", MODES)
def test_candidate_clusters_are_counted_from_labels_and_clipped(mode, monkeypatch):
    size = 1 if mode == "direct" else 4
    for wanted, most in ((1, size), (3, 3 * size), (10**6, 30), ("auto", 30)):
        clf = make_classifier(mode, n_candidate_clusters=wanted, max_epochs=1).fit(X, Y)
        counts = np.diff(clf.decision_function(X).indptr)
        assert counts.max() <= most
        assert counts.min() >= most * 3 // 4
    monkeypatch.setattr(_fitting, "AUTO_CANDIDATE_LABELS", 7)  # the next multiple of the size
    counts = np.diff(make_classifier(mode, max_epochs=1).fit(X, Y).decision_function(X).indptr)
    assert counts.max() == (7 if mode == "direct" else 8)


@pytest.mark.parametrize(("max_size", "n_recalled"), [(1, 2000), (16, 125), (62, 33), (5000, 1)])
def test_auto_is_2000_candidate_labels(max_size, n_recalled):
    network = SimpleNamespace(layout=SimpleNamespace(max_size=max_size, n_clusters=8192))
    assert _fitting.n_candidate_clusters(make_classifier(), network) == n_recalled


def test_labels_are_clustered_by_their_texts():
    clf = make_classifier(max_epochs=1).fit(X, Y)
    features = label_features(Y, TfidfVectorizer(dtype=np.float32).fit_transform(X))
    expected = clone(clf.clusterer_).fit(features)
    np.testing.assert_array_equal(clf.clusterer_.labels_, expected.labels_)


def test_bottleneck_matters_in_two_stages_only():
    with pytest.warns(UserWarning, match="^bottleneck_dim=4 has no effect in the direct mode") as w:
        direct = [make_classifier("direct", **d).fit(X, Y) for d in ({}, {"bottleneck_dim": 4})]
    assert [Path(warning.filename).name for warning in w] == [Path(__file__).name]
    assert direct[0].network_.direct
    assert_same_predictions(*direct)
    staged = [make_classifier(bottleneck_dim=d).fit(X, Y) for d in (4, 8)]
    tables = [clf.network_.label_table.by_cluster() for clf in staged]
    assert [table.shape for table in tables] == [(9, 4, 4), (9, 4, 8)]
    assert differ(*staged)


def test_an_average_that_training_does_not_reach():
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
        {"head_start": "priors"},
        {"head_start": "random"},
        {"loss_reduction": "mean"},
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
def test_every_parameter_of_training_has_an_effect(params):
    assert differ(make_classifier(**params).fit(X, Y), fitted())


def test_auto_epochs():
    epochs = {1: 10, 5_000: 10, 20_000: 5, 45_000: 4, 53_000: 3, 200_000: 2, 600_000: 1, 10**9: 1}
    assert {n: _fitting.auto_epochs(n) for n in epochs} == epochs


@pytest.mark.parametrize(("n_at_one_epoch", "epochs"), [(64, 1), (9 * 64, 3), (12 * 64, 3), (1, 1)])
def test_epochs_are_fewer_the_more_texts_there_are(n_at_one_epoch, epochs, monkeypatch):
    monkeypatch.setattr(_fitting, "AUTO_TEXTS", n_at_one_epoch)
    assert make_classifier(max_epochs="auto").fit(X, Y).n_iter_ == epochs


@pytest.mark.parametrize(("max_epochs", "dropout", "of_encoder"), [(4, 0.3, 0.0), (5, 0.5, 0.1)])
def test_dropout_is_higher_where_epochs_are_many(max_epochs, dropout, of_encoder, tmp_path):
    """The encoder's own, which is 0.1 here, is left alone then."""
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
def test_a_warm_start_keeps_what_the_model_was_built_with(mode):
    clf = copy.deepcopy(fitted(mode)).set_params(warm_start=True)
    size = clf.clusterer.max_cluster_size
    for params, message in (
        ({"n_feature_layers": 1}, "n_feature_layers is 1, .* was built with 2. Set that back, or"),
        ({"bottleneck_dim": 9}, "bottleneck_dim is 9, .* was built with 8"),
        ({"clusterer": None}, f"clusterer__max_cluster_size is 'auto', .* was built with {size}"),
    ):
        if mode == "direct" and "bottleneck_dim" in params:
            continue  # there is none
        with pytest.raises(ValueError, match=message):
            copy.deepcopy(clf).set_params(**params).fit(X, Y)
    assert differ(copy.deepcopy(clf).set_params(clusterer__n_jobs=1).fit(X, Y), clf)


def test_a_warm_start_takes_the_dropout_that_the_encoder_came_with(tmp_path):
    rates = []
    encoder = save_tiny_encoder(tmp_path)
    for first in (0.0, None):
        clf = make_classifier(encoder=encoder, encoder_dropout=first, warm_start=True).fit(X, Y)
        clf.set_params(encoder_dropout=None).fit(X, Y)
        rates.append(dropout_rates(clf.network_.encoder))
    assert rates[0] == rates[1]
    assert set(rates[0].values()) == {0.1}


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_fit_where_gradients_are_off(context):
    with context():
        clf = make_classifier().fit(X, Y)
    assert_same_predictions(clf, fitted())


def test_a_warm_start_takes_a_changed_dropout():
    clf = copy.deepcopy(fitted()).set_params(warm_start=True, max_epochs=1, dropout=0.75)
    clf.fit(X, Y)
    assert clf.network_.dropout.p == clf.network_.settings["dropout"] == 0.75


def test_no_more_than_ten_epochs_unless_asked_for():
    assert LightXMLClassifier().max_epochs == "auto"
    assert make_classifier(max_epochs="auto").fit(X, Y).n_iter_ == 10


def test_wider_encoders_learn_at_lower_rates():
    assert LightXMLClassifier().learning_rate == "auto"
    clf = make_classifier(learning_rate="auto", lr_schedule="constant").fit(X, Y)
    width = clf.network_.encoder.config.hidden_size
    assert clf.history_[-1]["learning_rate"] == pytest.approx(1e-4 * 768 / width)
    by_hand = clone(clf).set_params(learning_rate=1e-4 * 768 / width).fit(X, Y)
    assert_same_predictions(clf, by_hand)


def test_head_learning_rate_none_is_the_learning_rate():
    left = make_classifier(learning_rate=3e-3, head_learning_rate=None).fit(X, Y)
    right = make_classifier(learning_rate=3e-3, head_learning_rate=3e-3).fit(X, Y)
    assert_same_predictions(left, right)


def test_verbose_shows_progress(capsys):
    clf = make_classifier(verbose=1, batch_size=4).fit(X, Y, validation_data=(X, Y))
    shown = capsys.readouterr()
    assert "epoch 2/2" in shown.err
    assert "loss=" in shown.err
    assert f"validation P@5 {clf.history_[0]['valid_p_at_5']:.4f}" in shown.err
    bar = next(line for line in reversed(shown.err.split("\r")) if "encoding texts: 100%" in line)
    assert f"{len(X)}/{len(X)}" in bar
    assert not shown.out
    make_classifier(max_epochs=1).fit(X, Y)
    assert "epoch" not in capsys.readouterr().err


# ---------------------------------------------------------------- what fit leaves behind


@pytest.mark.parametrize("mode", MODES)
def test_fitted_attributes(mode):
    clf = fitted(mode)
    assert clf.n_labels_ == len(clf.classes_) == 30
    assert clf.n_iter_ == len(clf.history_) == 2
    assert isinstance(clf.network_, torch.nn.Module)
    assert not clf.network_.training
    assert clf.tokenizer_("a")["input_ids"]
    for number, epoch in enumerate(clf.history_):
        assert epoch["epoch"] == number
        assert epoch["loss"] == pytest.approx(epoch["recall_loss"] + epoch["rank_loss"])
        assert (epoch["rank_loss"] == 0) == (mode == "direct")
        assert epoch["n_steps"] == 4
        assert 0 < epoch["seconds"] < 60
        assert 0 <= epoch["learning_rate"] <= 1e-3
        assert "valid_p_at_5" not in epoch
    assert not hasattr(clf, "n_features_in_")


@pytest.mark.parametrize("mode", MODES)
def test_same_seed_same_model(mode):
    assert_same_predictions(make_classifier(mode).fit(X, Y), fitted(mode))
    generators = [np.random.RandomState(3) for _ in range(2)]
    left, right = (make_classifier(mode, random_state=g).fit(X, Y) for g in generators)
    assert_same_predictions(left, right)
    assert differ(left, fitted(mode))
    unseeded = [make_classifier(mode, random_state=None).fit(X, Y) for _ in range(2)]
    assert differ(*unseeded)


@pytest.mark.parametrize("mode", MODES)
def test_global_generators_are_left_alone(mode):
    before = generator_states()
    clf = make_classifier(mode, early_stopping=True).fit(X, Y)
    assert generator_states() == before
    clf.predict_topk(X)
    clf.decision_function(X)
    clf.encode(X)
    assert generator_states() == before
    torch.manual_seed(12345)  # nor do they decide anything
    np.random.seed(12345)  # noqa: NPY002
    assert_same_predictions(clf, make_classifier(mode, early_stopping=True).fit(X, Y))


def test_fit_starts_anew():
    clf = make_classifier().fit(X[:20], Y[:20, :5])
    assert_same_predictions(clf.fit(X, Y), fitted())
    assert clf.n_labels_ == 30


@pytest.mark.parametrize("moments", ["full", "compact"])
def test_label_moments_reach_the_optimiser(moments, trainers):
    clf = make_classifier(label_moments=moments, max_epochs=1).fit(X, Y)
    state = trainers[0].optimizers[1].state[clf.network_.label_table.weight]
    assert state["first"].dtype == (torch.bfloat16 if moments == "compact" else torch.float32)


@pytest.mark.parametrize("sampling", ["dynamic", "static"])
def test_the_precision_of_prediction_is_not_that_of_training(sampling):
    """Nor of where the heads start, or of what static negatives are drawn by."""
    params = {"negative_sampling": sampling, "n_candidate_clusters": 3}
    clf = make_classifier(**params, prediction_precision="bf16").fit(X, Y)
    clf.set_params(prediction_precision=None)
    assert_same_predictions(clf, make_classifier(**params).fit(X, Y))


def test_defaults_of_the_contract():
    expected = {
        "encoder": "bert-base-uncased",
        "max_length": 128,
        "n_feature_layers": 5,
        "clusterer": None,
        "n_candidate_clusters": "auto",
        "bottleneck_dim": 256,
        "negative_sampling": "dynamic",
        "dropout": "auto",
        "encoder_dropout": "auto",
        "head_start": "centroids",
        "loss_reduction": "sum",
        "max_epochs": "auto",
        "batch_size": 32,
        "learning_rate": "auto",
        "head_learning_rate": 2e-3,
        "weight_decay": 0.01,
        "warmup_fraction": 0.1,
        "lr_schedule": "linear",
        "swa_start": None,
        "early_stopping": False,
        "validation_fraction": 0.1,
        "n_iter_no_change": 3,
        "precision": "auto",
        "device": "auto",
        "threshold": 0.5,
        "memory": None,
        "checkpoint_dir": None,
        "warm_start": False,
        "random_state": None,
        "n_jobs": None,
    }
    params = LightXMLClassifier().get_params()
    assert {name: params[name] for name in expected} == expected
