"""Holders of whole levels who hear of each other once a round, against a literal twin of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import twin

from harmonypy_lite.method.apart import ApartComposition, finest
from harmonypy_lite.method.totals import FixedPoint
from harmonypy_lite.params import HarmonyParams
from harmonypy_lite.run import integrate_embedding

N_BLOCKS = 4


def round_by_round(problem: reference.Problem, U: Any, R: Any, Y: Any, blocks: Any) -> np.ndarray:
    """Let one site after the other do a turn, each as if it were alone on the world.

    A site is one level of the covariate with most levels, the last of several: it has the cells and
    the row of O of this level, and of all else the letter that came before the turn.
    """
    blocks = list(blocks)
    sizes = np.bincount(problem.covariate)
    own = np.flatnonzero(problem.covariate == np.flatnonzero(sizes == sizes.max())[-1])
    turns = [blocks] if sizes.size == 1 else [blocks[:1], blocks[1:2], blocks[2:3], blocks[3:]]
    for turn in turns:
        letter_O, letter_n = reference.observed(R, problem.Phi), R.sum(axis=0)
        after = R.copy()
        for site in own:
            mine = problem.Phi[:, site] == 1
            R_here = R * mine[:, None]
            for block in turn:
                cells = block[mine[block]]
                O = letter_O * (1 - 1 / N_BLOCKS)
                O[:, site] = R_here.sum(axis=0) - R_here[cells].sum(axis=0)
                E = reference.expected(letter_n * (1 - 1 / N_BLOCKS), problem.Pr)
                P = reference.penalty(O, E, problem.theta, problem.flavor)
                tilt = problem.Phi[cells] @ P.T
                R_here[cells] = reference.assigned(U[cells], Y, problem.sigma, tilt)
            after[mine] = R_here[mine]
        R = after
    return R


@pytest.mark.parametrize("flavor", ["harmony2", "harmony1"])
@pytest.mark.parametrize("layout", ["one", "many", "crossed", "three"])
def test_batch__is_what_sites_find_that_write_letters(
    flavor: str, layout: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Z, frame = twin.simulated(500, 7, layout)
    given = {"flavor": flavor, "n_clusters": 8, "max_iter_harmony": 3, "max_iter_clustering": 4}
    given |= {"block_proportion": 1 / N_BLOCKS, "early_stop": False, "tol_clustering": 0.0}
    exact = integrate_embedding(Z, frame, HarmonyParams(n_jobs=1, **given))
    monkeypatch.setattr(reference, "one_round", round_by_round)
    found, wanted = twin.both(Z, frame, sync="batch", **given)
    twin.assert_agree(found, wanted, Z)
    assert np.abs(found.embedding - exact.embedding).max() > 1e-3 * Z.std(), "not another scheme"


@pytest.mark.usefixtures("numbers")
@pytest.mark.parametrize("memory", ["fast", "lean"])
@pytest.mark.parametrize("n_jobs", [1, 3])
def test_batch__gives_the_same_bytes_for_threads_and_memory(memory: str, n_jobs: int) -> None:
    Z, frame = twin.simulated(5000, 10, "crossed")
    how: dict[str, Any] = {"n_clusters": 9, "max_iter_harmony": 2, "early_stop": False}
    how |= {"sync": "batch", "block_proportion": 0.3}
    wanted = integrate_embedding(Z, frame, HarmonyParams(**how, n_jobs=2)).embedding
    found = integrate_embedding(Z, frame, HarmonyParams(**how, n_jobs=n_jobs, memory=memory))
    assert found.embedding.tobytes() == wanted.tobytes()


@pytest.mark.parametrize("layout", ["many", "crossed"])
def test_batch__differs_from_exact_by_less_than_two_seeds_do(layout: str) -> None:
    Z, frame = twin.simulated(3000, 10, layout)
    how: dict[str, Any] = {"max_iter_harmony": 4, "early_stop": False, "n_jobs": 2}

    def run(**more: Any) -> np.ndarray:
        return integrate_embedding(Z, frame, HarmonyParams(**how, **more)).embedding

    exact = run()
    difference, noise = (
        float(np.linalg.norm(other - exact, axis=1).mean())
        for other in (run(sync="batch"), run(rng=1))
    )
    assert 0 < difference < noise / 2


def test_batch__with_one_block_is_exact() -> None:
    # there is nothing else to hear of before a round ends
    Z, frame = twin.simulated(400, 5, "crossed")
    how: dict[str, Any] = {"block_proportion": 1.0, "n_clusters": 6, "max_iter_harmony": 2}
    how |= {"early_stop": False, "n_jobs": 1}
    one, other = (
        integrate_embedding(Z, frame, HarmonyParams(sync=sync, **how))
        for sync in ("exact", "batch")
    )
    assert one.embedding.tobytes() == other.embedding.tobytes()


def test_apart__turns_cover_all_blocks_and_tell_what_was_heard() -> None:
    draws = np.random.default_rng(0)
    covariates = (slice(0, 2), slice(2, 5), slice(5, 8))
    assert finest(covariates) == slice(5, 8)
    for n_blocks, several in ((1, True), (3, True), (20, True), (20, False)):
        share = draws.dirichlet(np.ones(8))
        own = covariates if several else (slice(0, 8),)
        table = ApartComposition(share, own, 4, FixedPoint(10), n_blocks)
        turns = list(table.turns(n_blocks))
        assert [b for turn in turns for b in turn.blocks] == list(range(n_blocks))
        assert len(turns) == (min(4, n_blocks) if several else 1)
        for turn in turns:
            assert turn.n is not None
            assert turn.rows is not None
            assert turn.n.shape == (4,)
            assert turn.rows.shape == (4, 5 if several else 0)
