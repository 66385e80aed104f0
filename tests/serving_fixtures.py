"""A server of a tiny model in this process, and clients."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

from skxmc._serving.server import ModelServer

JSON = {"Content-Type": "application/json"}


@contextlib.contextmanager
def serving(clf: Any, host: str = "127.0.0.1") -> Iterator[ModelServer]:
    """Serve a model at a free port."""
    with contextlib.closing(ModelServer(clf, "tiny", host, 0)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(
    server: ModelServer, method: str, path: str, body: Any = None, headers: Any = JSON
) -> tuple[int, Any, Any]:
    """Send a request. Return status, headers and the answer, parsed if it is JSON."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, 30)) as client:
        return ask_again(client, method, path, body, headers)


def ask_again(
    client: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    headers: Any = JSON,
) -> tuple[int, Any, Any]:
    """Send a request over an open connection."""
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    client.request(method, path, body, headers)
    response = client.getresponse()
    content = response.read()
    is_json = response.headers["Content-Type"] == "application/json" and content
    return response.status, response.headers, json.loads(content) if is_json else content


def send_bytes(server: ModelServer, content: bytes, *, half_close: bool = True) -> bytes:
    """Send bytes as they are, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(content)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while part := client.recv(65536):
                received += part
        return received
