"""Silhouettes: how much nearer a cell is to its own group than to the next one.

Rousseeuw 1987 (doi 10.1016/0377-0427(87)90125-7): s = (b - a) / max(a, b), a the mean distance
to the other cells of the own label, b the smallest mean distance to another label's cells. The
scores are those of Luecken et al. 2022 (doi 10.1038/s41592-021-01336-8). They are kept because
people compare with scIB; Rautenstrauch & Ohler 2025 (doi 10.1038/s41587-025-02743-4) show what
silhouettes cannot see.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.errors import HarmonyWarning, InvalidInput, NotApplicable
from harmonypy_lite.kernels.distances import surrogate_to_distance
from harmonypy_lite.lookup import check_same_order
from harmonypy_lite.metrics.inputs import (
    Categories,
    as_categories,
    as_embedding,
    as_labelled,
    at_least_two,
    at_safe_scale,
    warn_left_out,
)
from harmonypy_lite.metrics.sampling import looked_at
from harmonypy_lite.threads import map_threads

ALL_CELLS_UP_TO = 50_000
"""Cells up to which every cell's silhouette is computed; above, those of a sample are."""

SAMPLE = 20_000
SAMPLE_PER_LABEL = 200

_ROWS, _COLUMNS = 256, 2048


class Estimate(NamedTuple):
    """A score and the standard error that sampling cells gave it (0 when all were used)."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class Silhouettes:
    """Silhouettes of cells, each against all cells of the embedding.

    Attributes
    ----------
    cells : (n,)
        The cells measured: all, or a sample stratified by label.
    values : (n,)
        Their silhouettes, -1 to 1.
    labels
        The label column of all cells.
    """

    cells: NDArray[np.int64]
    values: NDArray[np.float64]
    labels: Categories

    def score(self) -> Estimate:
        """Return the mean of (s + 1) / 2 over all cells."""
        return self._mean((self.values + 1) / 2)

    def mixing(self) -> Estimate:
        """Return the mean of 1 - abs(s) over all cells."""
        return self._mean(1 - np.abs(self.values))

    def score_of(self, levels: NDArray[np.int64]) -> Estimate:
        """Return the mean over `levels` of each label's mean of (s + 1) / 2."""
        means, variances = self._by_label((self.values + 1) / 2)
        error = np.sqrt(variances[levels].sum()) / len(levels)
        return Estimate(float(means[levels].mean()), float(error))

    def _mean(self, scores: NDArray[np.float64]) -> Estimate:
        """Return the mean over all cells, of which `scores` (n,) holds those measured."""
        shares = self.labels.sizes / self.labels.sizes.sum()
        means, variances = self._by_label(scores)
        return Estimate(float(shares @ means), float(np.sqrt(shares**2 @ variances)))

    def _by_label(
        self, scores: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return each label's mean of `scores` and the variance of that mean from sampling."""
        level = self.labels.codes[self.cells]
        n = np.bincount(level, minlength=self.labels.n)
        means = np.bincount(level, scores, minlength=self.labels.n) / n
        spread = np.bincount(level, (scores - means[level]) ** 2, minlength=self.labels.n)
        return means, spread / np.maximum(n - 1, 1) / n * (1 - n / self.labels.sizes)


def silhouettes(
    embedding: ArrayLike, label: Any, *, seed: int = 0, n_jobs: int | None = None
) -> Silhouettes:
    """Compute silhouettes of the labels (Euclidean), as sklearn's ``silhouette_samples``.

    Up to `ALL_CELLS_UP_TO` cells all are measured; above, a sample of about `SAMPLE`, stratified
    by label with at least `SAMPLE_PER_LABEL` of each. Products are in the embedding's own
    precision: float32 is good to about 1e-5 in the score, float64 to 1e-8.

    Parameters
    ----------
    embedding : (N, d)
        Cells in rows.
    label : (N,)
        Categories of the cells.
    seed
        Of the sample.
    n_jobs
        Threads; the result does not depend on them.

    Raises
    ------
    NotApplicable
        For a single label.

    References
    ----------
    Rousseeuw 1987, doi 10.1016/0377-0427(87)90125-7.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> kind = ["T"] * 100 + ["B"] * 100
    >>> silhouettes(cells, kind).values.shape
    (200,)
    """
    points = as_embedding(embedding)
    labels = as_categories(label, len(points), "label", embedding)
    at_least_two(labels, "A silhouette")
    cells = np.arange(len(points))
    if len(points) > ALL_CELLS_UP_TO:
        cells = stratified_sample(labels, SAMPLE, seed)
    sums = distance_sums(points, cells, labels.codes[:, None], labels.n, n_jobs)
    values = silhouettes_from_sums(sums, labels.codes[cells], labels.sizes)
    return Silhouettes(cells, values, labels)


def silhouette_label(
    embedding: ArrayLike | Silhouettes, label: Any, *, seed: int = 0, n_jobs: int | None = None
) -> float:
    """Score how compact labels are: the mean of (s + 1) / 2 over cells.

    1: tight and far apart; 0.5: shuffled labels or a random embedding (see
    `calibration.silhouette_null`). It favours round types of equal size, and falls when one type
    holds real structure. Above 50,000 cells it is an estimate; ``silhouettes(...).score()``
    gives its standard error.

    Parameters
    ----------
    embedding : (N, d) or Silhouettes
        Cells in rows, or their silhouettes when they are known already.
    label : (N,)
        Categories of the cells.
    seed, n_jobs
        See `silhouettes`.

    Raises
    ------
    NotApplicable
        For a single label.

    References
    ----------
    Rousseeuw 1987, doi 10.1016/0377-0427(87)90125-7.
    Luecken et al. 2022, doi 10.1038/s41592-021-01336-8.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> kind = ["T"] * 100 + ["B"] * 100
    >>> round(silhouette_label(cells, kind), 1)
    0.5
    """
    embedding, label = looked_at("label silhouette", embedding, label=label)
    return _measured(embedding, label, seed, n_jobs).score().value


def isolated_labels(
    embedding: ArrayLike | Silhouettes,
    batch: Any,
    label: Any,
    *,
    seed: int = 0,
    n_jobs: int | None = None,
) -> float:
    """Score the labels found in the fewest batches: mean over them of their (s + 1) / 2.

    High when types that few batches have stay apart: those an integration merges first. It says
    nothing about the other labels.

    Parameters
    ----------
    embedding : (N, d) or Silhouettes
        Cells in rows, or their silhouettes when they are known already.
    batch, label : (N,)
        Categories of the cells.
    seed, n_jobs
        See `silhouettes`.

    Raises
    ------
    NotApplicable
        When every label is in all batches: no label is isolated. (scib-metrics then scores all.)

    References
    ----------
    Luecken et al. 2022, doi 10.1038/s41592-021-01336-8.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> donor = ["a"] * 50 + ["b"] * 150
    >>> kind = ["T"] * 100 + ["B"] * 100
    >>> round(isolated_labels(cells, donor, kind), 1)
    0.5
    """
    embedding, batch, label = looked_at("isolated labels", embedding, batch=batch, label=label)
    measured = _measured(embedding, label, seed, n_jobs)
    check_same_order(batch, label)
    batches = as_categories(batch, len(measured.labels.codes), "batch", embedding)
    return measured.score_of(isolated_levels(measured.labels, batches)).value


def _measured(
    embedding: ArrayLike | Silhouettes, label: Any, seed: int, n_jobs: int | None
) -> Silhouettes:
    """Return the silhouettes, measured now if they are not given."""
    if not isinstance(embedding, Silhouettes):
        return silhouettes(embedding, label, seed=seed, n_jobs=n_jobs)
    held = embedding.labels.codes
    if not np.array_equal(held, as_categories(label, len(held), "label").codes):
        raise InvalidInput("these silhouettes were measured for other labels; measure them again.")
    return embedding


def isolated_levels(labels: Categories, batches: Categories) -> NDArray[np.int64]:
    """Return the labels that are in the fewest batches, or raise NotApplicable."""
    pairs = np.unique(labels.codes.astype(np.int64) * batches.n + batches.codes)
    in_batches = np.bincount(pairs // batches.n, minlength=labels.n)
    if in_batches.min() == batches.n:
        raise NotApplicable(
            f"no label is isolated: every category of {labels.what} is in all {batches.n} batches."
        )
    return np.flatnonzero(in_batches == in_batches.min())


def silhouette_batch(
    embedding: ArrayLike, batch: Any, label: Any, *, n_jobs: int | None = None
) -> float:
    """Score, as scIB did, batches inside labels: mean over labels of mean ``1 - |s|``.

    Kept to reproduce older tables; use `bras`. It compares with the nearest other batch only, so
    that batches mixed in pairs score as if all were mixed (0.99), and it warns.

    Parameters
    ----------
    embedding : (N, d)
        Cells in rows.
    batch, label : (N,)
        Categories of the cells.
    n_jobs
        Threads; the result does not depend on them.

    Raises
    ------
    NotApplicable
        When no label has several cells in at least two batches.

    Warns
    -----
    HarmonyWarning
        Always: there is a better metric.

    References
    ----------
    Luecken et al. 2022, doi 10.1038/s41592-021-01336-8.
    Rautenstrauch & Ohler 2025, doi 10.1038/s41587-025-02743-4.

    Examples
    --------
    >>> import numpy as np, warnings
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> donor, kind = ["a", "b"] * 100, ["T"] * 100 + ["B"] * 100
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")
    ...     round(silhouette_batch(cells, donor, kind), 1)
    1.0
    """
    warnings.warn(
        "batch silhouette cannot see batches that mix in subsets only; use bras.",
        HarmonyWarning,
        stacklevel=2,
    )
    embedding, batch, label = looked_at("batch silhouette", embedding, batch=batch, label=label)
    points, batches, labels = as_labelled(embedding, batch, label)
    scores, scored = [], np.zeros(len(points), np.bool_)
    for level in range(labels.n):
        cells = np.flatnonzero(labels.codes == level)
        inside = batches.only(cells)
        if 1 < inside.n < len(cells):
            scores.append(silhouettes(points[cells], inside, n_jobs=n_jobs).mixing().value)
            scored[cells] = True
    needed = "several cells in two batches"
    if not scores:
        raise NotApplicable(
            f"batch silhouette needs a label with {needed}; {labels.what} has none."
        )
    warn_left_out("batch silhouette", labels, scored, needed)
    return float(np.mean(scores))


def distance_sums(
    points: NDArray[np.floating],
    cells: NDArray[np.int64],
    codes: NDArray[np.int32],
    n_levels: int,
    n_jobs: int | None = None,
) -> NDArray[np.float64]:
    """Return sums of distances from each cell to each level: (n, columns * n_levels).

    The unit is the embedding's or, at extreme scales, that times a power of two.

    Distances come from products of blocks; their sums over the levels of every column of `codes`
    (N, columns) are one more product, with the indicators of the block.
    """
    points, _ = at_safe_scale(points)
    centred = points - points.mean(axis=0, dtype=np.float64).astype(points.dtype)
    half_norm = np.einsum("ij,ij->i", centred, centred) / 2
    columns = np.ascontiguousarray(np.concatenate([-centred, half_norm[:, None]], axis=1).T)
    queries = np.concatenate([centred, np.ones_like(half_norm)[:, None]], axis=1)[cells]
    sums = np.zeros((len(cells), codes.shape[1] * n_levels))

    def rows(first: int) -> None:
        mine = cells[first : first + _ROWS]
        total = sums[first : first + _ROWS]
        room = np.empty(len(mine) * _COLUMNS, points.dtype)
        for start in range(0, len(points), _COLUMNS):
            part = slice(start, start + _COLUMNS)
            block = room[: len(mine) * columns[:, part].shape[1]].reshape(len(mine), -1)
            np.matmul(queries[first : first + _ROWS], columns[:, part], out=block)
            surrogate_to_distance(half_norm[mine], block)
            own = np.flatnonzero((mine >= start) & (mine < start + block.shape[1]))
            block[own, mine[own] - start] = 0.0
            total += block @ _indicators(codes[part], n_levels, block.dtype)

    map_threads(rows, range(0, len(cells), _ROWS), n_jobs)
    return sums


def _indicators(codes: NDArray[np.int32], n_levels: int, dtype: np.dtype) -> NDArray[np.floating]:
    """Return one column of ones and zeros per column and level: (n, columns * n_levels)."""
    equal = codes[:, :, None] == np.arange(n_levels, dtype=np.int32)
    return equal.reshape(len(codes), -1).astype(dtype)


def silhouettes_from_sums(
    sums: NDArray[np.float64], codes: NDArray[np.int32], sizes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return (b - a) / max(a, b); 0 for the only cell of a label and where a = b = 0."""
    rows = np.arange(len(codes))
    within = sums[rows, codes] / np.maximum(sizes[codes] - 1, 1)
    means = sums / sizes
    means[rows, codes] = np.inf
    between = means.min(axis=1)
    larger = np.maximum(within, between)
    defined = (larger > 0) & (sizes[codes] > 1)
    return np.where(defined, (between - within) / np.where(larger > 0, larger, 1.0), 0.0)


def stratified_sample(labels: Categories, n: int, seed: int) -> NDArray[np.int64]:
    """Return about `n` cells, in order: each label's share, but at least `SAMPLE_PER_LABEL`."""
    rng = np.random.default_rng(seed)
    shares = np.rint(n * labels.sizes / labels.sizes.sum()).astype(np.int64)
    wanted = np.minimum(np.maximum(shares, SAMPLE_PER_LABEL), labels.sizes)
    return np.sort(
        np.concatenate(
            [
                rng.choice(np.flatnonzero(labels.codes == level), wanted[level], replace=False)
                for level in range(labels.n)
            ]
        )
    )
