"""Axes outside of pyplot, in the look of the package, and text from files made safe to draw."""

from __future__ import annotations

import io
from functools import cache
from typing import TYPE_CHECKING

from harmonypy_lite.errors import MissingExtra
from harmonypy_lite.pl.colours import INK, LINE, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figure_class() -> type[Figure]:
    """Return matplotlib's figure as notebooks show it, or say which extra to install."""
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise MissingExtra(
            "Figures need matplotlib: pip install 'harmonypy-lite[plot]'."
        ) from error
    return _notebook_figure()


@cache
def _notebook_figure() -> type[Figure]:
    from matplotlib.figure import Figure

    class NotebookFigure(Figure):
        """A figure that a notebook shows although pyplot does not know it."""

        def _repr_png_(self) -> bytes:
            picture = io.BytesIO()
            self.savefig(picture, format="png", bbox_inches="tight")
            return picture.getvalue()

    return NotebookFigure


def axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    """Return `ax`, or the Axes of a new figure of that size in inches, in the package's look."""
    new_figure = figure_class()
    if ax is None:
        ax = new_figure(figsize=size, layout="constrained").add_subplot()
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(LINE)
    ax.tick_params(colors=QUIET, labelcolor=INK, labelsize=8.5, length=3)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set(color=INK, size=9)
    return ax


def heading(ax: Axes, text: str) -> None:
    """Write a title above the left end of the Axes."""
    ax.set_title(text, loc="left", size=9.5, color=INK, weight="bold")


def shown(text: object, longest: int = 28) -> str:
    r"""Return text from a file as matplotlib shall draw it: one line, no formula, not too long.

    Examples
    --------
    >>> shown("CD4$^+$ T, naive and memory cells"), shown("two\nlines")
    ('CD4\\$^+\\$ T, naive and memory…', 'two lines')
    """
    line = "".join(letter if letter.isprintable() else " " for letter in str(text))
    if len(line) > longest:
        line = line[: longest - 1].rstrip() + "…"
    return line.replace("$", r"\$")


def spread(places: list[float], gap: float) -> list[float]:
    """Return places at least `gap` apart, in the same order, around where they were.

    Examples
    --------
    >>> spread([1.0, 1.0, 5.0], 1.0)
    [0.5, 1.5, 5.0]
    """
    order = sorted(range(len(places)), key=places.__getitem__)
    groups: list[tuple[float, list[int]]] = []  # the mean of what is together, and who is
    for i in order:
        centre, members = places[i], [i]
        while groups:
            other, their = groups[-1]
            if centre - other >= gap * (len(members) + len(their)) / 2:
                break
            members = their + members
            centre = sum(places[m] for m in members) / len(members)
            groups.pop()
        groups.append((centre, members))
    found = [0.0] * len(places)
    for centre, members in groups:
        for rank, i in enumerate(members):
            found[i] = centre + gap * (rank - (len(members) - 1) / 2)
    return found
