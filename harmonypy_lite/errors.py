"""Every error and warning that the package raises on purpose."""

from __future__ import annotations

import sys
import warnings


class InvalidInput(ValueError):
    """The input cannot be used; raised before any work starts.

    The message says what was given, what is needed and what to do.
    """


class NotApplicable(InvalidInput):
    """The data hold nothing that this metric could measure; the message says what is missing."""


class NumericalError(ArithmeticError):
    """An invariant of the computation broke; names the step, the invariant and the sizes."""


class MissingExtra(ImportError):
    """An optional dependency is absent; the message names the extra to install."""


class HarmonyWarning(UserWarning):
    """Something in the input was handled, but the user should know how."""


class NotConvergedWarning(HarmonyWarning):
    """The run used all its iterations before the objective settled."""


class ObjectiveRoseWarning(HarmonyWarning):
    """The run ended because the objective rose, by more than it may once batches are mixed."""


class UncorrectedWarning(HarmonyWarning):
    """Cells stay as they are: their level was left out, or their cluster corrects nothing."""


class LeftOutWarning(HarmonyWarning):
    """A covariate has no part in the run."""


#: Packages whose lines are not the user's: ours, and scikit-learn, which wraps our estimator.
_NOT_THE_USERS = ("harmonypy_lite", "sklearn", "contextlib")


def warn(message: str, category: type[Warning] = HarmonyWarning) -> None:
    """Warn about the line of the user that led here, however deep in the package this is.

    ``skip_file_prefixes`` of `warnings.warn` would do, but Python 3.11 lacks it.
    """
    level, frame = 1, sys._getframe()
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in _NOT_THE_USERS:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, category, stacklevel=level)
