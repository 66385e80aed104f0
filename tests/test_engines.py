"""The scripts of the pages on Ray, Spark and Dask run, if these are installed.

Continuous integration installs none of them: see `docs/contributing.md`. Spark also needs Java.
"""

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from classifier_fixtures import encoder_path
from sklearn.model_selection import GridSearchCV, KFold
from tiny_encoders import MINILM

import skxmc
from skxmc import LightXMLClassifier
from skxmc.datasets import make_xmc

GUIDE = Path(__file__).parents[1] / "docs" / "guide"
PARAMS = {
    "max_epochs": 1,
    "random_state": 0,
    "precision": "fp32",
    "max_length": 32,
    "n_feature_layers": 2,  # of a tiny encoder
}

pytestmark = pytest.mark.slow


def needs(package):
    """Skip a test if a package is not installed. Importing it would take seconds."""
    return pytest.mark.skipif(find_spec(package) is None, reason=f"needs {package}")


def run_script(page, folder, more=""):
    """Run the script of a page with a tiny encoder in fp32, and return what it prints."""
    text = (GUIDE / page).read_text("utf-8")
    scripts = re.findall(r"^```\S* ?python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (script,) = (one for one in scripts if "__main__" in one)
    params = ", ".join(f"{name}={value!r}" for name, value in PARAMS.items())
    script = script.replace(MINILM, encoder_path()).replace("max_epochs=1, random_state=0", params)
    assert params in script
    path = folder / "script.py"
    path.write_text(script + more)
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=3600,  # only guards against hanging
        env={
            **os.environ,
            "HOME": str(folder),  # Ray Train writes there
            "PYTHONPATH": os.pathsep.join(sys.path),
            "PYSPARK_PYTHON": sys.executable,
            "RAY_worker_niceness": "0",
        },
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def check_fit_and_predictions(folder):
    """Check that two processes have trained the model together, and the workers predict by it."""
    from pyarrow import parquet

    X, y = make_xmc(n_samples=64, n_labels=30, random_state=0)
    clf = skxmc.from_pretrained(folder / "tagger")
    alone = LightXMLClassifier(encoder_path(), batch_size=16, **PARAMS).fit(X, y)
    assert clf.history_[0]["n_steps"] == alone.history_[0]["n_steps"] == 4
    # The second process has another dropout. Two fits alone would be equal.
    losses = [model.history_[0]["loss"] for model in (clf, alone)]
    assert losses[0] == pytest.approx(losses[1], rel=0.2)
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)

    found = parquet.read_table(folder / "predictions").to_pydict()
    assert sorted(found) == ["labels", "scores", "text"]
    assert sorted(found["text"]) == sorted(X)
    labels, scores = clf.predict_topk(found["text"], k=5)
    np.testing.assert_allclose(found["scores"], scores, rtol=0, atol=1e-5)
    assert found["labels"] == labels.tolist()


@needs("ray")
def test_ray_trains_in_two_workers_and_predicts(tmp_path):
    run_script("ray.md", tmp_path)
    check_fit_and_predictions(tmp_path)


@needs("pyspark")
def test_spark_trains_in_two_processes_and_predicts(tmp_path):
    run_script("spark.md", tmp_path)
    check_fit_and_predictions(tmp_path)


@needs("distributed")
def test_dask_search_finds_what_one_process_finds(tmp_path):
    more = "    import json\n    print(json.dumps(list(search.cv_results_['mean_test_score'])))\n"
    found = json.loads(run_script("searching.md", tmp_path, more).splitlines()[-1])
    X, y = make_xmc(n_samples=60, n_labels=30, random_state=0)
    clf = LightXMLClassifier(encoder_path(), freeze_encoder=True, **PARAMS)
    search = GridSearchCV(clf, {"bottleneck_dim": [32, 128]}, cv=KFold(2), refit=False)
    assert found == pytest.approx(search.fit(X, y).cv_results_["mean_test_score"].tolist())
