"""Batcher: what waits is predicted together, and errors are those of their own request."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import Full

import pytest

from skxmc._utils import batcher
from skxmc.serving import Batcher


class Held:
    """Predict upper case, record the calls, and wait for a signal in the first one."""

    def __init__(self):
        self.calls, self.go = [], threading.Event()

    def __call__(self, texts, *settings):
        self.calls.append((texts, settings))
        assert self.go.wait(30)
        if "bad" in texts:
            raise ValueError("no such text")
        return [text.upper() for text in texts]


@pytest.fixture
def held():
    model = Held()
    model.batcher = Batcher(model)
    yield model
    model.go.set()
    model.batcher.close()


@pytest.fixture
def ask(held):
    """Return a function that asks in a thread, after the earlier requests have arrived."""
    with ThreadPoolExecutor(16) as pool:

        def ask(texts, *settings):
            is_first, before = not held.calls, held.batcher._n_waiting
            answer = pool.submit(held.batcher, texts, *settings)
            while not (held.calls if is_first else held.batcher._n_waiting > before):
                assert not answer.done(), answer.exception()
                time.sleep(0.001)
            return answer

        yield ask
        held.go.set()


def test_batcher_predicts_waiting_texts_in_one_call(held, ask):
    answers = [ask(["a"], 5), ask(["b", "c"], 5), ask(["d"], 5)]
    held.go.set()
    assert [answer.result() for answer in answers] == [["A"], ["B", "C"], ["D"]]
    assert held.calls == [(["a"], (5,)), (["b", "c", "d"], (5,))]


def test_batcher_waits_for_more_after_a_call_for_several_requests(held, ask, monkeypatch):
    monkeypatch.setattr(batcher, "GATHER_SECONDS", 1.0)
    answers = [ask(["a"]), ask(["b"]), ask(["c"])]
    held.go.set()
    assert [answer.result() for answer in answers] == [["A"], ["B"], ["C"]]
    answers = [ask(["d"]), ask(["e"])]
    assert [answer.result() for answer in answers] == [["D"], ["E"]]
    assert [texts for texts, _ in held.calls] == [["a"], ["b", "c"], ["d", "e"]]


def test_batcher_predicts_other_settings_in_a_call_of_their_own(held, ask):
    answers = [ask(["a"], 5), ask(["b"], 5), ask(["c"], 3), ask(["d"], 5)]
    held.go.set()
    assert [answer.result() for answer in answers] == [["A"], ["B"], ["C"], ["D"]]
    assert held.calls[1:] == [(["b", "d"], (5,)), (["c"], (3,))]


def test_batcher_limits_the_texts_of_a_call(held, ask, monkeypatch):
    monkeypatch.setattr(batcher, "MAX_BATCH", 2)
    answers = [ask(["a"]), ask(["b", "c", "d"]), ask(["e"]), ask(["f"])]
    held.go.set()
    assert answers[1].result() == ["B", "C", "D"]
    assert [answers[2].result(), answers[3].result()] == [["E"], ["F"]]
    assert [texts for texts, _ in held.calls] == [["a"], ["b", "c", "d"], ["e", "f"]]


def test_batcher_fails_only_the_request_whose_text_fails(held, ask):
    answers = [ask(["a"]), ask(["b"]), ask(["bad"]), ask(["c"])]
    held.go.set()
    with pytest.raises(ValueError, match="no such text"):
        answers[2].result()
    assert [answers[i].result() for i in (0, 1, 3)] == [["A"], ["B"], ["C"]]


def test_batcher_refuses_what_exceeds_its_room(held, ask, monkeypatch):
    monkeypatch.setattr(batcher, "MAX_WAITING", 2)
    answers = [ask(["a"]), ask(["b", "c"])]
    with pytest.raises(Full):
        held.batcher(["d"])
    held.go.set()
    assert answers[1].result() == ["B", "C"]
    assert held.batcher(["d", "e", "f"]) == ["D", "E", "F"]  # nothing waits


def test_batcher_close_answers_what_waits_and_refuses_the_rest(held, ask):
    answers = [ask(["a"]), ask(["b"])]
    held.go.set()
    held.batcher.close()
    assert [answer.result(30) for answer in answers] == [["A"], ["B"]]
    with pytest.raises(Full):
        held.batcher(["c"])
