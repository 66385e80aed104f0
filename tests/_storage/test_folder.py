"""Saved models as files: checksums, damage, replacement and earlier formats."""

import contextlib
import io
import json
import os
import pickle
import random
import re
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from classifier_fixtures import assert_same_predictions, dataset, fitted, make_classifier
from dataset_files import write
from safetensors.torch import load_file

import skxmc
from skxmc import LightXMLClassifier
from skxmc._storage import folder as folder_module
from skxmc._storage import pretrained
from skxmc._storage.folder import CONTENT, read_index, replace_content, verified_content

OLD_MODEL = Path(__file__).parents[1] / "data" / "model_of_format_1"
BITS_TO_FLIP = 200
DAMAGE = r"is damaged \(.+\)\. Copy or write its folder again\.|in a format newer than"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "model"
    fitted().save_pretrained(folder)
    return folder


@pytest.fixture
def copied(model, tmp_path):
    return shutil.copytree(model, tmp_path / "model")


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def is_noticed(folder, name):
    """Return whether loading a model fails because of damage to this file."""
    try:
        LightXMLClassifier.from_pretrained(folder)
    except ValueError as error:
        message = str(error)
    else:
        return False
    return bool(re.search(DAMAGE, message)) and (name in message or name == "skxmc.json")


def loads_alike(folder, expected):
    """Return whether a folder still gives the same parameters, labels and weights."""
    twin = LightXMLClassifier.from_pretrained(folder)
    return joblib.hash(twin.__getstate__()) == expected


# ---------------------------------------------------------------- damage


def test_from_pretrained_truncated_file_raises_value_error(copied):
    n_tried = 0
    for file in files_of(copied):
        whole = file.read_bytes()
        for size in range(0, len(whole), 1024):
            file.write_bytes(whole[:size])
            with pytest.raises(ValueError, match=DAMAGE):
                LightXMLClassifier.from_pretrained(copied)
            n_tried += 1
        file.write_bytes(whole)
    assert n_tried > len(files_of(copied))
    LightXMLClassifier.from_pretrained(copied)


def test_from_pretrained_missing_file_raises_value_error(copied):
    for file in files_of(copied / read_index(copied, "skxmc.json")["content"]):
        file.rename(copied / "aside")
        with pytest.raises(ValueError, match=rf"{file.name}' is damaged \(it is missing\)"):
            LightXMLClassifier.from_pretrained(copied)
        (copied / "aside").rename(file)


def test_from_pretrained_flipped_bit_raises_or_loads_same_model(copied):
    """Each file gets two hundred flips, one at a time. 1E-5 for 1e-5 in the index is harmless."""
    expected = joblib.hash(LightXMLClassifier.from_pretrained(copied).__getstate__())
    draw = random.Random(0)
    for file in files_of(copied):
        whole = bytearray(file.read_bytes())
        for _ in range(BITS_TO_FLIP):
            position, bit = draw.randrange(len(whole)), 1 << draw.randrange(8)
            whole[position] ^= bit
            file.write_bytes(whole)
            assert is_noticed(copied, file.name) or loads_alike(copied, expected)
            whole[position] ^= bit
        file.write_bytes(whole)
    assert loads_alike(copied, expected)


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", '{"format_version": 2}', "[" * 100_000])
def test_from_pretrained_invalid_index_raises_value_error(text, copied):
    (copied / "skxmc.json").write_text(text)
    with pytest.raises(ValueError, match=r"skxmc\.json' is damaged"):
        LightXMLClassifier.from_pretrained(copied)


def test_from_pretrained_checks_all_files_before_it_reads_any(copied, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("loaded")

    monkeypatch.setattr(skxmc._classifier, "read_model", fail)
    with pytest.raises(AssertionError, match="loaded"):
        LightXMLClassifier.from_pretrained(copied)
    (weights,) = copied.rglob("weights.safetensors")
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(ValueError, match="is damaged"):
        LightXMLClassifier.from_pretrained(copied)


# ---------------------------------------------------------------- replacement


@pytest.mark.parametrize("moment", ["before", "after"])
def test_replace_content_interrupted_leaves_old_or_new_content(moment, tmp_path, monkeypatch):
    """Each call that writes to the disk is interrupted in turn, before or after its work."""
    folder = tmp_path / "folder"

    def write(text):
        return lambda content: (content / "file").write_text(text)

    replace_content(folder, "index.json", {"n": 0}, write("old"))
    calls = []
    real = {name: getattr(os, name) for name in ("open", "fsync", "replace", "mkdir")}

    def counting(name):
        def call(*args, **kwargs):
            calls.append(name)
            if len(calls) - 1 == fails_at:
                if moment == "after":
                    with contextlib.suppress(OSError):
                        real[name](*args, **kwargs)
                raise KeyboardInterrupt
            return real[name](*args, **kwargs)

        return call

    for fails_at in range(100):
        calls.clear()
        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, counting(name))
            try:
                replace_content(folder, "index.json", {"n": 1}, write("new"))
            except KeyboardInterrupt:
                interrupted = True
            else:
                interrupted = False
        content = verified_content(folder, "index.json")
        n = read_index(folder, "index.json")["n"]
        assert (content / "file").read_text() == ["old", "new"][n]
        is_committed = "replace" in calls[: fails_at + (moment == "after")]
        assert n == is_committed
        if not is_committed:
            assert sorted(os.listdir(folder)) == [content.name, "index.json"]
        if is_committed:
            replace_content(folder, "index.json", {"n": 0}, write("old"))
        if not interrupted:
            break
    assert fails_at >= 5
    assert sorted(p.name.split("-")[0] for p in folder.iterdir()) == ["content", "index.json"]


def test_replace_content_failing_write_leaves_no_new_folder(tmp_path):
    def fail(content):
        (content / "file").write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        replace_content(tmp_path / "a" / "b", "index.json", {}, fail)
    assert not (tmp_path / "a" / "b").exists()


def test_replace_content_waits_for_other_writer(tmp_path):
    pytest.importorskip("fcntl")
    is_written = threading.Event()

    def write_slowly(content):
        is_written.set()
        (content / "file").write_text("first")
        time.sleep(0.3)
        assert (content / "file").read_text() == "first"  # the other writer has not removed it

    def replace(n, write):
        replace_content(tmp_path / "folder", "index.json", {"n": n}, write)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(replace, 1, write_slowly)
        is_written.wait()
        replace(2, lambda content: (content / "file").write_text("second"))
        first.result()
    content = verified_content(tmp_path / "folder", "index.json")
    assert (content / "file").read_text() == "second"
    assert read_index(tmp_path / "folder", "index.json")["n"] == 2
    assert len(list((tmp_path / "folder").iterdir())) == 2


def test_save_pretrained_waits_until_model_is_read(copied, monkeypatch):
    pytest.importorskip("fcntl")
    read_model, replaced = pretrained.read_model, []

    def read_slowly(content, description):
        replaced.append(pool.submit(fitted("direct").save_pretrained, copied))
        time.sleep(0.5)
        assert not replaced[0].done()
        return read_model(content, description)

    with ThreadPoolExecutor(1) as pool, monkeypatch.context() as patch:
        patch.setattr(skxmc._classifier, "read_model", read_slowly)
        assert_same_predictions(LightXMLClassifier.from_pretrained(copied), fitted())
        replaced[0].result()
    assert_same_predictions(LightXMLClassifier.from_pretrained(copied), fitted("direct"))


@pytest.mark.skipif(os.name == "nt", reason="needs a system with a umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_save_pretrained_files_have_the_permissions_of_the_umask(umask, mode, tmp_path):
    """The umask alone decides who may read the files, those of safetensors too."""
    before = os.umask(umask)
    try:
        fitted().save_pretrained(tmp_path / "model")
    finally:
        os.umask(before)
    paths = [tmp_path / "model", *(tmp_path / "model").rglob("*")]
    modes = {path.name: path.stat().st_mode & 0o777 for path in paths if path.is_file()}
    assert modes == dict.fromkeys(modes, mode)
    assert "weights.safetensors" in modes
    of_folders = {path.stat().st_mode & 0o777 for path in paths if path.is_dir()}
    assert of_folders == {0o777 & ~umask}


def test_replace_content_syncs_files_and_folders_before_the_index(tmp_path, monkeypatch):
    """A power cut then leaves the old or the new content. Folders hold the names of files."""
    done = []
    sync, replace = folder_module._sync, os.replace
    monkeypatch.setattr(folder_module, "_sync", lambda path: (done.append(path.name), sync(path)))
    monkeypatch.setattr(os, "replace", lambda *a: (done.append("replaced"), replace(*a)))

    def write(content):
        (content / "deeper").mkdir()
        (content / "deeper" / "file").write_text("text")

    replace_content(tmp_path, "index.json", {}, write)
    content = read_index(tmp_path, "index.json")["content"]
    names = ["file", "deeper", content, tmp_path.name, "index.json.new", "replaced", tmp_path.name]
    assert done == names


# ---------------------------------------------------------------- earlier versions


def test_from_pretrained_format_1_predicts_as_before():
    expected = json.loads(OLD_MODEL.with_name("model_of_format_1_predictions.json").read_text())
    clf = LightXMLClassifier.from_pretrained(OLD_MODEL)
    assert json.loads((OLD_MODEL / "skxmc.json").read_text())["format_version"] == 1
    labels, scores = clf.predict_topk(expected["texts"], k=3)
    assert labels.tolist() == expected["labels"]
    np.testing.assert_allclose(scores, expected["scores"], atol=1e-4)
    assert clf.n_iter_ == 2


def test_save_pretrained_replaces_model_of_format_1(tmp_path):
    folder = shutil.copytree(OLD_MODEL, tmp_path / "model")
    clf = LightXMLClassifier.from_pretrained(folder)
    clf.save_pretrained(folder)
    content = read_index(folder, "skxmc.json")["content"]
    assert content.startswith(CONTENT)
    assert sorted(os.listdir(folder)) == [content, "skxmc.json"]
    assert_same_predictions(LightXMLClassifier.from_pretrained(folder), clf)


# ---------------------------------------------------------------- no pickle


def test_save_pretrained_keeps_files_of_the_user(model, copied, tmp_path):
    notes = tmp_path / "notes"
    (notes / "content-drafts").mkdir(parents=True)
    write(notes / "content-drafts" / "novel.txt", "It was")
    with pytest.raises(ValueError, match="is left unchanged"):
        fitted().save_pretrained(notes)
    (copied / "encoder").mkdir()
    own = [copied / "encoder" / "notes.txt", copied / "weights.safetensors", copied / "content-x"]
    for path in own:  # the names that format 1 used beside its index
        write(path, "mine")
    fitted().save_pretrained(copied)
    assert all(path.read_text() == "mine" for path in own)
    assert len(list(copied.glob("content-*"))) == 2


def test_saved_files_are_no_pickles(model):
    files = files_of(model)
    assert {file.suffix for file in files} == {".json", ".safetensors"}
    for file in files:
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        else:
            assert load_file(file)
        with pytest.raises((pickle.UnpicklingError, ValueError, EOFError, KeyError, IndexError)):
            pickle.loads(file.read_bytes())


def test_save_and_load_never_call_pickle(model, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("pickle")

    for module, name in [
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "dump"),
        (pickle, "dumps"),
        (pickle, "Unpickler"),
        (pickle, "Pickler"),
        (torch, "load"),
        (torch, "save"),
        (joblib, "load"),
        (joblib, "dump"),
    ]:
        monkeypatch.setattr(module, name, refuse)
    with pytest.raises(AssertionError, match="pickle"):
        torch.save({}, io.BytesIO())
    LightXMLClassifier.from_pretrained(model).save_pretrained(tmp_path / "again")


def test_source_never_trusts_remote_code_or_unpickles():
    """Every call that could run code of a model sets trust_remote_code=False."""
    found = []
    for file in Path(skxmc.__file__).parent.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"trust_remote_code\s*=\s*(?!False\b)", text), file
        assert not re.search(r"^\s*(import|from) (pickle|dill|cloudpickle|marshal)\b", text, re.M)
        assert not re.search(r"\btorch\.(load|save)\(", text), file
        found += re.findall(r"Auto\w+\.from_pretrained\(([^)]*)\)", text)
    assert len(found) >= 3
    assert all("trust_remote_code=False" in arguments for arguments in found)


def test_from_pretrained_model_with_code_does_not_run_it(tmp_path):
    """The model names its code in an auto_map, like models on the hub."""
    X, y = dataset()
    folder = tmp_path / "model"
    make_classifier(max_epochs=1).fit(X, y).save_pretrained(folder)

    def write(content):
        shutil.copytree(verified_content(folder, "skxmc.json"), content, dirs_exist_ok=True)
        for part, name in (("encoder", "config.json"), ("tokenizer", "tokenizer_config.json")):
            path = content / part / name
            config = json.loads(path.read_text())
            config["auto_map"] = {"AutoConfig": "evil.Config", "AutoTokenizer": ["evil.T", None]}
            path.write_text(json.dumps(config))
            (content / part / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")

    index = read_index(folder, "skxmc.json")
    versions = {name: index[name] for name in ("format_version", "skxmc_version")}
    replace_content(folder, "skxmc.json", versions, write)
    try:
        LightXMLClassifier.from_pretrained(folder)
    except ValueError as error:
        assert "trust_remote_code" in str(error)  # noqa: PT017
    assert not (tmp_path / "ran").exists()


def test_verified_content_checks_every_block_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_module, "READ_BLOCK", 7)
    replace_content(tmp_path / "a", "index.json", {}, lambda c: (c / "f").write_bytes(bytes(50)))
    file = verified_content(tmp_path / "a", "index.json") / "f"
    file.write_bytes(bytes(49) + b"x")
    with pytest.raises(ValueError, match="is damaged"):
        verified_content(tmp_path / "a", "index.json")


def test_from_pretrained_truncated_format_1_raises_value_error(tmp_path):
    folder = shutil.copytree(OLD_MODEL, tmp_path / "model")
    file = folder / "weights.safetensors"
    file.write_bytes(file.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"weights\.safetensors' is damaged"):
        LightXMLClassifier.from_pretrained(folder)
