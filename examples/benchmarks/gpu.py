"""Measure skxmc on a GPU in one command: tests, training, prediction, memory, the host.

python examples/benchmarks/gpu.py [--json gpu.json] [--minutes 8] [--quick] [--device cpu]

The encoder has the shape of BERT-base and random weights, and texts and labels are random. So the
script needs no network, no weights and no data. `--quick` has small sizes, for a CPU too.

A part that fails, or that does not fit into the time, does not keep the others from running. The
script then ends with status 1.
"""

import argparse
import functools
import gc
import itertools
import json
import os
import string
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from _common import (
    describe_machine,
    memory_of,
    random_classifier,
    random_labels,
    random_network,
    random_texts,
    seconds,
    synchronize,
    time_in_turn,
)
from prediction import BareEncoder, time_single_texts
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from torch.profiler import ProfilerActivity, profile
from training import BareStep, Step, measure_parts
from transformers import BertConfig, PreTrainedTokenizerFast

from skxmc._model.device import resolve_device, resolve_precision
from skxmc._model.encoder import build_encoder
from skxmc._model.tokens import prediction_batches, tokenize
from skxmc._training.trainer import TrainingSet

ROOT = Path(__file__).parents[2]
MODES = ("dynamic", "full-label")
SPECIAL = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
# Random texts of `random_texts` start at this token.
FIRST_WORD = 1000
# Texts that the model in a file must predict alike on GPU and CPU.
N_COMPARED = 8

Figures = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """Sizes of what is measured, the full ones by default."""

    encoder: dict[str, int] = field(default_factory=dict)  # changes to BERT-base
    labels: tuple[int, ...] = (670_000, 100_000, 3_000_000)
    clusters: int = 8192
    dim: int = 400
    tokens: tuple[int, ...] = (128, 32)
    batches: tuple[int, ...] = (64, 256)
    n_steps: int = 20  # per synchronization
    n_pairs: int = 3
    n_texts: int = 16_384  # to predict in batches
    n_single: int = 100


SMALL_ENCODER = {
    "vocab_size": 1200,
    "hidden_size": 16,
    "num_hidden_layers": 5,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
QUICK = Sizes(SMALL_ENCODER, (600,), 16, 8, (8,), (2,), 2, 1, 40, 2)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="file to write")
    parser.add_argument("--minutes", type=float, default=8, help="time for all parts together")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--load", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


class Machine:
    """The device, the encoder and the tokenizer that all parts share."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.device = resolve_device(arguments.device)
        self.precision = arguments.precision
        self.dtype = resolve_precision(arguments.precision, self.device)
        self.sizes = QUICK if arguments.quick else Sizes()
        config = BertConfig(**self.sizes.encoder)
        self.encoder = build_encoder(config)
        self.tokenizer = word_tokenizer(config.vocab_size)
        self.rng = np.random.default_rng(0)

    def step(self, mode: str, n_labels: int, batch: int, tokens: int) -> Step:
        """Make a training step."""
        arguments = argparse.Namespace(
            device=str(self.device),
            precision=self.precision,
            clusters=self.sizes.clusters if mode == "dynamic" else 0,
            dim=self.sizes.dim,
            batch=batch,
            tokens=tokens,
            label_moments="auto",
        )
        return Step(arguments, self.encoder, n_labels)

    def classifier(self, mode: str, n_labels: int) -> Any:
        """Make a classifier with random weights."""
        n_clusters = self.sizes.clusters if mode == "dynamic" else n_labels
        encoder = build_encoder(self.encoder.config)
        network = random_network(encoder, n_labels, n_clusters, self.sizes.dim, self.device)
        return random_classifier(
            network.eval(), self.tokenizer, self.sizes.tokens[0], precision=self.precision
        )

    def texts(self, n_texts: int, n_words: int) -> list[str]:
        """Draw texts of words that are one token each."""
        words = self.tokenizer.convert_ids_to_tokens(range(FIRST_WORD, len(self.tokenizer)))
        drawn = self.rng.choice(words, (n_texts, n_words))
        return [" ".join(text) for text in drawn.tolist()]


def word_tokenizer(vocab_size: int) -> PreTrainedTokenizerFast:
    """Make a tokenizer of words of four letters, with BERT's special tokens."""
    letters = itertools.product(string.ascii_lowercase, repeat=4)
    words = map("".join, itertools.islice(letters, vocab_size - len(SPECIAL)))
    vocab = {word: i for i, word in enumerate([*SPECIAL, *words])}
    backend = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(token, vocab[token]) for token in ("[CLS]", "[SEP]")],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "attention_mask"],
    )


# ---------------------------------------------------------------- parts


def cuda_tests() -> Figures:
    """Run the tests that need a GPU."""
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    lines = done.stdout.splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    figures = {"summary": lines[-1] if lines else done.stderr[-500:], "failed": failed}
    if done.returncode:
        print(done.stdout[-5000:])
    return figures | {"failure": figures["summary"]} if done.returncode else figures


def training(machine: Machine, mode: str, n_labels: int, batch: int, tokens: int) -> Figures:
    """Time training steps against the bare encoder, many steps per synchronization."""
    sizes = machine.sizes
    step = machine.step(mode, n_labels, batch, tokens)
    take(step, 3)
    memory = memory_of(step.device)  # without the bare encoder
    bare = BareStep(step, machine.encoder)
    runs = (functools.partial(take, one, sizes.n_steps) for one in (bare, step))
    times = time_in_turn(*runs, sizes.n_pairs, step.device)
    of_bare, of_step = np.median(times, axis=0) / sizes.n_steps
    return {
        "bare_ms": 1000 * of_bare,
        "step_ms": 1000 * of_step,
        "ratio": float(np.median(times[:, 0] / times[:, 1])),
        "texts_per_second": batch / of_step,
        "memory_gb": memory,
    }


def take(step: Callable[[], None], n_steps: int) -> None:
    """Take several steps."""
    for _ in range(n_steps):
        step()


def parts_of_step(machine: Machine, mode: str) -> Figures:
    """Measure time, peak memory, kernels and waits of the parts of a step."""
    sizes = machine.sizes
    step = machine.step(mode, sizes.labels[0], sizes.batches[0], sizes.tokens[0])
    times = measure_parts(step, sizes.n_pairs, seconds)
    peaks = {name: float(x.max()) for name, x in measure_parts(step, 1, peak_memory).items()}
    peaks["whole step"] = max(peaks.values())  # each part has begun anew
    return {
        "ms": {name: 1000 * float(np.median(x.sum(axis=1))) for name, x in times.items()},
        "peak_gb": peaks,
        **count_kernels(step, step.device),
        "waits": count_waits(step, step.device),
    }


def peak_memory(run: Callable[[], Any], device: torch.device) -> float:
    """Return the peak memory in GB during a call. On a CPU, it is the peak so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    run()
    return memory_of(device)


def count_kernels(run: Callable[[], Any], device: torch.device) -> Figures:
    """Count the kernels of a call, and the operations of PyTorch that launch them."""
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities) as profiled:
        run()
        synchronize(device)
    events = profiled.events()
    copies = ("Memcpy", "Memset")
    on_gpu = [
        event.name
        for event in events
        if event.device_type == torch.autograd.DeviceType.CUDA
        and not getattr(event, "is_user_annotation", False)
    ]
    return {
        "kernels": sum(not name.startswith(copies) for name in on_gpu),
        "copies": sum(name.startswith(copies) for name in on_gpu),
        "operations": sum(event.name.startswith("aten::") for event in events),
    }


def count_waits(run: Callable[[], Any], device: torch.device) -> dict[str, int]:
    """Count the operations of a call that wait for the GPU, by file and line."""
    if device.type != "cuda":
        return {}
    run()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [w for w in caught if "synchronizing" in str(w.message)]
    return dict(Counter(f"{Path(w.filename).name}:{w.lineno}" for w in waits))


def prediction(machine: Machine, mode: str, n_labels: int) -> Figures:
    """Time predict_topk against the bare encoder, in batches and one text at a time."""
    sizes, device = machine.sizes, machine.device
    clf = machine.classifier(mode, n_labels)
    predictor, bare = clf._predictor(), BareEncoder(clf.network_, machine.dtype, device)
    figures: Figures = {}
    for n_tokens in sizes.tokens:
        n_texts = sizes.n_texts * sizes.tokens[-1] // n_tokens
        vocab = machine.encoder.config.vocab_size
        tokens = random_texts(n_texts, n_tokens, vocab, machine.rng)

        def encode(tokens=tokens) -> None:
            for rows in prediction_batches(tokens.lengths, *predictor.batch_size):
                bare({"input_ids": tokens.batch(rows).to(device).input_ids})  # without padding

        predict = functools.partial(predictor.top_k, tokens, 5)
        times = time_in_turn(encode, predict, sizes.n_pairs, device)
        figures[f"{n_tokens} tokens"] = {
            "bare_texts_per_second": n_texts / float(np.median(times[:, 0])),
            "texts_per_second": n_texts / float(np.median(times[:, 1])),
            "ratio": float(np.median(times[:, 0] / times[:, 1])),
        }
    one_batch = tokens.subset(np.arange(min(len(tokens), 64)))
    counted = count_kernels(lambda: predictor.top_k(one_batch, 5), device)
    waits = count_waits(lambda: predictor.top_k(one_batch, 5), device)
    times = time_single_texts(clf, bare, machine.texts(200, sizes.tokens[-1] - 2), sizes.n_single)
    figures["one text"] = {
        "bare_ms": 1000 * float(np.median(times[:, 0])),
        "ms": 1000 * float(np.median(times[:, 1])),
        "ratio": float(np.median(times[:, 1] / times[:, 0])),
    }
    return figures | counted | {"waits": waits}


def host(machine: Machine) -> Figures:
    """Count the texts per second that the host tokenizes, and makes batches of."""
    cpu, sizes, figures = torch.device("cpu"), machine.sizes, {}
    n_texts, batch, n_tokens = sizes.n_texts, sizes.batches[0], sizes.tokens[0]
    texts = machine.texts(n_texts, n_tokens - 2)
    took = seconds(lambda: tokenize(machine.tokenizer, texts, n_tokens), cpu)
    figures["tokenized_per_second"] = n_texts / took
    tokens = tokenize(machine.tokenizer, texts, n_tokens)
    data = TrainingSet(tokens, random_labels(n_texts, sizes.labels[0], 5, machine.rng), cpu)
    batches = list(prediction_batches(tokens.lengths, batch))
    took = seconds(lambda: [data.batch(rows) for rows in batches], cpu)
    return figures | {"in_batches_per_second": n_texts / took}


def file_for_cpu(machine: Machine) -> Figures:
    """Dump a model, load it in a process without a GPU, and compare the predictions."""
    clf = machine.classifier("dynamic", min(machine.sizes.labels))
    texts = machine.texts(N_COMPARED, machine.sizes.tokens[0])
    top = clf.predict_topk(texts)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.joblib"
        joblib.dump((clf, texts), file)
        size = file.stat().st_size / 1e9
        command = [sys.executable, __file__, "--load", str(file)]
        env = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    if done.returncode:
        return {"failure": done.stderr[-500:]}
    labels, scores = json.loads(done.stdout.splitlines()[-1])
    return {
        "file_gb": size,
        "same_best_label": float(np.mean(np.array(labels)[:, 0] == top.labels[:, 0])),
        "largest_difference_of_scores": float(np.abs(np.array(scores) - top.scores).max()),
    }


def load(file: Path) -> None:
    """Print the predictions of a model in a file, as JSON."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Using the CPU")
        clf, texts = joblib.load(file)
        top = clf.predict_topk(texts)
    print(json.dumps([top.labels.tolist(), top.scores.tolist()]))


# ---------------------------------------------------------------- all of them


def parts(machine: Machine) -> Iterator[tuple[str, Callable[[], Figures]]]:
    """Yield the names and functions of all parts, the most important first."""
    sizes = machine.sizes
    if machine.device.type == "cuda":
        yield "CUDA tests", cuda_tests
    for mode in MODES:
        yield f"parts of a step, {mode}", functools.partial(parts_of_step, machine, mode)
    yield "host", functools.partial(host, machine)
    yield "file for a CPU", functools.partial(file_for_cpu, machine)
    for mode in MODES:
        name = f"prediction, {mode}, L = {sizes.labels[0]:,}"
        yield name, functools.partial(prediction, machine, mode, sizes.labels[0])
    for case in itertools.product(sizes.labels, MODES, sizes.tokens, sizes.batches):
        n_labels, mode, tokens, batch = case
        name = f"training, {mode}, L = {n_labels:,}, {batch} x {tokens} tokens"
        yield name, functools.partial(training, machine, mode, n_labels, batch, tokens)


def measured(part: Callable[[], Figures], deadline: float, device: torch.device) -> Figures:
    """Run a part, and return its figures or why there are none."""
    if time.perf_counter() > deadline:
        return {"skipped": "no time left"}
    gc.collect()
    try:
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        return part()
    except Exception as error:
        return {"failure": f"{type(error).__name__}: {error}"}


def in_words(figures: Figures) -> str:
    """Format figures for a cell of a table."""
    return ", ".join(f"{name.replace('_', ' ')} {shown(x)}" for name, x in figures.items())


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return f"({in_words(value)})" if value else "none"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)


def main() -> None:
    arguments = parse()
    if arguments.load:
        load(arguments.load)
        return
    deadline = time.perf_counter() + 60 * arguments.minutes
    torch.manual_seed(0)
    machine = Machine(arguments)
    found: dict[str, Any] = {"machine": describe_machine(machine.device, machine.dtype)}
    print(f"{found['machine']}\n\n| part | figures |\n|---|---|")
    for name, part in parts(machine):
        found[name] = measured(part, deadline, machine.device)
        print(f"| {name} | {in_words(found[name])} |", flush=True)
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    missing = [name for name, x in found.items() if "failure" in x or "skipped" in x]
    if missing:
        sys.exit(f"Without figures: {', '.join(missing)}.")


if __name__ == "__main__":
    main()
