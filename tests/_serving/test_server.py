"""The HTTP server of a model: its answers, its errors, and clients that misbehave."""

import contextlib
import copy
import http.client
import json
import random
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from classifier_fixtures import dataset, fitted
from scipy import sparse
from serving_fixtures import JSON, ask, ask_again, send_bytes, serving
from sklearn.frozen import FrozenEstimator

from skxmc import LightXMLClassifier, LightXMLEnsemble, NeighborsClassifier, PropensityRanker
from skxmc._serving import server as server_module
from skxmc._serving.server import ModelServer
from skxmc._utils import batcher

TEXTS = dataset()[0][:8]
HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def server():
    with serving(fitted()) as started:
        yield started


def expected(clf, texts, k):
    """Return the answer that agrees with `predict_topk`."""
    top = clf.predict_topk(texts, k)
    return [
        [
            {"label": label, "score": float(f"{score:.7g}")}
            for label, score in zip(*row, strict=True)
        ]
        for row in zip(top.labels.tolist(), top.scores.tolist(), strict=True)
    ]


# ---------------------------------------------------------------------- answers


def test_page_needs_nothing_but_itself(server):
    status, headers, page = ask(server, "GET", "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert re.findall(rb"(?:src|href|url|@import)\s*[=(]?\s*[\"']([^\"']*)", page) == [b"data:,"]
    assert b"http" not in page


def test_health_describes_the_model(server):
    answer = {"status": "ok", "model": "tiny", "labels": 30}
    status, headers, found = ask(server, "GET", "/health?now")
    assert (status, found) == (200, answer)
    assert headers["Server"] == "skxmc"
    assert not [name for name in headers if name.lower().startswith("access-control")]
    head = send_bytes(server, b"HEAD /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert b"\r\nContent-Length: %d\r\n" % len(json.dumps(answer)) in head
    assert head.endswith(b"\r\n\r\n")


def test_predict_agrees_with_predict_topk(server):
    status, _, found = ask(server, "POST", "/predict", {"texts": TEXTS, "k": 3})
    assert (status, found) == (200, {"predictions": expected(fitted(), TEXTS, 3)})
    assert type(found["predictions"][0][0]["label"]) is int


@pytest.mark.parametrize("text", ["", "naïve \ud800 \0 text", "bife " * 10_000])
def test_predict_one_text_defaults_to_5_labels(text, server):
    body = json.dumps({"text": text, "k": None}).encode()
    status, _, found = ask(server, "POST", "/predict", body)
    assert (status, found) == (200, {"predictions": expected(fitted(), [text], 5)})


def test_predict_why_of_classifier_is_words_and_similar_labels(server):
    found = ask(server, "POST", "/predict", {"text": TEXTS[0], "why": True})[2]["predictions"][0]
    explained = fitted().explain_topk(TEXTS[0]).labels
    assert [label["label"] for label in found] == [label.label for label in explained]
    assert [label["score"] for label in found] == pytest.approx([e.score for e in explained])
    for label, explanation in zip(found, explained, strict=True):
        similar = [(near["label"], near["score"]) for near in label["why"]["similar_labels"]]
        near = [(near.label, pytest.approx(near.score)) for near in explanation.neighbors]
        assert similar == near
        assert near
        effects = [(word["word"], word["effect"]) for word in label["why"]["words"]]
        assert effects == [(w.word, pytest.approx(w.effect)) for w in explanation.words]
        assert effects
        assert set(label["why"]) == {"words", "similar_labels"}


def test_predict_why_of_ensemble_is_the_score_by_each_member():
    members = {"one": fitted("direct"), "two": fitted()}
    clf = LightXMLEnsemble.from_fitted([*members.items(), ("gone", "drop")], n_candidates=20)
    with serving(clf) as server:
        body = {"texts": TEXTS, "k": 25, "why": True}
        found = ask(server, "POST", "/predict", body)[2]["predictions"]
    for row, labels in enumerate(found):
        scores = {
            name: member.decision_function(TEXTS, top_k=25).toarray()[row]
            for name, member in members.items()
        }
        for label in labels:
            by_member = label["why"]["members"]
            column = label["label"]
            assert by_member == {n: pytest.approx(s[column], rel=1e-5) for n, s in scores.items()}
            assert label["score"] == pytest.approx(sum(by_member.values()) / 2, rel=1e-5)


def test_predict_why_of_neighbors_is_similar_texts_with_the_label():
    texts, y = dataset()
    clf = NeighborsClassifier(FrozenEstimator(fitted("direct")), keep_texts=True)
    clf = PropensityRanker(clf).fit([*texts, *texts], sparse.vstack([y, y]))
    body = {"texts": [texts[3], "bbb"], "k": 30, "why": True}
    with serving(clf) as server:
        familiar, strange = ask(server, "POST", "/predict", body)[2]["predictions"]
    explanation = clf.explain_topk(texts[3], 30)
    for label, explained in zip(familiar, explanation.labels, strict=True):
        near = [near.text for near in explanation.neighbors if explained.label in near.labels]
        similar = label["why"].get("similar_texts", [])
        assert [found["text"] for found in similar] == near
    assert familiar[0]["why"]["similar_texts"][0]["similarity"] == pytest.approx(1, abs=1e-5)
    assert all(label["why"]["text_is_unfamiliar"] is False for label in familiar)
    assert all(label["why"]["text_is_unfamiliar"] is True for label in strange)


# ---------------------------------------------------------------------- errors

PREDICT = ("POST", "/predict")
EXAMPLE = 'Send {"texts": ["one text"], "k": 5}.'


@pytest.mark.parametrize(
    ("request_line", "body", "headers", "status", "words"),
    [
        (("GET", "/nope"), None, {}, 404, "There is no '/nope'. Use GET /, GET /health or POST"),
        (("GET", "/predict"), None, {}, 405, "GET is not allowed here. Use GET /, GET /health"),
        (("POST", "/"), {}, JSON, 405, "POST is not allowed here. Use GET"),
        (("OPTIONS", "/predict"), None, {}, 405, "OPTIONS is not allowed here. Use GET"),
        (("BREW", "/"), None, {}, 501, "Unsupported method ('BREW'). Use GET /"),
        (PREDICT, {}, {}, 415, "The content type is not application/json. Send such a body, with"),
        (PREDICT, {}, {"Content-Type": "text/plain"}, 415, "The content type is not application"),
        (PREDICT, b"{", JSON, 400, "The body is not JSON: Expecting property name"),
        (PREDICT, b"", JSON, 400, "The body is not JSON: Expecting value"),
        (PREDICT, b"\xff\xfe\xff", JSON, 400, "The body is not JSON: "),
        (PREDICT, b"[" * 100_000, JSON, 400, "The body is not JSON: maximum recursion"),
        (PREDICT, b'{"k": ' + b"9" * 5000 + b"}", JSON, 400, "The body is not JSON: Exceeds"),
        (PREDICT, ["text"], JSON, 400, f"The body is ['text'], which is no JSON object. {EXAMPLE}"),
        (PREDICT, {}, JSON, 400, f'The body needs either "text" or "texts". {EXAMPLE}'),
        (PREDICT, {"text": "", "texts": [""]}, JSON, 400, 'The body needs either "text" or'),
        (PREDICT, {"K": 5, "top": 1}, JSON, 400, "unknown keys: 'K', 'top'. Use only text, texts"),
        (PREDICT, {"texts": []}, JSON, 400, "texts is []. Send a list of at least one text."),
        (PREDICT, {"texts": "one"}, JSON, 400, "texts is 'one'. Send a list of at least one text."),
        (PREDICT, {"texts": ["one", 2]}, JSON, 400, "2 is not a text. Send strings."),
        (PREDICT, {"text": None}, JSON, 400, "None is not a text. Send strings."),
        (PREDICT, {"texts": [""] * 257}, JSON, 400, "There are 257 texts, but a request may have"),
        (PREDICT, {"text": "", "k": 0}, JSON, 400, "k is 0, but must be a whole number from 1."),
        (PREDICT, {"text": "", "k": 2.0}, JSON, 400, "k is 2.0, but must be a whole number"),
        (PREDICT, {"text": "", "k": True}, JSON, 400, "k is True, but must be a whole number"),
        (PREDICT, {"text": "", "k": 31}, JSON, 400, "k is 31, but there are only 30 labels. Lower"),
        (PREDICT, {"text": "", "why": 1}, JSON, 400, "why is 1. Send true or false."),
        (PREDICT, {"texts": [""] * 17, "why": True}, JSON, 400, "17 texts, but at most 16 are"),
        (("GET", "/"), None, {"Host": "evil.example:80"}, 403, "The host of the request is 'evil."),
        (("GET", "/"), None, {"Host": ""}, 403, "The host of the request is ''. Use localhost or"),
    ],
)
def test_wrong_request_is_answered_by_what_to_do(
    request_line, body, headers, status, words, server
):
    found, answered, answer = ask(server, *request_line, body, headers)
    assert (found, answered["Content-Type"]) == (status, "application/json")
    assert words in answer["error"]
    assert answer["error"].endswith(".")


def test_k_above_limit_is_refused(server, monkeypatch):
    monkeypatch.setattr("skxmc._serving.request.MAX_K", 10)
    answer = ask(server, *PREDICT, {"text": "", "k": 11})[2]
    assert answer == {"error": "k is 11, but at most 10 labels are sent. Lower k."}


@pytest.mark.parametrize(("path", "allowed"), [("/", "GET, HEAD"), ("/predict", "POST")])
def test_wrong_method_is_told_the_right_ones(path, allowed, server):
    assert ask(server, "DELETE", path)[1]["Allow"] == allowed


@pytest.mark.parametrize(
    ("content", "status", "words"),
    [
        (HEAD + b"\r\n{}", 411, "The length of the body is missing. Send Content-Length, and no"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411, "The length of the body is"),
        (HEAD + b"Content-Length: two\r\n\r\n{}", 400, "Content-Length is 'two'. Send one whole"),
        (HEAD + b"Content-Length: -2\r\n\r\n{}", 400, "Content-Length is '-2'. Send one whole"),
        (HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400, "is '2, 3'. Send one"),
        (HEAD + b"Content-Length: 9\r\n\r\n{}", 400, "The body ends after 2 of 9 bytes. Send all"),
        (HEAD + b"Content-Length: 1000001\r\n\r\n{}", 413, "Send at most 1,000,000 bytes, in"),
        (HEAD + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{}", 413, "The body is too large."),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", 403, "The host of the request is ''."),
        (b"GET /\r\n\r\n", 400, "The request names no version of HTTP. Use HTTP/1.1."),
        (b"GET / HTTP/2.0\r\n\r\n", 505, "Invalid HTTP version (2.0). Use GET /,"),
        (b"GET / FTP/1.1\r\n\r\n", 400, "Bad request version ('FTP/1.1'). Use GET /,"),
        (b"\x16\x03\x01\x02\r\n\r\n", 400, "Bad request syntax ("),
        (b"GET /" + b"a" * 70_000, 414, "Request-URI Too Long. Use GET /,"),
        (b"GET / HTTP/1.1\r\na: " + b"a" * 70_000, 431, "Line too long. Use GET /,"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431, "Too many headers. Use GET /,"),
    ],
)
def test_malformed_bytes_are_answered_by_what_to_do(content, status, words, server):
    head, _, body = send_bytes(server, content).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close" in head
    assert words in json.loads(body)["error"]


def test_large_body_is_refused_though_the_client_sends_all_of_it(server):
    assert ask(server, *PREDICT, b" " * 20_000_000)[0] == 413


def test_altered_requests_are_answered_and_the_server_goes_on(server):
    rng = random.Random(0)
    good = HEAD + b'Content-Length: 26\r\n\r\n{"texts": ["bife"], "k": 2}'
    for _ in range(100):
        content = bytearray(good)
        for _ in range(rng.randrange(1, 30)):
            place = rng.randrange(len(content))
            content[place : place + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        answer = send_bytes(server, bytes(content))
        assert answer == b"" or re.match(rb"HTTP/1\.1 [245]\d\d ", answer)
    assert ask(server, *PREDICT, {"text": "bife"})[0] == 200


# ---------------------------------------------------------------------- connections


def test_connection_stays_open_for_more_requests_after_an_error(server):
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port, 30)) as client:
        assert ask_again(client, *PREDICT, {"text": "", "k": 0})[0] == 400
        connection = client.sock
        assert ask_again(client, *PREDICT, {"text": ""})[0] == 200
        assert ask_again(client, "GET", "/health")[0] == 200
        assert client.sock is connection is not None
        assert ask_again(client, "GET", "/health", {})[0] == 200  # its body was not read
        assert client.sock is None
        assert ask_again(client, *PREDICT, {"text": ""}, {**JSON, "Connection": "close"})[0] == 200
        assert client.sock is None


def test_client_that_expects_100_is_asked_for_the_body(server):
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 100 Continue\r\n")
        client.sendall(b"{}")
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("drips", [False, True])
def test_body_that_does_not_arrive_in_time_is_refused(drips, server, monkeypatch):
    monkeypatch.setattr(server_module, "REQUEST_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", server.port), 30) as client:
        client.sendall(HEAD + b"Content-Length: 900\r\n\r\n")
        started = time.monotonic()
        while drips and time.monotonic() - started < 0.2:
            client.sendall(b" ")
            time.sleep(0.05)
        answer = client.recv(65536)
        assert time.monotonic() - started < 10
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"The body did not arrive in 0.3 s. Send it at once." in answer


def test_idle_connection_is_closed(server, monkeypatch):
    monkeypatch.setattr(server_module, "IDLE_SECONDS", 0.1)
    assert send_bytes(server, b"", half_close=False) == b""


def test_connections_beyond_the_limit_are_refused(monkeypatch):
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 1)
    with serving(fitted()) as server:
        with socket.create_connection(("127.0.0.1", server.port)):
            status, headers, answer = ask(server, "GET", "/health")
            assert (status, headers["Retry-After"]) == (503, "1")
            assert answer == {"error": "Too many connections are open. Try again later."}
        deadline = time.monotonic() + 30
        while ask(server, "GET", "/health")[0] != 200:
            assert time.monotonic() < deadline


# ---------------------------------------------------------------------- model


class HeldClassifier(LightXMLClassifier):
    """Record the texts of each call, wait for a signal, and fail if a text says so."""

    def _top_k(self, texts, k):
        self.calls.append(texts)
        assert self.go.wait(30)
        if "fail" in texts:
            raise RuntimeError("out of luck")
        return super()._top_k(texts, k)


@pytest.fixture
def held():
    clf = copy.copy(fitted())
    clf.__class__ = HeldClassifier
    clf.calls, clf.go = [], threading.Event()
    yield clf
    clf.go.set()


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_requests_that_wait_are_predicted_in_one_call(held):
    with serving(held) as server, ThreadPoolExecutor(8) as pool:
        first = pool.submit(ask, server, *PREDICT, {"text": TEXTS[0]})
        wait_until(lambda: held.calls)
        others = [pool.submit(ask, server, *PREDICT, {"text": text}) for text in TEXTS[1:]]
        wait_until(lambda: server.predict._n_waiting == len(TEXTS) - 1)
        held.go.set()
        answers = [answer.result()[2]["predictions"][0] for answer in (first, *others)]
    assert [len(texts) for texts in held.calls] == [1, len(TEXTS) - 1]
    for answer, alone in zip(answers, expected(fitted(), TEXTS, 5), strict=True):
        assert [found["label"] for found in answer] == [found["label"] for found in alone]
        scores = [found["score"] for found in alone]
        assert [found["score"] for found in answer] == pytest.approx(scores, rel=1e-4)


def test_request_that_finds_no_room_may_try_again(held, monkeypatch):
    monkeypatch.setattr(batcher, "MAX_WAITING", 1)
    with serving(held) as server, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(ask, server, *PREDICT, {"text": "one"})]
        wait_until(lambda: held.calls)
        waiting.append(pool.submit(ask, server, *PREDICT, {"text": "two"}))
        wait_until(lambda: server.predict._n_waiting)
        status, headers, answer = ask(server, *PREDICT, {"text": "three"})
        assert (status, headers["Retry-After"]) == (503, "1")
        assert answer == {"error": "Too many texts wait for the model. Try again later."}
        held.go.set()
        assert [answer.result()[0] for answer in waiting] == [200, 200]


def test_failure_of_the_model_is_told_and_logged(held, capsys):
    held.go.set()
    with serving(held) as server:
        status, _, answer = ask(server, *PREDICT, {"text": "fail"})
        assert ask(server, *PREDICT, {"text": "works"})[0] == 200
    assert status == 500
    assert answer == {
        "error": "The model failed with RuntimeError: out of luck. Look at the server's standard "
        "error."
    }
    assert 'raise RuntimeError("out of luck")' in capsys.readouterr().err


def test_client_that_goes_away_leaves_no_trace(held, capsys):
    with serving(held) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(HEAD + b'Content-Length: 15\r\n\r\n{"text": "bye"}')
            wait_until(lambda: held.calls)
            # Closing with a reset instead of an end
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        held.go.set()
        assert ask(server, *PREDICT, {"text": "works"})[0] == 200
    assert capsys.readouterr().err == ""


# ---------------------------------------------------------------------- addresses


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1:9000", "[::1]:1"])
def test_local_server_answers_to_local_names(host, server):
    assert ask(server, "GET", "/health", None, {"Host": host})[0] == 200


def test_public_server_answers_to_any_name():
    with serving(fitted(), "0.0.0.0") as server:
        assert not server.is_local
        assert ask(server, "GET", "/health", None, {"Host": "example.org"})[0] == 200


def test_address_in_use_says_to_choose_another(server):
    words = rf"Cannot listen at '127.0.0.1', port {server.port}: .*\. Choose another --port, or --p"
    with pytest.raises(OSError, match=words):
        ModelServer(fitted(), "second", "127.0.0.1", server.port)


def test_host_of_another_machine_says_to_choose_one_of_this_machine():
    with pytest.raises(OSError, match=r"Cannot listen at '192.0.2.1', port 0: .* --host of this"):
        ModelServer(fitted(), "tiny", "192.0.2.1", 0)
