"""The workbench as a whole: its slices, controls and lines."""

from bench_parts import CT, RESTORED, figures, replay
from qtpy.QtCore import Qt

from napari_restore_rwkv.gui.compare.state import ORTHOGONAL, RESTORED_ONLY


def test_all_slices_are_judged_and_a_click_goes_to_one(viewer, bench, qtbot):
    bench.slices.start()
    qtbot.waitUntil(lambda: bench.slices.report is not None)
    assert [one.index for one in bench.slices.report.slices] == [0, 1, 2]
    bench.slices.slice_chosen.emit(2)
    assert viewer.dims.current_step[0] == 2
    item = bench.slices.list.item(0)
    bench.slices.list.setCurrentItem(item)
    assert f"slice {viewer.dims.current_step[0]}:" in item.text()


def test_every_control_has_a_tooltip_a_name_and_keyboard_access(panel, bench):
    from qtpy.QtWidgets import (
        QAbstractButton,
        QAbstractSlider,
        QAbstractSpinBox,
        QComboBox,
        QListWidget,
        QScrollBar,
        QTableWidget,
    )

    kinds = (QAbstractButton, QAbstractSlider, QAbstractSpinBox, QComboBox, QListWidget, QTableWidget)
    controls = [one for part in (panel.compare, bench) for kind in kinds for one in part.findChildren(kind)]
    # The arrows of lists and tabs, which Qt makes for itself.
    own = [
        one
        for one in controls
        if not isinstance(one, QScrollBar) and not one.objectName().startswith(("qt_", "Scroll"))
    ]
    known = [one for one in own if not (isinstance(one, QAbstractButton) and not one.text())]
    assert len(known) > 20
    for control in known:
        what = f"{type(control).__name__} {control.accessibleName() or getattr(control, 'text', str)()}"
        assert control.toolTip(), what
        assert control.accessibleName() or (isinstance(control, QAbstractButton) and control.text()), what
        assert control.focusPolicy() & Qt.FocusPolicy.TabFocus, what


def test_the_workbench_follows_a_result_whose_layers_are_deleted(viewer, bench, qtbot):
    viewer.layers.remove(RESTORED)
    qtbot.waitUntil(lambda: bench.watch.comparison is None)
    assert "nothing to compare" in bench.about.text()


def test_judging_and_measuring_are_repeated_by_their_lines(viewer, bench, qtbot):
    assert bench.macro.isHidden()
    bench.slices.start()
    qtbot.waitUntil(lambda: bench.slices.report is not None)
    assert replay(bench, viewer)["report"].slices == bench.slices.report.slices
    scan = viewer.layers[CT]
    bench.measure.reference.choose(viewer.add_image(scan.data - 5.0, name="full dose", scale=scan.scale))
    figures(bench, qtbot, "PSNR")
    bench.measure.volume.click()
    qtbot.waitUntil(lambda: bench.measure.volume.found is not None)
    again = replay(bench, viewer)["figures"]
    assert [one.name for one in again.figures()] == [one.name for one in bench.measure.volume.found.figures()]
    assert [one.after for one in again.figures()] == [one.after for one in bench.measure.volume.found.figures()]
    assert len(bench.macro.lines) == 2
    bench.macro.python.click()
    assert bench.about.text() == "Copied: paste it into napari's console."


def test_a_position_is_marked_in_orthogonal_planes_and_drawing_leaves_them(viewer, panel, bench, qtbot):
    panel.compare.choose_mode(ORTHOGONAL)
    bench.lost.place_chosen.emit(30, 70)
    planes = panel.compare.view.planes
    qtbot.waitUntil(lambda: planes.position == (1, 30, 70))
    bench.measure.draw.click()
    assert panel.compare.modes.currentText() == RESTORED_ONLY
    assert not planes.layers
