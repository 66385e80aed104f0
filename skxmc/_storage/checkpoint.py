"""Checkpoints: training runs that can be resumed after a crash."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from joblib import hash as joblib_hash
from safetensors.torch import load_file

from skxmc._model.fitted import Model
from skxmc._storage.folder import (
    check_target,
    locked,
    read_index,
    replace_content,
    verified_content,
)
from skxmc._storage.pickling import network_state
from skxmc._storage.pretrained import (
    DESCRIPTION,
    plain_params,
    read_model,
    write_model,
    write_tensors,
)
from skxmc._version import __version__

FORMAT_VERSION = 1
INDEX = "checkpoint.json"
STATE = "training.json"
TENSORS = "training.safetensors"
# A run is described by the hashes of its data, under names that start so.
HASHED = "hash of "
WARM_START = f"{HASHED}weights of the warm start"
# Parameters that do not change what is learned, except for the order of rounding.
NOT_LEARNED = (
    "checkpoint_dir",
    "checkpoint_every",
    "device",
    "memory",
    "n_jobs",
    "prediction_batch_size",
    "threshold",
    "verbose",
)
# Stands in JSON for a tensor, whose name follows.
TENSOR = "tensor:"


class Found(NamedTuple):
    """A training run as its folder holds it."""

    run: dict[str, Any]
    model: Model
    history: list[dict[str, Any]]
    state: dict[str, Any] | None  # of `Training`; None if the run is done


class NoCheckpoint:
    """A run that keeps nothing on disk."""

    found: Found | None = None
    run: dict[str, Any] | None = None

    def identify(self, *_: object) -> None:
        """Accept any run."""

    def save(self, model: Model, history: list[dict[str, Any]], state: object) -> None:
        """Keep nothing."""


class Checkpoint:
    """The folder in which one training run keeps its model and its state.

    Parameters
    ----------
    folder : str or path
        Created if it is missing.
    params : dict
        Parameters of the estimator, from ``get_params(deep=False)``.

    Attributes
    ----------
    found : Found or None
        The run in the folder. Every file of it has been verified.
    run : dict or None
        Description of this run, once `identify` has made it.

    Raises
    ------
    ValueError
        If the folder holds something else, is damaged, or was written by a newer version.
    """

    def __init__(self, folder: str | os.PathLike[str], params: Mapping[str, Any]) -> None:
        self.folder = Path(folder)
        self.params = params
        self.found = find_run(self.folder)
        self.run: dict[str, Any] | None = None

    def identify(
        self,
        values: dict[str, Any],
        data: dict[str, Any],
        previous: Model | None,
        stopped_run: dict[str, Any] | None,
    ) -> None:
        """Describe all that decides what this run learns, and refuse to resume another run.

        Parameters
        ----------
        values : dict
            Seed and type of device. On a CPU weights have sparse gradients, so that moments differ.
        data : dict
            Texts, labels and the like. Only their hashes are kept.
        previous : Model or None
            Model of the previous fit, if this is a warm start.
        stopped_run : dict or None
            Description of the run in which Ctrl-C stopped the estimator. If it is the run in the
            folder, `previous` is what this run has learned and not what it started with.

        Raises
        ------
        ValueError
            If the run in the folder differs. The message names the difference.
        """
        params = plain_params(self.params)
        run = {name: value for name, value in params.items() if name not in NOT_LEARNED}
        run |= values
        run |= {HASHED + name: joblib_hash(value) for name, value in data.items()}
        run = json.loads(json.dumps(run))  # as it is read: lists for tuples
        found = {} if self.found is None else self.found.run
        if found and found == stopped_run:
            if WARM_START in found:
                run[WARM_START] = found[WARM_START]
        elif previous is not None:
            run[WARM_START] = joblib_hash(network_state(previous.network))
        for name in [*run, *found] if found else []:
            ours, theirs = run.get(name), found.get(name)
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
        self, model: Model, history: list[dict[str, Any]], state: dict[str, Any] | None
    ) -> None:
        """Replace what is in the folder by the run as it is now.

        Raises
        ------
        OSError
            If it cannot be written. The previous checkpoint is then still there.
        """

        def write(content: Path) -> None:
            write_model(content, model, self.params, history, torch.float32)
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


def find_run(folder: Path) -> Found | None:
    """Read the run that a folder holds, if there is one, and verify every file of it."""
    check_target(folder, INDEX)
    if not (folder / INDEX).is_file():
        return None
    with locked(folder, to_write=False):
        index = read_index(folder, INDEX)
        if index.get("format_version", 0) > FORMAT_VERSION:
            raise ValueError(
                f"checkpoint_dir={str(folder)!r} was written by skxmc "
                f"{index.get('skxmc_version')}, in a format newer than this version reads. Install "
                "that version or a later one, or give another folder."
            )
        content = verified_content(folder, INDEX)
        description = json.loads((content / DESCRIPTION).read_text(encoding="utf-8"))
        saved = json.loads((content / STATE).read_text(encoding="utf-8"))
        tensors = load_file(content / TENSORS)
        return Found(
            saved["run"],
            read_model(content, description),
            description["history"],
            unpack(saved["state"], tensors),
        )


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
