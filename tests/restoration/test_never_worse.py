"""Scans unlike any in training: with the proposed strength, none gets worse."""

import numpy as np
import pytest

from napari_restore_rwkv.metrics import psnr
from napari_restore_rwkv.network.checkpoint import load_checkpoint
from napari_restore_rwkv.progress import finish
from napari_restore_rwkv.restoration.noise import measured_noise
from napari_restore_rwkv.restoration.restore import iter_restore
from napari_restore_rwkv.restoration.suitability import suitability
from napari_restore_rwkv.scans.files import read_scan
from napari_restore_rwkv.scans.samples import sample_path
from napari_restore_rwkv.scans.scan import Scan
from napari_restore_rwkv.simulate.ct_kernels import KERNELS
from napari_restore_rwkv.simulate.ct_noise import noise_realisation, noise_shape

pytestmark = pytest.mark.slow

WORST_DB = -0.05
WINDOW = (-160.0, 240.0)


@pytest.fixture(scope="module")
def network():
    return load_checkpoint("ct-denoise")


@pytest.fixture(scope="module")
def clean():
    """Three neighbouring slices of the sample, and where their noise is strong."""
    scan = read_scan(sample_path("ct_abdomen_dicom"))
    slices = np.asarray(scan.voxels[8:11], np.float32)
    return slices[:, 96:416, 96:416], noise_shape(slices[1], scan.spacing_mm[1]).crop(0.1875, 0.1875, 0.625, 0.625)


def noisy(slices, shape, kernel, noise_hu, pixel_mm=0.98):
    rng = np.random.default_rng(6)
    size = slices.shape[1:]
    return slices + np.stack([noise_realisation(shape, size, pixel_mm, kernel, noise_hu, rng) for _ in slices])


def blurred(slices):
    fy, fx = np.fft.fftfreq(slices.shape[1])[:, None], np.fft.rfftfreq(slices.shape[2])
    gain = np.exp(-2 * (np.pi * 1.8) ** 2 * (fy**2 + fx**2))
    return np.fft.irfft2(np.fft.rfft2(slices) * gain, s=slices.shape[1:]).astype(np.float32)


def other_anatomy():
    """A head, with the contrast of MR on the scale of HU."""
    head = np.asarray(read_scan(sample_path("mr_t1_mni152.nii.gz")).voxels, np.float32)
    slices = head[len(head) // 2 - 1 : len(head) // 2 + 2]
    return np.where(slices > 10, 100 * slices / np.percentile(slices, 99) - 20, -1000).astype(np.float32)


def cases(clean):
    slices, shape = clean
    head = other_anatomy()[:, :180, :180]
    around_head = noise_shape(np.where(head[1] > -500, 40, -1000).astype(np.int16), 1.0)
    fine = np.kron(slices[:, 80:240, 80:240], np.ones((2, 2), np.float32))
    yield "sharp kernel, strong", slices, noisy(slices, shape, KERNELS["edge-enhancing"], 110)
    yield "sharp kernel, weak", slices, noisy(slices, shape, KERNELS["ramp"], 12)
    yield "far too noisy", slices, noisy(slices, shape, KERNELS["medium"], 200)
    yield (
        "pixels of half a millimetre",
        fine,
        noisy(fine, shape.crop(0.25, 0.25, 0.5, 0.5), KERNELS["smooth"], 30, 0.49),
    )
    # The template has no noise of its own; that of a scan would count as anatomy.
    yield "another anatomy", head, noisy(head, around_head, KERNELS["standard"], 30, 1.0)
    yield "almost no noise", head, noisy(head, around_head, KERNELS["standard"], 3, 1.0)
    yield "blurred", blurred(head), noisy(blurred(head), around_head, KERNELS["smooth"], 6, 1.0)


NAMES = (
    "sharp kernel, strong",
    "sharp kernel, weak",
    "far too noisy",
    "pixels of half a millimetre",
    "another anatomy",
    "almost no noise",
    "blurred",
)


@pytest.mark.parametrize("name", NAMES)
def test_no_unfamiliar_scan_gets_worse(network, clean, name):
    _, target, given = next(case for case in cases(clean) if case[0] == name)
    scan = Scan(given, spacing_mm=(2.0, 0.98, 0.98), modality="CT", unit="HU")
    noise = measured_noise(scan, 0)
    strength = suitability(noise, network.card).strength
    restored = finish(iter_restore(scan, network, axis="z", indices=[1], noise=noise.sigma, strength=strength)).voxels[
        1
    ]
    gain = psnr(restored, target[1], window=WINDOW) - psnr(given[1], target[1], window=WINDOW)
    print(name, noise.sigma, noise.mean_frequency, strength, gain)
    assert gain > WORST_DB
