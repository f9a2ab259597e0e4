"""Whether populations and connections are what they must be, and fit together; what says so names what is legal."""

import math
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from operator import index
from typing import SupportsIndex, get_args

import torch
from torch import Tensor

from neurosbd.answers import ANSWERS, Answer
from neurosbd.connections import Conv2d, Dense, Local2d
from neurosbd.connections.delayed import as_given
from neurosbd.constraints import check_together
from neurosbd.errors import nearest
from neurosbd.network.populations import INPUT, Connection, Population, Role, State, readout_of, spikes
from neurosbd.neurons.neuron import Compartmental, Stochastic
from neurosbd.schema.constants import Distribution
from neurosbd.schema.units import quantity


def checked(
    populations: Sequence[Population], connections: Sequence[Connection], generator: torch.Generator
) -> dict[str, int]:
    """The place of every population by its name, if all parts are such, and belong together.

    Raises:
        ValueError: naming the part, what it is, and what is wanted.
    """
    for kind, parts in ((Population, populations), (Connection, connections)):
        if not isinstance(parts, Sequence) or not all(isinstance(part, kind) for part in parts):
            raise ValueError(f"{kind.__name__.lower()}s must be a list of {kind.__name__}(...), got {_shown(parts)}")
    check_generator(generator)
    for population in populations:
        _check_population(population)
    for connection in connections:
        _check_connection(connection)
    order = {population.name: place for place, population in enumerate(populations)}
    _check_wiring(populations, connections, order)
    _check_roles(populations, connections)
    return order


def check_generator(generator: object) -> None:
    """Raise ValueError unless it is a generator of torch."""
    if not isinstance(generator, torch.Generator):
        raise ValueError(
            f"generator must be a torch.Generator, got {_shown(generator)}; of a seed: "
            f"torch.Generator().manual_seed(seed)"
        )


def legal_name(name: object) -> str:
    """The name of a population: files, signals and weights are called after it.

    Raises:
        ValueError: if it is empty or long, or holds '.', '/', '->' or what cannot be shown.
    """
    if not isinstance(name, str):
        raise ValueError(f"the name of a population must be a text, got {_shown(name)}")
    if not name or len(name) > 100 or not name.isprintable() or any(mark in name for mark in (".", "/", "->")):
        raise ValueError(f"{name[:100]!r} cannot be the name of a population; give one without '.', '/' and '->'")
    return name


def legal_label(label: object, where: str = "a connection") -> str:
    """The label of a connection: letters, digits, '-' and '_', as signals and weights are called after it.

    Raises:
        ValueError: if it is anything else.
    """
    if not isinstance(label, str) or not label.isascii() or not label.replace("-", "_").replace("_", "a").isalnum():
        raise ValueError(
            f"{where}: its label must be of letters, digits, '-' and '_', such as 'nmda', got {label!r:.60}"
        )
    return label


def _shown(value: object) -> str:
    """A value in a message."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return f"{type(value).__name__} of {', '.join(sorted({type(part).__name__ for part in value})) or 'nothing'}"
    return repr(value)[:60]


def _check_population(population: Population) -> None:
    name, size, neuron = legal_name(population.name), population.size, population.neuron
    if not isinstance(size, tuple):
        raise ValueError(f"population '{name}': its size must be a tuple such as (5,) or (3, 8, 8), got {size!r}")
    if not size or not all(_whole(axis) and axis >= 1 for axis in size):
        raise ValueError(f"population '{name}': its size must be whole numbers >= 1, got {size!r}")
    try:
        _ = population.named_axes
    except ValueError as problem:
        raise ValueError(f"population '{name}': {problem}") from None
    _check_part(f"population '{name}': its neuron", neuron, "step", "neurosbd.neurons.NEURONS")
    if population.role is not None and population.role not in get_args(Role):
        raise ValueError(
            f"population '{name}': there is no role {population.role!r}{nearest(str(population.role), get_args(Role))}"
        )
    if population.role is not None and name == INPUT:
        raise ValueError(
            f"population '{INPUT}' is clamped to the data and can be no {population.role}; give it no role"
        )


def _check_connection(connection: Connection) -> None:
    if not isinstance(connection.pre, str) or not isinstance(connection.post, str):
        raise ValueError(
            f"a connection joins populations by their names, got {connection.pre!r} and {connection.post!r}"
        )
    where = f"connection '{connection.name}'"
    if connection.label is not None:
        legal_label(connection.label, f"connection '{connection.pre}->{connection.post}'")
    if connection.plasticity is not None and not connection.plastic:
        raise ValueError(f"{where} has a plasticity, but plastic = False; leave one of them out")
    _check_part(f"{where}: its plasticity", connection.plasticity, "step", "neurosbd.plasticities")
    _check_part(f"{where}: its synapse", connection.synapse, "arrive", "neurosbd.synapses")
    _check_part(f"{where}: its short_term", connection.short_term, "step", "neurosbd.short_terms")
    if connection.transmission.lasts and connection.geometry.bias:
        raise ValueError(
            f"{where} has a bias, which would pass its synapse like a spike in every step; leave it out, and give the "
            f"population a v_leak or a stimulus 'current'"
        )
    if connection.geometry is None:
        raise ValueError(f"{where} needs a geometry, such as neurosbd.connections.Dense()")
    _check_part(f"{where}: its geometry", connection.geometry, "drive", "neurosbd.connections.CONNECTIONS")
    _check_delay(where, connection)
    if not isinstance(connection.constraints, tuple):
        raise ValueError(
            f"{where}: its constraints must be a tuple, such as (neurosbd.constraints['nonnegative'](),), got "
            f"{_shown(connection.constraints)}"
        )
    for constraint in connection.constraints:
        _check_part(f"{where}: its constraint", constraint, "apply", "neurosbd.constraints.CONSTRAINTS")
    try:
        check_together(connection.constraints)
    except ValueError as problem:
        raise ValueError(f"{where}: {problem}") from None


def _check_delay(where: str, connection: Connection) -> None:
    """A number of steps, a time, or what times are drawn from."""
    delay = connection.delay
    if isinstance(delay, Distribution):
        if not isinstance(as_given(connection.geometry), Dense | Conv2d | Local2d):
            raise ValueError(
                f"{where}: delays are drawn for the weights of dense, conv2d and local2d connections; give this one, a "
                f"{type(connection.geometry).__name__}, one delay, such as delay = '1.5 ms'"
            )
        return
    try:
        time = quantity(delay, "s") if isinstance(delay, str) else delay
    except ValueError as problem:
        raise ValueError(f"{where}: its delay {problem}") from None
    legal = time is None or _whole(time) or (isinstance(time, float) and math.isfinite(time) and time >= 0)
    if isinstance(delay, float) and delay >= 1:
        raise ValueError(
            f"{where}: its delay {delay!r} is a time of {delay:g} s; if that is meant, write '{delay:g} s'"
        )
    legal = legal and not (isinstance(delay, str) and time is None)
    if not legal:
        raise ValueError(
            f"{where}: its delay must be a whole number of steps of dt, a time in s such as 1.5e-3 or '1.5 ms', or "
            f"what times are drawn from, such as neurosbd.distributions['uniform'](1e-3, 3e-3), got {delay!r}"
        )


def _check_part(what: str, part: object, verb: str, table: str) -> None:
    """An instance, not its class or its name."""
    if isinstance(part, type):
        raise ValueError(f"{what} is the class {part.__name__} itself; give an instance, {part.__name__}(...)")
    if isinstance(part, str):
        raise ValueError(f"{what} is the text {part!r}; give an instance, {table}[{part!r}]()")
    if part is not None and not callable(getattr(part, verb, None)):
        raise ValueError(f"{what} must be an entry of {table} or another such object, got {_shown(part)}")


def _whole(value: object) -> bool:
    """Whether it is a whole number, of Python or numpy; True and 2.0 are none."""
    try:
        return isinstance(value, SupportsIndex) and not isinstance(value, bool) and index(value) == value
    except TypeError:
        return False


def check_examples(state: State, x: Tensor) -> None:
    """Raise ValueError of a frame [B, ..] that has another number of examples than the run so far."""
    for kept in state.neurons.values():
        if kept and len(kept[0]) != len(x):
            raise ValueError(
                f"the batch changed from {len(kept[0])} to {len(x)} examples within a run; go on with as many, or "
                f"start a new run with network.init(x)"
            )


def checked_block(block: object) -> int | None:
    """Steps that are taken at once; None: as many as suit the memory."""
    if block is None or (isinstance(block, int) and not isinstance(block, bool) and block >= 1):
        return block
    raise ValueError(f"block, the steps that are taken at once, must be a whole number >= 1 or None, got {block!r}")


def _check_wiring(populations: Sequence[Population], connections: Sequence[Connection], order: dict[str, int]) -> None:
    twice = [p.name for place, p in enumerate(populations) if order[p.name] != place]
    if twice:
        raise ValueError(f"two populations share a name: '{twice[0]}'; there are {[p.name for p in populations]}")
    if not any(population.name != INPUT for population in populations):
        raise ValueError(f"a network needs a population beside '{INPUT}', got {[p.name for p in populations]}")
    if INPUT in order and (order[INPUT] or populations[0].neuron is not None):
        raise ValueError(f"'{INPUT}' must be the first population, without a neuron, got '{populations[0].name}' first")
    for population in populations:
        if population.neuron is None and population.name != INPUT:
            raise ValueError(f"population '{population.name}' needs a neuron; '{INPUT}' alone goes without one")
    names = [c.name for c in connections]
    for connection in connections:
        for end in (connection.pre, connection.post):
            if end not in order:
                raise ValueError(f"connection '{connection.name}': no population '{end}'{nearest(end, order)}")
        if connection.post == INPUT:
            raise ValueError(f"connection '{connection.name}': the input is clamped to the data and cannot be driven")
        neuron = populations[order[connection.post]].neuron
        if isinstance(neuron, Compartmental) and connection.compartment not in neuron.compartments:
            raise ValueError(
                f"connection '{connection.name}': its post neuron, {type(neuron).__name__}, has no compartment "
                f"'{connection.compartment}'; there are {list(neuron.compartments)}"
            )
        if names.count(connection.name) > 1:
            raise ValueError(
                f"connection '{connection.name}' is declared twice; give each a label of its own, 'ampa', say"
            )


def _check_roles(populations: Sequence[Population], connections: Sequence[Connection]) -> None:
    """One readout; heads that are like it, and feed nothing."""
    by_name = {population.name: population for population in populations}
    readout = by_name[readout_of({name: population.role for name, population in by_name.items()})]
    for population in populations:
        _check_dropout(population, population is readout)
    for head in (population for population in populations if population.role == "head"):
        fed = next((connection.name for connection in connections if connection.pre == head.name), None)
        if fed is not None:
            raise ValueError(
                f"population '{head.name}' is a head, which feeds nothing, but there is a connection '{fed}'; leave "
                f"one of them out"
            )
        if head.size != readout.size:
            raise ValueError(
                f"population '{head.name}' is a head, judged by the loss of the readout, so its size must be that of "
                f"'{readout.name}', {list(readout.size)}, got {list(head.size)}"
            )


def check_declared(roles: Mapping[str, Role | None], wires: Iterable[tuple[str, str]]) -> None:
    """Raise ValueError where a loss would have to guess which population it judges.

    Nobody guesses where one has the role 'readout', or where the last that is no head is the only one that feeds no
    other but heads and itself.

    Args:
        roles: of all populations, by name, in their order.
        wires: both ends of every connection, pre and post.
    """
    left = [name for name, role in roles.items() if role != "head" and name != INPUT]
    if "readout" in roles.values():
        return
    feeding = {pre for pre, post in wires if pre != post and post in left}
    silent = [name for name in left if name not in feeding]
    if silent == left[-1:]:
        return
    what = "every population feeds another"
    if silent:
        what = f"{' and '.join(map(repr, silent))} feed{'s' * (len(silent) == 1)} no other population"
        what += "" if silent[-1] == left[-1] else f", and '{left[-1]}' is the last"
    raise ValueError(
        f"no population is declared the readout, which the loss judges, and it could be more than one: {what}; give "
        f"one of them role = 'readout', such as population.{(silent or left)[-1]}.role = 'readout'"
    )


def _check_dropout(population: Population, is_readout: bool) -> None:
    """A share of units that other populations hear."""
    where, share, neuron = f"population '{population.name}': dropout", population.dropout, population.neuron
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 <= share < 1:
        raise ValueError(f"{where} is the share of silent units, a number at least 0 and below 1, got {share!r}")
    if share and (neuron is None or is_readout or population.role == "head"):
        what = "the data" if neuron is None else "an output of the network, which the loss judges"
        raise ValueError(f"{where} silences units between populations, but this one is {what}; set it elsewhere, or 0")
    if share and (isinstance(neuron, Compartmental) or (isinstance(neuron, Stochastic) and neuron.draws)):
        why = "settle together" if isinstance(neuron, Compartmental) else "draw what they send, which is noise enough"
        raise ValueError(f"{where} cannot silence {type(neuron).__name__} neurons, which {why}; set it to 0")


def checked_answer(answer: Answer, readout: Population) -> Answer:
    """An answer that can be read off a readout or head; ValueError of one that counts spikes where there are none."""
    if answer.counts_spikes and not spikes(readout):
        name = next((f"'{name}'" for name, make in ANSWERS.items() if make is type(answer)), type(answer).__name__)
        raise ValueError(
            f"the answer {name} counts spikes, but the {readout.role or 'readout'} '{readout.name}' sends none; choose "
            f"'mean', 'last' or 'maximum', or give it a neuron that spikes, such as 'lif'"
        )
    return answer
