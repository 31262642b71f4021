"""What can be seen of a file before it is opened."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.lookup import nearest


def check_readable(path: Path) -> None:
    """Refuse what is seen without opening it: absent, a folder, closed to us, empty, packed."""
    if not path.exists():
        raise InvalidInput(f"There is no file {path}.{_nearby(path)}")
    if path.is_dir():
        if any((path / name).is_file() for name in (".zgroup", "zarr.json")):
            return
        raise InvalidInput(f"{path} is a folder: give the .h5ad file in it, or a zarr store.")
    if not os.access(path, os.R_OK):
        raise InvalidInput(f"{path} may not be read: ask its owner for read permission.")
    if path.stat().st_size == 0:
        raise InvalidInput(f"{path} is empty (0 bytes): copy or download it again.")
    with open(path, "rb") as handle:
        start = handle.read(2)
    if start == b"\x1f\x8b":
        raise InvalidInput(f"{path} is compressed with gzip: unpack it first (gunzip).")


def _nearby(path: Path) -> str:
    with contextlib.suppress(OSError):
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix == ".h5ad"]
        near = nearest(path.name, names)
        if near:
            return f" Did you mean {path.with_name(near)}?"
    return ""
