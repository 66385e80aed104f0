"""Predictions that processes share. Boards of one process stand in for those of several."""

import copy
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
import torch.distributed as dist
from classifier_fixtures import MODES, dataset, fitted

from skxmc._inference import sharing
from skxmc._inference.extractor import FeatureExtractor
from skxmc._inference.sharing import Board
from skxmc._utils.encode_once import encode_once

X, _ = dataset()
N_BLOCKS = 5

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="needs torch.distributed")


@pytest.fixture
def store():
    return dist.HashStore()


def make_board(store, computed, before=lambda block: None):
    """Make a board that notes in `computed` which blocks it computes and reads."""

    def compute(block):
        before(block)
        computed.append(block)
        return np.array(f"block {block}")

    return Board(store, "key", N_BLOCKS, compute, lambda block: computed.append(f"read {block}"))


EXPECTED = [f"block {block}" for block in range(N_BLOCKS)]


def test_board_of_one_process_computes_all_and_stores_no_results(store):
    computed, n_published = [], []
    board = make_board(store, computed, lambda _: n_published.append(store.num_keys()))
    assert board.fill(1, 2) == EXPECTED
    assert computed == [1, 3, 0, 2, 4]  # its own first
    assert n_published == [3, 4, 5, 6, 7]  # number, members and claims
    assert store.num_keys() == 2


def test_board_of_two_processes_computes_each_block_once(store, monkeypatch):
    monkeypatch.setattr(sharing, "PIECE_BYTES", 8)
    one, other, found = [], [], []
    done = threading.Event()

    def wait_for_others(block):
        if block == 0:
            thread.start()
            assert done.wait(60)

    def note(block):
        if len(other) == N_BLOCKS - 2:
            done.set()

    peer = make_board(store, other, note)
    thread = threading.Thread(target=lambda: found.append(peer.fill(1, 2)))
    assert make_board(store, one, wait_for_others).fill(0, 2) == EXPECTED
    thread.join(60)
    assert found == [EXPECTED]
    blocks = [block for block in one + other if isinstance(block, int)]
    assert sorted(blocks) == list(range(N_BLOCKS))
    assert {"read 1", "read 3"} <= set(one)
    assert "read 0" in other
    assert store.num_keys() == 2  # the results are gone


@pytest.mark.parametrize(
    "rows",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3),
        (np.array([[4, 2]]), np.array([[0.5, 0.25]], dtype=np.float32)),
        sp.csr_matrix(np.array([[0, 0.5, 0], [0, 0, 0]], dtype=np.float32)),
    ],
)
def test_packed_rows_are_unpacked_as_they_were(rows):
    found = sharing._unpacked(sharing._packed(rows))
    assert type(found) is type(rows)
    if sp.issparse(rows):
        assert found.shape == rows.shape
        found, rows = found.toarray(), rows.toarray()
    pairs = [(found, rows)] if isinstance(rows, np.ndarray) else zip(found, rows, strict=True)
    for ours, theirs in pairs:
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_board_is_new_at_its_next_use(store):
    for _ in range(2):
        computed = []
        make_board(store, computed).fill(0, 2)
        assert sorted(computed) == list(range(N_BLOCKS))


def test_board_computes_blocks_of_process_that_left_without_waiting(store, monkeypatch):
    one, other, waits = [], [], []
    monkeypatch.setattr(sharing.time, "sleep", waits.append)

    def fail(block):
        raise ValueError(block)

    def fail_in_other(block):
        if block == 0:
            with pytest.raises(ValueError, match="1"):
                make_board(store, other, fail).fill(1, 2)

    assert make_board(store, one, fail_in_other).fill(0, 2) == EXPECTED
    assert one == [0, 2, 4, 3, 1]
    assert len(waits) == 1


def test_board_computes_blocks_of_process_that_does_not_answer(store, monkeypatch):
    monkeypatch.setattr(sharing, "PATIENCE", 0.05)
    dead = make_board(store, [])
    dead._join()
    dead.store.add("1/claims", 1)
    computed = []
    assert make_board(store, computed).fill(0, 2) == EXPECTED
    assert computed == [0, 2, 4, 3, 1]


def test_board_waits_longer_for_blocks_that_take_longer(store, monkeypatch):
    times = iter([0.0, 20.0, 20.0, 21.0])
    monkeypatch.setattr(sharing.time, "perf_counter", lambda: next(times))
    board = make_board(store, [])
    board._compute(0)
    board._compute(1)
    assert board.patience == 60.0


def test_board_without_store_computes_what_is_left(store, monkeypatch):
    computed = []
    board = make_board(store, computed)

    def fail():
        raise dist.DistNetworkError("The connection is closed.")

    board._wait = fail
    make_board(store, [])._join()
    store.add("skxmc/key/0/3/claims", 1)
    assert board.fill(0, 2) == EXPECTED
    assert computed == [0, 2, 4, 1, 3]


def test_board_joins_next_use_if_last_process_leaves_meanwhile(store, monkeypatch):
    board, last = make_board(store, []), make_board(store, [])
    last._join()
    prefix_store = dist.PrefixStore

    def leave_first(*args):
        monkeypatch.undo()
        last._leave()
        return prefix_store(*args)

    monkeypatch.setattr(dist, "PrefixStore", leave_first)
    board._join()
    assert store.get("skxmc/key/0/members") == b"0"
    assert store.get("skxmc/key/1/members") == b"1"


def test_board_is_not_cleared_if_a_process_joins_meanwhile(store):
    last = make_board(store, [])
    last._join()
    last.store.set("0", "1")
    uses = last.uses

    def join_first(*args):
        uses.add("0/members", 1)
        return uses.add(*args)

    last.uses = SimpleNamespace(add=join_first)
    last._leave()
    assert store.check(["skxmc/key/0/0"])


# ---------------------------------------------------------------- methods


@pytest.fixture
def tokenized(store, monkeypatch):
    """Let this process be one of two that have `store`. Return the texts that it tokenizes."""
    texts = []
    tokenize = FeatureExtractor._tokenize

    def note(extractor, part):
        texts.extend(part)
        return tokenize(extractor, part)

    monkeypatch.setattr(FeatureExtractor, "_tokenize", note)
    monkeypatch.setattr(sharing, "store_of_group", lambda: store)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    return texts


def results_of(clf):
    """Return the results of all shared methods as arrays."""
    top, scores = clf.predict_topk(X, 3), clf.decision_function(X)
    assert scores.format == "csr"
    return top.labels, top.scores, scores.toarray(), clf.encode(X), clf.transform(X)


@pytest.mark.parametrize("mode", MODES)
def test_shared_methods_give_results_of_one_process(mode, tokenized, monkeypatch):
    clf = copy.copy(fitted(mode)).set_params(prediction_batch_size=4)
    shared = results_of(clf)
    assert len(tokenized) == 4 * len(X)
    monkeypatch.setattr(sharing, "store_of_group", lambda: None)
    for found, expected in zip(shared, results_of(clf), strict=True):
        assert found.dtype == expected.dtype
        if expected.dtype == np.float32:
            np.testing.assert_allclose(found, expected, atol=1e-5)
        else:
            np.testing.assert_array_equal(found, expected)


@pytest.fixture
def other_process(monkeypatch):
    """Let another process make the same call while this one computes its first block."""
    compute = Board._compute

    def start(call):
        found = []

        def compute_after_other(board, block):
            monkeypatch.setattr(Board, "_compute", compute)
            found.append(call())
            compute(board, block)

        monkeypatch.setattr(Board, "_compute", compute_after_other)
        return found

    monkeypatch.setattr(sharing, "PATIENCE", 0.0)  # it cannot wait for this one
    return start


def test_shared_features_are_read_from_other_process_with_progress(tokenized, other_process):
    predictor = copy.copy(fitted()).set_params(prediction_batch_size=4)._predictor()
    progress = [], []
    found = other_process(lambda: predictor.features(X, progress=progress[1].append))
    own = predictor.features(X, progress=progress[0].append)
    assert len(tokenized) == len(X) + 4  # the first block is computed by both
    np.testing.assert_array_equal(own, found[0])
    assert [sum(n) for n in progress] == [len(X), len(X)]


def changed_weight(clf):
    with torch.no_grad():
        clf.network_.label_table.weight[1, 0] += 1e-3
    return clf


DIFFERENT = {
    "texts": (lambda clf: clf, lambda clf: clf.predict_topk([*X[:-1], "other"], 3)),
    "number of labels": (lambda clf: clf, lambda clf: clf.predict_topk(X, 4)),
    "method": (lambda clf: clf, lambda clf: clf.decision_function(X, top_k=3)),
    "minimum score": (lambda clf: clf, lambda clf: clf.predict(X)),
    "weight": (changed_weight, lambda clf: clf.predict_topk(X, 3)),
    "candidates": (
        lambda clf: clf.set_params(n_candidate_clusters=2),
        lambda clf: clf.predict_topk(X, 3),
    ),
    "length": (lambda clf: clf.set_params(max_length=9), lambda clf: clf.predict_topk(X, 3)),
    "precision": (
        lambda clf: clf.set_params(precision="bf16"),
        lambda clf: clf.predict_topk(X, 3),
    ),
}


@pytest.mark.parametrize("what", DIFFERENT)
def test_other_call_in_other_process_is_not_read(what, tokenized, other_process):
    change, call = DIFFERENT[what]
    clf = copy.copy(fitted()).set_params(prediction_batch_size=4)
    other = change(copy.deepcopy(clf))
    other_process(lambda: call(other))
    clf.predict_topk(X, 3)
    assert len(tokenized) == 2 * len(X)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("is_changed", [False, True])
def test_digest_tells_weights_of_an_encoder_apart(is_changed, precision):
    clf = copy.deepcopy(fitted()).set_params(precision=precision)
    other = copy.deepcopy(clf)
    with torch.no_grad():
        weight = other.network_.encoder.encoder.layer[0].output.dense.weight
        weight[0, 0] += 10.0 * is_changed
    digests = {sharing._digest(each._predictor(), X, "") for each in (clf, other)}
    assert len(digests) == 1 + is_changed


def test_digest_tells_texts_apart_by_their_ends():
    predictor = fitted()._predictor()
    digests = {sharing._digest(predictor, texts, "") for texts in (["ab", "c"], ["a", "bc"])}
    assert len(digests) == 2


def test_few_texts_tokens_and_known_texts_are_not_shared(tokenized, store):
    clf = copy.copy(fitted()).set_params(prediction_batch_size=33)
    clf.predict_topk(X, 3)
    clf.set_params(prediction_batch_size=4)
    predictor = clf._predictor()
    predictor.top_k(predictor._tokenize(X), 3)
    with encode_once(grows=False):
        clf.predict_topk(X, 3)
    assert store.num_keys() == 0
    clf.predict_topk(X, 3)
    assert store.num_keys() > 0


# ---------------------------------------------------------------- the store


def test_process_without_group_or_forked_from_a_member_has_no_store(monkeypatch, store):
    assert sharing.store_of_group() is None
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist.distributed_c10d, "_get_default_store", lambda: store)
    for size, expected in ((1, None), (2, store)):
        monkeypatch.setattr(dist, "get_world_size", lambda n=size: n)
        assert sharing.store_of_group() is expected
    monkeypatch.setattr(sharing, "_is_inherited", False)
    sharing._note_fork()
    assert sharing.store_of_group() is None
