"""Measure `skxmc serve`: requests per second, latency, and answers to malformed requests.

python examples/benchmarks/serving.py MODEL_DIR [--clients 1 4 16] [--seconds 10] [--quick]

The server runs in its own process. A client is a thread with one open connection, which sends one
text per request, and the next one as soon as the answer is there. The texts are from ICD-10-CM.
"""

import argparse
import contextlib
import http.client
import json
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
from _common import cpu_name

from skxmc.datasets import load_icd10cm

JSON = {"Content-Type": "application/json"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--malformed", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="measure for 0.2 s, 50 malformed")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seconds, arguments.malformed = 0.2, 50
    texts = list(load_icd10cm(chapters=[10]).X_test)
    command = [sys.executable, "-m", "skxmc", "serve", arguments.model, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            line = server.stdout.readline()
            port = int(line.partition("127.0.0.1:")[2].split()[0])
            print(f"{cpu_name()}, {line.strip()}")
            print("clients | requests per second | p50 | p95")
            measure(port, texts, 1, arguments.seconds / 10)  # warm-up
            for n_clients in arguments.clients:
                times, seconds = measure(port, texts, n_clients, arguments.seconds)
                p50, p95 = 1000 * np.quantile(times, [0.5, 0.95])
                rate = len(times) / seconds
                print(f"{n_clients} | {rate:.0f} | {p50:.1f} ms | {p95:.1f} ms", flush=True)
            statuses = Counter(send(port, malformed) for malformed in fuzz(arguments.malformed))
            print(f"{arguments.malformed:,} malformed requests:", dict(sorted(statuses.items())))
            times, _ = measure(port, texts, 1, 0)
            print(f"a good request afterwards: answered in {1000 * times[0]:.1f} ms")
        finally:
            server.terminate()


def measure(
    port: int, texts: list[str], n_clients: int, seconds: float
) -> tuple[list[float], float]:
    """Let clients send texts, at least one each. Return the latencies and the whole time."""
    times: list[float] = []
    started = time.perf_counter()
    threads = [
        threading.Thread(target=client, args=(port, texts[i:], started + seconds, times))
        for i in range(n_clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times, time.perf_counter() - started


def client(port: int, texts: list[str], end: float, times: list[float]) -> None:
    """Send one text after the other until the end."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(1 << 30):
            body = json.dumps({"text": texts[i % len(texts)]}).encode()
            started = time.perf_counter()
            connection.request("POST", "/predict", body, JSON)
            response = connection.getresponse()
            answer = json.loads(response.read())
            now = time.perf_counter()
            if response.status != 200:
                raise RuntimeError(answer["error"])
            times.append(now - started)
            if now > end:
                return


def fuzz(n: int) -> list[bytes]:
    """Make malformed requests: wrong JSON, wrong fields, wrong heads, altered and random bytes."""
    rng = random.Random(0)
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    values = [-1, 0, 1e9, 10**9, "x", [], {}, [1], ["a", None], [["a"]], {"a": 1}]
    requests = []
    for number in range(n):
        kind = number % 5
        if kind == 0:  # JSON with wrong fields
            field = rng.choice(["texts", "k", "why", "other"])
            fields = {"text": "flu", field: rng.choice(values)}
            body = json.dumps(fields).encode()
        elif kind == 1:  # JSON that was cut
            whole = json.dumps({"texts": ["flu", "cough"], "k": 3}).encode()
            body = whole[: rng.randrange(len(whole))]
        elif kind == 2:  # random bytes as body
            body = rng.randbytes(rng.randrange(200))
        if kind < 3:
            requests.append(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        elif kind == 3:  # wrong heads
            wrong = ["-1", "1e3", "x", "99999999999", "1, 2", "0x10", "3\r\nContent-Length: 4"]
            line = rng.choice(
                [
                    *(f"Content-Length: {value}\r\n" for value in wrong),
                    "Transfer-Encoding: chunked\r\n",
                    f"Content-Length: 2\r\n{'a: b' * 20_000}\r\n",
                    "b: c\r\n" * 200,
                ]
            )
            requests.append(f"{head}{line}\r\n{{}}".encode())
        else:  # random bytes instead of a request
            requests.append(rng.randbytes(rng.randrange(1, 400)))
    return requests


def send(port: int, content: bytes) -> str:
    """Send bytes as they are, and return the status of the answer."""
    received = b""
    address = ("127.0.0.1", port)
    with socket.create_connection(address, 60) as connection, contextlib.suppress(OSError):
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        while part := connection.recv(65536):
            received += part
    if not received:
        return "closed"
    head, _, body = received.partition(b"\r\n\r\n")
    status = head.split()[1].decode()
    if status != "200" and "error" not in json.loads(body):
        return f"{status} without JSON"
    return status


if __name__ == "__main__":
    main()
