import numpy as np
import pytest
import torch

from napari_restore_rwkv.simulate.projector import back_project, filtered_back_projection, project, view_angles

PIXEL_MM = 0.8


def disk(size, radius, x=0.0, y=0.0):
    """A disk of attenuation 0.02 per mm, its centre off the axis by x and y pixels, its edge smoothed over a pixel."""
    grid = torch.arange(size) - (size - 1) / 2
    distance = torch.hypot(grid[None, :] - x, grid[:, None] - y)
    return 0.02 * (radius + 0.5 - distance).clamp(0, 1)


def test_the_projection_of_a_disk_is_the_length_of_its_chords():
    angles = view_angles(60)
    sinogram = project(disk(128, 40, x=9, y=-5), angles, PIXEL_MM)
    t = torch.arange(128) - 63.5
    centre = 9 * angles.cos() - 5 * angles.sin()
    offset = (t[None, :] - centre[:, None]).clamp(-40, 40)
    chords = 0.02 * PIXEL_MM * 2 * torch.sqrt(40**2 - offset**2)
    # Chords change fast at the rim, where pixels are coarse.
    inside = offset.abs() < 36
    torch.testing.assert_close(sinogram[inside], chords[inside], rtol=0.02, atol=0.005)


def test_every_view_holds_the_whole_mass():
    image = disk(96, 20, x=12)
    sinogram = project(image, view_angles(31), PIXEL_MM)
    torch.testing.assert_close(sinogram.sum(dim=1), image.sum().expand(31) * PIXEL_MM, rtol=2e-3, atol=0)


def test_back_projection_undoes_projection():
    image, angles = disk(128, 35, x=8, y=12), view_angles(200)
    again = filtered_back_projection(project(image, angles, PIXEL_MM), angles, PIXEL_MM)
    core = disk(128, 31, x=8, y=12) > 0.019
    np.testing.assert_allclose(again[core], 0.02, rtol=0.02)
    around = (disk(128, 62) > 0) & (disk(128, 39, x=8, y=12) == 0)
    assert again[around].abs().max() < 0.001


@pytest.mark.parametrize(("size", "views"), [(16, 5), (33, 40), (48, 17)])
def test_back_projection_is_the_adjoint_of_projection(size, views):
    angles = view_angles(views)
    x = torch.randn(2, size, size, dtype=torch.float64)
    y = torch.randn(2, views, size, dtype=torch.float64)
    forward = (project(x, angles, PIXEL_MM) * y).sum()
    backward = (x * back_project(y, angles, PIXEL_MM)).sum()
    torch.testing.assert_close(forward, backward, rtol=1e-11, atol=1e-10)


def test_several_images_are_projected_as_each_alone():
    images, angles = torch.rand(2, 3, 20, 20), view_angles(18)
    together = project(images, angles, PIXEL_MM)
    assert together.shape == (2, 3, 18, 20)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(together[i, j], project(images[i, j], angles, PIXEL_MM))


def test_white_noise_in_the_views_comes_back_as_strong_as_theory_says():
    """Variance = (pi / views / pixel)^2 * views * (2/3 r0 + 1/3 r1), r the autocorrelation of the filter.

    The thirds are those of linear interpolation at a random place between two detectors.
    """
    views, size = 90, 96
    angles = view_angles(views)
    images = [filtered_back_projection(torch.randn(views, size), angles, PIXEL_MM) for _ in range(20)]
    measured = torch.stack(images)[:, 28:68, 28:68].var()

    f = torch.linspace(-0.5, 0.5, 20001, dtype=torch.float64)
    power = (f * (0.5 + 0.5 * torch.cos(2 * torch.pi * f))) ** 2
    r0, r1 = power.mean(), (power * torch.cos(2 * torch.pi * f)).mean()
    expected = (torch.pi / views / PIXEL_MM) ** 2 * views * (2 / 3 * r0 + 1 / 3 * r1)
    assert float(measured / expected) == pytest.approx(1, abs=0.05)


def test_the_mean_of_noise_in_the_views_stays_zero():
    angles = view_angles(60)
    noise = torch.stack([filtered_back_projection(torch.randn(60, 64), angles, PIXEL_MM) for _ in range(20)])
    inner = noise[:, 20:44, 20:44]
    assert inner.mean().abs() < 0.05 * inner.std()


def test_a_window_is_cut_out_of_the_whole_reconstruction():
    angles, sinogram = view_angles(30), torch.randn(30, 40)
    whole = filtered_back_projection(sinogram, angles, PIXEL_MM)
    part = filtered_back_projection(sinogram, angles, PIXEL_MM, slice(11, 29))
    torch.testing.assert_close(part, whole[11:29, 11:29], rtol=0, atol=1e-6)
