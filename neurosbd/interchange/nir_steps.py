"""What other tools write per step, where NIR has seconds."""

import torch

from neurosbd.errors import warn
from neurosbd.interchange.nir_graph import Flat, kind_of
from neurosbd.interchange.nir_neurons import CONSTANTS, NEURON_NODES, TIMES, numbers
from neurosbd.network.network import Connection, Network
from neurosbd.neurons import IF

_NORSE_DT = 1e-3  # s; by which norse.torch.to_nir multiplies time constants where it is not told another
_PATIENCE = 100  # steps under the strongest drive within which an IF should spike
_USER = 7  # frames from here to who called from_nir


def second(flat: Flat, dt: float) -> float:
    """What a graph writes for a second: 1, but 1e-3 if all its time constants were multiplied with the step of Norse.

    Args:
        flat: the graph.
        dt: of the network, s.
    """
    taus = [
        numbers(name, flat.nodes[name], key)
        for name in flat.of(*NEURON_NODES)
        for key in CONSTANTS[kind_of(flat.nodes[name])]
        if key in TIMES
    ]
    if not taus or not all(tau.size == 1 and 0 < tau.item() <= dt < tau.item() / _NORSE_DT for tau in taus):
        return 1.0
    least, most = (f([tau.item() for tau in taus]) for f in (min, max))
    warn(
        f"every time constant of this graph is shorter than the step, {least:g} to {most:g} s at dt = {dt:g} s: Norse "
        f"1.1 writes them times its own dt. Taken for {least / _NORSE_DT:g} to {most / _NORSE_DT:g} s, since its dt is "
        f"{_NORSE_DT:g} s where nothing else is said; to be sure, write it with norse.torch.to_nir(module, data, dt=1)",
        stacklevel=_USER,
    )
    return _NORSE_DT


def warn_of_silence(network: Network, nodes: dict[str, str]) -> None:
    """Say that an IF integrates so little in a step that it is as good as silent, as where r is meant per step.

    Args:
        network: as it was read.
        nodes: of its spiking populations that were not made by us, {population: node}.
    """
    for name, node in nodes.items():
        neuron = network.populations[name].neuron
        if not isinstance(neuron, IF):
            continue
        r, level = (torch.as_tensor(value).double() for value in (neuron.r, neuron.v_threshold))
        rise = (r / level).max().item() * sum(_strongest(network, c) for c in network.incoming[name])
        if rise * _PATIENCE < 1:
            steps = f"{1 / rise:,.0f} steps" if rise > 0 else "for ever"
            warn(
                f"node '{node}' (IF): with r = {r.max().item() / network.dt:g} and dt = {network.dt:g} s even a drive "
                f"from all its synapses takes {steps} to a spike, so it stays silent. If its r is meant per step, as "
                f"sinabs and Norse write it: from_nir(graph, dt=1)",
                stacklevel=_USER - 1,
            )


def _strongest(network: Network, connection: Connection) -> float:
    """The largest drive that a unit gets if every synapse of a connection carries a 1."""
    weight, bias = network.synapses(connection)
    drive = weight.detach().clamp_min(0).flatten(1).sum(1)
    return float((drive if bias is None else drive + bias.detach()).max())
