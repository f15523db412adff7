"""Where to compute: on a device of this computer, or on the workers of a dask scheduler."""

from __future__ import annotations

import re
from functools import partial
from typing import TYPE_CHECKING, Any

from magicgui.widgets.bases import ValuedContainerWidget
from psygnal import Signal
from qtpy.QtWidgets import QInputDialog

from .. import preferences
from ..background import Background
from ..form_parts import beside, choice, hint, plain_tip, small_button

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..surroundings import DeviceChoice

ASK, ASK_TITLE = "ask", "a dask scheduler ..."
FASTEST_THERE_IS = "the fastest there is"
_QUESTION = "Address of the scheduler, such as tcp://host:8786"
_ADDRESS = re.compile(r"(tcp|tls|ws|wss|ucx)://[^\s:/]+:\d+")
WHERE = "Where to compute"
ABOUT_SCHEDULERS = (
    "Its workers restore whole volumes into a file that they also see; single slices are restored on this computer"
)


class RunOn(ValuedContainerWidget[str]):
    """A list of devices and schedulers, and a button that explains the speed or tests the scheduler.

    Its value is the name of a device, or the address of a scheduler.

    Signals
    -------
    changed(place)
        Another device or scheduler was chosen.
    asked(text)
        A message for the user.

    Parameters
    ----------
    about
        Keywords of every magicgui widget: name, label.
    """

    asked = Signal(str)

    def __init__(self, **about: Any) -> None:
        super().__init__(labels=False, **about)
        self._devices: tuple[DeviceChoice, ...] = ()
        self._known = preferences.scheduler()
        self._chosen = "auto"
        self.devices, self.why = choice(WHERE), small_button("?", "Why not the GPU?")
        self.test = small_button("Test", "Check whether the scheduler answers, and how many workers it has")
        self.about = hint()
        for widget, name in ((self.devices, WHERE), (self.why, "Why not faster"), (self.test, "Test the scheduler")):
            widget.setAccessibleName(name)
        self._looking = Background(self.native)
        self.margins = (0, 0, 0, 0)
        self.native.layout().addLayout(beside(self.devices, self.why, self.test))
        self.native.layout().addWidget(self.about)
        self._fill()
        self.devices.activated.connect(self._on_activated)
        self.why.clicked.connect(lambda: self.asked.emit(self.why.toolTip()))
        self.test.clicked.connect(self._look)
        self._looking.answered.connect(self.about.setText)
        self._looking.failed.connect(lambda error: self.about.setText(str(error)))

    @property
    def scheduler(self) -> str | None:
        """Address of the chosen scheduler; None for this computer."""
        return self._chosen if "://" in self._chosen else None

    def get_value(self) -> str:
        """Return the name of the chosen device, or the address of the scheduler."""
        return self._chosen

    def set_value(self, value: str) -> None:
        """Choose a device, or a scheduler, whose address is remembered for the next session."""
        if "://" in value:
            self._known = value
            preferences.remember_scheduler(value)
        self._chosen = value
        self._fill()
        self.changed.emit(value)

    def set_devices(self, devices: Sequence[DeviceChoice]) -> None:
        """List the devices of this computer, and choose the preferred one."""
        self._devices = tuple(devices)
        if self.scheduler is None:
            wanted = preferences.chosen_device()
            names = [device.name for device in devices]
            self._chosen = wanted if wanted in names else next(iter(names), "auto")
        self._fill()

    def _on_activated(self, index: int) -> None:
        place = self.devices.itemData(index)
        if place == ASK:
            self._ask()
        else:
            self.value = place
            self._look_if_scheduler()

    def _ask(self) -> None:
        typed, agreed = QInputDialog.getText(self.native, "Run on a cluster", _QUESTION, text=self._known or "tcp://")
        address = typed.strip()
        if not agreed:
            self._fill()
        elif _ADDRESS.fullmatch(address) is None:
            self._fill()
            self.asked.emit(f'"{address}" is not the address of a scheduler; give one such as tcp://host:8786.')
        else:
            self.value = address
            self._look_if_scheduler()

    def _look_if_scheduler(self) -> None:
        if self.scheduler is not None:
            self._look()

    def _look(self) -> None:
        self.about.setText("looking ...")
        self._looking.ask(partial(_described, str(self.scheduler)))

    def _fill(self) -> None:
        self.devices.blockSignals(True)
        self.devices.clear()
        for device in self._devices:
            self.devices.addItem(device.title, device.name)
        if not self._devices:
            self.devices.addItem(FASTEST_THERE_IS, "auto")
        if self._known:
            self.devices.addItem(f"cluster {self._known.partition('://')[2]}", self._known)
        self.devices.addItem(ASK_TITLE, ASK)
        self.devices.setCurrentIndex(max(self.devices.findData(self._chosen), 0))
        self.devices.blockSignals(False)
        self._explain()

    def _explain(self) -> None:
        cluster = self.scheduler is not None
        self.test.setVisible(cluster)
        self.why.setVisible(not cluster)
        self.about.setVisible(cluster)
        if cluster:
            self.devices.setToolTip(plain_tip(f"{self.scheduler}: {ABOUT_SCHEDULERS}"))
            self.about.setText(ABOUT_SCHEDULERS)
            return
        chosen = next((device for device in self._devices if device.name == self._chosen), None)
        if chosen is not None:
            self.devices.setToolTip(chosen.details)
            self.why.setToolTip(chosen.advice or "This is the fastest there is for this device.")


def _described(address: str) -> str:
    from ...jobs.scheduler import described

    return described(address)
