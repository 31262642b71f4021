"""Threads: how many, in which order, and what BLAS does meanwhile."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import joblib
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from harmonypy_lite.errors import InvalidInput
from harmonypy_lite.threads import Workers, map_threads, worker_count


def test_worker_count__counts_as_joblib_does():
    assert worker_count(None) == worker_count(-1) == joblib.cpu_count()
    assert worker_count(-1000) == 1
    assert worker_count(7) == 7


@pytest.mark.parametrize("n_jobs", [0, 1.5, "2", True])
def test_worker_count__refuses_what_is_not_a_count(n_jobs):
    with pytest.raises(InvalidInput, match="n_jobs"):
        worker_count(n_jobs)


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_map_threads__keeps_the_order_of_the_items(n_jobs):
    def slow_first(item):
        time.sleep(0.02 if item == 0 else 0.0)
        return item * item

    assert map_threads(slow_first, range(6), n_jobs) == [0, 1, 4, 9, 16, 25]
    assert map_threads(slow_first, [], n_jobs) == []


def test_map_threads__runs_on_several_threads():
    meeting = threading.Barrier(2, timeout=5)
    map_threads(lambda _: meeting.wait(), range(2), n_jobs=2)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_map_threads__holds_blas_to_one_thread_and_lets_it_go(n_jobs):
    def blas_threads(_):
        return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}

    before = blas_threads(None)
    assert map_threads(blas_threads, range(2), n_jobs) == [{1}, {1}]
    assert blas_threads(None) == before


def test_map_threads__raises_the_first_error_and_starts_no_more_work():
    started = []

    def fail_at_once(item):
        started.append(item)
        time.sleep(0.005)
        raise KeyError(item)

    with pytest.raises(KeyError, match="0"):
        map_threads(fail_at_once, range(200), n_jobs=2)
    assert len(started) < 200


def test_map_threads__begins_nothing_more_after_an_error_of_another_thread():
    started = []

    def fail_first(item):
        started.append(item)
        if item == 0:
            raise KeyError(item)
        time.sleep(0.005)

    with pytest.raises(KeyError, match="0"):
        map_threads(fail_first, range(200), n_jobs=2)
    assert len(started) < 200


def test_map_threads__raises_an_error_of_a_thread_of_the_pool():
    failing = threading.Event()

    def fail_elsewhere(item):
        if threading.current_thread() is threading.main_thread():
            assert failing.wait(5)
        else:
            failing.set()
            raise KeyError(item)

    with pytest.raises(KeyError):
        map_threads(fail_elsewhere, range(3), n_jobs=2)


NESTED = """
import time
from harmonypy_lite.threads import Workers
def down(depth):
    time.sleep(0.01)
    return sum(workers.map(down, [depth - 1] * 3)) if depth else 1
with Workers(2) as workers:
    print(down(4))
"""


def test_workers__maps_deep_inside_maps_come_to_an_end():
    how = {"capture_output": True, "text": True, "check": True, "timeout": 60}
    assert subprocess.run([sys.executable, "-c", NESTED], **how).stdout == "81\n"


def test_workers__overlapping_runs_leave_blas_as_they_found_it():
    def blas_threads() -> set[int]:
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    with threadpool_limits(limits=2, user_api="blas"):
        first, second = Workers(1), Workers(1)
        first.close()
        first.close()
        assert blas_threads() == {1}
        second.close()
        assert blas_threads() == {2}


def test_workers__a_map_inside_a_map_uses_the_threads_that_stand_idle():
    meeting = threading.Barrier(2, timeout=5)

    def outer(item):
        if item == 1:  # in the pool, with the caller's own item long done
            return workers.map(lambda _: meeting.wait() >= 0, range(4))
        return None

    with Workers(2) as workers:
        assert workers.map(outer, range(2)) == [None, [True] * 4]
