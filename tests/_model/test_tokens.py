"""Tokens in one flat array, and batches with little padding."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from tiny_encoders import tiny_tokenizer

from skxmc._input.sparse import ranges
from skxmc._model import tokens
from skxmc._model.tokens import TokenStore, prediction_batches, tokenize, training_batches

TEXTS = ["tax law", "", "something longer than the rest of it", "x", "Ünïcode: 漢字 🙂", "  \n "]


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def xlnet_tokenizer():
    return tiny_tokenizer(cls_last=True, padding_side="left")


def tokens_of(store, i):
    return store.ids[store.offsets[i] : store.offsets[i + 1]].tolist()


def power_law_lengths(n, rng):
    return np.clip(8 * (1 + rng.pareto(1.2, size=n)), 3, 128).astype(np.int64)


def padding_overhead(batches, lengths):
    padded = sum(len(rows) * lengths[rows].max() for rows in batches)
    return padded / lengths.sum() - 1


# ---------------------------------------------------------------- the store


def test_tokenize_stores_every_token(tokenizer):
    store = tokenize(tokenizer, TEXTS, 64)
    assert len(store) == len(TEXTS)
    assert store.ids.dtype == np.int32
    assert store.offsets.dtype == np.int64
    assert store.offsets[0] == 0
    assert store.offsets[-1] == len(store.ids)
    for i, text in enumerate(TEXTS):
        assert tokens_of(store, i) == tokenizer(text)["input_ids"]
    np.testing.assert_array_equal(store.lengths, [len(tokens_of(store, i)) for i in range(6)])
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert tokens_of(store, 1) == tokens_of(store, 5) == [cls, sep]  # empty texts
    assert store.type_ids is None
    assert not store.cls_last


@pytest.mark.parametrize("max_length", [2, 3, 5, 64])
def test_tokenize_truncation_keeps_special_tokens(tokenizer, xlnet_tokenizer, max_length):
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    for tokenize_with, first, end in [(tokenizer, [cls], [sep]), (xlnet_tokenizer, [], [sep, cls])]:
        store = tokenize(tokenize_with, TEXTS, max_length)
        for i, text in enumerate(TEXTS):
            words = tokenize_with(text, add_special_tokens=False)["input_ids"]
            assert tokens_of(store, i) == first + words[: max_length - 2] + end


@pytest.mark.parametrize("which", ["tokenizer", "xlnet_tokenizer"])
def test_tokenize_in_blocks_equals_tokenize_at_once(request, monkeypatch, which):
    tokenizer = request.getfixturevalue(which)
    whole = tokenize(tokenizer, TEXTS, 10)
    monkeypatch.setattr(tokens, "TOKENIZER_BLOCK", 4)
    in_blocks = tokenize(tokenizer, TEXTS, 10)
    np.testing.assert_array_equal(in_blocks.ids, whole.ids)
    np.testing.assert_array_equal(in_blocks.offsets, whole.offsets)
    np.testing.assert_array_equal(in_blocks.type_ids, whole.type_ids)


@pytest.mark.parametrize("which", ["tokenizer", "xlnet_tokenizer"])
def test_tokenize_many_tokens_lie_in_a_file(request, monkeypatch, tmp_path, which):
    tokenizer = request.getfixturevalue(which)
    whole = tokenize(tokenizer, TEXTS, 10)
    monkeypatch.setattr(tokens, "TOKENIZER_BLOCK", 4)
    mapped = tokenize(tokenizer, TEXTS, 10, folder=str(tmp_path), max_in_memory=20)
    assert isinstance(mapped.ids.base, np.memmap)
    np.testing.assert_array_equal(mapped.ids, whole.ids)
    np.testing.assert_array_equal(mapped.type_ids, whole.type_ids)
    rows = np.array([2, 0])
    for found, expected in zip(mapped.batch(rows)[:2], whole.batch(rows)[:2], strict=True):
        torch.testing.assert_close(found, expected)


def test_tokenize_xlnet_stores_token_types(xlnet_tokenizer):
    store = tokenize(xlnet_tokenizer, ["ab", ""], 64)
    assert store.cls_last
    assert store.type_ids.tolist() == [0, 0, 0, 2, 0, 2]
    batch = store.batch(np.array([1, 0]))
    assert batch.token_type_ids.tolist() == [[0, 2, 0, 0], [0, 0, 0, 2]]
    assert batch.cls_position.tolist() == [1, 3]


def test_tokenize_types_all_zero_are_not_stored(xlnet_tokenizer):
    tokenizer = tiny_tokenizer()
    tokenizer.model_input_names = xlnet_tokenizer.model_input_names
    assert not any(tokenizer("ab")["token_type_ids"])
    store = tokenize(tokenizer, ["ab"], 64)
    assert store.type_ids is None
    assert store.batch(np.array([0])).token_type_ids is None


def test_tokenize_no_texts_gives_empty_store(tokenizer):
    store = tokenize(tokenizer, [], 64)
    assert len(store) == 0
    assert store.offsets.tolist() == [0]
    assert store.ids.dtype == np.int32
    assert list(prediction_batches(store.lengths, 4)) == []


def test_tokenize_without_pad_token_pads_with_0():
    tokenizer = tiny_tokenizer(pad_id=1)
    assert tokenize(tokenizer, ["a"], 64).pad_id == 1
    tokenizer.pad_token = None
    assert tokenize(tokenizer, ["a"], 64).pad_id == 0


# ---------------------------------------------------------------- parts of the store


@pytest.mark.parametrize("which", ["tokenizer", "xlnet_tokenizer"])
@pytest.mark.parametrize("rows", [[4, 0, 2], [1], [3, 3], []])
def test_subset_equals_tokens_of_these_texts(request, which, rows):
    tokenizer = request.getfixturevalue(which)
    store = tokenize(tokenizer, TEXTS, 64)
    part = store.subset(np.array(rows, dtype=np.int64))
    expected = tokenize(tokenizer, [TEXTS[i] for i in rows], 64)
    np.testing.assert_array_equal(part.ids, expected.ids)
    np.testing.assert_array_equal(part.offsets, expected.offsets)
    assert (part.pad_id, part.cls_last) == (store.pad_id, store.cls_last)
    if rows and which == "xlnet_tokenizer":
        np.testing.assert_array_equal(part.type_ids, expected.type_ids)


def test_batch_pads_on_the_right_to_its_longest_text():
    ids = np.array([7, 8, 9, 4, 5, 6, 3], dtype=np.int32)
    store = TokenStore(ids, np.array([0, 3, 4, 7]), None, pad_id=1, cls_last=False)
    batch = store.batch(np.array([1, 2]))
    assert batch.input_ids.tolist() == [[4, 1, 1], [5, 6, 3]]
    assert batch.attention_mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch.cls_position is None
    assert {t.dtype for t in batch[:2]} == {torch.int64}
    assert batch.is_padded
    assert not store.batch(np.array([2, 0])).is_padded
    assert store.batch(np.array([1])).input_ids.tolist() == [[4]]  # no padding to other texts
    store.cls_last = True
    assert store.batch(np.array([1, 2])).cls_position.tolist() == [0, 2]


def test_batch_to_moves_all_tensors(xlnet_tokenizer):
    batch = tokenize(xlnet_tokenizer, TEXTS, 64).batch(np.arange(3)).to(torch.device("meta"))
    assert {tensor.device.type for tensor in batch[:4]} == {"meta"}
    assert batch.is_padded
    batch = tokenize(tiny_tokenizer(), TEXTS, 64).batch(np.arange(3)).to(torch.device("meta"))
    assert {tensor.device.type for tensor in batch[:2]} == {"meta"}
    assert batch.cls_position is None
    assert batch.token_type_ids is None


def test_batch_for_gpu_rounds_up_padded_batches_to_at_most_the_longest_text(monkeypatch):
    monkeypatch.setattr("skxmc._model.tokens.TOKENS_MULTIPLE", 4)
    store = TokenStore(np.arange(38), np.array([0, 9, 15, 18, 27, 38]), None, 1, cls_last=False)
    n_tokens = {
        (0, 1): 11,  # a multiple would be 12, but no text is as long
        (1, 2): 8,
        (0, 3): 9,  # no padding, so no multiple
        (2,): 3,
        (1, 4): 11,
    }
    for rows, n in n_tokens.items():
        batch = store.batch(np.array(rows), for_gpu=True)
        assert batch.input_ids.shape == batch.attention_mask.shape == (len(rows), n)
        plain = store.batch(np.array(rows))
        width = plain.input_ids.shape[1]
        assert batch.is_padded == plain.is_padded
        torch.testing.assert_close(batch.input_ids[:, :width], plain.input_ids)
        torch.testing.assert_close(batch.attention_mask[:, :width], plain.attention_mask)
        assert (batch.input_ids[:, width:] == 1).all()
        assert not batch.attention_mask[:, width:].any()


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batch_to_cuda_is_equal(xlnet_tokenizer):
    batch = tokenize(xlnet_tokenizer, TEXTS, 64).batch(np.arange(3))
    for there, here in zip(batch.to(torch.device("cuda"))[:4], batch[:4], strict=True):
        assert there.is_cuda
        torch.testing.assert_close(there.cpu(), here)


def test_ranges_concatenates_ranges():
    assert ranges(np.array([5, 0, 9]), np.array([2, 0, 3])).tolist() == [5, 6, 9, 10, 11]
    assert ranges(np.array([], dtype=int), np.array([], dtype=int)).tolist() == []


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize(("n", "size"), [(1, 4), (8, 4), (9, 4), (5000, 16), (1025, 16), (3, 1)])
def test_training_batches_contain_every_text_once(n, size):
    rng = np.random.default_rng(0)
    batches = training_batches(power_law_lengths(n, rng), size, rng)
    np.testing.assert_array_equal(np.sort(np.concatenate(batches)), np.arange(n))
    assert len(batches) == -(-n // size)
    assert sorted({len(rows) for rows in batches}) in ([size], [n % size], [n % size, size])


def test_batches_have_little_padding():
    rng = np.random.default_rng(0)
    lengths = power_law_lengths(5000, rng)
    random = np.split(rng.permutation(4992), 312)
    assert padding_overhead(random, lengths) > 1
    assert padding_overhead(training_batches(lengths, 16, rng), lengths) < 0.1
    assert padding_overhead(prediction_batches(lengths, 16), lengths) < 0.05


def test_training_batches_are_random_and_follow_the_seed():
    lengths = power_law_lengths(3000, np.random.default_rng(1))
    first, again = (training_batches(lengths, 16, np.random.default_rng(0)) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    rng = np.random.default_rng(0)
    epochs = [{frozenset(rows.tolist()) for rows in training_batches(lengths, 16, rng)}]
    epochs.append({frozenset(rows.tolist()) for rows in training_batches(lengths, 16, rng)})
    assert len(epochs[0] & epochs[1]) < 5  # the next epoch groups other texts
    longest = np.array([lengths[rows].max() for rows in first])
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2  # in no order
    assert abs(np.corrcoef(longest[1:], longest[:-1])[0, 1]) < 0.2


def test_training_batches_single_pool_of_equal_lengths_is_shuffled():
    """Sorting by length must not undo the shuffle of texts of equal length."""
    rng = np.random.default_rng(0)
    batches = [training_batches(np.full(64, 7), 16, rng) for _ in range(2)]
    assert sorted(map(sorted, batches[0])) != sorted(map(sorted, batches[1]))


def test_prediction_batches_are_longest_first():
    lengths = power_law_lengths(100, np.random.default_rng(0))
    batches = list(prediction_batches(lengths, 16))
    rows = np.concatenate(batches)
    np.testing.assert_array_equal(np.sort(rows), np.arange(100))
    assert (np.diff(lengths[rows]) <= 0).all()
    assert [len(batch) for batch in batches] == [16] * 6 + [4]
    ties = np.concatenate(list(prediction_batches(np.array([3, 5, 3, 5]), 2)))
    assert ties.tolist() == [1, 3, 0, 2]


def test_prediction_batches_of_bounded_tokens_hold_more_short_texts():
    lengths = power_law_lengths(300, np.random.default_rng(0))
    lengths[7] = 1000  # more tokens than a batch may have
    batches = list(prediction_batches(lengths, 50, 500))
    np.testing.assert_array_equal(
        np.concatenate(batches), np.concatenate(list(prediction_batches(lengths, 1)))
    )
    assert batches[0].tolist() == [7]
    for rows, following in pairwise(batches[1:]):
        n_tokens = lengths[rows].max()
        assert len(rows) * n_tokens <= 500
        assert len(rows) == 50 or (len(rows) + 1) * n_tokens > 500
        assert len(following) >= len(rows) or following is batches[-1]
    assert len(batches[-2]) == 50
