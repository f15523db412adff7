import numpy as np
import torch

from napari_restore_rwkv.simulate.projector import filtered_back_projection, project, view_angles

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
