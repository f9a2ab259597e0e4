"""Time in blocks: K steps at once give what K steps give, for every neuron, rule and connection."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.connections import Conv2d, Dense
from neurosbd.connections.pooling import AveragePool
from neurosbd.connections.synapses import Synapses
from neurosbd.distributions import Normal
from neurosbd.expansions import EXPANSIONS
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.ranks import Alone
from neurosbd.learning.rule import Rule
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network.blocks import stages
from neurosbd.network.network import Connection, Frame, Network, Population
from neurosbd.neurons import LI, LIF, NEURONS
from neurosbd.neurons.neuron import Neuron
from neurosbd.regularisers import HOMEOSTASES
from neurosbd.rules import RULES
from tests.spiking import legal_step

STEPS, BATCH, DT = 11, 3, 1e-3
SPIKING = [name for name in NEURONS if hasattr(NEURONS[name]().init(torch.zeros(1, 2), torch.Generator()), "spike")]
LENGTHS = (2, 4, 11)
Build = Callable[[Neuron, int | None], Network]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def dense(neuron: Neuron, block: int | None, readout: Neuron | None = None, loops: bool = True) -> Network:
    """Two hidden populations; the second hears itself, late, and the first hears it even later."""
    populations = [
        Population("input", (6,), None), Population("first", (5,), neuron), Population("second", (4,), neuron),
        Population("output", (3,), readout or LI()),
    ]  # fmt: skip
    connections = [
        Connection("input", "first", Dense(bias=True)), Connection("first", "second", Dense(), delay=2),
        Connection("second", "output", Dense(bias=True)), Connection("first", "output", Dense(), delay=1),
    ]  # fmt: skip
    if loops:
        connections += [Connection("second", "second", Dense()), Connection("second", "first", Dense(), delay=3)]
    return loud(Network(populations, connections, seeded(), legal_step(neuron, DT), block=block))


def maps(neuron: Neuron, block: int | None) -> Network:
    populations = [
        Population("input", (2, 6, 6), None), Population("first", (3, 6, 6), neuron),
        Population("second", (4, 3, 3), neuron), Population("output", (3,), LI()),
    ]  # fmt: skip
    connections = [
        Connection("input", "first", Conv2d(3, padding=1)),
        Connection("first", "second", Conv2d(3, padding=1, pool=AveragePool(), bias=True)),
        Connection("second", "output", Dense()),
    ]
    return loud(Network(populations, connections, seeded(), legal_step(neuron, DT), block=block))


def loud(network: Network) -> Network:
    """In float64, with weights that make units spike."""
    with torch.no_grad():
        for weight in network.weights.values():
            weight.mul_(2)
    return network.double()


def spikes(network: Network) -> Tensor:
    size = network.populations["input"].size
    return (torch.rand(STEPS, BATCH, *size, generator=seeded(1)) < 0.5).double()


def learned(
    network: Network, rule: Rule, weights: Sequence[float] = (), loss: str = "cross_entropy", batches: int = 2
) -> dict[str, Tensor]:
    """Gradients of some batches, one after another, what the rule has kept, and what was said."""
    learner = Learner(network, rule, LOSSES[rule.loss or loss](), seeded(2))
    found = {}
    for number in range(batches):
        batch = Batch(spikes(network), torch.arange(BATCH), weights, task=torch.zeros(BATCH, dtype=torch.long))
        result = learner.learn(batch, noise=seeded(3 + number))
        found |= {f"loss {number}": result.loss, f"output {number}": result.output}
        learner.after_step()
    found |= {name: parameter.grad for name, parameter in network.named_parameters() if parameter.grad is not None}
    found |= {f"head {name}": head.grad for name, head in learner.parameters.items() if head.grad is not None}
    return found | {f"state {number}": value for number, value in enumerate(tensors(learner.state_dict()))}


def tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in parts for tensor in tensors(part)]


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        scale = value.abs().max().item() if value.numel() else 0
        torch.testing.assert_close(
            found[name], value, rtol=1e-11, atol=1e-12 * max(scale, 1e-3), msg=name, equal_nan=True
        )


def rows(network: Network) -> list[dict[str, Tensor]]:
    """What observers see of every step."""
    seen = []

    def look(t: int, frame: Frame) -> None:
        row = {f"{name} {k}": v.clone() for name, shown in frame.activity.items() for k, v in enumerate(shown[:2])}
        row |= {f"carried {name}": value.clone() for name, value in frame.carried.items()}
        row |= {f"{name} state {k}": v for name, s in frame.state.neurons.items() for k, v in enumerate(tensors(s))}
        row |= {f"{name} way {k}": v for name, way in frame.state.underway.items() for k, v in enumerate(way)}
        seen.append({name: value.clone() for name, value in row.items()})

    unroll(network, spikes(network), (look,), generator=seeded(3))
    return seen


@pytest.mark.parametrize("block", LENGTHS)
@pytest.mark.parametrize("name", [name for name in SPIKING if name != "izhikevich"])
@pytest.mark.parametrize("build", [dense, maps, functools.partial(dense, loops=False)], ids=["loops", "maps", "dense"])
def test_observers_see_the_same_rows(build: Build, name: str, block: int) -> None:
    """Activity, state, arrivals and what is on its way, of every step. Must fail when a way is cut one step late, when
    a scan begins with silence, and when a population does not wait for a later one (tried)."""
    found, wanted = rows(build(NEURONS[name](), block)), rows(build(NEURONS[name](), 1))
    assert len(found) == len(wanted) == STEPS
    assert any(row["first 0"].any() for row in wanted)
    for one, other in zip(found, wanted, strict=True):
        same(one, other)


@pytest.mark.parametrize("constants", [
    {"refractory": 3e-3}, {"reset": "to_value"}, {"reset": "none"}, {"r": 0.7, "v_leak": 0.1},
    {"tau_mem": Normal(20e-3, 2e-3, 1e-3)}, {"v_threshold": Normal(1.0, 0.1, 0.1)},
], ids=str)  # fmt: skip
def test_constants_of_every_kind(constants: dict[str, Any]) -> None:
    """Refractoriness, resets, constants of every unit."""
    for one, other in zip(rows(dense(LIF(**constants), 4)), rows(dense(LIF(**constants), 1)), strict=True):
        same(one, other)


@dataclasses.dataclass(frozen=True)
class Through(Dense):
    """One to one, as it comes."""

    def drive(self, synapses: Synapses, arriving: Tensor) -> Tensor:
        return arriving


def test_what_arrived_is_not_written_over() -> None:
    """By the scan of neurons whose drive it is. Must fail when the scan has the memory of what arrived (tried)."""
    seen = []
    for block in (4, 1):
        populations = [
            Population("input", (6,), None),
            Population("first", (6,), LIF()),
            Population("output", (6,), LI()),
        ]
        connections = [Connection("input", "first", Through()), Connection("first", "output", Dense())]
        seen.append(rows(Network(populations, connections, seeded(), DT, block=block).double()))
    for one, other in zip(*seen, strict=True):
        same(one, other)


def test_who_waits_for_whom() -> None:
    """Populations that hear each other are together, if what they hear has less time to travel than a block has."""
    network = dense(LIF(), None)
    assert stages(network, 1) == stages(network, 3) == [["first"], ["second"], ["output"]]
    assert stages(network, 4) == [["first", "second"], ["output"]]


LOCAL = [name for name in RULES if name not in ("corinfomax",)]


def trainable(name: str, build: Build, neuron: Neuron, block: int | None, **constants: Any) -> tuple[Network, Rule]:
    """A network and a rule that fit, or a skip with the reason."""
    network, rule = build(neuron, block), RULES[name](**constants)
    try:
        Learner(network, rule, LOSSES[rule.loss or "cross_entropy"](), seeded())
    except ValueError as problem:
        pytest.skip(str(problem))
    return network, rule


@pytest.mark.parametrize("block", LENGTHS)
@pytest.mark.parametrize("neuron", ["lif", "alif", "cubalif", "escape"])
@pytest.mark.parametrize("build", [dense, maps, functools.partial(dense, loops=False)], ids=["loops", "maps", "dense"])
@pytest.mark.parametrize("name", LOCAL)
def test_every_rule_learns_the_same(name: str, build: Build, neuron: str, block: int) -> None:
    """Gradients of two batches, what the rule keeps, loss and answer. Must fail when the traces of before a block are
    forgotten, when a filter runs backwards past its block, when R is one step old, and when what waits for a reward
    is a step older than it is (tried)."""
    found = learned(*trainable(name, build, NEURONS[neuron](), block))
    same(found, learned(*trainable(name, build, NEURONS[neuron](), 1)))


RESTING = {
    "lif, refractory": LIF(refractory=3e-3),
    "lif, clamped": LIF(refractory=3e-3, refractoriness="clamped", reset="to_value"),
    "alif, refractory": NEURONS["alif"](refractory=2e-3),
}
FEWER = {name: make() for name, make in NEURONS.items() if name not in ("lif", "alif", "cubalif", "escape")} | RESTING


@pytest.mark.parametrize("neuron", FEWER)
@pytest.mark.parametrize("name", ["sbd", "eprop", "stdp", "rstdp", "dkp"])
def test_every_neuron_learns_the_same(name: str, neuron: str) -> None:
    """The same of all other neurons, and of units that rest, under a rule of each kind; what does not fit is skipped
    with its reason. Must fail when the steps that a unit still rests are forgotten from block to block (tried)."""
    found = learned(*trainable(name, dense, FEWER[neuron], 4), batches=1)
    same(found, learned(*trainable(name, dense, FEWER[neuron], 1), batches=1))


OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "activity filter": ("sbd", {"activity_filter": 10e-3}),
    "delay": ("sbd", {"delay": 3}),
    "homeostasis": ("sbd", {"homeostasis": tuple(HOMEOSTASES[n]() for n in HOMEOSTASES)}),
    "expansion": ("sbd", {"expansion": (EXPANSIONS["bartlett"](),)}),
    "forward": ("sbd", {"forward_broadcast": 0.1}),
    "readout": ("sbd", {"readout": "rule"}),
    "score": ("dfa", {"readout": "score"}),
    "rates": ("sbd", {"rate_cost": 10.0}),
    "eprop rates": ("eprop", {"rate_cost": 10.0}),
    "exact": ("sbd", {"eligibility": "exact"}),
    "delayed reward": ("rstdp", {"delay": 2}),
}


@pytest.mark.parametrize(
    "weights", [(), (0.0,) * 5 + (1 / 6,) * 6, (0.0,) * 10 + (1.0,), (0.1, 0.0, 0.3) * 3 + (0.0,) * 2]
)
@pytest.mark.parametrize("option", OPTIONS)
def test_what_a_rule_can_be_given(option: str, weights: tuple[float, ...]) -> None:
    """Options of the rules, with all steps scored, the last ones, the last, or some. Must fail when a reward that comes
    within a block meets what is of its own step alone (tried)."""
    name, constants = OPTIONS[option]
    found = learned(*trainable(name, dense, NEURONS["alif"](), 4, **constants), weights)
    same(found, learned(*trainable(name, dense, NEURONS["alif"](), 1, **constants), weights))


def test_blocks_of_their_own_length() -> None:
    """Left to itself, a network takes as many steps as its memory suits, and learns the same."""
    same(learned(dense(LIF(), None), RULES["sbd"]()), learned(dense(LIF(), 1), RULES["sbd"]()))


class Watching:
    """Sees everything of the learning, in the order in which it comes."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Tensor]] = []

    def __call__(self, t: int, frame: Frame) -> None:
        self.seen.append((f"step {t}", frame.activity["output"].value.clone()))

    def on_third_factor(self, population: str, third_factor: Tensor | None) -> None:
        self.seen.append((population, torch.zeros(()) if third_factor is None else third_factor.clone()))

    def on_eligibility(self, connection: str, eligibility: Callable[[Tensor], Tensor]) -> None:
        self.seen.append((connection, eligibility(torch.tensor([2, 0])).clone()))

    def looks_at(self, connection: str) -> bool:
        return connection != "first->second"


@pytest.mark.parametrize("name", ["sbd", "sbp", "eprop", "rstdp", "rmax"])
def test_the_learning_looks_the_same(name: str) -> None:
    """Third factors and eligibilities of every step, in the same order, and the same gradients as nobody's looking:
    must fail when the steps of a block are gone through once more with the traces of the run (tried)."""
    seen, gradients = [], []
    for block in (4, 1):
        network, rule = trainable(name, dense, NEURONS["escape" if name == "rmax" else "alif"](), block)
        learner, watching = Learner(network, rule, LOSSES["cross_entropy"](), seeded(2)), Watching()
        batch = Batch(spikes(network), torch.arange(BATCH))
        learner.learn(batch, (watching,), seeded(3), watching)
        gradients.append({n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None})
        network.zero_grad()
        seen.append(watching.seen)
        again = Learner(network, rule, LOSSES["cross_entropy"](), seeded(2))
        again.learn(batch, noise=seeded(3))
        assert all(torch.equal(p.grad, gradients[-1][n]) for n, p in network.named_parameters() if p.grad is not None)
    assert [who for who, _ in seen[0]] == [who for who, _ in seen[1]]
    same(*({str(n): value for n, (_, value) in enumerate(each)} for each in seen))
    same(*gradients)


@dataclass(frozen=True)
class Counting(Alone):
    """Ranks that count how often they add up."""

    calls: list[int] = field(default_factory=list)

    def total(self, *parts: Tensor) -> tuple[Tensor, ...]:
        self.calls.append(len(parts))
        return parts


@pytest.mark.parametrize(("block", "calls"), [(None, 1), (2, 6), (1, STEPS)])
def test_a_block_waits_for_one_sum(block: int | None, calls: int) -> None:
    """Of all that is measured in its steps. Must fail when every population adds up by itself."""
    network, ranks, power = loud(dense(LIF(), block)), Counting(), HOMEOSTASES["power"]()
    learner = Learner(network, RULES["sbd"](homeostasis=(power,)), LOSSES["cross_entropy"](), seeded(2), ranks)
    learner.learn(Batch(spikes(network), torch.arange(BATCH)))
    hidden = len(network.incoming) - 1
    assert len(ranks.calls) == calls and sum(ranks.calls) == 2 * hidden * STEPS


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "8", True])
def test_a_block_that_is_none_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="block, the steps that are taken at once"):
        dense(LIF(), wrong)  # type: ignore[arg-type]
