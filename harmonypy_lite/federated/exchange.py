"""The folder of messages: which one is due, and whether a file is that one.

Files are `plan.fed`, `combined-0001.fed`, and for each site `SITE-0001.fed`: a site's message n
answers the combined message n - 1 (the plan is number 0), the combined message n adds all sites'
messages n. Each names the checksums of those that it was made from, so that a message of an earlier
attempt, of another step, site or run is found out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.federated import message as messages
from harmonypy_lite.federated.message import Message
from harmonypy_lite.federated.plan import Plan, plan_from

_PLAN = "plan.fed"


@dataclass(frozen=True)
class Answer:
    """What one side has to say, before it is a message.

    Attributes
    ----------
    facts, arrays, words
        As in `Message`.
    """

    facts: Mapping[str, object] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)


class Exchange:
    """The messages of one run in a folder.

    Parameters
    ----------
    folder
        Where the plan is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._plan_message = self._read(_PLAN, Message("plan", "", "plan", 0))
        self.plan = plan_from(self._plan_message)

    @staticmethod
    def begin(folder: Path, plan: Plan) -> Exchange:
        """Write the plan of a new run; a folder holds one run only."""
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.glob("*.fed")):
            raise InvalidInput(
                f"{folder} holds messages of a run already: take a new folder for a new run."
            )
        messages.write(folder / _PLAN, plan.message())
        return Exchange(folder)

    def site_path(self, site: str, step: int) -> Path:
        """Return the file of a site's message."""
        return self.folder / f"{site}-{step:04d}.fed"

    def latest(self) -> int:
        """Return the number of the latest combined message; 0 is the plan."""
        step = 0
        while self._combined_path(step + 1).exists():
            step += 1
        return step

    def combined(self, step: int) -> Message | None:
        """Return a combined message, or None where it is not there yet."""
        if step == 0:
            return self._plan_message
        path = self._combined_path(step)
        if not path.exists():
            return None
        return self._read(path.name, Message("combined", self.plan.run, "combined", step))

    def from_site(self, site: str, step: int) -> Message | None:
        """Return a site's message, or None where it is not there yet."""
        path = self.site_path(site, step)
        if not path.exists():
            return None
        before = self.combined(step - 1)
        assert before is not None
        due = Message("site", self.plan.run, site, step, {"combined": before.digest})
        found = self._read(path.name, due)
        if found.answers != due.answers:
            raise InvalidInput(
                f"{path} answers another message than {self._name(step - 1)} in this folder, such "
                f"as one of an earlier attempt: let site {site} run `fed local` again."
            )
        return found

    def post_site(self, site: str, step: int, answer: Answer) -> Path:
        """Write a site's message."""
        before = self.combined(step - 1)
        assert before is not None
        due = Message("site", self.plan.run, site, step, {"combined": before.digest})
        path = self.site_path(site, step)
        messages.write(path, replace(due, **vars(answer)))
        return path

    def post_combined(self, step: int, heard: Mapping[str, Message], answer: Answer) -> Path:
        """Write the combined message that adds up what was `heard` from the sites."""
        digests = {site: each.digest for site, each in heard.items()}
        due = Message("combined", self.plan.run, "combined", step, digests)
        path = self._combined_path(step)
        messages.write(path, replace(due, **vars(answer)))
        return path

    def check_own(self, site: str, combined: Message) -> None:
        """Refuse a combined message that added another message of this site than the one here."""
        path = self.site_path(site, combined.step)
        if combined.step == 0 or not path.exists():
            return
        if messages.read(path).digest != combined.answers.get(site):
            raise InvalidInput(
                f"{self._combined_path(combined.step)} did not add up {path}, but another message "
                f"in the name of site {site}: ask who combines."
            )

    def _combined_path(self, step: int) -> Path:
        return self.folder / f"combined-{step:04d}.fed"

    def _name(self, step: int) -> str:
        return _PLAN if step == 0 else self._combined_path(step).name

    def _read(self, name: str, due: Message) -> Message:
        """Read a message and check that it is the one that is due."""
        path = self.folder / name
        if due.kind == "plan" and not path.exists():
            raise InvalidInput(
                f"{self.folder} holds no {_PLAN}: `harmonypy-lite fed init` makes a run, and its "
                "plan goes to every site."
            )
        found = messages.read(path)
        if due.run and found.run != due.run:
            raise InvalidInput(f"{path} is from another run than {self.folder / _PLAN}: remove it.")
        if found.kind != due.kind or found.sender != due.sender:
            raise InvalidInput(
                f"{path} should be from {due.sender!r} and is from {found.sender!r} "
                f"({found.kind}): a message was put in another's place."
            )
        if found.step != due.step:
            raise InvalidInput(
                f"{path} is message {found.step} of {found.sender!r} where message {due.step} is "
                "due: it was repeated or misplaced. Remove it, and let its sender write the one "
                "that is due."
            )
        return found
