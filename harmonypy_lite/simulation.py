"""The arithmetic of `datasets.simulate`: NumPy arrays in, NumPy arrays out.

The draws that a function makes from the generator depend on the numbers of cells, types,
batches, levels, dimensions and genes only, never on a strength: with one seed, simulations of
different strengths share their cells and their truth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_matrix

# counts: how the latent coordinates become molecules
_LOADING = 0.15  # log fold change per gene (standard deviation) of one unit of length
_GENE_SPREAD = 1.0  # standard deviation of log mean expression over genes
_COUNTS_PER_GENE = 0.8  # mean over genes and cells, before any effect
_DEPTH_SPREAD = 0.25  # standard deviation of log depth over cells
_LOG_MEAN_RANGE = (-30.0, 9.0)  # keeps means, and ratios of means, finite


class Settings(NamedTuple):
    """The arguments of `simulate`, checked."""

    n_cells: int
    kind: str
    n_types: int
    n_batches: int
    n_dims: int
    n_genes: int
    type_separation: float
    rare_type: float | None
    batch_strength: float
    type_strength: float
    scale_strength: float
    batch_size_skew: float
    composition_skew: float
    missing_types: float
    confounded: float
    covariate: str | None
    n_levels: int
    covariate_strength: float


class Cells(NamedTuple):
    """The codes of the cells' levels."""

    batch: NDArray[np.int32]  # (n_cells,)
    type: NDArray[np.int32]  # (n_cells,)
    level: NDArray[np.int32]  # (n_cells,)


class Truth(NamedTuple):
    """Where the cells are before any effect."""

    coordinates: NDArray[np.float32]  # (n_cells, n_dims)
    centres: NDArray[np.float32]  # (n_types, n_dims)


class Effects(NamedTuple):
    """What is done to a cell, in dimensions or in genes."""

    shift: NDArray[np.float32]  # (n_batches, n_types, dimensions or genes)
    widening: NDArray[np.float32]  # (n_batches, n_types): scale - 1
    level_shift: NDArray[np.float32]  # (n_levels, dimensions or genes)


def draw_cells(settings: Settings, generator: np.random.Generator) -> Cells:
    """Draw how many cells every (batch, type) pair has, and the cells in random order."""
    n_batches, n_types = settings.n_batches, settings.n_types
    home = _home_pairs(n_batches, n_types, generator)
    sizes, composition = _shares(settings, home, generator)
    # One cell for each home pair, so that no batch and no type is empty. The rest by systematic
    # sampling, which leaves every pair within one cell of its share; with a start of its own in
    # every batch, for else rounding would favour the same types in all of them.
    n_free = settings.n_cells - home.sum()
    n_per_batch = np.diff(np.rint(np.cumsum(sizes) * n_free), prepend=0)
    edges = np.cumsum(composition, axis=1)
    edges *= (n_per_batch / edges[:, -1])[:, None]
    edges = np.floor(edges + generator.random((n_batches, 1)))
    table = home + np.diff(edges, axis=1, prepend=0).astype(np.int64)
    pairs = np.repeat(np.arange(n_batches * n_types, dtype=np.int32), table.ravel())
    batch = pairs // n_types
    level = batch if settings.covariate == "nested" else np.arange(pairs.size, dtype=np.int32)
    mixed = generator.permutation(pairs.size)
    return Cells(batch[mixed], (pairs % n_types)[mixed], (level % settings.n_levels)[mixed])


def _home_pairs(n_batches: int, n_types: int, generator: np.random.Generator) -> NDArray[np.bool_]:
    """Choose the fewest (batch, type) pairs that reach every batch and every type."""
    index = np.arange(max(n_batches, n_types))
    home = np.zeros((n_batches, n_types), dtype=bool)
    home[
        generator.permutation(n_batches)[index % n_batches],
        generator.permutation(n_types)[index % n_types],
    ] = True
    return home


def _shares(
    settings: Settings, home: NDArray[np.bool_], generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the shares of the batches (n_batches,) and of types in each (n_batches, n_types)."""
    n_batches, n_types = home.shape
    log_weights = generator.standard_normal(home.shape) * settings.composition_skew
    candidates = generator.permutation(np.flatnonzero(~home))
    common = np.full(n_types, 1.0 / n_types)
    if settings.rare_type is not None:
        common[:-1] = (1.0 - settings.rare_type) / (n_types - 1)
        common[-1] = settings.rare_type
    weights = common * np.exp(log_weights)
    weights.ravel()[candidates[: round(settings.missing_types * home.size)]] = 0.0
    mixed = weights / weights.sum(axis=1, keepdims=True)
    own = np.where(home, weights, 0.0)
    own /= own.sum(axis=1, keepdims=True)
    composition = (1.0 - settings.confounded) * mixed + settings.confounded * own
    sizes = np.exp(-np.linspace(0.0, settings.batch_size_skew, n_batches))
    return sizes / sizes.sum(), composition


def _spread(
    generator: np.random.Generator, shape: tuple[int, ...], distance: float
) -> NDArray[np.float64]:
    """Draw `shape[-2]` points around 0 whose root mean square distance is `distance`."""
    points = generator.standard_normal(shape)
    n_points = shape[-2]
    if n_points == 1:
        return np.zeros(shape)
    points -= points.mean(axis=-2, keepdims=True)
    # the mean over pairs of |x_i - x_j|^2 is 2 / (n - 1) sum_i |x_i|^2 for points of mean 0
    squares = 2.0 / (n_points - 1) * np.square(points).sum(axis=(-2, -1), keepdims=True)
    return points * (distance / np.sqrt(squares))


def draw_truth(settings: Settings, cells: Cells, generator: np.random.Generator) -> Truth:
    """Place the cells around the centres of their types; all cells together around 0."""
    centres = _spread(generator, (settings.n_types, settings.n_dims), settings.type_separation)
    centres -= np.bincount(cells.type, minlength=settings.n_types) @ centres / settings.n_cells
    rounded = centres.astype(np.float32)
    coordinates = generator.standard_normal((settings.n_cells, settings.n_dims), dtype=np.float32)
    for rows in _chunks(settings.n_cells, 65_536):
        coordinates[rows] += rounded[cells.type[rows]]
    return Truth(coordinates, rounded)


def _draw_effects(
    settings: Settings,
    cells: Cells,
    generator: np.random.Generator,
    n_coordinates: int,
    unit: float = 1.0,
) -> Effects:
    """Draw the effects; their mean over the cells is 0, as in an embedding that is centred."""
    n_batches, n_types, n_levels = settings.n_batches, settings.n_types, settings.n_levels
    common = _spread(generator, (n_batches, n_coordinates), unit * settings.batch_strength)
    per_type = _spread(
        generator, (n_types, n_batches, n_coordinates), unit * settings.type_strength
    )
    log_scale = _spread(generator, (n_types, n_batches, 1), settings.scale_strength)
    level_strength = 0.0 if settings.covariate is None else settings.covariate_strength
    level_shift = _spread(generator, (n_levels, n_coordinates), unit * level_strength)
    shift = common[:, None] + per_type.swapaxes(0, 1)
    pairs = np.bincount(cells.batch * n_types + cells.type, minlength=n_batches * n_types)
    shift -= np.tensordot(pairs.reshape(n_batches, n_types), shift, 2) / settings.n_cells
    level_shift -= np.bincount(cells.level, minlength=n_levels) @ level_shift / settings.n_cells
    widening = np.expm1(log_scale[..., 0].T)
    return Effects(
        shift.astype(np.float32), widening.astype(np.float32), level_shift.astype(np.float32)
    )


def moved(
    settings: Settings, cells: Cells, truth: Truth, generator: np.random.Generator
) -> NDArray[np.float32]:
    """Add the effects to the true coordinates."""
    effects = _draw_effects(settings, cells, generator, settings.n_dims)
    out = np.empty_like(truth.coordinates)
    for rows in _chunks(settings.n_cells, 65_536):
        batch, type_ = cells.batch[rows], cells.type[rows]
        noise = truth.coordinates[rows] - truth.centres[type_]
        out[rows] = truth.coordinates[rows] + effects.widening[batch, type_, None] * noise
        out[rows] += effects.shift[batch, type_]
        out[rows] += effects.level_shift[cells.level[rows]]
    return out


def counts(
    settings: Settings, cells: Cells, truth: Truth, generator: np.random.Generator
) -> csr_matrix:
    """Draw molecules from the truth, then let the effects remove some and add others."""
    from scipy.sparse import csr_matrix, vstack
    from scipy.special import logsumexp

    n_dims, n_genes = truth.coordinates.shape[1], settings.n_genes
    effects = _draw_effects(settings, cells, generator, n_genes, _LOADING * np.sqrt(n_genes))
    loadings = _LOADING * generator.standard_normal((n_dims, n_genes))
    gene = np.log(_COUNTS_PER_GENE) + _log_normal(generator, n_genes, _GENE_SPREAD)
    depth = _log_normal(generator, settings.n_cells, _DEPTH_SPREAD)
    # All types have the same mean depth: what their centres and their noise add is taken out.
    excess = logsumexp(gene + truth.centres @ loadings, axis=1) - np.log(_COUNTS_PER_GENE * n_genes)
    excess += 0.5 * _LOADING**2 * n_dims
    # Streams of their own: how many draws the effects need must not touch the molecules.
    molecules_from, effects_from = (
        np.random.default_rng(s) for s in generator.integers(2**63, size=2)
    )
    blocks = []
    for rows in _chunks(settings.n_cells, 1_024):
        batch, type_ = cells.batch[rows], cells.type[rows]
        noise = (truth.coordinates[rows] - truth.centres[type_]).astype(np.float64)
        log_mean = gene + truth.coordinates[rows] @ loadings
        log_mean += (depth[rows] - excess[type_])[:, None]
        effect = (effects.widening[batch, type_, None] * noise) @ loadings
        effect += effects.shift[batch, type_] + effects.level_shift[cells.level[rows]]
        before = np.exp(np.clip(log_mean, *_LOG_MEAN_RANGE))
        after = np.exp(np.clip(log_mean + effect, *_LOG_MEAN_RANGE))
        molecules = molecules_from.poisson(before)
        blocks.append(
            csr_matrix(_changed(molecules, before, after, effects_from), dtype=np.float32)
        )
    return vstack(blocks, format="csr")


def _changed(
    molecules: NDArray[np.int64],
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Turn Poisson counts of mean `before` into such of mean `after`, in place."""
    lost = after < before
    molecules[lost] = generator.binomial(molecules[lost], after[lost] / before[lost])
    molecules[~lost] += generator.poisson(after[~lost] - before[~lost])
    return molecules


def _log_normal(generator: np.random.Generator, n: int, spread: float) -> NDArray[np.float64]:
    """Draw `n` logs whose exponentials have mean 1."""
    return spread * generator.standard_normal(n) - 0.5 * spread**2


def _chunks(n_cells: int, size: int) -> Iterator[slice]:
    """Cut the cells into consecutive rows; the size is fixed, for the same draws everywhere."""
    return (slice(start, min(start + size, n_cells)) for start in range(0, n_cells, size))
