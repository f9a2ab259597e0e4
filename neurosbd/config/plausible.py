"""Bare numbers of a model file that are legal in SI units, but are likelier meant in another."""

from collections.abc import Iterator, Mapping

from neurosbd.config.definition import Definition
from neurosbd.errors import warn
from neurosbd.parsing import Json

_FAST = ("tau_mem", "tau_syn", "refractory")  # times of neurons that are milliseconds wherever they are measured
_LONG = 1.0  # s
_COARSE = 0.1  # s, of a step


def check_plausible(definition: Definition, raw: Mapping[str, Json], source: str) -> None:
    """Warn of bare times that are hardly meant in seconds; of one with its unit nobody asks.

    Args:
        definition: as it was read.
        raw: the parsed file with its changes, in which a quantity with a unit is a text.
        source: the file, for messages.
    """
    dt = _at(raw, "time", "dt")
    if _bare(dt) and dt >= _COARSE:
        warn(f"{source}: time.dt = {dt:g} s is a long step; if {dt:g} ms are meant: time.dt = '{dt:g} ms'", 5)
    trial = definition.time.steps * definition.time.dt
    for where, key, value in _times(raw):
        if value >= _LONG:
            what = "is long for a neuron"
        elif key == "refractory" and definition.time.steps > 1 and value >= trial:
            what = f"is longer than the trial of {trial:g} s, so that no unit spikes twice"
        else:
            continue
        warn(f"{source}: {where}.{key} = {value:g} s {what}; if {value:g} ms are meant: {key} = '{value:g} ms'", 5)


def _times(raw: Mapping[str, Json]) -> Iterator[tuple[str, str, float]]:
    """Every bare time of a neuron that is fast: where it stands, its key, its value."""
    populations = raw.get("population")
    for name in populations if isinstance(populations, Mapping) else ():
        for key in _FAST:
            value = _at(raw, "population", name, "neuron", key)
            if _bare(value):
                yield f"population.{name}.neuron", key, value


def _at(raw: Json, *path: str) -> Json:
    """What stands at a key of nested tables; None if nothing does."""
    for step in path:
        raw = raw.get(step) if isinstance(raw, Mapping) else None
    return raw


def _bare(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
