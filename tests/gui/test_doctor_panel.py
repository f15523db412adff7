"""The doctor as a panel."""

import sys
import threading

import pytest
from qtpy.QtCore import QCoreApplication, QEvent
from qtpy.QtGui import QGuiApplication

from napari_restore_rwkv.gui import doctor_panel


@pytest.fixture
def make_doctor(viewer):
    panels = []

    def make():
        panels.append(doctor_panel.DoctorPanel(viewer))
        return panels[-1]

    yield make
    for panel in panels:
        panel.shut_down()
        panel.deleteLater()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)


@pytest.mark.slow
def test_the_doctor_checks_at_once_and_its_report_is_copied(make_doctor, qtbot):
    panel = make_doctor()
    assert panel.message.text() == doctor_panel.LOOKING
    assert not panel.again.isEnabled()
    qtbot.waitUntil(panel.again.isEnabled)
    assert panel.message.text() == "Everything needed works."
    assert "kernel and equation" in panel.report.toPlainText()
    panel.copy_button.click()
    assert QGuiApplication.clipboard().text() == panel.report.toPlainText()


def test_a_doctor_that_dies_says_so(make_doctor, qtbot, monkeypatch):
    def die():
        raise OSError("no such library")

    monkeypatch.setattr(doctor_panel, "_examined", die)
    panel = make_doctor()
    qtbot.waitUntil(panel.again.isEnabled)
    assert panel.message.text() == "The doctor stopped with an unexpected OSError: no such library"


def test_closing_the_panel_during_a_check_is_no_error(make_doctor, qtbot, monkeypatch):
    closed, ended = threading.Event(), []
    monkeypatch.setattr(doctor_panel, "_examined", lambda: closed.wait() and "a report")
    panel = make_doctor()
    panel._worker.finished.connect(lambda: ended.append(True))
    panel.shut_down()
    closed.set()
    qtbot.waitUntil(lambda: bool(ended))
    assert panel.report.toPlainText() == ""


def test_a_doctor_that_crashes_does_not_crash_the_window(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(OSError, match="the check ended with 1"):
        doctor_panel._examined()
