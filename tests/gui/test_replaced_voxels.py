"""The voxels of a scan may be replaced while it is chosen: what the forms say and offer is that of the new ones."""

import numpy as np


def test_the_form_describes_and_proposes_anew(viewer, ct_panel, qtbot):
    scan, form = viewer.layers["CT abdomen"], ct_panel.form
    qtbot.waitUntil(lambda: form.is_known)
    form.region.value = "volume"
    scan.data = np.stack([scan.data, scan.data])
    assert form.is_shown("time_index")
    assert form.time_index.max == 1
    scan.data = scan.data[0, 0]
    assert not form.is_shown("time_index")
    assert form.region.value == "slice"
    assert not form._whole_volume.isEnabled()
    assert form.about_scan.text().startswith("1 x ")


def test_the_noise_is_measured_again(viewer, ct_panel, qtbot, rng):
    form, measured = ct_panel.form, []
    qtbot.waitUntil(lambda: form.is_known)
    form.advice.ask = lambda scan, *_: measured.append(scan.voxels)
    voxels = rng.normal(40, 200, viewer.layers["CT abdomen"].data.shape).astype(np.float32)
    viewer.layers["CT abdomen"].data = voxels
    assert measured[-1] is voxels


def test_a_scan_that_is_none_any_more_is_said_to_be_none(viewer, ct_panel, qtbot):
    qtbot.waitUntil(lambda: ct_panel.form.is_known)
    viewer.layers["CT abdomen"].data = np.zeros((2, 2, 5, 8, 8), np.float32)
    assert "has 5 dimensions" in ct_panel.form.about_scan.text()


def test_what_is_compared_is_said_to_be_the_result_of_the_old_ones(viewer, ct_panel, run_to_the_end):
    run_to_the_end(ct_panel, "volume")
    viewer.layers["CT abdomen"].data = viewer.layers["CT abdomen"].data + 1
    assert ct_panel.message.text() == (
        "The voxels of the scan were replaced; the result and the values are those of the old ones."
    )
    ct_panel.compare.let_go()
    ct_panel.say("")
    viewer.layers["CT abdomen"].data = viewer.layers["CT abdomen"].data + 1
    assert ct_panel.message.text() == ""


def test_the_fine_tune_form_lists_and_describes_anew(viewer, pair_layers, make_fine_tune_panel):
    panel = make_fine_tune_panel(viewer, *pair_layers)
    form = panel.form
    scan, other = form.scan_layer.value, form.reference_layer.value
    form.mode.value = "noisy"
    before = form.about_scan.text()
    scan.data = scan.data[:3]
    assert form.about_scan.text() != before
    assert form.about_scan.text().startswith("3 x ")
    scan.data = scan.data[0]
    assert form.scan_layer.value is other
