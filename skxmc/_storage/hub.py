"""Models on the Hugging Face Hub: repositories that hold a folder of `save_pretrained` and a card.

huggingface_hub comes with transformers. It is imported where it is used, because it is slow.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from skxmc._storage.estimators import INDEX, load_estimator, networks_in, save_pretrained
from skxmc._storage.folder import CONTENT, read_index
from skxmc._storage.model_card import model_card
from skxmc._utils.paths import user_path
from skxmc._utils.quoting import MAX_ERROR, quoted_path, shortened

CARD = "README.md"
REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
LOG_IN = "Log in with `hf auth login`, or pass token"


def push_to_hub(
    estimator: Any,
    repo_id: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
    dtype: str = "float32",
    metrics: Mapping[str, float] | None = None,
    replace_card: bool = False,
) -> str:
    """Save a fitted estimator in a repository of the Hugging Face Hub, with a model card.

    Estimators of this package have it as a method. The function also takes pipelines of them.
    `skxmc.from_pretrained` loads the model by the name of its repository.

    Read more in the user guide: :doc:`/guide/saving_and_serving`.

    Parameters
    ----------
    estimator : estimator
        Whatever `skxmc.save_pretrained` takes.
    repo_id : str
        Repository ``"user/name"`` or ``"organization/name"``, which is created if it is missing.
        A model that is there already is replaced in one commit.
    private : bool, default=None
        Whether a new repository is private. None leaves it to the Hub, which makes public ones
        unless an organization has set another default.
    revision : str, default=None
        Branch to write to, which is created if it is missing. None is the main branch.
    token : str, default=None
        Token of the Hub that may write. None takes the one of ``hf auth login`` or ``HF_TOKEN``.
    dtype : {"float32", "float16", "int8"}, default="float32"
        Type of the weights in the files, see `skxmc.save_pretrained`.
    metrics : dict of str to float, default=None
        Results for the card, such as ``{"precision_at_5": 0.71}``. None takes P@5 of the validation
        texts, if there were any in `fit`.
    replace_card : bool, default=False
        Whether to replace a card that is there already. By default it stays, because you may have
        edited it.

    Returns
    -------
    str
        Address of the commit.

    Raises
    ------
    ValueError
        If `repo_id` is no name of a repository, or if the weights do not fit `dtype`.
    TypeError
        If the estimator holds something that needs pickle, such as a function.
    NotFittedError
        If the estimator is not fitted.
    PermissionError
        If the token is missing, wrong, or may not write.
    OSError
        If the Hub cannot be reached or answers with another error. A model that was there stays.

    Examples
    --------
    >>> import skxmc
    >>> clf = skxmc.OmikujiClassifier().fit(["a cat", "a bond"], [["animals"], ["finance"]])
    >>> url = skxmc.push_to_hub(clf, "user/tagger", private=True)  # doctest: +SKIP
    >>> clf = skxmc.from_pretrained("user/tagger")  # doctest: +SKIP
    """
    for network in networks_in(estimator):
        network.check_whole()
    with TemporaryDirectory(prefix="skxmc-") as temporary:
        folder = Path(temporary, "model")
        save_pretrained(estimator, folder, dtype)
        with _explained(repo_id, to_write=True):
            return _commit(
                estimator,
                folder,
                repo_id,
                private=private,
                revision=revision,
                token=token,
                metrics=metrics,
                replace_card=replace_card,
            )


def from_pretrained(
    folder: str | os.PathLike[str], *, revision: str | None = None, token: str | None = None
) -> Any:
    """Load the estimator that `save_pretrained` or `push_to_hub` has written, of any class.

    It runs no code of the folder, and needs no GPU. A folder needs no network, nor does a model of
    the Hub that was loaded before.

    Read more in the user guide: :doc:`/guide/saving_and_serving`.

    Parameters
    ----------
    folder : str or path
        Folder that was given to `save_pretrained`. If there is none of this name, the repository
        ``"user/name"`` on the Hugging Face Hub.
    revision : str, default=None
        Branch, tag or commit of the repository. None is the main branch.
    token : str, default=None
        Token of the Hub. None takes the one of ``hf auth login`` or ``HF_TOKEN``, if there is one.

    Returns
    -------
    estimator
        Fitted estimator. A random_state or memory that was an object is None.

    Raises
    ------
    ValueError
        If `folder` holds no saved model, a damaged one, or one of a newer version, or if there is
        no such repository or revision.
    PermissionError
        If the Hub refuses the token, or if the repository needs one.
    OSError
        If the Hub cannot be reached.

    Examples
    --------
    >>> import tempfile
    >>> import skxmc
    >>> texts = ["the cat sat on the mat", "stocks fell again", "a cat bond fell"]
    >>> tags = [["animals"], ["finance"], ["finance", "insurance"]]
    >>> clf = skxmc.make_classifier(fine_tune=False).fit(texts, tags)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     clf.save_pretrained(folder)
    ...     served = skxmc.from_pretrained(folder)
    >>> served.predict_topk(["shares and bonds"], k=1).labels
    array([['finance']], dtype=object)
    """
    return load_estimator(local_folder(folder, revision=revision, token=token))


def local_folder(
    folder: str | os.PathLike[str], *, revision: str | None = None, token: str | None = None
) -> Path:
    """Return the folder itself, or download the repository of this name to the Hub's cache.

    Raises
    ------
    ValueError, OSError
        See `from_pretrained`.
    """
    path, name = user_path(folder), os.fspath(folder)
    if path.exists() or isinstance(folder, os.PathLike) or not REPO_ID.fullmatch(name):
        if revision is not None:
            raise ValueError(
                f"revision is given, but {quoted_path(name)} names a folder of this machine. Give "
                "the name 'user/name' of a repository on the Hub, or leave out revision."
            )
        return path
    from huggingface_hub import hf_hub_download, snapshot_download

    with _explained(name, to_write=False):
        index = Path(hf_hub_download(name, INDEX, revision=revision, token=token))
        found = index.parent  # named by its commit, so that all files are of the same
        content = read_index(found, INDEX).get("content")
        patterns = [INDEX, f"{content}/*"]
        snapshot_download(name, revision=found.name, token=token, allow_patterns=patterns)
    return found


def _commit(
    estimator: Any,
    folder: Path,
    repo_id: str,
    *,
    private: bool | None,
    revision: str | None,
    token: str | None,
    metrics: Mapping[str, float] | None,
    replace_card: bool,
) -> str:
    """Replace the model in a repository by that in `folder`, in one commit. Return its address."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(token=token)
    repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
    if revision is not None:
        api.create_branch(repo_id, branch=revision, exist_ok=True)
    there = api.list_repo_files(repo_id, revision=revision)
    if replace_card or CARD not in there:
        card = model_card(estimator, repo_id, metrics)
        (folder / CARD).write_text(card, encoding="utf-8")
    obsolete = sorted({name.split("/")[0] for name in there if name.startswith(CONTENT)})
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationDelete(f"{name}/", is_folder=True) for name in obsolete),
        *(CommitOperationAdd(path.relative_to(folder).as_posix(), path) for path in files),
    ]
    message = f"Upload {type(estimator).__name__}"
    commit = api.create_commit(repo_id, operations, commit_message=message, revision=revision)
    return commit.commit_url


@contextlib.contextmanager
def _explained(name: str, *, to_write: bool) -> Iterator[None]:
    """Replace errors of huggingface_hub about the repository `name` by ours, with a remedy."""
    from huggingface_hub import errors

    try:
        yield
    except errors.HFValidationError as error:
        raise ValueError(
            f"{quoted_path(name)} is no name of a repository on the Hub: "
            f"{_short(error)} Give a name such as 'user/name'."
        ) from error
    except (errors.HTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise _with_remedy(error, name, to_write) from error


def _with_remedy(error: Exception, name: str, to_write: bool) -> Exception:
    """Make the error that says what is wrong with a repository, and what to do."""
    from huggingface_hub import constants, errors

    what, hub = quoted_path(name), constants.ENDPOINT
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        error = error.__cause__
    match error:
        case errors.GatedRepoError():
            return PermissionError(
                f"{what} is for those who have accepted its conditions. Accept them at "
                f"{hub}/{name}. {LOG_IN}."
            )
        case errors.RevisionNotFoundError():
            return ValueError(
                f"{what} on the Hub has no such revision. Give a branch, tag or commit of it."
            )
        case errors.EntryNotFoundError() if isinstance(error, errors.HfHubHTTPError):
            return ValueError(
                f"{what} on the Hub is no model of skxmc: it has no {INDEX}. Give a repository "
                "that push_to_hub has written."
            )
        case errors.RepositoryNotFoundError() if not to_write:
            return ValueError(
                f"There is no folder {what}, and no repository of this name on the Hub that you "
                f"may read. Check the name. If the repository is private: {LOG_IN}."
            )
        case errors.HfHubHTTPError() if error.response.status_code == 401:
            return PermissionError(
                f"The Hub needs a valid token for {what}. Make one at {hub}/settings/tokens. "
                f"{LOG_IN}."
            )
        case errors.HfHubHTTPError() if error.response.status_code in (403, 404):
            return PermissionError(
                f"Your token may not write to {what}. Give the name of a repository of yours, or "
                f"a token that may write to this one, from {hub}/settings/tokens."
            )
        case errors.HfHubHTTPError():
            return OSError(f"The Hub failed at {what} ({_short(error)}). Try again later.")
    reason, remedy = f"there is no connection to {hub}", "Connect to the network"
    if isinstance(error, errors.OfflineModeIsEnabled):
        reason, remedy = "HF_HUB_OFFLINE is set", "Unset it"
    if to_write:
        return ConnectionError(f"{what} was not written: {reason}. {remedy}, and push again.")
    return ConnectionError(
        f"There is no folder {what}, no model of this name in the cache of the Hub, and {reason}. "
        f"{remedy}, or give a folder that save_pretrained has written."
    )


def _short(error: Exception) -> str:
    return shortened(" ".join(str(error).split()), MAX_ERROR)
