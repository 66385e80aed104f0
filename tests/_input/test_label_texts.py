"""Texts about labels become training texts with one label each."""

import re

import numpy as np
import pandas as pd
import pytest
from classifier_fixtures import MODES, assert_same_predictions, dataset, make_classifier
from scipy import sparse

from skxmc import LightXMLEnsemble
from skxmc._input.split import add_label_texts
from skxmc._input.validation import check_labels
from skxmc._training import build

TEXTS = ["red fruit", "blue car"]
Y = check_labels([["apple"], ["car", "sky"]]).matrix
CLASSES = np.arange(Y.shape[1])


def test_add_label_texts_gives_each_text_its_label_alone():
    texts, y = add_label_texts(TEXTS, Y, CLASSES, ["an apple", "a car", "the sky"])
    assert texts == [*TEXTS, "an apple", "a car", "the sky"]
    expected = np.vstack([Y.toarray(), np.eye(3)])
    np.testing.assert_array_equal(y.toarray(), expected)


@pytest.mark.parametrize(
    "label_texts",
    [
        [None, "a car", ""],
        (None, "a car", " \n"),
        np.array([None, "a car", np.nan], dtype=object),
        pd.Series([None, "a car", float("nan")]),
        pd.Series([pd.NA, "a car", ""], dtype="string"),
    ],
    ids=["list", "tuple", "array", "series", "strings"],
)
def test_add_label_texts_missing_and_blank_texts_add_nothing(label_texts):
    texts, y = add_label_texts(TEXTS, Y, CLASSES, label_texts)
    assert texts == [*TEXTS, "a car"]
    assert y.shape == (3, 3)
    assert y[[2]].toarray().tolist() == [[0, 1, 0]]


def test_add_label_texts_keeps_matrix_canonical():
    _, y = add_label_texts(TEXTS, Y, CLASSES, ["an apple", None, "the sky"])
    assert y.dtype == Y.dtype
    assert type(y) is type(Y)
    assert y.has_canonical_format
    y.check_format(full_check=True)
    assert set(y.data) == {1}
    assert y.indices.dtype == y.indptr.dtype == Y.indices.dtype == np.int32


def test_add_label_texts_leaves_input_unchanged():
    texts, before = list(TEXTS), Y.copy()
    add_label_texts(texts, Y, CLASSES, ["an apple", "a car", "the sky"])
    assert texts == TEXTS
    assert (before != Y).nnz == 0


def test_add_label_texts_none_returns_input():
    texts, y = add_label_texts(TEXTS, Y, CLASSES, None)
    assert texts is TEXTS
    assert y is Y
    texts, y = add_label_texts(TEXTS, Y, CLASSES, [None] * 3)
    assert texts == TEXTS
    assert y.shape == (2, 3)


@pytest.mark.parametrize(
    ("label_texts", "error", "message"),
    [
        (["a"], ValueError, "label_texts has 1 entries, but there are 3 labels. Pass one text"),
        ([], ValueError, "label_texts has 0 entries, but there are 3 labels"),
        (["a", "b", "c", "d"], ValueError, "in the order of classes_, and None for a label"),
        (["a", None, 3], TypeError, "label_texts must hold str only, but row 2 is 3 of type int"),
        (["a", b"b", "c"], TypeError, "row 1 is b'b' of type bytes. Decode it"),
        ("abc", ValueError, "string object received. Pass a list: label_texts=[text]"),
        ({"apple": "a"}, ValueError, "label_texts has an entry for 'apple', which is not a label"),
        (iter("abc"), TypeError, "label_texts must be a list, tuple"),
        (3, TypeError, "label_texts must be a list, tuple"),
        (pd.DataFrame({"a": [1], "b": [1], "c": [1]}), ValueError, "must be one-dimensional"),
    ],
    ids=["short", "empty", "long", "number", "bytes", "string", "dict", "iterator", "int", "frame"],
)
def test_add_label_texts_bad_input_is_refused(label_texts, error, message):
    with pytest.raises(error, match=re.escape(message)):
        add_label_texts(TEXTS, Y, CLASSES, label_texts)


# ---------------------------------------------------------------- in fit


@pytest.mark.parametrize("mode", MODES)
def test_fit_label_texts_train_like_other_texts(mode):
    X, Y = dataset()
    label_texts = [f"w{label} w{label + 1}" for label in range(Y.shape[1])]
    start = {"head_init": "priors"}  # that at centroids gives them more weight
    clf = make_classifier(mode, **start).fit(X, Y, label_texts=label_texts)
    eye = sparse.csr_array(sparse.identity(Y.shape[1], dtype=Y.dtype))
    by_hand = make_classifier(mode, **start).fit(
        [*X, *label_texts], sparse.vstack([Y, eye]).tocsr()
    )
    assert_same_predictions(clf, by_hand)


def test_fit_all_label_texts_initialize_label_embeddings(monkeypatch):
    monkeypatch.setattr(build, "MAX_TEXTS", 1)
    X, Y = dataset()
    params = {"learning_rate": 0.0, "head_learning_rate": 0.0, "max_epochs": 1}
    label_texts = [f"w{label} " * (label + 1) for label in range(Y.shape[1])]
    clf = make_classifier(**params).fit(X, Y, label_texts=label_texts)
    layout, table = clf.network_.layout, clf.network_.label_table.by_cluster()
    starts = table[layout.cluster_of, layout.slot_of].detach().numpy()
    assert len(np.unique(starts.round(4), axis=0)) == Y.shape[1]


def test_fit_label_texts_are_never_held_out():
    X, Y = dataset()
    params = {"early_stopping": True, "batch_size": 1, "max_epochs": 1, "validation_fraction": 0.5}
    clf = make_classifier(**params).fit(X, Y, label_texts=["a text"] * Y.shape[1])
    assert clf.history_[0]["n_steps"] == len(X) // 2 + Y.shape[1]


def test_fit_ensemble_passes_label_texts_to_members():
    X, Y = dataset()
    label_texts = [f"w{label}" for label in range(Y.shape[1])]
    ensemble = LightXMLEnsemble([("a", make_classifier()), ("b", make_classifier())])
    ensemble.fit(X, Y, label_texts=label_texts)
    alone = make_classifier().fit(X, Y, label_texts=label_texts)
    assert_same_predictions(ensemble.estimators_[1], alone)


def test_fit_label_texts_series_goes_by_label():

    labels = [["b"], ["a"], ["c"], ["a"]]
    texts = ["zebra", "apple", "cherry", "apple pie"]
    in_order = ["about a", "about b", "about c"]
    by_label = pd.Series(in_order[::-1], index=["c", "b", "a"])
    y = check_labels(labels)
    expected = add_label_texts(texts, y.matrix, y.classes, in_order)
    for given in (by_label, by_label.to_dict()):
        found = add_label_texts(texts, y.matrix, y.classes, given)
        assert found[0] == expected[0]
        assert (found[1] != expected[1]).nnz == 0
