"""What must not change a result, to the byte; and what may change it by rounding only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
import pandas as pd
import pytest
import twin

from harmonypy_lite import run
from harmonypy_lite.cells import arrangement, chunk, in_memory, moments
from harmonypy_lite.cells.in_memory import InMemoryCells
from harmonypy_lite.design import design_from_columns
from harmonypy_lite.kernels import jit, lanes
from harmonypy_lite.method import blocks, loop, rules
from harmonypy_lite.method.form import Form
from harmonypy_lite.method.passes import Assign, Reassign
from harmonypy_lite.method.rules import setting_for
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import Integration, integrate_embedding
from harmonypy_lite.threads import Workers

FLAVORS = ("harmony2", "harmony1", "pooled")
#: Those that the reference has.
PAPERS = ("harmony2", "harmony1")


def integrate(Z: Any, frame: pd.DataFrame, record: bool = False, **parameters: Any) -> Integration:
    arguments = {"n_clusters": 12, "max_iter_harmony": 3, "early_stop": False, "n_jobs": 1}
    return integrate_embedding(
        Z, frame, HarmonyParams(**{**arguments, **parameters}), record=record
    )


def assert_same_bytes(a: Integration, b: Integration) -> None:
    assert a.outcome is not None
    assert b.outcome is not None
    assert a.embedding.tobytes() == b.embedding.tobytes()
    assert a.outcome.O.tobytes() == b.outcome.O.tobytes()
    assert a.outcome.E.tobytes() == b.outcome.E.tobytes()
    assert a.outcome.Y.tobytes() == b.outcome.Y.tobytes()
    assert a.outcome.effects.W.tobytes() == b.outcome.effects.W.tobytes()
    assert a.outcome.history == b.outcome.history


@numba.njit(fastmath=jit._FASTMATH, error_model="numpy")
def _weighed(A: np.ndarray, tilt: np.ndarray, row: np.ndarray) -> float:
    total = lanes.dot(A, 0, tilt, 0)
    lanes.scale_row(A, 0, tilt, 0, total, row, 0)
    return total


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut blocks into many chunks, so that few cells make work for several threads."""
    monkeypatch.setattr(arrangement, "CHUNK", 512)


@contextmanager
def backend(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Iterator[None]:
    """Hold the cells with other arguments than `run.py` gives."""

    def made(*args: Any, **kwargs: Any) -> InMemoryCells:
        return InMemoryCells(*args, **{**kwargs, **changes})

    with monkeypatch.context() as patch:
        patch.setattr(run, "InMemoryCells", made)
        yield


@pytest.mark.usefixtures("numbers")
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["many", "crossed"])
@pytest.mark.parametrize("n_jobs", [2, 4])
def test_threads__give_the_same_bytes(flavor: str, layout: str, n_jobs: int) -> None:
    Z, frame = twin.simulated(5000, 10, layout)
    arguments = {"flavor": flavor, "block_proportion": 0.4, "max_iter_clustering": 3}
    one = integrate(Z, frame, **arguments)
    assert_same_bytes(one, integrate(Z, frame, **arguments, n_jobs=n_jobs))


@pytest.mark.usefixtures("numbers")
def test_threads__give_the_same_bytes_for_real_chunks() -> None:
    Z, frame = twin.simulated(12_000, 10, "many")
    arguments = {"block_proportion": 0.9, "max_iter_harmony": 2}
    one = integrate(Z, frame, **arguments)
    assert_same_bytes(one, integrate(Z, frame, **arguments, n_jobs=3))


@pytest.mark.usefixtures("numbers")
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("layout", ["one", "three"])
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_affinities__kept_or_recomputed_give_the_same_bytes(layout: str, n_jobs: int) -> None:
    Z, frame = twin.simulated(3000, 10, layout)
    kept = integrate(Z, frame, block_proportion=0.3)
    again = integrate(Z, frame, block_proportion=0.3, n_jobs=n_jobs, memory="lean")
    assert_same_bytes(kept, again)


@pytest.mark.usefixtures("numbers")
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("layout", ["many", "crossed", "three"])
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_moments__summed_in_strips_of_levels_give_the_same_bytes(
    layout: str, n_jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    Z, frame = twin.simulated(3000, 10, layout)
    by_chunk = integrate(Z, frame, block_proportion=0.3, memory="lean")
    # several pieces of each table, too
    monkeypatch.setattr(moments, "_LEVELS", 2)
    monkeypatch.setattr(moments, "_COMBINATIONS", 5)
    monkeypatch.setattr(
        in_memory,
        "_strips",
        lambda _, levels, n: [levels[i : i + 3] for i in range(0, len(levels), 3)],
    )
    assert_same_bytes(by_chunk, integrate(Z, frame, block_proportion=0.3, n_jobs=n_jobs))


def test_strips__are_given_up_where_threads_could_not_share_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(in_memory, "_FEW", 4)
    monkeypatch.setattr(in_memory, "_STRIP", 2)
    even, one_large = np.repeat(np.arange(12), 20), np.repeat(np.arange(12), [400] + 11 * [20])
    for level, n_workers, n_strips in (
        (even, 3, 6),
        (even, 4, 0),
        (one_large, 1, 6),
        (one_large, 2, 0),
    ):
        codes = level[:, None].astype(np.int32)
        arranged = arrangement.arrange(codes, np.zeros(level.size, int), 1, [12])
        strips = in_memory._strips(arranged, range(12), n_workers)
        assert len(strips) == n_strips
        assert sorted(b for strip in strips for b in strip) == list(range(12 if n_strips else 0))


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["one", "nested"])
def test_run__repeats_to_the_byte_and_hears_the_seed(flavor: str, layout: str) -> None:
    Z, frame = twin.simulated(600, 7, layout)
    first = integrate(Z, frame, flavor=flavor, rng=5)
    assert_same_bytes(first, integrate(Z, frame, flavor=flavor, rng=5))
    assert_same_bytes(first, integrate(Z, frame, flavor=flavor, rng=np.random.default_rng(5)))
    other = integrate(Z, frame, flavor=flavor, rng=6)
    assert other.embedding.tobytes() != first.embedding.tobytes()


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize(
    "form",
    [
        lambda Z: Z.astype(np.float64),
        np.asfortranarray,
        lambda Z: np.asfortranarray(Z.astype(np.float64)),
        lambda Z: np.repeat(Z, 2, axis=1)[:, ::2],
        lambda Z: Z[::-1].copy()[::-1],
        lambda Z: Z.astype(">f4"),
        pd.DataFrame,
        lambda Z: Z.tolist(),
    ],
    ids=["float64", "fortran", "fortran64", "strided", "reversed", "bigendian", "frame", "list"],
)
def test_run__gives_the_same_bytes_for_equal_values(flavor: str, form: Callable) -> None:
    Z, frame = twin.simulated(600, 20, "crossed")
    assert_same_bytes(integrate(Z, frame, flavor=flavor), integrate(form(Z), frame, flavor=flavor))


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("power", [-40, -1, 1, 13, 60])
def test_run__scales_exactly_with_powers_of_two(flavor: str, power: int) -> None:
    Z, frame = twin.simulated(500, 7, "crossed")
    plain = integrate(Z, frame, flavor=flavor)
    scaled = integrate(np.ldexp(Z, power), frame, flavor=flavor)
    assert plain.outcome is not None
    assert scaled.outcome is not None
    assert np.ldexp(plain.embedding, power).tobytes() == scaled.embedding.tobytes()
    assert plain.outcome.history == scaled.outcome.history


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["many", "crossed", "three"])
def test_run__changes_by_rounding_when_levels_are_renamed(flavor: str, layout: str) -> None:
    Z, frame = twin.simulated(500, 7, layout)
    plain = integrate(Z, frame, flavor=flavor)
    # the new names sort in the opposite order, and columns swap places
    renamed = frame.apply(lambda c: [chr(ord("a") + ord("z") - ord(v[-1])) for v in c])
    again = integrate(Z, renamed[renamed.columns[::-1]], flavor=flavor)
    assert np.abs(again.embedding - plain.embedding).max() < 1e-4 * Z.std()


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["many", "crossed"])
def test_run__changes_by_rounding_when_cells_are_reordered(
    flavor: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Z, frame = twin.simulated(500, 7, layout)
    order = np.random.default_rng(1).permutation(len(Z))
    plain = integrate(Z, frame, flavor=flavor, start="kmeans")
    Y, block, _ = twin.start_of(Z, HarmonyParams(n_clusters=12))
    monkeypatch.setattr(blocks, "block_of_cells", lambda *_: block[order])
    monkeypatch.setattr(run.start, "start_centroids", lambda *_: Y)
    again = integrate(Z[order], frame.iloc[order], flavor=flavor, start="kmeans")
    assert np.abs(again.embedding - plain.embedding[order]).max() < 1e-4 * Z.std()
    monkeypatch.setattr(blocks, "block_of_cells", lambda *_: block)
    other = integrate(Z[order], frame.iloc[order], flavor=flavor, start="kmeans")
    assert np.abs(other.embedding - plain.embedding[order]).max() > 1e-4 * Z.std()


@pytest.mark.parametrize("flavor", FLAVORS)
def test_theta_zero__changes_the_penalty_by_exactly_nothing(flavor: str) -> None:
    _, frame = twin.simulated(600, 7, "crossed")
    second = design_from_columns(frame)
    alone = design_from_columns(frame[["batch"]])
    settings = [
        setting_for(HarmonyParams(flavor=flavor, n_clusters=5, theta=[2, 0]), second),
        setting_for(HarmonyParams(flavor=flavor, n_clusters=5, theta=2), alone),
    ]
    rng = np.random.default_rng(0)

    class Table:
        def __init__(self, n_levels: int, observed: np.ndarray):
            self.O = observed[:, :n_levels]
            self.n = np.sqrt(observed[:, 0]) + 30

    observed = rng.gamma(1, 20, (5, second.n_levels))
    both, one = (s.penalty(Table(s.theta.size, observed)) for s in settings)  # type: ignore[arg-type]
    assert not both[:, 3:].any()
    assert both[:, :3].tobytes() == one.tobytes()


@pytest.mark.usefixtures("numbers")
@pytest.mark.parametrize("flavor", FLAVORS)
def test_penalty__is_the_same_in_pieces(flavor: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Z, frame = twin.simulated(600, 7, "crossed")
    whole = integrate(Z, frame, flavor=flavor, n_clusters=5)
    monkeypatch.setattr(rules, "_NEAR", 10)
    assert_same_bytes(whole, integrate(Z, frame, flavor=flavor, n_clusters=5))


def test_largest__is_found_on_either_side_of_zero_and_in_every_piece() -> None:
    for place in (0, 3000, 4999):
        for number in (9.0, -9.0):
            Z = np.random.default_rng(0).uniform(-1, 1, (5000, 3)).astype(np.float32)
            Z[place, 1] = number
            assert in_memory._largest(Z) == 9


def test_theta_zero__leaves_the_assignments_of_a_block_alone() -> None:
    Z, frame = twin.simulated(600, 7, "crossed")
    design = design_from_columns(frame)
    Y, block, _ = twin.start_of(Z, HarmonyParams(n_clusters=5))
    P = np.random.default_rng(0).normal(size=(5, 3))
    with Workers(1) as workers:
        found = []
        for counts, penalty in (([3], P), ([3, 2], np.hstack([P, np.zeros((5, 2))]))):
            cells = InMemoryCells(
                Z,
                design.codes[:, : len(counts)],
                np.zeros_like(block),
                1,
                counts,
                np.full(5, 0.1),
                directions=False,
                form=Form.SINGLE,
                keep=True,
                workers=workers,
            )
            cells.run(Assign(Y))
            cells.run(Reassign(Y, penalty), 0)
            found.append(cells.assignments())
    assert found[0].tobytes() == found[1].tobytes()


def test_kernels__do_not_depend_on_where_arrays_lie() -> None:
    # Compilers may take another path, with sums in another order, where an array that is written
    # begins within a few vectors of one that is read: here they lie in all distances.
    rng = np.random.default_rng(0)
    for K in (16, 21, 32, 47):
        A, tilt = (rng.random(K).astype(np.float32) for _ in range(2))
        seen = set()
        for distance in (*range(K, 3 * K), 512, 1024):
            memory = np.zeros(8192, np.float32)
            held = [memory[i * 1500 : i * 1500 + K] for i in range(3)]
            for read in range(2):
                row = memory[read * 1500 + distance : read * 1500 + distance + K]
                for place, values in zip(held, (A, tilt), strict=False):
                    place[:] = values
                seen.add(_weighed(held[0][None], held[1][None], row[None]))
        assert len(seen) == 1, K


@pytest.mark.usefixtures("numbers")
@pytest.mark.parametrize("layout", ["one", "crossed"])
def test_run__repeats_to_the_byte_in_a_used_memory(layout: str) -> None:
    Z, frame = twin.simulated(300, 7, layout)
    rng = np.random.default_rng(0)
    results, junk = set(), []
    for _ in range(40):
        junk = [*junk[::2], *(np.empty(int(n)) for n in rng.integers(1, 300, 20))]
        results.add(integrate(Z, frame, max_iter_harmony=1).embedding.tobytes())
    assert len(results) == 1


@pytest.mark.usefixtures("numbers")
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["one", "three"])
@pytest.mark.parametrize("theta", [2.0, 1e4])
def test_replay__gives_the_same_bytes(flavor: str, layout: str, theta: float) -> None:
    Z, frame = twin.simulated(2500, 7, layout)
    result = integrate(Z, frame, flavor=flavor, theta=theta, record=True, block_proportion=0.3)
    assert result.replay is not None
    before = Z.tobytes()
    assert result.replay.correct(Z, result.design).tobytes() == result.embedding.tobytes()
    shifts = 1 if flavor == "pooled" else 0  # of its start
    assert len(result.replay.steps) == result.summary["iterations"] + shifts
    assert Z.tobytes() == before
    assert integrate(Z, frame, flavor=flavor, theta=theta, block_proportion=0.3).replay is None


@pytest.mark.usefixtures("numbers")
def test_replay__some_of_the_cells_give_the_same_bytes_whatever_levels_they_have() -> None:
    Z, frame = twin.simulated(2500, 7, "three")
    result = integrate(Z, frame, record=True)
    assert result.replay is not None
    # one donor: of the covariates, that with most levels has fewest here
    some = np.flatnonzero(frame["donor"] == frame["donor"].iloc[0])
    found = result.replay.correct(Z[some], result.design.take(some), some)
    assert found.tobytes() == result.embedding[some].tobytes()


@pytest.mark.parametrize("flavor", PAPERS)
@pytest.mark.parametrize("layout", ["one", "crossed"])
def test_replay__assignments_are_those_of_the_reference(flavor: str, layout: str) -> None:
    Z, frame = twin.simulated(400, 7, layout)
    parameters = {"flavor": flavor, "n_clusters": 12, "max_iter_harmony": 3, "early_stop": False}
    result = integrate(Z, frame, record=True, **parameters)
    assert result.replay is not None
    R = result.replay.assignments(Z, result.design)
    np.testing.assert_allclose(R.sum(axis=1), 1, atol=2e-6)
    assert (R >= 0).all()
    wanted = twin.reference_of(Z, frame, HarmonyParams(**parameters))
    np.testing.assert_allclose(R, wanted.R, atol=2e-5)


@pytest.mark.usefixtures("numbers")
@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["many", "crossed", "three"])
def test_tables__add_up_to_the_sizes_of_levels(flavor: str, layout: str) -> None:
    Z, frame = twin.simulated(700, 7, layout)
    result = integrate(Z, frame, flavor=flavor)
    assert result.outcome is not None
    size = result.design.level_size
    np.testing.assert_allclose(result.outcome.O.sum(axis=0), size, rtol=1e-6)
    np.testing.assert_allclose(result.outcome.E.sum(axis=0), size, rtol=1e-6)
    n = result.outcome.O[:, result.design.level_slices()[-1]].sum(axis=1)
    np.testing.assert_allclose(n, result.summary["cluster_sizes"], rtol=1e-5, atol=1e-5)
    assert (result.outcome.O >= 0).all()


@pytest.mark.parametrize("flavor", FLAVORS)
def test_objective__is_recorded_and_reported_after_each_round(flavor: str) -> None:
    Z, frame = twin.simulated(500, 7, "crossed")
    seen: list[run.Progress] = []
    params = HarmonyParams(flavor=flavor, n_clusters=8)
    result = integrate_embedding(Z, frame, params, progress=seen.append)
    assert result.outcome is not None
    history = result.outcome.history
    assert [p.objective for p in seen] == [x for rounds in history.rounds for x in rounds]
    assert [p.iteration for p in seen] == [
        i + 1 for i, rounds in enumerate(history.rounds) for _ in rounds
    ]
    assert result.summary["rounds"] == [len(rounds) for rounds in history.rounds]
    assert result.summary["objective"] == [history.start, *(r[-1] for r in history.rounds)]
    every = [history.start, *(x for rounds in history.rounds for x in rounds)]
    assert result.summary["objective_by_round"] == every
    assert result.summary["diversity_by_round"] == history.diversity
    assert result.summary["entropy_by_round"] == history.entropy
    assert len(history.diversity) == len(history.entropy) == len(every)
    assert seen[0].max_iter == 10
    assert seen[0].max_rounds == {"harmony2": 4, "harmony1": 20, "pooled": 4}[flavor]


@pytest.mark.parametrize("layout", ["many", "crossed"])
@pytest.mark.parametrize("memory", ["fast", "lean"])
def test_entropy__of_all_cells_is_the_references_and_that_of_some_is_near(
    layout: str, memory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Z, frame = twin.simulated(12_000, 10, layout)
    for apart, enough, tolerance in ((chunk._BLOCKS_APART, chunk._ENOUGH, 0.1), (1, len(Z), 1e-5)):
        monkeypatch.setattr(chunk, "_BLOCKS_APART", apart)
        monkeypatch.setattr(chunk, "_ENOUGH", enough)
        result = integrate(Z, frame, memory=memory, max_iter_harmony=2, record=True)
        assert result.outcome is not None
        assert result.replay is not None
        R = result.replay.assignments(Z, result.design).astype(np.float64)
        wanted = 0.1 * (R * np.log(np.where(R > 0, R, 1))).sum() * 2000 / len(Z)
        assert result.outcome.history.entropy[-1] == pytest.approx(wanted, rel=tolerance)


@pytest.mark.parametrize("seed", range(5))
def test_entropy__of_few_cells_is_looked_for_in_every_block(seed: int) -> None:
    Z, frame = twin.simulated(30, 5, "one")
    result = integrate(Z, frame, rng=seed, n_clusters=3, max_iter_harmony=1)
    assert result.outcome is not None
    assert result.outcome.history.entropy[-1] < 0


@pytest.mark.parametrize(("n", "apart"), [(1, 1), (5119, 1), (5120, 2), (100_000, 32), (10**9, 32)])
def test_entropy__is_that_of_fewer_cells_where_there_are_more(n: int, apart: int) -> None:
    assert chunk.cells_apart(n) == apart


@pytest.mark.parametrize("flavor", PAPERS)
@pytest.mark.parametrize("layout", ["one", "crossed", "three"])
def test_steep_penalties__handled_in_logarithms_equal_the_reference_in_the_mild_range(
    flavor: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Z, frame = twin.simulated(400, 7, layout)
    with backend(monkeypatch, form=Form.WITH_PENALTY):
        found, wanted = twin.both(
            Z, frame, flavor=flavor, n_clusters=8, tol_clustering=0.0, max_iter_harmony=4
        )
    twin.assert_agree(found, wanted, Z)


@pytest.mark.parametrize("flavor", PAPERS)
@pytest.mark.parametrize("layout", ["one", "crossed"])
@pytest.mark.parametrize("theta", [14.0, 30.0, 100.0, 1000.0])
def test_steep_penalties__equal_the_reference_after_one_round(
    flavor: str, layout: str, theta: float
) -> None:
    # beyond one round such penalties throw whole blocks to and fro, which amplifies rounding
    Z, frame = twin.simulated(400, 7, layout)
    found, wanted = twin.both(
        Z,
        frame,
        flavor=flavor,
        n_clusters=8,
        theta=theta,
        max_iter_clustering=1,
        max_iter_harmony=1,
        block_proportion=0.5,
    )
    assert found.outcome is not None
    np.testing.assert_allclose(found.outcome.O, wanted.O, rtol=1e-3, atol=1e-2)
    error = np.abs(found.embedding - wanted.Z_corr).max() / Z.std()
    assert error < 1e-2


@pytest.mark.parametrize("flavor", FLAVORS)
@pytest.mark.parametrize("layout", ["many", "three"])
@pytest.mark.parametrize(("theta", "sigma"), [(1e6, 0.1), (2, 1e-4), (1e6, 1e-4), (0, 1e-4)])
def test_steep_penalties__and_sharp_clusters_stay_finite(
    flavor: str, layout: str, theta: float, sigma: float
) -> None:
    Z, frame = twin.simulated(500, 7, layout)
    result = integrate(Z, frame, flavor=flavor, theta=theta, sigma=sigma)
    assert result.outcome is not None
    assert np.isfinite(result.embedding).all()
    assert np.isfinite(result.summary["objective"]).all()
    assert np.abs(result.embedding - result.embedding.mean(axis=0)).max() < 100 * Z.std()
    np.testing.assert_allclose(result.outcome.O.sum(axis=0), result.design.level_size, rtol=1e-6)


def test_loop__leaves_the_given_centroids_alone() -> None:
    Z, frame = twin.simulated(300, 7, "one")
    params = HarmonyParams(n_clusters=8, early_stop=False, max_iter_harmony=2, n_jobs=1)
    design = design_from_columns(frame)
    setting = setting_for(params, design)
    Y, _, _ = twin.start_of(Z, params)
    with Workers(1) as workers:
        cells = run._hold(Z, design, setting, np.arange(len(Z)), 3, workers, keep=True)
        loop.integrate(cells, setting, twin.frozen(Y))
