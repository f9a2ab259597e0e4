"""A broken part of every kind is found by the checks of `neurosbd.testing`, in a sentence that names what it breaks."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from neurosbd.answers import Last, Mean
from neurosbd.connections import Dense
from neurosbd.connections.initialisers import KaimingNormal
from neurosbd.connections.pooling import AveragePool
from neurosbd.connections.synapses import Synapses
from neurosbd.constraints import Bounds, Nonnegative
from neurosbd.datasets.processes import Heteroscedastic
from neurosbd.distributions import Uniform
from neurosbd.encoders import Constant as ConstantEncoder
from neurosbd.encoders import Delta, Poisson
from neurosbd.expansions import Gated
from neurosbd.learning.optimizers import Adam, Constant
from neurosbd.losses import SquaredError
from neurosbd.neuromodulators import Decorrelation, FixedRandom, Full, Reward
from neurosbd.neurons import ReLU, Tanh
from neurosbd.plasticity import SpikeTiming, ThreeFactor
from neurosbd.regularisers import Power, WeightEntropy
from neurosbd.rules import RULES, LocalRule
from neurosbd.rules.feedback_alignment import FeedbackAlignment
from neurosbd.stimuli import Sine
from neurosbd.surrogates import Triangle
from neurosbd.tasks import DelayedXor, Findings, Pairing
from neurosbd.testing import CHECKS
from neurosbd.testing.neurons import step_is_pure


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
class Meddling(ThreeFactor):
    """It changes weights itself."""

    def step(self, state: Any, local: Any, dt: float) -> Any:
        local.synapses.weight.data.mul_(0.9)
        return super().step(state, local, dt)


@dataclass(frozen=True)
class Upwards(Adam):
    """It climbs."""

    def build(self, groups: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(groups, lr=1e-3, maximize=True)


@dataclass(frozen=True)
class Rising(Constant):
    """Its rates grow."""

    def build(self, optimizer: Any, epochs: int, steps: int) -> Any:
        return torch.optim.lr_scheduler.ExponentialLR(optimizer, 1.1)


@dataclass(frozen=True)
class Summed(Power):
    """A sum over the batch, not a mean."""

    def apply(self, state: Any, value: Tensor, part: Any) -> Any:
        return super().apply(state, value, part) * len(value)


@dataclass(frozen=True)
class Partial(Power):
    """It takes what is at hand for the whole batch."""

    def statistics(self, state: Any, value: Tensor, part: Any) -> Any:
        return super().statistics(state, value, part._replace(examples=len(value)))


@dataclass(frozen=True)
class Careless(KaimingNormal):
    """It draws from the global generator."""

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.randn(shape)


@dataclass(frozen=True)
class Loud(Full):
    """It tells every unit twice what it should."""

    def spread(self, third_factor: Tensor, like: Tensor, basis: Tensor) -> Tensor:
        return 2 * super().spread(third_factor, like, basis)


@dataclass(frozen=True)
class Narrow(Gated):
    """It says that it has one column less."""

    def width(self, broadcast: Any) -> int:
        return super().width(broadcast) - 1


@dataclass(frozen=True)
class Small(AveragePool):
    """It says that the map is smaller than it is."""

    def size(self, size: tuple[int, ...]) -> tuple[int, ...]:
        return (size[0], 1, 1)


def meddling() -> LocalRule:
    return dataclasses.replace(RULES["dfa"](), plasticity=Meddling())  # type: ignore[type-var]


@dataclass(frozen=True)
class Added(FeedbackAlignment):
    """A sum over examples where a mean is meant."""

    def learn(self, state: Any, run: Any, batch: Any) -> Any:
        weights = list(run.network.weights.values())
        before = [weight.grad for weight in weights]
        for weight in weights:
            weight.grad = None
        result = super().learn(state, run, batch)
        for weight, gradient in zip(weights, before, strict=True):
            weight.grad.mul_(len(batch.target)).add_(0 if gradient is None else gradient)
        return result


@dataclass(frozen=True)
class Drifting(FeedbackAlignment):
    """Weights move whatever the score says."""

    spares_silent: ClassVar[bool] = False

    def learn(self, state: Any, run: Any, batch: Any) -> Any:
        result = super().learn(state, run, batch)
        for weight in run.network.weights.values():
            weight.grad.add_(weight, alpha=1e-3)
        return result


@dataclass(frozen=True)
class Grained(FeedbackAlignment):
    """A floor under the gradient that was meant for another precision."""

    def learn(self, state: Any, run: Any, batch: Any) -> Any:
        result = super().learn(state, run, batch)
        for weight in run.network.weights.values():
            weight.grad.mul_(1 + 1e6 * torch.finfo(weight.dtype).eps)
        return result


@dataclass(frozen=True)
class Followed(FeedbackAlignment):
    """It lets autograd follow what it does, and does not say so."""

    def learn(self, state: Any, run: Any, batch: Any) -> Any:
        with torch.enable_grad():
            run.show(batch)
        return super().learn(state, run, batch)


# Neuromodulators ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class InPlace(FixedRandom):
    """It writes into its state."""

    def update(self, state: Any, sums: Any, broadcast: Any) -> Any:
        state.frozen.mul_(0.9)
        return state


@dataclass(frozen=True)
class Flat(FixedRandom):
    """One third factor for all units, without their shape."""

    def third_factor(self, state: Any, receiver: Any, broadcast: Any) -> Any:
        return super().third_factor(state, receiver, broadcast).flatten(1).mean(1, keepdim=True)


@dataclass(frozen=True)
class Growing(FixedRandom):
    """Its state is longer after every step."""

    def update(self, state: Any, sums: Any, broadcast: Any) -> Any:
        return state._replace(basis=torch.zeros(len(state.basis) + 1))


@dataclass(frozen=True)
class Biased(FixedRandom):
    """It sends something when there is nothing to send."""

    def third_factor(self, state: Any, receiver: Any, broadcast: Any) -> Any:
        return super().third_factor(state, receiver, broadcast) + 0.1


@dataclass(frozen=True)
class Summing(Decorrelation):
    """What it learns grows with the batch."""

    def statistics(self, state: Any, receiver: Any, broadcast: Any) -> Any:
        loud = broadcast._replace(score=broadcast.score * len(broadcast.score))
        return super().statistics(state, receiver, loud)


@dataclass(frozen=True)
class Secretive(Decorrelation):
    """It does not say that it looks at the activity."""

    reads_activity: ClassVar[bool] = False


@dataclass(frozen=True)
class Idle(FixedRandom):
    """It says that it looks at the activity."""

    reads_activity: ClassVar[bool] = True


@dataclass(frozen=True)
class Signs(FixedRandom):
    """Only the signs of the score, by a projection that says nothing of that."""

    def third_factor(self, state: Any, receiver: Any, broadcast: Any) -> Any:
        signs = broadcast._replace(score=broadcast.score.sign() / len(broadcast.score))
        return super().third_factor(state, receiver, signs)


@dataclass(frozen=True)
class Peeking(FixedRandom):
    """It waits for the device."""

    def third_factor(self, state: Any, receiver: Any, broadcast: Any) -> Any:
        if broadcast.score.abs().max().item() > 1e9:
            raise ValueError
        return super().third_factor(state, receiver, broadcast)


@dataclass(frozen=True)
class Averaging(Decorrelation):
    """It measures a mean over the examples at hand, whoever else has some."""

    def statistics(self, state: Any, receiver: Any, broadcast: Any) -> Any:
        (measured,) = super().statistics(state, receiver, broadcast)
        return (measured * (broadcast.examples / len(receiver.value)),)


@dataclass(frozen=True)
class Moving(FixedRandom):
    """It says that it is steady, and learns."""

    def update(self, state: Any, sums: Any, broadcast: Any) -> Any:
        return state._replace(frozen=state.frozen * 0.9)


@dataclass(frozen=True)
class Resting(FixedRandom):
    """It learns nothing, and does not say that it is steady."""

    steady: ClassVar[bool] = False


@dataclass(frozen=True)
class Unrewarded(Reward):
    """It wants a reward and says that it wants a score."""

    rewarded: ClassVar[bool] = False


# Plasticities -------------------------------------------------------------------------------------


def scaled(gradient: Synapses | None, factor: Any) -> Synapses | None:
    return gradient and Synapses(*(None if part is None else part * factor for part in gradient))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Transposing(ThreeFactor):
    """Its gradient has other axes than the weight."""

    def step(self, state: Any, local: Any, dt: float) -> Any:
        gradient, state = super().step(state, local, dt)
        return gradient and gradient._replace(weight=gradient.weight.transpose(0, 1)), state


@dataclass(frozen=True)
class Decaying(ThreeFactor):
    """It changes weights without a third factor, and does not say so."""

    def step(self, state: Any, local: Any, dt: float) -> Any:
        gradient, state = super().step(state, local, dt)
        return gradient or local.synapses, state


@dataclass(frozen=True)
class Gating(SpikeTiming):
    """It looks at the third factor, and does not say so."""

    def step(self, state: Any, local: Any, dt: float) -> Any:
        gradient, state = super().step(state, local, dt)
        return scaled(gradient, 1.0 if local.third_factor is None else 2.0), state


@dataclass(frozen=True)
class SummedTiming(SpikeTiming):
    """A sum over the batch."""

    def step(self, state: Any, local: Any, dt: float) -> Any:
        gradient, state = super().step(state, local, dt)
        return scaled(gradient, float(len(local.pre))), state


@dataclass(frozen=True)
class Misremembering(ThreeFactor):
    """What it shows as its eligibility is twice what learns."""

    def eligibility(self, state: Any, local: Any, examples: Tensor) -> Tensor:
        return 2 * super().eligibility(state, local, examples)


@dataclass(frozen=True)
class Looking(ThreeFactor):
    """It waits for the device."""

    def step(self, state: Any, local: Any, dt: float) -> Any:
        return super().step(state, local, dt) if local.post.value.any() else (None, state)


@dataclass(frozen=True)
class UpsideDown(SpikeTiming):
    """Bounds the wrong way around."""

    @property
    def bounds(self) -> tuple[float, float]:
        return 1.0, -1.0


class Pooled(Last):
    """It reads the mean of all examples."""

    def value(self, state: Tensor) -> Tensor:
        return state.mean(0, keepdim=True).expand_as(state)


class Undivided(Mean):
    """It adds up, and takes no mean."""

    def value(self, state: Any) -> Tensor:
        return 2 * state.total


# Encoders, surrogates, distributions --------------------------------------------------------------


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
class Standing(Sine):
    """Its clock stands."""

    def block(self, state: Any, like: Tensor, steps: int, dt: float) -> Any:
        return super().block(state, like, steps, dt)[0], state


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


# Tasks, protocols, processes ----------------------------------------------------------------------


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


SHORT = {"longest": 4.0, "every": 4.0, "period": 20.0}


@dataclass(frozen=True)
class Understated(Pairing):
    """It has more trials than it says."""

    def extent(self, dt: float) -> Any:
        return super().extent(dt)._replace(trials=1)


@dataclass(frozen=True)
class Lost(Pairing):
    """A measure is not a number."""

    def run(self, *arguments: Any, **named: Any) -> Findings:
        return Findings({"window": float("nan")}, super().run(*arguments, **named).panels)


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


@dataclass(frozen=True)
class Everywhere(WeightEntropy):
    """It pulls at synapses that are not there."""

    def step(self, state: Any, synapses: Any, present: Any) -> Any:
        return super().step(state, synapses, None)


FAULTS: list[tuple[str, Callable[[], Any], str]] = [
    ("neurons", WrongGain, r"The gain is not the derivative of the value by autograd\. Tensor-likes are not"),
    ("losses", Averaged, "The score is not the derivative of the loss by autograd"),
    ("losses", Unbounded, "The loss is not admissible"),
    ("connections", Doubled, "`outer` is not the adjoint of `drive`"),
    ("connections", Forgetful, "`each` does not keep the share of e that it is told to"),
    ("rules", meddling, "Learning changes 'weights.input->hidden1' of the network; only .grad may change"),
    ("rules", Added, "The gradient of 'input->hidden1' changes when every example comes twice"),
    ("rules", Drifting, "The score is 0 and 'input->hidden1' gets a gradient; declare `hears_target`"),
    ("rules", Grained, "The gradient of 'input->hidden1' is another one in float32"),
    ("rules", Followed, "Autograd follows what the rule shows; set `differentiates` if it must"),
    ("initialisers", Careless, "Two draws of the same seed differ"),
    ("layouts", Loud, "Coordinates of variance 1 do not reach every unit with variance 1"),
    ("constraints", Shrinking, "A second `apply` moves what the first one has left"),
    ("constraints", Hesitant, "The constraint looks at the value of a tensor, for which every step would wait"),
    ("constraints", lambda: Lax(-1.0, 1.0), "`apply` leaves weights outside of `limits`"),
    ("expansions", Narrow, "The columns are not as many as `width` says"),
    ("poolings", Small, r"is pooled to \[3, 4, 3\], but `size` says \(3, 1, 1\)"),
    ("optimizers", Upwards, "The optimizer does not go down a slope of 1"),
    ("schedules", Rising, "At step 1 the rate is 0.11, where it started at 0.1"),
    ("homeostases", Summed, "The pull on an example is not 1/B of a mean over the batch"),
    ("homeostases", Partial, "The statistics of two parts of a batch do not add up to those of the whole"),
    ("upkeeps", lambda: Everywhere(on="all"), "Absent synapses are pulled"),
    ("neuromodulators", InPlace, "Two steps from the same state send different third factors"),
    ("neuromodulators", Flat, r"The third factor has shape \[7, 1\], not that of the activity, \[7, 6\]"),
    ("neuromodulators", Growing, "A step changes the shape, dtype or device of the state"),
    ("neuromodulators", Biased, "A score or reward of 0 is sent on as a third factor that is not 0"),
    ("neuromodulators", Summing, "With every example twice, the third factor of each is not half of what it was"),
    ("neuromodulators", Secretive, "`reads_activity` is False, but another activity of the receiver changes"),
    ("neuromodulators", Idle, "`reads_activity` is True, but the third factor is the same whatever the activity"),
    ("neuromodulators", Signs, "Twice the score is not sent as twice the third factor, so `projection` must return No"),
    ("neuromodulators", Peeking, "The neuromodulator looks at the value of a tensor, for which every step would wait"),
    ("neuromodulators", Averaging, "The statistics of two parts of a batch do not add up to those of the whole"),
    ("neuromodulators", Moving, "`steady` is True, but the state changes"),
    ("neuromodulators", Resting, "`steady` is False, but the state never changes"),
    ("neuromodulators", Unrewarded, "`rewarded` is False, so it is sent a score and no reward; of that it makes no"),
    ("plasticities", Meddling, "A step changes the weights, or the activity on either side; it may only return a grad"),
    ("plasticities", Transposing, r"The gradient of the weight is \[5, 3\], the weight \[3, 5\]"),
    ("plasticities", Decaying, "`modulated` is True, but there is a gradient without a third factor"),
    ("plasticities", Gating, "`modulated` is False, but a third factor changes the gradient"),
    ("plasticities", SummedTiming, "With every example twice, and half the third factor each, the gradient is another"),
    ("plasticities", Misremembering, "`eligibility` is not what a third factor meets"),
    ("plasticities", Looking, "The plasticity looks at the value of a tensor"),
    ("plasticities", UpsideDown, r"`bounds` = \(1, -1\); the lower one must come first"),
    ("encoders", Relative, "An example alone is shown in another way than in a batch"),
    ("encoders", Flattened, r"Values \[3, 2, 5, 5\] are shown as frames \[3, 50\]"),
    ("encoders", Global, "Two runs of the same generator show different frames"),
    ("encoders", Overwriting, "A step changes the state that it was given"),
    ("encoders", Checking, "The encoder looks at the value of a tensor"),
    ("answers", Pooled, "The answer of an example depends on the others"),
    ("answers", Undivided, "`keeps_units` is True, but of a steady output the answer is another value"),
    ("surrogates", SideLobes, "`derivative` is below 0 at some distance"),
    ("surrogates", Endless, "`derivative` does not vanish far from threshold"),
    ("surrogates", Reused, "`derivative` gives memory away that it uses again"),
    ("stimuli", lambda: Standing(10.0), "Blocks of other lengths give other drives; the state must hold all that goes"),
    ("distributions", lambda: Wider(1.0, 2.0), "`least` is 1.5, but 1.0"),
    ("distributions", lambda: Unseeded(1.0, 2.0), "Two draws of the same seed differ"),
    ("tasks", Shorter, r"`steps` and `sizes` promise inputs \[150, 8, 60\], but a batch has \[149, 8, 60\]"),
    ("tasks", Percent, r"`success` must be in 0\.\.1, got"),
    ("tasks", Restless, "Trials are drawn from the global generator"),
    ("protocols", lambda: Understated(**SHORT), "Trial 1 is recorded, but `extent` says 1 trials"),  # type: ignore[arg-type]
    ("protocols", lambda: Lost(**SHORT), "Measures must be finite floats by name, got 'window': nan"),  # type: ignore[arg-type]
    ("processes", Squared, "`std` is not that of the targets"),
    ("processes", Column, r"Targets must be \[N, k\], got \[10\] for N = 10"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "make", "sentence"), FAULTS, ids=lambda v: getattr(v, "__name__", ""))
def test_what_is_wrong_is_found_and_said(kind: str, make: Any, sentence: str) -> None:
    """Must fail for a part that keeps its contract (tried)."""
    with pytest.raises(AssertionError, match=sentence):
        for check in CHECKS[kind]:
            check(make)


def test_noise_of_a_neuron_is_found() -> None:
    with pytest.raises(AssertionError, match="Two steps from the same state give different values"):
        step_is_pure(Noisy)


def test_every_kind_has_a_broken_part() -> None:
    """Must fail for a kind whose checks nobody has seen failing (tried)."""
    assert {kind for kind, _, _ in FAULTS} == set(CHECKS)
