"""Output that is complete or absent: a temporary file in the target's folder, then a rename.

Everything that can be known before the work (folder, permission, space, existing files) is
checked before the work.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harmonypy_lite.errors import InvalidInput

_FICLONE = 0x40049409  # linux/fs.h; Python has no name for it
_SPARE = 16 << 20  # bytes of headers, tables and record that come on top of the new arrays


@dataclass(frozen=True)
class Target:
    """Where the result goes; made by :func:`plan`, which has checked it.

    Attributes
    ----------
    source
        The file that is copied, links resolved.
    path
        The file that will exist at the end, links resolved (a link itself is kept).
    shown
        The path as the user gave it, for messages.
    mode
        Permission bits of the result; None leaves them to the umask.
    appends
        Whether new parts are added to the source itself, which is not copied.
    """

    source: Path
    path: Path
    shown: str
    mode: int | None
    appends: bool = False


def default_output(source: Path) -> Path:
    """Return the output's path when none was given: ``pbmc.h5ad`` -> ``pbmc_harmony.h5ad``."""
    return source.with_name(f"{source.stem}_harmony{source.suffix}")


def plan(
    source: Path, out: Path | None, *, in_place: bool = False, overwrite: bool = False
) -> Target:
    """Decide where the result goes, and check that it may go there.

    Raises
    ------
    InvalidInput
        It exists already, it is the input, its name does not end in .h5ad (or as the input's
        does), its folder is absent or closed, or both an output and `in_place` were given.
    """
    if in_place and out is not None:
        raise InvalidInput(f"Both an output ({out}) and --in-place were given: choose one of them.")
    real = source.resolve()
    if in_place:
        return Target(real, real, str(source), _mode(real, source, "input"))
    shown = default_output(source) if out is None else out
    if shown.is_dir() and source.is_dir():
        raise InvalidInput(
            f"The output {shown} exists already, and a folder is not replaced: remove it, or write "
            "elsewhere with -o."
        )
    _refuse_folder(shown, example=default_output(source).name)
    ending = ".zarr" if source.is_dir() else ".h5ad"
    if shown.suffix not in (ending, source.suffix):
        raise InvalidInput(
            f"The output {shown} does not end in {ending}, the format that is written: give such a "
            f"name, -o {shown.with_suffix(ending)}."
        )
    path = shown.resolve()
    if path == real or (path.exists() and path.samefile(real)):
        raise InvalidInput(
            f"The output {shown} is the input itself: use --in-place to write into it."
        )
    return Target(real, path, str(shown), check_free(shown, overwrite=overwrite))


def plan_all(
    sources: Sequence[Path], out: Path | None, *, in_place: bool = False, overwrite: bool = False
) -> list[Target]:
    """Decide where the results go: as `plan` for one input; for several, `out` is a folder."""
    if len(sources) == 1 or out is None:
        return [plan(s, out, in_place=in_place, overwrite=overwrite) for s in sources]
    if not out.is_dir():
        raise InvalidInput(
            f"The output {out} is no folder: with several inputs, name an existing folder for "
            "their results, or leave the output out to write beside the inputs."
        )
    outs = [out / default_output(source).name for source in sources]
    if len(set(outs)) < len(outs):
        raise InvalidInput("Two inputs have the same name: their results need different folders.")
    return [
        plan(source, each, in_place=in_place, overwrite=overwrite)
        for source, each in zip(sources, outs, strict=True)
    ]


def check_free(shown: Path, *, overwrite: bool = False) -> int | None:
    """Check that a file may be written there; return the permission bits of one to be replaced.

    Raises
    ------
    InvalidInput
        It exists already and `overwrite` was not given, or it cannot be written.
    """
    _refuse_folder(shown, example=f"output{shown.suffix}")
    path = shown.resolve()
    if not path.exists():
        _check_folder(path, shown)
        return None
    if not overwrite:
        raise InvalidInput(
            f"The output {shown} exists already: --overwrite replaces it, or give another name "
            "(-o FILE)."
        )
    return _mode(path, shown, "output")


def _refuse_folder(shown: Path, *, example: str) -> None:
    if shown.is_dir():
        raise InvalidInput(
            f"The output {shown} is a folder: give the name of a file in it, such as "
            f"{shown / example}."
        )


def _mode(path: Path, shown: Path, what: str) -> int:
    mode = stat.S_IMODE(path.stat().st_mode)
    # the rename would succeed on a read-only file, but its owner said not to change it; the bits
    # are looked at as well because root may write everything
    if not mode & 0o222 or not os.access(path, os.W_OK):
        raise InvalidInput(
            f"The {what} {shown} is read-only: write elsewhere with -o FILE, or allow writing "
            f"(chmod u+w {shlex.quote(str(shown))})."
        )
    _check_folder(path, shown)
    return mode


def _check_folder(path: Path, shown: Path) -> None:
    folder = path.parent
    if not folder.is_dir():
        raise InvalidInput(f"The folder of the output {shown} does not exist: make {folder} first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidInput(
            f"Nothing can be written to {folder}, the folder of the output {shown}: choose "
            "another place with -o FILE."
        )


def check_space(target: Target, extra: int) -> int:
    """Refuse when the copy and `extra` new bytes do not fit into the target's file system.

    Returns the bytes that will be needed. Where the file system can share blocks between files
    (btrfs, XFS), the copy takes no space.
    """
    needed = extra + _SPARE
    if not target.appends and not _shares_blocks(target):
        needed += size_of(target.source)
    free = shutil.disk_usage(target.path.parent).free
    if free < needed:
        raise InvalidInput(
            f"Not enough space for {target.shown}: the copy of the input and the new embedding "
            f"need {human(needed)}, and {target.path.parent} has {human(free)} free. Make room, "
            "or choose another place with -o FILE."
        )
    return needed


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if not path.is_dir():
        return path.stat().st_size
    return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())


def human(n_bytes: float) -> str:
    """Return a size in words, such as ``22.5 MB``."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


@contextlib.contextmanager
def replacing(target: Target) -> Iterator[Path]:
    """Give the path of a full copy of the source; put it in the target's place at the end.

    Any exception, Ctrl-C among them, removes the copy and leaves the target as it was. A process
    that is killed outright leaves a file ``.NAME.*.partial`` and nothing else.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.txt").write_text("cells")
    >>> with replacing(plan(folder / "a.txt", folder / "b.txt")) as copy:
    ...     _ = copy.write_text(copy.read_text() + ", corrected")
    >>> (folder / "b.txt").read_text()
    'cells, corrected'
    """
    copy = _partial(target.path)
    # not tempfile.mkstemp: its files are closed to everyone else, an output should follow the umask
    if not target.source.is_dir():
        os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    try:
        _copy(target.source, copy)
        yield copy
        _settle(copy, target)
        os.replace(copy, target.path)
    except BaseException:
        shutil.rmtree(copy) if copy.is_dir() else copy.unlink(missing_ok=True)
        raise
    _sync_folder(target.path.parent)


def write_bytes(path: Path, data: bytes, *, mode: int = 0o666, durable: bool = True) -> None:
    """Write a small file, complete or not at all; what was there is replaced in one step.

    What is not `durable` is not brought to the disk at once: a power failure may damage it.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.txt"
    >>> write_bytes(path, b"sums")
    >>> path.read_bytes()
    b'sums'
    """
    partial = _partial(path)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.partial")


def _settle(copy: Path, target: Target) -> None:
    """Bring the bytes to the disk before the name points to them, with the old file's mode."""
    if copy.is_dir():
        return
    with open(copy, "r+b") as handle:  # Windows syncs only what is open for writing
        os.fsync(handle.fileno())
    if target.mode is not None:
        owner = target.path.stat()
        with contextlib.suppress(OSError):  # only root may give files away
            os.chown(copy, owner.st_uid, owner.st_gid)
        copy.chmod(target.mode)


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not every file system syncs folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _copy(source: Path, copy: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, copy, copy_function=_copy_one)
        return
    if not _clone(source, copy):
        shutil.copyfile(source, copy)


def _copy_one(source: str, copy: str) -> None:
    Path(copy).touch()
    _copy(Path(source), Path(copy))


def _clone(source: Path, copy: Path) -> bool:
    """Let `copy` share the blocks of `source`; False where the system cannot."""
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    with open(source, "rb") as old, open(copy, "r+b") as new:
        try:
            fcntl.ioctl(new.fileno(), _FICLONE, old.fileno())
        except OSError:
            return False
    return True


def _shares_blocks(target: Target) -> bool:
    if target.source.is_dir():
        return False
    probe = target.path.with_name(f".{secrets.token_hex(8)}.partial")
    try:
        os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        return _clone(target.source, probe)
    except OSError as error:
        raise InvalidInput(
            f"Nothing can be written to {target.path.parent}, the folder of the output "
            f"{target.shown} ({error.strerror}): choose another place with -o FILE."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            probe.unlink(missing_ok=True)
