"""Pyramidal neuron with three compartments: correlative information maximisation between layers."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from neurosbd.neurons.neuron import Activity, Compartment, Flow
from neurosbd.schema.constants import NotNegative, Positive, Seconds, constants

_aten = torch.ops.aten


class CorInfoMaxState(NamedTuple):
    """Soma and dendrites; a compartment that nothing drives stays at 0."""

    u: Tensor  # somatic potential, [B, *size]
    basal: Tensor  # prediction of the rate by the layer below
    apical: Tensor  # prediction of the rate by the layer above
    lateral: Tensor  # B r: what makes the layer spread


@constants
class CorInfoMax:
    """Rate neuron that settles between what its basal and its apical dendrite predict, pushed apart by its layer.

        tau_mem du/dt = leak (r - u) + sum_c (v_c - u) / epsilon + n gamma lateral,      r = min(max(u, 0), 1)

    v_c are the potentials of the n dendrites that are there, basal and apical. At rest r maximises, over 0 <= r <= 1,

        n gamma / 2 r^T B r - sum_c |r - v_c|^2 / (2 epsilon)

    the layer's part of the correlative information: how far the layer spreads, less how badly its neighbours predict
    it. One step is one Euler step of dt; gain = dt / (tau_mem epsilon) where 0 < r < 1, else 0, of the basal and the
    apical dendrite; the one of the lateral drive has another factor, which is the rule's. Synapses without a
    compartment count as basal ones.

    Args:
        epsilon: tolerated prediction error, > 0.
        gamma: weight of the lateral drive for each neighbouring layer, >= 0; (1 - lam) / lam in the objective.
        leak: how hard the rate pulls the potential back to itself, >= 0; it changes the way, not the goal.
        tau_mem: time constant, s, > 0; dt / tau_mem is the paper's neural learning rate.
    Raises:
        ValueError: if a constant is out of range, or a step of dt would overshoot.
    Source: Bozkurt, Pehlevan, Erdogan 2023, NeurIPS, arXiv 2306.04810; constants of its code for MNIST.
    Differs: where nothing drives the apical dendrite, as in the last layer, there is no term for it; the authors' code
        has one that pulls to 0. gamma is free of lam, the memory of B; its default goes with that of the rule.
    """

    epsilon: Positive = 0.15
    gamma: NotNegative = 1e-4
    leak: NotNegative = 0.5
    tau_mem: Seconds = 20e-3

    compartments: ClassVar[tuple[Compartment, ...]] = ("soma", "basal", "apical", "lateral")

    def check(self, drive: Tensor, compartments: tuple[Compartment, ...], dt: float) -> None:
        """Raise ValueError if a step of `dt` s overshoots."""
        self._kept(len(_potentials(dict.fromkeys(compartments, drive)).keys() - {"lateral"}), dt)

    def init(self, drive: Tensor, generator: torch.Generator | None = None) -> CorInfoMaxState:
        """At rest: all potentials 0."""
        zero = torch.zeros_like(drive)
        return CorInfoMaxState(zero, zero, zero, zero)

    def step(
        self, state: CorInfoMaxState, drive: Tensor | Mapping[str, Tensor], dt: float
    ) -> tuple[Activity, CorInfoMaxState]:
        """Rate after one Euler step; `drive` by compartment, or that of the basal dendrite alone, [B, *size]."""
        potentials = _potentials({"basal": drive} if isinstance(drive, Tensor) else drive)
        dendrites = [potentials[name] for name in ("basal", "apical") if name in potentials]
        rate = dt / self.tau_mem
        u = self._kept(len(dendrites), dt) * state.u
        if self.leak:
            u = torch.add(u, functional.hardtanh(state.u, 0.0, 1.0), alpha=rate * self.leak)
        for potential in dendrites:
            u = torch.add(u, potential, alpha=rate / self.epsilon)
        if "lateral" in potentials:
            u = torch.add(u, potentials["lateral"], alpha=rate * self.gamma * len(dendrites))
        return Activity(functional.hardtanh(u, 0.0, 1.0), u, potentials), state._replace(u=u, **potentials)

    def _kept(self, dendrites: int, dt: float) -> float:
        """Part of the potential that is left after a step."""
        kept = 1 - dt / self.tau_mem * (self.leak + dendrites / self.epsilon)
        if kept < 0:
            raise ValueError(
                f"CorInfoMax: a step of {dt:g} s overshoots with {dendrites} dendrites, leak {self.leak} and epsilon "
                f"{self.epsilon}; tau_mem must be at least {dt * (self.leak + dendrites / self.epsilon):.3g} s, "
                f"got {self.tau_mem}"
            )
        return kept

    def gate(self, activity: Activity, third_factor: Tensor, dt: float) -> Tensor:
        """third factor * dt / (tau_mem epsilon) where 0 < u < 1."""
        return _aten.hardtanh_backward(third_factor, activity.potential, 0.0, 1.0) * (
            dt / (self.tau_mem * self.epsilon)
        )

    @property
    def factorises(self) -> bool:
        """No: the pull of the rate on the potential depends on where it is."""
        return False

    def filters(self, dt: float) -> None:
        """There is no such cascade: while they settle, units act on each other."""

    def flow(self, state: CorInfoMaxState, activity: Activity, dt: float) -> Flow:
        """The potential leaks on, held by its own rate while that is not at a bound."""
        dendrites = sum(name in activity.cache for name in ("basal", "apical"))
        free = _aten.hardtanh_backward(torch.ones_like(activity.potential), activity.potential, 0.0, 1.0)
        return Flow(((self._kept(dendrites, dt) + dt / self.tau_mem * self.leak * free,),), (1.0,), (1.0,))


def _potentials(drives: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the compartments; what has none of its own drives the basal dendrite."""
    potentials = {name: value for name, value in drives.items() if name != "soma"}
    if "soma" in drives:
        basal = potentials.get("basal")
        potentials["basal"] = drives["soma"] if basal is None else basal + drives["soma"]
    return potentials
