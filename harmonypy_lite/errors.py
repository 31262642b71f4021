"""Every error and warning that the package raises on purpose."""

from __future__ import annotations


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
