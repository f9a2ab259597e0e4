"""Direct feedback alignment of maps through the kernels of a convolution that goes back."""

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from neurosbd.axes import is_map
from neurosbd.neuromodulators.neuromodulator import Broadcast, Receiver, no_statistics, unchanged
from neurosbd.schema.constants import Count, NotNegative, Whole, constants


class Kernels(NamedTuple):
    """State of kernels that do not learn."""

    frozen: Tensor  # [C, channels x kernel^2]; of other populations [C, units]
    under: Tensor  # 1 where a number of a kernel that lies somewhere falls on a position, [kernel^2, positions]


@constants(called="fixed_kernels")
class FixedKernels:
    """Send the score to a map as a convolution above it would, that has the same score at all of its positions.

        third_factor[b, c, p] = sum_o sum_k score[b, o] R0[o, c, k] under[k, p]

    which is the transposed convolution of a constant map of scores by R0 [C, channels, kernel, kernel], drawn once.
    Positions differ by how kernels lie over them only: at the border, and with a stride. Other populations are told
    score R0, as under 'fixed_random'.

    Args:
        kernel: side of the kernels in pixels, >= 1.
        stride: step in pixels, >= 1.
        padding: zeros around the map, in pixels, >= 0.
        scale: standard deviation of the entries of R0, >= 0; a position hears up to kernel^2 of them.
    Raises:
        ValueError: if a constant is out of range, or a map is smaller than a kernel.
    Source: Sanfiz, Akrout 2021, BioTorch, arXiv 2108.13446 (its convolutional DFA).
    Differs: one R0 for every population, drawn as normal numbers of one size, there by Xavier.
    """

    rewarded: ClassVar[bool] = False
    reads_activity: ClassVar[bool] = False
    steady: ClassVar[bool] = True
    statistics = no_statistics
    update = unchanged

    kernel: Count = 3
    stride: Count = 1
    padding: Whole = 1
    scale: NotNegative = 0.02

    def init(self, receiver: Receiver, broadcast: Broadcast, generator: torch.Generator) -> Kernels:
        """Draw R0."""
        value, under = receiver.value, receiver.value.new_empty(0)
        units = value[0].numel()
        if is_map(value):
            _, channels, height, width = value.shape
            under, units = self._under(height, width).to(value), channels * self.kernel**2
        drawn = torch.randn(broadcast.score.shape[1] - broadcast.n_expanded, units, generator=generator) * self.scale
        return Kernels(torch.cat((drawn, drawn.new_zeros(broadcast.n_expanded, units))).to(value), under)

    def _under(self, height: int, width: int) -> Tensor:
        """[kernel^2, positions]."""
        above = [(side + 2 * self.padding - self.kernel) // self.stride + 1 for side in (height, width)]
        if min(above) < 1:
            raise ValueError(
                f"fixed_kernels.kernel is {self.kernel}, larger than a map of {height} x {width} with padding "
                f"{self.padding}; set rule.neuromodulator.kernel or rule.neuromodulator.padding"
            )
        count = self.kernel**2
        each = torch.eye(count).view(1, count, self.kernel, self.kernel)
        seen = functional.conv_transpose2d(torch.ones(1, 1, *above), each, stride=self.stride)[0]
        down, across = (
            max(0, side + self.padding - length) for side, length in zip((height, width), seen.shape[1:], strict=True)
        )
        seen = functional.pad(seen, (0, across, 0, down))
        return seen[:, self.padding : self.padding + height, self.padding : self.padding + width].flatten(1)

    def third_factor(self, state: Kernels, receiver: Receiver, broadcast: Broadcast) -> Tensor:
        """The score back through the kernels, [B, *size]."""
        sent, value = broadcast.score @ state.frozen, receiver.value
        if is_map(value):
            sent = sent.view(*value.shape[:2], -1) @ state.under
        return sent.view(value.shape)

    def projection(self, state: Kernels) -> Tensor:
        """R0, [C, channels x kernel^2]."""
        return state.frozen
