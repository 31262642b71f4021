"""Files of new cells placed beside a kept run: counts are read a few thousand rows at a time."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harmonypy_lite.cells.row_file import RowFile
from harmonypy_lite.embedding import as_embedding
from harmonypy_lite.files import output
from harmonypy_lite.files.claim import claimed
from harmonypy_lite.files.elements import Rows
from harmonypy_lite.files.inputs import PathLike, Unchanged, sources_of
from harmonypy_lite.files.stores import CellStore, NewParts, open_store
from harmonypy_lite.genes import check_values, match_genes
from harmonypy_lite.lookup import check_columns, check_result_name, key_list
from harmonypy_lite.model import HarmonyModel
from harmonypy_lite.placing import ROWS, Plan, placed, plan
from harmonypy_lite.recognition import fingerprint
from harmonypy_lite.tl.mapping import DISTANCE, PROJECTED, as_model, genes_of_model, map_record


@dataclass(frozen=True)
class MappedFile:
    """Where placed cells were written, and what was done with them.

    Attributes
    ----------
    path
        The output.
    record
        As in ``uns["harmony_map"]``.
    same_cells
        Whether these were the cells that the model was made of.
    distance
        (3,) quartiles of the cells' distances from the run's clusters.
    """

    path: Path
    record: dict[str, Any]
    same_cells: bool
    distance: np.ndarray


def map_file(
    path: PathLike,
    model: Any,
    *,
    key: str | Sequence[str] | None = None,
    levels: str | None = None,
    basis: str | None = None,
    layer: str | None = None,
    max_missing: float = 0.2,
    out: PathLike | None = None,
    overwrite: bool = False,
    adjusted_basis: str = "X_pca_harmony",
) -> MappedFile:
    """Place the cells of a file beside those of a kept run; the result is complete or absent.

    Arguments are those of :func:`harmonypy_lite.tl.map_embedding`; memory does not grow with the
    number of cells. The cells that the model was made of, in their order, get the bytes that the
    run gave them.

    Parameters
    ----------
    path
        The file of new cells.
    model
        A `HarmonyModel` or the path of its file.
    key, levels, basis, layer, max_missing, adjusted_basis
        As in :func:`harmonypy_lite.tl.map_embedding`.
    out
        The new file; by default ``NAME_harmony.h5ad`` beside the input.
    overwrite
        Replace a file, or a result in it, that is there already.

    Raises
    ------
    InvalidInput
        Before any work, with what to do.

    Examples
    --------
    >>> import harmonypy_lite as hl, pathlib, tempfile
    >>> folder, cells = pathlib.Path(tempfile.mkdtemp()), hl.datasets.simulate(n_cells=300)
    >>> harmony = hl.Harmony().fit(cells.obsm["X_pca"], cells.obs["batch"])
    >>> model = harmony.model(cells.obsm["X_pca"])
    >>> cells.write_h5ad(folder / "query.h5ad")
    >>> done = map_file(folder / "query.h5ad", model, basis="X_pca")
    >>> done.path.name, done.record["n_mapped"]
    ('query_harmony.h5ad', 300)
    """
    found = as_model(model)
    check_result_name(adjusted_basis, argument="adjusted_basis")
    keys = None if key is None else key_list(key)
    [source] = sources_of([path])
    target = output.plan(source, None if out is None else Path(out), overwrite=overwrite)
    unchanged = Unchanged([source])
    with contextlib.ExitStack() as stack:
        stack.enter_context(claimed([target]))
        folder = tempfile.TemporaryDirectory(prefix=".harmonypy-lite-", dir=target.path.parent)
        scratch = Path(stack.enter_context(folder))
        store = stack.enter_context(open_store(source))
        if keys is not None:
            check_columns(keys, store.columns())
        batch = None if keys is None else store.obs(keys)
        planned = plan(found, store.n_cells, batch, levels)
        output.check_space(target, 12 * store.n_cells * found.n_dims)
        rows, missing = _rows(store, found, basis, layer, max_missing, scratch, stack)
        place = _places(found, planned, rows)
        moved = RowFile(scratch / "moved", store.n_cells, found.n_dims)
        distance = RowFile(scratch / "distance", store.n_cells, 1)
        stack.callback(moved.close)
        stack.callback(distance.close)
        at = 0
        for cells, apart in placed(found, planned, lambda: _batches(rows), place):
            moved.write(at, cells)
            distance.write(at, apart[:, None])
            at += len(cells)
        unchanged.check()
        record = map_record(found, planned, keys, basis or PROJECTED, missing, adjusted_basis)
        made = {adjusted_basis: moved, DISTANCE: distance}
        if basis is None:
            made[PROJECTED] = rows
        parts = {name: Rows(each.shape, each.dtype, _batches(each)) for name, each in made.items()}
        with output.replacing(target) as copy:
            store.write(copy, NewParts(parts, uns={"harmony_map": record}))
        quartiles = np.quantile(distance[0 : store.n_cells], [0.25, 0.5, 0.75])
    return MappedFile(Path(target.shown), record, place is not None, quartiles)


def _rows(
    store: CellStore,
    model: HarmonyModel,
    basis: str | None,
    layer: str | None,
    max_missing: float,
    scratch: Path,
    stack: contextlib.ExitStack,
) -> tuple[Any, float | None]:
    """Return the cells (n, d) in the PCA of the model, checked, in a scratch file."""
    rows = RowFile(scratch / "projected", store.n_cells, model.n_dims)
    stack.callback(rows.close)
    if basis is not None:
        given = store.rows(basis)
        for first in range(0, store.n_cells, ROWS):
            rows.write(first, model.checked(as_embedding(np.asarray(given[first : first + ROWS]))))
        return rows, None
    space = genes_of_model(model)
    places = match_genes(store.genes(), space, max_missing)
    values = store.count_rows(layer)
    for first in range(0, store.n_cells, ROWS):
        some = values[first : min(first + ROWS, store.n_cells)]
        if first == 0:
            check_values(some, space)
        rows.write(first, space.project(some, places))
    return rows, places.missing


def _batches(rows: Any) -> Iterator[np.ndarray]:
    n = rows.shape[0]
    return (rows[a : min(a + ROWS, n)] for a in range(0, n, ROWS))


def _places(model: HarmonyModel, planned: Plan, rows: Any) -> np.ndarray | None:
    """Return the places of the cells in the run, if these are all of its cells in its order."""
    n = rows.shape[0]
    if n != model.n_cells or planned.n_replayed < n:
        return None
    mark = sum(fingerprint(Z, at * ROWS) for at, Z in enumerate(_batches(rows)))
    return np.arange(n) if str(mark % 2**64) == model.summary.get("fingerprint") else None
