"""Lists every error message of the program, from the sources."""

from __future__ import annotations

import ast
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeGuard

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKAGE = "napari_restore_rwkv"
_OUR_ERROR = "RestoreError"
# What the command line says about an argument; this is not one of our errors.
_USAGE = "ArgumentTypeError"
# Stands for the unknown parts of a sentence.
_ANYTHING = "…"
_LEAST_LETTERS = 7
# How many nested function calls are followed.
_DEEPEST = 2

# The argument of each parameter of a function, by its name.
Given = dict[str, ast.expr]


@dataclass(frozen=True, slots=True, order=True)
class Message:
    """A sentence; `…` stands for what differs from case to case.

    Attributes
    ----------
    room
        Folder or file of the package that it comes from, such as "scans".
    kind
        Class of the error.
    text
        The sentence.
    """

    room: str
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Function:
    """What a function may return: an error, as from ``broken(path, why)``, or its text."""

    parameters: tuple[str, ...]
    returned: tuple[ast.expr, ...]

    def given(self, call: ast.Call) -> Given:
        """Return the arguments of a call, by the names of the parameters."""
        named = {word.arg: word.value for word in call.keywords if word.arg}
        return dict(zip(self.parameters, call.args, strict=False)) | named


def messages(root: Path) -> list[Message]:
    """Return every message of an error of ours that is raised or created, sorted, each once."""
    found = set()
    for path, _, _, texts in _errors_made(root):
        room = path.relative_to(root / PACKAGE).parts[0].removesuffix(".py")
        for kind, text in texts:
            if _letters(text) >= _LEAST_LETTERS:
                found.add(Message(room, kind, text))
    return sorted(found)


def without_words(root: Path) -> list[str]:
    """Return the places, as file:line, where an error is created whose text is unknown."""
    return [
        f"{path.relative_to(root)}:{line}"
        for path, line, handed_on, texts in _errors_made(root)
        if not handed_on and not any(_letters(text) >= _LEAST_LETTERS for _, text in texts)
    ]


def table(found: list[Message]) -> str:
    """Return a table of messages for each package, in Markdown."""
    lines: list[str] = []
    for room in sorted({message.room for message in found}):
        lines += ["", f"### {room}", "", "| message | kind |", "|---|---|"]
        lines += [f"| {_in_a_cell(one.text)} | {one.kind} |" for one in found if one.room == room]
    return "\n".join(lines)


def _errors_made(root: Path) -> Iterator[tuple[Path, int, bool, list[tuple[str, str]]]]:
    """Yield file, line, whether it passes on another error's text, and (kind, sentence) of each created error."""
    sources = sorted((root / PACKAGE).rglob("*.py"))
    files = {path: list(ast.walk(ast.parse(path.read_text(encoding="utf-8")))) for path in sources}
    kinds = _kinds(node for nodes in files.values() for node in nodes)
    functions = {path: _functions(nodes) for path, nodes in files.items()}
    public = {name: one for ours in functions.values() for name, one in ours.items() if not name.startswith("_")}
    for path, nodes in files.items():
        known = public | functions[path]
        for call in (node for node in nodes if isinstance(node, ast.Call)):
            name = _name_of(call.func)
            if name in kinds:
                texts = _sentences(call, {}, known)
                # An error that only names its file adds nothing to the text of another one.
                yield path, call.lineno, not any(map(_letters, texts)), [(name, text) for text in texts]
            elif name in known and (made := [one for one in known[name].returned if _makes(one, kinds)]):
                given = known[name].given(call)
                texts = [(_name_of(one.func), text) for one in made for text in _sentences(one, given, known)]
                yield path, call.lineno, False, texts


def _letters(text: str) -> int:
    return sum(character.isalpha() for character in text)


def _name_of(called: ast.expr) -> str:
    return called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""


def _kinds(nodes: Iterable[ast.AST]) -> set[str]:
    """The names of our errors: the base class, and all that derive from it."""
    bases = {node.name: {_name_of(base) for base in node.bases} for node in nodes if isinstance(node, ast.ClassDef)}
    kinds = {_OUR_ERROR, _USAGE}
    while more := {name for name, above in bases.items() if above & kinds} - kinds:
        kinds |= more
    return kinds


def _functions(nodes: list[ast.AST]) -> dict[str, Function]:
    """The functions of a file that return an error or text, by name."""
    found = {}
    for function in (node for node in nodes if isinstance(node, ast.FunctionDef)):
        if function.returns is None or not any(
            end in ast.unparse(function.returns) for end in ("str", "Error", "Chunk")
        ):
            continue
        parameters = tuple(word.arg for word in function.args.args if word.arg != "self")
        returned = (node.value for node in ast.walk(function) if isinstance(node, ast.Return) and node.value)
        found[function.name] = Function(parameters, tuple(returned))
    return found


def _makes(node: ast.expr, kinds: set[str]) -> TypeGuard[ast.Call]:
    return isinstance(node, ast.Call) and _name_of(node.func) in kinds


def _sentences(call: ast.Call, given: Given, known: dict[str, Function]) -> list[str]:
    """What the error of a call may say: its cause, and the remedy if that is given separately."""
    remedy = [*call.args[1:2], *(named.value for named in call.keywords if named.arg == "remedy")]
    remedies = [f"; {text}." for text in _texts(remedy[0], given, known)] if remedy else [""]
    return [cause + text for cause in (_texts(call.args[0], given, known) if call.args else []) for text in remedies]


def _texts(node: ast.expr, given: Given, known: dict[str, Function], deep: int = 0) -> list[str]:
    """The sentences that an expression may yield: both branches of a choice, the parts of a sum joined."""
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body, given, known, deep), *_texts(node.orelse, given, known, deep)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = (_texts(part, given, known, deep) for part in (node.left, node.right))
        return ["".join(words) for words in itertools.product(*parts)]
    if isinstance(node, ast.Constant):
        return [str(node.value)]
    if isinstance(node, ast.JoinedStr):
        return [
            "".join(words) for words in itertools.product(*(_texts(one, given, known, deep) for one in node.values))
        ]
    if isinstance(node, ast.FormattedValue):
        return _texts(node.value, given, known, deep)
    if isinstance(node, ast.Name) and node.id in given:
        return _texts(given[node.id], {}, known, deep)
    function = known.get(_name_of(node.func)) if isinstance(node, ast.Call) and deep < _DEEPEST else None
    if function is not None:
        ends = (_texts(one, function.given(node), known, deep + 1) for one in function.returned)
        return [text for texts in ends for text in texts] or [_ANYTHING]
    return [_ANYTHING]


def _in_a_cell(text: str) -> str:
    plain = " ".join(text.split())
    for sign in "\\|<>*_`[]":
        plain = plain.replace(sign, f"\\{sign}")
    return plain


if __name__ == "__main__":
    print(*(f"{one.room:<16}{one.kind:<17}{one.text}" for one in messages(Path(__file__).parent.parent)), sep="\n")
