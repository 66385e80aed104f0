"""LabelChangesMixin: labels that a fitted LightXMLClassifier gains or loses without training."""

from __future__ import annotations

import copy
from collections.abc import Collection
from typing import Any, TypeVar

import numpy as np
import scipy.sparse as sp

from skxmc._base import TextRankerMixin
from skxmc._inference.predictor import Predictor
from skxmc._input.per_label import LabelTexts
from skxmc._input.split import add_label_texts
from skxmc._input.texts import check_texts
from skxmc._input.types import LabelsOfTexts, Texts
from skxmc._input.validation import check_labels, find_columns, label_array
from skxmc._model.fitted import Model
from skxmc._training.new_labels import MANY_TEXTS, add_labels, keep_labels, weigh_texts
from skxmc._utils.quoting import quoted

Classifier = TypeVar("Classifier", bound="LabelChangesMixin")


class LabelChangesMixin(TextRankerMixin):
    """Mixin of a classifier with a `Model`: its fitted attributes, and changes of its labels.

    A class defines `_predictor`.
    """

    network_: Any
    tokenizer_: Any
    clusterer_: Any
    head_learning_rate_: float | None
    history_: list[dict[str, Any]]

    # Description of the run in which Ctrl-C has stopped this classifier, if it has a checkpoint.
    _stopped_run: dict[str, Any] | None = None

    def _predictor(self) -> Predictor:
        """Make a predictor of the fitted model."""
        raise AttributeError(f"{type(self).__name__} must define _predictor.")

    @property
    def _model(self) -> Model:
        return Model(**{name: getattr(self, f"{name}_") for name in Model._fields})

    def _fitted(self, model: Model, history: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the fitted attributes."""
        fitted = {f"{name}_": value for name, value in model._asdict().items()}
        return {
            **fitted,
            "n_labels_": len(model.classes),
            "history_": history,
            "n_iter_": len(history),
        }

    def _adopt(
        self: Classifier,
        model: Model,
        history: list[dict[str, Any]],
        stopped_run: dict[str, Any] | None = None,
    ) -> Classifier:
        """Set all fitted attributes in one step."""
        self._become({**self._fitted(model, history), "_stopped_run": stopped_run})
        return self

    def add_labels(
        self: Classifier,
        names: Collection[str | int],
        *,
        label_texts: LabelTexts | None = None,
        X: Texts | None = None,
        y: LabelsOfTexts = None,
    ) -> Classifier:
        r"""Add labels without training, from texts about them, a few examples, or both.

        They are predicted at once. The scores of the other labels stay as they are. To train the
        new labels, call `fit` with ``warm_start=True`` and texts of old and new labels.

        Read more in the user guide: :doc:`/guide/new_labels`.

        Parameters
        ----------
        names : list or array of str or int, of length n_new
            Labels that are not in `classes_`. They are appended in this order.
        label_texts : array-like of shape (n_new,), Series, dict or callable, default=None
            A text about each new label, such as its name, in the order of `names` or by label.
            None or "" if there is none.
        X : list, array or column of str, of length n_texts, default=None
            Examples: texts with new labels.
        y : matrix, frame or list of label collections, of length n_texts, default=None
            Labels of X. A matrix has one column per new label, in the order of `names`.
            Collections and frames may have other labels too, which count for nothing.

        Returns
        -------
        LightXMLClassifier
            The estimator itself.

        Raises
        ------
        ValueError
            If a label is known already, has neither text nor example, or is given twice. If X or y
            is given alone or malformed. The classifier is unchanged.
        TypeError
            If labels or texts have a wrong type.
        NotFittedError
            If `fit` was not called.

        Notes
        -----
        With the label embeddings E, their mean m, and the part z of the bottleneck states that is
        orthogonal to m, the new embedding is

        .. math::
            E_l = m + \overline{\|E - m\|} \; \bar z_l / \|\bar z_l\|

        Here the mean of z is over the texts of the label, minus the z of an average text. A text
        about the label weighs twice, as in `fit`. The bias is the log prior of as many texts, as
        in `fit`, within the range of the trained biases.

        With two stages, a label goes to the cluster that the recall head finds for its texts, if
        the cluster has room: it holds less than 1.5 times the mean. Otherwise it goes to the next
        best.

        Examples
        --------
        >>> from skxmc import LightXMLClassifier
        >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
        >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
        >>> clf = LightXMLClassifier(
        ...     "sentence-transformers/all-MiniLM-L6-v2", max_epochs=1, random_state=0
        ... ).fit(texts, tags)
        >>> clf = clf.add_labels(["weather"], label_texts=["rain, storms and sunshine"])
        >>> clf.predict_topk(["a storm brought rain"], k=1).labels
        array([['weather']], dtype=object)
        """
        clf = self._ready()
        new = _check_new(names, clf.classes_)
        texts: list[str] = []
        examples = sp.csr_array((0, len(new)), dtype=np.float32)
        if X is not None or y is not None:
            if X is None or y is None:
                given, lacking = ("X", "y") if y is None else ("y", "X")
                raise ValueError(f"{given} is given without {lacking}. Pass both.")
            texts = check_texts(X)
            examples = check_labels(y, classes=new, n_texts=len(texts)).matrix
        n_examples = len(texts)
        texts, matrix = add_label_texts(texts, examples, new, label_texts)
        n_texts_of = np.bincount(matrix.indices, minlength=len(new))
        if not n_texts_of.all():
            label = new.tolist()[int(n_texts_of.argmin())]
            raise ValueError(
                f"The new label {quoted(label)} has neither text nor example. Pass a text about it "
                "in label_texts, or texts that have it in X and y."
            )
        weights = weigh_texts(matrix, len(texts) - n_examples)
        batches = clf._predictor().results(texts, lambda e: (e,))
        model = clf._model._replace(network=copy.deepcopy(clf.network_))
        n_texts = (epoch["n_texts"] for epoch in clf.history_ if "n_texts" in epoch)
        model = add_labels(model, new, weights, batches, next(n_texts, MANY_TEXTS))
        return self._adopt(model, clf.history_)

    def remove_labels(self: Classifier, names: Collection[str | int]) -> Classifier:
        """Remove labels without training. The scores of the other labels stay as they are.

        To leave labels out of some predictions only, pass ``exclude`` to `predict_topk`.

        Read more in the user guide: :doc:`/guide/new_labels`.

        Parameters
        ----------
        names : list or array of str or int
            Labels of `classes_`, but not all of them.

        Returns
        -------
        LightXMLClassifier
            The estimator itself.

        Raises
        ------
        ValueError
            If a label is unknown or given twice, or if no label would be left. The classifier is
            unchanged.
        TypeError
            If `names` is not a list of labels.
        NotFittedError
            If `fit` was not called.

        Notes
        -----
        With two stages, a cluster without labels is removed too. If each cluster has a single label
        left, the score of a label is that of the ranking head alone, as in the direct mode.
        """
        clf = self._ready()
        removed = label_array(names, "names")
        columns = find_columns(removed, clf.classes_, "names")
        if (columns < 0).any():
            unknown = removed.tolist()[int(np.argmin(columns))]
            raise ValueError(f"names holds {quoted(unknown)}, which is not a label. Leave it out.")
        if len(removed) == clf.n_labels_:
            raise ValueError(f"names holds all {clf.n_labels_} labels. Keep at least one label.")
        kept = np.setdiff1d(np.arange(clf.n_labels_), columns)
        return self._adopt(keep_labels(clf._model, kept), clf.history_)


def _check_new(names: Any, classes: np.ndarray) -> np.ndarray:
    """Check that labels are distinct, and not yet among the classes."""
    new = label_array(names, "names")
    if not new.size:
        raise ValueError("names holds no label. Pass at least one new label.")
    known = find_columns(new, classes, "names") >= 0
    if known.any():
        raise ValueError(
            f"names holds {quoted(new.tolist()[int(np.argmax(known))])}, which is a label already. "
            "Pass only new labels. To learn more about known ones, call fit with warm_start=True."
        )
    return new
