"""Pooling: the state of a text from those of its tokens, and what an encoder was trained for."""

import json
import shutil

import numpy as np
import pytest
import torch
from classifier_fixtures import dataset, make_classifier

from skxmc import LightXMLClassifier
from skxmc._model.encoder import encoder_source, load_encoder
from skxmc._model.pooling import pool, pool_layer, trained_pooling
from skxmc._model.tokens import tokenize

X, Y = dataset()
TEXTS = ["abc", "a b c d e f g h", "", "abc def", "xyz " * 5]
FAMILIES = ("bert", "roberta", "xlnet", "distilbert")


@pytest.fixture
def with_pooling(tiny_encoder, tmp_path):
    """Return a function that copies a tiny encoder, with a pooling file of this content."""

    def make(content):
        shutil.copytree(tiny_encoder(), tmp_path / "encoder")
        (tmp_path / "encoder" / "1_Pooling").mkdir()
        (tmp_path / "encoder" / "1_Pooling" / "config.json").write_text(json.dumps(content))
        return str(tmp_path / "encoder")

    return make


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_pool_text_in_a_batch_equals_text_alone(tiny_encoder, family, pooling):
    tokenizer, encoder = load_encoder(tiny_encoder(family))
    encoder.eval()
    batch = tokenize(tokenizer, TEXTS, 32).batch(np.arange(len(TEXTS)))
    with torch.no_grad():
        states = encoder(batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
    pooled = pool_layer(states, batch, pooling)
    for row, (states_of_text, mask) in enumerate(zip(states, batch.attention_mask, strict=True)):
        own = states_of_text[mask > 0]
        place = -1 if family == "xlnet" else 0
        expected = own.mean(dim=0) if pooling == "mean" else own[place]
        torch.testing.assert_close(pooled[row], expected, atol=1e-6, rtol=1e-5)


def test_pool_alternate_is_mean_in_last_layer_and_cls_in_the_one_before(tiny_encoder):
    tokenizer, _ = load_encoder(tiny_encoder("xlnet"))
    batch = tokenize(tokenizer, TEXTS, 32).batch(np.arange(len(TEXTS)))
    layers = [torch.rand(len(TEXTS), batch.input_ids.shape[1], 8) for _ in range(3)]
    pooled = pool(layers, batch, "alternate")
    for number, turn in enumerate(["mean", "cls", "mean"]):
        own = pooled[:, 8 * number : 8 * (number + 1)]
        torch.testing.assert_close(own, pool_layer(layers[number], batch, turn), rtol=0, atol=0)
    both = pool(layers, batch, "alternate+cls")
    assert torch.equal(both, torch.cat([pooled, pool(layers, batch, "cls")], dim=1))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode": "mean"}, "mean"),
        ({"pooling_mode": "cls"}, "cls"),
        ({}, "cls"),
    ],
)
def test_trained_pooling_reads_file_of_sentence_transformers(with_pooling, content, expected):
    assert trained_pooling(with_pooling(content)) == expected


def test_trained_pooling_without_file_is_cls(tiny_encoder):
    assert trained_pooling(tiny_encoder()) == "cls"


def test_trained_pooling_embedded_encoder_is_mean():
    assert trained_pooling(encoder_source("sentence-transformers/all-MiniLM-L6-v2")) == "mean"


def test_fit_pooling_auto_encoder_for_the_mean_is_alternate(with_pooling, tmp_path):
    folder = with_pooling({"pooling_mode_mean_tokens": True})
    clf = make_classifier(max_epochs=1, encoder=folder).fit(X, Y)
    assert clf.network_.pooling == "alternate"
    assert (
        make_classifier(max_epochs=1, encoder=folder, pooling="cls").fit(X, Y).network_.pooling
        == "cls"
    )
    tokens = clf.tokenizer_(X[3], return_tensors="pt", truncation=True, max_length=32)
    states = clf.network_.encoder(**tokens, output_hidden_states=True).hidden_states
    expected = torch.cat([states[-1][0].mean(dim=0), states[-2][0, 0]])
    np.testing.assert_allclose(clf.encode(X)[3], expected.detach(), atol=1e-5)
    clf.save_pretrained(tmp_path / "model")
    loaded = LightXMLClassifier.from_pretrained(tmp_path / "model")
    assert loaded.network_.pooling == "alternate"
    np.testing.assert_allclose(loaded.encode(X), clf.encode(X), atol=1e-6)


def test_warm_start_other_pooling_raises_value_error(with_pooling):
    clf = make_classifier(max_epochs=1, warm_start=True).fit(X, Y)
    with pytest.raises(
        ValueError, match=r"^pooling is 'mean', but warm_start=True continues .*'cls'"
    ):
        clf.set_params(pooling="mean").fit(X, Y)
