"""Results into files: into copies that take their place at once, or behind the end of a file."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harmonypy_lite.execution import Done, note_appending, segments
from harmonypy_lite.files import output
from harmonypy_lite.files.appending import NotAppendable
from harmonypy_lite.files.damage import reading
from harmonypy_lite.files.elements import Rows
from harmonypy_lite.files.inputs import Inputs
from harmonypy_lite.files.stores import CellStore, NewParts
from harmonypy_lite.record import uns_record

log = logging.getLogger("harmonypy_lite")


def settled(target: output.Target, store: CellStore, promised: NewParts) -> output.Target:
    """Decide for a result in place whether it is added to the file, or to a copy that replaces it.

    A copy costs the size of the file, but works for every layout.
    """
    if target.path != target.source:
        return target
    record = {"text": "x", "texts": np.array(["x"], object), "number": 1, "deep": {"number": 1}}
    small = NewParts(
        {name: np.zeros((2, 2), np.float32) for name in promised.obsm},
        {name: np.zeros((2, 2), np.float32) for name in promised.varm},
        {name: record for name in promised.uns},
    )
    try:
        with reading(store.path, "one of its groups"):
            store.append(target.source, small, rehearse=True)
    except NotAppendable as error:
        log.info("%s is copied and replaced, not added to: %s", target.shown, error)
        return target
    return replace(target, appends=True)


def write_results(
    targets: Sequence[output.Target],
    inputs: Inputs,
    done: Done,
    made: NewParts,
    *,
    adjusted_basis: str,
    basis: str,
) -> None:
    """Write the corrected cells, and what else was made, to the file of each input."""
    record = uns_record(done.summary, basis=basis, adjusted_basis=adjusted_basis)
    d = int(done.summary["n_dims"])
    sizes = [store.n_cells for store in inputs.stores]
    stretches = segments(done.batches, sizes)
    # all copies are complete before the first takes its place
    with contextlib.ExitStack() as stack:
        for target, store, rows in zip(targets, inputs.stores, stretches, strict=True):
            result = Rows((store.n_cells, d), np.dtype(np.float32), rows)
            obsm = {**made.obsm, adjusted_basis: result}
            parts = NewParts(obsm, made.varm, {**made.uns, "harmony": record})
            copy = None if target.appends else stack.enter_context(output.replacing(target))
            with reading(store.path, "one of its groups"):
                if copy is None:
                    note_appending(done.folder, target.source)
                    store.append(target.source, parts)
                else:
                    store.write(copy, parts)
    for target in targets:
        log.info("wrote %s", target.path)
