"""A batch as a rule sees it: shown to the network as often as the rule wants, pass by pass."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.errors import RunError, UsageError, nearest
from neurosbd.learning.batch import UNSCORED, Batch, BatchResult, checked_reward
from neurosbd.learning.ranks import ALONE, Ranks
from neurosbd.learning.simulation import Drives, Observer, checked_frames, frames
from neurosbd.learning.upward import upward
from neurosbd.losses import Loss
from neurosbd.network import Connection, Frame, Network
from neurosbd.neurons.neuron import Activity, gated


class LearningObserver(Protocol):
    """Sees the learning itself, as an observer sees the dynamics; it changes nothing."""

    def on_third_factor(self, population: str, third_factor: Tensor | None) -> None:
        """The third factor of a population at this step, [B, *size]; None: there is none at this step."""
        ...

    def on_eligibility(self, connection: str, eligibility: Callable[[Tensor], Tensor]) -> None:
        """A connection has learned from this step; `eligibility` gives what waits there, of examples [E]."""
        ...


class AnswerMeter:
    """Observer that reads the answer of a network off its readout, or off a head, as the network says."""

    def __init__(self, weights: Sequence[float], network: Network, population: str | None = None) -> None:
        self.weights = weights
        self.network = network
        self.population = population or network.readout
        self.state: object = None

    def __call__(self, t: int, frame: Frame) -> None:
        """Count a step if its weight is not 0."""
        if self.weights[t]:
            output, answer = frame.activity[self.population].value.detach(), self.network.answer
            state = answer.init(output) if self.state is None else self.state
            self.state = answer.step(state, output, t, self.weights[t])

    def value(self) -> Tensor:
        """The answer so far, [B, C]."""
        if self.state is None:
            raise UsageError(UNSCORED)
        return self.network.answer.value(self.state)


class LossMeter:
    """Observer that adds up the loss of a trial and reads its answer; without a loss or a target, the answer alone.

    Of the readout, or of a head.
    """

    def __init__(self, batch: Batch, loss: Loss | None, network: Network, population: str | None = None) -> None:
        self.batch = batch
        self.loss = loss
        self.population = population or network.readout
        self.total: Tensor | None = None
        self.answer = AnswerMeter(batch.weights, network, self.population)

    def __call__(self, t: int, frame: Frame) -> None:
        """Count a step if its weight is not 0."""
        weight = self.batch.weights[t]
        if weight == 0:
            return
        if self.loss is not None and self.batch.taught:
            output = frame.activity[self.population].value
            losses = self.loss.per_example(output, self.batch.target_at(t))
            mean = losses.sum() / self.batch.batch_size if self.batch.batch_size else losses.mean()
            loss = mean * weight
            self.total = loss if self.total is None else self.total + loss
        self.answer(t, frame)

    def result(self) -> BatchResult:
        """The weighted mean of the loss, NaN where there is none, and the answer."""
        output = self.answer.value()
        if self.total is None:
            return BatchResult(output.new_full((), torch.nan), output)
        return BatchResult(self.total.detach() / sum(self.batch.weights), output)


class Adaptation:
    """Observer that follows what the adaptive neurons of a network measure in a trial of `steps`; at rest, nothing."""

    def __init__(self, network: Network, steps: int) -> None:
        self.network = network
        self.share = 1 / steps
        self.moments = {name: network.moments(name) for name in network.adaptive if network.training}

    def __call__(self, t: int, frame: Frame) -> None:
        """Bring the moments up to date, aside from the network."""
        for name in self.moments:
            self.follow(name, frame.activity[name])

    def follow(self, name: str, activity: Activity) -> None:
        """Bring those of one population up to date."""
        self.moments[name] = self.network.adaptive[name].update_moments(self.moments[name], activity, self.share)


@dataclass
class Continuation:
    """A run that goes on over several batches: what one of them leaves to the next.

    frame: the last one; None: at rest.
    traces: what the rule follows in a run, in a form of its own; None: nothing yet.
    """

    frame: Frame | None = None
    traces: object = None


class Watchers(NamedTuple):
    """Who watches a batch; nobody changes anything."""

    observers: tuple[Observer, ...] = ()  # of every step of the network
    learning: LearningObserver | None = None  # of third factors and eligibilities, of rules that have any


class Run:
    """A network, a batch, and how often it is shown.

    Every showing meets the same noise. The first is what observers see, what the result is read off and what adaptive
    neurons remember; further ones are the rule's own business.

    Args:
        network: that runs.
        loss: that judges its readout; None: nobody does.
        batch: to be learned from.
        watchers: of the first showing.
        noise: of the network.
        progress: how much of the training is done, 0..1.
        continuation: where the first showing starts and leaves its end; none: it starts at rest.
        ranks: processes that share the batch.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss | None,
        batch: Batch,
        watchers: Watchers,
        noise: torch.Generator | None,
        progress: float = 0.0,
        continuation: Continuation | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.network = network
        self.loss = loss
        self.progress = progress
        self.ranks = ranks
        self.learning_observer = watchers.learning
        self.continuation = continuation or Continuation()
        self._goes_on = continuation is not None
        self.adaptation = Adaptation(network, len(batch.weights))
        self.meter = LossMeter(batch, loss, network)
        self.heads = {name: LossMeter(batch, loss, network, name) for name in network.heads}
        self._batch = batch
        self._observers = watchers.observers
        self._noise = noise
        self._key = None if noise is None else noise.get_state()
        self._shown = self._seen = 0  # showings, and steps of the first
        self.scored = [t for t, weight in enumerate(batch.weights) if weight]
        if not self.scored:
            raise UsageError(UNSCORED)

    def frames(
        self, batch: Batch, drives: Drives | None = None, start: Frame | None = None
    ) -> Iterator[tuple[int, Frame]]:
        """Show a batch and give every frame, once those who watch have seen it.

        Args:
            batch: the one to be learned from, or another in its place: other inputs, another target.
            drives: added to those of populations, see `simulation.frames`.
            start: frame to go on from; none: that of the continuation at the first showing, else rest.
        """
        first, self._shown = self._shown == 0, self._shown + 1
        if not first and batch is self._batch and not isinstance(batch.inputs, Sized):
            raise UsageError(
                "the rule shows a batch again whose inputs came step by step and are gone; declare how often it does, "
                "showings = 2, say, and they are kept"
            )
        if not first and self._noise is not None and self._key is not None:
            self._noise.set_state(self._key)
        watching = (*self._observers, self.adaptation, self.meter, *self.heads.values()) if first else ()
        start = self.continuation.frame if start is None and first else start
        for t, frame in frames(self.network, batch.frames(), start, self._noise, drives):
            for observe in watching:
                observe(t, frame)
            self._seen += first
            if first and self._goes_on:
                self.continuation.frame = Frame(frame.state, {}, {})
            yield t, frame

    def show(self, batch: Batch, drives: Drives | None = None, start: Frame | None = None) -> None:
        """Show a batch at which the rule looks at no step by itself; frames go as they come."""
        deque(self.frames(batch, drives, start), maxlen=0)

    def __call__(self, batch: Batch, drives: Drives | None = None, start: Frame | None = None) -> "Iterator[Pass]":
        """Show a batch pass by pass, see `frames`."""
        first = self._shown == 0
        for t, frame in self.frames(batch, drives, start):
            yield Pass(self, batch, t, frame, self.learning_observer if first else None)

    def upward(self, batch: Batch, until: str) -> "Iterator[tuple[str, Pass]]":
        """Show the batch that is to be learned from, once, and give every population as soon as it is updated.

        For rules whose populations learn one after another. What no population needs any more is let go; where somebody
        watches, every step is taken and seen as a whole first. For neurons without a state, without delays.

        Args:
            batch: shown from rest.
            until: the last population that is updated, unless somebody watches.
        """
        network, self._shown = self.network, self._shown + 1
        start: Frame | None = None
        for t, x in enumerate(checked_frames(network, batch.frames())):
            start = network.init(x, self._noise) if start is None else start
            climbing = upward(network, start, x, until)
            if self._observers:
                whole = network.step(start, x)
                for observe in self._observers:
                    observe(t, whole)
                climbing = ((name, whole) for name in network.incoming)
            for name, frame in climbing:
                if name in self.adaptation.moments:
                    self.adaptation.follow(name, frame.activity[name])
                yield name, Pass(self, batch, t, frame, self.learning_observer)

    def judged(self, output: Tensor) -> BatchResult:
        """The result of an answer [B, C] that was not read off the readout, with its loss at the last scored step."""
        if self.loss is None or not self._batch.taught:
            return BatchResult(output.new_full((), torch.nan), output)
        return BatchResult(self.loss.per_example(output, self._batch.target_at(self.scored[-1])).mean(), output)

    def reward(self, batch: Batch, t: int, frame: Frame) -> Tensor | None:
        """The reward of a step, [B] or [B, channels]: the batch's own, or 1 for every right class at the last scored
        step."""
        output = frame.activity[self.network.readout].value
        if batch.reward is not None:
            return checked_reward(batch.reward(t, frame), output)
        if t != self.scored[-1] or not batch.taught:
            return None
        return (self.meter.result().output.argmax(1) == batch.target).to(output.dtype)

    def result(self) -> BatchResult:
        """Loss and output of the first showing, and of its heads.

        Raises:
            RunError: if the rule has left it before its last step, so that they would be those of a shorter trial.
        """
        steps = len(self._batch.weights)
        if self._seen < steps:
            raise RunError(
                f"the rule left its first showing after {self._seen} of {steps} steps, so the loss, the answer and "
                f"what is recorded would be those of a shorter trial; go on to the last pass, or show it whole with "
                f"run.show(batch) first"
            )
        return self.meter.result()._replace(heads={name: meter.result() for name, meter in self.heads.items()})


@dataclass(frozen=True)
class Pass:
    """One step of a showing, as a rule may look at it.

    Args:
        run: that it belongs to.
        batch: that is shown.
        t: number of the step.
        frame: of the network.
        observer: told third factors; none: nobody is.
    """

    run: Run
    batch: Batch
    t: int
    frame: Frame
    observer: LearningObserver | None = None

    @property
    def weight(self) -> float:
        """How much the score of this step counts, 0..1."""
        return self.batch.weights[self.t]

    @property
    def last(self) -> bool:
        """Whether this is the last step."""
        return self.t == len(self.batch.weights) - 1

    @property
    def target(self) -> Tensor:
        """Labels [B] or targets [B, k] of this step."""
        return self.batch.target_at(self.t)

    def reward(self) -> Tensor | None:
        """The reward of this step, see `Run.reward`."""
        return self.run.reward(self.batch, self.t, self.frame)

    def value(self, population: str) -> Tensor:
        """Activity, [B, *size]."""
        return self.frame.activity[population].value

    def arriving(self, connection: Connection) -> Tensor:
        """What arrived at the synapses, after pooling, [B, *arriving]."""
        return self.frame.carried[connection.name]

    def score(self, readout: str | None = None) -> Tensor:
        """d loss / d activity of a population that is judged, each row with its 1 / B, without the weight of the step.

        Args:
            readout: name of a head of the network; None: the readout.
        Raises:
            ValueError: if nobody judges the population.
        """
        network = self.run.network
        if readout not in (None, network.readout, *network.heads):
            raise ValueError(
                f"nobody judges population '{readout}': it is no head{nearest(readout, network.heads)}; give it "
                f"role = 'head', or take score_of(...) of what your rule makes of it"
            )
        return self.score_of(self.value(readout or network.readout))

    def score_of(self, output: Tensor) -> Tensor:
        """The score that an output [B, C] has, each row with its 1 / B: that of a head of the rule's own, say."""
        assert self.run.loss is not None
        return self.run.loss.score(output, self.target) / self.batch.examples(len(output))

    def gate(self, population: str, third_factor: Tensor) -> Tensor:
        """third_factor times the gain of the population, [B, *size]."""
        if self.observer is not None:
            self.observer.on_third_factor(population, third_factor)
        network = self.run.network
        neuron = network.populations[population].neuron
        assert neuron is not None
        return gated(neuron, self.frame.activity[population], third_factor, network.dt)

    def rest(self, population: str) -> None:
        """A population does not learn at this step: observers see that it has no third factor."""
        if self.observer is not None:
            self.observer.on_third_factor(population, None)

    def back(self, connection: Connection, signal: Tensor, weight: Tensor | None = None) -> Tensor:
        """Signal at the drive of the post population as it reaches the pre population, [B, *size]: the adjoint of the
        drive in its input, poolings included.

        Args:
            connection: to go back along.
            signal: [B, *post size].
            weight: in place of the connection's own, of the same shape.
        """
        own = self.run.network.synapses(connection)
        synapses = own if weight is None else Synapses(weight, own.bias)
        return connection.geometry.back(synapses, signal, self.value(connection.pre))

    def deposit(self, connection: Connection, post: Tensor, pre: Tensor | None = None) -> Synapses | None:
        """Add the sum over examples of post x pre to the `.grad` of a connection that is plastic.

        Args:
            connection: whose synapses learn.
            post: at the drive of the post population, [B, *size].
            pre: [B, *arriving]; none: what arrived.
        Returns:
            What was added, which may be the `.grad` itself; None: nothing.
        """
        if not connection.plastic:
            return None
        network = self.run.network
        synapses, pre = network.synapses(connection), self.arriving(connection) if pre is None else pre
        change = connection.geometry.outer(synapses, post, pre)
        add_gradient(synapses, change)
        return change


def add_gradient(synapses: Synapses, gradient: Synapses) -> None:
    """Add a gradient to `.grad`; `Network.mask_gradients` takes out what it says of absent synapses.

    It lies in memory as its parameter does, since torch's fused optimizers do not look at the strides of a gradient.
    """
    for parameter, change in zip(synapses, gradient, strict=True):
        if parameter is not None and change is not None:
            if parameter.grad is not None:
                parameter.grad.add_(change)
            elif change.stride() == parameter.stride():
                parameter.grad = change
            else:  # fused optimizers walk through both by their memory
                parameter.grad = torch.empty_like(parameter).copy_(change)
