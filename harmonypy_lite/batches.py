"""What a user may call the batch of the cells, as one column per covariate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.design import Design
from harmonypy_lite.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd


def batch_columns(batch: Any) -> pd.DataFrame:
    """Return one column per covariate from what a user may call the batch of the cells.

    Examples
    --------
    >>> batch_columns(["a", "b", "a"]).columns.tolist()
    ['batch']
    >>> batch_columns(np.array([["a", "v2"], ["b", "v3"]])).columns.tolist()
    ['batch1', 'batch2']
    """
    import pandas as pd

    if batch is None:
        raise InvalidInput(
            "Harmony requires y to be passed, but the target y is None: give the batch of each "
            "cell as the second argument, fit(X, batch), or as y of a Pipeline."
        )
    if isinstance(batch, pd.DataFrame):
        if all(isinstance(name, str) for name in batch.columns):
            return batch
        return batch.set_axis([str(name) for name in batch.columns], axis=1)
    if isinstance(batch, pd.Series):
        return batch.to_frame("batch" if batch.name is None else str(batch.name))
    if hasattr(batch, "__array__") and not hasattr(batch, "ndim"):
        batch = np.asarray(batch)
    if isinstance(batch, str | bytes | Mapping) or not hasattr(batch, "__len__"):
        raise InvalidInput(f"batch={batch!r}: give one value per cell, such as obs['donor'].")
    if not hasattr(batch, "ndim"):
        batch = list(batch)
        nested = bool(batch) and isinstance(batch[0], list | tuple | np.ndarray)
        frame = pd.DataFrame(batch) if nested else pd.Series(batch).to_frame()
    elif batch.ndim in (1, 2):
        frame = pd.DataFrame(batch) if batch.ndim == 2 else pd.Series(batch).to_frame()
    else:
        raise InvalidInput(
            f"The batch has {batch.ndim} dimensions: give one column, or one for each covariate."
        )
    several = frame.shape[1] > 1
    names = [f"batch{i + 1}" if several else "batch" for i in range(frame.shape[1])]
    return frame.set_axis(names, axis=1)


def columns_like(batch: Any, names: Sequence[str]) -> pd.DataFrame:
    """Return the batch columns of other cells, under the names that the run's had.

    Examples
    --------
    >>> columns_like(["a", "b"], ["donor"]).columns.tolist()
    ['donor']
    """
    frame = batch_columns(batch)
    if list(frame.columns) == list(names):
        return frame
    if set(names) <= set(frame.columns):
        return frame[list(names)]
    if frame.shape[1] != len(names):
        raise InvalidInput(
            f"The batch has {frame.shape[1]} column(s) ({', '.join(frame.columns)}), the fit "
            f"had {len(names)} ({', '.join(names)}): give the same ones."
        )
    return frame.set_axis(list(names), axis=1)


def check_rows(Z: np.ndarray, design: Design) -> None:
    """Refuse cells (n, d) and levels of different numbers of cells."""
    if design.n_cells != len(Z):
        raise InvalidInput(
            f"X has {len(Z)} rows and the batch {design.n_cells}: one row per cell is needed in "
            "both."
        )
