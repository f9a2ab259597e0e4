"""The plastic quantities of one connection."""

from typing import NamedTuple

from torch import Tensor


class Synapses(NamedTuple):
    """The plastic quantities of one connection, or anything of their shape (a gradient, a trace)."""

    weight: Tensor  # [post, pre]; conv [out, in, kh, kw]; local [*post, in, kh, kw]
    bias: Tensor | None  # [*post]; conv [out]
