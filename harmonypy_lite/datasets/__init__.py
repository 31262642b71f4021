"""Data to try things on: simulated cells of known truth, and real published sets.

:func:`simulate` makes cells whose batch-free embedding is known. The other names are real sets,
each an AnnData with ``obs["batch"]``, ``obsm["X_pca"]`` and, where there are labels,
``obs["cell_type"]``. They are looked for as ``NAME.h5ad`` in the folder that the environment
variable ``HARMONYPY_LITE_DATA`` names (:func:`folder`). Where there is none, sets whose originals
are on PyPI are downloaded from there, with their checksum, and prepared; the others say where they
come from.
"""

from harmonypy_lite.datasets.others import (
    codex_spleen_158k,
    cytof_shaham_8files,
    sim_tran2020_simul1,
    sim_tran2020_simul3,
    sim_tran2020_simul5,
    snatac_T_lisi_8078,
)
from harmonypy_lite.datasets.place import folder
from harmonypy_lite.datasets.rna import (
    cell_lines_2370,
    cell_lines_9478,
    glioblastoma_lemur_5000,
    immune_union_57k,
    kang_ifnb_pbmc,
    pancreas_hormone2cell,
    pbmc_3500_harmonypy,
    ra_synovium_5265,
    sc_mixology_5batch,
    symphony_pbmcs_1200,
)
from harmonypy_lite.datasets.simulated import simulate

__all__ = [
    "cell_lines_2370",
    "cell_lines_9478",
    "codex_spleen_158k",
    "cytof_shaham_8files",
    "folder",
    "glioblastoma_lemur_5000",
    "immune_union_57k",
    "kang_ifnb_pbmc",
    "pancreas_hormone2cell",
    "pbmc_3500_harmonypy",
    "ra_synovium_5265",
    "sc_mixology_5batch",
    "sim_tran2020_simul1",
    "sim_tran2020_simul3",
    "sim_tran2020_simul5",
    "simulate",
    "snatac_T_lisi_8078",
    "symphony_pbmcs_1200",
]
