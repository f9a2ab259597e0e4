"""Resets that no neuron of NIR has, spelt out: a leaky integrator, a Threshold behind it, a Scale that leads back.

    v[t] = v[t-1] + dt / tau (v_leak - v[t-1] + drive[t] + scale z[t-1]),    z[t] = 1 if v[t] > threshold else 0

With dt / tau scale = -threshold a spike takes the threshold off, as reset = 'subtract' does; without a Scale it takes
nothing, as 'none'. An integrator I in place of the LI makes it an IF. The loop is felt one step later, as every loop.
"""

from typing import NamedTuple

import numpy as np

from neurosbd.errors import UsageError
from neurosbd.interchange.nir_files import nir_package
from neurosbd.interchange.nir_graph import Flat, kind_of
from neurosbd.interchange.nir_neurons import numbers
from neurosbd.interchange.surrogates import Foreign

_MEMBRANES = ("LI", "I")
_ALIKE = 1e-4  # relative: how near the step of a Scale is to the threshold, in float32


class Spelt(NamedTuple):
    """The nodes of a spiking population."""

    membrane: Foreign  # LI or I
    fire: Foreign  # Threshold
    back: Foreign  # Scale; None if a spike takes nothing


def spelt(membrane: object, threshold: np.ndarray, rise: np.ndarray, subtract: bool) -> Spelt:
    """The nodes around a membrane.

    Args:
        membrane: the LI or I.
        threshold: one per unit, [*size].
        rise: of the membrane in one step under a drive of 1, [*size].
        subtract: whether a spike takes the threshold off.
    """
    nir = nir_package()
    back = nir.Scale(np.ascontiguousarray(-threshold / rise, np.float32)) if subtract else None
    return Spelt(membrane, nir.Threshold(np.ascontiguousarray(threshold, np.float32)), back)


def joined(flat: Flat, dt: float) -> Flat:
    """The graph with every such group of nodes as one neuron, whose `reset` says what it is.

    Raises:
        UsageError: naming the node that is in no such group.
    """
    nodes, before, after = dict(flat.nodes), dict(flat.before), dict(flat.after)
    for fire in flat.of("Threshold"):
        sources = flat.before[fire]
        if len(sources) != 1 or kind_of(flat.nodes[sources[0]]) not in _MEMBRANES or flat.after[sources[0]] != [fire]:
            raise UsageError(
                f"node '{fire}': Threshold cannot be read without one LI or I before it that leads only there"
            )
        membrane = sources[0]
        backs = [n for n in flat.after[fire] if kind_of(flat.nodes[n]) == "Scale" and flat.after[n] == [membrane]]
        neuron = _neuron(flat, membrane, fire)
        if len(backs) > 1:
            raise UsageError(f"node '{membrane}': hears {len(backs)} Scales of its Threshold; legal is one")
        for back in backs:
            _check_step(flat, back, membrane, neuron, dt)
            del nodes[back]
        neuron.reset = "subtract" if backs else "none"
        nodes[membrane] = neuron
        del nodes[fire]
        after[membrane] = [n for n in flat.after[fire] if n not in backs]
        for name in after:
            before[name] = [membrane if n == fire else n for n in before[name] if n not in backs]
    left = [name for name in nodes if kind_of(nodes[name]) in ("I", "Scale")]
    if left:
        raise UsageError(f"node '{left[0]}': {kind_of(nodes[left[0]])} cannot be read without a Threshold beside it")
    return Flat(nodes, {n: before[n] for n in nodes}, {n: [m for m in after[n] if m in nodes] for n in nodes})


def _neuron(flat: Flat, membrane: str, fire: str) -> Foreign:
    """The LIF or IF of a membrane and its Threshold."""
    nir, node = nir_package(), flat.nodes[membrane]
    r, level = numbers(membrane, node, "r"), numbers(fire, flat.nodes[fire], "threshold")
    constants = {"r": r, "v_threshold": level}
    if kind_of(node) == "LI":
        constants |= {key: numbers(membrane, node, key) for key in ("tau", "v_leak")}
    try:
        size = np.broadcast_shapes(*(value.shape for value in constants.values()))
    except ValueError:
        raise UsageError(
            f"node '{fire}': threshold of shape {list(level.shape)} behind {list(r.shape)} units"
        ) from None
    spread = {key: np.broadcast_to(value, size) for key, value in constants.items()}
    return (nir.LIF if kind_of(node) == "LI" else nir.IF)(**spread, metadata=node.metadata)


def _check_step(flat: Flat, back: str, membrane: str, neuron: Foreign, dt: float) -> None:
    """Refuse a Scale that takes anything but the threshold off."""
    rise = dt * neuron.r / (neuron.tau if kind_of(neuron) == "LIF" else 1.0)
    scale = numbers(back, flat.nodes[back], "scale")
    if not np.allclose(-scale * rise, neuron.v_threshold, rtol=_ALIKE, atol=0):
        raise UsageError(
            f"node '{back}' (Scale): leads a spike back to '{membrane}' as a step of {(scale * rise).flat[0]:g} at "
            f"dt = {dt:g} s; legal is minus the threshold, {-neuron.v_threshold.flat[0]:g}: a spike that takes it off"
        )
