"""What a learning rule is: frozen constants, and a procedure over the passes of a batch."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from neurosbd.constraints import Held
from neurosbd.files.checkpoints import StateDict
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Run
from neurosbd.losses import Loss
from neurosbd.network.network import Connection, Network
from neurosbd.plasticity.plasticity import Plasticity


class RuleState(Protocol):
    """What a rule learns outside the synapses, and what is checkpointed with them."""

    @property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """Weights of heads, by name: the optimizer of the run moves them as it moves the synapses. A name that is a
        population's, or a connection's onto it, has the rate of that population, unless there are `relative_rates`."""
        ...

    def state_dict(self) -> StateDict:
        """Plain containers of tensors."""
        ...

    def load_state_dict(self, saved: StateDict) -> None:
        """Put back what `state_dict` gave.

        Raises:
            ValueError: if a shape is another one here.
        """
        ...


@dataclass
class TensorState:
    """A state of named tensors, which is all that most rules need.

    Args:
        tensors: what the rule moves itself.
        parameters: heads, which the optimizer moves by their `.grad`.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    parameters: dict[str, nn.Parameter] = field(default_factory=dict)

    def state_dict(self) -> StateDict:
        """All tensors by name."""
        return {"tensors": dict(self.tensors), "parameters": {k: v.detach() for k, v in self.parameters.items()}}

    @torch.no_grad()
    def load_state_dict(self, saved: StateDict) -> None:
        """Put back what `state_dict` gave, in place."""
        for kind, present in (("tensors", self.tensors), ("parameters", self.parameters)):
            for name, value in present.items():
                there = saved[kind][name]
                if there.shape != value.shape:
                    raise ValueError(
                        f"'{name}' of the rule is {list(there.shape)} there, {list(value.shape)} here; take the "
                        f"network and the constants of then"
                    )
                value.copy_(there)


class RuleSignals(NamedTuple):
    """What a rule lets a recording see, as it declares before anything runs."""

    third_factors: tuple[str, ...] = ()  # populations
    eligibilities: tuple[str, ...] = ()  # connections at which something waits for a third factor


S = TypeVar("S", bound=RuleState)


class Rule(Protocol[S]):
    """How the synapses of a network learn from a batch: by leaving a gradient of the loss in their `.grad`.

    A rule is a frozen dataclass of constants that inherits from this class; what it learns is in the state that `begin`
    makes. `learn` is all that most rules write:

        def learn(self, state, run, batch):
            for p in run(batch):
                signal = p.gate(readout, p.score() * p.weight)
                p.deposit(connection, signal)
            return run.result()

    Declared are, unless they are as here:
        loss: name of the loss that the rule is defined for; None: any.
        teaches_heads: whether it leaves gradients to populations with role 'head'; else networks with some are refused.
        per_connection: whether connections may have a plasticity of their own; else networks with such are refused.
        takes_lists: whether it learns connections that are stored sparsely, a list of weights; else they are refused.
        transmits: whether it knows what dynamics of synapses do; else networks with some are refused.
        one_step: what it does within a step, in words that begin the refusal of neurons with a state and of connections
            with a delay; '': it follows time.
        showings: how often it shows a batch; inputs that come step by step are kept for more than one.
        delay: steps between the score or reward and the arrival of what it tells.
        labelled: it learns from labels of classes, and from nothing else.
        timed: it goes by the steps in which units spike, so that one step tells it nothing.
        spares_silent: synapses from units that are silent in a batch stay as they are.
        estimates: its gradient is right on average only, over noise that it draws itself.
        differentiates: autograd follows what it shows.
        sums_over_examples: all that it learns are sums over examples, of scores that carry the 1/B of the whole batch,
            or go through `run.ranks`, so that several processes can share a batch.
    """

    loss: str | None = None
    teaches_heads: ClassVar[bool] = False
    per_connection: ClassVar[bool] = False
    takes_lists: ClassVar[bool] = False
    transmits: ClassVar[bool] = False
    one_step: ClassVar[str] = ""
    showings: ClassVar[int] = 1
    delay: int = 0
    labelled: ClassVar[bool] = False
    timed: ClassVar[bool] = False
    spares_silent: ClassVar[bool] = True
    estimates: ClassVar[bool] = False
    differentiates: ClassVar[bool] = False
    sums_over_examples: ClassVar[bool] = False

    @property
    def rewarded(self) -> bool:
        """Whether it is sent a reward and no score."""
        return False

    @property
    def scored(self) -> bool:
        """Whether a score reaches it; else it learns from rewards, or from the activity alone."""
        return True

    @property
    def hears_loss(self) -> bool:
        """Whether some weights follow the loss: by its score, or as a readout that descends it."""
        return True

    @property
    def hears_target(self) -> bool:
        """Whether populations below the readout hear the target, so that they learn where the score is 0, too."""
        return False

    @property
    def units_per_class(self) -> int:
        """How many units of the readout stand for each class, side by side; `answer` says what they make of it."""
        return 1

    @property
    def bounds(self) -> tuple[float, float] | None:
        """To which the weights that follow the rule are clamped after each update; None: free."""
        return None

    @property
    def states_changes(self) -> bool:
        """Whether its gradients are minus changes of the weights whose size is part of the rule, so that an optimizer
        should scale them and no more: plain SGD, where a model names none."""
        return False

    @property
    def acts_after_step(self) -> bool:
        """Whether `after_step` has something to do."""
        return False

    def check(self, network: Network, loss: Loss | None) -> None:
        """Raise ValueError, naming the population or connection, unless the rule can be carried out on a network by the
        score of a loss, if there is one: what is not declared; asked before `begin`."""

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> S:
        """The state before any learning.

        Args:
            network: with its parameters on their device.
            loss: whose score is sent; None where only rewards are.
            generator: source of everything random.
        """
        return cast(S, TensorState())  # what rules keep that say nothing else

    def learn(self, state: S, run: Run, batch: Batch) -> BatchResult:
        """Show a batch to the network, once or several times, and add a gradient to every plastic `.grad`."""
        ...

    def answer(self, state: S, run: Run, batch: Batch) -> BatchResult:
        """What the network says of a batch that it does not learn from."""
        run.show(batch)
        return run.result()

    def limits(self, network: Network) -> dict[str, Held]:
        """Constraints that it sets to weights beside their own, by connection, such as the bounds of an STDP window."""
        return {}

    def after_step(self, state: S, network: Network) -> None:
        """After the optimizer's step: what moves by itself."""

    def after_epoch(self, state: S, network: Network, epochs: int) -> None:
        """After an epoch, with how many there have been."""

    def populations(self, network: Network) -> tuple[str, ...]:
        """Those whose incoming synapses follow the rule; a readout may descend its own gradient instead."""
        return tuple(n for n, connections in network.incoming.items() if any(c.plastic for c in connections))

    def signals(self, network: Network) -> RuleSignals:
        """What a recording can see of it."""
        return RuleSignals()

    def projections(self, state: S) -> Mapping[str, Tensor]:
        """By what the score is projected to each population at this moment, {population: [C, M]}."""
        return {}

    def relative_rates(self, state: S) -> Mapping[str, float]:
        """Of heads that learn as the readout does: the factor on the learning rate of the readout, by name."""
        return {}

    def why_alone(self) -> str | None:
        """Why several processes cannot share a batch under this rule; None: they can."""
        silent = f"{type(self).__name__} does not say that what it learns is a sum over examples"
        return None if self.sums_over_examples else silent

    def why_eager(self) -> str | None:
        """Why its batches cannot be replayed as one graph of kernels; None: they can."""
        return f"{type(self).__name__} is a procedure of its own, which may look at values"

    def why_apart(self, network: Network) -> str | None:
        """Why it takes one network at a time, of several that differ in their seed alone; None: it takes them all."""
        return f"a {type(self).__name__} takes one network at a time"

    def side_by_side(self, networks: int) -> Self:
        """The rule for so many networks in one, where `why_apart` is None."""
        return self

    def direct_plasticities(self, network: Network) -> Iterable[tuple[Connection, Plasticity]]:
        """What each plastic connection follows, if its synapses may move at the spikes with no gradient between."""
        return ()

    def parts(self) -> Mapping[str, tuple[object, ...]]:
        """What it is composed of, by the kind of their tables."""
        return {}

    def takes(self, part: str, value: object) -> bool:
        """Whether a part of another rule, of this value, has a meaning for this one."""
        return False

    def notes(self, network: Network, loss: Loss, generator: torch.Generator) -> list[str]:
        """What there is to say of it on a network, such as what it costs; lines."""
        return []

    def n_expanded(self, state: S) -> int:
        """How many columns are broadcast beside those of the score."""
        return 0

    def schedules(self) -> str | None:
        """Which of its constants move with the progress of the training, in words; None: none do."""
        return None
