"""save_pretrained and from_pretrained: dtypes, parameters, replacement and errors."""

import copy
import json
import os

import joblib
import numpy as np
import pytest
import torch
from classifier_fixtures import (
    MODES,
    assert_same_predictions,
    dataset,
    fitted,
    generator_states,
    make_classifier,
)
from safetensors.torch import load_file

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc._storage import pretrained

X, Y = dataset()


def content(folder):
    """Return the folder of the files of a model."""
    return folder / json.loads((folder / "skxmc.json").read_text())["content"]


@pytest.mark.parametrize("mode", MODES)
def test_from_pretrained_float32_equals_saved_classifier(mode, tmp_path):
    clf = fitted(mode)
    clf.save_pretrained(tmp_path / "model")
    before = generator_states()
    twin = LightXMLClassifier.from_pretrained(tmp_path / "model")
    assert generator_states() == before
    assert_same_predictions(twin, clf)
    assert not twin.network_.training
    assert repr(twin) == repr(clf)
    assert twin.history_ == clf.history_
    assert (twin.n_iter_, twin.n_labels_) == (clf.n_iter_, clf.n_labels_)
    np.testing.assert_array_equal(twin.classes_, clf.classes_)
    assert twin.classes_.dtype == clf.classes_.dtype
    np.testing.assert_array_equal(twin.clusterer_.labels_, clf.clusterer_.labels_)
    assert twin.clusterer_.n_clusters_ == clf.clusterer_.n_clusters_
    assert twin.clusterer_.n_iter_ == clf.clusterer_.n_iter_


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.03), ("int8", 0.1)])
def test_from_pretrained_smaller_dtype_predicts_alike(mode, dtype, tolerance, tmp_path):
    clf = fitted(mode)
    clf.save_pretrained(tmp_path, dtype)
    twin = LightXMLClassifier.from_pretrained(tmp_path)
    expected, found = clf.decision_function(X).toarray(), twin.decision_function(X).toarray()
    assert np.abs(found - expected).max() > 0
    np.testing.assert_allclose(found, expected, atol=tolerance)
    stored = load_file(content(tmp_path) / "weights.safetensors")
    assert stored["bottleneck.bias"].dtype == torch.float16
    heads = ["label_table.weight"] + ["recall_head.weight"] * (mode == "two-stage")
    for name in heads:
        assert stored[name].dtype == getattr(torch, dtype), name
    for name, weight in twin.network_.state_dict().items():
        is_table = name == "label_table.weight"
        assert weight.dtype == (torch.float16 if is_table else torch.float32), name


def test_save_pretrained_int8_has_a_scale_per_label(tmp_path, monkeypatch):
    """Each label is rounded to 1 / 127 of its own largest entry, over several blocks of rows."""
    monkeypatch.setattr(pretrained, "ROWS_BLOCK", 3)
    clf = copy.deepcopy(fitted())
    table = clf.network_.label_table.by_cluster()
    table[1, 0] *= 1000.0
    table[2] = 0.0
    clf.save_pretrained(tmp_path, dtype="int8")
    found = LightXMLClassifier.from_pretrained(tmp_path).network_.label_table.by_cluster()
    step = table.abs().amax(dim=2, keepdim=True) / 127
    assert found.float().abs().sum(dim=2).count_nonzero() > 2 * 3
    assert ((found.float() - table).abs() <= 0.5 * step + 1e-3 * table.abs()).all()
    assert not found[2].any()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_warm_start_of_loaded_model_trains_in_float32(dtype, tmp_path):
    """The file stays unchanged, although it may be mapped into memory."""
    clf = make_classifier(max_epochs=1, warm_start=True).fit(X, Y)
    clf.save_pretrained(tmp_path, dtype=dtype)
    file = (content(tmp_path) / "weights.safetensors").read_bytes()
    twin = LightXMLClassifier.from_pretrained(tmp_path)
    before = twin.network_.label_table.weight.clone()
    twin.fit(X, Y)
    after = twin.network_.label_table.weight
    assert after.dtype == torch.float32
    assert after.isfinite().all()
    assert (after != before.float()).any()
    assert (content(tmp_path) / "weights.safetensors").read_bytes() == file


def test_pickle_of_loaded_float16_model_keeps_float16(tmp_path):
    fitted().save_pretrained(tmp_path / "model", dtype="float16")
    twin = LightXMLClassifier.from_pretrained(tmp_path / "model")
    joblib.dump(twin, tmp_path / "model.joblib")
    again = joblib.load(tmp_path / "model.joblib")
    assert again.network_.label_table.weight.dtype == torch.float16
    assert_same_predictions(again, twin)


def test_from_pretrained_restores_names_of_labels(tmp_path):
    tags = [["tax", "Ünïcode"], ["law"], []] * 4
    clf = make_classifier(max_epochs=1).fit(X[:12], tags)
    clf.save_pretrained(tmp_path)
    twin = LightXMLClassifier.from_pretrained(tmp_path)
    assert twin.classes_.tolist() == ["law", "tax", "Ünïcode"]
    assert_same_predictions(twin, clf)


def test_from_pretrained_restores_numbers_of_labels(tmp_path):
    clf = make_classifier(max_epochs=1).fit(X[:3], [[7], [40], [7]])
    clf.save_pretrained(tmp_path)
    twin = LightXMLClassifier.from_pretrained(tmp_path)
    np.testing.assert_array_equal(twin.classes_, clf.classes_)
    assert twin.classes_.dtype == clf.classes_.dtype


def test_save_pretrained_accepts_labels_with_lone_surrogates(tmp_path):
    clf = make_classifier("direct", max_epochs=1).fit(["a", "b"], [["\ud800"], ["税", "x"]])
    clf.save_pretrained(tmp_path)
    assert LightXMLClassifier.from_pretrained(tmp_path).classes_.tolist() == ["x", "税", "\ud800"]


def test_save_pretrained_accepts_numpy_dropout_rates(tmp_path):
    rates = {"dropout": np.float32(0.25), "encoder_dropout": np.float32(0.5)}
    clf = make_classifier(max_epochs=1, checkpoint_dir=tmp_path / "run", **rates).fit(X, Y)
    clf.save_pretrained(tmp_path / "model")
    twin = LightXMLClassifier.from_pretrained(tmp_path / "model")
    assert (twin.dropout, twin.encoder_dropout) == (0.25, 0.5)
    assert_same_predictions(twin, clf)


def test_from_pretrained_replaces_clusterer_subclass_by_base(tmp_path):
    class Own(BalancedLabelClusterer):
        def __init__(self, max_cluster_size="auto", *, alpha=1):
            super().__init__(max_cluster_size)
            self.alpha = alpha

    clf = make_classifier(clusterer=Own(6, alpha=2)).fit(X, Y)
    clf.save_pretrained(tmp_path)
    twin = LightXMLClassifier.from_pretrained(tmp_path)
    assert_same_predictions(twin, clf)
    assert repr(twin.clusterer) == "BalancedLabelClusterer(max_cluster_size=6)"


def test_save_pretrained_stores_object_parameters_as_none(tmp_path):
    clf = copy.deepcopy(fitted())
    clf.set_params(
        random_state=np.random.RandomState(0),
        memory=joblib.Memory(tmp_path / "cache"),
        max_epochs=np.int64(3),
        clusterer__random_state=np.random.RandomState(0),
    )
    clf.save_pretrained(tmp_path / "model")
    twin = LightXMLClassifier.from_pretrained(tmp_path / "model")
    assert twin.random_state is twin.memory is twin.clusterer.random_state is None
    assert twin.max_epochs == 3
    assert twin.clusterer.max_cluster_size == 4
    clf.set_params(clusterer=None).save_pretrained(tmp_path / "model")
    assert LightXMLClassifier.from_pretrained(tmp_path / "model").clusterer is None


# ---------------------------------------------------------------- folders


def test_save_pretrained_replaces_model_and_keeps_user_files(tmp_path):
    folder = tmp_path / "deep" / "model"
    fitted("direct").save_pretrained(folder)
    (folder / "notes").write_text("of the user")
    (folder / "content-0123456789").mkdir()  # of a killed process
    (folder / "skxmc.json.new").write_text("of a killed process")
    fitted().save_pretrained(str(folder))
    assert_same_predictions(LightXMLClassifier.from_pretrained(str(folder)), fitted())
    assert (folder / "notes").read_text() == "of the user"
    assert sorted(os.listdir(folder)) == [content(folder).name, "notes", "skxmc.json"]
    files = ["encoder", "model.json", "tokenizer", "weights.safetensors"]
    assert sorted(os.listdir(content(folder))) == files
    assert os.listdir(folder.parent) == ["model"]  # nothing is left beside it


def test_save_pretrained_that_fails_keeps_old_model(tmp_path):
    fitted().save_pretrained(tmp_path / "model")
    broken = copy.deepcopy(fitted())
    with torch.no_grad():
        broken.network_.recall_head.weight[0, 0] = 1e6
    with pytest.raises(ValueError, match=r"weights 'recall_head\.weight' do not fit float16"):
        broken.save_pretrained(tmp_path / "model", dtype="float16")
    assert_same_predictions(LightXMLClassifier.from_pretrained(tmp_path / "model"), fitted())
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["label_table.weight", "recall_head.bias"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_save_pretrained_nan_or_inf_weights_raise_value_error(dtype, name, value, tmp_path):
    broken = copy.deepcopy(fitted())
    with torch.no_grad():
        broken.network_.get_parameter(name).view(-1)[3] = value
    with pytest.raises(ValueError, match=f"'{name}' hold NaN or inf: training has diverged. Train"):
        broken.save_pretrained(tmp_path / "model", dtype=dtype)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_save_pretrained_to_other_file_or_folder_raises_value_error(kind, tmp_path):
    target = tmp_path / "precious"
    if kind == "file":
        target.write_text("thesis")
    else:
        target.mkdir()
        (target / "thesis").write_text("thesis")
    with pytest.raises(ValueError, match=r"'.*precious' already exists and has no skxmc"):
        fitted().save_pretrained(target)
    assert (target if kind == "file" else target / "thesis").read_text() == "thesis"


def test_save_pretrained_unknown_dtype_raises_value_error(tmp_path):
    with pytest.raises(ValueError, match="dtype must be one of 'float32', 'float16', 'int8', got"):
        fitted().save_pretrained(tmp_path / "model", dtype="half")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_from_pretrained_not_a_model_raises_value_error(name, tmp_path):
    with pytest.raises(ValueError, match=r"is not a saved model: it has no skxmc\.json"):
        LightXMLClassifier.from_pretrained(tmp_path / name)


def test_from_pretrained_newer_format_raises_value_error(tmp_path):
    fitted().save_pretrained(tmp_path)
    path = tmp_path / "skxmc.json"
    description = json.loads(path.read_text())
    description.update(format_version=99, skxmc_version="7.1")
    path.write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"written by skxmc 7\.1, in a format newer than"):
        LightXMLClassifier.from_pretrained(tmp_path)


def test_save_pretrained_unfitted_raises_value_error(tmp_path):
    with pytest.raises(ValueError, match="not fitted"):
        LightXMLClassifier().save_pretrained(tmp_path / "model")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_from_pretrained_gpu_model_predicts_alike_on_cpu(dtype, tmp_path):
    clf = make_classifier(device="cuda").fit(X, Y)
    clf.save_pretrained(tmp_path, dtype=dtype)
    twin = LightXMLClassifier.from_pretrained(tmp_path).set_params(device="cpu")
    expected, found = clf.decision_function(X).toarray(), twin.decision_function(X).toarray()
    np.testing.assert_allclose(found, expected, atol=1e-3 if dtype == "float32" else 0.1)
