"""The training loop: learning, steps, mixed precision, progress output."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from training_fixtures import (
    CPU,
    HISTORY,
    N_TEXTS,
    WORDS,
    FakeValidation,
    after_each_step,
    assert_same_weights,
    run,
    sparse_rows,
    take_step,
    tokens_and_labels,
    weights,
)

from skxmc._training import optim
from skxmc._training import trainer as trainer_module
from skxmc._training.trainer import TrainingSet

# ---------------------------------------------------------------- batches


def test_training_set_batch_has_tokens_and_labels_of_its_texts(tiny_encoder):
    tokens, y = tokens_and_labels(tiny_encoder())
    y = y.tolil()
    y[5] = 0  # a text without labels
    data = TrainingSet(tokens, y.tocsr(), CPU)
    rows = np.array([7, 5, 3, 110])
    batch, positives, chosen = data.batch(rows)
    assert chosen is None
    torch.testing.assert_close(batch.input_ids, tokens.batch(rows).input_ids)
    found = [positives.labels[positives.rows == i].tolist() for i in range(4)]
    assert found == [sorted(y[[i]].nonzero()[1].tolist()) for i in rows]
    assert found[1] == []
    assert positives.rows.dtype == positives.labels.dtype == torch.int64
    assert len(data) == N_TEXTS


def test_training_set_batch_on_gpu_pads_to_a_multiple_of_8(tiny_encoder, monkeypatch):
    tokens, y = tokens_and_labels(tiny_encoder())
    for name in ("TokenBatch", "Positives"):  # this machine may have no GPU
        monkeypatch.setattr(getattr(trainer_module, name), "to", lambda batch, device: batch)
    rows = np.array([list(tokens.lengths).index(length) for length in (14, 18)])
    for device, n_tokens in ((CPU, 18), (torch.device("cuda"), 24)):
        batch, *_ = TrainingSet(tokens, y, device).batch(rows)
        assert batch.input_ids.shape == (2, n_tokens)


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize("direct", [False, True])
def test_trainer_run_lowers_loss_and_changes_all_weights(make_trainer, direct):
    trainer = make_trainer(max_epochs=8, direct=direct)
    before = weights(trainer.network)
    history = run(trainer)
    assert history is trainer.history
    assert [set(entry) for entry in history] == [HISTORY] * 8
    losses = np.array([[h["loss"], h["recall_loss"], h["rank_loss"]] for h in history])
    np.testing.assert_allclose(losses[:, 0], losses[:, 1] + losses[:, 2])
    assert losses[-1, 0] < 0.75 * losses[0, 0]
    assert losses[-1, 2] < 0.75 * losses[0, 2]
    assert (losses[-1, 1] < 0.85 * losses[0, 1]) if not direct else not losses[:, 1].any()
    assert [h["epoch"] for h in history] == list(range(8))
    assert {h["n_steps"] for h in history} == {8}  # 120 texts by 16
    assert all(h["seconds"] > 0 for h in history)
    assert trainer.step == 64
    after = weights(trainer.network)
    for name in before:
        if name not in ("feature_mean", "label_table.weight", "label_table.bias"):
            assert not torch.equal(before[name], after[name]), name
    if not direct:
        table = trainer.network.label_table
        is_label = trainer.network.layout.labels_of >= 0
        for name, shape in (("weight", table.by_cluster().shape), ("bias", table.bias.shape)):
            name = f"label_table.{name}"
            assert (before[name] != after[name]).view(shape)[is_label].all()
    assert not trainer.network.training


def test_trainer_history_loss_is_mean_of_steps(make_trainer):
    trainer = make_trainer(max_epochs=1)
    seen = []
    train_step = trainer.train_step
    trainer.train_step = lambda *args: seen.append(train_step(*args)) or seen[-1]
    (entry,) = run(trainer)
    assert entry["recall_loss"] == pytest.approx(np.mean([s.recall.item() for s in seen]))
    assert entry["rank_loss"] == pytest.approx(np.mean([s.rank.item() for s in seen]))


def test_trainer_learning_rates_follow_schedule(make_trainer):
    trainer = make_trainer(max_epochs=3, warmup_fraction=0.25)  # 6 of 24 steps
    seen = []
    after_each_step(
        trainer, lambda: seen.append([g["lr"] for o in trainer.optimizers for g in o.param_groups])
    )
    history = run(trainer)
    factor = [(i + 1) / 6 for i in range(6)] + [1 - i / 18 for i in range(18)]
    expected = np.outer(factor, [1e-3, 1e-3, 1e-2, 1e-2, 1e-3, 1e-2, 1e-2])
    np.testing.assert_allclose(seen, expected)
    rates = [h["learning_rate"] for h in history]
    np.testing.assert_allclose(rates, expected[[7, 15, 23], 0])


def test_trainer_small_max_grad_norm_clips_gradients(make_trainer):
    moved = {}
    for max_grad_norm in (None, 1e6, 1e-12):
        trainer = make_trainer(max_epochs=1, max_grad_norm=max_grad_norm, weight_decay=0.0)
        before = weights(trainer.network)
        run(trainer)
        moved[max_grad_norm] = {k: v - before[k] for k, v in weights(trainer.network).items()}
    assert_same_weights(moved[None], moved[1e6])
    # AdamW undoes any scale unless gradients are far below its eps, as here.
    assert max(move.abs().max() for move in moved[1e-12].values()) < 1e-4


@pytest.mark.parametrize("moments", ["full", "compact"])
def test_trainer_full_or_compact_moments_learn(make_trainer, moments, monkeypatch):
    monkeypatch.setattr(optim, "MAX_FULL_ENTRIES", 0 if moments == "compact" else 10**9)
    trainer = make_trainer(max_epochs=8)
    table = trainer.network.label_table
    states = trainer.optimizers[1].state
    expected = torch.bfloat16 if moments == "compact" else torch.float32
    assert states[table.weight]["first"].dtype == expected
    assert states[table.bias]["first"].dtype == torch.float32
    history = run(trainer)
    assert history[-1]["rank_loss"] < 0.75 * history[0]["rank_loss"]


# ---------------------------------------------------------------- reproducible


def test_trainer_same_seed_gives_same_weights_without_global_state(make_trainer):
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    results = []
    for seed in (0, 0, 1):
        trainer = make_trainer(swa_start=1, swa_every=3)
        trainer.rng = np.random.default_rng(seed)
        history = run(trainer, seed)
        results.append(({**weights(trainer.network)}, [h["loss"] for h in history]))
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002
    assert_same_weights(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]
    assert results[0][1] != results[2][1]


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.half)])
def test_trainer_mixed_precision_learns_with_float32_weights(make_trainer, precision, dtype):
    trainer = make_trainer(max_epochs=4, precision=precision)
    assert trainer.scaler.is_enabled() == (dtype == torch.float16)
    products = set()
    trainer.network.recall_head.register_forward_hook(lambda m, i, out: products.add(out.dtype))
    history = run(trainer)
    assert products == {dtype}
    assert {p.dtype for p in trainer.network.parameters()} == {torch.float32}
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert all(p.isfinite().all() for p in trainer.network.parameters())


@pytest.mark.parametrize("which", ["recall_head.weight", "label_table.weight", WORDS])
@pytest.mark.parametrize(
    ("value", "max_grad_norm"), [(float("inf"), 10.0), (float("nan"), 10.0), (float("inf"), None)]
)
def test_trainer_overflow_skips_whole_step(make_trainer, which, value, max_grad_norm):
    trainer = make_trainer(max_epochs=1, precision="fp16", max_grad_norm=max_grad_norm)
    before = weights(trainer.network)
    scale = trainer.scaler.get_scale()

    def spoil(gradient):
        if not gradient.is_sparse:
            return gradient.index_fill(0, torch.tensor([0]), value)
        values = gradient._values().index_fill(0, torch.tensor([0]), value)
        return sparse_rows(gradient._indices()[0], values, gradient)

    dict(trainer.network.named_parameters())[which].register_hook(spoil)
    take_step(trainer, np.arange(16))
    assert_same_weights(weights(trainer.network), before)
    assert trainer.scaler.get_scale() < scale
    states = trainer.optimizers[1].state.values()
    assert len(states) == 3  # words, embeddings and biases of labels
    assert not any(state["n_steps"] for state in states)
    assert all(p.grad is None for p in trainer.network.parameters())


def test_trainer_state_dict_restores_loss_scale(make_trainer):
    trainer, twin = make_trainer(precision="fp16"), make_trainer(precision="fp16")
    take_step(trainer, np.arange(16))
    trainer.scaler.update(new_scale=128.0)
    twin.load_state_dict(trainer.state_dict())
    assert twin.scaler.get_scale() == 128


def test_trainer_history_seconds_count_steps_only(make_trainer, monkeypatch):
    """Writing checkpoints does not count. After a resume, the steps before it count."""
    clock, states = [0.0], []
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(perf_counter=lambda: clock[0]))

    def pass_time(seconds):
        clock[0] += seconds

    trainer = make_trainer(max_epochs=1)
    after_each_step(trainer, lambda: pass_time(1))

    def save():
        if trainer.step % 3 == 0:
            states.append(copy.deepcopy(trainer.state_dict()))
            pass_time(100)

    trainer.save = save
    assert run(trainer)[0]["seconds"] == 8
    twin = make_trainer(max_epochs=1)
    twin.load_state_dict(states[0])  # after the third step
    after_each_step(twin, lambda: pass_time(10))
    assert run(twin)[0]["seconds"] == 3 + 5 * 10


# ---------------------------------------------------------------- progress output


def test_trainer_verbose_1_shows_loss_of_each_epoch(make_trainer, capsys):
    history = run(make_trainer(FakeValidation([0.25, 0.5]), verbose=1))
    out, err = capsys.readouterr()
    assert not out
    assert "epoch 1: validation P@5 0.2500\n" in err
    assert "epoch 2: validation P@5 0.5000\n" in err
    for epoch in ("epoch 1/2: 8/8", "epoch 2/2: 8/8"):
        bar = next(line for line in err.splitlines() if epoch in line)
        assert f"loss={history[int(epoch[6]) - 1]['loss']:.3f}" in bar


def test_trainer_verbose_0_prints_nothing(make_trainer, capsys):
    run(make_trainer(FakeValidation([0.25, 0.5]), verbose=0))
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------- a GPU


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("max_full", [0, 10**9])
def test_trainer_cuda_lowers_loss(make_trainer, precision, max_full, monkeypatch):
    monkeypatch.setattr(optim, "MAX_FULL_ENTRIES", max_full)
    trainer = make_trainer(
        max_epochs=8,
        precision=precision,
        device=torch.device("cuda", 0),
        swa_start=4,
        swa_every=2,
    )
    history = run(trainer)
    assert history[-1]["loss"] < 0.75 * history[0]["loss"]
    assert all(p.is_cuda and p.isfinite().all() for p in trainer.network.parameters())


def test_trainer_on_cpu_returns_freed_memory_every_hundred_steps(make_trainer, monkeypatch):
    trainer, calls = make_trainer(max_epochs=13, direct=True), []
    monkeypatch.setattr(
        "skxmc._training.trainer.return_freed_memory", lambda: calls.append(trainer.step)
    )
    trainer.step = 96
    trainer.run()
    assert calls == [100]
