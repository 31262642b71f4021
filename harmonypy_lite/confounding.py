"""How far a batch column and a biological column tell the same thing about the cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harmonypy_lite.errors import InvalidInput, warn

if TYPE_CHECKING:
    import pandas as pd

#: From here on a warning: half of the possible association (Cohen's "large" for two by two).
_STRONG = 0.5
_FULL = 0.99


def cramers_v(one: pd.Series, other: pd.Series) -> float:
    """Return Cramer's V of two columns, corrected for bias: 0 (nothing in common) to 1.

    With r and c levels among n cells, phi2 = chi2 / n less its expectation under independence,
    (r - 1)(c - 1) / (n - 1), and not below 0, is divided by min(r', c') - 1, where
    r' = r - (r - 1)^2 / (n - 1) and c' likewise; V is the root. Without the correction many
    levels of few cells each look confounded when they are not. 1 means that two columns of equally
    many levels tell the same; a column that follows from one with more levels comes close to 1.
    Cells without a value in either column are left out.
    Source: Bergsma 2013, doi 10.1016/j.jkss.2012.10.002.

    Parameters
    ----------
    one, other
        (N,) columns of any type.

    Examples
    --------
    >>> import pandas as pd
    >>> donor = pd.Series(["a", "b", "c", "d"] * 5)
    >>> round(cramers_v(donor, donor), 6)
    1.0
    """
    return _corrected(_table(one, other))


def _table(one: pd.Series, other: pd.Series) -> np.ndarray:
    """Return the number of cells of each pair of levels (r, c)."""
    import pandas as pd

    table = pd.crosstab(one.astype(str).where(one.notna()), other.astype(str).where(other.notna()))
    if min(table.shape) < 2:
        raise InvalidInput(
            f"Between {one.name!r} and {other.name!r} no association can be measured: one of them "
            "has fewer than two levels."
        )
    return table.to_numpy(dtype=np.float64)


def _phi2(counts: np.ndarray) -> float:
    n = counts.sum()
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / n
    return float(((counts - expected) ** 2 / expected).sum() / n)


def _corrected(counts: np.ndarray) -> float:
    n, (r, c) = counts.sum(), counts.shape
    phi2 = max(0.0, _phi2(counts) - (r - 1) * (c - 1) / (n - 1))
    smaller = min(levels - (levels - 1) ** 2 / (n - 1) for levels in (r, c)) - 1
    if smaller <= 1e-12:  # one level per cell: it says nothing of any other column
        return 0.0
    return min(1.0, float(np.sqrt(phi2 / smaller)))


def _follows(counts: np.ndarray) -> bool:
    """Whether one column follows from the other (V without the correction is 1, or nearly)."""
    return bool(_phi2(counts) >= _FULL**2 * (min(counts.shape) - 1))


def warn_of_confounding(
    batches: pd.DataFrame, protected: pd.DataFrame
) -> dict[str, dict[str, float]]:
    """Return Cramer's V of each protected column with each batch column; warn where it is large.

    Parameters
    ----------
    batches
        (N, C) columns that tell batches apart.
    protected
        (N, P) biological columns whose differences should stay.
    """
    found: dict[str, dict[str, float]] = {}
    for name in protected:
        _check_categorical(protected[name])
        found[str(name)] = {}
        for batch in batches:
            if batches[batch].nunique() < 2:
                continue
            counts = _table(protected[name], batches[batch])
            v = _corrected(counts)
            found[str(name)][str(batch)] = v
            if v >= _STRONG:
                degree = "fully" if _follows(counts) else "strongly"
                text = (
                    f"{name!r} is {degree} confounded with the batch column {batch!r} (Cramer's V "
                    f"{v:.2f}): mixing the batches takes away differences between the levels of "
                    f"{name!r} as well."
                )
                warn(text)
    return found


def _check_categorical(column: pd.Series) -> None:
    n_levels, n_values = column.nunique(), int(column.notna().sum())
    if n_levels < 2:
        raise InvalidInput(f"Column {column.name!r} has fewer than two levels: nothing to protect.")
    if n_levels == n_values or (column.dtype.kind == "f" and n_levels > n_values / 2):
        raise InvalidInput(
            f"Column {column.name!r} is not categorical ({n_levels:,} values in {n_values:,} "
            "cells): only groups of cells can be protected. Give a column such as a condition or "
            "a cell type, or cut the values into a few groups first (pandas.cut)."
        )


def check_protected(protect: str | Sequence[str] | None, keys: Sequence[str]) -> list[str]:
    """Return the columns to protect as a list; refuses one that is a batch key itself."""
    names = [] if protect is None else [protect] if isinstance(protect, str) else list(protect)
    for name in names:
        if name in keys:
            raise InvalidInput(
                f"The column {name!r} is both a key and protected: it can be mixed or kept, not "
                "both."
            )
    return names
