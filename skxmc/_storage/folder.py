"""Folders that are replaced as a whole, and checked for damage.

A folder holds an index and one folder of content::

    skxmc.json            format version, name of the content, sizes and checksums of its files
    content-5f3a9c01b2/   the files

New content is written beside the old content. Then the index is replaced, which is atomic. After a
crash at any moment, the folder thus holds either the old content or the new content.
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

from skxmc._utils.quoting import quoted

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

CONTENT = "content-"
OWN_CONTENT = re.compile(f"{CONTENT}[0-9a-f]{{10}}")
NEW_INDEX = ".new"
READ_BLOCK = 1 << 20


def check_target(folder: Path, index: str) -> None:
    """Refuse an existing folder that holds something else.

    Raises
    ------
    ValueError
        If the folder has no such index, and holds more than the files of an interrupted writer.
    """
    if not folder.exists() or (folder / index).is_file():
        return
    if not folder.is_dir() or not all(_is_left_over(path, index) for path in folder.iterdir()):
        raise ValueError(
            f"{str(folder)!r} already exists and has no {index}, so it is left unchanged. Give a "
            "new folder."
        )


def replace_content(
    folder: Path,
    index: str,
    description: dict[str, Any],
    write: Callable[[Path], None],
    obsolete: tuple[str, ...] = (),
) -> None:
    """Replace the content of a folder, or create the folder.

    Parameters
    ----------
    folder : Path
        Folder of index and content. It is `locked` during the call.
    index : str
        Name of the index file.
    description : dict
        Further plain values for the index.
    write : callable
        Function that writes the files to the folder that is its argument.
    obsolete : tuple of str
        Names of files that earlier versions wrote beside the index. They are removed if the index
        names no content, as in these versions.

    Raises
    ------
    ValueError
        If `folder` holds something else.
    OSError
        If the files cannot be written, for example if the disk is full. The previous content
        then remains.
    """
    check_target(folder, index)
    is_new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, to_write=True):
        content = folder / f"{CONTENT}{secrets.token_hex(5)}"
        new_index = folder / (index + NEW_INDEX)
        before = _index_there(folder, index)
        if not before or "content" in before:
            obsolete = ()  # files of these names belong to the user
        try:
            content.mkdir()
            write(content)
            files = {}
            for path in _files(content):
                _allow_as_default(path, content)
                _sync(path)
                files[path.relative_to(content).as_posix()] = _fingerprint(path)
            folders = [path for path in content.rglob("*") if path.is_dir()]
            for path in (*folders, content, folder):  # folders hold the names of files
                _sync(path)
            written = {**description, "content": content.name, "files": files}
            written["checksum"] = _checksum(written)
            new_index.write_text(json.dumps(written, indent=1), encoding="utf-8")
            _sync(new_index)
            os.replace(new_index, folder / index)
        except BaseException:  # also Ctrl-C after the replacement, which then remains
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
    """Read the index, which holds the `description` given to `replace_content`, and more.

    Raises
    ------
    ValueError
        If the index cannot be read.
    """
    try:
        found = json.loads((folder / index).read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError(f"it holds {quoted(found)}")
    except (ValueError, RecursionError) as error:
        raise damaged(folder / index, str(error)) from error
    return cast("dict[str, Any]", found)


def verified_content(folder: Path, index: str) -> Path:
    """Return the folder of the files, after a check that none has changed since it was written.

    Raises
    ------
    ValueError
        If the index or a file has changed. The message names it.
    """
    found = read_index(folder, index)
    if found.pop("checksum", None) != _checksum(found):
        raise damaged(folder / index, "its checksum has changed")
    content = folder / found["content"]
    for name, fingerprint in found["files"].items():
        path = content / name
        if not path.is_file():
            raise damaged(path, "it is missing")
        # Sizes come first, because they are cheap and show most damage.
        size = path.stat().st_size
        if size != fingerprint["bytes"]:
            raise damaged(path, f"it has {size} bytes instead of {fingerprint['bytes']}")
        if _fingerprint(path) != fingerprint:
            raise damaged(path, "its checksum has changed")
    return content


def damaged(file: Path, reason: str) -> ValueError:
    """Make the error for a file that has changed since it was written."""
    return ValueError(f"{str(file)!r} is damaged ({reason}). Copy or write its folder again.")


@contextlib.contextmanager
def locked(folder: Path, *, to_write: bool) -> Iterator[None]:
    """Lock a folder against writers, and against readers too if `to_write`. Wait for the lock.

    If a process dies, its lock is released. There is no lock if the system lacks file locks, as on
    Windows.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # file systems without locks
            fcntl.flock(handle, fcntl.LOCK_EX if to_write else fcntl.LOCK_SH)
        yield
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # a forked child may keep it open
        os.close(handle)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _is_left_over(path: Path, index: str) -> bool:
    """Return whether an interrupted writer may have left this file or folder."""
    return OWN_CONTENT.fullmatch(path.name) is not None or path.name == index + NEW_INDEX


def _index_there(folder: Path, index: str) -> dict[str, Any]:
    """Return the index, empty if it is missing or damaged."""
    with contextlib.suppress(OSError, ValueError):
        return read_index(folder, index)
    return {}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _allow_as_default(file: Path, folder: Path) -> None:
    """Give a file the permissions that new files have by default, as the folder has.

    Safetensors files would be for their owner alone.
    """
    mode = folder.stat().st_mode & 0o666
    if file.stat().st_mode & 0o777 != mode:
        with contextlib.suppress(OSError):  # file systems without permissions
            file.chmod(mode)


def _fingerprint(path: Path) -> dict[str, int | str]:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(READ_BLOCK):
            digest.update(part)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


def _checksum(values: dict[str, Any]) -> str:
    """Compute a checksum of plain values that does not depend on the layout of the file."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    """Wait until a file or folder is on the disk, if the system supports it."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except PermissionError:  # a folder on Windows
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
