"""Named arrays and one JSON text in an .h5 file, read without trusting the file.

Nothing is allocated before its type and shape are known to be right and its bytes to be in the
file: arrays are contiguous and unfiltered, so that a small file cannot stand for a large array.
Links and storage outside the file are refused, and there is no pickle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files.output import check_free
from harmonypy_lite.files.readable import check_readable

_HEADER = "header"
#: A header holds names of levels and genes; 100 bytes for each of a million are enough.
_MOST_TEXT = 100 * 2**20


class Array(NamedTuple):
    """What an array must be."""

    dtype: str
    shape: tuple[int, ...]


def write_tables(
    path: str | os.PathLike[str],
    header: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    *,
    overwrite: bool,
) -> Path:
    """Write a file that is complete or absent; returns its path."""
    import h5py

    target = Path(path).expanduser()
    check_free(target, overwrite=overwrite)
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    made = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with h5py.File(made, "w", track_order=True) as file:
            file.create_dataset(_HEADER, data=text)
            for name, array in arrays.items():
                file.create_dataset(name, data=np.ascontiguousarray(array))
        os.replace(made, target)
    finally:
        made.unlink(missing_ok=True)
    return target


def read_tables(
    path: str | os.PathLike[str],
    expected: Callable[[dict[str, Any]], Mapping[str, Array]],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return header and arrays of a file.

    Parameters
    ----------
    path
        The file.
    expected
        Returns, from a header that it has checked, what each array must be.

    Raises
    ------
    InvalidInput
        For a file that is no such file, is damaged, or holds anything but what is expected.
    """
    import h5py

    where = Path(path).expanduser()
    check_readable(where)
    try:
        with h5py.File(where, "r") as file:
            length = _dataset(file, _HEADER).shape
            if len(length) != 1 or length[0] > _MOST_TEXT:
                raise InvalidInput(f"the header has shape {length}")
            text = _read(file, _HEADER, Array("uint8", length))
            header = checked_header(text.tobytes())
            wanted = expected(header)
            return header, {name: _read(file, name, kind) for name, kind in wanted.items()}
    except InvalidInput as error:
        raise InvalidInput(f"{path} cannot be used: {error}") from None
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise InvalidInput(f"{path} is no file of tables, or is damaged: {error}") from None


def checked_header(text: bytes | str) -> dict[str, Any]:
    """Return the JSON object in a text."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput("its header is no JSON text") from None
    if not isinstance(header, dict):
        raise InvalidInput("its header is no JSON object")
    return header


def check_array(name: str, array: Any, wanted: Array) -> None:
    """Refuse an array of another type or shape, from its description alone."""
    if str(array.dtype) != wanted.dtype or tuple(array.shape) != wanted.shape:
        raise InvalidInput(
            f"{name} is {array.dtype} {tuple(array.shape)}, it must be {wanted.dtype} "
            f"{wanted.shape}"
        )


def check_finite(name: str, array: np.ndarray) -> np.ndarray:
    """Refuse an array with NaN or infinite values."""
    if not np.isfinite(array).all():
        raise InvalidInput(f"{name} has NaN or infinite values")
    return array


def _dataset(file: Any, name: str) -> Any:
    import h5py

    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise InvalidInput(f"{name} is absent, or a link")
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        raise InvalidInput(f"{name} is no array")
    return found


def _read(file: Any, name: str, wanted: Array) -> np.ndarray:
    found = _dataset(file, name)
    check_array(name, found, wanted)
    plan = found.id.get_create_plist()
    stored = found.id.get_storage_size()
    inside = plan.get_external_count() == 0 and not found.is_virtual and plan.get_nfilters() == 0
    if found.size and not (inside and found.chunks is None and stored == found.nbytes):
        raise InvalidInput(f"{name} is not stored as plain bytes in the file itself")
    array = np.empty(wanted.shape, wanted.dtype)
    if array.size:
        found.read_direct(array)
    return check_finite(name, array)
