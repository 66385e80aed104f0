"""Lines of text files, plain or gzipped, split at line feeds only, as other tools do."""

from __future__ import annotations

import codecs
import gzip
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from skxmc._utils.quoting import quoted

BYTE_ORDER_MARK = "\ufeff"


def read_lines(file: Path, encoding: str) -> Iterator[str]:
    """Read the lines of a file, which is gzipped if its name ends in .gz."""
    with open_binary(file) as stream:
        try:
            yield from decode_lines(stream, str(file), encoding)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{file} is not a complete gzip file ({error}). Download it again."
            ) from error


def open_binary(file: Path) -> BinaryIO:
    """Open a file for reading, which is gzipped if its name ends in .gz."""
    return cast(BinaryIO, gzip.open(file)) if file.suffix == ".gz" else file.open("rb")


def read_records(file: Path, encoding: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the JSON object of each line, with its line number from 1."""
    for number, line in enumerate(read_lines(file, encoding), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"{file}, line {number}: malformed JSON ({error}). Write one complete object per "
                "line."
            ) from error
        if not isinstance(record, dict):
            raise ValueError(
                f"{file}, line {number}: {quoted(line)} is not a JSON object. Write one "
                "object per line."
            )
        yield number, record


def decode_lines(stream: Iterable[bytes], name: str, encoding: str) -> Iterator[str]:
    """Decode the lines of a binary stream, which is split at line feeds only.

    Text mode would also split at lone carriage returns. `str.splitlines` would also split at form
    feeds, U+0085 and U+2028. Web texts contain all of these, and one wrong split pairs all further
    texts with the wrong labels. A byte order mark before the first line is removed.
    """
    if not _ends_lines_with_line_feeds(encoding):
        raise ValueError(
            f"{name} cannot be read as {encoding}, because its lines do not end with byte 10. "
            f"Convert it to UTF-8, for example with iconv -f {encoding} -t utf-8."
        )
    for number, line in enumerate(stream, start=1):
        if number == 1 and line.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise ValueError(
                f"{name} seems to be UTF-16. Convert it to UTF-8, for example with iconv -f utf-16 "
                "-t utf-8."
            )
        try:
            text = line.decode(encoding).rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name}, line {number}: not {encoding} ({error.reason}). Pass the right encoding, "
                "for example encoding='latin-1'."
            ) from error
        yield text.removeprefix(BYTE_ORDER_MARK) if number == 1 else text


def _ends_lines_with_line_feeds(encoding: str) -> bool:
    try:
        return b"\n".decode(encoding) == "\n"
    except UnicodeDecodeError:
        return False
