"""One message is one file: a JSON header, the arrays behind it, a checksum at the end.

A message comes from elsewhere and is not trusted: no size is believed, and nothing allocated,
before the length of the file confirms it. There is no pickle, and only plain numbers are read.
"""

from __future__ import annotations

import hashlib
import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.files import output

_MAGIC = b"HLFED\x01\r\n"
_LENGTH = struct.Struct("<I")
_CHECKSUM = 32
#: Types of arrays: whole numbers for sums, the others for tables.
_DTYPES = ("<i8", "<f8", "<f4")
_MOST_DIMS = 4
#: Bytes of a header, and of a whole message: more is no message of ours.
MOST_HEADER, MOST_BYTES = 2**26, 2**32
_FIELDS: dict[str, type] = {
    "kind": str,
    "run": str,
    "sender": str,
    "step": int,
    "answers": dict,
    "facts": dict,
    "arrays": list,
}


@dataclass(frozen=True)
class Message:
    """What is in one file.

    Attributes
    ----------
    kind
        "plan", "site", "combined" or "state".
    run
        Identity of the run, drawn when the plan was made.
    sender
        Name of the site; "combined" for what is combined.
    step
        Number of the message; 0 is the plan.
    answers
        Checksums of the messages that this one was made from, by their senders.
    facts
        Plain numbers, texts, lists and dicts.
    arrays
        By name.
    words
        For each array what it is.
    digest
        The checksum, of a message that was read or written.
    """

    kind: str
    run: str
    sender: str
    step: int
    answers: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    words: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""


def write(path: Path, message: Message, *, durable: bool = True) -> str:
    """Write a message, complete or not at all; return its checksum.

    What is not `durable` may be damaged by a power failure, which `read` finds.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.fed"
    >>> digest = write(path, Message("site", "run1", "a", 1, arrays={"n": np.arange(3)}))
    >>> read(path).arrays["n"].tolist(), read(path).digest == digest
    ([0, 1, 2], True)
    """
    payload = _packed(message)
    checksum = hashlib.sha256(payload)
    output.write_bytes(path, payload + checksum.digest(), durable=durable)
    return checksum.hexdigest()


def _packed(message: Message) -> bytes:
    arrays = {
        name: np.ascontiguousarray(array, np.asarray(array).dtype.newbyteorder("<"))
        for name, array in message.arrays.items()
    }
    specs = [
        {
            "name": name,
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "words": message.words.get(name, ""),
        }
        for name, array in arrays.items()
    ]
    plain = {name: getattr(message, name) for name in _FIELDS if name != "arrays"}
    header = json.dumps(plain | {"arrays": specs}, sort_keys=True).encode()
    parts = [_MAGIC, _LENGTH.pack(len(header)), header]
    return b"".join([*parts, *(array.tobytes() for array in arrays.values())])


def read(path: Path) -> Message:
    """Read a message.

    Raises
    ------
    InvalidInput
        It is absent, no message, changed, cut off, or claims sizes that its file does not have.
    """
    if not path.is_file():
        raise InvalidInput(f"There is no message {path}.")
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise InvalidInput(f"{path} has {size} bytes: no message is as large; it was not read.")
    data = path.read_bytes()
    start = len(_MAGIC) + _LENGTH.size
    if len(data) < start + _CHECKSUM or not data.startswith(_MAGIC):
        raise InvalidInput(f"{path} is no message of a federated run, or was cut off.")
    checksum = hashlib.sha256(memoryview(data)[:-_CHECKSUM])
    if checksum.digest() != data[-_CHECKSUM:]:
        raise InvalidInput(
            f"{path} was changed or cut off after it was written (its checksum is wrong): get it "
            "from its sender again."
        )
    (length,) = _LENGTH.unpack_from(data, len(_MAGIC))
    if length > min(MOST_HEADER, len(data) - start - _CHECKSUM):
        raise InvalidInput(f"{path} claims a header of {length} bytes, which it does not have.")
    header = _header(path, data[start : start + length])
    arrays, words = _arrays(
        path, header.pop("arrays"), memoryview(data)[start + length : -_CHECKSUM]
    )
    return Message(**header, arrays=arrays, words=words, digest=checksum.hexdigest())


def _header(path: Path, text: bytes) -> dict[str, Any]:
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidInput(f"{path} has a header that is no JSON: it is no message.") from None
    if not isinstance(header, dict) or set(header) != set(_FIELDS):
        raise InvalidInput(f"{path} has a header with other entries than a message has.")
    for name, kind in _FIELDS.items():
        if not isinstance(header[name], kind) or isinstance(header[name], bool):
            raise InvalidInput(f"{path}: {name} of its header is no {kind.__name__}.")
    return header


def _arrays(
    path: Path, specs: list[Any], data: memoryview
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    sizes = [_bytes_of(path, spec) for spec in specs]
    if sum(sizes) != len(data):
        raise InvalidInput(
            f"{path} claims {sum(sizes)} bytes of arrays and has {len(data)}: it was not read."
        )
    arrays, words, at = {}, {}, 0
    for spec, size in zip(specs, sizes, strict=True):
        flat = np.frombuffer(data[at : at + size], spec["dtype"])
        arrays[spec["name"]] = flat.reshape(spec["shape"])
        words[spec["name"]] = spec["words"]
        at += size
    return arrays, words


def _bytes_of(path: Path, spec: Any) -> int:
    """Return how many bytes an array claims; refuses what no array of ours is."""
    good = isinstance(spec, dict) and set(spec) == {"name", "dtype", "shape", "words"}
    if good:
        shape = spec["shape"]
        good = isinstance(spec["name"], str) and isinstance(spec["words"], str)
        good = good and spec["dtype"] in _DTYPES
        good = good and isinstance(shape, list) and len(shape) <= _MOST_DIMS
        good = good and all(type(n) is int and 0 <= n < 2**40 for n in shape)
    if not good:
        raise InvalidInput(f"{path} describes an array that no message has: {str(spec)[:200]}.")
    return int(spec["dtype"][2:]) * math.prod(spec["shape"])
