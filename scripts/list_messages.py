"""Every sentence with which the program refuses something, from the sources."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "napari_restore_rwkv"
_KINDS = {"ScanError", "CheckpointError", "OutputError", "DeviceError", "RestoreError"}
# Of the sentence nothing is known but its parts.
_ANYTHING = "…"
_LEAST_LETTERS = 12


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """A sentence; `…` stands for what differs from case to case.

    Attributes
    ----------
    room
        Folder or file of the package that says it, such as "scans".
    kind
        Class of the error.
    text
        The sentence.
    """

    room: str
    kind: str
    text: str


def messages(root: Path) -> list[Message]:
    """Return every message that stands where an error of ours is raised or made, sorted, each once."""
    found = set()
    for path in sorted((root / PACKAGE).rglob("*.py")):
        room = path.relative_to(root / PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            kind = _kind(node)
            for text in _sentences(node) if kind else ():
                if sum(character.isalpha() for character in text) >= _LEAST_LETTERS:
                    found.add(Message(room, kind, text))
    return sorted(found)


def table(found: list[Message]) -> str:
    """Return a table of messages for each room, in Markdown."""
    lines: list[str] = []
    for room in sorted({message.room for message in found}):
        lines += ["", f"### {room}", "", "| message | kind |", "|---|---|"]
        lines += [f"| {_in_a_cell(one.text)} | {one.kind} |" for one in found if one.room == room]
    return "\n".join(lines)


def _kind(node: ast.AST) -> str:
    called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
    return called if called in _KINDS else ""


def _sentences(call: ast.Call) -> list[str]:
    """What the error of a call may say: its cause, and what to do where that is given apart."""
    remedy = [*call.args[1:2], *(named.value for named in call.keywords if named.arg == "remedy")]
    remedies = [f"; {text}." for text in _texts(remedy[0])] if remedy else [""]
    return [cause + text for cause in (_texts(call.args[0]) if call.args else []) for text in remedies]


def _texts(node: ast.expr) -> list[str]:
    """The sentences that an expression may be: both of a choice, both parts of a sum as one."""
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body), *_texts(node.orelse)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return [one + other for one in _texts(node.left) for other in _texts(node.right)]
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else _ANYTHING for part in node.values)]
    return [_ANYTHING]


def _in_a_cell(text: str) -> str:
    plain = " ".join(text.split())
    for sign in "\\|<>*_`[]":
        plain = plain.replace(sign, f"\\{sign}")
    return plain


if __name__ == "__main__":
    print(*(f"{one.room:<16}{one.kind:<17}{one.text}" for one in messages(Path(__file__).parent.parent)), sep="\n")
