"""The progress bar that pp and the command line show."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harmonypy_lite.run import Progress

_FORMAT = "{desc} |{bar:24}| {elapsed}{postfix}"


class Bar:
    """A bar that is moved by calling it; it stands on a line of its own below other messages."""

    def __init__(self, bar: Any) -> None:
        self._bar = bar

    def __call__(self, progress: Progress) -> None:
        """Show where the run stands."""
        bar = self._bar
        bar.total = progress.max_iter * progress.max_rounds
        bar.set_description_str(
            f"Harmony: iteration {progress.iteration} of at most {progress.max_iter}, "
            f"round {progress.round}",
            refresh=False,
        )
        bar.set_postfix_str(f"objective {progress.objective:.6g}", refresh=False)
        bar.n = (progress.iteration - 1) * progress.max_rounds + progress.round
        bar.refresh()

    def clear(self) -> None:
        """Make the line free for a message; the next call shows the bar again."""
        self._bar.clear()


@contextlib.contextmanager
def progress_bar(show: bool | None) -> Iterator[Bar | None]:
    """Give a bar on stderr; None shows it on a terminal or in a notebook only.

    The bar disappears at the end: a run that stops early would leave it half full.
    """
    if show is False:  # spares the import of tqdm
        yield None
        return
    tqdm = _tqdm()
    disable = None if show is None else False  # None: tqdm finds out whether it is a terminal
    with tqdm(desc="Harmony: starting", bar_format=_FORMAT, leave=False, disable=disable) as bar:
        yield Bar(bar)


def _tqdm() -> Any:
    """Return tqdm as it suits the place; a notebook without widgets gets it in plain text."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)  # about the missing widgets
        from tqdm.auto import tqdm
    return tqdm
