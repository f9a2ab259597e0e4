"""Batches on the device: gathered, shifted, mirrored and normalised there, from uint8.

Every draw of an epoch is made from (seed, epoch) alone, so any batch of any epoch can be produced
at once: a resumed run needs no more than the number of the next batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol, overload

import numpy as np
import torch
from torch import Tensor

from neurosbd.datasets.events import EventResident, event_resident
from neurosbd.datasets.load import Dataset
from neurosbd.datasets.normalisation import limits, standardise
from neurosbd.datasets.samples import EventSamples, Samples
from neurosbd.errors import UsageError, warn
from neurosbd.seeds import generator

_DARK = 0.1  # of full intensity: below it hardly anything spikes


@dataclass(frozen=True)
class Resident:
    """One split on the device, with its normalisation."""

    values: Tensor  # uint8 [N, height, width, channels], or float32 [N, n] that are normalised already
    targets: Tensor  # classes int64 [N], or values float32 [N, k]
    shift: Tensor  # added after scaling, per channel
    scale: Tensor  # multiplies the raw values, per channel

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised examples [B, *size] (maps channels-last) and their targets."""
        return self._normal(self.values[index]), self.targets[index]

    def moved(self, index: Tensor, offset: Tensor, mirror: Tensor) -> tuple[Tensor, Tensor]:
        """As `batch`, each image shifted by `offset` [B, 2] pixels (borders reflect) and mirrored where told."""
        height, width = self.values.shape[1:3]
        rows = _reflect(torch.arange(height, device=index.device) + offset[:, :1], height)
        columns = _reflect(torch.arange(width, device=index.device) + offset[:, 1:], width)
        columns = torch.where(mirror[:, None], columns.flip(1), columns)
        return self._normal(self.values[index[:, None, None], rows[:, :, None], columns[:, None, :]]), self.targets[
            index
        ]

    def _normal(self, raw: Tensor) -> Tensor:
        values = torch.addcmul(self.shift, raw.to(self.scale.dtype), self.scale)
        return values.permute(0, 3, 1, 2) if values.ndim == 4 else values

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All examples in order."""
        for start in range(0, len(self), size):
            yield self.batch(torch.arange(start, min(start + size, len(self)), device=self.targets.device))


def _reflect(position: Tensor, length: int) -> Tensor:
    """Fold positions just outside 0..length-1 back inside, without repeating the border."""
    return (length - 1) - ((length - 1) - position.abs()).abs()


class Normalisation(Protocol):
    """How raw values become what a network sees: (value / maximum - mean) / std."""

    @property
    def maximum(self) -> float:
        """Value that counts as 1."""
        ...

    @property
    def mean(self) -> tuple[float, ...]:
        """Per channel or feature, in units of the maximum."""
        ...

    @property
    def std(self) -> tuple[float, ...]:
        """Likewise, > 0."""
        ...


@overload
def resident(samples: Samples, data: Normalisation, device: torch.device) -> Resident: ...
@overload
def resident(samples: EventSamples, data: Normalisation, device: torch.device) -> EventResident: ...
def resident(samples: Samples | EventSamples, data: Normalisation, device: torch.device) -> Resident | EventResident:
    """A split of a data set, moved to the device."""
    if isinstance(samples, EventSamples):
        return event_resident(samples, device)
    targets = torch.from_numpy(samples.targets)
    targets = (targets.float() if targets.is_floating_point() else targets).to(device)
    mean, std = (torch.tensor(v, dtype=torch.float32, device=device) for v in (data.mean, data.std))
    if samples.values.dtype.kind == "f":  # before the cast: a column may vary by less than its float32 can tell
        values = standardise(samples.values, data.mean, data.std)
        return Resident(torch.from_numpy(values).to(device), targets, torch.zeros_like(mean), torch.ones_like(std))
    return Resident(torch.from_numpy(samples.values).to(device), targets, -mean / std, 1 / (std * data.maximum))


def as_intensities(data: Dataset) -> Dataset:
    """The same set as values 0..1, as encoders that make spikes want them.

    Pictures are not normalised then. A column of a table goes from 0, its smallest value in the training split, to 1,
    its largest; unless all columns lie in 0..1 already. A warning says so.
    """
    plain = replace(data, mean=(0.0,) * len(data.mean), std=(1.0,) * len(data.std))
    if data.train.values.dtype.kind != "f":
        _say_if_dark(data, float(data.train.values.max()))
        return plain
    (low, high), (lowest, highest) = (limits(samples.values) for samples in (data.train, data.test))
    every = [limits(samples.values) for samples in data.splits.values()]
    if min(least.min() for least, _ in every) >= 0 and max(most.max() for _, most in every) <= 1:
        _say_if_dark(data, float(high.max()))
        return plain
    beyond = int(((lowest < low) | (highest > high)).sum())
    warn(
        f"{data.name}: an encoder that makes spikes takes values from 0 to 1, but the columns go from {low.min():.4g} "
        f"to {high.max():.4g}; each is scaled by its smallest and largest value in the training split"
        + (f", which test examples exceed in {beyond} of {len(low)} columns" if beyond else "")
    )
    if data.train.values.ndim != 2:
        raise UsageError(f"{data.name}: an encoder that makes spikes takes pictures of values 0 to 1; scale them")
    width = np.where(high > low, high - low, np.inf)
    return replace(data, mean=tuple(low.tolist()), std=tuple(width.tolist()))


def _say_if_dark(data: Dataset, largest: float) -> None:
    """Warn of values that hardly make a spike, such as masks of 0 and 1 in pictures of 0..255."""
    if largest < _DARK * data.maximum:
        fix = f"; multiply all values by {data.maximum / largest:.3g}" if largest > 0 else ""
        warn(
            f"{data.name}: an encoder that makes spikes takes {data.maximum:g} for full intensity, but the largest "
            f"value in the training split is {largest:.4g}, so that hardly anything spikes{fix}"
        )


def standardised(data: Dataset) -> Dataset:
    """The same set with its values to predict in units of their deviation from their mean, of the training split."""
    splits = {
        on: replace(samples, targets=standardise(samples.targets, data.target_mean, data.target_std))
        for on, samples in data.splits.items()
    }
    return replace(data, **splits)


class Split(Protocol):
    """What batches are drawn from: a `Resident` or an `EventResident`."""

    @property
    def targets(self) -> Tensor:
        """Classes int64 [N], or values float32 [N, k]."""
        ...

    def __len__(self) -> int: ...

    def batch(self, index: Tensor) -> tuple[Any, Tensor]:
        """Examples or events of `index` [B], and their targets."""
        ...


class Stream:
    """The training batches of every epoch.

    Args:
        split: training examples on the device.
        batch_size: examples per batch; the last batch of an epoch may be smaller.
        seed: of order and augmentation.
        flip: mirror every image in every other epoch, a random half of them first; not for events.
        crop: shift each image by up to so many pixels, reflecting the border; not for events.
    Source: order of mirroring from Jordan 2024, arXiv 2404.00498 (alternating flip).
    """

    def __init__(self, split: Split, batch_size: int, seed: int, flip: bool = False, crop: int = 0) -> None:
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        self.flip = flip
        self.crop = crop
        self._host_order = lru_cache(maxsize=1)(self._draw_host_order)
        self._order = lru_cache(maxsize=1)(self._draw_order)
        self._moves = lru_cache(maxsize=1)(self._draw_moves)

    def __len__(self) -> int:
        """Batches per epoch."""
        return -(-len(self.split) // self.batch_size)

    def batch(self, epoch: int, number: int) -> tuple[Any, Tensor]:
        """Batch `number` of an epoch: examples [B, *size] or an `EventBatch`, and their targets."""
        index = self._order(epoch)[self._place(number)]
        if not (self.flip or self.crop):
            return self.split.batch(index)
        assert isinstance(self.split, Resident), "events are neither mirrored nor shifted"
        offset, mirror = self._moves(epoch)
        return self.split.moved(index, offset[index], mirror[index])

    def index(self, epoch: int, number: int) -> np.ndarray:
        """Which training examples are in a batch, int64 [B]; on the host, without waiting for a device."""
        return self._host_order(epoch)[self._place(number)].numpy()

    def _place(self, number: int) -> slice:
        return slice(number * self.batch_size, (number + 1) * self.batch_size)

    def _draw_host_order(self, epoch: int) -> Tensor:
        return torch.randperm(len(self.split), generator=generator(self.seed, "order", epoch))

    def _draw_order(self, epoch: int) -> Tensor:
        return self._host_order(epoch).to(self.split.targets.device)

    def _draw_moves(self, epoch: int) -> tuple[Tensor, Tensor]:
        count = len(self.split)
        offset = torch.randint(-self.crop, self.crop + 1, (count, 2), generator=generator(self.seed, "crop", epoch))
        first = torch.rand(count, generator=generator(self.seed, "flip")) < 0.5
        mirror = (first if epoch % 2 == 0 else ~first) & self.flip
        device = self.split.targets.device
        return offset.to(device), mirror.to(device)
