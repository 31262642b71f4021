"""What the questions about a choice read of an AnnData, checked before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.design import Design, design_from_columns
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.lookup import check_basis, check_columns, key_list, nearest
from harmonypy_lite.metrics.inputs import Categories, as_categories, as_embedding, whole_number
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.theta import sweep as sweeps
from harmonypy_lite.theta.measure import Probe

if TYPE_CHECKING:
    from anndata import AnnData

VARIED = ("theta", "sigma", "n_clusters", "alpha", "flavor", "start")
"""What a sweep can vary."""

_NOT_HERE = ("rng", "n_jobs")


class Case(NamedTuple):
    """The cells, their levels, the batches of all of them, and the seed."""

    probe: Probe
    design: Design
    batches: Categories
    seed: int


def read_case(
    adata: AnnData,
    key: str | Sequence[str],
    label_key: str | None,
    basis: str,
    params: HarmonyParams,
    missing: str,
    n_measured: int,
) -> Case:
    """Read and check all that the functions have in common."""
    keys = key_list(key)
    labels = [] if label_key is None else key_list([label_key], name="label_key")
    check_columns([*keys, *labels], adata.obs.columns)
    if label_key in keys:
        raise InvalidInput(
            f"{label_key!r} is both a batch column and the label: batches should mix and labels "
            "stay apart. Give the column of cell types as label_key, or leave it out."
        )
    check_basis(basis, adata.obsm.keys())
    Z = as_embedding(adata.obsm[basis], f"obsm[{basis!r}]")
    design = design_from_columns(adata.obs[keys], missing=missing)
    if not design.covariates:
        raise InvalidInput(
            f"obs[{keys[0]!r}] has only one level: there is nothing to mix. Give a column that "
            "tells batches apart."
        )
    batches = _batches(design)
    seed = _seed(params.rng)
    known = _labels(adata, label_key)
    return Case(sweeps.probe_of(Z, batches, known, params, seed, n_measured), design, batches, seed)


def _batches(design: Design) -> Categories:
    """Return the levels of the covariate, or the combinations of several, as categories."""
    what = ", ".join(design.covariates)
    if len(design.covariates) == 1:
        names = np.array(design.levels[0], dtype=object)
        return Categories(design.codes[:, 0], design.level_size, names, what)
    every = [level for levels in design.levels for level in levels]
    used, codes, sizes = np.unique(design.codes, axis=0, return_inverse=True, return_counts=True)
    names = np.array([", ".join(every[code] for code in row) for row in used], dtype=object)
    return Categories(codes.reshape(-1).astype(np.int32), sizes, names, what)


def _labels(adata: AnnData, label_key: str | None) -> tuple[NDArray[np.bool_], Categories] | None:
    if label_key is None:
        return None
    mask = adata.obs[label_key].notna().to_numpy()
    if not mask.any():
        raise InvalidInput(f"obs[{label_key!r}] is missing for every cell; leave label_key out.")
    column = as_categories(adata.obs[label_key][mask], int(mask.sum()), f"obs[{label_key!r}]")
    if column.n < 2 or column.n > max(2, len(column.codes) // 2):
        raise InvalidInput(
            f"obs[{label_key!r}] has {column.n} value(s) in {len(column.codes)} cells: give a "
            "column of at least two cell types, or leave label_key out."
        )
    return mask, column


def _seed(rng: Any) -> int:
    return int(rng.integers(2**31)) if isinstance(rng, np.random.Generator) else int(rng)


def measured_cells(n_measured: Any) -> int:
    """Return how many cells to look at, or raise InvalidInput."""
    return whole_number("n_measured", n_measured, 100)


def checked_params(
    parameters: dict[str, Any], rng: Any, n_jobs: int | None, vary: str | None
) -> HarmonyParams:
    """Return the parameters of all runs; refuses unknown ones and the one that is varied."""
    known = [entry.name for entry in fields(HarmonyParams) if entry.name not in _NOT_HERE]
    unknown = [name for name in parameters if name not in known]
    if unknown:
        near = nearest(unknown[0], known)
        hint = f"did you mean {near!r}?" if near else f"there are {', '.join(known)}."
        raise InvalidInput(f"There is no parameter {unknown[0]!r}: {hint}")
    if vary in parameters:
        raise InvalidInput(f"{vary} is varied and given as well: leave one out.")
    return HarmonyParams(**parameters, rng=rng, n_jobs=n_jobs)


def checked_values(vary: str, values: Sequence[Any] | None) -> tuple[Any, ...]:
    """Return the values of a sweep, numbers ascending."""
    if vary not in VARIED:
        raise InvalidInput(f"vary={vary!r}: choose one of {', '.join(VARIED)}.")
    if values is None or isinstance(values, str) or np.ndim(values) != 1 or not len(values):
        raise InvalidInput(f"values={values!r}: give a list of values of {vary}.")
    kinds: dict[str, Any] = {"flavor": str, "start": str, "n_clusters": lambda value: value}
    try:
        found = tuple(kinds.get(vary, float)(value) for value in values)
    except (TypeError, ValueError):
        raise InvalidInput(f"values={values!r}: {vary} is a number.") from None
    if len(set(found)) < len(found):
        raise InvalidInput(f"values={values!r}: a value is there twice.")
    ordered = vary not in ("flavor", "start")
    return tuple(sorted(found)) if ordered else found
