"""Orders of few keys, beside NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from harmonypy_lite.kernels.sorting import counting_order


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@pytest.mark.parametrize(("n", "n_keys"), [(0, 1), (1, 1), (1000, 7), (50, 190)])
def test_counting_order__is_numpys_stable_order(n, n_keys, dtype):
    key = np.random.default_rng(n).integers(0, n_keys, n).astype(dtype)
    key.setflags(write=False)
    order = np.empty(n, np.int32)
    counting_order(key, np.zeros(n_keys + 1, np.int64), order)
    np.testing.assert_array_equal(order, np.argsort(key, kind="stable"))
