"""A mailbox between a thread that may be fast and a viewer that may be slow; its content is read at intervals.

A Qt signal for each step would queue: a producer a thousand times faster than the viewer would fill the memory with
events, and the viewer would never get to anything else. Here at most one event is pending, whatever is put in.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..progress import Progress

READ_EVERY_MS = 50

Region = tuple[slice, slice, slice]


class Mailbox(QObject):
    """Takes items from any thread, and delivers them together, in the thread in which it was created.

    Signals
    -------
    opened(content)
        What was put in since the last time. The first item is delivered at once, then at most one content in
        `every_ms`.

    Parameters
    ----------
    collect
        Adds an item to the content, which is None while the mailbox is empty, and returns the content. It runs in the
        producer's thread, and must not grow without bounds.
    every_ms
        Pause between two readings.
    """

    opened = Signal(object)
    _filled = Signal()

    def __init__(self, collect: Callable[[Any, Any], Any], *, every_ms: int = READ_EVERY_MS) -> None:
        super().__init__()
        self._collect = collect
        self._content: Any = None
        self._lock = threading.Lock()
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(every_ms)
        self._rest.timeout.connect(self.read)
        self._filled.connect(self._on_filled)

    def put(self, item: Any) -> None:
        """Put something in, from any thread, without waiting for the reader."""
        with self._lock:
            was_empty = self._content is None
            self._content = self._collect(self._content, item)
        if was_empty:
            self._filled.emit()

    def read(self, event: Any = None) -> None:
        """Deliver the content now, in the thread of the mailbox."""
        with self._lock:
            content, self._content = self._content, None
        if content is not None:
            self.opened.emit(content)
            # After the delivery, however long it took, so that other events get their turn.
            self._rest.start()

    def _on_filled(self) -> None:
        if not self._rest.isActive():
            self.read()


@dataclass(slots=True)
class News:
    """What a job has reported since the last reading.

    Attributes
    ----------
    progress
        The newest step.
    """

    progress: Progress
    _regions: dict[tuple[tuple[int, int], ...], Region] = field(default_factory=dict)

    @property
    def regions(self) -> list[Region]:
        """Everything that was finished in the meantime, each region once."""
        return list(self._regions.values())

    def add(self, progress: Progress) -> None:
        """Add another step."""
        self.progress = progress
        if progress.region is not None:
            self._regions[tuple((along.start, along.stop) for along in progress.region)] = progress.region


def collect_news(news: News | None, progress: Progress) -> News:
    """Let a mailbox keep the newest step, and all regions: at most as many as there are slices."""
    news = news or News(progress)
    news.add(progress)
    return news


def collect_all(items: list[Any] | None, item: Any) -> list[Any]:
    """Let a mailbox keep everything, if that is little: the losses of a training run, which are drawn as a curve."""
    items = [] if items is None else items
    items.append(item)
    return items
