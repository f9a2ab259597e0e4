"""Locally connected maps: the field of a convolution, with a kernel of its own at every position."""

import math
from dataclasses import field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from neurosbd.connections.geometry import WeightAxes, sparse_mask
from neurosbd.connections.initialisers import Initialiser, KaimingNormal
from neurosbd.connections.kernels import arriving_size, fitted, spread
from neurosbd.connections.pooling import Pooling, unpooled
from neurosbd.connections.synapses import Synapses
from neurosbd.schema.constants import Count, Share, Whole, constants

# Patches are copied side by side, some rows of the map at a time: this many numbers still fit into the cache, while
# all at once they are k^2 maps, whose page faults cost more than the product (twice the time on 64x16x16, k = 5).
COPIED = 2**20


@constants
class Local2d:
    """Square kernels over the (pooled) pre map, zero padding at the border; nothing is shared between positions.

        drive[b, o, r, c] = sum_{i, y, x} weight[o, r, c, i, y, x] arriving[b, i, stride r + y - padding, ...]
                            + bias[o, r, c]
        outer[o, r, c, i, y, x] = sum_b post_factor[b, o, r, c] pre_factor[b, i, stride r + y - padding, ...]

    Every unit has weights and a bias of its own, as in a dense connection: the weight is [*post size, in, kernel,
    kernel], and out x height x width x in x kernel^2 numbers are learned. A synapse that looks at the padding is
    there, counts as any other in the initial scale, and never changes. With `pool_drive` the drive is pooled before it
    reaches the neuron, as that of a `Conv2d`; the weights are those of the map before.

    Args:
        kernel: side of the kernel in pixels, >= 1.
        stride: step in pixels, >= 1.
        padding: zeros added on every side, in pixels, >= 0.
        pool: pooling of the pre map on the way, or none.
        bias: whether each post unit has a bias.
        sparsity: fraction of the weights fixed at zero, drawn once, 0 <= sparsity < 1.
        weight: initialiser of the weights, which draws the kernels of a position as those of a convolution.
        pool_drive: pooling of the drive, between the synapses and the neuron, or none.
    Raises:
        ValueError: if a constant is out of range, or the sizes of the populations do not fit.
    Source: Bartunov et al. 2018, NeurIPS (arXiv 1807.04587), locally connected networks; Erdogan et al. 2025 (EBD),
        appendix, without biases.
    Differs: in memory the weight lies as [height, width, kernel, kernel, in, out], so that drive and outer are batched
        products over positions. Against torch's unfold and bmm (one core, batch 16 to 64) drive is 1.1 to 7 times as
        fast, outer 1.5 to 7 times; against a convolution of the same maps they take 0.4 to 10 times as long.
    """

    kernel: Count
    stride: Count = 1
    padding: Whole = 0
    pool: Pooling | None = None
    bias: bool = False
    sparsity: Share = 0.0
    weight: Initialiser = field(default_factory=KaimingNormal)
    pool_drive: Pooling | None = None

    def weight_shape(self, pre: tuple[int, ...], post: tuple[int, ...]) -> tuple[int, ...]:
        """(out channels, height, width, in channels, kernel, kernel)."""
        channels, sides = fitted(self, pre, post)
        return post[0], *sides, channels, self.kernel, self.kernel

    def axes(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> WeightAxes:
        """[out, height, width, in, kernel, kernel]."""
        return WeightAxes((0, 1, 2), 3, 1, kernel=(4, 5))

    def multiplications(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> int:
        """Every weight once: out x in x kernel^2 at every position, the padding included."""
        return math.prod(shape)

    def start(self, shape: tuple[int, ...], post: tuple[int, ...], generator: torch.Generator) -> Synapses:
        """Position by position as a convolution draws its kernels, so that the fans are those of one position."""
        out, height, width, *heard = shape
        kernels = [self.weight.draw((out, *heard), generator) for _ in range(height * width)]
        weight = torch.stack(kernels).view(height, width, out, *heard).permute(2, 0, 1, 3, 4, 5)
        return Synapses(laid(weight), torch.zeros(shape[:3]) if self.bias else None)

    def mask(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor | None:
        """1 where there is a synapse."""
        present = sparse_mask(shape, self.sparsity, generator)
        return None if present is None else laid(present)

    def carry(self, value: Tensor) -> Tensor:
        """The pooled map, channels-last, [B, channels, height, width]."""
        value = value.contiguous(memory_format=torch.channels_last)
        return self.pool.pool(value) if self.pool else value

    def drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        """Patch of every position times its kernels, pooled, [B, out, height, width]."""
        drive = self._full_drive(synapses, arriving)
        return self.pool_drive.pool(drive) if self.pool_drive else drive

    def outer(self, synapses: Synapses, post_factor: Tensor, pre_factor: Tensor) -> Synapses:
        """Patch of every position times the post factor there, summed over the batch alone."""
        post_factor = spread(self, post_factor, pre_factor.shape, lambda: self._full_drive(synapses, pre_factor))
        bias = None if synapses.bias is None else post_factor.sum(0)
        return Synapses(self.local_outer(post_factor, pre_factor), bias)

    def back(self, synapses: Synapses, signal: Tensor, value: Tensor) -> Tensor:
        """What every pixel sent to the positions that look at it, spread over what was pooled, [B, *size]."""
        size = arriving_size(self, value)
        signal = spread(self, signal, size, lambda: self._full_drive(synapses, self.carry(value)))
        return unpooled(self.pool, self.local_back(signal, synapses.weight, size), value)

    def each(
        self, synapses: Synapses, posts: Tensor, pres: Tensor, e: Tensor | None = None, kept: float = 0.0
    ) -> Tensor:
        """Post factor times patch, of every example by itself, [B, out, height, width, in, kernel, kernel]."""
        if e is None:
            e = posts.new_empty((posts.shape[1], *synapses.weight.shape))
        if kept == 0:
            e.zero_()  # it may hold anything
        elif kept != 1:
            e.mul_(kept)
        for post, pre in zip(posts, pres, strict=True):
            patches = self.patches(pre).permute(2, 0, 1, 5, 3, 4)
            post = spread(self, post, pre.shape, partial(self._full_drive, synapses, pre))
            e.addcmul_(post[..., None, None, None], patches[:, None])
        return e

    def patches(self, arriving: Tensor) -> Tensor:
        """What every position looks at, [height, width, B, kernel, kernel, in], without a copy of it."""
        padded = functional.pad(arriving, (self.padding,) * 4) if self.padding else arriving
        rows = padded.permute(0, 2, 3, 1).unfold(1, self.kernel, self.stride)
        return rows.unfold(2, self.kernel, self.stride).permute(1, 2, 0, 4, 5, 3)

    def _full_drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        drive = LocalDrive.apply(self, arriving, synapses.weight)
        return drive if synapses.bias is None else drive + synapses.bias

    def local_drive(self, arriving: Tensor, weight: Tensor) -> Tensor:
        """The drive of a weight without biases, before it is pooled, [B, out, height, width]."""
        return multiplied(self.patches(arriving), _kernels(weight)).permute(2, 3, 0, 1)

    def local_outer(self, post_factor: Tensor, pre_factor: Tensor) -> Tensor:
        """Its adjoint in the weight, laid out as that is."""
        return correlated(self.patches(pre_factor), post_factor.permute(2, 3, 0, 1)).permute(5, 0, 1, 4, 2, 3)

    def local_back(self, slope: Tensor, weight: Tensor, arriving: tuple[int, ...]) -> Tensor:
        """Adjoint of the drive in what arrived: kernel pixel by kernel pixel, since no two positions share one."""
        (height, width), pad, step = slope.shape[2:], self.padding, self.stride
        factor, kernels = _flat(slope.permute(2, 3, 0, 1)), _kernels(weight).flatten(0, 1)
        batch, (channels, rows, columns) = len(slope), arriving
        onto = slope.new_zeros((batch, rows + 2 * pad, columns + 2 * pad, channels))
        for y in range(self.kernel):
            for x in range(self.kernel):
                part = torch.bmm(factor, kernels[:, y, x].transpose(1, 2)).view(height, width, batch, channels)
                seen = onto[:, y : y + step * height : step, x : x + step * width : step]
                seen += part.permute(2, 0, 1, 3)
        return onto[:, pad : pad + rows, pad : pad + columns].permute(0, 3, 1, 2)


class LocalDrives(Protocol):
    """A geometry with a kernel of its own at every position; see `Local2d`."""

    def local_drive(self, arriving: Tensor, weight: Tensor) -> Tensor:
        """Without biases, before it is pooled."""
        ...

    def local_outer(self, post_factor: Tensor, pre_factor: Tensor) -> Tensor:
        """Its adjoint in the weight."""
        ...

    def local_back(self, slope: Tensor, weight: Tensor, arriving: tuple[int, ...]) -> Tensor:
        """Its adjoint in what arrives, of that size."""
        ...


class LocalDrive(torch.autograd.Function):
    """The drive for autograd: it keeps the map for the way back, not its k^2 times larger patches."""

    @staticmethod
    def forward(ctx: Any, geometry: LocalDrives, arriving: Tensor, weight: Tensor) -> Tensor:
        """The drive."""
        ctx.geometry = geometry
        ctx.save_for_backward(arriving, weight)
        return geometry.local_drive(arriving, weight)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, *grad_outputs: Tensor
    ) -> tuple[None, Tensor | None, Tensor | None]:
        """Its adjoints, as far as they are wanted."""
        (slope,) = grad_outputs
        arriving, weight = ctx.saved_tensors
        _, before, learns = ctx.needs_input_grad
        onto_pre = ctx.geometry.local_back(slope, weight, arriving.shape[1:]) if before else None
        return None, onto_pre, ctx.geometry.local_outer(slope, arriving) if learns else None


def laid(weight: Tensor) -> Tensor:
    """The same weight, in memory as [height, width, kernel, kernel, in, out]."""
    return _kernels(weight).contiguous().permute(5, 0, 1, 4, 2, 3)


def _kernels(weight: Tensor) -> Tensor:
    """A weight as it lies in memory."""
    return weight.permute(1, 2, 4, 5, 3, 0)


def multiplied(patches: Tensor, kernels: Tensor) -> Tensor:
    """Patches [height, width, .., B, kernel, kernel, in] times the kernels [height, width, .., kernel, kernel, in, out]
    of their position, [height, width, .., B, out]."""
    drive = patches.new_empty((*patches.shape[:-3], kernels.shape[-1]))
    for rows in _rows(patches):
        torch.bmm(_side_by_side(patches[rows]), _matrices(kernels[rows]), out=_flat(drive[rows]))
    return drive


def correlated(patches: Tensor, factor: Tensor) -> Tensor:
    """The adjoint in the kernels, of post factors [height, width, .., B, out]."""
    kernels = patches.new_empty((*patches.shape[:-4], *patches.shape[-3:], factor.shape[-1]))
    for rows in _rows(patches):
        seen = _side_by_side(patches[rows]).transpose(1, 2)
        torch.bmm(seen, _flat(factor[rows]), out=_matrices(kernels[rows]))
    return kernels


def _rows(patches: Tensor) -> list[slice]:
    """Rows of the map in portions whose patches make COPIED numbers at most."""
    height, row = len(patches), patches[0].numel()
    portion = max(1, COPIED // max(1, row))
    return [slice(first, first + portion) for first in range(0, height, portion)]


def _side_by_side(patches: Tensor) -> Tensor:
    """Patches of some rows as one matrix for each position, [positions, B, kernel^2 in]."""
    return patches.reshape(math.prod(patches.shape[:-4]), patches.shape[-4], -1)


def _matrices(kernels: Tensor) -> Tensor:
    """Kernels as they lie in memory as one matrix for each position, [positions, kernel^2 in, out]."""
    return kernels.flatten(-4, -2).flatten(0, -3)


def _flat(maps: Tensor) -> Tensor:
    """[height, width, .., B, out] as [positions, B, out]."""
    return maps.reshape(-1, *maps.shape[-2:])
