"""The loss over all labels, whose gradient is computed by hand, and the best labels."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from network_reference import as_positives
from torch.utils._python_dispatch import TorchDispatchMode

from skxmc._model import full_label
from skxmc._model.full_label import best_labels, full_label_loss

N_TEXTS, N_LABELS, DIM = 7, 53, 5
LABELS_OF_TEXTS = [[0], [], [3, 52, 17], [8, 9, 10, 11], [52], [0, 26], [30]]
POSITIVES = as_positives(LABELS_OF_TEXTS)


@pytest.fixture
def tensors():
    """Return z, embeddings and biases in float64."""
    generator = torch.Generator().manual_seed(0)
    shapes = (N_TEXTS, DIM), (N_LABELS, DIM), (N_LABELS,)
    return [
        torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()
        for shape in shapes
    ]


class Gradients:
    """An update that stores the gradients of all chunks."""

    def __init__(self, weight, bias):
        self.weight, self.bias = torch.zeros_like(weight), torch.zeros_like(bias)
        self.chunks = []

    def __call__(self, labels, of_weight, of_bias):
        self.weight[labels] += of_weight
        self.bias[labels] += of_bias
        self.chunks.append(labels)


def by_autograd(z, weight, bias):
    """Compute the loss and its gradients by autograd, with a dense matrix of targets."""
    targets = torch.zeros(N_TEXTS, N_LABELS, dtype=z.dtype)
    targets[POSITIVES.rows, POSITIVES.labels] = 1
    logits = z @ weight.T + bias
    loss = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / N_TEXTS
    return loss, torch.autograd.grad(loss, (z, weight, bias))


@pytest.mark.parametrize("labels_per_chunk", [1, 10, 53, 1000])
def test_full_label_loss_gradients_equal_autograd(tensors, monkeypatch, labels_per_chunk):
    monkeypatch.setattr(full_label, "TRAINING_BLOCK", labels_per_chunk * N_TEXTS)
    z, weight, bias = tensors
    expected, gradients = by_autograd(*tensors)
    found = Gradients(weight, bias)
    loss = full_label_loss(z, weight.detach(), bias.detach(), POSITIVES, found)
    (3 * loss).backward()  # as a scaler would
    torch.testing.assert_close(loss, expected, rtol=0, atol=1e-10)
    for own, by_hand in zip(gradients, (z.grad / 3, found.weight, found.bias), strict=True):
        torch.testing.assert_close(by_hand, own, rtol=0, atol=1e-10)
    assert len(found.chunks) == -(-N_LABELS // labels_per_chunk)


def test_full_label_loss_update_in_place_keeps_gradient_of_states(tensors, monkeypatch):
    """A chunk is updated after its part of the gradient of z is known."""
    monkeypatch.setattr(full_label, "TRAINING_BLOCK", 10 * N_TEXTS)
    z, weight, bias = tensors
    expected, (of_z, *_) = by_autograd(*tensors)
    weight, bias = weight.detach().clone(), bias.detach().clone()

    def spoil(labels, of_weight, of_bias):
        weight[labels] = bias[labels] = float("nan")

    loss = full_label_loss(z, weight, bias, POSITIVES, spoil)
    loss.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(z.grad, of_z)
    assert weight.isnan().all()


def test_full_label_loss_bfloat16_states_are_close_to_exact(tensors):
    z, weight, bias = (t.detach().float() for t in tensors)
    expected, (of_z, of_weight, of_bias) = by_autograd(*tensors)
    low = z.bfloat16().requires_grad_()
    found = Gradients(weight, bias)
    loss = full_label_loss(low, weight, bias, POSITIVES, found)
    loss.backward()
    assert loss.dtype == found.weight.dtype == torch.float32
    assert low.grad.dtype == torch.bfloat16
    torch.testing.assert_close(loss, expected.float(), rtol=0.01, atol=0)
    pairs = (low.grad, of_z), (found.weight, of_weight), (found.bias, of_bias)
    for by_hand, exact in pairs:
        torch.testing.assert_close(by_hand.double(), exact, rtol=0.05, atol=0.02)


def test_full_label_loss_float16_gradient_takes_first_scale_of_scaler(tensors):
    """The scale of 65,536 is inf in float16, but its product with this gradient is not."""
    z, weight, bias = tensors
    small = (1e-3 * weight).detach().float()
    _, (of_z, *_) = by_autograd(z, small.double().requires_grad_(), bias)
    low = z.detach().half().requires_grad_()
    (65536.0 * full_label_loss(low, small, bias.detach().float(), POSITIVES)).backward()
    assert low.grad.dtype == torch.float16
    torch.testing.assert_close(low.grad.double(), 65536 * of_z, rtol=0.01, atol=0.5)


def test_full_label_loss_large_logits_stay_finite():
    z, weight = torch.tensor([[200.0]], requires_grad=True), torch.tensor([[1.0], [-1.0]])
    loss = full_label_loss(z, weight, torch.zeros(2), as_positives([[1]]))
    loss.backward()
    assert loss.item() == pytest.approx(400)
    assert z.grad.item() == pytest.approx(2)


class NoTensorOfAllLabels(TorchDispatchMode):
    """A mode that notes the largest number of logits in one tensor."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.ndim == 2 and N_TEXTS in result.shape:
            self.largest = max(self.largest, result.numel() // N_TEXTS)
        return result


def test_full_label_loss_makes_no_tensor_of_texts_by_labels(tensors, monkeypatch):
    monkeypatch.setattr(full_label, "TRAINING_BLOCK", 8 * N_TEXTS)
    z, weight, bias = (t.detach() for t in tensors)
    found = Gradients(weight, bias)
    z = z.requires_grad_()
    with NoTensorOfAllLabels() as mode:
        full_label_loss(z, weight, bias, POSITIVES, found).backward()
    assert 5 <= mode.largest <= 8


# ---------------------------------------------------------------- the best labels


@pytest.mark.parametrize("labels_per_chunk", [1, 10, 53, 1000])
@pytest.mark.parametrize("k", [1, 4, 53])
def test_best_labels_any_chunks_equal_full_sort(tensors, monkeypatch, labels_per_chunk, k):
    monkeypatch.setattr(full_label, "PREDICTION_BLOCK", labels_per_chunk * N_TEXTS)
    z, weight, bias = (t.detach().float() for t in tensors)
    labels, logits = best_labels(z, weight, bias, k)
    every = (z @ weight.T + bias).numpy()
    np.testing.assert_array_equal(labels, np.argsort(-every, axis=1)[:, :k])
    np.testing.assert_allclose(logits, np.sort(every, axis=1)[:, ::-1][:, :k], rtol=1e-5)


def test_best_labels_half_precision_table_is_read_in_precision_of_states(tensors):
    z, weight, bias = (t.detach().float() for t in tensors)
    labels, logits = best_labels(z, weight.half(), bias, 3)
    assert logits.dtype == torch.float32
    assert labels.tolist() == best_labels(z, weight.half().float(), bias, 3)[0].tolist()


class NoTableInFloat32(TorchDispatchMode):
    """A mode that fails if a tensor of the size of the table is made in float32."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result.dtype == torch.float32:
            assert result.numel() != N_LABELS * DIM
        return result


def test_best_labels_autocast_of_states_in_float32_converts_no_table(tensors):
    """Without a bottleneck, the states are e minus its mean, which autocast leaves in float32."""
    z, weight, bias = (t.detach().float() for t in tensors)
    weight = weight.bfloat16()
    expected = best_labels(z.bfloat16(), weight, bias, 3)
    with torch.autocast("cpu", torch.bfloat16), NoTableInFloat32():
        found = best_labels(z, weight, bias, 3)
    assert all(map(torch.equal, found, expected))


def test_best_labels_no_texts_are_empty(tensors):
    z, weight, bias = (t.detach() for t in tensors)
    labels, logits = best_labels(z[:0], weight, bias, 3)
    assert labels.shape == logits.shape == (0, 3)
