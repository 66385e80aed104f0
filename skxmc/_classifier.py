"""LightXMLClassifier: parameters, checks, fit and predict."""

from __future__ import annotations

import math
import warnings
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context, clone
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted, check_memory

from ._clusterer import BalancedLabelClusterer
from ._device import local_seed, resolve_device, resolve_precision
from ._encoder import load_encoder, longest_input, use_fast_attention
from ._inference import Predictor
from ._initialization import initialize_heads
from ._network import LightXMLNetwork
from ._persistence import network_from_state, network_state
from ._preparation import cluster_labels, tokenize_by_name
from ._topk import TopK
from ._training import Trainer, TrainingSet, TrainingSettings
from ._validation import Labels, check_labels, check_texts
from .metrics import precision_at_k

# n_candidate_clusters="auto" recalls clusters until they hold about this many labels.
AUTO_CANDIDATE_LABELS = 2000


class LightXMLClassifier(ClassifierMixin, BaseEstimator):
    _parameter_constraints: dict[str, list[Any]] = {
        "encoder": [str],
        "max_length": [Interval(Integral, 2, None, closed="left")],
        "n_feature_layers": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "clusterer": [HasMethods(["fit", "get_params"]), None],
        "n_candidate_clusters": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "bottleneck_dim": [Interval(Integral, 1, None, closed="left")],
        "negative_sampling": [StrOptions({"dynamic"})],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "prediction_batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="left")],
        "head_learning_rate": [Interval(Real, 0, None, closed="left"), None],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "warmup_fraction": [Interval(Real, 0, 1, closed="both")],
        "lr_schedule": [StrOptions({"linear", "cosine", "constant"})],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
        "swa_start": [Interval(Integral, 0, None, closed="left"), None],
        "swa_every": [Interval(Integral, 1, None, closed="left")],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "precision": [StrOptions({"auto", "fp32", "bf16", "fp16"})],
        "device": [str],
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "memory": [str, HasMethods(["cache"]), None],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        encoder: str = "bert-base-uncased",
        *,
        max_length: int = 128,
        n_feature_layers: int = 5,
        dropout: float = 0.5,
        clusterer: BalancedLabelClusterer | None = None,
        n_candidate_clusters: int | str = "auto",
        bottleneck_dim: int = 256,
        negative_sampling: str = "dynamic",
        max_epochs: int = 5,
        batch_size: int = 32,
        prediction_batch_size: int = 64,
        learning_rate: float = 1e-4,
        head_learning_rate: float | None = 1e-3,
        weight_decay: float = 0.01,
        warmup_fraction: float = 0.1,
        lr_schedule: str = "linear",
        max_grad_norm: float | None = None,
        swa_start: int | None = None,
        swa_every: int = 10,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 3,
        precision: str = "auto",
        device: str = "auto",
        threshold: float = 0.5,
        memory: Any = None,
        warm_start: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.encoder = encoder
        self.max_length = max_length
        self.n_feature_layers = n_feature_layers
        self.dropout = dropout
        self.clusterer = clusterer
        self.n_candidate_clusters = n_candidate_clusters
        self.bottleneck_dim = bottleneck_dim
        self.negative_sampling = negative_sampling
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.prediction_batch_size = prediction_batch_size
        self.learning_rate = learning_rate
        self.head_learning_rate = head_learning_rate
        self.weight_decay = weight_decay
        self.warmup_fraction = warmup_fraction
        self.lr_schedule = lr_schedule
        self.max_grad_norm = max_grad_norm
        self.swa_start = swa_start
        self.swa_every = swa_every
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.precision = precision
        self.device = device
        self.threshold = threshold
        self.memory = memory
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    # ------------------------------------------------------------------ fit

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        label_names: Any = None,
        label_features: Any = None,
        validation_data: tuple[Any, Any] | None = None,
    ) -> LightXMLClassifier:
        texts = check_texts(X)
        labels = check_labels(
            y, label_names=label_names, n_texts=len(texts), require_positive=True
        )
        device = resolve_device(self.device)
        random_state = check_random_state(self.random_state)
        seed = int(random_state.randint(np.iinfo(np.int32).max))
        train, held_out = self._split(texts, labels, validation_data, seed)
        with local_seed(seed, device):
            if not (self.warm_start and hasattr(self, "network_")):
                self._build(train, labels.classes, label_features, device, seed)
            elif not np.array_equal(self.classes_, labels.classes):
                raise ValueError(
                    "warm_start=True needs the labels of the previous fit, in the same order: "
                    f"that had {len(self.classes_)} labels, this one has {len(labels.classes)}, "
                    "or other names. Set warm_start=False to start anew."
                )
            self._train(train, held_out, device, seed)
        return self

    def _split(
        self, texts: list[str], labels: Labels, validation_data: Any, seed: int
    ) -> tuple[tuple[list[str], sp.csr_array], tuple[list[str], Labels] | None]:
        """Part texts and labels to train on from those to validate with."""
        if validation_data is not None:
            if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
                raise ValueError("validation_data is a pair (X, y) of texts and their labels.")
            held_out = check_texts(validation_data[0], name="validation_data[0]")
            held_out_labels = check_labels(
                validation_data[1],
                name="validation_data[1]",
                classes=labels.classes,
                n_texts=len(held_out),
            )
            return (texts, labels.matrix), (held_out, held_out_labels)
        if not self.early_stopping:
            return (texts, labels.matrix), None
        order = np.random.default_rng(seed).permutation(len(texts))
        n_held_out = math.ceil(self.validation_fraction * len(texts))
        if n_held_out == len(texts):
            raise ValueError(
                f"validation_fraction={self.validation_fraction} of {len(texts)} texts leaves none "
                "to train on. Lower it, give more texts, or set early_stopping=False."
            )
        valid, train = np.sort(order[:n_held_out]), np.sort(order[n_held_out:])
        if labels.matrix[train].nnz == 0:
            raise ValueError(
                "No text of the training part has a label. Lower validation_fraction, give more "
                "labelled texts, or set early_stopping=False."
            )
        return (
            ([texts[i] for i in train], labels.matrix[train]),
            ([texts[i] for i in valid], Labels(labels.matrix[valid], *labels[1:])),
        )

    def _build(
        self,
        train: tuple[list[str], sp.csr_array],
        classes: np.ndarray,
        features: Any,
        device: torch.device,
        seed: int,
    ) -> None:
        """Load the encoder, cluster the labels, start the heads."""
        texts, y = train
        if features is not None and features.shape[0] != len(classes):
            raise ValueError(
                f"label_features has {features.shape[0]} rows, but there are {len(classes)} "
                "labels; it needs one row for each label, in the order of classes_."
            )
        tokenizer, encoder = load_encoder(self.encoder)
        self._check_encoder(encoder, tokenizer)
        clusterer = BalancedLabelClusterer() if self.clusterer is None else self.clusterer
        clusterer = clone(clusterer)
        given = clusterer.get_params()
        if given.get("random_state", 0) is None:
            clusterer.set_params(random_state=seed)
        if given.get("n_jobs", 0) is None:
            clusterer.set_params(n_jobs=self.n_jobs)
        self.clusterer_ = cached_clusters(check_memory(self.memory), texts, y, features, clusterer)
        network = LightXMLNetwork(
            encoder,
            self.clusterer_.labels_,
            n_feature_layers=self.n_feature_layers,
            bottleneck_dim=self.bottleneck_dim,
            dropout=self.dropout,
        )
        self.network_ = network
        self.tokenizer_ = tokenizer
        self.classes_ = classes
        self.n_labels_ = len(classes)

    def _check_encoder(self, encoder: Any, tokenizer: Any) -> None:
        n_states = encoder.config.num_hidden_layers + 1
        if self.n_feature_layers > n_states:
            raise ValueError(
                f"n_feature_layers={self.n_feature_layers}, but {self.encoder!r} has only "
                f"{n_states} hidden states. Lower it."
            )
        longest = longest_input(encoder, tokenizer)
        if self.max_length > longest:
            raise ValueError(
                f"max_length={self.max_length}, but {self.encoder!r} takes at most {longest} "
                "tokens. Lower it."
            )

    def _train(
        self,
        train: tuple[list[str], sp.csr_array],
        held_out: tuple[list[str], Labels] | None,
        device: torch.device,
        seed: int,
    ) -> None:
        """Train the network on the device and note what came of it."""
        memory = check_memory(self.memory)
        tokens = cached_tokens(memory, self.tokenizer_, train[0], self.max_length)
        self.network_.to(device)
        use_fast_attention(self.network_.encoder, device)
        dtype = resolve_precision(self.precision, device)
        validate = None
        if held_out is not None:
            held_out_tokens = cached_tokens(
                memory, self.tokenizer_, held_out[0], self.max_length
            )
            k = min(5, self.n_labels_)

            def validate(network: LightXMLNetwork) -> float:
                top_k = self._predictor(network, device).top_k_of_tokens(held_out_tokens, k)
                return precision_at_k(held_out[1].matrix, TopK(*top_k), k=k)

        settings = TrainingSettings(
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            head_learning_rate=(
                self.learning_rate if self.head_learning_rate is None else self.head_learning_rate
            ),
            weight_decay=self.weight_decay,
            warmup_fraction=self.warmup_fraction,
            lr_schedule=self.lr_schedule,
            max_grad_norm=self.max_grad_norm,
            n_candidate_clusters=self._n_candidate_clusters(self.network_),
            dtype=dtype,
            swa_start=self.swa_start,
            swa_every=self.swa_every,
            n_iter_no_change=self.n_iter_no_change if self.early_stopping else None,
            verbose=self.verbose,
        )
        data = TrainingSet(tokens, train[1], device)
        trainer = Trainer(
            self.network_, data, settings, np.random.default_rng(seed), validate
        )
        self.history_ = trainer.run()
        self.n_iter_ = len(self.history_)

    def _n_candidate_clusters(self, network: LightXMLNetwork) -> int:
        """b, at most the number of clusters there are."""
        layout = network.layout
        wanted = self.n_candidate_clusters
        if wanted == "auto":
            wanted = math.ceil(AUTO_CANDIDATE_LABELS / layout.max_size)
        return min(int(wanted), layout.n_clusters)

    # ------------------------------------------------------------------ predict

    def predict_topk(self, X: Any, k: int = 5) -> TopK:
        check_is_fitted(self)
        columns, scores = self._predictor().top_k(
            check_texts(X, allow_empty=True), self._check_k(k)
        )
        return TopK(self.classes_[columns], scores)

    def decision_function(self, X: Any, *, top_k: int | None = None) -> sp.csr_matrix:
        check_is_fitted(self)
        if top_k is not None:
            top_k = self._check_k(top_k, "top_k")
        return self._predictor().scores(check_texts(X, allow_empty=True), top_k)

    def predict_proba(self, X: Any) -> sp.csr_matrix:
        return self.decision_function(X)

    def predict(self, X: Any) -> sp.csr_matrix:
        scores = self.decision_function(X)
        predicted = scores >= self.threshold if self.threshold > 0 else scores > 0
        return sp.csr_matrix(predicted, dtype=np.int64)

    def score(self, X: Any, y: Any) -> float:
        return precision_at_k(y, self.predict_topk(X, k=1), k=1, classes=self.classes_)

    def encode(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return self._predictor().features(check_texts(X, allow_empty=True))

    def _check_k(self, k: Any, name: str = "k") -> int:
        if not isinstance(k, Integral) or isinstance(k, bool) or k < 1:
            raise ValueError(f"{name}={k!r} is not a positive whole number of labels.")
        if k > self.n_labels_:
            raise ValueError(
                f"{name}={k}, but the model knows only {self.n_labels_} labels. Lower it."
            )
        return int(k)

    def _predictor(
        self, network: LightXMLNetwork | None = None, device: torch.device | None = None
    ) -> Predictor:
        network = self.network_ if network is None else network
        device = self._prediction_device() if device is None else device
        return Predictor(
            network=network.to(device).eval(),
            tokenizer=self.tokenizer_,
            max_length=self.max_length,
            n_candidate_clusters=self._n_candidate_clusters(network),
            batch_size=self.prediction_batch_size,
            device=device,
            dtype=resolve_precision(self.precision, device),
        )

    def _prediction_device(self) -> torch.device:
        """The device asked for, or the CPU where a model of a GPU was brought to a lesser machine."""
        try:
            return resolve_device(self.device)
        except ValueError as error:
            warnings.warn(f"{error} Going on with the CPU.", RuntimeWarning, stacklevel=3)
            return torch.device("cpu")

    # ------------------------------------------------------------------ sklearn

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.target_tags.two_d_labels = True
        tags.target_tags.single_output = False
        tags.target_tags.multi_output = False  # that one means multiclass-multioutput
        tags.classifier_tags.multi_label = True
        tags.classifier_tags.multi_class = False
        return tags

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if "network_" in state:
            state = {**state, "network_": network_state(state["network_"])}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "network_" in state:
            state = {**state, "network_": network_from_state(state["network_"])}
        super().__setstate__(state)
