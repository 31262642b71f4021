"""Integrate files: read the few parts that are needed, run, write the result safely."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.budget import Choice, Load, choose
from harmonypy_lite.compilation import compile_clock
from harmonypy_lite.confounding import check_protected, warn_of_confounding
from harmonypy_lite.design import design_from_columns
from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.execution import (
    Done,
    Request,
    design_of,
    executed,
    load_of,
    take_back,
)
from harmonypy_lite.files import output
from harmonypy_lite.files.claim import claimed
from harmonypy_lite.files.inputs import Inputs, PathLike, Unchanged, open_inputs, sources_of
from harmonypy_lite.files.stores import CellStore, NewParts
from harmonypy_lite.keeping_files import FileModel
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
from harmonypy_lite.record import storable
from harmonypy_lite.results import settled, write_results

if TYPE_CHECKING:
    import pandas as pd

    from harmonypy_lite.run import Progress

log = logging.getLogger("harmonypy_lite")


@dataclass(frozen=True)
class FileResult:
    """Where a result was written, and how it was made.

    Attributes
    ----------
    path
        The output.
    summary
        Parameters, objective, why it stopped, in plain numbers and texts.
    choice
        Whether the cells were in memory or on disk, and the memory needed and allowed.
    resumed
        Whether a killed run was taken up.
    seconds_compiling
        What compiling took of the time: something on the first run only.
    """

    path: Path
    summary: dict[str, Any]
    choice: Choice
    resumed: bool = False
    seconds_compiling: float = 0.0


def integrate_file(path: PathLike, key: str | Sequence[str], **options: Any) -> FileResult:
    """Integrate the embedding in an .h5ad file or a zarr store; the result is complete or absent.

    Only the columns `key` and the embedding are read, and never the whole embedding where it does
    not fit into `memory`: the bytes are the same in all modes. All else is copied untouched.

    Parameters
    ----------
    path
        The file.
    key
        Column or columns of obs that tell batches apart.
    options
        As in :func:`integrate_files`, which takes several files.

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
    >>> done = integrate_file(path, "donor", memory="2G")
    >>> done.path.name, done.summary["covariates"], done.choice.mode
    ('cells_harmony.h5ad', {'donor': 2}, 'fast')
    """
    return integrate_files([path], key, **options)[0]


def integrate_files(
    paths: Sequence[PathLike],
    key: str | Sequence[str],
    *,
    out: PathLike | None = None,
    in_place: bool = False,
    overwrite: bool = False,
    basis: str = "X_pca",
    adjusted_basis: str = "X_pca_harmony",
    params: HarmonyParams | None = None,
    missing: str = "refuse",
    preprocess: bool = False,
    layer: str | None = None,
    protect: str | Sequence[str] | None = None,
    memory: str | int | None = None,
    scratch: PathLike | None = None,
    resume: bool = False,
    save_model: PathLike | None = None,
    save_genes: bool = False,
    progress: Callable[[Progress], None] | None = None,
    on_written: Callable[[list[Path]], None] = lambda paths: None,
) -> list[FileResult]:
    """Integrate the cells of several files together; each file gets its own result.

    Parameters
    ----------
    paths
        The files; their embeddings must be one, such as a PCA made of all of them together.
    key
        Column or columns of obs that tell batches apart, in each file.
    out
        The new file, for several an existing folder; by default ``NAME_harmony.h5ad`` beside the
        input.
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
        Make the PCA first, see :func:`harmonypy_lite.pp.preprocess`; one file only, in memory.
    layer
        Where the counts are, for `preprocess` and `save_genes`; by default X.
    protect
        Biological columns of obs; their confounding with the keys is reported, and warned of.
    memory
        What the process may take, such as ``"2G"``; by default half of what is available. Or how
        the cells are held: "fast" and "lean" in memory, "scratch" in files.
    scratch
        An existing folder for scratch files; by default that of the (first) output.
    resume
        Go on where a run with the same input and parameters was killed, if there was one.
    save_model
        A new .h5 file for what the run learned, by which :func:`map_file` places new cells.
    save_genes
        Keep in it how the PCA was made of the genes, so that counts can be placed; one file only.
    progress
        Called after each round.
    on_written
        Called with the outputs when they are complete, before scratch files are removed.

    Raises
    ------
    InvalidInput
        Before any work, with what to do.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, pathlib, tempfile
    >>> draws, folder = np.random.default_rng(0), pathlib.Path(tempfile.mkdtemp())
    >>> for name in ("a", "b"):
    ...     obs = pd.DataFrame({"donor": [name] * 100}, index=[f"cell{i}" for i in range(100)])
    ...     cells = anndata.AnnData(obs=obs, obsm={"X_pca": draws.normal(size=(100, 5))})
    ...     cells.write_h5ad(folder / f"{name}.h5ad")
    >>> done = integrate_files([folder / "a.h5ad", folder / "b.h5ad"], "donor")
    >>> [each.path.name for each in done]
    ['a_harmony.h5ad', 'b_harmony.h5ad']
    """
    protected, sources = check_protected(protect, key_list(key)), sources_of(paths)
    _check_names(preprocess, basis, adjusted_basis, None if save_genes else layer, paths, resume)
    model = FileModel(_path(save_model), save_genes, layer, overwrite).checked(sources)
    targets = output.plan_all(sources, _path(out), in_place=in_place, overwrite=overwrite)
    files_in, keys = tuple(target.source for target in targets), key_list(key)
    folder, params = _path(scratch) or targets[0].path.parent, params or HarmonyParams()
    how = params, missing, memory, folder, resume
    record = save_model is not None
    request = Request(files_in, [], keys, basis, *how, progress=progress, record=record)
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as files:
        stack.enter_context(claimed(targets))
        take_back(request)
        request = replace(request, before=(unchanged := Unchanged(sources)).before)
        compiling = stack.enter_context(compile_clock())
        inputs = files.enter_context(open_inputs(sources))
        promised = _promised(adjusted_basis, basis if preprocess else None)
        _check_stores(inputs, [*request.keys, *protected], basis, promised, preprocess, overwrite)
        targets = list(map(settled, targets, inputs.stores, [promised] * len(targets)))
        more = _confounding(inputs, request.keys, protected)
        if preprocess:
            made, done = _preprocessed(inputs, request, layer, targets[0])
            model = model.learn(inputs, basis, made)
        else:
            model, made = model.learn(inputs, basis), NewParts(obsm={})
            request = _with_space(inputs, request, targets)
            done = stack.enter_context(executed(inputs, request, files.close))
        files.close()
        unchanged.check()
        done = replace(done, summary=done.summary | more)
        model.keep(done, made, request)
        write_results(targets, inputs, done, made, adjusted_basis=adjusted_basis, basis=basis)
        on_written([Path(target.shown) for target in targets])
    made_by = done.summary, done.choice, done.resumed, compiling()
    return [FileResult(Path(target.shown), *made_by) for target in targets]


def _path(given: PathLike | None) -> Path | None:
    return None if given is None else Path(given).expanduser()


def plan_files(
    paths: Sequence[PathLike],
    key: str | Sequence[str],
    *,
    basis: str = "X_pca",
    params: HarmonyParams | None = None,
    missing: str = "refuse",
    memory: str | int | None = None,
) -> tuple[Load, Choice]:
    """Return the sizes of a run on these files, and how the cells would be held.

    Arguments are those of :func:`integrate_files`.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd, pathlib, tempfile
    >>> draws, path = np.random.default_rng(0), pathlib.Path(tempfile.mkdtemp()) / "cells.h5ad"
    >>> obs = pd.DataFrame({"donor": ["a", "b"] * 100}, index=[f"cell{i}" for i in range(200)])
    >>> anndata.AnnData(obs=obs, obsm={"X_pca": draws.normal(size=(200, 5))}).write_h5ad(path)
    >>> load, choice = plan_files([path], "donor", memory="1G")
    >>> load.n_cells, load.n_levels, choice.mode
    (200, 2, 'fast')
    """
    keys, sources = key_list(key), sources_of(paths)
    params = params or HarmonyParams()
    request = Request(tuple(sources), [], keys, basis, params, missing, memory, Path(), False)
    with open_inputs(sources) as inputs, warnings.catch_warnings():
        warnings.simplefilter("ignore", HarmonyWarning)  # the run says them
        for store in inputs.stores:
            _check_store(store, keys, basis, False)
        design = design_of(inputs, request, np.empty((inputs.n_cells, len(keys)), np.int32))
        load = load_of(inputs.embedding(basis), request, design)
    return load, choose(load, memory)


def _check_stores(
    inputs: Inputs,
    columns: Sequence[str],
    basis: str,
    promised: NewParts,
    preprocess: bool,
    overwrite: bool,
) -> None:
    for store in inputs.stores:
        _check_store(store, columns, basis, preprocess)
        _check_clashes(store, promised, overwrite)


def _check_store(store: CellStore, columns: Sequence[str], basis: str, preprocess: bool) -> None:
    check_columns(columns, store.columns())
    if not preprocess:
        check_basis(basis, store.embeddings())


def _confounding(inputs: Inputs, keys: list[str], protected: list[str]) -> dict[str, Any]:
    if not protected:
        return {}
    return {"confounding": warn_of_confounding(inputs.obs(keys), inputs.obs(protected))}


def _with_space(inputs: Inputs, request: Request, targets: Sequence[output.Target]) -> Request:
    """Check the space for the outputs; note what they take where the scratch files will be."""
    d = inputs.embedding(request.basis).shape[1]
    space = 0
    for store, target in zip(inputs.stores, targets, strict=True):
        needed = output.check_space(target, 4 * d * store.n_cells)
        folder = request.scratch
        if folder.is_dir() and folder.stat().st_dev == target.path.parent.stat().st_dev:
            space += needed
    return replace(request, space=space)


def _preprocessed(
    inputs: Inputs, request: Request, layer: str | None, target: output.Target
) -> tuple[NewParts, Done]:
    """Make the PCA and integrate it, in memory."""
    from harmonypy_lite.run import integrate_embedding

    store = inputs.stores[0]
    batches = store.obs(request.keys)
    _check_before_pca(batches, request.missing, target)
    made = _pca(store, batches, request.basis, layer)
    embedding: Any = made.obsm[request.basis]
    choice = choose(load_of(embedding, request), request.memory, may_stream=False)
    if choice.mode == "scratch":
        choice = replace(choice, mode="lean")
    params = replace(request.params, memory=choice.mode)
    done = integrate_embedding(
        embedding,
        batches,
        params,
        missing=request.missing,
        record=request.record,
        progress=request.progress,
    )
    return made, Done(
        iter([done.embedding]), done.summary, choice, design=done.design, replay=done.replay
    )


def _check_names(
    preprocess: bool,
    basis: str,
    adjusted_basis: str,
    layer: str | None,
    paths: Sequence[PathLike],
    resume: bool,
) -> None:
    check_adjusted_basis(adjusted_basis, basis)
    if preprocess:
        check_result_name(basis, argument="basis")
        if len(paths) > 1 or resume:
            raise InvalidInput(
                "--preprocess works on one file, from its start: for several files make one PCA of "
                "all cells together first, and leave --resume out."
            )
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
