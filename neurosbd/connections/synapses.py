"""The plastic quantities of one connection."""

from typing import NamedTuple

import torch
from torch import Tensor

from neurosbd.axes import inner


class Synapses(NamedTuple):
    """The plastic quantities of one connection, or anything of their shape (a gradient, a trace)."""

    weight: Tensor  # [post, pre]; conv [out, in, kh, kw]; local [*post, in, kh, kw]; vectors: see there
    bias: Tensor | None  # [*post]; conv [out]


def is_matrix(weight: Tensor) -> bool:
    """Whether a weight is [post, pre], without kernels."""
    return weight.dim() == 2


def has_kernels(weight: Tensor) -> bool:
    """Whether a weight consists of kernels, one for a map or one per position."""
    return weight.dim() in (4, 5) or _per_position(weight)


def joins_pairs(weight: Tensor, size: tuple[int, ...]) -> bool:
    """Whether every weight joins two single values, so that an eligibility can be one number per weight and example.

    Args:
        weight: of the connection.
        size: of its post population.
    """
    return is_matrix(weight) and not size[1:]


def shared(weight: Tensor, post: Tensor) -> tuple[int, ...]:
    """Axes of the post activity [B, *size] along which units share a weight: positions of a convolution, components of
    vectors; () where every one has its own."""
    if weight.dim() == 1:  # onto one vector, whose components are units
        return (1,)
    if weight.dim() == 5:  # from a map of numbers onto one of vectors, whose components have kernels of their own
        return inner(post)[1:]
    return () if _per_position(weight) or weight.dim() == 3 else inner(post)


def per_post_unit(values: Tensor, like: Tensor) -> Tensor:
    """One value per post unit, [*post] (conv: [out]), so that it goes with all weights or biases of the unit."""
    return values.view(*values.shape, *(1,) * (like.dim() - values.dim()))


def unrolled(weight: Tensor) -> Tensor:
    """A weight as rows of what each post unit hears, [post, heard]; of kernels per position, [height, width, post,
    heard]."""
    if _per_position(weight):
        return weight.permute(1, 2, 0, 3, 4, 5).flatten(3)
    if weight.dim() == 5:
        return weight.flatten(2).flatten(0, 1)
    if weight.dim() not in (2, 4):
        raise ValueError(
            f"rows are known of weights [post, pre], kernels [out, in, k, k] and kernels per position "
            f"[out, height, width, in, k, k], got {list(weight.shape)}"
        )
    return weight.flatten(1)


def rolled(rows: Tensor, like: Tensor) -> Tensor:
    """The reverse of `unrolled`, in the memory order of `like`."""
    if _per_position(like):
        rows = rows.permute(2, 0, 1, 3)
    return torch.empty_like(like).copy_(rows.reshape(like.shape))


def _per_position(weight: Tensor) -> bool:
    """Whether every position of a map has a kernel of its own, [out, height, width, in, kernel, kernel]."""
    return weight.dim() == 6
