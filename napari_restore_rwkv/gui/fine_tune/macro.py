"""What the Fine-tune panel did, as lines of Python that do the same again."""

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
    """Shows the lines of a fine-tuning once it has come to its end."""

    _begun = ""

    def begin(self, choice: FineTuneChoice, labels: Layer | None) -> None:
        """Note what is begun, see `fine_tune_as_python`: the form may say something else in the end."""
        self._begun = fine_tune_as_python(choice, labels)

    def forget(self) -> None:
        """Forget what was begun: no lines would do the same."""
        self._begun = ""

    def end(self) -> None:
        """Show the lines of what has ended."""
        if self._begun:
            self.add(self._begun)
        self.forget()


def fine_tune_as_python(choice: FineTuneChoice, labels: Layer | None) -> str:
    """Return lines of Python for napari's console, where `viewer` is the window, that fine-tune the same again.

    Parameters
    ----------
    choice
        What was filled in.
    labels
        The layer in which something was marked.
    """
    layers = {"degraded": choice.scan_layer, "target": choice.reference_layer}
    words = [
        f"{name}=layer_to_scan({layer_in_python(layer.name)})" for name, layer in layers.items() if layer is not None
    ]
    words += [] if labels is None else [f"labels={layer_in_python(labels.name)}.data"]
    words += [] if choice.strength is None else [f"strength={choice.strength:g}"]
    usual, options = FineTuneOptions(), replace(choice.options, axis=AXES[choice.axis])
    chosen = {one.name: getattr(options, one.name) for one in fields(options)}
    told = [f"{name}={value!r}" for name, value in chosen.items() if value != getattr(usual, name)]
    return (
        "from napari_restore_rwkv import finish, fine_tune\n"
        "from napari_restore_rwkv.gui.layers import layer_to_scan\n"
        "from napari_restore_rwkv.training.material import Material\n"
        "from napari_restore_rwkv.training.options import FineTuneOptions\n"
        f"material = Material({', '.join(words)})\n"
        f"tuned = finish(fine_tune({str(choice.weights)!r}, material, FineTuneOptions({', '.join(told)})))\n"
        "print(tuned.verdict.reason)  # tuned.save(path) keeps the weights"
    )
