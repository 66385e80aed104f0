"""AdamW by rows against a plain NumPy reference, for every way to update."""

import contextlib
import math
import os
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_fixtures import sparse_rows

from skxmc._training import adamw as adamw_module
from skxmc._training.adamw import RowAdamW

LR, DECAY = 0.01, 0.1
N_ROWS, N_COLUMNS, DIM = 6, 12, 4
WAYS = ["by index", "in parts", "in place", "compact", "compact in parts"]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """Set up each way to update: all rows at once, two at a time, in place, compact moments."""
    if request.param.endswith("in parts"):
        monkeypatch.setattr(adamw_module, "ENTRIES_BLOCK", 2 * N_COLUMNS)
    elif request.param == "in place":
        monkeypatch.setattr(adamw_module, "MIN_LONG_ROW", 1)
    return request.param


@pytest.fixture
def tables():
    """Make a table of embeddings, which decays, and one of biases, which does not."""
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(N_ROWS, n, generator=generator)) for n in (N_COLUMNS, 3)]


def make_optimizer(tables, way="by index", decay=DECAY, **options):
    compact_dim = DIM if way.startswith("compact") else None
    options = {"lr": LR, "rows_are_distinct": True, **options}
    return RowAdamW(
        [
            {"params": tables[:1], "weight_decay": decay, "compact_dim": compact_dim, **options},
            {"params": tables[1:], "weight_decay": 0.0, **options},
        ]
    )


def gradients(step):
    """Draw gradients of any size."""
    generator = torch.Generator().manual_seed(step)
    scale = 10.0 ** torch.randint(-4, 3, (1,), generator=generator)
    return [torch.randn(N_ROWS, n, generator=generator) * scale for n in (N_COLUMNS, 3)]


def set_gradients(tables, rows, step, scale=1.0):
    rows = torch.as_tensor(rows, dtype=torch.int64)
    for table, gradient in zip(tables, gradients(step), strict=True):
        values = (gradient[rows] * scale).to(table.device)
        table.grad = sparse_rows(rows.to(table.device), values, table)


def take_step(optimizer, tables, rows, step):
    set_gradients(tables, rows, step)
    optimizer.step()
    optimizer.zero_grad()


def tensors_of(optimizer, tables):
    """Return all tensors whose rows a step may change."""
    names = ("first", "second", "last_step")
    return [
        t
        for table in tables
        for t in (table.detach(), *(optimizer.state[table][name] for name in names))
    ]


class Row:
    """AdamW for one row in NumPy, whose second moment decays in every step of the optimizer.

    With `dim`, the first moment is in bfloat16, and `dim` entries share a second moment.
    """

    def __init__(self, row, decay, dim=None):
        self.row = row.detach().double().numpy().reshape(-1, dim or 1).copy()
        self.is_compact = dim is not None
        self.decay = decay
        self.first, self.second = np.zeros_like(self.row), np.zeros((len(self.row), 1))
        self.last = 0

    def step(self, gradient, now):
        gradient = gradient.double().numpy().reshape(self.row.shape)
        mean = self.first = 0.9 * self.first + 0.1 * gradient
        if self.is_compact:
            self.first = torch.from_numpy(mean).bfloat16().double().numpy()
        self.second *= 0.999 ** (now - self.last)
        self.second += 0.001 * (gradient**2).mean(axis=1, keepdims=True)
        self.last = now
        self.row *= 1 - LR * self.decay
        unbiased = self.second / (1 - 0.999**now)
        self.row -= LR * mean / (1 - 0.9**now) / (np.sqrt(unbiased) + 1e-8)

    def weights(self):
        return torch.from_numpy(self.row.flatten()).float()


class Reference:
    """Reference for the two tables, row by row."""

    def __init__(self, tables, way="by index"):
        self.is_compact = way.startswith("compact")
        self.rows = [
            [Row(row, DECAY, DIM if self.is_compact else None) for row in tables[0]],
            [Row(row, 0.0) for row in tables[1]],
        ]
        self.now = 0

    def step(self, taken, step):
        self.now += 1
        for rows, gradient in zip(self.rows, gradients(step), strict=True):
            for row in taken:
                rows[row].step(gradient[row], self.now)

    def check(self, tables, of_compact=None):
        # If arithmetic differs in the last bit, a first moment may be rounded the other way.
        loose = {"rtol": 1e-4, "atol": 0.02 * LR}
        tight = {"rtol": 1e-4, "atol": 2e-6}
        loose = of_compact or loose
        tolerances = (loose if self.is_compact else tight), tight
        for rows, table, tolerance in zip(self.rows, tables, tolerances, strict=True):
            expected = torch.stack([row.weights() for row in rows])
            torch.testing.assert_close(table.detach(), expected, **tolerance)


# ---------------------------------------------------------------- one row after the other


@pytest.mark.parametrize("way", WAYS[:3], indirect=True)
def test_row_adamw_all_rows_taken_equals_adamw(way, tables):
    twins = [torch.nn.Parameter(table.detach().clone()) for table in tables]
    groups = [
        {"params": twins[:1], "weight_decay": DECAY},
        {"params": twins[1:], "weight_decay": 0.0},
    ]
    optimizer, adamw = make_optimizer(tables, way), torch.optim.AdamW(groups, lr=LR)
    for step in range(30):
        take_step(optimizer, tables, range(N_ROWS), step)
        for twin, gradient in zip(twins, gradients(step), strict=True):
            twin.grad = gradient
        adamw.step()
        for table, twin in zip(tables, twins, strict=True):
            torch.testing.assert_close(table, twin, rtol=1e-4, atol=2e-6)


def test_row_adamw_rare_rows_match_reference(way, tables):
    """Between their gradients, only the second moment decays."""
    optimizer, reference = make_optimizer(tables, way), Reference(tables, way)
    rng = np.random.default_rng(0)
    for step in range(40):
        rows = rng.permutation(np.flatnonzero(rng.random(5) < [1, 0.5, 0.1, 0.5, 0]))
        take_step(optimizer, tables, rows, step)
        reference.step(rows, step)
        reference.check(tables)
    for table in tables:
        state = optimizer.state[table]
        assert state["n_steps"] == 40
        assert state["last_step"][0] == 40
        assert 0 < state["last_step"][2] < 40
        assert state["last_step"][4:].tolist() == [0, 0]


def test_row_adamw_rows_without_gradient_are_unchanged(way, tables):
    optimizer = make_optimizer(tables, way)
    take_step(optimizer, tables, range(N_ROWS), 0)
    before = [tensor.clone() for tensor in tensors_of(optimizer, tables)]
    take_step(optimizer, tables, [3, 1], 1)
    for tensor, old in zip(tensors_of(optimizer, tables), before, strict=True):
        assert torch.equal(tensor[[0, 2, 4, 5]], old[[0, 2, 4, 5]])
        assert (tensor[[1, 3]] != old[[1, 3]]).all()


@pytest.mark.parametrize("way", WAYS[:3], indirect=True)
def test_row_adamw_late_rows_take_longer_steps(way, tables):
    """As in AdamW, the second moment averages over all steps, and most had no gradient."""
    optimizer = make_optimizer(tables, way, decay=0.0)
    for step in range(299):
        take_step(optimizer, tables, [0], step)
    before = [table[1].detach().clone() for table in tables]
    take_step(optimizer, tables, [0, 1], 299)
    expected = LR * 0.1 / math.sqrt(0.001 / (1 - 0.999**300))
    assert expected > 1.5 * LR
    for table, old in zip(tables, before, strict=True):
        moved = (table[1].detach() - old).abs()
        torch.testing.assert_close(moved, torch.full_like(moved, expected), rtol=1e-3, atol=0)


def test_row_adamw_repeated_zero_rows_leave_other_rows_unchanged(way, tables):
    """Lists for a GPU are padded with a dummy cluster, whose gradients are 0."""
    twins = [torch.nn.Parameter(table.detach().clone()) for table in tables]
    for these, rows in ((tables, [1, 3]), (twins, [1, 5, 3, 5, 5])):
        optimizer = make_optimizer(these, way)
        for step in range(3):
            set_gradients(these, rows, step)
            for table in these:
                table.grad._values()[torch.tensor(rows) == 5] = 0.0
            optimizer.step()
    for table, twin in zip(tables, twins, strict=True):
        torch.testing.assert_close(table[:5], twin[:5], rtol=1e-6, atol=1e-7)
        assert twin.isfinite().all()


def test_row_adamw_no_gradient_rows_change_nothing(way, tables):
    """The gradient either has no rows, or is None."""
    optimizer = make_optimizer(tables, way)
    take_step(optimizer, tables, range(N_ROWS), 0)
    before = [tensor.clone() for tensor in tensors_of(optimizer, tables)]
    take_step(optimizer, tables, [], 1)
    optimizer.step()
    for tensor, old in zip(tensors_of(optimizer, tables), before, strict=True):
        assert torch.equal(tensor, old)


def test_row_adamw_rate_0_moves_only_moments(way, tables):
    """The schedule may change the rates of a group."""
    optimizer = make_optimizer(tables, way)
    before = [table.detach().clone() for table in tables]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    take_step(optimizer, tables, [1], 0)
    for table, old in zip(tables, before, strict=True):
        assert torch.equal(table, old)
        assert optimizer.state[table]["first"][1].all()


# ---------------------------------------------------------------- ways to update, moments


@pytest.mark.parametrize(
    ("n_columns", "compact_dim", "in_place"),
    [(4095, None, False), (4096, None, True), (4096, 64, False)],
)
def test_row_adamw_only_long_rows_update_in_place(monkeypatch, n_columns, compact_dim, in_place):
    table = torch.nn.Parameter(torch.zeros(3, n_columns))
    optimizer = RowAdamW([{"params": [table], "lr": LR, "compact_dim": compact_dim}])
    ways = []
    for name in ("_update", "_update_in_place"):
        monkeypatch.setattr(optimizer, name, lambda *args, name=name: ways.append((name, args[2])))
    table.grad = sparse_rows(torch.tensor([0, 2]), torch.ones(2, n_columns), table)
    optimizer.step()
    ((name, rows),) = ways
    assert name == ("_update_in_place" if in_place else "_update")
    assert rows.tolist() == [0, 2]


@pytest.mark.parametrize(("entries", "sizes"), [(24, [2, 2, 1]), (35, [2, 2, 1]), (5, [1] * 5)])
def test_row_adamw_blocks_have_as_many_rows_as_fit_cache(monkeypatch, tables, entries, sizes):
    monkeypatch.setattr(adamw_module, "ENTRIES_BLOCK", entries)
    optimizer = make_optimizer(tables)
    parts = []
    monkeypatch.setattr(optimizer, "_update", lambda *args: parts.append(args))
    set_gradients(tables, range(5), 0)
    tables[1].grad = None
    optimizer.step()
    assert [len(rows) for _, _, rows, _ in parts] == sizes
    assert torch.cat([rows for _, _, rows, _ in parts]).tolist() == list(range(5))
    assert torch.equal(torch.cat([part[3] for part in parts]), gradients(0)[0][:5])


def test_row_adamw_moments_have_expected_shapes_and_dtypes(tables):
    state = make_optimizer(tables).state[tables[0]]
    assert state["first"].shape == state["second"].shape == tables[0].shape
    assert {state[name].dtype for name in ("first", "second")} == {torch.float32}
    assert not state["first"].requires_grad
    state = make_optimizer(tables, "compact").state[tables[0]]
    assert state["first"].shape == tables[0].shape
    assert state["first"].dtype == torch.bfloat16
    assert state["second"].shape == (N_ROWS, N_COLUMNS // DIM)
    assert state["second"].dtype == torch.float32
    assert state["last_step"].shape == (N_ROWS,)


# ---------------------------------------------------------------- before the step


def test_row_adamw_repeated_rows_are_summed(way, tables):
    """The gradient of word embeddings repeats rows."""
    twins = [torch.nn.Parameter(table.detach().clone()) for table in tables]
    repeated = make_optimizer(tables, way, rows_are_distinct=False)
    summed = make_optimizer(twins, way)
    rows = torch.tensor([4, 1, 4, 0, 1, 4])
    for step in range(3):
        for table, twin, values in zip(tables, twins, gradients(step), strict=True):
            table.grad = sparse_rows(rows, values, table)
            sums = torch.zeros_like(values).index_add_(0, rows, values)
            twin.grad = sparse_rows(torch.tensor([0, 1, 4]), sums[[0, 1, 4]], twin)
        repeated.coalesce()
        assert [len(table.grad._values()) for table in tables] == [3, 3]
        repeated.step()
        summed.step()
    for table, twin in zip(tables, twins, strict=True):
        torch.testing.assert_close(table, twin, rtol=1e-5, atol=1e-6)
        assert repeated.state[table]["last_step"].tolist() == [3, 3, 0, 0, 3, 0]


def test_row_adamw_coalesce_keeps_gradient_of_distinct_rows(tables):
    optimizer = make_optimizer(tables)
    set_gradients(tables, [4, 1], 0)
    tables[1].grad = None
    grad = tables[0].grad
    optimizer.coalesce()
    assert tables[0].grad is grad
    assert not grad.is_coalesced()
    assert tables[1].grad is None


def test_row_adamw_gradient_scaler_skips_overflowed_step(way, tables):
    optimizer = make_optimizer(tables, way)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    reference = Reference(tables, way)
    for step, overflows in enumerate([False, True, False]):
        scale = scaler.get_scale()
        scaler.scale(torch.ones(()))  # the scaler requires a loss first
        set_gradients(tables, range(N_ROWS), step, math.inf if overflows else scale)
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert all(table.grad is None for table in tables)
        if not overflows:
            reference.step(range(N_ROWS), step)
        reference.check(tables)
    assert scaler.get_scale() == 512
    assert [optimizer.state[table]["n_steps"] for table in tables] == [2, 2]


# ---------------------------------------------------------------- a GPU


@pytest.fixture
def kernel():
    """Return the kernel of a GPU, as Triton's interpreter runs it.

    Triton reads the variable when it is imported, which torch may do before the tests.
    """
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") != "1":
        pytest.skip("needs TRITON_INTERPRET=1")
    from skxmc._training.adamw_kernel import update_rows

    return update_rows


@pytest.mark.parametrize("way", ["by index", "compact"])
@pytest.mark.parametrize("n_columns_block", [1024, 8])
def test_row_adamw_kernel_matches_reference(way, n_columns_block, kernel, tables, monkeypatch):
    monkeypatch.setitem(kernel.__globals__, "COLUMNS_BLOCK", n_columns_block)
    monkeypatch.setattr(adamw_module, "load_kernel", lambda device: kernel)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    optimizer, reference = make_optimizer(tables, way), Reference(tables, way)
    for step in range(10):
        rows = [0, 2, 4] if step % 2 else [2, 1]
        set_gradients(tables, rows, step)
        update_as_on_gpu(optimizer)
        reference.step(rows, step)
    # The interpreter cuts bfloat16 off instead of rounding it.
    compact = {"rtol": 1e-3, "atol": 0.05 * LR} if way == "compact" else None
    reference.check(tables, compact)


def update_as_on_gpu(optimizer):
    """Take a step by the code of a GPU."""
    for group in optimizer.param_groups:
        for table in group["params"]:
            optimizer.state[table]["n_steps"] += 1
            of_rows = table.grad._indices()[0], table.grad._values()
            with torch.no_grad():
                optimizer._update_on_gpu(table, group, *of_rows)


@pytest.mark.parametrize("way", ["by index", "compact"])
def test_row_adamw_overflow_on_gpu_changes_only_the_dummy(way, tables):
    optimizer = make_optimizer(tables, way)
    set_gradients(tables, [0, 2, 4], 0)
    update_as_on_gpu(optimizer)
    before = [tensor[:-1].clone() for tensor in tensors_of(optimizer, tables)]
    for value in (0.0, 1.0):
        optimizer.found_inf = torch.tensor(value)
        set_gradients(tables, [0, 2, 3], 1, math.inf if value else 1.0)
        update_as_on_gpu(optimizer)
        after = [tensor[:-1].clone() for tensor in tensors_of(optimizer, tables)]
        is_equal = [torch.equal(a, b) for a, b in zip(after, before, strict=True)]
        assert is_equal == [bool(value)] * len(before)
        assert all(tensor.isfinite().all() for tensor in tensors_of(optimizer, tables))
        before = after


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("way", ["by index", "compact"])
def test_row_adamw_cuda_matches_reference(way, tables):
    reference = Reference(tables, way)
    moved = [torch.nn.Parameter(table.detach().cuda()) for table in tables]
    optimizer = make_optimizer(moved, way)
    for step in range(10):
        rows = [0, 2, 4] if step % 2 else [2, 1]
        take_step(optimizer, moved, rows, step)
        reference.step(rows, step)
    reference.check([table.cpu() for table in moved])


def test_load_kernel_that_does_not_compile_warns_and_is_none(monkeypatch):
    name = "skxmc._training.adamw_kernel"

    def update_rows(*_):
        raise RuntimeError("no C compiler")

    monkeypatch.setitem(sys.modules, name, SimpleNamespace(update_rows=update_rows))
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    load_kernel = adamw_module.load_kernel.__wrapped__  # without its cache
    with pytest.warns(UserWarning, match="Triton does not compile .*no C compiler.* Install a C"):
        assert load_kernel(torch.device("cpu")) is None
    monkeypatch.setitem(sys.modules, name, None)  # Triton is missing, as on Windows
    assert load_kernel(torch.device("cpu")) is None
