"""Arguments of all subcommands. This module imports nothing slow, so that ``--help`` is fast."""

from __future__ import annotations

import argparse
import codecs
import json
from typing import Any

from skxmc import __version__
from skxmc._utils.quoting import quoted

DESCRIPTION = (
    "Extreme multi-label text classification: train, predict, explain, evaluate, inspect, serve."
)
DATA = "table (.csv, .tsv, .jsonl, .parquet), or data folder in a layout of skxmc.datasets.load_xmc"


def build_parser() -> argparse.ArgumentParser:
    """Build the parser, whose result includes `command` and its `parser`."""
    parser = argparse.ArgumentParser(
        prog="skxmc",
        description=DESCRIPTION,
        epilog="exit codes: 0 success, 1 error in data or model, 2 wrong usage, 130 interrupted, "
        "141 output closed",
    )
    parser.add_argument("--version", action="version", version=f"skxmc {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_train, _add_predict, _add_explain, _add_evaluate, _add_inspect, _add_serve):
        command = add(commands)
        command.add_argument("--debug", action="store_true", help="show the traceback of an error")
        command.set_defaults(parser=command)
    return parser


def _add_train(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "train",
        help="train a model on a table or a data folder",
        description="Train the ensemble that skxmc recommends on a table, or on the training part "
        "of a data folder. It reads language, nearest texts and words. A part of a table is held "
        "out, and measured at the end.",
    )
    parser.add_argument("data", metavar="DATA", help=DATA)
    parser.add_argument(
        "--model", default="model", metavar="DIR", help="folder to write (default: %(default)s)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing model")
    parser.add_argument(
        "--encoder",
        default="sentence-transformers/all-MiniLM-L6-v2",
        metavar="NAME",
        help="hub id or folder of a Hugging Face encoder (default: %(default)s)",
    )
    parser.add_argument(
        "--language-only",
        action="store_true",
        help="train a LightXMLClassifier alone: a smaller model, which predicts faster",
    )
    parser.add_argument(
        "--param",
        dest="params",
        type=_name_and_value,
        nargs="+",
        action="extend",
        default=[],
        metavar="name=value",
        help="parameters of the LightXMLClassifier with values in JSON, such as max_epochs=3, "
        "clusterer__max_cluster_size=16 or max_grad_norm=null",
    )
    parser.add_argument(
        "--minutes",
        type=_minutes,
        metavar="N",
        help="end the training of the encoder after so many minutes (default: no limit)",
    )
    parser.add_argument(
        "--label-texts",
        action="store_true",
        help="also learn from the names of the labels, if these are meaningful",
    )
    parser.add_argument(
        "--keep-texts",
        action="store_true",
        help="keep the training texts in the model, so that skxmc explain and serve show similar "
        "ones",
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "float16", "int8"],
        default="float32",
        help="type of the weights in the file (default: %(default)s)",
    )
    parser.add_argument("--quiet", action="store_true", help="print no progress bar and no summary")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print a JSON object with sizes, times and the losses of each epoch",
    )
    _add_reading(parser, "auto")
    return parser


def _add_predict(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "predict",
        help="predict the labels of texts, from a table or one text per line",
        description="Predict the best labels of the texts of a table, or of one text per line. "
        "A blank line is an empty text.",
    )
    parser.add_argument("model", metavar="MODEL_DIR", help="folder that skxmc train has written")
    parser.add_argument(
        "texts",
        nargs="?",
        default="-",
        metavar="FILE",
        help="table (.csv, .tsv, .jsonl, .parquet) or file of texts, plain or gzipped as .gz "
        "(default: -, standard input)",
    )
    parser.add_argument("-k", type=_count, help="labels per text (default: 5, or all if fewer)")
    parser.add_argument(
        "--threshold",
        type=_share,
        default=0.0,
        metavar="SCORE",
        help="keep only those of the k labels whose score is at least this",
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--json",
        action="store_true",
        help='print one line per text: {"labels": [...], "scores": [...]}',
    )
    form.add_argument(
        "--output",
        metavar="FILE",
        help="write the rows of the table with the columns label_1, score_1, label_2 and so on, "
        "to a file that ends in .csv or .tsv",
    )
    parser.add_argument(
        "--chunk-size",
        type=_count,
        default=4096,
        metavar="N",
        help="number of texts to predict and write at once (default: %(default)s), "
        "or 1 to answer each line as it comes",
    )
    _add_text(parser)
    _add_encoding(parser)
    _add_serving(parser)
    return parser


def _add_explain(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "explain",
        help="explain the predicted labels of one text",
        description="Explain the best labels of one text: the words that matter, the score by each "
        "member of an ensemble, similar labels, and similar texts if the model keeps them.",
    )
    parser.add_argument("model", metavar="MODEL_DIR", help="folder that skxmc train has written")
    parser.add_argument("text", metavar="TEXT", help="the text, in quotation marks")
    parser.add_argument("-k", type=_count, help="number of labels (default: 5, or all if fewer)")
    parser.add_argument(
        "--words",
        type=_count,
        default=5,
        metavar="N",
        help="number of words per label (default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    _add_serving(parser)
    return parser


def _add_evaluate(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "evaluate",
        help="measure a model on a table, or on the test part of a data folder",
        description="Measure P, R, nDCG and PSP at k of a model on all rows of a table, or on the "
        "test part of a data folder or table. PSP needs a training part.",
    )
    parser.add_argument("model", metavar="MODEL_DIR", help="folder that skxmc train has written")
    parser.add_argument("data", metavar="DATA", help=DATA)
    parser.add_argument(
        "-k", type=_count, help="k of R@k and nDCG@k (default: 5, or all labels if fewer)"
    )
    parser.add_argument(
        "--propensity",
        nargs=2,
        type=float,
        default=(0.55, 1.5),
        metavar=("A", "B"),
        help="parameters of PSP: 0.5 0.4 for Wikipedia, 0.6 2.6 for Amazon (default: 0.55 1.5)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print a JSON object, with shares from 0 to 1"
    )
    _add_serving(parser)
    _add_reading(parser, "none")
    return parser


def _add_inspect(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "inspect",
        help="describe a table, a data folder or a model",
        description="Describe a table, a data folder, or a model that skxmc train has written.",
    )
    parser.add_argument("data", metavar="DATA", help=f"{DATA}, or model folder")
    parser.add_argument(
        "--encoder", metavar="NAME", help="also count the tokens of data by this encoder"
    )
    parser.add_argument("--json", action="store_true", help="print a JSON object")
    _add_reading(parser, "none")
    return parser


def _add_serve(commands: Any) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        "serve",
        help="serve a page and a JSON endpoint to try a model",
        description="Serve a page to try a model in a browser, and a JSON endpoint, until Ctrl-C.",
    )
    parser.add_argument("model", metavar="MODEL_DIR", help="folder that skxmc train has written")
    parser.add_argument(
        "--port",
        type=_port,
        default=8000,
        metavar="N",
        help="port to listen at, or 0 for any free one (default: %(default)s)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen at (default: %(default)s, for this machine alone), or 0.0.0.0 for "
        "all networks of this machine",
    )
    _add_serving(parser)
    return parser


def _add_reading(parser: argparse.ArgumentParser, test: str) -> None:
    group = parser.add_argument_group("reading data")
    _add_text(group)
    group.add_argument(
        "--labels", nargs="+", metavar="COLUMN", help="columns of a table that hold the labels"
    )
    group.add_argument(
        "--separator",
        "--label-separator",
        metavar="TEXT",
        help="text between labels in a cell of a table, such as '; ' (default: one label per "
        "cell), or character between labels in train_labels.txt (default: found in the file)",
    )
    group.add_argument(
        "--test",
        type=_test_part,
        metavar="FILE",
        help="test part of a table: another table, a share of the rows to hold out such as 0.1, "
        f"auto (0.1, and at most 2,000 rows) or none (default: {test})",
    )
    _add_encoding(group)


def _add_text(group: Any) -> None:
    group.add_argument(
        "--text",
        "--fields",
        nargs="+",
        metavar="COLUMN",
        help="columns of a table, or fields of JSON objects, that make up a text (default for "
        "JSON: title content)",
    )


def _add_encoding(group: Any) -> None:
    group.add_argument(
        "--encoding",
        type=_codec,
        default="utf-8",
        help="encoding of text files (default: %(default)s)",
    )


def _add_serving(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("computing")
    group.add_argument("--device", help="cpu, cuda, cuda:1, mps (default: as trained)")
    group.add_argument("--precision", help="auto, fp32, bf16, fp16, int8 (default: as trained)")


def _name_and_value(pair: str) -> tuple[str, Any]:
    name, equals, value = pair.partition("=")
    if not (name and equals):
        raise argparse.ArgumentTypeError(
            f"{quoted(pair)} is not name=value (place other arguments before --param)"
        )
    if value in ("None", "True", "False"):
        json_value = {"None": "null", "True": "true", "False": "false"}[value]
        raise argparse.ArgumentTypeError(
            f"{quoted(pair)}: values are JSON. Write {name}={json_value}."
        )
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value  # a str, whose quotation marks the shell has removed


def _count(number: str) -> int:
    if not number.isdecimal() or int(number) == 0:
        raise argparse.ArgumentTypeError(f"{quoted(number)} is not a whole number of at least 1")
    return int(number)


def _test_part(value: str) -> str | float:
    try:
        return float(value)
    except ValueError:
        return value


def _minutes(number: str) -> float:
    try:
        minutes = float(number)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < float("inf"):
        raise argparse.ArgumentTypeError(f"{quoted(number)} is not a number of minutes above 0")
    return minutes


def _port(number: str) -> int:
    if not (number.isascii() and number.isdecimal()) or int(number) > 65535:
        raise argparse.ArgumentTypeError(f"{quoted(number)} is not a port from 0 to 65535")
    return int(number)


def _codec(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError as error:
        raise argparse.ArgumentTypeError(f"{error}. Try utf-8 or latin-1.") from error


def _share(number: str) -> float:
    try:
        share = float(number)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{quoted(number)} is not a number from 0 to 1")
    return share
