"""A data set shown item after item, with pauses between them."""

import hashlib
import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from neurosbd.datasets.load import load_data
from neurosbd.errors import UsageError
from neurosbd.filters import probability, whole_steps
from neurosbd.noise import new_key, uniforms
from neurosbd.schema.constants import NotNegativeHertz, NotNegativeSeconds, Seconds, constants
from neurosbd.stimuli.stimulus import shown


class Place(NamedTuple):
    """How far the items are."""

    key: Tensor  # of the noise, int64 []
    seed: int  # of their order
    done: int  # steps


class Loaded(NamedTuple):
    """The items of a split."""

    values: np.ndarray  # 0..maximum, as they are stored, [N, n]
    maximum: float
    labels: np.ndarray  # [N]
    classes: int

    def level(self, numbers: np.ndarray) -> np.ndarray:
        """Values 0..1 of some items, float32 [len(numbers), n]."""
        return self.values[numbers].astype(np.float32) / np.float32(self.maximum)


@constants(called="dataset")
class Items:
    """Items of a data set, one after another: each for `duration`, then nothing for `pause`.

    Every pass through the set has an order of its own, drawn from the seed; all examples see the same item.

    Args:
        data: a name of `neurosbd list data`, or a file of yours; pictures, or features in 0..1.
        split: 'train' or 'test'.
        shown_as: 'poisson': a unit spikes at random, with a rate of its value; 'current': it gets its value.
        rate: of the value 1, Hz, >= 0; of 'poisson'.
        amplitude: of a spike, or of the value 1.
        duration: s, > 0.
        pause: s, >= 0.
        order: 'drawn', or 'given': as the items lie in the set.
    Raises:
        ValueError: if a constant is out of range; `check`: if the items are not those of the population.
    Source: Diehl, Cook 2015, Front. Comput. Neurosci. 9 (350 ms, pauses of 150 ms, 63.75 Hz).
    """

    data: str = "digits"
    split: Literal["train", "test"] = "train"
    shown_as: Literal["poisson", "current"] = "poisson"
    rate: NotNegativeHertz = 63.75
    amplitude: float = 1.0
    duration: Seconds = 0.35
    pause: NotNegativeSeconds = 0.15
    order: Literal["drawn", "given"] = "drawn"
    _known: dict[str, Loaded] = field(default_factory=dict, init=False, repr=False, compare=False)
    _orders: dict[tuple[int, int], np.ndarray] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def fires(self) -> bool:
        """Whether units spike, see `Stimulus`."""
        return self.shown_as == "poisson"

    def check(self, size: tuple[int, ...], dt: float) -> None:
        """As many values as units, whole steps, at most a spike a step."""
        self._steps(dt)
        if self.shown_as == "poisson":
            probability(self.rate, dt, "dataset.rate")
        there, units = self.loaded().values.shape[1], math.prod(size)
        if there != units:
            raise ValueError(f"an item of '{self.data}' has {there} values, but the population has {units} units")

    def _steps(self, dt: float) -> tuple[int, int]:
        """Of an item, and from one to the next."""
        item = whole_steps(self.duration, dt, "dataset.duration")
        return item, item + (whole_steps(self.pause, dt, "dataset.pause") if self.pause else 0)

    def loaded(self) -> Loaded:
        """Read once."""
        if "" not in self._known:
            data = load_data(self.data)
            samples = data.train if self.split == "train" else data.test
            if data.duration or data.kind != "classes":
                raise UsageError(f"'{self.data}' has no pictures or features of classes that could be shown as items")
            values = np.asarray(samples.values)
            values = np.moveaxis(values, -1, 1) if values.ndim > 2 else values  # channels first, as a network sees them
            low, high = (float(end) / data.maximum for end in (values.min(), values.max()))
            if low < 0 or high > 1:
                raise UsageError(f"'{self.data}' has features of {low:g} to {high:g}; items need values in 0..1")
            labels, values = np.asarray(samples.targets), values.reshape(len(values), -1)
            self._known[""] = Loaded(values, data.maximum, labels, int(max(labels.max(), data.test.targets.max())) + 1)
        return self._known[""]

    def content(self, dt: float) -> str:
        """A hash of the items."""
        values, _, labels, _ = self.loaded()
        found = hashlib.sha256(values.tobytes())
        found.update(labels.tobytes())
        return found.hexdigest()

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> Place:
        """Its beginning."""
        return Place(new_key(generator, "items", like.device), int(torch.randint(2**62, (), generator=generator)), 0)

    def block(self, state: Place, like: Tensor, steps: int, dt: float) -> tuple[Tensor, Place]:
        """The items at the next steps, [steps, B, *size]."""
        item, period = self._steps(dt)
        at = np.arange(state.done, state.done + steps)
        shown_now = self._numbers(at // period, state.seed)
        values = self.loaded().level(shown_now) * (at % period < item)[:, None]
        level = torch.from_numpy(values).to(like).view(steps, 1, *like.shape[1:])
        return self.drive(level, state, like, dt), state._replace(done=state.done + steps)

    def cut(self, steps: int, dt: float) -> int:
        """Of the last item, unless all of it is shown."""
        item, period = self._steps(dt)
        return steps % period if steps % period < item else 0

    def drive(self, level: Tensor, state: Place, like: Tensor, dt: float) -> Tensor:
        """What values 0..1 come to at the next steps: spikes or a current, [steps, B, *size]."""
        if self.shown_as == "poisson":
            level = uniforms(state.key, state.done, len(level), like) < level * (self.rate * dt)
        return shown(level * self.amplitude, like)

    def _numbers(self, positions: np.ndarray, seed: int) -> np.ndarray:
        """Which items are shown at these positions, counted over all passes."""
        count = len(self.loaded().values)
        if self.order == "given":
            return positions % count
        return np.array([self._order(seed, int(p) // count, count)[int(p) % count] for p in positions])

    def _order(self, seed: int, number: int, count: int) -> np.ndarray:
        """Of the items in a pass."""
        if (seed, number) not in self._orders:
            self._orders.clear()
            self._orders[seed, number] = np.random.default_rng((seed, number)).permutation(count)
        return self._orders[seed, number]

    def labels(self, state: Place, steps: int, dt: float) -> tuple[np.ndarray, np.ndarray]:
        """When each item of the first steps begins, s since the beginning of the stimulus, and its label."""
        period = self._steps(dt)[1]
        positions = np.arange(-(-steps // period))
        return positions * period * dt, self.loaded().labels[self._numbers(positions, state.seed)]


@dataclass(frozen=True)
class SideBySide:
    """Items of a data set at once, each to an example of its own, for as long as it lasts.

    Args:
        items: how they are shown; of its times and order nothing is asked.
        numbers: which of them, as many as examples.
    """

    items: Items
    numbers: np.ndarray

    def check(self, size: tuple[int, ...], dt: float) -> None:
        """As the items."""
        self.items.check(size, dt)

    def init(self, like: Tensor, dt: float, generator: torch.Generator) -> Place:
        """Its beginning."""
        return self.items.init(like, dt, generator)

    def block(self, state: Place, like: Tensor, steps: int, dt: float) -> tuple[Tensor, Place]:
        """[steps, B, *size]."""
        level = torch.from_numpy(self.items.loaded().level(self.numbers)).to(like).view(like.shape)
        drive = self.items.drive(level.expand(steps, *like.shape), state, like, dt)
        return drive, state._replace(done=state.done + steps)
