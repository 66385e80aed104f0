"""Encoders that the members of an ensemble share."""

import pickle

import numpy as np
import pytest
from classifier_fixtures import dataset, make_classifier
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.utils.parallel import Parallel

from skxmc import LightXMLEnsemble, NeighborsClassifier, OmikujiClassifier
from skxmc._meta import members as members_module
from skxmc._model.text_network import TextNetwork
from skxmc._utils.encode_once import encode_once, shared_representations

X, Y = dataset()
NEAR = ("near", NeighborsClassifier("language"))


def make_ensemble():
    return LightXMLEnsemble([NEAR, ("language", make_classifier(max_epochs=1))])


@pytest.fixture(scope="module")
def ensemble():
    """Return a fitted ensemble whose neighbors use the encoder of the other member."""
    return make_ensemble().fit(X, Y)


@pytest.fixture
def n_encoded(monkeypatch):
    """Return a list of the numbers of texts in the batches that encoders read."""
    represent, numbers = TextNetwork.represent, []

    def counted(network, batch):
        numbers.append(len(batch.input_ids))
        return represent(network, batch)

    monkeypatch.setattr(TextNetwork, "represent", counted)
    return numbers


# ---------------------------------------------------------------- fit


def test_fit_encoder_by_name_is_the_fitted_member(ensemble):
    near, language = ensemble.estimators_
    assert near.encoder_.estimator is language
    assert list(ensemble.named_estimators_) == ["near", "language"]
    assert ensemble.named_estimators["near"].encoder == "language"


def test_fit_encoder_by_name_follows_parameters_of_clone(ensemble):
    changed = clone(ensemble).set_params(language__bottleneck_dim=4).fit(X, Y)
    near, language = changed.estimators_
    assert near.encoder_.estimator is language
    assert len(near._mean) == 4


def test_fit_in_processes_shares_the_encoder(monkeypatch):
    class Copying(Parallel):
        """Processes return copies of what they fit."""

        def __call__(self, jobs):
            return pickle.loads(pickle.dumps(Parallel()(jobs)))

    monkeypatch.setattr(members_module, "Parallel", Copying)
    near, language = make_ensemble().set_params(n_jobs=2).fit(X, Y).estimators_
    assert near.encoder_.estimator is language


def test_fit_encoder_that_is_no_member_is_a_name_of_an_encoder():
    members = [("near", NeighborsClassifier("missing/encoder")), ("words", OmikujiClassifier())]
    with pytest.raises(ValueError, match="missing/encoder"):
        LightXMLEnsemble(members).fit(X, Y)


@pytest.mark.parametrize("label_texts", [None, [f"about {i}" for i in range(Y.shape[1])]])
def test_fit_frozen_encoder_reads_each_text_once(label_texts, n_encoded):
    members = [NEAR, ("language", make_classifier(max_epochs=1, freeze_encoder=True))]
    ensemble = LightXMLEnsemble(members).fit(X, Y, label_texts=label_texts)
    assert sum(n_encoded) == len(X) + len(label_texts or [])
    assert shared_representations() is None
    near, language = ensemble.estimators_
    alone = NeighborsClassifier(FrozenEstimator(language)).fit(X, Y, label_texts=label_texts)
    expected = alone.decision_function(X).toarray()
    np.testing.assert_allclose(near.decision_function(X).toarray(), expected, rtol=1e-4)


def test_fit_trained_encoder_keeps_no_representations():
    with encode_once(grows=False):
        language = make_classifier(max_epochs=1).fit(X, Y)
        language.transform(X)
        assert not shared_representations()


@pytest.mark.parametrize(
    ("other", "lack"),
    [("drop", "is dropped"), (OmikujiClassifier(), "has no transform: OmikujiClassifier")],
    ids=["dropped", "no transform"],
)
def test_fit_encoder_by_name_unusable_member_raises(other, lack):
    message = (
        f"the encoder of the member 'near' is the member 'language', which {lack}. "
        "Name a LightXMLClassifier"
    )
    with pytest.raises(ValueError, match=message):
        LightXMLEnsemble([NEAR, ("language", other)]).fit(X, Y)


# ---------------------------------------------------------------- prediction


def test_prediction_shared_encoder_reads_each_text_once(ensemble, n_encoded):
    ensemble.predict_topk(X, k=3)
    assert sum(n_encoded) == len(X)


def test_prediction_equals_that_of_members_alone(ensemble):
    near, language = ensemble.estimators_
    expected = (near.decision_function(X, top_k=30) + language.decision_function(X, top_k=30)) / 2
    np.testing.assert_array_equal(ensemble.decision_function(X).toarray(), expected.toarray())


def test_prediction_blocks_of_texts_do_not_matter(ensemble, monkeypatch, n_encoded):
    expected = ensemble.decision_function(X).toarray()
    n_encoded.clear()
    monkeypatch.setattr(members_module, "TEXT_BLOCK", 7)
    np.testing.assert_allclose(ensemble.decision_function(X).toarray(), expected, rtol=1e-3)
    assert sum(n_encoded) == len(X)


def test_pickle_shared_encoder_is_stored_once(ensemble):
    copy = pickle.loads(pickle.dumps(ensemble))
    near, language = copy.estimators_
    assert near.encoder_.estimator is language
    assert copy.named_estimators_.near is near


# ---------------------------------------------------------------- the context


def test_encode_once_ends_with_its_context(ensemble, n_encoded):
    language = ensemble.named_estimators_["language"]
    with encode_once():
        first = language.encode(X)
        with encode_once():
            np.testing.assert_array_equal(language.encode(X), first)
        language.predict_topk(X, k=1)
    assert sum(n_encoded) == len(X)
    assert shared_representations() is None
    language.encode(X)
    assert sum(n_encoded) == 2 * len(X)


def test_encode_once_inside_of_one_that_does_not_grow_keeps_representations(ensemble, n_encoded):
    language = ensemble.named_estimators_["language"]
    with encode_once(grows=False):
        with encode_once():
            language.encode(X)
            language.encode(X)
        assert not shared_representations()
    assert sum(n_encoded) == len(X)


def test_encode_once_tells_texts_lengths_and_encoders_apart(ensemble, n_encoded):
    language = ensemble.named_estimators_["language"]
    other = make_classifier(max_epochs=1, random_state=1).fit(X, Y)
    n_encoded.clear()
    with encode_once():
        whole = language.encode(X[:8])
        assert not np.array_equal(language.encode(X[8:16]), whole)
        assert not np.array_equal(other.encode(X[:8]), whole)
        language.set_params(max_length=3)
        try:
            assert not np.array_equal(language.encode(X[:8]), whole)
        finally:
            language.set_params(max_length=make_classifier().max_length)
    assert sum(n_encoded) == 32
