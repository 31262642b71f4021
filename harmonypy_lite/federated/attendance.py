"""A site that goes from message to message, and remembers at home where it was."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harmonypy_lite.design import refuse_cell_names
from harmonypy_lite.embedding import as_embedding
from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.federated import masks
from harmonypy_lite.federated import message as messages
from harmonypy_lite.federated.exchange import Answer, Exchange
from harmonypy_lite.federated.message import Message
from harmonypy_lite.federated.pca import PcaSite
from harmonypy_lite.federated.plan import Plan
from harmonypy_lite.federated.site import HarmonySite
from harmonypy_lite.files import output
from harmonypy_lite.files.stores import CellStore, open_store
from harmonypy_lite.levels import ColumnLevels
from harmonypy_lite.threads import Workers

log = logging.getLogger("harmonypy_lite")

_PAUSE = 0.2


@dataclass(frozen=True)
class Progress:
    """Where a run stands after a step.

    Attributes
    ----------
    step
        Number of the last message that was written or read.
    written
        Files that this call wrote.
    waiting_for
        Whose messages are due: names of sites, or "combined"; empty when the run is over.
    stopped
        Why the run is over; empty before.
    """

    step: int
    written: tuple[Path, ...]
    waiting_for: tuple[str, ...]
    stopped: str = ""


@dataclass(frozen=True)
class AtSite:
    """One site and its file.

    Attributes
    ----------
    name, file
        The site, and the file of its cells.
    private
        Folder for what does not leave the site; by default beside the file.
    secrets
        File of the site's secrets, for masks.
    layer
        Layer with the counts, for a PCA; by default X.
    n_jobs
        Number of threads.
    """

    name: str
    file: Path
    private: Path | None = None
    secrets: Path | None = None
    layer: str | None = None
    n_jobs: int | None = None

    @property
    def folder(self) -> Path:
        """The folder for what does not leave the site."""
        return self.private or self.file.with_name(f"{self.file.stem}.fed-{self.name}")


def patiently(look: Callable[[], Any], enough: Callable[[Any], bool], wait: float) -> Any:
    """Return what `look` finds, again and again until it is enough or the time is up."""
    end = time.monotonic() + wait
    while not enough(found := look()) and time.monotonic() < end:
        time.sleep(_PAUSE)
    return found


class Attendance:
    """A site that goes from message to message."""

    def __init__(self, exchange: Exchange, at: AtSite, worker: Any, fingerprint: str) -> None:
        self._exchange, self._at, self.worker = exchange, at, worker
        self._fingerprint, self.step = fingerprint, 0
        self._secrets: masks.Secrets | None = None
        plan = exchange.plan
        if plan.masks:
            if at.secrets is None:
                raise InvalidInput("The plan masks sums: give the file of this site's secrets.")
            self._secrets = masks.read(at.secrets, at.name, plan.sites)
        self._restore()

    def go_on(self, wait: float) -> Progress:
        """Answer all messages that are there, or come in time."""
        written: list[Path] = []
        while True:
            heard = patiently(
                lambda: self._exchange.combined(self.step), lambda each: each is not None, wait
            )
            if heard is None:
                return Progress(self.step, tuple(written), ("combined",))
            self._exchange.check_own(self._at.name, heard)
            if heard.facts.get("ask") == "finish":
                return Progress(self.step, tuple(written), (), str(heard.facts.get("stopped")))
            answer = self.worker.answer(heard)
            self.step += 1
            if self._exchange.combined(self.step) is None:
                written.append(self._post(heard, answer))
                self._save()

    @property
    def plan(self) -> Plan:
        """Of the run."""
        return self._exchange.plan

    @property
    def name(self) -> str:
        """Of the site."""
        return self._at.name

    @property
    def last(self) -> Message:
        """The combined message that this site heard last."""
        found = self._exchange.combined(self.step)
        assert found is not None
        return found

    def finish(self) -> np.ndarray:
        """Return the site's cells after the last message."""
        self.worker.answer(self.last)
        return self.worker.result()

    def _post(self, heard: Message, answer: Answer) -> Path:
        facts, arrays = dict(answer.facts), dict(answer.arrays)
        run, step = self._exchange.plan.run, self.step
        if self._secrets is not None:
            facts["checks"] = self._secrets.checks(run)
            # one mask on the answers to two questions would come off in their difference
            for name, array in arrays.items():
                context = f"{run} {step} {heard.digest} {name}"
                arrays[name] = self._secrets.masked(array, context)
        path = self._exchange.post_site(self._at.name, step, Answer(facts, arrays, answer.words))
        self._audit(path, facts, arrays, answer.words)
        log.info("wrote %s", path)
        return path

    def _audit(
        self, path: Path, facts: dict[str, Any], arrays: dict[str, Any], words: Mapping[str, str]
    ) -> None:
        """Note what leaves the site, in words."""
        lines = [f"{path.name}: {output.human(path.stat().st_size)}"]
        if "words" in facts:
            lines.append(f"  header: {facts['words']}")
        masked = ", masked" if self._secrets is not None else ""
        for name, array in arrays.items():
            shape = " x ".join(map(str, array.shape))
            lines.append(f"  {name}, {shape} {array.dtype}{masked}: {words[name]}")
        with open(self._at.folder / "sent.txt", "a", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    @property
    def _state(self) -> Path:
        return self._at.folder / f"state-{self.plan.run[:12]}.fed"

    def _save(self) -> None:
        facts, arrays = self.worker.remember()
        facts = {"own": facts, "cells": self._fingerprint}
        state = Message(
            "state", self._exchange.plan.run, self._at.name, self.step, {}, facts, arrays
        )
        messages.write(self._state, state)

    def _restore(self) -> None:
        """Take up the tables of an earlier call; without them all messages are answered again."""
        self._at.folder.mkdir(parents=True, exist_ok=True)
        if not self._state.exists():
            return
        try:
            state = messages.read(self._state)
        except InvalidInput as error:
            log.info("all messages are answered again: %s", error)
            return
        if state.facts["cells"] != self._fingerprint:
            raise InvalidInput(
                f"{self._at.file} has other cells, or other batches, than when this run began: "
                "bring the file back, or begin a new run."
            )
        if not self._exchange.site_path(self._at.name, state.step).exists():
            return
        self.worker.restore(state.facts["own"], state.arrays)
        self.step = state.step


@contextmanager
def attending(exchange: Exchange, at: AtSite) -> Iterator[Attendance]:
    """Open a site's file and take up its part of a run."""
    plan = exchange.plan
    if at.name not in plan.sites:
        raise InvalidInput(
            f"Site {at.name!r} is not in the plan, which has {', '.join(plan.sites)}."
        )
    with open_store(at.file) as store, Workers(at.n_jobs) as workers:
        if plan.what == "pca":
            X, genes = store.counts(at.layer), store.genes()
            yield Attendance(exchange, at, PcaSite(plan, X, genes), _digest(genes, *_parts(X)))
            return
        Z, codes, levels = _cells(store, plan)
        worker = HarmonySite(plan, at.name, Z, codes, levels, workers)
        yield Attendance(exchange, at, worker, _digest(levels, Z, codes))


def _cells(store: CellStore, plan: Plan) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    column = ColumnLevels(plan.key, "refuse")
    seen = column.see(store.obs([plan.key])[plan.key])
    renumbered, levels = column.finish()
    refuse_cell_names(plan.key, levels, store.n_cells)
    return as_embedding(store.embedding(plan.basis)), renumbered[seen], levels


def _parts(X: Any) -> list[np.ndarray]:
    return [X.data, X.indices, X.indptr] if hasattr(X, "indptr") else [np.asarray(X)]


def _digest(names: Sequence[str], *arrays: np.ndarray) -> str:
    found = hashlib.sha256("\n".join(names).encode())
    for array in arrays:
        found.update(np.ascontiguousarray(array).data)
    return found.hexdigest()
