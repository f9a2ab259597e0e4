"""What a rule or a free run asks of a model file that it leaves open."""

from collections.abc import Mapping

from neurosbd.errors import UsageError
from neurosbd.files.parsing import JsonTable
from neurosbd.plasticity import PLASTICITIES
from neurosbd.rules import RULES
from neurosbd.schema.schema import parameters


def suit_free_run(raw: JsonTable, source: str, origin: dict[str, str]) -> None:
    """A free run has no loss, so that its readout follows the rule as all do; without a rule nothing learns."""
    asked = raw.get("protocol")
    if "conditioning" in (asked, asked.get("kind") if isinstance(asked, dict) else None):
        raise UsageError(
            f"{source}: protocol 'conditioning' is a free run now: [simulation] and [[reward]] kind = 'coincidence'; "
            f"see the model dopamine-conditioning and docs/free-runs.md"
        )
    if "simulation" not in raw:
        stray = next((key for key in ("stimulus", "reward", "labelling") if key in raw), None)
        if stray is not None:
            raise UsageError(
                f"{source}: [[{stray}]] is for a free run; add [simulation] with a duration, such as "
                f"simulation = {{ duration = '1 s' }}, or leave it out"
            )
        return
    others = [key for key in ("task", "protocol", "data") if key in raw]
    if others:
        raise UsageError(f"{source}: [simulation] and [{others[0]}] are different experiments; leave one of them out")
    if "rule" not in raw:
        _fix_others(raw, origin)
        return
    if isinstance(raw["rule"], str):
        raw["rule"] = {"kind": raw["rule"]}
    made = RULES.get(str(raw["rule"].get("kind"))) if isinstance(raw["rule"], dict) else None
    if made is not None and "readout" in parameters(made) and "readout" not in raw["rule"]:
        raw["rule"]["readout"] = "rule"
        origin["rule.readout"] = "simulation"


def suit_rule(raw: JsonTable, origin: dict[str, str]) -> None:
    """A rule for a network whose plastic connections all have a plasticity of their own, where nothing names one."""
    connections = raw.get("connection")
    if "rule" in raw or not isinstance(connections, list) or not all(isinstance(c, dict) for c in connections):
        return
    if any("plasticity" in connection for connection in connections):
        _fix_others(raw, origin)
    plastic = [connection for connection in connections if connection.get("plastic", True)]
    if plastic and all("plasticity" in connection for connection in plastic):
        raw["rule"] = {"kind": "stdp", "readout": "rule"}
        origin |= dict.fromkeys(("rule.kind", "rule.readout"), "every plastic connection has its own plasticity")


def _fix_others(raw: JsonTable, origin: dict[str, str]) -> None:
    """In a free run without a rule a connection learns that has a plasticity of its own, and no other."""
    connections = raw.get("connection")
    for number, connection in enumerate(connections) if "simulation" in raw and isinstance(connections, list) else ():
        if isinstance(connection, dict) and not connection.keys() & {"plastic", "plasticity"}:
            connection["plastic"] = False
            origin[f"connection.{number}.plastic"] = "no rule"


def suit_optimizer(raw: JsonTable, kind: str, origin: dict[str, str]) -> None:
    """Plain SGD with a learning rate of 1 for a rule that states by how much its weights change, where nothing names an
    optimizer."""
    if _states_changes(raw.get("rule"), kind):
        training = raw.setdefault("training", {})
        asked = training.get("optimizer", {}) if isinstance(training, dict) else None
        if isinstance(asked, dict) and "kind" not in asked:
            training["optimizer"] = {"kind": "sgd", "lr": 1.0, **asked}
            own = (f"training.optimizer.{key}" for key in ("kind", "lr") if key not in asked)
            origin |= dict.fromkeys(own, f"rule {kind}")


def _states_changes(table: object, kind: str) -> bool:
    """Whether the plasticity of a rule, its own or the one that its table names, says how much a weight changes."""
    rule = RULES[kind]() if kind in RULES else None
    if rule is None:
        return False
    chosen = table.get("plasticity") if isinstance(table, Mapping) else None
    name = chosen.get("kind") if isinstance(chosen, Mapping) else chosen
    return PLASTICITIES[name]().states_changes if name in PLASTICITIES else rule.states_changes
