"""What studies with a truth have in common: their options, and figures that are kept."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import pandas as pd

FIRST_SEED = {"design": 0, "final": 100}


def options(text: str, *more_halves: str) -> argparse.ArgumentParser:
    """Return the options of a study whose module says `text` of itself."""
    parser = argparse.ArgumentParser(description=text.split("\n")[0])
    parser.add_argument("--half", choices=[*FIRST_SEED, *more_halves], default="design")
    parser.add_argument("--seeds", type=lambda text: [int(s) for s in text.split(",")])
    parser.add_argument("--cells", type=int, default=1500)
    parser.add_argument("--csv", type=Path, help="where to keep every figure")
    parser.add_argument("--read", type=Path, nargs="+", help="figures that were kept")
    return parser


def seeds(given: argparse.Namespace) -> list[int]:
    """Return the seeds that were asked for, or five of the half's own."""
    return given.seeds or [FIRST_SEED[given.half] + i for i in range(5)]


def table(
    given: argparse.Namespace, collect: Callable[[argparse.Namespace], pd.DataFrame]
) -> pd.DataFrame:
    """Return the figures, kept ones or new ones, and keep them where asked to."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if given.read:
            found = pd.concat([pd.read_csv(path) for path in given.read], ignore_index=True)
        else:
            found = collect(given)
    if given.csv is not None:
        found.to_csv(given.csv, index=False)
    return found
