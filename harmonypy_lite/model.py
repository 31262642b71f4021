"""A finished run that can be kept: the tables that replay it, and what new cells are placed by."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from harmonypy_lite.batches import batch_columns
from harmonypy_lite.design import Design
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
from harmonypy_lite.kernels.product import padded
from harmonypy_lite.method import start
from harmonypy_lite.method.formulas import unit_rows
from harmonypy_lite.method.mapping import assignments, whitening
from harmonypy_lite.method.model import Reference, ReferenceSums
from harmonypy_lite.method.rules import Setting, setting_for
from harmonypy_lite.model_parts import arrays_of, expected_arrays, header_of, parts_of
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.placing import ROWS, ROWS_IN_MEMORY, placed, plan
from harmonypy_lite.recognition import fingerprint
from harmonypy_lite.run import Replay
from harmonypy_lite.stream import Sample
from harmonypy_lite.threads import Workers


class Placed(NamedTuple):
    """Cells beside those of a run."""

    embedding: np.ndarray  # (n, d) float32
    distance: np.ndarray  # (n,) Mahalanobis's distance from the run's clusters, before any move
    n_replayed: int  # cells of levels that the run saw
    n_mapped: int  # cells of new levels


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

    @cached_property
    def centroids(self) -> np.ndarray:
        """(K, d) unit centroids in the corrected space."""
        return unit_rows(self.reference.corrected_sum)

    @cached_property
    def spread(self) -> tuple[np.ndarray, np.ndarray]:
        """(K, d) means of the clusters, and (K, d, d and zeros) what whitens cells around them."""
        L = whitening(self.reference)
        padded_L = np.zeros((*L.shape[:2], padded(L.shape[2])), np.float32)
        padded_L[:, :, : L.shape[2]] = L
        return self.reference.mean.astype(np.float32), padded_L

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

    def transform(
        self,
        X: Any,
        batch: Any = None,
        *,
        levels: str | None = None,
        place: np.ndarray | None = None,
    ) -> np.ndarray:
        """Place cells beside those of the run; see :meth:`place`, which also says how far they are.

        Returns
        -------
        numpy.ndarray
            (n, d) float32.

        Examples
        --------
        >>> from harmonypy_lite import Harmony
        >>> X = np.random.default_rng(0).normal(size=(60, 3))
        >>> harmony = Harmony(n_clusters=2)
        >>> Z, model = harmony.fit_transform(X, ["a", "b"] * 30), harmony.model(X)
        >>> some = np.array([5, 4])
        >>> again = model.transform(X[some], ["b", "a"], levels="known", place=some)
        >>> np.array_equal(again, Z[some]), model.transform(X + 1, ["c"] * 60).shape
        (True, (60, 3))
        """
        return self.place(X, batch, levels=levels, place=place).embedding

    def place(
        self,
        X: Any,
        batch: Any = None,
        *,
        levels: str | None = None,
        place: np.ndarray | None = None,
    ) -> Placed:
        """Place cells beside those of the run.

        Cells of levels that the run saw are moved as the cells of these levels were. Cells of new
        levels are placed by Symphony's equations, all of a call together: soft assignment to the
        run's clusters, then one ridge regression per cluster with the run's cells at rest.

        Parameters
        ----------
        X
            (n, d) cells x dimensions, in the embedding that the run was given.
        batch
            (n,) or (n, C) batch of each cell; None: all cells are of one new batch.
        levels
            Whether the levels are the run's ("known"), others whatever their names ("new"), or the
            run's where it has them ("either"). By default new, if no name is the run's.
        place
            (n,) which cells of the run these are, which get the bytes that they had there; by
            default they are new cells.

        Raises
        ------
        InvalidInput
            For levels that are not what was said, or could be either while nothing was said.

        Examples
        --------
        >>> from harmonypy_lite import Harmony
        >>> X = np.random.default_rng(0).normal(size=(60, 3))
        >>> model = Harmony(n_clusters=2).fit(X, ["a", "b"] * 30).model(X)
        >>> placed = model.place(X[:9], ["c"] * 9)
        >>> placed.n_mapped, placed.distance.shape
        (9, (9,))
        """
        Z = self.checked(X)
        planned = plan(self, len(Z), None if batch is None else batch_columns(batch), levels)
        at = None if place is None else np.asarray(place)

        def batches() -> Iterator[np.ndarray]:
            step = ROWS_IN_MEMORY
            return (Z[first : first + step] for first in range(0, len(Z), step))

        found = list(placed(self, planned, batches, at))
        return Placed(
            np.concatenate([moved for moved, _ in found]),
            np.concatenate([distance for _, distance in found]),
            planned.n_replayed,
            planned.n_mapped,
        )

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
    replay: Replay | None,
    design: Design,
    params: HarmonyParams,
    summary: Mapping[str, Any],
    rows: Callable[[], Iterable[np.ndarray]],
) -> HarmonyModel:
    """Make the model of a run, in one more look at its cells.

    Parameters
    ----------
    replay, design, summary
        What the run left; no replay where all cells were of one batch, and stay as they are.
    params
        Its parameters.
    rows
        Gives the (n, d) cells as they were given to the run, batch by batch, in its order.
    """
    sums, at, mark = None, 0, 0
    with Workers(1):  # the bytes of a product may depend on the threads of BLAS
        replay = replay or Replay(*_one_batch(design, params))
        Y = None if replay.steps else _clusters(replay.setting, rows)
        for Z in _in_batches(rows(), ROWS):
            place = np.arange(at, at + len(Z))
            if Y is None:
                own = replace(design, codes=np.asarray(design.codes[at : at + len(Z)]))
                R, z_hat = replay.assign_and_correct(Z, own, place)
            else:
                R, z_hat = assignments(Z.astype(np.float64), Y, replay.setting.sigma), Z
            sums = sums or ReferenceSums(R.shape[1], Z.shape[1])
            sums.add(R, Z, z_hat)
            mark += fingerprint(Z, at)
            at += len(Z)
    assert sums is not None
    none = replace(design, codes=np.empty((0, len(design.covariates)), np.int32))
    summary = {**summary, "fingerprint": str(mark % 2**64)}
    return HarmonyModel(replay, none, sums.finish(), summary)


def _one_batch(design: Design, params: HarmonyParams) -> tuple[Setting, list[Any], int]:
    """Return a replay's parts for cells that nothing was to be corrected of."""
    return setting_for(params, design), [], 0


def _clusters(setting: Setting, rows: Callable[[], Iterable[np.ndarray]]) -> np.ndarray:
    """Return (K, d) unit centroids of cells that were not clustered by a run."""
    rng = np.random.default_rng(setting.params.rng)
    sample, at = Sample(start.sample_cells(setting.n_cells, setting.n_clusters, rng)), 0
    for Z in rows():
        sample.see(Z, at)
        at += len(Z)
    return start.start_centroids(sample.rows, setting.n_clusters, rng)


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
