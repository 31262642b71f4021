"""Messages: nothing in a file is believed before it is checked."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.federated import message as messages
from harmonypy_lite.federated.masks import Secrets
from harmonypy_lite.federated.message import Message
from harmonypy_lite.federated.sums import decoded, encoded

GOOD = Message(
    "site",
    "run",
    "A",
    3,
    {"combined": "00"},
    {"words": "x"},
    {"n": np.arange(5), "t": np.ones((2, 3))},
    {"n": "sizes", "t": "a table"},
)


def forged(path: Path, header: Any, data: bytes = b"") -> Path:
    """Write a message with any header and a right checksum."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    payload = messages._MAGIC + messages._LENGTH.pack(len(text)) + text + data
    path.write_bytes(payload + hashlib.sha256(payload).digest())
    return path


def header(**changes: Any) -> dict[str, Any]:
    good = {"kind": "site", "run": "r", "sender": "A", "step": 1, "answers": {}, "facts": {}}
    return good | {"arrays": []} | changes


def array(**changes: Any) -> list[dict[str, Any]]:
    return [{"name": "n", "dtype": "<i8", "shape": [2], "words": ""} | changes]


def test_message__comes_back_as_it_was(tmp_path: Path) -> None:
    digest = messages.write(tmp_path / "a.fed", GOOD)
    found = messages.read(tmp_path / "a.fed")
    assert found.digest == digest
    assert {n: a.tolist() for n, a in found.arrays.items()} == {
        n: a.tolist() for n, a in GOOD.arrays.items()
    }
    for name in ("kind", "run", "sender", "step", "answers", "facts", "words"):
        assert getattr(found, name) == getattr(GOOD, name)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_message__with_any_byte_changed_or_lost_is_refused(data: st.DataObject) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.fed"
        messages.write(path, GOOD)
        whole = path.read_bytes()
        place = data.draw(st.integers(0, len(whole) - 1))
        flip = data.draw(st.integers(0, 255))
        changed = whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :]
        path.write_bytes(changed if flip else whole[:place])
        with pytest.raises(InvalidInput, match=r"a\.fed"):
            messages.read(path)


@pytest.mark.parametrize(
    "odd",
    [
        b"not json",
        b"[1, 2]",
        b"[" * 100_000,
        header(step="1"),
        header(step=True),
        header(more=1),
        header(arrays=[3]),
        header(arrays=array(dtype="|O")),
        header(arrays=array(dtype="<U8")),
        header(arrays=array(shape=[-1])),
        header(arrays=array(shape=[True])),
        header(arrays=array(shape=[2.0])),
        header(arrays=array(shape=[1] * 40)),
        header(arrays=array(shape="2")),
        header(arrays=array(name=1)),
    ],
)
def test_message__with_an_odd_header_is_refused(odd: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"a\.fed"):
        messages.read(forged(tmp_path / "a.fed", odd, bytes(16)))


def test_message__that_claims_much_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    huge = forged(tmp_path / "a.fed", header(arrays=array(shape=[2**30, 2**30])), bytes(16))
    long = tmp_path / "b.fed"
    payload = messages._MAGIC + messages._LENGTH.pack(2**31) + bytes(100)
    long.write_bytes(payload + hashlib.sha256(payload).digest())
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput, match="claims 9223372036854775808 bytes of arrays"):
            messages.read(huge)
        with pytest.raises(InvalidInput, match="claims a header of 2147483648 bytes"):
            messages.read(long)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=9), st.integers(1, 10**6))
def test_sums__are_exact_in_any_order(values: list[float], factor: int) -> None:
    bound = 50.0 * factor * len(values)
    parts = [encoded(np.array([value * factor]), bound) for value in values]
    one, other = sum(parts), sum(reversed(parts))
    assert np.array_equal(one, other)
    wanted = sum(values) * factor
    assert decoded(np.asarray(one), bound)[0] == pytest.approx(wanted, abs=bound * 1e-15)


@given(st.integers(2, 6), st.binary(min_size=32, max_size=32), st.integers(0, 2**63 - 1))
def test_masks__cancel_for_any_number_of_sites(n: int, key: bytes, large: int) -> None:
    names = [f"s{i}" for i in range(n)]
    sums = [np.array([large, -i, 0], np.int64) for i in range(n)]
    holders = []
    for one in names:
        others = [other for other in names if other != one]
        holders.append(Secrets(one, {other: _secret(key, one, other) for other in others}))
    masked = [holder.masked(own, "n") for holder, own in zip(holders, sums, strict=True)]
    assert np.array_equal(sum(masked), sum(sums))
    assert not np.array_equal(masked[0], sums[0])
    assert not np.array_equal(holders[0].masked(sums[0], "m"), masked[0])


def _secret(key: bytes, one: str, other: str) -> bytes:
    return hashlib.sha256(key + "".join(sorted((one, other))).encode()).digest()
