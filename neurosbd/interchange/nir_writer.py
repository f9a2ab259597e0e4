"""A network as a graph of NIR, the exchange format of neuromorphic simulators and chips."""

import keyword
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from neurosbd.connections import Conv2d, Dense, Geometry, Pooling
from neurosbd.connections.delayed import as_given
from neurosbd.connections.pooling import AveragePool, SumPool
from neurosbd.connections.sparse import Sparse
from neurosbd.errors import UsageError, warn
from neurosbd.interchange.nir_files import nir_package
from neurosbd.interchange.nir_neurons import Exported, Resets, exported, scaled
from neurosbd.interchange.nir_resets import spelt
from neurosbd.interchange.surrogates import Foreign
from neurosbd.network.delays import lags_of
from neurosbd.network.network import INPUT, Connection, Network

if TYPE_CHECKING:
    import nir


def to_nir(
    network: Network, metadata: Mapping[str, object] | None = None, resets: Resets | None = None
) -> "nir.NIRGraph":
    """The network as a NIR graph that steps like it, spike for spike, at the network's own dt.

    NIR is written for readers that integrate by forward Euler: tau = dt / (1 - exp(-dt / tau_mem)), so the decay
    per step is ours. Heads, which feed nothing, are left out. `r` of a neuron and the 1 / k^2 of an average pooling
    go into the next weights. Every array is float32 and in full shape, every weight has a bias. What the dynamics
    does not need but learning does (surrogates, r, which connections are plastic, masks, dt) is kept in the
    metadata, where `from_nir` finds it. Write the graph to a file with `nir.write(path, graph)`.

    Args:
        network: of LIF, CubaLIF and IF neurons with reset = 'to_value', LI and identity.
        metadata: more facts to keep in the graph, such as the learning rule: text, numbers, or dictionaries of them.
        resets: what becomes of LIF and IF neurons with another reset, which no neuron of NIR has. 'loop': exact, spelt
            out as LI (or I), Threshold and a Scale that leads back, which `from_nir` reads, snnTorch and Norse do not.
            'to_value' (CubaLIF too): put to v_reset, the same only up to the first spike of each neuron. None: refused.
    Returns:
        `nir.NIRGraph`. `snntorch.import_nir.import_from_nir` runs it if dt = 1e-4, `norse.torch.from_nir(graph,
        dt=dt)` with any; neither knows LI, Delay or v_reset, and snnTorch neither IF nor v_leak.
    Raises:
        UsageError: naming the population or connection and what NIR cannot say.
    Source: Pedersen et al. 2024, Nat. Commun. 15:8122 (NIR).
    """
    if resets not in (None, "loop", "to_value"):
        raise UsageError(f"to_nir: resets must be 'loop', 'to_value' or None, got {resets!r}")
    thinned = [name for name, population in network.populations.items() if population.dropout]
    if thinned:
        warn(f"NIR holds no dropout, so the graph is the network that does not learn ({', '.join(thinned)} send all)")
    if network.heads:
        warn(f"a NIR graph has one output: heads are left out of it ({', '.join(network.heads)})")
    return _Writer(network, resets).graph({} if metadata is None else metadata)


class _Writer:
    """Nodes and edges so far."""

    def __init__(self, network: Network, resets: Resets | None) -> None:
        self.network = network
        self.resets: Resets | None = resets
        self.nir: Foreign = nir_package()
        self.nodes: dict[str, Foreign] = {}
        self.edges: list[tuple[str, str]] = []
        self.loops: list[tuple[str, str]] = []  # edges of late connections
        self.factors: dict[str, np.ndarray] = {}
        self.shown: dict[str, list[str]] = {}  # population -> nodes whose sum is its activity
        self.driven: dict[str, str] = {}  # population -> node that its weights lead to
        self.linear: set[str] = set()  # populations without a node: what their weights deliver is their activity
        self.populations = {n: p for n, p in network.populations.items() if n not in network.heads}
        self.connections = {n: c for n, c in network.connections.items() if c.post not in network.heads}
        order = list(self.populations)
        self.late = {c.name for c in self.connections.values() if order.index(c.pre) >= order.index(c.post)}

    def graph(self, metadata: Mapping[str, object]) -> Foreign:
        """All of it."""
        network = self.network
        if INPUT not in network.populations:
            raise UsageError(
                f"a NIR graph begins with an input, but this network has none; give it a population '{INPUT}'"
            )
        self.nodes["input"] = self.nir.Input({"input": np.array(network.populations[INPUT].size)})
        self.shown[INPUT] = ["input"]
        weights = {name: self._reserve(f"w_{c.pre}_{c.post}") for name, c in self.connections.items()}
        for name, population in self.populations.items():
            if population.neuron is None:
                continue
            made = exported(name, population.neuron, population.size, network.dt, self.resets)
            self.factors[name] = made.factor
            if made.node is None:
                self.linear.add(name)
                self.shown[name] = [weights[c.name] for c in network.incoming[name]]
            else:
                self._put(name, made, getattr(population.neuron, "reset", None) == "subtract")
        for name, connection in self.connections.items():
            self._join(connection, weights[name])
        readout = network.readout
        self.nodes["output"] = self.nir.Output({"output": np.array(network.populations[readout].size)})
        self.edges += [(node, "output") for node in self.shown[readout]]
        about = {
            "dt": network.dt,
            "populations": "\n".join(self.populations),
            "connections": "\n".join(self.connections),
        }
        # Norse follows the edges in their order and takes the last node it comes by for the output: loops first.
        return self.nir.NIRGraph(self.nodes, self.loops + self.edges, metadata={**metadata, "neurosbd": about})

    def _put(self, name: str, made: Exported, subtract: bool) -> None:
        """The node of a population, or the nodes that spell its reset out."""
        self.driven[name] = key = self._reserve(name)
        self.nodes[key], self.shown[name] = made.node, [key]
        if made.fires is None or made.rise is None:
            return
        parts = spelt(made.node, made.fires, made.rise, subtract)
        fire = self._reserve(f"fire_{name}")
        self.nodes[fire], self.shown[name] = parts.fire, [fire]
        self.edges.append((key, fire))
        if parts.back is not None:
            back = self._reserve(f"reset_{name}")
            self.nodes[back] = parts.back
            self.loops += [(fire, back), (back, key)]

    def _reserve(self, name: str) -> str:
        """A name that the modules of every reader accept, like it and not yet taken."""
        name = re.sub(r"\W", "_", name)
        taken = {"input", "output", *self.nodes, *dir(nn.ModuleDict)}
        while name in taken or keyword.iskeyword(name) or not name[:1].isalpha():
            name = f"n_{name}"
        self.nodes[name] = None
        return name

    def _join(self, connection: Connection, name: str) -> None:
        """Pooling, flattening, delay and weights of a connection, in a row."""
        network, late = self.network, connection.name in self.late
        if late and connection.pre in self.linear:
            raise UsageError(
                f"connection '{connection.name}': goes back from the identity population '{connection.pre}', which NIR "
                f"has no node for; give it a neuron"
            )
        if connection.transmission.lasts:
            raise UsageError(
                f"connection '{connection.name}': has dynamics of its own, which NIR has no node for; leave out its "
                f"synapse and short_term, or take neuron 'cubalif' for an exponential one"
            )
        size = network.populations[connection.pre].size
        edges = self.loops if late else self.edges
        before = self.shown[connection.pre]
        for node, kind in self._way(connection, size, late):
            key = self._reserve(f"{kind}_{connection.pre}_{connection.post}")
            self.nodes[key] = node
            edges += [(source, key) for source in before]
            before = [key]
        self.nodes[name] = self._weights(connection)
        edges += [(source, name) for source in before]
        pool = getattr(connection.geometry, "pool_drive", None)
        if pool is not None:
            name = self._pool_drive(connection, pool, name, edges)
        if connection.post not in self.linear:
            edges.append((name, self.driven[connection.post]))

    def _pool_drive(self, connection: Connection, pool: Pooling, weights: str, edges: list[tuple[str, str]]) -> str:
        """The pooling between weights and neuron, joined to the weights; its name."""
        if connection.post in self.linear:
            raise UsageError(
                f"connection '{connection.name}': pools the drive of an identity population, which NIR has no node "
                f"for; pool on the next connection (pool = ...), or give '{connection.post}' a neuron"
            )
        key = self._reserve(f"pool_{connection.post}")
        self.nodes[key] = self._pooling(connection, pool)
        edges.append((weights, key))
        return key

    def _pooling(self, connection: Connection, pool: Pooling) -> Foreign:
        """The node of a pooling; the 1 / k^2 of a mean goes into weights."""
        if not isinstance(pool, AveragePool | SumPool):
            raise UsageError(
                f"connection '{connection.name}': NIR has no {type(pool).__name__}; legal are average and sum"
            )
        return self.nir.SumPool2d(*(np.array([side, side]) for side in (pool.window, pool.stride or pool.window, 0)))

    def _way(self, connection: Connection, size: tuple[int, ...], late: bool) -> list[tuple[Foreign, str]]:
        """Nodes between the activity and the weights."""
        geometry, way = connection.geometry, []
        pool = getattr(as_given(geometry), "pool", None)
        if pool is not None:
            way.append((self._pooling(connection, pool), "pool"))
            size = pool.size(size)
        if isinstance(geometry, Dense | Sparse) and (len(size) > 1 or late):
            # Counted from the back, so that it holds with and without a batch. On the way of a loop it flattens
            # nothing, but keeps snnTorch from taking neuron and weights for its own recurrent cell, which it is not.
            way.append((self.nir.Flatten({"input": np.array(size)}, -len(size), -1), "flat"))
            size = (int(np.prod(size)),)
        steps = self.network.delays[connection.name]
        if steps > (1 if late else 0):
            way.append((self.nir.Delay(np.full(size, steps * self.network.dt, np.float32)), "delay"))
        return way

    def _all_pairs(self, connection: Connection) -> tuple[Geometry, Tensor, Tensor | None]:
        """Geometry, weight and mask; of a list of synapses those of all pairs, since NIR knows no lists."""
        geometry, weight = connection.geometry, self.network.weights[connection.name]
        if lags_of(connection):
            raise UsageError(
                f"connection '{connection.name}': its synapses have delays of their own, and NIR has one delay for all "
                f"that a unit sends; give it one, such as delay = '1.5 ms'"
            )
        if isinstance(geometry, Sparse):
            return geometry.dense, geometry.spread(weight.detach()), geometry.spread(torch.ones_like(weight))
        return geometry, weight, self.network.present(connection)

    def _weights(self, connection: Connection) -> Foreign:
        """The node of the weights, folded."""
        geometry, weight, present = self._all_pairs(connection)
        if not isinstance(geometry, Dense | Conv2d):
            raise UsageError(
                f"connection '{connection.name}': NIR has no weights for {type(geometry).__name__}; legal are dense "
                f"and conv2d"
            )
        factor = self.factors[connection.post]
        where = f"population '{connection.post}'"
        pool = geometry.pool
        about: dict[str, Foreign] = {
            "post": connection.post,
            "plastic": int(connection.plastic),
            "bias": int(geometry.bias),
        }
        weight, own = _array(weight), self.network.synapses(connection).bias
        bias = np.zeros(len(weight)) if own is None else _array(own)
        weight, bias = scaled(weight, bias, factor, where)
        if isinstance(pool, AveragePool):
            weight = weight / pool.window**2
            about["pool"] = "average"
        behind = getattr(geometry, "pool_drive", None)
        if isinstance(behind, AveragePool):
            weight, bias = weight / behind.window**2, bias / behind.window**2
            about["pool_drive"] = "average"
        if connection.constraints:
            kinds = ", ".join(type(constraint).__name__ for constraint in connection.constraints)
            warn(f"connection '{connection.name}': NIR holds no constraints, so {kinds} will be lost in the file")
        if present is not None:
            wired = getattr(geometry, "wiring", None) is not None
            about["sparsity"] = 1 - present.mean().item() if wired else geometry.sparsity
            about["present"] = _array(present).astype(np.uint8)
            about["autapses"] = int(getattr(geometry, "autapses", True))
        kept = {"neurosbd": about}
        weight, bias = weight.astype(np.float32), bias.astype(np.float32)
        if isinstance(geometry, Dense):
            return self.nir.Affine(weight, bias, metadata=kept)
        size = self.network.populations[connection.pre].size
        arriving = pool.size(size) if pool else size
        sides = ((side, side) for side in (geometry.stride, geometry.padding, 1))
        stride, padding, dilation = sides
        return self.nir.Conv2d(arriving[1:], weight, stride, padding, dilation, 1, bias, metadata=kept)


def _array(value: Tensor) -> np.ndarray:
    return value.detach().cpu().contiguous().double().numpy()
