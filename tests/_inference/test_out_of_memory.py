"""Out of memory: the error names remedies, and the classifier is unchanged."""

import copy
import gc
import re
import weakref

import numpy as np
import pytest
import torch
from classifier_fixtures import assert_same_predictions, dataset, fitted, make_classifier
from stopped_training import Stopped, stop_after

from skxmc._model.device import is_out_of_memory
from skxmc._model.network import LightXMLNetwork

X, Y = dataset()
ERRORS = {
    "cuda": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines."),
    "mps": RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    "cpu": RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried"),
    "cublas": RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    ),
    "cudnn": RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    "numpy": MemoryError("Unable to allocate 8.00 TiB for an array"),
}


def run_out(monkeypatch, error, most=8):
    """Make the network run out of memory in training with more than `most` texts per step."""
    losses = LightXMLNetwork.losses
    held = []

    def limited(self, features, *args, **kwargs):
        if len(features) > most:
            activations = features * 2
            held.append(weakref.ref(activations))
            raise error
        return losses(self, features, *args, **kwargs)

    monkeypatch.setattr(LightXMLNetwork, "losses", limited)
    return held


@pytest.mark.parametrize("kind", ERRORS)
def test_fit_out_of_memory_names_parameters_to_lower(kind, monkeypatch):
    run_out(monkeypatch, ERRORS[kind])
    clf = make_classifier()
    message = (
        rf"Out of memory in training \({re.escape(str(ERRORS[kind])[:10])}.*\)\. The "
        r"classifier is unchanged\. Set gradient_checkpointing=True, or raise accumulate_steps=1: "
        r"both take time, but give the same steps\. Or lower batch_size=16 or max_length=32\. With "
        r"many labels, also lower bottleneck_dim\. Otherwise choose a smaller encoder\."
    )
    with pytest.raises(torch.OutOfMemoryError, match=message) as raised:
        clf.fit(X, Y)
    assert "More lines" not in str(raised.value)
    assert not [name for name in vars(clf) if name.endswith("_")]


def test_fit_after_out_of_memory_with_smaller_batches_works(monkeypatch):
    run_out(monkeypatch, ERRORS["cuda"])
    clf = make_classifier()
    with pytest.raises(torch.OutOfMemoryError, match="lower batch_size=16"):
        clf.fit(X, Y)
    found = clf.set_params(batch_size=8).fit(X, Y)
    monkeypatch.undo()
    assert_same_predictions(found, make_classifier(batch_size=8).fit(X, Y))


def test_fit_out_of_memory_leaves_fitted_classifier_unchanged(monkeypatch):
    clf = make_classifier().fit(X, Y)
    with monkeypatch.context() as patch:
        run_out(patch, ERRORS["cuda"])
        with pytest.raises(torch.OutOfMemoryError, match="The classifier is unchanged"):
            clf.set_params(dropout=0.9).fit(X, Y)
    assert_same_predictions(clf, fitted())


def test_warm_start_that_fails_leaves_weights_unchanged(monkeypatch):
    clf = make_classifier(warm_start=True).fit(X, Y)
    stop_after(3, monkeypatch)
    with pytest.raises(Stopped):
        clf.set_params(dropout=0.9).fit(X, Y)
    assert_same_predictions(clf, fitted())
    assert clf.network_.settings == fitted().network_.settings


def test_fit_out_of_memory_error_holds_no_tensors(monkeypatch):
    """A notebook remembers its last error, so the next `fit` would lack this memory."""
    held = run_out(monkeypatch, ERRORS["cuda"])
    networks = weakref.WeakSet()
    init = LightXMLNetwork.__init__

    def noting(self, *args, **kwargs):
        init(self, *args, **kwargs)
        networks.add(self)

    monkeypatch.setattr(LightXMLNetwork, "__init__", noting)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        make_classifier().fit(X, Y)
    gc.collect()
    assert raised.value.__traceback__ is not None
    assert [reference() for reference in held] == [None]
    assert not networks


def test_fit_other_errors_are_raised_unchanged(monkeypatch):
    run_out(monkeypatch, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2"):
        make_classifier().fit(X, Y)
    assert not is_out_of_memory(ValueError("out of memory"))


def test_predict_other_errors_are_raised_unchanged(monkeypatch):
    def fail(*args):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(LightXMLNetwork, "scores", fail)
    with pytest.raises(RuntimeError, match=r"^mat1 and mat2"):
        fitted().predict_topk(X, 3)


@pytest.mark.parametrize("kind", ERRORS)
def test_predict_out_of_memory_continues_with_half_the_batch(kind, monkeypatch):
    expected = fitted().predict_topk(X, k=5)
    scores = LightXMLNetwork.scores

    def limited(self, features, *args):
        if len(features) > 40:
            raise ERRORS[kind]
        return scores(self, features, *args)

    monkeypatch.setattr(LightXMLNetwork, "scores", limited)
    with pytest.warns(RuntimeWarning, match="Continuing with batches of 32 texts"):
        found = fitted().predict_topk(X, k=5)
    assert (found.labels == expected.labels).all()


def test_predict_windows_out_of_memory_continues_with_half_the_batch(monkeypatch):
    clf = copy.copy(fitted()).set_params(max_length=12, long_text="windows")
    expected = clf.encode(X)
    represent = LightXMLNetwork.represent

    def limited(self, batch):
        if len(batch.input_ids) > 40:
            raise ERRORS["cuda"]
        return represent(self, batch)

    monkeypatch.setattr(LightXMLNetwork, "represent", limited)
    with pytest.warns(RuntimeWarning, match="Continuing with batches of 32 texts"):
        np.testing.assert_allclose(clf.encode(X), expected, atol=1e-5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fit_and_predict_on_full_gpu_run_out_of_memory():
    """Another tensor takes all but 60 MB of the memory."""
    clf = make_classifier(device="cuda").fit(X, Y)
    texts = [" ".join(X)] * 4096
    expected = clf.predict_topk(texts[:64], k=3).labels
    free, _ = torch.cuda.mem_get_info()
    torch.cuda.empty_cache()
    taken = torch.empty(int(free - 60e6), dtype=torch.uint8, device="cuda")
    with pytest.warns(RuntimeWarning, match="ran out of memory"):
        found = clf.set_params(prediction_batch_size=4096).predict_topk(texts, k=3).labels
    assert (found[:64] == expected).all()
    with pytest.raises(torch.OutOfMemoryError, match="lower batch_size=4096"):
        make_classifier(device="cuda", batch_size=4096).fit(texts, [[0]] * 4096)
    del taken
    torch.cuda.empty_cache()
    make_classifier(device="cuda").fit(X, Y)
