"""Names that the user gave against the names that are there, before any work."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from harmonypy_lite.errors import InvalidInput

if TYPE_CHECKING:
    import pandas as pd


def key_list(key: str | Sequence[str], *, name: str = "key", holder: str = "obs") -> list[str]:
    """Return one key or several as a list; refuses none and the same one twice."""
    if hasattr(key, "iloc") or not isinstance(key, Iterable):  # a column instead of its name
        raise InvalidInput(
            f"{name} is a {type(key).__name__}: give the name of a column of {holder}, or a list "
            "of names."
        )
    keys = [key] if isinstance(key, str) else list(key)
    if not keys or not all(isinstance(k, str) for k in keys):
        raise InvalidInput(
            f"{name}={key!r}: give the name of a column of {holder} that tells batches apart, or "
            "a list of names."
        )
    twice = sorted({k for k in keys if keys.count(k) > 1})
    if twice:
        raise InvalidInput(f"The key {twice[0]!r} was given twice: give each column once.")
    return keys


def check_columns(keys: Sequence[str], columns: Iterable[str], *, holder: str = "obs") -> None:
    """Refuse keys that are no columns of `holder`; the message lists those that are."""
    there = list(columns)
    for key in keys:
        if key in there:
            continue
        parts = [part.strip() for part in key.split(",")]
        if set(parts) <= set(there):
            raise InvalidInput(
                f"There is no {holder} column {key!r}, but {' and '.join(map(repr, parts))} are "
                f"there: give them one by one, in Python {parts}, on the command line "
                f"{' '.join(f'--key {part}' for part in parts)}."
            )
        raise InvalidInput(f"There is no {holder} column {key!r}{_instead(key, there, holder)}.")


def check_basis(basis: str, embeddings: Iterable[str]) -> None:
    """Refuse a basis that obsm lacks; says how to make a PCA where there is none."""
    there = list(embeddings)
    if basis in there:
        return
    text = f"There is no embedding obsm[{basis!r}]{_instead(basis, there, 'obsm')}."
    if not any("pca" in name.lower() for name in there):
        text += (
            " Make a PCA first, in Python: scanpy.pp.normalize_total(adata); "
            "scanpy.pp.log1p(adata); scanpy.pp.highly_variable_genes(adata, batch_key=...); "
            "scanpy.pp.pca(adata). On the command line --preprocess does these steps."
        )
    raise InvalidInput(text)


def check_result_name(name: str, *, argument: str) -> None:
    """Refuse a name under which a file cannot hold a matrix: empty, ".", or a path of groups."""
    if isinstance(name, str) and name not in ("", ".") and "/" not in name:
        return
    raise InvalidInput(
        f"{argument} cannot be {name!r}: give the new key of obsm as a text without '/', which "
        "files use to tell folders apart."
    )


def check_adjusted_basis(adjusted_basis: str, basis: str) -> None:
    """Refuse a name that no file can hold, and that of the embedding the result is made from."""
    check_result_name(adjusted_basis, argument="adjusted_basis")
    if basis == adjusted_basis:
        raise InvalidInput(
            f"adjusted_basis is {adjusted_basis!r}, the basis itself: the result would replace "
            "the embedding. Give another name."
        )


def check_same_order(embedding: Any, batches: Any) -> None:
    """Refuse two pandas objects that name the same cells in different orders, or some of them.

    Rows are matched by place, as everywhere in scikit-learn. Default numbers are no names. Texts
    are: where some are in both, all must be, in one order. Different lengths are refused elsewhere.
    """
    import pandas as pd

    first, second = (getattr(thing, "index", None) for thing in (embedding, batches))
    if not isinstance(first, pd.Index) or not isinstance(second, pd.Index):
        return
    if isinstance(first, pd.RangeIndex) or isinstance(second, pd.RangeIndex):
        return
    if first.equals(second) or len(first) != len(second):
        return
    shared = first.isin(second)
    if shared.all() and second.isin(first).all():
        raise InvalidInput(
            "The embedding and the batch column(s) name the same cells in different orders: bring "
            "them into one order, such as batches.loc[embedding.index]."
        )
    if shared.any() and _are_texts(first) and _are_texts(second):
        raise InvalidInput(
            f"The embedding and the batch column(s) name different cells: only {shared.sum():,} of "
            f"the {len(first):,} names of the embedding are among those of the batches. Take both "
            "from the same cells, such as batches.loc[embedding.index], or drop the names to match "
            "rows by place (reset_index(drop=True))."
        )


def _are_texts(index: pd.Index) -> bool:
    return index.inferred_type == "string"


def nearest(name: str, there: Sequence[str]) -> str | None:
    """Return the name that `name` is a slip of the pen for, or None; case does not count.

    Examples
    --------
    >>> nearest("Donnor", ["donor", "chemistry"]), nearest("batch", ["patient"])
    ('donor', None)
    """
    close = difflib.get_close_matches(name.lower(), [n.lower() for n in there], n=1, cutoff=0.75)
    return next((n for n in there if close and n.lower() == close[0]), None)


def _instead(name: str, there: list[str], holder: str) -> str:
    if not there:
        return f": {holder} is empty"
    near = nearest(name, there)
    shown = ", ".join(there[:30]) + (f" and {len(there) - 30} more" if len(there) > 30 else "")
    hint = f". Did you mean {near!r}?" if near else ""
    return f"{hint} {holder} has: {shown}" if hint else f"; {holder} has: {shown}"
