"""Measure memory and time of training with fewer activations: one setting per call.

    python examples/benchmarks/activations.py [--accumulate-steps 4] [--gradient-checkpointing]

It calls `fit` with random texts. The time is the median of the steps, on a CPU that of the process.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
from _common import MINILM, memory_of, random_labels
from memory import random_words

from skxmc import LightXMLClassifier
from skxmc._model.device import resolve_device
from skxmc._model.network import Losses
from skxmc._training.trainer import Trainer


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--accumulate-steps", type=int, default=1)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--encoder", help="default: MiniLM")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="auto")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    rng = np.random.default_rng(0)
    texts = random_words(arguments.steps * arguments.batch, rng)
    labels = random_labels(len(texts), 1000, 5, rng)
    before, seconds = memory_of(device), note_seconds(device)
    LightXMLClassifier(
        arguments.encoder or MINILM,
        max_length=arguments.tokens,
        head_init="priors",
        max_epochs=1,
        batch_size=arguments.batch,
        accumulate_steps=arguments.accumulate_steps,
        gradient_checkpointing=arguments.gradient_checkpointing,
        precision=arguments.precision,
        device=arguments.device,
        random_state=0,
    ).fit(texts, labels)
    print(
        f"{arguments.batch} x {arguments.tokens} tokens, "
        f"accumulate_steps={arguments.accumulate_steps}, "
        f"gradient_checkpointing={arguments.gradient_checkpointing}: peak memory "
        f"{memory_of(device):.2f} GB ({before:.2f} before), "
        f"{np.median(seconds):.2f} s per step"
    )


def note_seconds(device: torch.device) -> list[float]:
    """Note the seconds of each training step from now on."""
    seconds: list[float] = []
    train_step = Trainer.train_step
    now = time.process_time if device.type == "cpu" else time.perf_counter

    def noting(*arguments: Any) -> Losses:
        started = now()
        losses = train_step(*arguments)
        losses.rank.item()  # waits for the device
        seconds.append(now() - started)
        return losses

    Trainer.train_step = noting
    return seconds


if __name__ == "__main__":
    main()
