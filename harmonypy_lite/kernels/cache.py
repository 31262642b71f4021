"""Machine code of kernels on the disk, which is used only while every kernel is as it was.

numba asks whether the file of a function has changed. Functions that it calls lie in other files,
and their code is part of its own: after an upgrade in place, a part would be of the version before.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile
from numba.core.sigutils import normalize_signature


def sources() -> str | None:
    """Return a hash of the text of all kernels and numba's version; None where it has no text.

    Examples
    --------
    >>> len(sources())
    64
    """
    text = hashlib.sha256(numba.__version__.encode())
    try:
        found = [each for each in files(__package__).iterdir() if each.name.endswith(".py")]
        for each in sorted(found, key=lambda file: file.name):
            read = each.read_bytes()
            text.update(f"\n{each.name} {len(read)}\n".encode() + read)
    except OSError:  # packed in a program of its own, or closed to this user
        return None
    return text.hexdigest() if found else None


#: Read once, when the kernels are imported: what is changed later is not what runs.
SOURCES = sources()


class _Marked(CompileResultCacheImpl):
    """Machine code with the sources that it was made of.

    The index has them too, but is written before the code: a run that is killed between the two,
    or another version at work, would leave the index beside the code of before.
    """

    def reduce(self, cres: Any) -> Any:
        return SOURCES, super().reduce(cres)

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        return super().rebuild(target_context, payload[1]) if payload[0] == SOURCES else None


class KernelCache(FunctionCache):
    """numba's cache of one function, fresh while all kernels are.

    Raises
    ------
    RuntimeError
        There is no folder that it may be written to.
    """

    _impl_class = _Marked

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        self._cache_file = IndexDataCacheFile(self.cache_path, self._impl.filename_base, SOURCES)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the machine code for these types of arguments, if it is there.

        Two processes that begin at once may give one file to two of them: that of others is left.
        """
        found = super().load_overload(sig, target_context)
        if found is None or found.signature.args != normalize_signature(sig)[0]:
            return None
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Save machine code; without it the run goes on, as it is complete in memory."""
        with contextlib.suppress(OSError):
            super().save_overload(sig, data)
