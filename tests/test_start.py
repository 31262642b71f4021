from __future__ import annotations

import numpy as np
import pytest
import twin

from harmonypy_lite.method import start
from harmonypy_lite.method.start import CELLS_PER_CLUSTER, sample_cells, start_centroids


def directions(n: int, kinds: int, d: int = 8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return read-only cells that point one of few ways, and which."""
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % kinds
    Z = np.eye(d)[kind] * rng.uniform(1, 50, (n, 1)) + rng.normal(0, 0.01, (n, d))
    return twin.frozen(Z), kind


@pytest.mark.parametrize(("n", "K"), [(10, 1), (256, 1), (1000, 100)])
def test_sample__is_all_cells_when_they_are_few(n: int, K: int) -> None:
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(sample_cells(n, K, rng), np.arange(n))


@pytest.mark.parametrize(("n", "K"), [(257, 1), (100_000, 3)])
def test_sample__is_distinct_sorted_and_seeded(n: int, K: int) -> None:
    a, b, c = (sample_cells(n, K, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert a.size == CELLS_PER_CLUSTER * K
    assert (np.diff(a) > 0).all()
    assert a.min() >= 0
    assert a.max() < n
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a, c)


def test_sample__takes_cells_evenly() -> None:
    counts = np.zeros(1024)
    for seed in range(200):
        counts[sample_cells(1024, 1, np.random.default_rng(seed))] += 1
    assert counts.sum() == 200 * 256
    assert abs(counts[:512].sum() / counts.sum() - 0.5) < 0.01
    assert counts.max() < 90  # binomial with mean 50 and standard deviation 6
    assert counts.min() > 15


@pytest.mark.parametrize("K", [1, 2, 5, 33, 100])
@pytest.mark.parametrize("d", [1, 2, 20])
def test_centroids__are_unit_rows(K: int, d: int) -> None:
    Z = twin.frozen(np.random.default_rng(0).normal(size=(150, d)))
    Y = start_centroids(Z, K, np.random.default_rng(1))
    assert Y.shape == (K, d)
    assert Y.dtype == np.float64
    np.testing.assert_allclose(np.linalg.norm(Y, axis=1), 1, rtol=1e-12)


def test_centroids__find_a_rare_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    # One cell in a hundred: sixteen cells drawn evenly miss it mostly, the last quarter never.
    monkeypatch.setattr(start, "_LLOYD_ITERATIONS", 0)
    for seed in range(20):
        Z, _ = directions(400, 3, seed=seed)
        Z = Z.copy()
        Z[:4] = [0, 0, 0, 0, 0, 0, 0, 5]
        Y = start_centroids(Z, 16, np.random.default_rng(seed))
        U = Z / np.linalg.norm(Z, axis=1, keepdims=True)
        assert (U @ Y.T).max(axis=1).min() > 0.99


def test_centroids__are_the_mean_directions_of_their_cells() -> None:
    Z, kind = directions(300, 2)
    Y = start_centroids(Z, 2, np.random.default_rng(0))
    U = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    means = np.array([U[kind == k].mean(axis=0) for k in range(2)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(Y[(means @ Y.T).argmax(axis=1)], means, atol=1e-6)


def test_centroids__hear_the_seed() -> None:
    Z = twin.frozen(np.random.default_rng(0).normal(size=(300, 5)))
    a, b, c = (start_centroids(Z, 20, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert a.tobytes() == b.tobytes()
    assert a.tobytes() != c.tobytes()


@pytest.mark.parametrize("scale", [2.0**-500, 2.0**-100, 2.0**100, 2.0**500])
def test_centroids__do_not_depend_on_the_scale(scale: float) -> None:
    Z = np.random.default_rng(0).normal(size=(300, 5))
    plain = start_centroids(Z, 20, np.random.default_rng(0))
    scaled = start_centroids(Z * scale, 20, np.random.default_rng(0))
    assert plain.tobytes() == scaled.tobytes()


def test_centroids__do_not_depend_on_the_lengths_of_cells() -> None:
    Z = np.random.default_rng(0).normal(size=(300, 5)).astype(np.float32)
    longer = Z * np.float32(2) ** np.random.default_rng(1).integers(-10, 10, (300, 1))
    a = start_centroids(Z, 20, np.random.default_rng(0))
    b = start_centroids(longer, 20, np.random.default_rng(0))
    np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize("kind", ["zero", "one place", "fewer than clusters", "mostly zero"])
def test_centroids__of_degenerate_cells_are_unit_rows(kind: str) -> None:
    Z = np.random.default_rng(0).normal(size=(50, 4))
    if kind == "zero":
        Z[:] = 0
    elif kind == "one place":
        Z[:] = Z[0]
    elif kind == "fewer than clusters":
        Z = Z[:3]
    else:
        Z[2:] = 0
    Y = start_centroids(Z, 8, np.random.default_rng(0))
    assert Y.shape == (8, 4)
    np.testing.assert_allclose(np.linalg.norm(Y, axis=1), 1, rtol=1e-12)
