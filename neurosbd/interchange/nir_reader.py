"""A graph of NIR as a network."""

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from neurosbd.connections import Conv2d, Dense, Pooling
from neurosbd.connections.kernels import driven
from neurosbd.errors import UsageError
from neurosbd.interchange.nir_files import nir_package, read_graph
from neurosbd.interchange.nir_geometry import bounded, declared, geometry, pooling
from neurosbd.interchange.nir_graph import PASSES, POOLS, WEIGHTS, Flat, flattened, kind_of
from neurosbd.interchange.nir_neurons import NEURON_NODES, imported, noted, numbers, scaled, shape_of
from neurosbd.interchange.nir_resets import joined
from neurosbd.interchange.nir_steps import second, warn_of_silence
from neurosbd.interchange.surrogates import Foreign
from neurosbd.interchange.wiring import Wire, assembled, relay
from neurosbd.network.network import INPUT, Connection, Network, Population
from neurosbd.neurons import Identity

if TYPE_CHECKING:
    import nir

_DT = 1e-4  # s; what snnTorch takes for granted, as NIR has no step
_MOST_STEPS = 2**16  # of a delay
_FAULTS = (TypeError, ValueError, LookupError, ArithmeticError, AttributeError, RecursionError)


def from_nir(graph: "nir.NIRGraph | str | Path", dt: float | None = None) -> Network:
    """The network that steps like a NIR graph under forward Euler with a step `dt`.

    Decays per step are those of Euler, exp(-dt / tau_mem) = 1 - dt / tau, so tau_mem is a little shorter than the
    graph's tau. Resets are to v_reset. Weights without a neuron behind them, at the output or before other weights,
    make an identity population; neurons without weights before them are reached by a fixed one-to-one connection.
    A loop is closed one step later. A constant that is one value, scalar or [1], holds for all units that arrive at its
    node. From a graph that `to_nir` made, the network it was made from: same weights,
    r, surrogates, names and plastic connections, up to the rounding of float32.

    Args:
        graph: or the path of a file, which is checked before it is read.
        dt: s; None: the one noted by `to_nir`, else 1e-4.
    Raises:
        UsageError: naming the node, and what can be read: Input, Output, Affine, Linear, Conv2d, SumPool2d, AvgPool2d,
            Flatten, Delay, LIF, CubaLIF, IF, LI, an LI or I with a Threshold behind it, and graphs of these inside each
            other.
    Source: Pedersen et al. 2024, Nat. Commun. 15:8122 (NIR).
    """
    if isinstance(graph, str | Path):
        path, graph = graph, read_graph(graph)
        try:
            return _network(graph, dt)
        except UsageError as problem:
            raise UsageError(f"{path}: {problem}") from None
    if not isinstance(graph, nir_package().NIRGraph):
        raise UsageError(f"from_nir: graph must be a nir.NIRGraph or the path of a file, got {type(graph).__name__}")
    return _network(graph, dt)


def _network(graph: object, dt: float | None) -> Network:
    try:
        about, flat = noted(graph), flattened(graph)
        dt = float(about.get("dt", _DT) if dt is None else dt)
        if not 0 < dt < math.inf:
            raise UsageError(f"from_nir: dt must be a time in s, > 0, got {dt}")
        return _Reader(joined(flat, dt), dt, about).network()
    except UsageError:
        raise
    except _FAULTS as problem:  # such as a note that is not of the kind that to_nir writes, or a chain without an end
        reason = str(problem) or type(problem).__name__
        raise UsageError(f"this NIR graph makes no network: {reason}") from None


class _Loop(UsageError):
    """The size of a population depends on itself."""


class _Way(NamedTuple):
    """From a population to the node that hears it."""

    pre: str
    pool: Pooling | None
    delay: int | None  # steps
    flat: bool


class _Reader:
    """Populations of a graph and how they are joined."""

    def __init__(self, flat: Flat, dt: float, about: dict[str, Foreign]) -> None:
        self.flat = flat
        self.dt = dt
        # A file forgets the order of its nodes.
        self.order = str(about.get("populations", "")).split("\n")
        self.joined = str(about.get("connections", "")).split("\n")
        self.names: dict[Foreign, str] = {}  # node, or successors that weights share, -> population
        self.groups: dict[str, list[str]] = {}  # identity population -> weight nodes that it sums
        self.pooled: dict[str, str] = {}  # convolution -> pooling between it and its neuron
        for name, node in flat.nodes.items():
            kind = kind_of(node)
            if kind == "Input":
                self.names[name] = INPUT
            elif kind in NEURON_NODES:
                self._call(name, noted(node).get("population", name))
        self._find_pooled_drives()
        for name in flat.of(*WEIGHTS):
            self._group(name)
        self.sizes: dict[str, tuple[int, ...] | None] = {}
        firing = flat.of(*NEURON_NODES)
        unit = second(flat, dt)
        self.neurons = {n: imported(n, flat.nodes[n], self._size(self.names[n]), dt, unit) for n in firing}

    def network(self) -> Network:
        """All of it."""
        wires = [self._wire(name) for name in self.flat.of(*WEIGHTS)]
        drives = {*self.flat.of(*WEIGHTS), *self.pooled.values()}
        for name in self.neurons:
            relayed = [n for n in self.flat.before[name] if n not in drives]
            for before in relayed:
                wires.append(self._relay(before, self.names[name]))
        populations = {INPUT: Population(INPUT, self._size(INPUT), None)}
        for node, found in self.neurons.items():
            populations[self.names[node]] = Population(self.names[node], self._size(self.names[node]), found.neuron)
        for name in self.groups:
            populations[name] = Population(name, self._size(name), Identity())
        readout = self._readout(populations, wires)
        names = [wire.connection.name for wire in wires]
        if sorted(names) == sorted(self.joined):
            wires = [wires[names.index(name)] for name in self.joined]
        order = self._ordered(list(populations), wires, readout)
        populations[readout] = replace(populations[readout], role="readout")
        network = assembled([populations[n] for n in order], wires, self.dt)
        warn_of_silence(network, {self.names[n]: n for n in self.neurons if "r" not in noted(self.flat.nodes[n])})
        return network

    def _call(self, key: object, name: object) -> None:
        """Name a population, differently from all others."""
        name = str(name).replace(".", "_")
        while not name or name == INPUT or name in self.names.values():
            name = f"{name}_"
        self.names[key] = name

    def _find_pooled_drives(self) -> None:
        """Pooling that leads from convolutions to a neuron and nowhere else is part of their connections."""
        for pool in self.flat.of(*POOLS):
            before, after = self.flat.before[pool], self.flat.after[pool]
            alone = all(kind_of(self.flat.nodes[n]) == "Conv2d" and self.flat.after[n] == [pool] for n in before)
            if alone and len(after) == 1 and kind_of(self.flat.nodes[after[0]]) in NEURON_NODES:
                self.pooled |= dict.fromkeys(before, pool)

    def _after(self, weights: str) -> list[str]:
        """Who hears weights, behind the pooling of their drive."""
        return self.flat.after[self.pooled.get(weights, weights)]

    def _group(self, name: str) -> None:
        """Weights that no neuron follows make an identity population; those with the same followers share it."""
        after = self._after(name)
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
        after = self._after(weights)
        firing = kind_of(self.flat.nodes[after[0]]) in NEURON_NODES
        return self.names[after[0] if firing else tuple(sorted(after))]

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
                flat = flat or _flattens(name, node)
            else:
                pool = pooling(name, node, average)
            before = self.flat.before[name]
        return _Way(self._population(before, where), pool, delay, flat)

    def _steps(self, name: str, node: object) -> int:
        delays = numbers(name, node, "delay").ravel()
        steps = np.rint(delays / self.dt)
        uneven = not len(steps) or (steps != steps[0]).any()
        if uneven or (abs(delays / self.dt - steps) > 1e-3).any() or not 0 <= steps[0] <= _MOST_STEPS:
            some = np.unique(delays)[:3]
            listed, counted = (", ".join(f"{d:g}" for d in values) for values in (some, some / self.dt))
            raise UsageError(
                f"node '{name}' (Delay): delay = {listed} s is {counted} steps of dt = {self.dt:g} s; legal is one "
                f"delay for all, of 0 to {_MOST_STEPS:,} whole steps"
            )
        return int(steps[0])

    def _wire(self, name: str) -> Wire:
        """A connection with its weights."""
        node, about = self.flat.nodes[name], noted(self.flat.nodes[name])
        average = about.get("pool") == "average"
        way, post = self._way(self.flat.before[name], name, average), self._post(name)
        found = next((n for key, n in self.neurons.items() if self.names[key] == post), None)
        factor = np.ones(()) if found is None else found.factor
        shape, weight = self._geometry(name, way.pool), numbers(name, node, "weight")
        self._check_fit(name, way, post, shape, weight.shape)
        if average and way.pool is not None:
            weight = weight * np.float64(getattr(way.pool, "window", 1)) ** 2
        bias = numbers(name, node, "bias") if shape.bias else None
        if about.get("pool_drive") == "average" and isinstance(shape, Conv2d) and shape.pool_drive is not None:
            factor = factor * np.float64(getattr(shape.pool_drive, "window", 1)) ** 2
        weight, bias = scaled(weight, bias, factor, f"node '{name}'")
        present = about.get("present")
        return Wire(
            Connection(way.pre, post, shape, bool(about.get("plastic", 1)), way.delay),
            torch.from_numpy(np.asarray(weight, np.float32)),
            None if bias is None else torch.from_numpy(np.asarray(bias, np.float32)),
            None if present is None else torch.from_numpy(np.asarray(present != 0, np.float32)),
        )

    def _geometry(self, name: str, pool: Pooling | None) -> Dense | Conv2d:
        """How a weight node joins two populations, with the pooling before it and behind it."""
        node = self.flat.nodes[name]
        shape = geometry(name, node, pool)
        if name not in self.pooled or not isinstance(shape, Conv2d):
            return shape
        behind = self.pooled[name]
        average = noted(node).get("pool_drive") == "average"
        return replace(shape, pool_drive=pooling(behind, self.flat.nodes[behind], average))

    def _check_fit(self, name: str, way: _Way, post: str, shape: Foreign, there: tuple[int, ...]) -> None:
        """Compare a weight with the sizes of its two populations."""
        where = f"node '{name}' ({kind_of(self.flat.nodes[name])}), connection '{way.pre}->{post}'"
        try:
            needed = shape.weight_shape(self._size(way.pre), self._size(post))
        except ValueError as problem:
            raise UsageError(f"{where}: {problem}") from None
        if needed != there:
            raise UsageError(
                f"{where}: its weight has shape {list(there)}, between a population of {list(self._size(way.pre))} and "
                f"one of {list(self._size(post))} it needs {list(needed)}"
            )

    def _relay(self, before: str, post: str) -> Wire:
        way = self._way([before], post)
        size, there = self._arriving(way), self._size(post)
        if size != there:
            raise UsageError(f"population '{post}' has size {list(there)}, but {list(size)} arrives from '{before}'")
        return relay(way.pre, post, size, way.pool, way.flat, way.delay)

    def _size(self, population: str) -> tuple[int, ...]:
        if population not in self.sizes:
            self.sizes[population] = None
            node = next((key for key, name in self.names.items() if name == population), None)
            self.sizes[population] = self._measured(population, node)
        size = self.sizes[population]
        if size is None:
            raise _Loop(f"population '{population}' is in a loop without a neuron; put one into it")
        return size

    def _measured(self, population: str, node: Foreign) -> tuple[int, ...]:
        if population == INPUT:
            return declared(self.flat.nodes[node], "input", node)
        if population in self.groups:
            return self._delivered(self.groups[population][0])
        return self._units(node)

    def _units(self, name: str) -> tuple[int, ...]:
        """Size of a neuron node: that of its constants, or where they are one value for all, what arrives."""
        shape, where = shape_of(name, self.flat.nodes[name]), f"node '{name}' ({kind_of(self.flat.nodes[name])})"
        if math.prod(shape) != 1 and 1 not in shape:
            return bounded(shape, where)
        for before in self.flat.before[name]:
            weights = next((w for w, pool in self.pooled.items() if pool == before), before)
            try:
                drives = kind_of(self.flat.nodes[weights]) in WEIGHTS
                size = self._delivered(weights) if drives else self._arriving(self._way([before], name))
            except _Loop:
                continue
            if math.prod(shape) != 1 and not _spreads(shape, size):
                raise UsageError(f"{where}: its constants have shape {list(shape)}, but {list(size)} arrives")
            return bounded(size, where)
        return bounded(shape, where)

    def _arriving(self, way: _Way) -> tuple[int, ...]:
        """What comes out of the last population, after pooling and flattening."""
        size = self._size(way.pre)
        try:
            size = size if way.pool is None else way.pool.size(size)
        except ValueError as problem:
            raise UsageError(f"pooling of population '{way.pre}': {problem}") from None
        return (math.prod(size),) if way.flat else size

    def _delivered(self, name: str) -> tuple[int, ...]:
        """Size of what a weight node gives."""
        node, where = self.flat.nodes[name], f"node '{name}' ({kind_of(self.flat.nodes[name])})"
        shape, weight = self._geometry(name, None), numbers(name, node, "weight")
        if not isinstance(shape, Conv2d):
            return bounded((len(weight),), where)
        arriving = self._arriving(self._way(self.flat.before[name], name))
        if len(arriving) != 3 or min(arriving[1:]) + 2 * shape.padding < shape.kernel:
            raise UsageError(f"{where}: a kernel of {shape.kernel} does not fit into what arrives, {list(arriving)}")
        size = bounded((len(weight), *driven(shape, arriving)), where)
        try:
            return size if shape.pool_drive is None else shape.pool_drive.size(size)
        except ValueError as problem:
            raise UsageError(f"node '{self.pooled[name]}': {problem}") from None

    def _readout(self, populations: dict[str, Population], wires: list[Wire]) -> str:
        """The population that the output shows; a linear one is added where it is pooled or flattened on the way."""
        (output,) = self.flat.of("Output")
        before = self.flat.before[output]
        if len(before) != 1 or kind_of(self.flat.nodes[before[0]]) not in PASSES:
            return self._population(before, output)
        self._call(output, "output")
        name = self.names[output]
        self.sizes[name] = self._arriving(self._way(before, output))
        wire = self._relay(before[0], name)
        wires.append(wire)
        populations[name] = Population(name, self._size(name), Identity())
        return name

    def _ordered(self, names: list[str], wires: list[Wire], readout: str) -> list[str]:
        """As noted; else whoever hears only those before it comes next, and in a loop whoever was met first."""
        if sorted(self.order) == sorted(names):
            return self.order
        hears = {n: {w.connection.pre for w in wires if w.connection.post == n} - {n} for n in names}
        placed = [INPUT]
        while len(placed) < len(names):
            there = set(placed)
            waiting = [n for n in names if n not in there]
            ready = [n for n in waiting if hears[n] <= there]
            reached = [n for n in waiting if hears[n] & there]
            placed.append((ready or reached or waiting)[0])
        placed.remove(readout)
        return [*placed, readout]


def _spreads(shape: tuple[int, ...], size: tuple[int, ...]) -> bool:
    """Whether constants of a shape give every unit of a size one value; axes keep their places."""
    return len(shape) == len(size) and all(m in (1, n) for m, n in zip(shape, size, strict=True))


def _flattens(name: str, node: Foreign) -> bool:
    """Whether a Flatten makes a vector of all axes, counted with a batch or without; it may flatten nothing."""
    first, last = node.start_dim, node.end_dim
    if int(first) not in (0, 1, -3, -1) or int(last) not in (-1, 2, 3, 0):
        raise UsageError(
            f"node '{name}' (Flatten): flattens axes {first} to {last}; legal is all of them, 0 or 1 to -1"
        )
    return True
