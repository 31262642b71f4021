"""The loop with another backend: dense R in float64, plain NumPy, no kernels.

What comes out is the same; so nothing in the loop depends on who holds the cells.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import twin

from harmonypy_lite import run
from harmonypy_lite.design import Design, design_from_columns
from harmonypy_lite.method import loop
from harmonypy_lite.method.history import History
from harmonypy_lite.method.passes import (
    Assign,
    Assigned,
    Cells,
    Correct,
    CorrectAndAssign,
    Moments,
    Reassign,
    SumMoments,
)
from harmonypy_lite.method.ridge import Effects
from harmonypy_lite.method.rules import Setting, setting_for
from harmonypy_lite.method.totals import FixedPoint
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.threads import Workers

FLAVORS = ("harmony2", "harmony1")


class DenseCells:
    """Holds all cells and all of R."""

    def __init__(self, Z: np.ndarray, design: Design, block: np.ndarray, setting: Setting) -> None:
        self.Z, self.Z_hat = Z.astype(np.float64), Z.astype(np.float64)
        self.design, self.setting, self.block = design, setting, block
        self.n_blocks = int(block.max()) + 1
        self.fixed = FixedPoint(len(Z))
        self.R = np.zeros((len(Z), setting.n_clusters))
        self.passes: list[str] = []
        self.closed = False

    def run(self, task: Any, block: int | None = None) -> Any:
        self.passes.append(type(task).__name__ + ("" if block is None else f" {block}"))
        if isinstance(task, Assign):
            return self.assign(task.Y)
        if isinstance(task, Reassign):
            assert block is not None
            cells = self.block == block
            tilt = sum(task.P[:, column] for column in self.design.codes[cells].T)
            self.soften(task.Y, cells, tilt.T)
            return self.found(task.Y, block)
        if isinstance(task, SumMoments):
            return self.moments()
        assert isinstance(task, Correct | CorrectAndAssign)
        shift = np.zeros_like(self.Z)
        for column in self.design.codes.T:
            shift += np.einsum("ik,ikd->id", self.R, task.W[:, column].transpose(1, 0, 2))
        self.Z_hat = self.Z - shift
        if isinstance(task, CorrectAndAssign):
            return self.assign(task.Y)
        return self.R.T @ self.units() if self.setting.rules.moving_centroids else None

    def result(self) -> np.ndarray:
        return self.Z_hat.astype(np.float32)

    def close(self) -> None:
        self.closed = True

    def units(self) -> np.ndarray:
        return self.Z_hat / np.linalg.norm(self.Z_hat, axis=1, keepdims=True)

    def assign(self, Y: np.ndarray) -> list[Assigned]:
        self.soften(Y, np.ones(len(self.Z), bool), 0.0)
        return [self.found(Y, b) for b in range(self.n_blocks)]

    def soften(self, Y: np.ndarray, cells: np.ndarray, tilt: Any) -> None:
        logits = -2 * (1 - self.units()[cells] @ Y.T) / self.setting.sigma + tilt
        R = np.exp(logits - logits.max(axis=1, keepdims=True))
        self.R[cells] = R / R.sum(axis=1, keepdims=True)

    def found(self, Y: np.ndarray, block: int) -> Assigned:
        cells = self.block == block
        R, U, codes = self.R[cells], self.units()[cells], self.design.codes[cells]
        levels = np.unique(codes)
        has = (codes[:, :, None] == levels).any(axis=1)
        log_R = np.log(np.where(R > 0, R, 1))
        entropy = (R * self.setting.sigma * log_R).sum(axis=1)
        energy = (R * 2 * (1 - U @ Y.T)).sum() + entropy.sum()
        direction = None
        if self.setting.rules.moving_centroids:
            direction = np.rint(R.T @ U * self.fixed.scale).astype(np.int64)
        weight = np.rint(has.T @ R * self.fixed.scale).astype(np.int64)
        return Assigned(block, levels, weight, float(energy), direction, entropy)

    def moments(self) -> Moments:
        Phi = np.zeros((len(self.Z), self.design.n_levels))
        Phi[np.arange(len(Phi))[:, None], self.design.codes] = 1
        level_sum = np.einsum("ik,ib,id->kbd", self.R, Phi, self.Z, optimize=True)
        if self.design.codes.shape[1] == 1:
            return Moments(level_sum, None, None)
        combinations, of = np.unique(self.design.codes, axis=0, return_inverse=True)
        weight = np.zeros((len(combinations), self.R.shape[1]))
        np.add.at(weight, of.reshape(-1), self.R)
        return Moments(level_sum, combinations, weight.T)


def prepared(layout: str, **parameters: Any) -> tuple[DenseCells, Setting, np.ndarray, Any]:
    Z, frame = twin.simulated(300, 7, layout)
    params = HarmonyParams(
        **{"n_clusters": 8, "early_stop": False, "max_iter_harmony": 3, "n_jobs": 1, **parameters}
    )
    design = design_from_columns(frame)
    setting = setting_for(params, design)
    Y, block, _ = twin.start_of(Z, params)
    return DenseCells(Z, design, block, setting), setting, Y, (Z, frame, params)


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["one", "crossed", "three"])
def test_loop__gives_the_same_with_dense_cells(flavor: str, layout: str) -> None:
    parameters = {"tol_clustering": 0.0} if flavor == "harmony1" else {}
    cells, setting, Y, (Z, frame, params) = prepared(layout, flavor=flavor, **parameters)
    backend: Cells = cells
    outcome = loop.integrate(backend, setting, Y)
    own = run.integrate_embedding(Z, frame, params)
    assert own.outcome is not None
    tolerance = 1e-4 * Z.std()
    assert np.abs(backend.result() - own.embedding).max() < tolerance
    np.testing.assert_allclose(outcome.O, own.outcome.O, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(outcome.Y, own.outcome.Y, atol=1e-5)
    np.testing.assert_allclose(outcome.effects.W, own.outcome.effects.W, atol=1e-3)
    np.testing.assert_allclose(
        outcome.history.objective, own.outcome.history.objective, rtol=1e-5, atol=2e-3
    )
    # the package looks at the cells of two blocks only
    assert own.outcome.history.entropy == pytest.approx(outcome.history.entropy, rel=0.3)
    # ... and to many more digits what the reference gives: the loop adds no rounding of its own
    wanted = twin.reference_of(Z, frame, params)
    np.testing.assert_allclose(cells.Z_hat, wanted.Z_corr, atol=1e-9)
    np.testing.assert_allclose(outcome.history.objective, wanted.objective_harmony, rtol=1e-9)


@pytest.mark.parametrize("flavor", FLAVORS)
def test_loop__asks_for_the_passes_of_the_algorithm_in_order(flavor: str) -> None:
    cells, setting, Y, _ = prepared(
        "one", flavor=flavor, max_iter_clustering=2, max_iter_harmony=2, block_proportion=0.5
    )
    loop.integrate(cells, setting, Y)
    rounds = ["Reassign 0", "Reassign 1"] * 2
    between = "Correct" if flavor == "harmony1" else "CorrectAndAssign"
    assert cells.passes == [
        "Assign",
        *rounds,
        "SumMoments",
        between,
        *rounds,
        "SumMoments",
        "Correct",
    ]


def test_loop__tells_of_each_round_and_correction() -> None:
    cells, setting, Y, _ = prepared("one", max_iter_clustering=3)
    seen: list[tuple[int, int]] = []
    corrections: list[tuple[np.ndarray, Effects]] = []

    def on_round(history: History) -> None:
        seen.append((len(history.rounds), len(history.rounds[-1])))

    outcome = loop.integrate(
        cells,
        setting,
        Y,
        on_round=on_round,
        on_correction=lambda Y, effects: corrections.append((Y, effects)),
    )
    assert seen == [(i, r) for i in (1, 2, 3) for r in (1, 2, 3)]
    assert len(corrections) == 3
    np.testing.assert_array_equal(corrections[-1][0], outcome.Y)
    np.testing.assert_array_equal(corrections[0][0], Y)
    assert corrections[-1][1] is outcome.effects


@pytest.mark.parametrize("flavor", FLAVORS)
def test_history__parts_the_objective_into_its_terms(flavor: str) -> None:
    cells, setting, Y, _ = prepared("crossed", flavor=flavor, max_iter_clustering=2)
    paid: list[float] = []
    fuzzy: list[float] = []

    def on_round(history: History) -> None:
        total, n_cells, bonus = 0.0, len(cells.Z), int(flavor == "harmony2")
        for k in range(setting.n_clusters):
            for b, level in enumerate(levels):
                O = cells.R[level, k].sum()
                E = cells.R[:, k].sum() * level.mean()
                ratio = (O + bonus * E + 1) / ((1 + bonus) * E + 1)
                total += setting.theta[b] * setting.sigma[k] * O * np.log(ratio)
        paid.append(total * 2000 / n_cells)
        mass = np.where(cells.R > 0, cells.R, 1)
        fuzzy.append((setting.sigma * mass * np.log(mass)).sum() * 2000 / n_cells)

    codes = cells.design.codes
    levels = [(codes == b).any(axis=1) for b in range(cells.design.n_levels)]
    history = loop.integrate(cells, setting, Y, on_round=on_round).history
    assert len(paid) == 6
    np.testing.assert_allclose(history.diversity[1:], paid, rtol=1e-9)
    np.testing.assert_allclose(history.entropy[1:], fuzzy, rtol=1e-9)
    assert len(history.diversity) == len(history.entropy) == 1 + len(paid)


def test_loop__keeps_the_centroid_of_a_cluster_that_corrects_nothing() -> None:
    cells, setting, Y, _ = prepared("one", batch_prune_threshold=1.0)
    outcome = loop.integrate(cells, setting, Y)
    np.testing.assert_array_equal(outcome.Y, Y)
    np.testing.assert_array_equal(cells.Z_hat, cells.Z)


def test_loop__hands_errors_on_and_leaves_closing_to_its_caller() -> None:
    cells, setting, Y, _ = prepared("one")

    def stop(history: History) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.integrate(cells, setting, Y, on_round=stop)
    assert not cells.closed


@pytest.mark.parametrize("task", ["Assign", 3, None])
def test_backend__refuses_a_pass_that_it_does_not_know(task: object) -> None:
    Z, frame = twin.simulated(100, 4)
    design = design_from_columns(frame)
    setting = setting_for(HarmonyParams(n_jobs=1), design)
    with Workers(1) as workers:
        cells = run._hold(Z, design, setting, np.arange(100), 0, workers, keep=True)
        with pytest.raises(TypeError, match="does not know the pass"):
            cells.run(task)
