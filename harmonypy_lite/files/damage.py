"""What is wrong with a file of cells, in words: before it is opened, opened, and being read."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files import elements

#: What reading a damaged file may raise.
_DAMAGE = OSError, RuntimeError, LookupError, ValueError, TypeError, AttributeError, OverflowError
#: ... and what the system says of members that are gone. All else it says (no space, no permission)
#: is about the machine, not the file; HDF5's own errors have no number.
_GONE = None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP


@contextlib.contextmanager
def reading(path: Path, what: str) -> Iterator[None]:
    """Say of what goes wrong in a part of a file which file and part that is."""
    try:
        yield
    except InvalidInput as error:
        if "damaged" not in str(error) or str(path) in str(error):
            raise
        raise InvalidInput(f"{path}: {error}") from None
    except MemoryError as error:
        raise InvalidInput(f"{what} in {path} does not fit into memory ({error}).") from None
    except _DAMAGE as error:
        if isinstance(error, OSError) and error.errno not in _GONE:
            raise
        raise InvalidInput(
            f"{what} in {path} cannot be read ({error}): the file is damaged. Copy or download it "
            "again."
        ) from error


def check_inside(path: Path, file: Any) -> None:
    """Refuse groups that are links into another file: what is written into them would be there."""
    for name in ("obs", "obsm", "varm", "uns"):
        part = file.get(name)
        if part is not None and part.file.filename != file.filename:
            raise InvalidInput(
                f"{name} in {path} is a link into another file: put it into the file itself (read "
                "it with anndata and write it again)."
            )


def unopened(path: Path, error: OSError) -> str:
    """Say why HDF5 did not open a file."""
    reason = str(error)
    if "unable to lock" in reason and not isinstance(error, BlockingIOError):
        return (
            f"{path} cannot be locked: its file system knows no locks. Set the environment "
            "variable HDF5_USE_FILE_LOCKING=FALSE and try again."
        )
    if "unable to lock" in reason:
        return f"{path} is locked: another program has it open for writing. Close it there first."
    if "truncated" in reason:
        return f"{path} is cut off ({reason}): copy or download it again."
    if "signature" in reason:
        return (
            f"{path} is no HDF5 file, so no .h5ad file either: give a file that was written with "
            "anndata's write_h5ad."
        )
    return f"{path} cannot be opened ({reason}): copy or download it again."


def check_anndata(path: Path, file: Any) -> None:
    """Refuse HDF5 files of other kinds."""
    if "obs" in file and not (elements.is_group(file["obs"]) and "mod" in file):
        return
    if "mod" in file:
        said = "a MuData file: write the modality that you want to an .h5ad file of its own"
    elif "matrix" in file or any("barcodes" in file[g] for g in file if elements.is_group(file[g])):
        said = "a 10x file: read it with scanpy.read_10x_h5 and write it with write_h5ad"
    else:
        names = ", ".join(file) or "nothing"
        said = f"an HDF5 file without obs (it holds: {names}): write it with anndata's write_h5ad"
    raise InvalidInput(f"{path} is no .h5ad file but {said}.")
