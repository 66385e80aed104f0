"""Helpers of the runners of LibMultiLabel: held-out texts, words and their vectors."""

from collections import Counter

import numpy as np
import torch
from _peer import labels_of_rows
from libmultilabel.nn.data_utils import PAD, UNK, load_or_build_text_dict, tokenize

MAX_WORDS = 500
CPU = not torch.cuda.is_available()


def hold_out(texts, y):
    """Return the dataset, of which a tenth is for early stopping."""
    labels = labels_of_rows(y)
    rows = [{"text": text, "label": own} for text, own in zip(texts, labels, strict=True)]
    order = np.random.default_rng(0).permutation(len(rows))
    valid, rest = np.split(order, [len(rows) // 10])
    return {"train": [rows[i] for i in rest], "val": [rows[i] for i in valid]}


def split_words(X, least=1):
    """Return the words of each text, padded to the least number."""
    return [words + [PAD] * (least - len(words)) for words in map(tokenize, X)]


def load_words(texts, file):
    """Return the numbers of words, and their vectors from a file or, without one, at random."""
    if file:
        return load_or_build_text_dict([{"text": text} for text in texts], embed_file=file)
    counts = Counter(word for text in texts for word in text if word != PAD)
    words = {word: number for number, word in enumerate([PAD, UNK, *sorted(counts)])}
    vectors = 0.4 * torch.randn(len(words), 300)  # about as long as GloVe's
    vectors[0] = 0
    return words, vectors
