"""Edges of SONATA as connections of ours: matrices of weights and delays, and which pairs are joined."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from neurosbd.errors import UsageError, warn
from neurosbd.files.parsing import JsonTable, brief, read_json
from neurosbd.interchange.sonata_config import Circuit, Folder
from neurosbd.interchange.sonata_neurons import Made, Table, Template, Values, synapse_of
from neurosbd.interchange.sonata_tables import Edges

_MOST_PAIRS = 2**28  # of one connection: 2 GiB of weights
_SIDES = {"ex": "exc", "in": "inh"}  # of NEST's synapses -> label
_SYNAPSES = ("static_synapse",)
_OF_TYPES = {"syn_weight", "delay", "nsyns", "model_template", "dynamics_params"}
_ANNOTATIONS = {"target_query", "source_query"}  # say who was joined when the network was built
_ON_STEPS = 1e-6  # steps that a delay may be off


@dataclass(frozen=True)
class Part:
    """Nodes of one type, which are a population of ours.

    name: of the population.
    source: population of SONATA.
    ids: of the nodes there, in the order of the units.
    template: of the neurons; None of virtual nodes, which send what they are given.
    values: their constants.
    made: the neuron.
    """

    name: str
    source: str
    ids: np.ndarray
    template: Template | None = None
    values: Values | None = None
    made: Made | None = None

    def __len__(self) -> int:
        return len(self.ids)


class Joined(NamedTuple):
    """A connection of ours. weight, delay (s) and joined are matrices [post, pre], or one number for all pairs."""

    pre: str
    post: str
    label: str
    synapse: Table | None
    weight: np.ndarray | float
    delay: np.ndarray | float
    joined: np.ndarray | None  # None: all pairs


class _Ends(NamedTuple):
    """Of edges: which part a node belongs to, and its number there."""

    part: np.ndarray
    unit: np.ndarray


def connections_of(edges: Edges, parts: Mapping[str, list[Part]], circuit: Circuit, dt: float) -> Iterator[Joined]:
    """The connections that some edges make, one for every pair of parts, sign and further edge of the same pair.

    Args:
        edges: from one population to another.
        parts: of every population of SONATA.
        circuit: whose files constants of synapses are in.
        dt: ms.
    Raises:
        UsageError: naming the edges.
    """
    for side in (edges.source, edges.target):
        if side not in parts:
            raise UsageError(f"{edges.where}: there is no population '{brief(side)}'; there are {', '.join(parts)}")
    sources, targets = parts[edges.source], parts[edges.target]
    if not len(edges.pre):
        return
    weights, delays = _values(edges, circuit)
    pre, post = _placed(edges.pre, sources, edges), _placed(edges.post, targets, edges)
    steps = _steps(delays, dt, edges.where)
    both = pre.part * len(targets) + post.part
    for number in np.unique(both):
        rows = np.flatnonzero(both == number)
        source, target = sources[number // len(targets)], targets[number % len(targets)]
        if target.template is None or target.made is None or target.values is None:
            raise UsageError(f"{edges.where}: virtual nodes of '{target.source}' hear nothing, but edges lead to them")
        scaled = weights[rows] * target.made.per_weight[post.unit[rows]]
        places = post.unit[rows] * len(source) + pre.unit[rows]
        shape = (len(target), len(source))
        if shape[0] * shape[1] > _MOST_PAIRS:
            raise UsageError(
                f"{edges.where}: {shape[1]:,} x {shape[0]:,} pairs from '{source.name}' to '{target.name}' are "
                f"more than the {_MOST_PAIRS:,} that are written; split the node types into smaller ones"
            )
        for side, label in _SIDES.items():
            chosen = scaled >= 0 if side == "ex" else scaled < 0
            if not chosen.any():
                continue
            synapse = synapse_of(target.template, target.values, side)
            size = np.abs(scaled) if target.template.conducting else scaled
            late = steps[rows] + target.made.late
            for rank, each in enumerate(_matrices(places[chosen], size[chosen], late[chosen], shape, dt)):
                yield Joined(source.name, target.name, f"{label}{rank + 1 if rank else ''}", synapse, *each)


def _matrices(
    places: np.ndarray, weights: np.ndarray, steps: np.ndarray, shape: tuple[int, int], dt: float
) -> Iterator[tuple[np.ndarray | float, np.ndarray | float, np.ndarray | None]]:
    """(weight, delay, joined). Edges of one pair with one delay are one; with several they go into several matrices."""
    order = np.lexsort((steps, places))
    places, weights, steps = places[order], weights[order], steps[order]
    new = np.append(True, (np.diff(places) != 0) | (np.diff(steps) != 0))
    weights = np.add.reduceat(weights, np.flatnonzero(new))
    places, steps = places[new], steps[new]
    first = np.flatnonzero(np.append(True, np.diff(places) != 0))
    rank = np.arange(len(places)) - np.repeat(first, np.diff(np.append(first, len(places))))
    for number in range(rank.max() + 1):
        here = rank == number
        yield (
            _filled(places[here], weights[here], shape),
            _filled(places[here], np.round(steps[here] * dt * 1e-3, 12), shape),
            None if here.sum() == shape[0] * shape[1] else _matrix(places[here], np.ones(1, np.uint8), shape),
        )


def _filled(places: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray | float:
    """One number where all are the same."""
    return float(values[0]) if (values == values[0]).all() else _matrix(places, values, shape)


def _matrix(places: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    matrix = np.zeros(shape, values.dtype)
    matrix.reshape(-1)[places] = values
    return matrix


def _placed(ids: np.ndarray, parts: list[Part], edges: Edges) -> _Ends:
    """Where nodes are, by their ids."""
    known = np.concatenate([part.ids for part in parts])
    part = np.repeat(np.arange(len(parts)), [len(each) for each in parts])
    unit = np.concatenate([np.arange(len(each)) for each in parts])
    order = np.argsort(known)
    at = np.searchsorted(known[order], ids).clip(max=len(known) - 1)
    wrong = known[order][at] != ids
    if wrong.any():
        raise UsageError(f"{edges.where}: node {ids[wrong][0]} is not in population '{parts[0].source}'")
    return _Ends(part[order][at], unit[order][at])


def _values(edges: Edges, circuit: Circuit) -> tuple[np.ndarray, np.ndarray]:
    """(weight, delay in ms) of all edges: their own, else those of their type."""
    found: dict[str, np.ndarray] = {}
    for key in ("syn_weight", "delay", "nsyns"):
        found[key] = edges.values.get(key, np.full(len(edges.pre), np.nan)).copy()
    for type_id in np.unique(edges.type_ids).tolist():
        columns, of_type = _type_of(edges, type_id, circuit), edges.type_ids == type_id
        for key, values in found.items():
            missing = of_type & np.isnan(values)
            if key in columns:
                values[missing] = columns[key]
            elif missing.any() and key != "nsyns":
                raise UsageError(
                    f"{edges.where}: edges of type {type_id} have no {key}; give it as a column of the table of "
                    f"types, or for every edge"
                )
    several = np.nan_to_num(found["nsyns"], nan=1.0)
    if (several != 1).any():
        warn(f"{edges.where}: weights are multiplied by nsyns, as in BMTK; NEST's SonataNetwork leaves it out")
    return found["syn_weight"] * several, found["delay"]


def _type_of(edges: Edges, type_id: int, circuit: Circuit) -> dict[str, float]:
    """The numbers that a type of edges has, those of its file of constants last."""
    cells, where = edges.types[type_id], f"{edges.where}: type {type_id}"
    kind = cells.get("model_template", "static_synapse").rpartition(":")[2]
    if kind not in _SYNAPSES:
        raise UsageError(
            f"{where}: model_template '{kind:.60}' is not read here; legal is static_synapse. Plasticity is added "
            f"to the model by hand: rule, plasticity, short_term"
        )
    ignored = sorted(cells.keys() - _OF_TYPES - _ANNOTATIONS)
    given = {key: _number(cells[key], f"{where}: {key}") for key in ("syn_weight", "delay", "nsyns") if key in cells}
    if "dynamics_params" in cells:
        constants = parameters(circuit.synapses, cells["dynamics_params"], where, "synaptic_models_dir")
        for key, name in {"weight": "syn_weight", "syn_weight": "syn_weight", "delay": "delay"}.items():
            if key in constants:
                given[name] = _number(constants.pop(key), f"{where}: {key}")
        if constants.pop("receptor_type", 0):
            raise UsageError(f"{where}: receptor_type must be 0: the sign of a weight chooses the synapse")
        ignored += sorted(constants)
    if ignored:
        warn(f"{where}: {', '.join(map(brief, ignored[:10]))} mean nothing here: left out")
    return given


def parameters(folder: Folder | None, name: str, where: str, key: str) -> JsonTable:
    """The constants in a file that a type names.

    Raises:
        UsageError: if there is no folder of such files, or the file is no table.
    """
    if folder is None:
        raise UsageError(
            f"{where}: dynamics_params names '{brief(name)}', but the configuration has no components.{key}"
        )
    path = folder.file(name)
    found = read_json(path)
    if not isinstance(found, dict):
        raise UsageError(f"{path}: is no table; needed are constants by their names")
    return dict(found)


def _number(value: object, where: str) -> float:
    try:
        number = float(value) if isinstance(value, str | int | float) else np.nan
    except (ValueError, OverflowError):
        number = np.nan
    if not np.isfinite(number):
        raise UsageError(f"{where} must be a number, got {value!r:.60}")
    return number


def _steps(delays: np.ndarray, dt: float, where: str) -> np.ndarray:
    """Delays in ms as steps, at least one."""
    exact = delays / dt
    if not (delays >= 0).all() or exact.max() > 100_000:
        raise UsageError(
            f"{where}: delays are from {delays.min():g} to {delays.max():g} ms; legal are 0 to {100_000 * dt:g} ms, "
            f"100,000 steps"
        )
    steps = np.rint(exact).astype(np.int64).clip(min=1)
    off = int((np.abs(exact - steps) > _ON_STEPS).sum())
    if off:
        warn(
            f"{where}: {off:,} of {len(delays):,} delays are no whole number of steps of dt = {dt:g} ms and are "
            f"rounded, to one step at least; take a dt that divides them: --dt (in Python dt=)"
        )
    return steps
