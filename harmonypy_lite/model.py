"""A finished run that can be kept: the tables that replay it, and what new cells are placed by."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harmonypy_lite.batches import check_rows, columns_like
from harmonypy_lite.design import Design, design_like
from harmonypy_lite.embedding import as_embedding
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files.tables import (
    check_array,
    check_finite,
    checked_header,
    read_tables,
    write_tables,
)
from harmonypy_lite.genes import GeneSpace
from harmonypy_lite.levels import MISSING_LEVEL
from harmonypy_lite.method.model import Reference, ReferenceSums, unit_rows
from harmonypy_lite.model_parts import arrays_of, expected_arrays, header_of, parts_of
from harmonypy_lite.recognition import digests
from harmonypy_lite.run import Replay
from harmonypy_lite.threads import Workers

#: Cells that are looked at together. Sums are rounded in this order, so it is part of the result.
_ROWS = 4096


@dataclass(frozen=True)
class HarmonyModel:
    """What a run of Harmony learned, without its cells.

    Attributes
    ----------
    replay
        The tables of every iteration.
    design
        The levels, without the cells' codes.
    reference
        Sums over the cells, by which cells of new levels are placed.
    summary
        What was done, as in ``uns["harmony"]``; `basis` among it where it was known.
    genes
        How counts become the embedding, where that was kept.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from harmonypy_lite import Harmony
    >>> X = np.random.default_rng(0).normal(size=(60, 3))
    >>> harmony = Harmony(n_clusters=2)
    >>> Z = harmony.fit_transform(X, ["a", "b"] * 30)
    >>> path = harmony.save(pathlib.Path(tempfile.mkdtemp()) / "m.h5", X)
    >>> HarmonyModel.load(path).levels
    {'batch': ('a', 'b')}
    """

    replay: Replay
    design: Design
    reference: Reference
    summary: Mapping[str, Any]
    genes: GeneSpace | None = None

    @property
    def n_cells(self) -> int:
        """Number of cells that the model was made of."""
        return self.replay.setting.n_cells

    @property
    def n_dims(self) -> int:
        """Number of dimensions d of the embedding."""
        return int(self.reference.mean.shape[1])

    @property
    def n_clusters(self) -> int:
        """Number of clusters K."""
        return self.replay.setting.n_clusters

    @property
    def levels(self) -> dict[str, tuple[str, ...]]:
        """The levels that the run saw, of each covariate in use."""
        return dict(zip(self.design.covariates, self.design.levels, strict=True))

    @property
    def centroids(self) -> np.ndarray:
        """(K, d) unit centroids in the corrected space."""
        return unit_rows(self.reference.corrected_sum)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the model to an .h5 file, complete or absent; returns its path.

        Raises
        ------
        InvalidInput
            The file exists already, and `overwrite` is not given, or cannot be written.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from harmonypy_lite import Harmony
        >>> X = np.random.default_rng(0).normal(size=(60, 3))
        >>> harmony = Harmony(n_clusters=2).fit(X, ["a", "b"] * 30)
        >>> harmony.save(pathlib.Path(tempfile.mkdtemp()) / "m.h5", X).name
        'm.h5'
        """
        return write_tables(path, self._header(), self._arrays(), overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> HarmonyModel:
        """Read a model; the file is not trusted.

        Raises
        ------
        InvalidInput
            It is no model, of a newer format, damaged, or its parts do not fit each other.

        Examples
        --------
        >>> HarmonyModel.load("nothing.h5")
        Traceback (most recent call last):
        harmonypy_lite.errors.InvalidInput: There is no file nothing.h5.
        """
        header, arrays = read_tables(path, expected_arrays)
        try:
            return cls(*parts_of(header, arrays))
        except InvalidInput as error:
            raise InvalidInput(f"{path} cannot be used: {error}") from None

    def replayed(self, X: Any, batch: Any, place: np.ndarray | None = None) -> np.ndarray:
        """Move cells of known levels as the cells of their levels were moved.

        Parameters
        ----------
        X
            (n, d) cells x dimensions.
        batch
            (n,) or (n, C) as in `Harmony.fit`, with levels that the run saw.
        place
            (n,) which cells of the run these are, which get the bytes that they had there; by
            default they are new cells.

        Returns
        -------
        numpy.ndarray
            (n, d) float32.

        Raises
        ------
        InvalidInput
            For levels that the run did not see.

        Examples
        --------
        >>> from harmonypy_lite import Harmony
        >>> X = np.random.default_rng(0).normal(size=(60, 3))
        >>> harmony = Harmony(n_clusters=2)
        >>> Z = harmony.fit_transform(X, ["a", "b"] * 30)
        >>> again = harmony.model(X).replayed(X[[5, 4]], ["b", "a"], place=np.array([5, 4]))
        >>> np.array_equal(again, Z[[5, 4]])
        True
        """
        Z = self.checked(X)
        with_missing = any(MISSING_LEVEL in names for names in self.design.levels)
        design = design_like(
            columns_like(batch, self.design.given),
            self.design,
            missing="level" if with_missing else "refuse",
        )
        check_rows(Z, design)
        # a new cell's block is drawn by its coordinates: no result depends on the other cells
        return self.replay.correct(Z, design, digests(Z) if place is None else np.asarray(place))

    def checked(self, X: Any) -> np.ndarray:
        """Return cells (n, d) as the model takes them; refuses other numbers of dimensions."""
        Z = as_embedding(X)
        if Z.shape[1] != self.n_dims:
            raise InvalidInput(
                f"The cells have {Z.shape[1]} dimensions, the model {self.n_dims}: give them in "
                "the same embedding, such as the projection on the PCA that the model was made of."
            )
        return Z

    def to_uns(self) -> dict[str, Any]:
        """Return the model as what ``adata.uns`` can hold and files can store.

        Examples
        --------
        >>> from harmonypy_lite import Harmony
        >>> X = np.random.default_rng(0).normal(size=(60, 3))
        >>> model = Harmony(n_clusters=2).fit(X, ["a", "b"] * 30).model(X)
        >>> HarmonyModel.from_uns(model.to_uns()).n_clusters
        2
        """
        return {"header": json.dumps(self._header()), **self._arrays()}

    @classmethod
    def from_uns(cls, stored: Mapping[str, Any]) -> HarmonyModel:
        """Return the model that :meth:`to_uns` gave.

        Raises
        ------
        InvalidInput
            As :meth:`load`.

        Examples
        --------
        >>> HarmonyModel.from_uns({})
        Traceback (most recent call last):
        harmonypy_lite.errors.InvalidInput: This is no stored model: it has no header.
        """
        if not isinstance(stored, Mapping) or "header" not in stored:
            raise InvalidInput("This is no stored model: it has no header.")
        header = checked_header(str(stored["header"]))
        arrays = {}
        for name, wanted in expected_arrays(header).items():
            array = np.asarray(stored.get(name))
            check_array(name, array, wanted)
            arrays[name] = check_finite(name, array)
        return cls(*parts_of(header, arrays))

    def _header(self) -> dict[str, Any]:
        return header_of(self.replay, self.design, self.n_dims, self.summary, self.genes)

    def _arrays(self) -> dict[str, np.ndarray]:
        return arrays_of(self.replay, self.reference, self.genes)


def model_of(
    replay: Replay | None, design: Design, summary: Mapping[str, Any], rows: Iterable[np.ndarray]
) -> HarmonyModel:
    """Make the model of a run, in one more look at its cells.

    Parameters
    ----------
    replay, design, summary
        What the run left.
    rows
        The (n, d) cells as they were given to the run, batch by batch, in its order.

    Raises
    ------
    InvalidInput
        Nothing was corrected: there is no model of it.
    """
    if replay is None:
        raise InvalidInput(
            "All cells are of one batch: nothing was learned that a model could keep. Give a "
            "batch column with at least two levels, or leave the model out."
        )
    sums, at = None, 0
    with Workers(1):  # the bytes of a product may depend on the threads of BLAS
        for Z in _in_batches(rows, _ROWS):
            place = np.arange(at, at + len(Z))
            own = replace(design, codes=np.asarray(design.codes[at : at + len(Z)]))
            R, z_hat = replay.assign_and_correct(Z, own, place)
            sums = sums or ReferenceSums(R.shape[1], Z.shape[1])
            sums.add(R, Z, z_hat)
            at += len(Z)
    assert sums is not None
    none = replace(design, codes=np.empty((0, len(design.covariates)), np.int32))
    return HarmonyModel(replay, none, sums.finish(), dict(summary))


def _in_batches(parts: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Cut rows that come in parts of any size into batches of one size."""
    held: list[np.ndarray] = []
    n = 0
    for part in parts:
        while len(part):
            held.append(part[: size - n])
            n, part = n + len(held[-1]), part[size - n :]
            if n == size:
                yield np.concatenate(held)
                held, n = [], 0
    if held:
        yield np.concatenate(held)
