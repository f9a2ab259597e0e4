"""Conditioning with a distal reward: dopamine comes seconds after the spikes that earned it."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from typing import Annotated

import numpy as np
import torch
from torch import Tensor

from neurosbd.constants import Count, Hertz, Milliseconds, Range, Seconds, constants
from neurosbd.filters import probability, whole_steps
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.passes import Continuation
from neurosbd.learning.rule import Rule
from neurosbd.network import Frame, Network
from neurosbd.noise import happens
from neurosbd.tasks.findings import Findings, Panel
from neurosbd.tasks.task import Extent, TrialRecorders, check_synapses

_MOST_AHEAD = 10_000_000  # steps, as of a trial


@constants(called="conditioning")
class Conditioning:
    """One synapse among many earns a reward that arrives late, when other spikes have long followed.

    Inputs fire at random. Whenever input 0 has fired and the post unit follows within `window`, dopamine is
    released after a random delay; it decays with `tau_dopamine` and is the reward of every step. All examples
    of the batch share the weights and have their own spikes, coincidences and dopamine.

    Args:
        duration: simulated time, s, > 0.
        batch: examples side by side, >= 1.
        rate: of every input, Hz, > 0.
        window: the post spike comes sooner than this after input 0, ms, > 0.
        shortest: delay of the dopamine, s, >= 0.
        longest: delay of the dopamine, s, >= shortest.
        release: dopamine per coincidence.
        tau_dopamine: s, > 0.
        update: steps between updates of the weights, >= 1.
    Raises:
        ValueError: if a constant is out of range.
    Source: Izhikevich 2007, Cereb. Cortex 17, figure 1.
    Differs: one post unit and `batch` copies of its surroundings in place of a network of 1,000.
    """

    duration: Seconds = 60.0
    batch: Count = 32
    rate: Hertz = 2.0
    window: Milliseconds = 10.0
    shortest: Annotated[float, Range(least=0, unit="s")] = 1.0
    longest: float = 3.0
    release: float = 1.0
    tau_dopamine: Seconds = 0.2
    update: Count = 20

    def __post_init__(self) -> None:
        if self.shortest > self.longest:
            raise ValueError(f"conditioning needs shortest <= longest, got {self.shortest:g} s and {self.longest:g} s")

    def extent(self, dt: float) -> Extent:
        """A trial is what lies between two updates; the last one may be shorter."""
        probability(self.rate, dt, "conditioning.rate")
        self.window_steps(dt)
        steps, ahead = self._steps(dt), self.longest_steps(dt)
        if self.update > steps:
            raise ValueError(
                f"conditioning.update = {self.update:,} steps, but conditioning.duration = {self.duration:g} s has "
                f"{steps:,}: no weight would change; legal are 1 to {steps:,}"
            )
        return Extent(-(-steps // self.update), self.update, self.batch, ahead)

    def _steps(self, dt: float) -> int:
        return whole_steps(self.duration, dt, "conditioning.duration")

    def window_steps(self, dt: float) -> int:
        """The window in steps of dt, s."""
        steps = whole_steps(self.window, dt, "conditioning.window", "ms")
        _within(steps, f"conditioning.window = {self.window:g} ms")
        return steps

    def longest_steps(self, dt: float) -> int:
        """For how many steps of dt, s, dopamine can be on its way."""
        return round(_within(self.longest / dt, f"conditioning.longest = {self.longest:g} s")) + 1

    def check(self, network: Network, rule: Rule) -> None:
        """Two inputs or more onto one unit."""
        check_synapses(network, rule, (2, math.inf), "conditioning")

    def run(
        self,
        learner: Callable[[], Learner],
        optimizer: Callable[[Network], torch.optim.Optimizer],
        generator: torch.Generator,
        trial_recorder: TrialRecorders,
        progress: Callable[[int, int, str], object],
    ) -> Findings:
        """Strength of the rewarded synapse and of all others over time."""
        learns = learner()
        network = learns.network
        steps = self._steps(network.dt)
        every = max(1, steps // 200)
        strengths: list[tuple[float, float, float, float]] = []
        for t, weight in enumerate(self._weights(learns, optimizer(network), generator, trial_recorder)):
            if t % every == 0 or t == steps - 1:
                others = weight[0, 1:]
                strengths.append((t * network.dt, weight[0, 0].item(), others.mean().item(), others.max().item()))
                progress(
                    t + 1, steps, f"{t * network.dt:.0f} s: rewarded {strengths[-1][1]:.3f}, others {others.mean():.3f}"
                )
        time, rewarded, mean, highest = np.array(strengths).T
        lines = {
            "rewarded": (time, rewarded),
            "mean of the others": (time, mean),
            "largest of the others": (time, highest),
        }
        panel = Panel("weights", "time, s", "weight", lines)
        measures = {"rewarded": rewarded[-1], "others_mean": mean[-1], "others_largest": highest[-1]}
        return Findings({key: float(value) for key, value in measures.items()}, (panel,))

    @torch.no_grad()
    def _weights(
        self,
        learner: Learner,
        apply: torch.optim.Optimizer,
        generator: torch.Generator,
        trial_recorder: TrialRecorders,
    ) -> Iterator[Tensor]:
        """Run; yields the weight after every step, which moves at the last of `update`."""
        network = learner.network
        (weight,) = network.weights.values()
        dopamine = Dopamine(self, network.dt, generator)
        continuation = Continuation(network.init(weight.new_zeros(self.batch, weight.shape[1]), generator))
        chance = torch.full((self.batch, weight.shape[1]), self.rate * network.dt)
        steps = self._steps(network.dt)
        for first in range(0, steps, self.update):
            trial, length = trial_recorder(first // self.update), min(self.update, steps - first)
            for _ in range(length - 1):
                yield weight
            stimuli = (happens(chance, generator).to(weight) for _ in range(length))
            batch = Batch(stimuli, weights=(1 / length,) * length, reward=lambda t, frame: dopamine.level)
            learner.learn(batch, (*trial.observers, dopamine), None, trial.learning_observer, continuation)
            if length == self.update:
                trial.on_gradients()
                if weight.grad is not None:
                    apply.step()
                    apply.zero_grad()
                    learner.after_step()
                trial.on_update()
            yield weight


def _within(steps: float, what: str) -> float:
    """A number of steps that can be waited for; ValueError of any other."""
    if steps > _MOST_AHEAD:
        raise ValueError(f"{what} has {steps:.3g} steps; legal are {_MOST_AHEAD:,}: make it shorter or time.dt longer")
    return steps


class Dopamine:
    """Observer of coincidences, and of the dopamine that follows them late."""

    def __init__(self, constants: Conditioning, dt: float, generator: torch.Generator) -> None:
        self.constants = constants
        self.generator = generator
        self.dt = dt
        self.level = torch.zeros(constants.batch)
        self.window = constants.window_steps(dt)
        self.since = torch.full((constants.batch,), float(self.window + 1))  # steps since input 0 fired
        self.due = deque(torch.zeros(constants.batch) for _ in range(constants.longest_steps(dt)))

    def __call__(self, t: int, frame: Frame) -> None:
        """Bring `level`, [B], up to date after a step."""
        self.after(*(activity.value[:, 0] for activity in frame.activity.values()))

    def after(self, pre: Tensor, post: Tensor) -> Tensor:
        """Dopamine [B] after a step with these spikes [B] of the first input and of the unit."""
        constants = self.constants
        hit = (post > 0) & (self.since < self.window) & (self.since > 0)
        self.since = torch.where(pre > 0, 0.0, self.since) + 1
        self.since = torch.where(hit, float(self.window + 1), self.since)  # once per spike of input 0
        for example in hit.nonzero()[:, 0].tolist():  # rare: a few per second
            wait = torch.empty(1).uniform_(constants.shortest, constants.longest, generator=self.generator)
            self.due[round(wait.item() / self.dt)][example] += constants.release
        arriving = self.due.popleft()
        self.due.append(torch.zeros(constants.batch))
        self.level = self.level * float(np.exp(-self.dt / constants.tau_dopamine)) + arriving
        return self.level
