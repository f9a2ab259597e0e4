"""What a synapse is: how long what arrives is felt, as a current or as a conductance."""

from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

SynapseState = tuple[Tensor, ...]  # of any synapse: a NamedTuple of tensors; () where there is nothing
S = TypeVar("S")  # the state of one kind


class Synapse(Protocol[S]):
    """The response of what arrives at the synapses of a connection, times their weights.

    What arrives in a step comes at its beginning. A response is linear in it and knows nothing of the weights, so that
    it is the same behind them, [B, *post size], where the network keeps it, and before them, [B, *arriving], where a
    rule asks what a synapse did: weight times the response of an arrival is the response of weight times arrival.
    """

    def init(self, arrived: Tensor) -> S:
        """Nothing has arrived yet; a NamedTuple of tensors of the shape, type and device of `arrived`."""
        ...

    def arrive(self, state: S, arrived: Tensor, dt: float) -> S:
        """The state at the beginning of a step, once this has arrived.

        Args:
            state: at the beginning of the step before.
            arrived: weights times spikes, [B, *post size]; or spikes, [B, *arriving].
            dt: s.
        """
        ...

    def value(self, state: S, dt: float, tau_mem: float | Tensor | None) -> Tensor:
        """What stands for the response over a step, fresh in memory.

        Args:
            state: at the beginning of the step.
            dt: s.
            tau_mem: time constant, s, of a membrane that is one leak: the constant that changes it over the step as
                much as the response does. None: the value at the beginning of the step.
        """
        ...


class Response(Synapse[S], Protocol[S]):
    """A synapse that is a response and no more: a current where it stands alone, a conductance within one."""


@runtime_checkable
class Conductive(Protocol):
    """A synapse whose response is a conductance: the current is g (reversal - v)."""

    @property
    def reversal(self) -> float:
        """Potential at which no current flows, V."""
        ...


@runtime_checkable
class Blocked(Conductive, Protocol):
    """A conductance that the potential shuts: the current is g unblocked(v) (reversal - v)."""

    def unblocked(self, v: Tensor) -> Tensor:
        """Share of the conductance that is open at a potential in V, [B, *size]."""
        ...
