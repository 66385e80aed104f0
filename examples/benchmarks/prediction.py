"""Time predict_topk against the bare encoder, in batches and one text at a time.

python examples/benchmarks/prediction.py [--quick] [--device cuda ...]

"Bare" is the encoder alone, with its linear layers converted to the same precision beforehand. With
`--bare autocast`, autocast converts them at every call, as most users run it. The times of batches
exclude tokenization for both, and the times of single texts include it for both.
"""

import argparse
import copy

import numpy as np
import torch
from _common import (
    MINILM,
    describe_machine,
    random_classifier,
    random_network,
    random_texts,
    spread,
    time_in_turn,
)

from skxmc import LightXMLClassifier
from skxmc._inference.low_precision import serving_copy
from skxmc._model.device import autocast, resolve_device, resolve_precision
from skxmc._model.encoder import load_encoder
from skxmc._model.network import LightXMLNetwork
from skxmc.datasets import load_icd10cm


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bf16", help="bf16, fp16, fp32 or int8")
    parser.add_argument("--labels", type=int, default=500_000)
    parser.add_argument("--clusters", type=int, default=8192)
    parser.add_argument("--recalled", type=int, default=32)
    parser.add_argument("--dim", type=int, default=400)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--bare", choices=["converted", "autocast"], default="converted")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--single", type=int, default=400, help="texts to predict one at a time")
    parser.add_argument("--quick", action="store_true")
    return parser.parse_args()


class BareEncoder:
    """The encoder of a network alone, which returns the last [CLS] states on the host."""

    def __init__(
        self,
        network: LightXMLNetwork,
        dtype: torch.dtype,
        device: torch.device,
        kind: str = "converted",
    ) -> None:
        source = network if kind == "autocast" else serving_copy(network, dtype)
        self.encoder = copy.deepcopy(source.encoder)
        self.dtype = dtype
        self.device = device

    def __call__(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.inference_mode(), autocast(self.device, self.dtype):
            return self.encoder(**inputs).last_hidden_state[:, 0].float().cpu()


def main() -> None:
    arguments = parse()
    if arguments.quick:
        arguments.pairs, arguments.single = 5, 50
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    device = resolve_device(arguments.device)
    dtype = resolve_precision(arguments.precision, device)
    tokenizer, encoder = load_encoder(MINILM)
    network = random_network(
        encoder, arguments.labels, arguments.clusters, arguments.dim, device
    ).eval()
    clf = random_classifier(
        network,
        tokenizer,
        arguments.tokens,
        precision=arguments.precision,
        prediction_batch_size=arguments.batch,
        n_candidate_clusters=arguments.recalled,
    )
    predictor = clf._predictor()
    encode = BareEncoder(network, dtype, device, arguments.bare)
    print(describe_machine(device, dtype))
    print(f"MiniLM, L = {arguments.labels:,}, C = {arguments.clusters:,}, d = {arguments.dim}")
    print(f"bare encoder: {arguments.bare}")
    tokens = random_texts(arguments.batch, arguments.tokens, len(tokenizer), rng)
    batch = tokens.batch(np.arange(arguments.batch)).to(device)
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    times = time_in_turn(
        lambda: encode(inputs), lambda: predictor.top_k(tokens, 5), arguments.pairs, device
    )
    print(f"\nbatch {arguments.batch} x {arguments.tokens} tokens, {arguments.pairs} pairs")
    report(times, "throughput, fraction of the bare encoder's:", times[:, 0] / times[:, 1])

    texts = load_icd10cm().X_test
    for n_joined in (1, 16):  # short texts, and texts of maximum length
        joined = [" ".join(texts[i : i + n_joined]) for i in range(0, len(texts), n_joined)]
        lengths = [len(ids) for ids in tokenizer(joined, truncation=True)["input_ids"]]
        times = time_single_texts(clf, encode, joined, arguments.single)
        print(f"\none text at a time, including tokenization, {arguments.single} pairs")
        report(times, "latency relative to the bare encoder:", times[:, 1] / times[:, 0])
        print(f"texts of {np.median(np.minimum(lengths, arguments.tokens)):.0f} tokens (median)")


def time_single_texts(
    clf: LightXMLClassifier, encode: BareEncoder, texts: list[str], n_texts: int
) -> np.ndarray:
    """Measure the latency of single texts for both, (n_texts, 2) seconds."""
    tokenizer, device = clf.tokenizer_, encode.device
    texts_of_bare, texts_of_clf = iter(texts * 9), iter(texts * 9)

    def bare() -> None:
        text = next(texts_of_bare)
        inputs = tokenizer(text, truncation=True, max_length=clf.max_length, return_tensors="pt")
        encode({name: tensor.to(device) for name, tensor in inputs.items()})

    return time_in_turn(bare, lambda: clf.predict_topk([next(texts_of_clf)]), n_texts, device)


def report(times: np.ndarray, name: str, ratio: np.ndarray) -> None:
    print("bare encoder:", spread(times[:, 0], " ms", 1000))
    print("predict_topk:", spread(times[:, 1], " ms", 1000))
    print(name, spread(ratio))


if __name__ == "__main__":
    main()
