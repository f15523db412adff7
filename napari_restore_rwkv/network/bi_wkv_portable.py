"""Bidirectional WKV in PyTorch operations only: any device, time and memory linear in the number of tokens.

The tokens are divided into chunks. Within a chunk the equation is a small matrix product; between chunks a state
(m, a, b), meaning e^m (a, b), is carried by a parallel scan: decaying by n tokens subtracts n w from m, and two
states are added after scaling both to the larger m.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .bi_wkv_reference import bi_wkv_reference

_CHUNK = 64
# A chunk's sums decay by up to e^-(|w| n): with this bound they stay within float32's range together with the keys.
_MAX_EXPONENT_PER_CHUNK = 24.0
# Short sequences are summed term by term.
_SHORT = 128
_EMPTY = -1e30

_Operator = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
_State = tuple[Tensor, Tensor, Tensor]


def bi_wkv_portable(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Evaluate the operator of `bi_wkv` in linear time; same arguments, shapes, dtypes and range."""
    if k.shape[1] <= _SHORT:
        return bi_wkv_reference(w, u, k, v)
    tokens, length = k.shape[1], _chunk_length(w, u)
    padding = (0, 0, 0, -tokens % length)
    k = torch.nn.functional.pad(k, padding, value=_EMPTY).unflatten(1, (-1, length))  # B, chunk, token, C
    v = torch.nn.functional.pad(v, padding).unflatten(1, (-1, length))

    # A common factor of numerator and denominator cancels, so no gradient flows through the scales.
    own_scale = k.detach().amax(dim=2)  # B, chunk, C
    e = torch.exp(k - own_scale[:, :, None])
    terms = torch.stack((e * v, e))  # 2, B, chunk, token, C

    position = torch.arange(length, device=k.device)
    from_start = torch.exp(-position[:, None] * w)  # token, C
    from_end = from_start.flip(0)
    prefix = _exclusive_scan((own_scale, *(terms * from_end).sum(dim=3)), w * length)
    suffix = _flipped(_exclusive_scan(_flipped((own_scale, *(terms * from_start).sum(dim=3))), w * length))
    scale = torch.maximum(own_scale, torch.maximum(prefix[0], suffix[0])).detach()
    if length == 1:
        scale = torch.maximum(scale, own_scale + u.detach())

    distance = (position[:, None] - position[None, :]).abs()[..., None]  # t, i, 1
    between = torch.where(distance == 0, torch.zeros(()), torch.exp(-(distance - 1).clamp_min(0) * w))  # t, i, C
    within = torch.einsum("tic,sbnic->sbntc", between.to(k), terms) * torch.exp(own_scale - scale)[:, :, None]
    itself = torch.exp(k + u - scale[:, :, None])
    before = torch.stack(prefix[1:]) * torch.exp(prefix[0] - scale)
    behind = torch.stack(suffix[1:]) * torch.exp(suffix[0] - scale)
    numerator, denominator = (
        within
        + torch.stack((itself * v, itself))
        + before[:, :, :, None] * from_start
        + behind[:, :, :, None] * from_end
    )
    return (numerator / denominator).flatten(1, 2)[:, :tokens]


def _chunk_length(w: Tensor, u: Tensor) -> int:
    """As long as float32 allows; a large bonus dwarfs the rest of its chunk, so every token is then its own chunk."""
    decay, bonus = torch.stack((w.detach().abs().max(), u.detach().abs().max())).tolist()
    if bonus > _MAX_EXPONENT_PER_CHUNK:
        return 1
    return max(1, min(_CHUNK, int(_MAX_EXPONENT_PER_CHUNK / max(decay, 1e-30))))


def _flipped(states: _State) -> _State:
    m, a, b = (x.flip(1) for x in states)
    return m, a, b


def _exclusive_scan(states: _State, decay: Tensor) -> _State:
    """What reaches chunk j from all chunks before it: the reach of the states doubles until they cover the sequence."""
    m, a, b = (_shifted(x, 1, fill) for x, fill in zip(states, (_EMPTY, 0.0, 0.0), strict=True))
    reach = 1
    while reach < m.shape[1]:
        other_m = _shifted(m, reach, _EMPTY) - reach * decay
        larger = torch.maximum(m, other_m).detach()
        keep, add = torch.exp(m - larger), torch.exp(other_m - larger)
        a = a * keep + _shifted(a, reach, 0.0) * add
        b = b * keep + _shifted(b, reach, 0.0) * add
        # The scale is only a label, but the decay in it has a gradient: `add` moves it into a and b.
        m, reach = larger, 2 * reach
    return m, a, b


def _shifted(x: Tensor, steps: int, fill: float) -> Tensor:
    return torch.nn.functional.pad(x[:, : x.shape[1] - steps], (0, 0, steps, 0), value=fill)


def re_wkv_portable(decay: Tensor, bonus: Tensor, k: Tensor, v: Tensor, height: int, width: int) -> Tensor:
    """Scan a map along its rows, then along its columns; same arguments as `re_wkv`."""
    v = bi_wkv_portable(decay[0], bonus[0], k, v)
    return in_column_order(bi_wkv_portable, decay[1], bonus[1], k, v, height, width)


def in_column_order(operator: _Operator, w: Tensor, u: Tensor, k: Tensor, v: Tensor, height: int, width: int) -> Tensor:
    """Apply a row-order operator to the columns of a map of shape (B, height * width, C)."""
    k, v = (x.unflatten(1, (height, width)).transpose(1, 2).flatten(1, 2) for x in (k, v))
    return operator(w, u, k, v).unflatten(1, (width, height)).transpose(1, 2).flatten(1, 2)
