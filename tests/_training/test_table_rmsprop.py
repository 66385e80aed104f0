"""RMSprop of a label table, whose gradient arrives chunk by chunk."""

import math

import pytest
import torch

from skxmc._model.network import LabelTable
from skxmc._training.table_rmsprop import TableRMSprop, round_at_random

N_LABELS, DIM, N_STEPS = 11, 6, 5
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


def train(table, size=4):
    """Take steps whose gradients arrive in chunks of `size` labels."""
    optimizer = TableRMSprop(table, lr=RATE, weight_decay=DECAY)
    for step in range(N_STEPS):
        of_weight, of_bias = gradients(step)
        for start in range(0, N_LABELS, size):
            labels = slice(start, min(start + size, N_LABELS))
            optimizer.update(labels, of_weight[labels], of_bias[labels])
        optimizer.step()
    return optimizer


@pytest.mark.parametrize("size", [1, 4, 11])
def test_table_rmsprop_any_chunks_equal_update_label_by_label(size):
    table, twin = make_table(), make_table()
    train(table, size)
    for found, rows, place, decay in zip(
        table.by_label(), (twin.weight[:-1], twin.bias[:-1]), (0, 1), (DECAY, 0.0), strict=True
    ):
        for label, row in enumerate(rows.detach().double().unbind()):
            second = 0.0
            for step in range(N_STEPS):
                gradient = gradients(step)[place][label].double()
                second = 0.999 * second + 0.001 * float(gradient.square().mean())
                root = math.sqrt(second / (1 - 0.999 ** (step + 1)))
                row = row * (1 - RATE * decay) - RATE * gradient / (root + 1e-8)
            expected = row.reshape(found[label].shape).float()
            torch.testing.assert_close(found[label], expected, rtol=1e-5, atol=1e-6)


def test_table_rmsprop_first_step_is_as_long_as_the_rate():
    """The mean square of a first step is the squared rate, whatever the scale of the gradient."""
    table = make_table()
    before = [t.clone() for t in table.by_label()]
    optimizer = TableRMSprop(table, lr=RATE, weight_decay=0.0)
    of_weight, of_bias = gradients(0)
    optimizer.update(slice(0, N_LABELS), 1e-3 * of_weight[:-1], 1e3 * of_bias[:-1])
    weight, bias = (after - b for after, b in zip(table.by_label(), before, strict=True))
    torch.testing.assert_close(weight.square().mean(1).sqrt(), torch.full((N_LABELS,), RATE))
    torch.testing.assert_close(bias.abs(), torch.full((N_LABELS,), RATE))


def test_table_rmsprop_moments_take_documented_memory():
    table = make_table()
    optimizer = train(table)
    for parameter in (table.weight, table.bias):
        state = optimizer.state[parameter]
        assert {name for name, value in state.items() if torch.is_tensor(value)} == {"second"}
        assert state["second"].nbytes == 4 * (N_LABELS + 1)
        assert state["n_steps"] == N_STEPS


def test_table_rmsprop_leaves_the_row_without_labels():
    table = make_table()
    before = table.weight[-1].clone()
    train(table)
    assert torch.equal(table.weight[-1], before)


# ---------------------------------------------------------------- bfloat16


def test_round_at_random_gives_neighbors_and_is_right_on_average():
    exact = torch.randn(200, generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        rounded = round_at_random(exact.repeat(4000, 1)).float()
    low, high = rounded.amin(0), rounded.amax(0)
    assert ((low <= exact) & (exact <= high)).all()
    assert ((rounded == low) | (rounded == high)).all()
    assert (high - low <= exact.abs() / 64).all()  # bfloat16 has 7 bits after the first
    assert ((rounded.mean(0) - exact).abs() <= 0.05 * (high - low)).all()


def test_round_at_random_keeps_numbers_that_bfloat16_has():
    exact = torch.tensor([0.0, 1.0, -2.5, 3e38, -1e-38])
    rounded = exact.bfloat16()
    assert torch.equal(round_at_random(rounded.float()), rounded)


def test_table_rmsprop_bfloat16_small_steps_count_on_average():
    """Each step is a hundredth of the distance of two numbers, which rounding would lose."""
    table = LabelTable(400, 1, 50)
    torch.nn.init.ones_(table.weight)
    table.convert(torch.bfloat16)
    optimizer = TableRMSprop(table, lr=1e-4, weight_decay=0.0)
    ones = torch.ones(400, 50), torch.ones(400)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(100):
            optimizer.update(slice(0, 400), *ones)
            optimizer.step()
    weight, _ = table.by_label()
    assert weight.dtype == torch.bfloat16
    assert optimizer.state[table.weight]["second"].dtype == torch.float32
    assert float(weight.float().mean()) == pytest.approx(0.99, abs=3e-4)
    assert table.bias.dtype == torch.float32
