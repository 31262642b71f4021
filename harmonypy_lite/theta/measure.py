"""What is measured of each run: mixing, structure inside batches, biology, movement.

All on the same cells: every cell where they are few, else a sample that holds each batch in its
share. The input's neighbours are searched once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.kernels.overlap import count_shared
from harmonypy_lite.metrics import calibration
from harmonypy_lite.metrics.clusters import nmi_ari
from harmonypy_lite.metrics.inputs import Categories
from harmonypy_lite.metrics.neighbors import Neighbors, find_neighbors

MIXED, KEPT, LISI = 30, 15, 89
"""Neighbours among which batches are counted, those compared inside batches, those of cLISI."""

N_MEASURED = 6000
"""Cells that are looked at for neighbours by default."""

_FEWEST = 50  # cells that the sample takes of each batch, if it has so many
_SHUFFLES = 20


class Measured(NamedTuple):
    """Of one embedding; NaN where there are no labels."""

    mixing: float
    mixing_se: float
    structure: float
    structure_se: float
    clisi: float
    nmi: float
    ari: float
    displacement: float


def sample_of(batches: Categories, n_cells: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return, sorted, the places of about `n_cells` cells, of each batch its share.

    A batch gets at least 50, or all it has, so that small ones can be measured too.
    """
    n = len(batches.codes)
    if n <= n_cells:
        return np.arange(n)
    wanted = np.ceil(batches.sizes * (n_cells / n)).astype(np.int64)
    wanted = np.minimum(np.maximum(wanted, _FEWEST), batches.sizes)
    order = np.lexsort((rng.random(n), batches.codes))
    first = np.cumsum(batches.sizes) - batches.sizes
    return np.sort(np.concatenate([order[a : a + w] for a, w in zip(first, wanted, strict=True)]))


def spread(Z: NDArray[np.floating], groups: NDArray[np.integer]) -> float:
    """Root of the mean squared distance of cells from the mean of their group.

    Each group of n cells counts as n - 1, so that small groups do not look tight.
    """
    _, group = np.unique(groups, return_inverse=True)
    size = np.bincount(group)
    squares = 0.0
    for column in np.asarray(Z).T:
        mean = np.bincount(group, column) / size
        squares += float(np.square(column - mean[group], dtype=np.float64).sum())
    return float(np.sqrt(squares / max(1, len(Z) - len(size))))


def simpson(neighbors: NDArray[np.int32], codes: NDArray[np.int32], n: int) -> NDArray[np.float64]:
    """Return the inverse Simpson index (m,) of the codes among each cell's neighbours (m, k)."""
    m, k = neighbors.shape
    at = np.arange(m)[:, None] * n + codes[neighbors]
    counts = np.bincount(at.ravel(), minlength=m * n).reshape(m, n)
    return k**2 / np.square(counts, dtype=np.float64).sum(axis=1)


@dataclass(frozen=True)
class Probe:
    """The cells that are looked at, and how they stood before.

    Attributes
    ----------
    Z
        (N, d) the input.
    places
        (m,) cells that are looked at for neighbours.
    batches
        Of those cells.
    unit
        The spread within clusters (or types) and batches, in which displacement is measured.
    labels
        Of those cells, with the places among them of those that have one; or None.
    n_jobs
        Threads.
    codes
        (N,) batch of every cell.
    """

    Z: NDArray[np.floating]
    places: NDArray[np.int64]
    batches: Categories
    unit: float
    labels: tuple[NDArray[np.int64], Categories] | None = None
    n_jobs: int | None = None
    codes: NDArray[np.int32] | None = None

    @cached_property
    def own(self) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        """Of each batch its cells, and their neighbours among themselves before (rows sorted)."""
        found = []
        for level in range(self.batches.n):
            cells = np.flatnonzero(self.batches.codes == level)
            k = min(KEPT, (len(cells) - 1) // 3)
            if k > 0:
                found.append((cells, self._sorted(self.Z[self.places[cells]], k)))
        return found

    @cached_property
    def expected(self) -> tuple[float, float]:
        """Mixing of shuffled batches, and its standard deviation from deal to deal."""
        neighbors = self.neighbors_before
        rng = np.random.default_rng(0)
        deals = [
            simpson(neighbors.indices, self.batches.shuffled(rng), self.batches.n).mean()
            for _ in range(_SHUFFLES)
        ]
        return float(np.mean(deals)), float(np.std(deals, ddof=1))

    @cached_property
    def neighbors_before(self) -> Neighbors:
        """Return the 30 neighbours of the input."""
        points = self.Z[self.places]
        return find_neighbors(points, min(MIXED, len(points) - 1), n_jobs=self.n_jobs)

    @cached_property
    def before(self) -> Measured:
        """Measure the input."""
        return self.measure(self.Z, moved=False)

    def measure(
        self, Z_hat: NDArray[np.floating], *, moved: bool = True, clusters: bool = True
    ) -> Measured:
        """Measure an embedding (N, d) of the cells; NMI and ARI only with `clusters`."""
        points = np.asarray(Z_hat)[self.places]
        n = len(points)
        k = min(LISI if self.labels is not None else MIXED, n - 1)
        neighbors = find_neighbors(points, k, n_jobs=self.n_jobs)
        mixing = self.mixing(neighbors)
        kept = self.kept(Z_hat) if moved else np.ones(n)
        away = self.displacement(Z_hat) if moved else 0.0
        return Measured(
            float(mixing.mean()),
            float(mixing.std() / np.sqrt(n)),
            float(np.nanmean(kept)),
            float(np.nanstd(kept) / np.sqrt(n)),
            *self.biology(points, neighbors, clusters=clusters),
            away,
        )

    def mixing(self, neighbors: Neighbors) -> NDArray[np.float64]:
        """Inverse Simpson index (m,) of the batches among the 30 nearest neighbours."""
        return simpson(neighbors.indices[:, :MIXED], self.batches.codes, self.batches.n)

    def kept(self, Z_hat: NDArray[np.floating]) -> NDArray[np.float64]:
        """Share (m,) of the neighbours in its own batch that each cell kept; NaN in tiny ones."""
        out = np.full(len(self.places), np.nan)
        for cells, before in self.own:
            after = self._sorted(np.asarray(Z_hat)[self.places[cells]], before.shape[1])
            shared = np.empty(len(cells), np.int64)
            count_shared(before, after, shared)
            out[cells] = shared / before.shape[1]
        return out

    def shift(self, Z_hat: NDArray[np.floating]) -> NDArray[np.float64]:
        """How far each cell (N,) moved, in units of the spread."""
        away = np.subtract(Z_hat, self.Z, dtype=np.float64)
        return np.sqrt(np.einsum("ij,ij->i", away, away)) / (self.unit or 1.0)

    def displacement(self, Z_hat: NDArray[np.floating]) -> float:
        """Median over the cells that are looked at of how far they moved."""
        away = np.subtract(Z_hat[self.places], self.Z[self.places], dtype=np.float64)
        return float(np.median(np.sqrt(np.einsum("ij,ij->i", away, away)))) / (self.unit or 1.0)

    def biology(
        self, points: NDArray[np.floating], neighbors: Neighbors, *, clusters: bool
    ) -> tuple[float, float, float]:
        """Return cLISI (calibrated), NMI and ARI of k-means, of labelled cells."""
        if self.labels is None:
            return (float("nan"),) * 3
        cells, labels = self.labels
        known = points[cells]
        if len(cells) < len(points):
            neighbors = find_neighbors(known, min(LISI, len(known) - 1), n_jobs=self.n_jobs)
        perplexity = min(30, (neighbors.indices.shape[1] + 1) // 3)
        clisi = calibration.clisi(neighbors, labels, perplexity=perplexity, n_jobs=self.n_jobs)
        if not clusters:
            return clisi.calibrated, float("nan"), float("nan")
        found = nmi_ari(known, labels, n_jobs=self.n_jobs)
        return clisi.calibrated, found.nmi, found.ari

    def _sorted(self, points: NDArray[np.floating], k: int) -> NDArray[np.int32]:
        return np.sort(find_neighbors(points, k, n_jobs=self.n_jobs).indices, axis=1)
