"""Published sets of proteins and chromatin, and published simulations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harmonypy_lite.datasets.place import load

if TYPE_CHECKING:
    from anndata import AnnData


def codex_spleen_158k() -> AnnData:
    """Mouse spleen by multiplexed imaging (CODEX).

    Intensities of 29 proteins. The two samples are of two strains, so batch and biology are
    confounded. The download is 99 MB.

    - paper: Goltsev et al. 2018, doi 10.1016/j.cell.2018.07.010
    - origin: PyPI cellcharter 0.1.2 (source), tests/_data/codex_adata.h5ad
    - licence: BSD-3 (carrier)
    - size: 157,868 cells x 29 proteins, 20 components
    - batches: 2 samples
    - types: 27

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
    >>> adata = datasets.codex_spleen_158k()  # doctest: +SKIP
    """
    return load("codex_spleen_158k", downloads=True)


def cytof_shaham_8files() -> AnnData:
    """Blood by mass cytometry.

    Two persons, two days, two time points; the day is the technical batch, a batch is a file.

    - paper: Shaham et al. 2017, doi 10.1093/bioinformatics/btx196
    - origin: github.com/ushaham/BatchEffectRemoval, Data/Person*Day*.csv
    - licence: none stated
    - size: 19,290 cells x 25 channels, 20 components
    - batches: 8 files
    - types: 2 (codes)

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
    >>> adata = datasets.cytof_shaham_8files()  # doctest: +SKIP
    """
    return load("cytof_shaham_8files")


def sim_tran2020_simul1() -> AnnData:
    """Splatter simulation 1 of a published benchmark.

    A strong effect with few types: the default theta leaves the batches apart.

    - paper: Tran et al. 2020, doi 10.1186/s13059-019-1850-9
    - origin: github.com/JinmiaoChenLab/Batch-effect-removal-benchmarking, Data/dataset3
    - licence: none stated
    - size: 1,400 cells, counts, 50 components
    - batches: 2
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
    >>> adata = datasets.sim_tran2020_simul1()  # doctest: +SKIP
    """
    return load("sim_tran2020_simul1")


def sim_tran2020_simul3() -> AnnData:
    """Splatter simulation 3 of a published benchmark.

    A strong effect with few types: the default theta leaves the batches apart.

    - paper: Tran et al. 2020, doi 10.1186/s13059-019-1850-9
    - origin: github.com/JinmiaoChenLab/Batch-effect-removal-benchmarking, Data/dataset3
    - licence: none stated
    - size: 950 cells, counts, 50 components
    - batches: 2
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
    >>> adata = datasets.sim_tran2020_simul3()  # doctest: +SKIP
    """
    return load("sim_tran2020_simul3")


def sim_tran2020_simul5() -> AnnData:
    """Splatter simulation 5 of a published benchmark.

    Few cells, one small batch and a strong effect.

    - paper: Tran et al. 2020, doi 10.1186/s13059-019-1850-9
    - origin: github.com/JinmiaoChenLab/Batch-effect-removal-benchmarking, Data/dataset3
    - licence: none stated
    - size: 480 cells, counts, 50 components
    - batches: 2
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
    >>> adata = datasets.sim_tran2020_simul5()  # doctest: +SKIP
    """
    return load("sim_tran2020_simul5")


def snatac_T_lisi_8078() -> AnnData:
    """T cells by chromatin, with LISI as R computes it.

    `obs["R_lisi_sample"]` and `obs["R_lisi_RNA_state_abbr"]` are R's results on the embedding.

    - paper: Weinand et al. 2024, doi 10.1038/s41467-024-48620-7
    - origin: github.com/immunogenomics/snATAC_benchmark, commit 76ea764, demo_data/LISI
    - licence: GPL-3 (carrier)
    - size: 8,078 cells, 10 components; no counts
    - batches: 12 samples
    - types: 8 states

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
    >>> adata = datasets.snatac_T_lisi_8078()  # doctest: +SKIP
    """
    return load("snatac_T_lisi_8078")
