"""New parts for an HDF5 file without copying it, safe against a kill at any moment.

HDF5 changes a file in place, here and there: a process that is killed meanwhile may leave one that
does not open. So HDF5 works on a view of the file here, in which all that it writes behind the old
end goes to the file and all that it writes before it stays in memory. The new parts stand in new
groups, with links to all old members, under a new root. When they are complete and on the disk, one
write of some 60 bytes, within one sector, turns the superblock to the new root and the new end. Up
to that write the file is the old one with bytes behind its end, which HDF5 ignores; after it, the
new one. Of what HDF5 wanted to change before the old end, nothing is needed: these are counts of
links, which are right for the groups that remain. The old groups stay behind, unreachable.

Layouts that this does not know (superblocks of version 2 and above, user blocks, obsm as one
compound array) raise `NotAppendable` before anything is written; they are copied instead.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harmonypy_lite.files.elements import is_group
from harmonypy_lite.files.file_view import FileView

_SIGNATURE = b"\x89HDF\r\n\x1a\n"


class NotAppendable(Exception):
    """The file has a layout that new parts cannot be added to without copying it."""


@dataclass(frozen=True)
class _Superblock:
    """The fields of a superblock of version 0 or 1 that lead to everything else.

    Format: HDF5 File Format Specification, section II.A, with offsets of 8 bytes.
    """

    head: bytes
    at: int  # where base address, free space, end of file and driver stand
    end: int

    @classmethod
    def read(cls, handle: int) -> _Superblock:
        head = os.pread(handle, 112, 0)
        if head[:8] != _SIGNATURE or len(head) < 112 or head[8] > 1 or head[13] != 8:
            raise NotAppendable("its superblock is of another version")
        at = 24 if head[8] == 0 else 28
        base, _, end, driver, _, _, _ = struct.unpack_from("<4Q2QI", head, at)
        if base != 0 or driver != 2**64 - 1:
            raise NotAppendable("it has a user block or a driver's block")
        return cls(head[: at + 72], at, end)

    def end_of(self, superblock: bytes) -> int:
        """Return the end of file that a superblock of this version has."""
        return int(struct.unpack_from("<Q", superblock, self.at + 16)[0])

    def turned(self, root: int, end: int) -> bytes:
        """Return the superblock for another root group and another end of file."""
        made = bytearray(self.head)
        struct.pack_into("<Q", made, self.at + 16, end)
        # name offset, header address, nothing cached, reserved, scratch space
        struct.pack_into("<2Q2I2Q", made, self.at + 32, 0, root, 0, 0, 0, 0)
        return bytes(made)


def append(path: Path, write: Callable[[Any], None], replaced: Sequence[str]) -> None:
    """Add parts to an HDF5 file; any exception leaves it as it was, to the byte.

    Parameters
    ----------
    path
        The file; nobody else may have it open.
    write
        Called with the new root, a group; it makes members of new groups.
    replaced
        Paths of two names, such as ``obsm/X``: `write` makes them anew. Their first names are the
        groups that get new members.

    Raises
    ------
    NotAppendable
        The layout of the file does not allow it.
    """
    with _opened(path, os.O_RDWR) as handle:
        _lock(handle, path)
        with _restored(handle):
            old = _Superblock.read(handle)
            kept = _attributes(FileView(handle, old.end), replaced)
            view = FileView(handle, old.end)
            new = _build(view, old, kept, write, replaced)
            os.ftruncate(handle, old.end_of(new))
            _check(FileView(handle, old.end), view, new, kept, replaced)
            os.fsync(handle)
        _commit(handle, new, old.at + 16)
        os.fsync(handle)


def rehearse(path: Path, write: Callable[[Any], None], replaced: Sequence[str]) -> None:
    """Do as `append` does, in memory alone: `write` should make small parts of the same kinds.

    Raises
    ------
    NotAppendable
        The layout of the file does not allow it.
    """
    with _opened(path, os.O_RDONLY) as handle:
        old = _Superblock.read(handle)
        kept = _attributes(FileView(handle, old.end), replaced)
        view = FileView(handle, old.end, dry=True)
        new = _build(view, old, kept, write, replaced)
        _check(FileView(handle, old.end), view, new, kept, replaced)


def _commit(handle: int, superblock: bytes, first: int) -> None:
    """Turn the file to its new root: one write within one page, which no kill can cut in two."""
    os.pwrite(handle, superblock[first:], first)


def note(path: Path) -> dict[str, Any]:
    """Return what :func:`take_back` needs to know of a file before it is appended to."""
    found = os.stat(path)
    with open(path, "rb") as file:
        head = file.read(112).hex()
    return {"inode": found.st_ino, "size": found.st_size, "date": found.st_mtime_ns, "head": head}


def take_back(path: Path, noted: Mapping[str, Any]) -> None:
    """Cut off what a killed `append` left behind the end, and give the file its old date.

    Nothing is done if the file has got its new root, or if another program has written to it since:
    HDF5 cuts the bytes behind the end off. An `append` that is alive holds the lock of the file.
    """
    with _opened(path, os.O_RDWR) as handle:
        _lock(handle, path)
        now = note(path)
        same = all(now[name] == noted[name] for name in ("inode", "head"))
        if same and now["size"] > noted["size"]:
            os.ftruncate(handle, noted["size"])
            os.utime(handle, ns=(noted["date"], noted["date"]))


@contextlib.contextmanager
def _opened(path: Path, how: int) -> Iterator[int]:
    if not hasattr(os, "preadv"):
        raise NotAppendable("this system cannot write to places of files")
    handle = os.open(path, how)
    try:
        yield handle
    finally:
        os.close(handle)


def _lock(handle: int, path: Path) -> None:
    """Take the lock that HDF5 itself takes on files that it writes to."""
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(f"{path} is open in another program: close it there first.") from None
    except OSError:
        pass  # a file system without locks


@contextlib.contextmanager
def _restored(handle: int) -> Iterator[None]:
    """Give the file its old length and date back on failure."""
    before = os.fstat(handle)
    try:
        yield
    except BaseException:
        os.ftruncate(handle, before.st_size)
        os.utime(handle, ns=(before.st_atime_ns, before.st_mtime_ns))
        raise


def _attributes(view: FileView, replaced: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the attributes of the groups that are made anew; "" is the root.

    Read by themselves: where texts were read, HDF5 would put new ones among them, before the end.
    """
    import h5py

    found: dict[str, dict[str, Any]] = {}
    with h5py.File(view, "r") as file:
        for name in ["", *sorted({each.split("/")[0] for each in replaced})]:
            if name and name not in file:
                continue
            group = file[name or "/"]
            if not is_group(group):
                raise NotAppendable(f"its {name} is an array")
            found[name] = {key: _attribute(group, key) for key in group.attrs}
    return found


def _attribute(group: Any, key: str) -> tuple[Any, Any, Any]:
    kind = group.attrs.get_id(key)
    return group.attrs[key], kind.shape, kind.dtype


def _build(
    view: FileView,
    old: _Superblock,
    kept: dict[str, dict[str, Any]],
    write: Callable[[Any], None],
    replaced: Sequence[str],
) -> bytes:
    """Write the new groups behind the end; return the superblock that leads to them."""
    import h5py

    with h5py.File(view, "r+") as file:
        # Nameless, as a name in the old root might make that grow, move, and leave space free in
        # which new parts would be put. HDF5 deletes what has no name at the end: after `freeze`.
        root = file.create_group(None).create_group("root")
        _link_members(file, root, list(kept))
        for name, attributes in kept.items():
            group = root.create_group(name) if name else root
            if name:
                _link_members(file[name], group, _members(replaced, name))
            for key, (value, shape, dtype) in attributes.items():
                group.attrs.create(key, value, shape=shape, dtype=dtype)
        write(root)
        address = int(h5py.h5g.get_objinfo(root.id).objno[0])
        file.flush()
        view.freeze()
    if view.error is not None:
        raise view.error
    view.seek(0)
    return old.turned(address, old.end_of(view.read(112) or b""))


def _members(replaced: Sequence[str], group: str) -> list[str]:
    """Return the names that are made anew in a group; "" is the root."""
    pairs = [each.split("/") for each in replaced]
    return [second if group else first for first, second in pairs if group in ("", first)]


def _link_members(old: Any, new: Any, without: Sequence[str]) -> None:
    import h5py

    for name in old:
        if name in without:
            continue
        link = old.get(name, getlink=True)
        if isinstance(link, h5py.HardLink):
            new.id.links.create_hard(name.encode(), old.id, name.encode())
        else:
            new[name] = link


def _check(
    before: FileView,
    after: FileView,
    superblock: bytes,
    kept: dict[str, dict[str, Any]],
    replaced: Sequence[str],
) -> None:
    """Look at the file as it will be; NotAppendable if it is not as it should be."""
    # of what HDF5 changed before the old end, only the superblock will be there
    after.forget(superblock)
    try:
        _compare(before, after, kept, replaced)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise NotAppendable(f"HDF5 would not find its parts ({error})") from error


def _compare(
    before: FileView, after: FileView, kept: dict[str, dict[str, Any]], replaced: Sequence[str]
) -> None:
    import h5py

    with h5py.File(before, "r") as one, h5py.File(after, "r") as other:
        for name, attributes in kept.items():
            old, new = one[name or "/"], other[name or "/"]
            fresh = set(_members(replaced, name))
            if set(new) != set(old) | fresh:
                raise NotAppendable(f"members of {name or 'the root'} went astray")
            for key in set(old) - fresh:
                if _address(old, key) != _address(new, key):
                    raise NotAppendable(f"{name}/{key} went astray")
            for key, (value, _, _) in attributes.items():
                if not _equal(new.attrs[key], value):
                    raise NotAppendable(f"attribute {key} of {name or 'the root'} went astray")
        for each in replaced:
            _read_all(other, each)


def _address(group: Any, name: str) -> Any:
    import h5py

    link = group.get(name, getlink=True)
    if isinstance(link, h5py.HardLink):
        return h5py.h5g.get_objinfo(group.id, name.encode()).objno
    return vars(link)


def _equal(one: Any, other: Any) -> bool:
    import h5py

    if isinstance(other, h5py.Reference | h5py.RegionReference | h5py.Empty):
        return type(one) is type(other)
    return np.array_equal(np.asarray(one), np.asarray(other))


def _read_all(file: Any, name: str) -> None:
    """Read a new part, of arrays the end: what HDF5 cannot find or decode raises."""
    part = file[name]
    for each in [part, *_descendants(part)]:
        dict(each.attrs)
        if not is_group(each):
            each[-1:] if each.shape else each[()]


def _descendants(part: Any) -> Iterator[Any]:
    if is_group(part):
        for child in part.values():
            yield child
            yield from _descendants(child)
