"""Training runs that go on where they were stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from sklearn.base import BaseEstimator

from skxmc._model.fitted import Model
from skxmc._storage.folder import (
    check_target,
    locked,
    read_index,
    replace_content,
    verified_content,
)
from skxmc._storage.pretrained import DESCRIPTION, read_model, write_model, write_tensors
from skxmc._version import __version__

FORMAT_VERSION = 1
INDEX = "checkpoint.json"
STATE = "training.json"
TENSORS = "training.safetensors"
# What a run says of its data are hashes, under names that start so.
HASHED = "hash of "
# Stands in JSON for a tensor, whose name follows.
TENSOR = "tensor:"


class Found(NamedTuple):
    """What a run has left in its folder."""

    run: dict[str, Any]
    model: Model
    history: list[dict[str, Any]]
    state: Any  # of `Training`; None where it is done


class Checkpoint:
    """The folder in which one training run keeps what it takes to go on.

    Parameters
    ----------
    folder : str or path
        Made if need be.

    Attributes
    ----------
    found : Found or None
        What is there already, every file of it checked.

    Raises
    ------
    ValueError
        If the folder holds something else, or is damaged, or was written by a newer version.
    """

    def __init__(self, folder: Any) -> None:
        self.folder = Path(folder)
        self.run: dict[str, Any] = {}
        check_target(self.folder, INDEX)
        self.found: Found | None = None
        if (self.folder / INDEX).is_file():
            with locked(self.folder, to_write=False):
                self.found = self._read()

    def _read(self) -> Found:
        index = read_index(self.folder, INDEX)
        if index.get("format_version", 0) > FORMAT_VERSION:
            raise ValueError(
                f"checkpoint_dir={str(self.folder)!r} was written by skxmc "
                f"{index.get('skxmc_version')}, in a format newer than this version reads. Install "
                "that version or a later one, or give another folder."
            )
        content = verified_content(self.folder, INDEX)
        description = json.loads((content / DESCRIPTION).read_text(encoding="utf-8"))
        saved = json.loads((content / STATE).read_text(encoding="utf-8"))
        tensors = load_file(content / TENSORS)
        return Found(
            saved["run"],
            read_model(content, description),
            description["history"],
            unpack(saved["state"], tensors),
        )

    def identify(self, run: dict[str, Any]) -> None:
        """Say which run this is; refuse to go on with another one.

        Parameters
        ----------
        run : dict
            Plain values by name: all that decides what is learned.

        Raises
        ------
        ValueError
            If the one in the folder has another value; the message names it.
        """
        run = json.loads(json.dumps(run))  # as it is read: lists for tuples
        if self.found is not None:
            of_found = self.found.run
            for name in [*run, *of_found]:
                ours, theirs = run.get(name), of_found.get(name)
                if ours != theirs:
                    if name.startswith(HASHED):
                        difference = f"other {name.removeprefix(HASHED)}"
                    else:
                        difference = f"{name}={theirs!r}, not {ours!r}"
                    raise ValueError(
                        f"checkpoint_dir={str(self.folder)!r} holds a training run with "
                        f"{difference}. Set that back to go on with it; to "
                        "start anew, give another folder or delete this one."
                    )
        self.run = run

    def save(
        self, model: Model, estimator: BaseEstimator, history: list[dict[str, Any]], state: Any
    ) -> None:
        """Replace what is in the folder by the run as it is now.

        Raises
        ------
        OSError
            If that cannot be written; what was in the folder is still there.
        """

        def write(content: Path) -> None:
            write_model(content, model, estimator, history, torch.float32)
            tensors: dict[str, torch.Tensor] = {}
            saved = {"run": self.run, "state": pack(state, tensors)}
            (content / STATE).write_text(json.dumps(saved), encoding="utf-8")
            write_tensors(tensors, content / TENSORS)

        versions = {"format_version": FORMAT_VERSION, "skxmc_version": __version__}
        try:
            replace_content(self.folder, INDEX, versions, write)
        except OSError as error:
            raise OSError(
                error.errno,
                f"A checkpoint could not be written to checkpoint_dir={str(self.folder)!r} "
                f"({error}); the one before is still there. Make room, or give another folder, "
                "and call fit again.",
            ) from error


def pack(tree: Any, tensors: dict[str, torch.Tensor], path: str = "") -> Any:
    """Part tensors from the rest of nested dicts and lists, which then is fit for JSON.

    Parameters
    ----------
    tree : object
        Dicts with keys that are strings, lists, tensors, plain values.
    tensors : dict
        Where the tensors go, by their path.
    path : str
        Of `tree` in what is packed.
    """
    if isinstance(tree, torch.Tensor):
        tensors[path] = tree.detach().cpu().contiguous()
        return TENSOR + path
    if isinstance(tree, dict):
        return {key: pack(value, tensors, f"{path}/{key}") for key, value in tree.items()}
    if isinstance(tree, list):
        return [pack(value, tensors, f"{path}/{i}") for i, value in enumerate(tree)]
    return tree


def unpack(tree: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """Put tensors back where `pack` took them out."""
    if isinstance(tree, str) and tree.startswith(TENSOR):
        # A copy: what lies in a file is aligned otherwise, and products may be rounded otherwise.
        return tensors[tree.removeprefix(TENSOR)].clone()
    if isinstance(tree, dict):
        return {key: unpack(value, tensors) for key, value in tree.items()}
    if isinstance(tree, list):
        return [unpack(value, tensors) for value in tree]
    return tree
