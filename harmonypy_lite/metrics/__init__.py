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
5 types and batches of 0.4, 0.3, 0.2 and 0.1, means of five draws (raw; calibrated in brackets
where it differs):

=====================  ==============  ==============  ==============  =================
metric                 no effect       2 sd apart      40 sd apart     random embedding
=====================  ==============  ==============  ==============  =================
iLISI                  0.63 (1.01)     0.34 (0.53)     0.00            0.63 (1.01)
CiLISI                 0.71 (1.01)     0.41 (0.58)     0.00            0.71 (1.00)
BRAS                   0.98            0.83            0.01            0.98
PCR comparison         1.00            0.96            0.00            1.00
graph connectivity     1.00            1.00            0.40 (0.00)     0.98 (0.96)
kBET                   0.95            0.14            0.00            0.95
kBET per label         0.96            0.17            0.00            0.96
cLISI                  1.00            1.00            1.00            0.28 (0.00)
NMI, ARI               1.00, 1.00      1.00, 1.00      0.17, 0.09      0.00, 0.00
label silhouette       0.74 (0.48)     0.72 (0.46)     0.52 (0.06)     0.50 (0.00)
=====================  ==============  ==============  ==============  =================

iLISI and CiLISI are therefore divided by what shuffled batches give, and biology scores moved so
that shuffled labels give 0 (`calibration`); tests hold each metric to both ends, on simulated and
on real cells. A mixing score above 1 says that batches are spread more evenly than shuffled
ones, as over-correction spreads a small batch over everything. What fails, and stays documented:

- raw iLISI and CiLISI never reach 1 with unequal batches, and raw CiLISI does not reach 0 in
  labels smaller than its neighbourhood;
- raw graph connectivity does not reach 0, nor does it react to small shifts;
- BRAS gives 1 to a cell that is alone in its batch, and 0.85 to 1 to mixed labels of few cells,
  where a shift of half a sd may raise it by 0.001;
- kBET depends on the number of cells; so do iLISI and CiLISI, where there is a batch effect: by up
  to 0.06 between 10,000 cells and half of them, by 0.14 between 1,200 and half;
- NMI, ARI and kept clusters move with the seed, where k-means has several optima of about the same
  value: by up to 0.17, 0.26 and 0.21 over 20 seeds on sets of 1,200 to 3,300 cells, and by up to
  0.1, 0.18 and 0.28 between a set and half of it. scikit-learn's k-means is no steadier;
- kept neighbours rise by 0.15 or so when half of the cells are left out, since 30 neighbours then
  lie farther away: compare embeddings of the same cells only;
- batch silhouette does not reach 0 (0.1 at 40 sd), sees neither nested batches (below) nor, on
  some real cells, shifts of up to 1 sd;
- cLISI is 1 for most embeddings in which types are apart.

Many cells
----------
BRAS and PCR are sums over cells: a Dask array streams through them. Every other score looks at a
sample of a Dask array, 50,000 cells stratified by the columns it is given, and warns of it; `score`
takes one sample for the whole table, of any embedding if it is given ``sample``, and the reasons
say so. Values per cell of a Dask array are refused: they are as many as the cells.

Totals
------
``scib`` is scib-metrics' total, 0.4 batch + 0.6 biology of raw values of the same ten metrics; kBET
per label belongs to it, so ask for it (``metrics="all"``) when you compare with published tables.
Three of the ten differ: connectivity is undirected, as in scIB; kBET per label goes without a
diffusion map; isolated labels are missing where no label is isolated. ``robust`` has the same
weights, calibrated values and no silhouettes. No total is ever made of batch metrics alone, and
one that lacks a metric says so. Nothing is rescaled over the embeddings of a table: with
min-max scaling a score would depend on its neighbours in the table, and be 0 for a single one.

Batch silhouette is in neither total. It compares a cell's batch with the *nearest* other batch,
so that four batches mixed in two pairs, the pairs far apart, score 0.99: as if all were mixed.
BRAS scores them 0.32 (Rautenstrauch & Ohler 2025, doi 10.1038/s41587-025-02743-4).

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
