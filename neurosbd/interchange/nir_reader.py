"""A graph of NIR as a network."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from neurosbd.connections import Conv2d, Dense, Pooling
from neurosbd.connections.pooling import AveragePool, SumPool
from neurosbd.errors import UsageError
from neurosbd.interchange.nir_files import read_graph
from neurosbd.interchange.nir_graph import PASSES, WEIGHTS, Flat, flattened, kind_of
from neurosbd.interchange.nir_neurons import NEURON_NODES, Imported, imported, noted, scaled
from neurosbd.interchange.wiring import Wire, assembled, relay
from neurosbd.network import INPUT, Connection, Network, Population
from neurosbd.neurons import Identity

if TYPE_CHECKING:
    import nir

_DT = 1e-4  # s; what snnTorch takes for granted, as NIR has no step


def from_nir(graph: "nir.NIRGraph | str | Path", dt: float | None = None) -> Network:
    """The network that steps like a NIR graph under forward Euler with a step `dt`.

    Decays per step are those of Euler, exp(-dt / tau_mem) = 1 - dt / tau, so tau_mem is a little shorter than the
    graph's tau. Resets are to v_reset. Weights without a neuron behind them, at the output or before other weights,
    make an identity population; neurons without weights before them are reached by a fixed one-to-one connection.
    A loop is closed one step later. From a graph that `to_nir` made, the network it was made from: same weights,
    r, surrogates, names and plastic connections, up to the rounding of float32.

    Args:
        graph: or the path of a file, which is checked before it is read.
        dt: s; None: the one noted by `to_nir`, else 1e-4.
    Raises:
        UsageError: naming the node, and what can be read: Input, Output, Affine, Linear, Conv2d, SumPool2d, AvgPool2d,
            Flatten, Delay, LIF, CubaLIF, IF, LI, and graphs of these inside each other.
    Source: Pedersen et al. 2024, Nat. Commun. 15:8122 (NIR).
    """
    if isinstance(graph, str | Path):
        graph = read_graph(graph)
    about, flat = noted(graph), flattened(graph)
    try:
        dt = float(about.get("dt", _DT) if dt is None else dt)
        if not 0 < dt < math.inf:
            raise UsageError(f"from_nir: dt must be a time in s, > 0, got {dt}")
        return _Reader(flat, dt, about).network()
    except UsageError:
        raise
    except (TypeError, ValueError) as problem:  # TypeError: a note that is not of the kind that to_nir writes
        raise UsageError(f"this NIR graph makes no network: {problem}") from None


class _Way(NamedTuple):
    """From a population to the node that hears it."""

    pre: str
    pool: Pooling | None
    delay: int | None  # steps
    flat: bool


class _Reader:
    """Populations of a graph and how they are joined."""

    def __init__(self, flat: Flat, dt: float, about: dict[str, Any]) -> None:
        self.flat = flat
        self.dt = dt
        # A file forgets the order of its nodes.
        self.order = str(about.get("populations", "")).split("\n")
        self.joined = str(about.get("connections", "")).split("\n")
        self.neurons: dict[str, Imported] = {}
        self.names: dict[Any, str] = {}  # node, or successors that weights share, -> population
        self.groups: dict[str, list[str]] = {}  # identity population -> weight nodes that it sums
        for name, node in flat.nodes.items():
            kind = kind_of(node)
            if kind == "Input":
                self.names[name] = INPUT
            elif kind in NEURON_NODES:
                self.neurons[name] = imported(name, node, dt)
                self._call(name, noted(node).get("population", name))
        for name in flat.of(*WEIGHTS):
            self._group(name)
        self.sizes: dict[str, tuple[int, ...] | None] = {}

    def network(self) -> Network:
        """All of it."""
        wires = [self._wire(name) for name in self.flat.of(*WEIGHTS)]
        for name in self.neurons:
            relayed = [n for n in self.flat.before[name] if kind_of(self.flat.nodes[n]) not in WEIGHTS]
            for before in relayed:
                wires.append(self._relay(before, self.names[name]))
        populations = {INPUT: Population(INPUT, self._size(INPUT), None)}
        for node, found in self.neurons.items():
            populations[self.names[node]] = Population(self.names[node], found.size, found.neuron)
        for name in self.groups:
            populations[name] = Population(name, self._size(name), Identity())
        readout = self._readout(populations, wires)
        names = [wire.connection.name for wire in wires]
        if sorted(names) == sorted(self.joined):
            wires = [wires[names.index(name)] for name in self.joined]
        return assembled([populations[n] for n in self._ordered(list(populations), wires, readout)], wires, self.dt)

    def _call(self, key: Any, name: Any) -> None:
        """Name a population, differently from all others."""
        name = str(name).replace(".", "_")
        while not name or name == INPUT or name in self.names.values():
            name = f"{name}_"
        self.names[key] = name

    def _group(self, name: str) -> None:
        """Weights that no neuron follows make an identity population; those with the same followers share it."""
        after = self.flat.after[name]
        firing = [n for n in after if kind_of(self.flat.nodes[n]) in NEURON_NODES]
        if not after or (firing and len(after) > 1):
            raise UsageError(f"node '{name}': weights lead to one neuron node or to further weights, got {list(after)}")
        if firing:
            return
        key = tuple(sorted(after))
        if key not in self.names:
            fallback = "output" if kind_of(self.flat.nodes[key[0]]) == "Output" else name
            self._call(key, noted(self.flat.nodes[name]).get("post", fallback))
        self.groups.setdefault(self.names[key], []).append(name)

    def _post(self, weights: str) -> str:
        after = self.flat.after[weights]
        return self.names[after[0] if after[0] in self.neurons else tuple(sorted(after))]

    def _population(self, nodes: list[str], where: str) -> str:
        """The one population that these nodes show together."""
        shown = {self._post(n) if kind_of(self.flat.nodes[n]) in WEIGHTS else self.names[n] for n in nodes}
        if len(shown) != 1:
            raise UsageError(
                f"node '{where}' sums {sorted(shown)}; legal is one population here, or sums at neurons and at Output"
            )
        name = shown.pop()
        if name in self.groups and set(self.groups[name]) != set(nodes):
            raise UsageError(f"node '{where}' hears {nodes}, but these weights are summed with others elsewhere")
        return name

    def _way(self, before: list[str], where: str, average: bool = False) -> _Way:
        """Back over pooling, flattening and delays to the population."""
        pool, delay, flat, seen = None, None, False, set()
        while len(before) == 1 and kind_of(self.flat.nodes[before[0]]) in PASSES:
            name = before[0]
            node = self.flat.nodes[name]
            if name in seen or (pool is not None and kind_of(node).endswith("Pool2d")):
                raise UsageError(f"node '{name}': a second pooling, or a loop without neurons; legal is neither")
            seen.add(name)
            if kind_of(node) == "Delay":
                delay = (delay or 0) + self._steps(name, node)
            elif kind_of(node) == "Flatten":
                flat = True
            else:
                pool = _pooling(name, node, average)
            before = self.flat.before[name]
        return _Way(self._population(before, where), pool, delay, flat)

    def _steps(self, name: str, node: Any) -> int:
        delays = np.asarray(node.delay, np.float64) / self.dt
        steps = np.rint(delays)
        if not np.isfinite(delays).all() or (steps != steps.flat[0]).any() or (abs(delays - steps) > 1e-3).any():
            raise UsageError(f"node '{name}' (Delay): legal is one delay of whole steps of dt = {self.dt:g} s")
        return int(steps.flat[0])

    def _wire(self, name: str) -> Wire:
        """A connection with its weights."""
        node, about = self.flat.nodes[name], noted(self.flat.nodes[name])
        average = about.get("pool") == "average"
        way, post = self._way(self.flat.before[name], name, average), self._post(name)
        size = self._size(post)
        found = next((n for key, n in self.neurons.items() if self.names[key] == post), None)
        factor = np.ones(size) if found is None else found.factor
        weight, bias = _array(name, node, "weight"), _array(name, node, "bias")
        geometry, weight = self._geometry(name, node, way, weight)
        weight, bias = scaled(weight, bias, factor, f"node '{name}'")
        if average and way.pool is not None:
            weight = weight * np.float64(getattr(way.pool, "window", 1)) ** 2
        present = about.get("present")
        connection = Connection(way.pre, post, geometry, bool(about.get("plastic", 1)), way.delay)
        return Wire(
            connection,
            torch.from_numpy(np.asarray(weight, np.float32)),
            torch.from_numpy(np.asarray(bias, np.float32)) if geometry.bias else None,
            None if present is None else torch.from_numpy(np.asarray(present != 0, np.float32)),
        )

    def _geometry(self, name: str, node: Any, way: _Way, weight: np.ndarray) -> tuple[Dense | Conv2d, np.ndarray]:
        about = noted(node)
        biased = kind_of(node) != "Linear" and (bool(about.get("bias", 1)) or bool(np.any(node.bias)))
        sparsity, autapses = float(about.get("sparsity", 0.0)), bool(about.get("autapses", 1))
        if kind_of(node) != "Conv2d":
            if weight.ndim != 2:
                raise UsageError(f"node '{name}': its weight is {list(weight.shape)}; legal is [post, pre]")
            return Dense(way.pool, biased, sparsity, autapses), weight
        kernel, stride = _square(weight.shape[2:], name, "weight"), _square(node.stride, name, "stride")
        named = {"valid": 0, "same": kernel // 2} if kernel % 2 else {"valid": 0}
        text = isinstance(node.padding, str)
        if (
            int(node.groups) != 1
            or _square(node.dilation, name, "dilation") != 1
            or (text and node.padding not in named)
        ):
            raise UsageError(f"node '{name}' (Conv2d): legal are groups = 1, dilation = 1 and padding in pixels")
        padding = named[node.padding] if text else _square(node.padding, name, "padding")
        return Conv2d(kernel, stride, padding, way.pool, biased, sparsity), weight

    def _relay(self, before: str, post: str) -> Wire:
        way = self._way([before], post)
        arriving = self._size(way.pre) if way.pool is None else way.pool.size(self._size(way.pre))
        size = (math.prod(arriving),) if way.flat else arriving
        return relay(way.pre, post, size, way.pool, way.flat, way.delay)

    def _size(self, population: str) -> tuple[int, ...]:
        if population == INPUT:
            (source,) = self.flat.of("Input")
            return _shape(self.flat.nodes[source].input_type["input"], source)
        for node, found in self.neurons.items():
            if self.names[node] == population:
                return found.size
        if population not in self.sizes:
            self.sizes[population] = None
            self.sizes[population] = self._delivered(self.groups[population][0])
        size = self.sizes[population]
        if size is None:
            raise UsageError(f"population '{population}' is in a loop without a neuron; put one into it")
        return size

    def _delivered(self, name: str) -> tuple[int, ...]:
        """Size of what a weight node gives."""
        node = self.flat.nodes[name]
        weight = _array(name, node, "weight")
        if kind_of(node) != "Conv2d":
            return (len(weight),)
        way = self._way(self.flat.before[name], name)
        arriving = self._size(way.pre) if way.pool is None else way.pool.size(self._size(way.pre))
        shape, _ = self._geometry(name, node, way, weight)
        assert isinstance(shape, Conv2d)
        return len(weight), *((n + 2 * shape.padding - shape.kernel) // shape.stride + 1 for n in arriving[1:])

    def _readout(self, populations: dict[str, Population], wires: list[Wire]) -> str:
        """The population that the output shows; a linear one is added where it is pooled or flattened on the way."""
        (output,) = self.flat.of("Output")
        before = self.flat.before[output]
        if len(before) != 1 or kind_of(self.flat.nodes[before[0]]) not in PASSES:
            return self._population(before, output)
        self._call(output, "output")
        name = self.names[output]
        wire = self._relay(before[0], name)
        wires.append(wire)
        size = _shape(self.flat.nodes[output].output_type["output"], output)
        populations[name] = Population(name, size, Identity())
        return name

    def _ordered(self, names: list[str], wires: list[Wire], readout: str) -> list[str]:
        """As noted; else whoever hears only those before it comes next, and in a loop whoever was met first."""
        if sorted(self.order) == sorted(names) and self.order[-1] == readout:
            return self.order
        hears = {n: {w.connection.pre for w in wires if w.connection.post == n} - {n} for n in names}
        placed = [INPUT]
        while len(placed) < len(names):
            waiting = [n for n in names if n not in placed]
            ready = [n for n in waiting if hears[n] <= set(placed)]
            reached = [n for n in waiting if hears[n] & set(placed)]
            placed.append((ready or reached or waiting)[0])
        placed.remove(readout)
        return [*placed, readout]


def _pooling(name: str, node: Any, average: bool) -> Pooling:
    window, stride = _square(node.kernel_size, name, "kernel_size"), _square(node.stride, name, "stride")
    if _square(node.padding, name, "padding") != 0:
        raise UsageError(f"node '{name}': pools with padding = {node.padding}; legal is 0")
    side_by_side = 0 if stride == window else stride
    return (AveragePool if average or kind_of(node) == "AvgPool2d" else SumPool)(window, side_by_side)


def _square(value: Any, name: str, key: str) -> int:
    sides = np.ravel(value)
    if not len(sides) or (sides != sides[0]).any():
        raise UsageError(f"node '{name}': {key} = {sides.tolist()}; legal is a square one")
    return int(sides[0])


def _shape(value: Any, name: str) -> tuple[int, ...]:
    size = tuple(int(n) for n in np.ravel(value)) if value is not None else ()
    if len(size) not in (1, 3) or min(size) < 1:
        raise UsageError(f"node '{name}': its shape is {list(size)}; legal is [n] or [channels, height, width]")
    return size


def _array(name: str, node: Any, key: str) -> np.ndarray:
    """Weight or bias; no bias is a bias of zero."""
    value = getattr(node, key, None)
    if value is None:
        return np.zeros(len(node.weight))
    array = np.asarray(value, np.float64)
    if not np.isfinite(array).all():
        raise UsageError(f"node '{name}': its {key} has values that are not finite numbers")
    return array
