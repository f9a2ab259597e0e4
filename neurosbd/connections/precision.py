"""Connections whose products take operands of fewer bits."""

import copy
from functools import cache
from typing import Any, Literal

from torch import Tensor

from neurosbd.connections.geometry import Geometry
from neurosbd.connections.synapses import Synapses

Precision = Literal["float32", "bf16"]


class Bfloat16Operands:
    """Put before a geometry: the operands of its `drive` and `outer` are rounded to bfloat16, and so are their results,
    which come back in the type of what went in; the sums within are wider.

    On a GPU these are its products of 16 bits. On a CPU, whose kernels may round their sums as well, they are products
    in the type that there is, of rounded operands: the same numbers but for the order of the sums, and no faster.

    Weights, traces, correlations, gradients as they add up, and the moments of the optimizer stay as wide as they are.
    `back` and `each` are left alone.

    Source: Micikevicius et al. 2018, ICLR (products of 16 bits, weights of 32); Kalamkar et al. 2019, arXiv 1905.12322
        (bfloat16, which needs no scaling of the loss).
    """

    def drive(self: Any, synapses: Synapses, arriving: Tensor) -> Tensor:
        """That of the geometry, of rounded weights and of what arrives, rounded."""
        drive = super().drive(_synapses(synapses), _operand(arriving))  # type: ignore[misc]
        return drive.bfloat16().to(arriving.dtype)

    def outer(self: Any, synapses: Synapses, post_factor: Tensor, pre_factor: Tensor) -> Synapses:
        """That of the geometry, of rounded factors."""
        weight, bias = super().outer(_synapses(synapses), _operand(post_factor), _operand(pre_factor))  # type: ignore[misc]
        rounded = weight.bfloat16().to(post_factor.dtype)
        return Synapses(rounded, None if bias is None else bias.bfloat16().to(post_factor.dtype))


def in_precision(geometry: Geometry, precision: Precision) -> Geometry:
    """A geometry whose products take operands of that precision; 'float32' leaves it as it is.

    >>> import torch
    >>> from neurosbd.connections import Dense
    >>> synapses = Synapses(torch.full((1, 1), 1 / 3), None)
    >>> in_precision(Dense(), "bf16").drive(synapses, torch.ones(1, 1))
    tensor([[0.3340]])
    """
    if precision == "float32":
        return geometry
    made = copy.copy(geometry)
    object.__setattr__(made, "__class__", _with_bfloat16(type(geometry)))
    return made


@cache
def _with_bfloat16(kind: type) -> type:
    """The class of a geometry, under its own name, with rounded operands."""
    return type(kind.__name__, (Bfloat16Operands, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__})


def _synapses(synapses: Synapses) -> Synapses:
    return Synapses(_operand(synapses.weight), None if synapses.bias is None else _operand(synapses.bias))


def _operand(value: Tensor) -> Tensor:
    """Rounded; in 16 bits where there are products of such."""
    return value.bfloat16() if value.is_cuda else value.bfloat16().to(value.dtype)
