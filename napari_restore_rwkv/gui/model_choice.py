"""The choice of weights for a task: shipped weights, those fine-tuned on this computer, and files."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from magicgui.widgets.bases import ValuedContainerWidget
from psygnal import Signal
from qtpy.QtCore import QFileSystemWatcher
from qtpy.QtWidgets import QFileDialog

from ..tasks import TASKS, Task
from .background import Background
from .form_parts import beside, choice, plain_tip, small_button
from .surroundings import ModelEntry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..training.bundle import Bundle

CHOOSE = "choose"
CHOOSE_A_FILE = "choose a file ..."
SHIPPED = "shipped weights"
NO_WEIGHTS = "no weights yet: choose a file"
FILE_FILTER = "Weights (*.safetensors *.restorerwkv *.pth *.pt *.ckpt);;All files (*)"
READ_LATER = "The card is read when the weights are used; it is kept with the result."
# A bundle appears in its folder in several steps.
SETTLED_AFTER_MS = 200
LONGEST_TITLE, LONGEST_CARD = 80, 4000


@dataclass(frozen=True, slots=True)
class FineTunedEntry:
    """A bundle on this computer, as listed.

    Attributes
    ----------
    entry
        Its line.
    task
        What it was made for; "" if unknown: it is then offered for every task.
    problem
        Why it cannot be used; "" if it can.
    """

    entry: ModelEntry
    task: str
    problem: str


class ModelChoice(ValuedContainerWidget["str | Path | None"]):
    """The weights that can be chosen for a task, the proposed ones first; its value is as `ModelEntry.weights`.

    Bundles appear as soon as they are in their folder. The shipped weights can be chosen even before it is known which
    ones there are.

    Signals
    -------
    changed(weights)
        Other weights are chosen; None where there are none.
    asked(text)
        The user wants to read the card.

    Parameters
    ----------
    learned_only
        List only what can be fine-tuned.
    about
        Keywords of any magicgui widget: name, label, tooltip.
    """

    asked = Signal(str)

    def __init__(self, *, learned_only: bool = False, **about: Any) -> None:
        super().__init__(labels=False, **about)
        self._learned_only = learned_only
        self._task: Task = next(iter(TASKS.values()))
        self._models: Mapping[str, tuple[ModelEntry, ...]] | None = None
        self._bundles: tuple[FineTunedEntry, ...] = ()
        self._files: list[Path] = []
        self._listed: dict[str, ModelEntry] = {}
        self._picked: str | None = None
        self.combo = choice("The weights of the network")
        self.card = small_button("i", "What these weights were trained on, and what they gain")
        self.margins = (0, 0, 0, 0)
        self.native.layout().addLayout(beside(self.combo, self.card))
        self.combo.activated.connect(self._on_activated)
        self.combo.currentIndexChanged.connect(self._tell_card)
        self.card.clicked.connect(lambda: self.asked.emit(self._words()))
        self._watcher = QFileSystemWatcher(self.native)
        self._looking = Background(self.native, wait_ms=SETTLED_AFTER_MS)
        self._looking.answered.connect(self._show_bundles)
        self._looking.failed.connect(lambda error: self.asked.emit(f"Fine-tuned weights cannot be listed: {error}"))
        self._watcher.directoryChanged.connect(lambda _: self.look_for_bundles())
        self._fill()
        self.look_for_bundles()

    @property
    def entry(self) -> ModelEntry | None:
        """What is chosen; None if there are no weights yet."""
        return self._listed.get(self.combo.currentData())

    def get_value(self) -> str | Path | None:
        """Return the chosen weights."""
        return self.entry.weights if self.entry is not None else None

    def set_value(self, value: str | Path | None) -> None:
        """Choose listed weights by their name, a file by its path, or with None what is proposed."""
        if value is None:
            self.use_proposed()
        elif isinstance(value, str):
            self.use_listed(value)
        else:
            self.use_file(value)

    def set_task(self, task: Task) -> None:
        """List the weights for a task."""
        if task is not self._task:
            self._task = task
            self._fill()

    def tell_models(self, models: Mapping[str, tuple[ModelEntry, ...]]) -> None:
        """List what is available for each task, now that it is known; the first of a task is proposed."""
        self._models = models
        self._fill_again()

    def use_file(self, path: Path) -> None:
        """Choose a file of weights or a bundle."""
        if str(path) not in self._listed:
            self._files.append(path)
        self._pick(str(path))

    def use_listed(self, weights: str | Path) -> None:
        """Choose listed weights, as named by `ModelEntry.weights`; now, or as soon as they are listed."""
        self._pick(str(weights))

    def use_proposed(self) -> None:
        """Choose the proposal for the task, the first of the list."""
        self._picked = None
        self._fill()
        self.changed.emit(self.value)

    def look_for_bundles(self) -> None:
        """List the bundles in the background, a little later: the imports would delay the panel that is being built."""
        self._looking.ask(_bundles)

    def _show_bundles(self, found: tuple[str, tuple[FineTunedEntry, ...]]) -> None:
        folder, bundles = found
        if folder not in self._watcher.directories():
            self._watcher.addPath(folder)
        if bundles != self._bundles:
            self._bundles = bundles
            self._fill_again()

    def _pick(self, key: str) -> None:
        self._picked = key
        self._fill()
        self.changed.emit(self.value)

    def _on_activated(self, index: int) -> None:
        key = self.combo.itemData(index)
        if key == CHOOSE:
            self._ask_for_a_file()
        else:
            self._pick(key)

    def _ask_for_a_file(self) -> None:
        name, _ = QFileDialog.getOpenFileName(self.native, "Weights of a Restore-RWKV network", "", FILE_FILTER)
        if name:
            self.use_file(Path(name))
        else:
            self._fill()

    def _fill_again(self) -> None:
        before = self.entry
        self._fill()
        if (before and (before.weights, before.modality)) != (self.entry and (self.entry.weights, self.entry.modality)):
            self.changed.emit(self.value)

    def _fill(self) -> None:
        entries = self._entries()
        self._listed = {str(entry.weights): entry for entry in entries}
        self.combo.blockSignals(True)
        self.combo.clear()
        for key, entry in self._listed.items():
            self.combo.addItem(entry.title, key)
        if not self._listed:
            self.combo.addItem(NO_WEIGHTS, None)
        self.combo.setCurrentIndex(max(self.combo.findData(self._picked), 0) if self._picked else 0)
        self._list_unusable()
        self.combo.addItem(CHOOSE_A_FILE, CHOOSE)
        self.combo.blockSignals(False)
        self._tell_card()

    def _entries(self) -> list[ModelEntry]:
        """In the order of the list; a file that is a listed bundle appears once."""
        if self._models is None:
            offered = [ModelEntry(self._task.name, SHIPPED, READ_LATER, self._task.modality)]
        else:
            offered = [e for e in self._models.get(self._task.name, ()) if e.learned or not self._learned_only]
        tuned = [one.entry for one in self._bundles if not one.problem and one.task in ("", self._task.name)]
        files = [ModelEntry(path, path.name, READ_LATER) for path in self._files]
        known = {str(entry.weights) for entry in tuned}
        return [*offered, *tuned, *(entry for entry in files if str(entry.weights) not in known)]

    def _list_unusable(self) -> None:
        for bundle in self._bundles:
            if bundle.problem:
                self.combo.addItem(f"{bundle.entry.title} (cannot be used)", None)
                item = self.combo.model().item(self.combo.count() - 1)
                item.setEnabled(False)
                item.setToolTip(plain_tip(bundle.problem))

    def _tell_card(self) -> None:
        self.combo.setToolTip(plain_tip(self._words()))

    def _words(self) -> str:
        return self.entry.card if self.entry is not None else "There are no weights for this task yet."


def _bundles() -> tuple[str, tuple[FineTunedEntry, ...]]:
    """Return the bundles folder, created if missing so that it can be watched, and its content.

    This imports torch: off the GUI thread.
    """
    from ..training.bundle import available_bundles, bundles_folder

    folder = bundles_folder()
    # If it cannot be created there are no bundles, and saving one will say why.
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return str(folder), tuple(_described(bundle) for bundle in available_bundles(folder))


def _described(bundle: Bundle) -> FineTunedEntry:
    """Return the entry of a bundle; a damaged bundle does not keep the others from being listed."""
    try:
        return _entry_of(bundle)
    except Exception as error:
        problem = f"Its card cannot be read ({type(error).__name__}): ask for another copy of {bundle.path.name}."
        return FineTunedEntry(ModelEntry(bundle.path, bundle.path.name, problem), "", problem)


def _entry_of(bundle: Bundle) -> FineTunedEntry:
    card = bundle.card
    title = _in_one_line(card.title)
    title = title if bundle.accepted or bundle.problem else f"{title} (not accepted)"
    words = " ".join(part for part in (f"{card.title}.", card.intended_use, card.limits) if part)
    return FineTunedEntry(
        ModelEntry(bundle.path, title, words[:LONGEST_CARD], card.modality), card.task, bundle.problem
    )


def _in_one_line(title: str) -> str:
    words = " ".join(title.split())
    return words if len(words) <= LONGEST_TITLE else f"{words[: LONGEST_TITLE - 3]}..."
