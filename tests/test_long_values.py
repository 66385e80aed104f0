"""No error or warning dumps a long value, whichever public entry point gets it."""

import warnings

import numpy as np
import pandas as pd
import pytest
from classifier_fixtures import dataset, fitted, make_classifier
from ensemble_members import LABELS, PAIR, TEXTS, Fixed
from scipy import sparse
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skxmc
from skxmc import (
    BalancedLabelClusterer,
    LightXMLClassifier,
    LightXMLEnsemble,
    PropensityRanker,
    label_features,
    paper_params,
)
from skxmc._cli import main
from skxmc._input.folds import warn_if_cut
from skxmc.datasets import load_icd10cm, load_xmc
from skxmc.metrics import label_propensities, make_at_k_scorer, precision_at_k, psp_at_k

X, Y = dataset()
LONG = "x" * 10**5
MANY = list(range(10**5))
FRAME = pd.DataFrame(np.zeros((1000, 50)))
ARRAY = np.zeros(10**6)
HUGE = 10**5000  # Python refuses to print it
VALUES = {"text": LONG, "list": MANY, "frame": FRAME, "array": ARRAY, "number": -HUGE}
MAX_MESSAGE = 600


def messages(call):
    """Collect the messages of the error and the warnings of a call."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            call()
            found = []
        except (TypeError, ValueError, OSError) as error:
            found = [str(error)]
    return found + [str(warning.message) for warning in caught]


def check_short(call, most=MAX_MESSAGE):
    found = messages(call)
    assert found
    for message in found:
        assert len(message) < most, message[: 2 * most]
        assert "integer string conversion" not in message


CALLS = {
    # texts and labels of fit
    "text is a label list": lambda: make_classifier().fit([MANY], [["a"]]),
    "text is missing in a frame": lambda: make_classifier().fit(FRAME, Y),
    "text is bytes": lambda: make_classifier().fit([LONG.encode()], [["a"]]),
    "row is a text": lambda: make_classifier().fit(["a"], [LONG]),
    "label is a list": lambda: make_classifier().fit(["a"], [[MANY]]),
    "label is an array": lambda: make_classifier().fit(["a"], [[ARRAY]]),
    "label is negative": lambda: make_classifier().fit(["a"], [[-HUGE]]),
    "labels are mixed": lambda: make_classifier().fit(["a"], [[LONG, 1]]),
    "labels differ in blanks": lambda: make_classifier(max_epochs=1).fit(X[:1], [["a", "a "]]),
    "labels differ in long blanks": lambda: label_features([[LONG, LONG + " "]], [[1.0]]),
    "labels differ in form": lambda: label_features([[LONG, LONG + "\u200b"]], [[1.0]]),
    "columns repeat": lambda: label_features(pd.DataFrame([[1, 0]], columns=[LONG, LONG]), [[1.0]]),
    "column is of text": lambda: label_features(pd.DataFrame({LONG: ["b"]}), [[1.0]]),
    "column is not binary": lambda: label_features(pd.DataFrame({LONG: [3]}), [[1.0]]),
    "dtype has many fields": lambda: label_features(
        np.zeros((2, 2), dtype=[(f"field{i}", "f4") for i in range(1000)]), np.eye(2)
    ),
    "features are texts": lambda: label_features(np.eye(2), [[LONG], ["b"]]),
    "label_names repeat": lambda: make_classifier().fit(X, Y, label_names=[LONG] * 30),
    "label_texts have no label": lambda: make_classifier().fit(X, Y, label_texts={LONG: "a"}),
    "label_texts are numbers": lambda: make_classifier().fit(X, Y, label_texts=[MANY] * 30),
    "label_texts have an index": lambda: make_classifier().fit(
        X, Y, label_texts=pd.Series(["a"] * 30, index=[LONG] * 30)
    ),
    "label_features are texts": lambda: make_classifier().fit(X, Y, label_features=[[LONG]] * 30),
    "validation_data": lambda: make_classifier().fit(X, Y, validation_data=LONG),
    "X_val": lambda: make_classifier().fit(X, Y, X_val=[MANY], y_val=[["a"]]),
    "add_labels": lambda: fitted().add_labels([LONG]),
    "cut for a fold": lambda: warn_if_cut({"label_texts": [LONG]}, 1, 1),
    # parameters
    "encoder is a text": lambda: make_classifier(encoder=LONG).fit(X, Y),
    "encoder is no folder": lambda: make_classifier(encoder="/no/" + LONG).fit(X, Y),
    "device": lambda: make_classifier(device=LONG).fit(X, Y),
    "max_length": lambda: make_classifier(max_length=HUGE).fit(X, Y),
    "n_feature_layers": lambda: make_classifier(n_feature_layers=HUGE).fit(X, Y),
    "swa_start": lambda: make_classifier(swa_start=HUGE, max_epochs=1).fit(X[:4], Y[:4]),
    "dtype of save_pretrained": lambda: fitted().save_pretrained("folder", dtype=LONG),
    "dataset": lambda: paper_params(LONG),
    "chapters": lambda: load_icd10cm(chapters=MANY),
    "chapters as text": lambda: load_icd10cm(chapters=LONG),
    # members
    "estimators": lambda: LightXMLEnsemble([MANY]).fit(TEXTS, LABELS),
    "names are long": lambda: LightXMLEnsemble([(LONG, Fixed)]).fit(TEXTS, LABELS),
    "names repeat": lambda: LightXMLEnsemble([(LONG, PAIR[0][1])] * 2).fit(TEXTS, LABELS),
    "member lacks classes": lambda: LightXMLEnsemble([(LONG, object())]).fit(TEXTS, LABELS),
    "members differ": lambda: LightXMLEnsemble(
        [("a", Fixed([[1.0, 0.0]] * 2, [LONG, "a"])), ("b", Fixed([[1.0, 0.0]] * 2, ["b", "a"]))]
    ).fit(TEXTS, LABELS),
    "fit parameter": lambda: PropensityRanker(make_classifier()).fit(X, Y, **{LONG: 1}),
    "step of a pipeline": lambda: PropensityRanker(
        make_pipeline(FunctionTransformer(list), make_classifier())
    ).fit(X, Y, X_val=X, y_val=Y),
    # prediction and metrics
    "labels of y_score": lambda: precision_at_k(
        [["a"]], (np.array([[LONG]], dtype=object), np.ones((1, 1))), k=1, classes=["a"]
    ),
    "y_true": lambda: precision_at_k([["b"]], np.ones((1, 1)), k=1, classes=[LONG]),
    "types of labels": lambda: precision_at_k([[LONG]], np.ones((1, 1)), k=1, classes=[1]),
    "propensities": lambda: psp_at_k(
        [[LONG]], np.ones((1, 1)), k=1, propensities={"a": 1.0}, classes=[LONG]
    ),
    "propensities of texts": lambda: psp_at_k(
        [[LONG]], np.ones((1, 1)), k=1, propensities=[LONG], classes=[LONG]
    ),
    "a of propensities": lambda: label_propensities(Y, a=LONG),
    "huge a of propensities": lambda: label_propensities(Y, a=HUGE),
    "topk of a huge k": lambda: skxmc.predict_topk(fitted(), X, k=HUGE),
}


@pytest.mark.parametrize("name", CALLS)
def test_long_value_in_message_is_cut(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if name == "cut for a fold":
        monkeypatch.setattr("skxmc._input.folds._in_fold", lambda: True)
    check_short(CALLS[name], most=1000 if name.startswith("encoder") else MAX_MESSAGE)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_long_k_in_message_is_cut(value):
    clf = fitted()
    for call in (
        lambda: clf.predict_topk(X[:1], value),
        lambda: clf.decision_function(X[:1], top_k=value),
        lambda: skxmc.predict_topk(clf, X[:1], k=value),
        lambda: precision_at_k(Y, np.ones(Y.shape), k=value),
        lambda: make_at_k_scorer(precision_at_k, k=value)(clf, X, Y),
        lambda: clf.explain_topk(X[0], k=value),
    ):
        check_short(call)


WRONG = [value for value in VALUES.items() if value[0] != "number"]


@pytest.mark.parametrize(("kind", "value"), WRONG, ids=[kind for kind, _ in WRONG])
@pytest.mark.parametrize(
    ("make", "names"),
    [
        (make_classifier, ["dropout", "max_epochs", "threshold", "clusterer", "random_state"]),
        (
            lambda **params: LightXMLEnsemble(PAIR, **params),
            ["n_candidates", "threshold", "n_jobs"],
        ),
        (lambda **params: PropensityRanker(PAIR[0][1], **params), ["exponent", "a", "threshold"]),
    ],
    ids=["classifier", "ensemble", "ranker"],
)
def test_long_parameter_in_message_is_cut(make, names, kind, value):
    for name in names:
        check_short(lambda name=name: make(**{name: value}).fit(X[:4], Y[:4]))


@pytest.mark.parametrize(("kind", "value"), WRONG, ids=[kind for kind, _ in WRONG])
def test_long_parameter_of_clusterer_and_prediction_in_message_is_cut(kind, value):
    check_short(lambda: BalancedLabelClusterer(max_cluster_size=value).fit(np.eye(4)))
    served = clone(fitted())
    vars(served).update(vars(fitted()))
    check_short(lambda: served.set_params(threshold=value).predict(X[:1]))


@pytest.mark.parametrize("value", [LONG, [-1.0] * 10**5, FRAME, -np.ones(10**6), ["a"] * 10**5])
def test_long_weights_in_message_are_cut(value):
    check_short(lambda: LightXMLEnsemble(PAIR, weights=value).fit(TEXTS, LABELS))


def test_wrong_weights_that_are_short_are_quoted():
    with pytest.raises(ValueError, match=r"weights is \[-1.0, 2\], but"):
        LightXMLEnsemble(PAIR, weights=[-1.0, 2]).fit(TEXTS, LABELS)
    with pytest.raises(ValueError, match=r"weights is array\(\[-1.,  2.\]\), but"):
        LightXMLEnsemble(PAIR, weights=np.array([-1.0, 2])).fit(TEXTS, LABELS)


def test_wrong_parameter_that_is_short_has_message_of_scikit_learn():
    message = r"^The 'threshold' parameter of LightXMLClassifier must be a float .* Got '2' instead"
    with pytest.raises(ValueError, match=message):
        LightXMLClassifier(threshold="2").fit(X, Y)


PAIRS = {"trn_X.txt": "a\n", "tst_X.txt": "a\n", "tst_X_Y.txt": "1 1\n0:1\n", "Y.txt": "a\n"}
JSON = {"tst.json": "{}\n", "lbl.json": '{"title": "a"}\n'}


@pytest.mark.parametrize(
    "files",
    [
        {**PAIRS, "trn_X_Y.txt": f"1 {LONG}\n0:1\n"},
        {**PAIRS, "trn_X_Y.txt": f"1 1\n{LONG}:1\n"},
        {**PAIRS, "trn_X_Y.txt": f"1 1\n0:1{LONG}\n"},
        {**PAIRS, "trn_X_Y.txt": f"1 1\n{'1' * 5000}:1\n"},
        {**PAIRS, "trn_X_Y.txt": "1 1\n0:1\n", "filter_labels_test.txt": f"{LONG} 1\n"},
        {**JSON, "trn.json": f'["{LONG}"]\n'},
        {**JSON, "trn.json": f'{{"{LONG}": "a"}}\n'},
        {**JSON, "trn.json": f'{{"title": ["{LONG}"]}}\n'},
        {**JSON, "trn.json": f'{{"title": "a", "target_ind": "{LONG}"}}\n'},
        {**JSON, "trn.json": f'{{"title": "a", "target_ind": ["{LONG}"]}}\n'},
    ],
    ids=["header", "column", "value", "digits", "filter", "no object", "keys", "title", "targets",
         "target"],
)  # fmt: skip
def test_load_xmc_long_line_in_message_is_cut(files, tmp_path):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    check_short(lambda: load_xmc(tmp_path))
    assert ", line " in messages(lambda: load_xmc(tmp_path))[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--param", LONG],
        ["--param", f"{LONG}=1"],
        ["--param", f"max_epochs={LONG}"],
        ["--param", f'max_epochs="{LONG}"'],
    ],
)
def test_command_long_argument_in_message_is_cut(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["train", str(tmp_path), "--model", str(tmp_path / "model"), *arguments])
    said = capsys.readouterr().err.splitlines()[-1]
    assert "error" in said
    assert len(said) < 1500


def test_sparse_scores_of_other_shape_are_not_printed():
    check_short(lambda: precision_at_k(Y, sparse.csr_array((64, 10**6)), k=1))
