"""examples/reproduce_paper.py runs on a tiny data set in each layout that load_xmc reads."""

import runpy
import sys
from pathlib import Path

import pytest
from classifier_fixtures import encoder_path
from dataset_files import WRITERS, write_lightxml, write_pecos

# One of the few texts is Japanese.
pytestmark = pytest.mark.filterwarnings("ignore:The tokenizer of encoder=.* does not know")
SCRIPT = Path(__file__).parent.parent / "examples" / "reproduce_paper.py"
SMALL = [
    "max_epochs=1",
    "max_length=32",
    "n_feature_layers=2",
    "device=cpu",
    "verbose=0",
    "swa_start=null",
]


@pytest.fixture
def reproduce(monkeypatch, capsys, tmp_path):
    """Return a function that runs the script and returns its output."""

    def run(dataset, *arguments, changes=()):
        settings = [word for change in (*SMALL, *changes) for word in ("--set", change)]
        command = ["--dataset", dataset, "--data", str(tmp_path), *settings, *arguments]
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *command])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("write", WRITERS, ids=lambda f: f.__name__)
def test_reproduce_paper_any_layout_prints_results_beside_paper(write, reproduce, tmp_path):
    write(tmp_path)
    shown = reproduce("eurlex-4k", "--encoder", encoder_path())
    assert "4 training texts and 3 labels (in the paper 15,449 and 3,956), 2 test texts" in shown
    assert "paper, table 3, an ensemble  87.63 / 75.89 / 63.36" in shown
    row = next(line for line in shown.splitlines() if line.startswith("here  "))
    figures = [float(x) for x in row.removeprefix("here").split("/")]
    assert len(figures) == 2  # three labels have no P@5
    assert all(0 <= x <= 100 for x in figures)


@pytest.mark.parametrize(
    ("sampling", "printed"),
    [("dynamic", "47.14 / 42.02 / 38.23"), ("static", "43.36 / 38.55 / 34.96")],
)
def test_reproduce_paper_single_model_prints_table_5(sampling, printed, reproduce, tmp_path):
    write_lightxml(tmp_path)
    changes = [f"negative_sampling={sampling}", "clusterer__max_cluster_size=2"]
    shown = reproduce("amazon-670k", "--encoder", encoder_path(), changes=changes)
    assert f"paper, table 5, {sampling}" in shown
    assert printed in shown


@pytest.mark.parametrize(
    ("dataset", "changes", "encoders", "message"),
    [
        ("amazon-670k", ["negative_sampling=static"], 1, "ensembles are of dynamic negatives"),
        ("wiki-500k", [], 2, "ensemble for wiki-500k is of one encoder"),
    ],
)
def test_reproduce_paper_unknown_ensemble_raises_error(
    dataset, changes, encoders, message, reproduce, tmp_path
):
    write_lightxml(tmp_path)
    with pytest.raises(SystemExit, match=message):
        reproduce(dataset, "--ensemble", *["--encoder", encoder_path()] * encoders, changes=changes)


def test_reproduce_paper_without_test_part_raises_error(reproduce, tmp_path):
    write_pecos(tmp_path)
    for part in tmp_path.glob("*.tst.*"):
        part.unlink()
    with pytest.raises(SystemExit, match="has no test part"):
        reproduce("eurlex-4k", "--encoder", encoder_path())


@pytest.mark.parametrize("dataset", ["wiki10-31k", "wiki-500k"])
def test_reproduce_paper_ensemble_trains_its_members(dataset, reproduce, tmp_path):
    write_lightxml(tmp_path)
    encoders = ["--encoder", encoder_path()] * (1 if dataset == "wiki-500k" else 2)
    shown = reproduce(dataset, "--ensemble", *encoders)
    assert "paper, table 3, an ensemble" in shown
    assert shown.count("LightXMLClassifier(") == (3 if dataset == "wiki-500k" else 2)
