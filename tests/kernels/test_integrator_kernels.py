"""The integrator's kernels against their formulas in NumPy, float64.

Small enough to run uncompiled (NUMBA_DISABLE_JIT=1), which shows what lines are covered.
"""

from __future__ import annotations

import numpy as np
import pytest

from harmonypy_lite.cells.chunk import Sums, pad_rows
from harmonypy_lite.kernels import affinity as affinity_kernels
from harmonypy_lite.kernels import (
    effects,
    entropy,
    halves,
    lanes,
    product,
    rows,
    sums,
    tables,
    weights,
)
from harmonypy_lite.kernels.jit import kernel
from harmonypy_lite.kernels.lanes import row_width
from harmonypy_lite.method import formulas

N, D, K, B = 11, 5, 7, 4
SCALE = 2.0**40


@pytest.fixture(params=[1, 2], ids=["one covariate", "two covariates"])
def world(request):
    """Cells, centroids and tilts, with levels of the first covariate sorted."""
    draws = np.random.default_rng(7)
    codes = np.sort(draws.integers(0, 2, (N, 1)), axis=0)
    if request.param == 2:
        codes = np.hstack([codes, draws.integers(2, 4, (N, 1))])
    Y = draws.normal(size=(K, D))
    made = {
        "Z": draws.normal(size=(N, D)).astype(np.float32),
        "Y": Y / np.linalg.norm(Y, axis=1, keepdims=True),
        "sigma": draws.uniform(0.08, 0.2, K).astype(np.float32),
        "codes": codes.astype(np.int32),
        "log_tilt": -draws.uniform(0, 3, (B, K)).astype(np.float32),
    }
    made["Z"][3] = 0
    made["tilt"] = np.zeros((B, row_width(K)), np.float32)
    made["tilt"][:, :K] = np.exp(made["log_tilt"])
    for array in made.values():
        array.setflags(write=False)
    return made


def logits(world):
    Z = world["Z"].astype(float)
    norm = np.linalg.norm(Z, axis=1, keepdims=True)
    U = np.divide(Z, norm, out=np.zeros_like(Z), where=norm > 0)
    return -2 * (1 - U @ world["Y"].T) / world["sigma"]


def soft(world):
    penalised = logits(world) + world["log_tilt"][world["codes"]].sum(axis=1)
    R = np.exp(penalised - penalised.max(axis=1, keepdims=True))
    return R / R.sum(axis=1, keepdims=True)


def target(world):
    slope = pad_rows(2 / world["sigma"])
    offset = np.where(slope > 0, slope, 1e30).astype(np.float32)[None]
    neutral = np.zeros_like(world["tilt"])
    neutral[:, :K] = 1
    return affinity_kernels.Target(pad_rows(world["Y"].T), slope, offset, neutral, world["sigma"])


def affinities(world):
    A, shift = np.empty((N, row_width(K)), np.float32), np.empty(N, np.float32)
    affinity_kernels.affinity(world["Z"], target(world), A, shift)
    return A, shift


def tiles(codes):
    start = np.flatnonzero(np.diff(codes[:, 0], prepend=-1, append=-1))
    return np.sort(np.append(start, 1)).astype(np.int64)  # one level cut in two


def groups(codes, c):
    members = np.argsort(codes[:, c], kind="stable").astype(np.int32)
    start = np.flatnonzero(np.diff(codes[members, c], prepend=-1, append=-1)).astype(np.int64)
    return weights.Groups(members, start, codes[members, c][start[:-1]])


def test_affinity__is_the_exponential_below_the_nearest_cluster(world):
    A, shift = affinities(world)
    np.testing.assert_allclose(shift, logits(world).max(axis=1), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(A[:, :K], np.exp(logits(world) - shift[:, None]), rtol=2e-5)


def test_tempered__has_the_penalty_in_it(world):
    A, shift = np.empty((N, row_width(K)), np.float32), np.empty(N, np.float32)
    affinity_kernels.tempered(
        world["Z"], target(world), world["codes"], world["log_tilt"], A, shift
    )
    A = A[:, :K]
    np.testing.assert_allclose(A / A.sum(axis=1, keepdims=True), soft(world), rtol=3e-5, atol=1e-9)


def test_assignments__are_the_softmax(world):
    A, _ = affinities(world)
    R = np.empty((N, K), np.float32)
    weights.assignments(A, world["codes"], world["tilt"], R)
    np.testing.assert_allclose(R, soft(world), rtol=3e-5, atol=1e-9)


def test_sum_levels__adds_up_assignments_and_their_energy(world):
    A, shift = affinities(world)
    R, codes, start = soft(world), world["codes"], tiles(world["codes"])
    first = np.empty((len(start) - 1, A.shape[1]), np.int64)
    rest, energy = np.zeros((B, A.shape[1]), np.int64), np.empty(len(first))
    args = (A, shift, codes, world["tilt"], world["sigma"], start, SCALE, first, rest, energy)
    sums.sum_levels(*args)
    first, rest = first[:, :K], rest[:, :K]
    level = codes[start[:-1], 0]
    levels, begin = np.unique(level, return_index=True)
    folded = np.empty((len(levels), K), np.int64)
    args = (first, begin, levels, world["log_tilt"], world["sigma"], SCALE, folded)
    added = sums.fold_rows(*args)
    O = np.array([R[(codes == b).any(axis=1)].sum(axis=0) for b in range(B)])
    np.testing.assert_allclose(folded / SCALE, O[levels], rtol=1e-5)
    if codes.shape[1] == 2:
        np.testing.assert_allclose(rest[2:] / SCALE, O[2:], rtol=1e-5)
        own = O[2:] * world["log_tilt"][2:] * world["sigma"]
        added += own.sum()
    expected = np.sum(world["sigma"] * R * (np.log(R) - logits(world)))
    assert energy.sum() + added == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("first", "step"), [(0, 1), (2, 4), (1, 64), (N, 16)])
@pytest.mark.parametrize("widths", ["one", "many"])
def test_entropies__are_those_of_some_of_the_cells(world, first, step, widths):
    A, _ = affinities(world)
    sigma = world["sigma"] if widths == "many" else world["sigma"][:1]
    out = np.empty(len(range(first, N, step)))
    entropy.entropies(A, world["codes"], world["tilt"], sigma, first, step, out)
    R = soft(world)
    wanted = (sigma * R * np.log(R)).sum(axis=1)[first::step]
    np.testing.assert_allclose(out, wanted, rtol=2e-5, atol=1e-7)


def test_entropies__of_an_assignment_to_one_cluster_are_nothing():
    A = np.full((1, row_width(2)), np.exp(np.float32(-87)), np.float32)
    A[0, 1] = 1
    tilt, out = np.zeros((1, A.shape[1]), np.float32), np.empty(1)
    tilt[0, :2] = 1e-20, 1
    sigma, codes = np.full(1, 0.1, np.float32), np.zeros((1, 1), np.int32)
    entropy.entropies(A, codes, tilt, sigma, 0, 1, out)
    assert abs(out[0]) < 1e-20


@pytest.mark.parametrize("number", [np.float32, np.float64])
def test_sum_moments__adds_up_weighted_cells_of_each_level_and_combination(world, number):
    A, _ = affinities(world)
    codes, Z, R = world["codes"], world["Z"], soft(world)
    combination = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)
    M = np.zeros((B, D, row_width(K)), np.int64)
    G = np.zeros((combination.max() + 1, row_width(K)), np.int64)
    for c in range(codes.shape[1]):
        args = (A, codes, world["tilt"], groups(codes, c), Z, number(SCALE), M, combination)
        sums.sum_moments(*args, G if c == 0 else G[:0])
    of_level = [(codes == b).any(axis=1) for b in range(B)]
    expected = [Z[cells].T.astype(float) @ R[cells] for cells in of_level]
    np.testing.assert_allclose(M[..., :K] / SCALE, expected, rtol=1e-4, atol=1e-6)
    expected = [R[combination == q].sum(axis=0) for q in range(len(G))]
    np.testing.assert_allclose(G[:, :K] / SCALE, expected, rtol=1e-5)


def test_tables__are_added_up_with_clusters_first():
    rng = np.random.default_rng(0)
    M, G = rng.integers(-99, 99, (2, 5, 3, 16)), rng.integers(-99, 99, (2, 200, 16))
    level_sum, weight = np.zeros((4, 5, 3)), np.zeros((4, 200))
    tables.level_sums(M, 1, 4, 0.5, level_sum)
    tables.combination_sums(G, 10, 150, 0.25, weight)
    expected = 0.5 * M.sum(axis=0)[1:4, :, :4].transpose(2, 0, 1)
    np.testing.assert_array_equal(level_sum[:, 1:4], expected)
    np.testing.assert_array_equal(weight[:, 10:150], 0.25 * G.sum(axis=0)[10:150, :4].T)
    assert not level_sum[:, [0, 4]].any()
    assert not weight[:, :10].any()
    assert not weight[:, 150:].any()


def passes(world, A, shift):
    """What every kernel that reads affinities makes of them."""
    codes, tilt, Z = world["codes"], world["tilt"], world["Z"]
    L, shared = row_width(K), groups(codes, 0)
    combination = np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int32)
    Q = combination.max() + 1
    start = tiles(codes)
    first, rest = np.empty((start.size - 1, L), np.int64), np.zeros((B, L), np.int64)
    energy = np.empty(start.size - 1)
    args = (A, shift, codes, tilt, world["sigma"], start, np.float32(SCALE), first, rest, energy)
    sums.sum_levels(*args)
    M, G = np.zeros((B, D, L), np.int64), np.zeros((Q, L), np.int64)
    sums.sum_moments(A, codes, tilt, shared, Z, np.float32(SCALE), M, combination, G)
    out = np.zeros((D, K), np.int64)
    excluded = np.random.default_rng(2).random((Q, K)) < 0.5
    sums.sum_excluded(A, codes, tilt, combination, excluded, Z, SCALE, out)
    W = pad_rows(np.random.default_rng(1).normal(size=(B, K, D)))
    Z_hat = Z.copy()
    effects.subtract_effects(A, codes, tilt, shared, Z, W, Z_hat)
    R, fuzzy = np.empty((N, K), np.float32), np.empty(N)
    weights.assignments(A, codes, tilt, R)
    entropy.entropies(A, codes, tilt, world["sigma"], 0, 1, fuzzy)
    return first, rest, energy, M, G, out, Z_hat, R, fuzzy


def test_halves__are_read_as_the_numbers_that_they_are(world):
    A, shift = np.empty((N, row_width(K)), np.uint16), np.empty(N, np.float32)
    affinity_kernels.affinity(world["Z"], target(world), A, shift)
    single, shift_of_single = affinities(world)
    np.testing.assert_array_equal(shift, shift_of_single)
    numbers = halves.from_half(A)
    np.testing.assert_allclose(numbers[:, :K], single[:, :K], rtol=2.0**-11, atol=6e-20)
    for found, wanted in zip(passes(world, A, shift), passes(world, numbers, shift), strict=True):
        least = 1e-6 * np.abs(wanted).max()  # compiled apart, products may come in another order
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=least)


@pytest.mark.parametrize("kind", [np.float32, np.uint16])
def test_correct_and_assign__is_what_its_parts_do(world, kind):
    codes, tilt, Z = world["codes"][:, :1].copy(), world["tilt"], world["Z"]
    L, shared = row_width(K), groups(codes, 0)
    W = pad_rows(np.random.default_rng(1).normal(size=(B, K, D)))
    A, shift = np.empty((N, L), kind), np.empty(N, np.float32)
    affinity_kernels.affinity(Z, target(world), A, shift)
    apart, moved = A.copy(), Z.copy()
    effects.subtract_effects(apart, codes, tilt, shared, Z, W, moved)
    n_tiles = shared.level.size
    nothing = np.zeros((0, L), np.int64), np.zeros((1, D, L), np.int64), np.empty(0)
    own, parts = (
        Sums(np.empty((n_tiles, L), np.int64), nothing[0], np.empty(n_tiles), *nothing[1:])
        for _ in range(2)
    )
    goal, scale = target(world), np.float32(SCALE)
    effects.correct_and_assign(A, shift, codes, tilt, shared, Z, W, goal, scale, own)
    affinity_kernels.affinity(moved, goal, apart, shift_of_parts := np.empty(N, np.float32))
    args = (goal.tilt, goal.sigma, shared.start, scale, parts.first, parts.rest, parts.energy)
    sums.sum_levels(apart, shift_of_parts, codes, *args)
    same = np.array_equal if not product._OFF else np.allclose
    assert same(A, apart)
    assert same(shift, shift_of_parts)
    assert same(own.first, parts.first)
    assert same(own.energy, parts.energy)


def test_subtract_effects__moves_all_but_zero_rows(world):
    A, _ = affinities(world)
    codes = world["codes"]
    W = np.random.default_rng(1).normal(size=(B, K, D))
    Z_hat = world["Z"].copy()
    for c in range(codes.shape[1]):
        shared = groups(codes, c)
        args = (A, codes, world["tilt"], shared, world["Z"], pad_rows(W))
        effects.subtract_effects(*args, Z_hat)
    effect = np.einsum("ik,ickd->id", soft(world), W[codes])
    expected = np.where(world["Z"].any(axis=1, keepdims=True), world["Z"] - effect, 0)
    np.testing.assert_allclose(Z_hat, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("number", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("n", "inner", "width"), [(1, 1, 16), (4, 3, 48), (7, 9, 112), (13, 2, 64)]
)
def test_products__are_those_of_numpy(number, n, inner, width):
    draws = np.random.default_rng(3)
    wide = draws.normal(size=(n, inner + 2)).astype(number)  # rows longer than the inner dimension
    B = draws.normal(size=(inner, width)).astype(number)
    C = np.full((n + 1, width), -1, number)
    product.multiply(wide, B, C)
    np.testing.assert_allclose(C[:n], wide[:, :inner] @ B, rtol=1e-4, atol=1e-5)
    assert (C[n] == -1).all()
    A = draws.normal(size=(inner, n)).astype(number)
    product.multiply_transposed(A, B, C)
    np.testing.assert_allclose(C[:n], A.T @ B, rtol=1e-4, atol=1e-5)
    single = C.copy()
    product.multiply_transposed(A, B.astype(np.float32), single)
    np.testing.assert_allclose(single[:n], A.T @ B.astype(np.float32), rtol=1e-4, atol=1e-5)
    assert (C[n] == -1).all()


@kernel
def rows_of(A, T, total, factor, out, shift):
    """What `lanes` does with rows: one at a time, then four."""
    for i in range(4):
        total[0, i] = lanes.dot(A, i, T, 1)
        lanes.add_row(A, i, factor, i, out[0])
        lanes.scale_row(A, i, T, 1, factor[i], out, 2 + i)
        lanes.exp_row(A, i, shift, out, 6 + i)
    lanes.dot_four(A, 0, T, 1, total[1], 0)
    lanes.add_four_rows(A, 0, factor, 0, out[1])


@pytest.mark.parametrize("width", [16, 17, 31, 48, 100])
def test_lanes__take_rows_of_any_width(width):
    draws = np.random.default_rng(width)
    A, T = (-draws.random((n, width)).astype(np.float32) for n in (4, 2))
    factor = draws.random(4).astype(np.float32)
    total, out = np.empty((2, 4), np.float32), np.zeros((10, width), np.float32)
    rows_of(A, T, total, factor, out, np.float32(0.25))
    np.testing.assert_allclose(total[0], A @ T[1], rtol=1e-5)
    np.testing.assert_allclose(out[0], factor @ A, rtol=1e-5)
    np.testing.assert_allclose(out[2:6], A * T[1] * factor[:, None], rtol=1e-5)
    np.testing.assert_allclose(out[6:], np.exp(A - 0.25), rtol=1e-6)
    if not product._OFF:  # the same bytes
        assert total[0].tobytes() == total[1].tobytes()
        assert out[0].tobytes() == out[1].tobytes()


@kernel
def multiplied_and_shared(A, T, product, factor, sums, scale, out):
    total = lanes.multiply_row(A, 1, T, 1, product, 0)
    lanes.share_out(product, 0, factor, sums, scale, out, 1)
    return total


@pytest.mark.parametrize("width", [16, 17, 31, 32, 100])
def test_lanes__multiply_a_row_and_share_it_out_once(width):
    draws = np.random.default_rng(width)
    A, T = (draws.random((2, width)).astype(np.float32) for _ in range(2))
    product, sums = np.zeros((1, width), np.float32), np.ones((1, width), np.float32)
    out = np.ones((2, width), np.int64)
    total = multiplied_and_shared(A, T, product, np.float32(0.5), sums, np.float32(1024), out)
    wanted = A[1] * T[1]
    assert total == pytest.approx(wanted.sum(), rel=1e-5)
    np.testing.assert_array_equal(product[0], wanted)
    np.testing.assert_allclose(sums[0], 1 + 0.5 * wanted, rtol=1e-6)
    np.testing.assert_array_equal(out[0], 1)
    np.testing.assert_array_equal(out[1], 1 + (0.5 * wanted * 1024).astype(np.int64))


def test_sum_levels__adds_up_assignments_to_three_covariates():
    draws = np.random.default_rng(3)
    n, n_levels, width = 40, 9, 20
    codes = np.column_stack([np.zeros(n), draws.integers(1, 4, n), draws.integers(4, 9, n)])
    codes = codes[np.lexsort(codes.T[::-1])].astype(np.int32)
    A, tilt = (draws.random((m, width)).astype(np.float32) for m in (n, n_levels))
    R = A * tilt[codes].prod(axis=1)
    R /= R.sum(axis=1, keepdims=True)
    first, rest = np.zeros((2, width), np.int64), np.zeros((n_levels, width), np.int64)
    shift, sigma, energy = np.zeros(n, np.float32), np.ones(1, np.float32), np.zeros(2)
    start = np.array([0, 25, n])
    sums.sum_levels(A, shift, codes, tilt, sigma, start, np.float32(SCALE), first, rest, energy)
    np.testing.assert_allclose(first / SCALE, [R[:25].sum(axis=0), R[25:].sum(axis=0)], rtol=1e-5)
    wanted = [R[(codes[:, 1:] == b).any(axis=1)].sum(axis=0) for b in range(n_levels)]
    np.testing.assert_allclose(rest / SCALE, wanted, rtol=1e-5, atol=1e-7)


@kernel
def add_fixed_rows(X, scale, out):
    for i in range(X.shape[0]):
        lanes.add_fixed(X, i, scale, out, i)


@pytest.mark.parametrize("number", [np.float32, np.float64])
@pytest.mark.parametrize("width", [16, 21, 32])
def test_lanes__add_fixed_point_numbers_once(width, number):
    draws = np.random.default_rng(width)
    X, out = draws.normal(size=(2, 32)).astype(number), draws.integers(0, 9, (2, width))
    expected = out + (X[:, :width] * 1024).astype(np.int64)
    add_fixed_rows(X, number(1024), out)
    np.testing.assert_array_equal(out, expected)


@kernel
def largest_of_line(X, slope, offset):
    return lanes.line_max(X, 1, slope, offset, 0)


def test_lanes__make_a_line_and_find_its_largest():
    draws = np.random.default_rng(2)
    X, offset = (draws.normal(size=(2, 32)).astype(np.float32) for _ in range(2))
    slope, line = offset[1].copy(), X[1] * offset[1] - offset[0]
    assert largest_of_line(X, slope, offset) == pytest.approx(line.max(), rel=1e-5)
    np.testing.assert_allclose(X[1], line, rtol=1e-4, atol=1e-6)


def test_padded__is_the_next_multiple():
    assert [product.padded(w) for w in (1, 16, 17, 100)] == [16, 16, 32, 112]


def test_rows__go_where_the_order_says_and_come_back():
    draws = np.random.default_rng(5)
    X, order = draws.normal(size=(N, D)), draws.permutation(N)
    gathered = np.empty((N, D), np.float32)
    rows.gather_rows(X, order, 0.5, gathered)
    np.testing.assert_array_equal(gathered, (0.5 * X[order]).astype(np.float32))
    back = np.empty_like(gathered)
    rows.scatter_rows(gathered, order, 2.0, back)
    np.testing.assert_array_equal(back, X.astype(np.float32))
    rows.permute_rows(gathered, order.copy(), 2.0)
    np.testing.assert_array_equal(gathered, back)


def test_unit_rows__have_length_one_or_stay_zero():
    Z = np.array([[3, 4], [0, 0], [1e-18, 0]], np.float32)
    U = np.empty_like(Z)
    rows.unit_rows(Z, U)
    np.testing.assert_allclose(U[0], [0.6, 0.8], rtol=1e-6)
    assert not U[1].any()


@pytest.mark.parametrize("length", [1e18, 1e-14, 1e-16, 1e-19, 1e-30, 1e-38, 1e-42])
def test_unit_rows__of_short_cells_have_length_one(length):
    z = np.float32(length) * np.float32([3, 4, 0])
    Z = np.stack([z, np.zeros(3, np.float32)])
    U = np.empty_like(Z)
    rows.unit_rows(Z, U)
    # the smallest numbers have few digits of their own
    np.testing.assert_allclose(U[0], z / np.hypot(*z[:2].astype(float)), rtol=1e-6)
    np.testing.assert_allclose(U, formulas.unit_rows(Z), rtol=1e-6)
    assert not U[1].any()


def test_product__takes_small_registers_where_llvm_cannot_name_the_processor(monkeypatch) -> None:
    def unknown():
        raise RuntimeError("no features of this host")

    monkeypatch.setattr(product.llvm, "get_host_cpu_features", unknown)
    assert product._register_bytes() == 16


def test_product__takes_the_widest_registers_there_are(monkeypatch) -> None:
    for features, size in (({"avx512f": True, "avx2": True}, 64), ({"avx2": True}, 32), ({}, 16)):
        monkeypatch.setattr(product.llvm, "get_host_cpu_features", lambda found=features: found)
        assert product._register_bytes() == size
