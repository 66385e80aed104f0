"""Data of the subcommands: a table, or a data folder."""

from __future__ import annotations

import argparse

from sklearn.utils import Bunch

from skxmc._utils.paths import user_path
from skxmc._utils.quoting import listed
from skxmc.datasets import load_table, load_xmc
from skxmc.datasets._table_files import is_table_file, open_table

# Fields of a text in JSON objects.
FIELDS = ("title", "content")


def is_table(data: str) -> bool:
    """Return whether an argument is a table. It is a data folder otherwise."""
    path = user_path(data)
    return path.is_file() or (is_table_file(path) and not path.is_dir())


def load_data(args: argparse.Namespace, test: str | None = None) -> Bunch:
    """Read a data folder, or a table whose test part is `test` if --test is not given."""
    if not is_table(args.data):
        for option in ("labels", "test"):
            if getattr(args, option) is not None:
                raise argparse.ArgumentError(
                    None, f"--{option} belongs to a table, but {args.data} is none"
                )
        return load_xmc(
            args.data,
            fields=args.text or FIELDS,
            encoding=args.encoding,
            label_separator=args.separator,
        )
    check_columns(args.data, args, "text", "labels")
    test = test if args.test is None else args.test
    return load_table(
        args.data,
        text=args.text,
        labels=args.labels,
        separator=args.separator,
        test=None if test == "none" else test,
        encoding=args.encoding,
    )


def check_columns(table: str, args: argparse.Namespace, *options: str) -> None:
    """Check that options name the columns of a table, or show which it has."""
    missing = [f"--{option}" for option in options if getattr(args, option) is None]
    if missing:
        columns = open_table(table, (), args.encoding).columns
        raise argparse.ArgumentError(
            None,
            f"{table} is a table. Name its columns with {' and '.join(missing)}. It has "
            f"{listed(columns)}",
        )
