"""One embedding and its batch columns in, the corrected embedding and a report out.

All front doors (AnnData, scikit-learn, harmonypy's call, the command line) come through here.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harmonypy_lite._version import __version__
from harmonypy_lite.budget import release_freed
from harmonypy_lite.cells.by_chunk import ChunkwiseCells
from harmonypy_lite.cells.chunk import InForce
from harmonypy_lite.cells.in_memory import InMemoryCells
from harmonypy_lite.design import Design, design_from_columns
from harmonypy_lite.embedding import inspected
from harmonypy_lite.errors import InvalidInput, NumericalError, warn
from harmonypy_lite.method import blocks, loop, opening, start
from harmonypy_lite.method.form import Form
from harmonypy_lite.method.history import History
from harmonypy_lite.method.loop import Outcome
from harmonypy_lite.method.passes import Cells, Correct
from harmonypy_lite.method.rules import Setting, setting_for
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.shortfalls import shortfalls, warn_of_shortfalls
from harmonypy_lite.threads import Workers

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("harmonypy_lite")

NOTHING_TO_CORRECT = "All cells are of one batch: there is nothing to correct."


class Progress(NamedTuple):
    """Where a run stands; passed to the callback after each round of clustering."""

    iteration: int
    max_iter: int
    round: int
    max_rounds: int
    objective: float


@dataclass(frozen=True)
class Integration:
    """The result of a run.

    Attributes
    ----------
    embedding
        (N, d) float32 corrected cells, in the order of the input.
    summary
        What was done and why it stopped, in plain numbers and texts; small enough for `uns`.
    design, outcome
        Levels of the cells, and the tables of the last iteration (None where there was nothing to
        correct).
    replay
        What brings every step of the run back, where it was asked for.
    """

    embedding: np.ndarray
    summary: dict[str, Any]
    design: Design
    outcome: Outcome | None
    replay: Replay | None = None


def integrate_embedding(
    embedding: Any,
    batches: pd.DataFrame | Design,
    params: HarmonyParams,
    *,
    missing: str = "refuse",
    record: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Integration:
    """Correct an embedding for its batches.

    Parameters
    ----------
    embedding
        (N, d) cells x dimensions, any real type or order; never changed.
    batches
        (N, C) one column per covariate, or the design made of them.
    params
        All parameters.
    missing
        What to do with missing values in `batches`: `"refuse"`, or take them as a `"level"`.
    record
        Keep the tables of every iteration (B K numbers a block), from which assignments and
        corrected cells can be made again.
    progress
        Called after each round.

    Raises
    ------
    InvalidInput
        Before any work, for everything in the input that cannot be used.
    NumericalError
        If the objective stopped being a number.

    Warns
    -----
    HarmonyWarning
        For covariates left out, tiny levels and zero rows.
    NotConvergedWarning, ObjectiveRoseWarning
        When all iterations were used up, or the objective rose by more than a little.
    UncorrectedWarning
        When more than 0.1 % of a level's cells could not be corrected.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> rng = np.random.default_rng(0)
    >>> batch = pd.DataFrame({"batch": ["a", "b"] * 100})
    >>> Z = rng.normal(size=(200, 5)) + (batch["batch"] == "b").to_numpy()[:, None]
    >>> result = integrate_embedding(Z, batch, HarmonyParams())
    >>> result.embedding.shape, result.summary["stopped"]
    ((200, 5), 'converged')
    """
    began = time.perf_counter()
    Z, zero_rows = inspected(embedding, params.n_jobs)
    given = batches.n_cells if isinstance(batches, Design) else len(batches)
    if given != len(Z):
        raise InvalidInput(
            f"The embedding has {len(Z)} rows and the batch column(s) {given}: one row per cell "
            "is needed in both."
        )
    design = (
        batches if isinstance(batches, Design) else design_from_columns(batches, missing=missing)
    )
    if not design.covariates:
        warn(NOTHING_TO_CORRECT)
        params.clusters_for(len(Z))
        summary = summarise(Z.shape, design, params, None, time.perf_counter() - began)
        return Integration(Z.astype(np.float32), summary, design, None)
    setting = setting_for(params, design)
    zero_rows.warn()
    replay = Replay(setting, [], 0) if record else None
    corrected, outcome = _integrate(Z, design, setting, replay, progress)
    summary = summarise(Z.shape, design, setting.params, outcome, time.perf_counter() - began)
    warn_of_shortfalls(outcome, design, params)
    return Integration(corrected, summary, design, outcome, replay)


@dataclass
class Replay:
    """The tables of every iteration: with the cells, they give R and z_hat again, to the byte."""

    setting: Setting
    steps: list[tuple[list[InForce], np.ndarray]]  # what R was made from, and W
    block_seed: int

    def listen(self, cells: ChunkwiseCells) -> Callable[[np.ndarray], None]:
        """Return what notes the tables of each correction of `cells`."""
        return lambda W: self.steps.append((cells.in_force, W))

    def assignments(self, Z: np.ndarray, design: Design) -> np.ndarray:
        """Return R (N, K) of the last clustering, for the cells that the run saw."""
        with Workers(self.setting.params.n_jobs) as workers:
            cells = self._cells(Z, design, workers)
            *earlier, last = self.steps
            self._take(cells, earlier)
            cells.restore(last[0])
            return cells.assignments()

    def correct(self, Z: np.ndarray, design: Design, place: np.ndarray | None = None) -> np.ndarray:
        """Return z_hat (N, d): each cell moved as a cell of its level, at its place, was.

        `place` (N,) is where the cells stood in the run, which decides their block; by default
        they are the cells of the run, in its order. For a new cell any number serves.
        """
        with Workers(self.setting.params.n_jobs) as workers:
            cells = self._cells(Z, design, workers, place)
            self._take(cells, self.steps)
            return cells.result()

    def assign_and_correct(
        self, Z: np.ndarray, design: Design, place: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return R (n, K) of the last clustering and z_hat (n, d), as of the two above."""
        with Workers(self.setting.params.n_jobs) as workers:
            cells = self._cells(Z, design, workers, place)
            *earlier, (in_force, W) = self.steps
            self._take(cells, earlier)
            cells.restore(in_force)
            R = cells.assignments()
            cells.run(Correct(W))
            return R, cells.result()

    def _cells(
        self, Z: np.ndarray, design: Design, workers: Workers, place: np.ndarray | None = None
    ) -> InMemoryCells:
        return _hold(Z, design, self.setting, place, self.block_seed, workers, keep=False)

    @staticmethod
    def _take(cells: InMemoryCells, steps: list[tuple[list[InForce], np.ndarray]]) -> None:
        for in_force, W in steps:
            cells.restore(in_force)
            cells.run(Correct(W))


def _integrate(
    Z: np.ndarray,
    design: Design,
    setting: Setting,
    replay: Replay | None,
    progress: Callable[[Progress], None] | None,
) -> tuple[np.ndarray, Outcome]:
    rng = np.random.default_rng(setting.params.rng)
    block_seed = int(rng.integers(2**63))
    keep = setting.params.memory == "fast"
    if keep and setting.form is Form.WITH_PENALTY and not setting.rules.moving_centroids:
        log.info("Penalties are too steep to keep affinities: memory='lean' is in force.")
    sample = start.sample_cells(len(Z), setting.n_clusters, rng)
    with Workers(setting.params.n_jobs) as workers:
        hold = holder(block_seed, workers, keep=keep)
        release_freed()  # what was freed on the way would count beside what the cells take
        opened = opening.open_run(Z[sample], design.take(sample), setting, rng, hold)
        cells = hold(Z, design, setting)
        release_freed()
        if replay is not None:
            replay.block_seed = block_seed
        listen = replay.listen(cells) if replay is not None else lambda W: None
        outcome = integrate_cells(cells, opened, setting, listen, progress)
        return cells.result(), outcome


def integrate_cells(
    cells: Cells,
    opened: opening.Opening,
    setting: Setting,
    on_correction: Callable[[np.ndarray], None],
    progress: Callable[[Progress], None] | None,
) -> Outcome:
    """Run the loop on cells wherever they are held; `on_correction` hears W before each move."""
    return loop.integrate(
        cells if opened.shift is None else opening.Shifted(cells, opened.shift, on_correction),
        setting,
        opened.Y,
        on_round=watch_rounds(setting, progress),
        on_correction=lambda _, effects: on_correction(effects.W),
    )


def holder(
    block_seed: int, workers: Workers, *, keep: bool
) -> Callable[[np.ndarray, Design, Setting], InMemoryCells]:
    """Return what holds some cells in memory; the start's sample among them."""

    def hold(Z: np.ndarray, design: Design, setting: Setting) -> InMemoryCells:
        return _hold(Z, design, setting, None, block_seed, workers, keep=keep)

    return hold


def _hold(
    Z: np.ndarray,
    design: Design,
    setting: Setting,
    place: np.ndarray | None,
    block_seed: int,
    workers: Workers,
    *,
    keep: bool,
) -> InMemoryCells:
    place = np.arange(len(Z), dtype=np.min_scalar_type(-len(Z))) if place is None else place
    n_blocks = blocks.number_of_blocks(setting.params.block_proportion, setting.n_cells)
    block = blocks.block_of_cells(place, n_blocks, block_seed)
    del place  # 4 bytes a cell
    return InMemoryCells(
        Z,
        design.codes,
        block,
        n_blocks,
        np.diff(design.offsets).tolist(),
        setting.sigma,
        directions=setting.rules.moving_centroids,
        form=setting.form,
        keep=keep,
        workers=workers,
    )


def watch_rounds(
    setting: Setting, progress: Callable[[Progress], None] | None
) -> Callable[[History], None]:
    """Return what looks at the objective after each round, and passes it on to `progress`."""
    params = setting.params

    def on_round(history: History) -> None:
        objective = history.rounds[-1][-1]
        iteration, round_ = len(history.rounds), len(history.rounds[-1])
        if not np.isfinite(objective):
            raise NumericalError(
                f"The objective is {objective} after round {round_} of iteration {iteration} "
                f"({setting.n_cells} cells, {setting.n_clusters} clusters, "
                f"{setting.theta.size} levels); this is a defect, please report it."
            )
        if progress is not None:
            progress(
                Progress(
                    iteration,
                    params.max_iter_harmony,
                    round_,
                    params.max_iter_clustering or 0,
                    objective,
                )
            )

    return on_round


def summarise(
    shape: tuple[int, int],
    design: Design,
    params: HarmonyParams,
    outcome: Outcome | None,
    seconds: float,
) -> dict[str, Any]:
    """Return what was done with (N, d) cells, in plain numbers and texts."""
    levels = {c: len(names) for c, names in zip(design.covariates, design.levels, strict=True)}
    summary: dict[str, Any] = {
        "n_cells": shape[0],
        "n_dims": shape[1],
        "covariates": levels,
        "dropped_covariates": dict(design.dropped),
        "n_clusters": params.clusters_for(shape[0]),
        "iterations": 0,
        "rounds": [],
        "stopped": "nothing to correct",
        "objective": [],
        "objective_by_round": [],
        "diversity_by_round": [],
        "entropy_by_round": [],
        "cluster_sizes": [],
        "pruned_levels": {},
        "idle_clusters": [],
        "idle_share": 0.0,
        "parameters": plain_parameters(params),
        "versions": versions(),
        "seconds": round(seconds, 3),
    }
    if outcome is not None:
        first = design.level_slices()[0]
        summary |= outcome.history.summary() | shortfalls(outcome, design)
        summary["cluster_sizes"] = [float(x) for x in outcome.O[:, first].sum(axis=1)]
    return summary


def plain_parameters(params: HarmonyParams) -> dict[str, Any]:
    """Return the parameters as plain numbers, texts and lists."""
    plain: dict[str, Any] = {}
    for parameter in fields(params):
        value = getattr(params, parameter.name)
        if isinstance(value, np.random.Generator):
            value = "numpy.random.Generator"
        plain[parameter.name] = _plain(value)
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value.item() if isinstance(value, np.generic) else value


def versions() -> dict[str, str]:
    """Return the versions of all that a result's bytes may depend on."""
    import platform

    import numba

    return {
        "harmonypy_lite": __version__,
        "numpy": np.__version__,
        "numba": numba.__version__,
        "python": platform.python_version(),
    }
