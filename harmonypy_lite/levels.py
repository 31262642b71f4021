"""The levels of a column that is seen part by part, and codes that stay where they are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd

#: Name of the level that missing values form when the user asks for it.
MISSING_LEVEL = "(missing)"

#: Rows of stored codes that are read together.
_TOGETHER = 2**18


def numbered(column: pd.Series) -> tuple[bool, np.ndarray, pd.Index]:
    """Return whether a column is categorical, (n,) numbers of its values, -1 if missing, and these.

    Examples
    --------
    >>> import pandas as pd
    >>> numbered(pd.Series(["b", "a", None, "b"], dtype=object))[1].tolist()
    [0, 1, -1, 0]
    """
    import pandas as pd

    if isinstance(column.dtype, pd.CategoricalDtype):
        return True, column.cat.codes.to_numpy(), column.cat.categories
    if column.dtype == object and pd.api.types.infer_dtype(column, skipna=True) != "string":
        # Sorting values of mixed types fails; their text sorts.
        column = column.astype(str).where(column.notna())
    number, values = pd.factorize(column)
    return False, number, pd.Index(values)


class ColumnLevels:
    """Numbers the values of one column as they come, and the levels in their order at the end.

    Parameters
    ----------
    name
        The column's name.
    missing
        `"refuse"` missing values, or take them as a `"level"` of their own.

    Examples
    --------
    >>> import pandas as pd
    >>> levels = ColumnLevels("donor", "refuse")
    >>> levels.see(pd.Series(["b", "a"])).tolist(), levels.see(pd.Series(["c", "a"])).tolist()
    ([0, 1], [2, 1])
    >>> numbers, names = levels.finish()
    >>> names, numbers[:3].tolist()
    (('a', 'b', 'c'), [1, 0, 2])
    """

    def __init__(self, name: str, missing: str) -> None:
        self.name = name
        self._missing = missing
        self._values: Any = None  # pandas.Index of all values so far, in order of appearance
        self._categorical = False
        self._count = np.zeros(0, np.int64)
        self._n_cells = self._n_missing = 0

    @property
    def seen(self) -> Sequence[str]:
        """The values so far, at most as many as there are cells."""
        return [] if self._categorical or self._values is None else self._values

    def see(self, column: pd.Series) -> np.ndarray:
        """Return (n,) int32 numbers of the values of the next cells; -1 where one is missing."""
        self._categorical, raw, values = numbered(column)
        codes = np.append(self._places(values), -1).astype(np.int32)[raw]
        self._n_cells += len(column)
        self._n_missing += int((raw < 0).sum())
        self._count += np.bincount(codes[codes >= 0], minlength=len(self._values))
        return codes

    def _places(self, values: pd.Index) -> np.ndarray:
        if self._values is None or len(self._values) == 0:
            self._values = values
        elif not values.equals(self._values):
            new = values[self._values.get_indexer(values) < 0]
            self._values = self._values.append(new)
        self._count = np.append(self._count, np.zeros(len(self._values) - len(self._count), int))
        return np.asarray(self._values.get_indexer(values))

    def finish(self) -> tuple[np.ndarray, tuple[str, ...]]:
        """Return the level of each number that `see` gave, and the names of the levels.

        The last entry, which -1 reaches, is the level of missing values. Levels are in the order of
        the categories, or sorted; unused categories are none.
        """
        import pandas as pd

        if self._n_missing and self._missing == "refuse":
            raise InvalidInput(
                f"Column {self.name!r} has missing values in {self._n_missing} of {self._n_cells} "
                "cells: fill them in, remove those cells, or pass missing='level' to make them a "
                "level of their own."
            )
        values = pd.Index([]) if self._values is None else self._values
        order = np.arange(len(values))
        if not self._categorical:
            order[pd.factorize(values, sort=True)[0]] = np.arange(len(values))
        code_of: dict[str, int] = {}  # values that are equal as text are one level
        renumbered = np.empty(len(values) + 1, np.int32)
        for used in order[self._count[order] > 0]:
            renumbered[used] = code_of.setdefault(str(values[used]), len(code_of))
        if self._missing == "level" and MISSING_LEVEL in code_of:
            raise InvalidInput(
                f"Column {self.name!r} has a level that is called {MISSING_LEVEL!r}, as cells "
                "without a value are with missing='level': rename it, or make these cells missing."
            )
        renumbered[-1] = len(code_of)
        return renumbered, (*code_of, *([MISSING_LEVEL] if self._n_missing else []))


class StoredColumn:
    """One column (N,) of a store (N, C) of numbers, given in other numbers."""

    def __init__(self, store: Any, column: int, numbers: np.ndarray) -> None:
        self._store, self._column, self._numbers = store, column, numbers

    def __len__(self) -> int:
        return int(self._store.shape[0])

    def __getitem__(self, rows: slice) -> np.ndarray:
        return self._numbers[self._store[rows][:, self._column]]


class StoredCodes:
    """The codes (N, C) of a design, made of stored columns when they are asked for."""

    def __init__(self, columns: Sequence[StoredColumn], offsets: np.ndarray) -> None:
        self._columns, self._offsets = columns, offsets
        self.shape = (len(columns[0]), len(columns))

    def __getitem__(self, rows: slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, np.ndarray):
            return self._at(rows)
        found = [own[rows] + first for own, first in zip(self._columns, self._offsets, strict=True)]
        return np.column_stack(found).astype(np.int32)

    def _at(self, places: np.ndarray) -> np.ndarray:
        """Return the codes of some cells, whose places ascend."""
        parts = [np.empty((0, self.shape[1]), np.int32)]
        for first in range(0, self.shape[0], _TOGETHER):
            a, b = np.searchsorted(places, [first, first + _TOGETHER])
            if a < b:
                own = self[first : min(first + _TOGETHER, self.shape[0])]
                parts.append(own[places[a:b] - first])
        return np.concatenate(parts)
