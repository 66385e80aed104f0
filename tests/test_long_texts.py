"""long_text="windows": long texts are read whole, in training, prediction and everything else."""

import copy
import re

import numpy as np
import pytest
import torch
from classifier_fixtures import (
    MODES,
    assert_same_predictions,
    dataset,
    differ,
    encoder_path,
    fitted,
    make_classifier,
)
from stopped_training import assert_same_model
from transformers import AutoModel, AutoTokenizer

from skxmc import NeighborsClassifier, TextEncoder
from skxmc._model import windows as windows_module
from skxmc._training.trainer import TrainingSet
from skxmc._utils.encode_once import encode_once
from skxmc.metrics import precision_at_k

X, Y = dataset()
# Two texts that differ only at their ends, one that fits into a window, and one without words.
LONG = [f"{X[0]} {X[1]} {X[2]}", f"{X[0]} {X[1]} {X[3]}", "bebo", ""]
WINDOWS = {"max_length": 12, "long_text": "windows"}


def make_encoder(folder, **params):
    return TextEncoder(folder, **{**WINDOWS, "precision": "fp32", "device": "cpu", **params})


@pytest.fixture(scope="module")
def clf():
    """Return a shared classifier that has learned from windows. Copy it before changing it."""
    return make_classifier(**WINDOWS).fit(X, Y)


def mean_over_windows(folder, text, cls_last):
    """Represent a text by an encoder and a tokenizer alone: the mean of its windows of 12."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    special = tokenizer("")["input_ids"]
    before, after = ([], special) if cls_last else (special[:1], special[1:])
    words, size = tokenizer(text, add_special_tokens=False)["input_ids"], 12 - len(special)
    n_beyond = max(len(words) - size, 0)
    n = 1 + -(-n_beyond // (size - size // 4))
    states = []
    for i in range(n):
        start = i * n_beyond // max(n - 1, 1)
        ids = torch.tensor([before + words[start : start + size] + after])
        types = {"token_type_ids": torch.zeros_like(ids)} if cls_last else {}
        for tensor in types.values():
            tensor[0, -1] = 2
        with torch.no_grad():
            found = model.eval()(input_ids=ids, **types).last_hidden_state[0]
        states.append(found[-1 if cls_last else 0])
    return torch.stack(states).mean(dim=0).numpy()


@pytest.mark.parametrize(
    ("family", "options"),
    [("bert", {}), ("bert", {"padding_side": "left"}), ("roberta", {}), ("xlnet", {})],
)
def test_transform_is_mean_over_windows(tiny_encoder, family, options):
    folder = tiny_encoder(family, **options)
    encoder = make_encoder(folder).fit(LONG)
    expected = [mean_over_windows(folder, text, family == "xlnet") for text in LONG]
    np.testing.assert_allclose(encoder.transform(LONG), expected, atol=2e-6)
    cut = encoder.set_params(long_text="truncate").transform(LONG)
    np.testing.assert_array_equal(cut[0], cut[1])
    assert np.abs(expected[0] - expected[1]).max() > 1e-4


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("mode", MODES)
def test_fit_texts_that_fit_into_a_window_gives_model_of_truncate(mode):
    """The second epoch has other batches, because the windows are drawn by the same generator."""
    cut, whole = (
        make_classifier(mode, max_length=64, max_epochs=1, long_text=long_text).fit(X, Y)
        for long_text in ("truncate", "windows")
    )
    assert_same_model(cut, whole)


@pytest.mark.parametrize("params", [{}, {"negative_sampling": "static", "head_init": "priors"}])
def test_fit_reads_a_random_window_of_each_text_per_epoch(monkeypatch, params):
    batch, n_epochs, read = TrainingSet.batch, 12, {}

    def noted(data, rows):
        inputs, *others = batch(data, rows)
        for row, ids in zip(rows.tolist(), inputs.input_ids.tolist(), strict=True):
            read.setdefault(row, []).append(tuple(filter(None, ids)))  # without padding
        return inputs, *others

    monkeypatch.setattr(TrainingSet, "batch", noted)
    texts, y = [*X[:8], LONG[0]], Y[:9]
    clf = make_classifier(**WINDOWS, max_epochs=n_epochs, **params).fit(texts, y)
    ((rows, windows, text_of),) = clf._predictor()._tokenize(texts).blocks()
    for row in rows:
        own = np.flatnonzero(text_of == row)
        expected = {tuple(windows.subset(own[[i]]).ids) for i in range(len(own))}
        found = read[row]
        assert len(found) == n_epochs * (3 if params else 1) + (
            not params
        )  # to calibrate the heads
        assert set(found) <= expected
        assert len(set(found)) >= min(3, len(expected))


def test_fit_follows_the_seed(clf):
    same, other = (make_classifier(**WINDOWS, random_state=seed).fit(X, Y) for seed in (0, 1))
    assert_same_model(same, clf)
    assert differ(same, other)


def test_fit_frozen_encoder_trains_on_means_over_windows(trainers):
    clf = make_classifier(**WINDOWS, freeze_encoder=True, max_epochs=1).fit(X, Y)
    np.testing.assert_allclose(trainers[-1].data.features, clf.encode(X), atol=1e-5)


def test_fit_validates_on_whole_texts():
    clf = make_classifier(**WINDOWS, max_epochs=1).fit(X, Y, validation_data=(X, Y))
    assert clf.history_[-1]["valid_p_at_5"] == precision_at_k(Y, clf.predict_topk(X, 5), k=5)


# ---------------------------------------------------------------- prediction


@pytest.mark.parametrize("mode", MODES)
def test_predictions_any_batch_and_block_are_the_same(mode, monkeypatch):
    clf = copy.copy(fitted(mode)).set_params(**WINDOWS)
    texts = [*LONG, *X]
    expected, encoded = clf.decision_function(texts).toarray(), clf.encode(texts)
    assert np.abs(expected[0] - expected[1]).max() > 1e-4
    monkeypatch.setattr(windows_module, "TEXTS_BLOCK", 7)
    clf.set_params(prediction_batch_size=3)
    np.testing.assert_allclose(clf.decision_function(texts).toarray(), expected, atol=1e-5)
    np.testing.assert_allclose(clf.encode(texts), encoded, atol=1e-5)
    alone = np.vstack([clf.encode([text]) for text in texts])
    np.testing.assert_allclose(alone, encoded, atol=1e-5)
    assert clf.encode([]).shape == (0, 32)


def test_predictions_texts_that_fit_are_those_of_truncate(clf):
    cut = copy.copy(clf).set_params(max_length=64, long_text="truncate")
    assert_same_predictions(copy.copy(clf).set_params(max_length=64), cut)


def test_predict_topk_truncate_set_after_fit_reads_the_start(clf):
    scores = copy.copy(clf).set_params(long_text="truncate").predict_topk(LONG, 3).scores
    np.testing.assert_array_equal(scores[0], scores[1])


def test_encode_int8_is_near(clf):
    found = copy.copy(clf).set_params(precision="int8").encode(LONG)
    np.testing.assert_allclose(found, clf.encode(LONG), atol=0.3)


def test_explain_topk_reads_the_whole_text(clf):
    text = LONG[0]
    found = clf.explain_topk(text, 2, n_words=99, texts=LONG, y=Y[:4])
    assert re.sub("[ #]", "", found.text_read) == text.replace(" ", "")
    n_tokens = len(clf.tokenizer_(text)["input_ids"])
    assert found.n_tokens == found.n_tokens_read == n_tokens > 12
    best = clf.predict_topk([text], 2)
    assert [label.label for label in found.labels] == best.labels[0].tolist()
    np.testing.assert_allclose([label.score for label in found.labels], best.scores[0], rtol=1e-5)
    effects = {word.word: word.effect for word in found.labels[0].words}
    assert effects[text.split()[-1]] != 0
    assert (found.neighbors[0].row, round(found.similarity, 5)) == (0, 1)


def test_encode_once_distinguishes_windows_from_starts(clf):
    one = copy.copy(clf)
    expected = one.set_params(long_text="truncate").encode(LONG)
    with encode_once():
        one.set_params(long_text="windows").encode(LONG)
        found = one.set_params(long_text="truncate").encode(LONG)
    np.testing.assert_array_equal(found, expected)


def test_neighbors_compare_whole_texts():
    near = NeighborsClassifier(make_encoder(encoder_path()), n_neighbors=1).fit(LONG[:2], Y[:2])
    first, second = near.predict_topk(LONG[:2], 2).labels.tolist()
    assert first != second


def test_pickled_and_saved_models_read_windows(clf, tmp_path):
    clf.save_pretrained(tmp_path / "model")
    found = type(clf).from_pretrained(tmp_path / "model")
    assert found.long_text == "windows"
    assert_same_predictions(found, clf, LONG)


# ---------------------------------------------------------------- errors


def test_window_without_room_for_words_raises_value_error(clf):
    short = {"max_length": 2, "long_text": "windows"}
    for use in (
        lambda: make_classifier(**short).fit(X, Y),
        lambda: copy.copy(clf).set_params(**short).predict_topk(X),
        lambda: make_encoder(encoder_path(), **short).fit(X),
    ):
        with pytest.raises(ValueError, match=r"^max_length=2, but a window holds 2 special"):
            use()


def test_text_encoder_other_long_text_raises_value_error():
    encoder = make_encoder(encoder_path()).fit(X)
    for use in (encoder.fit, encoder.set_params(long_text="cut").transform):
        with pytest.raises(ValueError, match=r"'long_text' parameter of TextEncoder must be"):
            use(X)


def test_export_onnx_raises_value_error(clf, tmp_path):
    with pytest.raises(ValueError, match=r'^long_text="windows" cannot be.*set long_text="trunc'):
        clf.export_onnx(tmp_path / "model")
