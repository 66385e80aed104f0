"""The arguments of all subcommands. Imports nothing that takes time: ``--help`` comes from here."""

from __future__ import annotations

import argparse
import codecs
import json
from typing import Any

from skxmc import __version__

DESCRIPTION = "Extreme multi-label text classification: train, predict, evaluate, inspect."
DATA_DIR = "data folder, in any layout that skxmc.datasets.load_xmc reads"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser; it leaves `command` and the `parser` of the command in the result."""
    parser = argparse.ArgumentParser(
        prog="skxmc",
        description=DESCRIPTION,
        epilog="exit codes: 0 done, 1 error in data or model, 2 wrong usage, 130 interrupted",
    )
    parser.add_argument("--version", action="version", version=f"skxmc {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_train, _add_predict, _add_evaluate, _add_inspect):
        command = add(commands)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(parser=command)
    return parser


def _add_train(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "train",
        help="train a model on the training part of a data folder",
        description="Train a LightXMLClassifier on the training part of a data folder.",
    )
    parser.add_argument("data", metavar="DATA_DIR", help=DATA_DIR)
    parser.add_argument("--model", required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a model that is there")
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help="hub id or folder of a Hugging Face encoder (default: bert-base-uncased)",
    )
    parser.add_argument(
        "--param",
        dest="params",
        type=_name_and_value,
        nargs="+",
        action="extend",
        default=[],
        metavar="name=value",
        help="parameters of LightXMLClassifier, in JSON: max_epochs=3, "
        "clusterer__max_cluster_size=16, max_grad_norm=null",
    )
    parser.add_argument(
        "--label-texts",
        action="store_true",
        help="learn from the names of the labels, too (where they tell something)",
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "float16", "int8"],
        default="float32",
        help="of the weights in the file (default: %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar, no summary")
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object on what was trained, epoch by epoch",
    )
    _add_reading(parser)
    return parser


def _add_predict(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "predict",
        help="predict the labels of texts, one a line",
        description="Predict the best labels of texts, one a line; a blank line is an empty text.",
    )
    parser.add_argument("model", metavar="MODEL_DIR", help="folder that skxmc train has written")
    parser.add_argument(
        "texts",
        nargs="?",
        default="-",
        metavar="FILE",
        help="may be gzipped, as .gz (default: -, standard input)",
    )
    parser.add_argument("-k", type=_count, help="labels a text (default: 5, or all if fewer)")
    parser.add_argument(
        "--threshold",
        type=_share,
        default=0.0,
        metavar="SCORE",
        help="of the k labels, only those from this score on",
    )
    parser.add_argument(
        "--json",
        action="store_true",
        help='a line for each text: {"labels": [...], "scores": [...]}',
    )
    parser.add_argument(
        "--chunk-size",
        type=_count,
        default=4096,
        metavar="N",
        help="texts predicted and written at once (default: %(default)s); 1 answers every line "
        "as it comes",
    )
    _add_encoding(parser)
    _add_serving(parser)
    return parser


def _add_evaluate(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "evaluate",
        help="measure a model on the test part of a data folder",
        description="Measure P, R, nDCG and PSP at k of a model on the test part of a data folder.",
    )
    parser.add_argument("model", metavar="MODEL_DIR", help="folder that skxmc train has written")
    parser.add_argument("data", metavar="DATA_DIR", help=DATA_DIR)
    parser.add_argument(
        "-k", type=_count, help="of R@k and nDCG@k (default: 5, or all labels if fewer)"
    )
    parser.add_argument(
        "--propensity",
        nargs=2,
        type=float,
        default=(0.55, 1.5),
        metavar=("A", "B"),
        help="of PSP: 0.5 0.4 for Wikipedia, 0.6 2.6 for Amazon (default: 0.55 1.5)",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object, shares from 0 to 1")
    _add_serving(parser)
    _add_reading(parser)
    return parser


def _add_inspect(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "inspect",
        help="describe a data folder or a model",
        description="Describe a data folder, or a model that skxmc train has written.",
    )
    parser.add_argument("folder", metavar="DIR", help="data folder or model folder")
    parser.add_argument(
        "--encoder", metavar="NAME", help="of data: count the tokens of this encoder, too"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    _add_reading(parser)
    return parser


def _add_reading(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("reading data")
    group.add_argument(
        "--fields",
        nargs="+",
        default=("title", "content"),
        metavar="NAME",
        help="of JSON objects, that make up a text (default: title content)",
    )
    _add_encoding(group)


def _add_encoding(group: Any) -> None:
    group.add_argument(
        "--encoding", type=_codec, default="utf-8", help="of text files (default: %(default)s)"
    )


def _add_serving(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("computing")
    group.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: as trained)")
    group.add_argument("--precision", help="auto, fp32, bf16, fp16, int8 (default: as trained)")


def _name_and_value(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(
            f"{pair!r} is not name=value (other arguments stand before --param)"
        )
    if value in ("None", "True", "False"):
        json_value = {"None": "null", "True": "true", "False": "false"}[value]
        raise argparse.ArgumentTypeError(f"{pair!r}: values are JSON; write {name}={json_value}")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a text, which shells rob of its quotation marks


def _count(number: str) -> int:
    if not number.isdecimal() or int(number) == 0:
        raise argparse.ArgumentTypeError(f"{number!r} is no whole number from 1")
    return int(number)


def _codec(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError as error:
        raise argparse.ArgumentTypeError(f"{error}; try utf-8 or latin-1") from error


def _share(number: str) -> float:
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{number!r} is no number from 0 to 1")
    return share
