"""Optimizers: groups of weights, decay, learning rates and their schedule, clipping."""

import math

import numpy as np
import pytest
import torch
from training_fixtures import CPU, WORDS, sparse_rows

from skxmc._model.encoder import load_encoder, use_sparse_embedding
from skxmc._model.network import LightXMLNetwork
from skxmc._training import optim
from skxmc._training.adamw import RowAdamW
from skxmc._training.optim import build_optimizers, clip_gradients, schedule_factor
from skxmc._training.sharding import Whole
from skxmc._training.table_rmsprop import TableRMSprop

# ---------------------------------------------------------------- groups


def make_network(folder, cluster_of=(0, 0, 1, 1), *, sparse_words=False):
    _, encoder = load_encoder(folder)
    if sparse_words:
        use_sparse_embedding(encoder, CPU)
    return LightXMLNetwork(
        encoder, np.array(cluster_of), n_feature_layers=2, bottleneck_dim=4, dropout=0.0
    )


def words_of(network):
    return network.encoder.get_input_embeddings()


def groups_by_name(network, optimizer):
    names = {id(p): name for name, p in network.named_parameters()}
    found = {}
    for group in optimizer.param_groups:
        for p in group["params"]:
            assert names[id(p)] not in found
            found[names[id(p)]] = (group["lr"], group["weight_decay"])
    return found


BY_ROWS = {"label_table.weight", "label_table.bias"}
RATES = {"learning_rate": 1e-4, "head_learning_rate": 1e-3, "weight_decay": 0.3}


def test_build_optimizers_second_encoder_has_rate_of_first(tiny_encoder):
    network = make_network(tiny_encoder())
    network.separate_encoders()
    found = groups_by_name(network, build_optimizers(network, **RATES)[0])
    rates = {rate for name, (rate, _) in found.items() if name.startswith("rank_encoder.")}
    assert rates == {1e-4}


@pytest.mark.parametrize("sparse_words", [False, True])
@pytest.mark.parametrize("family", ["bert", "xlnet", "modernbert"])
def test_build_optimizers_weights_have_their_decay_and_rate(tiny_encoder, family, sparse_words):
    network = make_network(tiny_encoder(family), sparse_words=sparse_words)
    dense, by_rows = build_optimizers(network, **RATES)
    assert isinstance(by_rows, RowAdamW)
    found, found_by_rows = groups_by_name(network, dense), groups_by_name(network, by_rows)
    names = {name for name, _ in network.named_parameters()}
    words = {name for name in names if network.get_parameter(name) is words_of(network).weight}
    assert len(words) == 1
    assert set(found_by_rows) == BY_ROWS | (words if sparse_words else set())
    assert set(found) == names - set(found_by_rows)
    for name, (rate, decay) in {**found, **found_by_rows}.items():
        is_norm = "norm" in name.lower()
        assert decay == (0.0 if "bias" in name or is_norm else 0.3), name
        assert rate == (1e-4 if name.startswith("encoder.") else 1e-3), name


@pytest.mark.parametrize("sparse_words", [False, True])
def test_build_optimizers_direct_mode_has_optimizer_of_table(tiny_encoder, sparse_words):
    network = make_network(tiny_encoder(), cluster_of=(0, 1, 2), sparse_words=sparse_words)
    dense, *by_rows, of_table = build_optimizers(network, **RATES)
    found = groups_by_name(network, dense)
    assert found["bottleneck.weight"] == (1e-3, 0.3)
    assert found["bottleneck.bias"] == (1e-3, 0.0)
    assert isinstance(of_table, TableRMSprop)
    assert groups_by_name(network, of_table) == {
        "label_table.weight": (1e-3, 0.3),
        "label_table.bias": (1e-3, 0.0),
    }
    assert len(by_rows) == sparse_words
    for optimizer in by_rows:
        assert groups_by_name(network, optimizer) == {WORDS: (1e-4, 0.3)}
    assert (WORDS in found) != sparse_words


@pytest.mark.parametrize("sparse_words", [False, True])
def test_build_optimizers_frozen_encoder_is_left_out(tiny_encoder, sparse_words):
    network = make_network(tiny_encoder(), sparse_words=sparse_words)
    network.encoder.requires_grad_(False)
    dense, by_rows = build_optimizers(network, **RATES)
    assert len(dense.param_groups) == 2  # no empty ones
    assert not any(name.startswith("encoder.") for name in groups_by_name(network, dense))
    assert set(groups_by_name(network, by_rows)) == BY_ROWS


def test_build_optimizers_frozen_words_are_left_out(tiny_encoder):
    network = make_network(tiny_encoder(), sparse_words=True)
    words_of(network).weight.requires_grad_(False)
    optimizers = build_optimizers(network, **RATES)
    assert WORDS not in {name for o in optimizers for name in groups_by_name(network, o)}


@pytest.mark.parametrize(("max_full", "is_compact"), [(24, False), (23, True)])
def test_build_optimizers_large_label_table_has_compact_moments(
    tiny_encoder, monkeypatch, max_full, is_compact
):
    monkeypatch.setattr(optim, "MAX_FULL_ENTRIES", max_full)
    network = make_network(tiny_encoder(), sparse_words=True)
    _, by_rows = build_optimizers(network, **RATES)
    compact = {id(g["params"][0]): g["compact_dim"] for g in by_rows.param_groups}
    assert network.label_table.weight.numel() == 24
    assert compact.pop(id(network.label_table.weight)) == (4 if is_compact else None)
    assert list(compact.values()) == [None, None]


def test_build_optimizers_only_words_may_repeat_in_gradient(tiny_encoder):
    network = make_network(tiny_encoder(), sparse_words=True)
    _, by_rows = build_optimizers(network, **RATES)
    distinct = {id(g["params"][0]): g["rows_are_distinct"] for g in by_rows.param_groups}
    assert not distinct.pop(id(words_of(network).weight))
    assert list(distinct.values()) == [True, True]


# ---------------------------------------------------------------- schedule


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_schedule_factor_warmup_rises_linearly_to_1(schedule):
    factors = [schedule_factor(schedule, step, 100, 0.1) for step in range(10)]
    assert factors == pytest.approx([0.1 * i for i in range(1, 11)])
    assert schedule_factor(schedule, 10, 100, 0.1) == 1.0
    assert schedule_factor(schedule, 0, 100, 0.0) == 1.0  # no warm-up
    assert schedule_factor(schedule, 0, 1, 0.1) == 1.0  # a single step
    assert schedule_factor(schedule, 99, 100, 1.0) == 1.0  # only warm-up


def test_schedule_factor_after_warmup_follows_schedule():
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


# ---------------------------------------------------------------- clipping


@pytest.fixture
def weights():
    """Make dense weights, tables of rows, and their optimizers. The gradients have norm 10."""
    dense, unused = (torch.nn.Parameter(torch.zeros(2)) for _ in range(2))
    tables = [torch.nn.Parameter(torch.zeros(6, n)) for n in (12, 3)]
    dense.grad = torch.tensor([6.0, 0.0])
    for table, value in zip(tables, (4 * math.sqrt(3), 4.0), strict=True):
        values = torch.zeros(4, table.shape[1])
        values[1, 2] = value
        table.grad = sparse_rows(torch.tensor([1, 4, 5, 5]), values, table)
    groups = [{"params": tables, "lr": 0.01, "rows_are_distinct": True}]
    return [dense, unused, *tables], [torch.optim.AdamW([dense, unused]), RowAdamW(groups)]


@pytest.mark.parametrize(("max_norm", "scale"), [(1.0, 0.1), (1e3, 1.0)])
def test_clip_gradients_scales_dense_and_sparse_gradients_alike(weights, max_norm, scale):
    (dense, unused, *tables), optimizers = weights
    assert clip_gradients(optimizers, max_norm, Whole()).item() == pytest.approx(10)
    assert dense.grad.tolist() == pytest.approx([6 * scale, 0])
    assert unused.grad is None
    for table, value in zip(tables, (4 * math.sqrt(3), 4.0), strict=True):
        assert table.grad._values()[1, 2].item() == pytest.approx(value * scale)
        assert table.grad._values().count_nonzero() == 1


@pytest.mark.parametrize("which", ["dense", "rows"])
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_clip_gradients_overflow_returns_non_finite_norm(weights, which, value):
    (dense, _, _, table), optimizers = weights
    spoiled = dense.grad if which == "dense" else table.grad._values()[0]
    spoiled[1] = value
    assert not clip_gradients(optimizers, 1.0, Whole()).isfinite()
