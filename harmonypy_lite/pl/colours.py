"""Colours that people with any colour vision tell apart, on white and on dark grounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from anndata import AnnData

#: Text, quiet text, lines and ground; the report replaces them by its light and dark ones.
INK, QUIET, LINE, GROUND = "#1f2328", "#5f6872", "#c8ced6", "#ffffff"
#: One thing against another. No level has just this blue, so that the report can make it lighter.
BLUE, ORANGE, GREEN = "#0070b0", "#d55e00", "#0b8f6a"

# The first six are of Okabe and Ito (2008). Each further one is as far as can be from all before
# it, in CIELAB, to the worst off of normal, deuteranope and protanope eyes (Machado 2009), with
# lightness of 38 to 84.
PALETTE = (
    *("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#6900ff", "#78e187"),
    *("#4b78ff", "#b40f2d", "#d2d2c3", "#3c6969", "#69e1f0", "#3cf05a", "#5aa55a", "#3c96f0"),
    *("#693cc3", "#e14b3c", "#b40096", "#4b3ce1", "#ff7896", "#b41e00", "#78c35a", "#b4004b"),
    *("#3cb4c3", "#d22dc3", "#0f785a", "#b4b4b4", "#f0873c", "#e1d200", "#96e1a5", "#78d2ff"),
    *("#d21e87", "#a569a5", "#1e965a", "#69c378", "#d20f4b", "#f0c34b", "#5a87d2", "#1eb4ff"),
)


def level_colours(n_levels: int) -> list[str]:
    """Return a colour for each level; after 40 they start again.

    Examples
    --------
    >>> level_colours(2)
    ['#0072b2', '#e69f00']
    """
    return [PALETTE[i % len(PALETTE)] for i in range(n_levels)]


def colours_of(adata: AnnData, key: str, levels: Sequence[str]) -> list[str]:
    """Return scanpy's colours of a column where ``uns`` has them for each level, or our own."""
    from matplotlib.colors import is_color_like, to_hex

    stored = adata.uns.get(f"{key}_colors")
    column = adata.obs[key]
    if stored is None or not hasattr(column, "cat") or len(stored) != len(column.cat.categories):
        return level_colours(len(levels))
    by_level = dict(zip(map(str, column.cat.categories), map(str, stored), strict=True))
    if not all(level in by_level and is_color_like(by_level[level]) for level in levels):
        return level_colours(len(levels))
    return [to_hex(by_level[level]) for level in levels]
