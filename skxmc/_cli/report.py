"""Reports, which are nested dicts printed as JSON or as lines, and progress bars."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

# In this part of a report, values are printed as --param takes them.
PARAMETERS = "parameters_not_at_their_default"
QUANTILES = {"min": 0.0, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95, "max": 1.0}


def distribution(counts: Any) -> dict[str, float] | None:
    """Return mean and quantiles of counts, or None if there are none."""
    counts = np.asarray(counts)
    if counts.size == 0:
        return None
    values = np.quantile(counts, list(QUANTILES.values()), method="lower").tolist()
    return {"mean": round(float(counts.mean()), 2), **dict(zip(QUANTILES, values, strict=True))}


def folder_size(folder: Path) -> int:
    """Add up the bytes of all files in a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def megabytes(n_bytes: int) -> str:
    """Format a size in megabytes."""
    return f"{n_bytes / 1e6:,.1f} MB"


def count_texts(total: int | None = None, *, are_printed: bool = False) -> Any:
    """Make a progress bar of predicted texts, which shows if standard error is a terminal.

    If predictions are printed to a terminal as they come, they show the progress themselves, and
    there is no bar.
    """
    shown = sys.stderr is not None and not (are_printed and sys.stdout.isatty())
    return tqdm(total=total, unit=" texts", leave=False, disable=None if shown else True)


def print_json(report: dict[str, Any]) -> None:
    """Print a report as a JSON object, with null for NaN and infinity."""
    report = json.loads(json.dumps(report), parse_constant=lambda _: None)
    print(json.dumps(report, ensure_ascii=False, indent=1))


def print_lines(report: dict[str, Any]) -> None:
    """Print a report with one line per value, and names on the left."""
    rows = list(_rows(report, ""))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}".rstrip())


def _rows(report: dict[str, Any], indent: str) -> Iterator[tuple[str, str]]:
    for key, value in report.items():
        name = indent + key
        if key == PARAMETERS:
            yield name, "" if value else "none"
            for param, given in value.items():
                shown = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
                yield f"{indent}  {param}", shown
        elif isinstance(value, dict) and "median" not in value:
            yield name, "" if value else "none"
            yield from _rows(value, indent + "  ")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield name, ""
            for number, entry in enumerate(value, start=1):
                pairs = (f"{key} {_shown(key, part)}" for key, part in entry.items())
                yield f"{indent}  {number}", ", ".join(pairs)
        else:
            yield name, _shown(key, value)


def _shown(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {number:,}" for name, number in value.items())
    if value is None:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(str, value))
    if isinstance(value, bool | str):
        return str(value)
    if key.endswith("bytes"):
        return megabytes(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{100 * value:.1f} %" if "@" in key else f"{value:.4g}"
