"""Every parameter once: its default per flavour, its bounds, its meaning in one sentence.

Docstrings, the estimator and ``--help`` take their text from here.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np

from harmonypy_lite.errors import InvalidInput

#: One number, one per covariate (or per level of all covariates), or {covariate: number(s)}.
PerLevel: TypeAlias = float | Sequence[float] | Mapping[str, "float | Sequence[float]"]

FLAVORS = ("harmony2", "harmony1", "pooled")
STARTS = ("kmeans", "centred", "auto")
SYNCS = ("exact", "batch")
MEMORY_MODES = ("fast", "lean")

#: Defaults that the flavour decides: what R harmony >= 2.0 and the 2019 paper use.
_FLAVOR_DEFAULTS: dict[str, dict[str, Any]] = {
    "harmony2": {
        "start": "kmeans",
        "max_iter_clustering": 4,
        "tol_harmony": 1e-2,
        "tol_clustering": 1e-3,
    },
    "harmony1": {
        "start": "kmeans",
        "max_iter_clustering": 20,
        "tol_harmony": 1e-4,
        "tol_clustering": 1e-5,
    },
    "pooled": {
        "start": "auto",
        "max_iter_clustering": 4,
        "tol_harmony": 1e-2,
        "tol_clustering": 1e-3,
    },
}


def _parameter(default: Any, kind: str, meaning: str, **bounds: Any) -> Any:
    return field(default=default, metadata={"kind": kind, "meaning": meaning, **bounds})


@dataclass(frozen=True)
class HarmonyParams:
    """The parameters of one run; every value is checked on creation, lists become tuples.

    Examples
    --------
    >>> HarmonyParams(theta=4).theta
    4
    >>> HarmonyParams(flavor="harmony1").resolved().max_iter_clustering
    20
    """

    flavor: str = _parameter(
        "harmony2",
        "choice",
        "Which Harmony: `harmony2` is what R harmony >= 2.0 and harmonypy >= 2.0 compute, "
        "`harmony1` is the 2019 paper, `pooled` estimates effects across similar clusters.",
        choices=FLAVORS,
    )
    start: str | None = _parameter(
        None,
        "choice",
        "What the first clustering sees: the cells as they are (`kmeans`, the default), less the "
        "mean of their level (`centred`), or less a shift that a small run on a sample finds "
        "(`auto`, the default of `pooled`).",
        choices=STARTS,
    )
    n_clusters: int | None = _parameter(
        None, "int", "Number of soft clusters K; by default round(cells / 30), at most 100.", low=1
    )
    theta: PerLevel = _parameter(
        2.0,
        "per level",
        "Diversity penalty: larger mixes batches more, 0 not at all; one number, one per "
        "covariate, or one per level.",
        low=0.0,
        high=1e12,
    )
    sigma: float | Sequence[float] = _parameter(
        0.1,
        "per cluster",
        "Width of the soft clusters: larger lets a cell belong to more of them; one number or "
        "one per cluster.",
        low=1e-6,
        high=1e6,
    )
    tau: float = _parameter(
        0.0,
        "float",
        "Protects small batches: levels with fewer than about tau cells per cluster get a "
        "smaller theta; 0 is off.",
        low=0.0,
    )
    alpha: float = _parameter(
        0.2,
        "float",
        "Ridge penalty as a share of the number of cells expected of a level in a cluster "
        "(`harmony2`, when `ridge_lambda` is not given; `harmony1` does not use it, nor `pooled`).",
        low=1e-8,
    )
    ridge_lambda: PerLevel | None = _parameter(
        None,
        "per level",
        "Fixed ridge penalty: one number, one per covariate, or one per level; by default "
        "alpha x expected cells in `harmony2` and 1 in `harmony1`; `pooled` estimates it.",
        low=1e-8,
    )
    batch_prune_threshold: float | None = _parameter(
        1e-5,
        "float",
        "Leave a level out of a cluster's regression when this share of its cells or less is "
        "there (`harmony2`); `None` keeps all.",
        low=0.0,
        high=1.0,
    )
    block_proportion: float = _parameter(
        0.05,
        "float",
        "Share of cells that are reassigned together between two updates of the penalty.",
        above=0.0,
        high=1.0,
    )
    sync: str = _parameter(
        "exact",
        "choice",
        "When the penalty hears how large clusters are in other batches: after each block of cells "
        "(`exact`), or once a round (`batch`; four times with several covariates), so that "
        "machines that hold whole batches need not wait for each other; results differ by less "
        "than those of two seeds.",
        choices=SYNCS,
    )
    max_iter_harmony: int = _parameter(
        10, "int", "At most so many iterations of clustering and correction.", low=1
    )
    max_iter_clustering: int | None = _parameter(
        None,
        "int",
        "At most so many rounds of clustering per iteration; by default 4, and 20 in `harmony1`.",
        low=1,
    )
    tol_harmony: float | None = _parameter(
        None,
        "float",
        "Stop when an iteration improves the objective by less than this share; by default "
        "1e-2, and 1e-4 in `harmony1`.",
        low=0.0,
    )
    tol_clustering: float | None = _parameter(
        None,
        "float",
        "End the rounds of an iteration when the objective changes by less than this share, "
        "compared for the first time after round 5 and so never in the 4 rounds that are the "
        "default; by default 1e-3, and 1e-5 in `harmony1`.",
        low=0.0,
    )
    early_stop: bool = _parameter(
        True, "bool", "Stop when the objective has settled; otherwise run all `max_iter_harmony`."
    )
    rng: int | np.random.Generator = _parameter(
        0,
        "seed",
        "Seed: the same input and seed give the same bytes; a generator may be given instead.",
        option="Seed: the same input and seed give the same bytes.",
        low=0,
    )
    n_jobs: int | None = _parameter(
        None,
        "int",
        "Number of threads; by default all cores that this process may use; -1 is the same.",
    )

    memory: str = _parameter(
        "fast",
        "choice",
        "`fast` keeps the cells' affinities to the clusters (2 bytes for each cell and cluster, 4 "
        "where cells are few or theta is large), `lean` computes them anew in every round; the "
        "result is the same to the byte.",
        choices=MEMORY_MODES,
    )

    def __post_init__(self) -> None:
        for parameter in fields(self):
            value = getattr(self, parameter.name)
            _check(parameter.name, value, parameter.metadata)
            object.__setattr__(self, parameter.name, _frozen(value))

    def resolved(self) -> HarmonyParams:
        """Return the same parameters with the flavour's defaults filled in."""
        defaults = _FLAVOR_DEFAULTS[self.flavor]
        return replace(self, **{k: v for k, v in defaults.items() if getattr(self, k) is None})

    def clusters_for(self, n_cells: int) -> int:
        """Return K for `n_cells` cells (DESIGN default: min(round(N / 30), 100), at least 1)."""
        if self.n_clusters is None:
            return max(1, min(round(n_cells / 30), 100))
        if self.n_clusters > n_cells:
            raise InvalidInput(
                f"n_clusters={self.n_clusters} but there are only {n_cells} cells: give at most "
                f"{n_cells}, or leave n_clusters out (then it would be "
                f"{max(1, min(round(n_cells / 30), 100))})."
            )
        return int(self.n_clusters)


def _frozen(value: Any) -> Any:
    """Return lists and arrays as tuples, which compare and hash, and a mapping as its own copy."""
    if isinstance(value, Mapping):
        return {key: _frozen(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(value)
    return tuple(value) if np.ndim(value) else value


def _check(name: str, value: Any, meta: Mapping[str, Any]) -> None:
    kind = meta["kind"]
    if value is None:
        default = next(f.default for f in fields(HarmonyParams) if f.name == name)
        if default is None or name == "batch_prune_threshold":
            return
        raise InvalidInput(f"{name}=None: {_needed(meta)}.")
    if kind == "choice" and not (isinstance(value, str) and value in meta["choices"]):
        raise InvalidInput(f"{name}={value!r}: choose one of {', '.join(meta['choices'])}.")
    if kind == "bool" and not isinstance(value, bool | np.bool_):
        raise InvalidInput(f"{name}={value!r}: give True or False.")
    if kind == "seed" and isinstance(value, np.random.Generator):
        return
    if kind in ("int", "seed"):
        _check_number(name, value, meta, integral=True)
    if kind == "int" and name == "n_jobs" and value == 0:
        raise InvalidInput("n_jobs=0: give the number of threads, or -1 for all cores.")
    if kind in ("float", "per level", "per cluster"):
        for number in _numbers(name, value, kind):
            _check_number(name, number, meta, integral=False)


def _numbers(name: str, value: Any, kind: str) -> list[Any]:
    if isinstance(value, Mapping) and kind == "per level":
        return [n for v in value.values() for n in _numbers(f"{name} entry", v, kind)]
    if isinstance(value, str | bytes | Mapping):
        raise InvalidInput(f"{name}={value!r}: give a number.")
    if np.ndim(value) == 0:
        return [value]
    if kind == "float":
        raise InvalidInput(f"{name}={value!r}: give one number.")
    if np.ndim(value) != 1 or np.size(value) == 0:
        raise InvalidInput(f"{name} has shape {np.shape(value)}: give a number or a flat list.")
    return list(value)


def _check_number(name: str, value: Any, meta: Mapping[str, Any], *, integral: bool) -> None:
    wanted = numbers.Integral if integral else numbers.Real
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    good = isinstance(value, wanted) and not isinstance(value, bool | np.bool_)
    if not (good and _within(value, meta, integral=integral)):
        raise InvalidInput(f"{name}={value!r}: {_needed(meta)}.")


def _within(value: Any, meta: Mapping[str, Any], *, integral: bool) -> bool:
    if not integral:
        try:
            value = float(value)  # bounds of a narrow type would not fit into it
        except OverflowError:  # a whole number beyond double precision
            return False
        if not math.isfinite(value):
            return False
    return not (
        ("low" in meta and value < meta["low"])
        or ("above" in meta and value <= meta["above"])
        or ("high" in meta and value > meta["high"])
    )


def _needed(meta: Mapping[str, Any]) -> str:
    number = "a whole number" if meta["kind"] in ("int", "seed") else "a finite number"
    bounds = [
        f"{word} {meta[key]:g}"
        for key, word in (("low", "of at least"), ("above", "above"), ("high", "and at most"))
        if key in meta
    ]
    return " ".join([f"give {number}", *bounds])


def describe(*, indent: str = "") -> str:
    """Return the numpydoc text of all parameters, for docstrings."""
    lines = []
    for parameter in fields(HarmonyParams):
        lines.append(f"{indent}{parameter.name} : default {parameter.default!r}")
        lines.append(f"{indent}    {parameter.metadata['meaning']}")
    return "\n".join(lines)


T = TypeVar("T", bound=Callable[..., Any] | type)


def documented(thing: T) -> T:
    """Fill ``{parameters}`` in a docstring with the text of :func:`describe`."""
    if thing.__doc__:  # absent under python -OO
        before, _, after = thing.__doc__.partition("{parameters}")
        indent = before[before.rfind("\n") + 1 :]
        thing.__doc__ = before + describe(indent=indent).lstrip() + after
    return thing
