"""What a task and a protocol must offer."""

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple
from typing import Protocol as Interface

import numpy as np
import torch
from torch import Tensor

from neurosbd.connections.synapses import is_matrix
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.rule import Rule
from neurosbd.learning.simulation import Observer
from neurosbd.network.network import Network
from neurosbd.tasks.findings import Findings, Panel


class Task(Interface):
    """Makes the trials that a network learns from, and judges what it does in them."""

    def steps(self, dt: float) -> int:
        """Per trial, of dt, s.

        Raises:
            ValueError: if one of its times is no whole number of such steps.
        """
        ...

    def sizes(self) -> tuple[int, int]:
        """Units of the input and of the readout."""
        ...

    def batch(self, size: int, dt: float, generator: torch.Generator) -> Batch:
        """`size` new examples, on the CPU, drawn from the generator alone."""
        ...

    def success(self, batch: Batch, result: BatchResult) -> Tensor:
        """How well each example went, 0..1, [B] (or one for all)."""
        ...

    def measures(self, success: float) -> dict[str, float]:
        """The figures of merit that papers give, from the mean success."""
        ...

    def picture(self, batch: Batch, outputs: Tensor, dt: float) -> Panel:
        """One trial as a picture; outputs [T, B, k]."""
        ...


class Extent(NamedTuple):
    """What of a protocol is recorded, and what each of its trials is; they follow one another without a gap."""

    trials: int
    steps: int  # per trial
    examples: int  # side by side
    pending: int = 0  # numbers that an example keeps for later, such as rewards on their way
    loss: str | None = None  # name of the loss that judges its trials, which have targets then; None: nobody does
    target: tuple[int, ...] = ()  # shape of the target of an example, if there is one


class Teaching(NamedTuple):
    """A rule in place of that of the experiment, and the learning rate of plain SGD."""

    rule: Rule
    rate: float


class Stage(NamedTuple):
    """Trials of a protocol, one after another, that are gone about alike."""

    trials: int
    recorded: Sequence[int]  # which of them, counted within the stage, in order
    learns: bool = True  # else the network only answers
    teaching: Teaching | None = None  # None: by the rule and the optimizer of the experiment
    update: int = 0  # steps from one update of the weights to the next; 0: one update, at the end of a trial
    anew: bool = False  # every trial begins with the weights of the start, and nothing is learned from one to the next


class ProtocolTrial(NamedTuple):
    """One trial of a protocol: what is shown, and what it comes to."""

    batch: Batch
    read: Callable[[], Sequence[float]]  # once it is over, the values of `Protocol.measured`
    observers: tuple[Observer, ...] = ()  # of every step
    on_step: Callable[[], None] | None = None  # the optimizer has moved the weights, bounds are not yet in force
    on_update: Callable[[], None] | None = None  # the weights are up to date


class Protocol(Interface):
    """An experiment that is not a training: it says what is shown trial by trial, and what is read off; who carries it
    out has the time loop, the recording and the checkpoints (`tasks.trial_sequence`)."""

    measured: ClassVar[tuple[str, ...]]  # names of what every trial comes to

    def extent(self, dt: float) -> Extent:
        """What is recorded, at steps of dt, s.

        Raises:
            ValueError: if one of its times is no whole number of such steps.
        """
        ...

    def stages(self, dt: float) -> Sequence[Stage]:
        """All trials, in order; as many are recorded as `extent` says."""
        ...

    def check(self, network: Network, rule: Rule) -> None:
        """Raise ValueError unless it can be carried out on this network by this rule."""
        ...

    def prepare(self, number: int, network: Network, start: Mapping[str, Tensor], generator: torch.Generator) -> None:
        """Make the network ready for trial n, if it must be.

        Args:
            number: from 0, over all stages.
            network: with the weights that the trial before has left, or of a stage that begins anew those of the start.
            start: weights by connection, as the experiment began.
            generator: of all randomness, whose place is kept from trial to trial.
        """
        ...

    def trial(self, number: int, network: Network, generator: torch.Generator) -> ProtocolTrial:
        """ProtocolTrial n; all that it depends on is the number, the network and the generator."""
        ...

    def findings(self, found: Mapping[str, np.ndarray], rule: Rule) -> Findings:
        """Measures and pictures of what all trials came to.

        Args:
            found: by the names of `measured`, a value for every trial.
            rule: of the experiment.
        """
        ...


def check_synapses(network: Network, rule: Rule, inputs: tuple[int, float], name: str) -> None:
    """Raise ValueError unless a rule that a protocol can drive changes the synapses of a single post unit.

    Args:
        network: what it is carried out on.
        rule: what is to change it.
        inputs: least and largest number of inputs.
        name: of the protocol, for the message.
    """
    shapes = {connection: list(weight.shape) for connection, weight in network.weights.items()}
    (first, *_) = network.weights.values()
    least, most = inputs
    (shape, *others) = shapes.values()
    if others or not is_matrix(first) or shape[0] != 1 or not least <= shape[1] <= most:
        wanted = f"{least}" if most == least else f"{least} or more"
        raise ValueError(
            f"protocol '{name}' looks at one dense connection from {wanted} inputs onto one unit, but the network has "
            f"{', '.join(f'{connection} {shape}' for connection, shape in shapes.items())}"
        )
    if rule.scored:
        raise ValueError(
            f"protocol '{name}' sends rewards and no score, which this rule waits for; use stdp, rstdp or rmax"
        )
