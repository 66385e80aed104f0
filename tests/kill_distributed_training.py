"""Kill one of the processes that train together at random moments, and resume all of them.

    python kill_distributed_training.py ENCODER FOLDER

`test_distributed.py` runs it, and reads the report that it prints as JSON.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from distributed_training import Group
from process_groups import start

from skxmc._training import joining

# Number of kills by the number of processes.
KILLS = {2: 10, 3: 10}
# Processes wait so long for one that never joins.
TIMEOUT = timedelta(seconds=30)


def fit(group: Group, folder: Path) -> dict[str, Any]:
    """Train for a second or more, with a checkpoint after every step."""
    return group.fit(max_epochs=4, checkpoint_dir=folder / "run", checkpoint_every=1)


def results(folder: Path) -> list[dict[str, Any]]:
    """Read and remove what the processes have left."""
    paths = sorted(folder.glob("result *.pt"))
    found = [torch.load(path, weights_only=False)["found"] for path in paths]
    for path in paths:
        path.unlink()
    return found


def kill_and_resume(group: Group, size: int, folder: Path, draw: random.Random) -> dict[str, Any]:
    """Kill processes until there are enough kills, and resume. Return what happened."""
    started = time.perf_counter()
    for child in start(size, lambda: fit(group, folder / "whole"), folder / "result"):
        os.waitpid(child, 0)
    seconds = time.perf_counter() - started
    expected = results(folder)[0]["weights"]
    errors, same = [], True
    kills, hung, runs, longest_wait, is_whole = 0, 0, 0, 0.0, False
    while kills < KILLS[size] or not is_whole:
        children = start(size, lambda: fit(group, folder / "parts"), folder / "result")
        if kills < KILLS[size]:
            time.sleep(draw.uniform(0.0, 0.6) * seconds)
            os.kill(draw.choice(children), signal.SIGKILL)
        started = time.perf_counter()
        signals = [os.WTERMSIG(os.waitpid(child, 0)[1]) for child in children]
        hung += signals.count(signal.SIGALRM)
        if signal.SIGKILL in signals:
            kills += 1
            longest_wait = max(longest_wait, time.perf_counter() - started)
        found = results(folder)
        errors += [result["error"] for result in found if "error" in result]
        weights = [result["weights"] for result in found if "error" not in result]
        same &= all(torch.equal(w[name], expected[name]) for w in weights for name in expected)
        is_whole = len(weights) == size
        if is_whole:
            runs += 1
            shutil.rmtree(folder / "parts")
    report = {"kills": kills, "hung": hung, "runs": runs, "same_weights": same, "errors": errors}
    return {**report, "longest_wait": longest_wait, "seconds_of_a_run": seconds}


def main(encoder: str, folder: Path) -> None:
    """Kill and resume training, and print a report as JSON."""
    torch.set_num_threads(1)
    group = Group(encoder, folder)
    joining.TIMEOUT = joining.JOIN_TIMEOUT = TIMEOUT
    gc.freeze()  # children copy fewer pages
    draw = random.Random(0)
    report = {}
    for size in KILLS:
        (folder / str(size)).mkdir()
        report[size] = kill_and_resume(group, size, folder / str(size), draw)
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
