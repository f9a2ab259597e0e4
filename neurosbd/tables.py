"""Every table of the engine by its kind, and the door through which a part of one's own comes in.

`neurosbd list` and `show`, model files and the contract tests read these very tables.
"""

import inspect
import re
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Unpack, get_origin, get_type_hints

from pydantic import PydanticUserError

from neurosbd.answers import ANSWERS, Answer
from neurosbd.config.definition import Definition
from neurosbd.config.recipes import RECIPES
from neurosbd.config.simulation import ReinforcementEntry, StimulusEntry
from neurosbd.config.wiring import ConnectionEntry
from neurosbd.connections import CONNECTIONS, INITIALISERS, POOLINGS, WIRINGS, Geometry, Initialiser, Pooling, Wiring
from neurosbd.constraints import CONSTRAINTS, Constraint
from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.processes import PROCESSES, Process
from neurosbd.distributions import DISTRIBUTIONS
from neurosbd.eligibility import ELIGIBILITIES
from neurosbd.encoders import ENCODERS, Encoder
from neurosbd.errors import UsageError, nearest
from neurosbd.expansions import EXPANSIONS
from neurosbd.expansions.expansion import Expansion
from neurosbd.learning.optimizers import OPTIMIZERS, OptimizerChoice
from neurosbd.learning.schedules import SCHEDULES, Schedule
from neurosbd.losses import LOSSES, Described
from neurosbd.measures import MEASURES
from neurosbd.neuromodulators import ACTIVATIONS, LAYOUTS, NEUROMODULATORS, Layout, Neuromodulator
from neurosbd.neurons import NEURONS
from neurosbd.neurons.neuron import Neuron
from neurosbd.plasticity import PLASTICITIES, Plasticity
from neurosbd.regularisers import HOMEOSTASES, UPKEEPS, Homeostasis, Upkeep
from neurosbd.rewards import REWARDS, Contingency
from neurosbd.rules import RULES, Rule
from neurosbd.schema import plugins
from neurosbd.schema.constants import Distribution
from neurosbd.schema.schema import Entry, check_tables
from neurosbd.stimuli import STIMULI, Stimulus
from neurosbd.surrogates import SURROGATES, Surrogate
from neurosbd.synapses import SHORT_TERMS, SYNAPSES, ShortTerm, Synapse
from neurosbd.tasks import PROTOCOLS, TASKS, Protocol, Task

Items = MutableMapping[Any, Any]  # of a table by name; each table says what its own makers make
_LEGAL_NAME = re.compile("[a-z][a-z0-9_]{0,59}")
TABLES: Mapping[str, Items] = {
    "rules": RULES, "neurons": NEURONS, "losses": LOSSES, "connections": CONNECTIONS, "constraints": CONSTRAINTS,
    "initialisers": INITIALISERS, "poolings": POOLINGS, "wirings": WIRINGS, "plasticities": PLASTICITIES,
    "neuromodulators": NEUROMODULATORS, "layouts": LAYOUTS,
    "activations": ACTIVATIONS, "expansions": EXPANSIONS, "eligibilities": ELIGIBILITIES, "homeostases": HOMEOSTASES,
    "upkeeps": UPKEEPS, "encoders": ENCODERS, "stimuli": STIMULI, "rewards": REWARDS, "surrogates": SURROGATES,
    "answers": ANSWERS, "distributions": DISTRIBUTIONS, "synapses": SYNAPSES, "short_terms": SHORT_TERMS,
    "optimizers": OPTIMIZERS, "schedules": SCHEDULES, "tasks": TASKS, "protocols": PROTOCOLS, "measures": MEASURES,
    "recipes": RECIPES, "processes": PROCESSES,
}  # fmt: skip
RENAMED = {"projections": "layouts"}
CONTRACTS: Mapping[str, type] = {
    "neurons": Neuron, "losses": Described, "connections": Geometry, "constraints": Constraint,
    "initialisers": Initialiser, "poolings": Pooling, "wirings": Wiring,
    "plasticities": Plasticity, "neuromodulators": Neuromodulator, "layouts": Layout, "expansions": Expansion,
    "homeostases": Homeostasis, "upkeeps": Upkeep, "encoders": Encoder,
    "stimuli": Stimulus, "rewards": Contingency, "surrogates": Surrogate, "answers": Answer,
    "distributions": Distribution, "synapses": Synapse, "short_terms": ShortTerm,
    "optimizers": OptimizerChoice, "schedules": Schedule, "tasks": Task,
    "protocols": Protocol, "processes": Process, "rules": Rule,
}  # fmt: skip
CLOSED: Mapping[str, str] = {
    "eligibilities": "a rule takes one of these by name; what is new about a synapse is a plasticity",
    "activations": "a rule takes some of these by name",
    "measures": "which of them a run has follows from its loss",
}


def table(kind: str) -> Items:
    """The table of a kind.

    Raises:
        UsageError: if there is no such kind; names the nearest one.
    """
    if kind in RENAMED:
        raise UsageError(f"'{kind}' are called '{RENAMED[kind]}' now")
    if kind not in TABLES:
        raise UsageError(f"there is no kind '{kind}'{nearest(str(kind), TABLES)}")
    return TABLES[kind]


def register(kind: str, name: str, item: Callable[..., object]) -> None:
    """Make a part of one's own as good as a shipped one: in model files, on the command line, in lists and checkpoints.

    Args:
        kind: whose table it enters: 'rules', 'neurons', 'losses', ...; `neurosbd list` names them.
        name: what model files call it, {kind = "name"}: lower case letters, digits and _.
        item: a frozen dataclass, or a function that makes a rule, of constants that each have a type and a default;
            it keeps the contract that heads the folder of its kind. `neurosbd.testing` checks that it works.
    Raises:
        UsageError: if the kind is unknown, the name is illegal or taken, or the item breaks its contract; then nothing
            is registered.

    >>> from dataclasses import dataclass
    >>> import torch
    >>> @dataclass(frozen=True)
    ... class Halves:
    ...     value: float = 0.5
    ...     def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    ...         return torch.full(shape, self.value)
    >>> register("initialisers", "zeros", Halves)
    Traceback (most recent call last):
    neurosbd.errors.UsageError: initialisers/zeros: the name is taken; choose another
    """
    there = table(kind)
    where = f"{kind}/{name}"
    if kind in CLOSED:
        raise UsageError(f"{where}: {kind} are not open to parts of your own: {CLOSED[kind]}")
    if not isinstance(name, str) or not _LEGAL_NAME.fullmatch(name):
        raise UsageError(f"{where!r}: a name is lower case letters, digits and _, up to 60, such as 'my_{kind[:-1]}'")
    if name in there or (kind == "losses" and name == "custom"):
        raise UsageError(f"{where}: the name is taken; choose another")
    try:
        _check_item(kind, item)
    except ValueError as problem:
        raise UsageError(f"{where}: {problem}") from None
    plugins.add(kind, name, item, there)
    try:
        for record in (Definition, DatasetFile):
            check_tables(record)
    except (PydanticUserError, TypeError, NameError) as problem:
        plugins.remove(kind, name)
        raise UsageError(
            f"{where}: a constant has a type that no model file can hold ({str(problem).splitlines()[0]}); legal are "
            f"float, int, bool, str, Literal, tuples of them, and the contracts of other tables"
        ) from None


def _check_item(kind: str, item: object) -> None:
    """ValueError of what an item lacks of the contract of its kind."""
    if not callable(item):
        raise ValueError(f"must be a class or a function that makes it, got {type(item).__name__}")
    if kind == "recipes":
        if not _takes(item, 2):
            raise ValueError("a recipe is a function (raw, rule) -> settings by dotted key")
        return
    _check_constants(item, _reserved(kind))
    try:
        made = item()
    except Exception as problem:
        raise ValueError(f"cannot be made of its defaults ({type(problem).__name__}: {problem})") from None
    if kind == "rules":
        for part, contract in (("plasticity", Plasticity), ("neuromodulator", Neuromodulator)):
            if getattr(made, part, None) is not None:
                _check_contract(getattr(made, part), contract, f"its {part} ")
        if getattr(type(made), "learn", None) is Rule.learn:
            raise ValueError("has no method 'learn'; the contract is Rule in neurosbd/learning/rule.py")
    _check_contract(made, CONTRACTS[kind], "")


def _reserved(kind: str) -> set[str]:
    """What a model file says of an entry beside its constants."""
    records = {"connections": ConnectionEntry, "stimuli": StimulusEntry, "rewards": ReinforcementEntry}
    return set(records.get(kind, Entry).model_fields) | set(dir(Entry))


def _check_constants(item: Callable[..., object], reserved: set[str]) -> None:
    """ValueError of the first constant without a default or a type, or with a name that is in use."""
    try:
        hints = get_type_hints(item.__init__ if isinstance(item, type) else item)
    except (NameError, TypeError) as problem:
        raise ValueError(f"the types of its constants cannot be read ({problem})") from None
    for constant in inspect.signature(item).parameters.values():
        if constant.kind is constant.VAR_KEYWORD and get_origin(hints.get(constant.name)) is Unpack:
            continue  # a TypedDict says what they are, and the rule that is made of none of them the defaults
        if constant.kind in (constant.VAR_POSITIONAL, constant.VAR_KEYWORD):
            raise ValueError(f"'*{constant.name}' says nothing of its constants; write each with its type and default")
        if constant.name in reserved or constant.name.startswith("_"):
            raise ValueError(f"a constant cannot be called '{constant.name}'; rename it")
        if constant.name not in hints:
            raise ValueError(f"constant '{constant.name}' has no type; write {constant.name}: float = ..., say")
        if constant.default is constant.empty:
            raise ValueError(f"constant '{constant.name}' has no default; give one, so that its name alone is enough")


def _check_contract(made: object, contract: type, whose: str) -> None:
    """ValueError of the first member or declaration that is missing, or a method that takes other arguments."""
    home = f"the contract is {contract.__name__} in {contract.__module__.replace('.', '/')}.py"
    if isinstance(made, type):
        raise ValueError(f"{whose}makes the class {made.__name__} itself; make an instance; {home}")
    bases = [base for base in contract.__mro__ if getattr(base, "_is_protocol", False) and base.__module__ != "typing"]
    for name in [name for base in bases for name in inspect.get_annotations(base)]:
        if not hasattr(made, name):
            raise ValueError(f"{whose}does not declare '{name}'; {home}")
    members = {name: member for base in bases for name, member in vars(base).items() if not name.startswith("_")}
    for name, member in members.items():
        if not hasattr(made, name):
            kind = "method" if callable(member) else "property"
            raise ValueError(f"{whose}has no {kind} '{name}'; {home}")
        if callable(member):
            wanted = list(inspect.signature(member).parameters)[1:]
            if not _takes(getattr(made, name), len(wanted)):
                raise ValueError(f"{whose}'{name}' must take ({', '.join(wanted)}); {home}")


def _takes(function: Callable[..., object], count: int) -> bool:
    """Whether it can be called with so many arguments by position."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True
