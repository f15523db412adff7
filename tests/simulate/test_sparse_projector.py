import threading

import pytest
import torch

from napari_restore_rwkv.simulate import projector, sparse_projector
from napari_restore_rwkv.simulate.projector import view_angles

PATIENCE_S = 60
PIXEL_MM = 0.8


@pytest.mark.parametrize(
    ("size", "views", "images"), [(16, 5, (3,)), (33, 40, (2, 2)), (48, 17, ()), (1, 3, (2,)), (150, 25, (8,))]
)
def test_both_projectors_agree(size, views, images):
    """The last is too large to be kept, and is made in three blocks of views."""
    angles = view_angles(views)
    image, sinogram = torch.rand(*images, size, size), torch.rand(*images, views, size)
    for one, other, given in (
        (sparse_projector.project, projector.project, image),
        (sparse_projector.back_project, projector.back_project, sinogram),
    ):
        torch.testing.assert_close(one(given, angles, PIXEL_MM), other(given, angles, PIXEL_MM), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("size", "views"), [(16, 5), (33, 40), (48, 17)])
def test_back_projection_is_the_adjoint_of_projection(size, views):
    angles = view_angles(views)
    x = torch.randn(2, size, size, dtype=torch.float64)
    y = torch.randn(2, views, size, dtype=torch.float64)
    forward = (sparse_projector.project(x, angles, PIXEL_MM) * y).sum()
    backward = (x * sparse_projector.back_project(y, angles, PIXEL_MM)).sum()
    torch.testing.assert_close(forward, backward, rtol=1e-11, atol=1e-10)


def test_matrices_are_made_once_and_freed_at_the_end(monkeypatch):
    made = []
    for name in ("_rays", "_pixels"):
        maker = getattr(sparse_projector, name)
        monkeypatch.setattr(
            sparse_projector, name, lambda *wanted, name=name, maker=maker: made.append(name) or maker(*wanted)
        )
    angles, images = view_angles(6), torch.rand(4, 12, 12)
    for _ in range(2):
        with sparse_projector.matrices_freed():
            for _ in range(3):
                sparse_projector.back_project(sparse_projector.project(images, angles, PIXEL_MM), angles, PIXEL_MM)
    assert sorted(made) == ["_pixels", "_pixels", "_rays", "_rays"]


def test_images_that_were_projected_back_are_projected_without_a_copy():
    angles = view_angles(6)
    images = sparse_projector.back_project(torch.rand(5, 6, 12), angles, PIXEL_MM)
    assert sparse_projector._columns(images).data_ptr() == images.data_ptr()
    assert sparse_projector._columns(2 * images.clone()).is_contiguous()


def test_a_thread_projects_while_another_multiplies(monkeypatch):
    images, angles, product = torch.ones(1, 16, 16), view_angles(4), sparse_projector._product
    begun, ended = threading.Event(), threading.Event()

    def project():
        sparse_projector.project(images, angles, PIXEL_MM)
        ended.set()

    def interrupted_product(*parts):
        if not begun.is_set():
            begun.set()
            threading.Thread(target=project, daemon=True).start()
            assert ended.wait(PATIENCE_S)
        return product(*parts)

    # Of its own: if a thread waits for ever, other tests do not.
    monkeypatch.setattr(sparse_projector, "_making", threading.Lock())
    monkeypatch.setattr(sparse_projector, "_product", interrupted_product)
    sparse_projector.project(images, angles, PIXEL_MM)
    assert ended.is_set()
