"""The configuration of a SONATA circuit and its simulation: which files there are, and what is asked for."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from neurosbd.errors import UsageError, nearest, warn
from neurosbd.files.parsing import Json, JsonTable, brief, read_json
from neurosbd.files.writing import legal_path, regular

_NAMES = ("simulation_config.json", "config.json", "circuit_config.json")  # that a folder is searched for, in order
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_DEEPEST = 20  # variables in variables
_MILLI = 1e-3
_LEFT_OUT = {"reports": "say what to record: record = { signals = ['POPULATION.v'] }", "conditions": "none is needed"}


class Tables(NamedTuple):
    """The two files of one entry of `networks`."""

    file: Path  # HDF5
    types: Path  # CSV


class Given(NamedTuple):
    """Spikes that are given to a population."""

    population: str
    file: Path
    nodes: tuple[int, ...] | None  # that hear them; None: all


class Circuit(NamedTuple):
    """What a configuration says."""

    path: Path
    nodes: tuple[Tables, ...]
    edges: tuple[Tables, ...]
    neurons: "Folder | None"  # files of constants
    synapses: "Folder | None"
    spikes: tuple[Given, ...]
    dt: float | None  # s
    duration: float | None  # s


class Folder(NamedTuple):
    """One whose files may be read, and who says so."""

    config: "_Config"
    place: str

    def file(self, name: str) -> Path:
        """A file in it."""
        return self.config.place(f"{self.place}/{name}", f"'{brief(name)}'")


def read_circuit(config: str | Path, within: str | Path | None = None) -> Circuit:
    """A configuration, with the circuit that it leads to.

    Args:
        config: a .json file, or the folder that it is in.
        within: the folder beyond which no file is read; None: the one of the configuration.
    Raises:
        UsageError: if a file is missing, no configuration, or leads out of the folder.
    """
    path = _found(legal_path(config))
    root = (legal_path(within) if within is not None else path.parent).resolve()
    outer = _Config.read(path, root)
    inner = outer
    if "network" in outer.table:
        inner = _Config.read(outer.place(_text(outer.table["network"], path, "network"), "network"), root)
    networks, components = inner.part("networks"), inner.part("components")
    left_out = [f"{key} ({fix})" for key, fix in _LEFT_OUT.items() if outer.table.get(key)]
    if left_out:
        warn(f"{path}: left out: {'; '.join(left_out)}")
    neurons, synapses = (
        Folder(inner, _text(components[key], inner.path, f"components.{key}")) if components.get(key) else None
        for key in ("point_neuron_models_dir", "synaptic_models_dir")
    )
    nodes, edges = (tuple(_tables(networks, key, inner)) for key in ("nodes", "edges"))
    if not nodes:
        raise UsageError(f"{inner.path}: networks.nodes is empty; needed are the files of the nodes")
    run = outer.part("run")
    duration = run.get("tstop", run.get("duration"))
    dt, duration = (_time(value, path, key) for key, value in (("run.dt", run.get("dt")), ("run.tstop", duration)))
    if run.get("tstart"):
        warn(f"{path}: run.tstart = {run['tstart']!r:.40} is left out: time begins at 0, and stimuli with it")
    return Circuit(path, nodes, edges, neurons, synapses, tuple(_spikes(outer)), dt, duration)


def _found(path: Path) -> Path:
    """The configuration of a folder."""
    if not path.is_dir():
        return regular(path)
    there = [path / name for name in _NAMES if (path / name).exists()]
    if not there:
        raise UsageError(f"{path}: has none of {', '.join(_NAMES)}; name the .json file of the simulation or circuit")
    return regular(there[0])


@dataclass(frozen=True)
class _Config:
    """One .json file.

    path: of it.
    root: beyond which no file is read.
    table: its contents.
    variables: of its manifest, as they are written.
    """

    path: Path
    root: Path
    table: JsonTable
    variables: Mapping[str, str]

    @classmethod
    def read(cls, path: Path, root: Path) -> "_Config":
        table = read_json(path)
        if not isinstance(table, dict):
            raise UsageError(f"{path}: is no table; needed is the configuration of a SONATA circuit or simulation")
        manifest = table.get("manifest") or {}
        if not isinstance(manifest, dict):
            raise UsageError(f"{path}: manifest must be a table of folders, got {manifest!r:.60}")
        variables = {key.strip("${}"): _text(value, path, f"manifest.{key}") for key, value in manifest.items()}
        return cls(path, root, table, {"configdir": ".", **variables})

    def part(self, key: str) -> JsonTable:
        """A table of it; {} if it is not there."""
        value = self.table.get(key) or {}
        if not isinstance(value, dict):
            raise UsageError(f"{self.path}: {key} must be a table, got {value!r:.60}")
        return value

    def place(self, text: str, where: str) -> Path:
        """A file that it names."""
        written = legal_path(self._expanded(text, where))
        place = (self.path.parent / written).resolve()
        if not place.is_relative_to(self.root):
            raise UsageError(
                f"{self.path}: {where} leads to {place}, which is outside of {self.root}, beyond which no file is "
                f"read; if that is meant, name a folder that holds both: --within DIR (in Python within=)"
            )
        return place

    def _expanded(self, text: str, where: str, depth: int = 0) -> str:
        if depth > _DEEPEST:
            raise UsageError(f"{self.path}: {where}: the variables of the manifest name each other in a circle")

        def value(match: re.Match[str]) -> str:
            if match[1] not in self.variables:
                known = nearest(match[1], self.variables)
                raise UsageError(f"{self.path}: {where}: the manifest has no '${brief(match[1])}'{known}")
            return self._expanded(self.variables[match[1]], where, depth + 1)

        return _VARIABLE.sub(value, text)


def _tables(networks: JsonTable, kind: str, config: _Config) -> list[Tables]:
    """The entries of networks.nodes or networks.edges that are enabled."""
    entries, found = networks.get(kind) or [], []
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UsageError(f"{config.path}: networks.{kind} must be a list of tables with '{kind}_file'")
    singular = kind.removesuffix("s")
    for number, entry in enumerate(entries):
        if entry.get("enabled", True) is False:
            continue
        files = []
        for key in (f"{kind}_file", f"{singular}_types_file"):
            where = f"networks.{kind}[{number}].{key}"
            if not entry.get(key):
                raise UsageError(f"{config.path}: {where} is missing; types are read from a .csv of their own")
            files.append(config.place(_text(entry[key], config.path, where), where))
        found.append(Tables(*files))
    return found


def _spikes(config: _Config) -> list[Given]:
    """The inputs that are spikes; the others are said."""
    found, sets = [], _node_sets(config)
    for name, entry in config.part("inputs").items():
        where = f"inputs.{brief(name)}"
        if not isinstance(entry, dict):
            raise UsageError(f"{config.path}: {where} must be a table, got {entry!r:.60}")
        if entry.get("enabled", True) is False:
            continue
        if entry.get("input_type") != "spikes" or not entry.get("input_file"):
            warn(
                f"{config.path}: {where} (input_type {entry.get('input_type')!r:.40}, module "
                f"{entry.get('module')!r:.40}) is left out: read are files of spikes; add it to the model as a "
                f"[[stimulus]], such as kind = 'current'"
            )
            continue
        file = config.place(_text(entry["input_file"], config.path, f"{where}.input_file"), f"{where}.input_file")
        found.append(_given(entry.get("node_set"), sets, config.path, f"{where}.node_set", file))
    return found


def _node_sets(config: _Config) -> JsonTable:
    if not config.table.get("node_sets_file"):
        return {}
    path = config.place(_text(config.table["node_sets_file"], config.path, "node_sets_file"), "node_sets_file")
    sets = read_json(path)
    if not isinstance(sets, dict):
        raise UsageError(f"{path}: is no table; needed are node sets by their names")
    return sets


def _given(node_set: Json, sets: JsonTable, path: Path, where: str, file: Path) -> Given:
    """To a node set, which is the name of one, a population, or a table of a population and some of its nodes."""
    chosen = sets.get(node_set, node_set) if isinstance(node_set, str) else node_set
    chosen = {"population": chosen} if isinstance(chosen, str) else chosen
    population = chosen.get("population") if isinstance(chosen, dict) else None
    if not isinstance(chosen, dict) or not isinstance(population, str):
        raise UsageError(
            f"{path}: {where}: needed is a population, its name or {{'population': NAME}}, got {node_set!r:.60}"
        )
    nodes = chosen.get("node_id")
    listed = nodes if isinstance(nodes, list) else [] if nodes is None else [nodes]
    numbers = tuple(number for number in listed if type(number) is int)
    other = sorted(chosen.keys() - {"population", "node_id", "model_type"})
    if other or len(numbers) < len(listed):
        raise UsageError(
            f"{path}: {where}: a node set is read by population and node_id, a list of whole numbers, got "
            f"{brief(other[0]) if other else repr(nodes)[:60]}; name the nodes by those"
        )
    return Given(population, file, None if nodes is None else numbers)


def _text(value: Json, path: Path, where: str) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{path}: {where} must be a text, got {value!r:.60}")
    return value


def _time(value: Json, path: Path, where: str) -> float | None:
    """ms as s."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise UsageError(f"{path}: {where} must be a time in ms, > 0, got {value!r:.60}")
    return float(value) * _MILLI
