"""The folder of a run's scratch files: gone at its end, kept by a kill, taken up by --resume."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harmonypy_lite.errors import InvalidInput, warn
from harmonypy_lite.files.claim import locked
from harmonypy_lite.files.output import human

_NOTE, _LOCK, _READ = "run.json", "lock", "read.json"


@dataclass(frozen=True)
class Scratch:
    """A folder for scratch files.

    Attributes
    ----------
    path
        The folder.
    resumed
        Whether it was left by a run of the same kind that was killed.
    """

    path: Path
    resumed: bool


@contextlib.contextmanager
def scratch_folder(
    parent: Path, identity: Mapping[str, Any], n_bytes: int, *, resume: bool
) -> Iterator[Scratch]:
    """Give a folder in `parent`; it is removed at the end, also on failure and Ctrl-C.

    Parameters
    ----------
    parent
        An existing folder.
    identity
        What makes a run the same one: "paths", "keys" and "basis" name its folder, all else must be
        as it was for the run to be resumed.
    n_bytes
        Space that the run needs, checked first.
    resume
        Take up the folder of a run that was killed. Without it, such a folder is emptied.

    Raises
    ------
    InvalidInput
        There is no such parent or not enough space; another run is at work there; or the run to be
        resumed was another one.

    Warns
    -----
    HarmonyWarning
        The parent is a part of memory.
    """
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InvalidInput(
            f"The scratch folder {parent} does not exist or cannot be written to: make it, or "
            "name another one with --scratch DIR."
        )
    path = folder_of(parent, identity)
    path.mkdir(mode=0o700, exist_ok=True)
    busy = (
        f"Another run is at work on the same input in {parent}: wait for it, or name another "
        "folder with --scratch DIR."
    )
    with locked(path / _LOCK, busy):
        left = _left_by(path)
        if resume and left is not None:
            _check_same(left, identity)
        else:
            _empty(path)
        try:
            _check_space(path, parent, n_bytes)
        except InvalidInput:
            if left is None:
                shutil.rmtree(path, ignore_errors=True)
            raise
        _warn_of_memory(parent, n_bytes)
        try:
            (path / _NOTE).write_text(json.dumps(identity, default=str))
            yield Scratch(path, resume and left is not None)
        finally:
            _remove(path)


def _remove(path: Path) -> None:
    """Remove a folder; Ctrl-C meanwhile, which takes seconds for large files, waits for its end."""
    try:
        shutil.rmtree(path, ignore_errors=True)
    except BaseException:
        shutil.rmtree(path, ignore_errors=True)
        raise


def folder_of(parent: Path, identity: Mapping[str, Any]) -> Path:
    """Return the folder that a run has in `parent`."""
    return parent / f".harmonypy-lite-{_digest(identity)}"


def note_read(folder: Path, note: Mapping[str, Any]) -> None:
    """Note that the input has been read as a whole, and what was seen in it."""
    made = folder / (_READ + ".new")
    made.write_text(json.dumps({"boot": _boot(), **note}))
    os.replace(made, folder / _READ)


def noted_read(folder: Path) -> dict[str, Any] | None:
    """Return the note of :func:`note_read`; None if the input must be read (again).

    What a killed process has written is in the system's hands, and safe. After a restart of the
    machine it may not be: then the input is read again.
    """
    with contextlib.suppress(OSError, ValueError):
        note = dict(json.loads((folder / _READ).read_text()))
        if note["boot"] and note["boot"] == _boot():
            return note
    return None


def _boot() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _digest(identity: Mapping[str, Any]) -> str:
    named = [identity[name] for name in ("paths", "keys", "basis")]
    return hashlib.sha256(json.dumps(named, default=str).encode()).hexdigest()[:16]


def _left_by(path: Path) -> dict[str, Any] | None:
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads((path / _NOTE).read_text()))
    return None


def _check_same(left: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    now = json.loads(json.dumps(identity, default=str))
    differs = [name for name in {**now, **left} if now.get(name) != left.get(name)]
    if differs:
        raise InvalidInput(
            f"The run to be resumed had other {', '.join(differs)}: its scratch files do not fit. "
            "Leave --resume out to start anew, or give the same input and options."
        )


def _empty(path: Path) -> None:
    for entry in path.iterdir():
        if entry.name != _LOCK:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _check_space(path: Path, parent: Path, n_bytes: int) -> None:
    held = sum(entry.stat().st_size for entry in path.iterdir())
    free = shutil.disk_usage(path).free
    if free + held < n_bytes:
        raise InvalidInput(
            f"Not enough space for scratch files: the run needs {human(n_bytes)}, and {parent} has "
            f"{human(free)} free. Make room, or name another folder with --scratch DIR."
        )


def _warn_of_memory(parent: Path, n_bytes: int) -> None:
    kind = file_system(parent)
    if kind in ("tmpfs", "ramfs"):
        warn(
            f"The scratch folder {parent} is kept in memory ({kind}): the {human(n_bytes)} of "
            "scratch files count there. Name a folder on a disk with --scratch DIR."
        )


def file_system(folder: Path, mounts: Path = Path("/proc/self/mounts")) -> str:
    """Return the type of the file system that a folder is in; empty where the system has no list.

    Examples
    --------
    >>> file_system(Path("/"), Path("/no/such/list"))
    ''
    """
    try:
        lines = mounts.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return ""
    inside = [folder.resolve(), *folder.resolve().parents]
    kind, depth = "", -1
    for line in lines:
        _, at, of, *_ = line.split(" ")
        point = Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), at))
        if point in inside and len(point.parts) >= depth:  # what was mounted last covers the others
            kind, depth = of, len(point.parts)
    return kind
