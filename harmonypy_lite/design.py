"""Columns of obs -> codes of levels. Whatever can be wrong with a batch column is met here."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.errors import InvalidInput, warn
from harmonypy_lite.params import PerLevel

if TYPE_CHECKING:
    import pandas as pd

#: Name of the level that missing values form when the user asks for it.
MISSING_LEVEL = "(missing)"
#: A column with more levels than this share of the cells is taken for cell names.
_BARCODE_SHARE = 0.5
#: Levels with fewer cells than this are reported: their effect can hardly be estimated.
_SMALL_LEVEL = 5


@dataclass(frozen=True)
class Design:
    """Which level of each covariate every cell has.

    Attributes
    ----------
    codes
        (N, C) int32. Levels of all covariates are numbered through: covariate c has the codes
        ``offsets[c]`` to ``offsets[c + 1] - 1``.
    offsets
        (C + 1,) first code of each covariate; the last entry is B.
    level_size
        (B,) cells per level.
    covariates
        Names of the C covariates.
    levels
        For each covariate the names of its levels, in order of their codes.
    dropped
        Covariates that were left out, with the reason.
    dropped_levels
        The names of their levels.
    given
        Names of all covariates, also of those left out, in the order in which they were given.
    """

    codes: np.ndarray
    offsets: np.ndarray
    level_size: np.ndarray
    covariates: tuple[str, ...]
    levels: tuple[tuple[str, ...], ...]
    dropped: Mapping[str, str]
    dropped_levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    given: tuple[str, ...] = ()

    @property
    def n_cells(self) -> int:
        """Number of cells N."""
        return int(self.codes.shape[0])

    @property
    def n_levels(self) -> int:
        """Number of levels B of all covariates together."""
        return int(self.offsets[-1])

    @property
    def level_share(self) -> np.ndarray:
        """(B,) share of the cells that each level has, Pr_b."""
        return self.level_size / max(self.n_cells, 1)

    def level_slices(self) -> list[slice]:
        """Return for each covariate the slice of its levels in tables of all B levels."""
        return [slice(int(a), int(b)) for a, b in itertools.pairwise(self.offsets)]

    def take(self, cells: np.ndarray) -> Design:
        """Return the design of the cells at these places."""
        codes = self.codes[cells]
        sizes = np.bincount(codes.ravel(), minlength=self.n_levels)
        return replace(self, codes=codes, level_size=sizes)

    def per_level(self, name: str, value: PerLevel) -> np.ndarray:
        """Spread a number, one per covariate, one per level, or a mapping over all (B,) levels."""
        sizes = np.diff(self.offsets)
        if isinstance(value, Mapping):
            return self._from_mapping(name, value)
        numbers = self._without_dropped(np.asarray(value, dtype=np.float64).ravel())
        if numbers.size == 1:
            return np.full(self.n_levels, numbers[0])
        if numbers.size == len(sizes):
            return np.repeat(numbers, sizes)
        if numbers.size == self.n_levels:
            return numbers
        several = len(sizes) > 1
        raise InvalidInput(
            f"{name} has {numbers.size} values, for {len(sizes)} covariate{'s' * several} "
            f"({', '.join(self.covariates)}) with {self.n_levels} levels{' in all' * several}: "
            f"give one number for all, {f'one per covariate ({len(sizes)}), ' * several}or one "
            f"per level ({self.n_levels})."
        )

    def _without_dropped(self, numbers: np.ndarray) -> np.ndarray:
        """Leave out the numbers of covariates that were left out, where each was given one."""
        kept = [name in self.covariates for name in self.given]
        names = dict(zip(self.covariates, self.levels, strict=True)) | dict(self.dropped_levels)
        sizes = [len(names[name]) for name in self.given]
        if self.dropped and numbers.size == len(kept):
            return numbers[kept]
        if self.dropped and numbers.size == sum(sizes):
            return numbers[np.repeat(kept, sizes)]
        return numbers

    def _from_mapping(self, name: str, value: Mapping[str, Any]) -> np.ndarray:
        known = {*self.covariates, *self.dropped}
        if set(value) != known:
            raise InvalidInput(
                f"{name} names {sorted(map(str, value))}, the covariates are {sorted(known)}: "
                "give one entry for each covariate."
            )
        parts = []
        for covariate, levels in zip(self.covariates, self.levels, strict=True):
            numbers = np.asarray(value[covariate], dtype=np.float64).ravel()
            if numbers.size not in (1, len(levels)):
                raise InvalidInput(
                    f"{name}[{covariate!r}] has {numbers.size} values, {covariate!r} has "
                    f"{len(levels)} levels: give 1 or {len(levels)} values."
                )
            parts.append(np.broadcast_to(numbers, len(levels)))
        return np.concatenate(parts)


def design_from_columns(frame: pd.DataFrame, *, missing: str = "refuse") -> Design:
    """Turn one column per covariate into a :class:`Design`.

    Parameters
    ----------
    frame
        (N, C) columns of any type; unused categories do not count.
    missing
        `"refuse"` missing values, or take them as a `"level"` of their own.

    Raises
    ------
    InvalidInput
        For missing values, for a column of cell names or measurements, and for a frame without
        columns.

    Warns
    -----
    HarmonyWarning
        When a covariate is left out (one level only, or the same partition as an earlier one) and
        when levels have fewer than 5 cells.

    Examples
    --------
    >>> import pandas as pd
    >>> design = design_from_columns(pd.DataFrame({"donor": ["a", "b", "a", "b", "b"] * 5}))
    >>> design.n_levels, design.level_size.tolist()
    (2, [10, 15])
    """
    if missing not in ("refuse", "level"):
        raise InvalidInput(f"missing={missing!r}: choose 'refuse' or 'level'.")
    if frame.shape[1] == 0:
        raise InvalidInput("No batch column was given: name at least one.")
    if len(set(map(str, frame.columns))) < frame.shape[1]:
        raise InvalidInput(f"A batch column is named twice: {list(frame.columns)}.")
    kept: dict[str, tuple[np.ndarray, tuple[str, ...]]] = {}
    dropped: dict[str, str] = {}
    dropped_levels: dict[str, tuple[str, ...]] = {}
    for name in frame.columns:
        codes, levels = _factorize(str(name), frame[name], missing)
        _refuse_too_many_levels(frame[name], levels)
        reason = _reason_to_drop(codes, levels, kept)
        if reason:
            dropped[str(name)] = reason
            dropped_levels[str(name)] = levels
            warn(f"Covariate {name!r} is left out: {reason}.")
        else:
            kept[str(name)] = (codes, levels)
    design = replace(
        _assemble(len(frame), kept),
        dropped=dropped,
        dropped_levels=dropped_levels,
        given=tuple(map(str, frame.columns)),
    )
    _warn_of_small_levels(design)
    return design


def design_like(frame: pd.DataFrame, known: Design, *, missing: str = "refuse") -> Design:
    """Return the design of other cells, in the levels and codes of `known`.

    Parameters
    ----------
    frame
        (n, C) columns, among them all covariates of `known`, also those that were left out.
    known
        The design of the cells that a model was made from.
    missing
        As in :func:`design_from_columns`.

    Raises
    ------
    InvalidInput
        For a level that `known` does not have; the message names it and those there are.

    Examples
    --------
    >>> import pandas as pd
    >>> known = design_from_columns(pd.DataFrame({"donor": ["a", "b"] * 10}))
    >>> design_like(pd.DataFrame({"donor": ["b", "b"]}), known).codes.tolist()
    [[1], [1]]
    """
    levels = dict(zip(known.covariates, known.levels, strict=True))
    codes = {
        name: _codes_among(name, frame[name], names, missing)
        for name, names in {**levels, **known.dropped_levels}.items()
    }
    kept = {name: (codes[name], names) for name, names in levels.items()}
    design = _assemble(len(frame), kept)
    return replace(
        design,
        dropped=known.dropped,
        dropped_levels=known.dropped_levels,
        given=known.given,
    )


def _codes_among(name: str, column: pd.Series, levels: tuple[str, ...], missing: str) -> np.ndarray:
    own, names = _factorize(name, column, missing)
    code_of = {level: code for code, level in enumerate(levels)}
    unknown = [level for level in names if level not in code_of]
    if unknown:
        raise InvalidInput(
            f"Column {name!r} has {len(unknown)} level(s) that the fit did not see "
            f"({_shown(unknown)}); it saw {_shown(levels)}. Leave those cells out, or fit again "
            "with them."
        )
    return np.array([code_of[level] for level in names], np.int32)[own]


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _assemble(n_cells: int, kept: dict[str, tuple[np.ndarray, tuple[str, ...]]]) -> Design:
    offsets = np.cumsum([0, *(len(levels) for _, levels in kept.values())]).astype(np.int64)
    codes = np.empty((n_cells, len(kept)), np.int32)
    for c, (own, _) in enumerate(kept.values()):
        codes[:, c] = own + offsets[c]
    level_size = np.bincount(codes.ravel(), minlength=int(offsets[-1]))
    levels = tuple(names for _, names in kept.values())
    assert all(len(set(names)) == len(names) for names in levels)
    return Design(codes, offsets, level_size, tuple(kept), levels, {})


def _factorize(name: str, column: pd.Series, missing: str) -> tuple[np.ndarray, tuple[str, ...]]:
    import pandas as pd

    n_missing = int(column.isna().sum())
    if n_missing and missing == "refuse":
        raise InvalidInput(
            f"Column {name!r} has missing values in {n_missing} of {len(column)} cells: fill them "
            "in, remove those cells, or pass missing='level' to make them a level of their own."
        )
    if isinstance(column.dtype, pd.CategoricalDtype):
        raw, categories = column.cat.codes.to_numpy(), column.cat.categories
    else:
        # Sorting values of mixed types fails; their text sorts.
        mixed = column.dtype == object
        values = column.astype(str).where(column.notna()) if mixed else column
        raw, categories = pd.factorize(values, sort=True)
    code_of: dict[str, int] = {}  # values that are equal as text are one level
    renumbered = np.empty(len(categories) + 1, np.int32)  # the last entry serves code -1
    for used in np.flatnonzero(np.bincount(raw[raw >= 0], minlength=len(categories))):
        renumbered[used] = code_of.setdefault(str(categories[used]), len(code_of))
    if missing == "level" and MISSING_LEVEL in code_of:
        raise InvalidInput(
            f"Column {name!r} has a level that is called {MISSING_LEVEL!r}, as cells without a "
            "value are with missing='level': rename it, or make these cells missing."
        )
    renumbered[-1] = len(code_of)
    return renumbered[raw], (*code_of, *([MISSING_LEVEL] if n_missing else []))


def _refuse_too_many_levels(column: pd.Series, levels: tuple[str, ...]) -> None:
    if len(levels) <= max(2, _BARCODE_SHARE * len(column)) or len(column) <= 10:
        return
    values = getattr(column.dtype, "categories", column)  # of a categorical column
    if values.dtype.kind in "iuf":
        what = "numbers, such as a measurement"
        remedy = ", or make ranges of the numbers (pandas.cut)"
    else:
        what, remedy = "cell names", ""
    raise InvalidInput(
        f"Column {column.name!r} has {len(levels)} levels in {len(column)} cells (first: "
        f"{', '.join(levels[:3])}): these look like {what}. Name the column that holds the batch, "
        f"such as the donor, sample or plate{remedy}."
    )


def _reason_to_drop(
    codes: np.ndarray,
    levels: tuple[str, ...],
    kept: dict[str, tuple[np.ndarray, tuple[str, ...]]],
) -> str | None:
    if len(levels) <= 1:
        return f"it has only one level ({', '.join(levels) or 'no cells'})"
    for other, (other_codes, other_levels) in kept.items():
        if len(other_levels) == len(levels):
            pairs = np.unique(codes.astype(np.int64) * len(levels) + other_codes)
            if pairs.size == len(levels):
                return f"it divides the cells just as {other!r} does"
    return None


def _warn_of_small_levels(design: Design) -> None:
    small = np.flatnonzero(design.level_size < _SMALL_LEVEL)
    if not small.size:
        return
    names = [
        f"{covariate}={level}"
        for covariate, levels in zip(design.covariates, design.levels, strict=True)
        for level in levels
    ]
    shown = ", ".join(f"{names[b]} ({design.level_size[b]})" for b in small[:5])
    more = f" and {small.size - 5} more" if small.size > 5 else ""
    warn(
        f"{small.size} level(s) have fewer than {_SMALL_LEVEL} cells and will hardly be "
        f"corrected: {shown}{more}."
    )
