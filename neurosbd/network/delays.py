"""How long what a population shows is on its way through a connection: in steps, for all synapses or for each."""

from collections.abc import Sequence
from operator import index
from typing import SupportsIndex

import torch
from torch import Tensor

from neurosbd.connections.sparse import Listed, Sparse, with_lags
from neurosbd.distributions import ConstantsFromFile
from neurosbd.errors import warn
from neurosbd.filters import whole_steps
from neurosbd.network.populations import Connection
from neurosbd.schema.constants import Distribution
from neurosbd.schema.units import quantity

_MOST = 100_000  # steps


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


def with_drawn_delays(laid: Listed, connection: Connection, dt: float, generator: torch.Generator) -> Listed:
    """A connection each of whose synapses has a delay of its own, to the nearest step, and at least one step.

    Args:
        laid: its synapses.
        connection: whose delay says what they are drawn from, s.
        dt: s.
        generator: source of the delays.
    Raises:
        ValueError: naming the connection, if one is longer than can be kept. Warns of those that were under a step.
    """
    assert isinstance(connection.delay, Distribution)
    lists = laid.geometry.lists
    if isinstance(connection.delay, ConstantsFromFile):
        times = connection.delay.of_pairs(lists.post, lists.pre, laid.geometry.shape)
    else:
        times = connection.delay.draw((len(lists.post),), generator).double()
    steps = times.div(dt).round().long()
    where, short = f"connection '{connection.name}'", int((steps < 1).sum())
    if len(steps) and steps.max() > _MOST:
        raise ValueError(
            f"{where}: of the delays that were drawn the longest is {int(steps.max()) * dt:g} s, {int(steps.max()):,} "
            f"steps; the most is {_MOST:,}. Times are in s; with a unit, '1.5 ms'"
        )
    if short:
        warn(
            f"{where}: {short} of {len(steps)} delays that were drawn are under a step of dt = {dt:g} s and are one "
            f"step; if that is not meant, draw longer ones, or take a smaller time.dt"
        )
    return with_lags(laid, steps.clamp(min=1))


def ends_of(connection: Connection, shortest: int) -> tuple[int, int]:
    """(shortest, longest) delay of its synapses, in steps."""
    lags = lags_of(connection) or (shortest,)
    return lags[0], lags[-1]


def lags_of(connection: Connection) -> tuple[int, ...]:
    """The delays that its synapses have, in steps, where they have delays of their own; (): they have one delay."""
    return connection.geometry.lags if isinstance(connection.geometry, Sparse) else ()


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
