"""The benchmarks run and print their tables. Their figures are not checked here."""

import argparse
import ast
import contextlib
import functools
import io
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from classifier_fixtures import fitted
from dataset_files import lines, write, write_npz
from scipy import sparse
from serving_fixtures import serving
from sklearn.utils import Bunch

import skxmc.datasets
from skxmc._training import optim
from skxmc._training.trainer import Trainer
from skxmc.datasets import load_icd10cm, make_xmc
from skxmc.metrics import precision_at_k

FOLDER = Path(__file__).parent.parent / "examples" / "benchmarks"
SMALL = ["--labels", "600", "--clusters", "32", "--dim", "8", "--batch", "2", "--tokens", "8"]
SETTINGS = ["--set", "max_epochs=1", "--set", "max_length=8"]


@pytest.fixture
def run(monkeypatch, capsys, narrow_minilm):
    """Return a function that runs a benchmark in this process and returns its output.

    Most of the time of a short process goes into its imports. A narrow encoder takes the place of
    MiniLM, and one chapter that of all of ICD-10-CM.
    """
    monkeypatch.syspath_prepend(str(FOLDER))
    import _common
    import _measure  # noqa: F401, keeps its own load_icd10cm

    monkeypatch.setattr(_common, "MINILM", narrow_minilm)
    chapter = functools.partial(load_icd10cm, chapters=[10])
    monkeypatch.setattr(skxmc.datasets, "load_icd10cm", chapter)
    monkeypatch.setattr(optim, "MAX_FULL_ENTRIES", optim.MAX_FULL_ENTRIES)  # benchmarks change it

    def run_here(command):
        script = str(FOLDER / command[0])
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [script, *command[1:]])
            runpy.run_path(script, run_name="__main__")
        return capsys.readouterr().out

    return run_here


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (
            ["training.py", *SMALL, "--pairs", "2", "--growth", "300", "900"],
            [
                "peak memory of the process:",
                "throughput, fraction of the bare encoder's:",
                "relative to the fewer labels:",
            ],
        ),
        (
            [
                "training.py",
                *SMALL,
                "--pairs",
                "2",
                "--profile",
                "--label-moments",
                "compact",
                "--encoder-dropout",
                "0",
            ],
            ["RowAdamW", "whole step"],
        ),
        (
            ["prediction.py", *SMALL, "--pairs", "2", "--single", "2", "--recalled", "4"],
            [
                "throughput, fraction of the bare encoder's:",
                "latency relative to the bare encoder:",
            ],
        ),
        (
            ["cache.py", "--texts", "100", "--pairs", "1"],
            ["time without, relative to with:"],
        ),
    ],
)
def test_benchmarks_small_input_print_results(command, expected, run):
    shown = run(command)
    for words in expected:
        assert words in shown


def test_ensemble_benchmark_prints_words_language_and_both(run):
    options = ["--chapters", "10", "--texts", "50", "--rounds", "1", "--single", "2"]
    shown = run(["ensemble.py", *options])
    rows = ["", "words", "language", "both, mean", "both, learned"]
    assert names_of_rows(shown) == rows


def test_activations_benchmark_prints_memory_and_time(run, monkeypatch):
    monkeypatch.setattr(Trainer, "train_step", Trainer.train_step)  # the benchmark times it
    options = ["--accumulate-steps", "2", "--batch", "2", "--tokens", "8", "--device", "cpu"]
    shown = run(["activations.py", *options, "--gradient-checkpointing"])
    assert "accumulate_steps=2, gradient_checkpointing=True: peak memory" in shown
    assert "s per step" in shown


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(("options", "memory"), [([], 0.5), (["--predict", "100"], 1.0)])
def test_distributed_benchmark_prints_times_and_memory_of_labels(run, options, memory):
    shown = run(["distributed.py", "--quick", "--precisions", "fp32", *options])
    rows = [line.split(" | ") for line in shown.splitlines() if ", fp32 | " in line]
    assert [mode for mode, *_ in rows] == ["dynamic, fp32", "full-label, fp32"]
    for _, times, ratio, _, of_memory in rows:
        assert re.fullmatch(r"\d+ \(\d+\), \d+ \(\d+\)", times)
        assert re.fullmatch(r"\d+\.\d\d \(\d+\.\d\d\)", ratio)
        assert float(of_memory) == pytest.approx(memory, abs=0.01)


def test_padding_benchmark_prints_a_row_per_pool(run):
    shown = run(["padding.py", "--quick"])
    assert "padding in training" in shown
    assert "128 | " in shown


@pytest.fixture
def shown_by_steps(run, monkeypatch):
    """Run here the steps that have processes of their own, and return what each prints."""
    shown = []

    def run_step(command, check):
        executable, script, *arguments = command
        assert executable == sys.executable
        assert check
        shown.append(run([Path(script).name, *arguments]))

    monkeypatch.setattr(subprocess, "run", run_step)
    return shown


def test_limits_benchmark_prints_peak_memory(run, shown_by_steps):
    run(["limits.py", "--texts", "100", "--matrix", "100", "40000"])
    _, of_list, of_chunks, of_training = shown_by_steps
    assert "predict_topk of 100 texts, from list" in of_list
    assert "predict_topk of 100 texts, from chunks" in of_chunks
    assert "fit: 1,024 clusters" in of_training


def test_memory_benchmark_prints_memory_by_use_and_files(run, monkeypatch):
    pytest.importorskip("resource")  # not on Windows
    printed = []

    def run_step(command, **_):
        printed.append(run([Path(command[1]).name, *command[2:]]))
        return SimpleNamespace(stdout=printed[-1])

    monkeypatch.setattr(subprocess, "run", run_step)
    options = ["--texts", "4", "--dim", "8", "--label-moments", "full", "compact"]
    last = run(["memory.py", "--labels", "600", *options])
    shown = "".join([*printed, last])
    found = re.findall(r"^  (\S.*\S) +(-?\d+\.\d\d)$", shown, re.M)
    of_files = [f"{dtype} on disk" for dtype in ("float16", "int8")]
    assert [name for name, _ in found[-4::2]] == of_files
    assert sum(name == "training, peak" for name, _ in found) == 2
    assert all(float(value) > 0 for name, value in found if name.endswith("peak"))


def test_clustering_benchmark_compares_both_in_turn(run, monkeypatch):
    """PECOS has an environment of its own, so a stand-in makes its clusters."""

    def cluster(command, **_):
        python, _, _, folder, size, threads, seed = command
        assert (python, size, threads, seed) == ("pecos/bin/python", "64", "1", "0")
        n_labels = sparse.load_npz(Path(folder) / "features.npz").shape[0]
        np.save(Path(folder) / "labels.npy", np.arange(n_labels) // 50)
        return SimpleNamespace(stdout="0.25\n")

    monkeypatch.setattr(subprocess, "run", cluster)
    options = ["--labels", "600", "--topics", "20", "--pairs", "1", "--threads", "1"]
    shown = run(["clustering.py", "--pecos", "pecos/bin/python", *options])
    assert "PECOS: 0.25 s (0.25-0.25), 12 clusters of 50 to 50, mean cosine" in shown
    of_pecos, ours = map(float, re.findall(r"centroid (\d\.\d+)", shown))
    assert ours > of_pecos
    assert "skxmc: " in shown


def test_optimizers_and_precision_benchmarks_print_a_row_per_kind(run, tmp_path, monkeypatch):
    pytest.importorskip("simple_icd_10_cm")
    data = skxmc.datasets.load_icd10cm()
    few = {name: data[name][:40] for name in ("X_train", "y_train", "X_test", "y_test")}
    monkeypatch.setattr(skxmc.datasets, "load_icd10cm", lambda: Bunch(**few))
    shown = run(["optimizers.py", "--epochs", "1", "--save", str(tmp_path)])
    rows = [line.split(" | ")[0] for line in shown.splitlines()]
    assert rows == ["optimizer", "full", "compact", "dense"]
    shown = run(["precision.py", str(tmp_path / "full.joblib"), "--single", "1"])
    rows = [line.split(" | ")[0] for line in shown.splitlines() if " | " in line]
    kinds = ["fp32", "bf16", "int8"], ["float32", "float16", "int8"]
    assert rows == ["prediction", *kinds[0], "file", *kinds[1]]


def test_onnx_benchmark_prints_a_row_per_way(run):
    pytest.importorskip("onnxruntime")
    sizes = ["--labels", "600", "--dim", "8", "--tokens", "8", "--batch", "2"]
    shown = run(["onnx_export.py", *sizes, "--rounds", "1", "--cpu-time"])
    ways = ["torch fp32", "torch bf16", "torch int8", "ONNX float32", "ONNX int8"]
    rows = [name for name in names_of_rows(shown) if not name.startswith("OpenVINO")]
    assert rows == ["what", *ways, "bare encoder in ONNX"] * 2


def test_serving_benchmark_prints_rates_and_answers_to_malformed_requests(run, monkeypatch):
    with serving(fitted()) as server:

        class Served(contextlib.nullcontext):
            """The process of the server is this one here."""

            def __init__(self, command, **_):
                assert command[1:] == ["-m", "skxmc", "serve", "model", "--port", "0"]
                super().__init__(self)
                self.stdout = io.StringIO(f"Serving model at http://127.0.0.1:{server.port} \n")

            def terminate(self):
                pass

        monkeypatch.setattr(subprocess, "Popen", Served)
        shown = run(["serving.py", "model", "--quick", "--clients", "1", "2"])
    assert re.findall(r"^(\d) \| \d+ \| .* ms \| .* ms$", shown, re.M) == ["1", "2"]
    (answers,) = re.findall(r"^50 malformed requests: (.*)$", shown, re.M)
    assert sum(ast.literal_eval(answers).values()) == 50
    assert "without JSON" not in answers
    assert "a good request afterwards: answered in" in shown


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_many_texts_benchmark_prints_phases(run, shown_by_steps):
    pytest.importorskip("pyarrow")
    pytest.importorskip("sklearn.callback")
    run(["many_texts.py", "--texts", "120", "--words", "20", "--labels", "40", "--steps", "2"])
    rows = [line.split(" | ") for line in shown_by_steps[1].splitlines()]
    phases = [name for name, *figures in rows if len(figures) == 4 and name != "between"]
    assert phases == [
        *("phase", "read labels, map texts", "check texts", "check labels"),
        *("features and clusters of labels", "tokens", "start at centroids", "training, 2 steps"),
    ]


GPU_PARTS = [
    *("parts of a step, dynamic", "parts of a step, full-label", "host", "file for a CPU"),
    *("prediction, dynamic, L = 600", "prediction, full-label, L = 600"),
    *(f"training, {mode}, L = 600, 2 x 8 tokens" for mode in ("dynamic", "full-label")),
]


def test_gpu_benchmark_quick_measures_every_part(run, monkeypatch, tmp_path):
    """The process that loads a file without a GPU is this one here."""

    def load(command, **options):
        assert command[0] == sys.executable
        assert options["env"]["CUDA_VISIBLE_DEVICES"] == ""
        return SimpleNamespace(returncode=0, stdout=run([Path(command[1]).name, *command[2:]]))

    monkeypatch.setattr(subprocess, "run", load)
    file = tmp_path / "gpu.json"
    run(["gpu.py", "--quick", "--device", "cpu", "--json", str(file)])
    found = json.loads(file.read_text())
    assert list(found) == ["machine", *GPU_PARTS]
    assert found["file for a CPU"]["same_best_label"] == 1
    for part in GPU_PARTS[:2]:
        assert found[part]["operations"] > 1000
        assert found[part]["ms"]["whole step"] > found[part]["ms"]["AdamW"] > 0
    for part in GPU_PARTS[4:6]:
        assert found[part]["8 tokens"]["texts_per_second"] > 0
    for part in GPU_PARTS[6:]:
        assert found[part]["ratio"] > 0


def test_gpu_benchmark_without_time_skips_parts_and_fails(run, tmp_path):
    file = tmp_path / "gpu.json"
    options = ["--quick", "--device", "cpu", "--json", str(file), "--minutes", "0"]
    message = rf"^Without figures: {GPU_PARTS[0]}, .*{GPU_PARTS[-1]}\.$"
    with pytest.raises(SystemExit, match=message):
        run(["gpu.py", *options])
    found = json.loads(file.read_text())
    assert [found[part] for part in GPU_PARTS] == [{"skipped": "no time left"}] * len(GPU_PARTS)


def test_gpu_benchmark_failed_part_says_why(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import gpu

    found = gpu.measured(lambda: 1 / 0, float("inf"), torch.device("cpu"))
    assert found == {"failure": "ZeroDivisionError: division by zero"}


@pytest.fixture
def data_set(tmp_path):
    """Write a small data set and return its folder."""
    texts, y = make_xmc(60, 12, n_labels_per_sample=2, n_words=40, random_state=0)
    for part, rows in (("trn", slice(0, 50)), ("tst", slice(50, 60))):
        write(tmp_path / f"X.{part}.txt", lines(texts[rows]))
        write_npz(tmp_path / f"Y.{part}.npz", y[rows].toarray())
    return str(tmp_path)


def names_of_rows(shown):
    return [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("| ")]


def test_training_benchmark_times_texts_of_data_set(data_set, run):
    options = ["--clusters", "0", "--growth", "0", "0", "--precision", "fp32", "--pairs", "2"]
    shown = run(["training.py", "--data", data_set, *options, "--batch", "2", "--tokens", "16"])
    assert "L = 12, C = 0" in shown
    assert "(mean) tokens" in shown
    assert "throughput, fraction of the bare encoder's:" in shown


@pytest.mark.filterwarnings("ignore:Too few held-out texts")
def test_accuracy_benchmark_prints_members_and_their_ensembles(data_set, run):
    shown = run(["accuracy.py", data_set, *SETTINGS, "--exponents", "0.5"])
    assert ": 50 texts, 12 labels, 10 to test" in shown
    ensembles = ["language + words", "language + neighbors", "language + neighbors + words"]
    fused = [f"{names}, {fusion}" for names in ensembles for fusion in ("mean", "learned")]
    rows = ["what", "words", "language", "neighbors", *fused, "the last, exponent 0.5"]
    assert names_of_rows(shown) == rows


@pytest.mark.filterwarnings("ignore:Too few held-out texts")
def test_accuracy_benchmark_without_language_uses_the_encoder_as_it_comes(data_set, run):
    shown = run(["accuracy.py", data_set, "--no-language"])
    fused = ["neighbors + words, mean", "neighbors + words, learned"]
    assert names_of_rows(shown) == ["what", "words", "neighbors", *fused]


def test_accuracy_benchmark_papers_recipe_uses_held_out_set(data_set, run):
    options = ["--hold-out", "8", "--texts", "30", "--paper", "--no-words", "--predict"]
    windows = {"max_length": 6, "long_text": "windows"}
    shown = run(["accuracy.py", data_set, *SETTINGS, *options, json.dumps(windows)])
    assert ": 30 texts, 12 labels, 8 to test" in shown
    assert "head_init='random'" in shown
    by_language = ["language", f"language, {windows}"]
    expected = ["what", *by_language, "neighbors", "language + neighbors, mean"]
    assert names_of_rows(shown) == expected
    assert len({line.split("|")[2] for line in shown.splitlines() if "| language" in line}) == 3


def test_linear_benchmark_trains_with_the_parameters_of_each_row(data_set, run, monkeypatch):
    omikuji = pytest.importorskip("omikuji")
    seen = []

    def train(path, settings, n_threads):
        seen.append((settings.linear_c, settings.cluster_balanced))
        return train_on_data(path, settings, n_threads)

    train_on_data = omikuji.Model.train_on_data
    monkeypatch.setattr(omikuji.Model, "train_on_data", train)
    pairs = '{"ngram_range": [1, 2], "C": 2}'
    shown = run(["linear.py", data_set, "--rows", "{}", pairs, '{"cluster_balanced": false}'])
    assert seen == [(1, True), (2, True), (1, False)]
    rows = ["what", "{}", "{'ngram_range': [1, 2], 'C': 2}", "{'cluster_balanced': False}"]
    assert names_of_rows(shown) == rows


@pytest.mark.filterwarnings("ignore:Too few held-out texts")
def test_ranker_benchmark_prints_members_and_their_ensembles(data_set, run):
    trees = ["words", "words and z", "words + words and z"]
    fused = [
        f"language + neighbors + {name}, {how}" for name in trees for how in ("mean", "learned")
    ]
    shown = run(["ranker.py", data_set, *SETTINGS])
    assert names_of_rows(shown) == ["what", "language", "neighbors", *trees[:2], *fused]


def test_ranker_benchmark_unseen_compares_seen_and_unseen_texts(data_set, run):
    shown = run(["ranker.py", data_set, *SETTINGS, "--unseen", "20"])
    parts = ["20 texts, seen", "20 texts, unseen", "30 texts, all seen", "50 texts, all"]
    rows = [f"{words}, {part}" for part in parts for words in ("words", "words and z")]
    assert names_of_rows(shown) == ["what", "language", *rows]


@pytest.fixture
def measure(monkeypatch):
    """Import the module that the accuracy benchmarks share."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import _measure

    return _measure


def test_hold_out_similar_texts_are_in_neither_part(measure):
    X = ["red wine vinegar", "red wine vinegar!", "blue sky", "green grass", "grey stones", "ten"]
    y = sparse.csr_array([[1, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]] * 8)
    X += [f"words of their own {i} {i}" for i in range(100, 134)]
    held_out, rest = measure.hold_out(X, y, np.array([0, 2, 1, 3, 5, 4]), 2)
    assert held_out.tolist() == [0, 2]
    assert rest.tolist() == [5, 4]  # 1 has the words of 0, 3 the labels of 2


def test_hold_out_synonyms_diagnoses_holds_out_no_descriptions(measure):
    pytest.importorskip("simple_icd_10_cm")
    X = ["Cholera", "a synonym", "Typhoid fever", "another one", "a third"]
    order = np.array([3, 0, 4, 2, 1])
    held_out, rest = measure.hold_out_synonyms(X, order, 2)
    assert held_out.tolist() == [3, 4]
    assert rest.tolist() == [0, 2, 1]


def test_load_label_texts_are_without_markup(measure, tmp_path, data_set):
    write(
        tmp_path / "output-items.txt", "".join(f"art <crafts> no {i} <p{i}>\n" for i in range(12))
    )
    whole = {"chapters": None, "hold_out": None, "texts": None}
    data = measure.load(argparse.Namespace(data=data_set, **whole))
    assert data.label_texts[3] == "art <crafts> no 3"
    pytest.importorskip("simple_icd_10_cm")
    assert measure.load(argparse.Namespace(data="icd10cm", **whole)).label_texts[2] == "Cholera"


def test_ablations_benchmark_prints_a_row_per_setting(data_set, run, narrow_minilm):
    options = [*SETTINGS, "--max-cluster-size", "4"]
    shown = run(["ablations.py", data_set, "--encoder", narrow_minilm, *options])
    rows = names_of_rows(shown)
    assert len(rows) == 11
    assert rows[-1] == "ensemble of three"


def test_new_labels_benchmark_prints_rows_per_number_of_examples(data_set, run, narrow_minilm):
    options = [*SETTINGS, "--max-cluster-size", "1", "--encoder", narrow_minilm]
    shown = run(["new_labels.py", data_set, *options])
    assert "1 new labels, " in shown
    ways = ["add_labels", "warm start, one epoch", "training anew", "neighbors, partial_fit"]
    assert names_of_rows(shown) == ["classifier", "without the new labels", *ways * 3]


def test_new_labels_benchmark_of_one_way_trains_once(run, narrow_minilm, trainers):
    pytest.importorskip("simple_icd_10_cm")
    options = [*SETTINGS, "--chapters", "12", "--texts", "60", "--encoder", narrow_minilm]
    shown = run(["new_labels.py", "icd10cm", *options, "--only", "add_labels"])
    assert names_of_rows(shown) == ["classifier", "without the new labels", *["add_labels"] * 3]
    assert len(trainers) == 1


@pytest.mark.filterwarnings("ignore:Too few held-out texts", "ignore:No .* has a precision")
def test_decisions_benchmark_prints_probabilities_and_decisions(data_set, run, narrow_minilm):
    shown = run(["decisions.py", data_set, *SETTINGS, "--encoder", narrow_minilm])
    models = ["words", "language", "all, mean", "all, learned"]
    decisions = np.repeat(models, 10).tolist()  # by default, and 3 targets by 3 rules
    assert names_of_rows(shown) == ["classifier", *models, "classifier", *decisions]


@pytest.mark.parametrize("options", [[], ["--specific"]])
def test_hierarchy_benchmark_leaves_no_answer_inconsistent(options, run, narrow_minilm):
    pytest.importorskip("omikuji")
    shown = run(["hierarchy.py", "--texts", "40", "--encoder", narrow_minilm, *options])
    found = re.findall(
        r"^(\w+): .* labels per text$|^  (\w+) +P@1.*inconsistent (.*)%$", shown, re.M
    )
    assert [name for name, *_ in found[::3]] == ["words", "neighbors", "language"]
    for (_, before, _), (_, after, share) in zip(found[1::3], found[2::3], strict=True):
        assert (before, after, share) == ("before", "after", "0.0")


def test_hierarchy_benchmark_finds_parents_and_inconsistent_answers(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import hierarchy

    assert hierarchy.parents_by_name(["a", "a / b", "a / b / c", "d / e"]) == {
        "a / b": "a",
        "a / b / c": "a / b",
    }
    ancestors = sparse.csr_array([[0, 0], [1, 0]])
    scores = sparse.csr_array([[0.5, 0.4], [0.4, 0.5], [0, 0.1], [0.1, 0]])
    assert hierarchy.is_inconsistent(scores, ancestors) == [False, True, True, False]


@pytest.fixture
def environments(tmp_path):
    """Make the environments of peers from this interpreter, which has omikuji only."""
    pytest.importorskip("resource")  # not on Windows
    for package in ("omikuji", "napkinxc"):
        folder = tmp_path / "environments" / package
        (folder / "bin").mkdir(parents=True)
        python = folder / "bin" / "python"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        requirements = FOLDER / "peers" / f"{package}.txt"
        (folder / "installed.txt").write_text(requirements.read_text())
    return str(tmp_path / "environments")


def test_peers_benchmark_measures_ours_and_peers_alike(data_set, run, environments, tmp_path):
    pytest.importorskip("omikuji")
    pytest.importorskip("matplotlib")
    plot = tmp_path / "peers.png"
    only = ["--only", "skxmc-words", "plt", "parabel"]
    shown = run(["peers.py", data_set, *only, "--environments", environments, "--plot", str(plot)])
    assert names_of_rows(shown) == ["system", "skxmc-words", "plt", "parabel"]
    header, _, ours, failed, peer = [line for line in shown.splitlines() if line.startswith("|")]
    assert "failed: ModuleNotFoundError: No module named 'napkinxc'" in failed
    assert len({line.count("|") for line in (header, ours, failed, peer)}) == 1
    for line in (ours, peer):
        p_at_1, *costs = re.findall(r"[\d.]+", line)
        assert 30 < float(p_at_1) <= 100  # chance is 17 %
        assert all(float(costs[i]) > 0 for i in (-3, -1))  # memory and time
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_peers_benchmark_stops_system_that_takes_too_long(data_set, run, environments):
    shown = run(["peers.py", data_set, "--only", "skxmc-neighbors", "--minutes", "0.001"])
    assert "| skxmc-neighbors | stopped after 0.001 minutes |" in shown


def test_peers_benchmark_takes_chapters_of_icd10cm(run, environments):
    pytest.importorskip("simple_icd_10_cm")
    data = ["icd10cm", "--chapters", "10", "--texts", "50"]
    shown = run(["peers.py", *data, "--only", "skxmc-words", "--environments", environments])
    assert "50 texts" in shown
    assert shown.splitlines()[-1].startswith("| skxmc-words | ")


def test_peers_benchmark_unknown_system_lists_systems(data_set, run, capsys):
    with pytest.raises(SystemExit):
        run(["peers.py", data_set, "--only", "fasttext"])
    message = capsys.readouterr().err
    assert "invalid choice: 'fasttext'" in message
    assert "skxmc-ensemble" in message


def test_peers_absent_labels_count_as_false(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import peers

    top = peers.top_of(np.array([[5, 2, 0, 1, 3], [-1] * 5]), 7)
    assert top.labels[0].tolist() == [5, 2, 0, 1, 3]
    true = sparse.csr_array([[0, 0, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 0, 1]])
    assert precision_at_k(peers.with_false(true), top, k=1) == 0.5
