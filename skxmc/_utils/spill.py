"""Arrays that move from memory to the disk while they grow."""

from __future__ import annotations

import tempfile
from typing import IO

import numpy as np
import numpy.typing as npt


class SpilledArray:
    """Array that grows block by block, and beyond some length lies in a temporary file.

    Nobody can see the file, and it vanishes with the last array that is mapped to it.

    Parameters
    ----------
    dtype : type
        Type of the entries.
    max_in_memory : int
        Maximum number of entries in memory.
    folder : str, default=None
        Folder of the file. None is that of `tempfile`.
    """

    def __init__(self, dtype: npt.DTypeLike, max_in_memory: int, folder: str | None = None) -> None:
        self.blocks = [np.zeros(0, dtype)]
        self.max_in_memory = max_in_memory
        self.folder = folder
        self.n_entries = 0
        self.file: IO[bytes] | None = None

    def append(self, block: np.ndarray) -> None:
        """Add entries at the end.

        Raises
        ------
        OSError
            If the file cannot be written. The message says what to do.
        """
        self.blocks.append(block)
        self.n_entries += len(block)
        if self.n_entries <= self.max_in_memory:
            return
        try:
            if self.file is None:
                self.file = self._new_file()
            for waiting in self.blocks:
                self.file.write(waiting.data)
            self.file.flush()
        except OSError as error:
            raise OSError(
                error.errno,
                f"A temporary file in {str(self.folder or tempfile.gettempdir())!r} could not be "
                f"written ({error}). Make room, or set the environment variable TMPDIR to another "
                "folder.",
            ) from error
        self.blocks = self.blocks[:1]

    def array(self) -> np.ndarray:
        """Return all entries, and accept no more. Those in a file are mapped into memory."""
        if self.file is None:
            return np.concatenate(self.blocks)
        with self.file:
            return np.asarray(np.memmap(self.file, self.blocks[0].dtype, mode="r"))

    def _new_file(self) -> IO[bytes]:
        return tempfile.TemporaryFile(dir=self.folder)
