"""Every public entry point under settings that a user's code may have made for the process."""

import contextlib
import copy
import functools
import os
import pickle
import warnings

import numpy as np
import pytest
import sklearn
import torch
from classifier_fixtures import (
    assert_same_predictions,
    dataset,
    encoder_path,
    make_classifier,
)

from skxmc import (
    BalancedLabelClusterer,
    LightXMLClassifier,
    LightXMLEnsemble,
    NeighborsClassifier,
    TextEncoder,
    label_features,
    predict_topk,
)
from skxmc.metrics import precision_at_k

X, Y = dataset()


def in_few_steps(mode="two-stage", **params):
    """Make a classifier that trains for two steps, one per epoch."""
    return make_classifier(mode, batch_size=64, **params)


@functools.cache
def fitted(mode):
    """Fit a classifier in the usual state."""
    return in_few_steps(mode).fit(X, Y)


@contextlib.contextmanager
def default_dtype(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device(name):
    torch.set_default_device(name)
    try:
        yield
        assert torch.get_default_device().type == name
    finally:
        torch.set_default_device(None)


@contextlib.contextmanager
def warnings_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@contextlib.contextmanager
def n_threads(n):
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
        assert torch.get_num_threads() == n
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def variables(**values):
    before = dict(os.environ)
    os.environ.update(values)
    try:
        with warnings_as_errors():
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def deterministic():
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


STATES = {
    "float64": lambda: default_dtype(torch.float64),
    "bfloat16": lambda: default_dtype(torch.bfloat16),
    "meta": lambda: default_device("meta"),
    "a device mode": lambda: torch.device("meta"),
    "no gradients": torch.no_grad,
    "inference mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "anomalies": lambda: torch.autograd.set_detect_anomaly(True, check_nan=False),
    "deterministic": deterministic,
    "warnings as errors": warnings_as_errors,
    "numpy raises": lambda: np.errstate(all="raise"),
    "two threads": lambda: n_threads(2),
    "pandas output": lambda: sklearn.config_context(transform_output="pandas"),
    "metadata routing": lambda: sklearn.config_context(enable_metadata_routing=True),
    "assume finite": lambda: sklearn.config_context(assume_finite=True),
    "no validation": lambda: sklearn.config_context(skip_parameter_validation=True),
    "variables": lambda: variables(
        TOKENIZERS_PARALLELISM="true",
        TRANSFORMERS_VERBOSITY="info",
        HF_HUB_DISABLE_PROGRESS_BARS="1",
        TQDM_DISABLE="1",
        LC_ALL="C",
    ),
}


@pytest.mark.filterwarnings("ignore:.*Anomaly Detection has been enabled")
@pytest.mark.parametrize(
    ("mode", "state"),
    [("two-stage", state) for state in STATES] + [("direct", "float64"), ("direct", "meta")],
)
def test_classifier_in_any_state_of_the_process_is_the_same(mode, state, tmp_path):
    with STATES[state]():
        clf = in_few_steps(mode).fit(X, Y)
        found = clf.predict_topk(X, k=3)
        clf.encode(X[:3])
        clf.explain_topk(X[0], k=2, texts=X[:9], y=Y[:9])
        clf.decision_function(X[:3])
        clf.save_pretrained(tmp_path / "int8", dtype="int8")
        LightXMLClassifier.from_pretrained(tmp_path / "int8").predict(X[:3])
        clf.save_pretrained(tmp_path / "model")
        loaded = LightXMLClassifier.from_pretrained(tmp_path / "model").predict_topk(X, k=3)
        unpickled = pickle.loads(pickle.dumps(clf)).predict_topk(X, k=3)
        for precision in ("bf16", "int8"):
            copy.copy(clf).set_params(precision=precision).predict_topk(X[:3], k=2)
        in_windows = copy.copy(clf).set_params(max_length=12, long_text="windows").encode(X[:3])
        run = {"checkpoint_dir": tmp_path / "run", "early_stopping": True, "swa_start": 0}
        in_few_steps(mode, **run).fit(X, Y)
    expected = fitted(mode).predict_topk(X, k=3)
    for top in (found, loaded, unpickled):
        np.testing.assert_array_equal(top.labels, expected.labels)
        np.testing.assert_allclose(top.scores, expected.scores, rtol=1e-3)
    whole = copy.copy(fitted(mode)).set_params(max_length=12, long_text="windows")
    np.testing.assert_allclose(in_windows, whole.encode(X[:3]), atol=1e-4)
    if state != "two threads":
        assert_same_predictions(clf, fitted(mode))


@pytest.mark.parametrize("state", STATES)
def test_other_entry_points_in_any_state_of_the_process_work(state):
    members = [(name, in_few_steps(max_epochs=1)) for name in "ab"]
    with STATES[state]():
        ensemble = LightXMLEnsemble(members, fusion="mean").fit(X, Y)
        top = predict_topk(ensemble, X, k=3)
        precision_at_k(Y, top, k=3)
        near = NeighborsClassifier(TextEncoder(encoder_path(), max_length=32)).fit(X[:40], Y[:40])
        pickle.loads(pickle.dumps(near)).partial_fit(X[40:], Y[40:]).predict_topk(X, k=3)
        near.set_params(temperature=1e-6).predict(X[:3])
        BalancedLabelClusterer(4).fit(label_features(Y, np.random.default_rng(0).random((64, 5))))


def test_fit_bf16_in_autocast_of_the_user_learns_the_same():
    """Autocast keeps casts of weights until its outermost context ends."""
    expected = make_classifier(precision="bf16").fit(X, Y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = make_classifier(precision="bf16").fit(X, Y)
    assert_same_predictions(found, expected)


def test_threads_with_other_default_dtype_find_it_again():
    """The last of several threads restores the default dtype."""
    from concurrent.futures import ThreadPoolExecutor

    clf = fitted("two-stage")
    with default_dtype(torch.float64), ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: clf.predict_topk(X[i : i + 4], k=2), range(16)))
