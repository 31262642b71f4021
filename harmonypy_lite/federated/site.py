"""A site's share of Harmony: what it makes of its own cells when a combined message asks.

A site is a function of its cells and of the combined messages: given them again it says the same.
What it has to remember are tables (see `Tables`), from which the cells are brought to where they
were; they stay at the site.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from harmonypy_lite.cells.at_site import SiteCells
from harmonypy_lite.cells.chunk import unit_above
from harmonypy_lite.design import Design
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.federated import start
from harmonypy_lite.federated.exchange import Answer
from harmonypy_lite.federated.message import Message
from harmonypy_lite.federated.plan import Plan
from harmonypy_lite.federated.sums import encoded
from harmonypy_lite.federated.tables import Tables
from harmonypy_lite.method import blocks, ridge
from harmonypy_lite.method.formulas import turned
from harmonypy_lite.method.loop import visit
from harmonypy_lite.method.passes import (
    Assign,
    Correct,
    CorrectAndAssign,
    Turn,
)
from harmonypy_lite.method.rules import Setting, setting_for
from harmonypy_lite.threads import Workers


class Census(NamedTuple):
    """What all know of the cells of all: numbers, no cells."""

    sizes: dict[str, list[int]]  # cells of each level, by site
    levels: dict[str, list[str]]
    n_dims: int
    unit: float  # a power of two that all coordinates are below

    @property
    def n_cells(self) -> int:
        """Number of cells N."""
        return sum(map(sum, self.sizes.values()))

    def setting(self, plan: Plan) -> Setting:
        """Return the numbers of the run, over the levels of all sites in turn."""
        size = np.array([n for site in plan.sites for n in self.sizes[site]], np.int64)
        names = tuple(f"{s}: {level}" for s in plan.sites for level in self.levels[s])
        # the codes of cells are not known here; they only say how many cells there are
        codes = np.broadcast_to(np.int32(0), (self.n_cells, 1))
        ends = np.array([0, size.size])
        design = Design(codes, ends, size, (plan.key,), (names,), {}, {}, (plan.key,))
        return setting_for(plan.params, design)


def objective_bound(setting: Setting) -> float:
    """Return what the objective cannot be larger than, nor any site's share of it."""
    sigma, N = float(setting.sigma.max()), setting.n_cells
    logs = np.log(setting.n_clusters + 1) + float(setting.theta.max(initial=0)) * np.log(N + 2)
    return 2000.0 * (4 + sigma * float(logs))


class HarmonySite:
    """The cells of one site.

    Parameters
    ----------
    plan
        Of the run.
    name
        This site.
    Z
        (n, d) its cells.
    codes, levels
        (n,) level of each, and the names of the levels.
    workers
        Threads.
    """

    def __init__(
        self,
        plan: Plan,
        name: str,
        Z: np.ndarray,
        codes: np.ndarray,
        levels: tuple[str, ...],
        workers: Workers,
    ) -> None:
        self._plan, self._name, self._Z, self._codes = plan, name, Z, codes
        self._levels, self._workers = levels, workers
        self._census: Census | None = None
        self._tables: Tables | None = None

    def answer(self, heard: Message) -> Answer | None:
        """Return what a combined message asks for; None where it is the last."""
        ask = "census" if heard.step == 0 else heard.facts.get("ask")
        work = {
            "census": self._count,
            "moments": self._moments,
            "lloyd": self._lloyd,
            "assign": self._assign,
            "round": self._round,
            "regress": self._regress,
            "correct": self._correct,
            "finish": self._finish,
        }
        if ask not in work:
            raise InvalidInput(f"A combined message asks for {ask!r}, which is not known.")
        return work[str(ask)](heard)

    def result(self) -> np.ndarray:
        """Return the (n, d) float32 corrected cells; only after the last message."""
        assert self._tables is not None
        return self._tables.cells.result()

    # What is said before there are clusters.

    def _count(self, _heard: Message) -> Answer:
        largest = float(np.abs(self._Z).max())
        return Answer(
            {
                "levels": list(self._levels),
                "sizes": self._sizes_here(),
                "n_dims": self._Z.shape[1],
                "unit": unit_above(largest),
                "words": "names of the batches and how many cells each has; number of dimensions; "
                "a power of two that all coordinates are below",
            }
        )

    def _sizes_here(self) -> list[int]:
        return np.bincount(self._codes, minlength=len(self._levels)).tolist()

    @property
    def _counted(self) -> Census:
        if self._census is None:
            raise InvalidInput("A combined message asks for sums before the cells were counted.")
        return self._census

    def _moments(self, heard: Message) -> Answer:
        self._census = census_from(heard.facts, self._plan)
        name, census = self._name, self._census
        told = census.sizes[name], census.levels[name], census.n_dims
        if told != (self._sizes_here(), list(self._levels), self._Z.shape[1]):
            raise InvalidInput(
                f"The census has other numbers of site {name!r} than it told: ask who combines."
            )
        N = census.n_cells
        first, second = start.moments(self._Z)
        return Answer(
            arrays={"first": encoded(first, N), "second": encoded(second, N)},
            words={
                "first": "sum of the directions of all cells of the site",
                "second": "sum of the products of each two components of the directions",
            },
        )

    def _lloyd(self, heard: Message) -> Answer:
        C = table_in(heard, "centroids", (None, self._counted.n_dims))
        count, sums = start.nearest_sums(self._Z, C)
        small = count < self._plan.min_mass
        count[small], sums[small] = 0, 0
        N = self._counted.n_cells
        return Answer(
            arrays={"count": encoded(count, N), "sums": encoded(sums, N)},
            words={
                "count": "how many cells are nearest to each centroid",
                "sums": "sum of the directions of the cells nearest to each centroid",
            },
        )

    # What is said of clusters.

    def _assign(self, heard: Message) -> Answer:
        K = self._counted.setting(self._plan).n_clusters
        Y = table_in(heard, "centroids", (K, self._counted.n_dims))
        self._tables = self._new_tables(Y)
        self._tables.table.replace(self._tables.cells.run(Assign(Y)))
        return self._sizes()

    def _round(self, heard: Message) -> Answer:
        tables = self._heard_sizes(heard)
        share = tables.setting.objective(tables.table)
        turn = next(tables.table.turns(tables.cells.n_blocks))
        visit(tables.cells, tables.table, tables.Y, tables.setting, turn)
        return self._sizes(share)

    def _regress(self, heard: Message) -> Answer:
        tables = self._heard_sizes(heard)
        share = tables.setting.objective(tables.table)
        O, penalties, present = tables.regression()
        mass, sums = ridge.intercept_sums(tables.level_sum(), O, penalties, present)
        small = O.sum(axis=1) < self._plan.min_mass
        mass[small], sums[small] = 0, 0
        kept = np.where(small, 0, present.sum(axis=1)).astype(np.int64)
        N, unit = self._counted.n_cells, self._counted.unit
        arrays = {"mass": encoded(mass, N), "sums": encoded(sums, N * unit), "kept": kept}
        words = {
            "mass": "weight of the site in the mean of each cluster",
            "sums": "sum of the cells of each cluster, with these weights",
            "kept": "number of batches of the site that are in each cluster",
        }
        return self._with_share(arrays, words, share)

    def _correct(self, heard: Message) -> Answer:
        tables, W = self._effects(heard)
        tables.Y = turned(tables.Y, table_in(heard, "intercept", tables.Y.shape))
        tables.table.replace(tables.cells.run(CorrectAndAssign(W, tables.Y)))
        return self._sizes()

    def _finish(self, heard: Message) -> None:
        tables, W = self._effects(heard)
        tables.cells.run(Correct(W))

    def _effects(self, heard: Message) -> tuple[Tables, np.ndarray]:
        """Return the effects of this site's batches (K, B, d), and note them."""
        tables = self._tables
        if tables is None:
            raise InvalidInput("A combined message corrects before anything was assigned.")
        intercept = table_in(heard, "intercept", tables.Y.shape)
        O, penalties, present = tables.regression()
        present = present & (_sums(heard, "kept", (len(O),)) >= 2)[:, None]
        W = ridge.level_effects(tables.level_sum(), O, penalties, present, intercept)
        tables.steps.append((tables.cells.in_force, W))
        tables.S = None
        return tables, W

    def _sizes(self, share: float | None = None) -> Answer:
        """Say how many cells are in each cluster."""
        assert self._tables is not None
        own = self._tables.table.fixed_n
        least = self._plan.min_mass * self._tables.fixed.scale
        self._tables.withheld = np.where(own < least, own, 0)
        words = {"n": "cells in each cluster (a sum of soft assignments)"}
        return self._with_share({"n": own - self._tables.withheld}, words, share)

    def _with_share(
        self, arrays: dict[str, np.ndarray], words: dict[str, str], share: float | None
    ) -> Answer:
        if share is not None:
            assert self._tables is not None
            bound = objective_bound(self._tables.setting)
            arrays["objective"] = encoded(np.array([share]), bound)
            words["objective"] = "the site's share of the objective, one number"
        return Answer(arrays=arrays, words=words)

    def _heard_sizes(self, heard: Message) -> Tables:
        tables = self._tables
        if tables is None:
            raise InvalidInput("A combined message asks for a round before anything was assigned.")
        n = _sums(heard, "n", (len(tables.Y),)) + tables.withheld
        tables.table.hold(Turn(range(0), tables.fixed.to_float(n), np.zeros((len(tables.Y), 0))))
        return tables

    # What is remembered.

    def _new_tables(self, Y: np.ndarray) -> Tables:
        census, plan = self._counted, self._plan
        whole = census.setting(plan)
        before = plan.sites[: plan.sites.index(self._name)]
        first = sum(len(census.sizes[s]) for s in before)
        own = slice(first, first + len(self._levels))
        fixed = whole.ridge_lambda
        setting = replace(
            whole,
            theta=whole.theta[own],
            ridge_lambda=None if fixed is None else fixed[own],
            level_size=whole.level_size[own],
            level_share=whole.level_share[own],
            covariates=(slice(0, len(self._levels)),),
        )
        place = sum(sum(census.sizes[s]) for s in before) + np.arange(len(self._Z))
        n_blocks = blocks.number_of_blocks(plan.params.block_proportion, census.n_cells)
        block = blocks.block_of_cells(place, n_blocks, block_seed(plan))
        cells = SiteCells(self._Z, self._codes, block, n_blocks, setting, workers=self._workers)
        return Tables(cells, setting, Y, n_blocks)

    def remember(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Return what the site needs to go on: facts and arrays that are not to leave it."""
        facts = {"census": self._census._asdict() if self._census else None}
        return facts, {} if self._tables is None else self._tables.packed()

    def restore(self, facts: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from what :meth:`remember` returned."""
        if facts["census"] is not None:
            self._census = Census(**facts["census"])
        if arrays:
            self._tables = self._new_tables(arrays["Y"])
            self._tables.unpack(arrays)


def block_seed(plan: Plan) -> int:
    """Return the seed of the blocks: the first number of the run's generator, as in other runs."""
    return int(np.random.default_rng(plan.params.rng).integers(2**63))


def census_from(facts: Mapping[str, Any], plan: Plan) -> Census:
    """Return the census of a combined message, checked."""
    try:
        found = Census(**facts["census"])
        good = set(found.sizes) == set(found.levels) == set(plan.sites)
        good = good and all(len(found.sizes[s]) == len(found.levels[s]) for s in plan.sites)
        good = good and all(
            type(n) is int and 0 < n < 2**48 for s in plan.sites for n in found.sizes[s]
        )
        good = good and type(found.n_dims) is int and found.n_dims > 0 and 0 < found.unit < 2.0**200
    except (KeyError, TypeError):
        good = False
    if not good:
        raise InvalidInput("The combined message of the census lacks numbers, or has odd ones.")
    return found


def _sums(heard: Message, name: str, shape: tuple[int, ...]) -> np.ndarray:
    found = heard.arrays.get(name)
    if found is None or found.shape != shape or found.dtype != np.int64:
        raise InvalidInput(f"Combined message {heard.step} has no sums {name!r} of shape {shape}.")
    return found


def table_in(heard: Message, name: str, shape: tuple[int | None, ...]) -> np.ndarray:
    """Return a table of a combined message; `None` in the shape is any length.

    Raises
    ------
    InvalidInput
        It is absent, has another shape or type, or is not finite.
    """
    found = heard.arrays.get(name)
    if (
        found is None
        or found.dtype != np.float64
        or found.ndim != len(shape)
        or any(w not in (None, h) for w, h in zip(shape, found.shape, strict=True))
    ):
        raise InvalidInput(f"Combined message {heard.step} has no table {name!r} of shape {shape}.")
    if not np.isfinite(found).all():
        raise InvalidInput(f"Combined message {heard.step}: {name} is not finite.")
    return found
