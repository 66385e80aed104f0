"""Word embeddings with sparse gradients, which leave words outside the batch unchanged."""

import numpy as np
import pytest
import torch
from classifier_fixtures import dataset, make_classifier
from training_fixtures import CPU, WORDS, take_step, weights

from skxmc._model.encoder import (
    load_encoder,
    sparse_embedding,
    use_fast_attention,
    use_sparse_embedding,
)

FAMILIES = ["bert", "roberta", "distilbert", "xlnet", "electra", "deberta-v2", "modernbert"]
GPU = torch.device("cuda", 0)
BATCH = np.arange(12)


# ---------------------------------------------------------------- of an encoder


@pytest.mark.parametrize("family", FAMILIES)
def test_use_sparse_embedding_is_sparse_only_on_cpu(tiny_encoder, family):
    _, encoder = load_encoder(tiny_encoder(family))
    assert sparse_embedding(encoder) is None
    use_sparse_embedding(encoder, CPU)
    words = encoder.get_input_embeddings()
    assert sparse_embedding(encoder) is words
    embeddings = [m for m in encoder.modules() if isinstance(m, torch.nn.Embedding)]
    assert [m for m in embeddings if m.sparse] == [words]  # the positions, for example, stay dense
    use_sparse_embedding(encoder, GPU)
    assert sparse_embedding(encoder) is None


def test_use_sparse_embedding_ignores_other_kinds_of_embeddings(tiny_encoder):
    _, encoder = load_encoder(tiny_encoder())
    encoder.set_input_embeddings(torch.nn.Linear(3, 3))
    use_sparse_embedding(encoder, CPU)
    assert sparse_embedding(encoder) is None


@pytest.mark.parametrize("family", FAMILIES)
def test_sparse_embedding_has_states_and_gradients_of_dense(tiny_encoder, family):
    results = []
    for device in (GPU, CPU):
        _, encoder = load_encoder(tiny_encoder(family))
        use_fast_attention(encoder.eval(), CPU)
        use_sparse_embedding(encoder, device)
        ids = torch.tensor([[2, 7, 8, 7, 3], [2, 9, 7, 7, 3]])
        states = encoder(input_ids=ids).last_hidden_state
        (
            states * torch.randn(states.shape, generator=torch.Generator().manual_seed(0))
        ).sum().backward()
        results.append((states, {name: p.grad for name, p in encoder.named_parameters()}))
    (dense_states, dense), (sparse_states, sparse) = results
    assert torch.equal(dense_states, sparse_states)
    is_sparse = [name for name, grad in sparse.items() if grad is not None and grad.is_sparse]
    assert len(is_sparse) == 1
    assert not any(grad.is_sparse for grad in dense.values() if grad is not None)
    for name, grad in dense.items():
        if grad is not None:
            torch.testing.assert_close(sparse[name].to_dense(), grad)


# ---------------------------------------------------------------- training


def pair_of_trainers(make_trainer, **settings):
    """Make two trainers that differ only in the gradient of the words."""
    pair = [
        make_trainer(sparse_words=sparse_words, weight_decay=0.1, **settings)
        for sparse_words in (False, True)
    ]
    seen = np.unique(pair[0].data.tokens.batch(BATCH).input_ids)
    padding = pair[0].network.encoder.get_input_embeddings().padding_idx
    seen = np.setdiff1d(seen, padding)  # padding has no gradient
    words = pair[0].network.get_parameter(WORDS)
    unseen = np.setdiff1d(np.arange(len(words)), seen)
    assert len(seen) > 10
    assert len(unseen) > 10
    return pair, seen, unseen


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("max_grad_norm", [None, 0.01])
def test_sparse_step_equals_adamw_for_words_in_batch(make_trainer, direct, max_grad_norm):
    (dense, sparse), seen, unseen = pair_of_trainers(
        make_trainer, direct=direct, max_grad_norm=max_grad_norm
    )
    before = weights(sparse.network)
    for trainer in (dense, sparse):
        take_step(trainer, BATCH)
    by_dense, by_sparse = weights(dense.network), weights(sparse.network)
    torch.testing.assert_close(by_sparse[WORDS][seen], by_dense[WORDS][seen], rtol=0, atol=1e-5)
    assert (by_sparse[WORDS][seen] != before[WORDS][seen]).any(1).all()
    assert torch.equal(by_sparse[WORDS][unseen], before[WORDS][unseen])
    assert not torch.equal(by_dense[WORDS][unseen], before[WORDS][unseen])  # weight decay
    for name in before:
        if name != WORDS:
            torch.testing.assert_close(by_sparse[name], by_dense[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("max_grad_norm", [None, 0.01])
def test_sparse_step_moments_equal_adamw(make_trainer, max_grad_norm):
    """The size of the first step does not depend on the gradient, but the moments do."""
    (dense, sparse), seen, unseen = pair_of_trainers(make_trainer, max_grad_norm=max_grad_norm)
    for trainer in (dense, sparse):
        take_step(trainer, BATCH)
    expected = dense.optimizers[0].state[dense.network.get_parameter(WORDS)]
    found = sparse.optimizers[1].state[sparse.network.get_parameter(WORDS)]
    scale = expected["exp_avg"].abs().max()
    torch.testing.assert_close(found["first"] / scale, expected["exp_avg"] / scale)
    torch.testing.assert_close(found["second"] / scale**2, expected["exp_avg_sq"] / scale**2)
    assert found["last_step"][seen].tolist() == [1] * len(seen)
    assert not found["last_step"][unseen].any()


# ---------------------------------------------------------------- in a classifier


def test_fit_on_cpu_trains_words_sparsely(trainers):
    texts, y = dataset()
    clf = make_classifier(max_epochs=1).fit(texts, y)
    words = clf.network_.encoder.get_input_embeddings().weight
    (trainer,) = trainers
    assert trainer.optimizers[1].state[words]["n_steps"] == len(texts) / clf.batch_size
