"""What `LightXMLClassifier.fit` does, step by step; the classifier has the parameters."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple, cast

import numpy as np
import scipy.sparse as sp
import torch
from joblib import hash as joblib_hash
from sklearn.base import clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_memory

from skxmc._clusterer import BalancedLabelClusterer, check_features
from skxmc._inference.low_precision import check_int8, serving_copy
from skxmc._inference.predictor import Predictor
from skxmc._input.split import add_label_texts, hold_out
from skxmc._input.validation import Labels, align_labels, check_labels, check_texts, names_labels
from skxmc._model.device import resolve_device, resolve_precision
from skxmc._model.encoder import load_encoder
from skxmc._model.encoder_check import check_length, check_representations, check_states
from skxmc._model.fitted import Model
from skxmc._model.network import LightXMLNetwork
from skxmc._model.seeds import local_seed
from skxmc._model.tokens import TokenStore
from skxmc._storage.cache import cached_clusters, cached_tokens
from skxmc._storage.checkpoint import HASHED, Checkpoint, Found
from skxmc._storage.pickling import network_state
from skxmc._storage.pretrained import plain_params
from skxmc._topk import TopK
from skxmc._training.initialization import (
    MAX_TEXTS,
    start_at_centroids,
    start_at_priors,
    start_at_random,
)
from skxmc._training.phases import Training
from skxmc._training.trainer import TrainingSet, TrainingSettings
from skxmc._utils.progress import progress_bar
from skxmc._utils.warnings import warn_user
from skxmc.metrics import precision_at_k

# Of bottleneck_dim; any other was asked for.
DEFAULT_BOTTLENECK_DIM = 256
# n_candidate_clusters="auto" recalls clusters until they hold about this many labels.
AUTO_CANDIDATE_LABELS = 2000
# learning_rate="auto" is this by the width of the encoder.
AUTO_RATE_BY_WIDTH = 1e-4 * 768
# max_epochs="auto" is the root of so many texts by those there are, but no more than this.
AUTO_TEXTS = 600_000
MOST_AUTO_EPOCHS = 10
# The dropouts "auto" are higher from so many epochs on.
MANY_EPOCHS = 5
# The name of what a run that goes on with a fitted model says of it.
WARM_START = f"{HASHED}weights of the warm start"
# Parameters that do not change what is learned, but for the order of rounding.
NOT_LEARNED = (
    "checkpoint_dir",
    "checkpoint_every",
    "device",
    "memory",
    "n_jobs",
    "prediction_batch_size",
    "prediction_precision",
    "threshold",
    "verbose",
)


class FitData(NamedTuple):
    """What `fit` is given."""

    X: Any
    y: Any
    label_names: Any
    label_texts: Any
    label_features: Any
    validation_data: Any


def fit_model(
    clf: Any, given: FitData
) -> tuple[Model, list[dict[str, Any]], dict[str, Any] | None]:
    """Train on texts and labels, see the classifier's `fit`.

    Returns
    -------
    model : Model
    history : list of dict
    stopped_run : dict or None
        What the checkpoint says of the run, if Ctrl-C has stopped it.
    """
    texts = check_texts(given.X)
    labels = check_labels(
        given.y, label_names=given.label_names, n_texts=len(texts), require_positive=True
    )
    checkpoint = None if clf.checkpoint_dir is None else Checkpoint(clf.checkpoint_dir)
    stopped = find_stopped_run(clf, checkpoint)
    model, state = None if stopped else previous_model(clf), None
    before = stopped.model if stopped else model
    if clf.warm_start and before is not None:
        check_same_network(clf, before)
        by_name = given.label_names is not None or names_labels(given.y)
        labels = labels_of_previous_fit(labels, before.classes, by_name=by_name)
    device = resolve_device(clf.device)
    seed = draw_seed(clf, checkpoint)
    train, held_out = hold_out(
        texts,
        labels,
        given.validation_data,
        clf.validation_fraction if clf.early_stopping else None,
        seed,
    )
    n_texts = len(train[0])
    if held_out is not None and clf.prediction_precision == "int8":
        check_int8(device)  # what validation predicts by
    train = add_label_texts(*train, given.label_texts)
    n_label_texts = len(train[0]) - n_texts
    if checkpoint is not None:
        data = {"texts": texts, "labels": labels, "validation_data": held_out}
        data |= {name: getattr(given, name) for name in ("label_texts", "label_features")}
        run = describe_run(clf, seed, device, data)
        if model is not None:
            run[WARM_START] = joblib_hash(network_state(model.network))
        elif stopped and WARM_START in stopped.run:
            run[WARM_START] = stopped.run[WARM_START]
        checkpoint.identify(run)
        if checkpoint.found is not None:
            model, state = checkpoint.found.model, checkpoint.found.state
            if state is None:
                return model, checkpoint.found.history, None
    max_epochs = auto_epochs(len(train[0])) if clf.max_epochs == "auto" else int(clf.max_epochs)
    if clf.swa_start is not None and clf.swa_start >= max_epochs:
        warn_user(
            f"swa_start={clf.swa_start} is not reached in epochs 0 to {max_epochs - 1}, so no "
            "weights are averaged. Lower swa_start, or set swa_start=None.",
        )
    dropout, encoder_dropout = dropout_rates(clf, max_epochs)
    with local_seed(seed, device), torch.inference_mode(False), torch.enable_grad():
        generator = torch.Generator().manual_seed(seed)
        starts_anew = model is None
        if model is None:
            model = build_model(clf, train, labels.classes, given.label_features, seed, generator)
        elif state is None:  # a warm start, which may fail, and others predict meanwhile
            model = model._replace(network=copy.deepcopy(model.network))
        check_length(model.network.encoder, model.tokenizer, clf.max_length, name=clf.encoder)
        network = model.network.float().place_on(device)
        network.set_dropout(dropout, encoder_dropout)
        memory = check_memory(clf.memory)
        max_length = int(clf.max_length)
        tokens = cached_tokens(memory, model.tokenizer, train[0], max_length)
        if starts_anew and clf.head_init == "centroids":
            predictor = make_predictor(clf, model, device, clf.precision)
            n_looked_at = min(n_texts, MAX_TEXTS) + n_label_texts
            with progress_bar(clf.verbose, desc="encoding texts", total=n_looked_at) as bar:
                start_at_centroids(
                    network,
                    train[1],
                    lambda rows: predictor.features_of_tokens(tokens.subset(rows), bar.update),
                    np.random.default_rng(seed),
                    n_label_texts,
                )
        validate = None
        if held_out is not None:
            held_out_tokens = cached_tokens(memory, model.tokenizer, held_out[0], max_length)
            validate = make_validator(clf, model, held_out_tokens, held_out[1], device)

        def save(run: Training) -> None:
            assert checkpoint is not None
            checkpoint.save(model, clf, run.history, run.state_dict())

        data_set = TrainingSet(tokens, train[1], device)
        training = Training(
            network,
            data_set,
            training_settings(clf, network, device, max_epochs),
            np.random.default_rng(seed),
            negative_sampling=clf.negative_sampling,
            validate=validate,
            predictor=lambda: make_predictor(clf, model, device, clf.precision),
            generator=generator,
            save=None if checkpoint is None else save,
            save_every=clf.checkpoint_every,
        )
        if state is not None:
            training.load_state_dict(state)
            assert checkpoint is not None
            checkpoint.found = state = None  # free what the network has now
        is_done = training.run()
    if checkpoint is not None and is_done:
        checkpoint.save(model, clf, training.history, None)
    of_checkpoint = None if checkpoint is None else checkpoint.run
    return model, training.history, None if is_done else of_checkpoint


def draw_seed(clf: Any, checkpoint: Checkpoint | None) -> int:
    """Draw the seed of a fit: that of the run which goes on, where `random_state` does not say."""
    seed = int(check_random_state(clf.random_state).randint(np.iinfo(np.int32).max))
    if checkpoint is None or checkpoint.found is None or isinstance(clf.random_state, Integral):
        return seed
    return int(checkpoint.found.run["seed"])


def find_stopped_run(clf: Any, checkpoint: Checkpoint | None) -> Found | None:
    """The run of the checkpoint, if Ctrl-C stopped `clf` in it: it goes on from there.

    Such a classifier is fitted, but that is not what its warm start is to go on with.
    """
    found = None if checkpoint is None else checkpoint.found
    is_its = found is not None and found.run == getattr(clf, "_stopped_run", None)
    return found if is_its else None


def previous_model(clf: Any) -> Model | None:
    """The model that a warm start goes on with, read once; None to start anew."""
    if not (clf.warm_start and hasattr(clf, "network_")):
        return None
    return cast(Model, clf._snapshot()._model)


def check_same_network(clf: Any, model: Model) -> None:
    """Check that a warm start is not asked to change what the model was built with."""
    settings, clusterer = model.network.settings, model.clusterer
    now = {"n_feature_layers": clf.n_feature_layers}
    before = {"n_feature_layers": settings["n_feature_layers"]}
    if not model.network.direct:
        now["bottleneck_dim"] = clf.bottleneck_dim
        before["bottleneck_dim"] = settings["bottleneck_dim"]
    asked = BalancedLabelClusterer() if clf.clusterer is None else clf.clusterer
    for name, value in asked.get_params().items():
        if name not in ("n_jobs", "random_state"):
            now[f"clusterer__{name}"] = value
            before[f"clusterer__{name}"] = getattr(clusterer, name)
    for name, value in now.items():
        if value != before[name]:
            raise ValueError(
                f"{name} is {value!r}, but warm_start=True goes on with a model that was built "
                f"with {before[name]!r}. Set that back, or set warm_start=False to start anew."
            )


def labels_of_previous_fit(labels: Labels, classes: np.ndarray, *, by_name: bool) -> Labels:
    """The labels of a warm start on the columns of `classes`, where names say which those are."""
    if np.array_equal(classes, labels.classes):
        return labels
    known = set(classes.tolist())
    new = [label for label in labels.classes.tolist() if label not in known]
    if by_name and not new:
        return align_labels(labels, classes)
    fault = f"{new[0]!r} is new" if by_name else f"y has {len(labels.classes)} unnamed columns"
    raise ValueError(
        f"warm_start=True needs the labels of the previous fit, of which there are {len(classes)}, "
        f"but {fault}. Pass collections of those labels, or a matrix with label_names; or set "
        "warm_start=False to start anew."
    )


def describe_run(clf: Any, seed: int, device: torch.device, data: dict[str, Any]) -> dict[str, Any]:
    """All that decides what a fit learns, for `Checkpoint.identify`: parameters, seed, data.

    And the kind of device: on a CPU, other weights have sparse gradients, and so other moments.
    """
    params = plain_params(clf)
    run = {name: value for name, value in params.items() if name not in NOT_LEARNED}
    hashes = {f"{HASHED}{name}": joblib_hash(value) for name, value in data.items()}
    return {**run, "seed": seed, "device": device.type, **hashes}


def build_model(
    clf: Any,
    train: tuple[list[str], sp.csr_array],
    classes: np.ndarray,
    features: Any,
    seed: int,
    generator: torch.Generator,
) -> Model:
    """Load the encoder, cluster the labels and make a network of both, on the CPU."""
    texts, y = train
    if features is not None:
        n_rows = check_features(features, "label_features").shape[0]
        if n_rows != len(classes):
            raise ValueError(
                f"label_features has {n_rows} rows, but there are {len(classes)} labels; it "
                "needs one row for each label, in the order of classes_."
            )
    tokenizer, encoder = load_encoder(clf.encoder)
    n_layers = int(clf.n_feature_layers)
    check_states(encoder, n_layers, name=clf.encoder)
    check_representations(encoder.eval(), tokenizer, n_layers, name=clf.encoder)
    clusterer = BalancedLabelClusterer() if clf.clusterer is None else clone(clf.clusterer)
    if clusterer.random_state is None:
        clusterer.random_state = seed
    if clusterer.n_jobs is None:
        clusterer.n_jobs = clf.n_jobs
    clusterer = cached_clusters(check_memory(clf.memory), texts, y, features, clusterer)
    network = LightXMLNetwork(
        encoder,
        clusterer.labels_,
        n_feature_layers=n_layers,
        bottleneck_dim=int(clf.bottleneck_dim),
        dropout=0.0,  # not known yet
    )
    if network.direct and len(classes) > 1 and clf.bottleneck_dim != DEFAULT_BOTTLENECK_DIM:
        warn_user(
            f"bottleneck_dim={clf.bottleneck_dim} has no effect in the direct mode, in which each "
            "label is a cluster of its own. For two stages, set "
            "clusterer=BalancedLabelClusterer(max_cluster_size=16), or another size above 1.",
        )
    if clf.head_init == "random":
        start_at_random(network, generator)
    else:
        start_at_priors(network, y, generator)
    return Model(network, tokenizer, clusterer, classes)


def make_validator(
    clf: Any, model: Model, tokens: TokenStore, labels: Labels, device: torch.device
) -> Callable[[LightXMLNetwork], float]:
    """Build a function that measures P@5 of a network on the held-out part."""
    k = min(5, len(model.classes))

    def validate(network: LightXMLNetwork) -> float:
        predictor = make_predictor(clf, model._replace(network=network), device)
        return precision_at_k(labels.matrix, TopK(*predictor.top_k_of_tokens(tokens, k)), k=k)

    return validate


def make_predictor(
    clf: Any, model: Model, device: torch.device, precision: str | None = None
) -> Predictor:
    """Make ready to predict on `device`, where the network is moved to if need be."""
    precision = precision or clf.prediction_precision or clf.precision
    dtype = resolve_precision(precision, device)
    check_length(model.network.encoder, model.tokenizer, clf.max_length, name=clf.encoder)
    return Predictor(
        network=serving_copy(model.network, dtype, device),
        tokenizer=model.tokenizer,
        max_length=int(clf.max_length),
        n_candidate_clusters=n_candidate_clusters(clf, model.network),
        batch_size=int(clf.prediction_batch_size),
        device=device,
        dtype=dtype,
    )


def training_settings(
    clf: Any, network: LightXMLNetwork, device: torch.device, max_epochs: int
) -> TrainingSettings:
    """The parameters of training, with numbers for "auto"."""
    rate, head_rate = clf.learning_rate, clf.head_learning_rate
    if rate == "auto":
        rate = AUTO_RATE_BY_WIDTH / network.encoder.config.hidden_size
    return TrainingSettings(
        max_epochs=max_epochs,
        batch_size=int(clf.batch_size),
        learning_rate=float(rate),
        head_learning_rate=float(rate if head_rate is None else head_rate),
        weight_decay=clf.weight_decay,
        warmup_fraction=clf.warmup_fraction,
        lr_schedule=clf.lr_schedule,
        max_grad_norm=clf.max_grad_norm,
        loss_reduction=clf.loss_reduction,
        n_candidate_clusters=n_candidate_clusters(clf, network),
        dtype=resolve_precision(clf.precision, device),
        label_moments=clf.label_moments,
        swa_start=clf.swa_start,
        swa_every=clf.swa_every,
        n_iter_no_change=clf.n_iter_no_change if clf.early_stopping else None,
        verbose=clf.verbose,
    )


def auto_epochs(n_texts: int) -> int:
    """Epochs of max_epochs="auto"."""
    return min(max(round(math.sqrt(AUTO_TEXTS / n_texts)), 1), MOST_AUTO_EPOCHS)


def dropout_rates(clf: Any, max_epochs: int) -> tuple[float, float | None]:
    """Rates of `dropout` and `encoder_dropout`, with numbers for "auto"."""
    many = max_epochs >= MANY_EPOCHS
    dropout, of_encoder = clf.dropout, clf.encoder_dropout
    if dropout == "auto":
        dropout = 0.5 if many else 0.3
    if of_encoder == "auto":
        of_encoder = None if many else 0.0
    return float(dropout), None if of_encoder is None else float(of_encoder)


def n_candidate_clusters(clf: Any, network: LightXMLNetwork) -> int:
    """b, at most the number of clusters there are."""
    layout = network.layout
    wanted = clf.n_candidate_clusters
    if wanted == "auto":
        wanted = math.ceil(AUTO_CANDIDATE_LABELS / layout.max_size)
    return min(int(wanted), layout.n_clusters)
