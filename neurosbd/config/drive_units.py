"""Weights, bounds of them and currents with units, '2 nS', '0.5 mV' or '100 pA', as the numbers that drive a neuron.

    a potential is the drive itself, in V;  a conductance g is g / g_leak;
    a current I is I / (g_leak l), where a steady drive of 1 lifts the membrane by l, see neurons/units.py

so that potentials need a neuron whose own are in volts, and currents and conductances one whose leak is known in S.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from neurosbd.config.definition import TimeSpec
from neurosbd.errors import UsageError
from neurosbd.files.parsing import Json, JsonTable
from neurosbd.neurons import NEURONS, Izhikevich
from neurosbd.neurons.neuron import Conducting
from neurosbd.neurons.units import in_volts, leak_conductance, lifted
from neurosbd.schema.units import dimension_of, quantity
from neurosbd.synapses import SYNAPSES
from neurosbd.synapses.synapse import Conductive

_WEIGHTS = ("value", "mean", "std", "low", "high", "median")  # of an initialiser, in the unit of the weight
_BOUNDS = ("w_min", "w_max", "lower", "upper")  # of a weight, in its unit
_DRIVES = ("amplitude", "offset", "mean", "std", "low", "high", "values")  # of a stimulus, in that of the drive
_DRIVING = ("poisson", "regular", "spikes", "current", "current_steps", "ramp", "sine", "noise_current")


def convert_drives(raw: JsonTable, source: str) -> None:
    """Weights, bounds of them and stimuli that have a unit become the numbers they are; others stay as they are.

    Args:
        raw: the parsed model file with its changes; it is changed.
        source: where it came from, for messages.
    Raises:
        UsageError: naming the key, if the neuron has no such unit, with what would do.
    """
    for number, entry in enumerate(_tables(raw.get("connection"))):
        weight, conducts = entry.get("weight"), _conducts(entry.get("synapse"))
        if isinstance(weight, dict):
            _convert(weight, _WEIGHTS, raw, entry.get("post"), conducts, f"{source}: connection.{number}.weight")
        for key, table in _bounding(entry):
            _convert(table, _BOUNDS, raw, entry.get("post"), conducts, f"{source}: connection.{number}.{key}")
    for number, entry in enumerate(_tables(raw.get("stimulus"))):
        if entry.get("kind") in _DRIVING:
            _convert(entry, _DRIVES, raw, entry.get("population"), False, f"{source}: stimulus.{number}")
        if entry.get("kind") == "voltage_clamp":
            _check_command(entry.get("values"), raw, entry.get("population"), f"{source}: stimulus.{number}.values")


def _bounding(entry: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The tables of a connection that may bound its weight, with their keys."""
    plasticity = entry.get("plasticity")
    if isinstance(plasticity, dict):
        yield "plasticity", plasticity
        yield from ((f"plasticity.{key}", part) for key, part in plasticity.items() if isinstance(part, dict))
    for number, constraint in enumerate(_tables(entry.get("constraints"))):
        yield f"constraints.{number}", constraint


def _check_command(values: Json, raw: JsonTable, held: Json, where: str) -> None:
    """Potentials of a clamp that are written in volts need a membrane in volts."""
    neuron = _neuron(raw, held)
    texts = [each for each in values if _has_unit(each)] if isinstance(values, list) else []
    if not texts or not isinstance(neuron, Conducting | Izhikevich) or in_volts(neuron):
        return
    unit = "mV" if isinstance(neuron, Izhikevich) else "thresholds"
    raise UsageError(
        f"{where}: '{texts[0]}' is a potential, but those of population '{held}' are in {unit}; write bare numbers of "
        f"its unit, or take a neuron with v_leak, v_threshold and v_reset in volts"
    )


def _convert(table: Any, keys: tuple[str, ...], raw: JsonTable, post: Json, conducts: bool, where: str) -> None:
    for key in keys:
        value = table.get(key)
        if isinstance(value, list) and any(map(_has_unit, value)):
            table[key] = [_number(each, raw, post, conducts, f"{where}.{key}") for each in value]
        elif _has_unit(value):
            table[key] = _number(value, raw, post, conducts, f"{where}.{key}")


def _number(text: Json, raw: JsonTable, post: Json, conducts: bool, where: str) -> Json:
    """What a text with a unit drives the neurons of a population by."""
    if not isinstance(text, str) or not _has_unit(text):
        return text
    neuron, given = _neuron(raw, post), dimension_of(text)
    wanted = ("conductance",) if conducts else ("potential", "current")
    legal = " or ".join(f"a {each}" for each in wanted)
    if given not in wanted:
        raise UsageError(f"{where}: must be {legal}, or a bare number, got the {given} '{text}'")
    if given == "potential":
        if not in_volts(neuron):
            raise UsageError(
                f"{where}: '{text}' is a potential, but those of population '{post}' are in thresholds; give it "
                f"v_leak, v_threshold and v_reset in volts, or write a bare number of thresholds"
            )
        return quantity(text, "V")
    leak = leak_conductance(neuron)
    if not isinstance(leak, float):
        raise UsageError(
            f"{where}: '{text}' counts in the leak conductance of population '{post}', whose neuron names none that "
            f"all its units have: give it one, such as g_leak = '10 nS' (lif, alif, adex and hodgkin_huxley have one), "
            f"or write the bare number of its leaks (of a leak of 10 nS, 2 nS are 0.2, and 100 pA are 0.01 V)"
        )
    found = quantity(text, "S" if conducts else "A")
    assert found is not None, "it has a unit"
    return found / leak if conducts else found / leak / lifted(neuron, _step(raw))


def _step(raw: JsonTable) -> float:
    """dt, s; where it is not legal something else is said."""
    time = raw.get("time")
    given = time.get("dt") if isinstance(time, Mapping) else None
    dt = quantity(given, "s") if isinstance(given, str) else given
    return dt if isinstance(dt, float | int) and dt > 0 else TimeSpec().dt


def _has_unit(value: Json) -> bool:
    return isinstance(value, str) and dimension_of(value) is not None


def _tables(entries: Json) -> list[Any]:
    """The tables of a list; whatever else stands there is refused later."""
    return [each for each in entries if isinstance(each, dict)] if isinstance(entries, list) else []


def _conducts(synapse: Json) -> bool:
    kind = synapse.get("kind") if isinstance(synapse, dict) else synapse
    return isinstance(kind, str) and kind in SYNAPSES and isinstance(SYNAPSES[kind](), Conductive)


def _neuron(raw: JsonTable, post: Json) -> object:
    """The neuron of a population, as its table says; None if it cannot be made, of which something else is said."""
    population = raw.get("population")
    entry = population.get(post) if isinstance(population, Mapping) and isinstance(post, str) else None
    table = entry.get("neuron") if isinstance(entry, Mapping) else None
    constants = dict(table) if isinstance(table, Mapping) else {"kind": table}
    make = NEURONS.get(constants.pop("kind", None))  # type: ignore[call-overload]
    if make is None or any(isinstance(value, dict | list) for value in constants.values()):
        return None
    try:
        return make(**constants)
    except (ValueError, TypeError):
        return None
