"""Memory of the process."""

import ctypes
import sys


def return_freed_memory() -> None:
    """Return memory that was freed to the system.

    The C library of Linux keeps it, in pieces between those in use. Batches of ever other lengths
    fit into few of the pieces.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
        if trim is not None:
            trim(0)
