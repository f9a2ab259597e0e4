"""A SONATA network of point neurons as a model file of ours, with its arrays and spikes."""

import json
import math
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from neurosbd.errors import UsageError, warn
from neurosbd.files.parsing import brief
from neurosbd.files.writing import legal_path, workplace
from neurosbd.interchange.sonata_config import Circuit, Given, read_circuit
from neurosbd.interchange.sonata_edges import Joined, Part, connections_of, parameters
from neurosbd.interchange.sonata_neurons import constants_of, template_of
from neurosbd.interchange.sonata_tables import Nodes, read_edges, read_nodes
from neurosbd.network.populations import INPUT
from neurosbd.schema.units import quantity
from neurosbd.stimuli.spike_files import read_spikes

_ARRAYS = "arrays.npz"
_POINTS = ("point_neuron", "point_process")
_SHARED = ("refractory",)  # constants that all units of a population have alike


def from_sonata(
    config: str | Path,
    folder: str | Path,
    dt: float | str | None = None,
    duration: float | str | None = None,
    within: str | Path | None = None,
) -> Path:
    """Write a SONATA network of point neurons as a model that `neurosbd simulate` runs, spike for spike as NEST does.

    Every node type of a population is a population; edges between two of them are a connection for every sign of their
    weights, and further ones where several edges of a pair have different delays. Neurons and synapses are those of
    NEST's templates, in volts, seconds and units of the leak; see docs/interchange.md.

    Args:
        config: the configuration of a simulation or circuit, .json, or its folder.
        folder: to write model.toml, arrays.npz and spikes into; must not be there yet.
        dt: s, or with its unit; None: that of the configuration.
        duration: likewise.
        within: the folder beyond which no file is read; None: that of the configuration.
    Returns:
        The path of the model file.
    Raises:
        UsageError: naming file, population, edges or constant, and what is legal, if something cannot be said here.
            Nothing is left behind then. Warns of what is left out or rounded.
    Source: Dai et al. 2020, PLoS Comput. Biol. 16:e1007696 (SONATA).
    """
    target = legal_path(folder)
    if os.path.lexists(target):
        raise UsageError(f"{target}: exists already; remove it or choose another name")
    circuit = read_circuit(config, within)
    step = _seconds(dt, circuit.dt, "dt", circuit.path)
    lasts = _seconds(duration, circuit.duration, "duration", circuit.path)
    with workplace(target.parent, "sonata") as place:
        _Writer(circuit, step, lasts, place).write()
        place.chmod(0o777 & ~_umask())
        os.replace(place, target)
    return target / "model.toml"


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _seconds(asked: float | str | None, said: float | None, name: str, path: Path) -> float:
    value = quantity(asked, "s") if isinstance(asked, str) else asked
    if isinstance(asked, str) and value is None:
        raise UsageError(f"{name} must be a time with its unit, such as '0.1 ms', got '{asked:.40}'")
    value = said if value is None else value
    if value is None:
        raise UsageError(f"{path}: says no {name}: give one, --{name} '0.1 ms' (in Python {name}=)")
    if not 1e-9 <= value < math.inf:
        raise UsageError(f"{name} must be a time of 1e-9 s or more, got {value:g} s")
    return round(float(value), 15)


@dataclass
class _Writer:
    """What is written, as it goes along.

    circuit: what is read.
    dt, duration: s.
    place: the folder that is filled.
    lines: of the model file.
    """

    circuit: Circuit
    dt: float
    duration: float
    place: Path
    lines: list[str] = field(default_factory=list)

    def write(self) -> None:
        """All files."""
        parts: dict[str, list[Part]] = {}
        taken: set[str] = {INPUT}
        for tables in self.circuit.nodes:
            for nodes in read_nodes(tables):
                if nodes.population in parts:
                    raise UsageError(f"{nodes.where}: there are two populations of this name")
                parts[nodes.population] = _parts(nodes, self.circuit, self.dt * 1e3, taken)
        everyone = sorted((part for found in parts.values() for part in found), key=lambda part: part.made is not None)
        if not any(part.made for part in everyone):
            raise UsageError(f"{self.circuit.path}: has no neurons, only virtual nodes")
        with zipfile.ZipFile(self.place / _ARRAYS, "w", zipfile.ZIP_DEFLATED) as archive:
            self._head()
            self._stimuli(parts, archive)
            for joined in self._connections(parts):
                self._connection(joined, archive)
            for part in everyone:
                self._population(part, archive)
            if not archive.namelist():
                self._stored(archive, "nothing", np.zeros(1, np.uint8))
        (self.place / "model.toml").write_text("\n".join(self.lines) + "\n", "utf8")

    def _head(self) -> None:
        self.lines += [
            f"# A SONATA network, written by `neurosbd import` for steps of {self.dt:g} s, on which constants count.",
            f"# Units are the nodes of a type, in the order of 'POPULATION node_id' in {_ARRAYS}.",
            "# A spike at t there is one of the step that ends at t.",
            f"about = {_toml('SONATA network ' + brief(self.circuit.path.parent.resolve().name))}",
            'source = "SONATA (Dai et al. 2020)"',
            f"simulation = {_toml({'duration': self.duration})}",
            f"time = {_toml({'dt': self.dt})}",
            'record = { signals = ["*.spikes"] }',
        ]

    def _connections(self, parts: dict[str, list[Part]]) -> Iterator[Joined]:
        """Of all edges; labels are those of edges of other files too."""
        labels: dict[tuple[str, str, str], int] = {}
        for tables in self.circuit.edges:
            for edges in read_edges(tables):
                for joined in connections_of(edges, parts, self.circuit, self.dt * 1e3):
                    key = (joined.pre, joined.post, joined.label)
                    labels[key] = labels.get(key, 0) + 1
                    again = f"-{labels[key]}" if labels[key] > 1 else ""
                    yield joined._replace(label=joined.label + again)

    def _connection(self, joined: Joined, archive: zipfile.ZipFile) -> None:
        name = f"{joined.pre} to {joined.post} {joined.label}"

        def told(what: str, value: np.ndarray | float) -> object:
            return self._stored(archive, f"{name} {what}", value) if isinstance(value, np.ndarray) else value

        weight = told("weight", joined.weight)
        entry: dict[str, object] = {
            "pre": joined.pre, "post": joined.post, "label": joined.label, "kind": "dense", "plastic": False,
            "weight": weight if isinstance(weight, dict) else {"kind": "constant", "value": weight},
            "delay": told("delay", joined.delay),
        }  # fmt: skip
        if joined.joined is not None:
            entry["wiring"] = told("joined", joined.joined)
        if joined.synapse is not None:
            entry["synapse"] = joined.synapse
        self._table("[[connection]]", entry)

    def _population(self, part: Part, archive: zipfile.ZipFile) -> None:
        self._stored(archive, f"{part.name} node_id", part.ids)
        neuron: object = "relay"
        if part.made is not None:
            neuron = {key: self._constant(part, key, value, archive) for key, value in part.made.table.items()}
        self._table(f"[population.{_toml(part.name)}]", {"size": [len(part)], "neuron": neuron})

    def _constant(self, part: Part, key: str, value: object, archive: zipfile.ZipFile) -> object:
        """One number where all units have the same."""
        if not isinstance(value, np.ndarray):
            return value
        if (value == value[0]).all():
            return round(float(value[0]), 15)
        if key in _SHARED:
            raise UsageError(
                f"'{part.name}': {key} (t_ref) differs between nodes of one type; all units of a population share "
                f"it: make a node type for each value"
            )
        return self._stored(archive, f"{part.name} {key}", value)

    def _stimuli(self, parts: dict[str, list[Part]], archive: zipfile.ZipFile) -> None:
        given = {each.population for each in self.circuit.spikes}
        for found in parts.values():
            for part in found:
                if part.made is None and part.source not in given:
                    warn(f"{self.circuit.path}: virtual population '{part.source}' is given no spikes: it stays silent")
                self._currents(part, archive)
        for number, each in enumerate(self.circuit.spikes):
            virtual = [part for part in parts.get(each.population, []) if part.made is None]
            if not virtual:
                raise UsageError(
                    f"{each.file}: is given to '{brief(each.population)}', which is no population of virtual nodes"
                )
            self._spikes(number, each, virtual)

    def _currents(self, part: Part, archive: zipfile.ZipFile) -> None:
        """I_e, and what brings a membrane in the first step to where it starts there."""
        if part.made is None or part.values is None:
            return
        steady = part.values["I_e"] * part.made.per_current
        for what, drive, stop in (("I_e", steady, {}), ("V_m", part.made.first, {"stop": self.dt})):
            if drive.any():
                amplitude = self._constant(part, what, drive, archive)
                self._table(
                    "[[stimulus]]", {"population": part.name, "kind": "current", "amplitude": amplitude, **stop}
                )

    def _spikes(self, number: int, given: Given, virtual: list[Part]) -> None:
        """A spike at t is one of the step that ends at t."""
        population, file = given.population, given.file
        times, nodes = read_spikes(file, population)
        if given.nodes is not None:
            meant = np.isin(nodes, given.nodes)
            if not meant.all():
                warn(
                    f"{file}: {(~meant).sum():,} of {len(times):,} spikes are of nodes outside of the node set: left "
                    f"out"
                )
            times, nodes = times[meant], nodes[meant]
        steps = np.rint(times / self.dt).astype(np.int64)
        early, off = int((steps < 1).sum()), int((np.abs(times / self.dt - steps) > 1e-3).sum())
        if off or early:
            warn(
                f"{file}: of {len(times):,} spikes {off:,} are between steps of dt = {self.dt:g} s and go to the "
                f"nearest, {early:,} at 0 to the first"
            )
        unknown = np.setdiff1d(nodes, np.concatenate([part.ids for part in virtual]))
        if len(unknown):
            raise UsageError(f"{file}: has spikes of node {unknown[0]}, which is not in population '{population}'")
        for part in virtual:
            order = np.argsort(part.ids)
            at = np.searchsorted(part.ids[order], nodes).clip(max=len(part) - 1)
            here = part.ids[order][at] == nodes
            name = f"spikes{number}-{virtual.index(part)}.npz"
            began = (steps[here].clip(min=1) - 1) * self.dt
            np.savez_compressed(self.place / name, times=began, units=order[at][here])
            self._table("[[stimulus]]", {"population": part.name, "kind": "spikes", "file": name})

    def _stored(self, archive: zipfile.ZipFile, name: str, value: np.ndarray) -> dict[str, str]:
        """An array that is written at once, so that no two matrices are held together."""
        with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
            np.lib.format.write_array(stream, value, allow_pickle=False)
        return {"kind": "file", "file": _ARRAYS, "array": name}

    def _table(self, head: str, entry: dict[str, object]) -> None:
        self.lines += ["", head, *(f"{key} = {_toml(value)}" for key, value in entry.items())]


def _parts(nodes: Nodes, circuit: Circuit, dt: float, taken: set[str]) -> list[Part]:
    """A part for every type of a population, in the order of their numbers."""
    found = []
    numbers = np.unique(nodes.type_ids).tolist()
    for number in numbers:
        cells, where = nodes.types[number], f"{nodes.where}: type {number}"
        here = np.flatnonzero(nodes.type_ids == number)
        own = cells.get("pop_name", cells.get("model_name", str(number)))
        name = _free(nodes.population if len(numbers) == 1 else f"{nodes.population}-{own}", taken)
        kind = cells.get("model_type", "")
        if kind == "virtual":
            found.append(Part(name, nodes.population, nodes.ids[here]))
            continue
        if kind not in _POINTS:
            raise UsageError(
                f"{where}: model_type '{kind:.60}' is not read here; legal are {', '.join(_POINTS)} and virtual: "
                f"neurons are points, without morphology"
            )
        template = template_of(cells.get("model_template", ""), where)
        given = {}
        if "dynamics_params" in cells:
            given = parameters(circuit.neurons, cells["dynamics_params"], where, "point_neuron_models_dir")
        single = {key: values[here] for key, values in nodes.constants.items() if not np.isnan(values[here]).all()}
        values = constants_of(template, given, single, len(here), where)
        try:
            made = template.made(values, dt)
        except UsageError as problem:
            raise UsageError(f"{where}: {problem}") from None
        found.append(Part(name, nodes.population, nodes.ids[here], template, values, made))
    return found


def _free(name: str, taken: set[str]) -> str:
    """A legal name of a population that no other has."""
    legal = "".join(c if c.isprintable() and c not in "./>" else "_" for c in name)[:80] or "_"
    while legal in taken:
        legal += "_"
    taken.add(legal)
    return legal


def _toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value).lower()
