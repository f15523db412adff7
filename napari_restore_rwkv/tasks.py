"""The restoration tasks, and the modality each is made for."""

from dataclasses import dataclass

MODALITIES = ("CT", "MR", "PET")


@dataclass(frozen=True, slots=True)
class Task:
    """One restoration task.

    Attributes
    ----------
    name
        The name on the command line and in checkpoint cards, such as ``"ct-denoise"``.
    title
        The name in the panel, such as ``"CT denoising"``.
    modality
        One of `MODALITIES`; None for a network that takes all three.
    """

    name: str
    title: str
    modality: str | None


TASKS = {
    task.name: task
    for task in (
        Task("ct-denoise", "CT denoising", "CT"),
        Task("mri-sr", "MRI super-resolution", "MR"),
        Task("pet-low-count", "Low-count PET", "PET"),
        Task("all-in-one", "All in one", None),
    )
}
