"""The integration of opened files, held in memory or on disk as the memory allows."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harmonypy_lite.budget import Choice, Load, choose
from harmonypy_lite.cells.arrangement import combine
from harmonypy_lite.cells.row_file import RowFile
from harmonypy_lite.design import Design, design_from_parts
from harmonypy_lite.embedding import check_shape
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files import appending
from harmonypy_lite.files.inputs import Inputs, Stacked
from harmonypy_lite.method.form import Form, affinity_bytes
from harmonypy_lite.method.rules import RULES, setting_for
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import Progress, Replay, plain_parameters, versions
from harmonypy_lite.scratch import folder_of, scratch_folder
from harmonypy_lite.threads import worker_count

_APPENDING = "appending.json"


@dataclass(frozen=True)
class Request:
    """What is to be integrated, and how; checked already.

    Attributes
    ----------
    paths
        The files, links resolved.
    before
        What tells whether a file was changed, for each.
    keys, basis, params, missing
        As in :func:`harmonypy_lite.integrate_file`.
    memory, scratch, resume
        Likewise; `scratch` is a folder.
    space
        Bytes that the output takes in the file system of `scratch`.
    progress
        Called after each round.
    record
        Whether to keep the tables of every iteration.
    """

    paths: tuple[Path, ...]
    before: list[tuple[int, ...]]
    keys: list[str]
    basis: str
    params: HarmonyParams
    missing: str
    memory: str | int | None
    scratch: Path
    resume: bool
    space: int = 0
    progress: Callable[[Progress], None] | None = None
    record: bool = False


@dataclass(frozen=True)
class Done:
    """Corrected cells, in batches, while the context that made them is open.

    Attributes
    ----------
    summary
        What was done, as in `Integration`.
    choice
        How the cells were held.
    resumed
        Whether a killed run was taken up.
    folder
        Where the scratch files are, if there are any.
    design, replay
        As in `Integration`.
    """

    batches: Iterator[np.ndarray]
    summary: dict[str, Any]
    choice: Choice
    resumed: bool = False
    folder: Path | None = None
    design: Design | None = None
    replay: Replay | None = None


def load_of(embedding: Any, request: Request, levels: Design | None = None) -> Load:
    """Return the sizes that decide how the cells are held.

    While levels are not known: tables of a few are small beside the cells.
    """
    check_shape(embedding.shape)
    n, d = (int(size) for size in embedding.shape)
    threads, item = worker_count(request.params.n_jobs), np.dtype(embedding.dtype).itemsize
    K, C = request.params.clusters_for(n), len(request.keys)
    n_levels, n_combinations = 2 * C, 0
    kept = affinity_bytes(RULES[request.params.flavor], request.params, n, C)
    if levels is not None and levels.covariates:
        n_levels = levels.n_levels
        kept = 2 if setting_for(request.params, levels).form is Form.HALF else 4
        if len(levels.covariates) > 1:
            n_combinations = len(combine(np.asarray(levels.codes[0:n]))[1])
    return Load(n, d, K, n_levels, C, threads, item, kept, n_combinations)


@contextlib.contextmanager
def executed(inputs: Inputs, request: Request, close: Callable[[], None]) -> Iterator[Done]:
    """Integrate; `close` is called when the input has been read to its end."""
    embedding = inputs.embedding(request.basis)
    asked = request.memory
    if asked is None and request.params.memory != "fast":
        asked = request.params.memory
    choice = choose(load_of(embedding, request), asked)
    if request.resume:
        choice = replace(choice, mode="scratch")
    if choice.mode != "scratch":
        yield _in_memory(inputs, embedding, request, asked, close)
        return
    with _on_disk(inputs, embedding, request, choice, close) as done:
        yield done


def _in_memory(
    inputs: Inputs, embedding: Stacked, request: Request, asked: Any, close: Callable[[], None]
) -> Done:
    from harmonypy_lite.run import integrate_embedding

    codes = np.empty((inputs.n_cells, len(request.keys)), np.int32)
    design = design_of(inputs, request, codes)
    design = replace(design, codes=design.codes[0 : inputs.n_cells])
    choice = choose(load_of(embedding, request, design), asked, may_stream=False)
    Z = embedding[0 : inputs.n_cells]
    close()
    params = replace(request.params, memory=choice.mode)
    done = integrate_embedding(Z, design, params, record=request.record, progress=request.progress)
    # how the cells were held is no property of the result
    done.summary["parameters"]["memory"] = request.params.memory
    return Done(iter([done.embedding]), done.summary, choice, design=design, replay=done.replay)


def design_of(inputs: Inputs, request: Request, codes: Any) -> Design:
    """Return the design of the cells, whose codes are kept in the store `codes` (N, C)."""
    parts = inputs.obs_parts(request.keys)
    return design_from_parts(parts, request.keys, codes, missing=request.missing)


@contextlib.contextmanager
def _on_disk(
    inputs: Inputs,
    embedding: Stacked,
    request: Request,
    choice: Choice,
    close: Callable[[], None],
) -> Iterator[Done]:
    from harmonypy_lite.stream import integrate_stream

    load, n_keys = load_of(embedding, request), len(request.keys)
    needed = load.disk("scratch") + request.space
    with contextlib.ExitStack() as stack:
        identity = _identity(request)
        folder = stack.enter_context(
            scratch_folder(request.scratch, identity, needed, resume=request.resume)
        )
        codes = RowFile(folder.path / "codes.i32", inputs.n_cells, n_keys, np.int32)
        stack.callback(codes.close)
        design = design_of(inputs, request, codes)
        run = integrate_stream(
            embedding,
            design,
            request.params,
            folder.path,
            journal=True,
            record=request.record,
            progress=request.progress,
        )
        done = stack.enter_context(run)
        close()
        needed = replace(load, n_levels=design.n_levels).memory("scratch")
        choice = replace(choice, needed=needed)
        yield Done(
            done.batches,
            done.summary,
            choice,
            folder.resumed,
            folder.path,
            design=design,
            replay=done.replay,
        )


def _named(request: Request) -> dict[str, Any]:
    """Return what the folder of scratch files is named after."""
    paths = [str(path) for path in request.paths]
    return {"paths": paths, "keys": request.keys, "basis": request.basis}


def _identity(request: Request) -> dict[str, Any]:
    """Return what must be the same for a killed run to be resumed."""
    if isinstance(request.params.rng, np.random.Generator) and request.resume:
        raise InvalidInput("A run with a random generator cannot be resumed: give a seed as rng.")
    parameters = plain_parameters(request.params)
    for without_effect in ("n_jobs", "memory"):
        del parameters[without_effect]
    return {
        **_named(request),
        "input files (or they were changed since)": request.before,
        "parameters": parameters,
        "missing values": request.missing,
        "versions": versions(),
    }


def note_appending(folder: Path | None, path: Path) -> None:
    """Note among the scratch files what a file was before it is appended to.

    Were the process killed meanwhile, the file would look like one that has changed.
    """
    if folder is not None and path.is_file():
        made = folder / (_APPENDING + ".new")
        made.write_text(json.dumps({"path": str(path), **appending.note(path)}))
        os.replace(made, folder / _APPENDING)


def take_back(request: Request) -> None:
    """If a killed run is resumed, make the file that it was appending to what it was."""
    with contextlib.suppress(OSError, ValueError):
        folder = folder_of(request.scratch, _named(request))
        noted = json.loads((folder / _APPENDING).read_text())
        if request.resume:
            appending.take_back(Path(noted["path"]), noted)


def segments(batches: Iterator[np.ndarray], sizes: list[int]) -> Iterator[Iterator[np.ndarray]]:
    """Cut rows that come in batches into stretches of given sizes, to be used one after another.

    Examples
    --------
    >>> batches = iter([np.arange(4), np.arange(4, 6)])
    >>> [np.concatenate(list(each)).tolist() for each in segments(batches, [3, 3])]
    [[0, 1, 2], [3, 4, 5]]
    """
    rest = iter(batches)

    def take(size: int) -> Iterator[np.ndarray]:
        nonlocal rest
        while size > 0:
            batch = next(rest)
            if len(batch) > size:
                rest = itertools.chain([batch[size:]], rest)
                batch = batch[:size]
            size -= len(batch)
            yield batch

    return (take(size) for size in sizes)
