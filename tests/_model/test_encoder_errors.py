"""Encoders that are not what they seem: missing tokenizers and weights, and how to mend them."""

import json
import os
import shutil
import sys
import warnings
from pathlib import Path

import pytest
import torch
from classifier_fixtures import (
    assert_same_predictions,
    dataset,
    encoder_path,
    fitted,
    make_classifier,
)
from huggingface_hub.utils import (
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from safetensors.torch import load_file, save_file
from tiny_encoders import MODERNBERT
from transformers import AutoModelForMaskedLM
from transformers.utils import logging

from skxmc._model.encoder import EMBEDDED_PACKAGES, load_encoder
from skxmc._model.encoder_errors import not_loaded_message

X, Y = dataset()
FAMILIES = ["bert", "roberta", "xlnet", "distilbert", "electra", "deberta-v2", MODERNBERT]


@pytest.fixture
def copy_of(tiny_encoder, tmp_path):
    """Function that copies an encoder of a family to a folder that may be damaged."""
    return lambda family="bert": Path(shutil.copytree(tiny_encoder(family), tmp_path / "encoder"))


def change_weights(folder, change):
    """Write what `change` makes of the names and weights in the file."""
    path = folder / "model.safetensors"
    save_file(change(load_file(path)), path, metadata={"format": "pt"})


# ---------------------------------------------------------------- silent faults


@pytest.mark.parametrize("family", FAMILIES)
def test_load_encoder_without_tokenizer_files_raises_value_error(family, copy_of):
    folder = copy_of(family)
    for path in folder.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    with pytest.raises(ValueError, match=r"no vocabulary: its tokenizer.*save_pre|sentencepiece"):
        load_encoder(str(folder))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("lost", [".1.", "word_emb|tok_emb"])
def test_load_encoder_with_missing_weights_raises_value_error(family, lost, copy_of):
    folder = copy_of(family)
    parts = lost.split("|")
    change_weights(folder, lambda w: {k: v for k, v in w.items() if not any(p in k for p in parts)})
    with pytest.raises(ValueError, match=r"lacks \d+ weights of its architecture, such as '\S+'"):
        load_encoder(str(folder))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("prefix", ["module.", "model.encoder."])
def test_load_encoder_with_prefixed_weights_names_the_prefix(family, prefix, copy_of):
    folder = copy_of(family)
    change_weights(folder, lambda w: {prefix + k: v for k, v in w.items()})
    with pytest.raises(ValueError, match=rf"save the weights without the prefix '{prefix}'\."):
        load_encoder(str(folder))


def test_fit_encoder_with_missing_layer_leaves_classifier_unfitted(copy_of):
    folder = copy_of()
    change_weights(folder, lambda w: {k: v for k, v in w.items() if ".1." not in k})
    clf = make_classifier(encoder=str(folder))
    with pytest.raises(ValueError, match="would start them at random"):
        clf.fit(X, Y)
    assert not hasattr(clf, "network_")


def test_load_encoder_with_adapter_beside_its_weights_raises_value_error(copy_of):
    """Without PEFT, transformers loads the encoder alone and says nothing."""
    folder = copy_of()
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ValueError, match=r"has an adapter \(LoRA\), which .*merge_and_unload"):
        load_encoder(str(folder))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["word_emb", "output.dense.bias"])
def test_load_encoder_with_weights_not_finite_raises_value_error(value, part, copy_of):
    """Even if the value belongs to a word that no text has."""

    def spoil(weights):
        next(w for name, w in weights.items() if part in name)[-1:] = value
        return weights

    folder = copy_of()
    change_weights(folder, spoil)
    with pytest.raises(ValueError, match=rf"NaN or infinite values in the weight '\S*{part}"):
        load_encoder(str(folder))


@pytest.mark.parametrize("family", FAMILIES)
def test_load_encoder_with_wrong_shape_names_the_weight(family, copy_of):
    folder = copy_of(family)
    config = json.loads((folder / "config.json").read_text())
    config["vocab_size"] += 5
    (folder / "config.json").write_text(json.dumps(config))
    message = r"'\S*(word|tok)_embedding\S*' is of shape \(77, 16\) in the file, but .* \(82, 16\)"
    with pytest.raises(ValueError, match=message):
        load_encoder(str(folder))


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_load_encoder_pooler_of_other_shape_is_fine(family, copy_of):
    folder = copy_of(family)
    change_weights(folder, lambda w: {k: v[:1] if "pooler" in k else v for k, v in w.items()})
    load_encoder(str(folder))


@pytest.mark.parametrize("family", FAMILIES)
def test_fit_encoder_configured_to_return_tuples_works(family, copy_of, tmp_path):
    folder = copy_of(family)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "return_dict": False}))
    clf = make_classifier(encoder=str(folder), max_epochs=1).fit(X[:16], Y[:16])
    clf.save_pretrained(tmp_path / "model")
    loaded = type(clf).from_pretrained(tmp_path / "model")
    assert_same_predictions(clf, loaded)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_load_encoder_without_pooler_is_fine(family, copy_of):
    folder = copy_of(family)
    change_weights(folder, lambda w: {k: v for k, v in w.items() if "pooler" not in k})
    load_encoder(str(folder))


@pytest.mark.parametrize("family", ["bert", "roberta", "electra"])
def test_fit_masked_language_model_prints_nothing(family, copy_of, capfd):
    folder = copy_of(family)
    AutoModelForMaskedLM.from_pretrained(folder).save_pretrained(folder)
    capfd.readouterr()
    make_classifier(encoder=str(folder), max_epochs=1).fit(X[:16], Y[:16])
    assert capfd.readouterr() == ("", "")


# ---------------------------------------------------------------- settings of the process


@pytest.mark.parametrize("hides", [True, False])
@pytest.mark.parametrize("verbosity", [logging.DEBUG, logging.WARNING, logging.CRITICAL])
def test_load_encoder_restores_settings_of_hub_and_transformers(hides, verbosity, tiny_encoder):
    before = are_progress_bars_disabled(), logging.get_verbosity()
    try:
        logging.set_verbosity(verbosity)
        (disable_progress_bars if hides else enable_progress_bars)()
        load_encoder(tiny_encoder())
        assert are_progress_bars_disabled() == hides
        assert logging.get_verbosity() == verbosity
    finally:
        (disable_progress_bars if before[0] else enable_progress_bars)()
        logging.set_verbosity(before[1])


@pytest.mark.parametrize("value", [True, False])
def test_load_encoder_variable_of_hub_does_not_warn(value, tiny_encoder, monkeypatch):
    module = sys.modules["huggingface_hub.utils.tqdm"]  # a class has the name, too
    monkeypatch.setattr(module, "HF_HUB_DISABLE_PROGRESS_BARS", value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_encoder(tiny_encoder())


# ---------------------------------------------------------------- errors that name the remedy


def test_load_encoder_folder_of_saved_model_names_from_pretrained(tmp_path):
    fitted().save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"a folder of skxmc\. Load a saved model with LightXML"):
        load_encoder(str(tmp_path / "model"))


def test_load_encoder_checkpoint_names_checkpoint_dir(tmp_path):
    make_classifier(max_epochs=1, checkpoint_dir=tmp_path / "run").fit(X[:16], Y[:16])
    with pytest.raises(ValueError, match=r"resume a checkpoint with checkpoint_dir=folder"):
        load_encoder(str(tmp_path / "run"))


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "config.json",
            None,
            r"the folder has no config\.json\. Give a folder written by `mod",
        ),
        ("model.safetensors", None, r"the folder has no weights, such as model\.safetensors"),
        (
            "model.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            r"model\.safetensors is a Git LFS pointer and not the weights\. Run `git lfs pull`",
        ),
    ],
)
def test_load_encoder_incomplete_folder_names_the_fault(file, content, message, copy_of):
    folder = copy_of()
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(ValueError, match=f"encoder='.*' could not be loaded: {message}"):
        load_encoder(str(folder))


def test_load_encoder_folder_of_adapter_names_the_merge(copy_of):
    folder = copy_of()
    (folder / "config.json").rename(folder / "adapter_config.json")
    with pytest.raises(ValueError, match=r"holds an adapter \(LoRA\), which .*merge_and_unload"):
        load_encoder(str(folder))


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("start", [b"", b"\xff"])
def test_load_encoder_truncated_json_names_the_file(file, start, copy_of):
    path = copy_of() / file
    content = path.read_bytes()
    path.write_bytes(start + content[: len(content) // 2])
    message = rf"could not be loaded: {file} is damaged or incomplete \(.*Copy the folder again"
    with pytest.raises(ValueError, match=message):
        load_encoder(str(path.parent))


@pytest.mark.parametrize("size", [0, 5, 200, -10])
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_load_encoder_truncated_weights_names_the_remedy(form, size, copy_of):
    path = copy_of() / "model.safetensors"
    if form == "bin":
        torch.save(load_file(path), path.with_name("pytorch_model.bin"))
        path.unlink()
        path = path.with_name("pytorch_model.bin")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"(A file|bin) is damaged or incomplete\. Copy the"):
        load_encoder(str(path.parent))


def test_load_encoder_parent_of_encoder_names_the_folder_inside(copy_of):
    folder = copy_of()
    with pytest.raises(ValueError, match=r"Did you mean its folder 'encoder'\?"):
        load_encoder(str(folder.parent))


def test_load_encoder_custom_code_is_never_run(copy_of):
    folder = copy_of()
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "m.C", "AutoModel": "m.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"skxmc never runs code that comes with a model\. Choose"):
        load_encoder(str(folder))


def test_load_encoder_sentencepiece_missing_names_the_package(copy_of, monkeypatch):
    folder = copy_of("deberta-v2")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    (folder / "spm.model").write_bytes(b"\x0a\x0e\x0a\x05<unk>\x15\x00\x00\x00\x00\x18\x02")
    monkeypatch.setitem(__import__("sys").modules, "sentencepiece", None)
    with pytest.raises(ValueError, match=r"pip install sentencepiece protobuf\.$"):
        load_encoder(str(folder))


def test_not_loaded_message_unknown_architecture_names_update():
    error = ValueError("Transformers does not recognize this architecture.")
    message = not_loaded_message("some/model", error, EMBEDDED_PACKAGES, "some/model")
    assert message.endswith("Update transformers: pip install --upgrade transformers.")


def test_not_loaded_message_long_reason_is_cut():
    error = OSError("word " * 1000)
    message = not_loaded_message("some/model", error, EMBEDDED_PACKAGES, "some/model")
    assert "word ...). With network access" in message
    assert len(message) < 800


@pytest.mark.parametrize("form", [str, Path])
def test_fit_encoder_in_home_directory_loads(form, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    shutil.copytree(encoder_path(), tmp_path / "mine")
    name = form(os.path.join("~", "mine"))
    clf = make_classifier(encoder=name, max_epochs=1).fit(X[:16], Y[:16])
    clf.save_pretrained(tmp_path / "model")
    assert type(clf).from_pretrained(tmp_path / "model").encoder == os.path.join("~", "mine")
