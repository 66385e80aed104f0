"""The cache of `memory`: tokens and clusters, found again by the settings that decide them."""

import numpy as np
import pandas as pd
import pytest
from classifier_fixtures import (
    assert_same_predictions,
    dataset,
    fitted,
    make_classifier,
)
from joblib import Memory
from tiny_encoders import tiny_tokenizer

from skxmc import BalancedLabelClusterer
from skxmc._input.text_column import check_column
from skxmc._input.tfidf import summed_tfidf
from skxmc._storage import cache
from skxmc._training import build

X, Y = dataset()


def test_memory_computes_tokens_and_clusters_once(tmp_path, monkeypatch):
    calls = []
    tokenize, features = cache.tokenize, cache.label_features

    def counting(name, function):
        def call(*args, **options):
            calls.append(name)
            return function(*args, **options)

        return call

    monkeypatch.setattr(cache, "tokenize", counting("tokens", tokenize))
    monkeypatch.setattr(cache, "label_features", counting("clusters", features))

    def calls_of(texts=X, y=Y, **params):
        calls.clear()
        make_classifier(memory=str(tmp_path), max_epochs=1, **params).fit(texts, y)
        return sorted(calls)

    assert calls_of() == ["clusters", "tokens"]
    assert calls_of(bottleneck_dim=4, learning_rate=1e-4) == []
    assert calls_of(y=Y.tolil()) == []
    assert calls_of(max_length=16) == ["tokens"]
    assert calls_of(long_text="windows") == ["tokens"]
    assert calls_of(long_text="windows", max_length=16) == []  # the tokens are those of whole texts
    assert calls_of(clusterer=BalancedLabelClusterer(max_cluster_size=8)) == ["clusters"]
    assert calls_of(texts=X[::-1]) == ["clusters", "tokens"]
    assert calls_of(y=Y[::-1]) == ["clusters"]
    assert calls_of(n_jobs=2) == []
    assert calls_of(random_state=1) == ["clusters"]
    direct = {"clusterer": BalancedLabelClusterer(max_cluster_size=1)}
    assert calls_of(**direct) == []  # there is nothing to cluster
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [
        path for path in files if X[0].encode() in path.read_bytes()
    ]  # no text in the clear


def test_memory_maps_tokens_and_writes_temporary_files_beside_them(tmp_path, monkeypatch):
    seen = []

    def tokenize(*args, folder):
        seen.append(folder)
        return cache.TokenStore(np.arange(9, dtype=np.int32), np.array([0, 4, 9]), None, 0, False)

    monkeypatch.setattr(cache, "tokenize", tokenize)
    memory = Memory(tmp_path, mmap_mode="r", verbose=0)
    for _ in range(2):
        tokens = cache.cached_tokens(memory, tiny_tokenizer(), ["a", "b"], 8)
        assert isinstance(tokens.ids, np.memmap)
        assert tokens.batch(np.array([1])).input_ids.tolist() == [[4, 5, 6, 7, 8]]
    assert seen == [str(tmp_path)]


def test_memory_folder_maps_tokens_but_not_clusters(tmp_path, monkeypatch):
    stores = []

    def noted(*args, **kwargs):
        stores.append(cached_tokens(*args, **kwargs))
        return stores[-1]

    cached_tokens = build.cached_tokens
    monkeypatch.setattr(build, "cached_tokens", noted)
    for _ in range(2):
        clf = make_classifier(memory=tmp_path, max_epochs=1).fit(X, Y)
        assert isinstance(stores[-1].ids, np.memmap)
        assert type(clf.clusterer_.labels_) is np.ndarray


def test_memory_of_a_column_is_found_by_its_texts(tmp_path, monkeypatch):
    memory = Memory(tmp_path, verbose=0)
    column = check_column(np.array(X))
    clusterer = BalancedLabelClusterer(4, random_state=0)
    tokens = cache.cached_tokens(memory, tiny_tokenizer(), column, 32)
    clusters = cache.cached_clusters(memory, column, Y, None, clusterer).labels_
    monkeypatch.delattr(cache, "tokenize")
    monkeypatch.delattr(cache, "_features")
    again = check_column(pd.Series(X, dtype="string"))
    found = cache.cached_tokens(memory, tiny_tokenizer(), again, 32)
    np.testing.assert_array_equal(found.ids, tokens.ids)
    found = cache.cached_clusters(memory, again, Y, None, clusterer)
    np.testing.assert_array_equal(found.labels_, clusters)


def test_clusters_of_many_words_come_from_sums(monkeypatch):
    monkeypatch.setattr(cache, "has_many_words", lambda texts, y: True)
    monkeypatch.delattr(cache, "fit_tfidf")
    clusterer = BalancedLabelClusterer(4, random_state=0)
    found = cache.cached_clusters(Memory(None), X, Y, None, clusterer).labels_
    sums = BalancedLabelClusterer(4, random_state=0).fit(summed_tfidf(X, Y)).labels_
    np.testing.assert_array_equal(found, sums)


def test_memory_clusterer_keeps_its_given_parameters(tmp_path):
    params = {"max_cluster_size": 4, "random_state": 3}
    for n_jobs in (1, 2):
        clusterer = BalancedLabelClusterer(**params, n_jobs=n_jobs)
        clf = make_classifier(memory=str(tmp_path), max_epochs=1, clusterer=clusterer).fit(X, Y)
        assert clf.clusterer_.get_params() == {**clusterer.get_params(), "n_jobs": n_jobs}


class ByNumber(BalancedLabelClusterer):
    """Clusters labels by their numbers."""

    def fit(self, X, y=None):
        super().fit(X)
        self.labels_ = np.arange(X.shape[0]) // 4
        self.n_clusters_ = int(self.labels_.max()) + 1
        return self


def test_memory_distinguishes_clusterer_classes(tmp_path):
    params = {"memory": str(tmp_path), "max_epochs": 1}
    for clusterer in (BalancedLabelClusterer(4), ByNumber(4)):
        clf = make_classifier(**params, clusterer=clusterer).fit(X, Y)
    assert clf.clusterer_.labels_.tolist() == (np.arange(30) // 4).tolist()
    with pytest.raises(ValueError, match="'max_cluster_size' parameter of BalancedLabelClusterer"):
        make_classifier(**params).set_params(clusterer__max_cluster_size="many").fit(X, Y)


def test_memory_does_not_change_predictions(tmp_path):
    for _ in range(2):
        assert_same_predictions(make_classifier(memory=str(tmp_path)).fit(X, Y), fitted())


def test_memory_distinguishes_tokenizers(tmp_path):
    memory = Memory(tmp_path, verbose=0)
    first = cache.cached_tokens(memory, tiny_tokenizer(), X[:3], 32)
    last = cache.cached_tokens(memory, tiny_tokenizer(cls_last=True), X[:3], 32)
    assert (first.ids[0], last.ids[-1]) == (1, 1)  # [CLS]
    assert last.cls_last
    again = cache.cached_tokens(memory, tiny_tokenizer(), X[:3], 32)
    np.testing.assert_array_equal(again.ids, first.ids)
    from_the_end = tiny_tokenizer()
    from_the_end.truncation_side = "left"
    cut = [cache.cached_tokens(memory, t, X[:3], 4) for t in (tiny_tokenizer(), from_the_end)]
    assert not np.array_equal(cut[0].ids, cut[1].ids)


def test_memory_fingerprint_ignores_last_call_of_tokenizer():
    tokenizer = tiny_tokenizer()
    before = cache._fingerprint(tokenizer)
    tokenizer(X[:3], truncation=True, max_length=7, padding=True)
    assert cache._fingerprint(tokenizer) == before
