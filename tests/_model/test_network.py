"""Losses and scores, compared with plain Python over explicit sets of candidates."""

import numpy as np
import pytest
import torch
from network_reference import (
    CLUSTER_OF,
    LABELS_OF_TEXTS,
    as_positives,
    cluster_logits,
    clusters_to_rank,
    every_label_loss,
    label_logit,
    losses_in_python,
    make_features,
    make_network,
    note_clusters,
    sigmoid,
)

from skxmc._model.network import MIN_SCORE


@pytest.fixture(params=["cpu", "like cuda"])
def path(request, monkeypatch):
    """Run both code paths for lists of clusters. That of a GPU pads with the dummy cluster."""
    if request.param == "like cuda":
        monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    return request.param


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("n_candidate_clusters", [1, 2, 3, 5])
def test_losses_equal_plain_python(path, n_candidate_clusters):
    network, features = make_network(), make_features()
    losses = network.losses(features, as_positives(LABELS_OF_TEXTS), n_candidate_clusters)
    recall, rank, candidates = losses_in_python(
        network, features, LABELS_OF_TEXTS, n_candidate_clusters
    )
    assert all(set(y) <= c for y, c in zip(LABELS_OF_TEXTS, candidates, strict=True))
    assert losses.recall.item() == pytest.approx(recall, rel=1e-5)
    assert losses.rank.item() == pytest.approx(rank, rel=1e-5)


def test_losses_ignore_the_dummy_cluster(path):
    """All texts choose the same clusters, so most of the list on a GPU is padding."""
    features = make_features(1).expand(4, -1)
    network = make_network(np.arange(40) // 2 % 17)  # clusters of four and of two labels
    labels = [[0, 1, 34], [0], [], [35]]
    listed = note_clusters(network)
    losses = network.losses(features, as_positives(labels), 2)
    (clusters,) = listed
    assert ((clusters == 17).sum() > 5) == (path == "like cuda")
    recall, rank, _ = losses_in_python(network, features, labels, 2)
    assert losses.recall.item() == pytest.approx(recall, rel=1e-5)
    assert losses.rank.item() == pytest.approx(rank, rel=1e-5)
    with torch.no_grad():
        network.label_table.by_cluster()[network.layout.labels_of < 0] = 1e3
        network.label_table.bias[network.layout.labels_of < 0] = 1e3
    assert network.losses(features, as_positives(labels), 2).rank.item() == losses.rank.item()


def test_losses_given_clusters_rank_their_labels(path):
    network, features = make_network(), make_features()
    chosen = torch.tensor([[0, 1], [2, 3], [4, 0], [1, 3], [2, 4], [0, 4]])
    losses = network.losses(features, as_positives(LABELS_OF_TEXTS), 5, chosen=chosen)
    recall, rank, candidates = losses_in_python(network, features, LABELS_OF_TEXTS, 5, chosen)
    assert candidates[0] == {1, 3, 8, 4, 9} | {0}
    assert losses.recall.item() == pytest.approx(recall, rel=1e-5)
    assert losses.rank.item() == pytest.approx(rank, rel=1e-5)


@pytest.mark.parametrize("objective", ["recall", "rank"])
@pytest.mark.parametrize("chosen", [None, torch.tensor([[0, 1]] * 6)], ids=["dynamic", "static"])
def test_losses_single_objective_equals_its_part_of_both(objective, chosen):
    network, features = make_network(), make_features()
    positives = as_positives(LABELS_OF_TEXTS)
    both = network.losses(features, positives, 2, chosen=chosen)
    alone = network.losses(features, positives, 2, chosen=chosen, objective=objective)
    assert getattr(alone, objective).item() == getattr(both, objective).item() > 0
    assert getattr(alone, {"recall": "rank", "rank": "recall"}[objective]).item() == 0
    sum(alone).backward()
    trained = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None}
    assert trained == {"recall": {"recall_head"}, "rank": {"bottleneck", "label_table"}}[objective]


def test_losses_separate_encoders_give_each_head_its_own_features():
    """The features of the ranking head follow those of the recall head."""
    network = make_network()
    left, right = make_features(), make_features().flip(0)
    of_left, of_right = (network.losses(e, as_positives(LABELS_OF_TEXTS), 2) for e in (left, right))
    chosen = torch.tensor([[0, 1]] * 6)
    rank = network.losses(right, as_positives(LABELS_OF_TEXTS), 2, chosen=chosen).rank
    network.separate_encoders()
    assert network.settings["separate_encoders"]
    assert network.rank_encoder is not network.encoder
    features = torch.cat([left, right], dim=1)
    both = network.losses(features, as_positives(LABELS_OF_TEXTS), 2, chosen=chosen)
    assert both.recall.item() == pytest.approx(of_left.recall.item(), rel=1e-6)
    assert both.recall.item() != pytest.approx(of_right.recall.item(), rel=1e-2)
    assert both.rank.item() == pytest.approx(rank.item(), rel=1e-6)


def test_losses_candidates_follow_the_recall_head():
    network, features = make_network(), make_features()
    positives = as_positives([[0]] * 6)
    before = network.losses(features, positives, 2).rank.item()
    with torch.no_grad():
        network.recall_head.bias[1] += 100
    after = network.losses(features, positives, 2).rank.item()
    _, rank, candidates = losses_in_python(network, features, [[0]] * 6, 2)
    assert all(c == {0, 6, 4, 9} for c in candidates)
    assert after == pytest.approx(rank, rel=1e-5)
    assert after != pytest.approx(before, rel=1e-3)


def test_losses_texts_without_labels_equal_plain_python(path):
    network, features = make_network(), make_features()
    losses = network.losses(features, as_positives([[]] * 6), 2)
    recall, rank, _ = losses_in_python(network, features, [[]] * 6, 2)
    assert losses.recall.item() == pytest.approx(recall, rel=1e-5)
    assert losses.rank.item() == pytest.approx(rank, rel=1e-5)


def test_rank_loss_does_not_train_the_recall_head():
    network, features = make_network(), make_features().requires_grad_()
    network.losses(features, as_positives(LABELS_OF_TEXTS), 2).rank.backward()
    assert network.recall_head.weight.grad is None
    assert network.recall_head.bias.grad is None
    assert network.bottleneck.weight.grad.any()
    assert features.grad.any()


def test_rank_loss_sparse_gradients_equal_dense_autograd(path):
    """The reference is autograd through the whole table and a dense (texts, labels) mask."""
    network, features = make_network(), make_features()
    labels = LABELS_OF_TEXTS
    listed = note_clusters(network)
    network.losses(features, as_positives(labels), 2).rank.backward()
    (clusters,) = listed
    table = network.label_table
    _, _, candidates = losses_in_python(network, features, labels, 2)
    whole_weight = table.by_cluster().clone().requires_grad_()
    whole_bias = table.bias.detach().clone().requires_grad_()
    layout = network.layout
    z = network.bottleneck(features - network.feature_mean)
    logits = z @ whole_weight[layout.cluster_of, layout.slot_of].T
    logits = logits + whole_bias[layout.cluster_of, layout.slot_of]
    ranked = torch.tensor([[label in c for label in range(12)] for c in candidates])
    targets = torch.tensor([[float(label in c) for label in range(12)] for c in labels])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    (loss[ranked].sum() / len(features)).backward()
    for found, expected in (
        (table.weight.grad, whole_weight.grad),
        (table.bias.grad, whole_bias.grad),
    ):
        assert found.is_sparse  # the gradient of the whole table never exists
        assert torch.equal(found._indices()[0], clusters)
        torch.testing.assert_close(found._values(), expected.flatten(1)[clusters])
        not_taken = np.setdiff1d(np.arange(6), clusters.numpy())
        assert not expected[not_taken].any()


# ---------------------------------------------------------------- training and evaluation


def test_dropout_is_active_only_in_training():
    network, features = make_network(dropout=0.5), make_features()
    positives = as_positives(LABELS_OF_TEXTS)

    def both():
        return torch.stack([*network.losses(features, positives, 2)]).tolist()

    assert both() != both()
    network.eval()
    first = both()
    assert first == both()
    recall, rank, _ = losses_in_python(network, features, LABELS_OF_TEXTS, 2)
    assert first == pytest.approx([recall, rank], rel=1e-5)
    scores = network.scores(features, 2)[1]
    torch.testing.assert_close(scores, network.scores(features, 2)[1], rtol=0, atol=0)
    assert network.settings["dropout"] == 0.5


def test_dropout_text_at_the_mean_is_unchanged():
    """The mean is subtracted before the dropout, so such a text has nothing to drop."""
    network = make_network(dropout=0.5)
    features = network.feature_mean.expand(3, -1)
    positives = as_positives([[0], [1], []])
    losses = [torch.stack([*network.losses(features, positives, 2)]) for _ in range(2)]
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize("n_candidate_clusters", [1, 3, 5])
def test_scores_equal_plain_python(path, n_candidate_clusters):
    network, features = make_network().eval(), make_features()
    labels, scores = network.scores(features, n_candidate_clusters)
    assert labels.shape == scores.shape == (6, 3 * n_candidate_clusters)
    assert scores.dtype == torch.float32
    for e, row, of_row in zip(features, labels.tolist(), scores.tolist(), strict=True):
        logits = cluster_logits(network, e)
        clusters = clusters_to_rank(logits, set(), n_candidate_clusters)
        expected = {
            label: sigmoid(label_logit(network, e, label)) * sigmoid(logits[cluster])
            for label, cluster in enumerate(CLUSTER_OF)
            if cluster in clusters
        }
        found = {label: score for label, score in zip(row, of_row, strict=True) if label >= 0}
        assert found == pytest.approx(expected, rel=1e-5)
        assert len(row) - row.count(-1) == len(expected)  # no label twice
        assert all(s == 0 for label, s in zip(row, of_row, strict=True) if label < 0)


def test_scores_that_underflow_are_min_score():
    network, features = make_network().eval(), make_features()
    with torch.no_grad():
        network.label_table.bias -= 200
        network.recall_head.bias -= 200
    labels, scores = network.scores(features, 5)
    assert (scores[labels >= 0] == MIN_SCORE).all()
    assert (scores[labels < 0] == 0).all()
    assert (labels < 0).any()


def test_scores_of_text_alone_equal_scores_in_batch(path):
    network, features = make_network().eval(), make_features()
    labels, scores = network.scores(features, 2)
    for i in range(len(features)):
        alone = network.scores(features[i : i + 1], 2)
        assert alone[0].tolist() == labels[i : i + 1].tolist()
        torch.testing.assert_close(alone[1], scores[i : i + 1], rtol=1e-5, atol=0)


# ---------------------------------------------------------------- direct mode


def test_network_direct_mode_ranks_every_label():
    network, features = make_network(np.array([2, 0, 3, 1])).eval(), make_features(3)
    assert network.direct
    names = {name.split(".")[0] for name in network.state_dict()}
    assert names == {"feature_mean", "bottleneck", "label_table"}  # no recall head
    positives = as_positives([[0, 3], [], [2]])
    losses = network.losses(features, positives, 2)
    rank = every_label_loss(network, features, [[0, 3], [], [2]])
    assert losses.rank.item() == pytest.approx(rank, rel=1e-5)
    assert losses.recall.item() == 0
    labels, scores = network.scores(features, 4)
    for e, row, of_row in zip(features, labels.tolist(), scores.tolist(), strict=True):
        of_label = {label: sigmoid(label_logit(network, e, label)) for label in range(4)}
        assert dict(zip(row, of_row, strict=True)) == pytest.approx(of_label, rel=1e-5)
        assert of_row == sorted(of_row, reverse=True)


def test_network_single_cluster_of_labels_is_not_direct():
    network, features = make_network(np.zeros(3, dtype=np.int64)).eval(), make_features()
    assert not network.direct
    labels, _ = network.scores(features, 1)
    assert labels.tolist() == [[0, 1, 2]] * 6


# ---------------------------------------------------------------- a GPU


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("cluster_of", [CLUSTER_OF, np.arange(12)])
def test_losses_and_scores_on_cuda_equal_cpu(cluster_of):
    network, features = make_network(cluster_of), make_features()
    here = network.losses(features, as_positives(LABELS_OF_TEXTS), 2)
    network.cuda()
    there = network.losses(features.cuda(), as_positives(LABELS_OF_TEXTS, "cuda"), 2)
    (there.recall + there.rank).backward()
    for a, b in zip(here, there, strict=True):
        torch.testing.assert_close(a, b.cpu(), rtol=1e-4, atol=1e-4)
    labels, scores = network.eval().scores(features.cuda(), 2)
    on_cpu = network.cpu().scores(features, 2)
    assert labels.tolist() == on_cpu[0].tolist()
    torch.testing.assert_close(scores.cpu(), on_cpu[1], rtol=1e-4, atol=1e-6)
