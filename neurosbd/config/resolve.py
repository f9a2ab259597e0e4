"""How a model file, a rule and settings resolve to one definition, and where each value came from."""

import copy
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurosbd.config.definition import Definition
from neurosbd.config.drive_units import convert_drives
from neurosbd.config.hearing import check_loss_heard
from neurosbd.config.plausible import check_plausible, check_plausible_trials
from neurosbd.config.recipes import PREFERRED, changes
from neurosbd.config.rule_change import carried_over
from neurosbd.config.suiting import suit_free_run, suit_optimizer, suit_rule
from neurosbd.errors import UsageError
from neurosbd.files import library
from neurosbd.files.parsing import Json, JsonTable, brief, check_plain, read_toml
from neurosbd.rules import RULES
from neurosbd.schema.plugins import find, nearest_part
from neurosbd.schema.validation import validate


@dataclass(frozen=True)
class Resolved:
    """A definition and, for every key that is not a default, where its value came from."""

    definition: Definition
    origin: dict[str, str]


def load_model(
    name: str | Path,
    rule: str | None = None,
    settings: Mapping[str, object] | None = None,
    recipe: str | None = None,
) -> Definition:
    """Load a model and its training recipe.

    Args:
        name: a shipped model ('digits-mlp', see `neurosbd list models`) or the path of a .toml file.
        rule: learning rule in place of the model's own, see `neurosbd list rules`.
        settings: further values by dotted key, {"training.epochs": 3}; they win over the file and the recipe.
        recipe: how to train, in place of the model's own: 'standard'; see `neurosbd list recipes`.

    Returns:
        The resolved definition; `.network()` builds the network.

    Raises:
        UsageError: if the file, the rule or a setting is not valid; the message names all of them.

    >>> load_model("digits-mlp", settings={"training.epochs": 2}).training.epochs
    2
    """
    return resolve(name, rule, settings, recipe).definition


_SAME = {"bp": "bptt", "bptt": "bp"}  # two names of one rule, so that a model need not say things twice


def resolve(
    name: str | Path,
    rule: str | None = None,
    settings: Mapping[str, object] | None = None,
    recipe: str | None = None,
    record: Sequence[str] = (),
) -> Resolved:
    """Like `load_model`, and remember where each value came from.

    Later wins: the file, its [override.RULE] table, `recipe`, `settings`. `record` adds to the signals of these. A
    table for one of `bp` and `bptt`, which are one rule, serves the other where it has none of its own.
    """
    _check_names(name, rule, recipe)
    path = library.find("models", name)
    raw = _anchored(read_toml(path), path.absolute().parent)
    return resolve_table(raw, path.name, path.stem, rule, settings, recipe, record)


def resolve_table(
    raw: JsonTable,
    source: str,
    name: str,
    rule: str | None = None,
    settings: Mapping[str, object] | None = None,
    recipe: str | None = None,
    record: Sequence[str] = (),
) -> Resolved:
    """Like `resolve`, of what a file says; it is changed.

    Args:
        raw: the parsed file.
        source: where it came from, for messages.
        name: of the model, unless the file says another.
        rule, settings, recipe, record: as above.
    """
    origin = {key: source for key in _leaves(raw) if not key.startswith("override.")}
    overrides = raw.pop("override", {})
    settings = plain(settings or {})
    suit_rule(raw, origin)
    asked = next((settings.pop(k) for k in ("rule.kind", "rule") if isinstance(settings.get(k), str)), rule)
    _choose_rule(raw, asked or (PREFERRED if recipe is not None and "rule" not in settings else None), origin)
    kind = _kind(settings.get("rule", raw.get("rule", "sbd")))
    _check_overrides(overrides, source)
    of_rule = kind if kind in overrides else _SAME.get(kind, kind)
    _merge(raw, overrides.get(of_rule, {}), origin, f"{source} [override.{of_rule}]")
    raw.setdefault("name", name)
    if recipe is not None:
        _take(raw, changes(recipe, raw, kind, source), origin, f"recipe '{recipe}'")
        raw["name"] = f"{raw['name']}-{recipe}"
    _take(raw, settings, origin, "setting")
    if isinstance(raw.get("rule"), dict):
        raw["rule"].setdefault("kind", kind)
    _record(raw, record, origin)
    suit_free_run(raw, source, origin)
    suit_optimizer(raw, kind, origin)
    needed = RULES[kind]().loss if kind in RULES else None
    if needed is not None:
        _refuse_other_loss(settings, kind, needed)
        raw["loss"] = {"kind": needed}
        origin["loss"] = f"rule {kind}"
    convert_drives(raw, source)
    check_plausible_trials(raw, source)
    definition = validate(Definition, raw, source, origin)
    check_plausible(definition, raw, source)
    if needed is None and any(key.split(".")[0] == "loss" for key in settings):
        check_loss_heard(definition)
    return Resolved(definition, origin)


_WITH_FILES = ("population", "connection", "stimulus", "override")


def _anchored(raw: JsonTable, folder: Path) -> JsonTable:
    """The parts of a network and its stimuli with files that lie beside the model file, wherever it is read from."""

    def at(value: Json) -> Json:
        if isinstance(value, list):
            return [at(item) for item in value]
        if not isinstance(value, dict):
            return value
        named = {key: at(item) for key, item in value.items()}
        if isinstance(file := named.get("file"), str) and file:
            named["file"] = str(folder / file)
        return named

    return {key: at(value) if key in _WITH_FILES else value for key, value in raw.items()}


def _check_names(model: object, rule: object, recipe: object) -> None:
    """What is asked for by name is a name."""
    if not isinstance(model, str | Path):
        raise UsageError(f"a model is asked for by name or by the path of a .toml file, got {type(model).__name__}")
    if not isinstance(rule, str | None):
        raise UsageError(
            f"a rule is asked for by name, got {type(rule).__name__}; give rule='sbd', say, and its constants as "
            f"settings={{'rule.neuromodulator.scale': 0.05}}. One's own loop takes rules as they are: docs/ideas.md"
        )
    if not isinstance(recipe, str | None):
        raise UsageError(f"a recipe is asked for by name, got {type(recipe).__name__}")


def plain(settings: object) -> JsonTable:
    """Settings as a file would have them: numbers of numpy and torch as numbers, arrays as lists, paths as text.

    Raises:
        UsageError: if they are no mapping of dotted keys, or a value is no such thing.
    """
    if not isinstance(settings, Mapping) or not all(isinstance(key, str) for key in settings):
        raise UsageError(f"settings must map dotted keys to values, {{'training.epochs': 3}}, got {settings!r}")
    return {str(key): _plain(value, key) for key, value in settings.items()}


def _plain(value: Json, key: str) -> Json:
    if isinstance(value, Mapping):
        return {str(name): _plain(item, f"{key}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, key) for item in value]
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # of numpy or torch
        return value.tolist()
    if isinstance(value, bool | int | float | str | None):
        return value
    raise UsageError(
        f"setting {key}: must be a number, a text, a list or a table, got {type(value).__name__}; what has constants "
        f"is a table, such as {{'kind': 'lif', 'tau_mem': 0.01}}"
    )


def _check_overrides(overrides: object, source: str) -> None:
    if not isinstance(overrides, dict) or not all(isinstance(table, dict) for table in overrides.values()):
        raise UsageError(f"{source}: override: must be tables [override.RULE], got {brief(repr(overrides))}")
    for name in overrides:
        if find(RULES, name) is None:
            raise UsageError(f"{source}: override.{name}: there is no rule '{name}'{nearest_part(name, RULES)}")


def _refuse_other_loss(settings: Mapping[str, object], rule: str, needed: str) -> None:
    """A rule that is defined for one loss does not learn another, and must not do so without a word."""
    for key, value in settings.items():
        if key.split(".")[0] == "loss" and value not in (needed, {"kind": needed}):
            raise UsageError(
                f"setting {key} = {value}: rule '{rule}' is that of loss '{needed}'; remove the setting, or choose "
                f"rule 'sbd', which takes any loss"
            )


def _kind(rule: object) -> str:
    return str(rule.get("kind", "sbd")) if isinstance(rule, dict) else str(rule)


def _choose_rule(raw: JsonTable, rule: str | None, origin: dict[str, str]) -> None:
    """Put another rule into a raw definition, keeping the constants that both rules have."""
    if rule is None:
        return
    if find(RULES, rule) is None:
        raise UsageError(f"there is no rule '{rule}'{nearest_part(rule, RULES)}")
    kept = carried_over(raw.get("rule", {}), rule)
    raw["rule"] = {**kept, "kind": rule}
    there = _leaves({"rule": kept})
    for key in [k for k in origin if k == "rule" or k.startswith("rule.")]:
        if key not in there:
            del origin[key]
    origin["rule.kind"] = "chosen rule"


def _merge(raw: JsonTable, changes: Mapping[str, object], origin: dict[str, str], source: str, at: str = "") -> None:
    """Deep-merge changes into raw; a table with a kind replaces what was there; entries of a list go by number."""
    for key, value in changes.items():
        where, there = f"{at}{key}", raw.get(key)
        if isinstance(value, dict) and isinstance(there, list):
            for number, change in value.items():
                entry, place = there[_index(number, there, f"{source}: {where}")], f"{where}.{number}"
                if not isinstance(change, dict) or not isinstance(entry, dict):
                    raise UsageError(f"{source}: {place}: must be a table of what changes, got {brief(repr(change))}")
                _merge(entry, change, origin, source, f"{place}.")
        elif isinstance(value, dict) and "kind" not in value and isinstance(there, dict):
            _merge(there, value, origin, source, f"{where}.")
        else:
            raw[key] = copy.deepcopy(value)
            origin |= {where if not leaf else f"{where}.{leaf}": source for leaf in _leaves(value) or [""]}


def _take(raw: JsonTable, values: Mapping[str, object], origin: dict[str, str], source: str) -> None:
    """Set values by dotted key, each in place of all that was there."""
    for key, value in values.items():
        _set(raw, key, value)
        for old in [k for k in origin if k == key or k.startswith(f"{key}.")]:
            del origin[old]
        origin |= dict.fromkeys([key, *(k for k in _leaves(raw) if k.startswith(f"{key}."))], source)


def _record(raw: JsonTable, record: Sequence[str], origin: dict[str, str]) -> None:
    """Add signals to those that are recorded anyway."""
    table = raw.get("record", {})
    there = table.get("signals", ()) if isinstance(table, dict) else None
    more = [spec for spec in record if spec not in there] if isinstance(there, list | tuple) else []
    if more and there is not None:  # else the validation will say what is wrong with those that are there
        _take(raw, {"record.signals": [*there, *more]}, origin, "setting")


def _set(raw: Json, dotted: str, value: Json) -> None:
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


def _index(step: str, items: list[Json], dotted: str) -> int:
    legal = [str(i) for i in range(len(items))]
    if step not in legal:
        raise UsageError(f"{dotted}: '{step}' must be a number in 0..{len(items) - 1}")
    return legal.index(step)


def parse_setting(text: str) -> tuple[str, Json]:
    """'a.b=value' -> ('a.b', value), the value as in TOML; bare words are text.

    Raises:
        UsageError: if there is no '=', the key is none, or the value is more than one, nested too deeply, or an integer
            of more than 64 bits.

    >>> parse_setting("training.epochs=3"), parse_setting("data.name=mnist")
    (('training.epochs', 3), ('data.name', 'mnist'))
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not all(key.split(".")) or any(mark in key for mark in "\"'"):
        raise UsageError(
            f"--set {brief(text)}: write --set key=value, for example --set training.epochs=3; the key without quotes, "
            f"its names joined by single dots"
        )
    try:
        found = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        found = {"value": value}
    except (ValueError, RecursionError):
        raise UsageError(f"--set {key}: {brief(value)} is too long a number or nested too deeply") from None
    if found.keys() != {"value"}:
        raise UsageError(f"--set {key}: {brief(value)} is more than one value; write a --set for each")
    check_plain(found, f"--set {key}")
    return key, found["value"]


def parse_settings(texts: Sequence[str]) -> JsonTable:
    """All of a command line; see `parse_setting`.

    Raises:
        UsageError: if a key is given two values.
    """
    settings: JsonTable = {}
    for key, value in map(parse_setting, texts):
        if key in settings and settings[key] != value:
            raise UsageError(
                f"--set {key} is given twice, as {brief(repr(settings[key]))} and {brief(repr(value))}; give it once"
            )
        settings[key] = value
    return settings


def _leaves(value: object, at: str = "") -> list[str]:
    """Dotted keys of all plain values inside nested tables and arrays of tables."""
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list | tuple) and any(isinstance(item, dict) for item in value):
        items = enumerate(value)
    else:
        return [at] if at else []
    return [leaf for key, item in items for leaf in _leaves(item, f"{at}.{key}" if at else str(key))]


def as_specs(record: Json) -> tuple[str, ...]:
    """What to record; a single text is one spec.

    Raises:
        UsageError: if it is no text.
    """
    specs = (record,) if isinstance(record, str) else tuple(record or ())
    if not all(isinstance(spec, str) for spec in specs):
        raise UsageError(f"record must be texts such as 'hidden.spikes' (docs/traces.md), got {record!r}")
    return specs


def describe(resolved: Resolved) -> list[tuple[str, str, str]]:
    """(key, value, origin) of every resolved value; origin is 'default' where nothing set it."""
    flat = resolved.definition.model_dump(mode="json")
    rows = []
    for key in _leaves(flat):
        value: Json = flat
        for step in key.split("."):
            value = value[int(step)] if isinstance(value, list) else value[step]
        rows.append((key, str(value), _origin(key, resolved.origin)))
    return rows


def _origin(key: str, origin: Mapping[str, str]) -> str:
    """Where a value comes from. 'relu' sets the kind of an entry, and ["relu"] those of a list of them."""
    stem = key.removesuffix(".kind")
    listed, _, number = stem.rpartition(".")
    named = origin.get(listed) if stem != key and number.isdigit() else None
    return origin.get(stem) or origin.get(key) or named or "default"
