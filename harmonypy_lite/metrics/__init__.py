"""How well batches mix, and how much biology is left: one function per metric, one table of all.

Every function takes plain arrays (cells in rows) and columns of categories; `score` does all of
them for the embeddings of an AnnData, `score_file` for an .h5ad file. `find_neighbors` searches
once for every metric that looks at neighbours.

Which number answers which question
-----------------------------------
Do cells see other batches around them?
    `ilisi`; `cilisi` asks it inside each cell type, so that a type which only some batches have
    costs nothing. They are local: 30 or so cells around each cell.
Are batches of a type in the same place?
    `bras`, global inside the type, where LISI is local. It measures angles from the origin.
How much of the variance do batches explain?
    `pcr`, `pcr_comparison`: differences of means only, over all types together.
Is each type one piece?
    `graph_connectivity`. It falls when batches are far apart, or when a type has real subtypes.
Are types still apart?
    `clisi` (locally), `nmi_ari` (as clusters), `silhouette_label` (as distances),
    `isolated_labels` (those of few batches, which an integration loses first).
What if there are no labels, or they are not to be trusted?
    `structure_preservation`: each batch's own neighbours and clusters, before and after.
Does the neighbourhood pass a test?
    `kbet`, `kbet_per_label`. Its power grows with the number of cells: never compare it between
    data sets.

What a score is worth
---------------------
A random embedding mixes batches perfectly, and shuffled labels do not score 0. On 3,000 cells of
5 types and batches of 0.4, 0.3, 0.2 and 0.1 (raw; calibrated in brackets where it differs):

=====================  ==============  ==============  ==============  =================
metric                 no effect       2 sd apart      40 sd apart     random embedding
=====================  ==============  ==============  ==============  =================
iLISI                  0.65 (1.04)     0.35 (0.56)     0.00            0.62 (1.00)
CiLISI                 0.72 (1.03)     0.41 (0.59)     0.00            0.70 (1.00)
BRAS                   0.98            0.83            0.01            0.98
PCR comparison         1.00            0.96            0.00            1.00
graph connectivity     1.00            1.00            0.41 (0.00)     0.98 (0.96)
kBET                   0.96            0.14            0.00            0.95
cLISI                  1.00            1.00            1.00            0.28 (-0.01)
NMI, ARI               1.00, 1.00      1.00, 1.00      0.18, 0.10      0.00, 0.00
label silhouette       0.75 (0.51)     0.74 (0.49)     0.52 (0.05)     0.50 (0.00)
=====================  ==============  ==============  ==============  =================

Mixing scores are therefore divided by what shuffled batches give, biology scores moved so that
shuffled labels give 0 (`calibration`); tests hold each metric to both ends. What fails, and stays
documented: raw iLISI and CiLISI never reach 1 with unequal batches; raw graph connectivity does
not reach 0, nor does it react to small shifts; kBET depends on the number of cells; cLISI is 1
for most embeddings in which types are apart.

Totals
------
``scib`` is scib-metrics' total, 0.4 batch + 0.6 biology of raw values. ``robust`` has the same
weights, calibrated values and no silhouettes. No total is ever made of batch metrics alone, and
one that lacks a metric says so. Nothing is rescaled over the embeddings of a table: with
min-max scaling a score would depend on its neighbours in the table, and be 0 for a single one.

Batch silhouette is in neither total. It compares a cell's batch with the *nearest* other batch,
so that four batches mixed in two pairs, the pairs far apart, score 0.99: as if all were mixed.
BRAS scores them 0.3 to 0.4 (Rautenstrauch & Ohler 2025, doi 10.1038/s41587-025-02743-4).

Examples
--------
>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> cells, donor = rng.normal(size=(300, 10)), rng.choice(["a", "b"], 300)
>>> neighbors = find_neighbors(cells, 90)
>>> bool(ilisi(neighbors, donor) > 0.8)
True
"""

from __future__ import annotations

from harmonypy_lite.metrics import calibration
from harmonypy_lite.metrics.bras import bras, bras_per_cell
from harmonypy_lite.metrics.cilisi import cilisi, cilisi_per_cell
from harmonypy_lite.metrics.clusters import NmiAri, nmi_ari
from harmonypy_lite.metrics.connectivity import graph_connectivity
from harmonypy_lite.metrics.kbet import KbetTest, kbet, kbet_of_labels, kbet_per_label, kbet_test
from harmonypy_lite.metrics.lisi import clisi, ilisi, lisi
from harmonypy_lite.metrics.neighbors import Neighbors, find_neighbors
from harmonypy_lite.metrics.pcr import pcr, pcr_comparison
from harmonypy_lite.metrics.score import score, score_file
from harmonypy_lite.metrics.silhouette import (
    Silhouettes,
    isolated_labels,
    silhouette_batch,
    silhouette_label,
    silhouettes,
)
from harmonypy_lite.metrics.structure import Structure, structure_preservation

__all__ = [
    "KbetTest",
    "Neighbors",
    "NmiAri",
    "Silhouettes",
    "Structure",
    "bras",
    "bras_per_cell",
    "calibration",
    "cilisi",
    "cilisi_per_cell",
    "clisi",
    "find_neighbors",
    "graph_connectivity",
    "ilisi",
    "isolated_labels",
    "kbet",
    "kbet_of_labels",
    "kbet_per_label",
    "kbet_test",
    "lisi",
    "nmi_ari",
    "pcr",
    "pcr_comparison",
    "score",
    "score_file",
    "silhouette_batch",
    "silhouette_label",
    "silhouettes",
    "structure_preservation",
]
