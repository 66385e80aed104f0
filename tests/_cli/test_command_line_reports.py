"""`skxmc evaluate` and `skxmc inspect`."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from classifier_fixtures import dataset, encoder_path, fitted, make_classifier
from command_line_fixtures import (
    N_LABELS,
    PARAMS,
    names,
    run_main,
    same_classifier,
    train_arguments,
    write_data,
)
from dataset_files import WRITERS, lines, write, write_lightxml
from scipy import sparse
from sklearn.utils import Bunch

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc._cli import evaluate, main
from skxmc._cli.arguments import build_parser
from skxmc._cli.evaluate import predict_timed
from skxmc._cli.inspect import changed_params, choices, describe_data
from skxmc._cli.report import PARAMETERS, count_texts, distribution, print_json, print_lines
from skxmc._cli.train import make_language
from skxmc._input.validation import check_labels
from skxmc._model.tokens import tokenize
from skxmc._topk import TopK
from skxmc._utils.progress import progress_bar
from skxmc.datasets import load_xmc
from skxmc.metrics import label_propensities, ndcg_at_k, precision_at_k, psp_at_k, recall_at_k


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    assert main(train_arguments(data, folder, "--quiet", "--dtype", "float16")) == 0
    return folder


@pytest.fixture
def run(capsys):
    return lambda *arguments: run_main(capsys, *arguments)


def collections(y, label_names):
    """Convert labels to lists, as users of the library would pass them."""
    return [label_names[row].tolist() for row in np.split(y.indices, y.indptr[1:-1])]


def expected_report(model, folder, k=5, a=0.55, b=1.5):
    """Compute the metrics with the public functions, which match labels by name."""
    clf, read = LightXMLClassifier.from_pretrained(model), load_xmc(folder)
    true = collections(read.y_test, read.label_names)
    classes = clf.classes_
    train = check_labels(collections(read.y_train, read.label_names), classes=classes).matrix
    top = clf.predict_topk(read.X_test, 10)
    p = label_propensities(train, a=a, b=b)
    report = {f"P@{r}": precision_at_k(true, top, k=r, classes=classes) for r in (1, 3, 5)}
    for r in (1, 3, 5):
        report[f"PSP@{r}"] = psp_at_k(true, top, k=r, classes=classes, propensities=p)
    report[f"R@{k}"] = recall_at_k(true, top, k=k, classes=classes)
    report[f"nDCG@{k}"] = ndcg_at_k(true, top, k=k, classes=classes)
    return report


def measured(report):
    return {name: value for name, value in report.items() if "@" in name}


# ---------------------------------------------------------------------- evaluate


@pytest.mark.parametrize(("k", "ab"), [(5, (0.55, 1.5)), (7, (0.5, 0.4))])
def test_evaluate_json_reports_metrics_of_public_functions(k, ab, data, model, run):
    code, out, err = run("evaluate", model, data, "--json", "-k", k, "--propensity", *ab)
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert measured(report) == pytest.approx(expected_report(model, data, k, *ab))
    assert min(measured(report).values()) > 0
    y_test = load_xmc(data).y_test
    assert report["texts"] == 32
    assert report["labels_of_the_model"] == N_LABELS
    assert report["labels_in_the_test_part"] == np.count_nonzero(y_test.sum(axis=0))
    assert report["labels_unknown_to_the_model"] == 0
    assert report["true_labels"] == y_test.nnz
    assert 0 < report["ms_per_text"] < 1000


def test_evaluate_without_json_prints_one_line_per_metric(data, model, run):
    code, out, _ = run("evaluate", model, data)
    assert code == 0
    shown = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert shown["texts"] == "32"
    for name, value in expected_report(model, data).items():
        assert shown[name] == f"{100 * value:.1f} %"


@pytest.mark.filterwarnings("always")
def test_evaluate_permuted_and_new_labels_are_matched_by_name(model, tmp_path, run):
    folder = write_data(tmp_path)
    order = np.random.default_rng(0).permutation(N_LABELS)
    renamed = np.array(names(), dtype=object)
    counts = load_xmc(folder).y_test.sum(axis=0)
    used, unused = np.flatnonzero(counts)[:2], np.flatnonzero(counts == 0)[0]
    renamed[[*used, unused]] = ["new 1", "new 2", "new, but in no test text"]
    for part in ("trn", "tst"):
        y = sparse.load_npz(folder / f"Y.{part}.npz").tocsc()[:, order]
        sparse.save_npz(folder / f"Y.{part}.npz", sparse.csr_matrix(y))
    write(folder / "output-items.txt", lines(renamed[order]))
    code, out, err = run("evaluate", model, folder, "--json")
    assert code == 0
    report = json.loads(out)
    assert report["labels_unknown_to_the_model"] == 2
    y_test = load_xmc(folder).y_test
    column = list(order).index
    n_missed = int(y_test[:, [column(used[0]), column(used[1])]].sum())
    assert report["true_labels_unknown_to_the_model"] == n_missed
    assert report["true_labels"] == y_test.nnz
    assert err == (
        f"skxmc: warning: {n_missed} of {y_test.nnz} true labels are unknown to the model and "
        "count as missed.\n"
    )
    assert measured(report) == pytest.approx(expected_report(model, folder))


@pytest.mark.filterwarnings("always")
def test_evaluate_model_of_numbers_matches_names_that_spell_them(tmp_path, run):
    fitted().save_pretrained(tmp_path / "model")
    folder = write_data(tmp_path / "data")
    numbers = 7 * np.arange(N_LABELS) % N_LABELS
    read = load_xmc(folder)
    unknown = read.y_test.indices[0]
    numbers[unknown] = N_LABELS
    write(folder / "output-items.txt", lines(numbers))
    report = json.loads(run("evaluate", tmp_path / "model", folder, "--json")[1])
    assert report["labels_unknown_to_the_model"] == 1
    assert report["true_labels_unknown_to_the_model"] == read.y_test[:, [unknown]].nnz
    true, top = collections(read.y_test, numbers), fitted().predict_topk(read.X_test, 5)
    assert report["R@5"] == pytest.approx(recall_at_k(true, top, k=5, classes=fitted().classes_))


@pytest.mark.filterwarnings("always")
def test_evaluate_labels_only_in_test_part_count_as_missed(tmp_path, run):
    """The layout of LightXML has no columns for these labels."""
    write_lightxml(tmp_path)
    clf = same_classifier().fit(["first", "odd", "ends"], [["a", "c"], ["b"], ["a"]])
    clf.save_pretrained(tmp_path / "model")
    code, out, err = run("evaluate", tmp_path / "model", tmp_path, "--json")
    assert code == 0
    report = json.loads(out)
    # The model knows two labels of "zz c b" and none of "yy yy xx". It has three labels.
    assert report["true_labels"] == 5
    assert report["true_labels_unknown_to_the_model"] == 3
    assert "3 of 5 true labels are unknown" in err
    assert report["R@3"] == pytest.approx((2 / 3 + 0) / 2)
    assert "P@5" not in report


def test_evaluate_no_label_in_common_is_an_error(data, tmp_path, run):
    fitted().save_pretrained(tmp_path)
    code, out, err = run("evaluate", tmp_path, data)
    assert (code, out) == (1, "")
    assert "have no label in common. The first label of the data is 'état 0', that of" in err


def test_evaluate_no_test_part_is_an_error(model, tmp_path, run):
    write_data(tmp_path)
    for file in tmp_path.glob("*tst*"):
        file.unlink()
    code, _, err = run("evaluate", model, tmp_path)
    assert code == 1
    assert "has no test part" in err


def test_predict_timed_excludes_a_first_call(monkeypatch):
    """The first call converts weights. All texts are predicted afterwards, block by block."""
    monkeypatch.setattr(evaluate, "PROGRESS_BLOCK", 2)
    monkeypatch.setattr(evaluate, "WARM_UP", 1)
    calls = []
    clock = SimpleNamespace(perf_counter=lambda: 3.0 * len(calls))
    monkeypatch.setattr(evaluate, "time", clock)

    class Recorder:
        def predict_topk(self, texts, k):
            calls.append((texts, k))
            of_length = np.array([[len(text)] for text in texts])
            return TopK(of_length, of_length / 10)

    top, milliseconds = predict_timed(Recorder(), ["a", "bb", "ccc", "dddd"], 4)
    assert calls == [(["a"], 4), (["a", "bb"], 4), (["ccc", "dddd"], 4)]
    np.testing.assert_array_equal(top.labels, [[1], [2], [3], [4]])
    np.testing.assert_array_equal(top.scores, [[0.1], [0.2], [0.3], [0.4]])
    assert milliseconds == 1000 * 2 * 3.0 / 4


# ---------------------------------------------------------------------- inspect: data


@pytest.mark.parametrize("compress", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("writer", WRITERS)
def test_inspect_data_json_describes_every_layout(writer, compress, tmp_path, run):
    writer(tmp_path, compress)
    code, out, err = run("inspect", tmp_path, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    is_lightxml = writer is write_lightxml
    layout = {"write_pecos": "PECOS", "write_lightxml": "LightXML"}
    assert report["layout"] == layout.get(writer.__name__, "Repository")
    assert report["labels"] == 3
    assert report["first_labels"] == list(load_xmc(tmp_path).label_names)
    assert report["training"] == {
        "texts": 4,
        "empty_texts": 1,
        "repeated_texts": 0,
        "texts_without_label": 1,
        "labels_a_text": distribution([2, 1, 0, 3]),
        "words_a_text": distribution([2, 3, 0, 2]),
    }
    assert report["test"] == {
        "texts": 2,
        "empty_texts": 0,
        "repeated_texts": 0,
        "texts_without_label": 0 if is_lightxml else 1,
        "labels_a_text": distribution([3, 2] if is_lightxml else [2, 0]),
        "words_a_text": distribution([1, 1]),
        "texts_that_are_in_training": 0,
        "true_labels_unknown_in_training": 3 if is_lightxml else 0,
    }
    doubled = describe_data(Bunch(**{**load_xmc(tmp_path), "X_train": ["a", "b", "a", "a"]}))
    assert doubled["training"]["repeated_texts"] == 2
    assert report["LightXMLClassifier_would_choose"] == {
        "mode": "direct",
        "clusters": 3,
        "max_epochs": 10,
    }


def test_inspect_data_counts_duplicates_and_labels_without_text(tmp_path, run):
    write_data(tmp_path)
    texts = (tmp_path / "X.trn.txt").read_text().splitlines()
    write(tmp_path / "X.tst.txt", lines([texts[3], texts[3], *["new"] * 30]))
    report = json.loads(run("inspect", tmp_path, "--json")[1])
    assert report["test"]["texts_that_are_in_training"] == 2
    counts = load_xmc(tmp_path).y_train.sum(axis=0)
    assert report["labels_without_training_text"] == np.count_nonzero(counts == 0) > 0
    assert report["training_texts_a_label"] == distribution(counts)


def test_inspect_data_encoder_counts_tokens_of_whole_texts(tmp_path, run, monkeypatch):
    monkeypatch.setattr("skxmc._cli.inspect.TOKENIZER_BLOCK", 5)
    write_data(tmp_path)
    texts = ["bido " * 300, *load_xmc(tmp_path).X_train[1:]]
    write(tmp_path / "X.trn.txt", lines(texts))
    report = json.loads(run("inspect", tmp_path, "--json", "--encoder", encoder_path())[1])
    lengths = tokenize(fitted().tokenizer_, texts, 10_000).lengths
    assert lengths.max() == 4 * 300 + 2
    assert report["training"]["tokens_a_text"] == distribution(lengths)


def test_inspect_data_without_json_prints_lines(data, run):
    code, out, err = run("inspect", data)
    assert (code, err) == (0, "")
    shown = [line.split(maxsplit=1) for line in out.splitlines()]
    assert ["layout", "PECOS"] in shown
    assert ["test"] in shown
    assert ["texts", "64"] in shown
    assert ["texts", "32"] in shown
    (words,) = {line[1] for line in shown if line[0] == "training_texts_a_label"}
    assert words.startswith("mean 4.33, min 0, 25% 1, median 2, ")


def test_inspect_data_empty_training_part_reports_none(tmp_path, run):
    write(tmp_path / "train_texts.txt", "")
    write(tmp_path / "train_labels.txt", "")
    report = json.loads(run("inspect", tmp_path, "--json")[1])
    assert report["test"] is report["LightXMLClassifier_would_choose"] is None
    assert report["training"]["words_a_text"] is None
    code, out, _ = run("inspect", tmp_path)
    assert code == 0
    assert out.splitlines()[-1].split() == ["LightXMLClassifier_would_choose", "none"]


@pytest.mark.parametrize(
    ("n_texts", "n_labels", "expected"),
    [
        (5_000, 32_767, ("direct", 32_767, 10)),
        (20_000, 32_768, ("two-stage", 512, 5)),
        (200_000, 670_000, ("two-stage", 8192, 2)),
        (500_000, 3_000_000, ("two-stage", 8192, 1)),
    ],
)
def test_choices_by_size_pick_mode_clusters_and_epochs(n_texts, n_labels, expected):
    assert tuple(choices(n_texts, n_labels).values()) == expected


def test_choices_of_data_are_those_of_fit():
    clf = same_classifier("direct", clusterer=BalancedLabelClusterer(), max_epochs="auto")
    clf.fit(*dataset())
    expected = {"mode": "direct", "clusters": clf.clusterer_.n_clusters_, "max_epochs": clf.n_iter_}
    assert choices(*dataset()[1].shape) == expected


# ---------------------------------------------------------------------- inspect: models


def test_inspect_model_json_describes_saved_model(model, run):
    code, out, err = run("inspect", model, "--json")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["kind"] == "model"
    assert report["encoder"] == encoder_path()
    assert report["encoder_type"] == "bert"
    assert report["labels"] == N_LABELS
    assert report["first_labels"] == names()[:3]
    assert (report["mode"], report["clusters"]) == ("two-stage", 8)
    assert report["weights"] == "float16"
    (weights,) = model.rglob("weights.safetensors")
    assert report["weights_bytes"] == weights.stat().st_size
    files = [file for file in model.rglob("*") if file.is_file()]
    assert report["all_files_bytes"] == sum(file.stat().st_size for file in files)
    changed = {name: str(value) for name, value in report[PARAMETERS].items()}
    assert changed == dict(pair.split("=") for pair in PARAMS) | {
        "learning_rate": "0.001",
        "head_learning_rate": "0.01",
    }
    assert report["history"] == LightXMLClassifier.from_pretrained(model).history_


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_inspect_model_of_numbered_labels_shows_numbers(dtype, tmp_path, run):
    fitted("direct").save_pretrained(tmp_path, dtype=dtype)
    report = json.loads(run("inspect", tmp_path, "--json")[1])
    assert report["labels"] == fitted("direct").n_labels_
    assert report["first_labels"] == [0, 1, 2]
    assert report["mode"] == "direct"
    assert report["weights"] == dtype


def test_inspect_model_without_json_prints_lines(model, run):
    code, out, _ = run("inspect", model)
    assert code == 0
    shown = [line.split(maxsplit=1) for line in out.splitlines()]
    assert ["first_labels", "état 0, état 1, état 2"] in shown
    assert ["clusterer__max_cluster_size", "4"] in shown
    (weights,) = model.rglob("weights.safetensors")
    size = weights.stat().st_size
    assert ["weights_bytes", f"{size / 1e6:,.1f} MB"] in shown
    assert shown[-1][0] == "2"
    assert shown[-1][1].startswith("epoch 1, loss ")


@pytest.mark.parametrize("weights", ['{"état 3": 2.5}', str([1, 2, 0.5] * 10)])
def test_inspect_model_shows_parameters_as_param_takes_them(weights, data, tmp_path, run):
    more = [f"label_weight={weights}", "max_grad_norm=null", "freeze_encoder=true", "swa_start=1"]
    arguments = [*train_arguments(data, tmp_path / "model", "--quiet"), *more]
    assert run(*arguments) == (0, "", "")
    expected = LightXMLClassifier.from_pretrained(tmp_path / "model").get_params(deep=False)
    changed = json.loads(run("inspect", tmp_path / "model", "--json")[1])[PARAMETERS]
    _, _, printed = run("inspect", tmp_path / "model")[1].partition(f"{PARAMETERS}\n")
    lines = printed[: printed.index("\nhistory")].splitlines()
    for pairs in (
        [f"{name}={json.dumps(value)}" for name, value in changed.items()],
        ["=".join(line.split(maxsplit=1)) for line in lines],
    ):
        parsed = build_parser().parse_args(["train", "data", "--param", *pairs]).params
        found = make_language(encoder_path(), parsed).get_params(deep=False)
        assert found.pop("clusterer").get_params() == expected["clusterer"].get_params()
        assert found == {name: expected[name] for name in found}


def test_inspect_model_of_numbered_labels_shows_their_weights(tmp_path, run):
    clf = make_classifier("direct", max_epochs=1, label_weight={3: 2.5}).fit(*dataset())
    clf.save_pretrained(tmp_path / "model")
    report = json.loads(run("inspect", tmp_path / "model", "--json")[1])
    assert report[PARAMETERS]["label_weight"] == {"3": 2.5}  # JSON has no other keys


def test_changed_params_omits_defaults_and_encoder():
    """The names are those that --param takes."""
    clf = LightXMLClassifier("some", clusterer=BalancedLabelClusterer(max_iter=3), dropout=0.25)
    params = clf.get_params(deep=False)
    params["clusterer"] = params["clusterer"].get_params()
    assert changed_params(params) == {"clusterer__max_iter": 3, "dropout": 0.25}
    assert changed_params(LightXMLClassifier().get_params()) == {}


# ---------------------------------------------------------------------- reports


def test_distribution_of_counts_has_mean_and_quantiles():
    counts = np.repeat([9, 2, 5], [1, 18, 1])
    assert distribution(counts) == {
        "mean": 2.5,
        "min": 2,
        "25%": 2,
        "median": 2,
        "75%": 2,
        "95%": 5,
        "max": 9,
    }
    assert distribution([]) is None


def test_print_json_nan_and_infinity_become_null(capsys):
    print_json({"loss": float("nan"), "history": [{"loss": float("-inf")}, {"loss": 0.5}]})
    found = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found == {"loss": None, "history": [{"loss": None}, {"loss": 0.5}]}


def test_progress_bars_without_standard_error_are_disabled(monkeypatch):
    """This happens with `skxmc evaluate ... 2>&-`."""
    monkeypatch.setattr("sys.stderr", None)
    with count_texts(2) as counter, progress_bar(1, total=2) as bar:
        counter.update(2)
        bar.update(2)
    assert counter.disable
    assert bar.disable


def test_print_lines_report_aligns_and_formats_values(capsys):
    report = {
        "texts": 1234567,
        "P@1": 0.12345,
        "ms": 0.123456,
        "none": None,
        "section": {"yes": True, "size_bytes": 2_345_678},
        "empty": {},
        "list": ["a", 1],
        "history": [{"epoch": 0, "loss": 1.5}],
    }
    print_lines(report)
    assert capsys.readouterr().out.splitlines() == [
        "texts         1,234,567",
        "P@1           12.3 %",
        "ms            0.1235",
        "none          none",
        "section",
        "  yes         True",
        "  size_bytes  2.3 MB",
        "empty         none",
        "list          a, 1",
        "history",
        "  1           epoch 0, loss 1.5",
    ]
