"""Tiny encoders with random weights, built from a configuration and saved to a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import transformers
from sklearn.utils.fixes import parse_version
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from skxmc._model.encoder import embedded_path

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
MODERNBERT = pytest.param(
    "modernbert",
    marks=pytest.mark.skipif(
        parse_version(transformers.__version__) < parse_version("5.8"),
        reason="before transformers 5.8 its attention cannot be chosen",
    ),
)


def tiny_tokenizer(
    *, cls_last: bool = False, padding_side: str = "right", pad_id: int = 0
) -> PreTrainedTokenizerFast:
    """Make a tokenizer of single characters, with special tokens at the places of its family."""
    special = SPECIAL[1:]
    special.insert(pad_id, "[PAD]")
    pieces = special + list(CHARACTERS) + [f"##{c}" for c in CHARACTERS]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]", max_input_chars_per_word=50))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    template = "$A:0 [SEP]:0 [CLS]:2" if cls_last else "[CLS]:0 $A:0 [SEP]:0"
    backend.post_processor = processors.TemplateProcessing(
        single=template,
        special_tokens=[("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        mask_token="[MASK]",
        padding_side=padding_side,
        model_max_length=64,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"]
        if cls_last
        else ["input_ids", "attention_mask"],
    )


def save_tiny_encoder(
    folder: Path,
    family: str = "bert",
    *,
    n_layers: int = 2,
    hidden: int = 16,
    padding_side: str | None = None,
    seed: int = 0,
) -> str:
    """Write an encoder of a family with random weights to `folder` and return its path."""
    pad_id = 1 if family == "roberta" else 0
    is_xlnet = family == "xlnet"
    side = padding_side or ("left" if is_xlnet else "right")
    tokenizer = tiny_tokenizer(cls_last=is_xlnet, padding_side=side, pad_id=pad_id)
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": hidden,
        "num_hidden_layers": n_layers,
        "num_attention_heads": 2,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 66,
        "pad_token_id": pad_id,
    }
    if is_xlnet:
        sizes = {
            "vocab_size": len(tokenizer),
            "d_model": hidden,
            "n_layer": n_layers,
            "n_head": 2,
            "d_inner": 2 * hidden,
            "pad_token_id": pad_id,
        }
    elif family == "distilbert":
        sizes = {
            "vocab_size": len(tokenizer),
            "dim": hidden,
            "n_layers": n_layers,
            "n_heads": 2,
            "hidden_dim": 2 * hidden,
            "max_position_embeddings": 66,
            "pad_token_id": pad_id,
        }
    elif family == "electra":
        sizes["embedding_size"] = hidden
    elif family == "deberta-v2":
        sizes.update(relative_attention=True, pos_att_type=["p2c", "c2p"], type_vocab_size=0)
    elif family == "modernbert":
        sizes.update(cls_token_id=0, sep_token_id=0, bos_token_id=0, eos_token_id=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModel.from_config(AutoConfig.for_model(family, **sizes))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def save_narrow_minilm(folder: Path) -> str:
    """Write the embedded MiniLM to `folder`, with narrow layers of random weights instead."""
    embedded = embedded_path(MINILM)
    weights = shutil.ignore_patterns("*.safetensors")
    shutil.copytree(embedded, folder, ignore=weights, dirs_exist_ok=True)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config = AutoConfig.from_pretrained(embedded, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModel.from_config(config).save_pretrained(folder)
    return str(folder)
