"""What a public function was called with against what it takes, before it runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.lookup import nearest

F = TypeVar("F", bound=Callable[..., Any])

#: Names that `run_harmony` has, as harmonypy has them, for parameters of the package.
HARMONYPY_NAMES = {
    "ridge_lambda": "lamb",
    "n_clusters": "nclust",
    "block_proportion": "block_size",
    "max_iter_clustering": "max_iter_kmeans",
    "tol_clustering": "epsilon_cluster",
    "tol_harmony": "epsilon_harmony",
    "batch_prune_threshold": "batch_prop_cutoff",
    "rng": "random_state",
    "n_jobs": "ncores",
}
#: Names of one thing in the calls that people come from.
_SAME = (
    *HARMONYPY_NAMES.items(),
    ("rng", "random_state", "seed", "random_seed"),
    ("key", "vars_use", "batch_key", "batch"),
    ("basis", "use_rep", "embedding"),
    ("adjusted_basis", "key_added"),
)


def checked_call(refuse: Callable[[Any], None] | None = None) -> Callable[[F], F]:
    """Let a call say what was meant: keywords by other names, and a first argument of no use.

    Parameters
    ----------
    refuse
        Called with the first argument; raises what to do instead.

    Examples
    --------
    >>> @checked_call()
    ... def integrate(cells, rng=0):
    ...     return rng
    >>> integrate([], random_state=1)
    Traceback (most recent call last):
    TypeError: integrate() takes no argument 'random_state': it is called 'rng' here.
    """

    def decorate(function: F) -> F:
        taken = inspect.signature(function).parameters.values()
        names = [each.name for each in taken if each.name != "self"]
        others = any(each.kind is each.VAR_KEYWORD for each in taken)  # which it checks itself

        @functools.wraps(function)
        def checked(*args: Any, **named: Any) -> Any:
            if refuse is not None and (args or names[0] in named):
                refuse(args[0] if args else named[names[0]])
            for name in named:
                if name not in names and not others:
                    raise TypeError(_unknown(function.__qualname__, name, names))
            return function(*args, **named)

        return cast(F, checked)

    return decorate


def _unknown(function: str, name: str, names: Sequence[str]) -> str:
    same = [other for row in _SAME if name in row for other in row if other in names]
    meant = same[0] if same else nearest(name, names)
    said = f"{function.removesuffix('.__init__')}() takes no argument {name!r}"
    if same:
        return f"{said}: it is called {meant!r} here."
    return f"{said}" + (
        f". Did you mean {meant!r}?" if meant else f"; it takes {', '.join(names)}."
    )


def is_adata(thing: Any) -> bool:
    """Tell whether `thing` is an AnnData, or has the parts of one."""
    return hasattr(thing, "obs") and hasattr(thing, "obsm")


def refuse_other_than_adata(thing: Any) -> None:
    """Refuse what is no AnnData; says which function takes it."""
    if is_adata(thing):
        return
    if isinstance(thing, str) or hasattr(thing, "__fspath__"):
        raise InvalidInput(
            f"adata is {str(thing)!r}, the name of a file: read it first, anndata.read_h5ad(...), "
            "or integrate the file itself, harmonypy_lite.io.integrate_file(path, key), on the "
            "command line harmonypy-lite integrate FILE --key COLUMN."
        )
    raise InvalidInput(
        f"adata is a {type(thing).__name__}, an AnnData is needed: for an array of cells x "
        "dimensions use harmonypy_lite.Harmony().fit_transform(X, batch) or "
        "harmonypy_lite.run_harmony(X, obs, key)."
    )


def refuse_adata(thing: Any) -> None:
    """Refuse an AnnData where an array is needed; says which function takes it."""
    if is_adata(thing):
        raise InvalidInput(
            "An AnnData was given where cells x dimensions are needed: use "
            "harmonypy_lite.pp.harmony_integrate(adata, key), or give the embedding, "
            "adata.obsm['X_pca']."
        )
