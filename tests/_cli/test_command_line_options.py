"""Options that several commands of `skxmc` share."""

import copy
import json

import pytest
import torch
from classifier_fixtures import encoder_path, fitted
from command_line_fixtures import run_main
from dataset_files import write

from skxmc import LightXMLClassifier


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_predict_device_option_replaces_device_of_the_model(tmp_path, capsys):
    twin = copy.deepcopy(fitted()).set_params(device="cuda")
    twin.save_pretrained(tmp_path / "model")
    (tmp_path / "texts").write_text("bife\n")
    arguments = ("predict", tmp_path / "model", tmp_path / "texts")
    assert "CPU" in run_main(capsys, *arguments)[2]  # the warning of a missing GPU
    code, _, err = run_main(capsys, *arguments, "--device", "cpu")
    assert (code, err) == (0, "")


def write_titles(folder):
    """Write a data folder whose texts have a title of one word and a content of two."""
    record = {"title": "café", "content": "two three", "target_ind": [0]}
    for name in ("trn.json", "tst.json"):
        content = json.dumps(record, ensure_ascii=False) + "\n"
        write(folder / name, content.encode("latin-1"))
    write(folder / "Yf.txt", "0\n")  # this is a label of `fitted()`
    return folder


@pytest.mark.parametrize(("fields", "n_words"), [(["title"], 1), (["title", "content"], 3)])
def test_commands_fields_and_encoding_reach_the_reader(
    fields, n_words, tmp_path, capsys, monkeypatch
):
    folder, model = write_titles(tmp_path), tmp_path / "model"
    fitted().save_pretrained(model)
    options = ("--fields", *fields, "--encoding", "latin-1")
    code, out, _ = run_main(capsys, "inspect", folder, "--json", *options)
    assert code == 0
    assert json.loads(out)["training"]["words_a_text"]["max"] == n_words
    seen = []

    def noting(self, X, *args, **kwargs):
        seen.append(list(X))
        raise ValueError("that will do")

    with monkeypatch.context() as patch:
        patch.setattr(LightXMLClassifier, "fit", noting)
        patch.setattr(LightXMLClassifier, "predict_topk", noting)
        train = ("train", folder, "--model", tmp_path / "new", "--encoder", encoder_path())
        train = (*train, "--language-only")
        run_main(capsys, *train, *options)
        run_main(capsys, "evaluate", model, folder, *options)
    texts = ["café", "café two three"][n_words // 3]
    assert [[" ".join(text.split()) for text in X] for X in seen] == [[texts], [texts]]
