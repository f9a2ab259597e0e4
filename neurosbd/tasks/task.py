"""What a task and a protocol must offer."""

from collections.abc import Callable
from typing import NamedTuple
from typing import Protocol as Interface

import torch
from torch import Tensor

from neurosbd.connections.synapses import is_matrix
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.learner import Learner
from neurosbd.learning.rule import Rule
from neurosbd.network import Network
from neurosbd.recording import TrialRecorder
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
    """How long a protocol goes on; its trials follow one another without a gap."""

    trials: int
    steps: int  # per trial
    examples: int  # side by side
    pending: int = 0  # numbers that an example keeps for later, such as rewards on their way
    loss: str | None = None  # name of the loss that judges its trials, which have targets then; None: nobody does
    target: tuple[int, ...] = ()  # shape of the target of an example, if there is one


class TrialRecorders(Interface):
    """Gives the recorder of a trial, asked when its network is ready to run."""

    def __call__(self, number: int, batch: Batch | None = None) -> TrialRecorder:
        """Of trial n.

        Args:
            number: from 0.
            batch: about to be shown, of protocols whose trials are judged.
        """
        ...


class Protocol(Interface):
    """An experiment that is not a training: it drives a network and its rule by itself."""

    def extent(self, dt: float) -> Extent:
        """What `run` will take, at steps of dt, s.

        Raises:
            ValueError: if one of its times is no whole number of such steps.
        """
        ...

    def check(self, network: Network, rule: Rule) -> None:
        """Raise ValueError unless it can be carried out on this network by this rule."""
        ...

    def run(
        self,
        learner: Callable[[], Learner],
        optimizer: Callable[[Network], torch.optim.Optimizer],
        generator: torch.Generator,
        trial_recorder: TrialRecorders,
        progress: Callable[[int, int, str], object],
    ) -> Findings:
        """Measure.

        Args:
            learner: makes one that has learned nothing, on the network with its initial weights, which it keeps.
            optimizer: how its gradients are applied.
            generator: of all randomness.
            trial_recorder: how trial n is watched.
            progress: told (done, of, a line) now and then.
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
