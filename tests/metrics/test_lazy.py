"""Metrics that are sums over cells, on Dask arrays: the same values, never computed whole."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.metrics import bras, pcr, pcr_comparison
from harmonypy_lite.metrics.bras import bras_per_cell

da = pytest.importorskip("dask.array")


def cells() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draws = np.random.default_rng(0)
    batch, kind = draws.integers(0, 3, 700), draws.integers(0, 2, 700)
    Z = draws.normal(size=(700, 4)) + kind[:, None] * 4 + batch[:, None]
    return Z, np.array(list("abc"))[batch], np.array(["T", "B"])[kind]


@pytest.mark.parametrize("chunks", [(700,), (1, 400, 0, 299)])
def test_sums__over_partitions_are_those_over_the_whole(chunks: tuple[int, ...]) -> None:
    Z, batch, kind = cells()
    seen: list[int] = []

    def part(block: np.ndarray) -> np.ndarray:
        seen.append(len(block))
        return block

    lazy = da.from_array(Z, chunks=(chunks, 4)).map_blocks(part, meta=np.empty((0, 0)))
    assert pcr(lazy, batch) == pytest.approx(pcr(Z, batch), rel=1e-12)
    assert bras(lazy, batch, kind) == pytest.approx(bras(Z, batch, kind), rel=1e-12)
    found = bras_per_cell(lazy, batch, kind)
    np.testing.assert_allclose(found, bras_per_cell(Z, batch, kind), rtol=1e-12)
    moved = Z - np.array([[ord(each) - ord("a")] for each in batch])
    wanted = pcr_comparison(Z, moved, batch)
    assert pcr_comparison(lazy, da.from_array(moved), batch) == pytest.approx(wanted, rel=1e-12)
    assert max(seen) == max(chunks)


def test_lazy__chunked_columns_and_bad_values_are_refused() -> None:
    Z, batch, _ = cells()
    with pytest.raises(InvalidInput, match=r"rechunk\(\{1: -1\}\)"):
        pcr(da.from_array(Z, chunks=(300, 2)), batch)
    Z[5, 1] = np.nan
    with pytest.raises(InvalidInput, match=r"a partition of it.* has NaN or infinite values"):
        pcr(da.from_array(Z, chunks=(300, 4)), batch)


def test_lazy__other_embeddings_are_taken_as_before() -> None:
    Z, batch, _ = cells()
    wanted: Any = pcr(Z, batch)
    assert pcr(Z.tolist(), batch) == pytest.approx(wanted)
