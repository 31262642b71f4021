"""Integrate a file: read the few parts that are needed, run, write the result safely."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite import output
from harmonypy_lite.compilation import compile_clock
from harmonypy_lite.confounding import check_protected, warn_of_confounding
from harmonypy_lite.design import design_from_columns
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.lookup import (
    check_adjusted_basis,
    check_basis,
    check_columns,
    check_result_name,
    key_list,
)
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.pp import N_COMPONENTS
from harmonypy_lite.pp import preprocess as make_pca
from harmonypy_lite.record import storable, uns_record
from harmonypy_lite.stores import CellStore, NewParts, check_readable, open_store

if TYPE_CHECKING:
    import pandas as pd

    from harmonypy_lite.run import Progress

log = logging.getLogger("harmonypy_lite")


@dataclass(frozen=True)
class FileResult:
    """Where the result was written, the summary of the run, and what of it was compiling."""

    path: Path
    summary: dict[str, Any]
    seconds_compiling: float


def integrate_file(
    path: str | os.PathLike[str],
    key: str | Sequence[str],
    *,
    out: str | os.PathLike[str] | None = None,
    in_place: bool = False,
    overwrite: bool = False,
    basis: str = "X_pca",
    adjusted_basis: str = "X_pca_harmony",
    params: HarmonyParams | None = None,
    missing: str = "refuse",
    preprocess: bool = False,
    layer: str | None = None,
    protect: str | Sequence[str] | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> FileResult:
    """Integrate the embedding in an .h5ad file; the result is complete or absent.

    Only the columns `key` and the embedding are read. All else is copied untouched.

    Parameters
    ----------
    path
        The .h5ad file.
    key
        Column or columns of obs that tell batches apart.
    out
        The new file; by default ``NAME_harmony.h5ad`` beside the input.
    in_place
        Add the result to the input itself.
    overwrite
        Replace an output file, or a result in the file, that is there already.
    basis
        Key of obsm with the embedding.
    adjusted_basis
        Key of obsm for the result, float32.
    params
        The parameters of the method.
    missing
        "refuse" cells without a value in `key`, or make them a "level" of their own.
    preprocess
        Make the PCA first, see :func:`harmonypy_lite.pp.preprocess`.
    layer
        Where the counts are, for `preprocess`; by default X.
    protect
        Biological columns of obs; their confounding with the keys is reported, and warned of.
    progress
        Called after each round.

    Raises
    ------
    InvalidInput
        Before any work, with what to do.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, pathlib, tempfile
    >>> draws, path = np.random.default_rng(0), pathlib.Path(tempfile.mkdtemp()) / "cells.h5ad"
    >>> obs = pd.DataFrame({"donor": ["a", "b"] * 100}, index=[f"cell{i}" for i in range(200)])
    >>> anndata.AnnData(obs=obs, obsm={"X_pca": draws.normal(size=(200, 5))}).write_h5ad(path)
    >>> done = integrate_file(path, "donor")
    >>> done.path.name, done.summary["covariates"]
    ('cells_harmony.h5ad', {'donor': 2})
    """
    keys = key_list(key)
    protected = check_protected(protect, keys)
    check_adjusted_basis(adjusted_basis, basis)
    _check_preprocess(preprocess, basis, layer)
    source = Path(path).expanduser()
    check_readable(source)
    given = None if out is None else Path(out).expanduser()
    target = output.plan(source, given, in_place=in_place, overwrite=overwrite)
    before = _fingerprint(source)
    with open_store(source) as store:
        check_columns([*keys, *protected], store.columns())
        if not preprocess:
            check_basis(basis, store.embeddings())
        _check_clashes(store, _promised(adjusted_basis, basis if preprocess else None), overwrite)
        batches = store.obs(keys)
        confounding = warn_of_confounding(batches, store.obs(protected))
        if preprocess:
            _check_before_pca(batches, missing, target)
            made = _pca(store, batches, basis, layer)
            embedding = made.obsm[basis]
        else:
            made = NewParts(obsm={})
            embedding = store.embedding(basis)
            output.check_space(target, embedding.size * 4)
        write = store.write

    from harmonypy_lite.run import integrate_embedding

    params = params or HarmonyParams()
    with compile_clock() as compiling:
        done = integrate_embedding(embedding, batches, params, missing=missing, progress=progress)
    if _fingerprint(source) != before:
        raise RuntimeError(f"{source} was changed by another program during the run; run again.")
    summary = done.summary | ({"confounding": confounding} if protected else {})
    record = uns_record(summary, basis=basis, adjusted_basis=adjusted_basis)
    obsm = {**made.obsm, adjusted_basis: done.embedding}
    with output.replacing(target) as copy:
        write(copy, NewParts(obsm, made.varm, {**made.uns, "harmony": record}))
    log.info("wrote %s", target.path)
    return FileResult(Path(target.shown), summary, compiling())


def _check_preprocess(preprocess: bool, basis: str, layer: str | None) -> None:
    if preprocess:
        check_result_name(basis, argument="basis")
    elif layer is not None:
        raise InvalidInput(
            f"The layer {layer!r} is read for --preprocess only: give both or neither."
        )


def _promised(adjusted_basis: str, pca: str | None) -> NewParts:
    """Return the names that the run will write, to be checked before it starts."""
    empty = np.empty(0)
    if pca is None:
        return NewParts({adjusted_basis: empty}, uns={"harmony": {}})
    return NewParts({pca: empty, adjusted_basis: empty}, {"PCs": empty}, {"pca": {}, "harmony": {}})


def _check_clashes(store: CellStore, parts: NewParts, overwrite: bool) -> None:
    clashes = store.clashes(parts)
    if not clashes or overwrite:
        return
    it = "it" if len(clashes) == 1 else "them"
    remedies = [f"--overwrite replaces {it} in the output"]
    *pca, result = (f"obsm[{name!r}]" for name in parts.obsm)
    if clashes == [result]:
        remedies.append("--adjusted-basis NAME writes the result under another name")
    elif set(pca) & set(clashes):
        remedies.append("without --preprocess the PCA in the file is integrated")
    raise InvalidInput(
        f"{store.path} holds {' and '.join(clashes)} already: {', '.join(remedies)}."
    )


def _check_before_pca(batches: pd.DataFrame, missing: str, target: output.Target) -> None:
    """Find before the PCA, which takes minutes, what would stop the integration after it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HarmonyWarning)  # the integration repeats them
        design_from_columns(batches, missing=missing)
    output.check_space(target, len(batches) * 2 * N_COMPONENTS * 4)


def _pca(store: CellStore, batches: pd.DataFrame, basis: str, layer: str | None) -> NewParts:
    from anndata import AnnData

    obs = batches.set_index(batches.index.astype(str))
    adata = AnnData(store.counts(layer), obs=obs)
    make_pca(adata, list(batches), basis=basis)
    return NewParts(
        {basis: adata.obsm[basis]}, {"PCs": adata.varm["PCs"]}, {"pca": storable(adata.uns["pca"])}
    )


def _fingerprint(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
