"""One file of cells, or several that are integrated together, opened as one input."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files.damage import reading
from harmonypy_lite.files.readable import check_readable
from harmonypy_lite.files.stores import CellStore, open_store

if TYPE_CHECKING:
    import pandas as pd

PathLike = str | os.PathLike[str]

#: Cells whose levels are read together.
_ROWS = 2**18


@dataclass(frozen=True)
class Inputs:
    """Files of cells, one after the other.

    Attributes
    ----------
    stores
        The files, opened for reading.
    """

    stores: Sequence[CellStore]

    @property
    def bounds(self) -> list[tuple[int, int]]:
        """First and last cell of each file, counted through all of them."""
        ends = itertools.accumulate((store.n_cells for store in self.stores), initial=0)
        return list(itertools.pairwise(ends))

    @property
    def n_cells(self) -> int:
        """Number of cells N."""
        return sum(store.n_cells for store in self.stores)

    def obs_parts(self, names: Sequence[str], n_rows: int = _ROWS) -> Iterator[pd.DataFrame]:
        """Yield these columns of obs, (n, C), some cells at a time."""
        as_text = [name for name in names if len({s.kind(name) for s in self.stores}) > 1]
        for store in self.stores:
            for a in range(0, store.n_cells, n_rows):
                part = store.obs_part(names, slice(a, min(a + n_rows, store.n_cells)))
                for name in as_text:  # a number in one file and a text in another
                    column = part[name].astype(object)
                    part[name] = column.where(column.isna(), column.astype(str))
                yield part

    def obs(self, names: Sequence[str]) -> pd.DataFrame:
        """Return whole columns of obs (N, C); categories are joined in order of appearance."""
        import pandas as pd
        from pandas.api.types import union_categoricals

        found: dict[str, Any] = {}
        for name in names:
            columns = [part[name] for part in self.obs_parts([name])]
            if len(columns) > 1 and isinstance(columns[0].dtype, pd.CategoricalDtype):
                found[name] = union_categoricals(columns, ignore_order=True)
            else:
                found[name] = pd.concat(columns, ignore_index=True)
        return pd.DataFrame(found)

    def embedding(self, basis: str) -> Stacked:
        """Return the embeddings, one below the other; rows are read when they are asked for."""
        parts = [store.rows(basis) for store in self.stores]
        widths = {int(part.shape[1]) for part in parts}
        if len(widths) > 1:
            shown = ", ".join(
                f"{s.path} {p.shape[1]}" for s, p in zip(self.stores, parts, strict=True)
            )
            raise InvalidInput(
                f"obsm[{basis!r}] has different numbers of dimensions ({shown}): the files must "
                "have one embedding in common, such as a PCA made of all of them together."
            )
        return Stacked(parts, [store.path for store in self.stores])


class Stacked:
    """Arrays (n, d), in memory or stored, one below the other.

    Examples
    --------
    >>> Stacked([np.zeros((2, 1)), np.ones((3, 1))])[1:4].ravel().tolist()
    [0.0, 1.0, 1.0]
    """

    def __init__(self, parts: Sequence[Any], paths: Sequence[Path] = ()) -> None:
        self._parts = parts
        self._paths = paths or [Path("memory")] * len(parts)
        self._ends = list(itertools.accumulate(int(part.shape[0]) for part in parts))
        self.shape = (self._ends[-1], int(parts[0].shape[1]))
        self.dtype = np.result_type(*(part.dtype for part in parts))
        chunks = [getattr(part, "chunks", None) for part in parts]
        self.chunks = chunks[0] if len(parts) == 1 else None

    def __getitem__(self, rows: slice) -> np.ndarray:
        first, stop, _ = rows.indices(self.shape[0])
        found = []
        for part, end, path in zip(self._parts, self._ends, self._paths, strict=True):
            start = end - int(part.shape[0])
            a, b = max(first - start, 0), min(stop - start, int(part.shape[0]))
            if a < b:
                with reading(path, "the embedding"):
                    found.append(np.asarray(part[a:b]))
        return found[0] if len(found) == 1 else np.concatenate(found)


def sources_of(paths: Sequence[PathLike]) -> list[Path]:
    """Return the files; refuses none, one given twice, and what is seen without opening them."""
    if isinstance(paths, str | os.PathLike) or not paths:
        raise InvalidInput(f"paths={paths!r}: give a list of files.")
    sources = [Path(path).expanduser() for path in paths]
    for source in sources:
        check_readable(source)
    if len({source.resolve() for source in sources}) < len(sources):
        raise InvalidInput("A file was given twice: give each once.")
    return sources


@contextlib.contextmanager
def open_inputs(paths: Sequence[Path]) -> Iterator[Inputs]:
    """Open files of cells for reading; errors are those of :func:`~stores.open_store`."""
    with contextlib.ExitStack() as stack:
        yield Inputs([stack.enter_context(open_store(path)) for path in paths])


@dataclass
class Unchanged:
    """Whether files are as they were."""

    paths: Sequence[Path]
    before: list[tuple[int, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self.before = [_fingerprint(path) for path in self.paths]

    def check(self) -> None:
        """Raise RuntimeError if one was changed."""
        for path, before in zip(self.paths, self.before, strict=True):
            if _fingerprint(path) != before:
                raise RuntimeError(
                    f"{path} was changed by another program during the run; run again."
                )


def _fingerprint(path: Path) -> tuple[int, ...]:
    if path.is_dir():  # a zarr store: of a change inside, the folder itself tells nothing
        kinds = [path / kind for kind in ("obs", "obsm")]
        inside = [entry.stat() for kind in kinds for entry in kind.rglob("*") if entry.is_file()]
        latest = max((entry.st_mtime_ns for entry in inside), default=0)
        return len(inside), sum(entry.st_size for entry in inside), latest
    found = os.stat(path)
    return found.st_ino, found.st_size, found.st_mtime_ns
