"""The cells on the workers of a Dask cluster.

Each worker holds one shard. The cells are dealt out once; then each pass is one call to all
workers, and sums in fixed point come back, which add up to the same bytes for any number of shards.
With ``sync="batch"`` shards are whole levels, and one call to all workers visits all blocks of a
turn. Passes do not go through Dask's scheduler: a shard changes,
which tasks may not. A worker that is lost takes its shard along; then all shards are dealt out
again and brought to where they were by the tables of the run, and the pass is repeated.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from harmonypy_lite.cells.by_chunk import ChunkwiseCells
from harmonypy_lite.cells.chunk import InForce
from harmonypy_lite.cells.counted import Counted
from harmonypy_lite.cells.moments import Tables
from harmonypy_lite.cells.shards import LevelShard, Shard, Terms, shards_of
from harmonypy_lite.method.passes import (
    Assign,
    Assigned,
    Correct,
    CorrectAndAssign,
    Reassign,
    SumExcluded,
    SumMoments,
    Turn,
)
from harmonypy_lite.threads import Workers

log = logging.getLogger("harmonypy_lite")

#: Shards of this process, by run and worker: with workers that are threads there are several.
_SHARDS: dict[tuple[str, str], Shard] = {}
_ATTEMPTS = 5


class LostShard(OSError):
    """A worker does not have the shard that it should have: it was started anew."""


class DaskCells(ChunkwiseCells):
    """Asks all shards, and makes answers of their sums.

    Parameters
    ----------
    client
        A client of dask.distributed.
    terms
        What the shards are made from.
    deal
        Function of bounds (see :func:`owner_of`) that gives, for each partition of the input, a
        future of its pieces, one for each shard.
    """

    def __init__(self, client: Any, terms: Terms, deal: Callable[[np.ndarray], list[Any]]) -> None:
        self._counted = Counted(terms.counts, terms.combinations)
        super().__init__(
            self._counted,
            (self._counted.n_cells, terms.n_dims),
            terms.n_levels,
            terms.sigma,
            directions=terms.directions,
            form=terms.form,
            workers=Workers(1),
        )
        self._unit = terms.unit
        self._client, self._terms, self._deal = client, terms, deal
        self._key = uuid.uuid4().hex
        self._addresses: list[str] = []
        self._known: dict[int, Assigned] = {}  # what each block put into O
        self._ahead: dict[int, Any] = {}  # answers of the blocks that workers visited ahead
        self._steps: list[tuple[list[InForce], np.ndarray]] = []
        self._again(self._deal_out)

    def run(self, task: Any, block: int | None = None) -> Any:
        """Carry out a pass over all cells, or over one block, on all workers."""
        if isinstance(task, Reassign):
            assert block is not None
            return self._reassign(task, block)
        answers = self._again(lambda: self._ask(_answer, task, block))
        if isinstance(task, Correct | CorrectAndAssign):
            self._steps.append((self.in_force, task.W))
        if isinstance(task, Assign | CorrectAndAssign):
            self._put_in_force(task.Y)
            parts = enumerate(zip(*answers, strict=True))
            self._known = {b: self._join(b, list(sums)) for b, sums in parts}
            return list(self._known.values())
        if isinstance(task, SumMoments):
            M, G, squares = zip(*answers, strict=True)
            self._tables = tables = self._tables or self._new_tables()
            tables.fill([partial(_add, *more) for more in zip(M, G, strict=True)])
            return self._moments(tables, np.sum(squares, axis=0))
        if isinstance(task, SumExcluded):
            return self._excluded(np.sum(answers, axis=0))
        return self._direction(np.sum(answers, axis=0)) if self._directions else None

    def _reassign(self, task: Reassign, block: int) -> Assigned:
        if self._terms.setting is None or task.turn is None:
            answers = self._again(lambda: self._ask(_answer, task, block))
        else:
            if block not in self._ahead:
                found = self._again(lambda: self._ask(_take_turn, task.Y, task.turn))
                parts = zip(*found, strict=True)
                self._ahead = dict(zip(task.turn.blocks, parts, strict=True))
            answers = self._ahead.pop(block)
        self._in_force[block] = self._work.in_force(task.Y, task.P)
        self._known[block] = self._join(block, list(answers))
        return self._known[block]

    def close(self) -> None:
        """Let the workers forget their shards."""
        try:
            self._ask(_forget)
        except (OSError, TimeoutError) as error:
            log.info("a worker was gone before it was told to forget its shard: %s", error)
        super().close()

    def _again(self, work: Callable[[], Any]) -> Any:
        """Do `work`; if a worker is lost meanwhile, deal the cells out to the others and repeat."""
        for attempt in range(_ATTEMPTS):
            try:
                if attempt:
                    self._deal_out()
                return work()
            except (OSError, TimeoutError) as error:
                log.warning("a worker was lost (%s); its cells are dealt out again", error)
                last = error
        raise RuntimeError(
            f"Workers of the cluster were lost {_ATTEMPTS} times in a row ({last}): give them more "
            "memory, or use fewer."
        ) from last

    def _ask(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        there = self._client.scheduler_info(n_workers=-1)["workers"]
        gone = [address for address in self._addresses if address not in there]
        if gone:
            raise LostShard(f"{', '.join(gone)} left the cluster")
        found = self._client.run(function, self._key, *arguments, workers=self._addresses)
        return [found[address] for address in self._addresses]

    def _deal_out(self) -> None:
        """Give each worker its shard, as it would be after what was done so far."""
        self._client.wait_for_workers(1, timeout=60)
        there = self._client.scheduler_info(n_workers=-1)["workers"]
        self._addresses = sorted(there)
        n = len(self._addresses)
        pieces = self._deal(self._bounds(n))
        shards = []
        for s, address in enumerate(self._addresses):
            own = [self._client.submit(_pick, each, s, pure=False) for each in pieces]
            threads = there[address]["nthreads"]
            shards.append(
                self._client.submit(
                    _build, self._key, self._terms, s, n, threads, own, workers=address, pure=False
                )
            )
        from distributed import wait

        wait(pieces + shards)  # a future that failed raises its own error below
        self._client.gather(shards)
        if self._in_force:
            self._ask(_take_up, self._steps, self._in_force, list(self._known.values()))

    def _bounds(self, n_shards: int) -> np.ndarray:
        arrangement, cuts = shards_of(self._terms, n_shards)
        return arrangement.chunk_start[cuts]


def _pick(pieces: list[Any], number: int) -> Any:
    return pieces[number]


def _build(
    key: str, terms: Terms, number: int, n_shards: int, n_threads: int, pieces: list[Any]
) -> None:
    from distributed import get_worker

    kind = Shard if terms.setting is None else LevelShard
    shard = kind(terms, number, n_shards, pieces, Workers(n_threads))
    _SHARDS[key, get_worker().address] = shard


async def _answer(key: str, task: Any, block: int | None, dask_worker: Any) -> Any:
    """Let a shard do a pass, on a thread: the worker must go on answering the scheduler."""
    shard = _found(key, dask_worker)
    arguments = (task,) if block is None else (task, block)
    return await asyncio.to_thread(shard.run, *arguments)


async def _take_turn(key: str, Y: np.ndarray, turn: Turn, dask_worker: Any) -> Any:
    shard = _found(key, dask_worker)
    assert isinstance(shard, LevelShard)
    return await asyncio.to_thread(shard.take_turn, Y, turn)


async def _take_up(key: str, steps: Any, in_force: Any, known: Any, dask_worker: Any) -> None:
    await asyncio.to_thread(_found(key, dask_worker).take_up, steps, in_force, known)


def _forget(key: str, dask_worker: Any) -> None:
    shard = _SHARDS.pop((key, dask_worker.address), None)
    if shard is not None:
        shard.close()


def _found(key: str, worker: Any) -> Shard:
    try:
        return _SHARDS[key, worker.address]
    except KeyError:
        raise LostShard(f"{worker.address} was started anew") from None


def _add(M: np.ndarray, G: np.ndarray, tables: Tables) -> None:
    """Add sums of one shard."""
    tables.M[:] += M
    tables.G[:] += G
