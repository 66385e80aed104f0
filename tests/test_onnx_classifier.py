"""Models in ONNX: the export of LightXMLClassifier, and skxmc.serving without torch."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from classifier_fixtures import dataset, fitted, make_classifier
from sklearn.exceptions import NotFittedError

from skxmc import BalancedLabelClusterer
from skxmc.serving import OnnxClassifier

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

X, Y = dataset()
NAMES = [f"label {i} \ud800" for i in range(Y.shape[1])]
TEXTS = [*X, "", "bebo", " ".join(X[:5])]
MODELS = {
    "two-stage": fitted,
    "direct": lambda: fitted("direct"),
    "full-label": lambda: make_classifier(
        negative_sampling="none",
        clusterer=BalancedLabelClusterer(),
        max_epochs=1,
        pooling="alternate",
    ).fit(X, Y, label_names=NAMES),
    "static-separate": lambda: make_classifier(
        negative_sampling="static-separate", max_epochs=1, n_candidate_clusters=3
    ).fit(X, Y),
}


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return the folder of an exported two-stage model."""
    folder = tmp_path_factory.mktemp("onnx") / "model"
    fitted().export_onnx(folder, max_k=8)
    return folder


def assert_alike(served, clf, texts):
    """Compare the best scores, and the scores that the classifier gives to the same labels."""
    labels, scores = served.predict_topk(texts, k=6)
    np.testing.assert_allclose(scores, clf.predict_topk(texts, k=6).scores, rtol=0, atol=1e-4)
    column_of = {label: column for column, label in enumerate(clf.classes_.tolist())}
    columns = np.vectorize(column_of.get)(labels)
    expected = np.take_along_axis(clf.decision_function(texts).toarray(), columns, axis=1)
    np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-4)
    assert all(len(set(row)) == 6 for row in columns.tolist())


@pytest.mark.parametrize("name", MODELS)
def test_exported_model_predicts_as_the_classifier(name, exported, tmp_path):
    clf, folder = MODELS[name](), exported
    if name != "two-stage":
        folder = tmp_path / "model"
        clf.export_onnx(folder)
    served = OnnxClassifier(folder, n_threads=1, batch_size=7)
    assert served.classes_.tolist() == clf.classes_.tolist()
    assert served.classes_.dtype == clf.classes_.dtype
    assert_alike(served, clf, TEXTS)
    labels, scores = served.predict_topk([TEXTS[0]], k=1)
    assert (labels.dtype, scores.dtype) == (clf.classes_.dtype, np.float32)
    assert served.predict_topk([], k=3).labels.shape == (0, 3)
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["model.onnx", "skxmc-onnx.json", "tokenizer.json"]


def test_other_encoder_exports(tiny_encoder, tmp_path):
    """[CLS] of XLNet is the last token, and has a type."""
    clf = make_classifier(encoder=tiny_encoder("xlnet"), max_epochs=1, max_length=16).fit(X, Y)
    clf.export_onnx(tmp_path)
    assert_alike(OnnxClassifier(tmp_path), clf, X)


def test_int8_replaces_an_earlier_export(exported, tmp_path):
    """The tiny encoder is too small for int8. test_real_encoder.py compares the labels."""
    folder = shutil.copytree(exported, tmp_path / "model")
    fitted().export_onnx(folder, dtype="int8")
    assert b"MatMulInteger" in (folder / "model.onnx").read_bytes()
    found = OnnxClassifier(folder).predict_topk(X, k=5)
    assert not np.array_equal(found.scores, fitted().predict_topk(X, k=5).scores)
    assert found.scores.min() > 0


def test_serving_imports_no_torch_transformers_and_sklearn(exported):
    script = (
        "import json, sys\n"
        "from skxmc.serving import OnnxClassifier\n"
        "top = OnnxClassifier(sys.argv[1]).predict_topk(json.loads(sys.argv[2]), k=2)\n"
        "assert not {'torch', 'transformers', 'sklearn', 'onnx'} & set(sys.modules)\n"
        "print(json.dumps(top.labels.tolist()))"
    )
    command = [sys.executable, "-c", script, str(exported), json.dumps(X[:3])]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == fitted().predict_topk(X[:3], k=2).labels.tolist()


# ---------------------------------------------------------------- allowed labels


def test_predict_topk_with_choice_is_that_of_the_classifier(tmp_path):
    clf = MODELS["full-label"]()
    clf.export_onnx(tmp_path, max_k=30)
    served = OnnxClassifier(tmp_path, n_threads=1, batch_size=7)
    best = clf.predict_topk(X, k=4).labels
    threshold = float(np.median(clf.predict_topk(X, k=3).scores))
    for choice in (
        {"exclude": np.unique(best[:, 0])[:2]},
        {"exclude": best.tolist()},
        {"allow": NAMES[:2]},
        {"allow": best.tolist(), "exclude": NAMES[:15]},
        {"allow": best.tolist(), "threshold": threshold},
        {"threshold": threshold},
    ):
        found, expected = (each.predict_topk(X, k=3, **choice) for each in (served, clf))
        assert found.labels.tolist() == expected.labels.tolist()
        np.testing.assert_allclose(found.scores, expected.scores, rtol=0, atol=1e-4)


def test_predict_topk_fewer_allowed_labels_than_k_ends_in_none(exported):
    served = OnnxClassifier(exported)
    best = served.predict_topk(X[:1], k=8).labels[0]
    top = served.predict_topk(X[:1], k=3, allow=best[6:])
    assert top.labels.tolist() == [[*best[6:], None]]
    for exclude in (best[7:], [best[7:].tolist()]):
        top = served.predict_topk(X[:1], k=2, allow=best[6:], exclude=exclude)
        assert top.labels.tolist() == [[best[6], None]]


def test_predict_topk_too_few_of_exported_labels_allowed_raises(exported):
    served = OnnxClassifier(exported)
    best = served.predict_topk(X[:2], k=8).labels
    exclude = [[], best[1, 2:].tolist()]
    assert served.predict_topk(X[:2], k=2, exclude=exclude).labels[1].tolist() == [*best[1, :2]]
    message = (
        r"^The model was exported for at most 8 labels, of which only 2 are allowed for text 1, "
        r"but k is 3\. Lower k, or export again with a higher max_k\.$"
    )
    with pytest.raises(ValueError, match=message):
        served.predict_topk(X[:2], k=3, exclude=exclude)
    with pytest.raises(ValueError, match="allow holds 99, which is none of the classes"):
        served.predict_topk(X, k=3, allow=[99])
    with pytest.raises(TypeError, match="threshold is 'high'"):
        served.predict_topk(X, k=3, threshold="high")


# ---------------------------------------------------------------- errors


def test_k_above_max_k_and_other_wrong_values_raise(exported, tmp_path):
    served = OnnxClassifier(exported)
    with pytest.raises(ValueError, match=r"^k is 9, but the model was exported for at most 8 labe"):
        served.predict_topk(X, k=9)
    with pytest.raises(ValueError, match="k is 31, but there are only 30 labels"):
        served.predict_topk(X, k=31)
    with pytest.raises(ValueError, match=r"Pass a list: X=\[text\]"):
        served.predict_topk("one text", k=1)
    with pytest.raises(ValueError, match="max_k is 0, but must be a whole number"):
        fitted().export_onnx(tmp_path, max_k=0)
    with pytest.raises(ValueError, match="dtype must be one of 'float32', 'int8', got 'float16'"):
        fitted().export_onnx(tmp_path, dtype="float16")


def test_folder_of_something_else_raises(tmp_path):
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(ValueError, match=r"already exists and has no skxmc-onnx\.json, so it is"):
        fitted().export_onnx(tmp_path)
    with pytest.raises(ValueError, match=r"holds no exported model: it has no skxmc-onnx\.json"):
        OnnxClassifier(tmp_path)
    with pytest.raises(NotFittedError):
        make_classifier().export_onnx(tmp_path / "new")


def test_newer_format_raises(tmp_path):
    index = {"format_version": 2, "skxmc_version": "9.0"}
    (tmp_path / "skxmc-onnx.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"was written by skxmc 9\.0, in a format newer than this"):
        OnnxClassifier(tmp_path)


def test_missing_runtime_raises(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = r"^Models in ONNX need 'onnxruntime', which is not installed\. Run: pip install \"skx"
    with pytest.raises(ImportError, match=message):
        OnnxClassifier(tmp_path)
    with pytest.raises(ImportError, match=message):
        fitted().export_onnx(tmp_path / "model")
    assert not Path(tmp_path / "model").exists()


def test_encoder_whose_trace_differs_raises(tmp_path, monkeypatch):
    from skxmc._storage import onnx_export

    def wrong(top_labels, tokens, path):
        top_labels.network.label_table.bias.data.add_(1)
        trace(top_labels, tokens, path)
        top_labels.network.label_table.bias.data.sub_(1)

    trace = onnx_export._trace
    monkeypatch.setattr(onnx_export, "_trace", wrong)
    with pytest.raises(ValueError, match=r"could not be exported to ONNX \(its scores differ by "):
        fitted().export_onnx(tmp_path / "model")
    assert not (tmp_path / "model").exists()
