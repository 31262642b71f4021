"""The progress bar that pp and the command line show."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harmonypy_lite.run import Progress

_FORMAT = "{desc} |{bar:24}| {elapsed}{postfix}"


@contextlib.contextmanager
def progress_bar(show: bool | None) -> Iterator[Callable[[Progress], None] | None]:
    """Give a callback that moves a bar on stderr; None shows it on a terminal or notebook only.

    The bar disappears at the end: a run that stops early would leave it half full.
    """
    if show is False:  # spares the import of tqdm
        yield None
        return
    from tqdm.auto import tqdm

    disable = None if show is None else False  # None: tqdm finds out whether it is a terminal
    with tqdm(desc="Harmony", bar_format=_FORMAT, leave=False, disable=disable) as bar:

        def advance(progress: Progress) -> None:
            bar.total = progress.max_iter * progress.max_rounds
            bar.set_description_str(
                f"Harmony: iteration {progress.iteration} of at most {progress.max_iter}, "
                f"round {progress.round}",
                refresh=False,
            )
            if progress.objective is not None:
                bar.set_postfix_str(f"objective {progress.objective:.6g}", refresh=False)
            bar.n = (progress.iteration - 1) * progress.max_rounds + progress.round
            bar.refresh()

        yield advance
