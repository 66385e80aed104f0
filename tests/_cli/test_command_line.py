"""The command line: `skxmc predict`, and behavior that all subcommands share."""

import argparse
import functools
import gzip
import importlib.metadata
import json
import runpy
import shutil
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from command_line_fixtures import (
    N_LABELS,
    feed,
    process,
    run_main,
    same_classifier,
    train_arguments,
    write_data,
)
from dataset_files import lines, write

import skxmc
from skxmc import LightXMLClassifier
from skxmc._cli import _describe, main, predict, report
from skxmc.datasets import make_xmc

ROOT = Path(__file__).parents[2]


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


# ---------------------------------------------------------------------- predict

TEXTS = ["bife bemo bire", "", "biki\u2028beza\x0cbeku", "bido " * 60]
# Lines end as in Windows, and the last line has no end.
CONTENT = "\r\n".join(TEXTS).encode()


def expected_top(model, k):
    top = LightXMLClassifier.from_pretrained(model).predict_topk(TEXTS, k)
    return top.labels.tolist(), top.scores


def json_lines(out):
    return [json.loads(line) for line in out.splitlines()]


@pytest.mark.parametrize("source", ["file", "gz", "stdin"])
@pytest.mark.parametrize("chunk_size", [1, 3, 4096])
def test_predict_json_writes_one_object_per_text(
    source, chunk_size, model, tmp_path, run, monkeypatch
):
    """Empty texts get an object too, and the chunk size makes no difference."""
    file = tmp_path / "texts.txt"
    if source == "gz":
        file = tmp_path / "texts.txt.gz"
        file.write_bytes(gzip.compress(CONTENT))
    else:
        file.write_bytes(CONTENT)
    feed(monkeypatch, CONTENT)
    arguments = ["predict", model, *([] if source == "stdin" else [file])]
    code, out, err = run(*arguments, "--json", "-k", 3, "--chunk-size", chunk_size)
    assert (code, err) == (0, "")
    labels, scores = expected_top(model, 3)
    found = json_lines(out)
    assert [line["labels"] for line in found] == labels
    np.testing.assert_allclose([line["scores"] for line in found], scores, rtol=1e-5, atol=1e-6)
    assert "état" in out  # not escaped


@pytest.mark.parametrize("name", ["texts.jsonl", "texts.json"])
def test_predict_reads_texts_of_json_lines(name, model, tmp_path, run):
    objects = [{"id": i, "title": text, "note": "unread"} for i, text in enumerate(TEXTS)]
    (tmp_path / name).write_text("\n".join(map(json.dumps, objects)) + "\n\n")
    code, out, err = run("predict", model, tmp_path / name, "--json", "-k", 3)
    assert (code, err) == (0, "")
    assert [line["labels"] for line in json_lines(out)] == expected_top(model, 3)[0]
    code, out, err = run("predict", model, tmp_path / name, "--fields", "body")
    assert code == 1
    assert "line 1: has no body, only id, title, note" in err


@pytest.mark.filterwarnings("always")
def test_predict_json_in_a_text_file_warns(model, tmp_path, run):
    (tmp_path / "texts.txt").write_text(json.dumps({"title": TEXTS[0]}) + "\n")
    code, out, err = run("predict", model, tmp_path / "texts.txt", "-k", 1)
    assert (code, out.count("\n")) == (0, 3)
    assert "seems to hold JSON objects, which are read as texts. Give a file whose name" in err


def test_predict_without_json_writes_labels_in_columns(model, run, monkeypatch):
    feed(monkeypatch, CONTENT)
    code, out, _ = run("predict", model, "-k", 2)
    assert code == 0
    labels, scores = expected_top(model, 2)
    heads = ["bife bemo bire", "(empty text)", "biki beza beku", ("bido " * 60)[:97] + "..."]
    blocks = [
        "\n".join(
            [head, *(f"  {s:.3f}  {label}" for label, s in zip(row, best, strict=True)), "\n"]
        )
        for head, row, best in zip(heads, labels, scores, strict=True)
    ]
    assert out == "".join(blocks)


def test_predict_threshold_keeps_labels_that_reach_it(model, run, monkeypatch):
    _, scores = expected_top(model, N_LABELS)
    middle = float(scores[0, 2])
    feed(monkeypatch, CONTENT)
    _, out, _ = run("predict", model, "--json", "-k", 10, "--threshold", middle)
    assert [len(line["labels"]) for line in json_lines(out)] == [
        min(10, int((row >= middle).sum())) for row in scores
    ]
    assert len(json_lines(out)[0]["scores"]) == 3
    feed(monkeypatch, b"bife\n")
    assert run("predict", model, "--threshold", 1)[1] == "bife\n  (no label)\n\n"


def test_predict_k_defaults_to_5_and_must_not_exceed_n_labels(model, run, monkeypatch):
    feed(monkeypatch, b"bife\n")
    assert len(json_lines(run("predict", model, "--json")[1])[0]["labels"]) == 5
    feed(monkeypatch, b"bife\n")
    code, out, err = run("predict", model, "-k", N_LABELS + 1)
    assert (code, out) == (1, "")
    assert err == "skxmc: error: k is 31, but there are only 30 labels. Lower k.\n"


def test_predict_model_of_few_labels_writes_them_all(tmp_path, run, monkeypatch):
    same_classifier().fit(["a b", "c"], [["x"], ["y"]]).save_pretrained(tmp_path)
    feed(monkeypatch, b"a\n")
    assert sorted(json_lines(run("predict", tmp_path, "--json")[1])[0]["labels"]) == ["x", "y"]


def test_predict_no_text_writes_nothing(model, run, monkeypatch):
    feed(monkeypatch, b"")
    assert run("predict", model) == (0, "", "")


def test_predict_encoding_decodes_texts_or_names_the_line(model, run, monkeypatch):
    feed(monkeypatch, b"bife\nb\xe9\n")
    code, _, err = run("predict", model)
    assert code == 1
    assert "standard input, line 2: not utf-8" in err
    feed(monkeypatch, b"bife\nb\xe9\n")
    code, out, _ = run("predict", model, "--encoding", "latin-1")
    assert code == 0
    assert "\nbé\n" in out


def test_predict_precision_and_device_change_scores_slightly(model, run, monkeypatch):
    feed(monkeypatch, CONTENT)
    _, exact, _ = run("predict", model, "--json")
    feed(monkeypatch, CONTENT)
    code, rough, _ = run("predict", model, "--json", "--precision", "bf16", "--device", "cpu")
    assert code == 0
    assert rough != exact
    first = [json_lines(out)[0]["scores"] for out in (exact, rough)]
    np.testing.assert_allclose(*first, atol=0.1)


def test_predict_from_terminal_prints_instructions(model, run, monkeypatch):
    feed(monkeypatch, b"bife\n")
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert run("predict", model)[2] == "Enter one text per line. End with Ctrl-D.\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-k", "0"], "'0' is not a whole number of at least 1"),
        (["--chunk-size", "x"], "'x' is not a whole number of at least 1"),
        (["--threshold", "2"], "'2' is not a number from 0 to 1"),
        (["--threshold", "x"], "'x' is not a number from 0 to 1"),
        (["--encoding", "utf-9"], "unknown encoding: utf-9. Try utf-8"),
        (["--precision", "fp8"], "'precision' parameter"),
        (["--device", "cuda:99"], "is not available"),
    ],
)
def test_predict_wrong_usage_returns_2_and_names_the_argument(arguments, message, model, run):
    code, out, err = run("predict", model, *arguments)
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]


def test_predict_and_inspect_damaged_model_name_the_file(model, tmp_path, run):
    for name, size in [("weights.safetensors", 1000), ("skxmc.json", 300)]:
        folder = tmp_path / name
        shutil.copytree(model, folder)
        (file,) = folder.rglob(name)
        file.write_bytes(file.read_bytes()[:size])
        for command in ("predict", "inspect"):
            code, out, err = run(command, folder)
            assert (code, out) == (1, "")
            assert f"{name}' is damaged (" in err
            assert err.endswith("Copy or write its folder again.\n")


# ---------------------------------------------------------------------- all subcommands


def test_command_version_prints_it(run):
    assert run("--version") == (0, f"skxmc {skxmc.__version__}\n", "")


def test_command_without_subcommand_returns_2(run):
    code, _, err = run()
    assert code == 2
    assert "the following arguments are required: COMMAND" in err


def test_command_debug_prints_traceback_of_error(tmp_path, run):
    plain = run("inspect", tmp_path / "nowhere")
    code, out, err = run("inspect", tmp_path / "nowhere", "--debug")
    assert plain[:2] == (code, out) == (1, "")
    assert err.startswith("Traceback")
    assert err.endswith(plain[2])
    assert "Traceback" not in plain[2]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ValueError("two\n lines"), "two lines"),
        (FileNotFoundError(2, "No such file", "x.txt"), "x.txt: No such file"),
        (OSError("disk full"), "disk full"),
        (KeyError("params"), "KeyError: 'params' (--debug shows where)"),
        (ValueError(), "ValueError:  (--debug shows where)"),
    ],
)
def test_command_error_is_described_in_one_line(error, words):
    assert _describe(error) == words


@pytest.mark.filterwarnings("always")
def test_command_warning_is_one_line_on_standard_error(run, model, monkeypatch):
    monkeypatch.setattr(predict, "run", lambda _: warnings.warn("odd\nthing", stacklevel=1))
    shown = warnings.showwarning
    assert run("predict", model) == (0, "", "skxmc: warning: odd thing\n")
    assert warnings.showwarning is shown


def test_command_interrupted_returns_130(run, model, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(predict, "run", interrupted)
    assert run("predict", model) == (130, "", "\nskxmc: interrupted\n")


def test_command_argument_error_while_running_returns_2(run, model, monkeypatch):
    def misused(_):
        raise argparse.ArgumentError(None, "not so")

    monkeypatch.setattr(predict, "run", misused)
    code, _, err = run("predict", model)
    assert code == 2
    assert err.endswith("skxmc predict: error: not so\n")


@pytest.mark.parametrize("shown", ["evaluate", "predict to a file", "predict to a terminal"])
def test_command_in_terminal_shows_progress_and_same_output(shown, data, model, run, monkeypatch):
    command = shown.split()[0]
    arguments = [model, data] if command == "evaluate" else [model, "--chunk-size", 2]
    feed(monkeypatch, b"bife\n" * 5)
    out = run(command, *arguments, "--json")[1]
    at_once = functools.partial(report.tqdm, mininterval=0, miniters=1)
    monkeypatch.setattr(report, "tqdm", at_once)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr("sys.stdout.isatty", lambda: shown == "predict to a terminal")
    feed(monkeypatch, b"bife\n" * 5)
    code, with_progress, err = run(command, *arguments, "--json")
    assert code == 0
    if shown == "predict to a terminal":
        assert err == ""
    else:
        assert ("32/32" if command == "evaluate" else "5 texts") in err
    without_time = [
        [line for line in lines.splitlines() if "ms_per_text" not in line]
        for lines in (out, with_progress)
    ]
    assert without_time[0] == without_time[1]


@pytest.fixture
def declared(monkeypatch):
    """Return what setup.py passes to setuptools."""
    keywords = {}
    monkeypatch.setattr("setuptools.setup", lambda **given: keywords.update(given))
    runpy.run_path(str(ROOT / "setup.py"))
    return keywords


def test_setup_py_packages_every_file_that_is_not_python(declared):
    files = [file.relative_to(ROOT) for file in (ROOT / "skxmc").rglob("*") if file.is_file()]
    packaged = declared["package_data"]
    for file in files:
        if file.suffix not in (".py", ".pyc"):
            assert file.name in packaged[".".join(file.parts[:-1])]


def test_entry_point_of_setup_py_is_the_command(declared):
    (script,) = declared["entry_points"]["console_scripts"]
    name, _, value = script.partition("=")
    assert name == "skxmc"
    assert importlib.metadata.EntryPoint(name, value, "console_scripts").load() is main
    assert "skxmc._cli" in declared["packages"]


def test_command_help_imports_nothing_slow():
    script = (
        "import sys\nfrom skxmc._cli import main\n"
        "try: main(['train', '--help'])\n"
        "finally: assert not {'torch', 'sklearn', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: skxmc train")


def test_command_error_returns_1_and_prints_one_line(tmp_path, run):
    code, out, err = run("inspect", tmp_path)
    assert (code, out) == (1, "")
    assert err.startswith(f"skxmc: error: {tmp_path} holds none of the layouts")
    assert err.count("\n") == 1


# ---------------------------------------------------------------------- processes


def test_process_trains_what_predict_and_evaluate_read_from_text_files(tmp_path, capsys):
    """They run on the simplest of the layouts."""
    texts, y = make_xmc(48, 10, random_state=0)
    rows = [" ".join(f"tag{label}" for label in y[[row]].indices) for row in range(48)]
    for part, of_part in (("train", slice(40)), ("test", slice(40, 48))):
        write(tmp_path / f"{part}_texts.txt", lines(texts[of_part]))
        write(tmp_path / f"{part}_labels.txt", lines(rows[of_part]))
    model, test_texts = tmp_path / "model", tmp_path / "test_texts.txt"
    with process(*train_arguments(tmp_path, model, "--json")) as command:
        out, err = command.communicate()
        assert command.returncode == 0, err
    assert json.loads(out)["texts"] == 40
    code, out, err = run_main(capsys, "predict", model, test_texts, "--json", "-k", 3)
    assert code == 0, err
    found = [json.loads(line)["labels"] for line in out.splitlines()]
    truth = [row.split() for row in rows[40:]]
    hits = [np.isin(*pair).mean() for pair in zip(found, truth, strict=True)]
    code, out, err = run_main(capsys, "evaluate", model, tmp_path, "--json")
    assert code == 0, err
    assert json.loads(out)["P@3"] == pytest.approx(np.mean(hits))


def test_predict_chunk_size_1_answers_each_line_until_ctrl_c(model):
    with process("predict", model, "--json", "--chunk-size", 1, "-k", 1) as command:
        for _ in range(2):
            command.stdin.write("bife\n")
            command.stdin.flush()
            (label,) = json.loads(command.stdout.readline())["labels"]
            assert label.startswith("état ")
        command.send_signal(signal.SIGINT)
        out, err = command.communicate()
        assert (command.returncode, out, err) == (130, "", "\nskxmc: interrupted\n")


def test_predict_closed_output_returns_141_silently(model, tmp_path):
    """This happens with `skxmc predict ... | head -1` in a shell."""
    (tmp_path / "texts.txt").write_text("bife\n" * 20_000)
    # Chunks fit the buffer, so that it still holds unwritten lines when the process ends.
    arguments = ["--json", "--chunk-size", 50, "-k", 1]
    with process("predict", model, tmp_path / "texts.txt", *arguments) as command:
        assert json.loads(command.stdout.readline())["labels"]
        command.stdout.close()
        assert command.stderr.read() == ""
        assert command.wait() == 141
