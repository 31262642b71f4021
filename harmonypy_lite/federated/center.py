"""What becomes of the sums of all sites: the next question. It knows no more than the messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.federated import start
from harmonypy_lite.federated.exchange import Answer
from harmonypy_lite.federated.message import Message
from harmonypy_lite.federated.plan import Plan
from harmonypy_lite.federated.site import Census, census_from, objective_bound
from harmonypy_lite.federated.sums import decoded
from harmonypy_lite.method import ridge
from harmonypy_lite.method.formulas import turned
from harmonypy_lite.method.history import History
from harmonypy_lite.method.rules import Setting

Sums = Mapping[str, np.ndarray]


def added(
    heard: Mapping[str, Message], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Add the arrays of all sites, modulo 2^64; refuses those of other shapes than asked for."""
    for site, each in heard.items():
        found = {name: array.shape for name, array in each.arrays.items()}
        if found != shapes or any(a.dtype != np.int64 for a in each.arrays.values()):
            raise InvalidInput(
                f"Message {each.step} of site {site} has arrays {found}, asked for were {shapes}."
            )
    return {name: np.asarray(sum(each.arrays[name] for each in heard.values())) for name in shapes}


class HarmonyCenter:
    """Makes of a combined message, and of what all sites answer, the next combined message."""

    def __init__(self, plan: Plan, census: Census | None) -> None:
        self._plan, self._census = plan, census

    def combine(self, before: Message, heard: Mapping[str, Message]) -> Answer:
        """Return the next question."""
        ask = "census" if before.step == 0 else str(before.facts["ask"])
        if ask == "census":
            return self._take_census(heard)
        assert self._census is not None
        setting = self._census.setting(self._plan)
        shapes = self._shapes(ask, before, setting)
        work: dict[str, Callable[[Message, Sums, Setting], Answer]] = {
            "moments": self._draw,
            "lloyd": self._move,
            "assign": self._begin,
            "correct": self._begin,
            "round": self._next_round,
            "regress": self._decide,
        }
        return work[ask](before, added(heard, shapes), setting)

    def _shapes(self, ask: str, before: Message, setting: Setting) -> dict[str, tuple[int, ...]]:
        assert self._census is not None
        K, d = setting.n_clusters, self._census.n_dims
        if ask == "moments":
            return {"first": (d,), "second": (d, d)}
        if ask == "lloyd":
            M = len(before.arrays["centroids"])
            return {"count": (M,), "sums": (M, d)}
        if ask in ("assign", "correct"):
            return {"n": (K,)}
        if ask == "round":
            return {"n": (K,), "objective": (1,)}
        return {"mass": (K,), "sums": (K, d), "kept": (K,), "objective": (1,)}

    def _take_census(self, heard: Mapping[str, Message]) -> Answer:
        facts = {site: each.facts for site, each in heard.items()}
        try:
            dims = {int(each["n_dims"]) for each in facts.values()}
            census = {
                "sizes": {site: each["sizes"] for site, each in facts.items()},
                "levels": {site: each["levels"] for site, each in facts.items()},
                "n_dims": max(dims),
                "unit": max(float(each["unit"]) for each in facts.values()),
            }
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"A census lacks something ({error}).") from None
        found = census_from({"census": census}, self._plan)
        if len(dims) > 1:
            shown = ", ".join(f"{site} {each['n_dims']}" for site, each in facts.items())
            raise InvalidInput(
                f"The embeddings have different numbers of dimensions ({shown}): all sites need "
                "one PCA basis, such as that of `fed pca`."
            )
        _refuse_shared_levels(found, self._plan)
        found.setting(self._plan)  # whether the parameters fit so many cells and levels
        return Answer({"ask": "moments", "census": census})

    def _draw(self, _before: Message, sums: Sums, setting: Setting) -> Answer:
        assert self._census is not None
        N = self._census.n_cells
        number = start.n_candidates(setting.n_clusters, N)
        first, second = (decoded(sums[name], N) for name in ("first", "second"))
        C = start.candidates(first, second, N, number, self._rng(0))
        return Answer({"ask": "lloyd", "pass": 0}, {"centroids": C})

    def _move(self, before: Message, sums: Sums, setting: Setting) -> Answer:
        assert self._census is not None
        N, done = self._census.n_cells, int(before.facts["pass"]) + 1
        count, sum_u = (decoded(sums[name], N) for name in ("count", "sums"))
        C = turned(before.arrays["centroids"], sum_u)
        if done == start.WIDE:
            C = start.reduced(C, count, setting.n_clusters, self._rng(1))
        ask = "assign" if done == start.WIDE + start.NARROW else "lloyd"
        return Answer({"ask": ask, "pass": done}, {"centroids": C})

    def _begin(self, before: Message, sums: Sums, _setting: Setting) -> Answer:
        iteration = int(before.facts.get("iteration", -1)) + 1
        facts = {"ask": "round", "iteration": iteration, "round": 0}
        return Answer(facts | _told(before), {"n": sums["n"]})

    def _next_round(self, before: Message, sums: Sums, setting: Setting) -> Answer:
        iteration, number = int(before.facts["iteration"]), int(before.facts["round"])
        told = _told(before)
        objective = _objective(sums, setting)
        if number > 0:
            told["rounds"][-1].append(objective)
        else:
            told["rounds"].append([])
            if iteration == 0:
                told["start"] = objective
        last = number + 1 == setting.params.max_iter_clustering
        facts = {"ask": "regress" if last else "round", "iteration": iteration}
        return Answer(facts | {"round": number + 1} | told, {"n": sums["n"]})

    def _decide(self, before: Message, sums: Sums, setting: Setting) -> Answer:
        assert self._census is not None
        told = _told(before)
        told["rounds"][-1].append(_objective(sums, setting))
        params, N = setting.params, self._census.n_cells
        history = History(
            params.tol_harmony or 0.0,
            params.tol_clustering or 0.0,
            params.max_iter_harmony,
            params.early_stop,
            told["start"],
            told["rounds"],
        )
        stopped = history.reason_to_stop() or ""
        mass = decoded(sums["mass"], N)
        intercept = ridge.intercepts(mass, decoded(sums["sums"], N * self._census.unit))
        intercept[(mass <= 0) | (sums["kept"] < 2)] = 0.0
        facts = {"ask": "finish" if stopped else "correct", "stopped": stopped}
        arrays = {"intercept": intercept, "kept": sums["kept"]}
        return Answer(facts | {"iteration": before.facts["iteration"]} | told, arrays)

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([int(self._plan.params.rng), number])  # type: ignore[arg-type]


def _told(before: Message) -> dict[str, Any]:
    """Return what the objective did until here, a copy."""
    rounds = [list(each) for each in before.facts.get("rounds", [])]
    return {"rounds": rounds, "start": before.facts.get("start", 0.0)}


def _objective(sums: Sums, setting: Setting) -> float:
    return float(decoded(sums["objective"], objective_bound(setting))[0])


def _refuse_shared_levels(census: Census, plan: Plan) -> None:
    seen: dict[str, str] = {}
    for site in plan.sites:
        for level in census.levels[site]:
            if level in seen:
                raise InvalidInput(
                    f"The level {level!r} of {plan.key!r} is at two sites, {seen[level]} and "
                    f"{site}: batches must be nested in sites. If it is another batch at each, "
                    "such as donor 1 of two hospitals, give them names of their own; a covariate "
                    "that sites share, such as a chemistry, cannot be corrected for here."
                )
            seen[level] = site
    if len(seen) < 2:
        raise InvalidInput("All sites together have one batch: there is nothing to correct.")
