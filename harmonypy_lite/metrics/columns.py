"""The columns of obs that are scored: read once, and refused where they cannot be meant."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.lookup import check_columns, key_list
from harmonypy_lite.metrics.inputs import Categories, as_categories


class Columns(NamedTuple):
    """The batch columns, the labels of those cells that have one, and which cells have."""

    batches: dict[str, Categories]
    labels: Categories | None  # of the labelled cells only
    labelled: NDArray[np.bool_]  # (N,)

    def only(self, cells: NDArray[np.int64]) -> Columns:
        """Return the columns of some cells, ascending."""
        batches = {key: column.only(cells) for key, column in self.batches.items()}
        labelled = self.labelled[cells]
        if self.labels is None or not labelled.any():
            return Columns(batches, None, np.zeros(len(cells), np.bool_))
        place = np.cumsum(self.labelled) - 1  # of each cell among those with a label
        return Columns(batches, self.labels.only(place[cells[labelled]]), labelled)

    def strata(self) -> list[NDArray[np.int32]]:
        """Return the codes of all columns; cells without a label are a stratum of their own."""
        codes = [column.codes for column in self.batches.values()]
        if self.labels is None:
            return codes
        label = np.full(len(self.labelled), -1, np.int32)
        label[self.labelled] = self.labels.codes
        return [*codes, label]


def read_columns(obs: Any, batch_key: str | Sequence[str], label_key: str | None) -> Columns:
    """Read the columns of a data frame, or of what anndata reads lazily.

    Raises
    ------
    InvalidInput
        Columns that are not there, missing batches, one batch only, a column with a level for every
        other cell, or one column as both batch and label.
    """
    import pandas as pd

    keys = key_list(batch_key, name="batch_key")
    _refuse_same_column(keys, label_key)
    check_columns(keys, obs.columns)
    if label_key is not None:
        check_columns(key_list([label_key], name="label_key"), obs.columns)
    table = obs[[*keys, *([] if label_key is None else [label_key])]]
    if hasattr(table, "to_memory"):  # of read_lazy: some columns are small
        table = table.to_memory()
    batches = {key: as_categories(table[key], len(table), f"obs[{key!r}]") for key in keys}
    for key, column in batches.items():
        _refuse_one_batch(key, column)
        _refuse_barcodes(column)
    if label_key is None:
        return Columns(batches, None, np.zeros(len(table), np.bool_))
    labelled = pd.notna(table[label_key]).to_numpy()
    if not labelled.any():
        raise InvalidInput(f"obs[{label_key!r}] is missing for every cell; leave label_key out.")
    known = table[label_key][labelled]
    labels = as_categories(known, int(labelled.sum()), f"obs[{label_key!r}]")
    _refuse_barcodes(labels)
    return Columns(batches, labels, labelled)


def _refuse_same_column(keys: Sequence[str], label_key: str | None) -> None:
    if label_key in keys:
        raise InvalidInput(
            f"{label_key!r} is both a batch column and the label: batches should mix and labels "
            "stay apart, so one column cannot be scored as both. Give the column of cell types as "
            "label_key, or leave it out."
        )


def _refuse_one_batch(key: str, column: Categories) -> None:
    if column.n == 1:
        raise InvalidInput(
            f"obs[{key!r}] has only one level ({column.names[0]}): how well batches mix cannot be "
            "scored with one batch. Give a column that tells batches apart."
        )


def _refuse_barcodes(column: Categories) -> None:
    n_cells = len(column.codes)
    if column.n > max(2, n_cells // 2):
        raise InvalidInput(
            f"{column.what} has {column.n} levels for {n_cells} cells; a column of batches or "
            "labels has few. Was a column of barcodes meant to be the index?"
        )
