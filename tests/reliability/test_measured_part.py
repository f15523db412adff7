"""The measured part of k-space: found in a zero-filled slice, with what was changed in it and added beyond."""

import numpy as np
import pytest

from napari_restore_rwkv.reliability.measured_part import in_words, measured_part

SHAPE = (96, 128)


@pytest.fixture
def zero_filled(rng):
    """A slice of which the middle half of the frequencies along both axes were measured."""
    spectrum = np.fft.fft2(rng.normal(0, 1, SHAPE))
    y, x = (np.abs(np.fft.fftfreq(length) * length) for length in SHAPE)
    spectrum /= 1 + np.hypot(y[:, None], x) / 4
    spectrum[(y[:, None] > 24) | (x > 32)] = 0
    return 100 + 50 * np.fft.ifft2(spectrum).real


def test_nothing_changed_is_nothing_added(zero_filled):
    part = measured_part(zero_filled, zero_filled)
    assert part.extent is not None
    assert abs(part.extent[0] - 24) <= 1
    assert abs(part.extent[1] - 32) <= 1
    assert part.share == pytest.approx(0.25, abs=0.03)
    assert (part.changed, part.added) == (0, 0)


def test_frequencies_beyond_are_reported_as_added_and_shown_negative(zero_filled):
    rows = np.arange(SHAPE[0])[:, None]
    wave = np.broadcast_to(np.cos(2 * np.pi * 40 * rows / SHAPE[0]), SHAPE) * zero_filled.std()
    part = measured_part(zero_filled, zero_filled + wave)
    assert part.added == pytest.approx(1 / 3, abs=0.02), "a wave has half of its size squared"
    assert part.changed < 1e-6
    assert part.picture[SHAPE[0] // 2 + 40, SHAPE[1] // 2] < -0.5
    assert part.picture[SHAPE[0] // 2, SHAPE[1] // 2] == 1
    assert "added by the network" in in_words(part)


def test_a_change_within_is_in_per_cent_of_what_was_measured(zero_filled):
    mean = zero_filled.mean()
    part = measured_part(zero_filled, mean + 0.9 * (zero_filled - mean))
    assert part.changed == pytest.approx(0.1, abs=0.001)


def test_a_slice_without_an_end_says_so(rng):
    part = measured_part(rng.normal(0, 1, SHAPE), rng.normal(0, 1, SHAPE))
    assert (part.extent, part.share, part.added) == (None, 1.0, 0.0)
    assert in_words(part).startswith("No end of the measured part was found")
