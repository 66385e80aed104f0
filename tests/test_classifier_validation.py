"""LightXMLClassifier: held-out sets, early stopping, warm starts, and wrong input."""

import numpy as np
import pandas as pd
import pytest
import torch
from classifier_fixtures import (
    assert_same_predictions,
    dataset,
    encoder_path,
    fitted,
    make_classifier,
)

from skxmc import BalancedLabelClusterer
from skxmc.metrics import precision_at_k

X, Y = dataset()


# ---------------------------------------------------------------- validation, early stopping


def test_fit_validation_data_is_measured_after_each_epoch():
    clf = make_classifier().fit(X[:50], Y[:50], validation_data=(X[50:], Y[50:]))
    assert len(clf.history_) == 2
    measured = precision_at_k(Y[50:], clf.predict_topk(X[50:], 5), k=5, classes=clf.classes_)
    assert clf.history_[-1]["valid_p_at_5"] == pytest.approx(measured)
    assert_same_predictions(clf, make_classifier().fit(X[:50], Y[:50]))


def test_fit_unknown_labels_in_validation_data_count_as_missed():
    known = [["a"], ["b"], ["c"], ["a", "b"]] * 16
    true = [["a", "never seen"], ["nor this"]]
    clf = make_classifier().fit(X, known, validation_data=(X[:2], true))
    best = clf.predict_topk(X[:2], 3)
    measured = precision_at_k(true, best, k=3, classes=clf.classes_)
    assert clf.history_[-1]["valid_p_at_5"] == pytest.approx(measured) == pytest.approx(1 / 6)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X[:3], Y[:2]), r"validation_data\[1\] has 2 rows, but there are 3 texts"),
        ((X[:2], Y[:2, :4]), r"validation_data\[1\] has 4 columns, but there are 30 classes"),
        (([None, "a"], Y[:2]), r"validation_data\[0\] holds a missing value \(None\) at row 0"),
        (X, r"validation_data must be a pair \(X, y\)"),
        (None, None),
    ],
    ids=["lengths", "columns", "missing", "no pair", "None"],
)
def test_fit_wrong_validation_data_raises_error(data, message):
    clf = make_classifier(max_epochs=1)
    if message is None:
        assert "valid_p_at_5" not in clf.fit(X, Y, validation_data=data).history_[0]
    else:
        with pytest.raises(ValueError, match=message):
            clf.fit(X, Y, validation_data=data)


def test_fit_x_val_and_y_val_are_measured_as_validation_data():
    y_val = [list(Y[[row]].indices) for row in range(50, 64)]
    pair = make_classifier().fit(X[:50], Y[:50], validation_data=(X[50:], y_val))
    apart = make_classifier().fit(X[:50], Y[:50], X_val=X[50:], y_val=y_val)
    measured = [epoch["valid_p_at_5"] for epoch in apart.history_]
    assert measured == [epoch["valid_p_at_5"] for epoch in pair.history_]
    assert_same_predictions(apart, pair)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"X_val": X, "y_val": Y, "validation_data": (X, Y)}, "validation_data and X_val or y_val"),
        ({"y_val": Y, "validation_data": (X, Y)}, "validation_data and X_val or y_val are given"),
        ({"X_val": X}, "X_val is given without y_val. Pass both"),
        ({"y_val": Y}, "y_val is given without X_val. Pass both"),
        ({"X_val": X[:3], "y_val": Y[:2]}, "y_val has 2 rows, but there are 3 texts"),
        ({"X_val": X, "y_val": Y[:, :4]}, "y_val has 4 columns, but there are 30 classes"),
        ({"X_val": "a text", "y_val": Y[:1]}, r"Iterable over raw text.* X_val=\[text\]"),
    ],
    ids=["both", "pair and labels", "no labels", "no texts", "lengths", "columns", "one text"],
)
def test_fit_wrong_x_val_and_y_val_raise_error(given, message):
    with pytest.raises(ValueError, match=message):
        make_classifier(max_epochs=1).fit(X, Y, **given)


def test_fit_early_stopping_stops_without_gain():
    still = {"learning_rate": 0.0, "head_learning_rate": 0.0, "early_stopping": True}
    clf = make_classifier(max_epochs=9, n_iter_no_change=2, batch_size=19, **still).fit(X, Y)
    assert clf.n_iter_ == len(clf.history_) == 3
    assert clf.history_[0]["n_steps"] == 3  # of 57 texts: a tenth, rounded up, is held out
    assert clf.history_[0]["valid_p_at_5"] == clf.history_[2]["valid_p_at_5"]
    patient = make_classifier(
        max_epochs=4, n_iter_no_change=1, **{**still, "early_stopping": False}
    )
    assert patient.fit(X, Y, validation_data=(X, Y)).n_iter_ == 4
    wide = make_classifier(validation_fraction=0.5, batch_size=16, max_epochs=1, **still).fit(X, Y)
    assert wide.history_[0]["n_steps"] == 2


def test_fit_early_stopping_keeps_best_weights():
    wild = {"learning_rate": 0.3, "head_learning_rate": 0.3, "lr_schedule": "constant"}
    clf = make_classifier(early_stopping=True, n_iter_no_change=4, max_epochs=6, **wild)
    clf.fit(X, Y, validation_data=(X, Y))
    measured = [epoch["valid_p_at_5"] for epoch in clf.history_]
    assert measured[-1] < max(measured)  # otherwise the test proves nothing
    assert precision_at_k(Y, clf.predict_topk(X, 5), k=5) == pytest.approx(max(measured))
    assert clf.history_[0]["n_steps"] == 4  # validation_data replaces the held-out set


def test_fit_early_stopping_with_too_few_texts_raises_error():
    clf = make_classifier(early_stopping=True, validation_fraction=0.5)
    with pytest.raises(ValueError, match="of 1 texts leaves none to train on"):
        clf.fit(["a"], [["x"]])
    clf.set_params(validation_fraction=0.7)  # it leaves one of four texts, "d" with this seed
    with pytest.raises(ValueError, match="No text of the training part has a label"):
        clf.fit(["a", "b", "c", "d"], [["x"], ["x"], ["x"], []])


# ---------------------------------------------------------------- warm start


def test_warm_start_continues_from_previous_weights():
    clf = make_classifier(warm_start=True, lr_schedule="constant").fit(X, Y)
    first = clf.history_
    clf.set_params(encoder="not needed any more").fit(X, Y)
    assert clf.history_[0]["loss"] < first[0]["loss"]
    before = clf.decision_function(X)
    clf.set_params(learning_rate=0.0, head_learning_rate=0.0).fit(X, Y)
    assert (clf.decision_function(X) != before).nnz == 0


@pytest.mark.parametrize("name", ["tag {}".format, lambda label: label + 7], ids=["str", "int"])
@pytest.mark.parametrize("form", ["lists", "frame", "matrix"])
def test_warm_start_some_labels_by_name_train_their_columns(name, form):
    """A matrix of all labels gives the same model."""
    names = [name(label) for label in range(30)]
    found, expected = (make_classifier(warm_start=True) for _ in range(2))
    for clf in (found, expected):
        clf.fit(X, Y, label_names=names)
    used, small = [20, 3], np.array([[1, 1], [0, 1], [0, 0]])
    lists = [[name(20), name(3)], [name(3)], []]
    frame = pd.DataFrame(small, columns=[name(label) for label in used])
    if form == "matrix":
        found.fit(X[:3], small, label_names=list(frame.columns))
    else:
        found.fit(X[:3], lists if form == "lists" else frame)
    y = np.zeros((3, 30))
    y[:, used] = small
    expected.fit(X[:3], y, label_names=names)
    assert_same_predictions(found, expected)


def test_warm_start_other_labels_raise_error():
    clf = make_classifier(warm_start=True).fit(X, Y)
    with pytest.raises(ValueError, match="warm_start=True needs the labels of the previous"):
        clf.fit(X, Y[:, :29])
    with pytest.raises(ValueError, match="y has labels of type str, such as 'tag 0'"):
        clf.fit(X, Y, label_names=[f"tag {i}" for i in range(30)])
    assert_same_predictions(clf, fitted())
    assert clf.set_params(warm_start=False).fit(X, Y[:, :29]).n_labels_ == 29


# ---------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("texts", "y", "error", "message"),
    [
        ("a text", Y[:1], ValueError, r"Iterable over raw text documents expected.*X=\[text\]"),
        (["a", None], Y[:2], ValueError, r"X holds a missing value \(None\) at row 1.*fillna"),
        (["a", float("nan")], Y[:2], ValueError, r"X holds a missing value \(nan\) at row 1"),
        (["a", 3], Y[:2], TypeError, r"row 1 is 3 of type int. Pass str\(text\)"),
        (["a", b"b"], Y[:2], TypeError, r"row 1 is b'b' of type bytes. Decode it"),
        (np.array([["a"], ["b"]]), Y[:2], ValueError, "X must be one-dimensional"),
        (iter(["a"]), Y[:1], TypeError, "X must be a list, tuple"),
        ([], Y[:0], ValueError, "X holds no text"),
        (X[:3], Y[:2], ValueError, "y has 2 rows, but there are 3 texts"),
        (X[:3], [["a"], ["b"]], ValueError, "y has 2 rows, but there are 3 texts"),
        (X[:2], Y[:2] * 0, ValueError, "y holds no positive label at all"),
        (X[:2], [[], []], ValueError, "y holds no positive label at all"),
        (X[:2], Y[:2, :0], ValueError, "y holds no"),
        (X[:2], Y[:2] * 0.5, ValueError, r"y holds 0.5 at row 0.*only 0 and 1"),
        (X[:2], [[1], [-1]], ValueError, "holds the label -1, but integer labels must be from 0"),
        (X[:2], ["a", "b"], ValueError, "row 0 of y is 'a', not a collection of labels"),
        (X[:2], None, ValueError, "requires y to be passed, but the target y is None"),
    ],
)
def test_fit_bad_texts_or_labels_raise_error(texts, y, error, message):
    clf = make_classifier()
    with pytest.raises(error, match=message):
        clf.fit(texts, y)
    assert not hasattr(clf, "network_")


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"encoder": "/no/such/folder"},
            r"encoder='/no/such/folder' could not be loaded.*minilm",
        ),
        (
            {"encoder": "no-such/encoder"},
            r"encoder='no-such/encoder' could not be loaded.*minilm",
        ),
        (
            {"device": "cuda:99"},
            r"device='cuda:99' is not available: this machine has .* CUDA device",
        ),
        ({"device": "toaster"}, r"device='toaster' is not a device name. Use \"auto\""),
        ({"n_feature_layers": 3}, "n_feature_layers=3, but .* has only 2 hidden states. Lower n_"),
        ({"max_length": 65}, "max_length=65, but .* takes at most 64 tokens. Lower max"),
        ({"max_epochs": 0}, "'max_epochs' parameter of LightXMLClassifier must be a str"),
        ({"dropout": 1.0}, "'dropout' parameter"),
        ({"encoder": None}, "'encoder' parameter"),
        ({"clusterer": "kmeans"}, "'clusterer' parameter"),
        ({"clusterer": BalancedLabelClusterer(max_cluster_size=0)}, "'max_cluster_size' param"),
        ({"negative_sampling": "all"}, "'negative_sampling' parameter"),
        ({"n_candidate_clusters": 0}, "'n_candidate_clusters' parameter"),
        ({"precision": "fp8"}, "'precision' parameter"),
    ],
    ids=str,
)
def test_fit_bad_parameters_raise_error(params, message):
    clf = make_classifier(**params)
    with pytest.raises(ValueError, match=message):
        clf.fit(X, Y)
    assert not hasattr(clf, "network_")


def test_fit_encoder_limits_themselves_are_legal():
    clf = make_classifier(n_feature_layers=2, max_length=64, max_epochs=1).fit(X[:8], Y[:8])
    assert clf.encode(["b " * 500]).shape == (1, 32)


def test_fit_error_keeps_previous_model():
    clf = make_classifier().fit(X, Y)
    for params, y in (({}, Y[:3]), ({"encoder": "/no/such"}, Y), ({"device": "cuda:99"}, Y)):
        with pytest.raises(ValueError, match=r"encoder=|device=|y has"):
            clf.set_params(**{"encoder": encoder_path(), "device": "cpu", **params}).fit(X, y)
    clf.set_params(device="cpu")
    assert_same_predictions(clf, fitted())


@pytest.mark.parametrize("k", [0, -1, 31, True, 2.0, "3", None])
def test_predict_topk_k_out_of_range_raises_error(k):
    with pytest.raises(ValueError, match=r"k is .*(must be a whole number|only 30 labels)"):
        fitted().predict_topk(X, k)
    if k is not None:
        with pytest.raises(ValueError, match=r"top_k is .*(must be a whole|only 30 labels)"):
            fitted().decision_function(X, top_k=k)


@pytest.mark.parametrize(
    "method", ["predict", "predict_topk", "predict_proba", "decision_function", "encode"]
)
def test_predictions_bad_texts_raise_error(method):
    predict = getattr(fitted(), method)
    with pytest.raises(ValueError, match="Iterable over raw text documents expected"):
        predict("a text")
    with pytest.raises(ValueError, match=r"missing value .* at row 2"):
        predict(["a", "b", None])
    with pytest.raises(TypeError, match="row 0 is 1"):
        predict([1])


def test_fit_bf16_has_similar_loss_as_fp32():
    clf = fitted()
    half = make_classifier(precision="bf16").fit(X, Y)
    assert np.isfinite(half.predict_topk(X).scores).all()
    assert half.history_[-1]["loss"] == pytest.approx(clf.history_[-1]["loss"], rel=0.1)
    assert {p.dtype for p in half.network_.parameters()} == {torch.float32}
