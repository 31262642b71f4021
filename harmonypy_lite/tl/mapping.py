"""Cells of an AnnData placed beside those of a kept run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.calls import checked_call, refuse_other_than_adata
from harmonypy_lite.embedding import as_embedding
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.genes import GeneSpace, check_values, match_genes
from harmonypy_lite.keeping import model_in
from harmonypy_lite.lookup import check_basis, check_columns, check_result_name, key_list
from harmonypy_lite.model import HarmonyModel
from harmonypy_lite.placing import ROWS, ROWS_IN_MEMORY, Plan, placed, plan

if TYPE_CHECKING:
    from anndata import AnnData

#: Column of obs with the distance of each cell from the run's clusters.
DISTANCE = "harmony_distance"
#: Key of obsm with the query's cells in the PCA of the model.
PROJECTED = "X_pca_reference"


def as_model(model: Any) -> HarmonyModel:
    """Return a model given as such, as its file, or as the AnnData that holds it.

    Examples
    --------
    >>> as_model(3)
    Traceback (most recent call last):
    harmonypy_lite.errors.InvalidInput: model is a int: give a HarmonyModel, the path of its \
file, or the AnnData of a run with store_model=True.
    """
    if isinstance(model, HarmonyModel):
        return model
    if isinstance(model, str | os.PathLike):
        return HarmonyModel.load(model)
    uns = getattr(model, "uns", None)
    if uns is None:
        raise InvalidInput(
            f"model is a {type(model).__name__}: give a HarmonyModel, the path of its file, or "
            "the AnnData of a run with store_model=True."
        )
    return model_in(uns)


@checked_call(refuse=refuse_other_than_adata)
def map_embedding(
    query: AnnData,
    model: Any,
    *,
    key: str | Sequence[str] | None = None,
    levels: str | None = None,
    basis: str | None = None,
    layer: str | None = None,
    max_missing: float = 0.2,
    adjusted_basis: str = "X_pca_harmony",
) -> None:
    """Place new cells beside those of a kept run, which stay where they are.

    Writes ``query.obsm[adjusted_basis]`` (n_cells, d), float32, and how far each cell is from the
    run's clusters (Mahalanobis's distance before any move; large: little like the run's cells) to
    ``query.obs["harmony_distance"]``. What was done is in ``query.uns["harmony_map"]``.

    Cells of levels that the run saw are moved as the cells of these levels were. Cells of new
    levels are placed by Symphony's equations (Kang 2021), all of a call together. Without a `key`
    all cells are of one new level.

    Parameters
    ----------
    query
        The new cells.
    model
        A `HarmonyModel`, the path of its file, or the AnnData of a run with ``store_model=True``.
    key
        Column or columns of ``query.obs`` that tell batches apart.
    levels
        Whether the levels are the run's ("known"), others whatever their names ("new"), or the
        run's where it has them ("either"). By default new, if no name is the run's.
    basis
        Key of ``query.obsm`` with the cells in the PCA of the model. By default the genes are
        projected (the model must have been saved with them), to ``obsm["X_pca_reference"]``.
    layer
        Where the counts are; by default X.
    max_missing
        Largest share of the model's genes that the query may lack.
    adjusted_basis
        Key of ``query.obsm`` for the result.

    Raises
    ------
    InvalidInput
        Before any work: levels that could be known or new, genes that do not match, a key or
        basis that is not there.

    Examples
    --------
    >>> import harmonypy_lite as hl
    >>> cells = hl.datasets.simulate(n_cells=600, n_batches=3)
    >>> names = cells.obs["batch"].unique()
    >>> query = cells[cells.obs["batch"] == names[0]].copy()
    >>> reference = cells[cells.obs["batch"] != names[0]].copy()
    >>> hl.pp.harmony_integrate(reference, "batch", store_model=True)
    >>> hl.tl.map_embedding(query, reference, key="batch", basis="X_pca")
    >>> query.uns["harmony_map"]["n_mapped"] == query.n_obs
    True
    """
    found = as_model(model)
    check_result_name(adjusted_basis, argument="adjusted_basis")
    keys = None if key is None else key_list(key)
    if keys is not None:
        check_columns(keys, query.obs.columns)
    missing = None
    planned = plan(found, query.n_obs, None if keys is None else query.obs[keys], levels)
    if basis is None:
        space = genes_of_model(found)
        Z, missing = project(query, space, layer, max_missing)
    else:
        check_basis(basis, query.obsm.keys())
        Z = found.checked(as_embedding(np.asarray(query.obsm[basis])))

    def batches() -> Iterator[np.ndarray]:
        return (Z[a : a + ROWS_IN_MEMORY] for a in range(0, len(Z), ROWS_IN_MEMORY))

    moved, distance = zip(*placed(found, planned, batches), strict=True)
    if basis is None:
        query.obsm[PROJECTED] = Z
    query.obsm[adjusted_basis] = np.concatenate(moved)
    query.obs[DISTANCE] = np.concatenate(distance)
    query.uns["harmony_map"] = map_record(
        found, planned, keys, basis or PROJECTED, missing, adjusted_basis
    )


def genes_of_model(model: HarmonyModel) -> GeneSpace:
    """Return how counts become the embedding, or say that this was not kept."""
    if model.genes is None:
        raise InvalidInput(
            "The model was saved without genes: give the basis of the query's cells in the same "
            "PCA (basis='X_pca'), or save the model with them (save_genes=True, --save-genes)."
        )
    return model.genes


def project(
    query: AnnData, space: GeneSpace, layer: str | None, max_missing: float
) -> tuple[np.ndarray, float]:
    """Return (n, d) the cells in the PCA of a model, and the share of its genes they lack."""
    if layer is not None and layer not in query.layers:
        raise InvalidInput(
            f"There is no layer {layer!r}; there are {list(query.layers) or 'none'}."
        )
    values = query.X if layer is None else query.layers[layer]
    if values is None:
        raise InvalidInput("X is empty: the counts are needed to project the cells.")
    places = match_genes(query.var_names, space, max_missing)
    check_values(values[: min(1000, query.n_obs)], space)
    parts = [space.project(values[a : a + ROWS], places) for a in range(0, query.n_obs, ROWS)]
    return np.concatenate(parts), places.missing


def map_record(
    model: HarmonyModel,
    planned: Plan,
    keys: Sequence[str] | None,
    basis: str,
    missing: float | None,
    adjusted_basis: str,
) -> dict[str, Any]:
    """Return what was done, in types that files can hold."""
    record: dict[str, Any] = {
        "n_replayed": planned.n_replayed,
        "n_mapped": planned.n_mapped,
        "keys": np.array(list(keys or []), dtype=object),
        "model_cells": model.n_cells,
        "basis": basis,
        "adjusted_basis": adjusted_basis,
    }
    if missing is not None:
        record["missing_genes"] = missing
    return record
