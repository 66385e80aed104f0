"""sample_weight: weight 2 is the text twice, weight 0 leaves it out."""

import numpy as np
import pandas as pd
import pytest
import torch
from classifier_fixtures import MODES, dataset, fitted, make_classifier, weights_digest
from ensemble_members import Proba
from joblib import Memory
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from training_fixtures import CPU, N_LABELS, N_TEXTS, tokens_and_labels

from skxmc import (
    BalancedLabelClusterer,
    CalibratedClassifier,
    HierarchicalClassifier,
    LightXMLEnsemble,
    PropensityRanker,
    TunedThresholdClassifier,
)
from skxmc._model.encoder import load_encoder
from skxmc._model.network import LightXMLNetwork
from skxmc._storage.cache import _features, cached_clusters
from skxmc._training.initialization import start_at_centroids, start_at_priors
from skxmc._training.trainer import TrainingSet
from skxmc.metrics import precision_at_k_scorer

X, Y = dataset()
# Weights of all 64 texts: 0, 1 and 2 in turn.
WEIGHTS = np.arange(64) % 3.0
TWICE = np.repeat(np.arange(64), WEIGHTS.astype(int))


def close(found, expected, **tolerance):
    torch.testing.assert_close(found, expected, **(tolerance or {"rtol": 1e-4, "atol": 1e-6}))


# ---------------------------------------------------------------- the loss


def losses_and_gradients(trainer, rows, weights, objective):
    """Return losses and gradients of a batch, without dropout."""
    network = trainer.network.eval()
    features = network.represent(trainer.data.tokens.batch(rows)).detach().requires_grad_()
    positives = trainer.data.positives(rows)._replace(weights=weights)
    chosen = torch.arange(3).expand(len(rows), 3) if objective == "rank" else None
    updates = []
    found = network.losses(
        features,
        positives,
        3,
        chosen=chosen,
        objective=objective,
        update=lambda labels, *gradients: updates.extend(gradients),
    )
    network.zero_grad()
    sum(found).backward()
    heads = {
        name: p.grad.to_dense()
        for name, p in network.named_parameters()
        if p.grad is not None and not name.startswith("encoder")
    }
    return found, features.grad, {**heads, **dict(enumerate(updates))}


@pytest.mark.parametrize(
    ("direct", "objective"), [(True, "both"), (False, "both"), (False, "recall"), (False, "rank")]
)
def test_losses_weights_are_copies_of_texts(make_trainer, direct, objective):
    """Both batches count four times, so their means are over the same number."""
    trainer = make_trainer(direct=direct)
    weights = torch.tensor([1.0, 2.0, 0.0, 1.0])
    rows, copies = np.array([3, 50, 7, 90]), np.array([3, 50, 50, 90])
    losses, of_texts, of_heads = losses_and_gradients(trainer, rows, weights, objective)
    expected, of_copies, expected_of_heads = losses_and_gradients(trainer, copies, None, objective)
    close(losses, expected)
    assert of_copies.any(dim=1).all()
    close(
        of_texts, torch.stack([of_copies[0], of_copies[1:3].sum(0), 0 * of_copies[0], of_copies[3]])
    )
    assert of_heads.keys() == expected_of_heads.keys()
    for name, gradient in of_heads.items():
        close(gradient, expected_of_heads[name])


def test_training_set_makes_mean_weight_1(tiny_encoder):
    tokens, y = tokens_and_labels(tiny_encoder())
    weights = np.linspace(1, 5, N_TEXTS)
    data = TrainingSet(tokens, y, CPU, 1e-5 * weights)
    found = data.batch(np.array([0, N_TEXTS - 1]))[1].weights
    close(found, torch.tensor([1 / 3, 5 / 3]))
    assert TrainingSet(tokens, y, CPU).positives(np.array([1])).weights is None


# ---------------------------------------------------------------- what is fitted from texts


def initial_heads(encoder, rows, weights, direct):
    """Return the initial weights of the heads, from fixed representations of the texts `rows`."""
    features = np.random.default_rng(0).normal(1, [1.0] * 16 + [3.0] * 16, (64, 32))
    features = features.astype(np.float32)[rows]
    network = LightXMLNetwork(
        encoder,
        np.arange(N_LABELS) % (N_LABELS if direct else 8),
        n_feature_layers=2,
        bottleneck_dim=8,
        dropout=0.0,
    )
    generator = torch.Generator().manual_seed(0)
    y = Y[rows]
    start_at_priors(network, y, generator, weights)
    biases = network.label_table.bias.detach().clone()
    start_at_centroids(
        network, y, lambda rows: features[rows], np.random.default_rng(0), 2, weights=weights
    )
    state = {name: w for name, w in network.state_dict().items() if not name.startswith("encoder")}
    return {**state, "priors": biases}


@pytest.mark.parametrize("direct", [True, False])
def test_initial_heads_weights_are_copies_of_texts(tiny_encoder, direct):
    """The last two texts are about labels, and have weight 1."""
    _, encoder = load_encoder(tiny_encoder())
    kept = np.flatnonzero(WEIGHTS)
    rows = np.concatenate([kept, [60, 61]])
    weights = np.concatenate([WEIGHTS[kept], np.ones(2)])
    found = initial_heads(encoder, rows, weights, direct)
    copies = initial_heads(encoder, np.concatenate([TWICE, [60, 61]]), None, direct)
    plain = initial_heads(encoder, rows, None, direct)
    for name, value in copies.items():
        if name == "bottleneck.weight":  # axes may point either way
            found[name], value = found[name].abs(), value.abs()
        elif name in ("label_table.weight", "recall_head.weight"):
            found[name], value = found[name] @ found[name].T, value @ value.T
        close(found[name], value, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(found["priors"], plain["priors"], atol=1e-2)
    assert not torch.allclose(found["feature_mean"], plain["feature_mean"], atol=1e-2)


def test_clusters_weights_are_copies_of_texts():
    kept = np.flatnonzero(WEIGHTS)
    texts, copies = [X[i] for i in kept], [X[i] for i in TWICE]
    found = _features(texts, Y[kept], WEIGHTS[kept])
    expected = _features(copies, Y[TWICE], None).toarray()
    norms = np.linalg.norm(found.toarray(), axis=1, keepdims=True)
    np.testing.assert_allclose(found.toarray() / np.maximum(norms, 1e-9), expected, atol=1e-6)
    assert np.abs(_features(texts, Y[kept], None).toarray() - expected).max() > 0.05


def test_cached_clusters_depend_on_weights(tmp_path):
    memory, clusterer = Memory(tmp_path, verbose=0), BalancedLabelClusterer(4, random_state=0)
    heavy = np.where(Y[:, [0]].toarray().ravel() > 0, 1e6, 1.0)
    found = [
        cached_clusters(memory, X, Y, None, clusterer, weights).labels_.tolist()
        for weights in (None, heavy, None)
    ]
    assert found[0] == found[2] != found[1]


# ---------------------------------------------------------------- fit


@pytest.mark.parametrize(
    "params", [{"precision": "bf16"}, {"early_stopping": True, "validation_fraction": 0.25}]
)
@pytest.mark.parametrize("mode", MODES)
def test_fit_weight_0_leaves_text_out(mode, params):
    kept = np.flatnonzero(WEIGHTS)
    found = make_classifier(mode, **params).fit(X, Y, sample_weight=WEIGHTS)
    expected = make_classifier(mode, **params)
    expected.fit([X[i] for i in kept], Y[kept], sample_weight=pd.Series(WEIGHTS[kept]))
    assert weights_digest(found) == weights_digest(expected)
    n_held_out = 11 if "early_stopping" in params else 0
    assert found.history_[0]["n_texts"] == len(kept) - n_held_out


@pytest.mark.parametrize("mode", MODES)
def test_fit_equal_weights_of_any_size_below_1_give_same_model(mode):
    """For example weights that sum to 1. Powers of 2 are divided exactly."""
    found = make_classifier(mode, max_epochs=1).fit(X, Y, sample_weight=np.full(64, 2.0**-20))
    expected = make_classifier(mode, max_epochs=1).fit(X, Y, sample_weight=np.ones(64))
    assert weights_digest(found) == weights_digest(expected)


@pytest.mark.parametrize("mode", MODES)
def test_fit_heavier_text_decides(mode):
    """The same text has one label or the other."""
    texts, y = ["the same text"] * 40 + X, [["a"], ["b"]] * 20 + [["c"]] * len(X)
    for heavy, light in (("a", "b"), ("b", "a")):
        weights = [{heavy: 1, light: 0.02}.get(labels[0], 1) for labels in y]
        clf = make_classifier(mode).fit(texts, y, sample_weight=weights)
        assert clf.predict_topk(["the same text"], k=1).labels == [[heavy]]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 63, r"has the shape \(63,\), but there are 64 texts\. Pass one number"),
        (np.ones((64, 1)), r"has the shape \(64, 1\), but there are 64 texts"),
        (["heavy"] * 64, r"must hold numbers, got \['heavy'"),
        ([1.0] * 5 + [-0.5] * 59, r"sample_weight\[5\] is -0\.5\. Pass finite numbers"),
        ([1.0] * 9 + [np.nan] * 55, r"sample_weight\[9\] is nan\. Pass finite numbers"),
        ([0] * 64, r"is 0 for all texts\. Pass a positive"),
        (1.0 - Y.sum(axis=1).astype(bool), r"is 0 for all texts( that have labels)?\. Pass"),
    ],
)
def test_fit_bad_sample_weight_raises_value_error(weights, message):
    with pytest.raises(ValueError, match=message):
        make_classifier().fit(X, Y, sample_weight=weights)


def test_fit_weights_only_of_texts_without_labels_raises_value_error():
    y = [["a"]] * 63 + [[]]
    with pytest.raises(ValueError, match="is 0 for all texts that have labels"):
        make_classifier().fit(X, y, sample_weight=[0] * 63 + [1])


# ---------------------------------------------------------------- inside other estimators


class Noting(Proba):
    """A stand-in that notes the weights of its texts, and that fits need as many."""

    def fit(self, X, y, sample_weight=None, label_names=None):
        assert len(X) == len(sample_weight)
        super().fit(X, y)
        self.weight_of_ = dict(zip(X, sample_weight, strict=True))
        return self


def noting():
    return Noting(np.tile(np.linspace(0.9, 0.1, 30), (64, 1)))


def test_search_and_pipeline_route_weights():
    """A search cuts them for each fold."""
    clf = make_classifier("direct", max_epochs=1)
    pipeline = make_pipeline(FunctionTransformer(list), clf)
    expected = make_classifier("direct", max_epochs=1).fit(X, Y, sample_weight=WEIGHTS)
    with config_context(enable_metadata_routing=True):
        clf.set_fit_request(sample_weight=True)
        scoring = precision_at_k_scorer(k=1)
        search = GridSearchCV(pipeline, {}, cv=2, scoring=scoring, error_score="raise")
        search.fit(X, Y, sample_weight=WEIGHTS)
    assert weights_digest(search.best_estimator_[-1]) == weights_digest(expected)


@pytest.mark.parametrize(
    ("wrap", "n_texts"),
    [
        (lambda clf: CalibratedClassifier(clf, validation_fraction=0.25, random_state=0), 31),
        (lambda clf: LightXMLEnsemble([("a", clf), ("b", clf)], fusion="learned"), 33),
        (lambda clf: LightXMLEnsemble([("a", clf)]), 64),
        (PropensityRanker, 64),
    ],
)
@pytest.mark.filterwarnings("ignore")  # the scores mean nothing
def test_meta_estimators_pass_weights_of_their_training_texts_on(wrap, n_texts):
    """Those of held-out texts are left out, as are zeros where texts are held out."""
    fitted = wrap(noting()).fit([str(i) for i in range(64)], Y, sample_weight=WEIGHTS)
    inner = fitted.estimators_[0] if hasattr(fitted, "estimators_") else fitted.estimator_
    for text, weight in inner.weight_of_.items():
        assert weight == WEIGHTS[int(text)]
    assert len(inner.weight_of_) == n_texts


@pytest.mark.parametrize("kind", [CalibratedClassifier, TunedThresholdClassifier])
def test_frozen_estimator_held_out_text_of_weight_0_is_left_out(kind):
    texts, _ = dataset()
    clf = kind(FrozenEstimator(fitted()))
    kept = np.flatnonzero(WEIGHTS)
    weighted = clone(clf).fit(texts, Y, sample_weight=WEIGHTS)
    expected = clone(clf).fit([texts[i] for i in kept], Y[kept])
    assert learned(weighted) == learned(expected) != learned(clf.fit(texts, Y))


def learned(clf):
    decision = getattr(clf, "calibration_probabilities_", None) or [[clf.best_score_]]
    return [list(part) for part in decision]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda clf: CalibratedClassifier(clf, validation_fraction=0.25, random_state=0),
        lambda clf: HierarchicalClassifier(clf, label_parents={2: 0}),
        lambda clf: LightXMLEnsemble([("a", clf)]),
        PropensityRanker,
        lambda clf: TunedThresholdClassifier(clf, validation_fraction=0.25, random_state=0),
    ],
)
@pytest.mark.filterwarnings("ignore")  # the scores mean nothing
def test_pipeline_routes_weights_to_meta_estimators_that_request_them(wrap):
    X = [str(i) for i in range(64)]
    with config_context(enable_metadata_routing=True):
        asking = wrap(noting()).set_fit_request(sample_weight=True)
        fitted = make_pipeline(FunctionTransformer(list), asking).fit(X, Y, sample_weight=WEIGHTS)
        inner = getattr(fitted[-1], "estimator_", None) or fitted[-1].estimators_[0]
        assert all(weight == WEIGHTS[int(text)] for text, weight in inner.weight_of_.items())
        with pytest.raises(UnsetMetadataPassedError, match=r"set_fit_request\({metadata}=True"):
            make_pipeline(FunctionTransformer(list), wrap(noting())).fit(
                X, Y, sample_weight=WEIGHTS
            )


def test_ensemble_of_member_without_weights_raises_type_error():
    members = [("a", make_classifier()), ("b", Proba(np.zeros((64, 30))))]
    with pytest.raises(TypeError, match="The fit of Proba does not take sample_weight"):
        LightXMLEnsemble(members).fit(X, Y, sample_weight=WEIGHTS)
