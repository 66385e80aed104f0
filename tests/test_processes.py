"""Seeds, forks and other processes: same results everywhere, and no files left behind."""

import contextlib
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
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from classifier_fixtures import (
    MODES,
    dataset,
    encoder_path,
    fitted,
    generator_states,
    make_classifier,
    weights_digest,
)

from skxmc import LightXMLClassifier, _omikuji_io
from skxmc._inference import low_precision
from skxmc._model import encoder as encoder_module
from skxmc._model import seeds, tokens
from skxmc._model.seeds import local_seed

X, Y = dataset()
POSIX = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def scores_digest(clf):
    scores = clf.decision_function(X)
    return joblib.hash((scores.data, scores.indices, scores.indptr))


def in_process(script, *arguments, **environment):
    """Run a script in its own process, and parse its last line of output as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,  # only guards against hanging
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------- the same seed

FIT = """
import sys, json
from classifier_fixtures import dataset, make_classifier, weights_digest
from test_processes import scores_digest
found = {}
for mode in ("direct", "two-stage"):
    clf = make_classifier(mode, encoder=sys.argv[1], dropout=0.5, encoder_dropout=0.2)
    clf.fit(*dataset())
    found[mode] = [weights_digest(clf), scores_digest(clf)]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def digests_of_other_process():
    """Digests of fits in another process, where the order of hashes differs."""
    return in_process(FIT, encoder_path(), PYTHONHASHSEED="1", OMP_NUM_THREADS="1")


@pytest.mark.parametrize("mode", MODES)
def test_fit_same_seed_in_any_process_gives_same_model(mode, digests_of_other_process):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    params = {"dropout": 0.5, "encoder_dropout": 0.2}
    first = make_classifier(mode, **params).fit(X, Y)
    assert [weights_digest(first), scores_digest(first)] == digests_of_other_process[mode]
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    assert weights_digest(make_classifier(mode, **params).fit(X, Y)) == weights_digest(first)
    other = make_classifier(mode, **params, random_state=1).fit(X, Y)
    assert weights_digest(other) != weights_digest(first)


@pytest.mark.parametrize("mode", MODES)
def test_fit_and_prediction_leave_global_generators_unchanged(mode, tmp_path):
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


def test_scores_do_not_depend_on_order_or_other_texts():
    order = np.random.default_rng(0).permutation(len(X))
    for mode in MODES:
        clf = fitted(mode)
        expected = clf.decision_function(X).toarray()
        found = clf.decision_function([X[i] for i in order]).toarray()
        np.testing.assert_allclose(found, expected[order], atol=1e-5)
        alone = np.vstack([clf.decision_function([text]).toarray() for text in X])
        np.testing.assert_allclose(alone, expected, atol=1e-5)


# ---------------------------------------------------------------- forks

FORK = """
import os, sys, json, time, signal, threading
import torch
torch.set_num_threads(2)
matrix = torch.randn(1500, 1500)
(matrix @ matrix).sum()  # this starts the pool of threads, which a fork loses
from skxmc import LightXMLClassifier
from classifier_fixtures import dataset, make_classifier
from test_processes import X, Y
clf = LightXMLClassifier.from_pretrained(sys.argv[1])
texts = X * 40
expected = clf.predict_topk(texts, k=3).labels
child = os.fork()
if child == 0:
    torch.tensor(matrix.numpy())  # as in loading weights
    LightXMLClassifier.from_pretrained(sys.argv[1]).predict_topk(texts)
    thread = threading.Thread(target=clf.predict_topk, args=(texts,))
    thread.start()
    thread.join()
    same = (clf.predict_topk(texts, k=3).labels == expected).all()
    make_classifier(encoder=sys.argv[2], max_epochs=1).fit(X, Y)
    (matrix @ matrix).sum()
    os._exit(0 if same else 3)
for _ in range(3000):
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
def test_forked_child_predicts_and_fits_without_hanging(tmp_path):
    """OpenMP could make it hang. The parent keeps its threads."""
    fitted().save_pretrained(tmp_path / "model")
    threads = {"OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false"}
    assert in_process(FORK, tmp_path / "model", encoder_path(), **threads) == [0, 2]


FUSION = """
import os, signal
import numpy as np
from scipy import sparse
from skxmc._meta.fusion import LearnedFusion
rng = np.random.default_rng(0)
y = sparse.csr_array(rng.random((400, 50)) < 0.1)
scores = [sparse.csr_matrix(y * 0.5 + rng.random((400, 50)) / 2, dtype=np.float32)] * 2
fusion = LearnedFusion(y, 0).fit(scores, y)
expected = fusion(scores)
assert fusion.model is not None
child = os.fork()
if child == 0:
    signal.alarm(300)  # kills the child if it hangs
    same = (fusion(scores) != expected).nnz == 0
    again = LearnedFusion(y, 0).fit(scores, y)
    os._exit(int(not same or (again(scores) != expected).nnz != 0))
print(os.waitpid(child, 0)[1])
"""


@POSIX
def test_forked_child_learns_fusion_and_predicts():
    """The trees have their own pool of threads."""
    assert in_process(FUSION, OMP_NUM_THREADS="2") == 0


LOCKS = {
    "seeds": seeds._seeding,
    "encoders": encoder_module._loading,
    "output": _omikuji_io.output_lock,
    "copies": low_precision._copying,
    "tokenizers": tokens._tokenizing,
}


@contextlib.contextmanager
def held_by_another_thread(context):
    """Keep another thread inside a context until this context ends."""
    release, taken = threading.Event(), threading.Event()

    def hold():
        with context:
            taken.set()
            release.wait()

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    taken.wait()
    try:
        yield
    finally:
        release.set()
        thread.join()


@POSIX
@pytest.mark.parametrize("lock", LOCKS.values(), ids=LOCKS.keys())
def test_forked_child_lock_held_by_other_thread_is_free(lock):
    with held_by_another_thread(lock):
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # kills the child if the lock is not free
            with lock:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0


@POSIX
def test_forked_child_restores_generators_despite_other_thread():
    cpu = torch.device("cpu")
    with held_by_another_thread(local_seed(3, cpu)):
        child = os.fork()
        if child == 0:
            before = generator_states()
            with local_seed(4, cpu):
                torch.rand(1)
            os._exit(int(generator_states() != before))
        assert os.waitpid(child, 0)[1] == 0


# ---------------------------------------------------------------- pickles

LOAD = """
import sys, json
import torch
import joblib
params, *paths = sys.argv[1:]
found = {path: [] for path in paths}
for path in paths:
    for n_threads in (1, 2, 3):
        torch.set_num_threads(n_threads)
        clf = joblib.load(path).set_params(**json.loads(params))
        from test_processes import X
        top = clf.predict_topk(X, k=5)
        found[path].append([top.labels.tolist(), top.scores.astype(float).tolist()])
print(json.dumps(found))
"""


def loaded_in_process(folder, params, classifiers, **environment):
    """Return labels and scores of pickled classifiers with one, two and three threads."""
    paths = [joblib.dump(clf, folder / f"model {i}")[0] for i, clf in enumerate(classifiers)]
    found = in_process(LOAD, json.dumps(params), *paths, **environment)
    assert [len(of_path) for of_path in found.values()] == [3] * len(paths)
    return [found[path] for path in paths]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Pairs of classifiers, one in fp32 and two in bf16, and what their pickles predict in fp32."""
    in_bf16 = [make_classifier(mode, precision="bf16").fit(X, Y) for mode in MODES]
    classifiers = [fitted(), *in_bf16]
    folder = tmp_path_factory.mktemp("pickles")
    found = loaded_in_process(folder, {"precision": "fp32"}, classifiers)
    return list(zip(classifiers, found, strict=True))


def test_pickle_loaded_with_other_threads_predicts_the_same(loaded):
    expected = fitted().predict_topk(X, k=5)
    for labels, scores in loaded[0][1]:
        np.testing.assert_allclose(scores, expected.scores, atol=1e-5)
        assert np.mean(np.array(labels) == expected.labels) > 0.99  # near-ties may differ


def test_pickle_of_bf16_model_predicts_in_fp32(loaded):
    for clf, ((_, scores), *_) in loaded[1:]:
        found = clf.predict_topk(X, k=5).scores
        # Between texts, scores differ much more.
        assert 0 < np.abs(np.array(scores) - found).mean() < 0.03
        clf.set_params(precision="fp32")
        np.testing.assert_allclose(scores, clf.predict_topk(X, k=5).scores, atol=1e-5)
        assert all(w.dtype == torch.float32 for w in clf.network_.parameters())


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pickle_of_gpu_model_predicts_on_cpu(tmp_path):
    clf = make_classifier(device="cuda", precision="bf16").fit(X, Y)
    params = {"device": "cpu", "precision": "fp32"}
    (found,) = loaded_in_process(tmp_path, params, [clf], CUDA_VISIBLE_DEVICES="")
    (_, scores), *_ = found
    np.testing.assert_allclose(scores, clf.predict_topk(X, k=5).scores, atol=0.15)


# ---------------------------------------------------------------- nothing is left behind

LEAVE = """
import sys, os, json, tempfile, time, signal, threading
os.environ["TMPDIR"] = tempfile.tempdir = sys.argv[2]
from classifier_fixtures import dataset, make_classifier
from skxmc import LightXMLEnsemble
X, Y = dataset()
clf = make_classifier(encoder=sys.argv[1], max_epochs=1)
ensemble = LightXMLEnsemble([("a", clf), ("b", clf)], n_jobs=2)
ensemble.fit(X, Y)
ended = []
try:
    ensemble.set_params(b__bottleneck_dim=-1).fit(X, Y)
except ValueError:
    ended.append("failure")
ensemble.set_params(b__bottleneck_dim=8, a__max_epochs=100_000, b__max_epochs=100_000)
threading.Timer(3, os.kill, [os.getpid(), signal.SIGINT]).start()
try:
    ensemble.fit(X, Y)
except KeyboardInterrupt:
    ended.append("ctrl-c")
print(json.dumps([ended, os.getpid()]))
"""


def processes_with(text):
    """Find the commands of processes that have a text in their command or environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes()
                if os.fsencode(text) in command + (entry / "environ").read_bytes():
                    found.append(command)
            except OSError:  # the process has ended meanwhile
                continue
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ensemble_fit_in_processes_leaves_no_process_and_no_file(tmp_path):
    """The first fit succeeds, the second fails, and the third is interrupted."""
    ended, _ = in_process(LEAVE, encoder_path(), tmp_path)
    assert ended == ["failure", "ctrl-c"]
    deadline = time.monotonic() + 300
    while left := processes_with(str(tmp_path)):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    assert not [path.name for path in tmp_path.iterdir()]


@pytest.mark.parametrize("ending", ["success", "failure", "ctrl-c"])
def test_fit_and_save_however_they_end_leave_no_temporary_file(ending, tmp_path, monkeypatch):
    others = set(multiprocessing.active_children())  # workers that another test keeps alive
    fitted()  # in the first training of a process, torch makes a cache folder
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

        monkeypatch.setattr("skxmc._storage.checkpoint.write_tensors", fail)
        if ending == "failure":
            with pytest.raises(RuntimeError):
                clf.fit(X, Y)
        else:
            with pytest.warns(UserWarning, match="interrupted"):
                clf.fit(X, Y)
        monkeypatch.setattr("skxmc._storage.pretrained.write_tensors", fail)
        with pytest.raises(error):
            fitted().save_pretrained(tmp_path / "model")
    assert not list(aside.iterdir())
    expected = {"tmp", "run", "model"} if ending == "success" else {"tmp"}
    assert set(os.listdir(tmp_path)) == expected
    assert set(multiprocessing.active_children()) <= others
