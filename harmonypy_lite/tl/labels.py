"""Labels of a reference carried over to new cells, with doubt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.calls import checked_call, refuse_other_than_adata
from harmonypy_lite.embedding import as_embedding
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.levels import numbered
from harmonypy_lite.lookup import check_basis, check_columns
from harmonypy_lite.method.doubt import BEYOND, calibrate, cluster_distance, doubt
from harmonypy_lite.method.votes import halfway, shares
from harmonypy_lite.model import HarmonyModel
from harmonypy_lite.nearest import nearest
from harmonypy_lite.threads import Workers
from harmonypy_lite.tl.mapping import as_model

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

#: What cells of no known type are called.
UNKNOWN = "unknown"


@checked_call(refuse=refuse_other_than_adata)
def transfer_labels(
    query: AnnData,
    reference: AnnData,
    label_key: str,
    *,
    basis: str = "X_pca_harmony",
    n_neighbors: int = 20,
    batch_key: str | None = None,
    unknown: bool = True,
    beyond: float = BEYOND,
) -> None:
    """Carry labels over to new cells from their neighbours among the reference's.

    Writes to ``query.obs``: ``LABEL_transferred``, the label with most votes of the neighbours,
    whose votes weigh less the further away they are, in distances that are shortened along what
    differs inside types; ``LABEL_probability``, its share of the votes; and, with `unknown`,
    ``LABEL_doubt``, how far out the cell is. Above 1 its label is "unknown": its direction in the
    PCA, before any move, is then further from every type than nearly all cells of a batch are that
    is left out of the reference, after what the cell's batch does was taken off, as its nearest
    cells show.

    A type that is close to one of the reference, such as CD8 beside CD4 T cells, takes its name.
    Where about half of a batch or more are of unknown types, they may be taken for what the batch
    does, and known types for unknown.

    Parameters
    ----------
    query
        New cells, placed by :func:`map_embedding`.
    reference
        The cells of the run, with labels; those without are left out.
    label_key
        Column of ``reference.obs``.
    basis
        Key of obsm with the corrected cells, in both.
    n_neighbors
        Neighbours that are asked.
    batch_key
        Column of ``query.obs`` with the batches; by default those that it was mapped with. Only
        for `unknown`.
    unknown
        Whether cells may be unknown.
    beyond
        Share of the cells of a batch that is left out of the reference that are not unknown.

    Raises
    ------
    InvalidInput
        For keys that are not there, or too few labelled cells.

    Examples
    --------
    >>> import harmonypy_lite as hl
    >>> cells = hl.datasets.simulate(n_cells=900, n_batches=3)
    >>> names = cells.obs["batch"].unique()
    >>> query = cells[cells.obs["batch"] == names[0]].copy()
    >>> reference = cells[cells.obs["batch"] != names[0]].copy()
    >>> hl.pp.harmony_integrate(reference, "batch", store_model=True)
    >>> hl.tl.map_embedding(query, reference, key="batch", basis="X_pca")
    >>> hl.tl.transfer_labels(query, reference, "cell_type")
    >>> same = query.obs["cell_type_transferred"].astype(str) == query.obs["cell_type"].astype(str)
    >>> bool(same.mean() > 0.8)
    True
    """
    check_columns([label_key], reference.obs.columns)
    names, code, labelled = _labels(reference, label_key, n_neighbors)
    if not 0 < beyond < 1:
        raise InvalidInput(f"beyond={beyond!r}: give a share above 0 and below 1.")
    mine, theirs = (_cells(each, basis) for each in (query, reference))
    if mine.shape[1] != theirs.shape[1]:
        raise InvalidInput(
            f"The query has {mine.shape[1]} dimensions in {basis}, the reference "
            f"{theirs.shape[1]}: both must be in the space of one run."
        )
    likely = probabilities(mine, theirs[labelled], code, len(names), n_neighbors)
    best = likely.argmax(axis=1)
    found = best
    if unknown:
        score = _doubts(query, reference, (code, labelled), batch_key, beyond)
        query.obs[f"{label_key}_doubt"] = score
        found = np.where(score > 1, len(names), best)
    query.obs[f"{label_key}_transferred"] = _named(found, [*names, UNKNOWN])
    query.obs[f"{label_key}_probability"] = likely[np.arange(len(best)), best]


def _labels(
    reference: AnnData, label_key: str, k: int
) -> tuple[list[str], np.ndarray, np.ndarray | slice]:
    """Return the names of the labels, (N',) their numbers, and which cells (N,) have one."""
    _, number, values = numbered(reference.obs[label_key])
    there = number >= 0
    n_labelled = int(there.sum())
    if not 1 <= k <= n_labelled:
        raise InvalidInput(
            f"n_neighbors={k}, and {n_labelled} cells of the reference have a label: give a number "
            "from 1 to that."
        )
    labelled = slice(None) if n_labelled == len(there) else there
    used = np.bincount(number[labelled], minlength=len(values)) > 0
    names = sorted({str(value) for value in values[used]})
    place = {name: p for p, name in enumerate(names)}
    code = np.array([place.get(str(value), -1) for value in values])[number[labelled]]
    if UNKNOWN in names:
        raise InvalidInput(
            f"A label of the reference is {UNKNOWN!r}, as cells of no known type are called: make "
            "these cells' labels missing, or rename it."
        )
    return names, code, labelled


def _named(found: np.ndarray, names: list[str]) -> pd.Categorical:
    """Return names by their numbers (n,); the categories are those that occur, in order."""
    import pandas as pd

    used = np.flatnonzero(np.bincount(found, minlength=len(names)))
    used = np.array(sorted(used, key=lambda p: names[p]), np.int64)
    code = np.empty(len(names), np.int64)
    code[used] = np.arange(used.size)
    kind = pd.CategoricalDtype([names[p] for p in used])
    return pd.Categorical.from_codes(code[found], dtype=kind, validate=False)


def _cells(adata: AnnData, basis: str) -> np.ndarray:
    check_basis(basis, adata.obsm.keys())
    return as_embedding(np.asarray(adata.obsm[basis]))


def probabilities(
    query: np.ndarray, reference: np.ndarray, code: np.ndarray, n_labels: int, k: int
) -> np.ndarray:
    """Return (n, T) the share of each label in the votes of the `k` nearest cells."""
    with Workers(1):  # the bytes of a product may depend on the threads of BLAS
        metric = halfway(reference, code, n_labels).astype(query.dtype)
        x, y = query @ metric, reference @ metric
    near, distance = nearest(x, y, min(k + 1, len(reference)))
    return shares(code[near], distance, n_labels)


def _doubts(
    query: AnnData,
    reference: AnnData,
    labels: tuple[np.ndarray, np.ndarray | slice],
    batch_key: str | None,
    beyond: float,
) -> np.ndarray:
    code, labelled = labels
    ran, mapped = reference.uns.get("harmony"), query.uns.get("harmony_map")
    if not isinstance(ran, Mapping) or not isinstance(mapped, Mapping):
        raise InvalidInput(
            "Cells of no known type are found by what is known of the run and of the mapping: "
            "integrate the reference with pp.harmony_integrate and place the query with "
            "tl.map_embedding, or give unknown=False."
        )
    own, new = _cells(reference, str(ran["basis"])), _cells(query, str(mapped["basis"]))
    if own.shape[1] != new.shape[1]:
        raise InvalidInput(
            f"The query has {new.shape[1]} dimensions in {mapped['basis']}, the reference "
            f"{own.shape[1]} in {ran['basis']}: both must be in one PCA."
        )
    keys = list(mapped["keys"]) if batch_key is None else [batch_key]
    batch = _numbered(reference, list(ran["covariates"]))[labelled]
    with Workers(1):  # the bytes of a product may depend on the threads of BLAS
        calibration = calibrate(own[labelled], code, batch, int(code.max()) + 1, beyond)
        return doubt(calibration, new, _numbered(query, keys))


def _numbered(adata: AnnData, keys: list[str]) -> np.ndarray:
    """Return (N,) the number of each cell's combination of levels; 0 without keys."""
    check_columns(keys, adata.obs.columns)
    combination = np.zeros(adata.n_obs, np.int64)
    for key in keys:
        _, number, values = numbered(adata.obs[key])
        together = combination * (len(values) + 1) + number + 1
        _, combination = np.unique(together, return_inverse=True)
    return combination


@checked_call(refuse=refuse_other_than_adata)
def cluster_confidence(
    query: AnnData, model: HarmonyModel | Any, cluster_key: str, *, basis: str = "X_pca_reference"
) -> dict[str, float]:
    """Say how far each cluster of new cells is from the run's nearest one (Kang 2021).

    Parameters
    ----------
    query
        New cells, in the PCA of the model.
    model
        As in :func:`map_embedding`.
    cluster_key
        Column of ``query.obs`` with clusters of the query.
    basis
        Key of ``query.obsm`` with the cells before any move.

    Returns
    -------
    dict
        For each cluster Mahalanobis's distance of its mean; large: little like the reference. NaN
        for clusters of fewer than 2 d cells.

    Raises
    ------
    InvalidInput
        For keys that are not there.

    Examples
    --------
    >>> import harmonypy_lite as hl
    >>> cells = hl.datasets.simulate(n_cells=600)
    >>> hl.pp.harmony_integrate(cells, "batch", store_model=True)
    >>> sorted(cluster_confidence(cells, cells, "batch", basis="X_pca")) == sorted(
    ...     cells.obs["batch"].unique())
    True
    """
    check_columns([cluster_key], query.obs.columns)
    found = as_model(model)
    Z = found.checked(_cells(query, basis))
    names, code = np.unique(query.obs[cluster_key].astype(str), return_inverse=True)
    score = cluster_distance(Z, code, found.reference.mean)
    return dict(zip(names.tolist(), score.tolist(), strict=True))
