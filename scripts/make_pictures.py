"""Make the pictures of the worked examples: reference, degraded sample, restored one, and the difference."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np

from napari_restore_rwkv import read_scan, restore
from napari_restore_rwkv.scans.samples import sample_path

matplotlib.use("agg")
from matplotlib import pyplot

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
WIDTH_INCHES, DOTS_PER_INCH = 11.0, 100


@dataclass(frozen=True, slots=True)
class Example:
    """One picture: files of the pair with their titles, the slice, the window, and that of the difference."""

    task: str
    modality: str
    good: tuple[str, str]
    worse: tuple[str, str]
    index: int
    window: tuple[float, float]
    change: float
    unit: str
    colours: str = "gray"


EXAMPLES = {
    "ct": Example(
        "ct-denoise",
        "CT",
        ("ct_abdomen_dicom", "full dose"),
        ("ct_abdomen_quarter_dose.nii.gz", "quarter dose"),
        9,
        (-160, 240),
        100,
        "HU",
    ),
    "mr": Example(
        "mri-sr",
        "MR",
        ("mr_t1_full_resolution.nii.gz", "full resolution"),
        ("mr_t1_half_resolution.nii.gz", "half resolution"),
        12,
        (0, 255),
        20,
        "arbitrary",
    ),
    "pet": Example(
        "pet-low-count",
        "PET",
        ("pet_full_count.nii.gz", "all counts"),
        ("pet_low_count.nii.gz", "a twelfth of the counts"),
        4,
        (0, 5),
        1.5,
        "SUV",
        "gray_r",
    ),
}


def main() -> None:
    """Make the named pictures, or all of them."""
    for name in sys.argv[1:] or EXAMPLES:
        draw(EXAMPLES[name], PICTURES / f"{name}.png")


def draw(example: Example, file: Path) -> None:
    """Restore the slice and write the picture."""
    good, worse = (
        read_scan(sample_path(which[0]), modality=example.modality) for which in (example.good, example.worse)
    )
    restored = restore(worse, example.task, indices=[example.index], dtype=np.float32)
    images = [np.asarray(scan.voxels[example.index], np.float32) for scan in (good, worse, restored)]
    images.append(images[2] - images[1])
    titles = (example.good[1], example.worse[1], "restored", f"difference, ±{example.change:g} {example.unit}")
    height, width = images[0].shape
    figure, panels = pyplot.subplots(
        1, 4, figsize=(WIDTH_INCHES, WIDTH_INCHES / 4 * height / width + 0.4), layout="constrained"
    )
    for panel, image, title in zip(panels, images, titles, strict=True):
        change = image is images[3]
        low, high = (-example.change, example.change) if change else example.window
        panel.imshow(image, cmap="gray" if change else example.colours, vmin=low, vmax=high)
        panel.set_title(title, fontsize=10)
        panel.set_axis_off()
    file.parent.mkdir(exist_ok=True)
    # No date and no version in the file: the same picture has the same bytes.
    figure.savefig(file, dpi=DOTS_PER_INCH, metadata={"Software": None}, pil_kwargs={"optimize": True})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
