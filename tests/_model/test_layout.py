"""The places of labels, and the candidate clusters of texts."""

import numpy as np
import pytest
import torch

from skxmc._model.layout import (
    LabelLayout,
    Positives,
    _list_padded,
    dynamic_clusters,
    gather_candidates,
    top_clusters,
)

# Five clusters of two or three labels, in no order.
CLUSTER_OF = np.array([3, 0, 2, 0, 1, 4, 3, 2, 0, 1, 4, 2])


@pytest.fixture
def like_cuda(monkeypatch):
    """Run the code path of a GPU on the CPU. It must not wait for a count."""
    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)


def test_layout_places_each_label_in_one_slot():
    layout = LabelLayout(CLUSTER_OF)
    assert (layout.n_labels, layout.n_clusters) == (12, 5)
    assert (layout.min_size, layout.max_size) == (2, 3)
    assert layout.labels_of.tolist() == [
        [1, 3, 8],
        [4, 9, -1],
        [2, 7, 11],
        [0, 6, -1],
        [5, 10, -1],
        [-1, -1, -1],  # the dummy cluster
    ]
    labels = torch.arange(12)
    torch.testing.assert_close(layout.labels_of[layout.cluster_of, layout.slot_of], labels)
    np.testing.assert_array_equal(layout.cluster_of, CLUSTER_OF)
    assert not layout.state_dict()  # rebuilt from the clusters


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_layout_one_label_per_cluster_has_one_slot(dtype):
    layout = LabelLayout(np.array([2, 0, 1], dtype=dtype))
    assert layout.max_size == 1
    assert layout.labels_of.tolist() == [[1], [2], [0], [-1]]
    assert layout.slot_of.tolist() == [0, 0, 0]
    assert layout.cluster_of.dtype == torch.int64


def test_layout_copies_its_input():
    cluster_of = CLUSTER_OF.copy()
    layout = LabelLayout(cluster_of)
    cluster_of[:] = 0
    np.testing.assert_array_equal(layout.cluster_of, CLUSTER_OF)


def test_cluster_targets_mark_clusters_of_positives():
    layout = LabelLayout(CLUSTER_OF)
    positives = Positives(torch.tensor([0, 0, 0, 2]), torch.tensor([1, 3, 4, 10]))
    targets = layout.cluster_targets(positives, 3)
    assert targets.tolist() == [[1, 1, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]
    assert targets.dtype == torch.float32


def test_positives_to_moves_all_tensors():
    positives = Positives(torch.tensor([0]), torch.tensor([1]), torch.ones(1), torch.ones(1))
    positives = positives.to(torch.device("meta"))
    assert isinstance(positives, Positives)
    assert {tensor.device.type for tensor in positives} == {"meta"}


# ---------------------------------------------------------------- the choice


def test_dynamic_clusters_are_positive_clusters_then_best_recalled():
    logits = torch.tensor([[4.0, 3.0, -5.0, -6.0, 0.0], [4.0, 3.0, -5.0, -6.0, 0.0]])
    targets = torch.tensor([[0.0, 0, 0, 1, 0], [0.0, 0, 0, 0, 0]])
    chosen = dynamic_clusters(logits, targets, 3)
    assert [set(row) for row in chosen.tolist()] == [{3, 0, 1}, {0, 1, 4}]
    assert chosen[0, 0] == 3  # the positive cluster comes first
    # With more positive clusters than b, the best of them by the recall head.
    chosen = dynamic_clusters(logits, torch.tensor([[0.0, 1, 1, 1, 0]] * 2), 2)
    assert [set(row) for row in chosen.tolist()] == [{1, 2}, {1, 2}]


def test_dynamic_clusters_change_with_recall_logits():
    targets = torch.tensor([[0.0, 0, 1, 0, 0]])
    now = dynamic_clusters(torch.tensor([[4.0, 3.0, 0.0, -1.0, -2.0]]), targets, 2)
    then = dynamic_clusters(torch.tensor([[-4.0, 3.0, 0.0, -1.0, -2.0]]), targets, 2)
    assert (set(now[0].tolist()), set(then[0].tolist())) == ({2, 0}, {2, 1})


def test_dynamic_clusters_bfloat16_logits_compare_in_float32():
    """In bfloat16, 0.9990 and 0.9993 would be equal."""
    logits = torch.linspace(6.5, 7.25, 16, dtype=torch.bfloat16)[None]
    chosen = dynamic_clusters(logits, torch.zeros(1, 16), 1)
    assert logits[0, chosen[0, 0]] == logits.max()


def test_choice_of_clusters_has_no_gradient():
    logits = torch.randn(2, 5, requires_grad=True)
    assert not dynamic_clusters(logits, torch.zeros(2, 5), 2).requires_grad
    assert not top_clusters(logits, 2).requires_grad


def test_top_clusters_are_best_first():
    logits = torch.tensor([[0.0, 5.0, -1.0, 3.0], [2.0, 1.0, 9.0, 0.0]])
    assert top_clusters(logits, 3).tolist() == [[1, 3, 0], [2, 0, 1]]


# ---------------------------------------------------------------- the list


def check_list(candidates, needed, n_clusters):
    """Check that needed clusters are listed once, at `position`, with only the dummy as padding."""
    clusters = candidates.clusters
    listed = clusters[clusters < n_clusters]
    assert listed.tolist() == sorted(needed)
    assert (clusters.diff() >= 0).all()
    torch.testing.assert_close(clusters[candidates.position[listed]], listed)


@pytest.mark.parametrize("path", ["cpu", "cuda"])
@pytest.mark.parametrize("with_positives", [True, False])
def test_gather_candidates_lists_every_needed_cluster_once(request, path, with_positives):
    chosen = torch.tensor([[4, 1], [1, 6], [4, 6]])
    positive = torch.tensor([1, 7, 7]) if with_positives else None
    needed = {1, 4, 6, 7} if with_positives else {1, 4, 6}
    if path == "cuda":
        request.getfixturevalue("like_cuda")
    candidates = gather_candidates(chosen, 20, positive)
    check_list(candidates, needed, 20)
    assert candidates.chosen is chosen
    # On a GPU, the length is known without counting: that of all clusters here.
    assert len(candidates.clusters) == (20 if path == "cuda" else len(needed))
    assert candidates.position.shape == (21,)


@pytest.mark.parametrize(("n_texts", "n_positives", "n_listed"), [(16, 0, 64), (16, 1, 128)])
def test_gather_candidates_on_gpu_lists_a_multiple_of_64(like_cuda, n_texts, n_positives, n_listed):
    chosen = torch.arange(4 * n_texts).reshape(n_texts, 4)
    candidates = gather_candidates(chosen, 200, torch.arange(n_positives) + 150)
    check_list(candidates, [*range(64), *range(150, 150 + n_positives)], 200)
    assert len(candidates.clusters) == n_listed


@pytest.mark.parametrize("path", ["cpu", "cuda"])
def test_gather_candidates_is_at_most_number_of_clusters_long(request, path):
    if path == "cuda":
        request.getfixturevalue("like_cuda")
    generator = torch.Generator().manual_seed(0)
    chosen = torch.stack([torch.randperm(6, generator=generator)[:4] for _ in range(8)])
    candidates = gather_candidates(chosen, 6, torch.tensor([0, 1, 2, 3, 4, 5, 5]))
    check_list(candidates, range(6), 6)
    assert len(candidates.clusters) == 6


@pytest.mark.parametrize("size", [1, 3, 5, 8])
def test_list_padded_equals_nonzero_static_of_torch(size):
    for bits in ("00000000", "10010001", "11111111", "00000001"):
        needed = torch.tensor([bit == "1" for bit in bits])
        expected = torch.nonzero_static(needed, size=size, fill_value=8).squeeze(1)
        assert torch.equal(_list_padded(needed, size), expected)


@pytest.mark.parametrize("path", ["cpu", "cuda"])
def test_gather_candidates_without_positives_lists_chosen(request, path):
    if path == "cuda":
        request.getfixturevalue("like_cuda")
    candidates = gather_candidates(torch.tensor([[2]]), 3, torch.zeros(0, dtype=torch.int64))
    check_list(candidates, {2}, 3)


@pytest.mark.parametrize("path", ["cpu", "cuda"])
@pytest.mark.parametrize("chosen", [[[1, 3], [3, 3]], [[3, 3]]])
def test_gather_candidates_takes_dummy_cluster(request, path, chosen):
    if path == "cuda":
        request.getfixturevalue("like_cuda")
    candidates = gather_candidates(torch.tensor(chosen), 3)
    check_list(candidates, {1} if len(chosen) == 2 else set(), 3)
    assert len(candidates.clusters) > 0
    assert (candidates.position < len(candidates.clusters)).all()


def test_layout_of_a_part_has_given_sizes():
    layout = LabelLayout(np.array([0, 0]), n_clusters=2, max_size=3)
    assert layout.labels_of.tolist() == [[0, 1, -1], [-1, -1, -1], [-1, -1, -1]]
    assert (layout.n_clusters, layout.max_size, layout.min_size) == (2, 3, 0)
    assert LabelLayout(np.zeros(0, int), n_clusters=0, max_size=3).labels_of.shape == (1, 3)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gather_candidates_on_cuda_pads_with_dummy_cluster():
    chosen = torch.tensor([[4, 1], [1, 6], [4, 6]], device="cuda")
    candidates = gather_candidates(chosen, 20, torch.tensor([1, 7, 7], device="cuda"))
    assert candidates.clusters.tolist() == [1, 4, 6, 7] + [20] * 16
    check_list(candidates, {1, 4, 6, 7}, 20)
    layout = LabelLayout(CLUSTER_OF).to("cuda")
    positives = Positives(torch.tensor([0, 1]), torch.tensor([1, 10])).to(torch.device("cuda"))
    assert layout.cluster_targets(positives, 2).nonzero().tolist() == [[0, 0], [1, 4]]
