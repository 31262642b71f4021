from __future__ import annotations

import numpy as np
import pytest
import twin

from harmonypy_lite.method.passes import Assigned
from harmonypy_lite.method.totals import Composition, FixedPoint


@pytest.mark.parametrize("bound", [0.3, 1, 2, 3, 1000, 2**20, 2**20 + 1, 1e9])
def test_fixed_point__holds_its_bound_without_overflow(bound: float) -> None:
    fixed = FixedPoint(bound)
    largest = int(bound * fixed.scale)
    assert largest <= 2**62
    assert fixed.scale == 2.0 ** round(np.log2(fixed.scale)), "a power of two rounds nothing"
    found = fixed.to_float(np.array([largest, -largest, 0]))
    np.testing.assert_allclose(found, [bound, -bound, 0], rtol=1e-15)


def test_fixed_point__uses_the_width_it_has() -> None:
    assert FixedPoint(1000).scale * 1000 > 2**61


class Blocks:
    """Random assignments of blocks of cells, with the dense R that they come from."""

    def __init__(self, n: int = 120, K: int = 4, n_blocks: int = 5, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.fixed, self.K, self.rng = FixedPoint(n), K, rng
        self.codes = np.column_stack([rng.integers(0, 3, n), 3 + rng.integers(0, 2, n)])
        self.block = rng.integers(0, n_blocks, n)
        self.codes[(self.block > 2) & (self.codes[:, 0] == 1), 0] = 0  # not all have all levels
        self.share = np.bincount(self.codes.ravel(), minlength=5) / n
        self.R = np.zeros((n, K))
        self.energy = np.zeros(n_blocks)
        self.entropy = rng.normal(size=(n_blocks, 3))
        self.entropy[1] = np.nan  # a block that is not looked at
        self.U = rng.normal(size=(n, 6))
        self.U /= np.linalg.norm(self.U, axis=1, keepdims=True)

    def assign(self, b: int, direction: bool = True) -> Assigned:
        cells = np.flatnonzero(self.block == b)
        self.R[cells] = self.rng.dirichlet(np.ones(self.K), cells.size)
        self.energy[b] = self.rng.normal()
        levels = np.unique(self.codes[cells])
        has = (self.codes[cells][:, :, None] == levels).any(axis=1)
        weight = np.rint(has.T @ self.R[cells] * self.fixed.scale).astype(np.int64)
        along = np.rint(self.R[cells].T @ self.U[cells] * self.fixed.scale).astype(np.int64)
        along_or_none = along if direction else None
        entropy = None if b == 1 else self.entropy[b]
        return Assigned(b, levels, weight, self.energy[b], along_or_none, entropy)

    def table(self) -> Composition:
        return Composition(self.share, slice(0, 3), self.K, self.fixed)

    def assert_matches(self, table: Composition, without: int | None = None) -> None:
        cells = self.block != (-1 if without is None else without)
        Phi = np.zeros((len(self.R), 5))
        Phi[np.arange(len(self.R))[:, None], self.codes] = 1
        O = self.R[cells].T @ Phi[cells]
        n = self.R[cells].sum(axis=0)
        np.testing.assert_allclose(table.O, O, atol=1e-12)
        np.testing.assert_allclose(table.n, n, atol=1e-12)
        np.testing.assert_allclose(table.E, np.outer(n, self.share), atol=1e-12)
        kept = np.arange(len(self.energy)) != (-1 if without is None else without)
        np.testing.assert_allclose(table.energy, self.energy[kept].sum(), atol=1e-12)
        np.testing.assert_allclose(table.entropy, np.nanmean(self.entropy[kept]), atol=1e-12)
        np.testing.assert_allclose(table.direction, self.R[cells].T @ self.U[cells], atol=1e-12)


def test_composition__follows_blocks_out_and_in() -> None:
    blocks = Blocks()
    table = blocks.table()
    table.replace(blocks.assign(b) for b in range(5))
    blocks.assert_matches(table)
    for b in (3, 0, 4, 3):
        table.take_out(b)
        blocks.assert_matches(table, without=b)
        table.put_back(blocks.assign(b))
        blocks.assert_matches(table)


def test_composition__forgets_what_is_replaced() -> None:
    blocks = Blocks()
    table = blocks.table()
    table.replace([blocks.assign(b) for b in range(5)])
    table.replace([blocks.assign(b) for b in range(5)])
    blocks.assert_matches(table)


def test_composition__is_the_same_to_the_byte_in_any_order() -> None:
    blocks = Blocks()
    assigned = [blocks.assign(b) for b in range(5)]
    one, other = blocks.table(), blocks.table()
    one.replace(assigned)
    other.replace(reversed(assigned))
    for _ in range(50):
        other.take_out(2)
        other.put_back(assigned[2])
    for name in ("O", "n", "E", "direction"):
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes()
    assert one.energy == other.energy


def test_composition__holds_a_given_direction_until_cells_are_assigned() -> None:
    blocks = Blocks()
    table = blocks.table()
    table.replace(blocks.assign(b) for b in range(5))
    given = twin.frozen(np.ones((4, 6)))
    table.direction = given
    np.testing.assert_array_equal(table.direction, given)
    table.take_out(1)
    table.put_back(blocks.assign(1))
    blocks.assert_matches(table)
