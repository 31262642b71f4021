"""What the commands do: each step reads the messages that are there, and writes the next one.

All steps may be repeated: what is done already is not done again, and a step that was killed left
either its message or nothing.
"""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.federated import masks
from harmonypy_lite.federated.attendance import AtSite, Attendance, Progress, attending, patiently
from harmonypy_lite.federated.center import HarmonyCenter
from harmonypy_lite.federated.exchange import Exchange
from harmonypy_lite.federated.message import Message
from harmonypy_lite.federated.pca import PcaCenter, PcaSite
from harmonypy_lite.federated.plan import Plan
from harmonypy_lite.federated.site import census_from
from harmonypy_lite.files import output
from harmonypy_lite.files.stores import NewParts, open_store
from harmonypy_lite.lookup import check_adjusted_basis
from harmonypy_lite.record import storable
from harmonypy_lite.results import settled
from harmonypy_lite.run import plain_parameters, versions

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger("harmonypy_lite")


def init(folder: Path, plan: Plan) -> list[Path]:
    """Begin a run: write the plan, and for masks the secrets of each site.

    The files of secrets must reach one site each, by a way that whoever combines cannot read.

    Examples
    --------
    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "run"
    >>> [path.name for path in init(folder, Plan("harmony", ("A", "B"), "donor", masks=True))]
    ['plan.fed', 'secrets-A.json', 'secrets-B.json']
    """
    Exchange.begin(folder, plan)
    dealt = masks.deal(plan.sites, folder) if plan.masks else []
    return [folder / "plan.fed", *dealt]


def local(folder: Path, at: AtSite, *, wait: float = 0.0) -> Progress:
    """Do a site's share until another message is needed that is not there after `wait` seconds.

    Parameters
    ----------
    folder
        Of the messages.
    at
        The site.
    wait
        Seconds to wait for each message.

    Raises
    ------
    InvalidInput
        For a message that is not the one that is due, and for cells that cannot be used.
    """
    exchange = Exchange(folder)
    with attending(exchange, at) as site:
        return site.go_on(wait)


def combine(folder: Path, *, wait: float = 0.0) -> Progress:
    """Add up the sites' messages until one is missing that is not there after `wait` seconds.

    Raises
    ------
    InvalidInput
        For a message that is not the one that is due.
    """
    exchange = Exchange(folder)
    written: list[Path] = []
    while True:
        step = exchange.latest()
        before = exchange.combined(step)
        assert before is not None
        if before.facts.get("ask") == "finish":
            return Progress(step, tuple(written), (), str(before.facts.get("stopped")))
        names = exchange.plan.sites
        due = step + 1
        missing = patiently(partial(_missing, exchange, due), lambda left: not left, wait)
        if missing:
            return Progress(step, tuple(written), missing)
        heard = {name: exchange.from_site(name, due) for name in names}
        answers = {name: each for name, each in heard.items() if each is not None}
        _check_secrets(answers)
        answer = _center(exchange).combine(before, answers)
        written.append(exchange.post_combined(due, answers, answer))
        log.info("wrote %s", written[-1])


def apply(
    folder: Path,
    at: AtSite,
    target: output.Target,
    *,
    name: str | None = None,
    overwrite: bool = False,
) -> Progress:
    """Write a site's result into its own file, or a copy of it, once the run is over.

    Parameters
    ----------
    folder
        Of the messages.
    at
        The site.
    target
        Where the result goes, from :func:`harmonypy_lite.files.output.plan`.
    name
        Key of obsm for the result; by default X_pca_harmony, or X_pca for a PCA.
    overwrite
        Replace a result that is there already.

    Raises
    ------
    InvalidInput
        The run is not over, or the file holds what would be written already.
    """
    exchange = Exchange(folder)
    name = name or ("X_pca" if exchange.plan.what == "pca" else "X_pca_harmony")
    check_adjusted_basis(name, exchange.plan.basis if exchange.plan.what == "harmony" else "")
    with attending(exchange, at) as site:
        done = site.go_on(0.0)
        if not done.stopped:
            raise InvalidInput(
                f"The run in {folder} is not over: combined message {done.step + 1} is due. Go on "
                "with `fed local` and `fed combine`."
            )
        made = site.finish()
        parts = _new_parts(site, made, name, done)
    with open_store(at.file) as store:
        clashes = store.clashes(parts)
        if clashes and not overwrite:
            raise InvalidInput(
                f"{at.file} holds {' and '.join(clashes)} already: --overwrite replaces it in the "
                "output."
            )
        target = settled(target, store, parts)
    if target.appends:
        store.append(target.source, parts)
    else:
        with output.replacing(target) as copy:
            store.write(copy, parts)
    return Progress(done.step, (target.path,), (), done.stopped)


def _new_parts(site: Attendance, made: np.ndarray, name: str, done: Progress) -> NewParts:
    plan, worker = site.plan, site.worker
    summary: dict[str, Any] = {
        "run": plan.run,
        "site": site.name,
        "sites": list(plan.sites),
        "exchanges": done.step,
        "versions": versions(),
    }
    if isinstance(worker, PcaSite):
        assert worker.loadings is not None
        record = storable(summary | asdict(plan.pca))
        return NewParts({name: made}, {"PCs": worker.loadings}, {"pca": record})
    facts = site.last.facts
    told = {"parameters": plain_parameters(plan.params), "stopped": done.stopped}
    told["objective"] = [facts["start"], *(rounds[-1] for rounds in facts["rounds"])]
    how = {"basis": plan.basis, "adjusted_basis": name, "covariates": [plan.key]}
    return NewParts({name: made}, uns={"harmony": storable(summary | told | how)})


def _missing(exchange: Exchange, step: int) -> tuple[str, ...]:
    sites = exchange.plan.sites
    return tuple(site for site in sites if not exchange.site_path(site, step).exists())


def _center(exchange: Exchange) -> HarmonyCenter | PcaCenter:
    plan = exchange.plan
    if plan.what == "pca":
        return PcaCenter(plan)
    first = exchange.combined(1)
    return HarmonyCenter(plan, None if first is None else census_from(first.facts, plan))


def _check_secrets(heard: Mapping[str, Message]) -> None:
    """Refuse sites that do not share the same secret: their masks would not cancel."""
    checks: dict[str, Any] = {site: each.facts.get("checks", {}) for site, each in heard.items()}
    for one, own in checks.items():
        for other, check in own.items():
            if checks.get(other, {}).get(one) != check:
                raise InvalidInput(
                    f"Sites {one} and {other} do not have the same secret: give both the file that "
                    "was made for them, and let them start again."
                )
