"""An nn.Sequential becomes a network with the same weights and the same output."""

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from neurosbd.connections import Conv2d, Pooling
from neurosbd.connections.pooling import MaxPool
from neurosbd.errors import UsageError, warn
from neurosbd.interchange.adapter import Cell, family
from neurosbd.interchange.advice import advice, warn_of_silence
from neurosbd.interchange.layers import (
    TRANSLATES,
    activation,
    check_weights,
    driven,
    geometry,
    is_dropout,
    onto_itself,
    passes_on,
    pooling,
    work_of,
)  # fmt: skip
from neurosbd.interchange.translate import translated
from neurosbd.interchange.wiring import MOST_UNITS, Wire, assembled, relay, renamed
from neurosbd.network.network import INPUT, Connection, Network, Population
from neurosbd.neurons import Identity
from neurosbd.neurons.neuron import Neuron


def from_torch(module: nn.Module, input_size: int | Sequence[int], dt: float = 1e-3) -> Network:
    """A network that computes what a torch module computes in eval mode, ready for local learning.

    Weights are copied. A layer of weights and what follows it become a population; pooling between a convolution and
    its neuron belongs to their connection (`pool_drive`), other pooling and Flatten to the next one; weights that no
    activation follows get a linear population, so the readout of `..., nn.Linear` is linear. Neurons of snnTorch,
    Norse and SpikingJelly become our own where these do exactly the same (tried over a run before they are taken),
    else they go on as they are behind `interchange.Cell`; the weights inside RLeaky and RSynaptic become a recurrent
    connection. Dropout is left out, as in eval mode. A neuron without weights before it (after a second pooling, at
    the input) is reached by a fixed one-to-one connection, which does not learn. Populations are named 'input',
    'hidden1', ..., 'output'. Spiking populations that stay silent in a short trial are named in a warning.

    Args:
        module: `nn.Sequential`, nested or not, or one of the modules that can be translated.
        input_size: units, or [channels, height, width], without the batch.
        dt: duration of a step, s. Decays per step are kept, so it sets the time constants only; Norse cells
            hold their own and must agree.
    Returns:
        A network in the dtype and on the device of the module. Rate networks give the output in one step,
        `network(x)`; spiking ones step by step, from the state that fresh cells start in.
    Raises:
        UsageError: naming the module, its place, and what can be translated.

    >>> import torch
    >>> module = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
    >>> network = from_torch(module, 4)
    >>> x = torch.rand(5, 4)
    >>> torch.allclose(network(x), module(x), atol=1e-6)
    True
    """
    if not 0 < dt < math.inf:
        raise UsageError(f"from_torch: dt must be a time in s, > 0, got {dt}")
    builder = _Builder(_checked(input_size), dt)
    place, seen = "", _Seen()
    for place, leaf in _leaves(module):
        try:
            seen.check(place, leaf)
            builder.add(leaf)
        except ValueError as problem:
            raise UsageError(
                f"module '{place}' ({type(leaf).__name__}): {problem}. Translated are: {TRANSLATES}"
            ) from None
    try:
        network = builder.finished()
    except ValueError as problem:
        raise UsageError(f"from_torch, after module '{place}': {problem}") from None
    some = next(module.parameters(), None)
    network = network if some is None else network.to(device=some.device, dtype=some.dtype)
    if module.training and seen.dropouts:
        left_out = ", ".join(seen.dropouts)
        warn(f"from_torch: the module is in train mode; its Dropouts ({left_out}) are left out, as in eval mode")
    warn_of_silence(network)
    return network


def _checked(input_size: int | Sequence[int]) -> tuple[int, ...]:
    """The size as whole numbers."""
    try:
        size = tuple(operator.index(n) for n in ((input_size,) if isinstance(input_size, int) else input_size))
    except TypeError:
        size = ()
    if len(size) not in (1, 3) or min(size) < 1 or isinstance(input_size, bool):
        raise UsageError(f"from_torch: input_size must be units or [channels, height, width], got {input_size!r}")
    if math.prod(size) > MOST_UNITS:
        raise UsageError(f"from_torch: input_size = {input_size} has more than {MOST_UNITS:,} units; refused")
    return size


def _leaves(module: nn.Module, place: str = "", inside: tuple[nn.Module, ...] = ()) -> Iterator[tuple[str, nn.Module]]:
    """Modules in their order, nested Sequentials opened, with their place: '2.0'; one used twice comes twice."""
    if not isinstance(module, nn.Sequential):
        yield place, module
        return
    if module in inside:
        raise UsageError(f"module '{place}' ({type(module).__name__}) contains itself; legal is a chain of layers")
    for name, child in module._modules.items():
        if child is not None:
            yield from _leaves(child, f"{place}.{name}" if place else name, (*inside, module))


class _Seen:
    """What is looked at across modules: whether they share weights or state, their dtype, what is left out."""

    def __init__(self) -> None:
        self.places: dict[int, str] = {}
        self.dtype: tuple[str, torch.dtype] | None = None
        self.dropouts: list[str] = []

    def check(self, place: str, module: nn.Module) -> None:
        """ValueError if weights or state are used twice, or are not all of one dtype."""
        kept = [module] if family(module) else list(module.parameters(recurse=False))
        for part in kept:
            first = self.places.setdefault(id(part), place)
            if first != place:
                raise ValueError(
                    f"shares its {'state' if part is module else 'weights'} with module '{first}', which would become "
                    f"two that go apart; give each place a module of its own (copy.deepcopy)"
                )
        for parameter in module.parameters():
            first, dtype = self.dtype = self.dtype or (place, parameter.dtype)
            if parameter.dtype != dtype and not family(module):
                raise ValueError(
                    f"is {parameter.dtype}, module '{first}' is {dtype}; legal is one for all: module.to(...)"
                )
        if is_dropout(module):
            self.dropouts.append(f"'{place}'")
        if module._forward_hooks or module._forward_pre_hooks:
            raise ValueError("has forward hooks, which cannot be carried over; remove them (or fold weight_norm) first")


class _Builder:
    """Populations so far, and what waits for the next one."""

    def __init__(self, size: tuple[int, ...], dt: float) -> None:
        self.dt = dt
        self.populations = [Population(INPUT, size, None)]
        self.wires: list[Wire] = []
        self.weights: nn.Linear | nn.Conv2d | None = None  # seen, but not yet what follows them
        self.pool: Pooling | None = None  # on the way from the last population
        self.flat = False
        self.bare = False  # whether the last population was made for weights without an activation

    def add(self, module: nn.Module) -> None:
        """Take the next module; ValueError says what is wrong with it."""
        if passes_on(module):
            return
        if work_of(module) in (nn.Linear, nn.Conv2d):
            self._finish()
            assert isinstance(module, nn.Linear | nn.Conv2d)
            check_weights(module)
            self._check_units(driven(module, self.pool, self.populations[-1].size, self.flat))
            self.weights = module
        elif isinstance(module, nn.Flatten):
            if (module.start_dim, module.end_dim) not in ((1, -1), (1, 3)):
                raise ValueError(
                    f"flattens {module.start_dim} to {module.end_dim}; legal is all but the batch, 1 to -1"
                )
            self._finish()
            self.flat = self.flat or len(self._arriving()) == 3
        elif (pool := pooling(module)) is not None:
            self._finish()
            if self.pool is not None:
                self._populate(Identity())
            self._check_maps(pool)
            self.pool = pool
        elif (neuron := activation(module)) is not None:
            self._activate(neuron)
        elif family(module) is not None:
            self._spike(module)
        else:
            raise ValueError(f"cannot be translated{advice(module)}")

    def finished(self) -> Network:
        """The network; what is still waiting becomes a linear readout."""
        if self.weights is not None or self.pool is not None or self.flat or len(self.populations) == 1:
            self._populate(Identity())
        names = {p.name: f"hidden{i}" for i, p in enumerate(self.populations) if i}
        names[self.populations[-1].name] = "output"
        return assembled(*renamed(self.populations, self.wires, names), self.dt)

    def _arriving(self) -> tuple[int, ...]:
        """What comes out of the last population, after pooling and flattening."""
        size = self.populations[-1].size
        size = self.pool.size(size) if self.pool else size
        return (torch.Size(size).numel(),) if self.flat else size

    def _check_units(self, size: tuple[int, ...]) -> None:
        if math.prod(size) > MOST_UNITS:
            raise ValueError(f"makes {list(size)}, more than {MOST_UNITS:,} units; refused")

    def _check_maps(self, pool: Pooling) -> None:
        if self.flat:
            raise ValueError("pools a vector; put it before the Flatten")
        pool.size(self.populations[-1].size)

    def _finish(self) -> None:
        """Weights that nothing follows get a linear population."""
        if self.weights is not None:
            self._populate(Identity())
            self.bare = True

    def _activate(self, neuron: Neuron) -> None:
        last = self.populations[-1]
        # A rising function may as well come before the maximum, or before the order of units changes.
        if self.bare and self.weights is None and (self.pool is None or isinstance(self.pool, MaxPool)):
            self.populations[-1] = replace(last, neuron=neuron)
            self.bare = False
        elif self._pools_a_drive():
            self._take_over(neuron)
        else:
            self._populate(neuron)

    def _spike(self, module: nn.Module) -> None:
        size = self._next_size()
        found = translated(module, size, self.dt)
        own = not isinstance(found.neuron, Cell) and found.recurrent is None
        waiting = self.bare and self.weights is None and (self.pool is None or self._pools_a_drive())
        if waiting and (own or not self.flat):
            self._take_over(found.neuron)  # before the Flatten
        else:
            self._populate(found.neuron)
        if found.recurrent is not None:
            connection = onto_itself(found.recurrent, self.populations[-1].name)
            self.wires.append(_wire(connection, found.recurrent))

    def _pools_a_drive(self) -> bool:
        """Whether pooling has come between a convolution and a neuron that may follow now."""
        return self.bare and self.pool is not None and isinstance(self.wires[-1].connection.geometry, Conv2d)

    def _take_over(self, neuron: Neuron) -> None:
        """The population that waits for its neuron gets it, and the pooling on the way becomes that of its drive."""
        last = self.populations[-1]
        size = last.size if self.pool is None else self.pool.size(last.size)
        if self.pool is not None:
            connection = self.wires[-1].connection
            pooled = replace(connection.geometry, pool_drive=self.pool)  # type: ignore[type-var]
            self.wires[-1] = replace(self.wires[-1], connection=replace(connection, geometry=pooled))
        self.populations[-1] = replace(last, size=size, neuron=_laid_out(neuron, size))
        self.pool, self.bare = None, False

    def _next_size(self) -> tuple[int, ...]:
        if self.weights is None:
            return self._arriving()
        return driven(self.weights, self.pool, self.populations[-1].size, self.flat)

    def _populate(self, neuron: Neuron) -> None:
        """A population behind the waiting weights, or behind a relay if there are none."""
        pre, post, size = self.populations[-1].name, str(len(self.populations)), self._next_size()
        if self.weights is None:
            self.wires.append(relay(pre, post, size, self.pool, self.flat, None))
        else:
            self.wires.append(_wire(Connection(pre, post, geometry(self.weights, self.pool)), self.weights))
        self.populations.append(Population(post, size, neuron))
        self.weights, self.pool, self.flat, self.bare = None, None, False, False


def _wire(connection: Connection, module: nn.Linear | nn.Conv2d) -> Wire:
    return Wire(connection, module.weight.detach(), None if module.bias is None else module.bias.detach())


def _laid_out(neuron: Neuron, size: tuple[int, ...]) -> Neuron:
    """A neuron whose constants per unit lie as its population, which is flattened behind it."""
    uneven = {key: value.reshape(size) for key, value in vars(neuron).items() if isinstance(value, Tensor)}
    return replace(neuron, **uneven) if uneven else neuron  # type: ignore[type-var]
