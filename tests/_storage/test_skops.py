"""Estimators that skops saves and loads, without pickle."""

from pathlib import Path

import numpy as np
import pytest
from classifier_fixtures import dataset, encoder_path, make_classifier

from skxmc import (
    LightXMLEnsemble,
    NeighborsClassifier,
    OmikujiClassifier,
    PropensityRanker,
    TextEncoder,
)
from skxmc._nearest.approximate import ApproximateKeys
from skxmc._storage.pickling import from_files, to_files

pytest.importorskip("omikuji")
sio = pytest.importorskip("skops.io")

X, Y = dataset()


def quick_classifier(**params):
    return make_classifier(max_epochs=1, **params)


ESTIMATORS = {
    "direct": lambda: quick_classifier(),
    "two-stage": lambda: quick_classifier(negative_sampling="dynamic"),
    "words": OmikujiClassifier,
    "neighbors": lambda: NeighborsClassifier(TextEncoder(encoder_path(), max_length=16)),
    "ranker": lambda: PropensityRanker(OmikujiClassifier()),
    "ensemble": lambda: LightXMLEnsemble(
        [
            ("language", quick_classifier()),
            ("neighbors", NeighborsClassifier("language")),
            ("words", OmikujiClassifier()),
        ],
        fusion="learned",
        validation_fraction=0.4,
        random_state=0,
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_skops_loads_same_predictions_and_trusts_only_known_classes(name):
    clf = ESTIMATORS[name]().fit(X, Y)
    data = sio.dumps(clf)
    untrusted = sio.get_untrusted_types(data=data)
    assert all(kind.startswith("skxmc.") for kind in untrusted), untrusted
    with pytest.raises(TypeError, match="Untrusted types"):
        sio.loads(data)
    loaded = sio.loads(data, trusted=untrusted)
    for array, expected in zip(loaded.predict_topk(X, k=3), clf.predict_topk(X, k=3), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_skops_ensemble_stores_shared_encoder_once():
    ensemble = ESTIMATORS["ensemble"]().fit(X, Y)
    data = sio.dumps(ensemble)
    loaded = sio.loads(data, trusted=sio.get_untrusted_types(data=data))
    language = loaded.named_estimators_["language"]
    assert loaded.named_estimators_["neighbors"].encoder_.estimator is language


def test_skops_loads_same_index_of_neighbors():
    pytest.importorskip("faiss")
    rows = np.random.default_rng(0).normal(size=(10_000, 8)).astype(np.float32)
    keys = ApproximateKeys.of(rows).extended(rows[:1])
    data = sio.dumps(keys)
    untrusted = sio.get_untrusted_types(data=data)
    assert all(kind.startswith("skxmc.") for kind in untrusted)
    loaded = sio.loads(data, trusted=untrusted)
    for array, expected in zip(
        loaded.nearest(rows[:50], 3), keys.nearest(rows[:50], 3), strict=True
    ):
        np.testing.assert_array_equal(array, expected)


def test_from_files_name_that_leads_out_of_the_folder_stays_inside(tmp_path, monkeypatch):
    from transformers import AutoTokenizer

    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    files = to_files(AutoTokenizer.from_pretrained(encoder_path()))
    tokenizer = from_files(AutoTokenizer, {**files, "../out.json": b"{}", "/out.json": b"{}"})
    assert tokenizer("a cat")["input_ids"]
    assert not list(tmp_path.rglob("out.json"))
    assert not Path("/out.json").exists()
