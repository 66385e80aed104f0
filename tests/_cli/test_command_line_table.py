"""The command line on tables: `train`, `evaluate`, `inspect` and `predict`."""

import contextlib
import csv
import functools
import io
import json

import numpy as np
import pytest
from command_line_fixtures import N_LABELS, names, run_main, train_arguments, write_data
from dataset_files import json_lines, write

from skxmc import LightXMLClassifier
from skxmc._cli import main, report
from skxmc._cli.arguments import build_parser
from skxmc.datasets import load_table, make_xmc
from skxmc.metrics import label_propensities, ndcg_at_k, precision_at_k, psp_at_k, recall_at_k

TEXTS, MATRIX = make_xmc(96, N_LABELS, n_labels_per_sample=2, n_noise_words=2, random_state=0)
TAGS = [[names()[column] for column in MATRIX[[row]].indices] for row in range(96)]
HEAD = ("number", "title", "body", "tags")
COLUMNS = ("--text", "title", "body", "--labels", "tags", "--separator", "; ")
OPTIONS = {"text": ["title", "body"], "labels": "tags", "separator": "; "}


def write_table(file, rows=slice(None), encoding="utf-8-sig"):
    """Write rows as Excel in Europe does, with a body of two lines in every text."""
    lines = [
        (i, text.split()[0], "\n".join(text.split(maxsplit=2)[1:]), "; ".join(tags))
        for i, (text, tags) in enumerate(zip(TEXTS, TAGS, strict=True))
    ]
    with file.open("w", encoding=encoding, newline="") as stream:
        csv.writer(stream, delimiter=";").writerows([HEAD, *lines[rows]])
    return file


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    return write_table(tmp_path_factory.mktemp("data") / "acts.csv")


@pytest.fixture(scope="module")
def trained(table):
    """Train on the table, and return the model and the report."""
    model, out = table.with_name("model"), io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(train_arguments(table, model, *COLUMNS, "--quiet", "--json")) == 0
    return model, json.loads(out.getvalue())


@pytest.fixture
def run(capsys):
    return lambda *arguments: run_main(capsys, *arguments)


@pytest.fixture
def no_fit(monkeypatch):
    """Stop at the beginning of the training."""

    def fit(*_, **__):
        raise ValueError("that will do")

    monkeypatch.setattr(LightXMLClassifier, "fit", fit)


# ---------------------------------------------------------------------- train


def test_train_table_holds_a_part_out_and_measures_it(table, trained):
    model, found = trained
    data = load_table(table, **OPTIONS, test="auto")
    assert (found["texts"], found["labels"]) == (86, len(data.label_names))
    clf = LightXMLClassifier.from_pretrained(model)
    assert clf.classes_.tolist() == data.label_names.tolist()
    top = clf.predict_topk(data.X_test, 5)
    classes = clf.classes_
    expected = {f"P@{k}": precision_at_k(data.y_test, top, k=k, classes=classes) for k in (1, 3, 5)}
    assert found["test"] == {"test_texts": 10, **expected}
    assert expected["P@5"] > 0


def test_train_table_with_test_table_prints_its_measures(table, tmp_path, run):
    """The format of the test table may differ."""
    records = [{"title": text, "body": None, "tags": ["new"]} for text in TEXTS[:7]]
    write(tmp_path / "test.jsonl", json_lines(records))
    options = (*COLUMNS, "--test", str(tmp_path / "test.jsonl"))
    code, out, err = run(*train_arguments(table, tmp_path / "model", *options))
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines == [["test_texts", "7"], *([f"P@{k}", "0.0", "%"] for k in (1, 3, 5))]
    assert err.startswith("96 texts, 28 labels, and 7 test texts\n")


@pytest.mark.parametrize(
    ("test", "said"),
    [("none", "96 texts, 28 labels\n"), ("0.25", "72 texts, 27 labels, and 24 test texts\n")],
)
def test_train_table_test_option_sets_the_share(test, said, table, tmp_path, run, no_fit):
    code, _, err = run(*train_arguments(table, tmp_path / "model", *COLUMNS, "--test", test))
    assert (code, err) == (1, f"{said}skxmc: error: that will do\n")


def test_train_model_folder_defaults_to_model():
    assert build_parser().parse_args(["train", "acts.csv"]).model == "model"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "is a table. Name its columns with --text and --labels. It has number, title, body, "),
        (("--text", "title"), "is a table. Name its columns with --labels. It has number, title"),
    ],
)
@pytest.mark.parametrize("command", ["train", "inspect", "evaluate"])
def test_command_table_without_columns_returns_2_and_lists_them(
    command, options, message, table, trained, run, no_fit
):
    data = [trained[0], table] if command == "evaluate" else [table]
    code, out, err = run(command, *data, *options)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]


@pytest.mark.parametrize("option", ["labels", "test"])
def test_command_table_options_for_a_folder_return_2(option, tmp_path, run):
    code, out, err = run("inspect", write_data(tmp_path), f"--{option}", "0.1")
    assert (code, out) == (2, "")
    assert f"--{option} belongs to a table, but {tmp_path} is none" in err


def test_command_errors_of_tables_are_one_line(table, tmp_path, run):
    code, out, err = run("inspect", table, "--text", "titel", "--labels", "tags")
    assert (code, out) == (1, "")
    assert err == (
        f"skxmc: error: {table} has no column 'titel'. Did you mean 'title'? Its columns are "
        "number, title, body, tags.\n"
    )
    missing = tmp_path / "no.csv"
    _, _, err = run("inspect", missing, "--text", "title", "--labels", "tags")
    assert err == f"skxmc: error: {missing}: No such file or directory\n"
    write(tmp_path / "acts.xlsx", "")
    _, _, err = run("inspect", tmp_path / "acts.xlsx", "--text", "title", "--labels", "tags")
    assert "acts.xlsx is not a table that can be read." in err


# ---------------------------------------------------------------------- inspect and evaluate


@pytest.mark.parametrize(("options", "n_test"), [((), None), (("--test", "auto"), 10)])
def test_inspect_table_describes_its_parts(options, n_test, table, run):
    code, out, err = run("inspect", table, *COLUMNS, *options, "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found["kind"], found["layout"]) == ("data", "table")
    assert found["training"]["texts"] == 96 - (n_test or 0)
    assert (found["test"] and found["test"]["texts"]) == n_test
    if n_test:
        assert found["test"]["texts_that_are_in_training"] == 0


def expected_measures(clf, texts, tags):
    top, classes = clf.predict_topk(texts, 5), clf.classes_
    measures = {f"P@{k}": precision_at_k(tags, top, k=k, classes=classes) for k in (1, 3, 5)}
    measures["R@5"] = recall_at_k(tags, top, k=5, classes=classes)
    measures["nDCG@5"] = ndcg_at_k(tags, top, k=5, classes=classes)
    return measures


@pytest.mark.filterwarnings("always")
def test_evaluate_table_without_test_part_measures_all_rows(trained, tmp_path, run):
    """There is no PSP, because nothing says how frequent the labels are in training."""
    rows = slice(50, 80)
    table = write_table(tmp_path / "test.csv", rows)
    code, out, _ = run("evaluate", trained[0], table, *COLUMNS, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["texts"] == 30
    clf = LightXMLClassifier.from_pretrained(trained[0])
    texts = load_table(table, **OPTIONS).X_train
    expected = expected_measures(clf, texts, TAGS[rows])
    assert {name: value for name, value in found.items() if "@" in name} == pytest.approx(expected)


@pytest.mark.filterwarnings("always")
def test_evaluate_table_with_test_part_measures_it_with_psp(table, trained, run):
    code, out, _ = run("evaluate", trained[0], table, *COLUMNS, "--test", "auto", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["texts"] == 10
    assert {k: found[k] for k in ("P@1", "P@3", "P@5")} == pytest.approx(
        {k: trained[1]["test"][k] for k in ("P@1", "P@3", "P@5")}
    )
    data = load_table(table, **OPTIONS, test="auto")
    clf = LightXMLClassifier.from_pretrained(trained[0])
    top = clf.predict_topk(data.X_test, 5)
    propensities = label_propensities(data.y_train)
    expected = psp_at_k(data.y_test, top, k=1, classes=clf.classes_, propensities=propensities)
    assert found["PSP@1"] == pytest.approx(expected)


# ---------------------------------------------------------------------- predict


def read_csv(file, **options):
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream, **options))


@pytest.mark.parametrize("chunk_size", [7, 4096])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_predict_output_has_rows_of_the_table_and_predictions(
    suffix, chunk_size, table, trained, tmp_path, run
):
    """Delimiter and byte order mark are those of the table, for a spreadsheet program."""
    output = tmp_path / f"out{suffix}"
    options = ("--text", "title", "body", "-k", 3, "--output", output, "--chunk-size", chunk_size)
    assert run("predict", trained[0], table, *options) == (0, "", "")
    delimiter = {".csv": ";", ".tsv": "\t"}[suffix]
    head, *rows = read_csv(output, delimiter=delimiter)
    added = ["label_1", "score_1", "label_2", "score_2", "label_3", "score_3"]
    assert head == ["\ufeffnumber", *HEAD[1:], *added]
    assert [row[:4] for row in rows] == read_csv(table, delimiter=";")[1:]
    clf = LightXMLClassifier.from_pretrained(trained[0])
    labels, scores = clf.predict_topk(load_table(table, **OPTIONS).X_train, 3)
    assert [row[4::2] for row in rows] == labels.tolist()
    found = np.array([row[5::2] for row in rows], dtype=float)
    np.testing.assert_allclose(found, scores, rtol=1e-5, atol=1e-6)
    again = load_table(output, text="title", labels=["label_1", "label_2", "label_3"])
    assert again.y_train.sum() == 3 * 96


def test_predict_output_of_json_lines_is_a_plain_csv_file(trained, tmp_path, run):
    records = [{"title": "bife", "old": ["é", 1]}, {"title": None, "note": "a,b"}]
    write(tmp_path / "texts.jsonl", json_lines(records))
    options = ("--text", "title", "-k", 2, "--threshold", 1, "--output", tmp_path / "out.csv")
    assert run("predict", trained[0], tmp_path / "texts.jsonl", *options) == (0, "", "")
    assert (tmp_path / "out.csv").read_text("utf-8") == (
        'title,old,note,label_1,score_1,label_2,score_2\nbife,"[""é"", 1]",,,,,\n,,"a,b",,,,\n'
    )


def test_predict_output_of_tsv_and_parquet_has_commas(trained, tmp_path, run):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(arrow.table({"id": [1], "title": ["bife"]}), tmp_path / "t.parquet")
    write(tmp_path / "t.tsv", "id\ttitle\n1\tbife\n")
    for name in ("t.parquet", "t.tsv"):
        options = ("--text", "title", "-k", 1, "--output", tmp_path / "out.csv")
        assert run("predict", trained[0], tmp_path / name, *options)[0] == 0
        assert (tmp_path / "out.csv").read_text("utf-8").startswith("id,title,label_1,score_1\n1,")


@pytest.mark.parametrize("options", [("--json",), ()])
def test_predict_table_without_output_prints_its_texts(options, trained, tmp_path, run):
    write(tmp_path / "texts.csv", 'title,body\nbife,"bemo\nbire"\n,\n"",x\n')
    code, out, err = run("predict", trained[0], tmp_path / "texts.csv", "--text", "title", *options)
    assert (code, err) == (0, "")
    if options:
        assert len(out.splitlines()) == 2
    else:
        assert [block.splitlines()[0] for block in out.split("\n\n")[:2]] == [
            "bife",
            "(empty text)",
        ]


def test_predict_table_without_text_returns_2_and_lists_columns(table, trained, run):
    code, out, err = run("predict", trained[0], table)
    assert (code, out) == (2, "")
    assert "Name its columns with --text. It has number, title, body, tags" in err


@pytest.mark.parametrize(
    ("texts", "output", "code", "message"),
    [
        ("texts.csv", "out.xlsx", 1, "out.xlsx cannot be written as a table. Give a name in .csv"),
        ("texts.csv", "texts.csv", 1, "texts.csv is the table of the texts. Give another file"),
        ("scored.csv", "out.csv", 1, "scored.csv has a column 'score_1', which --output would add"),
        (
            "texts.txt",
            "out.csv",
            2,
            "--output adds columns to a table, such as texts.csv, but FILE",
        ),
        ("-", "out.csv", 2, "--output adds columns to a table, such as texts.csv, but FILE is -"),
        ("torn.csv", "out.csv", 1, "torn.csv, line 3: malformed cells"),
    ],
)
def test_predict_output_error_leaves_no_new_file(
    texts, output, code, message, trained, tmp_path, run, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "texts.csv", "title\nbife\n")
    write(tmp_path / "texts.txt", "bife\n")
    write(tmp_path / "scored.csv", "title,score_1\nbife,1\n")
    write(tmp_path / "torn.csv", 'title\nbife\n"b\n')
    write(tmp_path / "out.csv", "of before\n")
    before = sorted(tmp_path.iterdir())
    arguments = (trained[0], texts, "--text", "title", "--chunk-size", 1, "--output", output)
    found, _, err = run("predict", *arguments)
    assert found == code
    assert message in err.splitlines()[-1]
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "out.csv").read_text() == "of before\n"
    assert run("predict", *arguments, "--json")[0] == 2


def test_predict_output_shows_progress_in_terminal(trained, tmp_path, run, monkeypatch):
    write(tmp_path / "texts.csv", "title\n" + "bife\n" * 5)
    monkeypatch.setattr(report, "tqdm", functools.partial(report.tqdm, mininterval=0, miniters=1))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    options = ("--text", "title", "--output", tmp_path / "out.csv")
    assert "5 texts" in run("predict", trained[0], tmp_path / "texts.csv", *options)[2]
