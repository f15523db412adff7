"""Files of tensors that a full disk or a crash leaves whole."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import torch

from ..storage.durable import write_durably

if TYPE_CHECKING:
    from pathlib import Path


def write_state(path: Path, state: Any) -> None:
    """Write what `torch.load` reads, replacing an old file in one step; OSError if that fails."""
    # Given a file, torch raises RuntimeError where the disk is full.
    content = io.BytesIO()
    torch.save(state, content)
    write_durably(path, content.getbuffer())
