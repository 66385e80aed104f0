"""label_weight: a true label of weight 2 counts twice, one of weight 0 not at all."""

import copy

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
import torch.nn.functional as F
from classifier_fixtures import MODES, dataset, make_classifier, weights_digest
from network_reference import LABELS_OF_TEXTS, as_positives, losses_in_python
from network_reference import make_features as features_of_texts
from network_reference import make_network as network_of_clusters
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.class_weight import compute_class_weight

from skxmc import LightXMLClassifier, LightXMLEnsemble, from_pretrained
from skxmc._input.weights import resolve_label_weight
from skxmc._model import full_label
from skxmc._model.full_label import full_label_loss
from skxmc.metrics import precision_at_k_scorer

X, Y = dataset()
N_LABELS = Y.shape[1]
NAMES = np.array([f"l{i}" for i in range(N_LABELS)], dtype=object)
# Weights of the 12 labels of `network_reference`.
WEIGHTS = torch.tensor([3.0, 0.5, 1, 0, 2, 1, 10, 1, 0.1, 4, 1, 7])


def weighing(labels_of_texts, weights=WEIGHTS, texts=None):
    positives = as_positives(labels_of_texts)
    return positives._replace(weights=texts, pair_weights=weights[positives.labels])


# ---------------------------------------------------------------- the loss of all labels


@pytest.fixture
def tensors():
    """Return z, embeddings and biases of 12 labels in float64."""
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in ((6, 5), (12, 5), (12,))
    ]


def by_hand(tensors, positives):
    """Return the loss and its gradients, of which the last two are those of all chunks."""
    z, weight, bias = tensors
    of_weight, of_bias = torch.zeros_like(weight), torch.zeros_like(bias)

    def update(labels, *gradients):
        of_weight[labels], of_bias[labels] = gradients

    loss = full_label_loss(z, weight.detach(), bias.detach(), positives, update)
    return [loss, *torch.autograd.grad(loss, z), of_weight, of_bias]


@pytest.mark.parametrize("texts", [None, torch.tensor([1.0, 2, 1, 0.5, 0, 3])])
@pytest.mark.parametrize("labels_per_chunk", [1, 5, 100])
def test_full_label_loss_equals_autograd(tensors, texts, labels_per_chunk, monkeypatch):
    """`pos_weight` of PyTorch is the weight of a true label."""
    monkeypatch.setattr(full_label, "TRAINING_BLOCK", labels_per_chunk * 6)
    z, weight, bias = tensors
    targets = torch.zeros(6, 12, dtype=torch.float64)
    targets[as_positives(LABELS_OF_TEXTS).rows, as_positives(LABELS_OF_TEXTS).labels] = 1
    expected = F.binary_cross_entropy_with_logits(
        z @ weight.T + bias,
        targets,
        weight=None if texts is None else texts.double()[:, None],
        pos_weight=WEIGHTS.double(),
        reduction="sum",
    )
    expected = [expected / 6, *torch.autograd.grad(expected / 6, tensors)]
    weights = WEIGHTS.double()  # 0.1 is another number in float32
    found = by_hand(tensors, weighing(LABELS_OF_TEXTS, weights, texts))
    for value, own in zip(found, expected, strict=True):
        torch.testing.assert_close(value, own, rtol=0, atol=1e-10)


def test_full_label_loss_weight_2_adds_term_of_true_labels_once_more(tensors):
    z, weight, bias = tensors
    weights = torch.ones(12)
    weights[7] = 2  # of two texts
    term = F.softplus(-(z @ weight[7] + bias[7]))[[1, 3]].sum() / 6
    of_term = [term, *torch.autograd.grad(term, tensors)]
    once = by_hand(tensors, as_positives(LABELS_OF_TEXTS))
    for twice, one, more in zip(
        by_hand(tensors, weighing(LABELS_OF_TEXTS, weights)), once, of_term, strict=True
    ):
        torch.testing.assert_close(twice, one + more, rtol=0, atol=1e-10)


# ---------------------------------------------------------------- the losses of two stages


@pytest.mark.parametrize("n_candidate_clusters", [1, 2, 5])
def test_losses_equal_plain_python(n_candidate_clusters):
    network, features = network_of_clusters(), features_of_texts()
    losses = network.losses(features, weighing(LABELS_OF_TEXTS), n_candidate_clusters)
    recall, rank, _ = losses_in_python(
        network, features, LABELS_OF_TEXTS, n_candidate_clusters, label_weights=WEIGHTS.tolist()
    )
    assert losses.recall.item() == pytest.approx(recall, rel=1e-5)
    assert losses.rank.item() == pytest.approx(rank, rel=1e-5)


@pytest.mark.parametrize("texts", [None, torch.tensor([1.0, 2, 1, 0.5, 0, 3])])
def test_losses_gradients_equal_autograd(texts):
    """If all clusters are chosen, the losses are those of PyTorch, in float64."""
    network, features = network_of_clusters(), features_of_texts()
    positives, layout = weighing(LABELS_OF_TEXTS, texts=texts), network.layout
    losses = network.losses(features, positives, 5)
    parameters = list(network.parameters())
    found = torch.autograd.grad(losses.recall + losses.rank, parameters)

    wide = [p.detach().double().requires_grad_() for p in parameters]
    named = dict(zip(dict(network.named_parameters()), wide, strict=True))
    e = (features - network.feature_mean).double()
    z = e @ named["bottleneck.weight"].T + named["bottleneck.bias"]
    place = layout.cluster_of, layout.slot_of
    embeddings = named["label_table.weight"].unflatten(1, (-1, z.shape[1]))[place]
    rank_logits = z @ embeddings.T + named["label_table.bias"][place]
    recall_logits = e @ named["recall_head.weight"].T + named["recall_head.bias"]
    of_labels, of_clusters = torch.zeros(6, 12), torch.zeros(6, 5)
    weights, cluster_weights = torch.ones(6, 12), torch.ones(6, 5)
    for row, labels in enumerate(LABELS_OF_TEXTS):
        for label in sorted(labels, key=lambda label: WEIGHTS[label]):  # the heaviest comes last
            of_labels[row, label] = of_clusters[row, layout.cluster_of[label]] = 1
            weights[row, label] = WEIGHTS[label]
            cluster_weights[row, layout.cluster_of[label]] = WEIGHTS[label]
    if texts is not None:
        weights, cluster_weights = weights * texts[:, None], cluster_weights * texts[:, None]
    parts = (rank_logits, of_labels, weights), (recall_logits, of_clusters, cluster_weights)
    loss = sum(
        F.binary_cross_entropy_with_logits(
            logits, targets.double(), weight=by.double(), reduction="sum"
        )
        for logits, targets, by in parts
    )
    expected = torch.autograd.grad(loss / 6, wide)
    for own, other in zip(found, expected, strict=True):
        dense = own.to_dense() if own.is_sparse else own
        torch.testing.assert_close(dense.double(), other, rtol=1e-4, atol=1e-6)


# ---------------------------------------------------------------- the parameter


def test_balanced_weights_by_hand():
    y = sparse.csr_array(np.array([[1, 1, 0, 0], [1, 0, 0, 1], [1, 0, 0, 1]]))
    found = resolve_label_weight("balanced", np.arange(4), y)
    np.testing.assert_allclose(found, [2 / 3, 2, 1, 1])  # six pairs, three labels with texts
    found = resolve_label_weight("balanced", np.arange(4), y, np.array([4.0, 1, 1]))
    np.testing.assert_allclose(found, [4 / 6, 1, 1, 4 / 2])  # twelve pairs


def test_balanced_weights_are_those_of_scikit_learn_for_pairs():
    used = np.unique(Y.indices)
    found = resolve_label_weight("balanced", np.arange(N_LABELS), Y)
    assert len(used) < N_LABELS
    np.testing.assert_allclose(
        found[used], compute_class_weight("balanced", classes=used, y=Y.indices)
    )
    assert (np.delete(found, used) == 1).all()


@pytest.mark.parametrize("mode", MODES)
def test_fit_balanced_counts_texts_to_train_on(mode):
    """They are without those of weight 0 and held-out ones, and with texts of labels."""
    weights = np.arange(64) % 2.0
    params = {"early_stopping": True, "validation_fraction": 0.25, "max_epochs": 1}
    given = {"sample_weight": weights, "label_texts": ["about it"] * 20 + [None] * 10}
    order = np.random.default_rng(make_seed()).permutation(32)
    train = np.flatnonzero(weights)[np.sort(order[8:])]
    counts = np.asarray(Y[train].sum(axis=0)).ravel() + (np.arange(30) < 20)
    balanced = np.where(counts > 0, counts.sum() / (counts > 0).sum() / np.maximum(counts, 1), 1)
    found = make_classifier(mode, label_weight="balanced", **params).fit(X, Y, **given)
    expected = make_classifier(mode, label_weight=balanced, **params).fit(X, Y, **given)
    assert weights_digest(found) == weights_digest(expected)


def make_seed():
    """Return the seed that a fit with random_state=0 draws."""
    return np.random.RandomState(0).randint(np.iinfo(np.int32).max)


@pytest.mark.parametrize("mode", MODES)
def test_fit_weight_1_equals_none(mode):
    found = make_classifier(mode, label_weight=np.ones(N_LABELS)).fit(X, Y)
    assert weights_digest(found) == weights_digest(make_classifier(mode).fit(X, Y))


@pytest.mark.parametrize("mode", MODES)
def test_fit_dict_equals_array_by_name(mode):
    params = {"max_epochs": 1, "freeze_encoder": True}
    weights = np.ones(N_LABELS)
    weights[[3, 20]] = 5, 0
    by_name = make_classifier(mode, label_weight={"l3": 5, "l20": 0.0}, **params)
    by_place = make_classifier(mode, label_weight=weights.tolist(), **params)
    for clf in (by_name, by_place):
        clf.fit(X, Y, label_names=NAMES)
    plain = make_classifier(mode, **params).fit(X, Y)
    assert weights_digest(by_name) == weights_digest(by_place) != weights_digest(plain)


@pytest.mark.parametrize("mode", MODES)
def test_fit_heavier_label_decides(mode):
    """The same text has one label or the other."""
    texts, y = ["the same text"] * 40 + X, [["a"], ["b"]] * 20 + [["c"]] * len(X)
    for heavy, light in (("a", "b"), ("b", "a")):
        clf = make_classifier(mode, label_weight={light: 0}).fit(texts, y)
        assert clf.predict_topk(["the same text"], k=1).labels == [[heavy]]


def test_warm_start_with_new_label_needs_its_weight():
    clf = make_classifier("direct", warm_start=True, label_weight=[2.0, 1.0], max_epochs=1)
    clf.fit(X[:8], [["a"], ["b"]] * 4)
    y = [["a"], ["b"], ["0"], ["b"]]  # the new label comes last
    with pytest.raises(
        ValueError, match=r"label_weight has the shape \(2,\), but there are 3 labels"
    ):
        clf.fit(X[:4], y)
    digests = []
    for label_weight in ([1, 1, 9.0], {"0": 9}, [9.0, 1, 1]):
        twin = copy.deepcopy(clf).set_params(label_weight=label_weight)
        digests.append(weights_digest(twin.fit(X[:4], y)))
    assert digests[0] == digests[1] != digests[2]


COUNTED = np.linspace(0, 2, N_LABELS)
ARRAY_LIKES = {
    "tuple": tuple(COUNTED),
    "series": pd.Series(COUNTED),
    "series by label": pd.Series(COUNTED, index=NAMES)[::-1],
    "series of some": pd.Series(COUNTED, index=NAMES).drop("l15"),
    "polars": pl.Series(COUNTED),
    "pyarrow": pa.array(COUNTED),
    "range": range(N_LABELS),
}


@pytest.mark.parametrize("kind", ARRAY_LIKES)
def test_resolve_label_weight_array_like_is_array(kind):
    expected = {"series of some": np.where(NAMES == "l15", 1, COUNTED), "range": range(N_LABELS)}
    found = resolve_label_weight(ARRAY_LIKES[kind], NAMES, Y)
    np.testing.assert_array_equal(found, expected.get(kind, COUNTED))


@pytest.mark.parametrize(
    ("label_weight", "message"),
    [
        (
            [1.0] * 29,
            r"label_weight has the shape \(29,\), but there are 30 labels\. Pass one number per",
        ),
        (np.ones((30, 1)), r"label_weight has the shape \(30, 1\), but there are 30 labels"),
        (["heavy"] * 30, r"label_weight must hold numbers, got \['heavy'"),
        ({"l3": None, "l4": "heavy"}, r"label_weight must hold numbers, got \{'l3': None"),
        (
            [1.0] * 5 + [-0.5] * 25,
            r"label_weight is -0\.5 for the label 'l5'\. Pass numbers from 0 to 1e\+09\.",
        ),
        (np.full(30, np.nan), r"label_weight is nan for the label 'l0'\. Pass numbers"),
        ({"l9": np.inf}, r"label_weight is inf for the label 'l9'\. Pass numbers"),
        ({"l9": 2e9}, r"label_weight is 2000000000\.0 for the label 'l9'\. Pass numbers"),
        ([0] * 30, r"label_weight is 0 for all labels\. Pass a positive number for some\."),
        ((1.0,) * 29, r"label_weight has the shape \(29,\), but there are 30 labels"),
        ({1.0, 2.0}, r"label_weight must hold numbers, got \{1\.0, 2\.0\}"),
        (pd.Series({"tax": 2.0}), r"label_weight has an entry for 'tax', which is not a label"),
        (
            pd.Series([2.0, 1.0] * 15, [*NAMES[:29], "l0"]),
            "index of label_weight repeats 'l0'. Name",
        ),
        (2.0, r"'label_weight' parameter of LightXMLClassifier must be .* an array-like or None"),
        (
            {"l9": 2, "tax": 1},
            r"label_weight has an entry for 'tax', which is not a label\. The first .* is 'l0'",
        ),
        ("balance", r"'label_weight' parameter of LightXMLClassifier must be a str among"),
    ],
)
def test_fit_bad_label_weight_raises_value_error(label_weight, message):
    clf = make_classifier(label_weight=label_weight)
    with pytest.raises(ValueError, match=message):
        clf.fit(X, Y, label_names=NAMES)
    assert not hasattr(clf, "network_")


# ---------------------------------------------------------------- inside other estimators, files


def test_search_over_pipeline_finds_label_weight():
    pipeline = make_pipeline(FunctionTransformer(list), make_classifier("direct", max_epochs=1))
    weights = np.linspace(1, 2, N_LABELS)
    others = [np.square(weights), tuple(weights), pd.Series(weights)]
    grid = {"lightxmlclassifier__label_weight": [None, "balanced", *others]}
    scoring = precision_at_k_scorer(k=1)
    search = GridSearchCV(pipeline, grid, cv=2, scoring=scoring, error_score="raise").fit(X, Y)
    scores = search.cv_results_["split0_test_score"]
    assert len(set(scores)) > 1
    assert scores[3] == scores[4]
    best = search.best_params_["lightxmlclassifier__label_weight"]
    expected = make_classifier("direct", max_epochs=1, label_weight=best).fit(X, Y)
    assert weights_digest(search.best_estimator_[-1]) == weights_digest(expected)


@pytest.mark.parametrize(
    "label_weight",
    [
        "balanced",
        np.linspace(0, 2, 30, dtype=np.float32),
        [np.float32(2)] * 30,
        {np.int64(3): 2.5},
        tuple(np.linspace(0, 2, 30)),
        pd.Series(np.linspace(0, 2, 30)),
        pd.Series({np.int64(3): 2.5, 4: 0.5}),
        pl.Series(np.linspace(0, 2, 30)),
    ],
    ids=["balanced", "array", "list", "dict", "tuple", "series", "series by label", "polars"],
)
def test_label_weight_survives_clone_and_files(label_weight, tmp_path):
    clf = make_classifier("direct", max_epochs=1, label_weight=label_weight)
    repr(clf)
    clone(clf).fit(X, Y).save_pretrained(tmp_path / "model")
    LightXMLEnsemble([("a", clf)]).fit(X, Y).save_pretrained(tmp_path / "ensemble")
    joblib.dump(clf, tmp_path / "clf.joblib")
    for twin in (
        LightXMLClassifier.from_pretrained(tmp_path / "model"),
        from_pretrained(tmp_path / "ensemble").estimators_[0],
        joblib.load(tmp_path / "clf.joblib"),
    ):
        found = resolve_label_weight(twin.label_weight, np.arange(N_LABELS), Y)
        expected = resolve_label_weight(label_weight, np.arange(N_LABELS), Y)
        np.testing.assert_array_equal(found, expected)
