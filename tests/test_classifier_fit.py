"""LightXMLClassifier.fit: forms of X and y, parameters, fitted attributes, reproducibility."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from classifier_fixtures import (
    MODES,
    assert_same_predictions,
    dataset,
    differ,
    fitted,
    generator_states,
    make_classifier,
)
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer

from skxmc import BalancedLabelClusterer, LightXMLClassifier, label_features
from skxmc._training import settings
from skxmc.metrics import precision_at_k

X, Y = dataset()
NAMES = [f"tag {i:02d}" for i in range(Y.shape[1])]


@pytest.mark.parametrize("mode", MODES)
def test_fit_words_that_name_labels_are_learned(mode):
    words = ["aaaa", "kkkk", "zzzz", "0000", "mmmm", "qqqq", "tttt", "gggg", "xxxx", "dddd"]
    rng = np.random.default_rng(0)
    pairs = [sorted(rng.choice(10, 2, replace=False).tolist()) for _ in range(100)]
    texts = [" ".join(words[i] for i in pair) for pair in pairs]
    clf = make_classifier(mode, max_epochs=10).fit(texts, pairs)
    losses = [epoch["loss"] for epoch in clf.history_]
    assert losses[-1] < 0.6 * losses[0]
    assert clf.score(texts, pairs) > 0.8  # random predictions reach 0.2
    assert precision_at_k(pairs, clf.predict_topk(texts, 2), k=2, classes=clf.classes_) > 0.7


# ---------------------------------------------------------------- forms of X and y


@pytest.mark.parametrize(
    "form",
    [
        sparse.csr_matrix,
        sparse.csc_matrix,
        sparse.coo_matrix,
        sparse.lil_matrix,
        sparse.csc_array,
        lambda y: y.astype(bool),
        lambda y: y.toarray(),
        lambda y: y.toarray().astype(int),
    ],
    ids=["csr", "csc", "coo", "lil", "csc_array", "bool", "dense", "dense int"],
)
def test_fit_any_form_of_y_gives_same_model(form):
    clf = make_classifier().fit(X, form(Y))
    np.testing.assert_array_equal(clf.classes_, np.arange(Y.shape[1]))
    assert_same_predictions(clf, fitted())


class Mapped:
    """Column of texts that may be sliced, but not be made a list."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def __len__(self):
        return len(self.array)

    def __getitem__(self, rows):
        return self.array[rows]

    def tolist(self):
        raise MemoryError


def test_fit_column_of_texts_gives_same_model(tmp_path):
    np.save(tmp_path / "texts.npy", np.array(X))
    mapped = Mapped(np.load(tmp_path / "texts.npy", mmap_mode="r"))
    column = pd.Series(X, dtype="string", index=range(len(X), 0, -1))
    params = {"early_stopping": True, "checkpoint_dir": tmp_path / "run", "max_epochs": 1}
    given = {
        "sample_weight": np.arange(len(X)) % 3,
        "label_texts": [f"about {i}" for i in range(Y.shape[1])],
    }
    of_list = make_classifier(**params | {"checkpoint_dir": None}).fit(X, Y, **given)
    of_map = make_classifier(**params).fit(mapped, Y, **given)
    assert_same_predictions(of_map, of_list)
    same_run = make_classifier(**params).fit(column, Y, **given)  # it is done
    assert_same_predictions(same_run, of_list)
    with pytest.raises(ValueError, match="holds a training run with other texts"):
        make_classifier(**params).fit(column.str.upper(), Y, **given)


def test_fit_label_names_become_classes():
    named = make_classifier().fit(X, Y, label_names=NAMES)
    frame = make_classifier().fit(X, pd.DataFrame(Y.toarray(), columns=NAMES))
    for clf in (named, frame):
        assert clf.classes_.tolist() == NAMES
        assert_same_predictions(clf, fitted())
        best = clf.predict_topk(X, 3).labels
        np.testing.assert_array_equal(best, clf.classes_[fitted().predict_topk(X, 3).labels])


def test_fit_label_collections_give_same_model_as_matrix():
    used = np.flatnonzero(Y.sum(axis=0))
    lists = [[NAMES[i] for i in Y[[row]].indices[::-1]] for row in range(len(X))]
    clf = make_classifier().fit(X, lists)
    assert clf.classes_.tolist() == [NAMES[i] for i in used]
    assert_same_predictions(clf, make_classifier().fit(X, Y[:, used]))


@pytest.mark.parametrize(
    "form",
    [tuple, np.array, lambda x: np.array(x, dtype=object), pd.Series],
    ids=["tuple", "array", "array of objects", "series"],
)
def test_fit_any_form_of_x_gives_same_model(form):
    clf = make_classifier().fit(form(X), Y)
    assert_same_predictions(clf, fitted())
    np.testing.assert_array_equal(clf.predict_topk(form(X)).scores, fitted().predict_topk(X).scores)


def test_fit_pandas_index_does_not_change_order():
    index = np.arange(len(X))[::-1]
    frame = pd.DataFrame(Y.toarray(), index=index)
    clf = make_classifier().fit(pd.Series(X, index=index), frame)
    assert_same_predictions(clf, fitted())


# ---------------------------------------------------------------- parameters


def test_init_invalid_arguments_are_stored_unchecked():
    clusterer = BalancedLabelClusterer()
    clf = LightXMLClassifier("no such encoder", max_length=-3, clusterer=clusterer, device=7)
    assert clf.clusterer is clusterer
    assert vars(clf) == clf.get_params(deep=False)
    with pytest.raises(NotFittedError, match="not fitted"):
        clf.predict_topk(["a"])


def test_classifier_params_clone_and_repr_follow_sklearn():
    clf = make_classifier()
    assert clf.get_params()["clusterer__max_cluster_size"] == 4
    assert clf.set_params(clusterer__max_cluster_size=8, dropout=0.3) is clf
    twin = clone(clf)
    assert twin.clusterer.max_cluster_size == 8
    assert twin.clusterer is not clf.clusterer
    assert twin.get_params(deep=False).keys() == clf.get_params(deep=False).keys()
    assert repr(LightXMLClassifier(dropout=0.3)) == "LightXMLClassifier(dropout=0.3)"
    with pytest.raises(ValueError, match="Invalid parameter"):
        clf.set_params(no_such=1)
    assert not hasattr(clone(fitted()), "network_")


def test_fit_parameters_stay_unmodified():
    clf = make_classifier(head_learning_rate=None, n_candidate_clusters=100)
    before = clf.get_params()
    state = dict(vars(clf.clusterer))
    clf.fit(X, Y)
    after = clf.get_params()
    assert all(after[name] is before[name] for name in before)
    assert vars(clf.clusterer) == state


def test_fit_inputs_stay_unmodified():
    texts, y = list(X), Y.copy()
    y.data[0] = 0
    before = y.copy()
    make_classifier(max_epochs=1).fit(texts, y)
    assert texts == X
    np.testing.assert_array_equal(y.data, before.data)
    np.testing.assert_array_equal(y.indices, before.indices)


def test_fit_clusterer_is_cloned_and_clusters_the_labels():
    for size, n_clusters in ((4, 8), (8, 4), (30, 1), ("auto", 30)):
        clf = make_classifier("direct", max_epochs=1)
        clf.set_params(clusterer__max_cluster_size=size).fit(X, Y)
        assert clf.clusterer_.n_clusters_ == clf.network_.layout.n_clusters == n_clusters
        assert clf.clusterer_.labels_.shape == (30,)
        assert not hasattr(clf.clusterer, "labels_")


def test_fit_clusterer_without_seed_or_threads_gets_them():
    clf = make_classifier(n_jobs=1, max_epochs=1).fit(X, Y)
    assert isinstance(clf.clusterer_.random_state, int)
    assert clf.clusterer_.n_jobs == 1
    own = BalancedLabelClusterer(max_cluster_size=4, random_state=7, n_jobs=2)
    clf = make_classifier(clusterer=own, n_jobs=1, max_epochs=1).fit(X, Y)
    assert (clf.clusterer_.random_state, clf.clusterer_.n_jobs) == (7, 2)
    default = make_classifier("direct", clusterer=None, max_epochs=1).fit(X, Y)
    assert isinstance(default.clusterer_.random_state, int)
    assert default.clusterer_.max_cluster_size == 1


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, np.ndarray.tolist], ids=repr)
def test_fit_label_features_decide_the_clusters(form):
    odd = np.arange(30) % 2
    clf = make_classifier(max_epochs=1, clusterer=BalancedLabelClusterer(max_cluster_size=15))
    clf.fit(X, Y, label_features=form(np.eye(2)[odd]))
    parts = {tuple(np.flatnonzero(clf.clusterer_.labels_ == i) % 2) for i in range(2)}
    assert parts == {(0,) * 15, (1,) * 15}


def test_fit_label_features_frame_goes_by_label():
    names = [f"label {i:02}" for i in range(30)]
    frame = pd.DataFrame(np.eye(2)[np.arange(30) % 2], index=names).sample(frac=1, random_state=0)
    clf = make_classifier(max_epochs=1, clusterer=BalancedLabelClusterer(max_cluster_size=15))
    clf.fit(X, Y, label_names=names, label_features=frame)
    parts = {tuple(np.flatnonzero(clf.clusterer_.labels_ == i) % 2) for i in range(2)}
    assert parts == {(0,) * 15, (1,) * 15}


def test_fit_label_features_with_wrong_rows_raise_error():
    with pytest.raises(ValueError, match=r"label_features has 64 rows, but there are 30 labels"):
        make_classifier().fit(X, Y, label_features=np.ones((64, 2)))


@pytest.mark.parametrize("mode", MODES)
def test_fit_n_candidate_clusters_limits_scored_labels(mode, monkeypatch):
    size = 1 if mode == "direct" else 4
    for wanted, most in ((1, size), (3, 3 * size), (10**6, 30), ("auto", 30)):
        clf = make_classifier(mode, n_candidate_clusters=wanted, max_epochs=1).fit(X, Y)
        counts = np.diff(clf.decision_function(X).indptr)
        assert counts.max() <= most
        assert counts.min() >= most * 3 // 4
    monkeypatch.setattr(settings, "AUTO_CANDIDATE_LABELS", 7)  # the next multiple of the size
    counts = np.diff(make_classifier(mode, max_epochs=1).fit(X, Y).decision_function(X).indptr)
    assert counts.max() == (7 if mode == "direct" else 8)


@pytest.mark.parametrize(("mean_size", "n_recalled"), [(1, 2000), (16, 125), (62, 33), (5000, 1)])
def test_candidate_clusters_auto_hold_2000_labels(mean_size, n_recalled):
    layout = SimpleNamespace(n_labels=mean_size * 8192, n_clusters=8192)
    assert settings.resolve_candidate_clusters("auto", layout) == n_recalled


def test_fit_default_clusters_follow_tfidf_of_texts():
    clf = make_classifier(max_epochs=1).fit(X, Y)
    features = label_features(Y, TfidfVectorizer(dtype=np.float32).fit_transform(X))
    expected = clone(clf.clusterer_).fit(features)
    np.testing.assert_array_equal(clf.clusterer_.labels_, expected.labels_)


def test_fit_bottleneck_dim_is_the_size_of_label_embeddings():
    staged = [make_classifier(bottleneck_dim=d).fit(X, Y) for d in (4, 8)]
    tables = [clf.network_.label_table.by_cluster() for clf in staged]
    assert [table.shape for table in tables] == [(9, 4, 4), (9, 4, 8)]
    assert differ(*staged)
    direct = [make_classifier("direct", bottleneck_dim=d).fit(X, Y) for d in (4, 8, None)]
    tables = [clf.network_.label_table.by_label()[0] for clf in direct]
    assert [table.shape for table in tables] == [(30, 4), (30, 8), (30, 32)]
    assert isinstance(direct[2].network_.bottleneck, torch.nn.Identity)  # the paper's dense head
    assert differ(*direct[:2])
    assert differ(*direct[1:])


# ---------------------------------------------------------------- fitted attributes, seeds


@pytest.mark.parametrize("mode", MODES)
def test_fit_sets_fitted_attributes_and_history(mode):
    clf = fitted(mode)
    assert clf.n_labels_ == len(clf.classes_) == 30
    assert clf.n_iter_ == len(clf.history_) == 2
    assert isinstance(clf.network_, torch.nn.Module)
    assert not clf.network_.training
    assert clf.tokenizer_("a")["input_ids"]
    for number, epoch in enumerate(clf.history_):
        assert epoch["epoch"] == number
        assert epoch["loss"] == pytest.approx(epoch["recall_loss"] + epoch["rank_loss"])
        assert (epoch["recall_loss"] == 0) == (mode == "direct")
        assert epoch["n_steps"] == 4
        assert 0 < epoch["seconds"] < 60
        assert 0 <= epoch["learning_rate"] <= 1e-3
        assert "valid_p_at_5" not in epoch
    assert not hasattr(clf, "n_features_in_")


@pytest.mark.parametrize("mode", MODES)
def test_fit_same_seed_gives_same_model(mode):
    assert_same_predictions(make_classifier(mode).fit(X, Y), fitted(mode))
    generators = [np.random.RandomState(3) for _ in range(2)]
    left, right = (make_classifier(mode, random_state=g).fit(X, Y) for g in generators)
    assert_same_predictions(left, right)
    assert differ(left, fitted(mode))
    unseeded = [make_classifier(mode, random_state=None).fit(X, Y) for _ in range(2)]
    assert differ(*unseeded)


@pytest.mark.parametrize("mode", MODES)
def test_fit_and_predict_do_not_use_global_generators(mode):
    before = generator_states()
    clf = make_classifier(mode, early_stopping=True).fit(X, Y)
    assert generator_states() == before
    clf.predict_topk(X)
    clf.decision_function(X)
    clf.encode(X)
    assert generator_states() == before
    torch.manual_seed(12345)  # they do not change the model either
    np.random.seed(12345)  # noqa: NPY002
    assert_same_predictions(clf, make_classifier(mode, early_stopping=True).fit(X, Y))


def test_fit_again_ignores_previous_model():
    clf = make_classifier().fit(X[:20], Y[:20, :5])
    assert_same_predictions(clf.fit(X, Y), fitted())
    assert clf.n_labels_ == 30


@pytest.mark.parametrize("sampling", ["dynamic", "static"])
def test_fit_with_int8_trains_like_auto(sampling):
    """This includes initial heads and static negatives."""
    params = {"negative_sampling": sampling, "n_candidate_clusters": 3}
    clf = make_classifier(**params, precision="int8").fit(X, Y, validation_data=(X, Y))
    other = make_classifier(**params, precision="auto").fit(X, Y)
    assert differ(clf, other)
    assert_same_predictions(clf.set_params(precision="auto"), other)


def test_fit_with_int8_on_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(settings, "resolve_device", lambda device: torch.device("cuda", 0))
    with pytest.raises(ValueError, match=r'precision="int8" is for CPUs\. Use "bf16" or "fp16"'):
        make_classifier(precision="int8").fit(X, Y)


def test_classifier_defaults_have_documented_values():
    expected = {
        "encoder": "bert-base-uncased",
        "max_length": 128,
        "long_text": "truncate",
        "n_feature_layers": 5,
        "clusterer": None,
        "n_candidate_clusters": "auto",
        "bottleneck_dim": 256,
        "pooling": "auto",
        "negative_sampling": "auto",
        "label_weight": None,
        "freeze_encoder": False,
        "label_precision": "fp32",
        "label_search": "exact",
        "dropout": "auto",
        "encoder_dropout": "auto",
        "head_init": "centroids",
        "max_epochs": "auto",
        "batch_size": 32,
        "accumulate_steps": 1,
        "gradient_checkpointing": False,
        "learning_rate": "auto",
        "head_learning_rate": "auto",
        "weight_decay": 0.01,
        "warmup_fraction": 0.1,
        "lr_schedule": "linear",
        "swa_start": None,
        "early_stopping": False,
        "validation_fraction": 0.1,
        "n_iter_no_change": 3,
        "precision": "auto",
        "device": "auto",
        "threshold": 0.5,
        "memory": None,
        "checkpoint_dir": None,
        "warm_start": False,
        "random_state": None,
        "n_jobs": None,
    }
    params = LightXMLClassifier().get_params()
    assert {name: params[name] for name in expected} == expected
