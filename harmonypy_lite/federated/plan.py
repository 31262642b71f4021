"""The plan: what all sites agree on before the first sum is made."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from harmonypy_lite._version import __version__
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.federated.message import Message
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import plain_parameters

#: A comparison of rounds would need an exchange of its own; it comes first after so many.
MOST_ROUNDS = 5
_SITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")
_KINDS = ("harmony", "pca")


@dataclass(frozen=True)
class PcaChoices:
    """How the shared PCA is made.

    Attributes
    ----------
    n_genes, n_components
        Variable genes that enter, and dimensions that come out, at most.
    target_sum
        Counts to which each cell is scaled before log(1 + x); None: X is normalised already.
    scaled
        Whether genes are divided by their standard deviations.
    """

    n_genes: int = 2000
    n_components: int = 50
    target_sum: float | None = 1e4
    scaled: bool = True


@dataclass(frozen=True)
class Plan:
    """What the first message says.

    Attributes
    ----------
    what
        "harmony" or "pca".
    sites
        Names of all sites; their cells are counted through in this order.
    key, basis
        Column of obs with the batches, and key of obsm with the embedding (of "harmony").
    params
        Parameters of the method.
    min_mass
        A site says nothing of a cluster in which it has less than so many cells.
    masks
        Whether sums are masked.
    pca
        How the PCA is made.
    run
        Identity of the run.
    """

    what: str
    sites: tuple[str, ...]
    key: str = ""
    basis: str = "X_pca"
    params: HarmonyParams = field(default_factory=HarmonyParams)
    min_mass: float = 0.0
    masks: bool = False
    pca: PcaChoices = field(default_factory=PcaChoices)
    run: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        _check_sites(self.sites)
        if self.what not in _KINDS:
            raise InvalidInput(f"A plan is for {' or '.join(_KINDS)}, not for {self.what!r}.")
        if not (isinstance(self.min_mass, int | float) and 0 <= self.min_mass < 2**31):
            raise InvalidInput(f"min_mass={self.min_mass!r}: give a number of cells, 0 or more.")
        _check_pca(self.pca)
        if self.what == "harmony":
            _check_params(self.params)
            object.__setattr__(self, "params", replace(self.params, sync="batch"))

    def message(self) -> Message:
        """Return the plan as a message."""
        params = {k: v for k, v in plain_parameters(self.params).items() if k != "n_jobs"}
        facts = {
            "what": self.what,
            "sites": list(self.sites),
            "key": self.key,
            "basis": self.basis,
            "params": params,
            "min_mass": self.min_mass,
            "masks": self.masks,
            "pca": asdict(self.pca),
            "version": __version__,
        }
        return Message("plan", self.run, "plan", 0, facts=facts)


def plan_from(message: Message) -> Plan:
    """Return the plan that a message holds; the same checks as for one that is made."""
    facts = message.facts
    try:
        if facts["version"] != __version__:
            raise InvalidInput(
                f"The plan was made by version {facts['version']} and this is {__version__}: all "
                "sites need the same version."
            )
        return Plan(
            str(facts["what"]),
            tuple(map(str, facts["sites"])),
            str(facts["key"]),
            str(facts["basis"]),
            HarmonyParams(**_known(facts["params"], HarmonyParams)),
            facts["min_mass"],
            bool(facts["masks"]),
            PcaChoices(**_known(facts["pca"], PcaChoices)),
            message.run,
        )
    except (KeyError, TypeError) as error:
        raise InvalidInput(f"The plan lacks something or has it wrong ({error}).") from None


def _known(given: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    names = {each.name for each in fields(kind)}
    if not set(given) <= names:
        raise InvalidInput(f"The plan has parameters that are not known: {set(given) - names}.")
    return dict(given)


def _check_sites(sites: Sequence[str]) -> None:
    odd = [site for site in sites if not _SITE.fullmatch(site) or site in ("plan", "combined")]
    if odd:
        raise InvalidInput(
            f"A site cannot be called {odd[0]!r}: use letters, digits, - and _ (names of files are "
            "made of it)."
        )
    if len(sites) < 2 or len(set(s.lower() for s in sites)) < len(sites):
        raise InvalidInput(f"sites={list(sites)}: give two or more, each with a name of its own.")


def _check_params(params: HarmonyParams) -> None:
    resolved = params.resolved()
    if params.flavor != "harmony2" or resolved.start != "kmeans":
        raise InvalidInput(
            f"flavor={params.flavor!r}, start={resolved.start!r}: sites that cannot share cells "
            "are integrated with flavor='harmony2' and start='kmeans'."
        )
    if (resolved.max_iter_clustering or 0) > MOST_ROUNDS:
        raise InvalidInput(
            f"max_iter_clustering={params.max_iter_clustering}: at most {MOST_ROUNDS} here, each "
            "round being an exchange."
        )
    for name in ("theta", "ridge_lambda"):
        value = getattr(params, name)
        if value is not None and not isinstance(value, int | float):
            raise InvalidInput(f"{name}={value!r}: give one number, the same for all levels.")
    if isinstance(params.rng, np.random.Generator):
        raise InvalidInput("rng is a generator: give a number, which can be written into a plan.")


def _check_pca(pca: PcaChoices) -> None:
    for name in ("n_genes", "n_components"):
        value = getattr(pca, name)
        if type(value) is not int or not 1 <= value <= 20_000:
            raise InvalidInput(f"{name}={value!r}: give a whole number from 1 to 20000.")
    target = pca.target_sum
    if target is not None and not (isinstance(target, int | float) and 0 < target < 1e9):
        raise InvalidInput(f"target_sum={target!r}: give a positive number, or None.")
