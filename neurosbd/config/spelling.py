"""What a model file would say of a network that was built by hand, its stimuli and its rule."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from neurosbd.config.definition import NESTED
from neurosbd.connections import CONNECTIONS
from neurosbd.connections.delayed import as_given
from neurosbd.constraints import CONSTRAINTS, Mask
from neurosbd.errors import UsageError, nearest
from neurosbd.files.parsing import Json, JsonTable
from neurosbd.learning.rule import Rule
from neurosbd.network.network import Network
from neurosbd.network.populations import Connection, Population
from neurosbd.neurons import NEURONS
from neurosbd.rewards import REWARDS, Reinforcement
from neurosbd.rules import RULES
from neurosbd.stimuli import STIMULI, Stimulation

Table = Mapping[str, Callable[..., Any]]
RuleLike = str | Mapping[str, Json] | Rule


def spelled(
    network: Network, stimuli: Sequence[Stimulation], rewards: Sequence[Reinforcement], rule: RuleLike | None
) -> JsonTable:
    """The tables of a model file: [population], [[connection]], [[stimulus]], [[reward]], [time] and [rule].

    Args:
        network: whose weights and masks are not said, only how such a one is built.
        stimuli: that reach it.
        rewards: that its rule hears.
        rule: a name of RULES, a table as in a model file, or a rule; None: there is none.
    Raises:
        UsageError: if a part is in no table, so that no file could name it.
    """
    for name, parts in (("stimuli", stimuli), ("rewards", rewards)):
        if not isinstance(parts, Sequence) or isinstance(parts, str):
            raise UsageError(f"{name} must be a list, got {type(parts).__name__}; one alone goes in brackets, too")
    for number, given in enumerate(stimuli):
        if not isinstance(given, Stimulation):
            raise UsageError(
                f"stimuli[{number}] must be a neurosbd.Stimulation('population', neurosbd.stimuli['poisson'](...)), "
                f"got {type(given).__name__}"
            )
    for number, given in enumerate(rewards):
        if not isinstance(given, Reinforcement):
            raise UsageError(
                f"rewards[{number}] must be a neurosbd.Reinforcement(neurosbd.rewards['spike_count'](...)), got "
                f"{type(given).__name__}"
            )
    time: JsonTable = {"dt": network.dt}
    time |= {} if network.block is None else {"block": network.block}
    time |= {"fused": True} if network.fused else {}
    raw: JsonTable = {
        "time": time,
        "population": {name: _population(each, network) for name, each in network.populations.items()},
        "connection": [_connection(each) for each in network.connections.values()],
        "stimulus": [_stimulus(number, given) for number, given in enumerate(stimuli)],
    }
    if rewards:
        raw["reward"] = [_reward(number, given) for number, given in enumerate(rewards)]
    if rule is not None:
        raw["rule"] = _rule(rule)
    return raw


def _population(population: Population, network: Network) -> JsonTable:
    said: JsonTable = {"size": list(population.size), **_changed(population, ("name", "size", "neuron"))}
    neuron = network.adaptive.get(population.name, population.neuron)
    if neuron is not None:
        said["neuron"] = _entry(neuron, NEURONS, "neurons", f"population '{population.name}'")
    return said


def _connection(connection: Connection) -> JsonTable:
    where = f"connection '{connection.name}'"
    said = {"pre": connection.pre, "post": connection.post, **_changed(connection, ("geometry", "constraints"))}
    said |= _entry(as_given(connection.geometry), CONNECTIONS, "connections", where)
    constraints = [
        {"kind": "mask"} if isinstance(each, Mask) else _entry(each, CONSTRAINTS, "constraints", where)
        for each in connection.constraints
    ]
    return {**said, "constraints": constraints} if constraints else said


def _stimulus(number: int, given: Stimulation) -> JsonTable:
    said = _entry(given.stimulus, STIMULI, "stimuli", f"stimuli[{number}]")
    return {"population": given.population, **_changed(given, ("population", "stimulus")), **said}


def _reward(number: int, given: Reinforcement) -> JsonTable:
    return {**_changed(given, ("contingency",)), **_entry(given.contingency, REWARDS, "rewards", f"rewards[{number}]")}


def _rule(rule: RuleLike) -> JsonTable:
    """The entry of RULES that makes such a rule, with the parts that are others than its own."""
    if isinstance(rule, str):
        return {"kind": rule}
    if isinstance(rule, Mapping):
        return dict(rule)
    found: list[JsonTable] = []
    for kind, make in RULES.items():
        own: Any = make()
        if type(rule) is type(own) and own.loss == rule.loss:
            parts = {
                f.name: getattr(rule, f.name) for f in dataclasses.fields(type(own)) if f.init and f.name != "loss"
            }
            found.append({"kind": kind} | {k: _said(v) for k, v in parts.items() if v != getattr(own, k)})
    if not found:
        names = nearest(type(rule).__name__, RULES)
        raise UsageError(f"rules: {type(rule).__name__} is in no table; register it, neurosbd.register('rules'){names}")
    return min(found, key=len)


def _entry(part: object, table: Table, kind: str, where: str) -> JsonTable:
    """{kind = ..., constants that are not the default}."""
    name = next((name for name, make in table.items() if make is type(part)), None)
    if name is None:
        raise UsageError(
            f"{where}: {type(part).__name__} is in no table of {kind}, so that a run could not say what it was; "
            f"register it first: neurosbd.register('{kind}', 'my_name', {type(part).__name__})"
        )
    return {"kind": name, **_changed(part)}


def _changed(part: Any, without: Sequence[str] = ()) -> JsonTable:
    """The constants of a record that are not as they are by default."""
    return {
        field.name: _said(getattr(part, field.name))
        for field in dataclasses.fields(part)
        if field.init and field.name not in without and not _is_default(getattr(part, field.name), field)
    }


def _is_default(value: object, field: Any) -> bool:
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return type(value) is type(default) and not isinstance(value, Tensor) and bool(value == default)


def _said(value: object) -> Json:
    """A constant as a file writes it."""
    if isinstance(value, Tensor | np.ndarray):
        return value.flatten().tolist()
    if isinstance(value, tuple | list):
        return [_said(item) for item in value]
    if not dataclasses.is_dataclass(value):
        return "none" if value is None else value
    kinds = [name for table in NESTED.values() for name, make in table.items() if make is type(value)]
    return {**({"kind": kinds[0]} if kinds else {}), **_changed(value)}
