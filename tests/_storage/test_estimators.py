"""save_pretrained and from_pretrained of all estimators, and of pipelines of them."""

import json
import os
import shutil

import joblib
import numpy as np
import pytest
import torch
from classifier_fixtures import assert_same_predictions, dataset, encoder_path, fitted
from classifier_fixtures import make_classifier as quick_classifier
from safetensors.torch import load_file
from sklearn.base import clone
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer

import skxmc
from skxmc import (
    BalancedLabelClusterer,
    LightXMLClassifier,
    LightXMLEnsemble,
    NeighborsClassifier,
    OmikujiClassifier,
    PropensityRanker,
    TextEncoder,
)
from skxmc._nearest.approximate import ApproximateKeys
from skxmc._storage.folder import read_index, replace_content, verified_content

pytest.importorskip("omikuji")

X, Y = dataset()


def text_encoder():
    return TextEncoder(encoder_path(), max_length=16, precision="fp32")


def members():
    return [
        ("neighbors", NeighborsClassifier("language")),
        ("language", FrozenEstimator(fitted())),
        ("words", OmikujiClassifier(vectorizer=TfidfVectorizer(ngram_range=(1, 2)))),
        ("none", "drop"),
    ]


ESTIMATORS = {
    "words": OmikujiClassifier,
    "neighbors": lambda: NeighborsClassifier(text_encoder(), n_neighbors=5),
    "ranker": lambda: PropensityRanker(OmikujiClassifier(), exponent=0.5),
    "mean": lambda: LightXMLEnsemble(members(), weights=[1, 2, 0.5, 0]),
    "learned": lambda: LightXMLEnsemble(
        members(), fusion="learned", validation_fraction=0.4, random_state=0
    ),
    "reduced": lambda: NeighborsClassifier(make_pipeline(text_encoder(), PCA(4, random_state=0))),
    "union": lambda: NeighborsClassifier(
        FeatureUnion(
            [
                ("language", text_encoder()),
                ("words", make_pipeline(CountVectorizer(), TruncatedSVD(4, random_state=0))),
            ]
        )
    ),
    "words and language": lambda: OmikujiClassifier(
        vectorizer=FeatureUnion(
            [
                ("words", TfidfVectorizer()),
                ("language", make_pipeline(text_encoder(), Normalizer())),
            ]
        )
    ),
    "pipeline": lambda: make_pipeline("passthrough", NeighborsClassifier(text_encoder())),
}


@pytest.fixture(scope="module", params=ESTIMATORS)
def pair(request, tmp_path_factory):
    """Return a fitted estimator and the one that is loaded from its folder."""
    folder = tmp_path_factory.mktemp("models") / "model"
    clf = ESTIMATORS[request.param]().fit(X, Y)
    skxmc.save_pretrained(clf, folder)
    return clf, skxmc.from_pretrained(folder)


def test_loaded_estimator_equals_saved_one(pair):
    clf, loaded = pair
    assert type(loaded) is type(clf)
    assert repr(loaded) == repr(clf)
    assert repr(clone(loaded)) == repr(clone(clf))
    assert_same_predictions(loaded, clf)
    assert loaded.classes_.dtype == clf.classes_.dtype
    for found, expected in zip(
        skxmc.predict_topk(loaded, X, k=3), skxmc.predict_topk(clf, X, k=3), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


# ---------------------------------------------------------------- an ensemble that shares a member


@pytest.fixture(scope="module")
def ensemble():
    """Fit the members of `make_classifier` that need no omikuji."""
    language = quick_classifier(max_epochs=1, random_state=0)
    members = [("language", language), ("neighbors", NeighborsClassifier("language"))]
    return LightXMLEnsemble(members).fit(X, Y)


@pytest.fixture(scope="module")
def model(ensemble, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "model"
    ensemble.save_pretrained(folder)
    return folder


def test_shared_member_is_written_once_and_loaded_as_one_object(ensemble, model):
    loaded = LightXMLEnsemble.from_pretrained(model)
    assert_same_predictions(loaded, ensemble)
    language = loaded.named_estimators_.language
    assert loaded.named_estimators_["neighbors"].encoder_.estimator is language
    assert loaded.estimators_[0] is language
    assert len(list(model.rglob("weights.safetensors"))) == 1
    names = {path.name for path in model.rglob("*") if path.is_file()}
    assert {path.rpartition(".")[2] for path in names} <= {"json", "safetensors", "txt"}


def test_loaded_ensemble_can_be_fitted_again(ensemble, model):
    assert_same_predictions(LightXMLEnsemble.from_pretrained(model).fit(X, Y), ensemble)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_dtype_is_that_of_the_language_member(dtype, ensemble, tmp_path):
    ensemble.save_pretrained(tmp_path, dtype=dtype)
    (weights,) = tmp_path.rglob("weights.safetensors")
    assert load_file(weights)["label_table.weight"].dtype == getattr(torch, dtype)
    loaded = skxmc.from_pretrained(tmp_path)
    expected, found = ensemble.decision_function(X).toarray(), loaded.decision_function(X).toarray()
    assert 0 < np.abs(found - expected).max() < 0.1


def test_partial_fit_of_loaded_neighbors_equals_that_of_saved_ones(ensemble, model):
    found = skxmc.from_pretrained(model).named_estimators_["neighbors"]
    expected = joblib.hash(ensemble.named_estimators_["neighbors"]._keys.values)
    twin = NeighborsClassifier(FrozenEstimator(ensemble.named_estimators_["language"])).fit(X, Y)
    for clf in (found, twin):
        clf.partial_fit(["a new text"], [[99]])
    assert found.classes_.tolist() == [*range(30), 99]
    assert_same_predictions(found, twin, [*X, "a new text"])
    assert joblib.hash(ensemble.named_estimators_["neighbors"]._keys.values) == expected


def test_partial_fit_of_loaded_approximate_neighbors_equals_that_of_saved_ones(
    tmp_path, monkeypatch
):
    pytest.importorskip("faiss")
    monkeypatch.setattr("skxmc._nearest.approximate.MIN_APPROXIMATE", 10)
    near = NeighborsClassifier(text_encoder(), search="approximate").fit(X[:50], Y[:50])
    near.save_pretrained(tmp_path)
    loaded = NeighborsClassifier.from_pretrained(tmp_path)
    assert isinstance(loaded._keys, ApproximateKeys)
    assert_same_predictions(loaded, near, X)
    assert_same_predictions(loaded.partial_fit(X[50:], Y[50:]), near.partial_fit(X[50:], Y[50:]), X)


def test_text_encoder_loads_with_same_representations(tmp_path):
    encoder = text_encoder().fit(X)
    encoder.save_pretrained(tmp_path)
    loaded = TextEncoder.from_pretrained(tmp_path)
    np.testing.assert_array_equal(loaded.transform(X), encoder.transform(X))
    assert repr(loaded) == repr(encoder)


def test_labels_with_lone_surrogates_and_objects_as_parameters(tmp_path):
    """Random generators and caches become None, as in LightXMLClassifier."""
    clusterer = BalancedLabelClusterer(random_state=np.random.default_rng(0))
    unfitted = LightXMLClassifier(clusterer=clusterer, memory=joblib.Memory(tmp_path / "cache"))
    words = OmikujiClassifier().fit(["a b", "c d"], [["\ud800"], ["税", "x"]])
    clf = LightXMLEnsemble.from_fitted([("words", words), ("none", "drop")])
    clf.set_params(random_state=np.random.RandomState(0), none=unfitted)
    clf.save_pretrained(tmp_path / "model")
    loaded = LightXMLEnsemble.from_pretrained(tmp_path / "model")
    assert loaded.classes_.tolist() == ["x", "税", "\ud800"]
    assert loaded.random_state is None
    unfitted = loaded.get_params()["none"]
    assert unfitted.memory is unfitted.clusterer.random_state is None


# ---------------------------------------------------------------- errors


def test_class_of_another_folder_raises_value_error(model, tmp_path):
    remedy = r"Load it with skxmc\.from_pretrained, which loads any class"
    with pytest.raises(ValueError, match=f"holds 'LightXMLEnsemble', not OmikujiC.*{remedy}"):
        OmikujiClassifier.from_pretrained(model)
    with pytest.raises(ValueError, match=f"holds 'LightXMLEnsemble', not LightXMLC.*{remedy}"):
        LightXMLClassifier.from_pretrained(model)
    fitted().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=f"holds 'LightXMLClassifier', not LightXMLE.*{remedy}"):
        LightXMLEnsemble.from_pretrained(tmp_path)
    assert type(skxmc.from_pretrained(tmp_path)) is LightXMLClassifier


def read(text):
    """A function, which needs pickle."""
    return text.split()


class Own(NeighborsClassifier):
    """A class that is not of skxmc."""


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: NeighborsClassifier(make_pipeline(FunctionTransformer(), text_encoder())),
            r"^encoder/steps/0/1 is an estimator of the class FunctionTransformer, which a folder",
        ),
        (lambda: Own(text_encoder()), "^The model is an estimator of the class Own, which a fold"),
        (
            lambda: OmikujiClassifier(vectorizer=TfidfVectorizer(analyzer=read)),
            "^vectorizer/analyzer is <function read.*>, which a folder without pickle cannot hold",
        ),
    ],
)
def test_value_that_needs_pickle_raises_and_keeps_old_model(make, message, model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "model")
    with pytest.raises(TypeError, match=message + r".*\. Use joblib\.dump instead"):
        make().fit(X, Y).save_pretrained(folder)
    assert type(skxmc.from_pretrained(folder)) is LightXMLEnsemble
    assert sorted(os.listdir(folder)) == sorted(os.listdir(model))


def test_unfitted_estimator_raises(tmp_path):
    with pytest.raises(NotFittedError):
        OmikujiClassifier().save_pretrained(tmp_path / "model")
    assert not os.listdir(tmp_path)


def altered(model, folder, old, new):
    """Copy a model, change its description, and make valid checksums as a stranger could."""

    def write(content):
        shutil.copytree(verified_content(model, "skxmc.json"), content, dirs_exist_ok=True)
        text = (content / "model.json").read_text()
        assert old in text
        (content / "model.json").write_text(text.replace(old, new))

    index = read_index(model, "skxmc.json")
    versions = {name: index[name] for name in ("format_version", "skxmc_version")}
    replace_content(folder, "skxmc.json", versions, write)
    return folder


@pytest.mark.parametrize("name", ["Popen", "NeighborsClassifier2", "HashingVectorizer"])
def test_unknown_class_raises_value_error(name, model, tmp_path):
    folder = altered(model, tmp_path, '"NeighborsClassifier"', json.dumps(name))
    with pytest.raises(ValueError, match=f"holds '{name}', which is no class that this version of"):
        skxmc.from_pretrained(folder)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{"array": "estimators_/1/_mean"}', '{"array": "other"}'),
        ('{"array": "estimators_/1/_mean"}', '{"file": "../../secret"}'),
        ('"place": "estimators_/0"', '"place": "../.."'),
        ('{"same": "estimators_/0"}', '{"same": "other"}'),
    ],
)
def test_name_of_nothing_in_the_folder_raises_value_error(old, new, model, tmp_path):
    (tmp_path / "secret").write_text("secret")
    folder = altered(model, tmp_path / "model", old, new)
    with pytest.raises(ValueError, match=r"model\.json' is damaged \(it names .* which is missing"):
        skxmc.from_pretrained(folder)


def test_newer_format_raises_value_error(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "model")
    index = json.loads((folder / "skxmc.json").read_text())
    assert index["format_version"] == 4
    (folder / "skxmc.json").write_text(json.dumps({**index, "format_version": 5}))
    with pytest.raises(ValueError, match="in a format newer than this version reads"):
        skxmc.from_pretrained(folder)
    fitted().save_pretrained(folder)
    assert read_index(folder, "skxmc.json")["format_version"] == 3  # older versions read it


def test_missing_file_raises_value_error(model, tmp_path):
    folder = shutil.copytree(model, tmp_path / "model")
    (file,) = folder.rglob("arrays.safetensors")
    file.unlink()
    with pytest.raises(ValueError, match=r"arrays\.safetensors' is damaged \(it is missing\)"):
        skxmc.from_pretrained(folder)
