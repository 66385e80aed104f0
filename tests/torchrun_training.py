"""Fit in a process that torchrun has started, and write what it has at its end.

    torchrun --standalone --nproc-per-node 2 torchrun_training.py ENCODER FOLDER

`test_distributed.py` runs it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from distributed_training import classifier, data, result


def main(encoder: str, folder: Path) -> None:
    """Fit, use the process group, and close it."""
    found = result(classifier(encoder, max_epochs=1).fit(*data()))
    size = torch.ones(1)
    dist.all_reduce(size)
    dist.destroy_process_group()
    found["size"] = int(size)
    torch.save({"found": found}, folder / f"torchrun {os.environ['RANK']}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
