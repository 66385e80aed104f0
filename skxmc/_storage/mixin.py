"""PretrainedMixin: folders without pickle, and the Hugging Face Hub, as methods of estimators."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypeVar, cast

from skxmc._storage.estimators import load_estimator, save_pretrained
from skxmc._storage.hub import local_folder, push_to_hub

Saved = TypeVar("Saved", bound="PretrainedMixin")


class PretrainedMixin:
    """Mixin of estimators that are saved in folders without pickle."""

    def save_pretrained(self, folder: str | os.PathLike[str], dtype: str = "float32") -> None:
        """Save the fitted estimator in a folder of JSON, safetensors and tokenizer files.

        If labels are in parts after a fit in several processes, call it in all of them: see
        :doc:`/guide/distributed`. The first process then writes the whole model.

        Read more in the user guide: :doc:`/guide/saving_and_serving`.

        Parameters
        ----------
        folder : str or path
            Folder to create. A model that is there already is replaced as a whole.
        dtype : {"float32", "float16", "int8"}, default="float32"
            Type of the weights of a `LightXMLClassifier` in the file, also inside others.
            "float32" is exact. "float16" takes half the space. "int8" takes a quarter for label
            embeddings and recall head, and half for the rest. Other values stay exact.

        Raises
        ------
        ValueError
            If `folder` holds something else, or if the weights do not fit `dtype`.
        TypeError
            If the estimator holds something that needs pickle, such as a function.
        NotFittedError
            If `fit` was not called.
        OSError
            If the disk is full or the folder cannot be written. A model that was there stays.
        RuntimeError
            If labels are in parts, and another process fails or does not call it.

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
        save_pretrained(self, folder, dtype)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        dtype: str = "float32",
        metrics: Mapping[str, float] | None = None,
        replace_card: bool = False,
    ) -> str:
        """Save the fitted estimator in a repository of the Hugging Face Hub, with a model card.

        Read more in the user guide: :doc:`/guide/saving_and_serving`.

        Parameters
        ----------
        repo_id : str
            Repository ``"user/name"`` or ``"organization/name"``, which is created if it is
            missing. A model that is there already is replaced in one commit.
        private : bool, default=None
            Whether a new repository is private. None leaves it to the Hub, which makes public ones
            unless an organization has set another default.
        revision : str, default=None
            Branch to write to, which is created if it is missing. None is the main branch.
        token : str, default=None
            Token of the Hub that may write. None takes that of ``hf auth login`` or ``HF_TOKEN``.
        dtype : {"float32", "float16", "int8"}, default="float32"
            Type of the weights in the files, see `save_pretrained`.
        metrics : dict of str to float, default=None
            Results for the card, such as ``{"precision_at_5": 0.71}``. None takes P@5 of the
            validation texts, if there were any in `fit`.
        replace_card : bool, default=False
            Whether to replace a card that is there already. By default it stays, because you may
            have edited it.

        Returns
        -------
        str
            Address of the commit.

        Raises
        ------
        ValueError, TypeError, NotFittedError, PermissionError, OSError
            See `skxmc.push_to_hub`.
        """
        return push_to_hub(
            self,
            repo_id,
            private=private,
            revision=revision,
            token=token,
            dtype=dtype,
            metrics=metrics,
            replace_card=replace_card,
        )

    @classmethod
    def from_pretrained(
        cls: type[Saved],
        folder: str | os.PathLike[str],
        *,
        revision: str | None = None,
        token: str | None = None,
    ) -> Saved:
        """Load an estimator that `save_pretrained` or `push_to_hub` has written.

        It needs no GPU. A folder needs no network, nor does a model of the Hub that was loaded
        before.

        Parameters
        ----------
        folder : str or path
            Folder that was given to `save_pretrained`. If there is none of this name, the
            repository ``"user/name"`` on the Hugging Face Hub.
        revision : str, default=None
            Branch, tag or commit of the repository. None is the main branch.
        token : str, default=None
            Token of the Hub. None takes that of ``hf auth login`` or ``HF_TOKEN``, if there is one.

        Returns
        -------
        estimator
            Fitted estimator in float32. If the file of a `LightXMLClassifier` is not in float32,
            its label embeddings are in float16 until `fit` goes on with them. A random_state or
            memory that was an object is None. If its clusterer was of your own class, it is a
            `BalancedLabelClusterer`.

        Raises
        ------
        ValueError
            If `folder` holds no saved model, a damaged one, one of a newer version, or another
            class, or if there is no such repository or revision.
        PermissionError
            If the Hub refuses the token, or if the repository needs one.
        OSError
            If the Hub cannot be reached.

        Examples
        --------
        See `save_pretrained`.
        """
        path = local_folder(folder, revision=revision, token=token)
        return cast(Saved, load_estimator(path, cls))
