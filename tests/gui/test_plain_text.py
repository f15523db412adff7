"""What comes from other people's files is shown as it is: Qt takes text that looks like HTML for HTML, and obeys it."""

import ast
from pathlib import Path

import pytest

import napari_restore_rwkv

GUI = Path(napari_restore_rwkv.__file__).parent / "gui"
# These make labels that show plain text; a picture shows none.
MAKERS, WITHOUT_TEXT = {"form_parts.py"}, {"Picture"}


def named(node, name):
    return (isinstance(node, ast.Name) and node.id == name) or (isinstance(node, ast.Attribute) and node.attr == name)


@pytest.mark.parametrize("path", sorted(GUI.rglob("*.py")), ids=lambda path: path.stem)
def test_every_label_shows_plain_text(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and named(node.func, "QLabel"):
            assert path.name in MAKERS, f"line {node.lineno} makes a label that guesses; take form_parts.plain_label"
        derived = isinstance(node, ast.ClassDef) and any(named(base, "QLabel") for base in node.bases)
        if derived and node.name not in WITHOUT_TEXT:
            assert "self.setTextFormat(Qt.TextFormat.PlainText)" in ast.unparse(node), node.name


@pytest.mark.parametrize("path", sorted(GUI.rglob("*.py")), ids=lambda path: path.stem)
def test_where_html_is_wanted_the_words_are_escaped(path):
    text = path.read_text(encoding="utf-8")
    assert not ("TextFormat.RichText" in text or "rich_label()" in text) or "html.escape(" in text


def test_a_name_that_looks_like_html_stays_a_name(qtbot):
    from qtpy.QtCore import Qt

    from napari_restore_rwkv.gui.form_parts import hint, plain_label, plain_tip

    name = '<img src="/etc/passwd"><b>x</b>'
    for label in (plain_label(name), hint()):
        qtbot.addWidget(label)
        assert label.textFormat() == Qt.TextFormat.PlainText
    assert "<img" not in plain_tip(name)
