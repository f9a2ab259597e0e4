"""Events on the device: gathered per batch, sorted by time bin once, given out frame by frame."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from neurosbd.datasets.samples import EventSamples
from neurosbd.errors import UsageError
from neurosbd.transfers import HostMemory, host_memory


@dataclass(frozen=True)
class EventBatch:
    """The events of some recordings, shorter recordings filled up to the longest.

    time: since the start of the recording, us, int32 [B, L]; -1 where there is no event.
    unit: flat index into `size`, int32 [B, L].
    size: of a frame of one recording.
    """

    time: Tensor
    unit: Tensor
    size: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.time)

    def frames(
        self, steps: int, dt: float, dtype: torch.dtype = torch.float32, *, binary: bool = True
    ) -> Iterator[Tensor]:
        """The input of each time step, made when it is asked for.

            count[t, b, u] = number of events of unit u in t * dt <= time < (t + 1) * dt
            frame[t] = min(count[t], 1) if binary else count[t]

        Args:
            steps: frames; later events are dropped.
            dt: length of a bin, s; taken as a whole number of nanoseconds, so that bins are exact.
            dtype: of the frames.
            binary: spikes 0 or 1, else counts.

        Returns:
            `steps` tensors [B, *size] (maps channels-last). Where they begin is on its way to the host from now on; the
            first waits for it.

        Raises:
            UsageError: if `steps` or `dt` is not positive.

        >>> batch = EventBatch(torch.tensor([[0, 999, 1000, 5000]]), torch.tensor([[1, 1, 0, 2]]), (3,))
        >>> [frame.tolist() for frame in batch.frames(2, 1e-3, binary=False)]
        [[[0.0, 2.0, 0.0]], [[1.0, 0.0, 0.0]]]
        """
        if steps < 1 or not 1e-9 <= dt < math.inf:
            raise UsageError(f"frames: steps = {steps}, dt = {dt} s; legal are steps >= 1 and 1e-9 <= dt < inf")
        return self._frames(*self._sorted(steps, dt), dtype, binary)

    def _sorted(self, steps: int, dt: float) -> tuple[Tensor, HostMemory]:
        """Places [E] of the events in their frame, in the order of the frames, and where each frame starts, soon."""
        cells = len(self) * math.prod(self.size)
        frame = (self.time.long() * 1000).div(round(dt * 1e9), rounding_mode="floor")
        frame = frame.masked_fill(self.time < 0, steps).clamp(max=steps)  # sorts behind the last frame
        rows = torch.arange(len(self), device=self.time.device)[:, None] * math.prod(self.size)
        key = (frame * cells + rows + self._channels_last(self.unit.long())).flatten().sort().values
        starts = torch.searchsorted(key, torch.arange(steps + 1, device=key.device) * cells)
        host = host_memory(starts)
        host.copy()
        return key % cells, host

    def _channels_last(self, unit: Tensor) -> Tensor:
        if len(self.size) != 3:
            return unit
        plane = self.size[1] * self.size[2]
        return unit % plane * self.size[0] + unit // plane

    def _frames(self, place: Tensor, starts: HostMemory, dtype: torch.dtype, binary: bool) -> Iterator[Tensor]:
        shape = (self.size[1], self.size[2], self.size[0]) if len(self.size) == 3 else self.size
        starts.wait()
        for start, stop in pairwise(starts.values.tolist()):
            here = place[start:stop]
            flat = torch.zeros(len(self) * math.prod(self.size), device=place.device)
            # Adding ones in float32 is exact up to 2^24 in any order, so frames are deterministic.
            flat = flat.index_fill_(0, here, 1) if binary else flat.index_add_(0, here, flat.new_ones(len(here)))
            frame = flat.to(dtype).view(len(self), *shape)
            yield frame.permute(0, 3, 1, 2) if len(self.size) == 3 else frame


@dataclass(frozen=True)
class EventResident:
    """One split of recordings on the device.

    time, unit, offsets, targets, size: as in `EventSamples`.
    longest: events of the longest recording.
    """

    time: Tensor
    unit: Tensor
    offsets: Tensor
    targets: Tensor
    size: tuple[int, ...]
    longest: int

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, index: Tensor) -> tuple[EventBatch, Tensor]:
        """Events of the recordings `index` [B], and targets [B]. Does not wait for the device."""
        start = self.offsets[index][:, None]
        event = start + torch.arange(self.longest, device=index.device)
        beyond = event >= self.offsets[index + 1][:, None]
        event = event.masked_fill(beyond, 0)
        return EventBatch(self.time[event].masked_fill(beyond, -1), self.unit[event], self.size), self.targets[index]

    def batches(self, size: int) -> Iterator[tuple[EventBatch, Tensor]]:
        """All recordings in order."""
        for start in range(0, len(self), size):
            yield self.batch(torch.arange(start, min(start + size, len(self)), device=self.targets.device))


def event_resident(samples: EventSamples, device: torch.device) -> EventResident:
    """A split of recordings, moved to the device."""
    arrays = (samples.time, samples.unit, samples.offsets, samples.targets)
    time, unit, offsets, targets = (torch.from_numpy(array).to(device) for array in arrays)
    return EventResident(
        time, unit, offsets, targets, samples.size, int((samples.offsets[1:] - samples.offsets[:-1]).max())
    )
