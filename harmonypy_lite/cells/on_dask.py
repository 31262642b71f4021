"""The cells on the workers of a Dask cluster.

Each worker holds one shard: a stretch of whole chunks of each block. The cells are dealt out once;
then each pass is one call to all workers, and sums in fixed point come back, which add up to the
same bytes for any number of shards. Passes do not go through Dask's scheduler: a shard changes,
which tasks may not. A worker that is lost takes its shard along; then all shards are dealt out
again and brought to where they were by the tables of the run, and the pass is repeated.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from harmonypy_lite.cells.by_chunk import ChunkwiseCells
from harmonypy_lite.cells.chunk import InForce, added
from harmonypy_lite.cells.counted import Counted
from harmonypy_lite.cells.in_memory import Span
from harmonypy_lite.method.passes import (
    Assign,
    Correct,
    CorrectAndAssign,
    Reassign,
    SumExcluded,
    SumMoments,
)
from harmonypy_lite.threads import Workers

log = logging.getLogger("harmonypy_lite")

#: Shards of this process, by run and worker: with workers that are threads there are several.
_SHARDS: dict[tuple[str, str], Shard] = {}
_ATTEMPTS = 5


class Terms(NamedTuple):
    """What every shard is made from, beside its cells."""

    counts: np.ndarray  # (n_blocks, Q) cells of each block and combination of levels
    combinations: np.ndarray  # (Q, C)
    n_dims: int
    n_levels: int
    sigma: np.ndarray  # (K,)
    directions: bool
    steep: bool
    unit: float


class LostShard(OSError):
    """A worker does not have the shard that it should have: it was started anew."""


def cuts_of(arrangement: Counted, n_shards: int) -> np.ndarray:
    """Return the (n_blocks, n_shards + 1) bounds of the shards in each block, in chunks."""
    first, last = arrangement.block_chunks[:-1, None], arrangement.block_chunks[1:, None]
    return first + (last - first) * np.arange(n_shards + 1) // n_shards


class Shard(ChunkwiseCells):
    """The cells of one worker; answers with sums that are still to be added to others'.

    Parameters
    ----------
    terms
        What all shards have in common.
    number, n_shards
        Which of them this one is.
    pieces
        Pairs of held rows (n,) and cells (n, d) float32, of all the rows that are here.
    workers
        Threads.
    """

    def __init__(
        self,
        terms: Terms,
        number: int,
        n_shards: int,
        pieces: Sequence[tuple[np.ndarray, np.ndarray]],
        workers: Workers,
    ) -> None:
        arrangement = Counted(terms.counts, terms.combinations)
        self._own = cuts_of(arrangement, n_shards)[:, number : number + 2]
        super().__init__(
            arrangement,
            terms.n_dims,
            terms.n_levels,
            terms.sigma,
            directions=terms.directions,
            steep=terms.steep,
            workers=workers,
        )
        self._unit = terms.unit
        bounds = arrangement.chunk_start[self._own]
        self._start = bounds[:, 0]
        sizes = bounds[:, 1] - bounds[:, 0]
        self._place = np.cumsum(sizes) - sizes  # where the cells of each block begin here
        self._as_read = np.empty((int(sizes.sum()), terms.n_dims), np.float32)
        n = 0
        for held, rows in pieces:
            block = np.searchsorted(bounds[:, 1], held, "right")
            self._as_read[held - self._start[block] + self._place[block]] = rows
            n += len(rows)
        if n != len(self._as_read):
            raise RuntimeError(f"A shard got {n} of {len(self._as_read)} cells; please report it.")
        self._as_read *= np.float32(1.0 / self._unit)
        self._cells = self._as_read.copy()

    def take_up(self, steps: Sequence[tuple[list[InForce], Any]], in_force: list[InForce]) -> None:
        """Bring cells as they were read to where they were after these corrections."""
        kept = [(each, self._for_kernels(W)) for each, W in steps]
        self._cells[:] = self._as_read
        if kept:
            self._take_steps(kept)
        self.restore(in_force)

    # Cells: rows of this shard.

    def _local(self, span: Span) -> slice:
        rows, shift = self._rows(span), int(self._place[span.block] - self._start[span.block])
        return slice(rows.start + shift, rows.stop + shift)

    def _z(self, chunk: Span) -> np.ndarray:
        return self._as_read[self._local(chunk)]

    def _z_hat(self, piece: Span) -> np.ndarray:
        return self._cells[self._local(piece)]

    def _store(self, chunk: Span, z_hat: np.ndarray) -> None:
        self._cells[self._local(chunk)] = z_hat

    def _split_block(self, block: int) -> list[Span]:
        first, last = (int(cut) for cut in self._own[block])
        parts = max(1, min(self._workers.count, last - first))
        cuts = [first + (last - first) * i // parts for i in range(parts + 1)]
        return [Span(block, a, b) for a, b in itertools.pairwise(cuts)]

    # Sums, as they are.

    def _join(self, block: int, parts: Any) -> Any:
        return added(parts)

    def _moments(self, M: np.ndarray, G: np.ndarray) -> Any:
        return M, G

    def _excluded(self, sums: np.ndarray) -> np.ndarray:
        return sums

    def _direction(self, sums: np.ndarray) -> np.ndarray:
        return sums


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
            terms.n_dims,
            terms.n_levels,
            terms.sigma,
            directions=terms.directions,
            steep=terms.steep,
            workers=Workers(1),
        )
        self._unit = terms.unit
        self._client, self._terms, self._deal = client, terms, deal
        self._key = uuid.uuid4().hex
        self._addresses: list[str] = []
        self._steps: list[tuple[list[InForce], np.ndarray]] = []
        self._again(self._deal_out)

    def run(self, task: Any, block: int | None = None) -> Any:
        """Carry out a pass over all cells, or over one block, on all workers."""
        answers = self._again(lambda: self._ask(_answer, task, block))
        if isinstance(task, Correct | CorrectAndAssign):
            self._steps.append((self.in_force, task.W))
        if isinstance(task, Assign | CorrectAndAssign):
            self._put_in_force(task.Y)
            return [self._join(b, list(sums)) for b, sums in enumerate(zip(*answers, strict=True))]
        if isinstance(task, Reassign):
            assert block is not None
            self._in_force[block] = self._work.in_force(task.Y, task.P)
            return self._join(block, answers)
        if isinstance(task, SumMoments):
            M, G = (np.sum(each, axis=0) for each in zip(*answers, strict=True))
            return self._moments(M, G)
        if isinstance(task, SumExcluded):
            return self._excluded(np.sum(answers, axis=0))
        return self._direction(np.sum(answers, axis=0)) if self._directions else None

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
            self._ask(_take_up, self._steps, self._in_force)

    def _bounds(self, n_shards: int) -> np.ndarray:
        return self._counted.chunk_start[cuts_of(self._counted, n_shards)]


def owner_of(held: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Return the shard of each held row, for the (n_blocks, n_shards + 1) bounds of the shards."""
    starts = bounds[:, :-1].ravel()
    ends = bounds[:, 1:].ravel()
    used = np.flatnonzero(ends > starts)  # shards without cells in a block start where others do
    return used[np.searchsorted(starts[used], held, "right") - 1] % (bounds.shape[1] - 1)


def _pick(pieces: list[Any], number: int) -> Any:
    return pieces[number]


def _build(
    key: str, terms: Terms, number: int, n_shards: int, n_threads: int, pieces: list[Any]
) -> None:
    from distributed import get_worker

    shard = Shard(terms, number, n_shards, pieces, Workers(n_threads))
    _SHARDS[key, get_worker().address] = shard


async def _answer(key: str, task: Any, block: int | None, dask_worker: Any) -> Any:
    """Let a shard do a pass, on a thread: the worker must go on answering the scheduler."""
    shard = _found(key, dask_worker)
    arguments = (task,) if block is None else (task, block)
    return await asyncio.to_thread(shard.run, *arguments)


async def _take_up(key: str, steps: Any, in_force: Any, dask_worker: Any) -> None:
    await asyncio.to_thread(_found(key, dask_worker).take_up, steps, in_force)


def _forget(key: str, dask_worker: Any) -> None:
    shard = _SHARDS.pop((key, dask_worker.address), None)
    if shard is not None:
        shard.close()


def _found(key: str, worker: Any) -> Shard:
    try:
        return _SHARDS[key, worker.address]
    except KeyError:
        raise LostShard(f"{worker.address} was started anew") from None
