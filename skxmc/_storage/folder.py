"""Folders that are replaced as a whole, and whose damage is noticed.

A folder holds an index and one folder of content::

    skxmc.json            format version, name of the content, size and checksum of each file of it
    content-5f3a9c01b2/   the files

New content is written beside the old one; replacing the index, which is atomic, makes it count.
Whatever happens on the way, the folder holds the old content or the new one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

CONTENT = "content-"
OWN_CONTENT = re.compile(f"{CONTENT}[0-9a-f]{{10}}")
NEW_INDEX = ".new"
READ_BLOCK = 1 << 20


def check_target(folder: Path, index: str) -> None:
    """Refuse a folder that is there and holds something else.

    Raises
    ------
    ValueError
        If it has no such index and is not empty; what an interrupted writer left does not count.
    """
    if not folder.exists() or (folder / index).is_file():
        return
    if not folder.is_dir() or not all(_is_left_over(path, index) for path in folder.iterdir()):
        raise ValueError(
            f"{str(folder)!r} is there already and has no {index}; it is left alone. Give a new "
            "folder."
        )


def replace_content(
    folder: Path,
    index: str,
    description: dict[str, Any],
    write: Callable[[Path], None],
    obsolete: tuple[str, ...] = (),
) -> None:
    """Replace what a folder holds, or make it.

    Parameters
    ----------
    folder : Path
        Where index and content go. It is `locked` meanwhile.
    index : str
        Name of the index file.
    description : dict
        What the index says besides; plain values.
    write : callable
        Writes the files into the folder it is given.
    obsolete : tuple of str
        What earlier versions, whose index names no content, wrote beside the index: it is removed
        with what they wrote.

    Raises
    ------
    ValueError
        If `folder` holds something else.
    OSError
        If the disk is full, say; the folder holds what it held before.
    """
    check_target(folder, index)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, to_write=True):
        content = folder / f"{CONTENT}{secrets.token_hex(5)}"
        new_index = folder / (index + NEW_INDEX)
        before = _index_there(folder, index)
        if not before or "content" in before:
            obsolete = ()  # files of these names are the user's
        try:
            content.mkdir()
            write(content)
            files = {}
            for path in _files(content):
                _sync(path)
                files[path.relative_to(content).as_posix()] = _fingerprint(path)
            folders = [path for path in content.rglob("*") if path.is_dir()]
            for path in (*folders, content, folder):  # the names of files are in folders
                _sync(path)
            written = {**description, "content": content.name, "files": files}
            written["checksum"] = _checksum(written)
            new_index.write_text(json.dumps(written, indent=1), encoding="utf-8")
            _sync(new_index)
            os.replace(new_index, folder / index)
        except BaseException:  # also a Ctrl-C right after the replacement, which counts then
            if _index_there(folder, index).get("content") != content.name:
                shutil.rmtree(content, ignore_errors=True)
            new_index.unlink(missing_ok=True)
            if is_new:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            raise
        _sync(folder)
        for path in folder.iterdir():
            if path.name in obsolete or (_is_left_over(path, index) and path != content):
                _remove(path)


def read_index(folder: Path, index: str) -> dict[str, Any]:
    """Read what `replace_content` was given as `description`, and more; files are not looked at.

    Raises
    ------
    ValueError
        If the index cannot be read.
    """
    try:
        found = json.loads((folder / index).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds {found!r}")
    except (ValueError, RecursionError) as error:
        raise damaged(folder / index, str(error)) from error
    return cast("dict[str, Any]", found)


def verified_content(folder: Path, index: str) -> Path:
    """The folder of the files, all of which are as they were written.

    Raises
    ------
    ValueError
        If the index or a file is not; the message names it.
    """
    found = read_index(folder, index)
    if found.pop("checksum", None) != _checksum(found):
        raise damaged(folder / index, "its checksum is another")
    content = folder / found["content"]
    for name, fingerprint in found["files"].items():
        path = content / name
        if not path.is_file():
            raise damaged(path, "it is missing")
        # Sizes first: they are cheap, and tell most damage.
        size = path.stat().st_size
        if size != fingerprint["bytes"]:
            raise damaged(path, f"it has {size} bytes instead of {fingerprint['bytes']}")
        if _fingerprint(path) != fingerprint:
            raise damaged(path, "its checksum is another")
    return content


def damaged(file: Path, reason: str) -> ValueError:
    """The error to raise for a file that is not as it was written."""
    return ValueError(
        f"{str(file)!r} is damaged ({reason}). Copy its folder again, or write it anew."
    )


@contextlib.contextmanager
def locked(folder: Path, *, to_write: bool) -> Iterator[None]:
    """Keep writers out of a folder, and readers too if it is to write; waits for those inside.

    A process that dies is no longer inside. Where the system has no locks of files, as on Windows,
    nobody is kept out.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # of file systems without locks
            fcntl.flock(handle, fcntl.LOCK_EX if to_write else fcntl.LOCK_SH)
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # closing would not do while a forked child has it
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_left_over(path: Path, index: str) -> bool:
    """Whether a file or folder is no more than what a writer may have left behind."""
    return OWN_CONTENT.fullmatch(path.name) is not None or path.name == index + NEW_INDEX


def _index_there(folder: Path, index: str) -> dict[str, Any]:
    """The index that is there; empty where there is none, or a damaged one."""
    with contextlib.suppress(OSError, ValueError):
        return read_index(folder, index)
    return {}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _fingerprint(path: Path) -> dict[str, Any]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(READ_BLOCK):
            digest.update(part)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _checksum(values: dict[str, Any]) -> str:
    """Checksum of plain values, however they are laid out in the file."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    """Have a file or folder on the disk before going on, where the system can."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder on Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
