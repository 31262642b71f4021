"""How affinities are held: the numbers exp(l_ik - max_k l_ik) that R is formed from.

Every round of clustering reads them all, so that where they are many their length is what it takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from harmonypy_lite.design import Design
from harmonypy_lite.params import HarmonyParams

if TYPE_CHECKING:
    from harmonypy_lite.method.rules import Rules

#: exp(-87) is the smallest normal number in single precision, exp(-44) the smallest of 16 bits.
#: What a penalty within these bounds can lift from below stays under exp(60 - 87) and
#: exp(30 - 44) for each cluster, which is nothing beside a sum of 1.
_MILD, _MILDER = 60.0, 30.0
#: So many affinities (40,000 cells, 100 clusters) no longer fit a cache, and each round reads them
#: from memory. Fewer are held in single precision, which takes no longer then.
_MANY = 4_000_000


class Form(Enum):
    """How affinities are held, by the penalties to come."""

    HALF = "16 bits, of 11 of them significant, from exp(-44) to 1"
    SINGLE = "single precision"
    WITH_PENALTY = "single precision, penalties added to their logarithms: nothing to keep"


def form_of(
    rules: Rules, theta: np.ndarray, design: Design, n_clusters: int, *, stale: bool
) -> Form:
    """Return how affinities are held: in the shortest numbers that pay and that penalties fit.

    Parameters
    ----------
    rules, n_clusters
        Of the run.
    theta
        (B,) after the tau discount.
    design
        Levels of all cells.
    stale
        Whether n may be of another time than O, so that a level is expected anywhere or nowhere.
    """
    expected = np.zeros(theta.size) if stale else design.level_size * design.level_share
    bound = rules.steepness(theta, design.level_size, expected)
    steepness = sum(float(bound[levels].max()) for levels in design.level_slices())
    return _form(rules, steepness, design.n_cells * n_clusters)


def affinity_bytes(rules: Rules, params: HarmonyParams, n_cells: int, n_covariates: int) -> int:
    """Return the bytes of an affinity, at most, for covariates of which nothing is known yet."""
    theta = params.theta if isinstance(params.theta, Mapping) else {"": params.theta}
    largest = max(float(np.max(each)) for each in theta.values())
    # about so many cells has the steepest level; where none are expected beside it, it has all
    stale = params.sync == "batch"
    size = np.array([n_cells if stale else max(1.0, np.sqrt(n_cells / 2))])
    expected = 0 * size if stale else size**2 / n_cells
    steepness = rules.steepness(np.array([largest]), size, expected)[0] * n_covariates
    form = _form(rules, steepness, n_cells * params.clusters_for(n_cells))
    return 2 if form is Form.HALF else 4


def _form(rules: Rules, steepness: float, n_affinities: int) -> Form:
    if steepness > _MILD:
        return Form.WITH_PENALTY
    if n_affinities < _MANY or rules.moving_centroids or steepness > _MILDER:
        return Form.SINGLE
    return Form.HALF
