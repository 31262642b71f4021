"""The parts of an AnnData file that integration needs, read from and written to a group.

anndata's own `read_elem` would do the same, but importing anndata takes longer (1.3 s) than
integrating 14,000 cells. A part in an encoding that is not known here still goes to `read_elem`.
A group is anything with h5py's interface (`group[name]`, `.attrs`), so zarr groups fit as well.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

SPARSE = ("csr_matrix", "csc_matrix")
_OLD_CATEGORIES = "_categories"  # anndata < 0.7 kept the categories of "x" in uns["x_categories"]


@dataclass(frozen=True)
class Shape:
    """What `info` says of a matrix: its kind in words, its shape, the type of its values."""

    kind: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Rows:
    """An array (N, d) that comes in batches of rows, once."""

    shape: tuple[int, int]
    dtype: np.dtype
    batches: Iterator[np.ndarray]


def is_group(part: Any) -> bool:
    """Tell whether `part` holds other parts (it is no array)."""
    return not hasattr(part, "dtype")


def is_record(part: Any) -> bool:
    """Tell whether a member of uns is the record of a run of ours, in a file or in memory."""
    return is_group(part) and hasattr(part, "keys") and "adjusted_basis" in part


def encoding(part: Any) -> str:
    """Return the encoding-type of a part; "" where the file is older than that attribute."""
    found = part.attrs.get("encoding-type", "")
    return found.decode() if isinstance(found, bytes) else str(found)


def member(group: Any, name: str, inside: str) -> Any:
    """Return ``group[name]``, or say that the file is damaged."""
    try:
        return group[name]
    except KeyError:
        raise InvalidInput(
            f"The file is damaged: {inside} should hold {name!r} and does not. Write the file "
            "again with anndata."
        ) from None


def values(part: Any, rows: Any = ...) -> np.ndarray:
    """Return an array, or some rows of it; texts as an object array of str."""
    if part.dtype.kind == "O" and hasattr(part, "asstr"):
        return np.asarray(part.asstr()[rows], dtype=object)
    return texts(np.asarray(part[rows]))


def texts(array: np.ndarray) -> np.ndarray:
    """Return fixed-length texts (S and U) as an object array of str; other arrays as they are."""
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8").astype(object)
    return array.astype(object) if array.dtype.kind in "UT" else array


def index_length(obs: Any) -> int:
    """Return the number of rows of a data frame on disk."""
    if not is_group(obs):
        return int(obs.shape[0])
    name = obs.attrs.get("_index", "_index")
    index = member(obs, name.decode() if isinstance(name, bytes) else name, "obs")
    while is_group(index):  # nullable texts keep their values one level deeper, categories codes
        index = index["codes"] if "codes" in index else index["values"]
    return int(index.shape[0])


def column_names(obs: Any) -> list[str]:
    """Return the columns of a data frame on disk, without its index."""
    if not is_group(obs):
        return [str(name) for name in obs.dtype.names[1:]]
    if "column-order" in obs.attrs:
        found = obs.attrs["column-order"]
        return [name.decode() if isinstance(name, bytes) else str(name) for name in found]
    index = obs.attrs.get("_index", "_index")
    return [name for name in obs if name not in (index, "__categories")]


def column_kind(obs: Any, name: str, uns: Any = None) -> str:
    """Name the kind of a column in a word, from its description alone."""
    if not is_group(obs):
        if uns is not None and name + _OLD_CATEGORIES in uns:
            return "categorical"
        return _dtype_word(obs.dtype[name])
    part = member(obs, name, "obs")
    kind = encoding(part)
    if kind == "categorical" or "categories" in part.attrs:
        return "categorical"
    if is_group(part):
        return kind.removeprefix("nullable-").removesuffix("-array") or "unknown"
    return _dtype_word(part.dtype)


def _dtype_word(dtype: np.dtype) -> str:
    words = {"i": "integer", "u": "integer", "f": "float", "b": "boolean", "c": "complex"}
    if dtype.kind == "V" or dtype.names:
        return "compound"
    # h5py stores booleans as an enumeration of int8, and gives them back as "b"
    return words.get(dtype.kind, "string")


def read_column(obs: Any, name: str, uns: Any = None, rows: slice = slice(None)) -> Any:
    """Return one column as something that a DataFrame takes; a missing value is NaN or None.

    All encodings since anndata 0.6: a field of a compound array whose categories stand in `uns`,
    codes with a reference to `__categories`, and the groups of today.
    """
    if not is_group(obs):
        field = texts(np.asarray(obs[name][rows]))
        if field.dtype.kind == "O":
            field = np.array([t.decode() if isinstance(t, bytes) else t for t in field], object)
        old = name + _OLD_CATEGORIES
        if uns is not None and old in uns and field.dtype.kind in "iu":
            return _categorical(name, field, np.atleast_1d(values(uns[old])))
        return field
    part = member(obs, name, "obs")
    if not is_group(part):
        reference = part.attrs.get("categories")
        if reference is None:
            return values(part, rows)
        categories = obs[reference]  # h5py follows a reference, zarr a path
        return _categorical(name, values(part, rows), values(categories))
    kind = encoding(part)
    if kind == "categorical":
        where = f"obs[{name!r}]"
        categories = member(part, "categories", where)
        while is_group(categories):  # nullable texts
            categories = member(categories, "values", where)
        return _categorical(name, values(member(part, "codes", where), rows), values(categories))
    if kind.startswith("nullable-"):
        return _nullable(kind, part, f"obs[{name!r}]", rows)
    return _read_elem(part, f"obs[{name!r}]")[rows]


def _categorical(name: str, codes: np.ndarray, categories: np.ndarray) -> pd.Categorical:
    import pandas as pd

    try:
        return pd.Categorical.from_codes(codes, categories=pd.Index(categories))
    except ValueError as error:
        raise InvalidInput(
            f"obs[{name!r}] is damaged: {error}. Its codes run from {codes.min(initial=0)} to "
            f"{codes.max(initial=0)} and it has {len(categories)} categories. Write the column "
            "again with anndata."
        ) from None


def _nullable(kind: str, part: Any, where: str, rows: slice) -> Any:
    import pandas as pd

    held = values(member(part, "values", where), rows)
    mask = values(member(part, "mask", where), rows).astype(bool)
    if kind == "nullable-integer":
        return pd.arrays.IntegerArray(held, mask)
    if kind == "nullable-boolean":
        return pd.arrays.BooleanArray(held.astype(bool), mask)
    held = held.astype(object)
    held[mask] = None
    return held


def _read_elem(part: Any, where: str) -> Any:
    from anndata.io import read_elem

    try:
        return read_elem(part)
    except Exception as error:
        raise InvalidInput(
            f"{where} has the encoding {encoding(part) or 'none'!r}, which anndata here cannot "
            f"read ({error}). Update anndata, or store the column as text."
        ) from error


def matrix_shape(part: Any) -> Shape:
    """Describe a matrix (dense, sparse, data frame) without reading its values."""
    if not is_group(part):
        dtype = "none" if part.shape is None else str(part.dtype)
        return Shape("dense", tuple(part.shape or ()), dtype)
    kind = encoding(part) or str(part.attrs.get("h5sparse_format", ""))
    if "shape" in part.attrs or "h5sparse_shape" in part.attrs:
        shape = part.attrs.get("shape", part.attrs.get("h5sparse_shape"))
        kind = kind.removesuffix("_matrix") + " sparse"
        return Shape(kind, tuple(int(n) for n in shape), str(part["data"].dtype))
    if kind == "dataframe":
        return Shape("data frame", (index_length(part), len(column_names(part))), "")
    return Shape(kind or "unknown", (), "")


def read_matrix(part: Any, where: str) -> np.ndarray:
    """Return the embedding (N, d) as one array.

    Raises
    ------
    InvalidInput
        It is sparse, has no two dimensions, or has columns that are no numbers.
    """
    if not is_group(part):
        return np.asarray(stored_rows(part, where)[...])
    kind = matrix_shape(part).kind
    if kind == "data frame":
        columns = [np.asarray(read_column(part, name)) for name in column_names(part)]
        if not columns or any(c.dtype.kind not in "iufb" for c in columns):
            raise InvalidInput(
                f"{where} is a data frame with columns that are no numbers: keep the numeric "
                "columns only."
            )
        return np.column_stack(columns)
    if kind.endswith("sparse"):
        raise InvalidInput(sparse_message(where))
    raise InvalidInput(f"{where} holds {kind!r}: give a dense array, cells x components.")


def stored_rows(part: Any, where: str) -> Any:
    """Return a stored embedding (N, d), whose rows are read when they are asked for."""
    if part.shape is None or len(part.shape) != 2:
        raise InvalidInput(
            f"{where} has the shape {part.shape}: an embedding has two dimensions, "
            "cells x components."
        )
    return part


def sparse_message(where: str) -> str:
    """Say why a sparse matrix is no embedding."""
    return (
        f"{where} is sparse: Harmony works on a dense embedding of a few dozen components. Make "
        "one with scanpy.pp.pca, or, if this is one, store its .toarray()."
    )


def write_array(group: Any, name: str, array: Any) -> None:
    """Write a numeric array, or `Rows`, as anndata does, in place of what was there."""
    old = group.get(name)
    # HDF5 does not give the space of a deleted array back
    if not (_is_own_array(group, name) and (old.shape, old.dtype) == (array.shape, array.dtype)):
        remove(group, name)
        old = group.create_dataset(name, shape=array.shape, dtype=array.dtype)
    if isinstance(array, Rows):
        at = 0
        for batch in array.batches:
            old[at : at + len(batch)] = batch
            at += len(batch)
    else:
        old[...] = array
    _mark(old, "array", "0.2.0")


def remove(group: Any, name: str) -> None:
    """Remove a member, or a link that leads nowhere, if there is one."""
    with contextlib.suppress(KeyError):
        del group[name]


def _is_own_array(group: Any, name: str) -> bool:
    """Tell whether writing into an array of an HDF5 file changes that member of it and no more.

    It may be a link, to another member or another file, or keep its values in another file.
    """
    import h5py

    part = group.get(name)
    hard = isinstance(group.get(name, getlink=True), h5py.HardLink)
    if part is None or is_group(part) or not hard:
        return False
    alone = h5py.h5o.get_info(part.id).rc == 1
    return alone and not part.is_virtual and part.external is None


def write_record(group: Any, name: str, record: Mapping[str, Any]) -> None:
    """Write a dict of dicts, texts, numbers and arrays as anndata does, replacing the old one."""
    remove(group, name)
    target = group.create_group(name)
    _mark(target, "dict", "0.1.0")
    for key, value in record.items():
        if isinstance(value, Mapping):
            write_record(target, key, value)
            continue
        if isinstance(value, str):
            target.create_dataset(key, data=value)
            _mark(target[key], "string", "0.2.0")
        elif np.ndim(value) == 0:
            target.create_dataset(key, data=value)
            _mark(target[key], "numeric-scalar", "0.2.0")
        elif np.asarray(value).dtype.kind in "OU":
            import h5py

            target.create_dataset(
                key, data=np.asarray(value, dtype=object), dtype=h5py.string_dtype()
            )
            _mark(target[key], "string-array", "0.2.0")
        else:
            write_array(target, key, np.asarray(value))


def mapping_group(root: Any, name: str) -> Any:
    """Return the group `name` of the file, made where it is absent.

    anndata 0.6 wrote obsm as one compound array: its fields become members of the new group.
    """
    if name in root and is_group(root[name]):
        return root[name]
    fields = {}
    if name in root:
        old = np.asarray(root[name][...])
        fields = {field: old[field] for field in old.dtype.names or ()}
        del root[name]
    group = root.create_group(name)
    _mark(group, "dict", "0.1.0")
    for field, array in fields.items():
        write_array(group, field, array)
    return group


def _mark(part: Any, kind: str, version: str) -> None:
    part.attrs["encoding-type"] = kind
    part.attrs["encoding-version"] = version
