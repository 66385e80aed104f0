"""`skxmc explain`."""

import functools
import json

import pytest
from classifier_fixtures import dataset, fitted
from command_line_fixtures import run_main, train_arguments
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline

import skxmc
from skxmc import LightXMLEnsemble, NeighborsClassifier, OmikujiClassifier

X, Y = dataset()
TEXT = X[3]


@functools.cache  # two fits of omikuji differ a little
def ensemble():
    near = NeighborsClassifier(FrozenEstimator(fitted("direct")), keep_texts=True)
    members = [("near", near.fit(X, Y)), ("words", OmikujiClassifier().fit(X, Y))]
    return LightXMLEnsemble.from_fitted(members)


@pytest.mark.parametrize("make", [fitted, ensemble, lambda: make_pipeline(None, ensemble())])
def test_explain_prints_what_explain_topk_returns(make, tmp_path, capsys):
    skxmc.save_pretrained(make(), tmp_path / "model")
    code, out, err = run_main(
        capsys, "explain", tmp_path / "model", TEXT, "-k", "3", "--words", "2"
    )
    assert (code, err) == (0, "")
    assert out == f"{skxmc.explain_topk(make(), TEXT, 3, n_words=2)}\n"


def test_explain_json_names_all_values(tmp_path, capsys):
    skxmc.save_pretrained(ensemble(), tmp_path / "model")
    code, out, _ = run_main(capsys, "explain", tmp_path / "model", TEXT, "--json")
    found, expected = json.loads(out), ensemble().explain_topk(TEXT)
    assert code == 0
    assert found["text"] == TEXT
    assert found["is_unfamiliar"] is None  # 64 texts are too few to tell
    assert len(found["labels"]) == 5
    for label, explained in zip(found["labels"], expected.labels, strict=True):
        assert label["label"] == explained.label
        assert label["words"] == [word._asdict() for word in explained.words]
        assert [member["name"] for member in label["members"]] == ["near", "words"]
    assert [near["text"] for near in found["neighbors"]] == [n.text for n in expected.neighbors]


def test_explain_other_model_is_an_error_in_one_line(tmp_path, capsys):
    vectorizer = make_pipeline(TfidfVectorizer().fit(X))
    skxmc.save_pretrained(vectorizer, tmp_path / "model")
    code, out, err = run_main(capsys, "explain", tmp_path / "model", TEXT)
    assert (code, out) == (1, "")
    assert "holds 'TfidfVectorizer', which is no classifier of skxmc. Give a classifier" in err
    assert err.count("\n") == 1


def test_train_keep_texts_of_language_only_returns_2(tmp_path, capsys):
    arguments = train_arguments("data", tmp_path / "model", "--keep-texts")
    code, _, err = run_main(capsys, *arguments)
    assert code == 2
    assert "--keep-texts: --language-only has no neighbors" in err
