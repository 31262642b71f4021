"""Pictures as parts of a page: SVG in its light or dark theme, each with a text in its place."""

from __future__ import annotations

import io
import re
import warnings
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from harmonypy_lite.pl.colours import BLUE, GROUND, INK, LINE, QUIET

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_THEME = {BLUE: "--blue", INK: "--ink", QUIET: "--quiet", LINE: "--line", GROUND: "--ground"}
_DPI = 160  # of points and heat maps, which are images inside the SVG


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes
    ----------
    name
        Unique on the page; letters and hyphens.
    svg
        An ``<svg>`` element; every text in it is escaped.
    caption
        What is to be seen, as plain text.
    """

    name: str
    svg: str
    caption: str


def picture(name: str, ax: Axes, *, alt: str, caption: str) -> Picture:
    """Turn the figure of `ax` into a picture; `alt` says to those who cannot see it what it shows.

    Examples
    --------
    >>> from harmonypy_lite import pl
    >>> ax = pl.embedding([[0, 0], [1, 1]], ["<b>", "a"])
    >>> made = picture("cells", ax, alt='Two "cells"', caption="Cells")
    >>> made.svg[:4], "&lt;b&gt;" in made.svg, 'aria-label="Two &quot;cells&quot;"' in made.svg
    ('<svg', True, True)
    """
    import matplotlib

    figure = ax.get_figure(root=True)
    assert figure is not None
    file = io.StringIO()
    # texts stay texts, to be read and searched; ids are the same in every run
    how: Any = {"svg.fonttype": "none", "svg.hashsalt": name}
    with matplotlib.rc_context(how), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the browser has it
        figure.savefig(
            file,
            format="svg",
            transparent=True,
            dpi=_DPI,
            bbox_inches="tight",
            pad_inches=0.05,
            metadata={"Date": None, "Creator": None},
        )
    return Picture(name, _inline(file.getvalue(), name, alt), caption)


def _inline(svg: str, name: str, alt: str) -> str:
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, count=1, flags=re.DOTALL)
    # ids of all pictures are on one page
    svg = re.sub(r'(\sid="|"#|url\(#)', rf"\g<1>{name}-", svg)
    for colour, variable in _THEME.items():
        svg = re.sub(rf"(fill|stroke): {colour}\b", rf"\1: var({variable})", svg)
    svg = re.sub(r"font: ([^;\"]*?)([\d.]+px) [^;\"]*", r"font: \1\2 system-ui, sans-serif", svg)
    width, height = re.findall(r'(?:width|height)="([\d.]+)pt"', svg[: svg.index(">")])
    sizes = f'style="width: {float(width) * 4 / 3:.0f}px" viewBox="0 0 {width} {height}"'
    head = f'<svg role="img" aria-label="{escape(alt)}" {sizes} xmlns="http://www.w3.org/2000/svg"'
    head += ' xmlns:xlink="http://www.w3.org/1999/xlink"'
    return head + svg[svg.index(">") :]
