"""Recipes: what to change in any network so that a rule trains it without a knob being touched."""

import math
from collections.abc import Callable, Mapping

from neurosbd.errors import UsageError, nearest
from neurosbd.files.parsing import Json, JsonTable
from neurosbd.network.populations import INPUT, readout_of
from neurosbd.neurons.rate import RATES
from neurosbd.schema.plugins import find

Recipe = Callable[[Mapping[str, Json], str], JsonTable]


def standard(raw: Mapping[str, Json], rule: str) -> JsonTable:
    """Standardised hidden units, constants of the rule left at their defaults, Adam over one cycle.

    Every hidden unit has its drive standardised over the batch, so that neither the initial weights nor their scale
    matter and signals of all layers meet activities of one size; weights are drawn anew by Kaiming, those onto the
    readout and heads a tenth of that. Batches of 50, Adam with rate 1e-3 over one cycle; the readout learns ten times
    as fast under rules that broadcast its score, since it leads them, and 10 sqrt(10 / C) times where it has C > 10
    units: with many classes most are missing in a batch, and Adam makes their noise as large as any signal. Backprop
    has the rate 3e-3 and a readout as fast as the rest, the best tried for it. Data, loss, architecture and the number
    of epochs stay. Networks of spikes and of vectors are refused.

    Source: this project; the study is docs/results.md.
    """
    roles = {name: spec.get("role") for name, spec in raw["population"].items()}
    readout = readout_of(roles)
    judged = {readout, *(name for name, role in roles.items() if role == "head")}
    hidden = [name for name in roles if name != INPUT and name not in judged]
    neurons = {name: _standardised(name, raw["population"][name].get("neuron")) for name in hidden}
    units = math.prod(raw["population"][readout]["size"])
    exact = rule in ("bp", "bptt")
    gains = [0.1 if connection["post"] in judged else 1.0 for connection in raw["connection"]]
    return {
        **{f"population.{name}.neuron": neuron for name, neuron in neurons.items()},
        **{f"connection.{i}.weight": {"kind": "kaiming_normal", "gain": gain} for i, gain in enumerate(gains)},
        "rule": {"kind": rule},
        "training.batch_size": 50,
        "training.optimizer": {"kind": "adam", "lr": 3e-3 if exact else 1e-3},
        "training.schedule": {"kind": "one_cycle"},
        "training.rates": {} if exact else {readout: 10.0 * math.sqrt(10 / max(10, units))},
    }


# Why units of a kind are not to be standardised, where it is not that they spike.
UNFIT = {
    "ct_relu": ", whose vectors it would scale component by component, so that backprop would no longer be one number "
    "per unit, on which rule 'gevb' rests",
}
PREFERRED = "sbp"  # where neither rule nor settings name another
RECIPES: dict[str, Recipe] = {"standard": standard}


def changes(recipe: str, raw: Mapping[str, object], rule: str, source: str) -> JsonTable:
    """What a recipe changes in a raw definition that learns by a rule: settings by dotted key.

    Raises:
        UsageError: if there is no such recipe, or the network is none for it.
    """
    if find(RECIPES, recipe) is None:
        raise UsageError(f"there is no recipe '{recipe}'{nearest(recipe, RECIPES)}")
    if not _is_network(raw):
        return {}  # which its validation will say
    try:
        return RECIPES[recipe](raw, rule)
    except ValueError as problem:
        raise UsageError(f"{source}: recipe '{recipe}': {problem}") from None


def _is_network(raw: Mapping[str, object]) -> bool:
    """Whether a raw definition has what a recipe looks at: populations with sizes, connections with ends."""
    populations, connections = raw.get("population"), raw.get("connection")
    return (
        isinstance(populations, Mapping)
        and len(populations) > 1
        and all(isinstance(p, Mapping) and _is_size(p.get("size")) for p in populations.values())
        and isinstance(connections, list)
        and all(isinstance(c, Mapping) and "post" in c for c in connections)
    )


def _is_size(size: object) -> bool:
    return isinstance(size, list | tuple) and all(isinstance(length, int) for length in size)


def _standardised(name: str, neuron: object) -> Json:
    """The neuron in a standardised one, unless it is that already."""
    kind = neuron.get("kind") if isinstance(neuron, dict) else neuron
    if kind == "standardised":
        return neuron
    if kind not in RATES:
        raise ValueError(
            f"is for networks of rate units ({', '.join(RATES)}), population '{name}' has '{kind}'"
            f"{UNFIT.get(str(kind), '')}; leave the recipe out, and the values of the model file are those to train by"
        )
    return {"kind": "standardised", "neuron": neuron}
