"""AdamW by blocks against PyTorch's; what decays; rates; clipping."""

import math

import numpy as np
import pytest
import torch

from skxmc._encoder import load_encoder
from skxmc._network import LabelTable, LightXMLNetwork
from skxmc._optim import BlockAdamW, build_optimizers, clip_gradients, schedule_factor

LR, DECAY = 0.01, 0.1


@pytest.fixture
def table():
    table = LabelTable(5, 3, 4)
    generator = torch.Generator().manual_seed(0)
    torch.nn.init.normal_(table.weight, generator=generator)
    torch.nn.init.normal_(table.bias, generator=generator)
    return table


def gradients(table, step):
    """Made up, of any size."""
    generator = torch.Generator().manual_seed(step)
    scale = 10.0 ** torch.randint(-4, 3, (1,), generator=generator)
    return [torch.randn(p.shape, generator=generator) * scale for p in (table.weight, table.bias)]


def take_step(optimizer, table, clusters, step):
    """Take blocks, as a forward pass does, and update them."""
    clusters = torch.as_tensor(clusters)
    blocks = table.blocks(clusters)
    optimizer.collect()
    for block, gradient in zip(blocks, gradients(table, step), strict=True):
        block.grad = gradient[clusters]
    optimizer.step()
    optimizer.zero_grad()


class Reference:
    """One table of its own for each block, under `torch.optim.AdamW`."""

    def __init__(self, table):
        self.blocks = []
        for c in range(len(table.bias)):
            weight, bias = (torch.nn.Parameter(p[c].clone()) for p in (table.weight, table.bias))
            groups = [
                {"params": [weight], "weight_decay": DECAY},
                {"params": [bias], "weight_decay": 0.0},
            ]
            self.blocks.append((weight, bias, torch.optim.AdamW(groups, lr=LR)))

    def step(self, table, clusters, step):
        of_weight, of_bias = gradients(table, step)
        for c in clusters:
            weight, bias, optimizer = self.blocks[c]
            weight.grad, bias.grad = of_weight[c], of_bias[c]
            optimizer.step()

    def check(self, table):
        for c, (weight, bias, _) in enumerate(self.blocks):
            torch.testing.assert_close(table.weight[c], weight.data, rtol=1e-4, atol=2e-6)
            torch.testing.assert_close(table.bias[c], bias.data, rtol=1e-4, atol=2e-6)


def test_equals_adamw_where_every_block_is_taken(table):
    optimizer, reference = BlockAdamW(table, lr=LR, weight_decay=DECAY), Reference(table)
    for step in range(30):
        take_step(optimizer, table, range(6), step)
        reference.step(table, range(6), step)
        reference.check(table)


def test_a_block_taken_now_and_then_knows_only_its_own_steps(table):
    """Moments, bias correction and decay stand still meanwhile."""
    optimizer, reference = BlockAdamW(table, lr=LR, weight_decay=DECAY), Reference(table)
    rng = np.random.default_rng(0)
    for step in range(40):
        clusters = np.flatnonzero(rng.random(5) < [1, 0.5, 0.1, 0.5, 0])
        take_step(optimizer, table, clusters, step)
        reference.step(table, clusters, step)
    reference.check(table)
    assert optimizer.n_steps[0] == 40
    assert optimizer.n_steps[4:].tolist() == [0, 0]


def test_other_blocks_are_not_touched(table):
    optimizer = BlockAdamW(table, lr=LR, weight_decay=DECAY)
    take_step(optimizer, table, range(6), 0)
    tensors = [table.weight, table.bias, *optimizer.moments[0], *optimizer.moments[1]]
    before = [tensor.clone() for tensor in tensors]
    take_step(optimizer, table, [1, 3], 1)
    for tensor, old in zip(tensors, before, strict=True):
        assert torch.equal(tensor[[0, 2, 4, 5]], old[[0, 2, 4, 5]])
        assert (tensor[[1, 3]] != old[[1, 3]]).all()


def test_the_first_step_of_a_block_is_of_full_size_however_late(table):
    optimizer = BlockAdamW(table, lr=LR, weight_decay=0.0)
    for step in range(20):
        take_step(optimizer, table, [0], step)
    before = table.weight[1].clone()
    take_step(optimizer, table, [0, 1], 20)
    expected = torch.full_like(before, LR)
    torch.testing.assert_close((table.weight[1] - before).abs(), expected, rtol=1e-3, atol=0)


def test_dummy_blocks_change_nothing_else(table):
    """A list for a GPU holds the dummy cluster many times; its gradients are 0."""
    twin = LabelTable(5, 3, 4)
    twin.load_state_dict(table.state_dict())
    for this, clusters in [(table, [1, 3]), (twin, [1, 3, 5, 5, 5])]:
        optimizer = BlockAdamW(this, lr=LR, weight_decay=DECAY)
        for step in range(3):
            blocks = this.blocks(torch.tensor(clusters))
            optimizer.collect()
            for block, gradient in zip(blocks, gradients(this, step), strict=True):
                block.grad = torch.zeros_like(block)
                block.grad[:2] = gradient[[1, 3]]
            optimizer.step()
    assert torch.equal(table.weight[:5], twin.weight[:5])
    assert torch.equal(table.bias[:5], twin.bias[:5])
    assert twin.weight.isfinite().all()


def test_collect_comes_after_a_forward_pass(table):
    optimizer = BlockAdamW(table, lr=LR, weight_decay=DECAY)
    table.blocks(torch.tensor([0]))
    optimizer.collect()
    assert table.taken is None
    with pytest.raises(AssertionError, match="forward pass"):
        optimizer.collect()


def test_gradient_scaler_skips_a_step_that_overflowed(table):
    optimizer = BlockAdamW(table, lr=LR, weight_decay=DECAY)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    reference = Reference(table)
    for step, overflows in enumerate([False, True, False]):
        scale = scaler.get_scale()
        blocks = table.blocks(torch.arange(6))
        scaler.scale(torch.ones(()))  # it wants to have seen a loss
        optimizer.collect()
        for block, gradient in zip(blocks, gradients(table, step), strict=True):
            block.grad = gradient * (math.inf if overflows else scale)
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        if not overflows:
            reference.step(table, range(6), step)
        reference.check(table)
    assert optimizer.n_steps.tolist() == [2] * 6


# ---------------------------------------------------------------- groups


def make_network(folder, cluster_of=(0, 0, 1, 1)):
    _, encoder = load_encoder(folder)
    return LightXMLNetwork(
        encoder, np.array(cluster_of), n_feature_layers=2, bottleneck_dim=4, dropout=0.0
    )


def groups_by_name(network, optimizer):
    names = {id(p): name for name, p in network.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for p in group["params"]:
            assert names[id(p)] not in found
            found[names[id(p)]] = (group["lr"], group["weight_decay"])
    return found


@pytest.mark.parametrize("family", ["bert", "xlnet", "modernbert"])
def test_decay_and_rates(tiny_encoder, family):
    network = make_network(tiny_encoder(family))
    dense, blocks = build_optimizers(
        network, learning_rate=1e-4, head_learning_rate=1e-3, weight_decay=0.3
    )
    found = groups_by_name(network, dense)
    names = {name for name, _ in network.named_parameters()}
    assert set(found) == names - {"label_table.weight", "label_table.bias"}
    for name, (rate, decay) in found.items():
        is_norm = "norm" in name.lower()
        assert decay == (0.0 if "bias" in name or is_norm else 0.3), name
        assert rate == (1e-4 if name.startswith("encoder.") else 1e-3), name
    assert isinstance(blocks, BlockAdamW)
    assert blocks.table is network.label_table
    assert (blocks.param_groups[0]["lr"], blocks.param_groups[0]["weight_decay"]) == (1e-3, 0.3)


def test_direct_mode_has_no_blocks(tiny_encoder):
    network = make_network(tiny_encoder(), cluster_of=(0, 1, 2))
    (dense,) = build_optimizers(
        network, learning_rate=1e-4, head_learning_rate=1e-3, weight_decay=0.3
    )
    found = groups_by_name(network, dense)
    assert found["recall_head.weight"] == (1e-3, 0.3)
    assert found["recall_head.bias"] == (1e-3, 0.0)


def test_frozen_weights_are_left_out(tiny_encoder):
    network = make_network(tiny_encoder())
    network.encoder.requires_grad_(False)
    dense, _ = build_optimizers(
        network, learning_rate=1e-4, head_learning_rate=1e-3, weight_decay=0.3
    )
    assert len(dense.param_groups) == 2  # no empty ones
    assert not any(name.startswith("encoder.") for name in groups_by_name(network, dense))


# ---------------------------------------------------------------- schedule and clipping


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_warm_up(schedule):
    factors = [schedule_factor(schedule, step, 100, 0.1) for step in range(10)]
    assert factors == pytest.approx([0.1 * i for i in range(1, 11)])
    assert schedule_factor(schedule, 10, 100, 0.1) == 1.0
    assert schedule_factor(schedule, 0, 100, 0.0) == 1.0  # none
    assert schedule_factor(schedule, 0, 1, 0.1) == 1.0  # a single step
    assert schedule_factor(schedule, 99, 100, 1.0) == 1.0  # nothing but warm-up


def test_decay_of_the_rate():
    def at(schedule, step):
        return schedule_factor(schedule, step, 110, 10 / 110)

    assert [at("linear", s) for s in (35, 60, 85, 110)] == pytest.approx([0.75, 0.5, 0.25, 0])
    half = math.sqrt(0.5)
    expected = [(1 + half) / 2, 0.5, (1 - half) / 2, 0]
    assert [at("cosine", s) for s in (35, 60, 85, 110)] == pytest.approx(expected)
    assert {at("constant", s) for s in range(10, 110)} == {1.0}
    for schedule in ("linear", "cosine"):
        factors = [at(schedule, s) for s in range(10, 110)]
        assert factors == sorted(factors, reverse=True)
        assert 0 < factors[-1] < 0.02  # the last step still moves


@pytest.mark.parametrize(("max_norm", "scale"), [(1.0, 0.1), (1e3, 1.0)])
def test_clipping_counts_dense_weights_and_label_blocks(table, max_norm, scale):
    dense = torch.nn.Parameter(torch.zeros(2))
    unused = torch.nn.Parameter(torch.zeros(2))
    optimizers = [torch.optim.AdamW([dense, unused]), BlockAdamW(table, lr=LR, weight_decay=DECAY)]
    weight, bias = table.blocks(torch.tensor([1, 4]))
    optimizers[1].collect()
    dense.grad = torch.tensor([6.0, 0.0])  # of norm 10 together
    weight.grad, bias.grad = torch.zeros_like(weight), torch.zeros_like(bias)
    weight.grad[1, 2, 3] = 8.0
    assert clip_gradients(optimizers, max_norm).item() == pytest.approx(10)
    assert dense.grad.tolist() == pytest.approx([6 * scale, 0])
    assert weight.grad[1, 2, 3].item() == pytest.approx(8 * scale)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_blocks_on_cuda(table):
    reference = Reference(table)
    moved = LabelTable(5, 3, 4)
    moved.load_state_dict(table.state_dict())
    moved.cuda()
    optimizer = BlockAdamW(moved, lr=LR, weight_decay=DECAY)
    for step in range(10):
        clusters = [0, 2, 4] if step % 2 else [1, 2]
        blocks = moved.blocks(torch.tensor(clusters, device="cuda"))
        optimizer.collect()
        for block, gradient in zip(blocks, gradients(table, step), strict=True):
            block.grad = gradient[clusters].cuda()
        optimizer.step()
        reference.step(table, clusters, step)
    reference.check(moved.cpu())
