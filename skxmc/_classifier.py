"""LightXMLClassifier: parameters, checks, fit and predict."""

from __future__ import annotations

import os
from numbers import Integral, Real
from typing import Any, cast

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator, ClassifierMixin, _fit_context
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from skxmc._base import TextRankerMixin
from skxmc._clusterer import BalancedLabelClusterer
from skxmc._inference.explain import explain
from skxmc._inference.explanation import TopKExplanation
from skxmc._inference.low_precision import serving_copy
from skxmc._inference.predictor import Predictor, check_scores
from skxmc._input.split import split_texts
from skxmc._input.validation import check_labels, check_texts, names_labels
from skxmc._model.device import resolve_device, resolve_precision, with_advice_on_memory
from skxmc._model.encoder_check import check_length
from skxmc._model.fitted import Model
from skxmc._model.seeds import local_seed
from skxmc._storage.pickling import current_params, network_from_state, network_state
from skxmc._storage.pretrained import load_model, save_model
from skxmc._training.build import prepare_model
from skxmc._training.phases import Training
from skxmc._training.resume import check_warm_start, draw_seed, open_checkpoint
from skxmc._training.settings import (
    DEFAULT_BOTTLENECK_DIM,
    resolve_candidate_clusters,
    resolve_settings,
)
from skxmc._utils.warnings import warn_user


class LightXMLClassifier(TextRankerMixin, ClassifierMixin, BaseEstimator):
    r"""Extreme multi-label text classifier: LightXML, end to end from raw text.

    A transformer represents the text; a generator recalls clusters of labels; a discriminator
    ranks the labels in them, trained against the negatives that the current generator recalls
    [1]_. Label sets of thousands to millions of labels are its field.

    Parameters
    ----------
    encoder : str, default="bert-base-uncased"
        Hub id or local directory of a Hugging Face encoder with a [CLS] token: BERT, RoBERTa,
        XLNet, DistilBERT, MiniLM, DeBERTa, ELECTRA, ModernBERT and others.
        ``"sentence-transformers/all-MiniLM-L6-v2"`` is found without network where the extra
        ``[demo]`` is installed.
    max_length : int, default=128
        Tokens, special ones included; longer texts are truncated.
    n_feature_layers : int, default=5
        How many last hidden layers give their [CLS] state to the representation e.
    dropout : float or "auto", default="auto"
        Share of e that is dropped in training. "auto" is the paper's 0.5 from five epochs on, and
        0.3 where they are fewer: then there is less to fear from overfitting than from learning
        slowly.
    encoder_dropout : float, None or "auto", default="auto"
        Rate of the dropout inside the encoder, None for the one it comes with (mostly 0.1). "auto"
        is None from five epochs on, and 0, which is faster, too, where they are fewer.
    clusterer : BalancedLabelClusterer, default=None
        Groups the labels; None means one with its defaults. Pass ``BalancedLabelClusterer()`` to
        search over ``clusterer__max_cluster_size``. With clusters of one label (the direct mode)
        the generator scores labels and there is no ranking.
    n_candidate_clusters : int or "auto", default="auto"
        The paper's b: clusters recalled for each text, whose labels are ranked. "auto" recalls
        about 2,000 labels; more clusters than there are is clipped.
    bottleneck_dim : int, default=256
        Dimension of the label embeddings. No effect in the direct mode.
    negative_sampling : {"dynamic", "static", "static-separate"}, default="dynamic"
        Which negatives the ranking learns from. "dynamic": those that the current generator
        recalls, both heads being trained together. "static" (S of table 5): `max_epochs` epochs of
        recall, as many of ranking against what the trained generator recalls once, and as many in
        which the generator follows the encoder, which stays as it is then. "static-separate" (BS):
        the first two, with a copy of the encoder for the ranking, which then takes twice the time
        in prediction. No effect in the direct mode.
    head_init : {"centroids", "priors", "random"}, default="centroids"
        Where the heads start: at the centroids of the labels' texts, as the untrained encoder
        represents them (one forward pass more), with biases at the log priors; at random weights
        with these biases; or at random weights and biases of 0, as in the paper.
    max_epochs : int or "auto", default="auto"
        Passes over the training texts. "auto" is the root of 600,000 / texts, rounded, from 1 to
        10: 10 for 5,000 texts, 5 for 20,000, 2 for 200,000, 1 from 270,000 on.
    batch_size : int, default=32
        Texts a training step.
    prediction_batch_size : int, default=64
        Texts a prediction step. Predictions do not depend on it.
    learning_rate : float or "auto", default="auto"
        Peak rate of the encoder. "auto" is 1e-4 for one of width 768, such as BERT-base, and falls
        with the width: 2e-4 for MiniLM, of width 384.
    head_learning_rate : float or None, default=2e-3
        Peak rate of everything after the encoder, which starts with nothing learned; None means
        `learning_rate`, as in the paper.
    weight_decay : float, default=0.01
        On all weights but biases and layer norms.
    warmup_fraction : float, default=0.1
        Share of all steps in which the rates rise from 0.
    lr_schedule : {"linear", "cosine", "constant"}, default="linear"
        How the rates fall to 0 after the warm-up, or that they do not.
    max_grad_norm : float or None, default=None
        Norm that the gradient of all weights together is clipped to. Losses are sums over labels,
        so norms of hundreds are usual; Adam does not mind.
    swa_start : int or None, default=None
        Epoch, counted from 0, from which weights are averaged (stochastic weight averaging). For
        ``lr_schedule="constant"``; a falling rate has the same effect. None: off.
    swa_every : int, default=10
        Steps from one averaging to the next.
    early_stopping : bool, default=False
        Hold out part of the training texts, measure P@5 on it after each epoch, stop when it has
        not risen for `n_iter_no_change` epochs, and keep the best weights. With static
        negatives it is measured in the epochs of ranking; with "static" the generator is behind the
        encoder in them.
    validation_fraction : float, default=0.1
        Share that is held out.
    n_iter_no_change : int, default=3
        Epochs without gain before training stops.
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}, default="auto"
        Precision of matrix products; weights stay in fp32. "auto" is bf16 if the device computes
        it fast, else fp32. You can set another precision for prediction after `fit`. "int8"
        quantizes the linear layers in prediction, on a CPU only, and trains like "auto". Scores
        then depend a little on the other texts of the batch.
    device : str, default="auto"
        "cuda", "cuda:1", "mps", "cpu"; "auto" is a GPU where there is one.
    threshold : float, default=0.5
        Score from which `predict` takes a label.
    memory : str, joblib.Memory or None, default=None
        Where tokenised texts and label clusters are cached, so that a search over other
        parameters pays for them once; for clusters, `random_state` must be a number.
    checkpoint_dir : str, path or None, default=None
        Folder in which training keeps what it takes to go on after a crash: call `fit` again with
        the same data and parameters, on a device of the same kind. On the CPU the result is the
        same to the bit. It belongs to
        one fit; when that is done it holds the model, which another such call returns at once.
    checkpoint_every : int, default=1000
        Steps from one checkpoint to the next; there is one after each epoch, too. Each takes the
        disk space of three models, as it holds the moments of AdamW; of half as much above
        100 million entries of label embeddings, and of one model more each with averaging and with
        early stopping.
    warm_start : bool, default=False
        Go on from the weights of the previous fit instead of starting anew. Training has a copy
        of them: until `fit` returns, memory holds both, and predictions are by the old ones. What
        the model was built with stays: other `n_feature_layers`, `bottleneck_dim` or `clusterer`
        are refused; `encoder`, `head_init` and `label_features` have no effect.
    random_state : int, RandomState instance or None, default=None
        Draws batches, dropout, clusters and the held-out part. The same seed, data and machine
        give the same model, on a GPU up to the order of summation.
    n_jobs : int or None, default=None
        Threads of the clusterer, where its own `n_jobs` is None.
    verbose : int, default=0
        1 shows a progress bar with the loss and, where there is a validation part, its P@5.

    Attributes
    ----------
    classes_ : ndarray of shape (n_labels,)
        Name or number of each label.
    clusterer_ : BalancedLabelClusterer
        The fitted clusterer; its ``labels_`` are the clusters in use.
    network_ : torch.nn.Module
        The trained network.
    tokenizer_ : tokenizer
        The encoder's.
    history_ : list of dict
        One for each epoch: ``epoch``, ``objective`` ("both"; "recall" or "rank" with static
        negatives), ``loss``, ``recall_loss``, ``rank_loss``, ``learning_rate``, ``n_steps``,
        ``seconds`` of the training steps, and ``valid_p_at_5`` where there is a validation part.
    n_iter_ : int
        Epochs run.
    n_labels_ : int
        Number of labels.

    See Also
    --------
    BalancedLabelClusterer : Groups the labels.
    skxmc.predict_topk : Predicts through pipelines and searches.
    skxmc.metrics.precision_at_k_scorer : Scorer for searches.

    Notes
    -----
    The generator scores the cluster k(l) of a label l, the discriminator the label itself, and the
    score of the label is their product; in the direct mode it is the generator's alone:

    .. math::
        \hat y_l = \sigma(W_g e' + b_g)_{k(l)} \; \sigma(E_l \cdot (W_h e' + b_h) + c_l)

    This is section "Methodology" of the paper, but for the biases c; for the sigmoid of the
    bottleneck in equation 4, which is left out; and for e', which is e less its mean over training
    texts where the heads start at centroids. By default the loss is that of equation 6. Where the
    recalled clusters hold fewer labels than are asked for, more are recalled.

    References
    ----------
    .. [1] T. Jiang, D. Wang, L. Sun, H. Yang, Z. Zhao, F. Zhuang, "LightXML: Transformer with
       Dynamic Negative Sampling for High-Performance Extreme Multi-label Text Classification",
       AAAI 2021.

    Examples
    --------
    >>> from skxmc import LightXMLClassifier
    >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
    >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
    >>> clf = LightXMLClassifier(
    ...     "sentence-transformers/all-MiniLM-L6-v2", max_epochs=1, random_state=0
    ... )
    >>> top = clf.fit(texts, tags).predict_topk(["shares and bonds"], k=2)
    >>> top.labels.shape, top.scores.shape
    ((1, 2), (1, 2))
    """

    _parameter_constraints: dict[str, list[Any]] = {
        "encoder": [str],
        "max_length": [Interval(Integral, 2, None, closed="left")],
        "n_feature_layers": [Interval(Integral, 1, None, closed="left")],
        "dropout": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
        "encoder_dropout": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left"), None],
        "clusterer": [BalancedLabelClusterer, None],
        "n_candidate_clusters": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "bottleneck_dim": [Interval(Integral, 1, None, closed="left")],
        "negative_sampling": [StrOptions({"dynamic", "static", "static-separate"})],
        "head_init": [StrOptions({"centroids", "priors", "random"})],
        "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "prediction_batch_size": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
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
        "precision": [StrOptions({"auto", "fp32", "bf16", "fp16", "int8"})],
        "device": [str],
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "memory": [str, HasMethods(["cache"]), None],
        "checkpoint_dir": [str, os.PathLike, None],
        "checkpoint_every": [Interval(Integral, 1, None, closed="left")],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "n_jobs": [
            Interval(Integral, None, -1, closed="right"),
            Interval(Integral, 1, None, closed="left"),
            None,
        ],
        "verbose": ["verbose"],
    }

    _prediction_params = (
        "max_length",
        "n_candidate_clusters",
        "prediction_batch_size",
        "precision",
        "device",
        "threshold",
    )

    # Description of the run in which Ctrl-C has stopped this classifier, if it has a checkpoint.
    _stopped_run: dict[str, Any] | None = None

    def __init__(
        self,
        encoder: str = "bert-base-uncased",
        *,
        max_length: int = 128,
        n_feature_layers: int = 5,
        dropout: float | str = "auto",
        encoder_dropout: float | str | None = "auto",
        clusterer: BalancedLabelClusterer | None = None,
        n_candidate_clusters: int | str = "auto",
        bottleneck_dim: int = DEFAULT_BOTTLENECK_DIM,
        negative_sampling: str = "dynamic",
        head_init: str = "centroids",
        max_epochs: int | str = "auto",
        batch_size: int = 32,
        prediction_batch_size: int = 64,
        learning_rate: float | str = "auto",
        head_learning_rate: float | None = 2e-3,
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
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_every: int = 1000,
        warm_start: bool = False,
        random_state: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.encoder = encoder
        self.max_length = max_length
        self.n_feature_layers = n_feature_layers
        self.dropout = dropout
        self.encoder_dropout = encoder_dropout
        self.clusterer = clusterer
        self.n_candidate_clusters = n_candidate_clusters
        self.bottleneck_dim = bottleneck_dim
        self.negative_sampling = negative_sampling
        self.head_init = head_init
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
        self.checkpoint_dir = checkpoint_dir
        self.checkpoint_every = checkpoint_every
        self.warm_start = warm_start
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose

    # ------------------------------------------------------------------ fit

    @_fit_context(prefer_skip_nested_validation=False)
    @with_advice_on_memory
    def fit(
        self,
        X: Any,
        y: Any,
        *,
        label_names: Any = None,
        label_texts: Any = None,
        label_features: Any = None,
        validation_data: tuple[Any, Any] | None = None,
    ) -> LightXMLClassifier:
        """Train on texts and their labels.

        Parameters
        ----------
        X : list, tuple, ndarray, or column of pandas, polars or PyArrow, of str, of length n_texts
            Raw texts. Empty ones are legal.
        y : sparse matrix, array, frame, or sequence of label collections
            The labels of each text: a scipy sparse matrix or array or a dense array of 0 and 1,
            of shape (n_texts, n_labels); a frame of such columns, whose names become `classes_`;
            or a list of collections of labels such as ``[["tax", "law"], []]``, whose sorted
            labels become `classes_`. Nested lists are always collections.
        label_names : array-like of shape (n_labels,), default=None
            Names of the columns of a matrix, which become `classes_`; numbers by default.
        label_texts : array-like of shape (n_labels,), of str or None, default=None
            What is written about each label, such as its name, in the order of `classes_`; None
            or "" where nothing is. Each is one more training text, whose only label is that
            label, so that it has a part in where the heads start, and counts in
            ``max_epochs="auto"``.
        label_features : sparse or dense matrix of shape (n_labels, d), default=None
            What labels are clustered by, instead of the TF-IDF features of their texts.
        validation_data : tuple (X, y), default=None
            Measured after each epoch, and what early stopping goes by, instead of a held-out
            part of X.

        Returns
        -------
        LightXMLClassifier
            The estimator itself.

        Raises
        ------
        ValueError
            If texts or labels are not what they must be, if lengths differ, if a parameter is
            out of range, or if encoder or device are not there. The message says what to do.
        TypeError
            If texts or labels are of a type that cannot stand for them.
        torch.OutOfMemoryError
            If the device is too small; the message says what to lower. The classifier is what it
            was before.
        OSError
            If a checkpoint cannot be written; the one before is still there.

        Warns
        -----
        UserWarning
            If training was interrupted by Ctrl-C; the classifier is fitted with what it has
            learned by then.
        """
        # Check texts and labels. A warm start keeps the columns of the previous fit.
        texts = check_texts(X)
        labels = check_labels(y, label_names=label_names, n_texts=len(texts), require_positive=True)
        params, previous = self.get_params(deep=False), self._previous_model()
        if previous is not None:
            by_name = label_names is not None or names_labels(y)
            labels = check_warm_start(params, previous, labels, by_name=by_name)

        # Open the run: a checkpoint, or one that keeps nothing.
        checkpoint = open_checkpoint(params)
        seed = draw_seed(self.random_state, checkpoint)

        # Hold texts out, add the texts of labels, and resolve the parameters.
        fraction = self.validation_fraction if self.early_stopping else None
        data = split_texts(texts, labels, label_texts, validation_data, fraction, seed)
        settings = resolve_settings(params, n_texts=len(data.texts), seed=seed)

        # Refuse the checkpoint of another run. Return a run that is done.
        given = {"texts": texts, "labels": labels, "validation_data": data.held_out}
        given |= {"label_texts": label_texts, "label_features": label_features}
        values = {"seed": seed, "device": settings.device.type}
        checkpoint.identify(values, given, previous, self._stopped_run)
        if checkpoint.found is not None and checkpoint.found.state is None:
            return self._adopt(checkpoint.found.model, checkpoint.found.history)

        # Build the model or resume it, and train it in phases.
        with local_seed(seed, settings.device), torch.inference_mode(False), torch.enable_grad():
            generator = torch.Generator().manual_seed(seed)
            model, tokens = prepare_model(
                checkpoint.found, previous, data, label_features, settings, generator
            )
            training = Training(model, tokens, data, settings, checkpoint, generator)
            is_done = training.run()

        # Set the fitted attributes, all at once.
        return self._adopt(model, training.history, None if is_done else checkpoint.run)

    def _previous_model(self) -> Model | None:
        """The model that a warm start goes on with; None to start anew."""
        if not (self.warm_start and hasattr(self, "network_")):
            return None
        return cast(Model, self._snapshot()._model)

    @property
    def _model(self) -> Model:
        return Model(self.network_, self.tokenizer_, self.clusterer_, self.classes_)

    def _adopt(
        self,
        model: Model,
        history: list[dict[str, Any]],
        stopped_run: dict[str, Any] | None = None,
    ) -> LightXMLClassifier:
        """Set all fitted attributes in one step."""
        fitted = {f"{name}_": value for name, value in model._asdict().items()}
        fitted |= {"n_labels_": len(model.classes), "history_": history, "n_iter_": len(history)}
        self._become({**fitted, "_stopped_run": stopped_run})
        return self

    # ------------------------------------------------------------------ predict

    def _top_k(self, texts: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        columns, scores = self._predictor().top_k(texts, k)
        check_scores(scores)
        return columns, scores

    def _scores(
        self, texts: list[str], *, top_k: int | None = None, min_score: float = 0.0
    ) -> sp.csr_matrix:
        return self._predictor().scores(texts, top_k=top_k, min_score=min_score)

    def encode(self, X: Any) -> np.ndarray:
        """Represent texts by e, the [CLS] states of the last layers, the last layer first.

        Parameters
        ----------
        X : list, tuple, ndarray, or column of pandas, polars or PyArrow, of str, of length n_texts
            Raw texts.

        Returns
        -------
        ndarray of shape (n_texts, n_feature_layers * hidden), float32
            The e of the paper (section "Text representation"), before dropout.

        Raises
        ------
        NotFittedError
            Before `fit`.
        TypeError, ValueError
            If X is not a collection of texts.

        Examples
        --------
        >>> from skxmc import LightXMLClassifier
        >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
        >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
        >>> clf = LightXMLClassifier(
        ...     "sentence-transformers/all-MiniLM-L6-v2", max_epochs=1, random_state=0
        ... )
        >>> clf.fit(texts, tags).encode(["stocks and bonds"]).shape
        (1, 1920)
        """
        ready = self._ready()
        texts = check_texts(X, allow_empty=True)
        return cast(np.ndarray, ready._predictor().features(texts))

    def explain_topk(
        self,
        text: str,
        k: int = 5,
        *,
        n_neighbors: int = 3,
        texts: Any = None,
        y: Any = None,
        representations: Any = None,
    ) -> TopKExplanation:
        """Say what the k best labels of one text owe to which head, and what lies near.

        Parameters
        ----------
        text : str
            Raw text.
        k : int, default=5
            Labels, at most the number of labels; those that `predict_topk` gives the text alone.
        n_neighbors : int, default=3
            How many nearest labels of each label, and nearest texts; fewer where there are fewer.
        texts : list, tuple, ndarray, or column of pandas, polars or PyArrow, of str, default=None
            Texts, such as those of `fit`, whose nearest to `text` are shown.
        y : sparse matrix, array, frame, or sequence of label collections, default=None
            Labels of `texts`, in any form that `fit` takes: which of the k labels each carries.
        representations : ndarray of shape (n_texts, n_feature_layers * hidden), default=None
            ``encode(texts)``, which takes most of the time: compute it once for many explanations.

        Returns
        -------
        TopKExplanation
            Prints as a table, in notebooks too; its attributes are plain values.

        Raises
        ------
        TypeError
            If `text` is not one text.
        NotFittedError
            Before `fit`.
        ValueError
            If `k` or `n_neighbors` is out of range, if `texts`, `y` and `representations` do not
            fit each other, or if there are no texts to the other two.

        Notes
        -----
        Labels are compared by the cosine of their embeddings, texts by that of e less what all
        texts have in common, as the heads see it.

        The classifier explains what it is given. Inside a pipeline that changes texts first, change
        them too: ``pipeline[-1].explain_topk(pipeline[:-1].transform([text])[0])``; of a search,
        take ``best_estimator_``.

        Examples
        --------
        >>> from skxmc import LightXMLClassifier
        >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
        >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
        >>> clf = LightXMLClassifier(
        ...     "sentence-transformers/all-MiniLM-L6-v2", max_epochs=1, random_state=0
        ... ).fit(texts, tags)
        >>> explanation = clf.explain_topk("stocks fell", k=2, texts=texts, y=tags)
        >>> [len(label.neighbors) for label in explanation.labels]
        [2, 2]
        >>> explanation.neighbors[0].text
        'stocks fell again'
        """
        return explain(
            self._ready(),
            text,
            k,
            n_neighbors=n_neighbors,
            texts=texts,
            y=y,
            representations=representations,
        )

    def _predictor(self) -> Predictor:
        model, device = self._model, self._prediction_device()
        dtype = resolve_precision(self.precision, device)
        check_length(model.network.encoder, model.tokenizer, self.max_length, name=self.encoder)
        return Predictor(
            network=serving_copy(model.network, dtype, device),
            tokenizer=model.tokenizer,
            max_length=int(self.max_length),
            n_candidate_clusters=resolve_candidate_clusters(
                self.n_candidate_clusters, model.network.layout
            ),
            batch_size=int(self.prediction_batch_size),
            device=device,
            dtype=dtype,
        )

    def _prediction_device(self) -> torch.device:
        """The device asked for; the CPU where a model of a GPU was brought to a lesser machine."""
        try:
            return resolve_device(self.device)
        except ValueError as error:
            warn_user(f"{error} Going on with the CPU.", RuntimeWarning)
            return torch.device("cpu")

    # ------------------------------------------------------------------ files

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: str = "float32") -> None:
        """Write the fitted classifier to a folder: JSON, safetensors, tokenizer; no pickle.

        Parameters
        ----------
        folder : str or path
            Made if need be; a model that is there already is replaced as a whole.
        dtype : {"float32", "float16", "int8"}, default="float32"
            Of the weights in the file. "float32" is exact, "float16" takes half the space, "int8"
            a quarter of it for label embeddings and generator, and half for the rest.

        Raises
        ------
        ValueError
            If `folder` is there and is something else, or the weights do not fit `dtype`.
        NotFittedError
            Before `fit`.
        OSError
            If the disk is full, or the folder cannot be written; a model that was there stays.

        Examples
        --------
        >>> import tempfile
        >>> from skxmc import LightXMLClassifier
        >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
        >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
        >>> clf = LightXMLClassifier(
        ...     "sentence-transformers/all-MiniLM-L6-v2", max_epochs=1, random_state=0
        ... ).fit(texts, tags)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     clf.save_pretrained(folder, dtype="float16")
        ...     served = LightXMLClassifier.from_pretrained(folder)
        >>> served.classes_.tolist()
        ['animals', 'finance', 'insurance']
        """
        check_is_fitted(self)
        save_model(self._snapshot(), folder, dtype)

    @classmethod
    def from_pretrained(cls, folder: str | os.PathLike[str]) -> LightXMLClassifier:
        """Read a classifier that `save_pretrained` wrote, with neither network nor GPU.

        Parameters
        ----------
        folder : str or path
            As given to `save_pretrained`.

        Returns
        -------
        LightXMLClassifier
            Fitted. Label embeddings are in float16 where the file is not in float32 (float32
            again once `fit` goes on with them), all else is in float32. A random_state or memory
            that was an object, not a number or a path, is None, and a clusterer of a class of your
            own is a `BalancedLabelClusterer`.

        Raises
        ------
        ValueError
            If `folder` is no saved model, a damaged one, or one of a newer version.

        Examples
        --------
        See `save_pretrained`.
        """
        return cast("LightXMLClassifier", load_model(cls, folder))

    # ------------------------------------------------------------------ sklearn

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        if "network_" in state:
            state["network_"] = network_state(state["network_"])
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        state = current_params(state)
        if "network_" in state:
            state = {**state, "network_": network_from_state(state["network_"])}
        super().__setstate__(state)
