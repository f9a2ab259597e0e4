"""What is legal in a model file, but hardly meant: bare numbers in another unit than SI, a rest above the threshold."""

import math
from collections.abc import Iterator, Mapping
from typing import TypeGuard

from neurosbd.config.definition import Definition
from neurosbd.errors import warn
from neurosbd.files.parsing import Json
from neurosbd.neurons import NEURONS
from neurosbd.neurons.step_length import GONE
from neurosbd.schema.constants import Range
from neurosbd.schema.kinds import declared
from neurosbd.schema.plugins import find
from neurosbd.schema.schema import parameters
from neurosbd.schema.units import quantity
from neurosbd.tasks import PROTOCOLS, TASKS

_FAST = ("tau_mem", "tau_syn", "refractory")  # times of neurons that are milliseconds wherever they are measured
_WINDOW = ("tau_plus", "tau_minus")
_RESPONSE = ("tau", "tau_rise", "tau_decay")
_LONG = 1.0  # s
_COARSE = 0.1  # s, of a step
_UNUSUAL = 5  # times as long as by default, of a time of a trial


def check_plausible(definition: Definition, raw: Mapping[str, Json], source: str) -> None:
    """Warn of bare times that are hardly meant in seconds, of one with its unit nobody asks, and of forgotten leaks.

    Args:
        definition: as it was read.
        raw: the parsed file with its changes, in which a quantity with a unit is a text.
        source: the file, for messages.
    """
    dt = _at(raw, "time", "dt")
    if _bare(dt) and dt >= _COARSE:
        warn(f"{source}: time.dt = {dt:g} s is a long step; if {dt:g} ms are meant: time.dt = '{dt:g} ms'", 5)
    whole, shown = _shown(definition)
    for where, key, value, whose in _times(raw):
        meant = f"if {value:g} ms are meant: {key} = '{value:g} ms'"
        if value >= _LONG:
            what = f"is long for {whose}"
        elif key == "refractory" and value >= whole:
            what = f"is longer than the {shown} of {whole:g} s, so that no unit spikes twice"
        elif key.startswith("tau") and definition.time.dt >= value and math.exp(-definition.time.dt / value) >= GONE:
            what = f"is no longer than a step, time.dt = {definition.time.dt:g} s"
            meant = "take a smaller time.dt, or a larger " + key
        else:
            continue
        warn(f"{source}: {where}.{key} = {value:g} s {what}; {meant}", 5)
    for where, key, value in _forgotten_leaks(raw):
        said = f"has no v_leak, which is then 0 V, above {key} = {value:g} V, so that its units fire without any input"
        warn(f"{source}: {where} {said}; give it, such as v_leak = '-70 mV'", 5)


def check_plausible_trials(raw: Mapping[str, Json], source: str) -> None:
    """Warn once of a task or protocol whose bare times are hardly meant in seconds; before they are compared.

    Args:
        raw: the parsed file with its changes, in which a quantity with a unit is a text.
        source: the file, for messages.
    """
    for where, table in (("task", TASKS), ("protocol", PROTOCOLS)):
        given = _at(raw, where)
        make = find(table, _at(given, "kind"))
        if make is None or not isinstance(given, Mapping):
            continue
        default = {key: value for key, (hint, value) in parameters(make).items() if _in_seconds(hint)}
        bare = {key: value for key in default if _bare(value := given.get(key))}
        long = [key for key, value in bare.items() if value >= max(_LONG, _UNUSUAL * _number(default[key]))]
        if long:
            usual = default[key := long[0]]
            beside = f", by default {usual:g} s" if _bare(usual) else ""
            meant = ", ".join(f"{key} = '{value:g} ms'" for key, value in bare.items())
            said = f"{where}.{key} = {bare[key]:g} s is long for a trial{beside}; if ms are meant: {meant}"
            warn(f"{source}: {said}; if s are, {key} = '{bare[key]:g} s'", 5)


def _in_seconds(hint: object) -> bool:
    return any(isinstance(mark, Range) and mark.unit == "s" for mark in declared(hint)[1])


def _number(default: object) -> float:
    """A default as a number; 0 if there is none."""
    return float(default) if isinstance(default, int | float) else 0.0


def _shown(definition: Definition) -> tuple[float, str]:
    """How long the network is shown anything, s, and what that is called; without time, for ever."""
    if definition.simulation is not None:
        return definition.simulation.duration, "run"
    steps = definition.time.steps
    return (steps * definition.time.dt if steps > 1 else math.inf), "trial"


def _forgotten_leaks(raw: Mapping[str, Json]) -> Iterator[tuple[str, str, float]]:
    """Neurons with a take-off below 0 that rest at 0 because nobody says otherwise: where, the key, its value in V."""
    populations = raw.get("population")
    for name in populations if isinstance(populations, Mapping) else ():
        table = _at(raw, "population", name, "neuron")
        if not isinstance(table, Mapping) or "v_leak" in table:
            continue
        key = "v_rheobase" if "v_rheobase" in table else "v_threshold"
        given, kind = table.get(key), table.get("kind")
        value = quantity(given, "V") if isinstance(given, str) else given
        rest = getattr(NEURONS.get(kind), "v_leak", None) if isinstance(kind, str) else None
        if rest == 0.0 and isinstance(value, int | float) and value < 0:
            yield f"population.{name}.neuron", key, float(value)


def _times(raw: Mapping[str, Json]) -> Iterator[tuple[str, str, float, str]]:
    """Every bare time of what is fast, a neuron, a window or a synapse: where it stands, its key, its value, whose."""
    populations = raw.get("population")
    for name in populations if isinstance(populations, Mapping) else ():
        for key in _FAST:
            value = _at(raw, "population", name, "neuron", key)
            if _bare(value):
                yield f"population.{name}.neuron", key, value, "a neuron"
    places = [("rule.plasticity.window", _at(raw, "rule", "plasticity", "window"), _WINDOW, "a window of spike pairs")]
    connections = raw.get("connection")
    for number, entry in enumerate(connections if isinstance(connections, list) else ()):
        where = f"connection.{number}"
        places += [
            (f"{where}.plasticity.window", _at(entry, "plasticity", "window"), _WINDOW, "a window of spike pairs"),
            (f"{where}.synapse", _at(entry, "synapse"), _RESPONSE, "a synapse"),
            (f"{where}.synapse.response", _at(entry, "synapse", "response"), _RESPONSE, "a synapse"),
        ]
    for where, table, keys, whose in places:
        for key in keys:
            if _bare(value := _at(table, key)):
                yield where, key, value, whose


def _at(raw: Json, *path: str) -> Json:
    """What stands at a key of nested tables; None if nothing does."""
    for step in path:
        raw = raw.get(step) if isinstance(raw, Mapping) else None
    return raw


def _bare(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
