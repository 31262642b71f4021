"""What the method asks of the cells: six passes, and the sums that each returns.

A backend (a class in `cells/`) holds the cells and answers ``run(pass)`` or ``run(pass, block)``.
It never knows which flavour it serves. Sums travel as int64 fixed point (`FixedPoint`), so that
they are exact and do not depend on the order in which threads, files or machines add them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np


@dataclass(frozen=True)
class Assign:
    """R = softmax_k(-2 (1 - u.Y_k) / sigma_k), all cells. Returns an `Assigned` for each block."""

    Y: np.ndarray  # (K, d) unit centroids


class Turn(NamedTuple):
    """Blocks that are visited one after another; see `apart` for what is in force meanwhile."""

    blocks: range
    n: np.ndarray | None = None  # (K,) cells in each cluster, where they are taken as they were
    rows: np.ndarray | None = None  # (K, b) rows of O that are, too


@dataclass(frozen=True)
class Reassign:
    """R = softmax_k(-2 (1 - u.Y_k) / sigma_k + sum_c P[k, code_c]), the cells of one block.

    Returns its `Assigned`. With `turn`, who holds whole levels may go ahead to the end of it.
    """

    Y: np.ndarray  # (K, d) unit centroids
    P: np.ndarray  # (K, B) log-penalties
    turn: Turn | None = None


@dataclass(frozen=True)
class SumMoments:
    """R' z per level, with the R in force: what the ridge regression needs. Returns `Moments`."""


@dataclass(frozen=True)
class SumExcluded:
    """sum_i R_ik z_i over the cells whose combination of levels is excluded. Returns (K, d)."""

    excluded: np.ndarray  # (K, Q) bool


@dataclass(frozen=True)
class Correct:
    """z_hat = z - sum_k R_ik sum_c W_k[code_c]; R stays as it is.

    Returns R'u (K, d) of the corrected cells from a backend made to sum directions, or None.
    """

    W: np.ndarray  # (K, B, d) effects of the levels


@dataclass(frozen=True)
class CorrectAndAssign:
    """`Correct`, then `Assign` from z_hat: one read of the cells for both."""

    W: np.ndarray  # (K, B, d) effects of the levels
    Y: np.ndarray  # (K, d) unit centroids


class Assigned(NamedTuple):
    """What an assignment leaves behind, for one block of cells."""

    block: int
    levels: np.ndarray  # (m,) levels that have cells in the block, ascending
    weight: np.ndarray  # (m, K) int64 fixed point: sum of R over the cells of each level
    energy: float  # sum_ik R_ik (2 (1 - u_i.Y_k) + sigma_k log R_ik)
    direction: np.ndarray | None  # (K, d) int64 fixed point: sum of R_ik u_i, where asked for
    entropy: np.ndarray | None = None  # (m,) sum_k sigma_k R_ik log R_ik of some of the cells


class Moments(NamedTuple):
    """Sums of the regression over all cells."""

    level_sum: np.ndarray  # (K, B, d) float64: sum of R_ik z_i over the cells of level b
    # With several covariates also which of their levels occur together:
    combinations: np.ndarray | None  # (Q, C) levels of each combination that occurs
    weight: np.ndarray | None  # (K, Q) float64: sum of R_ik over the cells of each combination
    square_sum: np.ndarray | None = None  # (d,) float64: sum of z^2 over all cells, the same always


class Cells(Protocol):
    """A backend: who holds the cells.

    ``run`` answers with what the pass's own text says it returns; only `Reassign` takes a block.
    """

    n_blocks: int

    def run(self, task: Any, block: int | None = None) -> Any:
        """Carry out a pass over all cells, or over one block."""

    def close(self) -> None:
        """Give back threads, files and memory."""
