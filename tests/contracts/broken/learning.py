"""Broken parts of what learns, each with what the checks of `neurosbd.testing` say of it."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.expansions import Gated
from neurosbd.learning.optimizers import Adam
from neurosbd.learning.schedules import Constant
from neurosbd.neuromodulators import Decorrelation, FixedRandom, Full, Reward
from neurosbd.plasticity import SpikeTiming, ThreeFactor
from neurosbd.regularisers import Power, WeightEntropy
from neurosbd.rules import RULES, LocalRule
from neurosbd.rules.feedback_alignment import FeedbackAlignment


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
class Loud(Full):
    """It tells every unit twice what it should."""

    def spread(self, third_factor: Tensor, like: Tensor, basis: Tensor) -> Tensor:
        return 2 * super().spread(third_factor, like, basis)


@dataclass(frozen=True)
class Narrow(Gated):
    """It says that it has one column less."""

    def width(self, broadcast: Any) -> int:
        return super().width(broadcast) - 1


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
class Left(FeedbackAlignment):
    """What it keeps stays on the CPU."""

    def begin(self, network: Any, loss: Any, generator: Any) -> Any:
        state = super().begin(network, loss, generator)
        state.tensors["scale"] = torch.ones(())
        return state


@dataclass(frozen=True)
class Followed(FeedbackAlignment):
    """It lets autograd follow what it does, and does not say so."""

    def learn(self, state: Any, run: Any, batch: Any) -> Any:
        with torch.enable_grad():
            run.show(batch)
        return super().learn(state, run, batch)


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


@dataclass(frozen=True)
class Everywhere(WeightEntropy):
    """It pulls at synapses that are not there."""

    def step(self, state: Any, synapses: Any, present: Any) -> Any:
        return super().step(state, synapses, None)


FAULTS: list[tuple[str, Callable[[], Any], str]] = [
    ("rules", meddling, "Learning changes 'weights.input->hidden1' of the network; only .grad may change"),
    ("rules", Added, "The gradient of 'input->hidden1' changes when every example comes twice"),
    ("rules", Drifting, "The score is 0 and 'input->hidden1' gets a gradient; declare `hears_target`"),
    ("rules", Grained, "The gradient of 'input->hidden1' is another one in float32"),
    ("rules", Left, "'state.tensors.scale' of the state is on cpu, where the network is not"),
    ("rules", Followed, "Autograd follows what the rule shows; set `differentiates` if it must"),
    ("layouts", Loud, "Coordinates of variance 1 do not reach every unit with variance 1"),
    ("expansions", Narrow, "The columns are not as many as `width` says"),
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
]  # fmt: skip
