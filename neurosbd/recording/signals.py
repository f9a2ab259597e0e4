"""What can be recorded, of whom, and how it is read off a network that has just stepped."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from neurosbd.connections.delayed import Delayed
from neurosbd.connections.sparse import Sparse
from neurosbd.connections.synapses import is_matrix
from neurosbd.connections.wirings import Pairs
from neurosbd.errors import nearest
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.rule import RuleSignals
from neurosbd.losses import Loss
from neurosbd.network.network import Frame, Network
from neurosbd.network.transmitting import leak_time
from neurosbd.neurons.neuron import gain
from neurosbd.tracefiles.ends import Ends


class Recorded(NamedTuple):
    """Who is recorded."""

    network: Network
    signals: RuleSignals  # what its rule lets be seen
    projections: Callable[[], Mapping[str, Tensor]]  # of the score to the populations, those of now
    loss: Loss | None  # None: nobody scores what the network does
    rewarded: bool = False  # whether reinforcements arrive, as in a free run

    @classmethod
    def of(cls, network: Network, learner: Learner, loss: Loss | None) -> "Recorded":
        """A network that learns."""
        rule = learner.rule
        return cls(network, rule.signals(network), lambda: rule.projections(learner.state), loss)


class StepView(NamedTuple):
    """One step of a trial, as an observer sees it."""

    recorded: Recorded
    batch: Batch | None  # None: nobody scores it
    t: int
    frame: Frame


@dataclass(frozen=True)
class SignalKind:
    """One kind of signal.

    about, unit: for people.
    of: what it belongs to.
    axes: of a row.
    every: how often unless asked otherwise, unit -> stride; {}: at every step of every trial.
    read: it off a `StepView`; None: it comes from the learning, or from between two batches.
    around: whether there is also a row before the first batch, and one at the end.
    """

    about: str
    unit: str
    of: Literal["population", "connection", "network"]
    axes: tuple[str, ...]
    every: Mapping[str, int]
    read: Callable[[StepView, str], Tensor] | None = None
    around: bool = False

    @property
    def per(self) -> Literal["step", "batch"]:
        """Whether there is a row per step or one per batch."""
        return "step" if "example" in self.axes else "batch"


def _state(field: str) -> Callable[[StepView, str], Tensor]:
    return lambda view, where: getattr(view.frame.state.neurons[where], field)


def _rate(view: StepView, where: str) -> Tensor:
    return view.frame.activity[where].value


def _gain(view: StepView, where: str) -> Tensor:
    network = view.recorded.network
    neuron = network.populations[where].neuron
    assert neuron is not None
    return gain(neuron, view.frame.activity[where], network.dt)


def drive(network: Network, frame: Frame, where: str) -> Tensor:
    """What drove a population in this step, [B, *size]: the sum over its connections, computed once more."""
    parts = []
    for connection in network.incoming[where]:
        if connection.name in network.transmissions:
            state, tau_mem = frame.state.synapses[connection.name], leak_time(network.populations[where])
            parts.append(connection.transmission.value([state], network.dt, tau_mem))
        else:
            parts.append(connection.geometry.drive(network.synapses(connection), frame.carried[connection.name]))
    return torch.stack(parts).sum(0) if len(parts) > 1 else parts[0]


def _score(view: StepView, where: str) -> Tensor:
    (network, _, _, loss, _), batch, t, frame = view
    assert loss is not None and batch is not None
    output = frame.activity[where or network.readout].value
    return loss.score(output, batch.target_at(t)) if batch.weights[t] else torch.zeros_like(output)


def _loss(view: StepView, where: str) -> Tensor:
    (network, _, _, loss, _), batch, t, frame = view
    assert loss is not None and batch is not None
    output = frame.activity[where or network.readout].value
    return loss.per_example(output, batch.target_at(t)) if batch.weights[t] else output.new_zeros(len(output))


def _drive(view: StepView, where: str) -> Tensor:
    return drive(view.recorded.network, view.frame, where)


def _transmitted(view: StepView, where: str) -> Tensor:
    """What a connection with dynamics gives in this step, [B, *post size]: a current, or a conductance, without the
    block of its magnesium."""
    network = view.recorded.network
    tau_mem = leak_time(network.populations[network.connections[where].post])
    transmission, state = network.connections[where].transmission, view.frame.state.synapses[where]
    return transmission.value([state], network.dt, tau_mem)


def _current(view: StepView, where: str) -> Tensor:
    """What a connection with dynamics gives in this step, [B, *post size]; of a conductance g (reversal - v), with what
    its magnesium leaves open of g, at the potential at the end of the step."""
    network, given = view.recorded.network, _transmitted(view, where)
    post = network.connections[where].post
    pull = network.conductances.get(post, {}).get(where)
    if pull is None:
        return given
    v = _state("v")(view, post)
    return (given if pull.block is None else given * pull.block.unblocked(v)) * (pull.reversal - v)


def _target(view: StepView, where: str) -> Tensor:
    assert view.batch is not None
    return view.batch.target_at(view.t)


_UNITS, _SYNAPSES, _ROW, _MEASURES = ("example", "neuron"), ("example", "synapse"), ("synapse",), ("measure",)
_SCORE, _GAIN, _E = "d loss / d output", "d value / d drive", "d value / d weight"
_EPOCH, _BATCH, _RARELY = {"epoch": 1}, {"batch": 1}, {"batch": 20}
SIGNALS: dict[str, SignalKind] = {
    "spikes": SignalKind("spikes", "1", "population", _UNITS, {}, _state("spike")),
    "v": SignalKind("potential before the reset of the step", "threshold", "population", _UNITS, {}, _state("v")),
    "rate": SignalKind("what the axons send", "1", "population", _UNITS, {}, _rate),
    "gain": SignalKind("d value / d drive", _GAIN, "population", _UNITS, {}, _gain),
    "drive": SignalKind("sum over the incoming connections", "1", "population", _UNITS, {}, _drive),
    "conductance": SignalKind("g of a connection, held over the step", "leak", "connection", _UNITS, {}, _transmitted),
    "current": SignalKind("what a connection with dynamics gives", "1", "connection", _UNITS, {}, _current),
    "reward": SignalKind("sum of the reinforcements of the step", "1", "network", ("example",), {}),
    "third_factor": SignalKind("signal of the neuromodulator", "d loss / d value", "population", _UNITS, {}),
    "score": SignalKind("d loss / d output of one example", _SCORE, "network", ("example", "output"), {}, _score),
    "loss": SignalKind("loss of one example", "1", "network", ("example",), {}, _loss),
    "target": SignalKind("class or values that the output should tell", "1", "network", ("example",), {}, _target),
    "eligibility": SignalKind("what waits for the third factor", _E, "connection", _SYNAPSES, {}),
    "weight": SignalKind("after the update of the batch", "weight", "connection", _ROW, _EPOCH, around=True),
    "projection": SignalKind("of the score, frozen plus learned part", "1", "population", _ROW, _EPOCH, around=True),
    "dweight": SignalKind("change by the update of the batch", "weight", "connection", _ROW, _BATCH),
    "alignment": SignalKind("cosine and norm ratio with the true gradient", "1", "connection", _MEASURES, _RARELY),
    "hebbian": SignalKind("cosine of the descent with drive x pre, its norm", "1", "connection", _MEASURES, _RARELY),
}
MEASURES = 2  # columns of alignment and hebbian
SCORED = ("score", "loss", "target", "alignment", "hebbian", "projection")  # only where somebody scores the network


def kind_of(what: str, network: Network) -> SignalKind | None:
    """The kind of that name; any field of a neuron's state is one. None if there is no such thing."""
    if what in SIGNALS:
        return SIGNALS[what]
    if what in states(network):
        return SignalKind(f"state variable {what} of the neuron", "1", "population", _UNITS, {}, _state(what))
    return None


def states(network: Network) -> list[str]:
    """Names of the state variables that can be recorded; what is a signal already has the name of the signal alone."""
    found = {field for name in network.incoming for field in fields(network, name)}
    return sorted(found - set(SIGNALS) - {"spike"})


def unknown(what: str, network: Network) -> str:
    """What to say of a name that no signal has: the nearest one that exists, and all of them."""
    legal = [*SIGNALS, *states(network)]
    meant = _MEANT.get(what.lower().rstrip("s"))
    return f"; did you mean '{meant}'? Legal: {', '.join(legal)}" if meant else nearest(what.lower(), legal)


_MEANT = {  # words of the field for what has another name here
    "voltage": "v", "membrane": "v", "potential": "v", "activity": "rate", "activitie": "rate", "label": "target",
    "clas": "target", "error": "score", "dw": "dweight", "modulator": "third_factor", "g": "conductance",
    "dopamine": "reward",
}  # fmt: skip


def fields(network: Network, population: str) -> tuple[str, ...]:
    """State variables of a population that have one value per unit."""
    neuron, size = network.populations[population].neuron, network.populations[population].size
    if neuron is None:
        return ()
    state = neuron.init(torch.zeros(1, *size), torch.Generator())
    found = state._asdict() if hasattr(state, "_asdict") else {}
    return tuple(name for name, value in found.items() if isinstance(value, Tensor) and value.shape[1:] == size)


def places(what: str, kind: SignalKind, recorded: Recorded) -> list[str]:
    """Populations or connections that have this signal; '' for the network, besides heads that have it of their own."""
    network, (third_factors, eligibilities) = recorded.network, recorded.signals
    if (recorded.loss is None and what in SCORED) or (what == "reward" and not recorded.rewarded):
        return []
    if kind.of == "network":
        return ["", *(network.heads if what in ("score", "loss") else ())]
    plastic = [name for name, connection in network.connections.items() if connection.plastic]
    found = {
        "gain": lambda: list(network.incoming),
        # a conductance drives by what the membrane makes of it, and a stimulus is no connection
        "drive": lambda: [name for name, onto in network.incoming.items() if onto and name not in network.conductances],
        "spikes": lambda: [name for name in network.incoming if "spike" in fields(network, name)],
        "rate": lambda: [name for name in network.populations if "spike" not in fields(network, name)],
        "third_factor": lambda: list(third_factors),
        "eligibility": lambda: list(eligibilities),
        "weight": lambda: list(network.connections),
        "conductance": lambda: [name for name in network.transmissions if network.transmissions[name].conducts],
        "current": lambda: [name for name in network.transmissions if _gives_current(name, network)],
        "dweight": lambda: plastic,
        "alignment": lambda: plastic,
        "hebbian": lambda: plastic,
        "projection": lambda: [name for name in network.incoming if name in recorded.projections()],
    }
    if what in found and kind.of == "connection":
        return [name for name in found[what]() if network.weights[name].numel()]  # a list of no synapse has none
    if what in found:
        return found[what]()
    return [name for name in network.incoming if what in fields(network, name)]


def _gives_current(connection: str, network: Network) -> bool:
    """Whether a connection with dynamics is a current, or a conductance onto a membrane that shows its potential."""
    post = network.connections[connection].post
    return not network.transmissions[connection].conducts or "v" in fields(network, post)


def projection(recorded: Recorded, population: str) -> Tensor | None:
    """What the score is projected by to a population, [C, M]; None if it is not."""
    return recorded.projections().get(population)


def size_of(
    what: str, kind: SignalKind, where: str, recorded: Recorded, taught: tuple[int, ...] = ()
) -> tuple[int, ...]:
    """Shape of what the last axis of a row counts through; `taught`: that of the target of an example."""
    network = recorded.network
    if kind.axes[-1] == "measure":
        return (MEASURES,)
    if kind.of == "network":
        return network.populations[where or network.readout].size if "output" in kind.axes else taught
    if what == "projection":
        there = projection(recorded, where)
        assert there is not None
        return tuple(there.shape)
    if kind.of == "population" or kind.axes[-1] == "neuron":
        return network.populations[felt_by(where, kind, network)].size
    return tuple(network.weights[where].shape)


def synapses(kind: SignalKind, where: str, recorded: Recorded) -> list[int] | None:
    """Places of the synapses that a matrix has, where a signal is of them; None: all its places."""
    if kind.of != "connection" or kind.axes[-1] != "synapse":
        return None
    present = recorded.network.present(recorded.network.connections[where])
    return None if present is None else present.flatten().nonzero().flatten().tolist()


def felt_by(where: str, kind: SignalKind, network: Network) -> str:
    """The population whose units a row counts through."""
    return where if kind.of == "population" else network.connections[where].post


def counted(what: str, kind: SignalKind, where: str, recorded: Recorded) -> tuple[str, ...]:
    """What the numbers of that shape count: names of the axes of a population; () of anything else."""
    populations = recorded.network.populations
    if kind.axes[-1] == "neuron":
        return populations[felt_by(where, kind, recorded.network)].named_axes.names
    return populations[where or recorded.network.readout].named_axes.names if "output" in kind.axes else ()


def is_listed(kind: SignalKind, where: str, network: Network) -> bool:
    """Whether a signal is of synapses whose units are listed one by one, which says their delays, too, if each has its
    own."""
    return kind.of == "connection" and kind.axes[-1] == "synapse" and _pairs(where, network) is not None


def listed_ends(where: str, items: tuple[int, ...] | None, network: Network) -> Ends:
    """The units that synapses of a list join.

    Args:
        where: name of a connection that is stored as a list, or as a matrix with delays of its own.
        items: which of its synapses; None: all.
        network: that has it.
    """
    geometry, pairs = network.connections[where].geometry, _pairs(where, network)
    assert pairs is not None
    chosen = slice(None) if items is None else torch.tensor(items, dtype=torch.long, device=pairs.post.device)
    delay = geometry.delays() if isinstance(geometry, Sparse | Delayed) else None
    return Ends(*(None if each is None else each.flatten()[chosen].cpu().numpy() for each in (*pairs, delay)))  # type: ignore[arg-type]


def _pairs(where: str, network: Network) -> Pairs | None:
    """The units of the synapses of a connection that lists them, or has a matrix of delays."""
    connection = network.connections[where]
    if isinstance(connection.geometry, Delayed) and is_matrix(connection.geometry.delays()):
        return Pairs(*torch.ones_like(connection.geometry.delays()).nonzero().int().unbind(1))
    return connection.geometry.axes(tuple(network.weights[where].shape), network.populations[connection.pre].size).pairs
