"""What can be recorded, of whom, and how it is read off a network that has just stepped. Layer 3."""

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from neurosbd.errors import nearest
from neurosbd.learners import Learner, LocalLearner, Trial
from neurosbd.local import LocalRun
from neurosbd.losses import Loss
from neurosbd.memory import Memory, followers
from neurosbd.network import INPUT, Frame, Network
from neurosbd.process import gain
from neurosbd.rules import LocalRule


class Subject(NamedTuple):
    """Who is recorded."""

    network: Network
    rule: LocalRule | None  # None: backprop
    modulators: Mapping[str, Any]  # states of the neuromodulators by population, always those of now
    loss: Loss | None  # None: nobody scores what the network does

    @classmethod
    def of(cls, network: Network, learner: Learner, loss: Loss) -> "Subject":
        """A network that is trained."""
        local = isinstance(learner, LocalLearner)
        return cls(network, learner.rule if local else None, learner.memory.modulators if local else {}, loss)


class Moment(NamedTuple):
    """One step of a trial, as an observer sees it."""

    subject: Subject
    trial: Trial | None  # None: nobody scores it
    t: int
    frame: Frame


@dataclass(frozen=True)
class Kind:
    """One kind of signal.

    about, unit: for people.
    of: what it belongs to.
    axes: of a row.
    every: how often unless asked otherwise, unit -> stride; {}: at every step of every trial.
    read: off a moment of a trial; none: it comes from the learning, or from between two batches.
    around: whether there is also a row before the first batch, and one at the end.
    """

    about: str
    unit: str
    of: Literal["population", "connection", "network"]
    axes: tuple[str, ...]
    every: Mapping[str, int]
    read: Callable[[Moment, str], Tensor] | None = None
    around: bool = False

    @property
    def per(self) -> Literal["step", "batch"]:
        """Whether there is a row per step or one per batch."""
        return "step" if "example" in self.axes else "batch"


def _state(field: str) -> Callable[[Moment, str], Tensor]:
    return lambda moment, where: getattr(moment.frame.state.neurons[where], field)


def _rate(moment: Moment, where: str) -> Tensor:
    return moment.frame.activity[where].value


def _gain(moment: Moment, where: str) -> Tensor:
    network = moment.subject.network
    neuron = network.populations[where].neuron
    assert neuron is not None
    return gain(neuron, moment.frame.activity[where], network.dt)


def drive(network: Network, frame: Frame, where: str) -> Tensor:
    """What drove a population in this step, [B, *size]: the sum over its connections, computed once more."""
    parts = [
        connection.geometry.drive(network.synapses(connection), frame.carried[connection.name])
        for connection in network.incoming[where]
    ]
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


def _score(moment: Moment, where: str) -> Tensor:
    (network, _, _, loss), trial, t, frame = moment
    assert loss is not None and trial is not None
    output = frame.activity[network.readout].value
    return loss.score(output, trial.target_at(t)) if trial.weights[t] else torch.zeros_like(output)


def _loss(moment: Moment, where: str) -> Tensor:
    (network, _, _, loss), trial, t, frame = moment
    assert loss is not None and trial is not None
    output = frame.activity[network.readout].value
    return loss.per_example(output, trial.target_at(t)) if trial.weights[t] else output.new_zeros(len(output))


def _drive(moment: Moment, where: str) -> Tensor:
    return drive(moment.subject.network, moment.frame, where)


def _target(moment: Moment, where: str) -> Tensor:
    assert moment.trial is not None
    return moment.trial.target_at(moment.t)


_UNITS, _SYNAPSES, _ROW, _MEASURES = ("example", "neuron"), ("example", "synapse"), ("synapse",), ("measure",)
_SCORE, _GAIN, _E = "d loss / d output", "d value / d drive", "d value / d weight"
_EPOCH, _BATCH, _RARELY = {"epoch": 1}, {"batch": 1}, {"batch": 20}
KINDS: dict[str, Kind] = {
    "spikes": Kind("spikes", "1", "population", _UNITS, {}, _state("spike")),
    "v": Kind("potential before the reset of the step", "threshold", "population", _UNITS, {}, _state("v")),
    "rate": Kind("what the axons send", "1", "population", _UNITS, {}, _rate),
    "gain": Kind("d value / d drive", _GAIN, "population", _UNITS, {}, _gain),
    "drive": Kind("sum over the incoming connections", "1", "population", _UNITS, {}, _drive),
    "third_factor": Kind("signal of the neuromodulator", "d loss / d value", "population", _UNITS, {}),
    "score": Kind("d loss / d output of one example", _SCORE, "network", ("example", "output"), {}, _score),
    "loss": Kind("loss of one example", "1", "network", ("example",), {}, _loss),
    "target": Kind("class or values that the output should tell", "1", "network", ("example",), {}, _target),
    "eligibility": Kind("what waits for the third factor", _E, "connection", _SYNAPSES, {}),
    "weight": Kind("after the update of the batch", "weight", "connection", _ROW, _EPOCH, around=True),
    "projection": Kind("of the score, frozen plus learned part", "1", "population", _ROW, _EPOCH, around=True),
    "dweight": Kind("change by the update of the batch", "weight", "connection", _ROW, _BATCH),
    "alignment": Kind("cosine and norm ratio with the true gradient", "1", "connection", _MEASURES, _RARELY),
    "hebbian": Kind("cosine of the descent with drive x pre, its norm", "1", "connection", _MEASURES, _RARELY),
}
MEASURES = 2  # columns of alignment and hebbian
SCORED = ("score", "loss", "target", "alignment", "hebbian", "projection")  # only where somebody scores the network


def kind_of(what: str, network: Network) -> Kind | None:
    """The kind of that name; any field of a neuron's state is one. None if there is no such thing."""
    if what in KINDS:
        return KINDS[what]
    if what in states(network):
        return Kind(f"state variable {what} of the neuron", "1", "population", _UNITS, {}, _state(what))
    return None


def states(network: Network) -> list[str]:
    """Names of the state variables that can be recorded; what is a signal already has the name of the signal alone."""
    found = {field for name in network.incoming for field in fields(network, name)}
    return sorted(found - set(KINDS) - {"spike"})


def unknown(what: str, network: Network) -> str:
    """What to say of a name that no signal has: the nearest one that exists, and all of them."""
    legal = [*KINDS, *states(network)]
    meant = _MEANT.get(what.lower().rstrip("s"))
    return f"; did you mean '{meant}'? Legal: {', '.join(legal)}" if meant else nearest(what.lower(), legal)


_MEANT = {  # words of the field for what has another name here
    "voltage": "v", "membrane": "v", "potential": "v", "activity": "rate", "activitie": "rate", "label": "target",
    "clas": "target", "error": "score", "dw": "dweight", "current": "drive", "modulator": "third_factor",
}  # fmt: skip


def fields(network: Network, population: str) -> tuple[str, ...]:
    """State variables of a population that have one value per unit."""
    neuron, size = network.populations[population].neuron, network.populations[population].size
    if neuron is None:
        return ()
    state: Any = neuron.init(torch.zeros(1, *size), torch.Generator())
    found = state._asdict() if hasattr(state, "_asdict") else {}
    return tuple(name for name, value in found.items() if isinstance(value, Tensor) and value.shape[1:] == size)


def places(what: str, kind: Kind, subject: Subject) -> list[str]:
    """Populations or connections that have this signal; [''] for the network."""
    network, rule = subject.network, subject.rule
    if subject.loss is None and what in SCORED:
        return []
    if kind.of == "network":
        return [""]
    plastic = [name for name, connection in network.connections.items() if connection.plastic]
    told = followers(network, rule) if rule is not None and rule.neuromodulator is not None else []
    if what in ("gain", "drive"):
        return list(network.incoming)
    found = {
        "spikes": lambda: [name for name in network.incoming if "spike" in fields(network, name)],
        "rate": lambda: [INPUT, *(name for name in network.incoming if "spike" not in fields(network, name))],
        "third_factor": lambda: told,
        "eligibility": lambda: [] if rule is None else waiting(network, rule),
        "weight": lambda: list(network.connections),
        "dweight": lambda: plastic,
        "alignment": lambda: plastic,
        "hebbian": lambda: plastic,
        "projection": lambda: [name for name in told if projection(subject, name) is not None],
    }
    if what in found:
        return found[what]()
    return [name for name in network.incoming if what in fields(network, name)]


def waiting(network: Network, rule: LocalRule) -> list[str]:
    """Connections where something waits for a third factor, found by asking each of them once."""
    found: list[str] = []

    class Asking:
        def told(self, population: str, signal: Tensor | None) -> None:
            pass

        def remembered(self, connection: str, eligibility: Callable[[Tensor], Tensor]) -> None:
            with contextlib.suppress(ValueError):
                eligibility(torch.zeros(1, dtype=torch.int64, device=x.device))
                found.append(connection)

    x = next(network.parameters()).new_zeros((1, *network.populations[INPUT].size))
    with torch.no_grad():
        run = LocalRun(network, rule, Memory(), 0.0, None, Asking())
        frame = network.step(network.init(x, torch.Generator()), x)
        for name, plan in run.plans.items():
            for connection in plan.connections:
                run.follow(connection, plan, frame.activity[name], None, frame)
    return found


def projection(subject: Subject, population: str) -> Tensor | None:
    """What the score is projected by to a population, [C, M]; None if it is not."""
    assert subject.rule is not None and subject.rule.neuromodulator is not None
    return subject.rule.neuromodulator.projection(subject.modulators[population])


def size_of(what: str, kind: Kind, where: str, subject: Subject, taught: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Shape of what the last axis of a row counts through; `taught`: that of the target of an example."""
    network = subject.network
    if kind.axes[-1] == "measure":
        return (MEASURES,)
    if kind.of == "network":
        return network.populations[network.readout].size if "output" in kind.axes else taught
    if what == "projection":
        there = projection(subject, where)
        assert there is not None
        return tuple(there.shape)
    return network.populations[where].size if kind.of == "population" else tuple(network.weights[where].shape)
