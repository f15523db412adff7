"""The blinded reading by script, on two scans; benchmarks/blinded_reading.json has the figures of twenty."""

import blinded_reading
import numpy as np
import pytest


@pytest.mark.slow
def test_an_erased_lesion_is_noticed_and_noise_alone_is_not():
    found = blinded_reading.reading(scans=2, seed=1)
    assert (found["erased_found"], found["false_alarms"]) == (2, 0)


def test_the_two_results_of_a_scan_differ_in_the_lesion_alone():
    kept, erased = blinded_reading._pair(np.random.default_rng(0))
    assert (kept.erased, erased.erased) == (False, True)
    np.testing.assert_array_equal(kept.before, erased.before)
    differs = [np.count_nonzero(one != other) for one, other in zip(kept.after, erased.after, strict=True)]
    assert differs[0] == differs[2] == 0
    assert 4 < differs[1] < 120
