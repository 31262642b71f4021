"""Answers of passes, kept in a file: a run that was killed goes on from the last one.

The method is a function of the answers alone. A resumed run goes through it from the start, gets
the kept answers at once, and arrives at the pass that the killed run did not finish, with the same
tables to the bit. The cells are then brought to where they were in one pass.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from harmonypy_lite.method.passes import Assigned, Cells, Moments

_HEAD = struct.Struct("<QI")  # length and checksum


class Skippable(Cells, Protocol):
    """Cells that can be told of a pass instead of carrying it out."""

    def skip(self, task: object, block: int | None = None) -> None:
        """Note a pass whose answer is known."""


class JournaledCells:
    """Cells whose answers are written down, and answered from there when they are there already.

    Parameters
    ----------
    cells
        Who holds the cells.
    path
        The file; made if it is absent. A record that a kill cut off is dropped.
    """

    def __init__(self, cells: Skippable, path: Path) -> None:
        self._cells = cells
        self.n_blocks = cells.n_blocks
        self.n_known = 0
        self._file = io.FileIO(path, "r+" if path.exists() else "w+")
        self._at_end = False

    def run(self, task: object, block: int | None = None) -> Any:
        """Carry out a pass over all cells, or over one block, unless its answer is known."""
        payload = None if self._at_end else self._next()
        if payload is not None:
            self.n_known += 1
            self._cells.skip(task, block)
            return _decode(payload)
        answer = self._cells.run(task, block)
        self._write(_encode(answer))
        return answer

    def close(self) -> None:
        """Close the file, which stays; who holds the cells closes them."""
        self._file.close()

    def _next(self) -> bytes | None:
        start = self._file.tell()
        head = self._file.read(_HEAD.size)
        if len(head) == _HEAD.size:
            length, checksum = _HEAD.unpack(head)
            if length <= os.fstat(self._file.fileno()).st_size - self._file.tell():
                payload = self._file.read(length)
                if len(payload) == length and zlib.crc32(payload) == checksum:
                    return payload
        self._at_end = True
        self._file.truncate(start)
        self._file.seek(start)
        return None

    def _write(self, payload: bytes) -> None:
        record = memoryview(_HEAD.pack(len(payload), zlib.crc32(payload)) + payload)
        while record:
            record = record[self._file.write(record) :]


def _encode(answer: Any) -> bytes:
    """Return an answer as a list of arrays; `Assigned` takes six, `Moments` three."""
    arrays: list[Any]
    if isinstance(answer, Assigned):
        kind, arrays = b"A", [answer]
    elif isinstance(answer, list):
        kind, arrays = b"L", answer
    elif isinstance(answer, Moments):
        kind, arrays = b"M", [answer]
    else:
        kind, arrays = b"X", [(answer,)]
    out = io.BytesIO()
    out.write(kind)
    for record in arrays:
        for value in record:
            _save(out, value)
    return out.getvalue()


def _decode(payload: bytes) -> Any:
    source = io.BytesIO(payload)
    kind = source.read(1)
    values: list[Any] = []
    while source.tell() < len(payload):
        values.append(_load(source))
    if kind == b"M":
        return Moments(*values)
    if kind == b"X":
        return values[0]
    found = [
        Assigned(int(block), levels, weight, float(energy), direction, entropy)
        for block, levels, weight, energy, direction, entropy in zip(
            *[iter(values)] * 6, strict=True
        )
    ]
    return found if kind == b"L" else found[0]


def _save(out: io.BytesIO, value: Any) -> None:
    """Save an array with the order of its axes in memory: sums may be rounded in that order."""
    array = np.empty(0, bool) if value is None else np.asarray(value)
    axes = np.argsort([-stride for stride in array.strides], kind="stable").astype(np.int8)
    for each in (axes, array.transpose(axes) if axes.size else array):
        np.lib.format.write_array(out, each, allow_pickle=False)


def _load(source: io.BytesIO) -> np.ndarray | None:
    axes, array = (np.lib.format.read_array(source, allow_pickle=False) for _ in range(2))
    if array.dtype == bool:
        return None
    return array.transpose(np.argsort(axes, kind="stable")) if axes.size else array
