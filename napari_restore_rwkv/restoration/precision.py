"""The numbers that a network computes in, and what the shorter ones cost.

Nothing is approximate unless it was asked for. On a GPU PyTorch rounds the inputs of float32 convolutions to 10 bits
(TF32) by default, and those of matrix products where somebody has allowed it; here float32 means float32.
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
    """Return the network with weights, and so with maps, of this precision; itself where they have it already.

    Two things stay float32, for next to nothing: the first convolution, because the rounded image would be most of the
    error of bfloat16; and the decay and bonus of the attention, which are divided by the number of tokens and then are
    below the smallest float16 of full precision. The operator sums in float32 in any case.

    Parameters
    ----------
    precision
        "float32", "bfloat16" or "float16".

    Raises
    ------
    DeviceError
        If the precision has another name.
    """
    if precision not in PRECISIONS:
        raise DeviceError(f"The precision must be {', '.join(PRECISIONS)}; got {precision!r}.")
    dtype = PRECISIONS[precision]
    if all(parameter.dtype == dtype for parameter in network.parameters()):
        return network
    if not isinstance(network, RestoreRWKV):
        return deepcopy(network).to(dtype)
    # Folding adds up kernels, which is done with all digits that there are.
    copy = network.fused()
    for name, parameter in copy.named_parameters():
        parameter.data = parameter.data.to(torch.float32 if name.endswith(_ALWAYS_EXACT) else dtype)
    return copy


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 in float32 on a GPU while this lasts; PyTorch's settings are what they were afterwards."""
    before = [(place, name, getattr(place, name)) for place, name in _float32_settings()]
    try:
        for place, name, _ in before:
            setattr(place, name, False if name == "allow_tf32" else "ieee")
        yield
    finally:
        for place, name, value in before:
            setattr(place, name, value)


def _float32_settings() -> list[tuple[Any, str]]:
    """Where PyTorch keeps how exact float32 is on a GPU, the more general places first."""
    cudnn: Any = torch.backends.cudnn
    matmul: Any = torch.backends.cuda.matmul
    if not hasattr(cudnn, "conv"):
        return [(cudnn, "allow_tf32"), (matmul, "allow_tf32")]
    # Since PyTorch 2.9 each kind of work has a place of its own.
    places = [(matmul, "fp32_precision"), (cudnn.conv, "fp32_precision"), (cudnn.rnn, "fp32_precision")]
    try:
        # The older name has to agree, or whoever reads it meanwhile gets an error.
        _ = cudnn.allow_tf32
    except RuntimeError:
        # They differ already: other code has set one of the places that it stands for.
        return places
    return [(cudnn, "allow_tf32"), *places]


def deviation(restored: np.ndarray, exact: np.ndarray, unit: str) -> dict[str, Any]:
    """Measure how far a result of fewer digits is from the one in float32.

    Parameters
    ----------
    restored, exact
        Of one shape, in the unit of the scan.
    unit
        Such as "HU"; "" where the scan has none.

    Returns
    -------
    dict
        "largest" and "rms" of the difference over all voxels that are finite, and "unit".
    """
    with np.errstate(invalid="ignore"):
        difference = restored.astype(np.float64) - exact.astype(np.float64)
    difference = np.where(np.isfinite(difference), difference, 0.0)
    return {
        "largest": float(np.abs(difference).max()),
        "rms": float(np.sqrt(np.square(difference).mean())),
        "unit": unit,
    }
