"""The training loop: it learns, averages, stops, repeats itself exactly, and says what it does."""

import numpy as np
import pytest
import torch

from skxmc._device import local_seed
from skxmc._encoder import load_encoder, use_fast_attention
from skxmc._network import LightXMLNetwork
from skxmc._text import tokenize
from skxmc._training import Trainer, TrainingSet, TrainingSettings
from skxmc.datasets import make_xmc

CPU = torch.device("cpu")
N_TEXTS, N_LABELS = 120, 30
HISTORY = {"epoch", "loss", "recall_loss", "rank_loss", "learning_rate", "n_steps", "seconds"}


@pytest.fixture(scope="module")
def tokens_and_labels(tiny_encoder):
    tokenizer, _ = load_encoder(tiny_encoder())
    texts, y = make_xmc(
        N_TEXTS, N_LABELS, n_labels_per_sample=2, n_noise_words=1, n_words=40, random_state=0
    )
    return tokenize(tokenizer, texts, 24), y


@pytest.fixture(scope="module")
def data(tokens_and_labels):
    return TrainingSet(*tokens_and_labels, CPU)


@pytest.fixture
def make_trainer(data, tiny_encoder):
    def make(validate=None, seed=0, direct=False, data=data, **changes):
        settings = {
            "max_epochs": 2,
            "batch_size": 16,
            "learning_rate": 1e-3,
            "head_learning_rate": 1e-2,
            "weight_decay": 0.01,
            "warmup_fraction": 0.1,
            "lr_schedule": "linear",
            "max_grad_norm": 10.0,
            "n_candidate_clusters": 3,
            "dtype": torch.float32,
            **changes,
        }
        _, encoder = load_encoder(tiny_encoder())
        use_fast_attention(encoder, CPU)
        with local_seed(seed, CPU):
            network = LightXMLNetwork(
                encoder,
                np.arange(N_LABELS) % (N_LABELS if direct else 8),
                n_feature_layers=2,
                bottleneck_dim=8,
                dropout=0.1,
            ).to(data.device)
        rng = np.random.default_rng(seed)
        return Trainer(network, data, TrainingSettings(**settings), rng, validate)

    return make


def run(trainer, seed=0):
    with local_seed(seed, trainer.data.device):
        return trainer.run()


def weights(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def assert_same_weights(a, b, **tolerance):
    assert a.keys() == b.keys()
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], **(tolerance or {"rtol": 0, "atol": 0}))


def after_each_step(trainer, action):
    """Call `action` after each optimiser step."""
    train_step = trainer._train_step

    def step(rows, factor):
        losses = train_step(rows, factor)
        action()
        return losses

    trainer._train_step = step


# ---------------------------------------------------------------- batches


def test_batches_carry_the_labels_of_their_texts(tokens_and_labels):
    tokens, y = tokens_and_labels
    y = y.tolil()
    y[5] = 0  # a text without labels
    data = TrainingSet(tokens, y.tocsr(), CPU)
    rows = np.array([7, 5, 3, 110])
    batch, positives = data.batch(rows)
    torch.testing.assert_close(batch.input_ids, tokens.batch(rows).input_ids)
    found = [positives.labels[positives.rows == i].tolist() for i in range(4)]
    assert found == [sorted(y[[i]].nonzero()[1].tolist()) for i in rows]
    assert found[1] == []
    assert positives.rows.dtype == positives.labels.dtype == torch.int64
    assert len(data) == N_TEXTS


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize("direct", [False, True])
def test_the_loss_falls(make_trainer, direct):
    trainer = make_trainer(max_epochs=8, direct=direct)
    before = weights(trainer.network)
    history = run(trainer)
    assert history is trainer.history
    assert [set(entry) for entry in history] == [HISTORY] * 8
    losses = np.array([[h["loss"], h["recall_loss"], h["rank_loss"]] for h in history])
    np.testing.assert_allclose(losses[:, 0], losses[:, 1] + losses[:, 2])
    assert losses[-1, 0] < 0.75 * losses[0, 0]
    assert losses[-1, 1] < 0.85 * losses[0, 1]
    assert (losses[-1, 2] < 0.75 * losses[0, 2]) if not direct else not losses[:, 2].any()
    assert [h["epoch"] for h in history] == list(range(8))
    assert {h["n_steps"] for h in history} == {8}  # 120 texts by 16
    assert all(h["seconds"] > 0 for h in history)
    assert trainer.step == 64
    after = weights(trainer.network)
    for name in before:
        if name not in ("feature_mean", "label_table.weight", "label_table.bias"):
            assert not torch.equal(before[name], after[name]), name
    if not direct:
        is_label = trainer.network.layout.labels_of >= 0
        for name in ("label_table.weight", "label_table.bias"):
            assert (before[name] != after[name])[is_label].all()
    assert not trainer.network.training


def test_the_loss_of_the_history_is_the_mean_of_the_steps(make_trainer):
    trainer = make_trainer(max_epochs=1)
    seen = []
    train_step = trainer._train_step
    trainer._train_step = lambda *args: seen.append(train_step(*args)) or seen[-1]
    (entry,) = run(trainer)
    assert entry["recall_loss"] == pytest.approx(np.mean([s.recall.item() for s in seen]))
    assert entry["rank_loss"] == pytest.approx(np.mean([s.rank.item() for s in seen]))


def test_rates_follow_the_schedule(make_trainer):
    trainer = make_trainer(max_epochs=3, warmup_fraction=0.25)  # 6 of 24 steps
    seen = []
    after_each_step(
        trainer, lambda: seen.append([g["lr"] for o in trainer.optimizers for g in o.param_groups])
    )
    history = run(trainer)
    factor = [(i + 1) / 6 for i in range(6)] + [1 - i / 18 for i in range(18)]
    expected = np.outer(factor, [1e-3, 1e-3, 1e-2, 1e-2, 1e-2])
    np.testing.assert_allclose(seen, expected)
    rates = [h["learning_rate"] for h in history]
    np.testing.assert_allclose(rates, expected[[7, 15, 23], 0])


def test_gradients_are_clipped(make_trainer):
    moved = {}
    for max_grad_norm in (None, 1e6, 1e-12):
        trainer = make_trainer(max_epochs=1, max_grad_norm=max_grad_norm, weight_decay=0.0)
        before = weights(trainer.network)
        run(trainer)
        moved[max_grad_norm] = {k: v - before[k] for k, v in weights(trainer.network).items()}
    assert_same_weights(moved[None], moved[1e6])
    # AdamW undoes any scale, but for its eps, which is far above such gradients.
    assert max(move.abs().max() for move in moved[1e-12].values()) < 1e-4


# ---------------------------------------------------------------- repeatable


def test_same_seed_same_weights_and_nothing_global(make_trainer):
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


# ---------------------------------------------------------------- weight averaging


def test_average_of_weights(make_trainer):
    """From epoch 1 on: its first step, then all whose number divides by 3."""
    trainer = make_trainer(max_epochs=3, swa_start=1, swa_every=3)
    snapshots = []
    after_each_step(trainer, lambda: snapshots.append(weights(trainer.network)))
    run(trainer)
    numbers = [9, 12, 15, 18, 21, 24]  # counted from 1; the epochs have 8 steps
    chosen = [snapshots[n - 1] for n in numbers]
    mean = {name: torch.stack([s[name] for s in chosen]).mean(0) for name in chosen[0]}
    assert_same_weights(weights(trainer.network), mean, rtol=1e-4, atol=1e-6)
    assert not torch.equal(mean["recall_head.bias"], snapshots[-1]["recall_head.bias"])
    assert not trainer.network.training


def test_no_average(make_trainer):
    for swa_start in (None, 7):  # off, and later than training ends
        trainer = make_trainer(swa_start=swa_start, swa_every=1)
        snapshots = []
        after_each_step(trainer, lambda: snapshots.append(weights(trainer.network)))  # noqa: B023
        run(trainer)
        assert trainer.average is None
        assert_same_weights(weights(trainer.network), snapshots[-1])


# ---------------------------------------------------------------- validation


class FakeValidation:
    """Gives the scores it was told to, notes the weights it saw, leaves them in eval mode."""

    def __init__(self, scores):
        self.scores = list(scores)
        self.seen = []

    def __call__(self, network):
        network.eval()
        self.seen.append((network, weights(network)))
        return self.scores[len(self.seen) - 1]


def test_early_stopping_keeps_the_best_weights(make_trainer):
    validate = FakeValidation([0.1, 0.5, 0.4, 0.5, 0.9])  # as good as the best is no gain
    trainer = make_trainer(validate, max_epochs=5, n_iter_no_change=2)
    history = run(trainer)
    assert [h["valid_p_at_5"] for h in history] == [0.1, 0.5, 0.4, 0.5]
    assert all(set(h) == HISTORY | {"valid_p_at_5"} for h in history)
    assert_same_weights(weights(trainer.network), validate.seen[1][1])
    assert not trainer.network.training


def test_a_gain_starts_the_count_anew(make_trainer):
    validate = FakeValidation([0.1, 0.0, 0.2, 0.1, 0.3])
    trainer = make_trainer(validate, max_epochs=5, n_iter_no_change=2)
    assert len(run(trainer)) == 5
    assert_same_weights(weights(trainer.network), validate.seen[4][1])


def test_validation_without_early_stopping_only_looks(make_trainer):
    validate = FakeValidation([0.9, 0.5, 0.1])
    trainer = make_trainer(validate, max_epochs=3)
    plain = make_trainer(max_epochs=3)
    assert [h["valid_p_at_5"] for h in run(trainer)] == [0.9, 0.5, 0.1]
    run(plain)
    assert_same_weights(weights(trainer.network), weights(plain.network))


def test_validation_measures_the_weights_that_would_be_kept(make_trainer):
    validate = FakeValidation([0.1, 0.2, 0.3])
    trainer = make_trainer(validate, max_epochs=3, swa_start=1, swa_every=2, n_iter_no_change=3)
    run(trainer)
    networks = [network for network, _ in validate.seen]
    assert networks == [trainer.network, trainer.average.module, trainer.average.module]
    assert_same_weights(weights(trainer.network), validate.seen[2][1])


def test_dropout_is_on_again_after_validation(make_trainer):
    trainer = make_trainer(FakeValidation([0.1] * 3), max_epochs=3)
    modes = []
    dropouts = [m for m in trainer.network.modules() if isinstance(m, torch.nn.Dropout)]
    for module in dropouts:
        module.register_forward_hook(lambda module, *_: modes.append(module.training))
    run(trainer)
    assert len(modes) >= 3 * 8 * 2  # the encoder's and the representation's
    assert all(modes)


# ---------------------------------------------------------------- precision


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(make_trainer, dtype):
    trainer = make_trainer(max_epochs=4, dtype=dtype)
    assert trainer.scaler.is_enabled() == (dtype == torch.float16)
    products = set()
    trainer.network.recall_head.register_forward_hook(lambda m, i, out: products.add(out.dtype))
    history = run(trainer)
    assert products == {dtype}
    assert {p.dtype for p in trainer.network.parameters()} == {torch.float32}
    assert history[-1]["loss"] < 0.8 * history[0]["loss"]
    assert all(p.isfinite().all() for p in trainer.network.parameters())


@pytest.mark.parametrize("which", ["recall_head", "label_table"])
@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_step_that_overflows_is_skipped_whole(make_trainer, which, value):
    trainer = make_trainer(max_epochs=1, dtype=torch.float16)
    before = weights(trainer.network)
    scale = trainer.scaler.get_scale()

    def spoil(gradient):
        return gradient.index_fill(0, torch.tensor([0]), value)

    if which == "recall_head":
        trainer.network.recall_head.weight.register_hook(spoil)
    else:
        blocks = trainer.network.label_table.blocks

        def spoilt_blocks(clusters):
            weight, bias = blocks(clusters)
            weight.register_hook(spoil)
            return weight, bias

        trainer.network.label_table.blocks = spoilt_blocks
    trainer.network.train()
    trainer._train_step(np.arange(16), 1.0)
    assert_same_weights(weights(trainer.network), before)
    assert trainer.scaler.get_scale() < scale
    assert not trainer.optimizers[1].n_steps.any()


# ---------------------------------------------------------------- what it shows


def test_progress(make_trainer, capsys):
    run(make_trainer(FakeValidation([0.25, 0.5]), verbose=1))
    out, err = capsys.readouterr()
    assert "epoch 1: validation P@5 0.2500\nepoch 2: validation P@5 0.5000\n" in out
    for epoch in ("epoch 1/2: 100%", "epoch 2/2: 100%"):
        bar = next(line for line in reversed(err.replace("\n", "\r").split("\r")) if epoch in line)
        assert "8/8" in bar
        assert "loss=" in bar


def test_silence(make_trainer, capsys):
    run(make_trainer(FakeValidation([0.25, 0.5]), verbose=0))
    assert capsys.readouterr() == ("", "")


# ---------------------------------------------------------------- a GPU


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_training_on_cuda(make_trainer, tokens_and_labels, dtype):
    on_gpu = TrainingSet(*tokens_and_labels, torch.device("cuda", 0))
    trainer = make_trainer(max_epochs=6, dtype=dtype, data=on_gpu, swa_start=4, swa_every=2)
    use_fast_attention(trainer.network.encoder, on_gpu.device)
    history = run(trainer)
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert all(p.is_cuda and p.isfinite().all() for p in trainer.network.parameters())
