"""Metrics of mixing and of biology."""

from __future__ import annotations

from harmonypy_lite.metrics.bras import bras, bras_per_cell
from harmonypy_lite.metrics.clusters import NmiAri, nmi_ari
from harmonypy_lite.metrics.connectivity import graph_connectivity
from harmonypy_lite.metrics.kbet import KbetTest, kbet, kbet_of_labels, kbet_per_label, kbet_test
from harmonypy_lite.metrics.lisi import cilisi, cilisi_per_cell, clisi, ilisi, lisi
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
