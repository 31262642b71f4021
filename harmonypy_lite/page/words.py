"""What the numbers of a run mean, in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

#: Calibrated mixing from which on batches count as mixed, and below which as apart: of two equal
#: batches 69 % and 89 % of a cell's neighbours are of its own there. On the first half of
#: tests/benchmarks/study_theta.py CiLISI of the batch-free truth is 0.97 or more and of runs that
#: are not stuck 0.87 or more; of inputs with a clear effect it is at most 0.72, of stuck ones 0.2.
MIXED, APART = 0.75, 0.25
#: A loss of a biology metric that is worth a sentence, if it is of two standard errors too.
LOSS = 0.05

#: Name and question of each metric.
METRICS = {
    "ilisi": ("iLISI", "do cells see other batches around them?"),
    "cilisi": ("CiLISI", "do they, inside each cell type?"),
    "bras": ("BRAS", "are the batches of a type in the same place?"),
    "pcr_comparison": ("PCR comparison", "how much less do batches explain of the variance?"),
    "graph_connectivity": ("Graph connectivity", "is each type one piece?"),
    "kbet": ("kBET", "do neighbourhoods have the batches of the whole?"),
    "kbet_per_label": ("kBET per label", "do they, inside each cell type?"),
    "silhouette_batch": ("Silhouette, batches", "are batches of a type near one another?"),
    "clisi": ("cLISI", "do cells see their own type around them?"),
    "nmi": ("NMI", "do clusters tell the types?"),
    "ari": ("ARI", "do pairs of cells agree in cluster and type?"),
    "silhouette_label": ("Silhouette, types", "are types apart?"),
    "isolated_labels": ("Isolated labels", "are types of few batches still apart?"),
    "structure_overlap": ("Neighbours kept", "do cells keep their neighbours inside batches?"),
    "structure_concordance": ("Clusters kept", "are the clusters inside batches the same?"),
    "scib": ("scIB total", "0.4 batch + 0.6 biology, of raw values"),
    "robust": ("Robust total", "the same of calibrated values, without silhouettes"),
}


class Verdict(NamedTuple):
    """A headline, and the sentences it rests on; `tone` is good, mixed or bad."""

    headline: str
    sentences: list[str]
    tone: str


def verdict(
    table: pd.DataFrame, keys: Sequence[str], before: str, after: str, alarm: str | None = None
) -> Verdict:
    """Say whether batches mixed, and whether biology stayed.

    Parameters
    ----------
    table
        Of `metrics.score`.
    keys
        The batch columns.
    before, after
        Names of the embeddings.
    alarm
        What an over-correction alarm saw.
    """
    sentences, mixed, apart = [], True, False
    for key in keys:
        for metric in ("cilisi", "ilisi"):
            pair = values_of(table, key, metric, before, after)
            if pair is None:
                continue
            sentences.append(_mixing(key, metric, *pair))
            mixed, apart = mixed and pair[1] >= MIXED, apart or pair[1] < APART
            break
    lost = _losses(table, keys[0], before, after)
    sentences += [_kept(*each) for each in lost] or [_nothing_lost(table, keys[0], before, after)]
    if alarm:
        sentences.append(alarm)
    cost = bool(lost) or bool(alarm)
    gone = "biology" if lost else "structure"
    word = "are mixed" if mixed else "are still apart" if apart else "are partly mixed"
    end = f"but {gone} was lost" if cost else "and biology stayed"
    tone = "bad" if cost or apart else "good" if mixed else "mixed"
    return Verdict(f"Batches {word}, {end}.", [each for each in sentences if each], tone)


def values_of(
    table: pd.DataFrame, key: str, metric: str, before: str, after: str
) -> tuple[float, float] | None:
    """Return a metric before and after, calibrated where it can be; None where one is missing."""
    own = table[(table["batch_key"] == key) & (table["metric"] == metric)]
    own = own.drop_duplicates("embedding").set_index("embedding")
    values = own["calibrated"].fillna(own["raw"]).dropna()
    if before not in values or after not in values:
        return None
    return float(values[before]), float(values[after])


def _mixing(key: str, metric: str, before: float, after: float) -> str:
    word = "mixed" if after >= MIXED else "apart" if after < APART else "partly mixed"
    inside = " inside cell types" if metric == "cilisi" else ""
    went = "rose" if after > before + 0.005 else "fell" if after < before - 0.005 else "stayed"
    name = METRICS[metric][0]
    return (
        f"The batches of {key} are {word}{inside}: {name} {went} from {number(before)} to "
        f"{number(after)}, where 1 is as if batches were shuffled and 0 is apart."
    )


def _biology(table: pd.DataFrame, key: str) -> list[str]:
    own = table[(table["batch_key"] == key) & (table["kind"] == "biology")]
    return list(dict.fromkeys(own["metric"]))


def _losses(
    table: pd.DataFrame, key: str, before: str, after: str
) -> list[tuple[str, float, float]]:
    found = []
    for metric in _biology(table, key):
        if metric.startswith("structure"):  # a good correction moves neighbours too
            continue
        pair = values_of(table, key, metric, before, after)
        error = _error(table, key, metric, before, after)
        if pair is not None and pair[0] - pair[1] > max(LOSS, 2 * error):
            found.append((metric, *pair))
    return found


def _error(table: pd.DataFrame, key: str, metric: str, before: str, after: str) -> float:
    """Return the standard error of a metric's change, as far as it is known."""
    own = table[(table["batch_key"] == key) & (table["metric"] == metric)]
    own = own[own["embedding"].isin([before, after])].drop_duplicates("embedding")
    return float((own["standard_error"].fillna(0.0) ** 2).sum() ** 0.5)


def _kept(metric: str, before: float, after: float) -> str:
    name, question = METRICS[metric]
    return f"Biology: {name} ({question[:-1]}) fell from {number(before)} to {number(after)}."


def _nothing_lost(table: pd.DataFrame, key: str, before: str, after: str) -> str:
    pair = values_of(table, key, "clisi", before, after)
    if pair is not None:
        return (
            f"Cell types stayed apart: cLISI {number(pair[0])} before and {number(pair[1])} after, "
            f"and no other metric of biology fell by more than {LOSS}."
        )
    kept = values_of(table, key, "structure_overlap", before, after)
    if kept is None:
        return ""
    return (
        f"Inside batches cells kept {kept[1]:.0%} of their neighbours. Without cell types this is "
        "all that can be said of biology."
    )


def number(value: float, digits: int = 2) -> str:
    """Return a number with a real minus sign, and a dash for none.

    Examples
    --------
    >>> number(-0.131), number(float("nan"))
    ('−0.13', '–')
    """
    if value != value:
        return "\N{EN DASH}"
    rounded = round(value, digits)
    return f"{rounded if rounded else 0.0:.{digits}f}".replace("-", "\N{MINUS SIGN}")
