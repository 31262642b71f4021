"""What can be wrong with an embedding, found in one look at its rows, all at once or in batches."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from harmonypy_lite.errors import InvalidInput, warn
from harmonypy_lite.threads import map_threads

#: Numbers that are looked at together: they stay in the cache from one look to the next.
_NEAR = 2**17


def as_embedding(embedding: Any) -> np.ndarray:
    """Return `embedding` as a float32 or float64 array of finite numbers; copies only to cast."""
    return inspected(embedding)[0]


def inspected(embedding: Any, n_jobs: int | None = 1) -> tuple[np.ndarray, ZeroRows]:
    """Return what `as_embedding` returns, and its zero rows, looked at by `n_jobs` threads."""
    if hasattr(embedding, "toarray"):
        raise InvalidInput(
            "The embedding is a sparse matrix: give a dense one, such as the result of a PCA."
        )
    if np.ma.is_masked(embedding):
        raise InvalidInput(
            "The embedding is an array with masked entries: fill them in, or remove those cells."
        )
    Z = np.asarray(embedding)
    check_shape(Z.shape)
    Z = as_floats(Z)
    step = max(1, _NEAR // Z.shape[1])

    def look(first: int) -> tuple[Inspection, ZeroRows]:
        inspection, zero_rows = Inspection(), ZeroRows()
        inspection.see(Z[first : first + step])
        zero_rows.see(Z[first : first + step])
        return inspection, zero_rows

    inspection, zero_rows = Inspection(), ZeroRows()
    for one, other in map_threads(look, range(0, len(Z), step), n_jobs):
        inspection.join(one)
        zero_rows.join(other)
    inspection.check()
    return Z, zero_rows


def check_shape(shape: tuple[int, ...]) -> None:
    """Refuse all shapes but cells x dimensions."""
    if len(shape) != 2 or 0 in shape:
        raise InvalidInput(
            f"The embedding has shape {tuple(shape)}: it must be cells x dimensions, none of them "
            "0."
        )


class Inspection:
    """Looks at an embedding batch by batch; says at the end what is wrong with it.

    Examples
    --------
    >>> inspection = Inspection()
    >>> inspection.see(np.array([[1, -3], [0, 0]])).dtype
    dtype('float64')
    >>> inspection.check()
    >>> inspection.largest
    3.0
    """

    def __init__(self) -> None:
        self._n_rows = 0
        self._bad = _Rows()
        self.largest = 0.0

    def see(self, batch: np.ndarray) -> np.ndarray:
        """Look at the next rows (n, d); return them as float32 or float64."""
        Z = as_floats(batch)
        most, least = float(Z.max()), float(Z.min())
        if math.isfinite(most) and math.isfinite(least):
            self.largest = max(self.largest, most, -least)
        else:
            self._bad.add(~np.isfinite(Z).all(axis=1), self._n_rows)
        self._n_rows += len(Z)
        return Z

    def join(self, other: Inspection) -> None:
        """Take what another saw in the rows after those seen here."""
        self._bad.join(other._bad, self._n_rows)
        self.largest = max(self.largest, other.largest)
        self._n_rows += other._n_rows

    def check(self) -> None:
        """Refuse what was seen if it cannot be used."""
        if self._bad.n:
            raise InvalidInput(
                f"The embedding has NaN or infinite values in {self._bad.n} of {self._n_rows} rows "
                f"(first: {self._bad.shown}): remove those cells or make the embedding anew."
            )
        single = np.finfo(np.float32)
        if self.largest > float(single.max):
            raise InvalidInput("The embedding has numbers beyond single precision: scale it down.")
        if 0 < self.largest < float(single.tiny):
            raise InvalidInput(
                "The embedding has only numbers below single precision: scale it up."
            )


class ZeroRows:
    """Rows without a direction, which no correction moves.

    Parameters
    ----------
    n_rows, n_zero, first
        What was seen before, as in :attr:`seen`.
    """

    def __init__(self, n_rows: int = 0, n_zero: int = 0, first: Sequence[int] = ()) -> None:
        self._n_rows = n_rows
        self._zero = _Rows(n_zero, first)

    def see(self, Z: np.ndarray) -> None:
        """Look at the next rows (n, d)."""
        zero = Z[:, 0] == 0  # few rows, of which the rest is looked at
        zero[zero] = np.logical_not(Z[zero].any(axis=1))
        self._zero.add(zero, self._n_rows)
        self._n_rows += len(Z)

    def join(self, other: ZeroRows) -> None:
        """Take what another saw in the rows after those seen here."""
        self._zero.join(other._zero, self._n_rows)
        self._n_rows += other._n_rows

    @property
    def seen(self) -> dict[str, Any]:
        """What was seen, in plain numbers."""
        return {"n_rows": self._n_rows, "n_zero": self._zero.n, "first": self._zero.first}

    def warn(self) -> None:
        """Warn of those that were seen."""
        if self._zero.n:
            warn(
                f"{self._zero.n} of {self._n_rows} rows of the embedding are all zero (first: "
                f"{self._zero.shown}): they have no direction and stay as they are."
            )


class _Rows:
    """How many rows there are of a kind, and the first few."""

    def __init__(self, n: int = 0, first: Sequence[int] = ()) -> None:
        self.n, self.first = n, list(first)

    def add(self, mask: np.ndarray, start: int) -> None:
        found = np.flatnonzero(mask)
        self.n += found.size
        self.first += [start + int(i) for i in found[: 5 - len(self.first)]]

    def join(self, other: _Rows, start: int) -> None:
        self.n += other.n
        self.first += [start + i for i in other.first[: 5 - len(self.first)]]

    @property
    def shown(self) -> str:
        return ", ".join(map(str, self.first))


def as_floats(Z: np.ndarray) -> np.ndarray:
    """Return numbers of any kind as float32 or float64; copies only to cast."""
    if Z.dtype in (np.float32, np.float64):
        return Z
    if Z.dtype.kind not in "fiubO":
        raise InvalidInput(f"The embedding has type {Z.dtype}: real numbers are needed.")
    try:
        return Z.astype(np.float32 if Z.dtype == np.float16 else np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidInput(
            f"The embedding has entries that are not numbers ({error}): cast it to float32."
        ) from None


def is_dask(array: Any) -> bool:
    """Tell whether this is a Dask array, without importing dask for what is none."""
    module = sys.modules.get("dask.array")
    return module is not None and isinstance(array, module.Array)
