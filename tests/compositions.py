"""Rules with constants given flat, wherever they belong: for tests that vary many of them."""

from dataclasses import fields, is_dataclass, replace
from typing import Any

from neurosbd.learning.learner import Learner
from neurosbd.learning.rule_state import LocalState
from neurosbd.neuromodulators import Forgetting
from neurosbd.rules import RULES, LocalRule


def rule_of(name: str, **constants: Any) -> LocalRule:
    """A named rule; each constant goes to the rule, its plasticity, the window of that, or its neuromodulator."""
    rule: Any = RULES[name]()
    parts: dict[str, Any] = {}
    for key, value in constants.items():
        if key in {field.name for field in fields(rule)}:
            parts[key] = value
            continue
        where = next(p for p in ("neuromodulator", "plasticity") if _has(getattr(rule, p), key))
        parts[where] = _changed(parts.get(where, getattr(rule, where)), key, value)
    return RULES[name](**parts)  # type: ignore[return-value]


def _has(component: Any, key: str) -> bool:
    if not is_dataclass(component):
        return False
    names = {field.name for field in fields(component)}
    return key in names or ("window" in names and _has(component.window, key))  # type: ignore[attr-defined]


def _changed(component: Any, key: str, value: Any) -> Any:
    if key not in {field.name for field in fields(component)}:
        return replace(component, window=replace(component.window, **{key: value}))
    schedule = isinstance(getattr(component, key), Forgetting) and isinstance(value, float)
    return replace(component, **{key: Forgetting(value) if schedule else value})


def state_of(learner: Learner) -> LocalState:
    """What a local rule has learned outside the synapses."""
    assert isinstance(learner.state, LocalState)
    return learner.state
