"""Windows of long texts: they cover each text, overlap, and are drawn in training."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import cases, text, whole, without_surrogates
from tiny_encoders import tiny_tokenizer
from tokenizers import processors

from skxmc._model import windows
from skxmc._model.tokens import special_tokens, tokenize
from skxmc._model.windows import WindowStore, tokenize_long

TEXTS = ["tax law", "", "something longer than the rest of it", "x", "abcdefghij " * 9, "a b c d"]
TOKENIZERS = {
    "first": tiny_tokenizer(),
    "last": tiny_tokenizer(cls_last=True, padding_side="left"),
}


def texts_of(store):
    """Return the tokens and token types of each text of a store."""
    types = np.zeros_like(store.ids) if store.type_ids is None else store.type_ids
    cuts = store.offsets[1:-1]
    ids, types = np.split(store.ids, cuts), np.split(types, cuts)
    return [(a.tolist(), b.tolist()) for a, b in zip(ids, types, strict=True)][: len(store)]


def windows_of(store):
    """Return the windows of each text of a store."""
    found = [[] for _ in range(len(store))]
    for rows, block, text_of in store.blocks():
        for row, window in zip(rows[text_of], texts_of(block), strict=True):
            found[row].append(window)
    return found


@pytest.mark.parametrize("place", TOKENIZERS)
@cases(10)
@given(
    st.lists((text() | text().map(lambda unit: unit * 20)).map(without_surrogates), max_size=4),
    whole(3, 40),
)
def test_windows_any_texts_are_covered_by_windows_that_overlap(place, texts, max_length):
    tokenizer = TOKENIZERS[place]
    store = tokenize_long(tokenizer, texts, max_length, "windows")
    n_before, n_after = (1, 1) if place == "first" else (0, 2)
    size = max_length - 2
    overlap = size // 4
    wholes = texts_of(tokenize(tokenizer, texts, 10**6))
    for (ids, types), found in zip(wholes, windows_of(store), strict=True):
        if len(ids) <= max_length:
            assert found == [(ids, types)]
            continue
        words = ids[n_before : len(ids) - n_after]
        # No fewer windows of this length overlap by as much.
        assert size + (len(found) - 2) * (size - overlap) < len(words)
        end = 0
        for number, (of_window, types_of_window) in enumerate(found):
            assert len(of_window) == max_length
            start = number * (len(words) - size) // (len(found) - 1)
            assert of_window == ids[:n_before] + words[start : start + size] + ids[-n_after:]
            assert types_of_window == types[: max_length - n_after] + types[-n_after:]
            assert number == 0 or start <= end - overlap
            end = start + size
        assert end == len(words)


@pytest.mark.parametrize("place", TOKENIZERS)
def test_batch_before_draw_reads_the_start_of_each_text(place):
    store = tokenize_long(TOKENIZERS[place], TEXTS, 9, "windows")
    cut = tokenize(TOKENIZERS[place], TEXTS, 9)
    assert (len(store), store.longest) == (6, 9)
    np.testing.assert_array_equal(store.lengths, cut.lengths)
    for rows in ([4, 1, 2], [3]):
        batch, expected = store.batch(np.array(rows), 4), cut.batch(np.array(rows), 4)
        for found, tensor in zip(batch, expected, strict=True):
            assert found is tensor or found.tolist() == tensor.tolist()


def test_draw_reads_each_window_equally_often_and_follows_the_seed():
    store = tokenize_long(TOKENIZERS["first"], TEXTS, 12, "windows")
    found, rng = windows_of(store), np.random.default_rng(0)
    counts = [dict.fromkeys(map(str, of_text), 0) for of_text in found]
    for _ in range(600):
        store.draw(rng)
        for row, of_text in enumerate(counts):
            ids = store.batch(np.array([row])).input_ids[0].tolist()
            of_text[str((ids, [0] * len(ids)))] += 1  # a KeyError if it is no window
    assert store.n_windows.tolist() == [1, 1, 4, 1, 11, 1]
    for of_text in counts:
        share = np.array(list(of_text.values())) / 600
        np.testing.assert_allclose(share, 1 / len(of_text), atol=0.06)
    twin = store.subset(np.arange(len(store)))
    for each in (store, twin):
        each.draw(np.random.default_rng(3))
    np.testing.assert_array_equal(store.starts, twin.starts)


@pytest.mark.parametrize("rows", [[4, 0, 4], []])
def test_subset_has_the_windows_of_these_texts(rows):
    store = tokenize_long(TOKENIZERS["last"], TEXTS, 9, "windows")
    part = store.subset(np.array(rows, dtype=np.int64))
    assert isinstance(part, WindowStore)
    assert windows_of(part) == [windows_of(store)[row] for row in rows]


def test_blocks_bound_the_texts_at_once(monkeypatch):
    store = tokenize_long(TOKENIZERS["last"], TEXTS, 9, "windows")
    expected = windows_of(store)
    monkeypatch.setattr(windows, "TEXTS_BLOCK", 4)
    assert [rows.tolist() for rows, *_ in store.blocks()] == [[0, 1, 2, 3], [4, 5]]
    assert windows_of(store) == expected


def test_special_tokens_counts_both_sides():
    assert special_tokens(TOKENIZERS["first"]) == (1, 1)
    assert special_tokens(TOKENIZERS["last"]) == (0, 2)
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] [MASK] [MASK] $A [SEP]",
        special_tokens=[(mark, tokenizer.vocab[mark]) for mark in ("[CLS]", "[MASK]", "[SEP]")],
    )
    assert special_tokens(tokenizer) == (3, 1)


def test_tokenize_long_window_without_room_for_words_raises_value_error():
    with pytest.raises(ValueError, match=r"^max_length=2, but a window holds 2 special.*Raise max"):
        tokenize_long(TOKENIZERS["first"], TEXTS, 2, "windows")
    assert tokenize_long(TOKENIZERS["first"], TEXTS, 2, "truncate").longest == 2
