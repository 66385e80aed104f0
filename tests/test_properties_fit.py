"""Properties of fit: legal input trains a sound model, and errors name wrong input."""

import numpy as np
import pytest
from classifier_fixtures import assert_same_predictions, dataset, encoder_path, make_classifier
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from property_checks import assert_sound_predictions, refused, unmodified
from scipy import sparse
from strategies import (
    HUGE,
    as_sparse,
    broken_sparse,
    cases,
    columns_of_text,
    indicators,
    labels_of,
    no_labels,
    no_texts,
    stored_as,
    whole,
    wrong_int,
    wrong_real,
)

from skxmc import (
    BalancedLabelClusterer,
    LightXMLClassifier,
    LightXMLEnsemble,
    NeighborsClassifier,
    OmikujiClassifier,
    PropensityRanker,
    TextEncoder,
    label_features,
)

X, Y = ["one text", "another", "a third one"], [["a"], ["b", "c"], ["a", "d"]]
MODES = st.sampled_from(["direct", "two-stage"])
NAMED = st.sampled_from([0, "no such", None, b"sum", ["auto"], 1.5])
FLAG = st.sampled_from([None, "yes", 2, 0.5, []])
JOBS = st.sampled_from([0, "all", 1.5, [1], np.array([1, 2])])
SEED = st.integers(max_value=-1) | st.integers(min_value=2**32) | st.sampled_from(["x", 1.5, [1]])
LEVEL = st.integers(max_value=-1) | st.sampled_from([None, "x", 1.5, []])


def without(strategy, value):
    return strategy.filter(lambda drawn: drawn is not value)


# Wrong values of each parameter.
WRONG = {
    LightXMLClassifier: {
        "encoder": st.sampled_from([None, 3, b"bert", "", "no/such", "no-such", "/", "a\0b"]),
        "max_length": wrong_int(2, most=64),
        "long_text": NAMED,
        "n_feature_layers": wrong_int(1, most=2),
        "dropout": wrong_real(0, 1, open_high=True),
        "encoder_dropout": wrong_real(0, 1, None, open_high=True),
        "clusterer": st.sampled_from([3, "kmeans", LightXMLClassifier(), BalancedLabelClusterer]),
        "n_candidate_clusters": wrong_int(1),
        "pooling": NAMED,
        "bottleneck_dim": wrong_int(1, None),
        "label_weight": NAMED.filter(bool)
        | st.sampled_from([[-1.0] * 4, {"a": np.nan}, {"z": 1}, (1.0,) * 3, {1.0}]),
        "freeze_encoder": FLAG,
        "label_precision": NAMED,
        "label_search": NAMED,
        "negative_sampling": NAMED,
        "head_init": NAMED,
        "max_epochs": wrong_int(1),
        "time_limit": wrong_real(0, None, None, open_low=True),
        "batch_size": wrong_int(1),
        "accumulate_steps": wrong_int(1),
        "gradient_checkpointing": FLAG,
        "prediction_batch_size": wrong_int(1),
        "learning_rate": wrong_real(0),
        "head_learning_rate": wrong_real(0, None, None),
        "weight_decay": wrong_real(0),
        "warmup_fraction": wrong_real(0, 1),
        "lr_schedule": NAMED,
        "max_grad_norm": wrong_real(0, None, None, open_low=True),
        "swa_start": wrong_int(0, None),
        "swa_every": wrong_int(1),
        "early_stopping": FLAG,
        "validation_fraction": wrong_real(0, 1, open_low=True, open_high=True),
        "n_iter_no_change": wrong_int(1),
        "precision": NAMED,
        "device": st.sampled_from([None, 0, "", "toaster", "cpu:1", "cuda:99", "meta", "\ud800"]),
        "threshold": wrong_real(0, 1),
        "memory": st.sampled_from([0, b"folder", ["folder"], 1.5]),
        "checkpoint_dir": st.sampled_from([0, b"folder", ["folder"], 1.5]),
        "checkpoint_every": wrong_int(1),
        "warm_start": FLAG,
        "random_state": SEED,
        "n_jobs": JOBS,
        "verbose": LEVEL,
    },
    OmikujiClassifier: {
        "vectorizer": st.sampled_from([3, "tfidf", ["a"]]),
        "n_trees": wrong_int(1, most=10_000),
        "C": wrong_real(0, 1e6, open_low=True),
        "loss": NAMED,
        "min_branch_size": wrong_int(2),
        "collapse_every_n_layers": wrong_int(0),
        "weight_threshold": wrong_real(0),
        "beam_size": wrong_int(1),
        "threshold": wrong_real(0, 1),
        "n_jobs": JOBS,
        "verbose": LEVEL,
    },
    NeighborsClassifier: {
        "encoder": st.sampled_from([3, b"bert", ["a"], "", "no/such"]),
        "n_neighbors": wrong_int(1),
        "temperature": wrong_real(0, open_low=True),
        "alpha": wrong_real(0, open_low=True),
        "search": NAMED,
        "keep_texts": FLAG,
        "threshold": wrong_real(0, 1),
    },
    LightXMLEnsemble: {
        "estimators": st.sampled_from(
            [None, 3, "ab", (), [], [3], ["words"], [("a", 3)], [("words", "drop")], [(1, 2)]]
        ),
        "weights": st.sampled_from([3, "a", [1, 2], ["a"], [-1], [0], [np.nan], [[1], [1, 2]]]),
        "fusion": NAMED,
        "validation_fraction": wrong_real(0, 1, open_low=True, open_high=True),
        "n_candidates": wrong_int(1),
        "threshold": wrong_real(0, 1),
        "random_state": SEED,
        "n_jobs": JOBS,
        "verbose": FLAG,
    },
    PropensityRanker: {
        "estimator": st.sampled_from([None, 3, "words", []]),
        "exponent": wrong_real(0),
        "a": wrong_real(0, open_low=True),
        "b": wrong_real(0, open_low=True),
        "n_candidates": wrong_int(1),
        "threshold": wrong_real(0, 1),
    },
    BalancedLabelClusterer: {
        "max_cluster_size": wrong_int(1),
        "max_iter": wrong_int(1),
        "tol": wrong_real(0),
        "random_state": SEED,
        "n_jobs": JOBS,
    },
}


def make(kind, **params):
    """Make an unfitted estimator that is fast to fit."""
    if kind is LightXMLClassifier:
        return make_classifier(**{"max_epochs": 1, **params})
    if kind is LightXMLEnsemble:
        return kind(params.pop("estimators", [("words", OmikujiClassifier())]), **params)
    if kind is NeighborsClassifier:
        encoder = params.pop("encoder", TextEncoder(encoder_path(), max_length=32))
        return kind(encoder, **params)
    if kind is PropensityRanker:
        return kind(params.pop("estimator", OmikujiClassifier()), **params)
    return kind(**params)


TEXT_CLASSIFIERS = [kind for kind in WRONG if kind is not BalancedLabelClusterer]


# ---------------------------------------------------------------- texts and labels


@pytest.mark.filterwarnings("ignore:The tokenizer of encoder=.* does not know")
@cases(7)
@given(st.data(), MODES, columns_of_text(), st.sampled_from(["centroids", "priors", "random"]))
def test_fit_any_form_of_texts_and_labels_gives_sound_model(data, mode, drawn, head_init):
    column, texts = drawn
    dense = data.draw(indicators(min_rows=len(texts), max_rows=len(texts)))
    assume(dense.any())
    y, classes, dense = data.draw(labels_of(dense))
    clf = make_classifier(mode, max_epochs=1, head_init=head_init)
    with unmodified(column, y):
        clf.fit(column, y)
    assert clf.classes_.tolist() == list(classes)
    assert_sound_predictions(clf, column, data.draw(st.integers(1, len(classes))))
    plain = make_classifier(mode, max_epochs=1, head_init=head_init)
    plain.fit(texts, sparse.csr_array(dense.astype(np.float32)))
    assert_same_predictions(clf, plain, texts)


def test_fit_huge_and_blank_texts_gives_sound_model():
    texts = ["a b " * (HUGE // 4), "c" * HUGE, " ", "\0"]
    for kind in TEXT_CLASSIFIERS:
        clf = make(kind).fit(texts, [["a"], ["b"], [], ["a", "c"]])
        assert_sound_predictions(clf, texts, 3)


@cases(5)
@given(st.data(), columns_of_text())
def test_fit_linear_any_form_of_texts_and_labels_gives_sound_model(data, drawn):
    column, texts = drawn
    dense = data.draw(indicators(min_rows=len(texts), max_rows=len(texts)))
    assume(dense.any())
    y, classes, _ = data.draw(labels_of(dense))
    kind = data.draw(st.sampled_from([OmikujiClassifier, PropensityRanker, LightXMLEnsemble]))
    with unmodified(column, y):
        clf = make(kind).fit(column, y)
    assert clf.classes_.tolist() == list(classes)
    assert_sound_predictions(clf, column, data.draw(st.integers(1, len(classes))))


@cases(6)
@given(no_texts(), no_labels() | broken_sparse())
@example([], None)
def test_fit_wrong_texts_or_labels_raise_error(texts, y):
    for kind in TEXT_CLASSIFIERS:
        with refused("X"):
            make(kind).fit(texts, Y)
        with refused("y"):
            make(kind).fit(X[:2], y)
        with refused("y", "there are 3 texts"):
            make(kind).fit(X, Y[:2])
    clf = make_classifier(max_epochs=1)
    with refused(r"validation_data(\[0\])?"):
        clf.fit(X, Y, validation_data=(texts, Y))
    if not (isinstance(y, list) and y == [[], []]):  # legal here, as all labels count as missed
        with refused(r"validation_data(\[1\])?"):
            clf.fit(X, Y, validation_data=(X[:2], y))
    with refused("validation_data"):
        clf.fit(X, Y, validation_data=Y)
    if texts is not None:
        for kind in (LightXMLClassifier, OmikujiClassifier, NeighborsClassifier):
            with refused("label_texts"):
                make(kind).fit(X, Y, label_texts=texts)


@cases(5)
@given(
    st.sampled_from([3, "abcd", {}, iter([]), object(), np.ones(4), np.ones((4, 1, 1)), np.eye(3)])
    | st.sampled_from([np.eye(4) * 1j, [["a"]] * 4, [[1], [1, 2]], np.ones((4, 0)), [[None]] * 4])
    | st.sampled_from([np.nan, np.inf, 1e300, -1e39]).map(lambda x: np.full((4, 2), x))
    | st.sampled_from([np.nan, np.inf, 1e300]).map(lambda x: sparse.csr_array(np.full((4, 2), x)))
    | broken_sparse()
)
@example([["a"]] * 4)
def test_fit_wrong_features_raise_error(wrong):
    with refused("label_features"):
        make_classifier(max_epochs=1).fit(X, Y, label_features=wrong)
    with refused("X|Y"):
        label_features([["a"]] * 4, wrong)
    if getattr(wrong, "shape", None) != (3, 3):
        with refused("X"):
            BalancedLabelClusterer().fit(wrong)
        clusterer = BalancedLabelClusterer().fit(np.eye(4))
        with refused("X"):
            clusterer.predict(wrong)


# ---------------------------------------------------------------- parameters


def test_wrong_values_cover_every_parameter():
    for kind, wrong in WRONG.items():
        assert set(wrong) == set(make(kind).get_params(deep=False))


@cases(4)
@given(st.fixed_dictionaries({kind: st.fixed_dictionaries(names) for kind, names in WRONG.items()}))
def test_fit_parameters_out_of_range_raise_error(drawn):
    for kind, params in drawn.items():
        for name, value in params.items():
            estimator = make(kind, **{name: value})
            with refused(name.replace("estimators", "estimators?")):
                if kind is BalancedLabelClusterer:
                    estimator.fit(np.eye(3))
                else:
                    estimator.fit(X, Y)


POSITIVE = st.floats(0, 1e3, exclude_min=True)
LEGAL = {
    "max_length": whole(3, 64),
    "long_text": st.sampled_from(["truncate", "windows"]),
    "n_feature_layers": whole(1, 2),
    "dropout": st.just("auto") | st.floats(0, 1, exclude_max=True),
    "encoder_dropout": st.sampled_from(["auto", None]) | st.floats(0, 1, exclude_max=True),
    "n_candidate_clusters": whole(1, 20) | st.sampled_from(["auto", 10**30]),
    "pooling": st.sampled_from(["auto", "cls", "mean", "alternate"]),
    "bottleneck_dim": whole(1, 20) | st.just(True) | st.none(),
    "negative_sampling": st.sampled_from(["auto", "none", "dynamic", "static"]),
    "label_weight": st.sampled_from([None, "balanced", {3: 1e9}])
    | hnp.arrays(float, 30, elements=st.floats(0, 1e6)),
    "freeze_encoder": st.booleans(),
    "label_precision": st.sampled_from(["fp32", "bf16"]),
    "label_search": st.sampled_from(["exact", "approximate"]),
    "batch_size": whole(1, 20) | st.just(10**30),
    "accumulate_steps": whole(1, 3) | st.just(10**30),
    "gradient_checkpointing": st.booleans(),
    "prediction_batch_size": whole(1, 20) | st.sampled_from(["auto", 10**30]),
    "learning_rate": st.just("auto") | st.floats(0, 0.1),
    "head_learning_rate": st.sampled_from([None, "auto"]) | st.floats(0, 0.1),
    "weight_decay": st.floats(0, 0.1),
    "warmup_fraction": st.floats(0, 1),
    "lr_schedule": st.sampled_from(["linear", "cosine", "constant"]),
    "max_grad_norm": st.none() | POSITIVE,
    "swa_start": st.none() | whole(0, 3) | st.just(10**30),
    "swa_every": whole(1, 3) | st.just(10**30),
    "early_stopping": st.booleans() | st.sampled_from([np.True_, np.False_]),
    "validation_fraction": st.floats(0.01, 0.5),
    "n_iter_no_change": whole(1, 3),
    "threshold": st.floats(0, 1),
    "random_state": st.none() | whole(0, 100) | st.builds(np.random.RandomState, whole(0, 9)),
    "n_jobs": st.none() | st.integers(max_value=-1) | st.integers(min_value=1),
    "checkpoint_every": whole(1, 3) | st.sampled_from(["auto", 10**30]),
}


@pytest.mark.filterwarnings("ignore:bottleneck_dim=")  # in the direct mode
@pytest.mark.filterwarnings("ignore:swa_start=")  # later than the only epoch
@cases(6)
@given(MODES, st.fixed_dictionaries(LEGAL), columns_of_text(max_size=2))
def test_fit_any_legal_parameters_give_sound_model(mode, params, drawn):
    texts, y = dataset()
    assert set(params) <= set(WRONG[LightXMLClassifier])
    if params["swa_start"] is not None:
        params["label_precision"] = "fp32"  # they exclude each other
    clf = make_classifier(mode, max_epochs=1, **params).fit(texts[:6], y[:6])
    assert_sound_predictions(clf, drawn[0], 5)


@cases(4)
@given(
    st.fixed_dictionaries(
        {
            "n_trees": whole(1, 4),
            "C": st.floats(0, 1e6, exclude_min=True),
            "loss": st.sampled_from(["hinge", "log"]),
            "min_branch_size": whole(2, 9) | st.integers(min_value=2),
            "collapse_every_n_layers": whole(0, 9) | st.integers(min_value=0),
            "weight_threshold": st.floats(0, allow_infinity=False),
            "beam_size": whole(1, 9) | st.integers(min_value=1),
            "n_jobs": st.none() | st.integers(max_value=-1) | st.integers(min_value=1),
        }
    )
)
@example({"n_jobs": 10**6, "C": 1e6, "loss": "log"})
@example({"C": 5e-324, "min_branch_size": 10**30, "collapse_every_n_layers": 10**30})
def test_fit_linear_any_legal_parameters_give_sound_model(params):
    texts, y = dataset()
    assert_sound_predictions(OmikujiClassifier(**params).fit(texts[:9], y[:9]), texts[:3], 5)


@cases(4)
@given(
    whole(1, 9) | st.just(10**30),
    st.floats(0, exclude_min=True, allow_infinity=False) | st.just(10**400),
    st.floats(0, exclude_min=True, allow_infinity=False) | st.just(10**400),
    columns_of_text(min_size=0),
)
def test_fit_neighbors_any_legal_parameters_give_sound_model(n, temperature, alpha, drawn):
    texts, y = dataset()
    clf = make(NeighborsClassifier, n_neighbors=n, temperature=temperature, alpha=alpha)
    clf.fit(texts[:9], y[:9])
    assert_sound_predictions(clf.partial_fit(texts[9:11], y[9:11]), drawn[0], 5)


# ---------------------------------------------------------------- clusters


@cases(8)
@given(
    st.data(),
    hnp.arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 5)), elements=st.booleans()),
    whole(1, 9),
    st.none() | st.integers(min_value=1) | st.integers(max_value=-1),
)
def test_clusterer_any_form_and_scale_of_features_is_balanced(data, dense, size, n_jobs):
    scales = data.draw(
        hnp.arrays(float, (len(dense), 1), elements=st.sampled_from([1, 2.0**-120, 2.0**100, 3.0]))
    )
    features = data.draw(as_sparse(dense)) if data.draw(st.booleans()) else dense
    clusterer = BalancedLabelClusterer(size, random_state=0, n_jobs=n_jobs)
    with unmodified(features):
        labels = clusterer.fit(features).labels_
    sizes = np.bincount(labels, minlength=clusterer.n_clusters_)
    assert len(sizes) == clusterer.n_clusters_
    assert sizes.sum() == len(dense)
    assert max(1, size // 2) * (clusterer.n_clusters_ > 1) <= sizes.min()
    assert sizes.max() <= min(size, sizes.min() + 1)
    norms = np.sqrt(clusterer.cluster_centers_.power(2).sum(axis=1))
    filled = np.bincount(labels, weights=dense.any(axis=1), minlength=len(sizes)) > 0
    np.testing.assert_allclose(np.asarray(norms).ravel(), filled, atol=1e-6)

    scaled = dense * scales
    for rows in (scaled, sparse.csc_array(scaled)):
        same = BalancedLabelClusterer(size, random_state=0).fit(rows)
        np.testing.assert_array_equal(same.labels_, labels)


@cases(5)
@given(st.data(), indicators())
def test_label_features_any_scale_are_unit_vectors(data, dense):
    shape = (len(dense), data.draw(st.integers(1, 4)))
    numbers = st.sampled_from([0, 1, 2, 1e-30, 3e-30, 1e30, 2e37])
    X = data.draw(hnp.arrays(float, shape, elements=numbers))
    y, _, dense = data.draw(labels_of(dense))
    assume(dense.size)
    with unmodified(X, y):
        features = label_features(y, X)
    assert features.dtype == np.float32
    expected = dense.T @ np.array([_unit(row) for row in X])
    expected = np.array([_unit(row) for row in expected])
    np.testing.assert_allclose(features, expected, atol=1e-6)
    entries = [(*place, X[place]) for place in zip(*np.nonzero(X), strict=True)]
    stored = stored_as(entries, shape, float, data.draw(st.sampled_from(["csr", "coo", "bsr"])))
    np.testing.assert_allclose(label_features(y, stored).toarray(), expected, atol=1e-6)


def _unit(row):
    length = np.linalg.norm(row)
    return row / length if length else row


@pytest.mark.parametrize("name", ["max_length", "batch_size"])
def test_warm_start_wrong_parameters_raise_error(name):
    clf = make_classifier(max_epochs=1, warm_start=True).fit(X, Y)
    with refused(name):
        clf.set_params(**{name: 65 if name == "max_length" else 0}).fit(["a " * 99] * 3, Y)
