"""What a thread does with one chunk of cells, wherever the cells are held.

R is a function of the cells and of what was in force when their block was last assigned
(`InForce`); it is formed a tile at a time inside the kernels. Backends decide which chunks to work
on and where the results go.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np

from harmonypy_lite.cells.moments import Tables
from harmonypy_lite.kernels import affinity as affinity_kernels
from harmonypy_lite.kernels import effects as effect_kernels
from harmonypy_lite.kernels import entropy as entropy_kernels
from harmonypy_lite.kernels import sums as sum_kernels
from harmonypy_lite.kernels import weights as weight_kernels
from harmonypy_lite.kernels.affinity import Target
from harmonypy_lite.kernels.lanes import row_width
from harmonypy_lite.kernels.product import padded
from harmonypy_lite.kernels.rows import unit_rows
from harmonypy_lite.kernels.sums import fold_rows
from harmonypy_lite.kernels.weights import NO_MEMBERS, Groups
from harmonypy_lite.method.form import Form
from harmonypy_lite.method.totals import FixedPoint

#: Distance of the clusters that only fill up a vector. The bounds of sigma and theta keep all
#: others far below: 4 / sigma is at most 4e6, a penalty at most theta <= 1e12 times a logarithm.
_FAR = 1e30


#: One block in so many is looked at for its entropy, which takes three times as long as its sums;
#: of the cells in these blocks as many as are enough, and one in so many where there are more.
#: Of cells that are too few for that, all are looked at.
_BLOCKS_APART, _ENOUGH, _CELLS_APART = 10, 256, 32


def blocks_apart(n_cells: int) -> int:
    """Return how far blocks that are looked at for their entropy are apart."""
    return _BLOCKS_APART if n_cells >= _BLOCKS_APART * _ENOUGH else 1


def cells_apart(n_cells: int) -> int:
    """Return how far held cells that are looked at for their entropy are apart, a power of two."""
    plenty = n_cells // (_BLOCKS_APART * _ENOUGH)
    return int(min(_CELLS_APART, 2 ** max(0, plenty.bit_length() - 1)))


class InForce(NamedTuple):
    """What the assignment of a block was made from: with the cells, it gives R again."""

    Yt: np.ndarray  # (d, padded K) centroids
    log_tilt: np.ndarray  # (B, K) P_kb - max_k P_kb
    tilt: np.ndarray  # (B, L) its exponential, 0 behind K; L is `row_width(K)`


class Affinities(NamedTuple):
    """How near cells are to clusters, and what is still to be multiplied on to give R."""

    A: np.ndarray  # (n, L)
    shift: np.ndarray  # (n,) log of what was divided off
    tilt: np.ndarray  # (B, L)


class Sums(NamedTuple):
    """Sums of an assignment, in int64 fixed point except for energy and entropy."""

    first: np.ndarray  # (T, L) R over each tile, or (M, K) over each level of the first covariate
    rest: np.ndarray  # (B, L) R over levels; or (B', K), from the first further covariate's on
    energy: np.ndarray  # (T,) float64, without the part that the tilt's scale adds
    direction: np.ndarray  # (1, d, L) R_ik u_i
    entropy: np.ndarray  # (m,) float64, of each cell that is looked at for it


def added(parts: Sequence[Sums]) -> Sums:
    """Put the sums of parts of a block together: nothing is rounded here."""
    if len(parts) == 1:
        return parts[0]
    first, rest, energy, direction, entropy = zip(*parts, strict=True)
    return Sums(
        reduce(np.add, first),
        reduce(np.add, rest),
        np.concatenate(energy),
        reduce(np.add, direction),
        np.concatenate(entropy),
    )


class Scratch(threading.local):
    """Arrays that a thread uses again and again."""

    def __init__(self) -> None:
        self._arrays: dict[str, np.ndarray] = {}

    def array(self, name: str, shape: tuple[int, ...], kind: Any = np.float32) -> np.ndarray:
        """Return an array of `shape` with anything in it; of a name always the same kind."""
        size = math.prod(shape)
        if name not in self._arrays or self._arrays[name].size < size:
            self._arrays[name] = np.empty(size, kind)
        return self._arrays[name][:size].reshape(shape)


class ChunkWork:
    """The passes, on one chunk.

    Parameters
    ----------
    sigma
        (K,) widths of the clusters.
    n_levels, n_cells
        B, and N of the whole data.
    form
        How affinities are held.
    """

    def __init__(self, sigma: np.ndarray, n_levels: int, n_cells: int, *, form: Form) -> None:
        self.fixed = FixedPoint(n_cells)
        self._blocks_apart, self._cells_apart = blocks_apart(n_cells), cells_apart(n_cells)
        self.sigma = sigma.astype(np.float32)
        self.scratch = Scratch()
        self._with_penalty = form is Form.WITH_PENALTY
        self._affinity_type = np.uint16 if form is Form.HALF else np.float32
        self.row_width = row_width(sigma.size)
        self._slope = pad_rows(2.0 / sigma)
        self._offset = np.where(self._slope > 0, self._slope, _FAR).astype(np.float32)[None]
        # One number where all are the same, which is the rule.
        self._sigma = self.sigma[:1] if (sigma == sigma[0]).all() else self.sigma
        self._neutral = self._tilt(np.zeros((n_levels, sigma.size), np.float32))

    def in_force(self, Y: np.ndarray, P: np.ndarray | None = None) -> InForce:
        """Return what assigns cells to the centroids Y with the log-penalties P (K, B), or none."""
        if P is None:
            nothing = np.zeros((len(self._neutral), self.sigma.size), np.float32)
            return InForce(pad_rows(Y.T), nothing, self._neutral)
        levels = np.ascontiguousarray(P.T)
        log_tilt = np.empty(levels.shape, np.float32)
        most = levels.max(axis=1, keepdims=True)
        np.subtract(levels, most, out=log_tilt, casting="same_kind")
        return InForce(pad_rows(Y.T), log_tilt, self._tilt(log_tilt))

    def in_force_again(self, Y: np.ndarray, log_tilt: np.ndarray) -> InForce:
        """Return what `in_force` returned, from its tables Y (K, d) and log_tilt (B, K)."""
        return InForce(pad_rows(Y.T), log_tilt, self._tilt(log_tilt))

    def _tilt(self, log_tilt: np.ndarray) -> np.ndarray:
        out = np.zeros((len(log_tilt), self.row_width), np.float32)
        np.exp(log_tilt, out=out[:, : self.sigma.size])
        return out

    def new_affinities(self, n: int) -> np.ndarray:
        """Return (n, L) numbers of the kind that affinities are held in, with anything in them."""
        return np.empty((n, self.row_width), self._affinity_type)

    def affinities(
        self,
        z_hat: np.ndarray,
        codes: np.ndarray,
        in_force: InForce,
        A: np.ndarray | None = None,
        shift: np.ndarray | None = None,
    ) -> Affinities:
        """Return the affinities of the cells z_hat, in `A` and `shift` where these are given."""
        if A is None or shift is None:
            A = self.scratch.array("A", (len(z_hat), self.row_width), self._affinity_type)
            shift = self.scratch.array("shift", (len(z_hat),))
        target = self._target(in_force)
        if not self._with_penalty:
            affinity_kernels.affinity(z_hat, target, A, shift)
            return Affinities(A, shift, in_force.tilt)
        affinity_kernels.tempered(z_hat, target, codes, in_force.log_tilt, A, shift)
        return Affinities(A, shift, self._neutral)

    def _target(self, in_force: InForce) -> Target:
        return Target(in_force.Yt, self._slope, self._offset, in_force.tilt, self._sigma)

    def new_sums(self, n_tiles: int, n_dims: int, n_covariates: int) -> Sums:
        """Return sums to be filled by `sum_levels` and `add_direction`."""
        further = len(self._neutral) if n_covariates > 1 else 0
        return Sums(
            np.empty((n_tiles, self.row_width), np.int64),
            np.zeros((further, self.row_width), np.int64),
            np.empty(n_tiles),
            np.zeros((1, n_dims, self.row_width), np.int64),
            np.empty(0),
        )

    def sum_levels(
        self,
        affinities: Affinities,
        codes: np.ndarray,
        tile_start: np.ndarray,
        sums: Sums,
        tiles: slice,
    ) -> None:
        """Sum R over levels, tile by tile, into ``sums`` at `tiles`."""
        sum_kernels.sum_levels(
            affinities.A,
            affinities.shift,
            codes,
            affinities.tilt,
            self._sigma,
            tile_start,
            np.float32(self.fixed.scale),
            sums.first[tiles],
            sums.rest,
            sums.energy[tiles],
        )

    def looks_at(self, block: int) -> bool:
        """Return whether entropies are made of cells of this block."""
        return block % self._blocks_apart == 0

    def entropies(self, affinities: Affinities, codes: np.ndarray, first_row: int) -> np.ndarray:
        """Return sum_k sigma_k R log R of some of the cells, the first of which is `first_row`.

        Which ones depends on their places among all held cells, and on nothing else.
        """
        step = self._cells_apart
        first = -first_row % step
        out = np.empty(len(range(first, len(codes), step)))
        A, _, tilt = affinities
        entropy_kernels.entropies(A, codes, tilt, self._sigma, first, step, out)
        return out

    def fold(
        self, sums: Sums, levels: np.ndarray, further: int, in_force: InForce
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Put sums of `levels` of the first covariate and, from `further` on, of others together.

        Returns the levels, their sums (M, K), and what the scale of the tilt adds to the energy.
        """
        there = np.flatnonzero(sums.rest.any(axis=1))
        parts = [(levels, np.arange(levels.size), sums.first)]
        if there.size:
            parts.append((further + there, there, sums.rest))
            parts.sort(key=lambda part: int(part[0][0]))
        weight = np.empty((levels.size + there.size, self.sigma.size), np.int64)
        at, energy, scale = 0, 0.0, self.fixed.scale
        for own, start, table in parts:
            into = weight[at : (at := at + own.size)]
            energy += fold_rows(table, start, own, in_force.log_tilt, self.sigma, scale, into)
        levels = np.concatenate([own for own, *_ in parts])
        if (levels[1:] < levels[:-1]).any():  # covariates on both sides of the first
            order = np.argsort(levels)
            levels, weight = levels[order], weight[order]
        return levels, weight, energy

    def add_direction(
        self,
        affinities: Affinities,
        codes: np.ndarray,
        tile_start: np.ndarray,
        z_hat: np.ndarray,
        out: np.ndarray,
    ) -> None:
        """Add R'u of the cells z_hat to `out` (1, d, L)."""
        U = self.scratch.array("U", z_hat.shape)
        unit_rows(z_hat, U)
        # tiles as of the sums per level, but all into one sum
        everyone = Groups(NO_MEMBERS, tile_start, np.zeros(tile_start.size - 1, np.int32))
        A, _, tilt = affinities
        nobody, none = np.empty(0, np.int32), np.empty((0, self.row_width), np.int64)
        scale = np.float32(self.fixed.scale)
        sum_kernels.sum_moments(A, codes, tilt, everyone, U, scale, out, nobody, none)

    def add_moments(
        self,
        affinities: Affinities,
        codes: np.ndarray,
        groups: Sequence[Groups],
        z: np.ndarray,
        combination: np.ndarray,
        tables: Tables,
    ) -> None:
        """Add R'z per level of these covariates; with the first one R per combination, too."""
        # Sums over one covariate's levels must match another's to more than single precision.
        number = np.float64 if codes.shape[1] > 1 else np.float32
        A, _, tilt = affinities
        for each in groups:
            # every cell is in one combination, so these are summed with one covariate alone
            G = tables.G[:0] if each.members.size else tables.G
            sum_kernels.sum_moments(
                A, codes, tilt, each, z, number(self.fixed.scale), tables.M, combination, G
            )

    def add_excluded(
        self,
        affinities: Affinities,
        codes: np.ndarray,
        combination: np.ndarray,
        excluded: np.ndarray,
        z: np.ndarray,
        out: np.ndarray,
    ) -> None:
        """Add R'z of the cells whose combination is excluded (Q, K) to `out` (d, K)."""
        A, _, tilt = affinities
        sum_kernels.sum_excluded(A, codes, tilt, combination, excluded, z, self.fixed.scale, out)

    def corrected(
        self,
        affinities: Affinities,
        codes: np.ndarray,
        groups: Sequence[Groups],
        z: np.ndarray,
        W: np.ndarray,
    ) -> np.ndarray:
        """Return z_hat, in scratch memory, for effects W (B, K, padded d)."""
        z_hat = self.scratch.array("z_hat", z.shape)
        z_hat[:] = z
        A, _, tilt = affinities
        for each in groups:
            effect_kernels.subtract_effects(A, codes, tilt, each, z, W, z_hat)
        return z_hat

    def correct_and_assign(
        self,
        affinities: Affinities,
        codes: np.ndarray,
        tiles: Groups,
        z: np.ndarray,
        W: np.ndarray,
        in_force: InForce,
        sums: Sums,
    ) -> None:
        """Make kept affinities those of the corrected cells, and sum R with `in_force`.

        For one covariate; any number of tiles.
        """
        target, scale = self._target(in_force), np.float32(self.fixed.scale)
        A, shift, tilt = affinities
        effect_kernels.correct_and_assign(A, shift, codes, tilt, tiles, z, W, target, scale, sums)

    def assignments(self, affinities: Affinities, codes: np.ndarray) -> np.ndarray:
        """Return R (n, K), in scratch memory."""
        A, _, tilt = affinities
        R = self.scratch.array("R", (len(A), self.sigma.size))
        weight_kernels.assignments(A, codes, tilt, R)
        return R


def pad_rows(X: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """Return factor X in single precision, its rows filled up with zeros as products want them."""
    out = np.zeros((*X.shape[:-1], padded(X.shape[-1])), np.float32)
    np.multiply(X, factor, out=out[..., : X.shape[-1]], casting="same_kind")
    return out


def unit_above(largest: float) -> float:
    """Return the power of two that all |z| up to `largest` are below: dividing by it is exact."""
    return 2.0 ** math.frexp(largest)[1]
