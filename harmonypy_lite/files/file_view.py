"""A file as one would like it to be: changes to what was there before stay in memory."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

_PAGE = 4096


class FileView(io.RawIOBase):
    """A file of which all before `end` stays as it is: changes there are seen here only.

    With `dry`, changes behind the end are seen here only, too. If a write behind the end fails, all
    that follow are passed over, and `error` says why.
    """

    def __init__(self, handle: int, end: int, *, dry: bool = False) -> None:
        self._handle, self._dry = handle, dry
        self._end = 2**63 if dry else end
        self._size = self._old_end = end
        self._at = 0
        self._frozen = False
        self.error: BaseException | None = None
        self._pages: dict[int, bytearray] = {}

    def readable(self) -> bool:
        """Return True."""
        return True

    def writable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; return it."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        """Return the place."""
        return self._at

    def truncate(self, size: int | None = None) -> int:
        """Set the length, by default to the place."""
        if self._frozen:
            return self._size
        self._size = self._at if size is None else size
        if not self._dry and self.error is None:
            os.ftruncate(self._handle, max(self._size, self._end))
        return self._size

    def readinto(self, buffer: Any) -> int:
        """Fill `buffer` with what is there; return how many bytes."""
        view = memoryview(buffer).cast("B")
        view = view[: max(min(len(view), self._size - self._at), 0)]
        done = 0
        while done < len(view):
            n = os.preadv(self._handle, [view[done:]], self._at + done)
            if n == 0:
                view[done:] = bytes(len(view) - done)
                break
            done += n
        for page, start, stop in _pages(self._at, min(self._at + len(view), self._end)):
            if page in self._pages:
                view[start - self._at : stop - self._at] = self._pages[page][
                    start % _PAGE : start % _PAGE + stop - start
                ]
        self._at += len(view)
        return len(view)

    def write(self, data: Any) -> int:
        """Change what is there; return how many bytes."""
        view = memoryview(data).cast("B")
        if self._frozen:
            return len(view)
        first, last = self._at, self._at + len(view)
        for page, start, stop in _pages(first, min(last, self._end)):
            if page not in self._pages:
                held = os.pread(self._handle, _PAGE, page * _PAGE)
                self._pages[page] = bytearray(held.ljust(_PAGE, b"\0"))
            own = view[start - first : stop - first]
            self._pages[page][start % _PAGE : start % _PAGE + len(own)] = own
        at = max(first, self._end)
        try:
            while at < last and self.error is None:
                at += os.pwrite(self._handle, view[at - first :], at)
        except BaseException as error:  # HDF5 would go on and lose it: to be raised by the caller
            self.error = error
        self._size = max(self._size, last)
        self._at = last
        return len(view)

    def freeze(self) -> None:
        """Pass over all further changes."""
        self._frozen = True

    def forget(self, superblock: bytes) -> None:
        """Keep of all changes before the old end only the superblock given."""
        old_end = self._old_end
        for page in [page for page in self._pages if (page + 1) * _PAGE <= old_end]:
            del self._pages[page]
        if (page := old_end // _PAGE) in self._pages:  # the end lies within this one
            held = os.pread(self._handle, old_end % _PAGE, page * _PAGE)
            self._pages[page][: len(held)] = held
        self._frozen = False
        self.seek(0)
        self.write(superblock)


def _pages(first: int, last: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number, first and last byte of each page that these bytes touch."""
    while first < last:
        stop = min((first // _PAGE + 1) * _PAGE, last)
        yield first // _PAGE, first, stop
        first = stop
