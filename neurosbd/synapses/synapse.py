"""What a synapse is: how long what arrives is felt, as a current or as a conductance."""

from typing import Any, Protocol, runtime_checkable

from torch import Tensor

SynapseState = Any  # a NamedTuple of tensors, of each synapse its own


class Synapse(Protocol):
    """The response of what arrives at the synapses of a connection, times their weights.

    What arrives in a step comes at its beginning. A response is linear in it and knows nothing of the weights, so that
    it is the same behind them, [B, *post size], where the network keeps it, and before them, [B, *arriving], where a
    rule asks what a synapse did: weight times the response of an arrival is the response of weight times arrival.
    """

    def init(self, arrived: Tensor) -> SynapseState:
        """Nothing has arrived yet; a NamedTuple of tensors of the shape, type and device of `arrived`."""
        ...

    def arrive(self, state: SynapseState, arrived: Tensor, dt: float) -> SynapseState:
        """The state at the beginning of a step, once this has arrived.

        Args:
            state: at the beginning of the step before.
            arrived: weights times spikes, [B, *post size]; or spikes, [B, *arriving].
            dt: s.
        """
        ...

    def value(self, state: SynapseState, dt: float, tau_mem: float | Tensor | None) -> Tensor:
        """What stands for the response over a step, fresh in memory.

        Args:
            state: at the beginning of the step.
            dt: s.
            tau_mem: time constant, s, of a membrane that is one leak: the constant that changes it over the step as
                much as the response does. None: the value at the beginning of the step.
        """
        ...


class Response(Synapse, Protocol):
    """A synapse that is a response and no more: a current where it stands alone, a conductance within one."""


@runtime_checkable
class Conductive(Protocol):
    """A synapse whose response is a conductance: the current is g unblocked(v) (reversal - v)."""

    @property
    def reversal(self) -> float:
        """Potential at which no current flows, V."""
        ...

    def unblocked(self, v: Tensor) -> Tensor | float:
        """Share of the conductance that is open at a potential in V, [B, *size]."""
        ...
