"""Principal component regression: how much of the variance the batches explain.

Büttner et al. 2019 (doi 10.1038/s41592-018-0254-1) weigh the R² of each principal component by its
variance. With all components kept that is SS_between / SS_total of the embedding itself, whatever
its rotation, so that no decomposition is needed.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harmonypy_lite.errors import HarmonyWarning, NotApplicable
from harmonypy_lite.kernels.groups import add_centred_rows
from harmonypy_lite.metrics.inputs import (
    as_categories,
    as_embedding,
    as_pair,
    at_least_two,
    at_safe_scale,
)
from harmonypy_lite.threads import map_threads

_ROWS = 32_768


def pcr(embedding: ArrayLike, batch: Any, *, n_jobs: int | None = None) -> float:
    """Compute the share of the variance that lies between batches (0 to 1, low is mixed).

    It sees differences of means only: batches of the same mean and other shapes score 0. Batches
    of other cell composition score above 0, rightly.

    Parameters
    ----------
    embedding : (N, d)
        Cells in rows.
    batch : (N,)
        Always taken as categories, also when numeric.
    n_jobs
        Threads; the result does not depend on them.

    Raises
    ------
    NotApplicable
        For a single batch, or when all cells are at the same point.

    References
    ----------
    Büttner et al. 2019, doi 10.1038/s41592-018-0254-1.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> donor = ["a", "b"] * 100
    >>> pcr(cells, donor) < 0.02
    True
    """
    points, _ = at_safe_scale(as_embedding(embedding))
    batches = as_categories(batch, len(points), "batch", embedding)
    at_least_two(batches, "PCR")
    centre = points.mean(axis=0, dtype=np.float64)

    def rows(first: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        piece = slice(first, first + _ROWS)
        sums, squares = np.zeros((batches.n, len(centre))), np.zeros(len(centre))
        add_centred_rows(points[piece], centre, batches.codes[piece], sums, squares)
        return sums, squares

    parts = map_threads(rows, range(0, len(points), _ROWS), n_jobs)
    sums = np.sum([part[0] for part in parts], axis=0)
    total = np.sum([part[1] for part in parts])
    # what the rounding of the mean leaves behind in a constant embedding
    if total <= points.size * (1e-14 * np.abs(centre).max()) ** 2:
        raise NotApplicable("PCR divides by the variance, but all cells are at the same point.")
    between = np.sum(sums**2 / batches.sizes[:, None])
    return float(min(between / total, 1.0))


def pcr_comparison(
    pre: ArrayLike, post: ArrayLike, batch: Any, *, n_jobs: int | None = None
) -> float:
    """Score the batch variance that integration removed: (pre - post) / pre.

    1: none is left; 0: as much as before, or more (then with a warning, as scib-metrics).
    A random embedding scores 1. `pcr` gives the two parts.

    Parameters
    ----------
    pre, post : (N, d)
        The embedding before and after integration; dimensions may differ.
    batch : (N,)
        Always taken as categories.
    n_jobs
        Threads.

    Raises
    ------
    NotApplicable
        As `pcr`, and when batches explain nothing before integration.

    References
    ----------
    Büttner et al. 2019, doi 10.1038/s41592-018-0254-1.
    Luecken et al. 2022, doi 10.1038/s41592-021-01336-8.

    Examples
    --------
    >>> import numpy as np
    >>> cells = np.random.default_rng(0).normal(size=(200, 5))
    >>> donor = ["a", "b"] * 100
    >>> shifted = cells + np.array([[0.0], [3.0]] * 100)
    >>> round(pcr_comparison(shifted, cells, donor), 1)
    1.0
    """
    before, after = as_pair(pre, post)
    explained = pcr(before, batch, n_jobs=n_jobs)
    if explained <= 1e-12:
        raise NotApplicable("batches explain no variance before integration: nothing to remove.")
    left = pcr(after, batch, n_jobs=n_jobs)
    if left > explained:
        warnings.warn(
            f"batches explain more variance after ({left:.3g}) than before ({explained:.3g}); "
            "the comparison is set to 0.",
            HarmonyWarning,
            stacklevel=2,
        )
    return max(0.0, (explained - left) / explained)
