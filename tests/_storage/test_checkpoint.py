"""Checkpoints: folders that are refused, what they hold, and a full disk."""

import copy
import json
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from classifier_fixtures import (
    dataset,
    fitted,
    make_classifier,
)
from sklearn.base import clone
from stopped_training import Stopped, assert_same_model, stop_after

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc._storage import checkpoint as checkpoint_module
from skxmc._storage.checkpoint import Checkpoint, find_run, pack, unpack
from skxmc._storage.folder import replace_content

X, Y = dataset()


# ---------------------------------------------------------------- refused


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """The folder of a run that was stopped halfway."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(5, patch)
        with pytest.raises(Stopped):
            make_classifier(checkpoint_dir=folder).fit(X, Y)
    return folder


@pytest.mark.parametrize(
    ("params", "difference"),
    [
        ({"bottleneck_dim": 9}, "bottleneck_dim=8, not 9"),
        ({"max_epochs": 3}, "max_epochs=2, not 3"),
        ({"learning_rate": 2e-3}, "learning_rate=0.001, not 0.002"),
        ({"random_state": 1}, "random_state=0, not 1"),
        ({"swa_start": 0}, "swa_start=None, not 0"),
        ({"label_weight": {3: 2.0}}, "label_weight=None, not {3: 2.0}"),
        ({"label_weight": np.ones(30)}, "label_weight=None, not [1.0, 1.0"),
        ({"label_weight": range(1, 31)}, "label_weight=None, not [1, 2"),
        ({"clusterer": BalancedLabelClusterer(max_cluster_size=8)}, "clusterer={'max_cluster_size"),
    ],
)
def test_resume_with_other_parameters_raises_value_error(params, difference, stopped):
    clf = make_classifier(**params, checkpoint_dir=stopped)
    message = rf"holds a training run with {re.escape(difference)}.*give another folder or delete"
    with pytest.raises(ValueError, match=message):
        clf.fit(X, Y)
    assert not hasattr(clf, "network_")


@pytest.mark.parametrize(
    ("data", "difference"),
    [
        ((X[::-1], Y), "other texts"),
        ((X[:-1], Y[:-1]), "other texts"),
        ((X, Y[::-1]), "other labels"),
        ((X, Y, {"label_names": [f"l{i}" for i in range(30)]}), "other labels"),
        ((X, Y, {"label_texts": ["text"] * 30}), "other label_texts"),
        ((X, Y, {"label_features": np.eye(30)}), "other label_features"),
        ((X, Y, {"sample_weight": np.ones(64)}), "other sample_weight"),
        ((X, Y, {"validation_data": (X[:5], Y[:5])}), "other validation_data"),
    ],
)
def test_resume_with_other_data_raises_value_error(data, difference, stopped):
    X, y, *rest = data
    with pytest.raises(ValueError, match=f"holds a training run with {difference}"):
        make_classifier(checkpoint_dir=stopped).fit(X, y, **(rest[0] if rest else {}))


def test_resume_of_a_run_of_an_earlier_version_goes_on(stopped, monkeypatch):
    """The run lacks a parameter that was added since, and has one that does not matter now."""
    found = find_run(stopped)
    run = {name: value for name, value in found.run.items() if name != "accumulate_steps"}
    run["label_search"] = "exact"
    monkeypatch.setattr(checkpoint_module, "find_run", lambda folder: found._replace(run=run))
    with pytest.raises(ValueError, match="with accumulate_steps=1, not 2"):
        make_classifier(checkpoint_dir=stopped, accumulate_steps=2).fit(X, Y)
    assert_same_model(make_classifier(checkpoint_dir=stopped).fit(X, Y), fitted())


def test_resume_of_warm_start_without_its_weights_raises_value_error(tmp_path, monkeypatch):
    clf = copy.deepcopy(fitted()).set_params(warm_start=True, checkpoint_dir=tmp_path)
    clf.set_params(checkpoint_every=1)
    with monkeypatch.context() as patch:
        stop_after(5, patch)
        with pytest.raises(Stopped):
            clf.fit(X, Y)
    with pytest.raises(ValueError, match="weights of the warm start"):
        make_classifier(warm_start=True, checkpoint_dir=tmp_path).fit(X, Y)


def test_resume_with_other_unlearned_parameters_reaches_same_model(stopped):
    others = {
        "checkpoint_every": 3,
        "prediction_batch_size": 7,
        "threshold": 0.1,
        "label_search": "approximate",
        "n_jobs": 2,
    }
    clf = make_classifier(checkpoint_dir=stopped, **others).fit(X, Y)
    clf.set_params(prediction_batch_size=64)
    assert_same_model(clf, fitted())


def test_run_description_holds_all_parameters_that_decide_the_result(stopped):
    run = json.loads(next(stopped.rglob("training.json")).read_text())["run"]
    assert set(run) >= set(make_classifier().get_params(deep=False)) - {
        "checkpoint_dir",
        "checkpoint_every",
        "device",
        "gradient_checkpointing",
        "label_search",
        "memory",
        "n_jobs",
        "prediction_batch_size",
        "threshold",
        "time_limit",
        "verbose",
    }


def test_resume_frees_the_moments_that_were_read(stopped, monkeypatch):
    """They take the memory of two models until the run that was found is let go."""
    save, found = Checkpoint.save, []

    def noting(self, *args):
        found.append(self.found)
        save(self, *args)

    monkeypatch.setattr(Checkpoint, "save", noting)
    make_classifier(checkpoint_dir=stopped, checkpoint_every=1).fit(X, Y)
    assert found
    assert not any(found)


def test_resume_from_damaged_checkpoint_raises_value_error(stopped):
    for file in sorted(path for path in stopped.rglob("*") if path.is_file()):
        whole = file.read_bytes()
        for size in range(0, len(whole), 1024):
            file.write_bytes(whole[:size])
            with pytest.raises(ValueError, match=r"is damaged \("):
                make_classifier(checkpoint_dir=stopped).fit(X, Y)
        file.write_bytes(whole)
    assert_same_model(make_classifier(checkpoint_dir=stopped).fit(X, Y), fitted())


def test_find_run_blocks_replacement_until_it_has_read(stopped, monkeypatch):
    pytest.importorskip("fcntl")
    read_model, replaced = checkpoint_module.read_model, []

    def read_slowly(content, description):
        replaced.append(
            pool.submit(replace_content, stopped, checkpoint_module.INDEX, {}, lambda content: None)
        )
        time.sleep(0.3)
        assert not replaced[0].done()
        return read_model(content, description)

    monkeypatch.setattr(checkpoint_module, "read_model", read_slowly)
    with ThreadPoolExecutor(1) as pool:
        assert find_run(stopped) is not None
        replaced[0].result()


def test_resume_from_newer_format_raises_value_error(stopped, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "FORMAT_VERSION", 0)
    with pytest.raises(ValueError, match=r"was written by skxmc .*, in a format newer"):
        make_classifier(checkpoint_dir=stopped).fit(X, Y)


def test_checkpoint_dir_with_other_content_raises_and_stays(tmp_path):
    (tmp_path / "thesis").write_text("text")
    with pytest.raises(ValueError, match=r"already exists and has no checkpoint\.json"):
        make_classifier(checkpoint_dir=tmp_path).fit(X, Y)
    assert os.listdir(tmp_path) == ["thesis"]
    fitted().save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"already exists and has no checkpoint\.json"):
        make_classifier(checkpoint_dir=tmp_path / "model").fit(X, Y)


@pytest.mark.parametrize(
    ("params", "name"), [({"checkpoint_dir": 3}, "dir"), ({"checkpoint_every": 0}, "every")]
)
def test_fit_invalid_checkpoint_parameters_raise_value_error(params, name):
    with pytest.raises(ValueError, match=f"'checkpoint_{name}' parameter of LightXMLClassifier"):
        make_classifier(**params).fit(X, Y)


def test_checkpoint_is_no_saved_model_and_holds_no_pickle(stopped):
    with pytest.raises(ValueError, match="is not a saved model"):
        LightXMLClassifier.from_pretrained(stopped)
    suffixes = {path.suffix for path in stopped.rglob("*") if path.is_file()}
    assert suffixes == {".json", ".safetensors"}


def test_unpack_after_pack_restores_the_tree():
    tree = {
        "a": [torch.arange(3), {"b": torch.tensor(2.0, dtype=torch.bfloat16)}, None],
        "c": {"d": [1, 2.5, "text", float("-inf"), 2**100], "e": {}},
    }
    tensors = {}
    packed = json.loads(json.dumps(pack(tree, tensors)))
    assert sorted(tensors) == ["/a/0", "/a/1/b"]
    again = unpack(packed, tensors)
    assert again["c"] == tree["c"]
    assert torch.equal(again["a"][0], tree["a"][0])
    assert again["a"][1]["b"].dtype == torch.bfloat16
    assert again["a"][0].data_ptr() != tensors["/a/0"].data_ptr()


# ---------------------------------------------------------------- a full disk


def assert_previous_checkpoint_remains(folder, step):
    found = find_run(folder)
    assert found.state["trainer"]["progress"]["step"] == step
    names = sorted(path.name.split("-")[0] for path in folder.iterdir())
    assert names == ["checkpoint.json", "content"]


@pytest.mark.skipif(sys.platform != "linux", reason="needs limits of file sizes")
@pytest.mark.parametrize("n_bytes", [100, 4_000, 20_000, 60_000])
def test_fit_checkpoint_beyond_file_size_limit_keeps_previous_one(n_bytes, stopped):
    """A limit on the size of files acts like a full disk."""
    import resource  # not on Windows

    step = find_run(stopped).state["trainer"]["progress"]["step"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    clf = make_classifier(checkpoint_dir=stopped, checkpoint_every=1)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, limits[1]))
        with pytest.raises(OSError, match=r"A checkpoint could not be written.*Make room"):
            clf.fit(X, Y)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert_previous_checkpoint_remains(stopped, step)
    assert_same_model(clf.fit(X, Y), fitted())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 200 kB, with room for one checkpoint but not for two."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"may not mount a file system: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_fit_on_full_disk_keeps_previous_checkpoint(small_disk, tmp_path):
    clf = make_classifier(checkpoint_dir=small_disk / "run", checkpoint_every=1)
    with pytest.raises(OSError, match=r"could not be written.*No space left on device"):
        clf.fit(X, Y)  # no room for the second checkpoint beside the first
    assert_previous_checkpoint_remains(small_disk / "run", 1)
    shutil.copytree(small_disk / "run", tmp_path / "run")
    assert_same_model(clf.set_params(checkpoint_dir=tmp_path / "run").fit(X, Y), fitted())


def test_clone_and_saved_model_keep_checkpoint_dir(tmp_path):
    clf = make_classifier(checkpoint_dir=tmp_path / "a")
    assert clone(clf).checkpoint_dir == tmp_path / "a"
    clf.fit(X, Y).save_pretrained(tmp_path / "model")
    twin = LightXMLClassifier.from_pretrained(tmp_path / "model")
    assert twin.checkpoint_dir == str(tmp_path / "a")
