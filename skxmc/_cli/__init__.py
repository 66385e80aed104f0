"""The command ``skxmc``: runs subcommands and turns errors into messages and exit codes.

Results go to standard output, everything else goes to standard error. A subcommand is the function
``run`` of the module of the same name. This module is imported only to run it, because that loads
torch and scikit-learn.
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

# Exit codes that a shell reports for a program ended by SIGINT or SIGPIPE.
INTERRUPTED, BROKEN_PIPE = 130, 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    argv : sequence of str, default=None
        Arguments without the name of the command. None takes those of the process.

    Returns
    -------
    int
        0 for success, 1 after an error, which is one line on standard error, 130 after an
        interrupt, and 141 if nobody reads the output anymore.

    Raises
    ------
    SystemExit
        With code 2 if the arguments are wrong, and with 0 after ``--help`` and ``--version``.
    """
    args = build_parser().parse_args(argv)
    if hasattr(sys.stdout, "reconfigure"):  # labels are Unicode in any locale
        sys.stdout.reconfigure(encoding="utf-8", errors="replace")
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            import_module(f"{__name__}.{args.command}").run(args)
            sys.stdout.flush()
        except BrokenPipeError:
            # Without this, the interpreter flushes at exit and prints an error.
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
    """Describe an error in one line."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    words = " ".join(str(error).split())
    if words and isinstance(error, ValueError | TypeError | OSError | ImportError):
        return words
    return f"{type(error).__name__}: {words} (--debug shows where)"  # not an error of skxmc's own


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"skxmc: warning: {' '.join(str(message).split())}", file=sys.stderr)
