"""The expected calibration error at k."""

import numpy as np
import pytest
from scipy import sparse

from skxmc import TopK
from skxmc.metrics import ece_at_k

# The best two of each text: 0.9 and 0.8 in the last of five bins, 0.3 and 0.35 in the second.
SCORES = np.array([[0.9, 0.3, 0.0], [0.1, 0.35, 0.8]])
TRUE = [[0], [1]]  # one of two in the last bin, one of two in the second
EXPECTED = (2 * abs(0.5 - 0.85) + 2 * abs(0.5 - 0.325)) / 4


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array, lambda s: TopK.from_scores(s, 3)])
def test_ece_any_form_of_scores_matches_value_by_hand(form):
    found = ece_at_k(TRUE, form(SCORES), k=2, n_bins=5, classes=[0, 1, 2])
    assert found == pytest.approx(EXPECTED)


def test_ece_named_labels_and_one_bin():
    found = ece_at_k([["a"], ["b"]], SCORES, k=2, n_bins=1, classes=["a", "b", "c"])
    assert found == pytest.approx(abs(0.5 - SCORES[SCORES > 0.1].mean()))


def test_ece_score_1_is_in_the_last_bin_and_right_there():
    assert ece_at_k([[0], [0]], np.array([[1.0], [1.0]]), k=1, classes=[0]) == 0


def test_ece_places_without_label_do_not_count():
    top = TopK.from_scores(SCORES, 2, threshold=0.5)
    assert ece_at_k(TRUE, top, k=2, n_bins=5, classes=[0, 1, 2]) == pytest.approx(0.35)
    empty = TopK.from_scores(SCORES, 2, threshold=1)
    assert ece_at_k(TRUE, empty, k=2, classes=[0, 1, 2]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"y_score": SCORES * 4}, r"^y_score holds the score 3\.6, but probabilities are from 0"),
        ({"y_score": -SCORES - 0.1}, r"^y_score holds the score -0\.1, but prob"),
        ({"n_bins": 0}, "^n_bins is 0, but must be a whole number from 1"),
        ({"n_bins": 2.5}, "^n_bins is 2.5, but must"),
        ({"k": 4}, "^k is 4, but there are only 3 labels"),
    ],
    ids=str,
)
def test_ece_malformed_argument_is_an_error(arguments, message):
    arguments = {"y_score": SCORES, "k": 2, "classes": [0, 1, 2], **arguments}
    with pytest.raises(ValueError, match=message):
        ece_at_k(TRUE, **arguments)
