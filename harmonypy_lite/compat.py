"""`run_harmony` as in harmonypy 2.1: the same call, the same attributes, this package's engine."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.calls import HARMONYPY_NAMES, checked_call, refuse_adata
from harmonypy_lite.errors import InvalidInput, warn
from harmonypy_lite.lookup import check_columns, check_same_order, key_list
from harmonypy_lite.params import HarmonyParams, PerLevel

if TYPE_CHECKING:
    import pandas as pd

    from harmonypy_lite.run import Integration, Progress

log = logging.getLogger("harmonypy_lite")


class HarmonyResult:
    """What :func:`run_harmony` returns; attributes are those of harmonypy 2.1, and `O` and `E`.

    Arrays are float32 for cells and float64 for tables. Where all cells are of one batch nothing
    is clustered: K = 0, the lists are empty, and `Z_corr` equals `Z_orig`.

    Attributes
    ----------
    Z_corr, Z_orig, Z_cos
        (N, d) corrected cells, the cells as given, and the corrected cells at length 1.
    R
        (N, K) soft assignments of the last clustering, computed when first asked for.
    Y
        (d, K) unit centroids of the last clustering.
    O, E
        (K, B) cells of each level in each cluster, and as many as an even spread would give; all
        levels of the first variable, then those of the next; levels are sorted, those of a
        categorical column in the order of its categories.
    K
        Number of clusters.
    objective_harmony
        Objective at the start and after each iteration.
    objective_kmeans
        Objective at the start and after each round of clustering.
    kmeans_rounds
        Rounds of each iteration.
    summary
        The run in plain numbers and texts: why it stopped, parameters, versions, times.

    Examples
    --------
    >>> import pandas as pd
    >>> meta = pd.DataFrame({"donor": ["a", "b"] * 30})
    >>> Z = np.random.default_rng(0).normal(size=(60, 4))
    >>> found = run_harmony(Z, meta, "donor", nclust=3)
    >>> found.R.shape, found.Y.shape, found.O.shape
    ((60, 3), (4, 3), (3, 2))
    """

    def __init__(self, Z: np.ndarray, done: Integration) -> None:
        self._replay, self._design = done.replay, done.design
        self.Z_orig = np.array(Z, np.float32, order="C")
        self.Z_corr = done.embedding
        self.summary = done.summary
        self.objective_harmony: list[float] = done.summary["objective"]
        self.kmeans_rounds: list[int] = done.summary["rounds"]
        self.objective_kmeans: list[float] = []
        nothing = np.zeros((0, done.design.n_levels))
        self.Y, self.O, self.E = np.zeros((Z.shape[1], 0)), nothing, nothing.copy()
        if done.outcome is not None:
            history = done.outcome.history
            rounds = [objective for rounds in history.rounds for objective in rounds]
            self.objective_kmeans = [float(x) for x in (history.start, *rounds)]
            self.Y = np.ascontiguousarray(done.outcome.Y.T)
            self.O, self.E = done.outcome.O, done.outcome.E
        self.K = int(self.Y.shape[1])

    @cached_property
    def R(self) -> np.ndarray:
        """(N, K) soft assignments of the last clustering; rows sum to 1."""
        if self._replay is None:
            return np.zeros((len(self.Z_orig), 0), np.float32)
        return self._replay.assignments(self.Z_orig, self._design)

    @cached_property
    def Z_cos(self) -> np.ndarray:
        """(N, d) corrected cells at length 1; zero rows stay zero."""
        length = np.linalg.norm(self.Z_corr, axis=1, keepdims=True)
        return np.divide(self.Z_corr, length, out=np.zeros_like(self.Z_corr), where=length > 0)

    def result(self) -> np.ndarray:
        """Return `Z_corr`, (N, d)."""
        return self.Z_corr

    def __repr__(self) -> str:
        n, d = self.Z_corr.shape
        return (
            f"<{type(self).__name__}: {n} cells x {d} dims, {self.K} clusters, "
            f"{len(self.kmeans_rounds)} iterations, {self.summary['stopped']}>"
        )


@checked_call(refuse=refuse_adata)
def run_harmony(
    data_mat: Any,
    meta_data: pd.DataFrame | Mapping[str, Any],
    vars_use: str | Sequence[str],
    theta: PerLevel | None = None,
    lamb: PerLevel | None = None,
    sigma: float | Sequence[float] = 0.1,
    nclust: int | None = None,
    tau: float = 0,
    block_size: float = 0.05,
    max_iter_harmony: int = 10,
    max_iter_kmeans: int = 4,
    epsilon_cluster: float = 1e-3,
    epsilon_harmony: float = 1e-2,
    alpha: float = 0.2,
    batch_prop_cutoff: float | None = 1e-5,
    verbose: bool = True,
    random_state: int | np.random.Generator | None = 0,
    ncores: int = 0,
) -> HarmonyResult:
    """Mix the batches of an embedding; the call of harmonypy 2.1.

    Parameters
    ----------
    data_mat
        (N, d) cells x dims; never changed. A matrix that can only be dims x cells (its columns,
        not its rows, are as many as the rows of `meta_data`) is transposed, with a warning.
    meta_data
        (N, columns) DataFrame, or a mapping of columns; rows are matched by their place.
    vars_use
        The column, or the list of columns, that tell batches apart.
    theta
        Diversity penalty: a number, one per variable, or one per level; None is 2.
    lamb
        Fixed ridge penalty: a number, one per variable, or one per level; None or -1 is alpha
        times the cells expected of a level in a cluster.
    sigma
        Width of the soft clusters: a number, or one per cluster.
    nclust
        Number of clusters; None is round(N / 30), at most 100.
    tau
        Protects levels with fewer than about tau cells per cluster; 0 is off.
    block_size
        Share of the cells that are reassigned together.
    max_iter_harmony, max_iter_kmeans
        At most so many iterations, and rounds of clustering in each.
    epsilon_cluster, epsilon_harmony
        Relative changes of the objective that end the rounds and the run; below 0: never.
    alpha
        See `lamb`.
    batch_prop_cutoff
        Levels with this share of their cells or less in a cluster do not enter its regression.
    verbose
        Report each iteration to the logger "harmonypy_lite", at level INFO.
    random_state
        Seed or generator; None draws one.
    ncores
        Number of threads; 0 is all that this process may use. It changes no result.

    Returns
    -------
    HarmonyResult
        With `Z_corr` (N, d) and all else that harmonypy's object has.

    Raises
    ------
    InvalidInput
        Before any work: columns that are not there, shapes that do not fit, values that cannot be
        used.

    Warns
    -----
    HarmonyWarning
        When `data_mat` is transposed, and as in :func:`harmonypy_lite.pp.harmony_integrate`.

    Examples
    --------
    >>> import pandas as pd
    >>> meta = pd.DataFrame({"donor": ["a", "b"] * 30})
    >>> Z = np.random.default_rng(0).normal(size=(60, 4))
    >>> run_harmony(Z, meta, "donor").Z_corr.shape
    (60, 4)
    """
    from harmonypy_lite.run import integrate_embedding

    frame = _columns(meta_data, vars_use)
    check_same_order(data_mat, frame)
    Z = _cells_by_dims(data_mat, len(frame))
    with _names_of_this_call():
        params = HarmonyParams(
            theta=2.0 if theta is None else theta,
            ridge_lambda=None if _is_minus_one(lamb) else lamb,
            sigma=sigma,
            n_clusters=nclust,
            tau=tau,
            block_proportion=block_size,
            max_iter_harmony=max_iter_harmony,
            max_iter_clustering=max_iter_kmeans,
            tol_clustering=_not_below_0(epsilon_cluster),
            tol_harmony=_not_below_0(epsilon_harmony),
            early_stop=not _below_0(epsilon_harmony),
            alpha=alpha,
            batch_prune_threshold=batch_prop_cutoff,
            rng=np.random.default_rng() if random_state is None else random_state,
            n_jobs=None if ncores == 0 else ncores,
        )
        report = _log_iteration() if verbose else None
        done = integrate_embedding(Z, frame, params, record=True, progress=report)
    if verbose:
        log.info("%d iterations: %s", done.summary["iterations"], done.summary["stopped"])
    return HarmonyResult(Z, done)


def _columns(meta_data: Any, vars_use: Any) -> pd.DataFrame:
    import pandas as pd

    if not isinstance(meta_data, pd.DataFrame):
        if not isinstance(meta_data, Mapping):
            raise InvalidInput(
                f"meta_data is a {type(meta_data).__name__}: give a DataFrame with one row per "
                "cell, such as adata.obs."
            )
        meta_data = pd.DataFrame(dict(meta_data))
    one_or_more = isinstance(vars_use, Iterable)
    keys = key_list(vars_use if one_or_more else [vars_use], name="vars_use", holder="meta_data")
    check_columns(keys, meta_data.columns, holder="meta_data")
    frame = meta_data[keys]
    for name in keys:
        missing = int(frame[name].isna().to_numpy().sum())
        if missing:
            raise InvalidInput(
                f"meta_data[{name!r}] has missing values in {missing} of {len(frame)} cells: fill "
                "them in or remove those cells."
            )
    return frame


def _cells_by_dims(data_mat: Any, n_cells: int) -> np.ndarray:
    from harmonypy_lite.embedding import as_embedding

    Z = as_embedding(data_mat)
    if len(Z) == n_cells:
        return Z
    if Z.shape[1] != n_cells:
        raise InvalidInput(
            f"data_mat has shape {Z.shape}, but meta_data has {n_cells} rows: give cells x dims, "
            "with the same cells in both."
        )
    warn(
        f"data_mat has shape {Z.shape} and meta_data {n_cells} rows, so data_mat is dims x cells: "
        "it is transposed. Give cells x dims; the result is cells x dims always."
    )
    return Z.T


@contextlib.contextmanager
def _names_of_this_call() -> Iterator[None]:
    """Let errors name the arguments that the user gave."""
    try:
        yield
    except InvalidInput as error:
        known = re.compile(rf"\b({'|'.join(HARMONYPY_NAMES)})\b")
        raise InvalidInput(known.sub(lambda name: HARMONYPY_NAMES[name[0]], str(error))) from None


def _is_minus_one(lamb: Any) -> bool:
    """Whether `lamb` is the -1 that stands for None in R harmony and harmonypy."""
    if isinstance(lamb, str | Mapping) or np.size(lamb) != 1:
        return False
    return bool(np.all(np.equal(lamb, -1)))


def _below_0(epsilon: Any) -> bool:
    return isinstance(epsilon, int | float | np.number) and bool(epsilon < 0)


def _not_below_0(epsilon: Any) -> Any:
    return 0.0 if _below_0(epsilon) else epsilon


def _log_iteration() -> Callable[[Progress], None]:
    last = 0

    def report(progress: Progress) -> None:
        nonlocal last
        if progress.iteration > last:
            last = progress.iteration
            log.info("Iteration %d of at most %d", last, progress.max_iter)

    return report
