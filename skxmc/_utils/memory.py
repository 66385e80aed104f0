"""Memory of the process and of the machine."""

import ctypes
import math
import sys
from contextlib import suppress
from pathlib import Path


def return_freed_memory() -> None:
    """Return memory that was freed to the system.

    The C library of Linux keeps it, in pieces between those in use. Batches of ever other lengths
    fit into few of the pieces.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl does not
        if trim is not None:
            trim(0)


def available_memory(root: Path = Path("/")) -> float:
    """Return the bytes that processes may still take, infinity if the system does not tell.

    Linux tells those of the machine, and the limits of the container and the job of this process.
    Cached files count as free.

    Parameters
    ----------
    root : Path
        Root of the file system.
    """
    free = [math.inf]
    with suppress(OSError, KeyError):
        free.append(1024 * _numbers(root / "proc/meminfo")["MemAvailable:"])
    own = root / "sys/fs/cgroup"
    with suppress(OSError, StopIteration):
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        own /= next(line[len("0::/") :] for line in lines if line.startswith("0::/"))
    for group in (own, *own.parents):
        with suppress(OSError, ValueError, KeyError):
            limit = float((group / "memory.max").read_text())  # "max" without one, a ValueError
            used = float((group / "memory.current").read_text())
            cached = _numbers(group / "memory.stat")
            free.append(limit - used + cached["active_file"] + cached["inactive_file"])
    return min(free)


def _numbers(path: Path) -> dict[str, float]:
    """Read a file of the system with a name and a number per line."""
    lines = (line.split() for line in path.read_text().splitlines())
    return {name: float(number) for name, number, *_ in lines}
