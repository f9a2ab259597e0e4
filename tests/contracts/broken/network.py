"""Broken parts of a network, each with what the checks of `neurosbd.testing` say of it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from neurosbd.answers import Last, Mean
from neurosbd.connections import Dense
from neurosbd.connections.geometry import WeightAxes
from neurosbd.connections.initialisers import KaimingNormal
from neurosbd.connections.pooling import AveragePool
from neurosbd.connections.wirings import Indegree, Pairs
from neurosbd.constraints import Bounds, Nonnegative
from neurosbd.distributions import Uniform
from neurosbd.losses import SquaredError
from neurosbd.neurons import ReLU, Tanh
from neurosbd.surrogates import Triangle
from neurosbd.synapses.responses import Decaying, Exponential
from neurosbd.synapses.short_term import Resources, TsodyksMarkram


@dataclass(frozen=True)
class WrongGain(Tanh):
    """Its gain is that of a linear unit."""

    def gate(self, activity: Any, third_factor: Tensor, dt: float) -> Tensor:
        return third_factor.clone()


@dataclass(frozen=True)
class Noisy(ReLU):
    """It draws from the global generator."""

    def step(self, state: Any, drive: Tensor, dt: float) -> Any:
        return super().step(state, drive + torch.rand_like(drive), dt)


@dataclass(frozen=True)
class Averaged(SquaredError):
    """Its score carries a 1/B that is the caller's."""

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return super().score(output, target) / len(output)


@dataclass(frozen=True)
class Unbounded(SquaredError):
    """Its score is its derivative, and nowhere 0."""

    def per_example(self, output: Tensor, target: Tensor) -> Tensor:
        return 0 * super().per_example(output, target) + output.sum(1)

    def score(self, output: Tensor, target: Tensor) -> Tensor:
        return 0 * super().score(output, target) + 1


@dataclass(frozen=True)
class Doubled(Dense):
    """Its change is twice the adjoint of its drive."""

    def outer(self, synapses: Any, post_factor: Tensor, pre_factor: Tensor) -> Any:
        return type(synapses)(*(None if s is None else 2 * s for s in super().outer(synapses, post_factor, pre_factor)))


@dataclass(frozen=True)
class Forgetful(Dense):
    """It keeps nothing of an eligibility."""

    def each(self, synapses: Any, posts: Tensor, pres: Tensor, e: Tensor | None = None, kept: float = 0.0) -> Tensor:
        return super().each(synapses, posts, pres)


@dataclass(frozen=True)
class Unnamed(Dense):
    """It does not say which axis is that of what arrives."""

    def axes(self, shape: tuple[int, ...], pre: tuple[int, ...]) -> WeightAxes:
        return WeightAxes((0,), 0, 1)


@dataclass(frozen=True)
class Shrinking(Nonnegative):
    """It makes weights smaller each time."""

    def apply(self, state: Any, weight: Tensor) -> None:
        weight.mul_(0.5).clamp_min_(0)


@dataclass(frozen=True)
class Hesitant(Nonnegative):
    """It looks before it clamps."""

    def apply(self, state: Any, weight: Tensor) -> None:
        if weight.min() < 0:
            weight.clamp_min_(0)


@dataclass(frozen=True)
class Lax(Bounds):
    """It promises more than it holds."""

    def apply(self, state: Any, weight: Tensor) -> None:
        weight.clamp_(-2, 2)


@dataclass(frozen=True)
class Careless(KaimingNormal):
    """It draws from the global generator."""

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn(shape)


@dataclass(frozen=True)
class Small(AveragePool):
    """It says that the map is smaller than it is."""

    def size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return (size[0], 1, 1)


class Pooled(Last):
    """It reads the mean of all examples."""

    def value(self, state: Tensor) -> Tensor:
        return state.mean(0, keepdim=True).expand_as(state)


class Undivided(Mean):
    """It adds up, and takes no mean."""

    def value(self, state: Any) -> Tensor:
        return 2 * state.total


@dataclass(frozen=True)
class SideLobes(Triangle):
    """Below 0 beside the bump."""

    def derivative(self, distance: Tensor) -> Tensor:
        lobes = (distance.abs() > 1) & (distance.abs() < 2)
        return super().derivative(distance) - 0.1 * lobes


@dataclass(frozen=True)
class Endless(Triangle):
    """It never vanishes."""

    def derivative(self, distance: Tensor) -> Tensor:
        return torch.ones_like(distance)


class Reused(Triangle):
    """It gives the same memory away at every call."""

    kept: ClassVar[dict[object, Tensor]] = {}

    def derivative(self, distance: Tensor) -> Tensor:
        found = super().derivative(distance)
        return self.kept.setdefault((found.shape, found.dtype, found.device), found).copy_(found)


@dataclass(frozen=True)
class Wider(Uniform):
    """It draws below what it says is the least."""

    @property
    def least(self) -> float:
        return self.low + 0.5


@dataclass(frozen=True)
class Unseeded(Uniform):
    """It draws from the global generator."""

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.rand(shape)


@dataclass(frozen=True)
class Selfish(Indegree):
    """It lets a unit reach itself whatever it is told."""

    def draw(self, post: int, pre: int, autapses: bool, generator: torch.Generator) -> Pairs:
        return super().draw(post, pre, True, generator)


class Stepped(Exponential):
    """Decays by an Euler step."""

    def arrive(self, state: Decaying, arrived: Tensor, dt: float) -> Decaying:
        return Decaying(arrived + (1 - dt / self.tau) * state.i)


class Lent(Exponential):
    """What it lets be felt is its state."""

    def value(self, state: Decaying, dt: float, tau_mem: float | Tensor | None) -> Tensor:
        return state.i if tau_mem is None else super().value(state, dt, tau_mem)


class Fading(TsodyksMarkram):
    """Recovers by an Euler step."""

    def step(self, state: Resources, arriving: Tensor, dt: float) -> tuple[Tensor, Resources]:
        sent, after = super().step(state, arriving, dt)
        return sent, after._replace(x=after.x + dt / self.tau_rec * (1 - after.x))


FAULTS: list[tuple[str, Callable[[], Any], str]] = [
    ("neurons", WrongGain, r"The gain is not the derivative of the value by autograd\. Tensor-likes are not"),
    ("losses", Averaged, "The score is not the derivative of the loss by autograd"),
    ("losses", Unbounded, "The loss is not admissible"),
    ("connections", Doubled, "`outer` is not the adjoint of `drive`"),
    ("connections", Unnamed, r"`axes` must say of each axis \[0, 1\] whose it is, once; it names \[0, 0\]"),
    ("connections", Forgetful, "`each` does not keep the share of e that it is told to"),
    ("initialisers", Careless, "Two draws of the same seed differ"),
    ("constraints", Shrinking, "A second `apply` moves what the first one has left"),
    ("constraints", Hesitant, "The constraint looks at the value of a tensor, for which every step would wait"),
    ("constraints", lambda: Lax(-1.0, 1.0), "`apply` leaves weights outside of `limits`"),
    ("wirings", Selfish, "A unit reaches itself, though autapses = false"),
    ("poolings", Small, r"is pooled to \[3, 4, 3\], but `size` says \(3, 1, 1\)"),
    ("synapses", Stepped, "A response depends on the duration of the steps in which it is followed"),
    ("synapses", Lent, "A synapse writes into its state or its arrivals, or what is felt lies in them"),
    ("short_terms", Fading, "Short-term plasticity depends on the duration of the steps in which it is followed"),
    ("answers", Pooled, "The answer of an example depends on the others"),
    ("answers", Undivided, "`keeps_units` is True, but of a steady output the answer is another value"),
    ("surrogates", SideLobes, "`derivative` is below 0 at some distance"),
    ("surrogates", Endless, "`derivative` does not vanish far from threshold"),
    ("surrogates", Reused, "`derivative` gives memory away that it uses again"),
    ("distributions", lambda: Wider(1.0, 2.0), "`least` is 1.5, but 1.0"),
    ("distributions", lambda: Unseeded(1.0, 2.0), "Two draws of the same seed differ"),
]  # fmt: skip
