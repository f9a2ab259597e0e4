"""Broken parts of what a network is shown, each with what the checks of `neurosbd.testing` say of it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurosbd.datasets.processes import Heteroscedastic
from neurosbd.encoders import Constant as ConstantEncoder
from neurosbd.encoders import Delta, Poisson
from neurosbd.rewards import SpikeCount
from neurosbd.stimuli import Sine
from neurosbd.tasks import DelayedXor, Findings, Pairing


@dataclass(frozen=True)
class Relative(ConstantEncoder):
    """What an example is shown as depends on the others."""

    def step(self, state: Any, value: Tensor, dt: float) -> Any:
        return value - value.mean(0), state


@dataclass(frozen=True)
class Flattened(ConstantEncoder):
    """Frames of another shape."""

    def step(self, state: Any, value: Tensor, dt: float) -> Any:
        return value.flatten(1), state


@dataclass(frozen=True)
class Global(Poisson):
    """It draws from the global generator."""

    def step(self, state: Any, value: Tensor, dt: float) -> Any:
        return torch.rand_like(value), state


@dataclass(frozen=True)
class Overwriting(Delta):
    """It writes into its state."""

    def step(self, state: Any, value: Tensor, dt: float) -> Any:
        frame, after = super().step(state, value, dt)
        state.reported.add_(1)
        return frame, after


@dataclass(frozen=True)
class Checking(ConstantEncoder):
    """It waits for the device."""

    def step(self, state: Any, value: Tensor, dt: float) -> Any:
        return (value if value.max() < 1e9 else -value), state


@dataclass(frozen=True)
class Shared(SpikeCount):
    """One example earns for all."""

    def step(self, state: Any, activity: Any, dt: float) -> Any:
        earned, state = super().step(state, activity, dt)
        return earned.mean().expand_as(earned), state


@dataclass(frozen=True)
class Standing(Sine):
    """Its clock stands."""

    def block(self, state: Any, like: Tensor, steps: int, dt: float) -> Any:
        return super().block(state, like, steps, dt)[0], state


@dataclass(frozen=True)
class Shorter(DelayedXor):
    """A trial has a step less than it says."""

    def batch(self, size: int, dt: float, generator: torch.Generator) -> Any:
        batch = super().batch(size, dt, generator)
        return dataclasses.replace(batch, inputs=torch.stack(list(batch.inputs))[1:], weights=batch.weights[1:])


@dataclass(frozen=True)
class Percent(DelayedXor):
    """Success in percent."""

    def success(self, batch: Any, result: Any) -> Tensor:
        return 100 * super().success(batch, result)


@dataclass(frozen=True)
class Restless(DelayedXor):
    """Trials from the global generator."""

    def batch(self, size: int, dt: float, generator: torch.Generator) -> Any:
        return super().batch(size, dt, torch.default_generator)


SHORT = {"longest": 4e-3, "every": 4e-3, "period": 20e-3}


@dataclass(frozen=True)
class Understated(Pairing):
    """It has more trials than it says."""

    def extent(self, dt: float) -> Any:
        return super().extent(dt)._replace(trials=1)


@dataclass(frozen=True)
class Lost(Pairing):
    """A measure is not a number."""

    def findings(self, *arguments: Any, **named: Any) -> Findings:
        return Findings({"window": float("nan")}, super().findings(*arguments, **named).panels)


@dataclass(frozen=True)
class Remembering(Pairing):
    """It keeps something beside the network and the generator."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "seen", [])

    def prepare(self, number: int, network: Any, start: Any, generator: Any) -> None:
        super().prepare(number, network, start, generator)
        self.seen.append(number)  # type: ignore[attr-defined]
        with torch.no_grad():
            next(iter(network.weights.values()))[0, 0] += 1e-3 * len(self.seen)  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Squared(Heteroscedastic):
    """It gives the variance for the spread."""

    def draw(self, count: int, generator: torch.Generator) -> Any:
        drawn = super().draw(count, generator)
        return drawn._replace(std=drawn.std.square())


@dataclass(frozen=True)
class Column(Heteroscedastic):
    """Targets without an axis of variables."""

    def draw(self, count: int, generator: torch.Generator) -> Any:
        drawn = super().draw(count, generator)
        return drawn._replace(targets=drawn.targets[:, 0])


FAULTS: list[tuple[str, Callable[[], Any], str]] = [
    ("encoders", Relative, "An example alone is shown in another way than in a batch"),
    ("encoders", Flattened, r"Values \[3, 2, 5, 5\] are shown as frames \[3, 50\]"),
    ("encoders", Global, "Two runs of the same generator show different frames"),
    ("encoders", Overwriting, "A step changes the state that it was given"),
    ("encoders", Checking, "The encoder looks at the value of a tensor"),
    ("rewards", Shared, "An example alone earns other rewards than in a batch"),
    ("stimuli", lambda: Standing(10.0), "Blocks of other lengths give other drives; the state must hold all that goes"),
    ("tasks", Shorter, r"`steps` and `sizes` promise inputs \[150, 8, 60\], but a batch has \[149, 8, 60\]"),
    ("tasks", Percent, r"`success` must be in 0\.\.1, got"),
    ("tasks", Restless, "Trials are drawn from the global generator"),
    ("protocols", lambda: Understated(**SHORT), "3 trials are recorded, but `extent` says 1 trials"),  # type: ignore[arg-type]
    ("protocols", lambda: Lost(**SHORT), "Measures must be finite floats by name, got 'window': nan"),  # type: ignore[arg-type]
    ("protocols", lambda: Remembering(**SHORT), "A run that goes on from a checkpoint finds something else"),  # type: ignore[arg-type]
    ("processes", Squared, "`std` is not that of the targets"),
    ("processes", Column, r"Targets must be \[N, k\], got \[10\] for N = 10"),
]  # fmt: skip
