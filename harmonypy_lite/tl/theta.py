"""How to choose theta, whether to correct at all, and what a correction did: with evidence.

`sweep_theta` runs several values from one start and says which to take, and why; `null_calibration`
shows what the method does where there is nothing to correct; `needs_correction` tests the input;
`diagnose` looks at one result. The rule and its numbers are in `theta.verdict`.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harmonypy_lite.calls import checked_call, refuse_other_than_adata
from harmonypy_lite.cases import checked_params, checked_values, measured_cells, read_case
from harmonypy_lite.confounding import check_protected, warn_of_confounding
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.lookup import check_basis, check_columns, key_list
from harmonypy_lite.metrics.inputs import as_embedding, whole_number
from harmonypy_lite.theta import diagnostics, null
from harmonypy_lite.theta import sweep as sweeps
from harmonypy_lite.theta.measure import N_MEASURED
from harmonypy_lite.theta.results import Diagnosis, MixingTest, NullCalibration, Sweep
from harmonypy_lite.theta.runs import Runs
from harmonypy_lite.threads import Workers

if TYPE_CHECKING:
    from anndata import AnnData

THETAS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""The values of a sweep over theta."""


@checked_call(refuse=refuse_other_than_adata)
def sweep_theta(
    adata: AnnData,
    key: str | Sequence[str],
    thetas: Sequence[float] = THETAS,
    label_key: str | None = None,
    *,
    basis: str = "X_pca",
    vary: str = "theta",
    values: Sequence[Any] | None = None,
    n_seeds: int = 3,
    n_splits: int = 1,
    n_measured: int = N_MEASURED,
    rng: int | np.random.Generator = 0,
    n_jobs: int | None = None,
    missing: str = "refuse",
    progress: Callable[[sweeps.Step], None] | None = None,
    **parameters: Any,
) -> Sweep:
    """Run several values of theta (or another parameter), and say which to take and why.

    All runs of a seed start from the same centroids; each gives the bytes of
    ``pp.harmony_integrate`` with that value. Nothing in `adata` is changed.

    Parameters
    ----------
    adata
        Annotated data with an embedding (n_cells, d).
    key
        Column of ``adata.obs`` that tells batches apart, or several; mixing and structure are
        then those of the combinations of their levels.
    thetas
        Values of theta, ascending.
    label_key
        Column of cell types, for cLISI, NMI and ARI; cells without one are left out of these. They
        do not enter the recommendation.
    basis
        Key of ``adata.obsm`` with the embedding.
    vary, values
        Another parameter to vary (sigma, n_clusters, alpha, flavor, start), and its values; of
        values that are equally good the one next to the default is recommended.
    n_seeds
        Starts, from `rng` on; the interval is what single ones recommend.
    n_splits
        Random batches of the null calibration, at the value that the rule looks at; 0: none.
    n_measured
        Cells that are looked at for neighbours, about; each batch has its share, at least 50.
    rng
        Seed.
    n_jobs
        Threads; nothing but ``seconds`` depends on them.
    missing
        Cells without a value in `key`: "refuse" them, or make them a "level" of their own.
    progress
        Called after each run with its place, seed, run, measures and seconds.
    **parameters
        Further parameters of all runs, as in ``pp.harmony_integrate``.

    Returns
    -------
    Sweep
        Table, recommended value, interval, verdict, reason and rule; ``to_dict()`` for JSON.

    Raises
    ------
    InvalidInput
        Before any work: keys, basis, values or settings that cannot be used; a single batch.

    Examples
    --------
    >>> import harmonypy_lite as hl
    >>> adata = hl.datasets.simulate(600, batch_strength=6.0)
    >>> found = sweep_theta(adata, "batch", (0, 2), n_seeds=1)
    >>> found.verdict, found.recommended, found.table.value.tolist()
    ('correct', 2.0, [0.0, 2.0])
    """
    chosen = checked_values(vary, thetas if vary == "theta" and values is None else values)
    plan = sweeps.Plan(
        vary,
        chosen,
        whole_number("n_seeds", n_seeds, 1),
        whole_number("n_splits", n_splits, 0),
        whole_number("n_measured", n_measured, 100),
    )
    params = checked_params(parameters, rng, n_jobs, vary)
    for value in chosen:  # refused before the first run
        replace(params, **{vary: value})
    case = read_case(adata, key, label_key, basis, params, missing, plan.n_measured)
    if vary == "n_clusters":
        for value in chosen:
            replace(params, n_clusters=value).clusters_for(len(case.probe.Z))
    watch = progress or (lambda step: None)
    return sweeps.sweep(case.probe, case.design, params, case.seed, plan, watch)


@checked_call(refuse=refuse_other_than_adata)
def null_calibration(
    adata: AnnData,
    key: str | Sequence[str],
    n_splits: int = 5,
    label_key: str | None = None,
    *,
    basis: str = "X_pca",
    n_measured: int = N_MEASURED,
    rng: int | np.random.Generator = 0,
    n_jobs: int | None = None,
    missing: str = "refuse",
    **parameters: Any,
) -> NullCalibration:
    """Integrate over batches dealt at random, beside the real ones.

    A calibrated method moves nothing there. Harmony does: it estimates an effect for every batch
    in every cluster with little shrinkage, and moves cells by the noise of that estimate.

    Parameters
    ----------
    adata, key, basis, n_measured, rng, n_jobs, missing, **parameters
        As in :func:`sweep_theta`.
    n_splits
        How often cells are dealt to batches of the real sizes.
    label_key
        Column of cell types, whose spread is then the unit of displacement; else that of clusters.

    Returns
    -------
    NullCalibration
        Displacement and change of neighbours, under the null and of the real run.

    Raises
    ------
    InvalidInput
        As :func:`sweep_theta`.

    Examples
    --------
    >>> import harmonypy_lite as hl
    >>> found = null_calibration(hl.datasets.simulate(600), "batch", 2)
    >>> max(found.displacement) < found.real_displacement
    True
    """
    n_splits = whole_number("n_splits", n_splits, 1)
    params = checked_params(parameters, rng, n_jobs, None)
    case = read_case(adata, key, label_key, basis, params, missing, measured_cells(n_measured))
    with Workers(n_jobs) as workers:
        keep = params.memory == "fast"
        run = Runs(case.probe.Z, case.design, case.seed, workers, keep=keep).run(params)
    kept = float(np.nanmean(case.probe.kept(run.embedding)))
    real = null.Null(case.probe.displacement(run.embedding), 1 - kept)
    return null.calibrate(case.probe, case.design, params, case.seed, n_splits, real)


@checked_call(refuse=refuse_other_than_adata)
def needs_correction(
    adata: AnnData,
    key: str,
    label_key: str | None = None,
    *,
    basis: str = "X_pca",
    n_permutations: int = 200,
    n_measured: int = N_MEASURED,
    rng: int | np.random.Generator = 0,
    n_jobs: int | None = None,
    missing: str = "refuse",
) -> MixingTest:
    """Test whether the batches of an embedding mix less than shuffled batches.

    Overall, and inside each cluster (or type, with labels), where different compositions of the
    batches say nothing. With many cells a negligible effect is significant too, so the answer asks
    for both: an effect of some size, and more than the shuffles explain.

    Parameters
    ----------
    adata, basis, n_measured, rng, n_jobs, missing
        As in :func:`sweep_theta`.
    key
        Column of ``adata.obs`` that tells batches apart.
    label_key
        Column of cell types to test inside; by default clusters of the cells.
    n_permutations
        Shuffles.

    Returns
    -------
    MixingTest
        Effect and p-value, overall and per cluster; ``needed`` and ``reason``.

    Raises
    ------
    InvalidInput
        As :func:`sweep_theta`.

    Examples
    --------
    >>> import harmonypy_lite as hl
    >>> mixed = hl.datasets.simulate(600, batch_strength=0.0)
    >>> needs_correction(mixed, "batch").needed
    False
    >>> needs_correction(hl.datasets.simulate(600), "batch").needed
    True
    """
    n_permutations = whole_number("n_permutations", n_permutations, 20)
    params = checked_params({}, rng, n_jobs, None)
    case = read_case(adata, key, label_key, basis, params, missing, measured_cells(n_measured))
    probe = case.probe
    if probe.labels is None:
        n_clusters = int(np.clip(len(probe.places) // 200, 2, 20))
        clusters = sweeps.nearest_of(probe.Z[probe.places], n_clusters, case.seed)
        names = np.arange(n_clusters).astype(str)
    else:
        cells, labels = probe.labels
        clusters = np.full(len(probe.places), -1)
        clusters[cells], names = labels.codes, labels.names
    return null.mixing_test(probe, clusters, names, n_permutations=n_permutations, seed=case.seed)


@checked_call(refuse=refuse_other_than_adata)
def diagnose(
    adata: AnnData,
    key: str | Sequence[str],
    *,
    basis: str = "X_pca",
    adjusted_basis: str = "X_pca_harmony",
    label_key: str | None = None,
    protect: str | Sequence[str] | None = None,
    n_measured: int = N_MEASURED,
    rng: int | np.random.Generator = 0,
    n_jobs: int | None = None,
    missing: str = "refuse",
) -> Diagnosis:
    """Look at what a correction did, and raise an alarm where biology seems to have gone with it.

    Writes ``adata.obs["harmony_shift"]``: how far each cell moved, in units of the spread within
    clusters (or types, with labels) and batches. The result may come from any program.

    Noise is told apart by one run of ``harmony2`` with its defaults over random batches: the alarm
    names clusters that kept fewer of their neighbours inside batches than these do, clusters where
    types merged (with labels) and, without labels, clusters whose distances inside batches changed
    less evenly.

    Parameters
    ----------
    adata, key, basis, n_measured, rng, n_jobs, missing
        As in :func:`sweep_theta`.
    adjusted_basis
        Key of ``adata.obsm`` with the result, of as many dimensions.
    label_key
        Column of cell types, so that the alarm sees types that merged.
    protect
        Biological column(s) whose confounding with `key` (Cramer's V) is reported.

    Returns
    -------
    Diagnosis
        Displacement per cluster and level, composition before and after, clusters, the alarm.

    Raises
    ------
    InvalidInput
        As :func:`sweep_theta`; embeddings of different shapes.

    Warns
    -----
    HarmonyWarning
        When a protected column is strongly confounded with a key.

    Examples
    --------
    >>> import harmonypy_lite as hl
    >>> adata = hl.datasets.simulate(600)
    >>> hl.pp.harmony_integrate(adata, "batch")
    >>> diagnose(adata, "batch", label_key="cell_type").alarm
    False
    >>> len(adata.obs["harmony_shift"])
    600
    """
    keys = key_list(key)
    protected = check_protected(protect, keys)
    check_columns([*keys, *protected], adata.obs.columns)
    check_basis(adjusted_basis, adata.obsm.keys())
    params = checked_params({}, rng, n_jobs, None)
    case = read_case(adata, keys, label_key, basis, params, missing, measured_cells(n_measured))
    Z_hat = as_embedding(adata.obsm[adjusted_basis], f"obsm[{adjusted_basis!r}]")
    if Z_hat.shape != case.probe.Z.shape:
        raise InvalidInput(
            f"obsm[{adjusted_basis!r}] is {Z_hat.shape}, obsm[{basis!r}] {case.probe.Z.shape}: "
            "how far cells moved can be told between embeddings of one shape only."
        )
    confounding = {}
    if protected:
        confounding = warn_of_confounding(adata.obs[keys], adata.obs[protected])
    found = diagnostics.diagnose(
        case.probe,
        Z_hat,
        case.batches,
        case.design,
        params,
        confounding=confounding,
        seed=case.seed,
    )
    _write_shift(adata, found.shift)
    return found


def _write_shift(adata: AnnData, shift: NDArray[np.float64]) -> None:
    with warnings.catch_warnings():
        if adata.is_view:
            from anndata import ImplicitModificationWarning

            warnings.simplefilter("ignore", ImplicitModificationWarning)
        adata.obs["harmony_shift"] = shift
