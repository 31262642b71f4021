"""One run at a time for each file that is written: a lock that ends with the process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files.output import Target


@contextlib.contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold a lock by means of the file `path`, which is there meanwhile.

    It ends with the process however that ends: a file that a kill has left locks nothing. Where the
    file system knows no locks, there is none.

    Raises
    ------
    InvalidInput
        Another run holds it; `busy` is the message.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "lock"
    >>> with locked(path, "Another run is at work."):
    ...     path.exists()
    True
    >>> path.exists()
    False
    """
    from filelock import FileLock, Timeout

    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(FileLock(path, timeout=0, mode=0o600, thread_local=False))
        except Timeout:
            raise InvalidInput(busy) from None
        except OSError:  # a file system without locks
            yield
            return
        # Removed while it is held: who has opened it meanwhile finds that it is gone, and looks
        # again. On Windows a file that is open stays until it is closed, where filelock removes it.
        stack.callback(_remove, path)
        yield


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


@contextlib.contextmanager
def claimed(targets: Sequence[Target]) -> Iterator[None]:
    """Keep other runs from writing the same results, from before the work to its end.

    Raises
    ------
    InvalidInput
        Another run is at work on one of them, or has just made what was not there.
    """
    with contextlib.ExitStack() as stack:
        for target in sorted(targets, key=lambda each: each.path):
            lock = target.path.with_name(f".{target.path.name[:200]}.lock")
            busy = (
                f"Another run is writing {target.shown}: wait for its end, or write elsewhere with "
                "-o FILE."
            )
            stack.enter_context(locked(lock, busy))
            if target.mode is None and target.path.exists():
                raise InvalidInput(
                    f"Another run has just written {target.shown}: --overwrite replaces it, or "
                    "give another name (-o FILE)."
                )
        yield
