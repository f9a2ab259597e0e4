"""Which part of a user's own a failure comes from: looked for when something has failed, and never before."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from neurosbd.config.definition import Experiment
from neurosbd.errors import RunError, UsageError
from neurosbd.network.network import Connection, Network
from neurosbd.runs.machine import exhausted, first_line
from neurosbd.schema import plugins

_ENGINE = Path(__file__).parents[1]
_AT_CONNECTIONS = ("plasticities", "upkeeps", "connections")
RULE = "the rule"


class OwnPart(NamedTuple):
    """A part of a running experiment whose code is a user's own."""

    kind: str  # as in TABLES
    item: object
    place: str  # where it is at work, as in "population 'hidden1'"


@contextmanager
def naming_own_parts(experiment: Experiment, refusal: type[UsageError] | type[RunError] = RunError) -> Iterator[None]:
    """Context in which an experiment is set up or run: what fails in a part of a user's own is told with its name.

    Args:
        experiment: whose parts may be to blame.
        refusal: what is raised in place of such an exception, and from it.
    """
    try:
        yield
    except (UsageError, RunError, OSError):
        raise
    except Exception as problem:
        accusation = None if exhausted(problem) else _accusation(problem, experiment)
        if accusation is None:
            raise
        raise refusal(accusation) from problem


def own_parts(experiment: Experiment) -> list[OwnPart]:
    """Those of an experiment that are not shipped."""
    rule = experiment.rule
    parts = [OwnPart("neurons", p.neuron, f"population '{p.name}'") for p in experiment.populations if p.neuron]
    parts += [OwnPart("connections", c.geometry, f"connection '{c.name}'") for c in experiment.connections]
    parts += [OwnPart("encoders", experiment.encoder, "the input"), OwnPart("losses", experiment.loss, "the loss")]
    parts += [OwnPart("tasks", experiment.task, "the task")] if experiment.task else []
    parts += [OwnPart("protocols", experiment.protocol, "the protocol")] if experiment.protocol else []
    parts += [OwnPart(kind, item, RULE) for kind, items in rule.parts().items() for item in items]
    parts += [OwnPart("rules", rule, RULE)]
    return [part for part in parts if type(part.item).__module__.partition(".")[0] != "neurosbd"]


def _accusation(problem: Exception, experiment: Experiment) -> str | None:
    """What is wrong with the part that a failure comes from; None where none of a user's own seems to be to blame."""
    parts, frames = own_parts(experiment), list(_frames(problem))
    for number in reversed(range(len(frames))):
        frame, line = frames[number]
        for part in parts:
            if _runs(frame, part):
                place = _place(part, [frame for frame, _ in frames[:number]], experiment.network)
                where = f"{Path(frame.f_code.co_filename).name}:{line}"
                what = f"{type(problem).__name__}: {_said(problem)}"
                return f"{place}: {_name(part)} failed at {where} ({what}). {_advice(part, experiment)}"
    return broken_contract(experiment, [frame for frame, _ in frames])


def broken_contract(experiment: Experiment, frames: Sequence[FrameType] = ()) -> str | None:
    """The first part that breaks the contract of its kind, where the engine noticed it later; None: none does."""
    from neurosbd.testing import CHECKS

    for part in own_parts(experiment):
        for check in CHECKS[part.kind]:
            try:
                check(lambda part=part: part.item)
            except Exception as problem:  # whatever a part of one's own may raise
                broken = f"{_name(part)} breaks its contract: {_said(problem)}"
                place = _place(part, frames, experiment.network) if part.place == RULE else part.place
                return f"{place}: {broken}. {_advice(part, experiment)}"
    return None


def _frames(problem: Exception) -> Iterator[tuple[FrameType, int]]:
    """From the outermost to the innermost, with the line that was at work."""
    trace = problem.__traceback__
    while trace is not None:
        yield trace.tb_frame, trace.tb_lineno
        trace = trace.tb_next


def _runs(frame: FrameType, part: OwnPart) -> bool:
    """Whether a frame is one of a method that the part does not inherit from a shipped one."""
    own = not Path(frame.f_code.co_filename).is_relative_to(_ENGINE)
    return own and type(frame.f_locals.get("self")) is type(part.item)  # its constants may have been drawn since


def _place(part: OwnPart, above: Sequence[FrameType], network: Network) -> str:
    """The population or connection that the engine was at when it called the part, as far as it can be seen."""
    for frame in reversed(above):
        name, plan = frame.f_locals.get("name"), frame.f_locals.get("plan")
        connection = frame.f_locals.get("connection", getattr(plan, "connection", None))
        if part.kind in _AT_CONNECTIONS and isinstance(connection, Connection):
            return f"connection '{connection.name}'"
        if isinstance(name, str) and name in network.populations:
            return f"population '{name}'"
    return part.place


def _said(problem: Exception) -> str:
    return first_line(problem).rstrip(". ")


def _name(part: OwnPart) -> str:
    """As it is registered, else its class."""
    name = plugins.registration(type(part.item))
    return f"{name.kind}/{name.name}" if name else f"{type(part.item).__name__} ({part.kind})"


def _advice(part: OwnPart, experiment: Experiment) -> str:
    """How to check it outside a run."""
    rule = plugins.registration(type(experiment.definition.rule).make)
    known = plugins.registration(type(part.item)) or (rule if part.place == RULE else None)
    if known is None:
        return f"neurosbd.testing has the checks of {part.kind}"
    file = plugins.file_of(known.item)
    plugin = f" --plugin {file}" if file else " (import what registers it first)"
    return f"Check it: python -m neurosbd.testing {known.kind} {known.name}{plugin}"
