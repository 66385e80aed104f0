"""AdamW of a label table, whose gradient arrives chunk by chunk."""

import pytest
import torch
from training_fixtures import sparse_rows

from skxmc._model.network import LabelTable
from skxmc._training.adamw import RowAdamW, TableAdamW

N_LABELS, DIM = 11, 6
RATE, DECAY = 0.05, 0.3


def make_table():
    table = LabelTable(N_LABELS, 1, DIM)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.nn.init.normal_(table.weight)
        torch.nn.init.normal_(table.bias)
    return table


def gradients(step):
    generator = torch.Generator().manual_seed(step)
    return (
        torch.randn(N_LABELS + 1, DIM, generator=generator),
        torch.randn(N_LABELS + 1, generator=generator),
    )


def train(table, *, size, is_compact, n_steps=5):
    """Take steps whose gradients arrive in chunks of `size` labels."""
    optimizer = TableAdamW(table, lr=RATE, weight_decay=DECAY, is_compact=is_compact)
    for step in range(n_steps):
        of_weight, of_bias = gradients(step)
        for start in range(0, N_LABELS, size):
            labels = slice(start, min(start + size, N_LABELS))
            optimizer.update(labels, of_weight[labels], of_bias[labels])
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("size", [1, 4, 11])
def test_table_adamw_any_chunks_equal_adamw(size):
    table, twin = make_table(), make_table()
    train(table, size=size, is_compact=False)
    groups = [{"params": [twin.weight], "weight_decay": DECAY}, {"params": [twin.bias]}]
    reference = torch.optim.AdamW(groups, lr=RATE, weight_decay=0.0)
    for step in range(5):
        twin.weight.grad, of_bias = gradients(step)
        twin.bias.grad = of_bias[:, None]
        reference.step()
    for found, expected in zip(table.by_label(), twin.by_label(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [1, 4, 11])
def test_table_adamw_compact_equals_row_adamw_of_all_rows(size):
    """Both have one second moment per label, and the first in bfloat16."""
    table, twin = make_table(), make_table()
    train(table, size=size, is_compact=True)
    options = {"lr": RATE, "rows_are_distinct": True}
    reference = RowAdamW(
        [
            {"params": [twin.weight], "weight_decay": DECAY, "compact_dim": DIM, **options},
            {"params": [twin.bias], **options},
        ]
    )
    rows = torch.arange(N_LABELS)
    for step in range(5):
        of_weight, of_bias = (g[:N_LABELS] for g in gradients(step))
        for parameter, gradient in ((twin.weight, of_weight), (twin.bias, of_bias[:, None])):
            parameter.grad = sparse_rows(rows, gradient, parameter)
        reference.step()
    for found, expected in zip(table.by_label(), twin.by_label(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("is_compact", "n_bytes"), [(False, 8 * DIM), (True, 2 * DIM + 4)])
def test_table_adamw_moments_take_documented_memory(is_compact, n_bytes):
    table = make_table()
    state = train(table, size=4, is_compact=is_compact).state[table.weight]
    found = sum(state[name].nbytes for name in ("first", "second"))
    assert found == (N_LABELS + 1) * n_bytes
    assert state["n_steps"] == 5


def test_table_adamw_leaves_the_row_without_labels():
    table = make_table()
    before = table.weight[-1].clone()
    train(table, size=4, is_compact=False)
    assert torch.equal(table.weight[-1], before)
