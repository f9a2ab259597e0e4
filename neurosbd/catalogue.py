"""What there is: every table of the engine and every item of the library, with a line and a source."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from neurosbd import library
from neurosbd.config.definition import Experiment
from neurosbd.errors import UsageError, nearest
from neurosbd.learning.rule_state import init_rule_state, widths
from neurosbd.losses.admissibility import admissible
from neurosbd.parsing import read_toml
from neurosbd.report.analyses import documentation
from neurosbd.rules import LocalRule
from neurosbd.seeds import generator


@dataclass(frozen=True)
class Row:
    """One item of a list; `checked` is what was found out about it just now, if anything."""

    name: str
    about: str
    source: str
    checked: str = ""


def _tables() -> dict[str, Mapping[str, Callable[..., Any]]]:
    from neurosbd.config.recipes import RECIPES
    from neurosbd.expansions import EXPANSIONS
    from neurosbd.losses import LOSSES
    from neurosbd.neuromodulators import LAYOUTS
    from neurosbd.neurons import NEURONS
    from neurosbd.regularisers import HOMEOSTASES, UPKEEPS
    from neurosbd.rules import RULES

    return {
        "rules": RULES, "recipes": RECIPES, "neurons": NEURONS, "losses": LOSSES, "projections": LAYOUTS,
        "expansions": EXPANSIONS, "homeostases": HOMEOSTASES, "upkeeps": UPKEEPS,
    }  # fmt: skip


def catalogue(kind: str) -> list[Row]:
    """All items of a kind: models, data, analyses, or a table of the engine (rules, neurons, losses, ...).

    Losses are checked by `neurosbd.admissible`, all of them in two or three seconds.
    """
    if kind == "analyses":
        return [_row(name, documentation(library.find("analysis", name))) for name in library.names("analysis")]
    if kind in ("models", "data"):
        rows = []
        for name in library.names(kind):
            content = read_toml(library.find(kind, name))
            rows.append(Row(name, content.get("about", ""), content.get("source", "")))
        return rows
    rows = [_row(name, make.__doc__ or "") for name, make in _tables()[kind].items()]
    return [replace(row, checked=_verdict(row.name)) for row in rows] if kind == "losses" else rows


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
    name: str, rule: str | None = None, settings: Mapping[str, Any] | None = None, recipe: str | None = None
) -> str:
    """The definition of an item: a model with the origin of every value, a data set, a table entry, an analysis."""
    if name in library.names("data"):
        return (library.find("data", name)).read_text(encoding="utf-8").rstrip()
    for kind, table in _tables().items():
        if name in table:
            constants = str(inspect.signature(table[name])).split(" -> ")[0]
            checked = f"\n\n{admissible(name)}" if kind == "losses" else ""
            return f"{name} ({kind})\n{constants}\n\n{inspect.getdoc(table[name])}{checked}"
    if name.endswith(".py") or name in library.names("analysis"):
        path = library.find("analysis", name)
        return f"{path.stem} (analyses)\n{path}\n\n{documentation(path)}"
    if name.endswith(".toml") or name in library.names("models"):
        return _show_model(name, rule, settings, recipe)
    legal = [n for kind in ("models", "data", "analysis") for n in library.names(kind)]
    legal += [n for table in _tables().values() for n in table]
    raise UsageError(f"there is nothing called '{name}'{nearest(name, legal)}")


def _show_model(name: str, rule: str | None, settings: Mapping[str, Any] | None, recipe: str | None) -> str:
    from neurosbd.config.resolve import describe, resolve

    resolved = resolve(name, rule, settings, recipe)
    rows = describe(resolved)
    key, value = (max(len(row[i]) for row in rows) for i in (0, 1))
    experiment = resolved.definition.build()
    network = experiment.network
    lines = [f"{k:<{key}}  {v:<{min(value, 40)}}  {origin}" for k, v, origin in rows]
    lines += ["", f"{sum(p.numel() for p in network.parameters()):,} weights"]
    lines += [f"  {n}: weight {list(w.shape)}" for n, w in network.weights.items()]
    return "\n".join(lines + _broadcast(experiment))


def _broadcast(experiment: Experiment) -> list[str]:
    """How many columns are broadcast and what they cost, if the score is expanded."""
    definition, network = experiment.definition, experiment.network
    rule, loss = experiment.rule, experiment.loss
    if not isinstance(rule, LocalRule) or not rule.expansion:
        return []
    try:
        rule_state = init_rule_state(network, rule, loss, generator(definition.seed, "projection"))
    except ValueError as problem:
        raise UsageError(f"{definition.name}: rule '{definition.rule.kind}': {problem}") from None
    score = math.prod(network.populations[network.readout].size)
    heard = [rule.neuromodulator.projection(state) for state in rule_state.modulators.values() if rule.neuromodulator]
    rows = sum(projection.shape[1] for projection in heard if projection is not None)
    blocks = zip(rule.expansion, widths(network, rule, loss), strict=True)
    return [
        "",
        f"score of {score} columns, expanded by {rule_state.n_expanded}: "
        + ", ".join(f"{type(block).__name__.lower()} {width}" for block, width in blocks),
        f"  correlation and broadcast: {2 * (score + rule_state.n_expanded) * rows:,} multiplications per example "
        f"in place of {2 * score * rows:,}",
    ]
