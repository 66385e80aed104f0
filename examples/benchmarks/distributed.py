"""Compare processes that work together with one process: time of a step, memory of the labels.

    python examples/benchmarks/distributed.py [--processes 2] [--labels 500000] [--quick]
    python examples/benchmarks/distributed.py --predict 2000 --tokens 32

Each process has one thread. One process and the group take steps in turn, on the same random
batches. The time of a step is that of the processor, of the process that needs most of it. On an
idle machine with a core per process, it is near the wall time, which is in brackets. The memory is
that of the label table, of the recall head and of their moments, in the process that has most.
With `--predict`, a step is a call of `predict_topk`, for which each process has all labels.
"""

import argparse
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection

import numpy as np
import torch
from _common import MINILM, cpu_name, load_shape, random_classifier, random_network
from memory import random_words
from training import Step

from skxmc._model.encoder import load_encoder
from skxmc._model.network import LightXMLNetwork
from skxmc._training.distributed import ManyProcesses, OneProcess
from skxmc._training.sharding import CUT

MODES = {"dynamic": 8192, "full-label": 0}  # number of clusters, 0: rank every label


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--labels", type=int, default=500_000)
    parser.add_argument("--dim", type=int, default=400, help="size of the label embeddings")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--predict", type=int, metavar="N", help="predict N texts, not train")
    parser.add_argument("--quick", action="store_true", help="few labels and steps")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.labels, arguments.dim, arguments.tokens, arguments.turns = 9000, 16, 16, 2
    arguments.encoder, arguments.device, arguments.label_moments = "minilm", "cpu", "auto"
    return arguments


def main() -> None:
    arguments = parse()
    size = arguments.processes
    print(
        f"{cpu_name()}; {arguments.predict or arguments.batch} x {arguments.tokens} tokens, "
        f"L = {arguments.labels:,}, d = {arguments.dim}"
    )
    print(f"mode | ms of one process, of each of {size} | ratio | MB of labels | ratio")
    print("---|---|---|---|---")
    for mode in arguments.modes:
        arguments.clusters = MODES[mode] and min(MODES[mode], arguments.labels // 4)
        for precision in arguments.precisions:
            arguments.precision = precision
            print(f"{mode}, {precision} | {measure(arguments)}", flush=True)


def measure(arguments: argparse.Namespace) -> str:
    """Take steps in turn, and return the cells of a row."""
    with ExitStack() as stack:
        teams = [stack.enter_context(team(arguments, n)) for n in (1, arguments.processes)]
        megabytes = [max(member.recv() for member in members) for members in teams]
        times = np.empty((arguments.turns + 1, 2, 2))  # turn, team, processor or wall
        for turn in range(arguments.turns + 1):
            for number, members in enumerate(teams):
                for member in members:
                    member.send(True)
                times[turn, number] = np.max([member.recv() for member in members], axis=0)
        for member in (*teams[0], *teams[1]):
            member.send(False)
    (one, wall), (each, wall_each) = 1e3 * np.median(times[1:], axis=0)  # the first is a warm-up
    whole, part = megabytes
    return (
        f"{one:.0f} ({wall:.0f}), {each:.0f} ({wall_each:.0f}) | {one / each:.2f} "
        f"({wall / wall_each:.2f}) | {whole:.1f}, {part:.1f} | {part / whole:.3f}"
    )


@contextmanager
def team(arguments: argparse.Namespace, size: int) -> Iterator[list[Connection]]:
    """Start processes that train together, and return connections to them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    connections, members = [], []
    for rank in range(size):
        connection, of_member = context.Pipe()
        given = (arguments, rank, size, port, of_member)
        member = context.Process(target=work, args=given, daemon=True)
        member.start()
        of_member.close()  # so that a member that fails ends the waiting for it
        connections.append(connection)
        members.append(member)
    yield connections
    for member in members:
        member.join()


def work(
    arguments: argparse.Namespace, rank: int, size: int, port: int, connection: Connection
) -> None:
    """Send the megabytes of the labels, and then the time of each step."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    processes = OneProcess()
    if size > 1:
        address = f"tcp://127.0.0.1:{port}"
        torch.distributed.init_process_group(
            "gloo", init_method=address, rank=rank, world_size=size
        )
        processes = ManyProcesses(torch.device("cpu"))
    begin = begin_prediction if arguments.predict else begin_training
    step, megabytes = begin(arguments, processes)
    connection.send(megabytes)
    while connection.recv():
        started = np.array([time.process_time(), time.perf_counter()])
        step()
        connection.send(np.array([time.process_time(), time.perf_counter()]) - started)


def begin_training(
    arguments: argparse.Namespace, processes: OneProcess
) -> tuple[Callable[[], object], float]:
    """Return what takes a training step, and the megabytes of the labels."""
    step = Step(arguments, load_shape(arguments.encoder), arguments.labels, processes=processes)
    step()
    return step, label_megabytes(step.trainer.network, step.trainer.optimizers)


def begin_prediction(
    arguments: argparse.Namespace, processes: OneProcess
) -> tuple[Callable[[], object], float]:
    """Return what predicts the texts, and the megabytes of the labels."""
    encoder, n_clusters = load_encoder(MINILM), arguments.clusters or arguments.labels
    network = random_network(
        encoder.model, arguments.labels, n_clusters, arguments.dim, torch.device("cpu")
    )
    clf = random_classifier(
        network, encoder.tokenizer, arguments.tokens, precision=arguments.precision
    )
    texts = random_words(arguments.predict, np.random.default_rng(0))
    return lambda: clf.predict_topk(texts, k=5), label_megabytes(network)


def label_megabytes(
    network: LightXMLNetwork, optimizers: Sequence[torch.optim.Optimizer] = ()
) -> float:
    """Measure the weights per label and per cluster, and their moments."""
    weights = [w for name, w in network.named_parameters() if name.startswith(CUT)]
    states = [o.state[w] for o in optimizers for w in weights if w in o.state]
    moments = [m for state in states for m in state.values() if isinstance(m, torch.Tensor)]
    return sum(tensor.nbytes for tensor in (*weights, *moments)) / 1e6


if __name__ == "__main__":
    main()
