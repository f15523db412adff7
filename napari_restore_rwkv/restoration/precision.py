"""The precision that a network computes in, and what lower precision costs.

Nothing is approximate unless requested. On a GPU PyTorch rounds the inputs of float32 convolutions to 10 bits (TF32)
by default, and those of matrix products where that has been allowed; here float32 means float32.
"""

from __future__ import annotations

from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..errors import DeviceError
from ..network.model import RestoreRWKV

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

EXACT = "float32"
PRECISIONS = {EXACT: torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_ALWAYS_EXACT = ("patch_embed.weight", "patch_embed.bias", "context_embed.weight", "spatial_decay", "spatial_first")


def converted(network: nn.Module, precision: str) -> nn.Module:
    """Return the network with weights, and so with maps, of this precision; itself if they already have it.

    Two things stay float32, at almost no cost: the first convolution, because rounding the image would cause most of
    the error of bfloat16; and the decay and bonus of the attention, which after division by the number of tokens are
    below the smallest normal float16. The operator sums in float32 in any case.

    Parameters
    ----------
    precision
        "float32", "bfloat16" or "float16".

    Raises
    ------
    DeviceError
        If the precision is not one of these.
    """
    if precision not in PRECISIONS:
        raise DeviceError(f"The precision must be {', '.join(PRECISIONS)}; got {precision!r}.")
    dtype = PRECISIONS[precision]
    if all(parameter.dtype == dtype for parameter in network.parameters()):
        return network
    if not isinstance(network, RestoreRWKV):
        return deepcopy(network).to(dtype)
    # Folding sums kernels, which is done in full precision.
    copy = network.fused()
    for name, parameter in copy.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if name.endswith(_ALWAYS_EXACT) else dtype)
    return copy


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 in float32 on a GPU inside this context; PyTorch's settings are restored afterwards."""
    before = [(place, name, getattr(place, name)) for place, name in _float32_settings()]
    try:
        for place, name, _ in before:
            setattr(place, name, False if name == "allow_tf32" else "ieee")
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)


def _float32_settings() -> list[tuple[Any, str]]:
    """Where PyTorch keeps its settings for float32 on a GPU, the more general ones first."""
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    if not hasattr(cudnn, "conv"):
        return [(cudnn, "allow_tf32"), (matmul, "allow_tf32")]
    # Since PyTorch 2.9 each kind of operation has its own setting.
    places = [(matmul, "fp32_precision"), (cudnn.conv, "fp32_precision"), (cudnn.rnn, "fp32_precision")]
    try:
        # The older setting has to agree, or reading it in the meantime raises an error.
        _ = cudnn.allow_tf32
    except RuntimeError:
        # They already differ: other code has changed one of the settings that it summarises.
        return places
    return [(cudnn, "allow_tf32"), *places]


def deviation(restored: np.ndarray, exact: np.ndarray, unit: str) -> dict[str, Any]:
    """Measure how far a result of lower precision is from the one in float32.

    Parameters
    ----------
    restored, exact
        Of the same shape, in the unit of the scan.
    unit
        Such as "HU"; "" if the scan has none.

    Returns
    -------
    dict
        "largest" and "rms" of the difference over all finite voxels, and "unit".
    """
    with np.errstate(invalid="ignore"):
        difference = restored.astype(np.float64) - exact.astype(np.float64)
    difference = np.where(np.isfinite(difference), difference, 0.0)
    return {
        "largest": float(np.abs(difference).max()),
        "rms": float(np.sqrt(np.square(difference).mean())),
        "unit": unit,
    }
