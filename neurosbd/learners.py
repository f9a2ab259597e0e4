"""Learners fill `Parameter.grad`; any torch optimizer applies it. Layer 3.

A learner runs the network on a batch and leaves a loss gradient in `.grad`, as autograd would. A
broadcast learner is an observer of the simulation: no autograd graph exists while it works.
"""

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from neurosbd.losses import Loss
from neurosbd.network import Connection, Frame, Network
from neurosbd.process import Activity, Heard, Local, Synapses
from neurosbd.rules import Backprop, Broadcast, Rule
from neurosbd.simulation import Observer, simulate


class Outcome(NamedTuple):
    """What a batch gave, for bookkeeping; on the device, without a graph."""

    loss: Tensor  # mean loss of the batch, summed over steps, []
    output: Tensor  # readout after the last step, [B, C]


class Learner(Protocol):
    """Whatever turns a batch into gradients."""

    progress: float  # how much of the training is done, 0..1; set by whoever drives the training

    def learn(self, inputs: Tensor, target: Tensor, observers: tuple[Observer, ...] = ()) -> Outcome:
        """Run `inputs` [T, B, *size] and add a gradient to every plastic parameter's `.grad`."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything learned outside the network (projections)."""
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
    """
    if isinstance(rule, Backprop):
        return BackpropLearner(network, loss)
    return BroadcastLearner(network, loss, rule, generator)


class BroadcastLearner:
    """Learn online from a broadcast score: one pass forward, then every population by itself.

    After each step the score of the readout is sent to every population; its neuromodulator makes the
    third factor, its incoming synapses change by the local rule, and its activity is let go.
    """

    def __init__(self, network: Network, loss: Loss, rule: Broadcast, generator: torch.Generator) -> None:
        self.network = network
        self.loss = loss
        self.rule = rule
        self.progress = 0.0
        self.hidden = [n for n in network.incoming if n != network.readout and _plastic(network, n)]
        some = next(network.parameters())
        score = some.new_zeros((1, *network.populations[network.readout].size))
        self.feedback = {}
        for name in self.hidden:
            silence = some.new_zeros((1, *network.populations[name].size))
            self.feedback[name] = rule.neuromodulator.init(Heard(silence, score, 0.0), generator)

    def learn(self, inputs: Tensor, target: Tensor, observers: tuple[Observer, ...] = ()) -> Outcome:
        """One batch; see `Learner.learn`."""
        losses: list[Tensor] = []
        outputs: list[Tensor] = []
        with torch.no_grad():
            simulate(self.network, inputs, (*observers, self._watch(target, losses, outputs)))
        return Outcome(torch.stack(losses).sum(), outputs[-1])

    def _watch(self, target: Tensor, losses: list[Tensor], outputs: list[Tensor]) -> Observer:
        eligibility: dict[str, Any] = {}  # lives as long as this run

        def observe(t: int, frame: Frame) -> None:
            output = frame.activity[self.network.readout].value
            losses.append(self.loss.per_example(output, target).mean())
            outputs[:] = [output]
            score = self.loss.score(output, target) / len(output)
            # From the input up: the largest maps go first, before the gradients pile up.
            for name in (*self.hidden, self.network.readout):
                self._update(name, score, frame, eligibility)

        return observe

    def _update(self, name: str, score: Tensor, frame: Frame, eligibility: dict[str, Any]) -> None:
        """Third factor and gradients of one population; its activity leaves the frame."""
        activity = frame.activity.pop(name)
        signal = score if name == self.network.readout else self._signal(name, activity, score)
        neuron = self.network.populations[name].neuron
        assert neuron is not None
        for connection in _plastic(self.network, name):
            synapses = self.network.synapses(connection)
            local = Local(
                pre=frame.carried.pop(connection.name),
                post=activity,
                signal=signal,
                synapses=synapses,
                gate=lambda factor: neuron.gate(activity, factor),
                outer=lambda post, pre, c=connection, s=synapses: c.geometry.outer(s, post, pre),
            )
            if connection.name not in eligibility:
                eligibility[connection.name] = self.rule.plasticity.init(local)
            gradient, eligibility[connection.name] = self.rule.plasticity.step(
                eligibility[connection.name], local, self.network.dt
            )
            _add(synapses, gradient, self.network.present(connection))

    def _signal(self, name: str, activity: Activity, score: Tensor) -> Tensor:
        heard = Heard(activity.value, score, self.progress)
        signal, self.feedback[name] = self.rule.neuromodulator.step(self.feedback[name], heard, self.network.dt)
        return signal

    def state_dict(self) -> dict[str, Any]:
        """Projections by population, as plain dictionaries of tensors."""
        return {name: state._asdict() for name, state in self.feedback.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put back projections; shapes must be those of this network."""
        for name, present in self.feedback.items():
            loaded = {key: state[name][key].to(value) for key, value in present._asdict().items()}
            self.feedback[name] = type(present)(**loaded)


class BackpropLearner:
    """The reference: the same network, loss and `.grad`, filled by autograd."""

    def __init__(self, network: Network, loss: Loss) -> None:
        self.network = network
        self.loss = loss
        self.progress = 0.0

    def learn(self, inputs: Tensor, target: Tensor, observers: tuple[Observer, ...] = ()) -> Outcome:
        """One batch; see `Learner.learn`."""
        losses: list[Tensor] = []

        def observe(t: int, frame: Frame) -> None:
            losses.append(self.loss.per_example(frame.activity[self.network.readout].value, target).mean())

        with torch.enable_grad():
            frame = simulate(self.network, inputs, (*observers, observe))
            loss = torch.stack(losses).sum()
            output = frame.activity[self.network.readout].value.detach()
            del frame  # else the activity that backward is done with would live on to the end
            loss.backward()
        for connection in self.network.connections.values():
            present = self.network.present(connection)
            gradient = self.network.weights[connection.name].grad
            if present is not None and gradient is not None:
                gradient.mul_(present)
        return Outcome(loss.detach(), output)

    def state_dict(self) -> dict[str, Any]:
        """Backprop keeps nothing outside the network."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to put back."""


def _plastic(network: Network, name: str) -> list[Connection]:
    return [c for c in network.incoming[name] if c.plastic]


def _add(synapses: Synapses, gradient: Synapses, present: Tensor | None) -> None:
    """Add a gradient to `.grad`, leaving absent synapses alone."""
    if present is not None:
        gradient.weight.mul_(present)
    for parameter, change in zip(synapses, gradient, strict=True):
        if parameter is not None and change is not None:
            parameter.grad = change if parameter.grad is None else parameter.grad.add_(change)
