"""Every path that users give may begin with ~ and may be any path object."""

import os
from pathlib import Path

import pytest
from classifier_fixtures import (
    assert_same_predictions,
    dataset,
    encoder_path,
    fitted,
    make_classifier,
)
from dataset_files import write

from skxmc import LightXMLClassifier
from skxmc._cli import main
from skxmc._utils.paths import user_path
from skxmc.datasets import load_xmc

X, Y = dataset()
FORMS = [str, Path, lambda path: type("MyPath", (), {"__fspath__": lambda self: path})()]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A home directory of its own. The working directory is another one, and stays empty."""
    (tmp_path / "home").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "home"
    assert os.listdir(tmp_path / "here") == []


@pytest.mark.parametrize("form", FORMS, ids=["str", "Path", "PathLike"])
def test_user_path_tilde_is_the_home_directory(form, home):
    assert user_path(form("~/model")) == home / "model"
    assert user_path(form("data/~x")) == Path("data/~x")


@pytest.mark.parametrize("form", FORMS, ids=["str", "Path", "PathLike"])
def test_fit_paths_in_home_directory(form, home):
    (home / "encoder").symlink_to(encoder_path())
    clf = make_classifier(
        encoder=form("~/encoder"), checkpoint_dir=form("~/run"), memory=form("~/cache")
    )
    assert_same_predictions(clf.fit(X, Y), fitted())
    assert (home / "run" / "checkpoint.json").is_file()
    assert (home / "cache" / "joblib").is_dir()


@pytest.mark.parametrize("form", FORMS, ids=["str", "Path", "PathLike"])
def test_saved_model_in_home_directory(form, home):
    fitted().save_pretrained(form("~/model"))
    assert (home / "model" / "skxmc.json").is_file()
    assert_same_predictions(LightXMLClassifier.from_pretrained(form("~/model")), fitted())


@pytest.mark.parametrize("form", FORMS, ids=["str", "Path", "PathLike"])
def test_load_xmc_in_home_directory(form, home):
    (home / "data").mkdir()
    write(home / "data" / "train_texts.txt", b"taxes on land\n")
    write(home / "data" / "train_labels.txt", b"tax land\n")
    assert load_xmc(form("~/data")).X_train == ["taxes on land"]


def test_saved_model_with_path_objects_keeps_them_as_str(home):
    (home / "encoder").symlink_to(encoder_path())
    clf = make_classifier(encoder=Path("~/encoder"), memory=Path("~/cache"), max_epochs=1)
    clf.fit(X[:16], Y[:16]).save_pretrained(home / "model")
    loaded = LightXMLClassifier.from_pretrained(home / "model")
    assert loaded.encoder == os.path.join("~", "encoder")
    assert loaded.memory == os.path.join("~", "cache")
    loaded.predict_topk(X[:2], k=2)


def test_command_paths_in_home_directory(home, capsys):
    fitted().save_pretrained("~/model")
    write(home / "texts.txt", b"a text\n")
    main(["predict", "~/model", "~/texts.txt", "-k", "2"])
    main(["inspect", "~/model"])
    assert "30" in capsys.readouterr().out
