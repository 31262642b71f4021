"""Cells beside a finished run: replayed where their levels are the run's, else mapped.

Which of the two is never guessed: where names alone could mean either, the caller says so.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.batches import columns_like
from harmonypy_lite.design import Design, design_like
from harmonypy_lite.errors import InvalidInput, warn
from harmonypy_lite.kernels.distances import mahalanobis
from harmonypy_lite.levels import MISSING_LEVEL, ColumnLevels, numbered
from harmonypy_lite.method import mapping
from harmonypy_lite.recognition import digests
from harmonypy_lite.threads import Workers

if TYPE_CHECKING:
    import pandas as pd

    from harmonypy_lite.model import HarmonyModel

log = logging.getLogger("harmonypy_lite")

#: Cells that are looked at together. Sums of a model are rounded in this order: it is part of it.
ROWS = 4096
#: ... where they are in memory; a multiple of _TILE, as ROWS is.
ROWS_IN_MEMORY = 2**14
#: ... by one thread.
_TILE = 512
#: Assignments below this leave a cell's distance alone.
_NEAR = 0.01
#: Assignments of so many bytes are kept from the first look at the cells for the second.
_KEPT = 2**26
CHOICES = ("known", "new", "either")


@dataclass(frozen=True)
class Plan:
    """Which cells are replayed and which are mapped, and the levels of each.

    Attributes
    ----------
    known
        (n,) bool: cells all of whose levels the run saw, to be replayed.
    codes
        (n, C) their levels in the run; of other cells, anything.
    new_codes, new_levels
        (n, D) levels of the cells that are mapped, and how many of them there are.
    """

    known: np.ndarray
    codes: np.ndarray
    new_codes: np.ndarray
    new_levels: tuple[tuple[str, ...], ...]

    @property
    def n_replayed(self) -> int:
        """Number of cells that are replayed."""
        return int(self.known.sum())

    @property
    def n_mapped(self) -> int:
        """Number of cells that are mapped."""
        return len(self.known) - self.n_replayed


def plan(model: HarmonyModel, n_cells: int, batch: pd.DataFrame | None, levels: str | None) -> Plan:
    """Decide for each cell what is done with it.

    Parameters
    ----------
    model
        The run.
    n_cells
        Number of cells n.
    batch
        (n, C) columns, or None: all cells are one new level.
    levels
        Whether the levels are the run's ("known"), others whatever their names ("new"), or the
        run's where it has them ("either"). None: new, if no name is the run's.

    Raises
    ------
    InvalidInput
        For levels that are not what was said, or could be either while nothing was said.
    """
    if levels is not None and levels not in CHOICES:
        raise InvalidInput(f"levels={levels!r}: choose one of {', '.join(CHOICES)}.")
    none = np.zeros((n_cells, len(model.design.covariates)), np.int32)
    if batch is None:
        if levels in ("known", "either"):
            raise InvalidInput(
                f"levels={levels!r} needs the batch of each cell; without it the cells are one new "
                "batch (levels='new')."
            )
        all_new = np.zeros(n_cells, bool)
        return Plan(all_new, none, np.zeros((n_cells, 1), np.int32), (("query",),))
    if len(batch) != n_cells:
        raise InvalidInput(
            f"X has {n_cells} rows and the batch {len(batch)}: one row per cell is needed in both."
        )
    if levels == "known":
        design = known_design(model, batch)
        return Plan(np.ones(n_cells, bool), design.codes, none, ())
    seen = _seen(model, batch)
    if levels is None and seen.any():
        _refuse_unsaid(model, batch, seen)
    if levels == "new":
        if seen.any():
            warn(f"{_shared(model, batch)}: with levels='new' they are taken for other batches.")
        seen = np.zeros(n_cells, bool)
    codes = none
    if levels == "either" and seen.any():
        codes[seen] = known_design(model, batch[seen]).codes
    new_codes, names = _numbered(batch, ~seen)
    return Plan(seen, codes, new_codes, names)


def known_design(model: HarmonyModel, batch: Any) -> Design:
    """Return the design of cells whose levels the run saw; refuses others."""
    design = model.design
    with_missing = any(MISSING_LEVEL in names for names in design.levels)
    columns = columns_like(batch, design.given)
    try:
        return design_like(columns, design, missing="level" if with_missing else "refuse")
    except InvalidInput as error:
        if "did not see" not in str(error):
            raise
        raise InvalidInput(
            f"{error} Or let new batches be placed beside the run: levels='new', or 'either' "
            "where some are the run's."
        ) from None


def _all_levels(model: HarmonyModel) -> dict[str, tuple[str, ...]]:
    return {**model.levels, **model.design.dropped_levels}


def _seen(model: HarmonyModel, batch: pd.DataFrame) -> np.ndarray:
    """Return (n,) whether all levels of a cell are names of levels of the run."""
    given = model.design.given
    if batch.shape[1] != len(given):
        return np.zeros(len(batch), bool)
    seen = np.ones(len(batch), bool)
    levels = _all_levels(model)
    for name, column in columns_like(batch, given).items():
        known = set(levels[str(name)])
        _, number, values = numbered(column)
        seen &= np.array([*(str(value) in known for value in values), False])[number]
    return seen


def _shared(model: HarmonyModel, batch: pd.DataFrame) -> str:
    levels = _all_levels(model)
    shared = [
        level
        for name, column in columns_like(batch, model.design.given).items()
        for level in dict.fromkeys(column.astype(str))
        if level in levels[str(name)]
    ]
    return f"{len(shared)} level(s) have names of levels of the run ({', '.join(shared[:5])})"


def _refuse_unsaid(model: HarmonyModel, batch: pd.DataFrame, seen: np.ndarray) -> None:
    raise InvalidInput(
        f"{_shared(model, batch)}, {int(seen.sum()):,} of {len(seen):,} cells: say whether "
        "these are the same batches (levels='known'; levels='either' if there are new ones, too), "
        "or others that share a name (levels='new')."
    )


def _numbered(
    batch: pd.DataFrame, new: np.ndarray
) -> tuple[np.ndarray, tuple[tuple[str, ...], ...]]:
    """Number the levels of the new cells, column after column."""
    codes = np.zeros((len(batch), batch.shape[1]), np.int32)
    names: list[tuple[str, ...]] = []
    first = 0
    for c, (name, column) in enumerate(batch.items()):
        levels = ColumnLevels(str(name), "refuse")
        own = levels.see(column if new.all() else column[new])
        renumbered, found = levels.finish()
        codes[new, c] = renumbered[own] + first
        first += len(found)
        names.append(found)
    return codes, tuple(names)


class Placement:
    """Places cells in two looks at them: sums first, then each cell.

    Parameters
    ----------
    model
        The run.
    planned
        What is done with each cell.
    workers
        Threads that share the cells of a look.
    """

    def __init__(self, model: HarmonyModel, planned: Plan, workers: Workers) -> None:
        self._model, self._plan, self._workers = model, planned, workers
        self._Y = model.centroids.astype(np.float32)
        n_levels = sum(map(len, planned.new_levels))
        if len(planned.new_levels) == 1:  # each level occurs
            self._combinations = np.arange(n_levels)[:, None]
        else:
            self._combinations = np.unique(planned.new_codes[~planned.known], axis=0)
        shape = model.reference.corrected_sum.shape
        self._sums = mapping.QuerySums(self._combinations, n_levels, *shape)
        self._W: np.ndarray | None = None
        self._keeps = len(planned.known) * len(self._Y) * 4 <= _KEPT
        self._kept: dict[int, np.ndarray] = {}

    def see(self, Z: np.ndarray, first: int) -> None:
        """Look at cells (n, d) that begin at row `first` of all."""
        for sums in self._workers.map(lambda a: self._see(Z[a : a + _TILE], first + a), _tiles(Z)):
            self._sums.add(sums)

    def _see(self, Z: np.ndarray, first: int) -> list[tuple[int, np.ndarray, np.ndarray]]:
        new = ~self._plan.known[first : first + len(Z)]
        if not new.any():
            return []
        z = Z.astype(np.float32, copy=False)
        codes = self._plan.new_codes[first : first + len(Z)]
        if not new.all():
            z, codes = z[new], codes[new]
        R = self._assignments(z)
        if self._keeps and new.all():
            self._kept[first] = R
        return mapping.sums_by_combination(R, z, self._combination(codes))

    def _assignments(self, z: np.ndarray) -> np.ndarray:
        return mapping.assignments(z, self._Y, self._model.replay.setting.sigma)

    def move(
        self, Z: np.ndarray, first: int, place: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return (n, d) float32 placed cells, and (n,) how far each is from the run's clusters.

        `place` (n,) tells which cells of the run replayed cells are.
        """
        if self._W is None:
            self._W = self._sums.effects(self._model.reference).astype(np.float32)
        moved, distance = np.empty(Z.shape, np.float32), np.empty(len(Z), np.float32)

        def move_tile(a: int) -> None:
            rows = slice(a, a + _TILE)
            self._move(Z[rows], first + a, moved[rows], distance[rows])

        self._workers.map(move_tile, _tiles(Z))
        known = self._plan.known[first : first + len(Z)]
        if known.any():
            codes, at = self._plan.codes[first : first + len(Z)], place
            moved[known] = replay(
                self._model,
                np.ascontiguousarray(Z[known]),
                codes[known],
                None if at is None else at[known],
            )
        return moved, distance

    def _move(self, Z: np.ndarray, first: int, moved: np.ndarray, distance: np.ndarray) -> None:
        """Fill `moved`, of new cells, and `distance`."""
        z = np.ascontiguousarray(Z, np.float32)
        R = self._kept.pop(first, None)
        if R is None:
            R = self._assignments(z)
        mean, whitener = self._model.spread
        mahalanobis(z, R, mean, whitener, _NEAR, distance)
        new = ~self._plan.known[first : first + len(Z)]
        if new.any():
            codes = self._plan.new_codes[first : first + len(Z)]
            assert self._W is not None
            moved[new] = mapping.corrected(z[new], R[new], self._W, codes[new])

    def _combination(self, codes: np.ndarray) -> np.ndarray:
        if codes.shape[1] == 1:
            return codes[:, 0]
        place = {tuple(row): q for q, row in enumerate(self._combinations.tolist())}
        return np.array([place[tuple(row)] for row in codes.tolist()])


def _tiles(Z: np.ndarray) -> range:
    return range(0, len(Z), _TILE)


def replay(
    model: HarmonyModel, Z: np.ndarray, codes: np.ndarray, place: np.ndarray | None
) -> np.ndarray:
    """Return (n, d) float32 cells moved as the cells of their levels were moved by the run.

    A new cell's block is drawn by its coordinates, so that no result depends on the other cells.
    """
    if not model.replay.steps:
        return Z.astype(np.float32)
    design = replace(model.design, codes=codes)
    return model.replay.correct(Z, design, digests(Z) if place is None else place)


def placed(
    model: HarmonyModel,
    planned: Plan,
    batches: Callable[[], Iterator[np.ndarray]],
    place: np.ndarray | None = None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Place cells that come in batches, twice; yield (n, d) placed cells and (n,) distances."""
    with Workers() as workers:
        placement = Placement(model, planned, workers)
        first = 0
        if planned.n_mapped:
            for Z in batches():
                placement.see(Z, first)
                first += len(Z)
        first = 0
        for Z in batches():
            own = None if place is None else place[first : first + len(Z)]
            yield placement.move(Z, first, own)
            first += len(Z)
