"""Threads, forks and other processes: the same answers everywhere, and nothing left behind."""

import io
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

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
)

from skxmc import LightXMLClassifier, LightXMLEnsemble, _process, _serving
from skxmc._device import local_seed

X, Y = dataset()
POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def weights_digest(clf):
    return joblib.hash({name: w.numpy() for name, w in clf.network_.state_dict().items()})


def scores_digest(clf):
    scores = clf.decision_function(X)
    return joblib.hash((scores.data, scores.indices, scores.indptr))


def in_process(script, *arguments, **environment):
    """The last line, as JSON, of what a script prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------- the same seed

FIT = """
import sys, json
from classifier_fixtures import make_classifier, dataset
from test_processes import weights_digest, scores_digest
found = {}
for mode in ("direct", "two-stage"):
    clf = make_classifier(mode, encoder=sys.argv[1], dropout=0.5, encoder_dropout=0.2)
    clf.fit(*dataset())
    found[mode] = [weights_digest(clf), scores_digest(clf)]
print(json.dumps(found))
"""


def test_same_seed_same_model_in_another_process():
    """Whatever the order of hashes and the state of global generators."""
    first = in_process(FIT, encoder_path(), PYTHONHASHSEED="1", OMP_NUM_THREADS="1")
    second = in_process(FIT, encoder_path(), PYTHONHASHSEED="2", OMP_NUM_THREADS="1")
    assert first == second
    assert len(set(first["direct"] + first["two-stage"])) == 4


@pytest.mark.parametrize("mode", MODES)
def test_same_seed_same_model_in_one_process(mode):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    params = {"dropout": 0.5, "encoder_dropout": 0.2}
    first = make_classifier(mode, **params).fit(X, Y)
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert weights_digest(make_classifier(mode, **params).fit(X, Y)) == weights_digest(first)
    other = make_classifier(mode, **params, random_state=1).fit(X, Y)
    assert weights_digest(other) != weights_digest(first)


@pytest.mark.parametrize("mode", MODES)
def test_global_generators_are_left_alone(mode, tmp_path):
    before = generator_states()
    clf = make_classifier(mode, dropout=0.5, encoder_dropout=0.2, early_stopping=True)
    clf.fit(X, Y)
    assert generator_states() == before
    clf.predict_topk(X, k=3)
    clf.decision_function(X)
    clf.encode(X)
    clf.explain_topk(X[0])
    assert generator_states() == before
    clf.save_pretrained(tmp_path / "model")
    LightXMLClassifier.from_pretrained(tmp_path / "model").predict(X)
    assert generator_states() == before


def test_order_and_neighbours_do_not_matter():
    order = np.random.default_rng(0).permutation(len(X))
    for mode in MODES:
        clf = fitted(mode)
        expected = clf.decision_function(X).toarray()
        found = clf.decision_function([X[i] for i in order]).toarray()
        np.testing.assert_allclose(found, expected[order], atol=1e-5)
        alone = np.vstack([clf.decision_function([text]).toarray() for text in X])
        np.testing.assert_allclose(alone, expected, atol=1e-5)


# ---------------------------------------------------------------- threads


def in_threads(n_threads, function):
    """Results of one function in many threads that start at once."""
    barrier = threading.Barrier(n_threads)

    def call(number):
        barrier.wait()
        return function(number)

    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(call, range(n_threads)))


def dumped(clf):
    """A pickle in memory, for copies that have not predicted yet."""
    file = io.BytesIO()
    joblib.dump(clf, file)
    file.seek(0)
    return file


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sixteen_threads_predict_as_one(mode, precision):
    """Also at the first call, when weights are converted and the tokenizer is set up."""
    clf = joblib.load(dumped(fitted(mode))).set_params(prediction_precision=precision)
    twin = joblib.load(dumped(fitted(mode))).set_params(prediction_precision=precision)
    expected = [twin.predict_topk(X[i : i + 4], k=5) for i in range(16)]

    def predict(number):
        return [clf.predict_topk(X[i : i + 4], k=5) for i in np.roll(range(16), number)]

    for number, found in enumerate(in_threads(16, predict)):
        for i, top in zip(np.roll(range(16), number), found, strict=True):
            np.testing.assert_array_equal(top.labels, expected[i].labels)
            np.testing.assert_array_equal(top.scores, expected[i].scores)


def test_tokenizer_is_called_by_one_thread_at_a_time(monkeypatch):
    """It notes whether to truncate before it tokenises: another call would undo that."""
    clf = joblib.load(dumped(fitted()))
    tokenizer_class = type(clf._model.tokenizer)
    call, inside, seen = tokenizer_class.__call__, [], []

    def watched(*args, **options):
        inside.append(1)
        time.sleep(0.005)
        seen.append(len(inside))
        encoded = call(*args, **options)
        inside.pop()
        return encoded

    monkeypatch.setattr(tokenizer_class, "__call__", watched)
    in_threads(8, lambda _: [clf.predict_topk(X[:2], k=1), clf.explain_topk(X[0])])
    assert len(seen) >= 8 * 3
    assert set(seen) == {1}


def test_weights_are_converted_once_for_all_threads(monkeypatch):
    clf = joblib.load(dumped(fitted()))
    converted, n_calls = _serving._converted, []

    def counting(*args):
        n_calls.append(1)
        time.sleep(0.05)
        return converted(*args)

    monkeypatch.setattr(_serving, "_converted", counting)
    in_threads(8, lambda _: clf.predict_topk(X[:2], k=1))
    assert len(n_calls) == 1


def test_fits_in_threads_do_not_disturb_each_other():
    def make(number):
        mode = MODES[number % 2]
        return make_classifier(
            mode, dropout=0.5, encoder_dropout=0.2, random_state=number, head_start="random"
        )

    before = generator_states()
    found = in_threads(4, lambda number: weights_digest(make(number).fit(X, Y)))
    assert generator_states() == before
    assert found == [weights_digest(make(number).fit(X, Y)) for number in range(4)]


def test_one_predicts_while_another_fits():
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


def test_seeds_that_overlap_restore_what_was_there():
    before = generator_states()
    cpu = torch.device("cpu")
    first, second = local_seed(12345, cpu), local_seed(54321, cpu)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert generator_states() != before
    second.__exit__(None, None, None)
    assert generator_states() == before


# ---------------------------------------------------------------- forks

FORK = """
import os, sys, json, time, signal
import torch
torch.set_num_threads(2)
matrix = torch.randn(1500, 1500)
(matrix @ matrix).sum()  # the pool of threads is there now, and a fork loses it
from skxmc import LightXMLClassifier
from classifier_fixtures import dataset, make_classifier
from test_processes import X, Y
clf = LightXMLClassifier.from_pretrained(sys.argv[1])
texts = X * 40
expected = clf.predict_topk(texts, k=3).labels
child = os.fork()
if child == 0:
    same = (clf.predict_topk(texts, k=3).labels == expected).all()
    if len(sys.argv) > 2:
        make_classifier(encoder=sys.argv[2], max_epochs=1).fit(X, Y)
    (matrix @ matrix).sum()
    os._exit(0 if same else 3)
for _ in range(600):
    done, status = os.waitpid(child, os.WNOHANG)
    if done:
        break
    time.sleep(0.1)
else:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    status = "hangs"
print(json.dumps([status, torch.get_num_threads()]))
"""


@POSIX
@pytest.mark.parametrize("also_fits", [False, True])
def test_a_forked_child_predicts_and_fits(also_fits, tmp_path):
    """Without hanging in OpenMP; the parent keeps its threads."""
    fitted().save_pretrained(tmp_path / "model")
    arguments = [tmp_path / "model"] + [encoder_path()] * also_fits
    threads = {"OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
    assert in_process(FORK, *arguments, **threads) == [0, 2]


@POSIX
def test_a_lock_that_another_thread_holds_is_free_in_a_forked_child():
    lock = _process.ProcessLock()
    release, taken = threading.Event(), threading.Event()

    def hold():
        with lock:
            taken.set()
            release.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(10)  # kills the child, were the lock not free
        with lock:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    release.set()
    thread.join()


# ---------------------------------------------------------------- pickles

LOAD = """
import sys, json
import torch
torch.set_num_threads(int(sys.argv[2]))
import joblib
clf = joblib.load(sys.argv[1]).set_params(**json.loads(sys.argv[3]))
from test_processes import X
top = clf.predict_topk(X, k=5)
print(json.dumps([top.labels.tolist(), top.scores.astype(float).tolist()]))
"""


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_pickles_load_with_other_threads(n_threads, tmp_path):
    joblib.dump(fitted(), tmp_path / "model")
    labels, scores = in_process(LOAD, tmp_path / "model", n_threads, "{}")
    expected = fitted().predict_topk(X, k=5)
    np.testing.assert_allclose(scores, expected.scores, atol=1e-5)
    assert np.mean(np.array(labels) == expected.labels) > 0.99  # but for near-ties


@pytest.mark.parametrize("mode", MODES)
def test_a_model_trained_in_bf16_predicts_in_fp32(mode, tmp_path):
    clf = make_classifier(mode, precision="bf16").fit(X, Y)
    joblib.dump(clf, tmp_path / "model")
    _, scores = in_process(LOAD, tmp_path / "model", 1, '{"precision": "fp32"}')
    found = clf.predict_topk(X, k=5).scores
    assert 0 < np.abs(np.array(scores) - found).mean() < 0.03  # its texts differ by a lot
    clf.set_params(precision="fp32")
    np.testing.assert_allclose(scores, clf.predict_topk(X, k=5).scores, atol=1e-5)
    assert all(w.dtype == torch.float32 for w in clf.network_.parameters())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_pickle_of_a_gpu_predicts_elsewhere(tmp_path):
    clf = make_classifier(device="cuda", precision="bf16").fit(X, Y)
    joblib.dump(clf, tmp_path / "model")
    params = '{"device": "cpu", "precision": "fp32"}'
    _, scores = in_process(LOAD, tmp_path / "model", 1, params, CUDA_VISIBLE_DEVICES="")
    np.testing.assert_allclose(scores, clf.predict_topk(X, k=5).scores, atol=0.05)


# ---------------------------------------------------------------- nothing is left behind

LEAVE = """
import sys, os, json, tempfile, time, signal, threading
os.environ["TMPDIR"] = tempfile.tempdir = sys.argv[2]
from classifier_fixtures import dataset, make_classifier
from skxmc import LightXMLEnsemble
X, Y = dataset()
clf = make_classifier(encoder=sys.argv[1], max_epochs=int(sys.argv[4]))
ensemble = LightXMLEnsemble([("a", clf), ("b", clf)], n_jobs=2)
if sys.argv[3] == "failure":
    ensemble.set_params(b__bottleneck_dim=-1)
elif sys.argv[3] == "ctrl-c":
    threading.Timer(float(sys.argv[5]), os.kill, [os.getpid(), signal.SIGINT]).start()
try:
    ensemble.fit(X, Y)
    ended = "success"
except ValueError:
    ended = "failure"
except KeyboardInterrupt:
    ended = "ctrl-c"
print(json.dumps([ended, os.getpid()]))
"""


def processes_with(text):
    """Commands of all processes that have some text in their command or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
                if os.fsencode(text) in command + (entry / "environ").read_bytes():
                    found.append(command)
            except OSError:  # it has ended meanwhile
                continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("ending", ["success", "failure", "ctrl-c"])
def test_no_process_and_no_file_is_left(ending, tmp_path):
    """Of an ensemble that is fitted in two worker processes."""
    seconds = 12 if ending == "ctrl-c" else 0
    arguments = [encoder_path(), tmp_path, ending, 100_000 if ending == "ctrl-c" else 1, seconds]
    found, _ = in_process(LEAVE, *arguments)
    assert found == ending
    deadline = time.monotonic() + 20
    while left := processes_with(str(tmp_path)):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    assert not [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("ending", ["success", "failure", "ctrl-c"])
def test_saving_and_training_leave_no_temporary_files(ending, tmp_path, monkeypatch):
    others = set(multiprocessing.active_children())  # workers that another test keeps
    fitted()  # the first training in a process has torch make a cache folder
    aside = tmp_path / "tmp"
    aside.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(aside))
    clf = make_classifier(checkpoint_dir=tmp_path / "run", memory=None)
    if ending == "success":
        clf.fit(X, Y).save_pretrained(tmp_path / "model")
    else:
        error = {"failure": RuntimeError, "ctrl-c": KeyboardInterrupt}[ending]

        def fail(*_, **__):
            raise error

        monkeypatch.setattr("skxmc._checkpoint.write_tensors", fail)
        if ending == "failure":
            with pytest.raises(RuntimeError):
                clf.fit(X, Y)
        else:
            with pytest.warns(UserWarning, match="interrupted"):
                clf.fit(X, Y)
        monkeypatch.setattr("skxmc._saving.write_tensors", fail)
        with pytest.raises(error):
            fitted().save_pretrained(tmp_path / "model")
    assert not list(aside.iterdir())
    expected = {"tmp", "run", "model"} if ending == "success" else {"tmp"}
    assert set(os.listdir(tmp_path)) == expected
    assert set(multiprocessing.active_children()) <= others


def test_ensembles_in_threads():
    """joblib's threading backend: members are fitted at once in one process."""
    members = [("a", make_classifier()), ("b", make_classifier("direct"))]
    alone = LightXMLEnsemble(members).fit(X, Y)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        found = LightXMLEnsemble(members, n_jobs=2).fit(X, Y)
    assert_same_predictions(found, alone)
