"""The package and its slow reference side by side, on cells that need neither.

`reference_of` does with `tests/reference.py` what `run.py` does with the package: it derives the
start and the blocks from the seed in the order that `run.py` documents, and spreads the parameters
itself.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import reference

from harmonypy_lite.errors import NotConvergedWarning
from harmonypy_lite.method import blocks, start
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import Integration, integrate_embedding

#: How many levels each covariate of a layout has, and in which covariate it is nested.
LAYOUTS: dict[str, dict[str, tuple[int, str | None]]] = {
    "one": {"batch": (3, None)},
    "many": {"batch": (12, None)},
    "crossed": {"batch": (3, None), "chemistry": (2, None)},
    "grid": {"batch": (4, None), "chemistry": (3, None)},
    "nested": {"donor": (6, "platform"), "platform": (2, None)},
    "three": {"batch": (3, None), "donor": (6, "batch"), "sex": (2, None)},
}


def frozen(array: np.ndarray) -> np.ndarray:
    """Return the same array, read-only."""
    array.flags.writeable = False
    return array


def codes_of(frame: pd.DataFrame) -> np.ndarray:
    """Return (N, C) codes, each covariate from 0, in the order of its sorted names."""
    columns = [np.unique(frame[c].astype(str), return_inverse=True)[1] for c in frame]
    return np.column_stack(columns)


def simulated(
    n: int = 400, d: int = 7, layout: str = "one", seed: int = 0
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return read-only float32 cells of five types in uneven batches, and their levels."""
    rng = np.random.default_rng([seed, n, d])
    frame = pd.DataFrame(index=range(n))
    levels = LAYOUTS[layout]
    for name, (size, _) in levels.items():
        weight = 1.0 / np.arange(1, size + 1)
        order = rng.choice(size, n, p=weight / weight.sum())
        order[rng.permutation(n)[:size]] = np.arange(size)  # every level has a cell
        frame[name] = order
    for name, (size, parent) in levels.items():
        if parent is not None:
            frame[parent] = frame[name] * levels[parent][0] // size
    kind = rng.choice(5, n, p=[0.4, 0.25, 0.2, 0.1, 0.05])
    Z = rng.normal(0, 3, (5, d))[kind] + rng.normal(size=(n, d))
    for name, (size, _) in levels.items():
        Z += rng.normal(0, 1.2, (size, d))[frame[name]]
        Z += rng.normal(0, 0.4, (size * 5, d))[frame[name] * 5 + kind]
        frame[name] = [f"{name} {chr(ord('z') - level)}" for level in frame[name]]
    return frozen(Z.astype(np.float32)), frame


def start_of(
    Z: np.ndarray, params: HarmonyParams
) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Return the centroids and the blocks that a run with these parameters starts from."""
    rng = np.random.default_rng(params.rng)
    block_seed = int(rng.integers(2**63))
    n, K = len(Z), params.clusters_for(len(Z))
    sample = start.sample_cells(n, K, rng)
    Y = start.start_centroids(Z[sample], K, rng)
    n_blocks = blocks.number_of_blocks(params.block_proportion, n)
    return Y, blocks.block_of_cells(np.arange(n), n_blocks, block_seed), rng


def spread(value: Any, sizes: list[int]) -> np.ndarray:
    """Return one number per level from one for all, one per covariate, or one per level."""
    numbers = np.atleast_1d(np.asarray(value, dtype=float))
    if numbers.size == 1:
        return np.full(sum(sizes), numbers[0])
    if numbers.size == len(sizes):
        return np.repeat(numbers, sizes)
    assert numbers.size == sum(sizes)
    return numbers


def reference_of(
    Z: np.ndarray, frame: pd.DataFrame, params: HarmonyParams, **changes: Any
) -> reference.Reference:
    """Run the reference from the same start, with the same blocks; `changes` override arguments."""
    Y, block, _ = start_of(Z, params)
    codes = codes_of(frame)
    sizes = [int(column.max()) + 1 for column in codes.T]
    fixed = params.ridge_lambda
    arguments: dict[str, Any] = {
        "Y0": Y,
        "blocks": block,
        "flavor": params.flavor,
        "theta": spread(params.theta, sizes),
        "sigma": np.broadcast_to(np.asarray(params.sigma, dtype=float), (len(Y),)),
        "tau": params.tau,
        "alpha": params.alpha,
        "ridge_lambda": None if fixed is None else spread(fixed, sizes),
        "batch_prune_threshold": params.batch_prune_threshold,
        "max_iter_harmony": params.max_iter_harmony,
        "max_iter_clustering": params.max_iter_clustering,
        "tol_harmony": params.tol_harmony,
        "tol_clustering": params.tol_clustering,
        "early_stop": params.early_stop,
    }
    return reference.integrate(Z.astype(np.float64), codes, **{**arguments, **changes})


def both(
    Z: np.ndarray, frame: pd.DataFrame, **parameters: Any
) -> tuple[Integration, reference.Reference]:
    """Run the package and the reference with the same parameters."""
    params = HarmonyParams(**{"n_jobs": 1, **parameters})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotConvergedWarning)  # `stopped` is compared instead
        found = integrate_embedding(Z, frame, params)
    return found, reference_of(Z, frame, params)


def assert_agree(found: Integration, wanted: reference.Reference, Z: np.ndarray) -> None:
    """Coordinates to 1e-4 of a standard deviation, O and E to 1e-5, the same objectives."""
    assert found.outcome is not None
    history = found.outcome.history
    assert history.stopped == wanted.stopped
    assert [len(rounds) for rounds in history.rounds] == wanted.rounds
    # an objective near zero is a small difference of large terms, of the order of 2000
    np.testing.assert_allclose(history.objective, wanted.objective_harmony, rtol=1e-5, atol=2e-3)
    for ours, theirs in zip(history.rounds, wanted.objective_rounds, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=2e-3)
    # the floor, single precision of the number of cells, is a few 1e-5 of one cell
    floor = 1e-7 * len(Z)
    np.testing.assert_allclose(found.outcome.O, wanted.O, rtol=1e-5, atol=floor)
    np.testing.assert_allclose(found.outcome.E, wanted.E, rtol=1e-5, atol=floor)
    error = np.abs(found.embedding - wanted.Z_corr).max(axis=0)
    assert (error / Z.std(axis=0, dtype=np.float64)).max() < 1e-4
    assert np.abs(wanted.Z_corr - Z).max() > 1e-3, "nothing was corrected: the case proves nothing"
