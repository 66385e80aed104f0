"""What processes compare to notice that their data or parameters differ."""

import numpy as np
import pytest

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc._input.text_column import TEXTS_BLOCK, TextColumn
from skxmc._input.validation import check_labels
from skxmc._training.same_data import describe_data, describe_params

TEXTS = ["ab", "c", "\ud800", ""]
LABELS = [["x", "y"], ["x"], [], ["z"]]


def describe(texts=TEXTS, y=LABELS, weights=None, label_texts=None, held_out=None):
    if held_out is not None:
        held_out = held_out[0], check_labels(held_out[1], n_texts=len(held_out[1]))
    return describe_data(texts, check_labels(y, n_texts=len(y)), weights, label_texts, held_out)


def test_describe_data_of_column_is_that_of_list():
    column = TextColumn(np.array(["one", "two"] * TEXTS_BLOCK))
    y = [["x"]] * len(column)
    assert describe(column, y) == describe(list(column), y)


def test_describe_data_counts_texts_and_labels():
    found = describe()
    assert [found[name] for name in ("n_texts", "n_labels", "n_labels_of_texts")] == [4, 3, 4]


@pytest.mark.parametrize(
    ("changes", "different"),
    [
        ({}, []),
        ({"texts": ["a", "bc", *TEXTS[2:]]}, ["X"]),
        ({"texts": ["c", "ab", *TEXTS[2:]]}, ["X"]),
        ({"y": [["x", "y"], ["x"], ["z"], []]}, ["y"]),
        ({"y": [["x", "y"], ["y"], [], ["z"]]}, ["y"]),
        ({"y": [["x", "y"], ["x"], [], ["v"]]}, ["y"]),
        ({"weights": np.array([1.0, 1, 1, 2])}, []),
        ({"weights": np.array([2.0, 1, 1, 1])}, ["sample_weight"]),
        ({"weights": None}, ["sample_weight"]),
        ({"label_texts": {"z": "c", "x": "a"}}, []),
        ({"label_texts": ["a", "c", ""]}, ["label_texts"]),
        ({"label_texts": None}, ["label_texts"]),
        ({"held_out": None}, ["validation_data"]),
        ({"held_out": (["e", "f"], [["x"], ["y"]])}, ["validation_data"]),
        ({"held_out": (["e", "d"], [["y"], ["x"]])}, ["validation_data"]),
    ],
)
def test_describe_data_names_what_differs(changes, different):
    given = {
        "weights": np.array([1.0, 1, 1, 2]),
        "label_texts": ["a", None, "c"],
        "held_out": (["e", "d"], [["x"], ["y"]]),
    }
    one, other = describe(**given), describe(**{**given, **changes})
    assert [name for name in one if one[name] != other[name]] == different


@pytest.mark.parametrize(
    ("changes", "different"),
    [
        ({}, []),
        ({"batch_size": 16}, ["batch_size"]),
        ({"learning_rate": 1e-3, "dropout": 0.25}, ["dropout", "learning_rate"]),
        ({"prediction_batch_size": 3}, ["prediction_batch_size"]),
        ({"label_weight": np.array([1.0, 2])}, []),
        ({"label_weight": [2.0, 1]}, ["label_weight"]),
        ({"label_weight": {"x": 2.0}}, ["label_weight"]),
        ({"clusterer": BalancedLabelClusterer(max_cluster_size=9)}, []),
        ({"clusterer": BalancedLabelClusterer(max_cluster_size=8)}, ["clusterer"]),
        ({"encoder": "bert-large-uncased"}, ["encoder"]),
        (
            {
                "checkpoint_dir": "run",
                "device": "cuda:1",
                "memory": "cache",
                "n_jobs": 2,
                "random_state": np.random.RandomState(1),
                "verbose": 1,
            },
            [],
        ),
    ],
)
def test_describe_params_names_what_differs(changes, different):
    clusterer = BalancedLabelClusterer(max_cluster_size=9)
    one = LightXMLClassifier("bert-base-uncased", clusterer=clusterer, label_weight=[1.0, 2.0])
    other = {**one.get_params(deep=False), **changes}
    one, other = describe_params(one.get_params(deep=False)), describe_params(other)
    assert sorted(name for name in one if one[name] != other[name]) == different


def test_describe_params_takes_folders_of_encoders_for_equal(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    params = LightXMLClassifier().get_params(deep=False)
    paths = [describe_params({**params, "encoder": path}) for path in (str(tmp_path), other)]
    assert paths[0] == paths[1]


def test_describe_params_takes_other_order_of_dict_for_equal():
    orders = [{"x": 2.0, "y": 1.0}, {"y": 1.0, "x": 2.0}, {"x": 1.0, "y": 2.0}]
    params = LightXMLClassifier().get_params(deep=False)
    one, same, other = (describe_params({**params, "label_weight": order}) for order in orders)
    assert one == same
    assert one != other
