"""Integration and preprocessing of AnnData objects, with scanpy's keyword names."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.calls import checked_call, refuse_other_than_adata
from harmonypy_lite.confounding import check_protected, warn_of_confounding
from harmonypy_lite.design import design_from_columns
from harmonypy_lite.embedding import is_dask
from harmonypy_lite.errors import InvalidInput, warn
from harmonypy_lite.files.elements import is_record, sparse_message
from harmonypy_lite.keeping import Keeping
from harmonypy_lite.lookup import (
    check_adjusted_basis,
    check_basis,
    check_columns,
    check_result_name,
    key_list,
)
from harmonypy_lite.params import HarmonyParams, PerLevel, documented
from harmonypy_lite.record import uns_record
from harmonypy_lite.threads import Workers

if TYPE_CHECKING:
    from anndata import AnnData

    from harmonypy_lite.lazy import LazyIntegration
    from harmonypy_lite.run import Integration

log = logging.getLogger("harmonypy_lite")

_N_GENES = 2000
#: Components of the PCA that :func:`preprocess` makes, or fewer for few cells or genes.
N_COMPONENTS = 50


@documented
@checked_call(refuse=refuse_other_than_adata)
def harmony_integrate(
    adata: AnnData,
    key: str | Sequence[str],
    *,
    basis: str = "X_pca",
    adjusted_basis: str = "X_pca_harmony",
    flavor: str = "harmony2",
    start: str | None = None,
    n_clusters: int | None = None,
    theta: PerLevel = 2.0,
    sigma: float | Sequence[float] = 0.1,
    tau: float = 0.0,
    alpha: float = 0.2,
    ridge_lambda: PerLevel | None = None,
    batch_prune_threshold: float | None = 1e-5,
    block_proportion: float = 0.05,
    sync: str = "exact",
    max_iter_harmony: int = 10,
    max_iter_clustering: int | None = None,
    tol_harmony: float | None = None,
    tol_clustering: float | None = None,
    early_stop: bool = True,
    rng: int | np.random.Generator = 0,
    n_jobs: int | None = None,
    memory: str = "fast",
    missing: str = "refuse",
    protect: str | Sequence[str] | None = None,
    save_model: str | os.PathLike[str] | None = None,
    store_model: bool = False,
    save_genes: bool | str = False,
    verbose: bool | None = None,
) -> None:
    """Mix the batches of an embedding with Harmony.

    Writes ``adata.obsm[adjusted_basis]`` (n_cells, d), a float32 array, and the record of the run
    to ``adata.uns["harmony"]``: parameters, versions, objective, why it stopped. A result that is
    there already is replaced, which is logged; what else stood in ``uns["harmony"]`` is replaced
    with a warning. A view becomes a copy of its own, as in scanpy.

    A Dask array in ``obsm`` gives a lazy Dask array, chunked alike, and is never computed whole.
    With a client of dask.distributed the cells are on its workers during the run, without one in
    scratch files (in dask's ``temporary-directory``). The bytes are those of a run in memory.

    Parameters
    ----------
    adata
        Annotated data with an embedding (n_cells, d).
    key
        Column of ``adata.obs`` that tells batches apart, or several.
    basis : default 'X_pca'
        Key of ``adata.obsm`` with the embedding.
    adjusted_basis : default 'X_pca_harmony'
        Key of ``adata.obsm`` for the result.
    {parameters}
    missing : default 'refuse'
        Cells without a value in `key`: "refuse" them, or make them a "level" of their own.
    protect : default None
        Biological column(s) of ``adata.obs``; how far they are confounded with `key` (Cramer's V)
        is written to the record, and warned of where mixing batches would remove them.
    save_model : default None
        A new .h5 file for what the run learned, by which `tl.map_embedding` places new cells.
    store_model : default False
        Keep that in ``adata.uns["harmony_model"]``.
    save_genes : default False
        Keep in the model how the PCA was made of the genes in X (True) or a layer (its name), so
        that counts can be placed; ``varm["PCs"]`` is needed, and the PCA is made again to be sure.
    verbose : default None
        Show a progress bar; by default on a terminal or in a notebook only.

    Raises
    ------
    InvalidInput
        Before any work: a key or basis that is not there (the message lists those that are), or
        values that cannot be used.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> draws = np.random.default_rng(0)
    >>> obs = pd.DataFrame({"donor": ["a", "b"] * 100}, index=[f"cell{i}" for i in range(200)])
    >>> adata = anndata.AnnData(obs=obs, obsm={"X_pca": draws.normal(size=(200, 5))})
    >>> harmony_integrate(adata, "donor")
    >>> adata.obsm["X_pca_harmony"].shape
    (200, 5)
    >>> adata.uns["harmony"]["covariates"].tolist()
    ['donor']
    """
    params = HarmonyParams(
        flavor=flavor,
        start=start,
        n_clusters=n_clusters,
        theta=theta,
        sigma=sigma,
        tau=tau,
        alpha=alpha,
        ridge_lambda=ridge_lambda,
        batch_prune_threshold=batch_prune_threshold,
        block_proportion=block_proportion,
        sync=sync,
        max_iter_harmony=max_iter_harmony,
        max_iter_clustering=max_iter_clustering,
        tol_harmony=tol_harmony,
        tol_clustering=tol_clustering,
        early_stop=early_stop,
        rng=rng,
        n_jobs=n_jobs,
        memory=memory,
    )
    keys = key_list(key)
    protected = check_protected(protect, keys)
    check_adjusted_basis(adjusted_basis, basis)
    check_columns([*keys, *protected], adata.obs.columns)
    embedding = _embedding(adata, basis)
    _warn_of_foreign_record(adata)
    keeping = Keeping(adata, basis, save_model, store_model, save_genes)

    from harmonypy_lite.progress import progress_bar

    summary: dict[str, Any] = {}
    if protected:
        summary["confounding"] = warn_of_confounding(adata.obs[keys], adata.obs[protected])
    with progress_bar(verbose) as progress:
        done = _integrated(embedding, adata.obs[keys], params, missing, progress, keeping.asked)
    keeping.keep(done, embedding, params, summary)
    record = uns_record(done.summary | summary, basis=basis, adjusted_basis=adjusted_basis)
    _store(adata, adjusted_basis, done.embedding, record)


def _integrated(
    embedding: Any,
    batches: Any,
    params: HarmonyParams,
    missing: str,
    progress: Any,
    record: bool,
) -> Integration | LazyIntegration:
    from harmonypy_lite.lazy import integrate_lazy

    if hasattr(batches, "to_memory"):  # the lazy obs of anndata's read_lazy: codes are small
        batches = batches.to_memory()
    if is_dask(embedding):
        design = design_from_columns(batches, missing=missing)
        return integrate_lazy(embedding, design, params, progress=progress)
    from harmonypy_lite.run import integrate_embedding

    return integrate_embedding(
        embedding, batches, params, missing=missing, record=record, progress=progress
    )


def _warn_of_foreign_record(adata: AnnData) -> None:
    if "harmony" in adata.uns and not is_record(adata.uns["harmony"]):
        warn(
            "adata.uns['harmony'] is not from an earlier run of harmonypy_lite: it is replaced by "
            "the record of this run. Keep it under another key if you need it."
        )


def _embedding(adata: AnnData, basis: str) -> Any:
    """Return the embedding; everything that would stop the result from being stored is found."""
    _refuse_backed_view(adata)
    check_basis(basis, adata.obsm.keys())
    import scipy.sparse

    found = adata.obsm[basis]
    where = f"obsm[{basis!r}]"
    if scipy.sparse.issparse(found):
        raise InvalidInput(sparse_message(where))
    if hasattr(found, "dtypes"):  # a DataFrame
        words = [str(name) for name, kind in found.dtypes.items() if kind.kind not in "iufb"]
        if words:
            raise InvalidInput(
                f"{where} has columns that are no numbers ({', '.join(words[:5])}): keep the "
                "numeric columns only."
            )
        found = found.to_numpy()
    if is_dask(found):
        return found
    return np.asarray(found)


def _refuse_backed_view(adata: AnnData) -> None:
    if adata.is_view and adata.isbacked:
        raise InvalidInput(
            "This AnnData is a view of a file on disk, which can hold no new parts: use "
            "adata.to_memory(), or the whole file before taking the subset."
        )


def _store(adata: AnnData, name: str, embedding: Any, record: dict[str, Any]) -> None:
    if name in adata.obsm:
        log.info("obsm[%r] was there already and is replaced by the new result", name)
    with warnings.catch_warnings():
        if adata.is_view:
            from anndata import ImplicitModificationWarning

            log.info("this AnnData was a view; it is now a copy that holds the result")
            warnings.simplefilter("ignore", ImplicitModificationWarning)
        adata.obsm[name] = embedding
        adata.uns["harmony"] = record


@checked_call(refuse=refuse_other_than_adata)
def preprocess(adata: AnnData, batch_keys: str | Sequence[str], *, basis: str = "X_pca") -> None:
    """Make the PCA that Harmony needs from counts, with scanpy's usual steps.

    Each cell is scaled to the median depth, log(1 + x) taken, the 2,000 genes that vary most
    within batches chosen (batches of the first key), and 50 components computed. BLAS is held to
    one thread, so that the bytes do not depend on how many it has. Works on a copy: only
    ``obsm[basis]``, ``varm["PCs"]`` and ``uns["pca"]`` are written, X stays as it is.

    Parameters
    ----------
    adata
        Annotated data with counts in X (n_cells, n_genes), dense or sparse.
    batch_keys
        Column of ``adata.obs`` that tells batches apart, or several.
    basis
        Key of ``adata.obsm`` for the PCA.

    Raises
    ------
    InvalidInput
        X holds no counts, or the cells or genes are too few for a PCA.

    Examples
    --------
    >>> import anndata, numpy as np, pandas as pd
    >>> draws = np.random.default_rng(0)
    >>> obs = pd.DataFrame({"donor": ["a", "b"] * 50}, index=[f"cell{i}" for i in range(100)])
    >>> adata = anndata.AnnData(draws.poisson(3.0, (100, 60)).astype("float32"), obs=obs)
    >>> preprocess(adata, "donor")
    >>> adata.obsm["X_pca"].shape
    (100, 50)
    """
    keys = key_list(batch_keys)
    check_result_name(basis, argument="basis")
    check_columns(keys, adata.obs.columns)
    _refuse_backed_view(adata)
    counts = adata.X[:] if adata.isbacked else adata.X
    _check_counts(counts)

    import scanpy as sc
    from anndata import AnnData as Cells

    obs = adata.obs[keys[:1]].astype(str).astype("category")
    cells = Cells(counts.astype(np.float32), obs=obs)
    # the bytes of a product may depend on the threads of BLAS
    with Workers(1), warnings.catch_warnings():
        # scanpy's notes on its own insides, and on genes without variance in a batch of few cells,
        # are nothing that a user can act on
        for kind in (FutureWarning, DeprecationWarning, RuntimeWarning):
            warnings.simplefilter("ignore", kind)
        warnings.filterwarnings("ignore", "`n_top_genes`.* > ", UserWarning)
        sc.pp.normalize_total(cells)
        sc.pp.log1p(cells)
        n_top = min(_N_GENES, cells.n_vars)
        sc.pp.highly_variable_genes(cells, batch_key=keys[0], n_top_genes=n_top)
        n_genes = int(cells.var["highly_variable"].sum())
        n_components = min(N_COMPONENTS, cells.n_obs - 1, n_genes - 1)
        sc.pp.pca(cells, n_comps=n_components, mask_var="highly_variable")
    adata.obsm[basis] = cells.obsm["X_pca"]
    adata.varm["PCs"] = cells.varm["PCs"]
    adata.uns["pca"] = cells.uns["pca"]


def _check_counts(counts: Any) -> None:
    import scipy.sparse

    if counts is None:
        raise InvalidInput("X is empty: preprocessing needs the counts there.")
    n_cells, n_genes = counts.shape
    if n_cells < 3 or n_genes < 3:
        raise InvalidInput(
            f"{n_cells} cells x {n_genes} genes are too few for a PCA: at least 3 x 3."
        )
    # a sample is enough to tell counts from logarithms
    stored = counts.data if scipy.sparse.issparse(counts) else np.asarray(counts[:1000])
    stored = stored.ravel()[:1_000_000]
    if stored.dtype.kind not in "iufb":
        raise InvalidInput(f"X holds {stored.dtype} values: preprocessing needs counts.")
    odd = stored[(stored < 0) | (stored != np.floor(stored))]
    if odd.size:
        raise InvalidInput(
            f"X holds no counts (there are values such as {odd[0]:.4g}), it was normalised "
            "before: give the layer with the counts (--layer), or make the PCA from X with "
            "scanpy.pp.pca."
        )
