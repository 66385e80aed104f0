"""Labels in lines of text: the character that separates them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from skxmc._utils.quoting import quoted
from skxmc._utils.warnings import warn_user

# Separators that are looked for. Any of them may be part of a name, blanks too.
SEPARATORS = ("\t", "|", ";", ",")
NAMES = {"\t": "tabs", "|": "'|'", ";": "';'", ",": "','"}
# A character separates labels if this share of the parts it makes occur in several lines. Parts of
# names occur in one line each, unless they are names of their own.
MIN_RECURRING = 0.5
# A character in this share of the lines that does not separate labels deserves a warning.
MIN_SUSPICIOUS = 0.25


def split_labels(line: str, separator: str | None) -> list[str]:
    """Split a line into labels, at whitespace if `separator` is None."""
    if separator is None:
        return line.split()
    return [label for label in map(str.strip, line.split(separator)) if label]


def find_separator(lines: Sequence[str], file: Path) -> str | None:
    """Find the character that separates labels, None for whitespace.

    Warns
    -----
    UserWarning
        If many lines have a character that may separate labels, but this is not plain.
    """
    filled = [line for line in lines if line.strip()]
    for separator in SEPARATORS:
        marked = [line for line in filled if separator in line]
        if not marked:
            continue
        n_lines = Counter(part for line in filled for part in set(split_labels(line, separator)))
        parts = {part for line in marked for part in split_labels(line, separator)}
        if separator == "\t" and not any(" " in part for part in parts):
            continue  # whitespace separates labels either way
        recurring = sum(n_lines[part] > 1 for part in parts)
        if parts and recurring >= MIN_RECURRING * len(parts):
            return separator
        ends = any(label.endswith(separator) for line in marked for label in line.split())
        if ends or len(marked) >= MIN_SUSPICIOUS * len(filled):
            name = NAMES[separator]
            warn_user(
                f"{file} has {name} in {len(marked)} of {len(filled)} lines. Labels are read as "
                f"separated by blanks. Pass label_separator={quoted(separator)} if {name} separate "
                "labels, and label_separator=' ' otherwise."
            )
            return None
    return None
