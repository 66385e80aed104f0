"""Time a training step against the bare encoder, and its growth with the number of labels.

python examples/benchmarks/training.py [--quick] [--device cuda --encoder bert-base ...]

"Bare" is the same encoder alone on the same batches, with forward, backward and AdamW steps. Texts
and labels are random, with texts of the same length. With `--data`, they are those of a data set.
"""

import argparse
import contextlib
import copy
import functools
import gc
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import scipy.sparse as sp
import torch
from _common import (
    LABEL_MOMENTS,
    MINILM,
    describe_machine,
    load_shape,
    memory_of,
    random_labels,
    random_network,
    random_texts,
    seconds,
    spread,
    time_in_turn,
    use_label_moments,
)

from skxmc import LightXMLClassifier
from skxmc._model.device import autocast, resolve_device
from skxmc._model.encoder import attention_mask, dropout_rates, load_encoder, set_dropout
from skxmc._model.tokens import TokenStore, tokenize, training_batches
from skxmc._training.distributed import OneProcess
from skxmc._training.settings import resolve_settings
from skxmc._training.trainer import Trainer, TrainingSet
from skxmc.datasets import load_icd10cm, load_xmc

CANDIDATE_LABELS = 1984  # 32 clusters of 62


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encoder", choices=["minilm", "bert-base"], default="minilm")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--data", help="a folder that load_xmc reads, or icd10cm, for MiniLM")
    parser.add_argument("--labels", type=int, default=500_000)
    parser.add_argument("--clusters", type=int, default=8192, help="0: rank every label")
    parser.add_argument("--dim", type=int, default=400, help="size of the label embeddings")
    parser.add_argument("--label-moments", choices=LABEL_MOMENTS, default="auto")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument(
        "--growth",
        type=int,
        nargs=2,
        default=[100_000, 3_000_000],
        help="0 0: skip",
    )
    parser.add_argument("--encoder-dropout", type=float, help="default: as configured")
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--profile", action="store_true", help="time only the parts of a step")
    parser.add_argument("--quick", action="store_true", help="few pairs, growth to 500,000")
    return parser.parse_args()


def load_texts(data: str, n_tokens: int) -> tuple[TokenStore, sp.csr_array]:
    """Tokenize the training texts of a data set for MiniLM, with their labels."""
    found = load_icd10cm() if data == "icd10cm" else load_xmc(data)
    tokens = tokenize(load_encoder(MINILM).tokenizer, list(found.X_train), n_tokens)
    return tokens, sp.csr_array(found.y_train)


class Step:
    """Training step of LightXML, which takes the next batch at each call."""

    def __init__(
        self,
        arguments: argparse.Namespace,
        encoder: torch.nn.Module,
        n_labels: int,
        texts: tuple[TokenStore, sp.csr_array] | None = None,
        processes: OneProcess | None = None,
    ):
        rng = np.random.default_rng(0)
        self.device = resolve_device(arguments.device)
        n_clusters = arguments.clusters or n_labels
        network = random_network(
            copy.deepcopy(encoder), n_labels, n_clusters, arguments.dim, self.device
        )
        if texts is None:
            n_texts, vocab = 64 * arguments.batch, encoder.config.vocab_size
            tokens = random_texts(n_texts, arguments.tokens, vocab, rng)
            texts = tokens, random_labels(n_texts, n_labels, 5, rng)
        data = TrainingSet(*texts, self.device)
        params = {
            **LightXMLClassifier().get_params(deep=False),
            "batch_size": arguments.batch,
            "n_candidate_clusters": max(1, CANDIDATE_LABELS // -(-n_labels // n_clusters)),
            "device": arguments.device,
            "precision": arguments.precision,
        }
        use_label_moments(arguments.label_moments)
        settings = resolve_settings(params, n_texts=len(data), n_labels=n_labels, seed=0)
        self.trainer = Trainer(network, data, settings, rng, processes=processes)
        network.train()
        self.batches = training_batches(data.tokens.lengths, arguments.batch, rng)
        self.n_done = 0

    def __call__(self) -> None:
        self.trainer.train_step(self.batches[self.n_done % len(self.batches)], 1.0)
        self.n_done += 1


class BareStep:
    """Training step of the encoder alone, on the same batches."""

    def __init__(self, step: Step, encoder: torch.nn.Module):
        self.step = step
        self.encoder = copy.deepcopy(encoder).to(step.device)
        self.encoder.set_attn_implementation(
            step.trainer.network.encoder.config._attn_implementation
        )
        self.encoder.train()
        self.optimizer = torch.optim.AdamW(self.encoder.parameters(), lr=1e-4, fused=True)
        self.n_done = 0

    def __call__(self) -> None:
        step = self.step
        tokens, *_ = step.trainer.data.batch(step.batches[self.n_done % len(step.batches)])
        with autocast(step.device, step.trainer.settings.dtype):
            mask = attention_mask(self.encoder, tokens)
            states = self.encoder(tokens.input_ids, attention_mask=mask)
        states.last_hidden_state[:, 0].float().square().mean().backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.n_done += 1


def measure_parts(
    step: Step, n_steps: int, measure: Callable[[Callable[[], Any], torch.device], float]
) -> dict[str, np.ndarray]:
    """Measure each part of a step, and the whole.

    Parts that run several times per step, such as the chunks of labels, have several values.

    Parameters
    ----------
    step : Step
    n_steps : int
    measure : callable
        Function that runs another and returns a figure, such as `seconds`.

    Returns
    -------
    dict of str to ndarray of shape (n_steps, n_runs)
    """
    trainer = step.trainer
    parts = {
        "batch: tokens, labels": (trainer.data, "batch"),
        "encoder, forward": (trainer.network, "represent"),
        "heads and losses, forward": (trainer.network, "losses"),
        "backward": (torch.Tensor, "backward"),
        **{type(optimizer).__name__: (optimizer, "step") for optimizer in trainer.optimizers},
    }
    if trainer.table_optimizer is not None:
        parts["TableRMSprop"] = (trainer.table_optimizer, "update")  # in the losses
    found: dict[str, list[float]] = {name: [] for name in parts}
    with contextlib.ExitStack() as stack:
        for name, (owner, method) in parts.items():
            function = getattr(owner, method)

            def measured(*args, function=function, name=name, **kwargs):
                results = []
                run = functools.partial(function, *args, **kwargs)
                found[name].append(measure(lambda: results.append(run()), step.device))
                return results[0]

            stack.enter_context(mock.patch.object(owner, method, measured))
        found["whole step"] = [measure(step, step.device) for _ in range(n_steps + 2)]
    return {
        name: np.array(of_part).reshape(n_steps + 2, -1)[2:]  # after a warm-up
        for name, of_part in found.items()
    }


def main() -> None:
    arguments = parse()
    if arguments.quick:
        arguments.pairs, arguments.growth = 5, [100_000, 500_000]
    torch.manual_seed(0)
    encoder = load_shape(arguments.encoder)
    if arguments.encoder_dropout is not None:
        set_dropout(encoder, dict.fromkeys(dropout_rates(encoder), arguments.encoder_dropout))
    texts, n_tokens = None, str(arguments.tokens)
    if arguments.data:
        texts = load_texts(arguments.data, arguments.tokens)
        arguments.labels = texts[1].shape[1]
        n_tokens = f"{texts[0].lengths.mean():.1f} (mean)"
    step = Step(arguments, encoder, arguments.labels, texts)
    print(describe_machine(step.device, step.trainer.settings.dtype))
    print(
        f"{arguments.encoder}, L = {arguments.labels:,}, C = {arguments.clusters:,}, "
        f"b = {step.trainer.n_candidate_clusters}, d = {arguments.dim}, "
        f"batch {arguments.batch} x {n_tokens} tokens, {arguments.pairs} pairs"
    )
    if arguments.profile:
        for name, times in measure_parts(step, arguments.pairs, seconds).items():
            print(f"{name:<30} {spread(times.sum(axis=1), ' ms', 1000)}")
        return
    for _ in range(3):
        step()
    owner = "GPU" if step.device.type == "cuda" else "process"
    print(f"peak memory of the {owner}: {memory_of(step.device):.2f} GB")
    times = time_in_turn(BareStep(step, encoder), step, arguments.pairs, step.device)
    print("bare encoder:", spread(times[:, 0], " ms", 1000))
    print("LightXML:    ", spread(times[:, 1], " ms", 1000))
    print("texts per second:", spread(arguments.batch / times[:, 1]))
    print("throughput, fraction of the bare encoder's:", spread(times[:, 0] / times[:, 1]))

    if not all(arguments.growth):
        return
    del step
    gc.collect()
    small, large = (Step(arguments, encoder, n_labels) for n_labels in arguments.growth)
    times = time_in_turn(small, large, arguments.pairs, small.device)
    for n_labels, part in zip(arguments.growth, times.T, strict=True):
        print(f"L = {n_labels:,}:", spread(part, " ms", 1000))
    print("time, relative to the fewer labels:", spread(times[:, 1] / times[:, 0]))


if __name__ == "__main__":
    main()
