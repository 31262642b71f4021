"""Numbers as integers: sums of them are exact, whoever adds them and in whatever order."""

from __future__ import annotations

import numpy as np

from harmonypy_lite.errors import NumericalError
from harmonypy_lite.method.totals import FixedPoint


def encoded(values: np.ndarray | float, bound: float) -> np.ndarray:
    """Return numbers as int64; `bound` holds for the sum over all sites.

    Examples
    --------
    >>> decoded(encoded(np.array([0.5, -2.0]), 10.0) + encoded(1.0, 10.0), 10.0).tolist()
    [1.5, -1.0]
    """
    values = np.asarray(values, np.float64)
    if not (np.abs(values) <= bound * (1 + 1e-6)).all():  # NaN, too
        raise NumericalError(
            f"A sum over the cells of this site is {np.abs(values).max():g}, and cannot be more "
            f"than {bound:g}; this is a defect, please report it."
        )
    return np.rint(values * FixedPoint(bound).scale).astype(np.int64)


def decoded(sums: np.ndarray, bound: float) -> np.ndarray:
    """Return sums of numbers from :func:`encoded` as float64."""
    return FixedPoint(bound).to_float(sums)
