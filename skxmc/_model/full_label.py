"""Scores of every label: the loss of the direct mode, and the best labels of a text.

Autograd would keep tensors of shape (texts, labels). Here the labels are scored chunk by chunk. The
gradient of a chunk is computed by hand, passed on and forgotten, so the memory that it takes does
not depend on the number of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F

from skxmc._model.layout import Positives

# Maximum number of logits of a chunk in training, on a CPU and elsewhere. With 32 texts, the first
# are 8,192 labels, which stay in the cache. A GPU has no use for small chunks.
TRAINING_BLOCK = 1 << 18
GPU_BLOCK = 1 << 24
# Maximum number of logits of a chunk in prediction, where nothing else is computed from them.
PREDICTION_BLOCK = 1 << 22

# Takes the labels of a chunk, and the gradients of their embeddings (n, d) and biases (n,).
Update = Callable[[slice, torch.Tensor, torch.Tensor], object]
# Finds the best labels, with the arguments and results of `best_labels`.
LabelSearch = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, int], tuple[torch.Tensor, torch.Tensor]
]


def full_label_loss(
    z: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    positives: Positives,
    update: Update | None = None,
) -> torch.Tensor:
    """Compute the binary cross-entropy of all labels: the sum over labels, the mean over texts.

    Parameters
    ----------
    z : Tensor of shape (B, d)
        Bottleneck states. They get a gradient from autograd.
    weight, bias : Tensor of shape (L, d) and (L,)
        Embeddings and biases. They get no gradient from autograd.
    positives : Positives
        The positive labels, and weights of texts and pairs if they differ.
    update : callable, optional
        Function that takes the gradients of a chunk of labels. It may change the chunk of `weight`
        and `bias` in place, because no later chunk depends on it.

    Returns
    -------
    Tensor of shape ()
        In float32, or float64 if z is in float64.
    """
    loss: torch.Tensor = _FullLabelLoss.apply(z, weight, bias, positives, update)
    return loss


class _FullLabelLoss(torch.autograd.Function):
    """The loss, whose gradient by a logit is (sigmoid(logit) - target) * weight / B.

    The weight is that of the text, times that of the pair if the label is positive. Such a pair
    counts once as without weights, and its weight minus 1 times more.
    """

    @staticmethod
    def forward(
        ctx: Any,
        z: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        positives: Positives,
        update: Update | None,
    ) -> torch.Tensor:
        precise = torch.promote_types(z.dtype, torch.float32)
        z_gradient = torch.zeros_like(z, dtype=precise)
        loss = z_gradient.new_zeros(())
        mean_z = z / len(z)
        by_text = by_positive = extra = None
        if positives.weights is not None:
            by_text = positives.weights.to(precise)[:, None]
            by_positive = by_text[positives.rows, 0]
        if positives.pair_weights is not None:
            extra = positives.pair_weights.to(precise) - 1
        block = TRAINING_BLOCK if z.device.type == "cpu" else GPU_BLOCK
        for labels in _chunks(len(bias), len(z), block):
            embeddings, biases = weight[labels].to(z.dtype), bias[labels]
            logits = (z @ embeddings.T).to(precise).add_(biases)
            place = positives.labels - labels.start
            is_inside = (place >= 0) & (place < len(biases))
            entry = positives.rows, place.clamp(0, len(biases) - 1)
            of_positives = logits[entry]
            if extra is not None:
                of_positives = of_positives - extra * F.softplus(-of_positives)
            of_positives = _sum(of_positives * is_inside, by_positive)
            loss += _sum(F.softplus(logits), by_text) - of_positives
            # The mean over texts comes after the products, because logits are most of the memory.
            gradient = logits.sigmoid_()
            targets = is_inside.to(precise)
            if extra is not None:
                targets = targets * (1 + extra * (1 - gradient[entry]))
            gradient.index_put_(entry, -targets, accumulate=True)
            if by_text is not None:
                gradient *= by_text
            of_bias = gradient.sum(0)
            gradient = gradient.to(z.dtype)
            z_gradient += gradient @ embeddings
            if update is not None:
                of_weight = (gradient.T @ mean_z).to(precise)
                update(labels, of_weight, of_bias / len(z))
        ctx.save_for_backward(z_gradient / len(z))
        return loss / len(z)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        # Autograd converts the product to the dtype of z. The scale of the loss alone may be too
        # large for float16, and the gradient without it too small.
        (z_gradient,) = ctx.saved_tensors
        return z_gradient * gradients[0], None, None, None, None


def _sum(values: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    return values.sum() if weights is None else (values * weights).sum()


def label_logits(z: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Score labels: (B, n) float32.

    Autocast converts both factors itself. Without a bottleneck z is in float32, and a conversion of
    the weights to it and back would take longer than the product.
    """
    if not torch.is_autocast_enabled(z.device.type):
        weight = weight.to(z.dtype)
    return (z @ weight.T).float() + bias


def best_labels(
    z: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the k labels with the highest logits.

    Returns
    -------
    labels : Tensor of shape (B, k), int64
        The best first.
    logits : Tensor of shape (B, k), float32
    """
    best: tuple[torch.Tensor, torch.Tensor] | None = None
    for labels in _chunks(len(bias), len(z), PREDICTION_BLOCK):
        logits = label_logits(z, weight[labels], bias[labels])
        logits, found = logits.topk(min(k, logits.shape[1]), dim=1)
        found += labels.start
        if best is not None:
            logits, found = torch.cat([best[0], logits], dim=1), torch.cat([best[1], found], dim=1)
            logits, place = logits.topk(min(k, logits.shape[1]), dim=1)
            found = found.gather(1, place)
        best = logits, found
    assert best is not None
    return best[1], best[0]


def _chunks(n_labels: int, n_texts: int, max_logits: int) -> Iterator[slice]:
    """Cut the labels into chunks of at most `max_logits` logits."""
    size = max(1, max_logits // max(1, n_texts))
    return (slice(start, min(start + size, n_labels)) for start in range(0, n_labels, size))
