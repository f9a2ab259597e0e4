"""Which units of a map win the right to learn: the first to spike, each of which silences those around it."""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from neurosbd.axes import is_map
from neurosbd.connections import Conv2d, Dense
from neurosbd.connections.geometry import Geometry
from neurosbd.rules.first_spikes import Spikes
from neurosbd.schema.constants import Count, Whole, constants


class Winners(NamedTuple):
    """Units that have won, in all examples, [W] each."""

    example: Tensor
    channel: Tensor
    place: Tensor  # row x width + column
    time: Tensor  # of their first spike, in trials


@constants(called="lateral_inhibition")
class LateralInhibition:
    """The first unit of a map to spike silences its channel everywhere, and all channels near it; then the next.

    Of several in one step the one of the highest potential is the first. Units of a vector are channels of one
    position each, so that only `winners` counts.

    The first of a whole map are those where its input is strongest. With `positions` the competition is held at some
    places of it alone, so that channels learn what is anywhere in the input.

    Args:
        winners: most units that win in an example, >= 1; each of another channel.
        radius: rows and columns around a winner, in which no other unit wins, >= 0.
        positions: of the map at which units may win, drawn anew for every example, >= 1; None: all of them.
    """

    winners: Count = 4
    radius: Whole = 2
    positions: Count | None = None

    def among(self, spikes: Spikes, draw: Tensor | None = None) -> Winners:
        """Those that win.

        Args:
            spikes: of a population, [B, channels, height, width] or [B, units].
            draw: a number for every position, [B, height x width], of which the smallest are where units may win; None:
                they may anywhere.
        """
        time, potential = (each if is_map(each) else each[:, :, None, None] for each in spikes)
        count, channels, height, width = time.shape
        rows, columns = (torch.arange(side, device=time.device) for side in (height, width))
        free, found = time < 1, []
        if self.positions is not None and draw is not None:
            drawn = draw.argsort(1).argsort(1) < self.positions
            free = free & drawn.view(count, 1, height, width)
        for _ in range(min(self.winners, channels)):
            rest = torch.where(free, time, 2.0).flatten(1)
            first = rest.amin(1, keepdim=True)
            best = potential.flatten(1).masked_fill(rest > first, -math.inf).argmax(1)
            channel, place = best // (height * width), best % (height * width)
            spiked = first[:, 0] < 1
            found.append((spiked, channel, place, first[:, 0]))
            row, column = (place // width)[:, None], (place % width)[:, None]
            near = ((rows - row).abs() <= self.radius)[:, :, None] & ((columns - column).abs() <= self.radius)[:, None]
            own = functional.one_hot(channel, channels).bool()
            free = free & ~own[:, :, None, None]
            if height * width > 1:
                free = free & ~near[:, None]
        spiked, channel, place, first = (torch.stack(each, 1) for each in zip(*found, strict=True))
        example = torch.arange(count, device=time.device)[:, None].expand_as(spiked)
        return Winners(example[spiked], channel[spiked], place[spiked], first[spiked])


def receptive_fields(geometry: Geometry, arrived: Tensor, winners: Winners) -> Tensor:
    """When the inputs of each winner have spiked first, [W, synapses of a unit]; 1 beyond the border of the map.

    Args:
        geometry: dense, or a convolution without a pooling of its drive.
        arrived: time of the first spike at each synapse, [B, *arriving].
        winners: of the population behind it.
    """
    if isinstance(geometry, Dense):
        return arrived[winners.example]
    assert isinstance(geometry, Conv2d)
    padded = functional.pad(arrived, (geometry.padding,) * 4, value=1.0)
    patches = functional.unfold(padded, geometry.kernel, stride=geometry.stride)
    return patches[winners.example, :, winners.place]
