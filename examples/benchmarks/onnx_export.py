"""Time predictions of an ONNX export beside torch in fp32, bf16 and int8, all in one run.

python examples/benchmarks/onnx_export.py [--quick] [--cpu-time] [--labels 500000 ...]

The texts are synonyms of ICD-10-CM, one at a time and in batches, and tokenization counts. "Bare
encoder in ONNX" is the encoder alone, with the same tokenizer. The weights of the heads are random.
If OpenVINO is installed, it runs the same files, in bf16 too if the CPU has it.
Figures are medians of all rounds, in which all take turns, and ratios are of the same round.

The file is not called onnx.py, because a script of that name would hide the package.
"""

import argparse
import copy
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from _common import MINILM, describe_machine, random_classifier, random_network, spread
from torch import nn

from skxmc._model.encoder import load_encoder
from skxmc._model.tokens import tokenize
from skxmc._storage import onnx_export
from skxmc.datasets import load_icd10cm
from skxmc.serving import OnnxClassifier


class Bare(nn.Module):
    """The encoder alone, with the last state of [CLS]."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return states[:, 0], mask


class OpenVino:
    """A graph compiled by OpenVINO, with the interface of a session of onnxruntime."""

    def __init__(self, path: Path, n_threads: int, precision: str) -> None:
        import openvino

        config = {
            "INFERENCE_NUM_THREADS": n_threads,
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = openvino.Core().compile_model(path, "CPU", config)
        self.request = compiled.create_infer_request()

    def run(self, _: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return list(self.request.infer(inputs).values())


def openvino_precisions(dtype: str) -> list[str]:
    """Return the precisions in which OpenVINO runs a graph here, or none if it is missing."""
    if importlib.util.find_spec("openvino") is None:
        return []
    import openvino

    has_bf16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return ["f32", "bf16"] if dtype == "float32" and has_bf16 else ["f32"]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=int, default=14_400)
    parser.add_argument("--clusters", type=int, help="default: as many as labels, direct mode")
    parser.add_argument("--recalled", type=int, default=32)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--joined", type=int, default=1, help="synonyms per text, for longer texts")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--cpu-time", action="store_true", help="for a machine with other work")
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    if arguments.quick:
        arguments.rounds = 8
    torch.manual_seed(0)
    tokenizer, encoder = load_encoder(MINILM)
    cpu = torch.device("cpu")
    n_clusters = arguments.clusters or arguments.labels
    network = random_network(encoder, arguments.labels, n_clusters, arguments.dim, cpu)
    parts = load_icd10cm().X_test
    texts = [
        " ".join(parts[i : i + arguments.joined]) for i in range(0, len(parts), arguments.joined)
    ]
    lengths = tokenize(tokenizer, texts, arguments.tokens).lengths
    print(describe_machine(cpu, torch.float32))
    print(
        f"MiniLM, L = {arguments.labels:,}, C = {n_clusters:,}, d = {arguments.dim}, "
        f"texts of {np.median(lengths):.0f} tokens (median)"
    )
    with tempfile.TemporaryDirectory() as folder:
        ways = make_ways(arguments, network, tokenizer, Path(folder))
        for n_texts in (1, arguments.batch):
            clock = time.process_time if arguments.cpu_time else time.perf_counter
            report(ways, texts, n_texts, arguments.rounds, clock)


def make_ways(arguments, network, tokenizer, folder) -> dict[str, Callable[[list[str]], object]]:
    """Return functions that predict texts, by name. The first is the one to compare with."""
    models = {
        precision: random_classifier(
            copy.deepcopy(network),  # which keeps its weights converted to one precision
            tokenizer,
            arguments.tokens,
            precision=precision,
            prediction_batch_size=arguments.batch,
            n_candidate_clusters=arguments.recalled,
        )
        for precision in ("fp32", "bf16", "int8")
    }
    ways = {f"torch {name}": clf.predict_topk for name, clf in models.items()}
    threads = torch.get_num_threads()
    for dtype in onnx_export.DTYPES:
        models["fp32"].export_onnx(folder / dtype, dtype=dtype)
        served = OnnxClassifier(folder / dtype, n_threads=threads, batch_size=arguments.batch)
        ways[f"ONNX {dtype}"] = served.predict_topk
        for precision in openvino_precisions(dtype):
            other = copy.copy(served)
            other.session = OpenVino(folder / dtype / "model.onnx", threads, precision)
            ways[f"OpenVINO {dtype}, {precision}"] = other.predict_topk
    traced = tokenize(tokenizer, onnx_export.TRACED, arguments.tokens)
    onnx_export._trace(Bare(network.encoder).eval(), traced, folder / "bare.onnx")
    bare = OnnxClassifier(folder / "float32", n_threads=threads)
    bare.session = onnx_export.session(folder / "bare.onnx", threads)

    def encode(texts: list[str]) -> object:
        return bare.session.run(None, bare._inputs(bare._tokenizer.encode_batch(texts)))

    return {**ways, "bare encoder in ONNX": encode}


def report(ways, texts: list[str], n_texts: int, n_rounds: int, clock: Callable[[], float]) -> None:
    """Print a row per way: milliseconds, and the ratio to the first way."""
    times = np.empty((n_rounds + 2, len(ways)))
    for n, row in enumerate(times):  # the first two rounds warm up
        start = n * n_texts % (len(texts) - n_texts)
        given = texts[start : start + n_texts]
        for which in np.roll(np.arange(len(ways)), n):
            started = clock()
            list(ways.values())[which](given)
            row[which] = clock() - started
    times = times[2:]
    print(f"\n{n_texts} texts per call, {n_rounds} rounds\n")
    print("| what | ms per call | times as fast as torch fp32 |\n|---|---|---|")
    for name, column in zip(ways, times.T, strict=True):
        print(f"| {name} | {spread(column, scale=1000)} | {spread(times[:, 0] / column)} |")


if __name__ == "__main__":
    main()
