"""What becomes of spikes at the synapses of a connection over time, on its way from arrival to drive."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from neurosbd.neurons.scan import apart, together
from neurosbd.synapses.responses import Delta
from neurosbd.synapses.short_term import ShortTerm
from neurosbd.synapses.synapse import Conductive, Synapse, SynapseState


class TransmissionState(NamedTuple):
    """State of a connection with dynamics, at the beginning of a step."""

    resources: SynapseState  # of its short-term plasticity, [B, *arriving] each; () without one
    response: SynapseState  # of its synapse, [B, *post size] each


class Transmission(NamedTuple):
    """The dynamics of a connection."""

    synapse: Synapse
    short_term: ShortTerm | None

    @property
    def lasts(self) -> bool:
        """Whether there are any: else what arrives is the drive of its step."""
        return self.short_term is not None or not isinstance(self.synapse, Delta)

    @property
    def conducts(self) -> bool:
        """Whether a conductance, no current, reaches the membrane."""
        return isinstance(self.synapse, Conductive)

    def init(self, arriving: Tensor, arrived: Tensor) -> TransmissionState:
        """Before anything has arrived.

        Args:
            arriving: of the shape of what arrives at the synapses, [B, *arriving].
            arrived: of the shape of what they make of it, [B, *post size].
        """
        return TransmissionState(
            () if self.short_term is None else self.short_term.init(arriving), self.synapse.init(arrived)
        )

    def pass_on(
        self, states: list[TransmissionState], arriving: Tensor, steps: int, dt: float,
        drive: Callable[[Tensor], Tensor],
    ) -> None:  # fmt: skip
        """Take K steps.

        Args:
            states: before the first; that after each is added.
            arriving: at the synapses, [K B, *arriving].
            steps: K.
            dt: s.
            drive: what the weights make of it, [K B, *post size].
        """
        sent, resources = [], []
        for spikes in apart(arriving, steps) if self.short_term is not None else ():
            assert self.short_term is not None
            passed, after = self.short_term.step(resources[-1] if resources else states[-1].resources, spikes, dt)
            sent.append(passed)
            resources.append(after)
        arrived = apart(drive(together(sent) if sent else arriving), steps)
        for k in range(steps):
            response = self.synapse.arrive(states[-1].response, arrived[k], dt)
            states.append(TransmissionState(resources[k] if resources else (), response))

    def value(self, states: Sequence[TransmissionState], dt: float, tau_mem: float | Tensor | None) -> Tensor:
        """What stands for the response over each of these steps, [K B, *post size]; see `Synapse.value`."""
        return together([self.synapse.value(state.response, dt, tau_mem) for state in states])
