"""`BatchPredictor` by itself. `tests/test_engines.py` runs it in Ray and Spark."""

import copy
import multiprocessing
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from classifier_fixtures import dataset, fitted
from sklearn.pipeline import Pipeline

import skxmc
from skxmc._serving import batch_predictor
from skxmc._storage import estimators
from skxmc.serving import BatchPredictor

pa = pytest.importorskip("pyarrow")

TEXTS = dataset()[0][:10]
IDS = list(range(10))
BATCHES = {
    "arrays": lambda texts, ids: {"text": np.array(texts, dtype=object), "id": np.array(ids)},
    "frame": lambda texts, ids: pd.DataFrame({"text": texts, "id": ids}, index=ids[::-1]),
    "table": lambda texts, ids: pa.table({"text": pa.array(texts, pa.string()), "id": ids}),
}


@pytest.fixture(scope="module")
def named():
    """Return a classifier whose labels have names."""
    clf = copy.copy(fitted())
    clf.classes_ = np.array([f"label {i}" for i in range(30)], dtype=object)
    return clf


@pytest.fixture
def folder(named, tmp_path):
    named.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def loads(monkeypatch):
    """Record the folders that are loaded."""
    found, load = [], estimators.load_estimator

    def recording(folder):
        found.append(folder)
        return load(folder)

    monkeypatch.setattr(estimators, "load_estimator", recording)
    return found


def as_lists(column):
    return column.to_pylist() if hasattr(column, "to_pylist") else list(column)


@pytest.mark.parametrize("make", BATCHES.values(), ids=BATCHES)
def test_batch_of_any_type_gets_columns_of_lists(make, folder, named):
    batch = make(TEXTS, IDS)
    found = BatchPredictor(folder, k=3)(batch)
    labels, scores = named.predict_topk(TEXTS, k=3)
    assert type(found) is type(batch)
    assert as_lists(found["labels"]) == labels.tolist()
    assert as_lists(found["scores"]) == scores.tolist()
    for name in ("text", "id"):
        assert as_lists(found[name]) == as_lists(batch[name])
    assert list(getattr(batch, "column_names", batch)) == ["text", "id"]
    if isinstance(batch, pd.DataFrame):
        assert found.index.tolist() == batch.index.tolist()


@pytest.mark.parametrize("make", BATCHES.values(), ids=BATCHES)
def test_batch_without_rows_has_columns_of_same_types(make, folder):
    predictor = BatchPredictor(folder, k=3)
    full, empty = predictor(make(TEXTS, IDS)), predictor(make([], []))
    for name in ("labels", "scores"):
        assert len(empty[name]) == 0
        kind = "type" if isinstance(empty, pa.Table) else "dtype"
        assert getattr(empty[name], kind) == getattr(full[name], kind)


def test_table_of_model_without_names_has_numbers(tmp_path):
    fitted().save_pretrained(tmp_path)
    found = BatchPredictor(str(tmp_path), k=2)(BATCHES["table"](TEXTS, IDS))
    assert found["labels"].to_pylist() == fitted().predict_topk(TEXTS, k=2).labels.tolist()
    assert found["labels"].type == pa.list_(pa.int64())
    assert found["scores"].type == pa.list_(pa.float32())


def test_iterator_of_batches_is_predicted_one_by_one(folder, named):
    taken = []

    def frames():
        for start in (0, 5):
            taken.append(start)
            yield pd.DataFrame({"title": TEXTS[start : start + 5]})

    found = BatchPredictor(folder, k=1, text_column="title")(frames())
    assert taken == []
    first = next(found)
    assert taken == [0]
    labels = [*first["labels"], *next(found)["labels"]]
    assert labels == named.predict_topk(TEXTS, k=1).labels.tolist()
    assert next(found, None) is None


def test_pipeline_predicts(named, tmp_path):
    skxmc.save_pretrained(Pipeline([("clf", named)]), tmp_path / "model")
    found = BatchPredictor(tmp_path / "model", k=2)(BATCHES["frame"](TEXTS, IDS))
    assert found["labels"].tolist() == named.predict_topk(TEXTS, k=2).labels.tolist()


# ---------------------------------------------------------------- loading


def test_pickles_hold_no_model_and_share_the_one_of_the_process(folder, loads):
    predictor = BatchPredictor(folder, k=2)
    assert loads == []
    batch = BATCHES["arrays"](TEXTS, IDS)
    expected = predictor(batch)["labels"].tolist()
    pickled = pickle.dumps(predictor)
    assert len(pickled) < 1000
    for _ in range(2):
        assert pickle.loads(pickled)(batch)["labels"].tolist() == expected
    assert loads == [str(folder)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork")
def test_pool_of_processes_predicts(folder, named):
    batches = [BATCHES["frame"](TEXTS[:5], IDS[:5]), BATCHES["frame"](TEXTS[5:], IDS[5:])]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(BatchPredictor(folder, k=2), batches)
    labels = pd.concat(found)["labels"].tolist()
    assert labels == named.predict_topk(TEXTS, k=2).labels.tolist()
    assert str(folder) not in batch_predictor._models  # only the processes have loaded it


def test_threads_load_the_model_once(folder, loads):
    at_once = threading.Barrier(4)

    def predict():
        at_once.wait(30)
        BatchPredictor(folder)(BATCHES["arrays"](TEXTS, IDS))

    threads = [threading.Thread(target=predict) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loads == [str(folder)]


def test_replaced_model_is_loaded_again(folder, loads):
    predictor, batch = BatchPredictor(folder, k=1), BATCHES["arrays"](TEXTS, IDS)
    assert isinstance(predictor(batch)["labels"][0][0], str)
    fitted().save_pretrained(folder)
    assert isinstance(predictor(batch)["labels"][0][0], int)
    assert loads == [str(folder)] * 2
    assert len([one for one in batch_predictor._models if one == str(folder)]) == 1


@pytest.mark.parametrize("given", ["model", Path("model"), "~/model"])
def test_folder_is_found_after_a_change_of_directory(given, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    predictor = BatchPredictor(given)
    monkeypatch.chdir(os.sep)
    assert predictor.model_dir == str(folder)
    assert len(predictor(BATCHES["arrays"](TEXTS, IDS))["labels"]) == 10


# ---------------------------------------------------------------- errors


def test_wrong_batches_raise(folder):
    predictor, frame = BatchPredictor(folder), BATCHES["frame"](TEXTS, IDS)
    with pytest.raises(ValueError, match=r"no column 'text'\. Its columns are title, id\. Set tex"):
        predictor(frame.rename(columns={"text": "title"}))
    for name in ("labels", "scores"):
        with pytest.raises(ValueError, match=f"has a column '{name}' already. Rename it"):
            predictor(frame.rename(columns={"id": name}))
    with pytest.raises(TypeError, match=r"A batch is a dict of arrays, .* got list\. Convert it"):
        predictor(TEXTS)
    frame.iloc[3, 0] = None
    with pytest.raises(ValueError, match=r"^text holds a missing value \(nan\) at row 3\. Replace"):
        predictor(frame)


def test_wrong_parameters_raise(folder, tmp_path):
    with pytest.raises(ValueError, match=r"^k is 0, but must be a whole number from 1"):
        BatchPredictor(folder, k=0)
    batch = BATCHES["arrays"](TEXTS, IDS)
    with pytest.raises(ValueError, match="k is 31, but there are only 30 labels"):
        BatchPredictor(folder, k=31)(batch)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"nothing' is not a saved model: it has no skxmc\.js"):
            BatchPredictor(tmp_path / "nothing")(batch)
