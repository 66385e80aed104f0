"""Checkpoints, to resume training runs after a crash."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from joblib import hash as joblib_hash
from safetensors.torch import load_file

from skxmc._input.text_column import content_of
from skxmc._model.fitted import Model
from skxmc._storage.folder import (
    check_target,
    locked,
    read_index,
    replace_content,
    verified_content,
)
from skxmc._storage.pickling import ADDED_PARAMS, network_state
from skxmc._storage.plain import DESCRIPTION
from skxmc._storage.pretrained import (
    plain_params,
    read_model,
    value_from_plain,
    write_model,
    write_tensors,
)
from skxmc._utils.paths import user_path
from skxmc._utils.quoting import MAX_PATH, quoted
from skxmc._version import __version__

FORMAT_VERSION = 1
INDEX = "checkpoint.json"
STATE = "training.json"
TENSORS = "training.safetensors"
# The description of a run holds hashes of its data, under names with this prefix.
HASHED = "hash of "
WARM_START = f"{HASHED}weights of the warm start"
# Parameters that do not change the trained weights, except by rounding, and `time_limit`, which a
# resumed run may have another one of.
NOT_LEARNED = (
    "checkpoint_dir",
    "checkpoint_every",
    "device",
    "gradient_checkpointing",
    "label_search",
    "memory",
    "n_jobs",
    "prediction_batch_size",
    "threshold",
    "time_limit",
    "verbose",
)
# With checkpoint_every="auto", writing takes at most this share of the time.
WRITING_SHARE = 0.05
# Prefix of strings in JSON that stand for tensors. The name of the tensor follows.
TENSOR = "tensor:"


class Found(NamedTuple):
    """A training run, read from its folder."""

    run: dict[str, Any]
    model: Model
    history: list[dict[str, Any]]
    state: dict[str, Any] | None  # of `Training`, or None if the run is finished


class NoCheckpoint:
    """A run that writes nothing to disk."""

    keeps = False  # whether to call `save` at all
    found: Found | None = None
    run: dict[str, Any] | None = None

    def identify(self, *_: object) -> None:
        """Accept any run."""

    def is_due(self, step: int, *, ends_epoch: bool) -> bool:
        """Return that nothing is to be written."""
        return False

    def save(
        self, model: Model, history: list[dict[str, Any]], state: object, weights: object
    ) -> None:
        """Write nothing."""


class Checkpoint:
    """The folder with the model and the training state of one run.

    Parameters
    ----------
    folder : str or path
        Folder of the checkpoint, created if it is missing.
    params : dict
        Parameters of the estimator, from ``get_params(deep=False)``.

    Attributes
    ----------
    found : Found or None
        The run in the folder. All its files have been verified.
    run : dict or None
        Description of this run, set by `identify`.

    Raises
    ------
    ValueError
        If the folder holds something else, is damaged, or was written by a newer version.
    """

    keeps = True

    def __init__(self, folder: str | os.PathLike[str], params: Mapping[str, Any]) -> None:
        self.folder = user_path(folder)
        self.params = params
        self.found = find_run(self.folder)
        self.run: dict[str, Any] | None = None
        # How long the last checkpoint took to write, and until when.
        self.seconds = 0.0
        self.written = time.perf_counter()

    def identify(
        self,
        values: dict[str, Any],
        data: dict[str, Any],
        previous: Model | None,
        stopped_run: dict[str, Any] | None,
    ) -> None:
        """Describe everything that decides the result of this run, and refuse to resume others.

        Parameters
        ----------
        values : dict
            Seed and type of device. On a CPU, words have sparse gradients and thus other moments.
        data : dict
            Texts, labels and other data of `fit`. Only their hashes are stored.
        previous : Model or None
            Model of the previous fit, if this is a warm start.
        stopped_run : dict or None
            Description of the run in which Ctrl-C stopped the estimator. If it is the run in the
            folder, `previous` is the model that this run has trained, and not its warm start.

        Raises
        ------
        ValueError
            If the run in the folder differs. The message names the difference.
        """
        params = plain_params(self.params)
        run = {name: value for name, value in params.items() if name not in NOT_LEARNED}
        run |= values
        run |= {HASHED + name: joblib_hash(content_of(value)) for name, value in data.items()}
        run = json.loads(json.dumps(run))  # as it is read back, with lists for tuples
        found = {} if self.found is None else self.found.run
        if found and found == stopped_run:
            if WARM_START in found:
                run[WARM_START] = found[WARM_START]
        elif previous is not None:
            run[WARM_START] = joblib_hash(network_state(previous.network))
        learned = [name for name in found if name not in NOT_LEARNED]  # earlier versions had others
        for name in [*run, *learned] if found else []:
            ours, theirs = run.get(name), found.get(name, ADDED_PARAMS.get(name))
            if ours != theirs:
                if name.startswith(HASHED):
                    difference = f"other {name.removeprefix(HASHED)}"
                else:
                    theirs, ours = (
                        quoted(value_from_plain(value), MAX_PATH) for value in (theirs, ours)
                    )
                    difference = f"{name}={theirs}, not {ours}"
                raise ValueError(
                    f"checkpoint_dir={str(self.folder)!r} holds a training run with "
                    f"{difference}. Set this back to resume that run. To start another run, give "
                    "another folder or delete this one."
                )
        self.run = run

    def is_due(self, step: int, *, ends_epoch: bool) -> bool:
        """Return whether to write a checkpoint after `step` steps, see `checkpoint_every`.

        With "auto", the first step shows how long writing takes.
        """
        every = self.params["checkpoint_every"]
        if every == "auto":
            rest = time.perf_counter() - self.written
            return self.seconds <= WRITING_SHARE * (rest + self.seconds)
        return ends_epoch or step % every == 0

    def save(
        self,
        model: Model,
        history: list[dict[str, Any]],
        state: dict[str, Any] | None,
        weights: Mapping[str, torch.Tensor],
    ) -> None:
        """Replace the checkpoint in the folder with the current state of the run.

        Raises
        ------
        OSError
            If the checkpoint cannot be written. The previous checkpoint then remains.
        """

        def write(content: Path) -> None:
            write_model(content, model, self.params, history, torch.float32, weights)
            tensors: dict[str, torch.Tensor] = {}
            saved = {"run": self.run, "state": pack(state, tensors)}
            (content / STATE).write_text(json.dumps(saved), encoding="utf-8")
            write_tensors(tensors, content / TENSORS)

        started = time.perf_counter()
        versions = {"format_version": FORMAT_VERSION, "skxmc_version": __version__}
        try:
            replace_content(self.folder, INDEX, versions, write)
        except OSError as error:
            raise OSError(
                error.errno,
                f"A checkpoint could not be written to checkpoint_dir={str(self.folder)!r} "
                f"({error}). The previous checkpoint remains. Make room and call fit again to "
                "resume.",
            ) from error
        self.written = time.perf_counter()
        self.seconds = self.written - started


def find_run(folder: Path) -> Found | None:
    """Read the run in a folder, if there is one, and verify all its files."""
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
    """Replace the tensors in nested dicts and lists by their names, so that JSON can hold the rest.

    Parameters
    ----------
    tree : object
        Nested dicts with string keys, lists, tensors and plain values.
    tensors : dict
        Dict that receives the tensors, by their path.
    path : str
        Path of `tree`.
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
    """Undo `pack`: replace the names of tensors by the tensors."""
    if isinstance(tree, str) and tree.startswith(TENSOR):
        # Copied, because a tensor in a file is aligned differently, which may change rounding.
        return tensors[tree.removeprefix(TENSOR)].clone()
    if isinstance(tree, dict):
        return {key: unpack(value, tensors) for key, value in tree.items()}
    if isinstance(tree, list):
        return [unpack(value, tensors) for value in tree]
    return tree
