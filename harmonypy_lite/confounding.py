"""How far a batch column and a biological column tell the same thing about the cells."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from harmonypy_lite.errors import HarmonyWarning, InvalidInput

if TYPE_CHECKING:
    import pandas as pd

#: From here on a warning: half of the possible association (Cohen's "large" for two by two).
_STRONG = 0.5
_FULL = 0.99


def cramers_v(one: pd.Series, other: pd.Series) -> float:
    """Return Cramer's V of two columns: sqrt(chi2 / (n min(r - 1, c - 1))), 0 to 1.

    1 means that the column with fewer levels follows from the other, as a condition does from
    donors who were each in one condition. Cells without a value in either column are left out.
    Source: Cramer 1946, Mathematical Methods of Statistics, section 21.9.

    Parameters
    ----------
    one, other
        (N,) columns of any type.

    Examples
    --------
    >>> import pandas as pd
    >>> donor = pd.Series(["a", "b", "c", "d"] * 5)
    >>> round(cramers_v(donor, donor.isin(["a", "b"])), 6)
    1.0
    """
    import pandas as pd

    table = pd.crosstab(one.astype(str).where(one.notna()), other.astype(str).where(other.notna()))
    counts = table.to_numpy(dtype=np.float64)
    smaller = min(counts.shape) - 1
    if smaller < 1:
        raise InvalidInput(
            f"Between {one.name!r} and {other.name!r} no association can be measured: one of them "
            "has fewer than two levels."
        )
    total = counts.sum()
    expected = counts.sum(axis=1, keepdims=True) * counts.sum(axis=0) / total
    chi2 = float(((counts - expected) ** 2 / expected).sum())
    return min(1.0, float(np.sqrt(chi2 / (total * smaller))))


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
        if protected[name].nunique() < 2:
            raise InvalidInput(f"Column {name!r} has fewer than two levels: nothing to protect.")
        found[str(name)] = {}
        for batch in batches:
            if batches[batch].nunique() < 2:
                continue
            v = cramers_v(protected[name], batches[batch])
            found[str(name)][str(batch)] = v
            if v >= _STRONG:
                degree = "fully" if v >= _FULL else "strongly"
                text = (
                    f"{name!r} is {degree} confounded with the batch column {batch!r} (Cramer's V "
                    f"{v:.2f}): mixing the batches takes away differences between the levels of "
                    f"{name!r} as well."
                )
                warnings.warn(text, HarmonyWarning, stacklevel=2)
    return found


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
