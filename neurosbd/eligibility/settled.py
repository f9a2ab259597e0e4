"""Eligibility of a network that has come to rest: the present step is all there is."""

from dataclasses import dataclass

from neurosbd.eligibility.factorised import Factors
from neurosbd.eligibility.local import Arrival


@dataclass(frozen=True)
class Settled:
    """Gain of this step times what arrives at this step; how the network came here is forgotten.

        e[t] = gain[t] pre[t]

    For networks that are scored once they have relaxed to a fixed point. There the derivative of a unit's value with
    respect to its drive is this gain up to one factor, which is the learning rate's.

    Source: Bozkurt, Pehlevan, Erdogan 2023, NeurIPS, arXiv 2306.04810: updates from the activity at equilibrium.
    """

    def init(self, arrival: Arrival, dt: float) -> tuple[()]:
        """Nothing is kept."""
        return ()

    def step(self, state: tuple[()], arrival: Arrival, dt: float) -> tuple[Factors, tuple[()]]:
        """Factors of this step."""
        return Factors(arrival.pre, 1.0, arrival.gate(dt), arrival), state

    def block(self, state: tuple[()], arrival: Arrival, dt: float) -> tuple[Factors, tuple[()]]:
        """Every step by itself, so that steps are as good as examples."""
        return self.step(state, arrival, dt)
