"""The rule that reads a sweep: which value to take, or why none.

Along a sweep mixing is gained and structure lost, and the *exchange rate* between the two tells a
good step from a bad one: absolute losses do not, since where types overlap a good correction costs
structure too. A step is taken if it gains at least `RATE` units of mixing for each unit of
structure; to take all such steps, and those behind a flat stretch (a start that one value cannot
leave and a larger one can), is to take the value with the largest

    min(mixing, expected) / (expected - 1) + RATE * structure

where `expected` is the mixing of shuffled batches: to mix more evenly than that is no gain.
The default is right so often that another value must be clearly better.
The thresholds were chosen on the first half of the scenarios of tests/benchmarks/study_theta.py;
docs/theta.md has the table of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from harmonypy_lite.theta.results import Verdict

RATE = 7.0
"""Structure is worth so much of the mixing that is to be had (see `worth`)."""

TIE = 0.1
"""Values whose worth differs by less are equal; of these the one next to the default is taken."""

NEGLIGIBLE = 0.02
"""Share of the mixing to be had that the input may lack without needing a correction."""

LITTLE = 0.05
"""A run that gains less than this share of the missing mixing has mixed nothing."""

BELIEVED = 3.0
"""Standard deviations of the shuffles that the missing mixing must exceed."""


class Evidence(NamedTuple):
    """What the rule looks at; arrays (n_values,) in the order of the sweep.

    `default` is the place of the value that the package has as its default, or 0.
    """

    mixing: np.ndarray
    structure: np.ndarray
    before: float
    expected: float
    expected_sd: float
    default: int = 0


class Decision(NamedTuple):
    """Place of the value to take, or None, and why."""

    verdict: Verdict
    place: int | None
    reason: str


def worth(evidence: Evidence) -> np.ndarray:
    """Return what the rule maximises (n_values,)."""
    room = max(evidence.expected - 1, 1e-9)
    return np.minimum(evidence.mixing, evidence.expected) / room + RATE * evidence.structure


def missing_share(before: float, expected: float) -> float:
    """Return which share of the mixing to be had the input lacks, 0 to 1."""
    return float(max(0.0, expected - before) / max(expected - 1, 1e-9))


def best(evidence: Evidence) -> int:
    """Return the place of the largest worth; of equal values that next to the default."""
    found = worth(evidence)
    equal = np.flatnonzero(found >= found.max() - TIE)
    return int(equal[np.abs(equal - evidence.default).argmin()])


def is_needed(effect: float, deviation: float) -> bool:
    """Whether mixing that lacks `effect`, `deviation` standard deviations, should be corrected."""
    return effect >= NEGLIGIBLE and deviation >= BELIEVED


def decide(evidence: Evidence, noise: float | None = None) -> Decision:
    """Read a sweep.

    Parameters
    ----------
    evidence
        Means over seeds.
    noise
        Structure that the run at the best place leaves where there is nothing to correct (1: it
        moves nothing); None takes 1.

    Examples
    --------
    >>> found = decide(Evidence(np.array([1.2, 1.9]), np.array([0.97, 0.96]), 1.1, 2.0, 0.01))
    >>> found.verdict, found.place
    ('correct', 1)
    """
    effect = missing_share(evidence.before, evidence.expected)
    deviation = (evidence.expected - evidence.before) / max(evidence.expected_sd, 1e-12)
    seen = f"Cells of the input see {evidence.before:.2f} batches around them"
    dealt = f"{evidence.expected:.2f} if batches were shuffled"
    if not is_needed(effect, deviation):
        return Decision(
            "no correction needed", None, f"{seen}, as good as {dealt}: batches are mixed already."
        )
    place = best(evidence)
    gained = min(evidence.mixing[place], evidence.expected) - evidence.before
    share = gained / max(evidence.expected - evidence.before, 1e-9)
    if share < LITTLE:
        return Decision(
            "cannot be told apart",
            None,
            f"{seen} ({dealt}), and no value brought them closer without tearing what they are "
            f"(at most {evidence.mixing.max():.2f}): batch and biology look alike here. Try "
            "another start or flavor, and look at whether the batches hold the same cell types.",
        )
    lost = max(0.0, (1.0 if noise is None else noise) - evidence.structure[place])
    scaled = gained / max(evidence.expected - 1, 1e-9)
    if scaled < RATE * lost:
        return Decision(
            "cannot be told apart",
            None,
            f"{seen} ({dealt}); the best value gains {gained:.2f} but loses {lost:.3f} of the "
            "neighbours inside batches beyond noise: batch and biology look alike here.",
        )
    return Decision(
        "correct",
        place,
        f"{seen} ({dealt}); this value brings it to {evidence.mixing[place]:.2f} and keeps "
        f"{evidence.structure[place]:.1%} of the neighbours inside batches.",
    )


def rule() -> str:
    """Return the rule in plain words, with its numbers."""
    return (
        f"No correction is needed where the input lacks less than {NEGLIGIBLE:.0%} of the mixing "
        f"that shuffled batches have, or less than {BELIEVED:g} standard deviations of theirs. "
        "Else each value gets a sum: its mixing, as a share of what is to be had (no more than "
        f"shuffled batches have), and {RATE:g} x the structure that it keeps inside batches. The "
        f"largest sum wins; of sums within {TIE:g} of it, the value next to the default. Where the "
        f"winner gains less than {LITTLE:.0%} of the mixing that is missing, or loses more "
        "structure than random batches do and its mixing does not pay for that at the same rate, "
        "batch and biology cannot be told apart."
    )


def pareto(mixing: np.ndarray, structure: np.ndarray) -> np.ndarray:
    """Return which values (n,) no other beats in one without losing in the other.

    Examples
    --------
    >>> pareto(np.array([1.0, 2.0, 1.5]), np.array([0.9, 0.8, 0.7])).tolist()
    [True, True, False]
    """
    better = (mixing >= mixing[:, None]) & (structure >= structure[:, None])
    better &= (mixing > mixing[:, None]) | (structure > structure[:, None])
    return np.logical_not(better.any(axis=1))


def span_of(places: Sequence[int | None]) -> tuple[int, int] | None:
    """Return the first and last of the places that seeds chose; None if none did."""
    chosen = [place for place in places if place is not None]
    return (min(chosen), max(chosen)) if chosen else None
