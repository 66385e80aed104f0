"""The embedding, bias and cluster of a label that is added to a trained model."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch.nn.functional import normalize

from skxmc import BalancedLabelClusterer
from skxmc._model.fitted import Model
from skxmc._model.network import LightXMLNetwork
from skxmc._training.new_labels import add_labels, weigh_texts

DIM = 10
CLUSTER_OF = np.array([0, 0, 0, 1, 1, 2, 2, 2, 3, 3])


class StubEncoder(torch.nn.Module):
    """Encoder that only has a width. Tests make up the representations."""

    config = SimpleNamespace(hidden_size=DIM)


def make_model(bottleneck_dim=6, *, direct=False, separate_encoders=False):
    clusterer = BalancedLabelClusterer(1 if direct else 3)
    clusterer.labels_ = np.arange(10) if direct else CLUSTER_OF
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = LightXMLNetwork(
            StubEncoder(),
            clusterer.labels_,
            n_feature_layers=1,
            bottleneck_dim=bottleneck_dim,
            dropout=0.5,
            separate_encoders=separate_encoders,
        ).eval()
        torch.nn.init.normal_(network.label_table.weight, 0.3)
        torch.nn.init.uniform_(network.label_table.bias, -6, -2)
        torch.nn.init.normal_(network.feature_mean)
    return Model(network, None, clusterer, np.arange(10), 2e-3)


def add(model, features, y=None, n_texts=100):
    y = np.eye(len(features)) if y is None else y
    y = sp.csr_array(np.asarray(y, dtype=np.float32))
    batches = [([row], [features[[row]]]) for row in range(len(features))]
    model = model._replace(network=copy.deepcopy(model.network))
    return add_labels(model, 10 + np.arange(y.shape[1]), y, batches, n_texts)


def embeddings_of(network):
    layout = network.layout
    return network.label_table.by_cluster()[layout.cluster_of, layout.slot_of]


def biases_of(network):
    return network.label_table.bias.detach()[network.layout.cluster_of, network.layout.slot_of]


def random_features(n, width=DIM, seed=0):
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("direct", [False, True])
def test_add_labels_embedding_is_mean_plus_direction_of_texts(direct, separate):
    model = make_model(direct=direct, separate_encoders=separate)
    features = random_features(3, 2 * DIM if separate else DIM)
    network = add(model, features, [[1, 0], [2, 0], [0, 1]]).network
    of_rank = torch.from_numpy(features[:, -DIM:])
    centroids = torch.stack([(of_rank[0] + 2 * of_rank[1]) / 3, of_rank[2]])
    before = embeddings_of(model.network)
    mean = before.mean(0)
    z = (centroids - network.feature_mean) @ network.bottleneck.weight.detach().T
    z -= torch.outer(z @ mean, mean) / (mean @ mean)
    length = (before - mean).norm(dim=1).mean()
    torch.testing.assert_close(embeddings_of(network)[:10], before)
    torch.testing.assert_close(embeddings_of(network)[10:], mean + length * normalize(z))
    assert not network.label_table.by_cluster()[network.layout.labels_of < 0].any()


def test_add_labels_without_bottleneck_maps_direction_by_other_embeddings():
    model = make_model(None)
    features = random_features(1)
    new = embeddings_of(add(model, features).network)[10]
    before = embeddings_of(model.network)
    mean = before.mean(0)
    z = torch.from_numpy(features[0]) - model.network.feature_mean
    z -= (z @ mean) * mean / (mean @ mean)
    expected = (before - mean).T @ ((before - mean) @ z)
    torch.testing.assert_close(normalize(new - mean, dim=0), normalize(expected, dim=0))


def test_add_labels_to_single_label_keeps_direction():
    model = make_model(direct=True)
    clusterer = copy.copy(model.clusterer)
    clusterer.labels_ = np.arange(1)
    network = LightXMLNetwork(
        StubEncoder(), np.arange(1), n_feature_layers=1, bottleneck_dim=6, dropout=0.0
    ).eval()
    torch.nn.init.normal_(network.label_table.weight)
    new, old = embeddings_of(
        add(Model(network, None, clusterer, np.arange(1), 2e-3), random_features(1)).network
    ).flip(0)
    torch.testing.assert_close(new.norm(), old.norm())
    assert normalize(new, dim=0) @ normalize(old, dim=0) < 0.99


def test_add_labels_bias_is_log_prior_within_trained_biases():
    model = make_model()
    y = np.zeros((40, 3))
    y[:30, 0] = y[30:, 1] = y[39, 2] = 1
    before = biases_of(model.network)
    found = biases_of(add(model, random_features(40), y).network)[10:]
    assert found[0] == np.float32(before.max())  # of 30 texts
    assert found[1] == pytest.approx(np.log(10.1 / 91) - 1)
    more = biases_of(add(model, random_features(40), np.ones((40, 1)), n_texts=3).network)
    assert more[10] == np.float32(before.max())
    assert biases_of(add(model, random_features(1), n_texts=10**12).network)[10] == before.min()


def test_add_labels_without_text_gets_mean_embedding():
    model = make_model()
    network = add(model, random_features(1), [[1, 0]]).network
    torch.testing.assert_close(embeddings_of(network)[11], embeddings_of(model.network).mean(0))


def test_add_labels_fill_nearest_cluster_then_next_best():
    """Ten labels and six new ones in four clusters: the mean is 4, so there is room for 6."""
    model = make_model()
    head = model.network.recall_head
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.0, 3.0, 2.0, 1.0]))
    found = add(model, random_features(6))
    assert found.clusterer.labels_[10:].tolist() == [1, 1, 1, 1, 2, 2]
    assert found.network.layout.max_size == 6
    assert found.clusterer.labels_[:10].tolist() == CLUSTER_OF.tolist()
    torch.testing.assert_close(found.network.recall_head.bias, head.bias)


def test_add_labels_many_at_once_all_find_room():
    found = add(make_model(), random_features(60))
    sizes = np.bincount(found.clusterer.labels_)
    assert sizes.sum() == 70
    assert sizes.max() <= 27  # one and a half times the mean, rounded up


def test_add_labels_direct_mode_appends_rows():
    model = make_model(direct=True)
    found = add(model, random_features(2))
    assert found.clusterer.labels_.tolist() == list(range(12))
    assert found.network.label_table.weight.shape == (13, 6)
    assert not found.network.label_table.weight[-1].any()  # the dummy cluster
    assert found.classes.tolist() == list(range(12))


def test_weigh_texts_last_rows_weigh_twice():
    y = sp.csr_array(np.array([[1, 0], [1, 1], [0, 1]], dtype=np.float32))
    assert weigh_texts(y, 1).toarray().tolist() == [[1, 0], [1, 1], [0, 2]]
    assert weigh_texts(y, 0).toarray().tolist() == y.toarray().tolist()
