"""Synaptic scaling: all synapses of a neuron grow or shrink in proportion until it fires at its rate."""

import math
from typing import Annotated, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Local, Selective, Site
from neurosbd.filters import decay
from neurosbd.neurons.neuron import Compartmental
from neurosbd.plasticity.plasticity import Bounded, Plasticity, Tracking, no_eligibility, takes_lists
from neurosbd.schema.constants import Hertz, Legal, Seconds, constants


class Scaled(NamedTuple):
    """How fast the post units have fired, and what the plasticity beside keeps."""

    rate: Tensor  # Hz, [B, *size]
    beside: Any


def _alone(beside: Plasticity) -> bool:
    return beside.states_changes and not (beside.modulated or isinstance(beside, Tracking))


@constants(called="synaptic_scaling")
class SynapticScaling:
    """The weights onto a unit grow while it fires more slowly than `rate`, each by the same share of itself.

        added to w at every step:   dt / tau |w| (rate - r) / rate,   mean over the batch, and what `beside` adds
        r follows the spikes of the unit, in Hz, with tau_rate; it starts at `rate`

    So excitation grows and inhibition (weights below 0) shrinks at a unit that is too quiet. Of a unit that has fallen
    silent excitation grows e-fold in tau. Weights of 0 stay 0.

    Args:
        rate: that the post units are drawn to, Hz, > 0.
        tau: of the scaling, s, > 0; much longer than tau_rate, else rates swing.
        tau_rate: of the measured rate, s, > 0.
        beside: what changes the same synapses besides, such as 'spike_timing'; None: nothing does.
    Raises:
        ValueError: if a constant is out of range, or `beside` needs a third factor or moves weights by a statistic.
    Source: van Rossum, Bi, Turrigiano 2000, J. Neurosci. 20:8812, equation 3 without its integral term; Turrigiano
        2008, Cell 135:422; the opposite sign of inhibition: Kilman, van Rossum, Turrigiano 2002, J. Neurosci. 22:1328.
    """

    rate: Hertz = 5.0
    tau: Seconds = 100.0
    tau_rate: Seconds = 1.0
    beside: (
        Annotated[
            Plasticity,
            Legal("a plasticity of activity alone that states by how much a weight changes, such as 'triplet'", _alone),
        ]
        | None
    ) = None

    modulated: ClassVar[bool] = False
    states_changes: ClassVar[bool] = True
    waits: ClassVar[bool] = False
    rate_regulated: ClassVar[bool] = False
    eligibilities: ClassVar[tuple[str, ...]] = ()
    eligibility = no_eligibility

    @property
    def per_synapse(self) -> bool:
        """Whether what is beside it learns connections that are stored sparsely, as the scaling itself does."""
        return self.beside is None or takes_lists(self.beside)

    @property
    def bounds(self) -> tuple[float, float]:
        """Those of what is beside; none where nothing is."""
        return self.beside.bounds if isinstance(self.beside, Bounded) else (-math.inf, math.inf)

    def check(self, site: Site) -> None:
        """Raise ValueError of neurons that send no spikes, and where the plasticity beside does not work."""
        neuron, silence = site.neuron, torch.zeros(1, *site.size)
        if isinstance(neuron, Compartmental) or not hasattr(neuron.init(silence, torch.Generator()), "spike"):
            raise ValueError(
                f"synaptic scaling follows the spikes of the post neuron, and {type(neuron).__name__} sends none; give "
                f"it 'lif', say, or take the plasticity 'bcm' or 'oja' for rates"
            )
        if isinstance(self.beside, Selective):
            self.beside.check(site)

    def init(self, local: Local) -> Scaled:
        """The rate is as it should be."""
        beside = None if self.beside is None else self.beside.init(local)
        return Scaled(torch.full_like(local.post.value, self.rate), beside)

    def step(self, state: Scaled, local: Local, dt: float) -> tuple[Synapses, Scaled]:
        """Minus what is added to w."""
        kept = decay(self.tau_rate, dt)
        rate = state.rate * kept + local.post.value * ((1 - kept) / dt)
        lacking = (self.rate - rate).mul_(dt / (self.tau * self.rate * len(rate)))
        change = local.outer(lacking, torch.ones_like(local.pre)).weight.mul_(local.synapses.weight.abs()).neg_()
        beside = state.beside
        if self.beside is not None:
            more, beside = self.beside.step(beside, local, dt)
            change = change if more is None else change.add_(more.weight)
        return Synapses(change, None), Scaled(rate, beside)
