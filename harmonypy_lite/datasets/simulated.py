"""Simulated cells whose batch-free embedding is known.

A simulated cell has a type, a batch and, on request, a second covariate. Its true coordinates
are its type's centre plus Gaussian noise of standard deviation 1 in every dimension: the unit of
every length here. What the batch does to the cell is added afterwards, so the truth is exact.
"""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from harmonypy_lite import simulation
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.simulation import Cells, Settings, Truth

if TYPE_CHECKING:
    from anndata import AnnData

_LARGEST = 1e6  # a length beyond this leaves float32 no digits for the cells themselves
_LARGEST_LOG = 10.0


def simulate(
    n_cells: int = 2000,
    *,
    kind: Literal["embedding", "counts"] = "embedding",
    n_types: int = 5,
    n_batches: int = 3,
    n_dims: int = 20,
    n_genes: int = 1000,
    type_separation: float = 8.0,
    rare_type: float | None = None,
    batch_strength: float = 3.0,
    type_strength: float = 0.0,
    scale_strength: float = 0.0,
    batch_size_skew: float = 0.0,
    composition_skew: float = 0.0,
    missing_types: float = 0.0,
    confounded: float = 0.0,
    covariate: Literal["crossed", "nested"] | None = None,
    n_levels: int = 2,
    covariate_strength: float = 3.0,
    rng: int | np.random.Generator | None = 0,
) -> AnnData:
    """Simulate cells of known types in batches, together with their batch-free embedding.

    Every length is in units of the standard deviation of one type in one dimension. A strength
    is the distance between the centres that two levels give to the same type: the root mean
    square over all pairs of levels, met exactly. With the same integer `rng`, the strengths
    change the effects only: cells, types, truth and (for counts) the molecules before the effect
    stay the same.

    Parameters
    ----------
    n_cells
        Cells.
    kind
        `"embedding"`: coordinates only, `obsm["X_pca"]`. `"counts"`: molecules in `X`, without an
        embedding, for a pipeline that starts from counts.
    n_types, n_batches
        Numbers of cell types and of batches.
    n_dims
        Dimensions of the true embedding.
    n_genes
        Genes; of use for counts only.
    type_separation
        Distance between type centres (root mean square over pairs of types). In 20 dimensions
        types overlap below about 5 and stand apart from about 8.
    rare_type
        Share of the last type among all cells, before `composition_skew`; `None`: all types are
        equally common.
    batch_strength
        Distance between batches: each moves all its cells in one direction. 1.5 is weak, 3
        medium, 6 strong; at 10 batches are further apart than types at their default. For counts
        the direction is one of genes: log fold changes as large as those of a move in the truth.
    type_strength
        The same, drawn for every batch and type on its own.
    scale_strength
        Root mean square difference between two batches of the log of the standard deviation of
        one type: at 0.7 a type is about twice as wide in one batch as in another.
    batch_size_skew
        Log of the ratio of the largest batch to the smallest; sizes fall from the first batch to
        the last.
    composition_skew
        Standard deviation over batches of the log weight of a type.
    missing_types
        Share of the (batch, type) pairs that have no cells. Every type stays in one batch and
        every batch keeps one type at least.
    confounded
        0 to 1: the share of each batch that is drawn from its own types only (a type has one home
        batch, or a batch one home type where batches are more). At 1 batch tells the type.
    covariate
        A second covariate in `obs["chemistry"]`: `"crossed"` (all levels in every batch) or
        `"nested"` (every batch has one level). `None`: there is none.
    n_levels, covariate_strength
        Its levels, and the distance between them.
    rng
        Seed, or a NumPy generator. The same seed gives the same bytes.

    Returns
    -------
    AnnData
        `obs["batch"]`, `obs["cell_type"]` and perhaps `obs["chemistry"]` (categorical);
        `obsm["X_truth"]`, float32 (n_cells, n_dims): the coordinates without any effect;
        `uns["simulate"]`: the arguments that are not `None` (`rng` only where it is a seed).
        Embedding: `obsm["X_pca"]`, float32 (n_cells, n_dims), the truth plus the effects.
        Counts: `X`, float32 CSR (n_cells, n_genes) of whole numbers; the mean of a gene is
        log-linear in the true coordinates, molecules are Poisson, and an effect removes molecules
        or adds some. `X_truth` is then free of counting noise; a second call with all strengths 0
        gives the batch-free counts of the same cells.

    Raises
    ------
    InvalidInput
        An argument is out of its range, or two of them contradict each other.

    Examples
    --------
    >>> from harmonypy_lite import datasets
    >>> adata = datasets.simulate(600, n_batches=2, batch_strength=4, rng=1)
    >>> adata.obsm["X_pca"].shape, list(adata.obs["batch"].cat.categories)
    ((600, 20), ['batch_1', 'batch_2'])
    """
    settings = Settings(
        n_cells=_whole("n_cells", n_cells),
        kind=_choice("kind", kind, ("embedding", "counts")),
        n_types=_whole("n_types", n_types),
        n_batches=_whole("n_batches", n_batches),
        n_dims=_whole("n_dims", n_dims),
        n_genes=_whole("n_genes", n_genes),
        type_separation=_number("type_separation", type_separation),
        rare_type=None if rare_type is None else _number("rare_type", rare_type, 1.0),
        batch_strength=_number("batch_strength", batch_strength),
        type_strength=_number("type_strength", type_strength),
        scale_strength=_number("scale_strength", scale_strength, _LARGEST_LOG),
        batch_size_skew=_number("batch_size_skew", batch_size_skew, _LARGEST_LOG),
        composition_skew=_number("composition_skew", composition_skew, _LARGEST_LOG),
        missing_types=_number("missing_types", missing_types, 1.0),
        confounded=_number("confounded", confounded, 1.0),
        covariate=_choice("covariate", covariate, (None, "crossed", "nested")),
        n_levels=_whole("n_levels", n_levels),
        covariate_strength=_number("covariate_strength", covariate_strength),
    )
    _check_together(settings)
    generator = _generator(rng)
    cells = simulation.draw_cells(settings, generator)
    truth = simulation.draw_truth(settings, cells, generator)
    adata = _annotated(settings, cells, truth)
    if settings.kind == "counts":
        adata.X = simulation.counts(settings, cells, truth, generator)
    else:
        adata.obsm["X_pca"] = simulation.moved(settings, cells, truth, generator)
    if isinstance(rng, Integral):
        adata.uns["simulate"]["rng"] = int(rng)
    return adata


def _annotated(settings: Settings, cells: Cells, truth: Truth) -> AnnData:
    """Put the names of the levels and the truth into an AnnData."""
    import pandas as pd
    from anndata import AnnData

    columns = {
        "batch": ("batch", cells.batch, settings.n_batches),
        "cell_type": ("type", cells.type, settings.n_types),
    }
    if settings.covariate is not None:
        columns["chemistry"] = ("chemistry", cells.level, settings.n_levels)
    obs = pd.DataFrame(
        {
            column: pd.Categorical.from_codes(codes, _names(prefix, n))
            for column, (prefix, codes, n) in columns.items()
        },
        index=pd.RangeIndex(settings.n_cells).astype(str),
    )
    genes = _names("gene", settings.n_genes if settings.kind == "counts" else 0)
    adata = AnnData(obs=obs, var=pd.DataFrame(index=pd.Index(genes, dtype=str)))
    adata.obsm["X_truth"] = truth.coordinates
    adata.uns["simulate"] = {k: v for k, v in settings._asdict().items() if v is not None}
    return adata


def _names(prefix: str, n: int) -> list[str]:
    """Return `n` names whose alphabetical order is their order."""
    return [f"{prefix}_{i:0{len(str(n))}d}" for i in range(1, n + 1)]


def _whole(name: str, given: Any) -> int:
    """Return `given` as an int of at least 1."""
    if isinstance(given, bool) or not isinstance(given, Integral) or given < 1:
        raise InvalidInput(f"{name} is {given!r}: give a whole number of at least 1")
    return int(given)


def _number(name: str, given: Any, largest: float = _LARGEST) -> float:
    """Return `given` as a float between 0 and `largest`."""
    number = isinstance(given, int | float | np.integer | np.floating)
    if isinstance(given, bool) or not number or not 0 <= given <= largest:
        raise InvalidInput(f"{name} is {given!r}: give a number between 0 and {largest:g}")
    return float(given)


def _choice(name: str, given: Any, choices: tuple[str | None, ...]) -> Any:
    """Return `given` if it is one of `choices`."""
    if not (given is None or isinstance(given, str)) or given not in choices:
        listed = ", ".join(repr(choice) for choice in choices)
        raise InvalidInput(f"{name} is {given!r}: give one of {listed}")
    return given


def _generator(rng: Any) -> np.random.Generator:
    """Return the one generator of a simulation."""
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"rng is {rng!r}: give a whole number of at least 0, a numpy Generator or None"
        ) from error


def _check_together(settings: Settings) -> None:
    """Refuse arguments that contradict each other."""
    n_batches, n_types = settings.n_batches, settings.n_types
    needed = max(n_batches, n_types, settings.n_levels if settings.covariate else 1)
    if settings.n_cells < needed:
        raise InvalidInput(
            f"n_cells is {settings.n_cells}: every batch, type and level needs a cell, so give "
            f"at least {needed} cells or fewer levels"
        )
    removable = n_batches * n_types - max(n_batches, n_types)
    if round(settings.missing_types * n_batches * n_types) > removable:
        raise InvalidInput(
            f"missing_types is {settings.missing_types:g}: every batch keeps a type and every "
            f"type a batch, so with {n_batches} batches and {n_types} types give at most "
            f"{removable / (n_batches * n_types):g}"
        )
    if settings.rare_type is not None and (n_types == 1 or not 0 < settings.rare_type < 1):
        raise InvalidInput(
            f"rare_type is {settings.rare_type:g} with {n_types} types: give a share between 0 "
            "and 1, both excluded, and at least 2 types"
        )
    if settings.covariate == "nested" and settings.n_levels > n_batches:
        raise InvalidInput(
            f"n_levels is {settings.n_levels} with {n_batches} batches: a nested covariate has "
            "one level per batch, so give at most as many levels as batches"
        )
