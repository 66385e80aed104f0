"""One estimator in several threads gives the results of one thread at any time."""

import io
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
import torch
from classifier_fixtures import (
    MODES,
    assert_same_predictions,
    dataset,
    encoder_path,
    fitted,
    generator_states,
    make_classifier,
    weights_digest,
)
from sklearn.frozen import FrozenEstimator
from transformers import AutoModel

from skxmc import LightXMLEnsemble, PropensityRanker
from skxmc._inference import low_precision
from skxmc._input.texts import check_texts
from skxmc._model.encoder import load_encoder
from skxmc._model.seeds import local_seed
from skxmc._training.trainer import Trainer

X, Y = dataset()


def in_threads(n_threads, function):
    """Return the results of one function in many threads that start at once."""
    barrier = threading.Barrier(n_threads)

    def call(number):
        barrier.wait()
        return function(number)

    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(call, range(n_threads)))


def dumped(clf):
    """Pickle into memory, to load copies that have not predicted yet."""
    file = io.BytesIO()
    joblib.dump(clf, file)
    file.seek(0)
    return file


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_predict_topk_sixteen_threads_match_one_thread(mode, precision):
    """This holds at the first call too, which converts weights and sets up the tokenizer."""
    clf = joblib.load(dumped(fitted(mode))).set_params(precision=precision)
    twin = joblib.load(dumped(fitted(mode))).set_params(precision=precision)
    expected = [twin.predict_topk(X[i : i + 4], k=5) for i in range(3)]

    def predict(number):
        return [clf.predict_topk(X[i : i + 4], k=5) for i in np.roll(range(3), number)]

    for number, found in enumerate(in_threads(16, predict)):
        for i, top in zip(np.roll(range(3), number), found, strict=True):
            np.testing.assert_array_equal(top.labels, expected[i].labels)
            np.testing.assert_array_equal(top.scores, expected[i].scores)


def watch(owner, name, monkeypatch):
    """Record the number of threads in a function whenever one enters."""
    function, inside, seen = getattr(owner, name), [], []

    def watched(*args, **options):
        inside.append(1)
        time.sleep(0.005)
        seen.append(len(inside))
        result = function(*args, **options)
        inside.pop()
        return result

    monkeypatch.setattr(owner, name, watched)
    return seen


def test_tokenizer_many_threads_enter_one_at_a_time(monkeypatch):
    """The tokenizer stores whether to truncate, and another call would change that."""
    clf = joblib.load(dumped(fitted()))
    seen = watch(type(clf.tokenizer_), "__call__", monkeypatch)
    in_threads(8, lambda _: [clf.predict_topk(X[:2], k=1), clf.explain_topk(X[0])])
    assert len(seen) >= 8 * 3
    assert set(seen) == {1}


@pytest.mark.parametrize("name", ["from_pretrained", "from_config"])
def test_transformers_many_threads_build_models_one_at_a_time(name, monkeypatch):
    """transformers replaces functions of torch meanwhile, and restores those that it found."""
    seen = watch(AutoModel, name, monkeypatch)
    file = dumped(fitted()).getvalue()
    calls = {
        "from_pretrained": lambda _: load_encoder(encoder_path()),
        "from_config": lambda _: joblib.load(io.BytesIO(file)),
    }
    in_threads(4, calls[name])
    assert seen == [1] * 4


def test_encode_two_threads_get_their_own_hidden_states():
    """transformers before 5.2 mixed up the hidden states if two threads used one encoder."""
    clf = joblib.load(dumped(fitted()))
    texts = sorted(X, key=len)[-2:]
    barrier = threading.Barrier(1)

    def wait(*_):
        barrier.wait(60)

    for layer in (m for m in clf.network_.encoder.modules() if type(m).__name__ == "BertLayer"):
        layer.register_forward_pre_hook(wait)
    expected = [clf.encode([text]) for text in texts]
    assert not np.allclose(*expected)
    barrier = threading.Barrier(2)
    for found, alone in zip(in_threads(2, lambda i: clf.encode([texts[i]])), expected, strict=True):
        np.testing.assert_array_equal(found, alone)


def test_low_precision_many_threads_convert_weights_once(monkeypatch):
    clf = joblib.load(dumped(fitted()))
    converted, n_calls = low_precision._converted, []

    def counting(*args):
        n_calls.append(1)
        time.sleep(0.05)
        return converted(*args)

    monkeypatch.setattr(low_precision, "_converted", counting)
    in_threads(8, lambda _: clf.predict_topk(X[:2], k=1))
    assert len(n_calls) == 1


def test_fit_four_threads_reach_weights_of_one_thread():
    def make(number):
        mode = MODES[number % 2]
        return make_classifier(
            mode, dropout=0.5, encoder_dropout=0.2, random_state=number, head_init="random"
        )

    before = generator_states()
    found = in_threads(4, lambda number: weights_digest(make(number).fit(X, Y)))
    assert generator_states() == before
    assert found == [weights_digest(make(number).fit(X, Y)) for number in range(4)]


def test_predict_topk_during_fit_in_other_thread_is_unchanged():
    clf = fitted()
    expected = clf.predict_topk(X, k=5)

    def work(number):
        if number == 0:
            return make_classifier(max_epochs=6).fit(X, Y)
        return [clf.predict_topk(X, k=5) for _ in range(10)]

    first, *others = in_threads(3, work)
    assert_same_predictions(first, make_classifier(max_epochs=6).fit(X, Y))
    for top in (top for tops in others for top in tops):
        np.testing.assert_array_equal(top.scores, expected.scores)


def test_local_seed_overlapping_contexts_restore_states():
    before = generator_states()
    cpu = torch.device("cpu")
    first, second = local_seed(12345, cpu), local_seed(54321, cpu)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert generator_states() != before
    second.__exit__(None, None, None)
    assert generator_states() == before


def test_decision_function_during_warm_start_is_unchanged(monkeypatch):
    clf = make_classifier(warm_start=True).fit(X, Y)
    expected = clf.decision_function(X).toarray()
    step, found = Trainer.train_step, []

    def stepping(*args):
        losses = step(*args)
        found.append(clf.decision_function(X).toarray())
        return losses

    monkeypatch.setattr(Trainer, "train_step", stepping)
    clf.fit(X, Y)
    assert len(found) > 4
    for scores in found:
        np.testing.assert_array_equal(scores, expected)


@pytest.mark.parametrize(
    "method", ["predict_topk", "decision_function", "predict", "score", "encode"]
)
def test_prediction_during_end_of_fit_uses_one_model(method, monkeypatch):
    """Names, weights and parameters are those at the time of the call."""
    arguments = (X, Y) if method == "score" else (X,)
    clf = joblib.load(dumped(fitted()))
    expected = getattr(clf, method)(*arguments)
    names = np.array([f"label {i}" for i in range(clf.n_labels_ - 1)], dtype=object)
    other = fitted("direct")._model._replace(classes=names)

    def checking(*args, **options):
        """Act as if another thread ended its fit here."""
        clf._adopt(other, [])
        clf.set_params(threshold=1.0, max_length=4)
        return check_texts(*args, **options)

    monkeypatch.setattr("skxmc._base.check_texts", checking)
    monkeypatch.setattr("skxmc._classifier.check_texts", checking)
    found = getattr(clf, method)(*arguments)
    assert len(clf.classes_) == clf.n_labels_ == len(names)
    if method == "predict_topk":
        np.testing.assert_array_equal(found.labels, expected.labels)
    elif method in ("decision_function", "predict"):
        assert found.shape == expected.shape
        assert (found != expected).nnz == 0
    else:
        np.testing.assert_array_equal(found, expected)


def test_getstate_any_estimator_returns_copy_of_state():
    state = fitted().__getstate__()
    assert state is not vars(fitted())
    members = [("a", FrozenEstimator(fitted()))]
    for clf in (LightXMLEnsemble.from_fitted(members), PropensityRanker(members[0][1]).fit(X, Y)):
        assert clf.__getstate__() == vars(clf)
        assert clf.__getstate__() is not vars(clf)


def test_ensemble_fit_in_threads_matches_fit_alone():
    """joblib's threading backend fits the members at once in one process."""
    members = [("a", make_classifier()), ("b", make_classifier("direct"))]
    alone = LightXMLEnsemble(members).fit(X, Y)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        found = LightXMLEnsemble(members, n_jobs=2).fit(X, Y)
    assert_same_predictions(found, alone)
