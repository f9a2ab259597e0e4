"""Learners fill `Parameter.grad`; any torch optimizer applies it.

A learner runs the network on a batch and leaves a loss gradient in `.grad`, as autograd would. A
local learner is an observer of the simulation: no autograd graph exists while it works, and what it
keeps from step to step does not grow with their number.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from neurosbd.anatomy import check_generator
from neurosbd.errors import UsageError, warn
from neurosbd.learning.batch import UNSCORED, Batch, BatchResult, check_start, checked_reward
from neurosbd.learning.online import LearningObserver, LocalRun, check
from neurosbd.learning.rule_state import init_rule_state, rule_bounds, ruled_populations
from neurosbd.learning.simulation import Observer, unroll
from neurosbd.losses import Loss
from neurosbd.network import Frame, Network
from neurosbd.neuromodulators import Forgetting
from neurosbd.neuromodulators.neuromodulator import Broadcast
from neurosbd.plasticity.plasticity import Tracking
from neurosbd.rules import Backprop, LocalRule, Rule

__all__ = [
    "BackpropLearner",
    "Batch",
    "BatchResult",
    "Learner",
    "LocalLearner",
    "LossMeter",
    "MeanOutput",
    "learner_of",
]


class Learner(Protocol):
    """Whatever turns a batch into gradients."""

    progress: float  # how much of the training is done, 0..1; set by whoever drives the training

    def learn(
        self,
        batch: Batch,
        observers: tuple[Observer, ...] = (),
        noise: torch.Generator | None = None,
        learning_observer: LearningObserver | None = None,
    ) -> BatchResult:
        """Run a trial and add a gradient to every plastic parameter's `.grad`.

        Args:
            batch: what to learn from.
            observers: see every step of the network.
            noise: source of the noise of this run.
            learning_observer: sees third factors and eligibilities, of rules that have any.
        """
        ...

    def after_step(self) -> None:
        """After the optimizer's step: weights that follow a statistic move, all go back to where their constraints and
        the bounds of the rule allow them, adaptive neurons remember what they saw.
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
        ValueError: if the rule cannot be carried out on this network, or one of them is of another kind.
    """
    if not isinstance(rule, LocalRule | Backprop):
        raise UsageError(f"rule must be made from an entry of RULES, such as RULES['sbd'](), got {rule!r}")
    if isinstance(rule, Backprop):
        _check_parts(network, loss, generator)
        return BackpropLearner(network, loss)
    return LocalLearner(network, loss, rule, generator)


def _check_parts(network: Any, loss: Any, generator: Any) -> None:
    """Refuse names, classes and seeds where what they stand for is meant."""
    if not isinstance(network, Network):
        raise UsageError(f"network must be a neurosbd.Network, such as load_model(...).network(), got {network!r:.100}")
    if isinstance(loss, type) or not (callable(getattr(loss, "score", None)) and hasattr(loss, "per_example")):
        raise UsageError(
            f"loss must be made from an entry of LOSSES, such as LOSSES['cross_entropy'](), or be one of your own, "
            f"such as from_function(...), got {loss!r}"
        )
    check_generator(generator)


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


class LossMeter:
    """Observer that adds up loss and output of a trial."""

    def __init__(self, batch: Batch, loss: Loss, readout: str) -> None:
        self.batch = batch
        self.loss = loss
        self.readout = readout
        self.total: Tensor | None = None
        self.output = MeanOutput(batch.weights, readout)

    def __call__(self, t: int, frame: Frame) -> None:
        """Count a step if its weight is not 0."""
        weight = self.batch.weights[t]
        if weight == 0:
            return
        output = frame.activity[self.readout].value
        loss = self.loss.per_example(output, self.batch.target_at(t)).mean() * weight
        self.total = loss if self.total is None else self.total + loss
        self.output(t, frame)

    def result(self) -> BatchResult:
        """The sums as weighted means."""
        if self.total is None:
            raise UsageError(UNSCORED)
        return BatchResult(self.total.detach() / sum(self.batch.weights), self.output.value())


class Adaptation:
    """Observer that follows what the adaptive neurons of a network measure in a trial of `steps`; at rest, nothing."""

    def __init__(self, network: Network, steps: int) -> None:
        self.network = network
        self.share = 1 / steps
        self.moments = {name: network.moments(name) for name in network.adaptive if network.training}

    def __call__(self, t: int, frame: Frame) -> None:
        """Bring the memories up to date, aside from the network."""
        for name, memory in self.moments.items():
            self.moments[name] = self.network.adaptive[name].update_moments(memory, frame.activity[name], self.share)


class Settling:
    """Notices, once each, what a loop of one's own has forgotten: `after_step`, and `progress`.

    Args:
        network: that learns.
        needed: whether the rule itself has something to settle, such as bounds of the weights.
        scheduled: what follows the progress of the training, in words; none: nothing.
    """

    PATIENCE = 10  # steps after which a training has made some progress

    def __init__(self, network: Network, needed: bool, scheduled: str | None) -> None:
        self.network = network
        self.needed = needed or bool(network.adaptive) or network.constrained
        self.scheduled = scheduled
        self.steps = 0
        self.pending: tuple[int, int] | None = None  # what a trial has left behind, until it is settled

    def _left(self) -> tuple[int, int]:
        """How often the weights were written, which fused optimizers do not count, and how many gradients wait."""
        weights = list(self.network.weights.values())
        return sum(weight._version for weight in weights), sum(weight.grad is not None for weight in weights)

    def begin(self) -> None:
        """Before a trial: the last one was to be settled if the weights have moved since, or its gradients are gone."""
        if self.needed and self.pending is not None and self.pending != self._left():
            self.needed = False
            warn(
                "the weights have changed since the last batch, which no after_step() followed: bounds, moments of "
                "standardised units and weights that follow the activity stay behind; call learner.after_step() after "
                "every optimizer.step()",
                stacklevel=4,
            )

    def due(self) -> None:
        """After a trial."""
        if self.needed:
            self.pending, self.network.unsettled = self._left(), True

    def done(self, progress: float) -> None:
        """The trial is settled."""
        self.pending, self.network.unsettled, self.steps = None, False, self.steps + 1
        if self.scheduled and self.steps == self.PATIENCE and progress == 0:
            warn(
                f"learner.progress is still 0 after {self.steps} steps, so {self.scheduled} stay where they start; set "
                f"learner.progress = done / all before every learner.learn(...)",
                stacklevel=4,
            )


def _scheduled(rule: LocalRule) -> str | None:
    """Which constants of the neuromodulator move with the progress of the training."""
    constants = {} if rule.neuromodulator is None else vars(rule.neuromodulator)
    moving = [name for name, value in constants.items() if isinstance(value, Forgetting) and value.end is not None]
    return f"the schedules of {', '.join(moving)}" if moving else None


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
        _check_parts(network, loss, generator)
        self.network = network
        self.loss = loss
        self.rule = rule
        self.progress = 0.0
        self.hidden = ruled_populations(network, rule)
        self.rule_state = init_rule_state(network, rule, loss, generator)
        self.adaptation = Adaptation(network, 1)
        self.tracking = rule.plasticity if isinstance(rule.plasticity, Tracking) else None
        self.followed: dict[str, Any] = {}  # what a tracking plasticity has seen since the weights last settled
        self.bounds = rule_bounds(network, rule)
        self.settling = Settling(network, self.tracking is not None or bool(self.bounds), _scheduled(rule))
        check(network, rule)

    def __repr__(self) -> str:
        parts = [part for part in (self.rule.plasticity, self.rule.neuromodulator, self.loss) if part is not None]
        return f"LocalLearner({', '.join(type(part).__name__ for part in parts)}; {self.network.summary().line})"

    def learn(
        self,
        batch: Batch,
        observers: tuple[Observer, ...] = (),
        noise: torch.Generator | None = None,
        learning_observer: LearningObserver | None = None,
    ) -> BatchResult:
        """One batch; see `Learner.learn`."""
        check_start(self.network, batch, rewarded=self.rule.rewarded)
        self.settling.begin()
        meter = LossMeter(batch, self.loss, self.network.readout)
        self.adaptation = Adaptation(self.network, len(batch.weights))
        with torch.no_grad():
            run = LocalRun(self.network, self.rule, self.rule_state, learning_observer)
            counted = [t for t, weight in enumerate(batch.weights) if weight]
            if not counted:
                raise UsageError(UNSCORED)

            def observe(t: int, frame: Frame) -> None:
                output = frame.activity[self.network.readout].value
                meter(t, frame)
                reward = None
                if self.rule.rewarded:
                    if batch.reward is not None:
                        reward = checked_reward(batch.reward(t, frame), output)
                    elif t == counted[-1]:
                        reward = (meter.result().output.argmax(1) == batch.target).to(output.dtype)
                broadcast = Broadcast(
                    output.new_empty((len(output), 0)), reward=reward, task=batch.task, weight=batch.weights[t],
                    step_share=1 / len(counted), progress=self.progress,
                )  # fmt: skip
                if batch.weights[t]:
                    target = batch.target_at(t)
                    score = self.loss.score(output, target) / len(output)
                    broadcast = broadcast._replace(
                        score=score, output=output, target=target, loss=self.loss, activity=frame.activity
                    )
                run.step(frame, broadcast)

            unroll(self.network, batch.frames(), (*observers, self.adaptation, observe), generator=noise)
            run.regularise_weights()
        self.network.mask_gradients()
        if self.tracking is not None:
            self.followed = run.plasticity_state
        self.settling.due()
        return meter.result()

    @torch.no_grad()
    def after_step(self) -> None:
        """Move what follows the activity, bring all weights back to where they may be; adaptive neurons remember."""
        self.settling.done(self.progress)
        self.network.set_moments(self.adaptation.moments)
        if self.tracking is not None:
            for name, state in self.followed.items():
                weight = self.network.weights[name]
                weight.copy_(self.tracking.track(state, weight))
            self.followed = {}
            self.network.constrain(self.bounds)
        else:
            self.network.constrain_step(self.bounds)

    def state_dict(self) -> dict[str, Any]:
        """The memory of the rule, as plain containers of tensors."""
        return self.rule_state.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back the memory; shapes must be those of this network."""
        self.rule_state.load_state_dict(state)


class BackpropLearner:
    """The reference: the same network, loss and `.grad`, filled by autograd, through time if there is any."""

    def __init__(self, network: Network, loss: Loss) -> None:
        self.network = network
        self.loss = loss
        self.progress = 0.0
        self.adaptation = Adaptation(network, 1)
        self.settling = Settling(network, needed=False, scheduled=None)

    def __repr__(self) -> str:
        return f"BackpropLearner({type(self.loss).__name__}; {self.network.summary().line})"

    def learn(
        self,
        batch: Batch,
        observers: tuple[Observer, ...] = (),
        noise: torch.Generator | None = None,
        learning_observer: LearningObserver | None = None,
    ) -> BatchResult:
        """One batch; see `Learner.learn`. There is nothing for a witness to see."""
        check_start(self.network, batch)
        self.settling.begin()
        meter = LossMeter(batch, self.loss, self.network.readout)
        self.adaptation = Adaptation(self.network, len(batch.weights))

        # The frame goes at once, else the activity that backward is done with would live on to the end.
        watching = (*observers, self.adaptation, meter)
        unroll(self.network, batch.frames(), watching, generator=noise, differentiable=True)
        if meter.total is not None:
            meter.total.backward()
        self.network.mask_gradients()
        self.settling.due()
        return meter.result()

    @torch.no_grad()
    def after_step(self) -> None:
        """The network remembers what it measured; its weights go back to where they may be."""
        self.settling.done(self.progress)
        self.network.set_moments(self.adaptation.moments)
        self.network.constrain_step()

    def state_dict(self) -> dict[str, Any]:
        """Backprop keeps nothing outside the network."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to put back."""
