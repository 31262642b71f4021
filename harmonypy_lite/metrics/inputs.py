"""What every metric asks of its input: finite embeddings, one known category for every cell."""

from __future__ import annotations

import operator
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.embedding import is_dask
from harmonypy_lite.errors import HarmonyWarning, InvalidInput, NotApplicable
from harmonypy_lite.lookup import check_same_order

_SAFE = (2.0**-30, 2.0**30)  # values whose squares and their sums float32 can hold


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

    Sparse matrices become dense, half precision single, other numbers double.

    Raises
    ------
    InvalidInput
        Wrong dimensions, no cells, not numbers, or values that are not finite (first rows named).
    """
    array = _numbers(embedding, what)
    if array.dtype not in (np.float32, np.float64):
        array = array.astype(np.float32 if array.dtype == np.float16 else np.float64)
    rows = np.flatnonzero(~np.isfinite(array).all(axis=1))
    if len(rows):
        raise InvalidInput(
            f"{what} has NaN or infinite values in {len(rows)} cells, the first at rows "
            f"{rows[:5].tolist()}; remove these cells or repair the embedding."
        )
    return np.ascontiguousarray(array)


def _numbers(embedding: Any, what: str) -> NDArray[Any]:
    """Return a two-dimensional array of numbers, or raise."""
    if is_dask(embedding):
        raise InvalidInput(
            f"{what} is a Dask array, and this needs every cell in memory: scores such as `ilisi` "
            "look at a sample of it, as does metrics.score; here, give embedding.compute() or an "
            "array of some of the cells."
        )
    dense = embedding.toarray() if hasattr(embedding, "toarray") else embedding
    if hasattr(dense, "obsm"):
        raise InvalidInput(f"{what} must be an array, such as adata.obsm['X_pca']; got an AnnData.")
    if np.ma.is_masked(dense):
        raise InvalidInput(f"{what} has masked values; remove these cells or fill the values.")
    array = np.asarray(dense)
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidInput(f"{what} must be cells x dimensions; got shape {array.shape}.")
    if array.dtype.kind not in "fiubO":
        raise InvalidInput(f"{what} must hold numbers; got dtype {array.dtype}.")
    try:
        return array.astype(np.float64) if array.dtype.kind == "O" else array
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{what} must hold numbers; got dtype {array.dtype}.") from error


def as_pair(pre: ArrayLike, post: ArrayLike) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the embeddings before and after integration, which must be of the same cells."""
    check_same_order(pre, post)
    before, after = as_embedding(pre, "pre"), as_embedding(post, "post")
    if len(before) != len(after):
        raise InvalidInput(f"pre has {len(before)} cells and post {len(after)}.")
    return before, after


def at_safe_scale(points: NDArray[np.floating]) -> tuple[NDArray[np.floating], float]:
    """Return `points` times a power of two, and that factor: squares then stay in range.

    The product is exact. Ordinary embeddings come back as they are, with the factor 1.
    """
    largest = max(float(points.max()), -float(points.min()))
    if largest == 0 or _SAFE[0] < largest < _SAFE[1]:
        return points, 1.0
    limits = np.finfo(points.dtype)
    exponent = np.clip(np.frexp(largest)[1], limits.minexp + 2, limits.maxexp - 2)
    scale = 2.0 ** -float(exponent)
    return points * points.dtype.type(scale), scale


def whole_number(name: str, value: Any, least: int) -> int:
    """Return `value` as an int of at least `least`, or raise InvalidInput."""
    try:
        number = operator.index(value)
    except TypeError as error:
        raise InvalidInput(f"{name} must be a whole number; got {value!r}.") from error
    if number < least or isinstance(value, bool):
        raise InvalidInput(f"{name} must be a whole number >= {least}; got {value!r}.")
    return number


def as_categories(values: Any, n_cells: int, what: str, of: Any = None) -> Categories:
    """Return the column `values` as `Categories`; unused categories are dropped.

    Raises
    ------
    InvalidInput
        Wrong length, missing values (their number and first rows named), or the cells of `of`,
        when both are of pandas and name them, in another order.
    """
    check_same_order(of, values)
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


def as_labelled(
    embedding: ArrayLike, batch: Any, label: Any
) -> tuple[NDArray[np.floating], Categories, Categories]:
    """Return the embedding with its columns of batches and labels."""
    points = as_embedding(embedding)
    batches = as_categories(batch, len(points), "batch", embedding)
    check_same_order(batch, label)
    return points, batches, as_categories(label, len(points), "label", embedding)


def at_least_two(column: Categories, metric: str) -> None:
    """Raise NotApplicable when `column` has a single category."""
    if column.n < 2:
        raise NotApplicable(
            f"there is nothing to compare for {metric}: {column.what} has only {column.names[0]!r}."
        )


def listed(names: NDArray[Any]) -> str:
    """Return the first five names and the number of the others."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(map(str, names[:5])) + more


def warn_left_out(metric: str, column: Categories, scored: NDArray[np.bool_], needed: str) -> None:
    """Warn when categories of `column` have no cell that was scored (N,)."""
    cells = np.bincount(column.codes[scored], minlength=column.n)
    names = column.names[cells == 0]
    if len(names):
        warnings.warn(
            f"{metric} leaves out {len(names)} of {column.n} categories of {column.what}, "
            f"which lack {needed}: {listed(names)}.",
            HarmonyWarning,
            stacklevel=3,
        )


def average_over(
    values: NDArray[np.float64], labels: Categories, average: Literal["label", "cell"]
) -> float:
    """Return the mean of `values` over cells, or of the labels' means; NaN cells left out."""
    known = ~np.isnan(values)
    if average == "cell":
        return float(values[known].mean())
    if average != "label":
        raise InvalidInput(f"average must be 'label' or 'cell'; got {average!r}.")
    cells = np.bincount(labels.codes[known], minlength=labels.n)
    sums = np.bincount(labels.codes[known], values[known], minlength=labels.n)
    return float((sums[cells > 0] / cells[cells > 0]).mean())


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
