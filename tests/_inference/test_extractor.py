"""Batches of prediction, on a GPU with the host ahead. Its code runs on the CPU too."""

import copy
import threading

import numpy as np
import pytest
import torch
from classifier_fixtures import MODES, dataset, fitted, make_classifier
from no_waits import NoWaits

from skxmc._inference import extractor
from skxmc._inference.extractor import BatchSize, FeatureExtractor, resolve_batch_size
from skxmc._model.network import LightXMLNetwork
from skxmc._model.tokens import tokenize
from skxmc._model.windows import tokenize_long
from skxmc._utils.encode_once import encode_once

X, _ = dataset()


@pytest.fixture
def as_on_gpu(monkeypatch):
    """Let predictors of fitted classifiers work as on a GPU, on the CPU, in blocks of 10 texts."""
    for mode in MODES:
        fitted(mode)
    monkeypatch.setattr(FeatureExtractor, "on_gpu", True)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True, raising=False)
    monkeypatch.setattr(extractor, "GPU_TEXTS_BLOCK", 10)


def test_resolve_batch_size_auto_bounds_tokens_on_a_gpu():
    for device in ("cpu", "mps"):
        assert resolve_batch_size("auto", torch.device(device)) == (64, None)
    assert resolve_batch_size("auto", torch.device("cuda", 1)) == (512, 32_768)
    assert resolve_batch_size(np.int64(7), torch.device("cuda", 0)) == (7, None)


@pytest.mark.parametrize("windows", [{}, {"max_length": 12, "long_text": "windows"}])
@pytest.mark.parametrize("mode", MODES)
def test_predictions_as_on_gpu_are_the_same(mode, windows, as_on_gpu, monkeypatch):
    clf = copy.copy(fitted(mode)).set_params(**windows)
    found = clf.predict_topk(X, 5), clf.decision_function(X), clf.encode(X)
    monkeypatch.undo()
    expected = clf.predict_topk(X, 5), clf.decision_function(X), clf.encode(X)
    np.testing.assert_array_equal(found[0].labels, expected[0].labels)
    np.testing.assert_allclose(found[0].scores, expected[0].scores, atol=1e-5)
    np.testing.assert_allclose(found[1].toarray(), expected[1].toarray(), atol=1e-5)
    np.testing.assert_allclose(found[2], expected[2], atol=1e-5)


def test_predictor_on_gpu_pads_to_a_multiple_of_8(as_on_gpu, monkeypatch):
    represent, n_tokens = LightXMLNetwork.represent, set()
    clf, predictor = fitted(), fitted()._predictor()
    tokens = tokenize(clf.tokenizer_, X, clf.max_length)

    def noting(network, batch):
        if batch.is_padded:
            n_tokens.add(batch.input_ids.shape[1])
        return represent(network, batch)

    monkeypatch.setattr(LightXMLNetwork, "represent", noting)
    predictor.batch_size = BatchSize(9)
    predictor.top_k(tokens, 3)
    assert len(n_tokens) > 1
    assert all(n % 8 == 0 for n in n_tokens - {tokens.longest})


def test_predictor_starts_next_batch_before_it_reads_the_last(monkeypatch):
    events, copy_back = [], extractor.copy_back

    def noting(tensors):
        number = sum(kind == "start" for kind, _ in events)
        events.append(("start", number))
        wait = copy_back(tensors)

        def noting_wait():
            events.append(("read", number))
            return wait()

        return noting_wait

    monkeypatch.setattr(extractor, "copy_back", noting)
    clf, predictor = fitted(), fitted()._predictor()
    predictor.batch_size = BatchSize(16)
    predictor.top_k(tokenize(clf.tokenizer_, X, clf.max_length), 3)
    order = [("start", 0), ("start", 1), ("read", 0), ("start", 2), ("read", 1)]
    assert events == [*order, ("start", 3), ("read", 2), ("read", 3)]


def test_predictor_on_gpu_tokenizes_the_next_block_in_a_thread(as_on_gpu, monkeypatch):
    tokenized, represent = [threading.Event() for _ in range(7)], LightXMLNetwork.represent
    n_done, n_in_thread = 0, 0

    def noting(*args):
        nonlocal n_in_thread
        n_in_thread += threading.current_thread() is not threading.main_thread()
        tokens = tokenize_long(*args)
        tokenized[n_in_thread - 1].set()
        return tokens

    def waiting(network, batch):
        nonlocal n_done
        n_done += 1
        assert tokenized[min(n_done, 6)].wait(20)  # the next block, while this one waits
        return represent(network, batch)

    monkeypatch.setattr(extractor, "tokenize_long", noting)
    monkeypatch.setattr(LightXMLNetwork, "represent", waiting)
    fitted().predict_topk(X, 3)
    assert (n_done, n_in_thread) == (7, 7)


def test_predictor_on_gpu_known_representations_are_not_tokenized(as_on_gpu, monkeypatch):
    clf = fitted()
    expected = clf.predict_topk(X, 5)
    with encode_once():
        clf.predict_topk(X, 5)
        monkeypatch.setattr(extractor, "tokenize_long", None)
        found = clf.predict_topk(X, 5)
    np.testing.assert_array_equal(found.labels, expected.labels)


def test_predictor_on_gpu_error_in_a_later_block_is_raised(as_on_gpu, monkeypatch):
    n_blocks = 0

    def failing(*args):
        nonlocal n_blocks
        n_blocks += 1
        if n_blocks == 3:
            raise ValueError("of the third block")
        return tokenize_long(*args)

    monkeypatch.setattr(extractor, "tokenize_long", failing)
    with pytest.raises(ValueError, match="of the third block"):
        fitted().predict_topk(X, 3)


@pytest.mark.parametrize("mode", MODES)
def test_predictor_on_gpu_waits_for_nothing(mode, as_on_gpu):
    clf = fitted(mode)
    predictor, tokens = clf._predictor(), tokenize(clf.tokenizer_, X, clf.max_length)
    with NoWaits():
        predictor.top_k(tokens, 5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", MODES)
def test_predictor_on_cuda_waits_for_copies_only(mode):
    clf = make_classifier(mode, device="cuda", precision="fp32").fit(*dataset())
    expected = clf.set_params(device="cpu").predict_topk(X, 5)
    predictor = clf.set_params(device="cuda")._predictor()
    tokens = tokenize(clf.tokenizer_, X, clf.max_length)
    predictor.batch_size = BatchSize(9)
    predictor.top_k(tokens, 5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        columns, scores = predictor.top_k(tokens, 5)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    np.testing.assert_array_equal(clf.classes_[columns], expected.labels)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-4)
