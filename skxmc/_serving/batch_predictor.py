"""`BatchPredictor`: a model in the worker processes of Ray Data, Spark and multiprocessing."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skxmc._input.ranking import check_k
from skxmc._input.texts import check_texts
from skxmc._topk import predict_topk
from skxmc._utils.parallel import ProcessLock
from skxmc._utils.paths import user_path
from skxmc._utils.quoting import listed, quoted

LABELS, SCORES = "labels", "scores"

# The models of this process by folder, each with the time and number of the file that names its
# content. Engines unpickle a predictor for each task, so a predictor cannot keep the model itself.
_models: dict[str, tuple[tuple[int, int] | None, Any]] = {}
_loading = ProcessLock()


class BatchPredictor:
    """A saved model as a function of batches, for Ray Data, Spark and multiprocessing.

    A pickle of it holds the name of the folder, and not the model. Each process loads the model
    when it gets its first batch, and keeps it for all others.

    Read more in the user guide: :doc:`/guide/ray` and :doc:`/guide/spark`.

    Parameters
    ----------
    model_dir : str or path
        Folder that `skxmc.save_pretrained` has written. All workers read it, so it lies on a disk
        that they share, or under the same path on each.
    k : int, default=5
        Number of labels per text.
    text_column : str, default="text"
        Column of the texts.

    Attributes
    ----------
    model_dir : str
        Absolute path of the folder.

    Raises
    ------
    ValueError
        If k is not a whole number from 1.

    See Also
    --------
    skxmc.predict_topk : The best labels of texts, without batches and columns.

    Examples
    --------
    >>> import tempfile
    >>> import pandas as pd
    >>> from skxmc import NeighborsClassifier
    >>> from skxmc.serving import BatchPredictor
    >>> clf = NeighborsClassifier().fit(["the cat sat", "stocks fell"], [["animals"], ["finance"]])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clf.save_pretrained(folder)
    ...     predictor = BatchPredictor(folder, k=1)
    ...     predictor(pd.DataFrame({"text": ["stocks rose", "a cat"]}))["labels"].tolist()
    [['finance'], ['animals']]
    """

    def __init__(
        self, model_dir: str | os.PathLike[str], k: int = 5, text_column: str = "text"
    ) -> None:
        self.model_dir = os.path.abspath(user_path(model_dir))
        self.k = check_k(k)
        self.text_column = text_column

    def __call__(self, batch: Any) -> Any:
        """Add the columns ``labels`` and ``scores`` to a batch.

        Parameters
        ----------
        batch : dict of arrays, pandas.DataFrame or pyarrow.Table
            A batch with the column `text_column`, or an iterator of such batches, as
            ``mapInPandas`` of Spark passes it.

        Returns
        -------
        dict of arrays, pandas.DataFrame or pyarrow.Table
            A new batch of the same type, or an iterator of such batches. Each row of ``labels`` is
            a list of k names, or numbers if the model has no names, best first. Each row of
            ``scores`` is a list of k floats.

        Raises
        ------
        TypeError
            If the batch is of another type, or if a text is no str.
        ValueError
            If `model_dir` holds no saved model, if the batch lacks the column of the texts or has a
            column ``labels`` or ``scores``, if a text is missing, or if the model has fewer than k
            labels.
        """
        if isinstance(batch, Iterator):
            return map(self, batch)
        texts = self._texts(batch)
        labels, scores = predict_topk(_model_in(self.model_dir), texts, self.k)
        return _with_columns(batch, labels, scores)

    def _texts(self, batch: Any) -> list[str]:
        """Return the texts of a batch that has room for the new columns."""
        names = _column_names(batch)
        if self.text_column not in names:
            raise ValueError(
                f"The batch has no column {quoted(self.text_column)}. Its columns are "
                f"{listed(map(str, names))}. Set text_column."
            )
        for name in (LABELS, SCORES):
            if name in names:
                raise ValueError(
                    f"The batch has a column {quoted(name)} already. Rename it, because the "
                    "predictions get this name."
                )
        return check_texts(batch[self.text_column], name=self.text_column, allow_empty=True)


def _column_names(batch: Any) -> list[Any]:
    if isinstance(batch, Mapping):
        return list(batch)
    if hasattr(batch, "append_column"):  # pyarrow
        return list(batch.column_names)
    if hasattr(batch, "assign"):  # pandas
        return list(batch.columns)
    raise TypeError(
        f"A batch is a dict of arrays, a pandas.DataFrame or a pyarrow.Table, got "
        f"{type(batch).__name__}. Convert it, or set the batch format of the engine."
    )


def _with_columns(batch: Any, labels: NDArray[Any], scores: NDArray[Any]) -> Any:
    """Return a batch with two more columns, of one list per text."""
    if hasattr(batch, "append_column"):
        pa = import_module("pyarrow")
        kind = pa.string() if labels.dtype == object else pa.int64()
        named = pa.array(labels.tolist(), pa.list_(kind))
        numbers = pa.array(scores.tolist(), pa.list_(pa.float32()))
        return batch.append_column(LABELS, named).append_column(SCORES, numbers)
    rows = {LABELS: labels.tolist(), SCORES: scores.tolist()}
    columns = {name: np.fromiter(rows[name], object) for name in rows}  # also without rows
    return batch.assign(**columns) if hasattr(batch, "assign") else {**batch, **columns}


def _model_in(folder: str) -> Any:
    """Return the model of a folder, which is loaded at first and after it was replaced."""
    # It loads scikit-learn, which skxmc.serving does without.
    from skxmc._storage.estimators import INDEX, load_estimator

    index = Path(folder, INDEX)
    with _loading:
        found = index.stat() if index.is_file() else None
        written = found and (found.st_mtime_ns, found.st_ino)
        if folder not in _models or _models[folder][0] != written:
            _models[folder] = written, load_estimator(folder)
        return _models[folder][1]
