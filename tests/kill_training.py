"""Kill a training process at random moments, resume it, and compare the weights.

    python kill_training.py ENCODER FOLDER

`test_resume.py` runs it. One process imports everything and then forks a child per attempt, so
an attempt takes a fraction of a second.
"""

import json
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import torch

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc.datasets import make_xmc

N_KILLS = 20


def fit(encoder: str, checkpoint_dir: Path, max_epochs: int = 8) -> LightXMLClassifier:
    """Train for a second or more, with a checkpoint after every step."""
    texts, y = make_xmc(64, 30, n_labels_per_sample=2, random_state=0)
    return LightXMLClassifier(
        encoder,
        max_length=32,
        n_feature_layers=2,
        clusterer=BalancedLabelClusterer(max_cluster_size=4),
        bottleneck_dim=8,
        max_epochs=max_epochs,
        batch_size=16,
        head_learning_rate=1e-2,
        precision="fp32",
        device="cpu",
        random_state=0,
        checkpoint_dir=checkpoint_dir,
        checkpoint_every=1,
    ).fit(texts, y)


def start(encoder: str, folder: Path) -> int:
    """Fork a child that trains and then saves the model."""
    child = os.fork()
    if child == 0:
        try:
            fit(encoder, folder / "run").save_pretrained(folder / "model")
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    return child


def wait(child: int) -> None:
    """Wait for a child, and check that it succeeds."""
    _, status = os.waitpid(child, 0)
    assert status == 0, status


def is_writing(run: Path) -> bool:
    """Return whether the run has content besides the one that its index names."""
    return run.exists() and sum(name.startswith("content-") for name in os.listdir(run)) > 1


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return the trained weights of the run in `folder`."""
    return LightXMLClassifier.from_pretrained(folder / "model").network_.state_dict()


def main(encoder: str, folder: Path) -> None:
    """Kill and resume training, and print a report as JSON."""
    torch.set_num_threads(1)
    draw = random.Random(0)
    fit(encoder, folder / "warm", max_epochs=1)  # runs all late imports
    started = time.perf_counter()
    wait(start(encoder, folder / "whole"))
    seconds = time.perf_counter() - started
    expected = weights(folder / "whole")
    parts = folder / "parts"
    kills, kills_while_writing, runs, same = 0, 0, 0, True
    while kills < N_KILLS or runs == 0:
        child = start(encoder, parts)
        if kills < N_KILLS:
            time.sleep(draw.uniform(0.05, 0.3) * seconds)
            # Every other kill waits until the child writes.
            deadline = time.perf_counter() + seconds
            while kills % 2 and not is_writing(parts / "run") and time.perf_counter() < deadline:
                time.sleep(0)
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            kills += 1
            kills_while_writing += is_writing(parts / "run")
            continue
        assert status == 0, status
        runs += 1
        found = weights(parts)
        same &= all(torch.equal(expected[name], found[name]) for name in expected)
        shutil.rmtree(parts)
    report = {"kills": kills, "kills_while_writing": kills_while_writing, "runs": runs}
    print(json.dumps({**report, "same_weights": same, "seconds_of_a_run": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
