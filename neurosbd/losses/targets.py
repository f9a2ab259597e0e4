"""Targets as a loss wants them."""

import torch
from torch import Tensor


def as_vector(target: Tensor, like: Tensor) -> Tensor:
    """Class labels [B] become one-hot rows [B, C]; a target that is [B, C] already is passed on.

    Raises:
        ValueError: if the target is neither, with both shapes.
    """
    if target.shape == like.shape:
        return target.to(like.dtype)
    if target.ndim == 1 and len(target) == len(like) and not target.is_floating_point():
        return torch.zeros_like(like).scatter_(1, target[:, None], 1.0)
    raise ValueError(
        f"target has shape {list(target.shape)} ({target.dtype}), output [batch, k] is {list(like.shape)}; "
        f"give integer labels [batch] or a target [batch, k]"
    )
