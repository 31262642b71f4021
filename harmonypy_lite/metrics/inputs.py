"""What every metric asks of its input: finite embeddings, one known category for every cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.errors import InvalidInput, NotApplicable


@dataclass(frozen=True)
class Categories:
    """One categorical column: what each cell is, and how many cells each category has.

    Attributes
    ----------
    codes : (N,) int32
        Number of the category of each cell; every category occurs.
    sizes : (n_categories,) int64
        Cells in each category, all > 0.
    names : (n_categories,)
        The categories as they were given, sorted.
    what : str
        How messages call the column.
    """

    codes: NDArray[np.int32]
    sizes: NDArray[np.int64]
    names: NDArray[Any]
    what: str

    @property
    def n(self) -> int:
        """Return the number of categories."""
        return len(self.sizes)

    def only(self, cells: NDArray[Any]) -> Categories:
        """Return the column restricted to `cells` (a mask or indices); empty categories drop."""
        return _counted(self.codes[cells], self.names, self.what)

    def shuffled(
        self, rng: np.random.Generator, within: Categories | None = None
    ) -> NDArray[np.int32]:
        """Return `codes` permuted over all cells, or within the categories of `within`."""
        if within is None:
            return rng.permutation(self.codes)
        groups = np.argsort(within.codes, kind="stable")
        random_order = np.lexsort((rng.random(len(self.codes)), within.codes))
        codes = np.empty_like(self.codes)
        codes[groups] = self.codes[random_order]
        return codes


def as_embedding(embedding: ArrayLike, what: str = "embedding") -> NDArray[np.floating]:
    """Return a C-ordered float32 or float64 (N, d) array of finite values; never a changed input.

    Raises
    ------
    InvalidInput
        Wrong dimensions, no cells, not numbers, or values that are not finite (first rows named).
    """
    array = np.asarray(embedding)
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidInput(f"{what} must be cells x dimensions; got shape {array.shape}.")
    if array.dtype.kind not in "fiub":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{what} must hold numbers; got dtype {array.dtype}.") from error
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    rows = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(rows):
        raise InvalidInput(
            f"{what} has NaN or infinite values in {len(rows)} cells, the first at rows "
            f"{rows[:5].tolist()}; remove these cells or repair the embedding."
        )
    return np.ascontiguousarray(array)


def as_categories(values: Any, n_cells: int, what: str) -> Categories:
    """Return the column `values` as `Categories`; unused categories are dropped.

    Raises
    ------
    InvalidInput
        Wrong length, or missing values (their number and first rows named).
    """
    if isinstance(values, Categories):
        column = values
    else:
        import pandas as pd

        series = values if isinstance(values, pd.Categorical) else pd.Series(_one_column(values))
        codes, names = pd.factorize(series)
        missing = np.flatnonzero(codes < 0)
        if len(missing):
            raise InvalidInput(
                f"{what} is missing for {len(missing)} of {len(codes)} cells, the first at rows "
                f"{missing[:5].tolist()}; fill these values or leave the cells out."
            )
        column = _sorted_by_name(codes, np.asarray(names, dtype=object), what)
    if len(column.codes) != n_cells:
        raise InvalidInput(f"{what} has {len(column.codes)} values for {n_cells} cells.")
    return column


def _one_column(values: Any) -> Any:
    """Return a one-dimensional column that pandas can number, or raise."""
    column = values if hasattr(values, "iloc") else np.asarray(values)
    if column.ndim != 1:
        raise InvalidInput(f"a column has one value per cell; got shape {column.shape}.")
    return column


def at_least_two(column: Categories, metric: str) -> None:
    """Raise NotApplicable when `column` has a single category."""
    if column.n < 2:
        raise NotApplicable(
            f"{metric} compares categories, but {column.what} has only {column.names[0]!r}."
        )


def _sorted_by_name(codes: NDArray[Any], names: NDArray[Any], what: str) -> Categories:
    try:
        order = np.argsort(names, kind="stable")
    except TypeError:  # mixed types have no order of their own
        order = np.argsort([str(name) for name in names], kind="stable")
    rank = np.empty(len(order), np.int32)
    rank[order] = np.arange(len(order), dtype=np.int32)
    return _counted(rank[codes], names[order], what)


def _counted(codes: NDArray[np.int32], names: NDArray[Any], what: str) -> Categories:
    sizes = np.bincount(codes, minlength=len(names))
    used = np.flatnonzero(sizes)
    if len(used) < len(names):
        rank = np.zeros(len(names), np.int32)
        rank[used] = np.arange(len(used), dtype=np.int32)
        codes = rank[codes]
    return Categories(codes.astype(np.int32, copy=False), sizes[used], names[used], what)
