"""Pictures. Matplotlib is imported inside the functions; its absence says which extra to install.

`scores` draws the table of `metrics.score`, `convergence` what the objective did, `embedding` and
`before_after` cells, `composition` which levels are in which cluster, `displacement` how far cells
moved, `tradeoff` the answer of a sweep. Each but `scores`, which lays out a figure of its own,
takes an Axes or makes one, and returns it; ``ax.figure`` shows or saves the picture. Nothing is
left open in pyplot, and no setting of matplotlib is changed.
"""

from __future__ import annotations

from harmonypy_lite.pl.composition import composition
from harmonypy_lite.pl.convergence import convergence
from harmonypy_lite.pl.displacement import displacement
from harmonypy_lite.pl.embedding import before_after, embedding
from harmonypy_lite.pl.scores import FORMATS, figure_files, scores
from harmonypy_lite.pl.tradeoff import tradeoff

__all__ = [
    "FORMATS",
    "before_after",
    "composition",
    "convergence",
    "displacement",
    "embedding",
    "figure_files",
    "scores",
    "tradeoff",
]
