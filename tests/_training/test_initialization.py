"""Initialization of the heads: log priors, and the centroids of each label's texts."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from skxmc._model.network import LightXMLNetwork
from skxmc._training import initialization
from skxmc._training.initialization import start_at_centroids, start_at_priors, start_at_random

CLUSTER_OF = np.array([1, 0, 1, 0, 2, 1, 3, 3])  # label 5 and all of cluster 3 have no text
N_TEXTS, DIM = 300, 10


class StubEncoder(torch.nn.Module):
    """Encoder that only has a width. Tests make up the representations."""

    config = SimpleNamespace(hidden_size=DIM)


def make_network(bottleneck_dim=6, cluster_of=CLUSTER_OF):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LightXMLNetwork(
            StubEncoder(),
            cluster_of,
            n_feature_layers=1,
            bottleneck_dim=bottleneck_dim,
            dropout=0.5,
        ).eval()


@pytest.fixture(scope="module")
def y():
    """Give label 0 to all texts, 1 to half, 2 and 3 to few, 4 to one, and the others to none."""
    rng = np.random.default_rng(0)
    dense = rng.random((N_TEXTS, 8)) < [1, 0.5, 0.1, 0.03, 0, 0, 0, 0]
    dense[7, 4] = True
    return sp.csr_array(dense.astype(np.float32))


@pytest.fixture(scope="module")
def features(y):
    """Make representations far from 0 with unequal variances, which separate labels 1 to 4."""
    rng = np.random.default_rng(1)
    shapes = rng.normal(size=(8, DIM))
    noise = rng.normal(size=(N_TEXTS, DIM))
    spread = np.linspace(3, 0.5, DIM) * np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    return ((2 * y.toarray() @ shapes + noise) @ spread + 20).astype(np.float32)


def start(features, y, seed=0, *, n_label_texts=0, max_texts=N_TEXTS, **options):
    network = make_network(**options)
    start_at_priors(network, y)
    rng = np.random.default_rng(seed)
    start_at_centroids(
        network, y, lambda rows: features[rows], rng, n_label_texts, max_texts=max_texts
    )
    return network


def label_rows(network):
    layout = network.layout
    return network.label_table.by_cluster()[layout.cluster_of, layout.slot_of].numpy()


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


# ---------------------------------------------------------------- priors


def test_start_at_priors_biases_are_log_odds(y):
    network = make_network()
    start_at_priors(network, y)
    dense = y.toarray() > 0
    of_labels = dense.mean(axis=0)
    of_clusters = np.stack([dense[:, c == CLUSTER_OF].any(axis=1) for c in range(4)]).mean(axis=1)
    recall = network.recall_head.bias.detach().sigmoid().numpy()
    np.testing.assert_allclose(recall, of_clusters, atol=0.004)
    layout = network.layout
    bias = network.label_table.bias.detach()[layout.cluster_of, layout.slot_of]
    np.testing.assert_allclose(bias.sigmoid().numpy(), of_labels, atol=0.004)
    assert network.recall_head.bias.isfinite().all()
    assert bias.isfinite().all()  # for labels on no text and on all texts too
    assert bias.abs().max() < 12
    assert network.recall_head.weight.abs().max() < 0.1  # the priors decide


def test_start_at_priors_embeddings_are_random_of_length_one(y):
    network = make_network(bottleneck_dim=1000)
    start_at_priors(network, y)
    lengths = network.label_table.by_cluster().norm(dim=2)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=0, atol=0.15)
    assert abs(network.label_table.weight.mean().item()) < 0.002


def test_start_at_random_does_not_depend_on_labels(y):
    network, other = make_network(), make_network()
    start_at_priors(network, y)
    for trained in (network, other):
        torch.manual_seed(0)
        start_at_random(trained)
        assert not trained.recall_head.bias.any()
        assert not trained.label_table.bias.any()
    torch.testing.assert_close(network.state_dict(), other.state_dict())
    assert 0 < network.recall_head.weight.abs().max() < 0.1
    start_at_priors(other, y)
    assert other.recall_head.weight.std().item() == pytest.approx(0.01, rel=0.2)


def test_start_at_priors_direct_mode_biases_are_log_odds(y):
    network = make_network(cluster_of=np.array([7, 6, 5, 4, 3, 2, 1, 0]))
    start_at_priors(network, y)
    odds = network.label_table.by_label()[1].sigmoid().numpy()
    np.testing.assert_allclose(odds[::-1], y.toarray().mean(axis=0), atol=0.004)


# ---------------------------------------------------------------- centroids


def test_start_at_centroids_bottleneck_is_whitened_components(features, y):
    network = start(features, y)
    mean = features.mean(axis=0)
    np.testing.assert_allclose(network.feature_mean, mean, rtol=1e-5)
    weight = network.bottleneck.weight.detach().numpy()
    axes = np.linalg.svd(features - mean, full_matrices=False)[2]
    np.testing.assert_allclose(np.abs(cosines(weight, axes[:6])), 1, atol=1e-3)
    spread = ((features - mean) @ weight.T).std(axis=0)
    assert (np.diff(spread) < 1e-4).all()
    variances = np.linalg.eigvalsh(np.cov(features.T.astype(float), bias=True))
    # Regularized by the mean of all variances, and by 1% of the mean square, for encoders whose
    # states hardly differ.
    floor = variances.mean() + 0.01 * np.mean(features.astype(float) ** 2)
    expected = np.sqrt(variances / (variances + floor))[::-1][:6]
    np.testing.assert_allclose(spread, expected, rtol=1e-3)
    assert not network.bottleneck.bias.any()


def test_start_at_centroids_small_components_keep_less_weight(features, y):
    network = start(features - features.mean(axis=0), y, bottleneck_dim=DIM)
    weight = network.bottleneck.weight.detach().numpy()
    spread = ((features - features.mean(axis=0)) @ weight.T).std(axis=0)
    assert 0.7 < spread[0] <= 1
    assert spread[-1] < 0.6 * spread[0]


def test_start_at_centroids_weights_point_to_centroids(features, y):
    network = start(features, y)
    centered = features - features.mean(axis=0)
    z = centered @ network.bottleneck.weight.detach().numpy().T
    rows = label_rows(network)
    own = np.stack([z[y.toarray()[:, label] > 0].mean(axis=0) for label in range(1, 5)])
    np.testing.assert_allclose(cosines(rows[1:5], own), 1, atol=1e-4)
    # A label without text starts at the centroid of its cluster, or at 0 if that has no text.
    of_cluster = z[y.toarray()[:, CLUSTER_OF == 0].any(axis=1)].mean(axis=0)
    norms = np.linalg.norm(rows[1:6], axis=1)
    np.testing.assert_allclose(norms[:4], norms[0], rtol=1e-4)  # rare labels are as long as others
    assert not rows[6:].any()
    # The recall head has the same directions, through the bottleneck.
    recall = centered @ network.recall_head.weight.detach().numpy().T
    expected = z @ of_cluster / np.linalg.norm(of_cluster)
    assert np.corrcoef(recall[:, 0], expected)[0, 1] > 1 - 1e-6
    assert recall[:, 0] @ expected > 0


def test_start_at_centroids_label_without_text_gets_cluster_centroid(features, y):
    y = y.tolil()
    y[:, 0] = 0  # otherwise the cluster of label 5 has all texts, and its centroid is 0
    network = start(features, y.tocsr())
    z = features - features.mean(axis=0)
    z = z @ network.bottleneck.weight.detach().numpy().T
    of_cluster = z[y.toarray()[:, CLUSTER_OF == 1].any(axis=1)].mean(axis=0)
    rows = label_rows(network)
    np.testing.assert_allclose(cosines(rows[[0, 5]], of_cluster[None]), 1, atol=1e-4)


def test_start_at_centroids_untrained_network_ranks_labels(features, y):
    """For each label, its own texts score higher than other texts."""
    network = start(features, y)
    labels, scores = network.scores(torch.from_numpy(features), 4)
    by_label = torch.zeros(N_TEXTS, 8).scatter_add_(1, labels.clamp_min(0), scores)
    for label in (1, 2, 3):
        has_it = torch.from_numpy(y.toarray()[:, label] > 0)
        above = by_label[has_it, label][:, None] > by_label[~has_it, label]
        assert above.float().mean() > 0.8


def test_start_at_centroids_label_of_all_texts_gets_zero_weights(features, y):
    network = start(features, y)
    assert not network.recall_head.weight[1].any()  # the cluster of label 0
    assert not label_rows(network)[0].any()


def test_start_at_centroids_shifts_all_biases_equally(features, y):
    network, at_priors = start(features, y), make_network()
    start_at_priors(at_priors, y)
    shift = network.recall_head.bias - at_priors.recall_head.bias
    torch.testing.assert_close(shift, torch.full((4,), -1.0))
    shift = network.label_table.bias - at_priors.label_table.bias
    torch.testing.assert_close(shift, torch.full((5, 3), -1.0))


def test_start_at_centroids_mean_text_on_centroid_has_logit_12(features, y):
    """This text has the mean norm and lies on the centroid of its cluster."""
    network = start(features, y)
    components = network.bottleneck.weight.detach().numpy()
    z = (features - features.mean(axis=0)) @ components.T
    of_cluster = z[y.toarray()[:, CLUSTER_OF == 0].any(axis=1)].mean(axis=0)
    unit = of_cluster / np.linalg.norm(of_cluster)
    expected = 12 / np.linalg.norm(z, axis=1).mean() * unit
    np.testing.assert_allclose(network.recall_head.weight[0].detach(), expected @ components, 1e-3)
    own = z[y.toarray()[:, 1] > 0].mean(axis=0)
    expected = 12 / np.linalg.norm(z, axis=1).mean() * own / np.linalg.norm(own)
    np.testing.assert_allclose(label_rows(network)[1], expected, 1e-3)


def test_start_at_priors_bottleneck_is_as_small_as_linear_layer(y):
    network = make_network()
    start_at_priors(network, y)
    largest = network.bottleneck.weight.abs().max().item()
    assert 0.8 < largest * DIM**0.5 <= 1


def test_start_at_centroids_label_text_weighs_as_two_texts(features, y):
    network = start(features, y, n_label_texts=20)
    assert y.toarray()[-20:, 2].any()
    z = (features - network.feature_mean.numpy()) @ network.bottleneck.weight.detach().numpy().T
    weight = np.where(np.arange(N_TEXTS) < N_TEXTS - 20, 1, 2)
    for label in (1, 2, 4):
        centroid = (weight * y.toarray()[:, label]) @ z
        row = label_rows(network)[label]
        assert cosines(centroid[None], row[None])[0] == pytest.approx(1, abs=1e-5)


def test_start_at_centroids_noise_adds_to_variance_of_components(features, y):
    clean = start(features, y).bottleneck.weight.detach().numpy()
    noise = 3 * np.random.default_rng(1).normal(size=(50, DIM)).astype(np.float32)
    network = make_network()
    start_at_priors(network, y)
    start_at_centroids(
        network, y, lambda rows: features[rows], np.random.default_rng(0), noise=noise
    )
    noisy = network.bottleneck.weight.detach().numpy()
    np.testing.assert_allclose(np.abs(cosines(noisy, clean)), 1, atol=1e-4)  # the same axes
    axes = clean / np.linalg.norm(clean, axis=1, keepdims=True)
    variance = np.linalg.norm(clean, axis=1) ** -2.0 + np.square(noise @ axes.T).mean(axis=0)
    np.testing.assert_allclose(np.linalg.norm(noisy, axis=1), variance**-0.5, rtol=1e-3)


def test_start_at_centroids_wide_bottleneck_gives_same_scores(features, y):
    network, exact = (
        start(features, y, bottleneck_dim=25),
        start(features, y, bottleneck_dim=DIM),
    )
    assert label_rows(network).shape == (8, 25)
    assert not label_rows(network)[:, DIM:].any()
    assert network.bottleneck.weight[DIM:].any()  # training can change them
    texts = torch.from_numpy(features)
    with torch.no_grad():
        for wide, narrow in zip(network.scores(texts, 4), exact.scores(texts, 4), strict=True):
            torch.testing.assert_close(wide, narrow, rtol=1e-4, atol=1e-7)


def test_start_at_centroids_direct_mode_ranks_labels(features, y):
    network = start(features, y, cluster_of=np.array([7, 6, 5, 4, 3, 2, 1, 0]))
    weight, bias = network.label_table.by_label()
    z = network.bottleneck(torch.from_numpy(features) - network.feature_mean)
    logits = (z @ weight.T + bias).detach().numpy()
    for label in (1, 2, 3):
        has_it = y.toarray()[:, label] > 0
        assert logits[has_it, 7 - label].mean() > logits[~has_it, 7 - label].mean() + 1
    assert not weight[[0, 1, 2]].any()  # labels without a text


def test_start_at_centroids_without_bottleneck_gives_same_scores(features, y, monkeypatch):
    """The rows of the dense head are the embeddings times the bottleneck."""
    monkeypatch.setattr(initialization, "MAX_COMPONENTS", 3)
    dense = start(features, y, cluster_of=np.arange(8), bottleneck_dim=None)
    low = start(features, y, cluster_of=np.arange(8), bottleneck_dim=3)
    assert torch.linalg.matrix_rank(dense.label_table.weight.detach()) == 3
    with torch.no_grad():
        scores = [network.scores(torch.from_numpy(features), 8) for network in (dense, low)]
    torch.testing.assert_close(*scores, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("difference", [0, 1e-7, 1e-5, 1e-3])
def test_start_at_centroids_near_constant_features_keep_weights_small(features, y, difference):
    noise = (features - features.mean(axis=0)) / features.std()
    network = start((5 * (1 + difference * noise)).astype(np.float32), y)
    assert network.bottleneck.weight.abs().max() < 3
    assert network.label_table.weight.abs().max() < 100
    assert network.recall_head.weight.abs().max() < 100


def test_start_at_centroids_scale_of_features_keeps_scores(features, y):
    """The logit of a text on a centroid is fixed, and the offset only raises the noise floor."""
    by_scale = []
    for scale in (0.1, 1, 10):
        network = start(features * np.float32(scale), y)
        _, scores = network.scores(torch.from_numpy(features) * scale, 4)
        by_scale.append(scores)
    torch.testing.assert_close(by_scale[0], by_scale[1], rtol=1e-2, atol=1e-4)
    torch.testing.assert_close(by_scale[2], by_scale[1], rtol=1e-2, atol=1e-4)


def test_start_at_centroids_one_text_gives_finite_weights():
    y = sp.csr_array(np.array([[1, 0, 1]], dtype=np.float32))
    features = np.ones((1, DIM), dtype=np.float32)
    for cluster_of in ([0, 0, 1], [0, 1, 2]):
        network = start(features, y, cluster_of=np.array(cluster_of))
        assert all(p.isfinite().all() for p in network.parameters())


def test_start_at_centroids_same_seed_gives_same_weights(features, y):
    first, again = start(features, y), start(features, y)
    for name, value in first.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    first, again, other = (start(features, y, seed=seed, max_texts=100) for seed in (0, 0, 1))
    assert torch.equal(first.label_table.weight, again.label_table.weight)
    assert not torch.equal(first.label_table.weight, other.label_table.weight)


def test_start_at_centroids_large_data_is_sampled_and_read_in_blocks(features, y, monkeypatch):
    whole = start(features, y)
    monkeypatch.setattr(initialization, "ROWS_BLOCK", 7)
    torch.testing.assert_close(start(features, y).label_table.weight, whole.label_table.weight)
    monkeypatch.setattr(initialization, "MAX_TEXTS_FOR_COVARIANCE", N_TEXTS - 20)
    in_parts = start(features, y)
    directions = [
        label_rows(network)[1:4] @ network.bottleneck.weight.detach().numpy()
        for network in (whole, in_parts)
    ]
    assert (cosines(*directions) > 0.98).all()  # the axes are nearly the same
    monkeypatch.setattr(initialization, "MAX_TEXTS_FOR_COVARIANCE", 20)
    asked = []

    def represent(rows):
        asked.append(rows)
        return features[rows]

    network = make_network()
    start_at_centroids(network, y, represent, np.random.default_rng(0), max_texts=50)
    assert len(asked[0]) == 20
    assert len(np.unique(np.concatenate(asked))) == sum(map(len, asked)) == 50  # each once
    assert [len(rows) for rows in asked[1:]] == [7, 7, 7, 7, 2]
    del asked[:]
    rng = np.random.default_rng(0)
    start_at_centroids(network, y, represent, rng, n_label_texts=30, max_texts=50)
    encoded = np.concatenate(asked)
    assert len(np.unique(encoded)) == len(encoded) == 80
    assert set(range(N_TEXTS - 30, N_TEXTS)) <= set(encoded)
    assert 0 < np.count_nonzero(asked[0] >= N_TEXTS - 30) < 20  # mixed


@pytest.mark.parametrize("bottleneck_dim", [6, None])
def test_start_at_centroids_as_on_gpu_gives_same_scores(features, y, bottleneck_dim, monkeypatch):
    monkeypatch.setattr(initialization, "MAX_TEXTS_FOR_COVARIANCE", N_TEXTS - 20)
    expected = start(features, y, bottleneck_dim=bottleneck_dim)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    eigh = []
    monkeypatch.setattr(np.linalg, "eigh", lambda matrix: eigh.append(matrix))
    found = start(features, y, bottleneck_dim=bottleneck_dim)
    assert not eigh
    texts = torch.from_numpy(features)
    logits = [
        (n.recall_logits(texts), n.embed(texts) @ n.label_table.by_cluster().flatten(0, 1).T)
        for n in (found, expected)
    ]
    torch.testing.assert_close(*logits, atol=1e-3, rtol=1e-3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_start_at_centroids_on_cuda_gives_same_logits(features, y):
    expected, found = start(features, y), make_network().to("cuda")
    start_at_priors(found, y)
    start_at_centroids(found, y, lambda rows: features[rows], np.random.default_rng(0))
    texts = torch.from_numpy(features)
    logits = found.recall_logits(texts.cuda()).cpu()
    torch.testing.assert_close(logits, expected.recall_logits(texts), atol=1e-2, rtol=1e-2)
