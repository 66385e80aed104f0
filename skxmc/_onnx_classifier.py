"""Models that `LightXMLClassifier.export_onnx` has written.

`OnnxClassifier` needs the extra ``[onnx]``, or onnxruntime and tokenizers alone. Neither torch nor
transformers is imported, and scikit-learn only for excluded or allowed labels.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from typing import Any

import numpy as np

from skxmc._input.ranking import check_k
from skxmc._input.texts import check_texts
from skxmc._input.types import LabelChoice, Texts
from skxmc._topk import TopK, top_k_of_columns
from skxmc._utils.paths import user_path
from skxmc._utils.quoting import quoted, quoted_path

INDEX, MODEL, TOKENIZER = "skxmc-onnx.json", "model.onnx", "tokenizer.json"
FORMAT_VERSION = 1


class OnnxClassifier:
    """A fitted `LightXMLClassifier` in ONNX, which predicts with onnxruntime and tokenizers alone.

    It has `predict_topk` and `classes_`. In float32, labels and scores are those of the classifier,
    up to rounding.

    Read more in the user guide: :doc:`/guide/saving_and_serving`.

    Parameters
    ----------
    folder : str or path
        Folder that `LightXMLClassifier.export_onnx` has written.
    n_threads : int, default=None
        Number of threads per text. None takes all cores.
    batch_size : int, default=64
        Number of texts that the encoder reads at once.

    Attributes
    ----------
    classes_ : ndarray of shape (n_labels,)
        Names or numbers of the labels.
    n_labels_ : int
        Number of labels.
    max_k : int
        Largest k of `predict_topk`.
    session : onnxruntime.InferenceSession
        The model, with the inputs ``input_ids`` and ``attention_mask`` and the outputs ``columns``
        and ``scores``.

    Raises
    ------
    ImportError
        If onnxruntime or tokenizers is not installed.
    ValueError
        If `folder` holds no exported model, or one of a newer version.

    See Also
    --------
    LightXMLClassifier.export_onnx : Writes the folder.

    Examples
    --------
    >>> from skxmc.serving import OnnxClassifier
    >>> clf = OnnxClassifier("exported")  # doctest: +SKIP
    >>> labels, scores = clf.predict_topk(["shares and bonds"], k=5)  # doctest: +SKIP
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        n_threads: int | None = None,
        batch_size: int = 64,
    ) -> None:
        onnxruntime, tokenizers = import_runtime("onnxruntime"), import_runtime("tokenizers")
        path = user_path(folder)
        if not (path / INDEX).is_file():
            raise ValueError(
                f"{quoted_path(str(path))} holds no exported model: it has no {INDEX}. Give a "
                "folder that export_onnx has written."
            )
        index = json.loads((path / INDEX).read_text(encoding="utf-8"))
        if index["format_version"] > FORMAT_VERSION:
            raise ValueError(
                f"{quoted_path(str(path))} was written by skxmc {index['skxmc_version']}, in a "
                "format newer than this version reads. Install that version or a later one."
            )
        self.n_labels_, names = index["n_labels"], index["classes"]
        self.classes_ = np.arange(self.n_labels_)
        if names is not None:
            self.classes_ = np.array(names, dtype=object if isinstance(names[0], str) else None)
        self.max_k = index["max_k"]
        self.batch_size = batch_size
        self._pad_id = index["pad_id"]
        self._has_types = index["has_types"]
        self._tokenizer = tokenizers.Tokenizer.from_file(str(path / TOKENIZER))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(index["max_length"], direction=index["truncation_side"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = n_threads or 0
        # Threads that spin while they wait take the cores from torch and from other models.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self.session = onnxruntime.InferenceSession(
            str(path / MODEL), options, providers=["CPUExecutionProvider"]
        )

    def predict_topk(
        self,
        X: Texts,
        k: int = 5,
        *,
        exclude: LabelChoice | None = None,
        allow: LabelChoice | None = None,
        threshold: float | None = None,
    ) -> TopK:
        """Predict the k best labels of each text.

        With `exclude` or `allow`, these are the best allowed ones among the best `max_k` labels.
        Only then, scikit-learn is imported.

        Parameters
        ----------
        X : list, array or column of str, of length n_texts
            Raw texts.
        k : int, default=5
            Number of labels per text, at most `max_k`.
        exclude : list of labels, matrix, frame or list of label collections, default=None
            Labels that are not predicted, for all texts or per text, as in
            `LightXMLClassifier.predict_topk`.
        allow : list of labels, matrix, frame or list of label collections, default=None
            The only labels that are predicted, in the same forms.
        threshold : float, default=None
            Minimum score of the labels. None is no minimum.

        Returns
        -------
        TopK
            Named tuple ``(labels, scores)`` of two arrays of shape (n_texts, k), best label first.
            Labels are entries of `classes_`. Scores are float32 in (0, 1]. If fewer than k labels
            are allowed or reach `threshold`, the last labels are None and their scores 0.

        Raises
        ------
        TypeError, ValueError
            If X holds no texts, k is not a whole number from 1 to `max_k`, or threshold is not a
            number. Also if `exclude` or `allow` holds other labels than `classes_`, or leaves fewer
            than k of the best `max_k` labels of a text while more are allowed.
        """
        k = check_k(k, self.n_labels_)
        if k > self.max_k:
            raise ValueError(
                f"k is {k}, but the model was exported for at most {self.max_k} labels. Lower k, "
                "or export again with a higher max_k."
            )
        texts = check_texts(X, allow_empty=True)
        encoded = self._tokenizer.encode_batch(texts)
        allowed, n_ranked = None, k
        if exclude is not None or allow is not None:
            from skxmc._input.allowed import check_allowed  # loads scikit-learn

            allowed = check_allowed(exclude, allow, self.classes_, len(texts))
            n_ranked = self.max_k
        columns = np.empty((len(texts), n_ranked), dtype=np.int64)
        scores = np.empty((len(texts), n_ranked), dtype=np.float32)
        # Texts of similar length go together, so that there is little padding.
        order = np.argsort([-len(one.ids) for one in encoded], kind="stable")
        for start in range(0, len(texts), self.batch_size):
            rows = order[start : start + self.batch_size]
            found = self.session.run(None, self._inputs([encoded[row] for row in rows]))
            columns[rows], scores[rows] = found[0][:, :n_ranked], found[1][:, :n_ranked]
        if allowed is not None:
            columns, scores = allowed.first(columns, scores, k)
            lacking = allowed.lacks(columns)
            if lacking.any():
                row = int(lacking.argmax())
                raise ValueError(
                    f"The model was exported for at most {self.max_k} labels, of which only "
                    f"{np.count_nonzero(columns[row] >= 0)} are allowed for text {row}, but k is "
                    f"{k}. Lower k, or export again with a higher max_k."
                )
        return top_k_of_columns(self.classes_, columns, scores, threshold)

    def _inputs(self, encoded: list[Any]) -> dict[str, np.ndarray]:
        """Pad tokens on the right to the longest text: (B, T) int64 each."""
        shape = (len(encoded), max(len(one.ids) for one in encoded))
        inputs = {
            "input_ids": np.full(shape, self._pad_id, dtype=np.int64),
            "attention_mask": np.zeros(shape, dtype=np.int64),
        }
        if self._has_types:
            inputs["token_type_ids"] = np.zeros(shape, dtype=np.int64)
        for row, one in enumerate(encoded):
            n = len(one.ids)
            inputs["input_ids"][row, :n] = one.ids
            inputs["attention_mask"][row, :n] = 1
            if self._has_types:
                inputs["token_type_ids"][row, :n] = one.type_ids
        return inputs


def import_runtime(name: str) -> Any:
    """Import a package of the extra ``[onnx]``, or say how to install it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"Models in ONNX need {quoted(name)}, which is not installed. Run: "
            'pip install "skxmc[onnx]"'
        ) from error
