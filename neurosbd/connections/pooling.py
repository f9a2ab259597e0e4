"""Pooling before or behind the synapses: part of a connection's geometry, without weights."""

from collections.abc import Callable
from typing import Annotated, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from neurosbd.schema.constants import Count, Range, constants


class Pooling(Protocol):
    """Summarises patches of a map [B, channels, height, width].

    `spread` is its adjoint: <spread(factor, ...), value> = <factor, pool(value)> for every factor and value.
    """

    def pool(self, value: Tensor) -> Tensor:
        """The pooled map."""
        ...

    def spread(self, factor: Tensor, like: Tensor, value: Callable[[], Tensor]) -> Tensor:
        """What of a factor per patch belongs to each pixel, [B, channels, height, width].

        Args:
            factor: one per patch, [B, channels, h, w].
            like: of the size of the map that was pooled and in its memory order, in which the result comes, since to
                multiply maps of two orders takes seven times as long. Its numbers are not looked at.
            value: gives that map; not called where it makes no difference.
        """
        ...

    def size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Size (channels, height, width) after pooling."""
        ...


def _pooled_size(owner: "AveragePool | MaxPool | SumPool", size: tuple[int, ...]) -> tuple[int, ...]:
    name = type(owner).__name__
    if len(size) != 3:
        raise ValueError(f"{name} needs maps of size [channels, height, width], got {list(size)}; remove pool")
    stride = owner.stride or owner.window
    if min(size[1:]) < owner.window:
        raise ValueError(f"{name}.window is {owner.window}, larger than the map {size[1]}x{size[2]}")
    return (size[0], *((n - owner.window) // stride + 1 for n in size[1:]))


def _shared(owner: "AveragePool | SumPool", factor: Tensor, like: Tensor, divisor: int) -> Tensor:
    """The factor of its patch for every pixel, divided; summed where patches overlap."""
    window, stride = owner.window, owner.stride or owner.window
    return torch.ops.aten.avg_pool2d_backward(factor, like, [window] * 2, [stride] * 2, [0, 0], False, True, divisor)


@constants
class AveragePool:
    """Mean over square patches.

    Args:
        window: side of a patch in pixels, >= 1.
        stride: step between patches in pixels; 0 means `window`, patches side by side.
    Source: LeCun et al. 1998, Proc. IEEE 86 (subsampling layers).
    """

    window: Count = 2
    stride: Annotated[int, Range(least=0, hint="0 is the same as window")] = 0

    def pool(self, value: Tensor) -> Tensor:
        """Mean of each patch, [B, channels, h, w]."""
        return functional.avg_pool2d(value, self.window, self.stride or self.window)

    def spread(self, factor: Tensor, like: Tensor, value: Callable[[], Tensor]) -> Tensor:
        """In equal parts, [B, channels, height, width]."""
        return _shared(self, factor, like, self.window**2)

    def size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Size (channels, height, width) after pooling."""
        return _pooled_size(self, size)


@constants
class MaxPool:
    """Largest value of square patches, the first of equal ones.

    Before the synapses a local rule needs no record of where the maximum was; behind them it looks for it again.

    Args:
        window: side of a patch in pixels, >= 1.
        stride: step between patches in pixels; 0 means `window`.
    Source: Riesenhuber, Poggio 1999, Nat. Neurosci. 2.
    """

    window: Count = 2
    stride: Annotated[int, Range(least=0, hint="0 is the same as window")] = 0

    def pool(self, value: Tensor) -> Tensor:
        """Maximum of each patch, [B, channels, h, w]."""
        return functional.max_pool2d(value, self.window, self.stride or self.window)

    def spread(self, factor: Tensor, like: Tensor, value: Callable[[], Tensor]) -> Tensor:
        """All of it to the largest pixel, [B, channels, height, width]."""
        found, shape = value(), [[self.window] * 2, [self.stride or self.window] * 2, [0, 0], [1, 1], False]
        _, where = torch.ops.aten.max_pool2d_with_indices(found, *shape)
        return torch.ops.aten.max_pool2d_with_indices_backward(factor, found, *shape, where)

    def size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Size (channels, height, width) after pooling."""
        return _pooled_size(self, size)


@constants
class SumPool:
    """Sum over square patches: how many spikes a patch sent. What neuromorphic chips and NIR count with.

    Args:
        window: side of a patch in pixels, >= 1.
        stride: step between patches in pixels; 0 means `window`.
    Source: Pedersen et al. 2024 (NIR), Nat. Commun. 15:8122, SumPool2d.
    """

    window: Count = 2
    stride: Annotated[int, Range(least=0, hint="0 is the same as window")] = 0

    def pool(self, value: Tensor) -> Tensor:
        """Sum of each patch, [B, channels, h, w]."""
        return functional.avg_pool2d(value, self.window, self.stride or self.window, divisor_override=1)

    def spread(self, factor: Tensor, like: Tensor, value: Callable[[], Tensor]) -> Tensor:
        """The whole of it to every pixel, [B, channels, height, width]."""
        return _shared(self, factor, like, 1)

    def size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """Size (channels, height, width) after pooling."""
        return _pooled_size(self, size)


def unpooled(pool: Pooling | None, factor: Tensor, value: Tensor) -> Tensor:
    """A factor of what arrived, [B, channels, h, w], at the map that was pooled on the way; itself, if none was."""
    return factor if pool is None else pool.spread(factor, value, lambda: value)


POOLINGS = {"average": AveragePool, "max": MaxPool, "sum": SumPool}
