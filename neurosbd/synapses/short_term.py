"""Short-term plasticity: how much of a synapse is left for the next spike, whatever learns its weight."""

from typing import Annotated, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from neurosbd.filters import decay
from neurosbd.schema.constants import NotNegativeSeconds, Range, Seconds, constants

S = TypeVar("S")  # its state


class ShortTerm(Protocol[S]):
    """What becomes of the spikes of a presynaptic unit on their way through its synapses, by those before them."""

    def init(self, arriving: Tensor) -> S:
        """Rested; a NamedTuple of tensors, of the shape, type and device of `arriving`, [B, *arriving]."""
        ...

    def step(self, state: S, arriving: Tensor, dt: float) -> tuple[Tensor, S]:
        """What the synapses make of the spikes that arrive in a step of dt s, [B, *arriving], and the state after."""
        ...


class Resources(NamedTuple):
    """At the beginning of the step, after its arrivals."""

    u: Tensor  # share that the last spike took, less its decay
    x: Tensor  # share that is there


@constants
class TsodyksMarkram:
    """Depression and facilitation: spikes take a share u of a resource x, which comes back.

        between spikes    dx/dt = (1 - x) / tau_rec,   du/dt = -u / tau_facil
        at a spike        u = u + u_0 (1 - u),   sent = u x,   x = x - u x

    Both are taken exactly from step to step. A spike of size a sends a u x. The first of a rested synapse sends u_0; at
    a rate r they settle at the closed form of the paper. tau_facil = 0: u is u_0 at every spike, depression alone.

    Args:
        u_0: share that a spike of a rested synapse takes, > 0, <= 1.
        tau_rec: recovery of x, s, > 0.
        tau_facil: decay of u, s, >= 0.
    Source: Tsodyks, Markram 1997, PNAS 94; Markram, Wang, Tsodyks 1998, PNAS 95; NEST's tsodyks_synapse in its limit
        tau_psc -> 0; Brian2's documentation, 'Short-term plasticity'.
    """

    u_0: Annotated[float, Range(above=0, most=1)] = 0.5
    tau_rec: Seconds = 0.8
    tau_facil: NotNegativeSeconds = 0.0

    def init(self, arriving: Tensor) -> Resources:
        """Rested: u = 0, x = 1."""
        return Resources(torch.zeros_like(arriving), torch.ones_like(arriving))

    def step(self, state: Resources, arriving: Tensor, dt: float) -> tuple[Tensor, Resources]:
        """arriving u x."""
        spike = (arriving != 0).to(arriving.dtype)
        u = state.u * (decay(self.tau_facil, dt) if self.tau_facil else 0.0)
        x = 1 - (1 - state.x) * decay(self.tau_rec, dt)
        u = u + self.u_0 * (1 - u) * spike
        taken = u * x * spike
        return arriving * taken, Resources(u, x - taken)
