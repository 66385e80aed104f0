"""The table of label embeddings: lookups, gradients and initial values."""

import pytest
import torch

from skxmc._model.network import LabelTable


@pytest.fixture
def table():
    table = LabelTable(5, 3, 4)
    with torch.no_grad():
        table.weight.copy_(torch.arange(72.0).view(6, 12))
        table.bias.copy_(-torch.arange(18.0).view(6, 3))
    return table


def test_label_table_returns_embeddings_and_biases_of_clusters(table):
    weight, bias = table(torch.tensor([4, 0, 5]))
    assert weight.tolist() == torch.arange(72.0).view(6, 3, 4)[[4, 0, 5]].tolist()
    assert bias.tolist() == (-torch.arange(18.0)).view(6, 3)[[4, 0, 5]].tolist()


def test_by_cluster_shares_memory_with_the_table(table):
    by_cluster = table.by_cluster()
    assert by_cluster.shape == (6, 3, 4)
    assert not by_cluster.requires_grad
    by_cluster[2, 1] = 100.0
    assert table.weight[2].tolist() == [24, 25, 26, 27, 100, 100, 100, 100, 32, 33, 34, 35]
    assert (table(torch.tensor([2]))[0][0, 1] == 100).all()


def test_label_table_gradients_are_sparse_rows_of_its_input(table):
    clusters = torch.tensor([4, 0, 5, 5])  # on a GPU, the dummy cluster is listed more than once
    weight, bias = table(clusters)
    of_weight, of_bias = torch.randn(4, 3, 4), torch.randn(4, 3)
    ((weight * of_weight).sum() + (bias * of_bias).sum()).backward()
    for grad, expected in ((table.weight.grad, of_weight.flatten(1)), (table.bias.grad, of_bias)):
        assert grad.is_sparse
        assert torch.equal(grad._indices(), clusters[None])
        assert torch.equal(grad._values(), expected)


def test_label_table_without_backward_has_no_gradients(table):
    with torch.no_grad():
        weight, bias = table(torch.tensor([1]))
    assert not weight.requires_grad
    assert not bias.requires_grad
    weight, bias = table.eval()(torch.tensor([1]))
    assert table.weight.grad is None
    assert table.bias.grad is None


def test_label_table_parameters_are_trainable_and_biases_zero():
    table = LabelTable(5, 3, 4)
    assert {name for name, _ in table.named_parameters()} == {"weight", "bias"}
    assert all(p.requires_grad for p in table.parameters())
    assert not table.bias.any()  # also in slots without a label
