"""Pairwise masks: each two sites share a secret, one adds what it makes of it, one takes it off.

Whoever sees a site's masked sums and knows none of its secrets sees uniform noise; the sum over all
sites is the same to the bit, for integers add modulo 2^64. Masks protect against whoever combines
or carries the messages, as long as he did not get the secrets as well. They do not protect against
one who has the secrets, nor the other sites' sums from all the others together.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files import output

_BYTES = 32


@dataclass(frozen=True)
class Secrets:
    """What one site shares with each other site.

    Attributes
    ----------
    site
        The site.
    keys
        32 secret bytes for each other site.
    """

    site: str
    keys: Mapping[str, bytes]

    def masked(self, sums: np.ndarray, context: str) -> np.ndarray:
        """Return int64 sums with the masks of all pairs on; `context` must never come twice.

        Examples
        --------
        >>> a, b = (Secrets(s, {o: bytes(32)}) for s, o in ("ab", "ba"))
        >>> ones = np.ones(3, np.int64)
        >>> (a.masked(ones, "n 1") + b.masked(ones, "n 1")).tolist()
        [2, 2, 2]
        """
        out = sums.astype(np.uint64)
        for other, key in self.keys.items():
            mask = self._stream(key, context, out.size).reshape(out.shape)
            out = out + mask if self.site < other else out - mask
        return out.astype(np.int64)

    def checks(self, run: str) -> dict[str, str]:
        """Return what shows, for each other site, that both have the same secret."""
        return {
            o: hashlib.sha3_256(k + f"check {run}".encode()).hexdigest()[:16]
            for o, k in self.keys.items()
        }

    @staticmethod
    def _stream(key: bytes, context: str, size: int) -> np.ndarray:
        # a sponge with the key in front is a keyed generator
        words = hashlib.shake_256(key + context.encode()).digest(8 * size)
        return np.frombuffer(words, "<u8").astype(np.uint64)


def deal(sites: Sequence[str], folder: Path) -> list[Path]:
    """Draw a secret for each two sites; write each site's to a file that only it should get."""
    keys: dict[str, dict[str, str]] = {site: {} for site in sites}
    for i, one in enumerate(sites):
        for other in sites[i + 1 :]:
            keys[one][other] = keys[other][one] = secrets.token_hex(_BYTES)
    paths = [folder / f"secrets-{site}.json" for site in sites]
    for site, path in zip(sites, paths, strict=True):
        text = json.dumps({"site": site, "secrets": keys[site]}, indent=1)
        output.write_bytes(path, text.encode(), mode=0o600)
    return paths


def read(path: Path, site: str, sites: Sequence[str]) -> Secrets:
    """Read a site's secrets, made by :func:`deal` or agreed between each two sites.

    Raises
    ------
    InvalidInput
        The file is no such file, of another site, or lacks the secret of one.
    """
    try:
        found = json.loads(path.read_text())
        owner, texts = found["site"], dict(found["secrets"])
        keys = {str(other): bytes.fromhex(text) for other, text in texts.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInput(
            f"{path} holds no secrets ({error}): it should be JSON, "
            '{"site": "A", "secrets": {"B": "64 hexadecimal digits"}}.'
        ) from None
    if owner != site:
        raise InvalidInput(f"{path} holds the secrets of site {owner!r}, and this is {site!r}.")
    if set(keys) != set(sites) - {site} or any(len(key) != _BYTES for key in keys.values()):
        raise InvalidInput(
            f"{path} needs one secret of {_BYTES} bytes for each other site "
            f"({', '.join(s for s in sites if s != site)}); it has {', '.join(keys) or 'none'}."
        )
    return Secrets(site, keys)
