"""`skxmc train`."""

import inspect
import json

import pytest
from classifier_fixtures import assert_same_predictions
from command_line_fixtures import (
    N_LABELS,
    names,
    run_main,
    same_classifier,
    train_arguments,
    write_data,
)
from stopped_training import stop_after

from skxmc import LightXMLClassifier
from skxmc._cli import main
from skxmc._cli.arguments import build_parser
from skxmc.datasets import load_xmc


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    assert main(train_arguments(data, folder, "--quiet")) == 0
    return folder


@pytest.fixture
def run(capsys):
    return lambda *arguments: run_main(capsys, *arguments)


@pytest.fixture
def no_fit(monkeypatch):
    """Fail the test if training begins."""

    def fit(*_, **__):
        pytest.fail("trained before the check")

    monkeypatch.setattr(LightXMLClassifier, "fit", fit)


@pytest.mark.parametrize("label_texts", [False, True])
def test_train_saves_the_same_model_as_fit(label_texts, data, tmp_path, run):
    """Progress goes to standard error."""
    flags = ["--label-texts"] * label_texts
    code, out, err = run(*train_arguments(data, tmp_path / "model", *flags))
    assert (code, out) == (0, "")
    assert err.startswith(f"64 texts, {N_LABELS} labels\n")
    assert "epoch 2/2" in err
    assert "2 epochs in " in err
    found = LightXMLClassifier.from_pretrained(tmp_path / "model")
    assert found.classes_.tolist() == names()
    read = load_xmc(data)
    expected = same_classifier().fit(
        read.X_train,
        read.y_train,
        label_names=read.label_names,
        label_texts=names() if label_texts else None,
    )
    assert_same_predictions(found, expected, read.X_test)
    assert repr(found) == repr(expected)


def test_train_quiet_prints_nothing(data, tmp_path, run):
    assert run(*train_arguments(data, tmp_path / "model", "--quiet")) == (0, "", "")


def test_train_json_reports_sizes_time_and_history(data, tmp_path, run):
    code, out, err = run(*train_arguments(data, tmp_path / "model", "--quiet", "--json"))
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["texts"], report["labels"], report["epochs"]) == (64, N_LABELS, 2)
    files = [path for path in (tmp_path / "model").rglob("*") if path.is_file()]
    assert report["bytes"] == sum(file.stat().st_size for file in files)
    assert 0 < report["seconds"] < 600
    first, second = report["history"]
    assert [epoch["n_steps"] for epoch in report["history"]] == [4, 4]
    assert second["loss"] < first["loss"]


def test_train_early_stopping_prints_to_standard_error_only(data, tmp_path, run):
    arguments = [*train_arguments(data, tmp_path / "model"), "early_stopping=true"]
    code, out, err = run(*arguments)
    assert (code, out) == (0, "")
    assert "validation P@5" in err


@pytest.mark.filterwarnings("always")
def test_train_ctrl_c_saves_the_finished_epochs(data, tmp_path, run, monkeypatch):
    stop_after(5, monkeypatch, KeyboardInterrupt)
    code, _, err = run(*train_arguments(data, tmp_path / "model", "--quiet"))
    assert code == 0
    assert err.startswith("skxmc: warning: Training was interrupted after 1 epochs.")
    assert LightXMLClassifier.from_pretrained(tmp_path / "model").n_iter_ == 1


def test_train_existing_model_is_replaced_only_with_overwrite(data, tmp_path, run, no_fit):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "skxmc.json").write_text("{}")
    code, _, err = run(*train_arguments(data, folder))
    assert code == 1
    assert "holds a model. Give another folder, or pass --overwrite" in err
    with pytest.raises(pytest.fail.Exception, match="trained before"):
        run(*train_arguments(data, folder, "--overwrite"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("data", "already exists and has no skxmc.json, so it is left unchanged"),
        ("data/X.trn.txt/model", "cannot be written"),
    ],
)
def test_train_unwritable_folder_fails_before_training(model, message, tmp_path, run, no_fit):
    write_data(tmp_path / "data")
    code, out, err = run(*train_arguments(tmp_path / "data", tmp_path / model))
    assert (code, out) == (1, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("max_epoch=3", "max_epoch: unknown. Did you mean max_epochs? Known are batch_size, bo"),
        ("max_epochs=0", "'max_epochs' parameter of LightXMLClassifier must be a str among"),
        ("clusterer__max_cluster_size=0", "'max_cluster_size' parameter of Balanced"),
        ("clusterer__size=4", "clusterer__size: unknown"),
        ("clusterer=4", "set parameters of the clusterer, such as clusterer__max_cluster_size"),
        ("encoder=x", "use --encoder"),
        ("verbose=1", "use --quiet"),
        ("warm_start=true", "the command always trains a new model"),
        ("device=tpu", "device='tpu' is not a device name"),
        ("max_grad_norm=None", "values are JSON. Write max_grad_norm=null"),
        ("max_epochs", "'max_epochs' is not name=value"),
    ],
)
def test_train_wrong_parameter_returns_2_and_explains(param, message, data, tmp_path, run, no_fit):
    code, out, err = run(*train_arguments(data, tmp_path / "model"), param)
    assert (code, out) == (2, "")
    assert err.startswith("usage: skxmc train")
    assert message in err.splitlines()[-1]


def test_param_values_are_json_or_plain_words():
    pairs = ["a=1", "b=1.5", "c=null", "d=true", 'e="x"', "f=auto", "g=x=y", "h="]
    arguments = ["train", "data", "--model", "m", "--param", *pairs[:4], "--param", *pairs[4:]]
    found = build_parser().parse_args(arguments).params
    values = [1, 1.5, None, True, "x", "auto", "x=y", ""]
    assert found == list(zip("abcdefgh", values, strict=True))


def test_train_help_names_the_default_encoder(run):
    default = inspect.signature(LightXMLClassifier).parameters["encoder"].default
    assert f"(default: {default})" in " ".join(run("train", "--help")[1].split())


def test_train_missing_data_or_encoder_is_an_error_in_one_line(data, tmp_path, run):
    code, _, err = run(*train_arguments(tmp_path / "nowhere", tmp_path / "model"))
    assert (code, err) == (
        1,
        f"skxmc: error: {tmp_path / 'nowhere'} is not a folder. Pass the folder that holds the "
        "unpacked data set.\n",
    )
    arguments = train_arguments(data, tmp_path / "model", "--quiet")
    arguments[arguments.index("--encoder") + 1] = str(tmp_path / "no encoder")
    code, _, err = run(*arguments)
    assert code == 1
    assert "could not be loaded" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "model").exists()
