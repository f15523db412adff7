"""A pickle looked at before it is loaded: that it names nothing but weights, and is not made to keep its reader busy.

Torch runs no code of a pickle, but it does what the pickle says. A tuple that holds another one twice, and so on for
sixty of them, takes a few hundred bytes and an eternity to hash or to print; one that is nested a million times deep
ends the process. So the stack of the reader is followed here, with sizes and depths in the place of values.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

_GLOBALS = {
    "collections OrderedDict",
    "torch Size",
    "torch device",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch.serialization _get_layout",
    *(
        f"torch {kind}Storage"
        for kind in ("Half", "BFloat16", "Float", "Double", "Int", "Long", "Short", "Char", "Byte")
    ),
    "torch BoolStorage",
}
# Opcodes that bring in objects by other ways than a name that can be read.
_OTHER_WAYS = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "PERSID"}
# Twenty thousand tensors with forty words each.
_LONGEST, _MOST_WORDS = 16 << 20, 800_000
# Those of weights have at most ten values, in two levels.
_LARGEST_TUPLE, _DEEPEST_TUPLE = 10_000, 16
_TUPLE, _GLOBAL = "tuple", "any global"
# How torch names an array: a word, the type, the name of its file, the device, and the number of values.
_ARRAY = ("str", _GLOBAL, "str", "str", "int")


class CodeError(ValueError):
    """A pickle holds more than weights."""


@dataclass(frozen=True, slots=True)
class _Value:
    """What is known of a value: its kind, how many values are in it, how deep they are nested, and their kinds."""

    kind: str
    size: int = 1
    depth: int = 0
    parts: tuple[str, ...] = ()


def check_pickle(stream: Any) -> None:
    """Look at the pickle that begins in a stream, up to its end.

    Raises
    ------
    CodeError
        It names anything that a state_dict does not need.
    ValueError
        It is none, or not as torch writes them.
    """
    start = stream.tell()
    if stream.read(1) != b"\x80":
        raise ValueError("it is not a pickle as torch writes them")
    stream.seek(start)
    reader = _Reader()
    for count, (opcode, argument, _) in enumerate(pickletools.genops(stream)):
        if opcode.name in _OTHER_WAYS or (opcode.name == "GLOBAL" and argument not in _GLOBALS):
            raise CodeError(f"it names {str(argument)[:60]}")
        if stream.tell() - start > _LONGEST or count > _MOST_WORDS:
            raise ValueError("its pickle is longer than that of weights")
        try:
            reader.follow(opcode, argument)
        except (IndexError, KeyError) as error:
            raise ValueError("its pickle is damaged") from error


class _Reader:
    """The stack, the marks in it, and the memory of what reads a pickle."""

    def __init__(self) -> None:
        self._stack: list[_Value] = []
        self._marks: list[int] = []
        self._memory: dict[int, _Value] = {}

    def follow(self, opcode: Any, argument: Any) -> None:
        """Do what an opcode does, with what is known of the values in their place."""
        name = opcode.name
        if name == "MARK":
            self._marks.append(len(self._stack))
        elif name == "MEMOIZE" or name.endswith("PUT"):
            self._memory[len(self._memory) if name == "MEMOIZE" else argument] = self._stack[-1]
        elif name.endswith("GET"):
            self._stack.append(self._memory[argument])
        elif name == "DUP":
            self._stack.append(self._stack[-1])
        else:
            before, after = ([kind.name for kind in side] for side in (opcode.stack_before, opcode.stack_after))
            taken = self._take(before)
            if after:
                self._stack.append(_made(name, taken, after[0]))

    def _take(self, kinds: list[str]) -> list[_Value]:
        taken: list[_Value] = []
        if "mark" in kinds:
            at = self._marks.pop()
            taken = self._stack[at:]
            del self._stack[at:]
            kinds = kinds[: kinds.index("mark")]
        if len(kinds) > len(self._stack):
            raise IndexError
        first = len(self._stack) - len(kinds)
        taken = self._stack[first:] + taken
        del self._stack[first:]
        return taken


def _made(opcode: str, taken: list[_Value], kind: str) -> _Value:
    """Return what is known of the value that an opcode makes of others."""
    if opcode == "GLOBAL":
        return _Value(_GLOBAL)
    if opcode == "REDUCE" and taken[0].kind != _GLOBAL:
        raise CodeError("it calls what it has no name for")
    if opcode == "BINPERSID" and taken[0].parts[: len(_ARRAY)] != _ARRAY:
        raise ValueError("its arrays are not named as torch names them")
    if kind != _TUPLE:
        return _Value("int" if kind == "int_or_bool" else "str" if kind == "bytes_or_str" else kind)
    size, depth = 1 + sum(value.size for value in taken), 1 + max((value.depth for value in taken), default=0)
    if size > _LARGEST_TUPLE or depth > _DEEPEST_TUPLE:
        raise ValueError("its values are nested as those of weights never are")
    return _Value(_TUPLE, size, depth, tuple(value.kind for value in taken))
