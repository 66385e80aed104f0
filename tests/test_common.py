"""Common checks of scikit-learn, with an adapter from numbers to texts.

`check_estimator` passes numbers, and can check nothing in an estimator that takes only texts. The
adapter writes each row of numbers as a sentence with one word per feature. It takes one class per
row, or an indicator of several. The checks of `BalancedLabelClusterer`, which takes numbers, are in
test_clusterer.py.
"""

import inspect

import numpy as np
import pytest
from classifier_fixtures import encoder_path, make_classifier
from scipy import sparse
from sklearn.base import is_classifier
from sklearn.exceptions import NotFittedError
from sklearn.utils import column_or_1d, get_tags
from sklearn.utils.estimator_checks import check_param_validation, parametrize_with_checks
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data

from skxmc import (
    BalancedLabelClusterer,
    LightXMLClassifier,
    LightXMLEnsemble,
    NeighborsClassifier,
    OmikujiClassifier,
    PropensityRanker,
    TextEncoder,
)
from skxmc._input.validation import check_labels


class NumberMixin:
    """Adapter for rows of numbers with one class per row, or an indicator of classes."""

    def fit(self, X, y):
        if y is None:
            check_labels(y)  # refused in our own words
        X, y = validate_data(self, X, y, multi_output=True)
        check_classification_targets(y)
        self.one_class_a_row_ = type_of_target(y) != "multilabel-indicator"
        if not self.one_class_a_row_:
            return super().fit(as_sentences(X), y)
        if y.ndim == 2:
            if y.shape[1] > 1:
                raise ValueError("y has several columns that are no indicators")
            y = column_or_1d(y, warn=True)
        self.names_, codes = np.unique(y, return_inverse=True)
        if len(self.names_) == 1:
            raise ValueError("Classifier can't train when only one class is present.")
        rows = np.arange(len(codes))
        indicator = sparse.csr_array((np.ones(len(codes)), (rows, codes)))
        super().fit(as_sentences(X), indicator)
        inside = getattr(self, "estimators_", [getattr(self, "estimator_", self)])
        for fitted in (self, *inside):
            fitted.classes_ = self.names_
        return self

    def predict(self, X):
        if not self._is_one_class():
            return super().predict(self._sentences(X)).toarray()
        return super().predict_topk(self._sentences(X), k=1).labels[:, 0]

    def decision_function(self, X, *, top_k=None):
        if not self._is_one_class():
            return super().decision_function(self._sentences(X), top_k=top_k).toarray()
        scores = super().decision_function(self._sentences(X)).toarray()
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores

    @property
    def predict_proba(self):
        raise AttributeError("scores of labels do not sum to 1")

    def score(self, X, y):
        return float(np.mean(self.predict(X) == y))

    def _is_one_class(self):
        check_is_fitted(self)
        return self.one_class_a_row_

    def _sentences(self, X):
        return as_sentences(validate_data(self, X, reset=False))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = False
        tags.input_tags.two_d_array = True
        tags.target_tags.two_d_labels = False  # if True, sklearn passes no X
        tags.target_tags.single_output = True
        tags.classifier_tags.multi_class = True
        tags.classifier_tags.poor_score = True  # it is tiny, with random weights and one epoch
        return tags


def as_sentences(X):
    """Write each number as a word: the letter of its feature, then the number in steps of 1/4."""
    steps = np.clip(np.floor(np.asarray(X, dtype=float) * 4), -40, 40).astype(int) + 40
    return [" ".join(f"{chr(97 + j % 26)}{v}" for j, v in enumerate(row)) for row in steps.tolist()]


class NumberLightXML(NumberMixin, LightXMLClassifier):
    def transform(self, X):
        return super().transform(self._sentences(X))


class NumberNeighbors(NumberMixin, NeighborsClassifier):
    def partial_fit(self, X, y, classes=None):
        """Fit anew, because the adapter has a code for each class."""
        if hasattr(self, "n_features_in_"):
            validate_data(self, X, reset=False)
        return self.fit(X, y)


class NumberTextEncoder(TextEncoder):
    """Adapter of a transformer."""

    def fit(self, X, y=None):
        return super().fit(as_sentences(validate_data(self, X)))

    def transform(self, X):
        check_is_fitted(self)
        return super().transform(as_sentences(validate_data(self, X, reset=False)))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = False
        tags.input_tags.two_d_array = True
        return tags


class NumberOmikuji(NumberMixin, OmikujiClassifier):
    pass


class NumberEnsemble(NumberMixin, LightXMLEnsemble):
    pass


class NumberRanker(NumberMixin, PropensityRanker):
    pass


def number_classifier(mode):
    """Make a classifier that trains for few steps, because the checks fit it often."""
    clf = make_classifier(mode, max_epochs=1, batch_size=64)
    return NumberLightXML(**clf.get_params(deep=False))


def text_encoder(kind):
    return kind(encoder_path(), max_length=32, precision="fp32", device="cpu")


def small_classifier(**params):
    return NeighborsClassifier(text_encoder(TextEncoder), alpha=1, **params)


def number_ensemble():
    members = [("one", small_classifier()), ("other", small_classifier(n_neighbors=3))]
    return NumberEnsemble(members, fusion="learned", validation_fraction=0.2, random_state=0)


ESTIMATORS = [
    text_encoder(NumberTextEncoder),
    NumberNeighbors(text_encoder(TextEncoder), alpha=1),  # a low one amplifies rounding errors
    number_classifier("direct"),
    number_classifier("two-stage"),
    NumberOmikuji(),
    number_ensemble(),
    NumberRanker(small_classifier()),
]

SEVEN_DIGITS = (
    "compares seven digits of float32 matrix products, whose last bits depend on a row's place in "
    "the batch. test_predict_topk.py compares five."
)
ROUNDING = {"check_methods_sample_order_invariance": SEVEN_DIGITS}
EXPECTED_FAILURES = {
    NumberLightXML: {**ROUNDING, "check_methods_subset_invariance": SEVEN_DIGITS},
    NumberTextEncoder: ROUNDING,
    NumberNeighbors: ROUNDING,
    NumberOmikuji: {
        "check_classifiers_multilabel_representation_invariance": (
            "fits three times and compares the predictions, but omikuji has no seed"
        ),
    },
    NumberEnsemble: ROUNDING,
    NumberRanker: ROUNDING,
}


# Expected failures may pass by chance: other processors may round alike, and omikuji has no seed.
# Versions of scikit-learn before 1.8 have no parameter to allow this.
KNOWN = inspect.signature(parametrize_with_checks).parameters
LENIENT = {"xfail_strict": False} if "xfail_strict" in KNOWN else {}


@pytest.mark.filterwarnings("ignore:Too few held-out texts")  # the checks have few texts
@parametrize_with_checks(
    ESTIMATORS,
    expected_failed_checks=lambda estimator: EXPECTED_FAILURES.get(type(estimator), {}),
    **LENIENT,
)
def test_estimators_pass_common_checks(estimator, check):
    check(estimator)


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_parameters_of_wrong_type_are_refused(estimator):
    check_param_validation(type(estimator).__name__, estimator)


def test_tags_describe_a_multilabel_text_classifier():
    tags = get_tags(make_classifier())
    assert is_classifier(make_classifier())
    assert tags.input_tags.string
    assert tags.input_tags.one_d_array
    assert not tags.input_tags.two_d_array
    assert not tags.input_tags.sparse
    assert not tags.input_tags.allow_nan
    assert tags.target_tags.required
    assert tags.target_tags.two_d_labels
    assert not tags.target_tags.single_output
    assert not tags.target_tags.multi_output
    assert tags.classifier_tags.multi_label
    assert not tags.classifier_tags.multi_class
    assert not tags.no_validation
    assert not tags._skip_test
    assert not tags.non_deterministic


def test_unfitted_methods_raise_not_fitted_error():
    clf = LightXMLClassifier(encoder_path(), clusterer=BalancedLabelClusterer())
    for method in ("predict", "predict_topk", "predict_proba", "decision_function", "encode"):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(clf, method)(["a"])
    with pytest.raises(NotFittedError, match="not fitted yet"):
        clf.score(["a"], [["x"]])
    assert not clf.__sklearn_is_fitted__()
