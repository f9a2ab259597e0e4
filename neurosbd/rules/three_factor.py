"""The three-factor product: presynaptic activity x postsynaptic gain x third factor."""

from dataclasses import dataclass

from neurosbd.process import Local, Synapses


@dataclass(frozen=True)
class ThreeFactor:
    """Gradient of a synapse = third factor x gain of the post unit x activity of the pre unit.

        d weight[i, j] = sum_b signal[b, i] gain[b, i] pre[b, j]

    With the true derivative as signal this is the gradient of the loss; with a broadcast score it is
    DFA, EBD or SBD, depending on who makes the signal. No eligibility outlives the step.

    Source: Fremaux, Gerstner 2016, Front. Neural Circuits 9:85; Erdogan et al. 2025 (EBD), equation 13.
    """

    def init(self, local: Local) -> tuple[()]:
        """No trace."""
        return ()

    def step(self, state: tuple[()], local: Local, dt: float) -> tuple[Synapses, tuple[()]]:
        """outer(signal * gain, pre), like the synapses."""
        return local.outer(local.gate(local.signal), local.pre), state
