"""The scale of the initial heads, under the dropout of training."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from training_fixtures import tokens_and_labels, weights
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from skxmc import LightXMLClassifier
from skxmc._training import calibration
from skxmc._training.calibration import calibrate, mean_loss, noisy_texts
from skxmc._training.initialization import CENTROID_SHIFT, start_at_centroids, start_at_priors
from skxmc.datasets import make_xmc


@pytest.fixture(params=["two-stage", "direct"])
def started(request, make_trainer, tiny_encoder):
    """Return network, a few noisy texts and settings, with the heads started at centroids."""
    trainer = make_trainer(direct=request.param == "direct")
    network, data = trainer.network, trainer.data
    _, y = tokens_and_labels(tiny_encoder())
    start_at_priors(network, y)
    with torch.no_grad():
        features = network.eval().represent(data.batch(np.arange(len(data)))[0]).numpy()
    start_at_centroids(network, y, lambda rows: features[rows], np.random.default_rng(0))
    return network, noisy_texts(network, data, trainer.settings), trainer.settings


@torch.no_grad()
def scale_heads(network, factor):
    network.label_table.weight.mul_(factor)
    if not network.direct:
        network.recall_head.weight.mul_(factor)


def loss_of_priors(network, batches, settings):
    """Compute the loss of the log priors, from the shifted biases of a start at centroids."""
    heads = [network.label_table] + ([] if network.direct else [network.recall_head])
    with torch.no_grad():
        for head in heads:
            head.bias -= CENTROID_SHIFT
        loss = mean_loss(network, batches, settings, only_biases=True)
        for head in heads:
            head.bias += CENTROID_SHIFT
    return loss


@pytest.mark.parametrize("factor", [1, 4, 1000])
def test_calibrate_never_has_a_higher_loss_than_priors(started, factor):
    network, batches, settings = started
    scale_heads(network, factor)
    priors = loss_of_priors(network, batches, settings)
    before = mean_loss(network, batches, settings)
    scale = calibrate(network, batches, settings)
    after = mean_loss(network, batches, settings)
    assert after <= min(before, priors) * (1 + 1e-6)
    if factor == 1000:
        assert before > 10 * priors
        assert scale < 1


@pytest.mark.parametrize(
    ("losses", "expected"),
    [([5, 6], 1), ([5, 4, 3, 3.5], 0.25), ([5, 4, 3, 2, 1, 0.5, 0.1], 1 / 64)],
)
def test_calibrate_takes_scale_before_the_loss_rises(started, monkeypatch, losses, expected):
    """The last call of `mean_loss` is that of the priors. Scaling by powers of 2 is exact."""
    network, batches, settings = started
    before = weights(network)
    upcoming = iter([*losses, 10])
    monkeypatch.setattr(calibration, "mean_loss", lambda *args, **kwargs: next(upcoming))
    assert calibrate(network, batches, settings) == expected
    assert next(upcoming, None) is None
    scaled = {"label_table.weight", "recall_head.weight"}
    for name, found in weights(network).items():
        if name in scaled:
            assert torch.equal(found, expected * before[name])
        elif name in ("label_table.bias", "recall_head.bias"):
            shifted = before[name] - (1 - expected) * CENTROID_SHIFT
            torch.testing.assert_close(found, shifted, rtol=0, atol=0)
        else:
            assert torch.equal(found, before[name])


def test_calibrate_heads_of_other_labels_become_priors(started):
    """Embeddings that belong to other labels know nothing, at any scale."""
    network, batches, settings = started
    scale_heads(network, -1)
    priors = loss_of_priors(network, batches, settings)
    assert calibrate(network, batches, settings) == 0
    assert not network.label_table.weight.any()
    assert mean_loss(network, batches, settings) == pytest.approx(priors)


@pytest.mark.parametrize(("max_logits", "expected"), [(1 << 24, 120), (300, 10), (1, 1)])
def test_noisy_texts_many_labels_take_fewer_texts(make_trainer, monkeypatch, max_logits, expected):
    monkeypatch.setattr(calibration, "MAX_LOGITS", max_logits)
    trainer = make_trainer(direct=True)  # 30 labels
    batches = noisy_texts(trainer.network, trainer.data, trainer.settings)
    assert sum(len(batch.rows) for batch in batches) == expected


def test_mean_loss_is_the_same_at_each_call_and_leaves_generators(started):
    network, batches, settings = started
    before = torch.get_rng_state()
    losses = {mean_loss(network, batches, settings) for _ in range(3)}
    assert len(losses) == 1
    assert torch.equal(torch.get_rng_state(), before)
    assert not network.training


# ---------------------------------------------------------------- through the classifier


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """Save an untrained encoder with dropout, whose tokens are the words of 200 texts."""
    texts, y = make_xmc(200, 60, random_state=0)
    words = sorted({word for text in texts for word in text.lower().split()})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocabulary = {word: i for i, word in enumerate(special + words)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad", "unk", "cls", "sep", "mask")
    marks = {f"{name}_token": mark for name, mark in zip(names, special, strict=True)}
    folder = tmp_path_factory.mktemp("untrained")
    PreTrainedTokenizerFast(tokenizer_object=backend, model_max_length=64, **marks).save_pretrained(
        folder
    )
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    return str(folder), texts, y


def test_fit_untrained_encoder_with_default_dropout_and_start_learns(untrained):
    folder, texts, y = untrained
    clf = LightXMLClassifier(
        folder, max_epochs=40, n_feature_layers=3, max_length=32, random_state=0
    )
    clf.fit(texts, y)
    share = y.mean(axis=0)
    entropy = -(share * np.log(share) + (1 - share) * np.log1p(-share)).sum()
    assert clf.history_[0]["loss"] < 1.2 * entropy
    assert clf.score(texts, y) > 0.8
