"""A batch as a rule sees it: shown to the network as often as the rule wants, pass by pass."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.errors import RunError, UsageError, nearest
from neurosbd.learning.batch import START, UNSCORED, Batch, BatchResult, Progress, checked_reward
from neurosbd.learning.events import DirectUpdate
from neurosbd.learning.meters import Adaptation, LossMeter
from neurosbd.learning.observers import LearningObserver, Watchers
from neurosbd.learning.ranks import ALONE, Ranks
from neurosbd.learning.simulation import Drives, Lengths, as_long_as, blocks, checked_frames, of_one_kind
from neurosbd.learning.upward import upward
from neurosbd.losses import Loss
from neurosbd.network.blocks import Block
from neurosbd.network.inputs import gone_once_shown
from neurosbd.network.network import Connection, Frame, Network
from neurosbd.neurons.neuron import gated


@dataclass
class Continuation:
    """A run that goes on over several batches: what one of them leaves to the next.

    frame: the last one; None: at rest.
    traces: what the rule follows in a run, in a form of its own; None: nothing yet.
    direct_updates: connections whose synapses move at the spikes, in place of a gradient for all of them.
    """

    frame: Frame | None = None
    traces: object = None
    direct_updates: Mapping[str, DirectUpdate] = field(default_factory=dict)


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
        optimizer: that applies the gradients, where it is known.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss | None,
        batch: Batch,
        watchers: Watchers,
        noise: torch.Generator | None,
        progress: Progress = START,
        continuation: Continuation | None = None,
        ranks: Ranks = ALONE,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> None:
        self.network, self.optimizer = network, optimizer
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
        self.afterwards: list[Callable[[int], None]] = []  # what else observers see of every step of this block
        self.scored = [t for t, weight in enumerate(batch.weights) if weight]
        if not self.scored:
            raise UsageError(UNSCORED)

    @property
    def unwatched(self) -> bool:
        """Whether nobody looks at the steps of the first showing or goes on from it, so that a rule may find in another
        way what comes of it."""
        return not (self._observers or self.learning_observer or self._goes_on or self.adaptation.moments)

    def blocks(
        self,
        batch: Batch,
        drives: Drives | None = None,
        start: Frame | None = None,
        most: int | None = None,
        alone: int | None = None,
    ) -> Iterator[tuple[int, Block]]:
        """Show a batch and give it block by block, once those who watch have seen every step.

        Rewards of the batch's own, and drives, may depend on the step before, so they come with blocks of one step. All
        steps of a block have one weight. Who watches the learning as well sees a block of several steps afterwards.

        Args:
            batch: the one to be learned from, or another in its place: other inputs, another target.
            drives: added to those of populations, see `simulation.blocks`.
            start: frame to go on from; none: that of the continuation at the first showing, else rest.
            most: steps of a block; none: as the network has it.
            alone: a step that has a block of its own.
        """
        first, self._shown = self._shown == 0, self._shown + 1
        if not first and batch is self._batch and gone_once_shown(batch.inputs):
            raise UsageError(
                "the rule shows a batch again whose inputs came step by step and are gone; declare how often it does, "
                "showings = 2, say, and they are kept"
            )
        if not first and self._noise is not None and self._key is not None:
            self._noise.set_state(self._key)
        start = self.continuation.frame if start is None and first else start
        most = 1 if drives is not None or batch.reward is not None else most
        lengths = self._lengths(batch) if most is None else lambda x: repeat(most)
        lengths = of_one_kind(lengths, [(weight, t == alone) for t, weight in enumerate(batch.weights)])
        for t, block in blocks(self.network, batch.frames(), lengths, start, self._noise, drives, batch.drives):
            if not first:
                yield t, block
                continue
            self._count(block, t)
            self.afterwards.clear()
            if block.steps == 1 or self.learning_observer is None:
                if self._observers or self.adaptation.moments:
                    self._watch(t, block.frames())
                yield t, block
            else:
                frames = block.frames()
                yield t, block
                self._watch(t, frames)

    def _lengths(self, batch: Batch) -> Lengths:
        """How long blocks are: on all ranks as the whole batch asks, for their sums have to come in one order."""
        lengths = as_long_as(self.network, batch.inputs)
        if self.ranks.size == 1:
            return lengths
        return lambda x: lengths(x.new_empty((batch.examples(len(x)), *x.shape[1:]), device="meta"))

    def _watch(self, t: int, frames: Sequence[Frame]) -> None:
        """Those who watch see every step of a block."""
        for k, frame in enumerate(frames):
            for observe in (*self._observers, self.adaptation):
                observe(t + k, frame)
            for show in self.afterwards:
                show(k)

    def _count(self, block: Block, t: int) -> None:
        """Loss, answer, and where to go on."""
        for meter in (self.meter, *self.heads.values()):
            meter.add(t, block.scans[meter.population].value, block.steps)
        self._seen += block.steps
        if self._goes_on:
            self.continuation.frame = Frame(block.state, {}, {})

    def frames(
        self, batch: Batch, drives: Drives | None = None, start: Frame | None = None
    ) -> Iterator[tuple[int, Frame]]:
        """Show a batch step by step, see `blocks`."""
        for t, block in self.blocks(batch, drives, start, most=1):
            yield t, block.frames()[0]

    def show(self, batch: Batch, drives: Drives | None = None, start: Frame | None = None) -> None:
        """Show a batch at which the rule looks at no step by itself; what was there goes as it comes."""
        deque(self.blocks(batch, drives, start), maxlen=0)

    def __call__(self, batch: Batch, drives: Drives | None = None, start: Frame | None = None) -> "Iterator[Pass]":
        """Show a batch pass by pass, see `blocks`."""
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
        if batch.drives:
            raise UsageError("this rule updates one population after another and takes no drives; leave them out")
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
        losses = self.loss.per_example(output, self._batch.target_at(self.scored[-1]))
        return BatchResult(losses.sum() / self._batch.examples(len(output)), output)

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
    def examples(self) -> int:
        """B of the whole batch, of which other processes may have some."""
        return self.batch.examples(len(self.frame.activity[self.run.network.readout].value))

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
