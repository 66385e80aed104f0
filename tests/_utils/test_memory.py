"""Memory of the process."""

import platform

import pytest

from skxmc._utils.memory import return_freed_memory


def resident_bytes():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_return_freed_memory_lowers_memory_of_process():
    blocks = [b"x" * 50_000 for _ in range(4000)]
    del blocks[:-1]  # the last one keeps the C library from returning the rest by itself
    before = resident_bytes()
    return_freed_memory()
    assert before - resident_bytes() > 100e6
