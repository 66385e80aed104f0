"""Preparation of the model that `fit` trains."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from skxmc._clusterer import check_features
from skxmc._inference.low_precision import forget_copy
from skxmc._input.folds import hint_on_folds, of_labels
from skxmc._input.per_label import rows_by_label
from skxmc._input.split import SplitTexts
from skxmc._input.types import Matrix, PerLabel
from skxmc._model.encoder import encoder_source, load_encoder
from skxmc._model.encoder_check import (
    check_ids,
    check_length,
    check_representations,
    check_states,
    check_words,
)
from skxmc._model.fitted import Model
from skxmc._model.network import LightXMLNetwork
from skxmc._model.pooling import trained_pooling
from skxmc._model.tokens import TokenStore
from skxmc._model.windows import tokenize_long
from skxmc._storage.cache import cached_clusters, cached_tokens
from skxmc._storage.checkpoint import Found
from skxmc._training.calibration import calibrate, noisy_texts
from skxmc._training.distributed import OneProcess
from skxmc._training.evaluation import fit_predictor
from skxmc._training.head_rate import choose_head_rate
from skxmc._training.initialization import (
    MAX_TEXTS,
    Sample,
    start_at_centroids,
    start_at_priors,
    start_at_random,
)
from skxmc._training.new_labels import add_labels, weigh_texts
from skxmc._training.plan import tell_task
from skxmc._training.pooling_choice import OTHER_POOLING, choose_pooling
from skxmc._training.settings import HEAD_RATE, Settings
from skxmc._training.trainer import TrainingSet
from skxmc._utils.progress import progress_bar, show_line, slow_bar

# Share of a time limit in which the texts for the centroids are encoded.
START_SHARE = 0.25


def prepare_model(
    found: Found | None,
    previous: Model | None,
    data: SplitTexts,
    label_features: Matrix | None,
    settings: Settings,
    generator: torch.Generator,
    processes: OneProcess,
) -> tuple[Model, TrainingSet]:
    """Take the model of a checkpoint, copy that of the previous fit, or build one.

    Parameters
    ----------
    found : Found or None
        Run of a checkpoint. It has precedence over `previous`.
    previous : Model or None
        Model of a warm start.
    data : SplitTexts
    label_features : sparse or dense matrix of shape (n_labels, d), or None
        See `LightXMLClassifier.fit`.
    settings : Settings
    generator : torch.Generator
        Draws random weights.
    processes : OneProcess
        Processes that all get the model of the first.

    Returns
    -------
    model : Model
        Model with its network on the device, in float32.
    training_set : TrainingSet
        Tokens and labels of the training texts. If the encoder is frozen, their representations.
    """
    if data.weights is not None:
        # Lower weights would count as fewer texts than there are in the log priors and in TF-IDF.
        data = data._replace(weights=data.weights / min(data.weights.mean(), 1.0))
    model = None if found is None else found.model
    if model is None and previous is not None:
        # Copied, because the fit may fail, and other threads may predict with the previous weights.
        model = previous._replace(network=copy.deepcopy(previous.network))
    is_new = model is None
    if model is None:
        model = build_model(data, label_features, settings, generator, processes)
    network, max_length = model.network.float(), settings.max_length
    check_length(network.encoder, model.tokenizer, max_length, name=settings.encoder)
    network.place_on(settings.device).set_dropout(settings.dropout, settings.encoder_dropout)
    with slow_bar(settings.verbose, desc="tokenizing", total=len(data.texts)) as bar:
        tokenizer, texts, update = model.tokenizer, data.texts, bar.update
        cached = partial(cached_tokens, settings.memory, progress=update)
        tokens = processes.from_first(
            lambda: tokenize_long(tokenizer, texts, max_length, settings.long_text, cached)
        )
    check_ids(tokens, model.tokenizer, network.encoder, data.texts)
    check_words(tokens, model.tokenizer, data.texts, name=settings.encoder)
    if len(model.classes) < len(data.classes):
        model = _with_new_labels(model, tokens, data, settings)
    tell_task(settings, network, tokens)
    training_set = TrainingSet(tokens, data.y, settings.device, data.weights, data.label_weights)
    starts_at_centroids = is_new and settings.head_init == "centroids"
    if starts_at_centroids and settings.pooling == "auto" and network.pooling != OTHER_POOLING:
        n_texts = len(tokens) - data.n_label_texts
        choose = partial(choose_pooling, model, training_set, data.y, n_texts, settings)
        network.pooling = processes.from_first(choose)
    if settings.freeze_encoder:
        predictor = fit_predictor(model, settings, settings.dtype)
        width = len(network.encoders) * network.n_features
        n_own = -(-len(tokens) // processes.size)
        with progress_bar(settings.verbose, desc="encoding texts", total=n_own) as bar:
            training_set.features = processes.deal(
                np.arange(len(tokens)),
                lambda rows: predictor.array(tokens.subset(rows), width, lambda e: e, bar.update),
            )
    rate = settings.head_learning_rate
    if starts_at_centroids:
        sample = _start_at_centroids(model, training_set, data, settings, processes)
        if rate == "auto":
            rate = processes.from_first(
                lambda: choose_head_rate(network, training_set, data.y, sample, settings)
            )
    if isinstance(rate, str):
        rate = model.head_learning_rate
    model = model._replace(head_learning_rate=rate)
    processes.share_weights(network)
    forget_copy(network)
    return model, training_set


def _start_at_centroids(
    model: Model,
    training_set: TrainingSet,
    data: SplitTexts,
    settings: Settings,
    processes: OneProcess,
) -> Sample:
    """Start the heads at centroids, at a scale that suits the dropout of training."""
    network, tokens, features = model.network, training_set.tokens, training_set.features
    predictor = fit_predictor(model, settings, settings.dtype)

    def represent(rows: np.ndarray, progress: Callable[[int], object] | None = None) -> np.ndarray:
        if features is not None:
            return features[rows]
        return processes.deal(rows, lambda rows: predictor.features(tokens.subset(rows), progress))

    batches = noisy_texts(network, training_set, settings)
    noise = torch.cat([batch.features for batch in batches]).cpu().numpy()
    noisy = np.concatenate([batch.rows for batch in batches])
    started = time.perf_counter()
    noise -= represent(noisy)
    max_texts = MAX_TEXTS
    if settings.deadline is not None:
        now = time.perf_counter()
        n_in_time = START_SHARE * (settings.deadline - now) * len(noisy) / (now - started)
        max_texts = processes.same(min(max(int(n_in_time), len(noisy)), MAX_TEXTS))
    n_encoded = min(len(tokens) - data.n_label_texts, max_texts) + data.n_label_texts
    verbose = settings.verbose if features is None else 0
    n_own = -(-n_encoded // processes.size)
    with progress_bar(verbose, desc="encoding texts", total=n_own) as bar:
        sample = start_at_centroids(
            network,
            data.y,
            lambda rows: represent(rows, bar.update),
            np.random.default_rng(settings.seed),
            data.n_label_texts,
            noise=noise,
            max_texts=max_texts,
            weights=data.weights,
        )
    calibrate(network, batches, settings)
    return sample


def _with_new_labels(
    model: Model, tokens: TokenStore, data: SplitTexts, settings: Settings
) -> Model:
    """Start the labels that the model of a warm start does not have."""
    names = data.classes[len(model.classes) :]
    y = weigh_texts(data.y[:, len(model.classes) :], data.n_label_texts)
    rows = np.flatnonzero(np.diff(y.indptr))
    predictor = fit_predictor(model, settings, settings.dtype)
    batches = predictor.results(tokens.subset(rows), lambda e: (e,))
    return add_labels(model, names, y[rows], batches, len(tokens))


def check_label_features(
    label_features: PerLabel | Matrix | None, classes: NDArray[Any], n_texts: int
) -> Matrix | None:
    """Check the features of labels, and return them in the order of `classes`.

    Parameters
    ----------
    label_features : sparse or dense matrix of shape (n_labels, d), callable or None
        See `LightXMLClassifier.fit`.
    classes : ndarray of shape (n_labels,)
        Labels.
    n_texts : int
        Number of texts of `fit`, for error messages.
    """
    if label_features is None:
        return None
    label_features = of_labels(label_features, classes)
    label_features = rows_by_label(label_features, classes, "label_features", n_texts)
    n_rows = check_features(label_features, "label_features").shape[0]
    if n_rows != len(classes):
        raise ValueError(
            f"label_features has {n_rows} rows, but there are {len(classes)} labels. Pass one row "
            "per label, in the order of classes_."
            f"{hint_on_folds('label_features', n_rows, n_texts)}"
        )
    return label_features


def build_model(
    data: SplitTexts,
    label_features: Matrix | None,
    settings: Settings,
    generator: torch.Generator,
    processes: OneProcess,
) -> Model:
    """Load the encoder, cluster the labels, and build a network of both on the CPU."""
    tokenizer, encoder = load_encoder(settings.encoder)
    n_layers, pooling = settings.n_feature_layers, settings.pooling
    if pooling == "auto":
        is_for_mean = trained_pooling(encoder_source(settings.encoder)) == "mean"
        pooling = "alternate" if is_for_mean else "cls"
    check_states(encoder, n_layers, name=settings.encoder)
    check_representations(encoder.eval(), tokenizer, n_layers, pooling, name=settings.encoder)
    if settings.negative_sampling != "none":
        show_line(settings.verbose, f"clustering {data.y.shape[1]:,} labels")
    clusterer = processes.from_first(
        lambda: cached_clusters(
            settings.memory, data.texts, data.y, label_features, settings.clusterer, data.weights
        )
    )
    network = LightXMLNetwork(
        encoder,
        clusterer.labels_,
        n_feature_layers=n_layers,
        bottleneck_dim=settings.bottleneck_dim,
        dropout=settings.dropout,
        pooling=pooling,
    )
    if settings.head_init == "random":
        start_at_random(network, generator)
    else:
        start_at_priors(network, data.y, generator, data.weights)
    return Model(network, tokenizer, clusterer, data.classes, HEAD_RATE)
