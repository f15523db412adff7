"""A form made from a dataclass: its rows, what is read from them, and what is filled in."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pytest
from napari.layers import Image, Labels
from qtpy.QtWidgets import QLabel

from napari_restore_rwkv.gui.form_parts import hint
from napari_restore_rwkv.gui.layer_choice import LayerChoice, is_image
from napari_restore_rwkv.gui.options_form import OptionsForm

TITLES = {"few": "a few slices", "all": "all slices"}


@dataclass(frozen=True)
class Options:
    """Options with a field of each kind."""

    task: Annotated[str | None, {"label": "Task", "choices": ["ct", "mr"]}] = None
    layer: Annotated[Image | None, {"label": "Scan", "widget_type": LayerChoice, "accepts": is_image}] = None
    extent: Annotated[
        Literal["few", "all"], {"label": "Extent", "choices": [(title, name) for name, title in TITLES.items()]}
    ] = "few"
    steps: Annotated[int, {"label": "Steps", "tooltip": "How many", "min": 1, "max": 20, "step": 5}] = 10
    sure: Annotated[bool, {"label": "I am sure", "tooltip": "Really"}] = False
    seed: int = 7


@pytest.fixture
def form(viewer, qtbot):
    viewer.add_image(np.zeros((2, 3, 3)), name="scan")
    form = OptionsForm(viewer, Options)
    qtbot.addWidget(form)
    yield form
    form.let_go()


def labels_of(form):
    return [label.text() for label in form.findChildren(QLabel)]


def test_a_field_gets_label_title_tip_and_range_from_its_annotation(form):
    assert labels_of(form) == ["Task", "Scan", "Extent", "Steps"]
    assert form.extent.current_choice == "a few slices"
    assert (form.steps.value, form.steps.min, form.steps.max, form.steps.step) == (10, 1, 20, 5)
    assert form.steps.tooltip == "How many"
    assert (form.sure.native.text(), form.sure.tooltip) == ("I am sure", "Really")


def test_a_label_names_its_widget_for_a_screen_reader(form):
    buddies = {label.text(): label.buddy() for label in form.findChildren(QLabel)}
    fields = {"Task": form.task, "Scan": form.layer, "Extent": form.extent, "Steps": form.steps}
    assert buddies == {label: widget.native for label, widget in fields.items()}


def test_a_field_without_an_annotation_is_not_asked_for(form):
    with pytest.raises(AttributeError, match="has no field seed"):
        _ = form.seed


def test_filled_in_values_are_read_back(form, viewer):
    options = Options("mr", viewer.layers["scan"], "all", 20, True)
    form.fill_in(options)
    assert Options(**form.values(Options)) == options


def test_filling_in_none_leaves_a_widget_as_it_is(form, viewer):
    form.fill_in(Options(steps=3))
    assert form.values(Options)["layer"] is viewer.layers["scan"]
    assert form.values(Options)["task"] == "ct"
    assert form.task.choices == ("ct", "mr"), "it is not among the choices"


def test_hidden_or_disabled_fields_have_defaults_and_keep_their_choice(form):
    form.fill_in(Options(extent="all", steps=20))
    form.show_row("steps", False)
    form.extent.enabled = False
    assert form.values(Options)["steps"] == 10
    assert form.values(Options)["extent"] == "few"
    form.show_row("steps", True)
    form.extent.enabled = True
    assert form.values(Options)["steps"] == 20
    assert form.values(Options)["extent"] == "all"


def test_a_form_that_is_disabled_as_a_whole_keeps_its_values(form):
    form.fill_in(Options(steps=20))
    form.setEnabled(False)
    assert form.values(Options)["steps"] == 20


def test_a_row_is_hidden_with_its_label(form):
    form.show_row("steps", False)
    assert [label.text() for label in form.findChildren(QLabel) if label.isHidden()] == ["Steps"]
    assert form.steps.native.isHidden()
    assert not form.is_shown("steps")


def test_a_line_is_below_the_row_it_is_about(form, qtbot):
    line = hint()
    line.setText("about the extent")
    form.add_below("extent", line)
    form.show()
    assert form.extent.native.y() < line.y() < form.steps.native.y()


def test_a_layer_named_like_the_entry_for_none_can_be_chosen(viewer, qtbot):
    layers = LayerChoice(viewer, lambda layer: isinstance(layer, Labels), nothing="none")
    qtbot.addWidget(layers.native)
    chosen = viewer.add_labels(np.zeros((4, 4), int), name="none")
    assert layers.value is None
    layers.value = chosen
    assert layers.value is chosen
    viewer.layers.remove(chosen)
    assert layers.value is None
    layers.let_go()


def test_a_layer_that_is_not_listed_cannot_be_chosen(viewer, qtbot):
    layers = LayerChoice(viewer, is_image)
    qtbot.addWidget(layers.native)
    labels = viewer.add_labels(np.zeros((4, 4), int))
    assert not layers.choose(labels)
    with pytest.raises(ValueError, match="not a valid choice"):
        layers.value = labels
    layers.let_go()


def test_a_fresh_layer_is_chosen_unless_the_list_is_disabled(viewer, qtbot):
    layers, told = LayerChoice(viewer, is_image, takes_fresh=True), []
    qtbot.addWidget(layers.native)
    layers.changed.connect(told.append)
    first, second = (viewer.add_image(np.zeros((4, 4))) for _ in range(2))
    assert layers.value is second
    layers.enabled = False
    third = viewer.add_image(np.zeros((4, 4)))
    viewer.layers.move(2, 0)
    assert layers.value is second
    viewer.layers.remove(second)
    assert layers.value is third, "the first of the list"
    viewer.layers.clear()
    assert layers.value is None
    assert told[:3] == [first, second, third]
    assert told[-1] is None
    layers.let_go()
