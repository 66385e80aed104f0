"""`skxmc train`."""

import inspect
import json
import sys

import pytest
from classifier_fixtures import assert_same_predictions, encoder_path
from command_line_fixtures import (
    N_LABELS,
    feed,
    names,
    run_main,
    same_classifier,
    train_arguments,
    write_data,
)
from sklearn.utils import Bunch
from stopped_training import stop_after

from skxmc import LightXMLClassifier, LightXMLEnsemble, TextEncoder, make_classifier
from skxmc._cli import main
from skxmc._cli.arguments import build_parser
from skxmc._cli.model import load_model
from skxmc._cli.train import add_members, measure_test
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
    assert " s (epochs: 2), saved to " in err
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


def test_train_minutes_is_a_time_limit(data, tmp_path, run):
    arguments = train_arguments(data, tmp_path / "model", "--quiet", "--minutes", "1e-9")
    assert run(*arguments) == (0, "", "")
    clf = LightXMLClassifier.from_pretrained(tmp_path / "model")
    assert clf.time_limit == pytest.approx(6e-8)
    assert [epoch["n_steps"] for epoch in clf.history_] == [1]


@pytest.mark.parametrize("minutes", ["0", "-1", "inf", "nan", "ten"])
def test_train_minutes_of_no_use_returns_2(minutes, data, tmp_path, run, no_fit):
    arguments = train_arguments(data, tmp_path / "model", f"--minutes={minutes}")
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1].endswith(f"'{minutes}' is not a number of minutes above 0")


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
        ("max_epoch=3", "max_epoch: unknown. Did you mean max_epochs? Known are accumulate_st"),
        ("max_epochs=0", "'max_epochs' parameter of LightXMLClassifier must be a str among"),
        ("clusterer__max_cluster_size=0", "'max_cluster_size' parameter of Balanced"),
        ("clusterer__size=4", "clusterer__size: unknown"),
        ("clusterer=4", "set parameters of the clusterer, such as clusterer__max_cluster_size"),
        ("encoder=x", "use --encoder"),
        ("verbose=1", "use --quiet"),
        ("time_limit=60", "use --minutes"),
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


@pytest.fixture(scope="module")
def ensemble(data, tmp_path_factory):
    """Return the folder of the recommended ensemble, trained by the command."""
    pytest.importorskip("omikuji")
    folder = tmp_path_factory.mktemp("models") / "ensemble"
    arguments = train_arguments(data, folder, "--quiet", "--keep-texts", language_only=False)
    assert main(arguments) == 0
    return folder


def test_train_saves_the_recommended_ensemble(ensemble, data):
    found, read = LightXMLEnsemble.from_pretrained(ensemble), load_xmc(data)
    expected = make_classifier(encoder_path(), random_state=0).set_params(
        language=same_classifier(), neighbors__keep_texts=True
    )
    assert repr(found) == repr(expected)
    assert list(found.named_estimators_) == ["language", "neighbors", "words"]
    alone = same_classifier().fit(read.X_train, read.y_train, label_names=read.label_names)
    language = found.named_estimators_["language"]
    assert_same_predictions(language, alone, read.X_test)
    assert language.verbose == 0
    assert set(found.named_estimators_["neighbors"].texts_) <= set(read.X_train)


def test_predict_and_evaluate_read_an_ensemble(ensemble, data, run, monkeypatch):
    loaded = LightXMLEnsemble.from_pretrained(ensemble)
    feed(monkeypatch, b"bife bemo\n")
    code, out, err = run("predict", ensemble, "--json", "-k", 3)
    assert (code, err) == (0, "")
    assert json.loads(out)["labels"] == loaded.predict_topk(["bife bemo"], 3).labels[0].tolist()
    code, out, err = run("evaluate", ensemble, data, "--json")
    read = load_xmc(data)
    assert (code, json.loads(out)["P@1"]) == (
        0,
        pytest.approx(
            loaded.score(
                read.X_test, [[read.label_names[c] for c in row.indices] for row in read.y_test]
            )
        ),
    )


def test_measure_test_of_an_ensemble_tells_its_linear_member_alone(ensemble, data):
    clf, read = LightXMLEnsemble.from_pretrained(ensemble), load_xmc(data)
    tags = [[read.label_names[column] for column in row.indices] for row in read.y_test]
    report = measure_test(clf, Bunch(X_test=read.X_test, y_test=tags))
    words = clf.named_estimators_["words"]
    assert list(report) == ["test_texts", "P@1", "P@3", "P@5", "words_alone"]
    assert report["P@1"] == clf.score(read.X_test, tags)
    assert report["words_alone"]["P@1"] == words.score(read.X_test, tags) > 0


def test_predict_precision_reaches_the_members_of_an_ensemble(ensemble):
    arguments = build_parser().parse_args(["predict", str(ensemble), "--precision", "bf16"])
    clf = load_model(arguments)
    language, neighbors, _ = clf.estimators_
    assert language.precision == neighbors.encoder_.estimator.precision == "bf16"
    assert language.device == "cpu"


def test_inspect_describes_an_ensemble_and_its_members(ensemble, run):
    code, out, err = run("inspect", ensemble, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert (report["kind"], report["class"]) == ("model", "LightXMLEnsemble")
    assert (report["labels"], report["first_labels"]) == (N_LABELS, names()[:3])
    assert report["parameters_not_at_their_default"] == {"fusion": "auto", "random_state": 0}
    language, neighbors, words = report["members"].values()
    assert (language["class"], language["encoder"]) == ("LightXMLClassifier", encoder_path())
    assert [epoch["n_steps"] for epoch in language["history"]] == [4, 4]
    assert neighbors["class"] == "NeighborsClassifier"
    assert neighbors["parameters_not_at_their_default"] == {"keep_texts": True}
    assert words["class"] == "OmikujiClassifier"
    assert list(report["members"]) == ["language", "neighbors", "words"]


def test_ensemble_without_random_state_holds_out_the_same_texts_again():
    """Otherwise its language member could not resume from a checkpoint."""
    clf = add_members(LightXMLClassifier())
    assert (clf.random_state, clf.get_params()["language__random_state"]) == (0, None)


@pytest.mark.filterwarnings("always:omikuji is not installed")
def test_train_without_omikuji_warns_and_trains_the_others(data, tmp_path, run, monkeypatch):
    monkeypatch.setitem(sys.modules, "omikuji", None)
    arguments = train_arguments(data, tmp_path / "model", "--quiet", language_only=False)
    code, out, err = run(*arguments, "n_jobs=2")
    assert (code, out) == (0, "")
    assert err == (
        "skxmc: warning: omikuji is not installed, so the model has no member that reads words. "
        "To add it, run pip install omikuji, and train again.\n"
    )
    loaded = LightXMLEnsemble.from_pretrained(tmp_path / "model")
    assert list(loaded.named_estimators_) == ["language", "neighbors"]
    assert loaded.get_params()["language__n_jobs"] == 2


def test_predict_text_encoder_is_an_error_in_one_line(tmp_path, run):
    TextEncoder(encoder_path(), max_length=16).fit(["a"]).save_pretrained(tmp_path)
    code, _, err = run("predict", tmp_path)
    assert code == 1
    assert "holds 'TextEncoder', which is no classifier of skxmc. Give a classifier or an" in err
    assert run("inspect", tmp_path)[0] == 0


def test_train_help_names_the_default_encoder(run):
    default = inspect.signature(make_classifier).parameters["encoder"].default
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
