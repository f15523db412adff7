"""What the Fine-tune panel did, as lines of Python that repeat it."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING

from ...scans.scan import AXES
from ...training.options import FineTuneOptions
from ..macro import layer_in_python
from ..macro_view import MacroView

if TYPE_CHECKING:
    from napari.layers import Layer

    from .choice import FineTuneChoice


class FineTuneMacro(MacroView):
    """Shows the lines of a fine-tuning run once it has ended."""

    _begun = ""

    def begin(self, choice: FineTuneChoice, labels: Layer | None) -> None:
        """Record what is started, see `fine_tune_as_python`: the form may have changed when the run ends."""
        self._begun = fine_tune_as_python(choice, labels)

    def forget(self) -> None:
        """Forget what was started: no lines would repeat it."""
        self._begun = ""

    def end(self) -> None:
        """Show the lines of the run that has ended."""
        if self._begun:
            self.add(self._begun)
        self.forget()


def fine_tune_as_python(choice: FineTuneChoice, labels: Layer | None) -> str:
    """Return lines of Python for napari's console, where `viewer` is the window, that repeat a fine-tuning run.

    Parameters
    ----------
    choice
        The filled-in form.
    labels
        The layer with the annotations.
    """
    layers = {"degraded": choice.scan_layer, "target": choice.reference_layer}
    words = [
        f"{name}=layer_to_scan({layer_in_python(layer.name)})" for name, layer in layers.items() if layer is not None
    ]
    words += [] if labels is None else [f"labels={layer_in_python(labels.name)}.data"]
    words += [] if choice.strength is None else [f"strength={choice.strength:g}"]
    usual, options = FineTuneOptions(), replace(choice.options, axis=AXES[choice.axis])
    chosen = {one.name: getattr(options, one.name) for one in fields(options)}
    keywords = [f"{name}={value!r}" for name, value in chosen.items() if value != getattr(usual, name)]
    return (
        "from napari_restore_rwkv import finish, fine_tune\n"
        "from napari_restore_rwkv.gui.layers import layer_to_scan\n"
        "from napari_restore_rwkv.training.material import Material\n"
        "from napari_restore_rwkv.training.options import FineTuneOptions\n"
        f"material = Material({', '.join(words)})\n"
        f"tuned = finish(fine_tune({str(choice.weights)!r}, material, FineTuneOptions({', '.join(keywords)})))\n"
        "print(tuned.verdict.reason)  # tuned.save(path) keeps the weights"
    )
