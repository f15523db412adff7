"""Bidirectional WKV written as its equation: the reference that every kernel is tested against.

Eq. 8 of arXiv 2407.11087, with the decay w and the bonus u already divided by T:

    y_t = ( sum_{i != t} exp(k_i - (|t-i| - 1) w) v_i + exp(u + k_t) v_t )
        / ( sum_{i != t} exp(k_i - (|t-i| - 1) w)     + exp(u + k_t)     )
"""

import torch
from torch import Tensor


def bi_wkv_reference(w: Tensor, u: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Evaluate the equation term by term, in O(T^2) time and memory.

    Parameters
    ----------
    w, u
        Decay and bonus per channel, already divided by T, shape (C,).
    k, v
        Keys and values, shape (B, T, C), T tokens in the order of the scan.

    Returns
    -------
    Tensor
        y, shape (B, T, C), in the dtype of v.
    """
    position = torch.arange(k.shape[1], device=k.device)
    distance = (position[:, None] - position[None, :]).abs()  # t, i
    is_self = (distance == 0)[..., None]
    exponent = torch.where(is_self, u, -(distance[..., None] - 1) * w)  # t, i, C
    weight = torch.softmax(exponent + k[:, None, :, :], dim=2)  # B, t, i, C
    return torch.einsum("btic,bic->btc", weight, v)


def re_wkv_reference(decay: Tensor, bonus: Tensor, k: Tensor, v: Tensor, height: int, width: int) -> Tensor:
    """Scan a map along its rows, then along its columns (Eq. 9-10, M = 2), with explicit transposes.

    Parameters
    ----------
    decay, bonus
        One row for each scan order, already divided by T, shape (2, C).
    k, v
        Keys and values of the map in row-major order, shape (B, T, C) with T = height * width.
    """

    def transposed(x: Tensor, rows: int, columns: int) -> Tensor:
        return x.unflatten(1, (rows, columns)).transpose(1, 2).flatten(1, 2)

    v = bi_wkv_reference(decay[0], bonus[0], k, v)
    y = bi_wkv_reference(decay[1], bonus[1], transposed(k, height, width), transposed(v, height, width))
    return transposed(y, width, height)
