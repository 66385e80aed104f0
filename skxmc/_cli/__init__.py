"""The command ``skxmc``: what all subcommands have in common, from arguments to exit codes.

Results go to standard output, all else to standard error. A subcommand is the function ``run`` of
the module of its name, which is imported, with torch and scikit-learn, only to run it.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from skxmc._cli.arguments import build_parser

# What a shell reports of a program that SIGINT or SIGPIPE has ended.
INTERRUPTED, BROKEN_PIPE = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments, without the name of the command; None means those of the process.

    Returns
    -------
    int
        0: done; 1: an error, which is one line on standard error; 130: interrupted; 141: nobody
        reads the output any more.

    Raises
    ------
    SystemExit
        With code 2 if the arguments are wrong, with 0 after ``--help`` and ``--version``.
    """
    args = build_parser().parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):  # labels are Unicode, whatever the locale is
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            import_module(f"{__name__}.{args.command}").run(args)
            sys.stdout.flush()
        except BrokenPipeError:
            # The interpreter flushes at exit, and would complain.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return BROKEN_PIPE
        except KeyboardInterrupt:
            print("\nskxmc: interrupted", file=sys.stderr)
            return INTERRUPTED
        except argparse.ArgumentError as error:
            args.parser.error(str(error))
        except Exception as error:
            if args.debug:
                traceback.print_exc()
            print(f"skxmc: error: {_describe(error)}", file=sys.stderr)
            return 1
    return 0


def _describe(error: Exception) -> str:
    """Word an error in one line."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    words = " ".join(str(error).split())
    if words and isinstance(error, ValueError | TypeError | OSError | ImportError):
        return words
    return f"{type(error).__name__}: {words} (--debug shows where)"  # not one of our own


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"skxmc: warning: {' '.join(str(message).split())}", file=sys.stderr)
