"""Labels that LightXMLClassifier gains by add_labels and warm starts, or loses again."""

import copy
import pickle
import re

import numpy as np
import pytest
import torch
from classifier_fixtures import (
    MODES,
    assert_same_predictions,
    dataset,
    fitted,
    make_classifier,
    weights_digest,
)
from scipy import sparse
from sklearn.frozen import FrozenEstimator
from stopped_training import Stopped, assert_same_model, stop_after

from skxmc import (
    CalibratedClassifier,
    LightXMLClassifier,
    LightXMLEnsemble,
    NeighborsClassifier,
    PropensityRanker,
    TunedThresholdClassifier,
)
from skxmc.serving import OnnxClassifier

X, Y = dataset()
NEW = [40, 31]
Y_NEW = [[40], [31, 2], [31], [40, 31, 99], []]


def extended(mode="two-stage", **params):
    """Return a copy of the fitted classifier with two new labels."""
    clf = make_classifier(mode, **params).fit(X, Y) if params else copy.copy(fitted(mode))
    return clf.add_labels(NEW, X=X[:5], y=Y_NEW)


def dense_scores(clf):
    return clf.decision_function(X).toarray()


# ---------------------------------------------------------------- add_labels


@pytest.mark.parametrize("mode", MODES)
def test_add_labels_are_predicted_and_other_scores_stay(mode):
    before, digest = dense_scores(fitted(mode)), weights_digest(fitted(mode))
    clf = extended(mode)
    after = dense_scores(clf)
    assert clf.classes_.tolist() == [*range(30), *NEW]
    assert clf.n_labels_ == 32
    assert clf.n_iter_ == 2
    np.testing.assert_allclose(after[:, :30], before, rtol=1e-5)
    own, others = after[[0, 3], 30], after[5:, 30]
    assert own.min() > np.median(others) > 0  # the texts of label 40
    assert_same_predictions(fitted(mode), fitted(mode))
    assert weights_digest(fitted(mode)) == digest  # which the new classifier was copied from
    assert clf.clusterer_.n_clusters_ == clf.network_.layout.n_clusters
    assert clf.clusterer_.labels_.tolist() == clf.network_.layout.cluster_of.tolist()


def test_add_labels_text_of_label_weighs_twice_and_counts_as_text():
    texts, names = X[:3], ["a", "b"]
    clf = make_classifier(bottleneck_dim=8).fit(X, Y, label_names=[str(i) for i in range(30)])
    both = copy.copy(clf).add_labels(
        names, label_texts={"a": texts[1]}, X=[texts[0], texts[2]], y=[["a"], ["b"]]
    )
    apart = copy.copy(clf).add_labels(
        names, X=[texts[0], texts[1], texts[1], texts[2]], y=[["a"]] * 3 + [["b"]]
    )
    (left, left_bias), (right, right_bias) = (table_of(other) for other in (both, apart))
    torch.testing.assert_close(left, right)
    counts = np.array([[2, 1], [3, 1]])
    priors = np.log((counts + 0.1) / (64 - counts + 1)) - 1
    found, trained = np.stack([left_bias[-2:], right_bias[-2:]]), left_bias[:-2].numpy()
    np.testing.assert_allclose(found, np.clip(priors, trained.min(), trained.max()), rtol=1e-6)
    assert found[0, 0] < found[1, 0]  # otherwise the bounds decide, and the test proves nothing


def test_add_labels_unknown_number_of_training_texts_gives_lowest_bias():
    clf = copy.copy(fitted())
    clf.history_ = [{name: e[name] for name in e if name != "n_texts"} for e in clf.history_]
    biases = table_of(clf.add_labels([31], label_texts=["a"]))[1]
    assert biases[30] == biases[:30].min()


def table_of(clf):
    layout, table = clf.network_.layout, clf.network_.label_table
    place = layout.cluster_of, layout.slot_of
    return table.by_cluster()[place], table.bias.detach()[place]


@pytest.mark.parametrize("given", ["matrix", "sparse", "frame", "callable"])
def test_add_labels_forms_of_labels_and_texts_are_equal(given):
    pd = pytest.importorskip("pandas")
    dense = np.array([[1, 0], [0, 1], [0, 1], [1, 1], [0, 0]])
    forms = {"sparse": sparse.csr_array(dense), "frame": pd.DataFrame(dense, columns=NEW)}
    found, expected = copy.copy(fitted()), copy.copy(fitted())
    texts = [None, "a b"]
    if given == "callable":
        texts = lambda labels: [{31: "a b"}.get(label) for label in labels]  # noqa: E731
    found.add_labels(NEW, label_texts=texts, X=X[:5], y=forms.get(given, dense))
    expected.add_labels(np.array(NEW), label_texts={31: "a b"}, X=X[:5], y=Y_NEW)
    assert_same_predictions(found, expected)


@pytest.mark.parametrize(
    ("names", "given", "error", "message"),
    [
        ([3, 31], {"X": X[:1], "y": [[31]]}, ValueError, "names holds 3, which is a label already"),
        ([31, 31], {"X": X[:1], "y": [[31]]}, ValueError, "names holds 31 more than once"),
        (["a"], {"label_texts": ["b"]}, ValueError, "names has labels of type str"),
        ([], {"X": X[:1], "y": [[31]]}, ValueError, "names holds no label. Pass at least one"),
        ("abc", {"label_texts": ["b"]}, TypeError, "sequence of labels, got str. Pass a list"),
        ([31], {}, ValueError, "new label 31 has neither text nor example. Pass a text about it"),
        ([31, 32], {"label_texts": ["b", " "]}, ValueError, "new label 32 has neither text nor"),
        ([31], {"X": X[:1]}, ValueError, "X is given without y. Pass both"),
        ([31], {"y": [[31]]}, ValueError, "y is given without X. Pass both"),
        ([31], {"X": X[:2], "y": [[31]]}, ValueError, "y has 1 rows, but there are 2 texts"),
        ([31], {"X": X[:1], "y": Y[:1]}, ValueError, "y has 30 columns, but there are 1 classes"),
        ([31], {"label_texts": ["a", "b"]}, ValueError, "label_texts has 2 entries, but there are"),
    ],
)
def test_add_labels_wrong_arguments_raise_error_and_change_nothing(names, given, error, message):
    clf = copy.copy(fitted())
    before = dict(vars(clf))
    with pytest.raises(error, match=message):
        clf.add_labels(names, **given)
    assert vars(clf) == before


def test_add_labels_not_fitted_raises_error():
    with pytest.raises(ValueError, match="is not fitted yet"):
        make_classifier().add_labels([31], label_texts=["a"])


def test_add_labels_that_fails_half_way_changes_nothing(monkeypatch):
    clf = copy.copy(fitted())
    before, digest = dict(vars(clf)), weights_digest(clf)

    def fail(*_):
        raise RuntimeError("no cluster")

    monkeypatch.setattr("skxmc._training.new_labels._model_of", fail)
    with pytest.raises(RuntimeError, match="no cluster"):
        clf.add_labels([31], label_texts=["a"])
    assert vars(clf) == before
    assert weights_digest(clf) == digest


# ---------------------------------------------------------------- remove_labels


@pytest.mark.parametrize("mode", MODES)
def test_remove_labels_other_scores_stay(mode):
    clf = copy.copy(fitted(mode)).set_params(n_candidate_clusters=99)
    before, kept = dense_scores(clf), np.setdiff1d(np.arange(30), [0, 7, 29])
    clf.remove_labels([29, 0, 7])
    assert clf.classes_.tolist() == kept.tolist()
    np.testing.assert_allclose(dense_scores(clf), before[:, kept], rtol=1e-5)
    assert dense_scores(fitted(mode)).shape == (64, 30)


def test_remove_labels_of_whole_cluster_removes_cluster():
    clf = copy.copy(fitted()).set_params(n_candidate_clusters=99)
    before, cluster_of = dense_scores(clf), clf.clusterer_.labels_
    kept = np.flatnonzero(cluster_of != cluster_of[0])
    clf.remove_labels(np.flatnonzero(cluster_of == cluster_of[0]))
    assert clf.network_.recall_head.out_features == clf.clusterer_.n_clusters_ == 7
    assert clf.network_.recall_head.weight.shape[0] == clf.network_.layout.n_clusters == 7
    np.testing.assert_allclose(dense_scores(clf), before[:, kept], rtol=1e-5)


def test_remove_labels_one_per_cluster_left_is_direct_mode(tmp_path):
    clf = copy.copy(fitted())
    first = np.unique(clf.clusterer_.labels_, return_index=True)[1][:4]
    rank = [{label.label: label.rank_score for label in clf.explain_topk(X[0], 30).labels}]
    clf.remove_labels(np.setdiff1d(np.arange(30), first))
    assert clf.network_.direct
    top = clf.predict_topk(X[:1], 4)
    np.testing.assert_allclose(top.scores[0], [rank[0][j] for j in top.labels[0]], rtol=1e-5)
    clf.save_pretrained(tmp_path)
    assert_same_predictions(LightXMLClassifier.from_pretrained(tmp_path), clf)
    assert clf.add_labels([50], label_texts=["a"]).predict_topk(X, 5).labels.shape == (64, 5)
    clf.set_params(warm_start=True, max_epochs=1).fit(X[:4], [[50]] * 4)
    assert clf.n_labels_ == 5


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ([3, 30], ValueError, "names holds 30, which is not a label. Leave it out"),
        ([3, 3], ValueError, "names holds 3 more than once"),
        (range(30), ValueError, "names holds all 30 labels. Keep at least one label"),
        (3, TypeError, "names must be a 1-D sequence of labels"),
    ],
)
def test_remove_labels_wrong_names_raise_error_and_change_nothing(names, error, message):
    clf = copy.copy(fitted())
    before = dict(vars(clf))
    with pytest.raises(error, match=message):
        clf.remove_labels(names)
    assert vars(clf) == before


# ---------------------------------------------------------------- what works with other labels


@pytest.mark.parametrize("mode", MODES)
def test_changed_labels_are_saved_and_loaded(mode, tmp_path):
    clf = extended(mode).remove_labels([4])
    assert_same_predictions(pickle.loads(pickle.dumps(clf)), clf)
    clf.save_pretrained(tmp_path / "model")
    loaded = LightXMLClassifier.from_pretrained(tmp_path / "model")
    assert_same_predictions(loaded, clf)
    assert loaded.classes_.tolist() == [*range(4), *range(5, 30), *NEW]
    clf.save_pretrained(tmp_path / "half", dtype="float16")
    half = LightXMLClassifier.from_pretrained(tmp_path / "half").add_labels([50], label_texts=["a"])
    assert half.network_.label_table.weight.dtype == torch.half
    assert half.predict_topk(X, 3).labels.shape == (64, 3)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mode", MODES)
def test_changed_labels_are_exported_to_onnx(mode, tmp_path):
    pytest.importorskip("onnxruntime")
    clf = extended(mode).remove_labels([4])
    clf.export_onnx(tmp_path, max_k=8)
    found, expected = OnnxClassifier(tmp_path).predict_topk(X, 3), clf.predict_topk(X, 3)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-4)
    assert (found.labels == expected.labels).mean() > 0.99


@pytest.mark.parametrize("mode", MODES)
def test_new_labels_are_explained_and_allowed(mode):
    clf = extended(mode)
    top = clf.predict_topk(X[:1], 2, allow=NEW)
    assert sorted(top.labels[0]) == sorted(NEW)
    assert 40 not in clf.predict_topk(X, 31, exclude=[40]).labels
    explained = {label.label: label for label in clf.explain_topk(X[0], 32).labels}
    assert explained[40].score == pytest.approx(top.scores[0][top.labels[0] == 40][0])


def test_new_labels_of_members_make_new_ensemble():
    names = [f"{i:02}" for i in range(30)]
    language = make_classifier(max_epochs=1).fit(X, Y, label_names=names)
    near = NeighborsClassifier(encoder=language).fit(X, Y, label_names=names)
    members = [("language", language), ("near", near)]
    ensemble = LightXMLEnsemble.from_fitted(members)
    language.add_labels(["x", "y"], X=X[:2], y=[["x"], ["y"]])
    with pytest.raises(ValueError, match="differ in classes_: 32 and 30 labels"):
        LightXMLEnsemble.from_fitted(members)
    near.partial_fit(X[:2], [["x"], ["y"]])
    joined = LightXMLEnsemble.from_fitted(members)
    assert joined.predict_topk(X[:2], 1, allow=["x", "y"]).labels.tolist() == [["x"], ["y"]]
    with pytest.raises(ValueError, match="'language' has other labels now than the ensemble"):
        ensemble.predict_topk(X[:1], 1)
    language.remove_labels(["05", "y"]).add_labels(["z", "y"], label_texts=["a", "b"])
    with pytest.raises(ValueError, match="'language' has other labels now"):  # as many as before
        joined.predict_topk(X[:1], 1)


@pytest.mark.parametrize("kind", [CalibratedClassifier, TunedThresholdClassifier, PropensityRanker])
def test_changed_labels_of_wrapped_estimator_ask_for_new_fit(kind):
    inside = copy.copy(fitted())
    clf = kind(FrozenEstimator(inside)).fit(X, Y)
    inside.add_labels([31], label_texts=["a"])
    message = (
        rf"^estimator_ has other labels now than in the fit of this {kind.__name__}\. "
        "After add_labels, remove_labels or partial_fit with new labels, call fit again"
    )
    with pytest.raises(ValueError, match=message):
        clf.predict(X)
    inside.remove_labels([4])  # as many as before
    with pytest.raises(ValueError, match=message):
        clf.predict_topk(X, 2, exclude=[3])
    inside.remove_labels([29, 31]).add_labels([32, 29], label_texts=["a", "b"])  # the same last one
    with pytest.raises(ValueError, match=message):
        clf.predict_topk(X, 2)


# ---------------------------------------------------------------- warm start


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", ["lists", "names", "columns"])
def test_warm_start_new_labels_start_as_add_labels(mode, form):
    """Without a step that changes weights, both give the same model."""
    still = {"learning_rate": 0.0, "head_learning_rate": 0.0, "weight_decay": 0.0, "max_epochs": 1}
    found, expected = copy.copy(fitted(mode)), copy.copy(fitted(mode))
    y = sparse.hstack([Y, sparse.csr_array(np.eye(64, 2))], format="csr")[:63]
    lists, about = [y[[row]].indices.tolist() for row in range(63)], {31: "a b"}
    expected.add_labels([30, 31], label_texts=about, X=X[:2], y=[[30], [31]])
    given = {"columns": y, "names": y, "lists": lists}[form]
    names = np.arange(32) if form == "names" else None
    found.set_params(**still, warm_start=True).fit(
        X[:63], given, label_names=names, label_texts=about
    )
    assert found.classes_.tolist() == list(range(32))
    assert_same_predictions(found, expected)


def test_warm_start_trains_new_labels_and_keeps_their_places():
    clf = extended().set_params(warm_start=True)
    places, before = clf.clusterer_.labels_, dense_scores(clf)[:, 31]
    clf.fit([*X[:3], "never seen"], [[31], [5, 31], [31], [77]], validation_data=(X[:1], [[77]]))
    assert clf.classes_.tolist() == [*range(30), *NEW, 77]
    assert clf.clusterer_.labels_[:32].tolist() == places.tolist()
    assert (dense_scores(clf)[:3, 31] > 2 * before[:3]).all()


def test_warm_start_new_label_without_text_is_legal():
    clf = copy.copy(fitted()).set_params(warm_start=True, max_epochs=1)
    clf.fit(X[:3], np.eye(3, 31))
    assert clf.classes_.tolist() == list(range(31))
    assert np.isfinite(clf.predict_topk(X, 31).scores).all()


def test_warm_start_vanished_columns_raise_error():
    clf = copy.copy(fitted()).set_params(warm_start=True)
    message = "of which there are 30, but y has 29 unnamed columns. Pass collections of labels, or"
    with pytest.raises(ValueError, match=message):
        clf.fit(X, Y[:, :29])
    with pytest.raises(ValueError, match=re.escape("y has labels of type str, such as 'a'")):
        clf.fit(X[:1], [["a"]])
    assert_same_predictions(clf, fitted())


def test_warm_start_new_labels_resume_from_checkpoint(tmp_path, monkeypatch):
    y = sparse.hstack([Y, sparse.csr_array(np.eye(64, 2))], format="csr")
    whole = copy.copy(fitted()).set_params(warm_start=True).fit(X, y)
    clf = copy.copy(fitted()).set_params(warm_start=True, checkpoint_dir=tmp_path)
    with monkeypatch.context() as patch:
        stop_after(5, patch)
        with pytest.raises(Stopped):
            clf.fit(X, y)
    assert_same_model(clf.fit(X, y), whole)
    other = copy.copy(fitted()).add_labels([30, 31], X=X[:2], y=[[30], [31]])
    other.set_params(warm_start=True, checkpoint_dir=tmp_path)
    with pytest.raises(ValueError, match="with other weights of the warm start"):
        other.fit(X, y)
