"""AnnData in a zarr store, a folder: read as .h5ad files are, written member by member."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harmonypy_lite.errors import InvalidInput, MissingExtra
from harmonypy_lite.files import elements
from harmonypy_lite.files.damage import reading
from harmonypy_lite.files.stores import Contents, H5adStore, NewParts


@contextlib.contextmanager
def open_zarr(path: Path) -> Iterator[ZarrStore]:
    """Open a zarr store for reading."""
    with reading(path, "its metadata"):
        group = _open(path, "r")
        if "obs" not in group:
            raise InvalidInput(f"{path} is a zarr store without obs: write it with anndata.")
    yield ZarrStore(path, group)


def _open(path: Path, mode: Any) -> Any:
    try:
        import zarr
    except ImportError:
        raise MissingExtra(
            f"{path} is a zarr store: pip install 'harmonypy-lite[dask]' to read it."
        ) from None
    return zarr.open_group(str(path), mode=mode)


class ZarrStore(H5adStore):
    """A zarr store of format 2 or 3, opened for reading."""

    def contents(self) -> Contents:  # noqa: D102
        import dataclasses

        sizes = (entry.stat().st_size for entry in self.path.rglob("*") if entry.is_file())
        return dataclasses.replace(super().contents(), n_bytes=sum(sizes))

    @staticmethod
    def write(path: Path, parts: NewParts) -> None:  # noqa: D102
        ZarrStore.append(path, parts)

    @staticmethod
    def append(path: Path, parts: NewParts, *, rehearse: bool = False) -> None:
        """Add parts: each is made apart, then takes its place by one change of names.

        A kill before leaves a hidden folder, which nothing reads; one after the embedding took its
        place and before its record did leaves the new embedding beside the old record.
        """
        _check_listed(path, parts)
        if rehearse:
            _look_at_all(path)
            return
        store = _open(path, "r+")
        apart = Path(tempfile.mkdtemp(prefix=".harmonypy-lite-", dir=path))
        try:
            made = _new_group(apart / "new", store)
            for kind, members in (("obsm", parts.obsm), ("varm", parts.varm)):
                for name, array in members.items():
                    _write_array(made.require_group(kind), name, array)
            _write_records(made, parts)
            for kind in (*parts_of(parts),):
                if kind not in store:
                    elements.mapping_group(store, kind)
                for entry in sorted((apart / "new" / kind).iterdir()):
                    if entry.is_dir():
                        _take_place(entry, path / kind / entry.name, apart / "old")
            _consolidate(path, store)
        finally:
            shutil.rmtree(apart, ignore_errors=True)


def _check_listed(path: Path, parts: NewParts) -> None:
    """Refuse a store whose list of members has a group that is gone, before any part is in it."""
    store = _open(path, "r")
    for kind in parts_of(parts):
        if kind in store and not (path / kind).is_dir():
            raise InvalidInput(
                f"{kind} is listed in the store's metadata but is not there: the store is damaged. "
                "Copy or download it again."
            )


def _look_at_all(path: Path) -> None:
    """Read the metadata of all members, as bringing consolidated metadata up to date does."""
    import zarr

    group = zarr.open_group(str(path), mode="r", use_consolidated=False)
    if _open(path, "r").metadata.consolidated_metadata is not None:
        for _ in group.members(max_depth=None):
            pass


def parts_of(parts: NewParts) -> list[str]:
    """Return the groups that have new members."""
    kinds = {"obsm": parts.obsm, "varm": parts.varm, "uns": parts.uns}
    return [kind for kind, members in kinds.items() if members]


def _new_group(path: Path, like: Any) -> Any:
    import zarr

    return zarr.open_group(str(path), mode="w", zarr_format=like.metadata.zarr_format)


def _write_array(group: Any, name: str, array: Any) -> None:
    n = max(1, 2**22 // max(1, 4 * int(array.shape[1])))
    chunks = (min(n, int(array.shape[0])), int(array.shape[1]))
    made = group.create_array(name, shape=array.shape, dtype=array.dtype, chunks=chunks)
    at = 0
    for batch in array.batches if isinstance(array, elements.Rows) else [array]:
        made[at : at + len(batch)] = batch
        at += len(batch)
    made.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})


def _write_records(made: Any, parts: NewParts) -> None:
    import warnings

    from anndata.io import write_elem

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of formats that change
        for name, record in parts.uns.items():
            write_elem(made.require_group("uns"), name, dict(record))


def _take_place(new: Path, place: Path, old: Path) -> None:
    """Put a member in its place; what is there goes, in the same moment where the system can."""
    if not place.exists():
        os.rename(new, place)
    elif not _exchange(new, place):
        os.rename(place, old.with_name(f"{old.name}-{place.name}"))
        os.rename(new, place)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two names at once (Linux); False where the system cannot."""
    import ctypes

    at_cwd, exchange = -100, 2
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return rename(at_cwd, os.fsencode(one), at_cwd, os.fsencode(other), exchange) == 0


def _consolidate(path: Path, store: Any) -> None:
    """Bring the metadata of all members, where the store keeps them in one place, up to date."""
    import warnings

    import zarr

    if store.metadata.consolidated_metadata is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # consolidated metadata are no part of format 3
            zarr.consolidate_metadata(str(path), zarr_format=store.metadata.zarr_format)
