"""Files of cells, opened for reading: what is in them, and the few parts that integration needs.

A file behind :class:`CellStore` is read part by part: a matrix X of 20 GB is never loaded.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files import appending, elements, output
from harmonypy_lite.files.damage import check_anndata, check_inside, reading, unopened
from harmonypy_lite.files.readable import check_readable
from harmonypy_lite.lookup import check_basis, check_columns

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("harmonypy_lite")
T = TypeVar("T")
#: Cells up to which a file is not asked whether it can hold them.
_MANY = 10**7


@dataclass(frozen=True)
class Column:
    """A column of obs: its kind in a word, how many levels it has, and cells without a value."""

    name: str
    kind: str
    n_levels: int
    n_missing: int


@dataclass(frozen=True)
class EarlierRun:
    """A run of Harmony whose result is in the file: the names it had."""

    basis: str
    adjusted_basis: str
    keys: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """What is in a file."""

    path: str
    n_bytes: int
    n_cells: int
    x: elements.Shape | None
    columns: list[Column]
    embeddings: dict[str, elements.Shape]
    earlier: EarlierRun | None = None


@dataclass(frozen=True)
class NewParts:
    """What a run adds to a file."""

    obsm: Mapping[str, np.ndarray | elements.Rows]
    varm: Mapping[str, np.ndarray] = field(default_factory=dict)
    uns: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class CellStore(Protocol):
    """A file of cells. A new format is a class with these members and a line in `open_store`."""

    path: Path
    n_cells: int

    def columns(self) -> list[str]:
        """Return the names of the columns of obs."""

    def obs(self, names: Sequence[str]) -> pd.DataFrame:
        """Return these columns of obs, cells in the order of the file."""

    def obs_part(self, names: Sequence[str], rows: slice) -> pd.DataFrame:
        """Return some rows of these columns of obs."""

    def kind(self, name: str) -> str:
        """Return the kind of a column of obs in a word."""

    def colours(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Return ``uns["NAME_colors"]`` of the columns that have such a list of texts."""

    def embeddings(self) -> list[str]:
        """Return the keys of obsm."""

    def rows(self, basis: str) -> Any:
        """Return ``obsm[basis]`` (n_cells, d); where the format can, slices are read from disk."""

    def embedding(self, basis: str) -> np.ndarray:
        """Return ``obsm[basis]`` (n_cells, d)."""

    def counts(self, layer: str | None) -> Any:
        """Return X or a layer (n_cells, genes), dense or sparse: the one read of a large part."""

    def genes(self) -> list[str]:
        """Return the names of the genes, the index of var."""

    def loadings(self) -> np.ndarray:
        """Return ``varm["PCs"]`` (n_genes, d)."""

    def count_rows(self, layer: str | None) -> Any:
        """Return X or a layer, whose slices of rows are read from disk, dense or sparse."""

    def clashes(self, parts: NewParts) -> list[str]:
        """Return the members of `parts` that the file has already, as ``obsm['X']``."""

    def contents(self) -> Contents:
        """Return what is in the file."""

    @staticmethod
    def write(path: Path, parts: NewParts) -> None:
        """Add `parts` to the file at `path`, and leave all else in it as it is."""

    @staticmethod
    def append(path: Path, parts: NewParts, *, rehearse: bool = False) -> None:
        """As `write`, so that a kill at any moment leaves the old file or the new one.

        Raises `NotAppendable` where the layout does not allow it; that is found with `rehearse`,
        which takes small parts of the same names and writes nothing.
        """


@contextlib.contextmanager
def open_store(path: str | os.PathLike[str]) -> Iterator[CellStore]:
    """Open a file of cells for reading.

    Raises
    ------
    InvalidInput
        It is absent, closed to us, or neither an .h5ad file nor a zarr store of AnnData.
    """
    where = Path(path).expanduser()
    check_readable(where)
    if where.is_dir():
        from harmonypy_lite.files.zarr_store import open_zarr

        with open_zarr(where) as store:
            yield store
        return
    import h5py

    try:
        file = h5py.File(where, "r")
    except OSError as error:
        raise InvalidInput(unopened(where, error)) from None
    with file:
        with reading(where, "its parts"):
            check_anndata(where, file)
            check_inside(where, file)
        yield H5adStore(where, file)


def _guarded(what: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    """Let a method of a store say of what goes wrong which file and part that is."""

    def decorate(method: Callable[..., T]) -> Callable[..., T]:
        @functools.wraps(method)
        def guarded(self: Any, *args: Any, **more: Any) -> T:
            with reading(self.path, what):
                return method(self, *args, **more)

        return guarded

    return decorate


class H5adStore:
    """An .h5ad file, opened for reading."""

    def __init__(self, path: Path, file: Any) -> None:
        self.path = path
        self._file = file
        with reading(path, "obs"):
            self.n_cells = elements.index_length(file["obs"])
        # a few bytes can claim any number of cells, and reading their levels would take the memory
        if self.n_cells > _MANY and self.n_cells > 1000 * output.size_of(path):
            raise InvalidInput(
                f"obs in {path} claims {self.n_cells} cells, which a file of its size cannot hold: "
                "the file is damaged. Copy or download it again."
            )

    @_guarded("obs")
    def columns(self) -> list[str]:  # noqa: D102 - described in CellStore, like all below
        return elements.column_names(self._file["obs"])

    def obs(self, names: Sequence[str]) -> pd.DataFrame:  # noqa: D102
        return self.obs_part(names, slice(0, self.n_cells))

    @_guarded("obs")
    def obs_part(self, names: Sequence[str], rows: slice) -> pd.DataFrame:  # noqa: D102
        import pandas as pd

        check_columns(names, self.columns())
        found: dict[str, Any] = {}
        obs, uns = self._file["obs"], self._file.get("uns")
        # at the end one row more than there should be is asked for
        asked = slice(rows.start, rows.stop + (rows.stop == self.n_cells))
        for name in names:
            with reading(self.path, f"obs[{name!r}]"):
                column = elements.read_column(obs, name, uns, asked)
            self._check_length(f"obs[{name!r}]", len(column), rows.stop - rows.start)
            found[name] = column
        return pd.DataFrame(found)

    @_guarded("obs")
    def kind(self, name: str) -> str:  # noqa: D102
        return elements.column_kind(self._file["obs"], name, self._file.get("uns"))

    @_guarded("uns")
    def colours(self, names: Sequence[str]) -> dict[str, np.ndarray]:  # noqa: D102
        uns, found = self._file.get("uns"), {}
        for key in (f"{name}_colors" for name in names):
            if uns is not None and elements.is_group(uns) and key in uns:
                part = uns[key]
                if (
                    not elements.is_group(part)
                    and len(part.shape) == 1
                    and part.dtype.kind in "OSUT"
                ):
                    found[key] = elements.values(part)
        return found

    @_guarded("obsm")
    def embeddings(self) -> list[str]:  # noqa: D102
        obsm = self._file.get("obsm")
        if obsm is None:
            return []
        return list(obsm) if elements.is_group(obsm) else list(obsm.dtype.names or ())

    def embedding(self, basis: str) -> np.ndarray:  # noqa: D102
        check_basis(basis, self.embeddings())
        where = f"obsm[{basis!r}]"
        with reading(self.path, where):
            part = self._file["obsm"]
            found = (
                elements.read_matrix(part[basis], where)
                if elements.is_group(part)
                else np.asarray(part[basis])  # anndata 0.6: one compound array
            )
        self._check_length(where, len(found), self.n_cells)
        return found

    @_guarded("obsm")
    def rows(self, basis: str) -> Any:  # noqa: D102
        check_basis(basis, self.embeddings())
        part = self._file["obsm"]
        if not elements.is_group(part) or elements.is_group(part[basis]):
            return self.embedding(basis)
        found = elements.stored_rows(part[basis], f"obsm[{basis!r}]")
        self._check_length(f"obsm[{basis!r}]", int(found.shape[0]), self.n_cells)
        return found

    def counts(self, layer: str | None) -> Any:  # noqa: D102
        from anndata.io import read_elem

        where = self._place_of_counts(layer)
        with reading(self.path, where):
            return read_elem(self._file[where])

    def _place_of_counts(self, layer: str | None) -> str:
        where = "X" if layer is None else f"layers/{layer}"
        if where in self._file:
            return where
        there = ", ".join(self._file.get("layers", ())) or "none"
        raise InvalidInput(
            f"{self.path} has no {where}: the counts are needed. Layers in the file: {there}."
        )

    def genes(self) -> list[str]:  # noqa: D102
        from anndata.io import read_elem

        with reading(self.path, "var"):
            return list(map(str, read_elem(self._file["var"]).index))

    def loadings(self) -> np.ndarray:  # noqa: D102
        if "PCs" not in self._file.get("varm", ()):
            raise InvalidInput(
                f"{self.path} has no loadings varm['PCs'], by which genes become the embedding: "
                "make it with scanpy.pp.pca or --preprocess, or keep the model without genes."
            )
        with reading(self.path, "varm['PCs']"):
            return elements.read_matrix(self._file["varm"]["PCs"], "varm['PCs']")

    def count_rows(self, layer: str | None) -> Any:  # noqa: D102
        where = self._place_of_counts(layer)
        part = self._file[where]
        if not elements.is_group(part):
            return part
        from anndata.io import sparse_dataset

        with reading(self.path, where):
            if elements.encoding(part) == "csr_matrix":
                return sparse_dataset(part)
            log.info("%s is stored column by column: it is read as a whole", where)
            return sparse_dataset(part).to_memory().tocsr()

    @_guarded("its parts")
    def clashes(self, parts: NewParts) -> list[str]:  # noqa: D102
        found = [f"obsm[{n!r}]" for n in parts.obsm if n in self.embeddings()]
        found += [f"varm[{n!r}]" for n in parts.varm if n in self._file.get("varm", ())]
        for name in parts.uns:
            old = self._file.get("uns", {}).get(name)
            # the record of an earlier run is replaced without asking, other people's parts are not
            if old is not None and not (name == "harmony" and elements.is_record(old)):
                found.append(f"uns[{name!r}]")
        return found

    @_guarded("its parts")
    def contents(self) -> Contents:  # noqa: D102
        import pandas as pd

        obs, uns = self._file["obs"], self._file.get("uns")
        columns = []
        for name in self.columns():
            kind = elements.column_kind(obs, name, uns)
            column = pd.Series(self.obs([name])[name])
            columns.append(Column(name, kind, int(column.nunique()), int(column.isna().sum())))
        x = elements.matrix_shape(self._file["X"]) if "X" in self._file else None
        size = self.path.stat().st_size
        shapes, earlier = self._shapes(), self._earlier_run()
        return Contents(str(self.path), size, self.n_cells, x, columns, shapes, earlier)

    def _earlier_run(self) -> EarlierRun | None:
        """Return what the record says, or what the usual name of a result does."""
        there, record = self.embeddings(), self._file.get("uns/harmony")
        found = EarlierRun("X_pca", "X_pca_harmony", ())
        if elements.is_record(record) and {"basis", "covariates"} <= set(record):
            parts = (record[name] for name in ("basis", "adjusted_basis", "covariates"))
            basis, adjusted_basis, keys = (elements.values(part) for part in parts)
            found = EarlierRun(str(basis), str(adjusted_basis), tuple(map(str, keys)))
        return found if {found.basis, found.adjusted_basis} <= set(there) else None

    def _shapes(self) -> dict[str, elements.Shape]:
        obsm = self._file.get("obsm")
        if obsm is None or elements.is_group(obsm):
            return {name: elements.matrix_shape(obsm[name]) for name in self.embeddings()}
        kinds = {name: obsm.dtype[name] for name in self.embeddings()}
        return {
            name: elements.Shape("dense", (self.n_cells, *kind.shape), str(kind.base))
            for name, kind in kinds.items()
        }

    @staticmethod
    def write(path: Path, parts: NewParts) -> None:  # noqa: D102
        import h5py

        with h5py.File(path, "r+") as file:
            add_parts(file, parts)

    @staticmethod
    def append(path: Path, parts: NewParts, *, rehearse: bool = False) -> None:  # noqa: D102
        kinds = (("obsm", parts.obsm), ("varm", parts.varm), ("uns", parts.uns))
        replaced = [f"{kind}/{name}" for kind, members in kinds for name in members]
        work = appending.rehearse if rehearse else appending.append
        work(path, lambda root: add_parts(root, parts), replaced)

    def _check_length(self, what: str, length: int, wanted: int) -> None:
        if length != wanted:
            raise InvalidInput(
                f"{what} in {self.path} has {length} rows, but obs has {self.n_cells} cells: the "
                "file is damaged. Write it again with anndata."
            )


def add_parts(root: Any, parts: NewParts) -> None:
    """Write `parts` into the groups of a file."""
    for name, arrays in (("obsm", parts.obsm), ("varm", parts.varm)):
        for key, array in arrays.items():
            elements.write_array(elements.mapping_group(root, name), key, array)
    for key, record in parts.uns.items():
        elements.write_record(elements.mapping_group(root, "uns"), key, record)
