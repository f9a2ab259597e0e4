"""What there is: every table of the engine and every item of the library, with a line and a source."""

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, is_dataclass, replace

from neurosbd.errors import UsageError, nearest
from neurosbd.files import library
from neurosbd.files.parsing import read_toml
from neurosbd.losses.admissibility import admissible
from neurosbd.neuromodulators import Activation
from neurosbd.report.analyses import documentation
from neurosbd.schema.kinds import legal
from neurosbd.schema.plugins import load_packages
from neurosbd.schema.schema import parameters
from neurosbd.seeds import generator
from neurosbd.tables import CONTRACTS, RENAMED, TABLES, table


@dataclass(frozen=True)
class Row:
    """One item of a list; `checked` is what was found out about it just now, if anything."""

    name: str
    about: str
    source: str
    checked: str = ""


LIBRARY = {
    "models": "models",
    "data": "data",
    "analyses": "analysis",
}  # kinds of items that are files, and their folder


def kinds() -> str:
    """Every kind that `catalogue` knows, with how many items it has."""
    load_packages()
    counts = {kind: len(library.names(folder)) for kind, folder in LIBRARY.items()}
    counts |= {kind: len(items) for kind, items in TABLES.items()}
    width = max(map(len, counts))
    return "\n".join(f"{kind:<{width}}  {count:>3}" for kind, count in counts.items())


def catalogue(kind: str) -> list[Row]:
    """All items of a kind: models, data, analyses, or a table of the engine (rules, neurons, losses, ...).

    Losses are checked by `neurosbd.admissible`, all of them in two or three seconds.

    Raises:
        UsageError: if there is no such kind.
    """
    if kind == "analyses":
        return [_row(name, documentation(library.find("analysis", name))) for name in library.names("analysis")]
    if kind in LIBRARY:
        rows = []
        for name in library.names(kind):
            content = read_toml(library.find(kind, name))
            rows.append(Row(name, content.get("about", ""), content.get("source", "")))
        return rows
    if kind not in TABLES and kind not in RENAMED:
        raise UsageError(f"there is no kind '{kind}'{nearest(str(kind), (*LIBRARY, *TABLES))}")
    load_packages()
    rows = [_row(name, _about(item)) for name, item in table(kind).items()]
    return [replace(row, checked=_verdict(row.name)) for row in rows] if kind == "losses" else rows


def _about(item: object) -> str:
    """What an item says of itself: a class or function in its docstring, a value of a table in words of its own."""
    if isinstance(item, Activation):
        return str(item.about)
    text = inspect.getdoc(item) or ""
    written = isinstance(item, type) and is_dataclass(item) and text.startswith(f"{item.__name__}(")
    return "(says nothing of itself: it has no docstring)" if written or not text else text


def _verdict(name: str) -> str:
    """What a loss wants, and whether its score is fit for broadcast."""
    from neurosbd.losses import LOSSES

    loss, found = LOSSES[name](), admissible(name)
    outputs = "1 output" if loss.parameters == 1 else f"{loss.parameters} outputs"
    verdict = f"|E s| = {found.residual:.0e} E|s| at the optimum"
    return f"targets: {loss.targets.name}, {outputs} for each; {'' if found else 'not '}admissible: {verdict}"


def _row(name: str, text: str) -> Row:
    lines = inspect.cleandoc(text).splitlines()
    start = next((i for i, line in enumerate(lines) if line.startswith("Source:")), None)
    source = ""
    if start is not None:
        stop = next((i for i in range(start + 1, len(lines)) if not lines[i].startswith(" ")), len(lines))
        source = " ".join(line.strip() for line in lines[start:stop]).removeprefix("Source:").strip()
    return Row(name, lines[0] if lines else "", source)


def show(
    name: str, rule: str | None = None, settings: Mapping[str, object] | None = None, recipe: str | None = None
) -> str:
    """The definition of an item: a model with the origin of every value, a data set, a table entry, an analysis.

    Args:
        name: of any item, or KIND/NAME; a name that stands in several lists is shown with all of them.
        rule: resolve a model under this rule.
        settings: change values of a model.
        recipe: resolve a model under this recipe.
    Raises:
        UsageError: if there is nothing of that name.
    """
    if name.endswith(".py"):
        return _show_file("analyses", name)
    if name.endswith(".toml"):
        return _show_model(name, rule, settings, recipe)
    places = _places(name)
    if not places:
        load_packages()
        places = _places(name)
    if not places:
        raise UsageError(_unknown(name))
    shown = []
    for kind, item in places:
        if kind == "models":
            shown.append(_show_model(item, rule, settings, recipe))
        else:
            shown.append(_show_file(kind, item) if kind in LIBRARY else _show_item(kind, item))
    if len(places) == 1:
        return shown[0]
    named = ", ".join(f"{kind}/{item}" for kind, item in places)
    return "\n\n".join([f"'{name}' stands in {len(places)} lists: {named}", *shown])


def _places(name: str) -> list[tuple[str, str]]:
    """(kind, name) of every item that a NAME or KIND/NAME means."""
    only, _, item = name.rpartition("/")
    if only in RENAMED:
        table(only)  # which says its new name
    return [(kind, item) for kind, items in _items().items() if only in ("", kind) and item in items]


def _items() -> Mapping[str, Collection[str]]:
    """Names of all items by their kind."""
    return {kind: library.names(folder) for kind, folder in LIBRARY.items()} | dict(TABLES)


def _unknown(name: str) -> str:
    """Why a NAME or KIND/NAME means no item, and what does."""
    there = _items()
    only, _, item = name.rpartition("/")
    if name in there:
        return f"'{name}' is a kind of items; `neurosbd list {name}` names them, `neurosbd show {name}/NAME` shows one"
    if only in there:
        return f"there is no '{item}' among {only}{nearest(item, there[only])}"
    if only:
        return f"there is no kind '{only}'{nearest(only, there)}"
    known = dict.fromkeys([*(item for items in there.values() for item in items), *there])
    return f"there is nothing called '{name}'{nearest(name, known)}"


def _show_file(kind: str, name: str) -> str:
    path = library.find(LIBRARY[kind], name)
    if kind == "data":
        return path.read_text(encoding="utf-8").rstrip()
    return f"{path.stem} (analyses)\n{path}\n\n{documentation(path)}"


def _show_item(kind: str, name: str) -> str:
    item = table(kind)[name]
    constants = _constants(item) if kind == "rules" or kind in CONTRACTS else ""
    checked = f"\n\n{admissible(name)}" if kind == "losses" else ""
    return f"{name} ({kind})\n{constants}\n{_about(item)}{checked}"


def _constants(item: Callable[..., object]) -> str:
    """The constants of an item, a line each: its default, and what it can be."""
    rows = [
        (name, "" if default is ... else f"= {_short(default)}", legal(hint))
        for name, (hint, default) in parameters(item).items()
    ]
    name, default = (max((len(row[i]) for row in rows), default=0) for i in (0, 1))
    return "".join(f"  {row[0]:<{name}} {row[1]:<{default}}  {row[2]}\n" for row in rows)


def _short(value: object) -> str:
    """A default, without the constants of a part that has many."""
    return text if len(text := repr(value)) <= 32 else f"{type(value).__name__}(...)"


def _show_model(name: str, rule: str | None, settings: Mapping[str, object] | None, recipe: str | None) -> str:
    from neurosbd.config.resolve import describe, resolve

    resolved = resolve(name, rule, settings, recipe)
    rows = describe(resolved)
    key, value = (max(len(row[i]) for row in rows) for i in (0, 1))
    experiment = resolved.definition.build()
    network = experiment.network
    lines = [f"{k:<{key}}  {v:<{min(value, 40)}}  {origin}" for k, v, origin in rows]
    lines += ["", f"{sum(p.numel() for p in network.parameters()):,} weights"]
    lines += [f"  {n}: weight {list(w.shape)}" for n, w in network.weights.items()]
    try:
        notes = experiment.rule.notes(network, experiment.loss, generator(resolved.definition.seed, "projection"))
    except ValueError as problem:
        raise UsageError(f"{name}: rule '{resolved.definition.rule.kind}': {problem}") from None
    return "\n".join([*lines, *notes])
