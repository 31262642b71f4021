"""The set of metrics, each once: its name, its kind, what it needs and how it is computed.

`Cells` computes what several metrics share (neighbours, silhouettes, clusters) at most once.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypedDict

from harmonypy_lite.errors import HarmonyWarning, InvalidInput
from harmonypy_lite.metrics import calibration
from harmonypy_lite.metrics.bras import bras
from harmonypy_lite.metrics.calibration import Calibrated
from harmonypy_lite.metrics.clusters import NmiAri, check_clustering, nmi_ari
from harmonypy_lite.metrics.inputs import Categories, listed, whole_number
from harmonypy_lite.metrics.kbet import kbet, kbet_per_label
from harmonypy_lite.metrics.lisi import Variant, check_perplexity, neighbors_needed
from harmonypy_lite.metrics.neighbors import Method, Neighbors, find_neighbors, method_for
from harmonypy_lite.metrics.pcr import pcr_comparison
from harmonypy_lite.metrics.silhouette import (
    Estimate,
    Silhouettes,
    isolated_levels,
    silhouette_batch,
    silhouettes,
)
from harmonypy_lite.metrics.structure import Structure, structure_preservation
from harmonypy_lite.threads import worker_count

Kind = Literal["batch", "biology"]


class Settings(NamedTuple):
    """What all metrics of one table have in common."""

    perplexity: int = 30
    variant: Variant = "scib"
    clustering: Literal["kmeans", "leiden"] = "kmeans"
    search: Method = "auto"
    seed: int = 0
    n_jobs: int | None = None

    def checked(self, n_cells: int) -> Settings:
        """Return the settings with the search that this many cells get, or raise InvalidInput."""
        neighbors_needed(self.perplexity, self.variant)
        check_clustering(self.clustering)
        whole_number("seed", self.seed, 0)
        worker_count(self.n_jobs)
        return self._replace(search=method_for(n_cells, self.search))


class Run(TypedDict):
    """Arguments that most metrics take."""

    seed: int
    n_jobs: int | None


@dataclass(frozen=True)
class Cells:
    """One embedding of some cells, with their labels, and what was computed of it so far."""

    points: Any  # (N, d); a Dask array where only sums over cells are asked for
    settings: Settings
    labels: Categories | None = None

    @property
    def n(self) -> int:
        """Return the number of cells."""
        return int(self.points.shape[0])

    @cached_property
    def neighbors(self) -> Neighbors:
        """Return the neighbours that every metric takes its share of."""
        wanted = max(neighbors_needed(self.settings.perplexity, self.settings.variant), 49)
        return find_neighbors(
            self.points,
            min(wanted, len(self.points) - 1),
            method=self.settings.search,
            seed=self.settings.seed,
            n_jobs=self.settings.n_jobs,
        )

    @cached_property
    def lisi_neighbors(self) -> Neighbors:
        """Return the neighbours that LISI looks at."""
        perplexity, variant = self.settings.perplexity, self.settings.variant
        check_perplexity(perplexity, variant, len(self.points))
        return self.neighbors.others(neighbors_needed(perplexity, variant))

    @cached_property
    def silhouettes(self) -> Silhouettes:
        """Return the label silhouettes."""
        return silhouettes(self.points, self.known_labels, **self.run)

    @cached_property
    def silhouette_null(self) -> Estimate:
        """Return the label silhouette of shuffled labels."""
        return calibration.silhouette_null(self.points, self.known_labels, **self.run)

    @cached_property
    def clusters(self) -> NmiAri:
        """Return NMI and ARI of the clusters with the labels."""
        leiden = self.settings.clustering == "leiden"
        return nmi_ari(
            self.points,
            self.known_labels,
            clustering=self.settings.clustering,
            neighbors=self.neighbors.others(14) if leiden else None,
            **self.run,
        )

    @cached_property
    def clisi(self) -> Calibrated:
        """Return cLISI."""
        return calibration.clisi(
            self.lisi_neighbors,
            self.known_labels,
            perplexity=self.settings.perplexity,
            variant=self.settings.variant,
            **self.run,
        )

    @property
    def known_labels(self) -> Categories:
        """Return the labels, which metrics that need them may rely on."""
        assert self.labels is not None
        return self.labels

    @property
    def run(self) -> Run:
        """Return the seed and threads of every call."""
        return {"seed": self.settings.seed, "n_jobs": self.settings.n_jobs}


@dataclass(frozen=True)
class Question:
    """One embedding and one batch column; the labelled cells apart, since some may have none."""

    cells: Cells
    batches: Categories
    labelled: Cells | None
    labelled_batches: Categories | None
    pre: Any = None
    whole: Question | None = None  # all cells, where this is about a sample of them

    @property
    def sums(self) -> Question:
        """Return the question about all cells, for metrics that are sums over them."""
        return self.whole or self

    @property
    def before(self) -> Any:
        """Return the embedding before integration, which metrics that need it may rely on."""
        assert self.pre is not None
        return self.pre

    @property
    def known(self) -> tuple[Cells, Categories, Categories]:
        """Return the labelled cells, their batches and their labels."""
        assert self.labelled is not None
        assert self.labelled_batches is not None
        return self.labelled, self.labelled_batches, self.labelled.known_labels

    @cached_property
    def structure(self) -> Structure:
        """Return structure preservation."""
        return structure_preservation(
            self.before, self.cells.points, self.batches, **self.cells.run
        )


def _plain(value: float) -> Calibrated:
    """Return a score that needs no calibration."""
    return Calibrated(value, value)


def _ilisi(q: Question) -> Calibrated:
    c = q.cells
    perplexity, variant = c.settings.perplexity, c.settings.variant
    return calibration.ilisi(
        c.lisi_neighbors, q.batches, perplexity=perplexity, variant=variant, **c.run
    )


def _cilisi(q: Question) -> Calibrated:
    c, batches, labels = q.known
    return calibration.cilisi(c.points, batches, labels, perplexity=c.settings.perplexity, **c.run)


def _bras(q: Question) -> Calibrated:
    c, batches, labels = q.sums.known
    return _plain(bras(c.points, batches, labels, n_jobs=c.settings.n_jobs))


def _pcr_comparison(q: Question) -> Calibrated:
    q, n_jobs = q.sums, q.cells.settings.n_jobs
    return _plain(pcr_comparison(q.before, q.cells.points, q.batches, n_jobs=n_jobs))


def _graph_connectivity(q: Question) -> Calibrated:
    c, batches, labels = q.known
    return calibration.graph_connectivity(c.neighbors, batches, labels)


def _kbet(q: Question) -> Calibrated:
    n_jobs = q.cells.settings.n_jobs
    return _plain(kbet(q.cells.neighbors, q.batches, n_jobs=n_jobs))


def _kbet_per_label(q: Question) -> Calibrated:
    c, batches, labels = q.known
    graph, n_jobs = c.neighbors.others(49), c.settings.n_jobs
    return _plain(kbet_per_label(c.points, batches, labels, neighbors=graph, n_jobs=n_jobs))


def _silhouette_batch(q: Question) -> Calibrated:
    c, batches, labels = q.known
    return _plain(silhouette_batch(c.points, batches, labels, n_jobs=c.settings.n_jobs))


def _silhouette_label(q: Question) -> Calibrated:
    c = q.known[0]
    _note("Kept to compare with scIB; robust has no silhouettes." + _sampled(c.silhouettes))
    return calibration.by_null(c.silhouettes.score(), c.silhouette_null)


def _isolated_labels(q: Question) -> Calibrated:
    c, batches, labels = q.known
    levels = isolated_levels(labels, batches)
    names = listed(labels.names[levels])
    _note(f"Isolated, since in the fewest batches: {names}." + _sampled(c.silhouettes))
    raw = c.silhouettes.score_of(levels)
    return calibration.by_null(raw, c.silhouette_null)


def _structure_overlap(q: Question) -> Calibrated:
    return calibration.structure_overlap(q.structure)


def _sampled(measured: Silhouettes) -> str:
    n, cells = len(measured.labels.codes), len(measured.cells)
    return "" if cells == n else f" Estimated from {cells:,} of {n:,} cells."


def _note(text: str) -> None:
    """Say something that `measure` puts beside the value."""
    warnings.warn(text, HarmonyWarning, stacklevel=2)


class Metric(NamedTuple):
    """One row of the table."""

    kind: Kind
    needs: Literal["labels", "pre", "nothing"]
    compute: Callable[[Question], Calibrated]


METRICS: dict[str, Metric] = {
    "ilisi": Metric("batch", "nothing", _ilisi),
    "cilisi": Metric("batch", "labels", _cilisi),
    "bras": Metric("batch", "labels", _bras),
    "pcr_comparison": Metric("batch", "pre", _pcr_comparison),
    "graph_connectivity": Metric("batch", "labels", _graph_connectivity),
    "kbet": Metric("batch", "nothing", _kbet),
    "kbet_per_label": Metric("batch", "labels", _kbet_per_label),
    "silhouette_batch": Metric("batch", "labels", _silhouette_batch),
    "clisi": Metric("biology", "labels", lambda q: q.known[0].clisi),
    "nmi": Metric("biology", "labels", lambda q: _plain(q.known[0].clusters.nmi)),
    "ari": Metric("biology", "labels", lambda q: _plain(q.known[0].clusters.ari)),
    "silhouette_label": Metric("biology", "labels", _silhouette_label),
    "isolated_labels": Metric("biology", "labels", _isolated_labels),
    "structure_overlap": Metric("biology", "pre", _structure_overlap),
    "structure_concordance": Metric("biology", "pre", lambda q: _plain(q.structure.concordance)),
}

ON_REQUEST = ("kbet", "kbet_per_label", "silhouette_batch")
SUMS = ("bras", "pcr_comparison")  # over cells: a sample saves nothing
STRUCTURE = ("structure_overlap", "structure_concordance")


class Result(NamedTuple):
    """The answer of one metric, or the reason why there is none."""

    metric: str
    kind: Kind
    score: Calibrated | None
    reason: str


def measure(question: Question, name: str) -> Result:
    """Compute the metric `name`; what it warns or refuses becomes the reason."""
    metric = METRICS[name]
    if metric.needs == "labels" and question.labelled is None:
        return Result(name, metric.kind, None, "needs labels (label_key)")
    if metric.needs == "pre" and question.pre is None:
        return Result(name, metric.kind, None, "needs the embedding before integration (pre)")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", HarmonyWarning)
        try:
            score = metric.compute(question)
        except InvalidInput as refusal:
            return Result(name, metric.kind, None, str(refusal))
    notes = []
    if question.whole is not None and name not in SUMS:
        n, of = question.cells.n, question.whole.cells.n
        notes.append(f"Of a stratified sample: {n:,} of {of:,} cells.")
    for warning in said:
        if issubclass(warning.category, HarmonyWarning):
            notes.append(str(warning.message))
        else:  # another library's: not ours to hide
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
    return Result(name, metric.kind, score, " ".join(notes))
