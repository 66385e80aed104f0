"""Dropout on a CPU: rates, gradients, random numbers, and the context that puts it in force."""

import contextlib
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_encoders import MODERNBERT
from training_fixtures import CPU, take_step

from skxmc._model.encoder import dropout_rates, load_encoder, set_dropout, use_fast_attention
from skxmc._training import dropout as dropout_module
from skxmc._training.dropout import dropout, fast_dropout

RATES = [0.1, 0.3, 0.5, 0.9]


@pytest.fixture(autouse=True)
def seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def calls(monkeypatch):
    """Record shape, rate and mode of each call of `dropout` through the context."""
    calls = []

    def noted(input, p=0.5, training=True, inplace=False, *, generator=None):
        calls.append((tuple(input.shape), p, training))
        return dropout(input, p, training, inplace, generator=generator)

    monkeypatch.setattr(dropout_module, "dropout", noted)
    return calls


# ---------------------------------------------------------------- the numbers


@pytest.mark.parametrize("p", RATES)
def test_dropout_ones_have_expected_rate_and_mean(p):
    out = dropout(torch.ones(1000, 1000), p)
    assert (out == 0).double().mean().item() == pytest.approx(p, abs=5 * 0.5e-3)
    assert out.double().mean().item() == pytest.approx(1, abs=5 * 3e-3)
    (scale,) = out[out != 0].unique().tolist()
    assert scale == pytest.approx(1 / (1 - p), rel=2 / 65536 / (1 - p))


@pytest.mark.parametrize("p", RATES)
def test_dropout_four_entries_per_random_number_are_independent(p):
    """Each entry has its own 16 of the 64 bits, including the sign bit."""
    zeros = (dropout(torch.ones(400_000, 4), p) == 0).double().numpy()
    np.testing.assert_allclose(zeros.mean(axis=0), p, atol=5 * 0.8e-3)
    # Between all entries of a random number and of the next one.
    lanes = np.hstack([zeros[:-1], zeros[1:]]).T
    correlations = np.corrcoef(lanes) - np.eye(8)
    assert np.abs(correlations).max() < 5 * 1.6e-3
    quarters = np.corrcoef(zeros.reshape(4, -1)) - np.eye(4)  # no number is used twice
    assert np.abs(quarters).max() < 5 * 1.6e-3
    # All 16 patterns have their expected frequency.
    patterns = np.bincount(zeros.astype(int) @ [1, 2, 4, 8], minlength=16) / len(zeros)
    expected = [
        np.prod([p if dropped else 1 - p for dropped in bits])
        for bits in itertools.product([0, 1], repeat=4)
    ]
    np.testing.assert_allclose(np.sort(patterns), np.sort(expected), atol=5 * 0.8e-3)


@pytest.mark.parametrize("p", [1 / 65536, 0.01, 0.999])
def test_dropout_extreme_rates_drop_expected_number_of_entries(p):
    n_zeros = int((dropout(torch.ones(4_000_000), p) == 0).sum())
    rate = round(p * 65536) / 65536
    deviation = (rate * (1 - rate) * 4_000_000) ** 0.5
    assert abs(n_zeros - rate * 4_000_000) < 5 * deviation


@pytest.mark.parametrize(("p", "training"), [(0.0, True), (1e-6, True), (0.5, False)])
def test_dropout_nothing_to_drop_returns_input_and_draws_nothing(p, training):
    x = torch.randn(3, 5)
    before = torch.get_rng_state()
    assert dropout(x, p, training) is x
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 5, 3), (0, 4)])
def test_dropout_any_shape_drops_and_keeps_every_entry_at_times(shape):
    """The size need not be a multiple of four."""
    x = torch.randn(shape) + 10
    seen = [dropout(x, 0.5) for _ in range(60)]
    for out in seen:
        assert out.shape == x.shape
        assert torch.equal(out, torch.where(out != 0, 2 * x, 0.0))
    both = torch.stack(seen) == 0
    assert both.any(0).all()  # each entry at times
    assert (~both).any(0).all()


def test_dropout_strided_input_scales_kept_entries():
    x = torch.randn(40, 30).T
    out = dropout(x, 0.25)
    kept = out != 0
    assert 0.6 < kept.double().mean() < 0.9
    torch.testing.assert_close(out[kept], x[kept] / 0.75)


def test_dropout_gradient_has_same_mask_as_output():
    x = torch.randn(50, 31, requires_grad=True)
    upstream = torch.randn(50, 31)
    out = dropout(x, 0.25)
    out.backward(upstream)
    kept = (out != 0).float()
    assert torch.equal(x.grad, upstream * (kept * (65536 / 49152)))
    assert torch.equal(out, x * (kept * (65536 / 49152)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dropout_half_precision_keeps_dtype_and_rate(dtype):
    x = torch.ones(401, 1001, dtype=dtype, requires_grad=True)
    out = dropout(x, 0.1)
    assert out.dtype == dtype
    scale = torch.tensor(1 / 0.9, dtype=dtype)
    assert set(out.unique().tolist()) == {0.0, scale.item()}
    assert (out == 0).double().mean().item() == pytest.approx(0.1, abs=5 * 0.5e-3)
    out.sum().backward()
    assert torch.equal(x.grad, out)


def test_dropout_same_seed_drops_same_entries():
    x = torch.ones(1001)
    first, other = dropout(x, 0.5), dropout(x, 0.5)
    torch.manual_seed(0)
    again = dropout(x, 0.5)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


# ---------------------------------------------------------------- the context


def test_fast_dropout_replaces_pytorch_dropout_only_inside(calls):
    module, x = torch.nn.Dropout(0.25), torch.ones(8, 3)
    F.dropout(x, 0.5)
    module(x)
    assert calls == []
    with fast_dropout(CPU):
        assert set(F.dropout(x, 0.5).unique().tolist()) <= {0, 2}
        F.dropout(x, p=0.75, training=True)
        module(x)
        assert F.dropout(x, 0.5, False) is x
        assert module.eval()(x) is x
        assert F.relu(-x).sum() == 0  # other functions are unchanged
        assert F.linear(x, weight=x, bias=None).tolist() == [[3.0] * 8] * 8
    expected = [(0.5, True), (0.75, True), (0.25, True), (0.5, False), (0.25, False)]
    assert calls == [((8, 3), *call) for call in expected]
    F.dropout(x, 0.5)
    module.train()(x)
    assert len(calls) == 5


def test_fast_dropout_error_inside_restores_pytorch_dropout(calls):
    with contextlib.suppress(ZeroDivisionError), fast_dropout(CPU):
        raise ZeroDivisionError
    F.dropout(torch.ones(8), 0.5)
    assert calls == []


def test_fast_dropout_gpu_keeps_pytorch_dropout(calls):
    with fast_dropout(torch.device("cuda")):
        F.dropout(torch.ones(8), 0.5)
    assert calls == []


@pytest.mark.parametrize("family", ["bert", "distilbert", "xlnet", "deberta-v2", MODERNBERT])
def test_fast_dropout_replaces_all_dropout_of_encoder(tiny_encoder, calls, family):
    """This includes attention, whose rate may be a number instead of a module."""
    _, encoder = load_encoder(tiny_encoder(family))
    use_fast_attention(encoder, CPU)
    set_dropout(encoder.train(), dict.fromkeys(dropout_rates(encoder), 0.25))
    inputs = {"input_ids": torch.tensor([[1, 7, 8, 9, 2]] * 3)}
    with fast_dropout(CPU):
        encoder(**inputs)
    in_force = [shape for shape, p, training in calls if p == 0.25 and training]
    assert in_force.count((3, 2, 5, 5)) == 2  # the attention of two heads, in two layers
    assert len(in_force) > 2 or family == "modernbert"  # hidden states
    n_calls = len(calls)
    with fast_dropout(CPU), torch.no_grad():
        first, again = (encoder.eval()(**inputs).last_hidden_state for _ in range(2))
    assert torch.equal(first, again)
    encoder.train()(**inputs)
    assert not any(training for _, _, training in calls[n_calls:])


def test_trainer_step_on_cpu_uses_fast_dropout(make_trainer, calls):
    trainer = make_trainer()
    take_step(trainer, np.arange(16))
    assert ((16, 1, 32), 0.1, True) in calls  # the representation
    assert sum(len(shape) == 4 for shape, _, _ in calls) == 2  # attention
    n_calls = len(calls)
    F.dropout(torch.ones(8), 0.5)
    assert len(calls) == n_calls
