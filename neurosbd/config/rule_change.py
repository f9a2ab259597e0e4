"""What of the table of one rule stays when another rule takes its place."""

import dataclasses
from collections.abc import Mapping

from neurosbd.files.parsing import Json, JsonTable
from neurosbd.rules import RULES
from neurosbd.rules.composed import Parts
from neurosbd.schema.schema import parameters

_COMPONENTS = ("plasticity", "neuromodulator")


def carried_over(table: object, rule: str) -> JsonTable:
    """The part of a [rule] table that has a meaning for another rule.

    Constants of plasticity and neuromodulator stay where the other rule's have constants of that name; a component that
    the file has chosen in place of the old rule's own goes with that rule. What all rules share stays where it does
    something. What has the name of another rule's constant but not its type, such as other words, is another thing.

    Args:
        table: as the file has it, not yet checked.
        rule: name of the other rule.

    >>> carried_over({"kind": "sbd", "delay": 1, "neuromodulator": {"scale": 0.1, "forgetting": 0.9}}, "dfa")
    {'delay': 1, 'neuromodulator': {'scale': 0.1}}
    """
    if not isinstance(table, Mapping):
        return {}
    old = str(table.get("kind", "sbd"))
    if old == rule or old not in RULES:
        return dict(table)
    was, now = RULES[old](), RULES[rule]()
    before, legal, common = parameters(RULES[old]), parameters(RULES[rule]), {}
    for part, value in table.items():
        if part not in legal:
            continue
        if part in _COMPONENTS:
            same = part == "plasticity" or was.scored == now.scored
            constants = _common(value, getattr(now, part, None)) if same else {}
            common |= {part: constants} if constants else {}
        elif part == "readout":
            common |= {part: value} if was.scored == now.scored else {}
        elif part in Parts.__annotations__:
            common |= {part: value} if now.takes(part, value) else {}
        elif before.get(part, legal[part])[0] == legal[part][0]:
            common[part] = value
    return common


def _common(value: Json, component: Json) -> JsonTable:
    """Constants that another component has, too; none of one that was chosen by its kind."""
    if not isinstance(value, Mapping) or "kind" in value or component is None:
        return {}
    names = {field.name for field in dataclasses.fields(component)}
    return {key: constant for key, constant in value.items() if key in names}
