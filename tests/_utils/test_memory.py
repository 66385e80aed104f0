"""Memory of the process and of the machine."""

import math
import platform

import pytest

from skxmc._utils.memory import available_memory, return_freed_memory


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


MEMINFO = "MemTotal: 9000 kB\nMemAvailable: 2 kB\n"
STAT = "anon 7\nactive_file 30\ninactive_file 20\n"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, math.inf),
        ({"proc/meminfo": MEMINFO}, 2048),
        ({"proc/meminfo": "HugePages: 0\n"}, math.inf),
        ({"job/memory.max": "1000"}, 1000 - 600 + 50),
        ({"job/memory.max": "max", "proc/meminfo": MEMINFO}, 2048),
        ({"job/memory.max": "1000", "proc/self/cgroup": "0::/job/step"}, 450),
        ({"job/memory.max": "1000", "proc/meminfo": MEMINFO}, 450),
        ({"job/memory.max": "9000", "proc/meminfo": MEMINFO}, 2048),
    ],
)
def test_available_memory_is_that_of_machine_or_group(tmp_path, files, expected):
    files = {"proc/self/cgroup": "4:memory:/other\n0::/job\n", **files}
    files |= {"job/memory.current": "600", "job/memory.stat": STAT}
    for name, text in files.items():
        path = tmp_path / name.replace("job", "sys/fs/cgroup/job")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert available_memory(tmp_path) == expected
