"""What was filled in in the Restore panel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from napari.layers import Image


@dataclass(frozen=True, slots=True)
class RestoreOptions:
    """One filled-in form.

    Attributes
    ----------
    layer, time_index
        The image layer, and its frame if it has four dimensions.
    weights
        Name of the task whose shipped weights are used, or of a classical filter, or the path of a weights file.
    region
        The displayed slice or the whole volume.
    device
        "auto", "cpu" or "cuda".
    any_modality
        Restore although the network was made for another modality.
    axis
        The axis across the slices: "auto", "z", "y" or "x"; see `choose_slice_axis`.
    strength
        The strength that is proposed for this scan, 0 to 1; None where it is still to be measured.
    output
        The OME-Zarr folder that a whole volume is saved to while it is restored; None keeps it in memory.
    scheduler
        Address of the dask scheduler whose workers restore a whole volume into `output`; None for this computer.
    """

    layer: Image
    weights: str | Path
    time_index: int | None = None
    region: Literal["slice", "volume"] = "slice"
    device: str = "auto"
    any_modality: bool = False
    axis: str = "auto"
    output: Path | None = None
    strength: float | None = None
    scheduler: str | None = None

    def continues(self, other: RestoreOptions | None) -> bool:
        """Whether slices restored with the other options are part of what these ask for, wherever they are kept."""

        def choices(options: RestoreOptions) -> RestoreOptions:
            return replace(options, region="volume", output=None, strength=None, scheduler=None)

        return other is not None and choices(self) == choices(other)
