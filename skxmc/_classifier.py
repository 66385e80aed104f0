"""LightXMLClassifier. Its `fit` is the recipe of training."""

from __future__ import annotations

import json
import os
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from joblib import Memory
from numpy.typing import ArrayLike
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.utils import Tags
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from skxmc._clusterer import BalancedLabelClusterer
from skxmc._inference.explain import explain
from skxmc._inference.explanation import TopKExplanation
from skxmc._inference.extractor import resolve_batch_size
from skxmc._inference.low_precision import on_host, serving_copy
from skxmc._inference.predictor import Predictor, check_scores
from skxmc._inference.short_list import short_list
from skxmc._input.folds import of_labels, warn_if_cut
from skxmc._input.per_label import LabelTexts
from skxmc._input.ranking import check_k
from skxmc._input.split import check_held_out, split_texts
from skxmc._input.text_column import check_column
from skxmc._input.texts import check_texts
from skxmc._input.types import LabelsOfTexts, Matrix, PerLabel, RandomState, Texts, ValidationData
from skxmc._input.validation import check_labels, names_labels
from skxmc._input.weights import LabelWeight, check_sample_weight
from skxmc._label_changes import LabelChangesMixin
from skxmc._model.device import prediction_device, resolve_precision, with_advice_on_memory
from skxmc._model.encoder_check import check_length
from skxmc._model.fitted import Model
from skxmc._model.full_label import best_labels
from skxmc._model.pooling import POOLINGS
from skxmc._model.seeds import training_mode
from skxmc._model.windows import LONG_TEXT
from skxmc._storage.onnx_export import export_onnx
from skxmc._storage.pickling import current_params, model_from_state, model_state
from skxmc._storage.plain import DESCRIPTION
from skxmc._storage.pretrained import DTYPES, params_from_plain, read_model, write_model
from skxmc._training.build import check_label_features, prepare_model
from skxmc._training.callbacks import CallbackSupportMixin, fit_tasks
from skxmc._training.distributed import current_processes, in_process_group
from skxmc._training.evaluation import fit_predictor
from skxmc._training.phases import Training, objectives_of
from skxmc._training.resume import check_warm_start, draw_seed, open_checkpoint
from skxmc._training.same_data import SAME_DATA, SAME_PARAMS, describe_data, describe_params
from skxmc._training.settings import (
    resolve_candidate_clusters,
    resolve_settings,
)
from skxmc._utils.progress import slow_bar


class LightXMLClassifier(
    LabelChangesMixin,
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ClassifierMixin,
    BaseEstimator,
):
    r"""Classifier that assigns labels to raw texts, chosen from thousands to millions.

    It trains LightXML [1]_. A transformer represents the text, a recall head finds clusters of
    labels, and a ranking head ranks the labels in them. Both heads are trained together with the
    transformer. The ranking head learns from the negatives in the clusters that the current recall
    head finds.

    Read more in the user guide: :doc:`/guide/training`, :doc:`/guide/encoders`.

    Parameters
    ----------
    encoder : str or path, default="bert-base-uncased"
        Hub id or local directory of a Hugging Face encoder with a [CLS] token: BERT, RoBERTa,
        XLNet, DistilBERT, MiniLM, DeBERTa, ELECTRA, ModernBERT and others. With the extra
        ``[demo]``, ``"sentence-transformers/all-MiniLM-L6-v2"`` needs no network. The short names
        of sentence-transformers, such as ``"all-MiniLM-L6-v2"``, work too.
    max_length : int, default=128
        Maximum number of tokens that the encoder reads at once, special tokens included.
    long_text : {"truncate", "windows"}, default="truncate"
        What to read of a text with more than `max_length` tokens. "truncate" is its start.
        "windows" is all of it, in windows of `max_length` tokens that overlap by a quarter or more.
        A training epoch reads one random window per text. Prediction reads all windows, and
        averages e over them. See :doc:`/guide/long_texts`.
    n_feature_layers : int, default=5
        Number of last hidden layers whose states form the representation e.
    pooling : {"auto", "cls", "mean", "alternate"}, default="auto"
        State of a text in a layer: that of its [CLS] token, as in the paper, or the mean over its
        tokens. "alternate" is the mean in the last layer, [CLS] in the one before, and so on.
        If the encoder has a file of sentence-transformers which says that it was trained for the
        mean, "auto" is "alternate", or from 2,000 texts on "cls" if [CLS] tells the labels of
        held-out texts clearly better. Otherwise it is "cls". `network_.pooling` is the choice.
    dropout : float or "auto", default="auto"
        Share of e that is dropped in training. "auto" is 0.5 (the paper's rate) for five or more
        epochs. With fewer epochs or a `time_limit` it is 0.3, because slow learning costs more than
        overfitting.
    encoder_dropout : float, None or "auto", default="auto"
        Dropout rate inside the encoder. None keeps the encoder's own rate (mostly 0.1). "auto" is
        None for five or more epochs, and 0 with fewer epochs or a `time_limit`, which is faster
        too.
    clusterer : BalancedLabelClusterer, default=None
        Clusterer of the labels. None takes one with default parameters. To search over
        ``clusterer__max_cluster_size``, pass ``BalancedLabelClusterer()``. If every cluster has one
        label (the direct mode), every label is ranked and there is no recall head.
    n_candidate_clusters : int or "auto", default="auto"
        Number of clusters recalled per text (*b* in the paper). Only labels in these clusters are
        ranked. "auto" recalls about 2,000 labels. A number above that of all clusters recalls all.
    bottleneck_dim : int or None, default=256
        Dimension of the label embeddings. None leaves out the bottleneck, so that labels have
        embeddings of the dimension of e. In the direct mode this is the dense head of the paper.
    negative_sampling : {"auto", "none", "dynamic", "static", "static-separate"}, default="auto"
        Negatives of the ranking head.

        - "auto": "none" in the direct mode, else "dynamic". On a CUDA GPU, "none" unless
          `clusterer` has a `max_cluster_size`. No GPU was at hand to measure this, so it is an
          estimate.
        - "none": every label is ranked at every step. Nothing is clustered or recalled. In the
          direct mode, all values mean this.
        - "dynamic": the labels that the current recall head finds. Both heads are trained together.
        - "static" (S in table 5 of the paper): the recall head is trained for `max_epochs` epochs,
          then the ranking head for as many, against what the trained recall head finds once. Then
          the recall head follows the encoder, which stays as it is.
        - "static-separate" (BS in table 5): the first two phases. The ranking head gets its own
          copy of the encoder, so prediction takes twice the time.
    label_weight : array-like of shape (n_labels,), dict, "balanced" or None, default=None
        Weights of labels where they are true, as by ``class_weight={0: 1, 1: w}`` of scikit-learn
        for each label. In the loss of a label, a text that has it counts w times, and other texts
        count once. An array is in the order of `classes_`. A dict, or a Series with an index of
        labels, goes by label, and others weigh 1.
        "balanced" is the mean number of texts per label, divided by that of the label. Scores of
        heavy labels rise, so they are no longer probabilities. See :doc:`/guide/training`.
    freeze_encoder : bool, default=False
        Whether to train the heads alone. Each text is represented only once, so `fit` takes little
        longer than one pass over the texts. Representations take 4 bytes per entry of e and text.
    head_init : {"centroids", "priors", "random"}, default="centroids"
        Initial weights of the heads. "centroids": the centroids of each label's texts, represented
        by the untrained encoder in one more forward pass of at most 200,000 texts. Biases are log
        priors. "priors": random weights with these biases. "random": random weights, and biases of
        0 as in the paper.
    max_epochs : int or "auto", default="auto"
        Number of passes over the training texts. "auto" is the rounded root of 600,000 / texts,
        from 1 to 10: 10 for 5,000 texts, 5 for 20,000, 2 for 200,000 and 1 from 270,000.
    time_limit : float or None, default=None
        Seconds that `fit` may take. From the time of the first steps, it chooses the number of
        steps, at most those of `max_epochs`, so that the learning rates fall in time. The last
        epoch may be a part of one. The result then depends on the speed of the machine.
    batch_size : int, default=32
        Number of texts per training step.
    accumulate_steps : int, default=1
        Number of parts in which the encoder reads the texts of a step, to need less memory. The
        step is that of the whole batch. All parts but one are read twice. See
        :doc:`/guide/gpu`.
    gradient_checkpointing : bool, default=False
        Whether the encoder forgets its activations in training, and computes those of one layer at
        a time again. All texts are read twice, and the weights are the same. It goes with
        `accumulate_steps`.
    prediction_batch_size : int or "auto", default="auto"
        Number of texts per prediction step. Predictions do not depend on it. "auto" is 64. On a
        CUDA GPU, it is as many texts as have 32,768 tokens, but at most 512.
    learning_rate : float or "auto", default="auto"
        Peak learning rate of the encoder. "auto" is 1e-4 for an encoder of width 768, such as
        BERT-base. It falls with the width: 2e-4 for MiniLM, of width 384.
    head_learning_rate : float, "auto" or None, default="auto"
        Peak learning rate of all weights after the encoder. "auto" tries 2e-3 and 2.5e-4 before
        the encoder trains, on representations of up to 20,000 texts, of which it holds out a fifth.
        It keeps 2e-3, unless 2.5e-4 has an nDCG@5 at least 2 % higher on held-out texts. Nothing is
        tried with fewer than 2,000 texts or more than 50 million label weights, or if the heads do
        not start at centroids. With a `time_limit`, each trial takes at most 3 % of it. A warm
        start keeps the rate. None takes `learning_rate`, as in the paper.
    weight_decay : float, default=0.01
        Weight decay of all weights except biases and layer norms.
    warmup_fraction : float, default=0.1
        Share of all steps in which the learning rates rise from 0.
    lr_schedule : {"linear", "cosine", "constant"}, default="linear"
        Fall of the learning rates to 0 after the warm-up. "constant" keeps them.
    max_grad_norm : float or None, default=None
        Maximum norm of the gradient of all weights together, except the label embeddings in the
        direct mode. Losses are sums over labels, so norms of hundreds are usual. Adam does not need
        clipping.
    swa_start : int or None, default=None
        Epoch, counted from 0, from which weights are averaged (stochastic weight averaging). Use it
        with ``lr_schedule="constant"``: falling rates have the same effect. None does not average.
    swa_every : int, default=10
        Number of steps between two averagings.
    early_stopping : bool, default=False
        Whether to hold out part of the training texts and to measure P@5 on them after each epoch.
        Training stops if P@5 has not risen for `n_iter_no_change` epochs, and keeps the best
        weights. With static negatives it is measured in the epochs of the ranking head. With
        "static", the recall head is behind the encoder in these epochs.
    validation_fraction : float, default=0.1
        Share of the training texts to hold out.
    n_iter_no_change : int, default=3
        Number of epochs without gain before training stops.
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}, default="auto"
        Precision of matrix products; weights stay in fp32. "auto" is bf16 if the device computes
        it fast, fp16 on older GPUs with tensor cores (V100, T4, RTX 20), else fp32. You can set
        another precision for prediction after `fit`. "int8" quantizes the linear layers in
        prediction, on a CPU only, and trains like "auto". Scores then depend a little on the other
        texts of the batch.
    label_precision : {"fp32", "bf16"}, default="fp32"
        Precision in which the direct mode keeps the label embeddings while it trains. "bf16" halves
        their memory, and rounds at random so that small updates count on average. It does not go
        with `swa_start`. The fitted embeddings are in fp32.
    device : str, default="auto"
        Device such as "cuda", "cuda:1", "mps" or "cpu". "auto" is a GPU if there is one.
    label_search : {"exact", "approximate"}, default="exact"
        Search of the best labels in the direct mode on a CPU. "approximate" scores only clusters of
        labels that look best, which pays from some 500,000 labels. The first prediction makes the
        clusters. See :doc:`/guide/large_label_sets`.
    threshold : float, default=0.5
        Lowest score of a label that `predict` returns.
    memory : str, path, joblib.Memory or None, default=None
        Cache of tokenized texts and label clusters. A search over other parameters computes them
        only once. Clusters are cached if `random_state` is a number. Tokens in a folder are mapped
        into memory, see :doc:`/guide/very_large`.
    checkpoint_dir : str, path or None, default=None
        Folder for training checkpoints. To resume after a crash, call `fit` again with the same
        data, parameters and type of device. On the CPU the result is the same to the bit. A folder
        belongs to one fit. When this fit is done, the folder holds the model, and the same call
        returns it at once.
    checkpoint_every : int or "auto", default="auto"
        Number of steps between two checkpoints, besides one after each epoch. "auto" writes the
        first after the first step, and then so many that writing takes a twentieth of the time. A
        checkpoint takes the disk space of three models, because it holds the moments of AdamW.
        Label embeddings have fewer moments in the direct mode, and above 100 million entries.
        Averaging and early stopping add one model each.
    warm_start : bool, default=False
        Whether to go on from the weights of the previous fit. Training has a copy of them, so
        memory holds both until `fit` returns, and predictions use the old ones. Other
        `n_feature_layers`, `bottleneck_dim` or `clusterer` are refused. `encoder`, `head_init` and
        `label_features` have no effect. New labels in y start as by `add_labels`.
    random_state : int, RandomState instance or None, default=None
        Seed of batches, dropout, clusters and the held-out set. The same seed, data and machine
        give the same model. On a GPU the order of summation may differ.
    n_jobs : int or None, default=None
        Number of threads of the clusterer, if its own `n_jobs` is None.
    verbose : int, default=0
        1 shows the time to expect, progress bars with the loss, and P@5 if there are validation
        data.

    Attributes
    ----------
    classes_ : ndarray of shape (n_labels,)
        Names or numbers of the labels.
    clusterer_ : BalancedLabelClusterer
        Fitted clusterer. Its ``labels_`` are the clusters in use.
    network_ : torch.nn.Module
        Trained network.
    tokenizer_ : tokenizer
        Tokenizer of the encoder.
    head_learning_rate_ : float or None
        Peak learning rate of the heads in training. None is that of the encoder.
    history_ : list of dict
        One entry per epoch: ``epoch``, ``objective`` ("both", or with static negatives "recall" or
        "rank"), ``loss``, ``recall_loss``, ``rank_loss``, ``learning_rate``, ``n_steps``,
        ``n_texts`` of a whole epoch, ``seconds`` of the training steps, and ``valid_p_at_5`` if
        there are validation data.
    n_iter_ : int
        Number of epochs run.
    n_labels_ : int
        Number of labels.

    See Also
    --------
    BalancedLabelClusterer : Groups the labels.
    LightXMLEnsemble : Combines classifiers, such as this one and a linear model.
    skxmc.predict_topk : Predicts through pipelines and searches.

    Notes
    -----
    The recall head (the paper's generator) scores the cluster k(l) of a label l. The ranking head
    (its discriminator) scores the label itself. The score of the label is their product. In the
    direct mode it is the score of the ranking head alone:

    .. math::
        \hat y_l = \sigma(W_g e' + b_g)_{k(l)} \; \sigma(E_l \cdot (W_h e' + b_h) + c_l)

    This is section "Methodology" of the paper, with three differences. Labels have biases c. The
    bottleneck of equation 4 has no sigmoid. If the heads start at centroids, e' is e minus its mean
    over training texts. By default the loss is that of equation 6, summed over labels. If the
    recalled clusters hold fewer labels than `predict_topk` needs, more are recalled.

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
        "encoder": [str, os.PathLike],
        "max_length": [Interval(Integral, 2, None, closed="left")],
        "long_text": [StrOptions({*LONG_TEXT})],
        "n_feature_layers": [Interval(Integral, 1, None, closed="left")],
        "dropout": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left")],
        "encoder_dropout": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="left"), None],
        "clusterer": [BalancedLabelClusterer, None],
        "n_candidate_clusters": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "pooling": [StrOptions({"auto", *POOLINGS})],
        "bottleneck_dim": [Interval(Integral, 1, None, closed="left"), None],
        "negative_sampling": [StrOptions({"auto", "none", "dynamic", "static", "static-separate"})],
        "label_weight": [StrOptions({"balanced"}), dict, "array-like", None],
        "freeze_encoder": ["boolean"],
        "head_init": [StrOptions({"centroids", "priors", "random"})],
        "max_epochs": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "accumulate_steps": [Interval(Integral, 1, None, closed="left")],
        "gradient_checkpointing": ["boolean"],
        "prediction_batch_size": [
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left")],
        "head_learning_rate": [StrOptions({"auto"}), Interval(Real, 0, None, closed="left"), None],
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
        "label_precision": [StrOptions({"fp32", "bf16"})],
        "device": [str],
        "label_search": [StrOptions({"exact", "approximate"})],
        "threshold": [Interval(Real, 0, 1, closed="both")],
        "memory": [str, os.PathLike, HasMethods(["cache"]), None],
        "checkpoint_dir": [str, os.PathLike, None],
        "checkpoint_every": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
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
        "long_text",
        "n_candidate_clusters",
        "prediction_batch_size",
        "precision",
        "device",
        "label_search",
        "threshold",
    )

    def __init__(
        self,
        encoder: str | os.PathLike[str] = "bert-base-uncased",
        *,
        max_length: int = 128,
        long_text: str = "truncate",
        n_feature_layers: int = 5,
        pooling: str = "auto",
        dropout: float | str = "auto",
        encoder_dropout: float | str | None = "auto",
        clusterer: BalancedLabelClusterer | None = None,
        n_candidate_clusters: int | str = "auto",
        bottleneck_dim: int | None = 256,
        negative_sampling: str = "auto",
        label_weight: LabelWeight = None,
        freeze_encoder: bool = False,
        head_init: str = "centroids",
        max_epochs: int | str = "auto",
        time_limit: float | None = None,
        batch_size: int = 32,
        accumulate_steps: int = 1,
        gradient_checkpointing: bool = False,
        prediction_batch_size: int | str = "auto",
        learning_rate: float | str = "auto",
        head_learning_rate: float | str | None = "auto",
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
        label_precision: str = "fp32",
        device: str = "auto",
        label_search: str = "exact",
        threshold: float = 0.5,
        memory: str | os.PathLike[str] | Memory | None = None,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        checkpoint_every: int | str = "auto",
        warm_start: bool = False,
        random_state: RandomState = None,
        n_jobs: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.encoder = encoder
        self.max_length = max_length
        self.long_text = long_text
        self.n_feature_layers = n_feature_layers
        self.pooling = pooling
        self.dropout = dropout
        self.encoder_dropout = encoder_dropout
        self.clusterer = clusterer
        self.n_candidate_clusters = n_candidate_clusters
        self.bottleneck_dim = bottleneck_dim
        self.negative_sampling = negative_sampling
        self.label_weight = label_weight
        self.freeze_encoder = freeze_encoder
        self.head_init = head_init
        self.max_epochs = max_epochs
        self.time_limit = time_limit
        self.batch_size = batch_size
        self.accumulate_steps = accumulate_steps
        self.gradient_checkpointing = gradient_checkpointing
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
        self.label_precision = label_precision
        self.device = device
        self.label_search = label_search
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
    @in_process_group
    def fit(
        self,
        X: Texts,
        y: LabelsOfTexts,
        *,
        sample_weight: ArrayLike | None = None,
        label_names: PerLabel | None = None,
        label_texts: LabelTexts | None = None,
        label_features: PerLabel | Matrix | None = None,
        validation_data: ValidationData | None = None,
        X_val: Texts | None = None,
        y_val: LabelsOfTexts = None,
    ) -> LightXMLClassifier:
        """Train on texts and their labels.

        Parameters
        ----------
        X : list, array or column of str, of length n_texts
            Raw texts. Empty texts are legal. Columns of PyArrow, pandas and polars and arrays that
            are mapped into memory are read block by block: see :doc:`/guide/very_large`.
        y : matrix, frame or list of label collections, of length n_texts
            Labels of each text: a sparse or dense 0/1 matrix of shape (n_texts, n_labels), a frame
            of such columns, or collections such as ``[["tax", "law"], []]``. Nested lists are
            always collections. See :doc:`/guide/data`.
        sample_weight : array-like of shape (n_texts,), default=None
            Weights of the texts, at least 0. A text of weight 2 counts like two texts, in the loss
            and in everything else that is learned from the texts. A text of weight 0 is left out.
            Held-out texts all count the same, and texts of `label_texts` have weight 1.
        label_names : array-like of shape (n_labels,) or callable, default=None
            Names of the columns of a matrix. They become `classes_`. Without names, `classes_` are
            the numbers of the columns. A function gets these numbers and returns the names.
        label_texts : array-like of shape (n_labels,), Series, dict or callable, default=None
            A text about each label, such as its name, in the order of `classes_`. None or "" if
            there is none. A dict, or a Series with labels as index, goes by label. A function gets
            `classes_` and returns the texts. Each is one more training text with this label only.
        label_features : matrix of shape (n_labels, d), sparse or dense, or callable, default=None
            Features that labels are clustered by, instead of the TF-IDF features of their texts. A
            function gets `classes_` and returns the matrix.
        validation_data : tuple (X, y), default=None
            Texts and labels to measure P@5 on after each epoch. Early stopping uses them instead
            of a held-out part of X.
        X_val, y_val : texts and labels, default=None
            The same in two arguments. With ``transform_input=["X_val"]``, the steps of a
            pipeline change these texts too: see :doc:`/guide/searching`.

        Returns
        -------
        LightXMLClassifier
            The estimator itself.

        Raises
        ------
        ValueError
            If texts or labels are malformed, if lengths differ, if a parameter is out of range, or
            if the encoder or the device is missing. The message says what to do.
        TypeError
            If texts or labels have a type that cannot be read.
        torch.OutOfMemoryError
            If the device is too small. The message says what to lower. The classifier is
            unchanged.
        OSError
            If a checkpoint cannot be written. The previous checkpoint is still there.

        Warns
        -----
        UserWarning
            If Ctrl-C interrupts training. The classifier is fitted with what it has learned so far.
            If training will take more than five minutes, without `verbose` and `time_limit`.
            If the labels stay in parts after a fit in several processes, see
            :doc:`/guide/distributed`.
        """
        # Check texts and labels. A warm start keeps the columns of the previous fit.
        texts = check_column(X)
        labels = check_labels(y, label_names=label_names, n_texts=len(texts), require_positive=True)
        params, previous = self.get_params(deep=False), self._previous_model()
        if previous is not None:
            by_name = label_names is not None or names_labels(y)
            labels = check_warm_start(params, previous, labels, by_name=by_name)
        weights = check_sample_weight(sample_weight, len(texts))
        held_out = check_held_out(validation_data, X_val, y_val, labels.classes)
        if names_labels(y):
            of_fold = {"label_texts": label_texts, "label_features": label_features}
            warn_if_cut(of_fold, *labels.matrix.shape)
        label_texts = of_labels(label_texts, labels.classes)
        label_features = check_label_features(label_features, labels.classes, len(texts))

        # Open the run: a checkpoint, or one that keeps nothing. The first process decides.
        processes = current_processes()
        processes.check_same(lambda: describe_params(params), SAME_PARAMS)
        processes.check_same(
            lambda: describe_data(texts, labels, weights, label_texts, held_out), SAME_DATA
        )
        checkpoint = processes.share_checkpoint(lambda: open_checkpoint(params))
        seed = processes.same(draw_seed(self.random_state, checkpoint))

        # Hold texts out, add the texts of labels, and resolve the parameters.
        fraction = self.validation_fraction if self.early_stopping else None
        data = split_texts(
            texts, labels, label_texts, held_out, fraction, seed, weights, self.label_weight
        )
        n_texts, n_labels = len(data.texts), len(data.classes)
        settings = resolve_settings(params, n_texts=n_texts, n_labels=n_labels, seed=seed)
        settings = processes.adapt(settings)

        # Refuse the checkpoint of another run. Return a run that is done.
        given: dict[str, object] = {
            "texts": texts,
            "labels": labels,
            "validation_data": data.held_out,
            "label_texts": label_texts,
            "label_features": label_features,
        }
        if weights is not None:
            given["sample_weight"] = weights
        values = {"seed": seed, "device": settings.device.type}
        checkpoint.identify(values, given, previous, self._stopped_run)
        if checkpoint.found is not None and checkpoint.found.state is None:
            return self._adopt(checkpoint.found.model, checkpoint.found.history)

        # The model of the previous fit leaves the GPU to the new one.
        self._leave_gpu()
        previous = previous and previous._replace(network=self._model.network)

        # Build the model or resume it, and train it in phases.
        with training_mode(seed, settings.device):
            generator = torch.Generator().manual_seed(seed)
            model, training_set = prepare_model(
                checkpoint.found, previous, data, label_features, settings, generator, processes
            )
            n_epochs = settings.max_epochs * len(objectives_of(settings, model.network))
            tasks = processes.share_tasks(lambda: fit_tasks(self, X, y, n_epochs))
            training = Training(
                model,
                training_set,
                data.held_out,
                settings,
                checkpoint,
                generator,
                tasks,
                self._fitted,
                processes,
            )
            with processes.training(generator):
                is_done = training.run()
            model = training.fitted_model()
            history = processes.same(training.history)
            tasks.end(lambda: self._fitted(model, history))
        if training_set.features is not None:  # an ensemble has other members for them
            fit_predictor(model, settings, settings.dtype).share(data.texts, training_set.features)

        # Set the fitted attributes, all at once.
        return self._adopt(model, history, None if is_done else checkpoint.run)

    def _leave_gpu(self) -> None:
        """Move the weights to the host until the next prediction."""
        if hasattr(self, "network_"):
            self._become({"network_": on_host(self._model.network)})

    def _previous_model(self) -> Model | None:
        """Return the model that a warm start continues with, or None without warm start."""
        if not (self.warm_start and hasattr(self, "network_")):
            return None
        previous = self._snapshot()._model
        previous.network.check_whole()
        return previous

    # ------------------------------------------------------------------ predict

    def _top_k(self, texts: list[str], k: int) -> tuple[np.ndarray, np.ndarray]:
        columns, scores = self._predictor().top_k(texts, k)
        check_scores(scores)
        return columns, scores

    def _scores(
        self, texts: list[str], *, top_k: int | None = None, min_score: float = 0.0
    ) -> sp.csr_matrix:
        return self._predictor().scores(texts, top_k=top_k, min_score=min_score)

    def encode(self, X: Texts) -> np.ndarray:
        """Represent texts by e, the pooled states of the last layers, the last layer first.

        Parameters
        ----------
        X : list, array or column of str, of length n_texts
            Raw texts.

        Returns
        -------
        ndarray of shape (n_texts, n_feature_layers * hidden), float32
            The e of the paper (section "Text representation"), before dropout. With
            ``long_text="windows"`` it is the mean over the windows of a text.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        TypeError, ValueError
            If X holds no texts.

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
        with slow_bar(self.verbose, desc="encoding texts", total=len(texts)) as bar:
            return ready._predictor().features(texts, progress=bar.update)

    def transform(self, X: Texts) -> np.ndarray:
        """Represent texts in the space of the label embeddings, so that others may learn from it.

        With ``FrozenEstimator``, a fitted classifier represents texts for `NeighborsClassifier`, or
        in a ``FeatureUnion``. The bottleneck keeps of e what the labels need, so its output is
        shorter than that of `encode`, and as good for neighbors.

        Parameters
        ----------
        X : list, array or column of str, of length n_texts
            Raw texts.

        Returns
        -------
        ndarray of shape (n_texts, bottleneck_dim), float32
            Output of the bottleneck, W_h e + b_h (eq. 4). If `bottleneck_dim` is None, it is e.
            In both, the mean of e in training is subtracted first.

        Raises
        ------
        NotFittedError
            If `fit` was not called.
        TypeError, ValueError
            If X holds no texts.
        """
        ready = self._ready()
        texts = check_texts(X, allow_empty=True)
        with slow_bar(self.verbose, desc="encoding texts", total=len(texts)) as bar:
            return ready._predictor().embeddings(texts, progress=bar.update)

    @property
    def _n_features_out(self) -> int:
        return self.network_.embedding_dim

    def explain_topk(
        self,
        text: str,
        k: int = 5,
        *,
        n_words: int = 5,
        n_neighbors: int = 3,
        texts: Texts | None = None,
        y: LabelsOfTexts = None,
        representations: ArrayLike | None = None,
    ) -> TopKExplanation:
        """Explain the k best labels of one text: words, both heads, near labels and texts.

        Read more in the user guide: :doc:`/guide/understanding`.

        Parameters
        ----------
        text : str
            Raw text.
        k : int, default=5
            Number of labels, at most all. They are those that `predict_topk` gives this text alone.
        n_words : int, default=5
            Number of words per label.
        n_neighbors : int, default=3
            Number of nearest labels per label, and of nearest texts.
        texts : list, array or column of str, default=None
            Texts to compare with, such as those of `fit`.
        y : matrix, frame or list of label collections, default=None
            Labels of `texts`, in any form that `fit` takes. They show which texts have which label.
        representations : ndarray of shape (n_texts, n_feature_layers * hidden), default=None
            Result of ``encode(texts)``, which takes most of the time. Compute it once for many
            explanations.

        Returns
        -------
        TopKExplanation
            Explanation that prints as a table, in notebooks too. Its attributes are plain values.

        Raises
        ------
        TypeError
            If `text` is not one text.
        NotFittedError
            If `fit` was not called.
        ValueError
            If `k`, `n_words` or `n_neighbors` is out of range, or if `texts`, `y` and
            `representations` differ in length or lack the texts.

        Notes
        -----
        The effect of a word is the score of the text minus its score without this word. So the time
        is that of a prediction for as many texts as there are different words, and at most 64: a
        longer text is cut into 64 runs of words.

        Labels are compared by the cosine of their embeddings. Texts are compared by the cosine of e
        minus its mean, as the heads see it. `skxmc.explain_topk` reaches through pipelines and
        searches.

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
            n_words=n_words,
            n_neighbors=n_neighbors,
            texts=texts,
            y=y,
            representations=representations,
        )

    def _predictor(self) -> Predictor:
        model, device = self._model, prediction_device(self.device)
        dtype = resolve_precision(self.precision, device)
        check_length(
            model.network.encoder, model.tokenizer, self.max_length, name=os.fspath(self.encoder)
        )
        network = serving_copy(model.network, dtype, device)
        exact = self.label_search == "exact" or device.type != "cpu" or not network.direct
        return Predictor(
            network=network,
            tokenizer=model.tokenizer,
            max_length=int(self.max_length),
            n_candidate_clusters=resolve_candidate_clusters(
                self.n_candidate_clusters, model.network.layout
            ),
            batch_size=resolve_batch_size(self.prediction_batch_size, device),
            device=device,
            dtype=dtype,
            long_text=self.long_text,
            search=best_labels if exact else short_list(network).best_labels,
        )

    # ------------------------------------------------------------------ files

    def export_onnx(
        self, folder: str | os.PathLike[str], *, dtype: str = "float32", max_k: int = 100
    ) -> None:
        """Write the model to a folder in ONNX, to predict without torch.

        `skxmc.serving.OnnxClassifier` loads it. It needs the extra ``[onnx]``.

        Read more in the user guide: :doc:`/guide/saving_and_serving`.

        Parameters
        ----------
        folder : str or path
            Folder to create. An earlier export is replaced.
        dtype : {"float32", "int8"}, default="float32"
            "float32" gives the same labels and scores, up to rounding. "int8" quantizes the linear
            layers of the encoder, which is faster and less exact.
        max_k : int, default=100
            Largest number of labels that can be predicted per text. It is lower if there are fewer
            labels in the recalled clusters.

        Raises
        ------
        ValueError
            If `folder` holds something else, if `max_k` is out of range, if the encoder cannot
            be exported, or if ``long_text="windows"``.
        ImportError
            If onnx or onnxruntime is not installed.
        NotFittedError
            If `fit` was not called.
        """
        clf = self._ready()
        model, name = clf._model, os.fspath(clf.encoder)
        model.network.check_whole()
        if clf.long_text == "windows":
            raise ValueError(
                'long_text="windows" cannot be exported, because the graph reads a text at once. '
                'To export a model that reads the start of a text, set long_text="truncate".'
            )
        check_length(model.network.encoder, model.tokenizer, clf.max_length, name=name)
        export_onnx(
            model,
            folder,
            max_length=int(clf.max_length),
            n_candidate_clusters=resolve_candidate_clusters(
                clf.n_candidate_clusters, model.network.layout
            ),
            max_k=check_k(max_k, name="max_k"),
            dtype=dtype,
            name=name,
        )

    def _write_files(self, content: Path, dtype: str) -> None:
        """Write the fitted classifier to an empty folder, in its own format."""
        clf = self._snapshot()
        params = clf.get_params(deep=False)
        weights = clf._model.network.whole_weights()
        if weights is not None:
            write_model(content, clf._model, params, clf.history_, DTYPES[dtype], weights)

    @classmethod
    def _read_files(
        cls, content: Path, description: dict[str, Any] | None = None
    ) -> LightXMLClassifier:
        """Read what `_write_files` wrote, onto the CPU."""
        if description is None:
            description = json.loads((content / DESCRIPTION).read_text(encoding="ascii"))
        clf = cls(**params_from_plain(description["params"]))
        return clf._adopt(read_model(content, description), description["history"])

    # ------------------------------------------------------------------ sklearn

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        assert tags.transformer_tags is not None
        tags.transformer_tags.preserves_dtype = []  # texts have none
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "network_")

    def __getstate__(self) -> dict[str, Any]:
        return model_state(super().__getstate__())

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(model_from_state(current_params(state)))
