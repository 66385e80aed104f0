"""Training with averaged weights, validation, and early stopping."""

import pytest
import torch
from training_fixtures import (
    HISTORY,
    FakeValidation,
    after_each_step,
    assert_same_weights,
    run,
    weights,
)

# ---------------------------------------------------------------- weight averaging


def test_trainer_swa_averages_weights_of_chosen_steps(make_trainer):
    """The mean holds the first step of epoch 1, and later steps whose number divides by 3."""
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


@pytest.mark.filterwarnings("ignore:swa_start=7")
def test_trainer_swa_off_or_too_late_keeps_last_weights(make_trainer):
    for swa_start in (None, 7):  # off, and later than training ends
        trainer = make_trainer(swa_start=swa_start, swa_every=1)
        snapshots = []
        after_each_step(trainer, lambda: snapshots.append(weights(trainer.network)))  # noqa: B023
        run(trainer)
        assert trainer.average is None
        assert_same_weights(weights(trainer.network), snapshots[-1])


# ---------------------------------------------------------------- validation


def test_trainer_early_stopping_keeps_best_weights(make_trainer):
    validate = FakeValidation([0.1, 0.5, 0.4, 0.5, 0.9])  # a score equal to the best is no gain
    trainer = make_trainer(validate, max_epochs=5, n_iter_no_change=2)
    history = run(trainer)
    assert [h["valid_p_at_5"] for h in history] == [0.1, 0.5, 0.4, 0.5]
    assert all(set(h) == HISTORY | {"valid_p_at_5"} for h in history)
    assert_same_weights(weights(trainer.network), validate.seen[1][1])
    assert not trainer.network.training


def test_trainer_early_stopping_gain_resets_patience(make_trainer):
    validate = FakeValidation([0.1, 0.0, 0.2, 0.1, 0.3])
    trainer = make_trainer(validate, max_epochs=5, n_iter_no_change=2)
    assert len(run(trainer)) == 5
    assert_same_weights(weights(trainer.network), validate.seen[4][1])


def test_trainer_validation_only_keeps_last_weights(make_trainer):
    validate = FakeValidation([0.9, 0.5, 0.1])
    trainer = make_trainer(validate, max_epochs=3)
    plain = make_trainer(max_epochs=3)
    assert [h["valid_p_at_5"] for h in run(trainer)] == [0.9, 0.5, 0.1]
    run(plain)
    assert_same_weights(weights(trainer.network), weights(plain.network))


def test_trainer_validation_with_swa_measures_averaged_weights(make_trainer):
    validate = FakeValidation([0.1, 0.2, 0.3])
    trainer = make_trainer(validate, max_epochs=3, swa_start=1, swa_every=2, n_iter_no_change=3)
    run(trainer)
    networks = [network for network, _ in validate.seen]
    assert networks == [trainer.network, trainer.average.module, trainer.average.module]
    assert_same_weights(weights(trainer.network), validate.seen[2][1])


def test_trainer_dropout_is_on_again_after_validation(make_trainer):
    trainer = make_trainer(FakeValidation([0.1] * 3), max_epochs=3)
    modes = []
    dropouts = [m for m in trainer.network.modules() if isinstance(m, torch.nn.Dropout)]
    for module in dropouts:
        module.register_forward_hook(lambda module, *_: modes.append(module.training))
    run(trainer)
    assert len(modes) >= 3 * 8 * 2  # the encoder's and the representation's
    assert all(modes)
