"""Model files: what a TOML file may say, and how file, rule and settings resolve to one definition."""

import copy
import inspect
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import Field

from neurosbd import library
from neurosbd.connections import CONNECTIONS, INITIALISERS, POOLINGS, Initialiser, Pooling
from neurosbd.errors import UsageError, nearest
from neurosbd.losses import LOSSES
from neurosbd.network import INPUT, Connection, Network, Population
from neurosbd.neurons import NEURONS
from neurosbd.optimizers import OPTIMIZERS, SCHEDULES
from neurosbd.rules import RULES
from neurosbd.schema import Entry, OneOf, Record, validate
from neurosbd.seeds import generator

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class ConnectionEntry(Entry):
    """[[connection]]: the ends, whether it learns, and a geometry with its constants."""

    pre: str
    post: str
    plastic: bool = True


NeuronEntry = Annotated[Entry, OneOf(NEURONS)]
GeometryEntry = Annotated[
    ConnectionEntry, OneOf(CONNECTIONS, {Initialiser: INITIALISERS, Pooling: POOLINGS}, ConnectionEntry)
]
RuleEntry = Annotated[Entry, OneOf(RULES)]
LossEntry = Annotated[Entry, OneOf(LOSSES)]
OptimizerEntry = Annotated[Entry, OneOf(OPTIMIZERS)]
ScheduleEntry = Annotated[Entry, OneOf(SCHEDULES)]


def _named(kind: str) -> Any:
    """Default of an entry: the one of that name with its own defaults."""
    return Field(default_factory=lambda: {"kind": kind}, validate_default=True)


class PopulationSpec(Record):
    """[population.NAME]."""

    size: tuple[Count, ...] = Field(min_length=1)
    neuron: NeuronEntry | None = None


class DataSpec(Record):
    """[data]."""

    name: str = "digits"  # a shipped dataset or a .toml file
    root: str | None = None  # folder with the files; none: NEUROSBD_DATA, then the download folder
    subset: Count | None = None  # training images per class
    subset_seed: int | None = None  # none: the first ones; else drawn with this seed
    test_subset: Count | None = None  # test images per class
    flip: bool = False  # mirror every image in every other epoch
    crop: Annotated[int, Field(ge=0)] = 0  # shift by up to so many pixels, reflecting the border


class TrainingSpec(Record):
    """[training]."""

    epochs: Count = 10
    batch_size: Count = 32
    optimizer: OptimizerEntry = _named("adam")
    schedule: ScheduleEntry = _named("constant")
    rates: dict[str, Positive] = Field(default_factory=dict)  # population -> factor on the learning rate
    clip_norm: Positive | None = None  # largest norm of the whole gradient
    checkpoint_every: Count | None = None  # batches; besides the one after every epoch


class Definition(Record):
    """A model and its training recipe, resolved: what `fit` carries out."""

    name: str
    about: str = ""
    source: str = ""
    seed: Annotated[int, Field(ge=0)] = 0
    dt: Positive = 1e-3
    rule: RuleEntry = _named("sbd")
    loss: LossEntry = _named("cross_entropy")
    data: DataSpec = DataSpec()
    training: TrainingSpec = Field(default_factory=TrainingSpec)
    population: dict[str, PopulationSpec]
    connection: tuple[GeometryEntry, ...]

    def network(self) -> Network:
        """The network with its initial weights, on the CPU.

        Raises:
            UsageError: if populations and connections do not fit together.
        """
        populations = [
            Population(name, spec.size, spec.neuron.made() if spec.neuron else None)
            for name, spec in self.population.items()
        ]
        connections = [Connection(c.pre, c.post, c.made(), c.plastic) for c in self.connection]
        try:
            network = Network(populations, connections, generator(self.seed, "weights"), self.dt)
        except ValueError as problem:
            raise UsageError(f"{self.name}: {problem}") from None
        for name in self.training.rates:
            if name not in network.incoming:
                raise UsageError(
                    f"{self.name}: training.rates: no population '{name}'{nearest(name, network.incoming)}"
                )
        return network

    def input_size(self) -> tuple[int, ...]:
        """Size of the input population."""
        return self.population[INPUT].size if INPUT in self.population else ()

    def output_size(self) -> tuple[int, ...]:
        """Size of the readout, the last population."""
        return list(self.population.values())[-1].size


@dataclass(frozen=True)
class Resolved:
    """A definition and, for every key that is not a default, where its value came from."""

    definition: Definition
    origin: dict[str, str]


def load_model(
    name: str | Path,
    rule: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Definition:
    """Load a model and its training recipe.

    Args:
        name: a shipped model ('digits-mlp', see `neurosbd list models`) or the path of a .toml file.
        rule: learning rule in place of the model's own: 'sbd', 'ebd', 'dfa' or 'bp'.
        settings: further values by dotted key, {"training.epochs": 3}; they win over the file.

    Returns:
        The resolved definition; `.network()` builds the network.

    Raises:
        UsageError: if the file, the rule or a setting is not valid; the message names all of them.

    >>> load_model("digits-mlp", settings={"training.epochs": 2}).training.epochs
    2
    """
    return resolve(name, rule, settings).definition


def resolve(name: str | Path, rule: str | None = None, settings: Mapping[str, Any] | None = None) -> Resolved:
    """Like `load_model`, and remember where each value came from.

    Later wins: the file, its [override.RULE] table, `settings`.
    """
    path = library.find("models", name)
    raw = library.read_toml(path)
    source = path.name
    origin = {key: source for key in _leaves(raw) if not key.startswith("override.")}
    overrides = raw.pop("override", {})
    settings = dict(settings or {})
    _choose_rule(raw, rule, origin)
    kind = _kind(settings.get("rule.kind", settings.get("rule", raw.get("rule", "sbd"))))
    if not isinstance(overrides, dict) or any(key not in RULES for key in overrides):
        unknown = next((key for key in overrides if key not in RULES), "")
        raise UsageError(f"{source}: override.{unknown}: there is no rule '{unknown}'{nearest(unknown, RULES)}")
    _merge(raw, overrides.get(kind, {}), origin, f"{source} [override.{kind}]")
    for key, value in settings.items():
        _set(raw, key, value)
        origin |= dict.fromkeys([key, *(k for k in _leaves(raw) if k.startswith(f"{key}."))], "setting")
    raw.setdefault("name", path.stem)
    needed = RULES[kind]().loss if kind in RULES else None
    if needed is not None:
        raw["loss"] = {"kind": needed}
        origin["loss"] = f"rule {kind}"
    return Resolved(validate(Definition, raw, source, origin), origin)


def _kind(rule: Any) -> str:
    return str(rule.get("kind", "sbd")) if isinstance(rule, dict) else str(rule)


def _choose_rule(raw: dict[str, Any], rule: str | None, origin: dict[str, str]) -> None:
    """Put another rule into a raw definition, keeping the parameters that both rules have."""
    if rule is None:
        return
    if rule not in RULES:
        raise UsageError(f"there is no rule '{rule}'{nearest(rule, RULES)}")
    old = raw.get("rule", {})
    legal = inspect.signature(RULES[rule]).parameters
    kept = {k: v for k, v in old.items() if k in legal} if isinstance(old, dict) else {}
    raw["rule"] = {"kind": rule, **kept}
    for key in [k for k in origin if k == "rule" or k.startswith("rule.")]:
        if key.removeprefix("rule.") not in kept:
            del origin[key]
    origin["rule.kind"] = "chosen rule"


def _merge(raw: dict[str, Any], changes: Mapping[str, Any], origin: dict[str, str], source: str, at: str = "") -> None:
    """Deep-merge changes into raw; a table with a kind replaces what was there."""
    for key, value in changes.items():
        where = f"{at}{key}"
        if isinstance(value, dict) and "kind" not in value and isinstance(raw.get(key), dict):
            _merge(raw[key], value, origin, source, f"{where}.")
        else:
            raw[key] = copy.deepcopy(value)
            origin |= {where if not leaf else f"{where}.{leaf}": source for leaf in _leaves(value) or [""]}


def _set(raw: Any, dotted: str, value: Any) -> None:
    """raw[a][b] = value for 'a.b'; a list is indexed by number. A wrong path becomes an unknown key."""
    *path, last = dotted.split(".")
    for step in path:
        if isinstance(raw, list):
            raw = raw[_index(step, raw, dotted)]
            continue
        inner = raw.get(step)
        if isinstance(inner, str):  # 'relu' -> {kind = 'relu'}, to take a parameter
            inner = {"kind": inner}
        raw[step] = inner if isinstance(inner, dict | list) else {}
        raw = raw[step]
    if isinstance(raw, list):
        raw[_index(last, raw, dotted)] = value
    else:
        raw[last] = value


def _index(step: str, items: list[Any], dotted: str) -> int:
    if not step.isdigit() or int(step) >= len(items):
        raise UsageError(f"{dotted}: '{step}' must be a number in 0..{len(items) - 1}")
    return int(step)


def parse_setting(text: str) -> tuple[str, Any]:
    """'a.b=value' -> ('a.b', value), the value as in TOML; bare words are text.

    Raises:
        UsageError: if there is no '='.

    >>> parse_setting("training.epochs=3"), parse_setting("data.name=mnist")
    (('training.epochs', 3), ('data.name', 'mnist'))
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {text}: write --set key=value, for example --set training.epochs=3")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value.strip()


def _leaves(value: Any, at: str = "") -> list[str]:
    """Dotted keys of all plain values inside nested tables and arrays of tables."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple) and value and isinstance(value[0], dict):
        items = enumerate(value)
    else:
        return [at] if at else []
    return [leaf for key, item in items for leaf in _leaves(item, f"{at}.{key}" if at else str(key))]


def describe(resolved: Resolved) -> list[tuple[str, str, str]]:
    """(key, value, origin) of every resolved value; origin is 'default' where nothing set it."""
    flat = resolved.definition.model_dump(mode="json")
    rows = []
    for key in _leaves(flat):
        value: Any = flat
        for step in key.split("."):
            value = value[int(step)] if isinstance(value, list) else value[step]
        stem = key.removesuffix(".kind")
        rows.append((key, str(value), resolved.origin.get(stem, resolved.origin.get(key, "default"))))
    return rows


def check_device(name: str) -> torch.device:
    """The device of that name; 'auto' takes a CUDA device if there is one.

    Raises:
        UsageError: if the name is unknown or the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.split(":")[0] not in ("cpu", "cuda"):
        raise UsageError(f"there is no device '{name}'{nearest(name, ['auto', 'cpu', 'cuda'])}")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(f"device '{name}': this torch ({torch.__version__}) sees no CUDA device; use --device cpu")
    return torch.device(name)
