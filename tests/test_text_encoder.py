"""TextEncoder: states of the last layer, and the conventions of scikit-learn's transformers."""

import copy
import pickle

import joblib
import numpy as np
import pytest
import torch
from classifier_fixtures import dataset, encoder_path, fitted, make_classifier
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import FeatureUnion, make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import get_tags
from transformers import AutoModel, AutoTokenizer

from skxmc import TextEncoder
from skxmc._model.encoder import encoder_source
from skxmc._utils import progress

X, Y = dataset()
MINILM = "sentence-transformers/all-MiniLM-L6-v2"


def make(**params):
    return TextEncoder(
        encoder_path(), **{"max_length": 32, "precision": "fp32", "device": "cpu", **params}
    )


@pytest.fixture(scope="module")
def encoder():
    """Return a shared fitted encoder. Copy it before changing it."""
    return make().fit(X)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_transform_returns_pooled_states_of_the_last_layer(pooling):
    vectors = make(pooling=pooling).fit(X).transform(X)
    assert vectors.dtype == np.float32
    assert vectors.shape == (64, 16)
    tokenizer = AutoTokenizer.from_pretrained(encoder_path())
    model = AutoModel.from_pretrained(encoder_path()).eval()
    for text, vector in zip(X[:5], vectors, strict=False):
        tokens = tokenizer(text, truncation=True, max_length=32, return_tensors="pt")
        with torch.no_grad():
            states = model(**tokens).last_hidden_state[0]
        expected = states[0] if pooling == "cls" else states.mean(dim=0)
        np.testing.assert_allclose(vector, expected, atol=1e-5)


@pytest.mark.slow
def test_transform_default_encoder_is_pooled_as_it_was_trained():
    """all-MiniLM was trained for the mean over tokens."""
    texts = ["a cat bond fell", "stocks"]
    found = TextEncoder(precision="fp32").fit(texts)
    assert found.network_.pooling == "mean"
    tokenizer = AutoTokenizer.from_pretrained(encoder_source(MINILM))
    model = AutoModel.from_pretrained(encoder_source(MINILM)).eval()
    for text, vector in zip(texts, found.transform(texts), strict=True):
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        np.testing.assert_allclose(vector, states.mean(dim=0), atol=1e-4)


def test_transform_any_batch_size_gives_same_vectors(encoder):
    expected = encoder.transform(X)
    for batch_size in (1, 7, 64, 10**30):
        found = copy.copy(encoder).set_params(batch_size=batch_size).transform(X)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert encoder.transform([]).shape == (0, 16)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_transform_low_precision_set_after_fit_is_near(encoder, precision):
    found = copy.copy(encoder).set_params(precision=precision).transform(X)
    expected = encoder.transform(X)
    assert found.dtype == np.float32
    assert 0 < np.abs(found - expected).mean() < 0.2 * np.abs(expected).mean()


def test_transform_out_of_memory_halves_the_batch(encoder, monkeypatch):
    network, n_texts = encoder.network_, []
    forward = type(network.encoder).forward

    def failing(self, input_ids, **kwargs):
        n_texts.append(len(input_ids))
        if len(input_ids) > 16:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return forward(self, input_ids, **kwargs)

    expected = encoder.transform(X)
    monkeypatch.setattr(type(network.encoder), "forward", failing)
    with pytest.warns(RuntimeWarning, match="Set batch_size=16 to avoid"):
        found = copy.copy(encoder).set_params(batch_size=32).transform(X)
    assert n_texts == [32, 16, 16, 16, 16]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_copies_by_pickle_and_joblib_give_same_vectors(encoder, tmp_path):
    expected = encoder.transform(X)
    joblib.dump(encoder, tmp_path / "encoder.joblib")
    for twin in (
        pickle.loads(pickle.dumps(encoder)),
        joblib.load(tmp_path / "encoder.joblib", mmap_mode="r"),
        copy.deepcopy(encoder),
    ):
        assert not twin.network_.training
        np.testing.assert_allclose(twin.transform(X), expected, atol=1e-6)
        assert twin.network_ is not encoder.network_
    assert not hasattr(pickle.loads(pickle.dumps(make())), "network_")


def test_transform_missing_gpu_uses_the_cpu(encoder):
    if torch.cuda.is_available():
        pytest.skip("has a GPU")
    lost = copy.copy(encoder).set_params(device="cuda")
    with pytest.warns(RuntimeWarning, match="Using the CPU"):
        found = lost.transform(X)
    np.testing.assert_allclose(found, encoder.transform(X), atol=1e-6)
    with pytest.raises(ValueError, match="is not available"):
        make(device="cuda").fit(X)


def test_transform_verbose_shows_progress(encoder, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BEFORE_BAR", 0.0)
    copy.copy(encoder).set_params(verbose=1).transform(X)
    assert "encoding texts: 64/64" in capsys.readouterr().err
    encoder.transform(X)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"max_length": 65}, "max_length=65, but encoder="),
        ({"batch_size": 0}, "The 'batch_size' parameter"),
        ({"pooling": "max"}, "The 'pooling' parameter"),
        ({"precision": "fp8"}, "The 'precision' parameter"),
        ({"encoder": "no/such"}, "no/such"),
    ],
)
def test_fit_wrong_parameter_raises_error(params, message):
    with pytest.raises(ValueError, match=message):
        make().set_params(**params).fit(X)


def test_transform_wrong_parameter_set_after_fit_raises_error(encoder):
    for name, value in {"max_length": 65, "batch_size": 0, "precision": "fp8"}.items():
        with pytest.raises(ValueError, match=name):
            copy.copy(encoder).set_params(**{name: value}).transform(X)


def test_texts_are_checked(encoder):
    for method in (make().fit, encoder.transform):
        with pytest.raises(ValueError, match=r"Pass a list: X=\[text\]"):
            method("a text")
    with pytest.raises(NotFittedError):
        make().transform(X)


def test_fit_unknown_words_warn():
    with pytest.warns(UserWarning, match="does not know 100% of the words"):
        make().fit(["\u4e16 \u754c"] * 3)


def test_clone_and_tags():
    twin = clone(make(batch_size=3))
    assert (twin.batch_size, twin.encoder) == (3, encoder_path())
    tags = get_tags(twin)
    assert tags.input_tags.string
    assert not tags.input_tags.two_d_array
    assert tags.transformer_tags is not None
    assert repr(TextEncoder()) == "TextEncoder()"


# ---------------------------------------------------------------- in pipelines and unions


def test_pipeline_and_frozen_estimator_transform_the_same(encoder):
    expected = encoder.transform(X)
    np.testing.assert_allclose(make_pipeline(make()).fit_transform(X), expected, atol=1e-6)
    frozen = FrozenEstimator(encoder)
    np.testing.assert_array_equal(frozen.fit(["other"], None).transform(X), expected)
    assert clone(frozen).estimator is encoder
    assert make_pipeline(make(), PCA(3)).fit_transform(X).shape == (64, 3)


def test_feature_union_joins_words_and_states(encoder):
    union = make_union(TfidfVectorizer(), FrozenEstimator(encoder)).fit(X)
    joined = union.transform(X)
    np.testing.assert_allclose(joined[:, -16:].toarray(), encoder.transform(X), atol=1e-6)
    names = union.get_feature_names_out()
    assert len(names) == joined.shape[1]
    assert encoder.get_feature_names_out()[:2].tolist() == ["textencoder0", "textencoder1"]


def test_set_output_pandas_names_the_columns(encoder):
    pytest.importorskip("pandas")
    frame = make().set_output(transform="pandas").fit(X).transform(X)
    assert list(frame.columns) == encoder.get_feature_names_out().tolist()
    np.testing.assert_allclose(frame.to_numpy(), encoder.transform(X), atol=1e-6)


# ---------------------------------------------------------------- LightXMLClassifier


@pytest.mark.parametrize("mode", ["direct", "two-stage"])
def test_classifier_transform_is_output_of_bottleneck(mode):
    clf = fitted(mode)
    network = clf.network_
    weight, bias = (p.detach().numpy() for p in network.bottleneck.parameters())
    expected = (clf.encode(X) - network.feature_mean.numpy()) @ weight.T + bias
    np.testing.assert_allclose(clf.transform(X), expected, atol=1e-5)
    np.testing.assert_allclose(clf.transform(X[:1]), expected[:1], atol=1e-5)
    names = clf.get_feature_names_out()
    assert len(names) == expected.shape[1] == clf.bottleneck_dim
    assert names[0] == "lightxmlclassifier0"
    assert clf.transform([]).shape == (0, clf.bottleneck_dim)


def test_classifier_transform_without_bottleneck_is_e_less_its_mean():
    clf = make_classifier("direct", bottleneck_dim=None, max_epochs=1).fit(X, Y)
    expected = clf.encode(X) - clf.network_.feature_mean.numpy()
    np.testing.assert_allclose(clf.transform(X), expected, atol=1e-6)
    assert len(clf.get_feature_names_out()) == expected.shape[1]


def test_classifier_transform_two_encoders_takes_that_of_the_ranking_head():
    clf = make_classifier("two-stage", negative_sampling="static-separate", max_epochs=1).fit(X, Y)
    network = clf.network_
    own, network.encoder = network.encoder, network.rank_encoder
    try:
        expected = clf.encode(X) - network.feature_mean.numpy()
    finally:
        network.encoder = own
    expected = network.bottleneck(torch.from_numpy(expected)).detach().numpy()
    np.testing.assert_allclose(clf.transform(X), expected, atol=1e-5)


def test_classifier_in_unions_and_pipelines_is_a_transformer():
    clf = fitted("direct")
    lower = FunctionTransformer(list)
    union = FeatureUnion(
        [("e", FrozenEstimator(clf)), ("words", make_pipeline(lower, TfidfVectorizer()))]
    ).fit(X)
    np.testing.assert_array_equal(union.transform(X)[:, :256].toarray(), clf.transform(X))
    first = make_pipeline(make_classifier("direct", max_epochs=1), PCA(3)).fit(X, Y)
    np.testing.assert_allclose(
        first.transform(X), first[1].transform(first[0].transform(X)), atol=1e-6
    )
    frame = copy.deepcopy(clf).set_output(transform="pandas").transform(X)
    np.testing.assert_array_equal(frame.to_numpy(), clf.transform(X))
