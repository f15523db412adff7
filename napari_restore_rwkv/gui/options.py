"""The options of the Restore panel, and their widgets."""

# Without `from __future__ import annotations`: the form is made from the annotations.
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, Self

from napari.layers import Image

from ..scans.scan import AXES
from ..tasks import TASKS
from .layer_choice import LayerChoice, is_image
from .model_choice import ModelChoice
from .restore.run_on import RunOn
from .restore.save_choice import SaveChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreOptions:
    """A filled-in form; the annotated fields have a row each, in this order.

    Attributes
    ----------
    layer, time_index
        The image layer, and its frame if it has four dimensions.
    task
        The task that weights were chosen for; None if there was no choice. It changes no voxel, and is not compared.
    any_modality
        Restore even if the network was made for another modality.
    weights
        Name of the task whose shipped weights are used, or of a classical filter, or the path of a weights file.
    region
        The displayed slice or the whole volume.
    axis
        The axis across the slices: "auto", "z", "y" or "x"; see `choose_slice_axis`.
    output
        The OME-Zarr folder that a whole volume is saved to while it is restored; None keeps it in memory.
    run_on
        "auto", "cpu" or "cuda", or the address of a dask scheduler whose workers restore a whole volume into `output`.
    strength
        The strength proposed for this scan, 0 to 1; None if it has not been measured yet.
    """

    layer: Annotated[
        Image,
        {
            "label": "Scan",
            "tooltip": "The image layer to restore",
            "widget_type": LayerChoice,
            "accepts": is_image,
            "takes_fresh": True,
        },
    ]
    time_index: Annotated[
        int | None, {"label": "Frame", "tooltip": "Which frame of a scan with a time axis", "min": 0, "step": 1}
    ] = None
    task: Annotated[
        str | None,
        {
            "label": "Task",
            "tooltip": "What to do with it",
            "choices": [(task.title, task.name) for task in TASKS.values()],
        },
    ] = field(default=None, compare=False)
    any_modality: Annotated[
        bool,
        {"label": "restore anyway", "tooltip": "Use these weights although they were made for another modality"},
    ] = False
    weights: Annotated[str | Path, {"label": "Model", "widget_type": ModelChoice}]
    region: Annotated[
        Literal["slice", "volume"],
        {
            "label": "Region",
            "widget_type": "RadioButtons",
            "orientation": "horizontal",
            "choices": [("this slice", "slice"), ("whole volume", "volume")],
        },
    ] = "slice"
    axis: Annotated[
        str,
        {
            "label": "Slices",
            "tooltip": "The axis across the slices that are restored one by one",
            "choices": [("auto", "auto"), *((f"along {axis}", axis) for axis in AXES)],
        },
    ] = "auto"
    output: Annotated[Path | None, {"label": "Save to", "widget_type": SaveChoice}] = None
    run_on: Annotated[str, {"label": "Run on", "widget_type": RunOn}] = "auto"
    strength: float | None = None

    @property
    def device(self) -> str:
        """The device of this computer, "auto" where a scheduler is chosen."""
        return "auto" if _is_address(self.run_on) else self.run_on

    @property
    def scheduler(self) -> str | None:
        """Address of the dask scheduler for a whole volume; None for this computer, which restores single slices."""
        return self.run_on if self.region == "volume" and _is_address(self.run_on) else None

    def continues(self, other: Self | None) -> bool:
        """Whether slices restored with the other options are part of what these request, wherever they are stored."""

        def choices(options: Self) -> Self:
            return replace(options, region="volume", output=None, strength=None, run_on=options.device)

        return other is not None and choices(self) == choices(other)


def _is_address(place: str) -> bool:
    return "://" in place
