"""Lines of text files, gzipped ones too, split where the field's tools split them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path


def read_lines(file: Path, encoding: str) -> Iterator[str]:
    """Read the lines of a file, gzipped where its name ends in .gz."""
    with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as stream:
        try:
            yield from decode_lines(stream, str(file), encoding)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(
                f"{file} is not a complete gzip file ({error}); fetch it again."
            ) from error


def decode_lines(stream: Iterable[bytes], name: str, encoding: str) -> Iterator[str]:
    """Decode the lines of a binary stream, which is split at line feeds only.

    Text mode would also split at lone carriage returns, and `str.splitlines` at form feeds, at
    U+0085 and U+2028; texts of the web contain them all, and one of them is enough to set all
    further texts beside the wrong labels.
    """
    for number, line in enumerate(stream, start=1):
        try:
            yield line.decode(encoding).rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{name}, line {number}: not {encoding} ({error.reason}); name the right one by "
                "encoding=, for instance encoding='latin-1'."
            ) from error
