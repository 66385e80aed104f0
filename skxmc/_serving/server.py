"""The HTTP server: connections with deadlines and limits, and errors as JSON.

A thread per connection reads requests and writes answers. Only the batcher calls the model.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import json
import os
import socket
import socketserver
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Full
from typing import Any

from skxmc._base import TextRankerMixin
from skxmc._serving.annif import as_results, read_form
from skxmc._serving.answer import Answer, predict_plain
from skxmc._serving.request import Request, read_request
from skxmc._utils.batcher import Batcher
from skxmc._utils.quoting import MAX_ERROR, quoted, quoted_path, shortened

MAX_BODY = 1_000_000  # bytes
MAX_CONNECTIONS = 128
# A connection may be idle for so many seconds. A request must arrive, and an answer must be
# taken, within the others.
IDLE_SECONDS, REQUEST_SECONDS, ANSWER_SECONDS = 60.0, 10.0, 30.0
# After its last answer, the server reads what a client still sends for so many seconds at most.
# Closing at once would reset the connection before the client has read the answer.
LINGER_SECONDS = 1.0

PAGE = Path(__file__).with_name("page.html")
# The page needs nothing but itself, and no other page may show it in a frame.
PAGE_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
USAGE = "Use GET /, GET /health or POST /predict."


class RefusedRequest(Exception):
    """A request that gets an error as its answer."""

    def __init__(self, status: HTTPStatus, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers


class ModelServer(ThreadingHTTPServer):
    """HTTP server of one model. `serve_forever` answers, and `close` ends it.

    Parameters
    ----------
    clf : classifier
        Fitted classifier of skxmc.
    name : str
        Name of the model on the page.
    host : str, default="127.0.0.1"
        Address to listen at. Only a local one cannot be reached from other machines.
    port : int, default=8000
        Port, or 0 for any free one.

    Raises
    ------
    OSError
        If the server cannot listen there. The message says what to do.
    """

    daemon_threads = True
    request_queue_size = MAX_CONNECTIONS
    allow_reuse_address = os.name == "posix"  # elsewhere, two servers would share a port
    allow_reuse_port = False

    def __init__(
        self, clf: TextRankerMixin, name: str, host: str = "127.0.0.1", port: int = 8000
    ) -> None:
        self.n_labels = clf.n_labels_
        self.page = PAGE.read_bytes()
        self.health = {"status": "ok", "model": name, "labels": self.n_labels}
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        try:
            (self.address_family, *_, address), *_ = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            super().__init__((str(address[0]), port), ModelHandler)
        except (OSError, UnicodeError) as error:
            raise OSError(
                f"Cannot listen at {quoted(host)}, port {port}: "
                f"{getattr(error, 'strerror', None) or error}. Choose another --port, or "
                "--port 0 for a free one, and a --host of this machine."
            ) from error
        host, self.port = str(self.server_address[0]), int(self.server_address[1])
        self.is_local = is_local(host)
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{self.port}"
        self.predict = Batcher(partial(predict_plain, clf))

    def server_bind(self) -> None:
        """Bind without the search for the name of the host, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def close(self) -> None:
        """Stop listening, and wait for the call of the model that is under way."""
        self.server_close()
        self.predict.close()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, unless there are too many."""
        if self._slots.acquire(blocking=False):
            super().process_request(request, client_address)
            return
        body = _error("Too many connections are open. Try again later.")
        head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(body)}\r\n"
        head += "Content-Type: application/json\r\nRetry-After: 1\r\nConnection: close\r\n\r\n"
        with contextlib.suppress(OSError):
            request.settimeout(0)
            request.sendall(head.encode() + body)
        self.close_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer all requests of a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def shutdown_request(self, request: Any) -> None:
        """End a connection, and read what the client still sends."""
        deadline = time.monotonic() + LINGER_SECONDS
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_WR)
            while (seconds := deadline - time.monotonic()) > 0:
                request.settimeout(seconds)
                if not request.recv(65536):
                    break
        self.close_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing if a client went away."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)


class ModelHandler(BaseHTTPRequestHandler):
    """The requests of one connection."""

    server: ModelServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet

    # ------------------------------------------------------------------ connection

    def setup(self) -> None:
        """Read with deadlines, which a client cannot extend by sending a byte now and then."""
        super().setup()
        self.rfile.close()
        self._input = _SocketReader(self.connection)
        self.rfile = self._buffer = io.BufferedReader(self._input)

    def handle_one_request(self) -> None:
        """Wait for a request, and answer it."""
        self._input.deadline = time.monotonic() + IDLE_SECONDS
        self.close_connection = True  # if nothing comes
        with contextlib.suppress(OSError):
            if self._buffer.peek(1):
                self._input.deadline = time.monotonic() + REQUEST_SECONDS
                super().handle_one_request()

    def version_string(self) -> str:
        """Name the server, without versions."""
        return "skxmc"

    def handle_expect_100(self) -> bool:
        """Ask for a body that the client holds back."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def log_message(self, format: str, *args: Any) -> None:
        """Log no requests."""

    # ------------------------------------------------------------------ requests

    def answer(self) -> None:
        """Answer the request whose head was read."""
        try:
            self._check_head()
            allowed, answer = self._routes().get(self.path.partition("?")[0], (None, None))
            if allowed is None or answer is None:
                path = quoted_path(self.path)
                raise RefusedRequest(HTTPStatus.NOT_FOUND, f"There is no {path}. {USAGE}")
            if self.command not in allowed:
                message = f"{self.command} is not allowed here. {USAGE}"
                allow = ", ".join(allowed)
                raise RefusedRequest(HTTPStatus.METHOD_NOT_ALLOWED, message, Allow=allow)
            answer()
        except RefusedRequest as refused:
            self._send(refused.status, _error(str(refused)), **refused.headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = answer

    def _routes(self) -> dict[str, tuple[tuple[str, ...], Callable[[], None]]]:
        """Return methods and function of each path."""
        return {
            "/": (("GET", "HEAD"), self._answer_page),
            "/health": (("GET", "HEAD"), self._answer_health),
            "/predict": (("POST",), self._answer_predict),
            "/annif": (("GET", "HEAD"), self._answer_annif),
            "/annif/suggest": (("POST",), self._answer_suggest),
        }

    def _check_head(self) -> None:
        # Unless the body is read, what follows is no request.
        self._may_stay_open = not self.close_connection
        has_body = "Content-Length" in self.headers or "Transfer-Encoding" in self.headers
        if has_body or self.command == "POST":
            self.close_connection = True
        if self.request_version == "HTTP/0.9":
            self.request_version = "HTTP/1.0"
            message = "The request names no version of HTTP. Use HTTP/1.1."
            raise RefusedRequest(HTTPStatus.BAD_REQUEST, message)
        # A page of a stranger's name that leads to this machine (DNS rebinding) may not read here.
        if self.server.is_local and not is_local(name := self._host_name()):
            raise RefusedRequest(
                HTTPStatus.FORBIDDEN,
                f"The host of the request is {quoted(name)}. Use localhost or 127.0.0.1, or start "
                "the server with --host to allow others.",
            )

    def _host_name(self) -> str:
        """Return the name in the header Host, without the port."""
        host = self.headers.get("Host", "").strip().lower()
        if host.startswith("["):
            return host[1:].partition("]")[0]
        return host.partition(":")[0]

    def _answer_page(self) -> None:
        headers = {"Content-Security-Policy": PAGE_POLICY}
        self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8", **headers)

    def _answer_health(self) -> None:
        self._send(HTTPStatus.OK, _json(self.server.health))

    def _answer_predict(self) -> None:
        # A form of another origin can send no JSON, and its script has to ask before.
        answers = self._predict("application/json", read_request)
        self._send(HTTPStatus.OK, _json({"predictions": answers}))

    def _answer_annif(self) -> None:
        self._send(HTTPStatus.OK, _json({"is_trained": True}))

    def _answer_suggest(self) -> None:
        # Browsers say where a form comes from. Annif is no browser.
        if "Origin" in self.headers:
            message = "This path is for Annif, not for pages in a browser. Use POST /predict."
            raise RefusedRequest(HTTPStatus.FORBIDDEN, message)
        answers = self._predict("application/x-www-form-urlencoded", read_form)
        self._send(HTTPStatus.OK, _json(as_results(answers[0])))

    def _predict(self, content: str, read: Callable[[bytes, int], Request]) -> list[Answer]:
        """Read the body, which must be of a content type, and predict its texts."""
        if "Content-Type" not in self.headers or self.headers.get_content_type() != content:
            message = f"The content type is not {content}. Send such a body, with this header."
            raise RefusedRequest(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, message)
        body = self._read_body()
        try:
            request = read(body, self.server.n_labels)
        except ValueError as error:
            raise RefusedRequest(HTTPStatus.BAD_REQUEST, str(error)) from error
        try:
            return self.server.predict(request.texts, request.k, request.why)
        except Full:
            message = "Too many texts wait for the model. Try again later."
            headers = {"Retry-After": "1"}
            raise RefusedRequest(HTTPStatus.SERVICE_UNAVAILABLE, message, **headers) from None
        except Exception as error:
            traceback.print_exc()
            what = shortened(f"{type(error).__name__}: {error}", MAX_ERROR)
            message = f"The model failed with {what}. Look at the server's standard error."
            raise RefusedRequest(HTTPStatus.INTERNAL_SERVER_ERROR, message) from error

    def _read_body(self) -> bytes:
        lengths = self.headers.get_all("Content-Length", [])
        if not lengths or "Transfer-Encoding" in self.headers:
            message = "The length of the body is missing. Send Content-Length, and no chunks."
            raise RefusedRequest(HTTPStatus.LENGTH_REQUIRED, message)
        digits = lengths[0].strip()
        if len(lengths) > 1 or not (digits.isascii() and digits.isdecimal()):
            message = f"Content-Length is {quoted(', '.join(lengths))}. Send one whole number."
            raise RefusedRequest(HTTPStatus.BAD_REQUEST, message)
        if len(digits) > 12 or int(digits) > MAX_BODY:
            message = (
                f"The body is too large. Send at most {MAX_BODY:,} bytes, in several requests."
            )
            raise RefusedRequest(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
        try:
            body = self.rfile.read(int(digits))
        except TimeoutError:
            message = f"The body did not arrive in {REQUEST_SECONDS:g} s. Send it at once."
            raise RefusedRequest(HTTPStatus.REQUEST_TIMEOUT, message) from None
        if len(body) < int(digits):
            message = f"The body ends after {len(body)} of {digits} bytes. Send all of it."
            raise RefusedRequest(HTTPStatus.BAD_REQUEST, message)
        self.close_connection = not self._may_stay_open
        return body

    # ------------------------------------------------------------------ answers

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer a request whose head is malformed, too large or of an unknown method."""
        self.request_version = "HTTP/1.1"  # for a status line, even if the version was unreadable
        self.close_connection = True
        status = HTTPStatus(code)
        self._send(status, _error(f"{shortened(message or status.phrase, MAX_ERROR)}. {USAGE}"))

    def _send(
        self, status: HTTPStatus, body: bytes, content: str = "application/json", **headers: str
    ) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": content,
            "Content-Length": str(len(body)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **headers,
            **({"Connection": "close"} if self.close_connection else {}),
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.connection.settimeout(ANSWER_SECONDS)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()


class _SocketReader(io.RawIOBase):
    """Bytes of a socket until a deadline, after which reading raises TimeoutError."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.deadline = 0.0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        seconds = self.deadline - time.monotonic()
        if seconds <= 0:
            raise TimeoutError
        self._connection.settimeout(seconds)
        return self._connection.recv_into(buffer)


def is_local(host: str) -> bool:
    """Return whether the name or address of a host leads to the own machine, and no other."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    return host == "localhost"


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="replace")


def _error(message: str) -> bytes:
    return _json({"error": message})
