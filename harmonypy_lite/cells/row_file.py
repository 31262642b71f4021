"""Rows of numbers in a file, read and written in place by several threads.

Not a memory map: mapped pages count as memory of the process, and the system's page cache keeps
what fits anyway.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np


class RowFile:
    """A file of (n, d) numbers.

    Parameters
    ----------
    path
        Opened if it is there, else made; readable by the owner only.
    n_rows, width
        Its shape. The space is taken at once, so that no later write finds the disk full.
    dtype
        Type of the numbers.

    Examples
    --------
    >>> import tempfile
    >>> file = RowFile(Path(tempfile.mkdtemp()) / "rows", 4, 2)
    >>> file.write(1, np.ones((2, 2), np.float32))
    >>> file.read(slice(2, 4), np.empty((2, 2), np.float32)).tolist()
    [[1.0, 1.0], [0.0, 0.0]]
    >>> file.close()
    """

    def __init__(self, path: Path, n_rows: int, width: int, dtype: Any = np.float32) -> None:
        self.path, self.shape, self.dtype = path, (n_rows, width), np.dtype(dtype)
        self._row_bytes = self.dtype.itemsize * width
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._own = threading.local()
        self._opened: list[int] = []
        size = n_rows * self._row_bytes
        if os.path.getsize(path) < size:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._handle(), 0, size)
            else:
                os.truncate(path, size)

    def read(self, rows: slice, out: np.ndarray) -> np.ndarray:
        """Fill `out` (n, d), which must be contiguous, with `rows` and return it."""
        view = out.reshape(-1).view(np.uint8).data
        at, done = rows.start * self._row_bytes, 0
        while done < len(view):
            n = _read_at(self._handle(), view[done:], at + done)
            if n == 0:
                raise OSError(f"{self.path} is shorter than it was: it was changed from outside.")
            done += n
        return out

    def write(self, first: int, rows: np.ndarray) -> None:
        """Write `rows` (n, d) from row `first` on."""
        view = np.ascontiguousarray(rows, self.dtype).reshape(-1).view(np.uint8).data
        at, done = first * self._row_bytes, 0
        while done < len(view):
            done += _write_at(self._handle(), view[done:], at + done)

    def __getitem__(self, rows: slice) -> np.ndarray:
        first, stop, _ = rows.indices(self.shape[0])
        return self.read(slice(first, stop), np.empty((stop - first, self.shape[1]), self.dtype))

    def __setitem__(self, rows: slice, values: np.ndarray) -> None:
        self.write(rows.indices(self.shape[0])[0], values)

    def close(self) -> None:
        """Close the file; nothing else may be done with it afterwards."""
        while self._opened:
            os.close(self._opened.pop())

    def _handle(self) -> int:
        """One handle for each thread: the system reads ahead of each by itself."""
        handle = getattr(self._own, "handle", None)
        if handle is None:
            handle = self._own.handle = os.open(self.path, os.O_RDWR | getattr(os, "O_BINARY", 0))
            self._opened.append(handle)
        return handle


def _read_at(handle: int, view: memoryview, at: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(handle, [view], at)
    os.lseek(handle, at, os.SEEK_SET)  # each thread has a handle, and so a place, of its own
    read = os.read(handle, len(view))
    view[: len(read)] = read
    return len(read)


def _write_at(handle: int, view: memoryview, at: int) -> int:
    if hasattr(os, "pwrite"):
        return os.pwrite(handle, view, at)
    os.lseek(handle, at, os.SEEK_SET)
    return os.write(handle, view)
