"""Unusable encoders are refused before training."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from classifier_fixtures import dataset, encoder_path, fitted, make_classifier
from tiny_encoders import tiny_tokenizer
from tokenizers import normalizers
from transformers import (
    AutoModel,
    BartConfig,
    CanineConfig,
    FNetConfig,
    GPT2Config,
    LayoutLMConfig,
    SqueezeBertConfig,
    T5Config,
)

from skxmc._model.encoder_check import check_representations, check_words
from skxmc._model.tokens import tokenize
from skxmc._model.windows import tokenize_long

X, Y = dataset()
SIZES = {
    "vocab_size": len(tiny_tokenizer()),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 66,
    "pad_token_id": 0,
}
OF_BART = {
    "vocab_size": SIZES["vocab_size"],
    "d_model": 16,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "decoder_start_token_id": 2,
}


def save(config, folder, tokenizer=None):
    """Save an encoder with random weights, large enough that its states differ."""
    torch.manual_seed(0)
    model = AutoModel.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    (tokenizer or tiny_tokenizer()).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BartConfig(**OF_BART), "BartModel, has no hidden states of a .CLS. token .AttributeErr"),
        (
            T5Config(vocab_size=SIZES["vocab_size"], d_model=16, d_kv=8, num_layers=1, num_heads=2),
            "T5Model, has no hidden states of a .CLS. token .ValueError",
        ),
        (
            GPT2Config(vocab_size=SIZES["vocab_size"], n_embd=16, n_layer=2, n_head=2),
            "GPT2Model, represents all texts alike: its .CLS. token comes first",
        ),
        (CanineConfig(**SIZES), "CanineModel, has no hidden states of a .CLS. token"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_fit_model_that_is_no_encoder_raises_value_error(config, message, tmp_path):
    clf = make_classifier(encoder=save(config, tmp_path))
    with pytest.raises(
        ValueError, match=f"^encoder='.*', {message}.*Choose an encoder such as BERT"
    ):
        clf.fit(X, Y)


@pytest.mark.parametrize("config", [SqueezeBertConfig, LayoutLMConfig])
def test_fit_encoder_that_always_calls_its_pooler_works(config, tmp_path):
    sizes = dict(SIZES)
    if config is SqueezeBertConfig:
        sizes |= {"embedding_size": 16, "q_groups": 2, "k_groups": 2, "v_groups": 2}
        sizes |= {"post_attention_groups": 1, "intermediate_groups": 2, "output_groups": 2}
    clf = make_classifier(encoder=save(config(**sizes), tmp_path), max_epochs=1).fit(X, Y)
    assert clf.predict_topk(X, 3).labels.shape == (64, 3)


def test_fit_more_tokens_than_embeddings_warns(tmp_path):
    folder = Path(shutil.copytree(encoder_path(), tmp_path / "encoder"))
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<tag>"])
    tokenizer.save_pretrained(folder)
    n_words = json.loads((folder / "config.json").read_text())["vocab_size"]
    message = f"has embeddings of {n_words} tokens, but its tokenizer has {n_words + 1}. A text"
    with pytest.warns(UserWarning, match=message) as warned:
        make_classifier(encoder=str(folder), max_epochs=1).fit(X, Y)
    assert [Path(warning.filename).name for warning in warned] == [Path(__file__).name]


@pytest.mark.filterwarnings("ignore:.*has embeddings of 77 tokens")
@pytest.mark.parametrize("call", ["fit", "held-out", "predict", "encode", "explain"])
@pytest.mark.parametrize("word", ["tag", "sea"])
def test_token_without_embedding_raises_value_error(call, word, tmp_path):
    """The word "sea" is also in a text that fit tries the encoder on."""
    folder = Path(shutil.copytree(encoder_path(), tmp_path / "encoder"))
    clf = make_classifier(encoder=str(folder), max_epochs=1).fit(X[:16], Y[:16])
    message = (
        f"^The text '(a {word}|sea)' has the token '{word}', number 77 of the tokenizer, but .* 77 "
        "tokens only. Call model"
    )
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([word])
    tokenizer.save_pretrained(folder)
    clf.tokenizer_ = tokenizer
    texts = [*X[1:9], f"a {word}", *X[9:16]]
    with pytest.raises(ValueError, match=message):
        {
            "fit": lambda: clf.fit(texts, Y[:16]),
            "held-out": lambda: clf.fit(X[:16], Y[:16], validation_data=(texts, Y[:16])),
            "predict": lambda: clf.predict_topk(texts, k=1),
            "encode": lambda: clf.encode(texts),
            "explain": lambda: clf.explain_topk(texts[8]),
        }[call]()


def cased(tokenizer):
    """Keep a tokenizer with words in lower case from making lower case of texts."""
    tokenizer.backend_tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "texts", "message"),
    [
        (cased(tiny_tokenizer()), ["THE LAW", "the Sea", "land"], r"30% .* 'THE LAW', .* lower ca"),
        (tiny_tokenizer(), ["право моря", "sea", ""], r"40% .* 'право моря', .* for the language"),
        (tiny_tokenizer(cls_last=True), ["право моря", "sea", ""], r"40% .* for the language of"),
        (cased(tiny_tokenizer()), ["ПРАВО МОРЯ"], r"100% of the words, .* for the language"),
    ],
)
def test_check_words_mostly_unknown_warns_with_remedy(tokenizer, texts, message):
    with pytest.warns(UserWarning, match=message) as warned:
        check_words(tokenize(tokenizer, texts, 16), tokenizer, texts, name="mine")
    assert len(warned) == 1


def test_check_words_windows_compares_whole_texts():
    texts, tokenizer = ["A sea of LAW " + "право моря " * 9], cased(tiny_tokenizer())
    tokens = tokenize_long(tokenizer, texts, 8, "windows")
    with pytest.warns(UserWarning, match=r"words, such as .* for the language"):
        check_words(tokens, tokenizer, texts, name="mine")


@pytest.mark.parametrize(
    "texts",
    [["the law of the sea and land ü §"], ["", ""], [], ["☃ " + "a " * 20]],
)
def test_check_words_mostly_known_does_not_warn(texts):
    check_words(tokenize(tiny_tokenizer(), texts, 64), tiny_tokenizer(), texts, name="mine")


def test_check_words_tokenizer_without_unknown_token_does_not_warn():
    tokenizer = tiny_tokenizer()
    tokenizer.unk_token = None
    texts = ["☃ ☃"]
    check_words(tokenize(tokenizer, texts, 16), tokenizer, texts, name="mine")


def test_fit_texts_in_capitals_with_tokenizer_of_lower_case_warns(tmp_path):
    folder = Path(shutil.copytree(encoder_path(), tmp_path / "encoder"))
    cased(tiny_tokenizer()).save_pretrained(folder)
    with pytest.warns(UserWarning, match=r"100% of the words.*text\.lower\(\) for text in X"):
        make_classifier(encoder=str(folder), max_epochs=1).fit([t.upper() for t in X], Y)


def test_fit_encoder_that_sees_padding_warns(tmp_path):
    config = FNetConfig(**{**SIZES, "type_vocab_size": 2})
    clf = make_classifier(encoder=save(config, tmp_path), max_epochs=1)
    with pytest.warns(UserWarning, match="FNetModel, does not hide padding from texts") as warned:
        clf.fit(X, Y)
    assert [Path(warning.filename).name for warning in warned] == [Path(__file__).name]


def test_check_representations_sound_encoder_does_not_warn():
    clf = fitted()
    check_representations(clf.network_.encoder, clf.tokenizer_, 2, "cls", name="mine")


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("model.safetensors", b""),
        ("tokenizer.json", b'{"a": 1}'),
        ("config.json", b'{"model_type": "bert", "hidden_size": 24}'),
    ],
)
def test_fit_damaged_encoder_folder_raises_value_error(file, content, tmp_path):
    folder = Path(shutil.copytree(encoder_path(), tmp_path / "encoder"))
    (folder / file).write_bytes(content)
    message = (
        r"^encoder=.* (could not be loaded .*give a hub id|could not be loaded .*A file is damaged"
        r"|do not fit config\.json: .* \(24,)"
    )
    with pytest.raises(ValueError, match=message):
        make_classifier(encoder=str(folder)).fit(X, Y)


def test_fit_expands_home_directory_in_encoder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    shutil.copytree(encoder_path(), tmp_path / "mine")
    clf = make_classifier(encoder=os.path.join("~", "mine"), max_epochs=1).fit(X, Y)
    assert clf.n_labels_ == 30
    with pytest.raises(ValueError, match="there is no such folder"):
        make_classifier(encoder=os.path.join("~", "other")).fit(X, Y)
    with pytest.raises(ValueError, match="there is no such folder"):
        make_classifier(encoder="~nobody-of-this-name/mine").fit(X, Y)
