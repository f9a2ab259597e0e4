"""Conductances: the current that a synapse lets through depends on the potential of the membrane."""

from dataclasses import field
from typing import Annotated

import torch
from torch import Tensor

from neurosbd.schema.constants import NotNegative, Range, constants
from neurosbd.synapses.responses import DoubleExponential, Exponential
from neurosbd.synapses.synapse import Response, SynapseState

Reversal = Annotated[float, Range(least=-0.2, most=0.2, unit="V", hint="as in '-70 mV'")]
_BLOCK, _SLOPE = 3.57, 62.0  # concentration in mM at which half is blocked at 0 V; 1 / V


@constants
class Conductance:
    """A conductance with a reversal potential, such as that of AMPA (0 mV, 5 ms) and GABA_A (-70 mV, 10 ms) receptors.

        current(s) = g(s) (reversal - v(s));    g takes its response

    Weights are conductances in units of the leak of the post neuron. None may be negative: a reversal below the resting
    potential inhibits. g is held over a step at its value at the beginning.

    Args:
        reversal: potential at which no current flows, V.
        response: of g: 'exponential', 'alpha' or 'double_exponential'.
    Source: Destexhe, Mainen, Sejnowski 1998, in Methods in Neuronal Modeling, ch. 1; Brette et al. 2007 (COBA).
    """

    reversal: Reversal = 0.0
    response: Response = field(default_factory=Exponential)

    def init(self, arrived: Tensor) -> SynapseState:
        """Closed."""
        return self.response.init(arrived)

    def arrive(self, state: SynapseState, arrived: Tensor, dt: float) -> SynapseState:
        """As the response goes on."""
        return self.response.arrive(state, arrived, dt)

    def value(self, state: SynapseState, dt: float, tau_mem: float | Tensor | None) -> Tensor:
        """g at the beginning of the step."""
        return self.response.value(state, dt, None)


@constants
class NMDA:
    """The conductance of NMDA receptors, which magnesium blocks at rest.

        current(s) = g(s) (reversal - v(s)) / (1 + magnesium / 3.57 exp(-62 v));    g takes its response

    v is in V, and the block that of the potential at the beginning of the step. Weights as those of 'conductance'.

    Args:
        reversal: V.
        magnesium: concentration outside, mM, >= 0; 0: no block.
        response: of g.
    Source: Jahr, Stevens 1990, J. Neurosci. 10; time constants as in Roth, van Rossum 2009.
    """

    reversal: Reversal = 0.0
    magnesium: NotNegative = 1.0
    response: Response = field(default_factory=lambda: DoubleExponential(2e-3, 100e-3))

    def init(self, arrived: Tensor) -> SynapseState:
        """Closed."""
        return self.response.init(arrived)

    def arrive(self, state: SynapseState, arrived: Tensor, dt: float) -> SynapseState:
        """As the response goes on."""
        return self.response.arrive(state, arrived, dt)

    def value(self, state: SynapseState, dt: float, tau_mem: float | Tensor | None) -> Tensor:
        """g at the beginning of the step, without the block."""
        return self.response.value(state, dt, None)

    def unblocked(self, v: Tensor) -> Tensor:
        """1 / (1 + magnesium / 3.57 exp(-62 v))."""
        return 1 / (1 + self.magnesium / _BLOCK * torch.exp(-_SLOPE * v))
