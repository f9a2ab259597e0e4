"""How long what a population shows is on its way through a connection: in steps, for all synapses or for each."""

from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import SupportsIndex

import torch
from torch import Tensor

from neurosbd.connections.delayed import Delayed, lags_in
from neurosbd.connections.geometry import Geometry
from neurosbd.connections.sparse import Listed, Sparse, with_lags
from neurosbd.distributions import ConstantsFromFile
from neurosbd.errors import warn
from neurosbd.filters import whole_steps
from neurosbd.network.populations import Connection
from neurosbd.schema.constants import Distribution
from neurosbd.schema.units import quantity
from neurosbd.seeds import generator as generator_of

MOST = 100_000  # steps


def shortest_of(connection: Connection, late: bool, dt: float) -> int:
    """Steps between the activity of the pre population and its arrival; of drawn delays, the least that one can be.

    Args:
        connection: whose delay is None, a number of steps, a time in s or with its unit, or what times are drawn from.
        late: whether the pre population is updated after the post population.
        dt: s.
    Raises:
        ValueError: if it is shorter than possible, or no whole number of steps.
    """
    least, delay, where = 1 if late else 0, connection.delay, f"connection '{connection.name}'"
    if delay is None:
        return least
    if isinstance(delay, Distribution):
        return 1
    steps = index(delay) if isinstance(delay, SupportsIndex) else _steps(delay, dt, where)
    if steps < least:
        why = "its pre population is updated after the post population" if late else "time runs forward"
        raise ValueError(
            f"{where}: a delay of {steps} steps is shorter than possible, since {why}; the least is {least}"
        )
    return steps


def _steps(delay: float | str, dt: float, where: str) -> int:
    """A time as a number of steps."""
    seconds = quantity(delay, "s") if isinstance(delay, str) else float(delay)
    assert seconds is not None, "a text without a unit was refused"
    if 0 < seconds < dt * (1 - 1e-9):
        raise ValueError(
            f"{where}: a delay of {seconds:g} s is under a step of dt = {dt:g} s; take a smaller time.dt, delay = 0 "
            f"for none, or delay = 1, a step"
        )
    return whole_steps(seconds, dt, f"{where}: delay")


def listed_with_delays(laid: Listed, connection: Connection, dt: float, generator: torch.Generator) -> Listed:
    """A connection that is stored as a list, each of whose synapses has a delay of its own.

    Args:
        laid: its synapses.
        connection: whose delay says what they are drawn from, s.
        dt: s.
        generator: source of the delays.
    Raises:
        ValueError: naming the connection, if one is longer than can be kept. Warns of those that were under a step.
    """
    lists = laid.geometry.lists
    times = _times(connection, (lists.post, lists.pre), laid.geometry.shape, generator)
    return with_lags(laid, _checked_steps(times, connection, dt))


def with_delays(
    geometry: Geometry, weight: Tensor, present: Tensor | None, axis: int, connection: Connection, dt: float,
    generator: torch.Generator,
) -> Delayed:  # fmt: skip
    """A connection each of whose weights has a delay of its own; of synapses that are there the same as in a list.

    Args:
        geometry: its own.
        weight: of it.
        present: 1 where there is a synapse; None: everywhere. The others are drawn besides, in case they return.
        axis: of the weight, along which it counts pre units or channels.
        connection, dt, generator: as above.
    Raises:
        ValueError: as above.
    """
    there = torch.ones(weight.shape, dtype=torch.bool) if present is None else present != 0
    steps, shape, where = torch.empty(weight.shape, dtype=torch.int32), tuple(weight.shape), there.nonzero().unbind(1)
    steps[there] = _checked_steps(_times(connection, where, shape, generator), connection, dt).int()
    others = generator_of(generator.initial_seed(), "delays of absent synapses", connection.name)
    steps[~there] = _steps_of(_times(connection, (~there).nonzero().unbind(1), shape, others), dt).clamp(1, MOST).int()
    return Delayed(geometry, axis, steps, lags_in(steps))


def _times(
    connection: Connection, where: Sequence[Tensor], shape: tuple[int, ...], generator: torch.Generator
) -> Tensor:
    """Delays of some synapses of a weight, s, float64 [n], at their places along its axes, [n] each."""
    delay = connection.delay
    assert isinstance(delay, Distribution)
    if isinstance(delay, ConstantsFromFile):
        return delay.of_synapses(where, shape)
    return delay.draw((len(where[0]),), generator).double()


def _steps_of(times: Tensor, dt: float) -> Tensor:
    """To the nearest step."""
    return times.div(dt).round().long()


def _checked_steps(times: Tensor, connection: Connection, dt: float) -> Tensor:
    """Delays in steps, to the nearest, at least one, which is said; ValueError of one that is too long."""
    steps = _steps_of(times, dt)
    where, short = f"connection '{connection.name}'", int((steps < 1).sum())
    if len(steps) and steps.max() > MOST:
        raise ValueError(
            f"{where}: of the delays that were drawn the longest is {int(steps.max()) * dt:g} s, {int(steps.max()):,} "
            f"steps; the most is {MOST:,}. Times are in s; with a unit, '1.5 ms'"
        )
    if short:
        warn(
            f"{where}: {short} of {len(steps)} delays that were drawn are under a step of dt = {dt:g} s and are one "
            f"step; if that is not meant, draw longer ones, or take a smaller time.dt"
        )
    return steps.clamp(min=1)


def ends_of(connections: Iterable[Connection], shortest: Mapping[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """The shortest and the longest delay of the synapses of every connection, in steps; `shortest` is the one delay of
    those whose synapses have none of their own."""
    lags = {c.name: lags_of(c) or (shortest[c.name],) for c in connections}
    return {name: each[0] for name, each in lags.items()}, {name: each[-1] for name, each in lags.items()}


def lags_of(connection: Connection) -> tuple[int, ...]:
    """The delays that its synapses have, in steps, where they have delays of their own; (): they have one delay."""
    return connection.geometry.lags if isinstance(connection.geometry, Sparse | Delayed) else ()


def arriving(connection: Connection, way: Sequence[Tensor], longest: int, k: int = 0) -> Tensor:
    """What arrives at the synapses of a connection with a delay, [B, *arriving].

    Args:
        connection: with its delays.
        way: what is on its way, as it was sent step by step.
        longest: delay of its synapses.
        k: step; at step 0 the first in `way` arrives at the synapses with the longest delay.
    """
    lags = lags_of(connection)
    return torch.cat([way[k + longest - lag] for lag in lags], 1) if lags else way[k]
