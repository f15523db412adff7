"""Shared by the tests of the workbench: networks of known effect, and conditions to wait for."""

import threading

from torch import nn

CT, RESTORED, DIFFERENCE = "CT", "CT [restored]", "CT [restored - input]"
SLICES, ROWS, COLUMNS = 3, 96, 128


class Keeps(nn.Module):
    """Changes nothing, and remembers its thread; it can be held."""

    def __init__(self):
        super().__init__()
        self.threads = []
        self.hold = threading.Event()
        self.hold.set()

    def forward(self, x):
        self.threads.append(threading.current_thread())
        self.hold.wait(240)
        return x


class Flattens(nn.Module):
    """Keeps only the mean."""

    def forward(self, x):
        return x.mean(dim=(2, 3), keepdim=True).expand_as(x)


def map_slice(bench, qtbot):
    bench.lost.start()
    qtbot.waitUntil(lambda: bench.lost._worker is None)
    return bench.lost.about.text()


def figures(bench, qtbot, name):
    qtbot.waitUntil(
        lambda: (
            bench.measure.measured is not None
            and any(one.name.startswith(name) for one in bench.measure.measured.figures)
        )
    )
    return next(one for one in bench.measure.measured.figures if one.name.startswith(name))


def replay(bench, viewer):
    names = {"viewer": viewer}
    exec(bench.macro.lines[-1], names)
    return names
