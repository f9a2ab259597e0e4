"""What connections with square kernels share: how a kernel fits onto the map that arrives."""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from neurosbd.connections.pooling import Pooling


class Kernel(Protocol):
    """Constants of a connection with square kernels, in pixels.

    kernel, stride: side of a kernel, and its step over the map.
    padding: zeros added on every side.
    pool, pool_drive: of the pre map on the way, and of the drive before the neuron.
    """

    @property
    def kernel(self) -> int: ...
    @property
    def stride(self) -> int: ...
    @property
    def padding(self) -> int: ...
    @property
    def pool(self) -> Pooling | None: ...
    @property
    def pool_drive(self) -> Pooling | None: ...


def fitted(owner: Kernel, pre: tuple[int, ...], post: tuple[int, ...]) -> tuple[int, tuple[int, int]]:
    """Channels that arrive and sides of the map that the kernel makes, between populations of sizes `pre` and `post`.

    Raises:
        ValueError: if it does not lead from one to the other; says what it would deliver.
    """
    kind = type(owner).__name__.lower()
    arriving = owner.pool.size(pre) if owner.pool else pre
    if len(arriving) != 3:
        raise ValueError(f"a {kind} connection reads maps of size [channels, height, width], got {list(arriving)}")
    if min(arriving[1:]) + 2 * owner.padding < owner.kernel:
        raise ValueError(f"a kernel of {owner.kernel} does not fit into the map {list(arriving)}")
    sides = driven(owner, arriving)
    maps = sides if owner.pool_drive is None else owner.pool_drive.size((1, *sides))[1:]
    if len(post) != 3 or post[1:] != maps:
        channels = post[0] if post else "channels"
        pooled = "" if owner.pool_drive is None else f" and pool_drive {owner.pool_drive}"
        raise ValueError(
            f"{kind} with kernel {owner.kernel}, stride {owner.stride}, padding {owner.padding}{pooled} over "
            f"{list(arriving)} delivers maps of {maps[0]}x{maps[1]}, but the size is {list(post)}; "
            f"write size = [{channels}, {maps[0]}, {maps[1]}]"
        )
    return arriving[0], sides


def driven(owner: Kernel, arriving: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the map that the kernel makes of what arrives, [..., height, width]."""
    height, width = ((n + 2 * owner.padding - owner.kernel) // owner.stride + 1 for n in arriving[-2:])
    return height, width


def arriving_size(owner: Kernel, value: Tensor) -> tuple[int, ...]:
    """Size of what arrives at the synapses of a pre map [B, channels, height, width], without the examples."""
    size = tuple(value.shape[1:])
    return owner.pool.size(size) if owner.pool else size


def spread(owner: Kernel, post_factor: Tensor, arriving: tuple[int, ...], drive: Callable[[], Tensor]) -> Tensor:
    """Post factor of every position of the kernel: back through the pooling of the drive, if there is one.

    Args:
        owner: the connection.
        post_factor: of the neurons, [B, *size].
        arriving: size of what arrives at the synapses, [.., height, width].
        drive: gives the drive before it is pooled, from which a maximum finds its winners.
    """
    if owner.pool_drive is None:
        return post_factor
    size = (*post_factor.shape[:2], *driven(owner, arriving))
    order = torch.channels_last  # in which kernels read and write maps
    like = torch.empty(size, dtype=post_factor.dtype, device=post_factor.device, memory_format=order)
    return owner.pool_drive.spread(post_factor, like, drive)
