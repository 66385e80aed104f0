"""Omikuji's files, models as bytes, and silence."""

import copy
import os
import pickle
import re
import subprocess
import sys
import threading

import joblib
import numpy as np
import pytest
from omikuji_examples import X, Y, assert_same
from scipy import sparse
from sklearn.datasets import load_svmlight_file

from skxmc import OmikujiClassifier, _omikuji_io
from skxmc._input.validation import check_labels

omikuji = pytest.importorskip("omikuji")


@pytest.fixture(scope="module")
def clf():
    """Fit a model several layers deep. It is shared: copy it before changing it."""
    return OmikujiClassifier(min_branch_size=4, beam_size=2).fit(X, Y)


# ---------------------------------------------------------------- files


@pytest.fixture(params=["pipe", "file"])
def path_kind(request, monkeypatch):
    if request.param == "file":
        monkeypatch.setattr(_omikuji_io.os.path, "isdir", lambda _: False)
    elif not os.path.isdir("/dev/fd"):
        pytest.skip("this system has no paths of pipes")


def test_training_data_is_read_back_by_sklearn(tmp_path, path_kind):
    features = sparse.csr_matrix(np.array([[0.5, 0, 1 / 3], [0, 0, 0], [0, 1, 0], [0, 0, 0]]))
    labels = check_labels(np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [0, 0, 0]])).matrix
    with _omikuji_io.training_data(features, labels) as path, open(path) as file:
        header, *lines = file.read().splitlines()
    assert header == "4 3 3"
    assert [line.split(" ")[0] for line in lines] == ["0,2", "1", "", ""]
    assert all(re.fullmatch(r"[\d,]*( \d+:[\d.e-]{1,9})+", line) for line in lines)
    path = tmp_path / "train.txt"
    path.write_text("\n".join(lines))
    read, read_labels = load_svmlight_file(path, n_features=3, multilabel=True, zero_based=True)
    np.testing.assert_allclose(read.toarray(), features.toarray(), rtol=0, atol=5e-8)
    assert read_labels == [(0, 2), (1,), (), ()]


def test_training_data_reader_that_fails_raises_its_error(path_kind):
    # More data than a pipe holds, so the writer waits for a reader.
    features = sparse.csr_matrix(np.ones((1000, 1000)))
    labels = sparse.csr_array(np.ones((1000, 1)))
    with (
        pytest.raises(RuntimeError, match="omikuji"),
        _omikuji_io.training_data(features, labels),
    ):
        raise RuntimeError("omikuji")


def test_fit_writes_no_file(monkeypatch, tmp_path):
    if not os.path.isdir("/dev/fd"):
        pytest.skip("this system has no paths of pipes")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    OmikujiClassifier().fit(X[:20], Y[:20])


def test_pickle_predicts_same_scores(clf, tmp_path):
    path = tmp_path / "clf.joblib"
    joblib.dump(clf, path)
    for loaded in (pickle.loads(pickle.dumps(clf)), joblib.load(path), copy.deepcopy(clf)):
        assert loaded.model_ is not clf.model_
        assert_same(loaded, clf)
        again = pickle.loads(pickle.dumps(loaded))
        assert _omikuji_io.model_to_files(again.model_) == _omikuji_io.model_to_files(clf.model_)
    unfitted = pickle.loads(pickle.dumps(OmikujiClassifier(C=2)))
    assert unfitted.C == 2
    assert not hasattr(unfitted, "model_")


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0], [0, 2, 1]], ids=str)
def test_model_from_files_any_folder_order_keeps_order_of_trees(clf, monkeypatch, order):
    # Fake the folder's listing, and note which file omikuji would read at each place.
    files = _omikuji_io.model_to_files(clf.model_)
    names = ["settings.json", *(f"tree{number}.cbor" for number in order)]
    monkeypatch.setattr(_omikuji_io.os, "listdir", lambda _: names)
    seen = []

    def load(folder):
        seen.extend((_omikuji_io.Path(folder) / name).read_bytes() for name in names[1:])

    monkeypatch.setattr(omikuji.Model, "load", load)
    _omikuji_io.model_from_files(files)
    assert seen == [files[f"tree{number}.cbor"] for number in range(3)]


def test_model_from_files_name_that_leads_out_of_the_folder_stays_inside(
    clf, tmp_path, monkeypatch
):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    files = _omikuji_io.model_to_files(clf.model_)
    moved = {f"../{name}" if name == "settings.json" else name: files[name] for name in files}
    assert moved.keys() != files.keys()
    assert _omikuji_io.model_from_files(moved).n_features == clf.model_.n_features
    assert os.listdir(tmp_path) == ["temporary"]


def test_pickle_in_process_without_output_predicts_same_scores(clf, tmp_path):
    code = (
        "import joblib, os, sys; from skxmc import OmikujiClassifier;"
        "sys.stdin = sys.stdout = sys.stderr = None; os.close(0); os.close(1); os.close(2);"
        "clf, texts = joblib.load(sys.argv[1]), joblib.load(sys.argv[2]);"
        "joblib.dump(clf.decision_function(texts), sys.argv[3]);"
        "clf = OmikujiClassifier().fit(['a text', 'more'], [['x'], ['y']]);"
        "sys.exit(0 if clf.predict_topk(['text'], 1).labels[0, 0] == 'x' else 3)"
    )
    paths = [str(tmp_path / name) for name in ("clf.joblib", "texts", "scores")]
    joblib.dump(clf, paths[0])
    joblib.dump(X, paths[1])
    run = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, timeout=600)
    assert (run.returncode, run.stdout) == (0, b"")
    assert (joblib.load(paths[2]) != clf.decision_function(X)).nnz == 0


# ---------------------------------------------------------------- output


def test_fit_verbose_0_prints_nothing_and_1_shows_the_log(capfd, clf):
    pickle.loads(pickle.dumps(OmikujiClassifier().fit(X[:20], Y[:20])))
    assert capfd.readouterr() == ("", "")
    OmikujiClassifier(verbose=1).fit(X[:20], Y[:20])
    out, err = capfd.readouterr()
    assert "Training model" in out
    assert "%" in err


def test_silenced_in_threads_and_errors_reopens_output(capfd):
    def fit():
        OmikujiClassifier().fit(X[:20], Y[:20])

    threads = [threading.Thread(target=fit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pytest.raises(RuntimeError, match="inside"), _omikuji_io.silenced():
        raise RuntimeError("inside")
    os.write(1, b"out")
    os.write(2, b"err")
    assert capfd.readouterr() == ("out", "err")


def test_fit_and_copy_leak_no_file_descriptors(clf):
    folder = "/proc/self/fd"
    if not os.path.isdir(folder):
        pytest.skip("needs /proc, which only Linux has")
    before = len(os.listdir(folder))
    OmikujiClassifier().fit(X[:20], Y[:20])
    copy.deepcopy(clf)
    assert len(os.listdir(folder)) == before
