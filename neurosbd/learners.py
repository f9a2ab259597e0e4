"""Learners fill `Parameter.grad`; any torch optimizer applies it. Layer 3.

A learner runs the network on a batch and leaves a loss gradient in `.grad`, as autograd would. A
local learner is an observer of the simulation: no autograd graph exists while it works, and what it
keeps from step to step does not grow with their number.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from neurosbd.errors import UsageError
from neurosbd.local import LocalRun, Witness, check
from neurosbd.losses import Loss
from neurosbd.memory import blank, followers
from neurosbd.network import Frame, Network
from neurosbd.process import Scored, Tracking
from neurosbd.rules import Backprop, LocalRule, Rule
from neurosbd.simulation import Observer, simulate


class Outcome(NamedTuple):
    """What a batch gave, for bookkeeping; on the device, without a graph."""

    loss: Tensor  # mean loss of the batch, weighted mean over the scored steps, []
    output: Tensor  # readout, weighted mean over the scored steps, [B, C]


class Trial(NamedTuple):
    """One batch of stimuli and what they should lead to.

    inputs: [T, B, *input size], or anything that yields [B, *input size] step by step.
    target: labels [B], or targets [B, k] for every step, or [T, B, k] for each.
    weights: how much the score of each step counts; they sum to 1 or less.
    task: of each example, integers [B], for rewards with a baseline per task.
    reward: the reward [B] of a step, or None, for rules that want one. Without it the reward is 1 for every
        example that the output so far classifies correctly, else 0, once, at the last scored step.
    """

    inputs: Tensor | Iterable[Tensor]
    target: Tensor
    weights: Sequence[float] = (1.0,)
    task: Tensor | None = None
    reward: Callable[[int, Frame], Tensor | None] | None = None

    def target_at(self, t: int) -> Tensor:
        """Target of step t."""
        return self.target[t] if self.target.ndim == 3 else self.target


class Learner(Protocol):
    """Whatever turns a batch into gradients."""

    progress: float  # how much of the training is done, 0..1; set by whoever drives the training

    def learn(
        self,
        trial: Trial,
        observers: tuple[Observer, ...] = (),
        noise: torch.Generator | None = None,
        witness: Witness | None = None,
    ) -> Outcome:
        """Run a trial and add a gradient to every plastic parameter's `.grad`.

        Args:
            trial: what to learn from.
            observers: see every step of the network.
            noise: source of the noise of this run.
            witness: sees third factors and eligibilities, of rules that have any.
        """
        ...

    def settle(self) -> None:
        """After the optimizer's step: weights go back into their bounds, those that follow a statistic move,
        adaptive neurons remember what they saw.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything learned outside the network (projections, expectations)."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back what `state_dict` gave."""
        ...


def learner_of(rule: Rule, network: Network, loss: Loss, generator: torch.Generator) -> Learner:
    """The learner that carries out a rule on a network.

    Args:
        rule: an entry of RULES.
        network: with its parameters already on their device.
        loss: an entry of LOSSES.
        generator: source of random projections.

    Raises:
        ValueError: if the rule cannot be carried out on this network.
    """
    if isinstance(rule, Backprop):
        return BackpropLearner(network, loss)
    return LocalLearner(network, loss, rule, generator)


UNSCORED = "no step of the trial was scored: give at least one weight above 0"


class MeanOutput:
    """Observer that adds up the readout of a trial, weighted by step."""

    def __init__(self, weights: Sequence[float], readout: str) -> None:
        self.weights = weights
        self.readout = readout
        self.total: Tensor | None = None

    def __call__(self, t: int, frame: Frame) -> None:
        """Count a step if its weight is not 0."""
        if self.weights[t]:
            part = frame.activity[self.readout].value.detach() * self.weights[t]
            self.total = part if self.total is None else self.total + part

    def value(self) -> Tensor:
        """The weighted mean over the steps so far, [B, C]."""
        if self.total is None:
            raise UsageError(UNSCORED)
        return self.total / sum(self.weights)


class Account:
    """Observer that adds up loss and output of a trial."""

    def __init__(self, trial: Trial, loss: Loss, readout: str) -> None:
        self.trial = trial
        self.loss = loss
        self.readout = readout
        self.total: Tensor | None = None
        self.output = MeanOutput(trial.weights, readout)

    def __call__(self, t: int, frame: Frame) -> None:
        """Count a step if its weight is not 0."""
        weight = self.trial.weights[t]
        if weight == 0:
            return
        output = frame.activity[self.readout].value
        loss = self.loss.per_example(output, self.trial.target_at(t)).mean() * weight
        self.total = loss if self.total is None else self.total + loss
        self.output(t, frame)

    def outcome(self) -> Outcome:
        """The sums as weighted means."""
        if self.total is None:
            raise UsageError(UNSCORED)
        return Outcome(self.total.detach() / sum(self.trial.weights), self.output.value())


class Adaptation:
    """Observer that follows what the adaptive neurons of a network measure in a trial of `steps`; at rest, nothing."""

    def __init__(self, network: Network, steps: int) -> None:
        self.network = network
        self.share = 1 / steps
        self.memories = {name: network.memory(name) for name in network.adaptive if network.training}

    def __call__(self, t: int, frame: Frame) -> None:
        """Bring the memories up to date, aside from the network."""
        for name, memory in self.memories.items():
            self.memories[name] = self.network.adaptive[name].adapted(memory, frame.activity[name], self.share)


class LocalLearner:
    """Learn online by a local rule: one pass forward, every population by itself.

    At each step the score of the readout (or a reward) is sent to every population; its neuromodulator
    makes the third factor, its incoming synapses change by the local rule, and its activity is let go.

    Args:
        network: with its parameters on their device.
        loss: whose score is broadcast.
        rule: what to carry out.
        generator: source of random projections.
    Raises:
        ValueError: if the rule cannot be carried out on this network.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        rule: LocalRule,
        generator: torch.Generator,
    ) -> None:
        self.network = network
        self.loss = loss
        self.rule = rule
        self.progress = 0.0
        self.hidden = followers(network, rule)
        self.memory = blank(network, rule, loss, generator)
        self.adaptation = Adaptation(network, 1)
        self.tracking = rule.plasticity if isinstance(rule.plasticity, Tracking) else None
        self.followed: dict[str, Any] = {}  # what a tracking plasticity has seen since the weights last settled
        check(network, rule)

    def learn(
        self,
        trial: Trial,
        observers: tuple[Observer, ...] = (),
        noise: torch.Generator | None = None,
        witness: Witness | None = None,
    ) -> Outcome:
        """One batch; see `Learner.learn`."""
        account = Account(trial, self.loss, self.network.readout)
        self.adaptation = Adaptation(self.network, len(trial.weights))
        with torch.no_grad():
            run = LocalRun(self.network, self.rule, self.memory, self.progress, trial.task, witness)
            counted = [t for t, weight in enumerate(trial.weights) if weight]
            if not counted:
                raise UsageError(UNSCORED)

            def observe(t: int, frame: Frame) -> None:
                output = frame.activity[self.network.readout].value
                account(t, frame)
                scored, reward, share = None, None, 1 / len(counted)
                if self.rule.rewarded:
                    if trial.reward is not None:
                        reward = trial.reward(t, frame)
                    elif t == counted[-1]:
                        reward = (account.outcome().output.argmax(1) == trial.target).to(output.dtype)
                if trial.weights[t]:
                    target = trial.target_at(t)
                    score = self.loss.score(output, target) / len(output)
                    scored = Scored(score, output, target, self.loss, frame.activity, share)
                run.step(frame, scored, reward, trial.weights[t], share)

            simulate(self.network, trial.inputs, (*observers, self.adaptation, observe), generator=noise)
            run.keep_up()
        if self.tracking is not None:
            self.followed = run.traces
        return account.outcome()

    @torch.no_grad()
    def settle(self) -> None:
        """Clamp the weights that follow the rule, move those that follow the activity; adaptive neurons remember."""
        self.network.remember(self.adaptation.memories)
        if self.tracking is not None:
            for name, state in self.followed.items():
                weight, present = self.network.weights[name], self.network.present(self.network.connections[name])
                after = self.tracking.track(state, weight)
                weight.copy_(after if present is None else after * present)
            self.followed = {}
        if self.rule.bounds is not None:
            for name in self.hidden:
                for connection in self.network.incoming[name]:
                    if connection.plastic:
                        weight, present = self.network.weights[connection.name], self.network.present(connection)
                        weight.clamp_(*self.rule.bounds)
                        if present is not None:  # bounds need not contain 0, what is absent stays 0
                            weight.mul_(present)

    def state_dict(self) -> dict[str, Any]:
        """The memory of the rule, as plain containers of tensors."""
        return self.memory.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back the memory; shapes must be those of this network."""
        self.memory.load_state_dict(state)


class BackpropLearner:
    """The reference: the same network, loss and `.grad`, filled by autograd, through time if there is any."""

    def __init__(self, network: Network, loss: Loss) -> None:
        self.network = network
        self.loss = loss
        self.progress = 0.0
        self.adaptation = Adaptation(network, 1)

    def learn(
        self,
        trial: Trial,
        observers: tuple[Observer, ...] = (),
        noise: torch.Generator | None = None,
        witness: Witness | None = None,
    ) -> Outcome:
        """One batch; see `Learner.learn`. There is nothing for a witness to see."""
        account = Account(trial, self.loss, self.network.readout)
        self.adaptation = Adaptation(self.network, len(trial.weights))

        # The frame goes at once, else the activity that backward is done with would live on to the end.
        watching = (*observers, self.adaptation, account)
        simulate(self.network, trial.inputs, watching, generator=noise, differentiable=True)
        if account.total is not None:
            account.total.backward()
        for connection in self.network.connections.values():
            present = self.network.present(connection)
            gradient = self.network.weights[connection.name].grad
            if present is not None and gradient is not None:
                gradient.mul_(present)
        return account.outcome()

    @torch.no_grad()
    def settle(self) -> None:
        """Backprop's weights are free; the network remembers what it measured."""
        self.network.remember(self.adaptation.memories)

    def state_dict(self) -> dict[str, Any]:
        """Backprop keeps nothing outside the network."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to put back."""
