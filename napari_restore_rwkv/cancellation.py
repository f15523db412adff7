"""Ends work that was cancelled while it reports no steps, such as a measurement that reads slice after slice.

Work that reports steps is cancelled by closing its generator; see `progress`.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Cancelled(BaseException):
    """The work was cancelled; like `GeneratorExit` it is no `Exception`, so that no handler of errors catches it."""


def _never() -> bool:
    return False


_IS_CANCELLED: ContextVar[Callable[[], bool]] = ContextVar("is_cancelled", default=_never)


@contextmanager
def cancellable(is_cancelled: Callable[[], bool]) -> Iterator[None]:
    """Let `end_if_cancelled` end the work of this thread inside the ``with`` block once this returns True."""
    token = _IS_CANCELLED.set(is_cancelled)
    try:
        yield
    finally:
        _IS_CANCELLED.reset(token)


def end_if_cancelled() -> None:
    """Raise `Cancelled` if the work of this thread was cancelled; call it before each part that takes long."""
    if _IS_CANCELLED.get()():
        raise Cancelled
