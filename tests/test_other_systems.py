"""The recipes of `docs/guide/other_systems.md` run, if the systems are installed.

Continuous integration installs none of them. Annif needs an environment of its own: put its command
on the PATH of the tests.
"""

import csv
import importlib
import json
import re
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from classifier_fixtures import dataset, make_classifier
from serving_fixtures import serving

X, Y = dataset()
URIS = [f"http://example.org/subject/{i}" for i in range(Y.shape[1])]
PAGE = Path(__file__).parents[1] / "docs" / "guide" / "other_systems.md"


@pytest.fixture(scope="module")
def clf():
    return make_classifier(max_epochs=1).fit(X, Y, label_names=URIS)


def blocks(section, language="python"):
    """Return the code of a section of the page."""
    text = PAGE.read_text("utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def python(script, *arguments):
    """Run a script in a fresh process, and return the JSON that it prints last."""
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# ---------------------------------------------------------------- MLflow


@pytest.fixture
def tracking(tmp_path, monkeypatch):
    """Have MLflow write to a folder, for this process and those that it starts."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")


@pytest.mark.usefixtures("tracking")
@pytest.mark.filterwarnings("default")  # MLflow's own
def test_mlflow_pyfunc_returns_label_lists_in_a_fresh_process(clf):
    pytest.importorskip("mlflow")
    tagger, log, load, *_ = blocks("MLflow")
    Path("tagger.py").write_text(tagger)
    namespace = {"clf": clf}
    exec(log, namespace)
    signature = namespace["info"].signature
    assert signature.inputs.input_names() == ["text"]
    assert signature.outputs.input_names() == ["labels", "scores"]
    Path("tagger.py").unlink()
    found = python(
        "import sys, mlflow, pandas as pd\n"
        f"class info: model_uri = {namespace['info'].model_uri!r}\n"
        f"texts = pd.DataFrame({{'text': {X[:2]!r}}})\n"
        f"{load}\nprint(frame.to_json(orient='records'))"
    )
    expected = clf.predict_topk(X[:2], k=3)
    assert [row["labels"] for row in found] == expected.labels.tolist()
    for row, scores in zip(found, expected.scores.tolist(), strict=True):
        assert row["scores"] == pytest.approx(scores, abs=0.01)  # float16


@pytest.mark.usefixtures("tracking")
@pytest.mark.filterwarnings("default")
def test_mlflow_sklearn_loads_the_same_estimator(clf):
    mlflow = pytest.importorskip("mlflow")
    with pytest.raises(mlflow.MlflowException, match="untrusted types") as error:
        mlflow.sklearn.log_model(clf, name="estimator", pip_requirements=["skxmc"])
    namespace = {"clf": clf}
    exec(blocks("MLflow")[3], namespace)
    assert all(repr(name) in str(error.value) for name in namespace["trusted"])
    loaded = namespace["estimator"].predict_topk(X, k=3)
    assert loaded.labels.tolist() == clf.predict_topk(X, k=3).labels.tolist()
    assert namespace["info"].signature is not None


# ---------------------------------------------------------------- FastAPI


def test_fastapi_predicts_waiting_texts_in_one_call(clf, tmp_path, monkeypatch):
    pytest.importorskip("fastapi")
    testclient = pytest.importorskip("fastapi.testclient")
    clf.save_pretrained(tmp_path / "model")
    (tmp_path / "skxmc_app.py").write_text(blocks("FastAPI")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    app = importlib.import_module("skxmc_app")
    calls, go, predict = [], threading.Event(), app.batcher._predict

    def held(texts, k):
        calls.append(len(texts))
        assert go.wait(30)
        return predict(texts, k)

    app.batcher._predict = held
    with testclient.TestClient(app.app) as client, ThreadPoolExecutor(8) as pool:

        def ask(text):
            return client.post("/predict", json={"text": text, "k": 3})

        answers = [pool.submit(ask, text) for text in X[:8]]
        while not (calls and app.batcher._n_waiting == 7):
            assert not any(answer.done() for answer in answers)
        go.set()
        found = [answer.result().json() for answer in answers]
        assert calls == [1, 7]
        assert [row["labels"] for row in found] == clf.predict_topk(X[:8], 3).labels.tolist()
        assert client.post("/predict", json={"text": "one", "k": 31}).status_code == 422
        app.batcher.close()
        assert ask("late").status_code == 503


# ---------------------------------------------------------------- Annif


def test_annif_suggests_and_evaluates_by_the_served_model(clf, tmp_path):
    annif = shutil.which("annif") or pytest.skip("the command annif is not on the PATH")
    corpus = tmp_path / "corpus.csv"
    with corpus.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "subject_uris"])
        for text, row in zip(X, Y, strict=True):
            writer.writerow([text, " ".join(f"<{URIS[label]}>" for label in row.indices)])
    (tmp_path / "vocabulary.tsv").write_text("".join(f"<{uri}>\t{uri[-5:]}\n" for uri in URIS))

    def run(*arguments, text=None):
        command = [annif, *map(str, arguments)]
        done = subprocess.run(
            command, cwd=tmp_path, input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    with serving(clf) as server:
        config = blocks("Annif", "ini")[0].replace(":8000/", f":{server.port}/")
        assert server.url in config
        (tmp_path / "projects.cfg").write_text(config)
        run("load-vocab", "-L", "en", "subjects", "vocabulary.tsv")
        suggested = run("suggest", "--limit", 3, "skxmc", text=X[0])
        metrics = run("eval", "--metric", "Precision@5", "skxmc", corpus)
    found = re.findall(r"<(\S+)>\t\S+\t(\S+)", suggested)
    labels, scores = clf.predict_topk(X[:1], k=3)
    assert [uri for uri, _ in found] == labels[0].tolist()
    assert [float(score) for _, score in found] == pytest.approx(scores[0].tolist(), abs=1e-4)
    best = clf.predict_topk(X, k=5).labels
    hits = [Y[[row]].toarray()[0, [URIS.index(uri) for uri in best[row]]] for row in range(len(X))]
    measured = float(re.search(r"Precision@5:\s+(\S+)", metrics)[1])
    assert measured == pytest.approx(sum(map(sum, hits)) / (5 * len(X)), abs=1e-3)
