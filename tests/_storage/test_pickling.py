"""Copies by pickle, joblib and deepcopy, and pickles without encoder or GPU."""

import copy
import io
import os
import pickle
import shutil
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pytest
import torch
from classifier_fixtures import (
    MODES,
    assert_same_predictions,
    dataset,
    differ,
    encoder_path,
    fitted,
    generator_states,
    make_classifier,
)
from sklearn.base import clone

from skxmc import LightXMLClassifier
from skxmc._storage.pickling import ADDED_PARAMS, current_params, network_state

X, Y = dataset()


def through_pickle(clf, folder):
    return pickle.loads(pickle.dumps(clf))


def through_joblib(clf, folder):
    joblib.dump(clf, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


def through_compressed_joblib(clf, folder):
    joblib.dump(clf, folder / "model.joblib.z", compress=3)
    return joblib.load(folder / "model.joblib.z")


def through_mapped_memory(clf, folder):
    joblib.dump(clf, folder / "model.joblib")
    return joblib.load(folder / "model.joblib", mmap_mode="r")


def through_deepcopy(clf, folder):
    return copy.deepcopy(clf)


WAYS = [
    through_pickle,
    through_joblib,
    through_compressed_joblib,
    through_mapped_memory,
    through_deepcopy,
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("mode", MODES)
def test_copy_predicts_the_same(way, mode, tmp_path):
    clf = fitted(mode)
    twin = way(clf, tmp_path)
    assert not twin.network_.training
    assert_same_predictions(twin, clf)
    np.testing.assert_array_equal(twin.encode(X), clf.encode(X))
    assert twin.history_ == clf.history_
    assert twin.n_iter_ == clf.n_iter_
    np.testing.assert_array_equal(twin.classes_, clf.classes_)
    np.testing.assert_array_equal(twin.clusterer_.labels_, clf.clusterer_.labels_)
    assert repr(twin) == repr(clf)


@pytest.mark.parametrize("way", WAYS)
def test_copy_can_be_fitted_without_changing_the_original(way, tmp_path):
    clf = fitted()
    twin = way(clf, tmp_path)
    before = clf.decision_function(X)
    twin.set_params(warm_start=True).fit(X, Y)
    assert differ(twin, clf)
    assert (clf.decision_function(X) != before).nnz == 0
    assert_same_predictions(twin.set_params(warm_start=False).fit(X, Y), clf)


def test_warm_start_of_copy_equals_warm_start_of_original():
    clf = make_classifier(encoder_dropout=0.3, warm_start=True).fit(X, Y)
    twin = pickle.loads(pickle.dumps(clf))
    attention = twin.network_.encoder.config._attn_implementation
    assert attention == clf.network_.encoder.config._attn_implementation == "eager"
    assert_same_predictions(twin.fit(X, Y), clf.fit(X, Y))


def test_copy_of_unfitted_classifier_is_unfitted(tmp_path):
    clf = make_classifier()
    for way in WAYS:
        twin = way(clf, tmp_path)
        assert repr(twin) == repr(clf)
        assert not hasattr(twin, "network_")
    assert not hasattr(clone(fitted()), "network_")


def test_copy_keeps_names_of_labels(tmp_path):
    clf = make_classifier(max_epochs=1).fit(X[:2], [["steuer", "税"], ["law"]])
    for way in WAYS:
        twin = way(clf, tmp_path)
        assert twin.predict_topk(X[:1], 3).labels.dtype == object
        assert_same_predictions(twin, clf)


def test_unpickling_leaves_global_generators_unchanged(tmp_path):
    data = pickle.dumps(fitted())
    before = generator_states()
    pickle.loads(data)
    assert generator_states() == before


class TensorSpotter(pickle.Unpickler):
    """Record the parts of torch that a pickle imports."""

    def find_class(self, module, name):
        if module.startswith("torch"):
            self.found.add(f"{module}.{name}")
        return super().find_class(module, name)


@pytest.mark.parametrize("mode", MODES)
def test_pickle_holds_arrays_and_no_tensors(mode):
    spotter = TensorSpotter(io.BytesIO(pickle.dumps(fitted(mode))))
    spotter.found = set()
    spotter.load()
    assert spotter.found <= {"torch.float32"}  # the dtype in the configuration, no storage
    state = network_state(fitted(mode).network_)
    assert {type(array) for array in state["weights"].values()} == {np.ndarray}
    assert isinstance(fitted(mode).network_, torch.nn.Module)  # pickling left it as it was


def test_pickle_is_about_as_large_as_the_weights():
    n_bytes = sum(p.numel() * p.element_size() for p in fitted().network_.parameters())
    assert len(pickle.dumps(fitted())) < n_bytes + 50_000
    assert len(pickle.dumps(fitted().clusterer_)) < 2000  # labels_ without the features


# ---------------------------------------------------------------- elsewhere


SCRIPT = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("network access")
socket.socket.connect = socket.create_connection = refuse
import joblib
pickled, saved, texts, results = sys.argv[1:]
clf = joblib.load(pickled)
scores = clf.decision_function(joblib.load(texts))
loaded = type(clf).from_pretrained(saved)
joblib.dump((scores, [c.predict_topk(["ba be", ""], 3) for c in (clf, loaded)]), results)
"""


def test_pickle_and_folder_load_in_other_process_without_network_and_encoder(tmp_path):
    folder = str(tmp_path / "encoder")
    shutil.copytree(encoder_path(), folder)
    clf = make_classifier(encoder=folder).fit(X, Y)
    joblib.dump(clf, tmp_path / "model")
    clf.save_pretrained(tmp_path / "saved")
    joblib.dump(X, tmp_path / "texts")
    shutil.rmtree(folder)
    os.rename(tmp_path / "saved", tmp_path / "moved")
    subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT]
        + [str(tmp_path / name) for name in ("model", "moved", "texts", "results")],
        check=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "HF_HOME": str(tmp_path / "empty"),
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
    )
    scores, tops = joblib.load(tmp_path / "results")
    np.testing.assert_allclose(scores.toarray(), clf.decision_function(X).toarray(), atol=1e-6)
    for top in tops:
        np.testing.assert_array_equal(top.labels, clf.predict_topk(["ba be", ""], 3).labels)
    with pytest.raises(ValueError, match="could not be loaded"):
        make_classifier(encoder=folder).fit(X, Y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_pickle_of_gpu_model_without_gpu_predicts_on_cpu():
    clf = copy.deepcopy(fitted()).set_params(device="cuda")
    twin = pickle.loads(pickle.dumps(clf))
    with pytest.warns(RuntimeWarning, match=r"device='cuda' is not available.*Using the CPU"):
        scores = twin.decision_function(X)
    assert (scores != fitted().decision_function(X)).nnz == 0
    with pytest.raises(ValueError, match="device='cuda' is not available"):
        twin.fit(X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        twin.set_params(device="auto").predict_topk(X)


def test_current_params_of_earlier_version_are_renamed():
    clf = LightXMLClassifier(head_init="random")
    state = clf.__getstate__()
    state["head_start"] = state.pop("head_init")
    restored = LightXMLClassifier.__new__(LightXMLClassifier)
    restored.__setstate__(state)
    assert restored.get_params() == clf.get_params()


def test_current_params_of_earlier_version_drop_removed_parameters():
    given = {"precision": "bf16", "threshold": 0.5}
    gone = {"loss_reduction": "mean", "label_moments": "full"}
    for old, precision in ((None, "bf16"), ("int8", "int8")):
        params = current_params({**given, **gone, "prediction_precision": old})
        assert params == {**given, "precision": precision, **ADDED_PARAMS}


def test_unpickled_direct_model_of_earlier_version_predicts_the_same():
    """Its recall head scored the labels, without a bottleneck, and was given bottleneck_dim=256.

    The pickle held the configuration and the tokenizer as objects.
    """
    clf = make_classifier("direct", bottleneck_dim=None).fit(X, Y)
    state = clf.__getstate__()
    network = state["network_"]
    weights = dict(network["weights"])
    weights["recall_head.weight"] = weights.pop("label_table.weight")[:-1]
    weights["recall_head.bias"] = weights.pop("label_table.bias")[:-1, 0]
    settings = {**network["settings"], "bottleneck_dim": 256}
    del settings["pooling"]
    for name in ADDED_PARAMS:
        del state[name]
    config = clf.network_.encoder.config
    state["network_"] = {"config": config, "weights": weights, "settings": settings}
    state["network_"]["cluster_of"] = network["cluster_of"]
    state["tokenizer_"] = clf.tokenizer_
    old = LightXMLClassifier.__new__(LightXMLClassifier)
    old.__setstate__(state)
    assert_same_predictions(old, clf)
    assert_same_predictions(pickle.loads(pickle.dumps(old)), clf)
