"""The objective, round by round, and when to stop."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

#: Rounds whose objectives are added up before two such sums are compared (2019, online methods).
WINDOW = 3


@dataclass
class History:
    """What the objective did.

    Attributes
    ----------
    start
        Objective of the first assignment, before any penalty.
    rounds
        For each iteration the objective after each round.
    diversity
        The part of it that the penalty descends: at the start, and after each round.
    stopped
        Why the run ended: "converged", "objective rose" or "max_iter_harmony"; empty before.
    """

    tol_harmony: float
    tol_clustering: float
    max_iter_harmony: int
    early_stop: bool
    start: float = 0.0
    rounds: list[list[float]] = field(default_factory=list)
    diversity: list[float] = field(default_factory=list)
    stopped: str = ""

    @property
    def objective(self) -> list[float]:
        """Objective at the start and after each iteration's clustering."""
        return [self.start, *(rounds[-1] for rounds in self.rounds)]

    def rounds_settled(self) -> bool:
        """Whether this iteration's rounds changed the objective by less than `tol_clustering`."""
        rounds = self.rounds[-1]
        if len(rounds) <= WINDOW + 1:  # as R harmony: the first comparison is after round 5
            return False
        old, new = sum(rounds[-WINDOW - 1 : -1]), sum(rounds[-WINDOW:])
        return abs(old - new) < self.tol_clustering * abs(old)

    def reason_to_stop(self) -> str | None:
        """Return why this iteration is the last (see `stopped`), or None if it is not."""
        old, new = self.objective[-2:]
        if self.early_stop and old - new < self.tol_harmony * abs(old):
            return "converged" if new <= old else "objective rose"
        return "max_iter_harmony" if len(self.rounds) == self.max_iter_harmony else None

    def summary(self) -> dict[str, Any]:
        """Return what happened in plain numbers, for the record of a run."""
        return {
            "iterations": len(self.rounds),
            "rounds": [len(rounds) for rounds in self.rounds],
            "stopped": self.stopped,
            "objective": [float(x) for x in self.objective],
            "objective_by_round": [self.start, *itertools.chain(*self.rounds)],
            "diversity_by_round": list(self.diversity),
        }
