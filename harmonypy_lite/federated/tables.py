"""What a site knows of its clusters, and how it is remembered between two messages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from harmonypy_lite.cells.at_site import SiteCells
from harmonypy_lite.cells.chunk import InForce
from harmonypy_lite.method import ridge
from harmonypy_lite.method.apart import ApartComposition
from harmonypy_lite.method.passes import Assigned, Correct, SumMoments, Turn
from harmonypy_lite.method.rules import Setting
from harmonypy_lite.method.totals import FixedPoint


class Tables:
    """What a site knows of its clusters; `S` is made anew when it is asked for."""

    def __init__(self, cells: SiteCells, setting: Setting, Y: np.ndarray, n_blocks: int) -> None:
        self.cells, self.setting, self.Y = cells, setting, Y
        self.fixed = FixedPoint(setting.n_cells)
        own = setting.level_share, setting.covariates, setting.n_clusters
        self.table = ApartComposition(*own, self.fixed, n_blocks)
        self.withheld = np.zeros(len(Y), np.int64)  # of n, for being small
        self.steps: list[tuple[list[InForce], np.ndarray]] = []
        self.S: np.ndarray | None = None

    def level_sum(self) -> np.ndarray:
        """Return S (K, B, d), the sum of R z over the cells of each level."""
        if self.S is None:
            self.S = self.cells.run(SumMoments()).level_sum
        return self.S

    def regression(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return O (K, B), its penalties, and which levels are there."""
        O, setting = self.table.O, self.setting
        penalties = setting.ridge_penalties(self.table)
        assert isinstance(penalties, np.ndarray)
        return O, penalties, ridge.present_levels(O, setting.level_size, setting.prune_threshold)

    def packed(self) -> dict[str, np.ndarray]:
        """Return the tables as arrays."""
        held = [*(in_force for in_force, _ in self.steps), self.cells.in_force]
        found = {
            name: np.array([[getattr(each, name) for each in one] for one in held])
            for name in InForce._fields
        }
        n = self.table.n
        shape = (0, len(self.Y), self.setting.theta.size, self.Y.shape[1])
        W = np.array([W for _, W in self.steps]) if self.steps else np.zeros(shape)
        weight = np.zeros((len(self.table.blocks), *self.setting.theta.shape, len(n)), np.int64)
        for assigned in self.table.blocks:
            weight[assigned.block, assigned.levels] = assigned.weight
        energy = np.array([assigned.energy for assigned in self.table.blocks])
        more = {"Y": self.Y, "W": W, "n": n, "weight": weight, "energy": energy}
        return found | more | {"withheld": self.withheld}

    def unpack(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Bring tables and cells to where they were."""
        parts = zip(*(arrays[name] for name in InForce._fields), strict=True)
        held = [[InForce(*each) for each in zip(*one, strict=True)] for one in parts]
        for in_force, W in zip(held, arrays["W"], strict=False):
            self.steps.append((in_force, W))
            self.cells.restore(in_force)
            self.cells.run(Correct(W))
        self.cells.restore(held[-1])
        levels = np.arange(self.setting.theta.size)
        self.table.replace(
            Assigned(b, levels, weight, float(energy), None)
            for b, (weight, energy) in enumerate(
                zip(arrays["weight"], arrays["energy"], strict=True)
            )
        )
        self.withheld = arrays["withheld"]
        self.table.hold(Turn(range(0), arrays["n"], np.zeros((len(self.Y), 0))))
