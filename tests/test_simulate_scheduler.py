"""The simulated scheduler against results that are known without it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import simulate_scheduler
from simulate_scheduler import DASK_SECONDS, SECONDS_A_SLAB, simulate


@pytest.fixture(autouse=True)
def few_slabs(monkeypatch):
    monkeypatch.setattr(simulate_scheduler, "SLABS", 400)
    monkeypatch.setattr(simulate_scheduler, "SPREAD", 0.0)


def test_workers_that_never_die_are_busy_and_share_the_work():
    outcome = simulate(10, 1e12, 0.0)
    assert outcome.hours == pytest.approx(40 * SECONDS_A_SLAB / 3600, rel=0.01)
    assert outcome.workers_busy == pytest.approx(1, abs=0.01)
    assert (outcome.deaths, outcome.given_up) == (0, False)


def test_a_coordinator_slower_than_its_workers_decides_how_long_it_takes():
    outcome = simulate(100, 1e12, 0.01)
    least = sum(DASK_SECONDS + 0.01 * waiting for waiting in range(400)) / 3600
    assert outcome.hours >= least
    assert outcome.coordinator_busy > 0.9
    assert outcome.workers_busy < 0.2


def test_a_slab_that_no_worker_survives_ends_the_job():
    outcome = simulate(10, SECONDS_A_SLAB / 10, 0.0)
    assert outcome.given_up
    assert outcome.most_deaths_of_a_slab == 4
