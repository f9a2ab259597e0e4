"""Delays of single weights: what arrives when, and what rules make of it, against loops over weights in float64."""

from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Conv2d, Dense, Geometry, Local2d, Vector
from neurosbd.connections.delayed import Delayed
from neurosbd.connections.pooling import AveragePool
from neurosbd.connections.sparse import Sparse
from neurosbd.connections.synapses import Synapses
from neurosbd.constraints import Mask
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Frame, Network, Population
from neurosbd.neuromodulators import Transposed
from neurosbd.neurons import ALIF, LI, LIF
from neurosbd.neurons.neuron import Activity, gated
from neurosbd.plasticity import Window
from neurosbd.rules import RULES
from tests.test_blocks import same, seeded, spikes
from tests.test_sparse_storage import ALIF as ADAPTING
from tests.test_sparse_storage import PLASTICITIES, WAITING
from tests.test_sparse_storage import spikes as spikes_of

DT = 1e-3
TIMES = neurosbd.distributions["uniform"](1e-3, 4e-3)
KEPT = torch.tensor([[1, 0, 1, 1, 0, 1], [1, 1, 1, 0, 1, 1], [0, 1, 1, 1, 1, 0], [1, 1, 0, 1, 1, 1], [1] * 6])
GEOMETRIES: dict[str, tuple[Geometry, tuple[int, ...], tuple[int, ...]]] = {
    "dense": (Dense(bias=True, sparsity=0.3, storage="dense"), (6,), (5,)),
    "conv2d": (Conv2d(3, 2, 1, AveragePool(), True, 0.2), (2, 8, 8), (3, 2, 2)),
    "conv2d, pooled drive": (Conv2d(2, pool_drive=AveragePool()), (2, 5, 5), (3, 2, 2)),
    "local2d": (Local2d(2, bias=True), (2, 3, 3), (3, 2, 2)),
}


def onto(name: str, block: int | None = None) -> Network:
    """Spikes onto LIF through one connection with delays of its own, onto a readout."""
    geometry, pre, post = GEOMETRIES[name]
    populations = [Population("input", pre, None), Population("n", post, LIF(10e-3)), Population("out", (3,), LI())]
    connections = [Connection("input", "n", geometry, delay=TIMES), Connection("n", "out", Dense())]
    network = Network(populations, connections, seeded(), DT, block=block).double()
    with torch.no_grad():
        network.weights["input->n"].mul_(3)
    return network


def delayed(network: Network, name: str = "input->n") -> Delayed:
    geometry = network.connections[name].geometry
    assert isinstance(geometry, Delayed)
    return geometry


def each_weight(weight: Tensor) -> list[tuple[tuple[int, ...], Tensor]]:
    """Every place of a weight, and a weight of 1 there alone."""
    found = []
    for place in product(*map(range, weight.shape)):
        one = torch.zeros_like(weight)
        one[place] = 1
        found.append((place, one))
    return found


@pytest.mark.parametrize("name", list(GEOMETRIES))
def test_each_weight_hears_what_set_out_its_delay_ago(name: str) -> None:
    """drive[t] = sum over weights of weight times what its pre unit sent `delay` steps before, through the bare
    connection. Must fail when lags are put beside the weights in the reverse order, and when the delays are those of
    the connection turned (tried, both)."""
    network = onto(name)
    x, geometry, found = spikes(network), delayed(network), []
    synapses = network.synapses(network.connections["input->n"])

    def look(t: int, frame: Frame) -> None:
        found.append(geometry.drive(synapses, frame.carried["input->n"]))

    unroll(network, x, (look,))
    bias = None if synapses.bias is None else Synapses(torch.zeros_like(synapses.weight), synapses.bias)
    wanted = [torch.zeros_like(found[0]) for _ in x]
    for place, one in each_weight(synapses.weight):
        late = int(geometry.delays()[place])
        for t in range(late, len(x)):
            arriving = geometry.undelayed.carry(x[t - late])
            wanted[t] += synapses.weight[place] * geometry.undelayed.drive(Synapses(one, None), arriving)
    if bias is not None:
        wanted = [each + geometry.undelayed.drive(bias, geometry.undelayed.carry(x[0])) for each in wanted]
    assert geometry.lags == (1, 2, 3, 4) and torch.stack(found).any()
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted), rtol=1e-12, atol=1e-12)


class Told:
    """Keeps third factors and activity of 'n'."""

    def __init__(self) -> None:
        self.factors: list[Tensor] = []
        self.shown: list[Activity] = []

    def __call__(self, t: int, frame: Frame) -> None:
        self.shown.append(frame.activity["n"])

    def on_third_factor(self, population: str, third_factor: Tensor | None) -> None:
        if population == "n":
            assert third_factor is not None
            self.factors.append(third_factor.clone())

    def on_eligibility(self, connection: str, eligibility: Callable[[Tensor], Tensor]) -> None: ...

    def looks_at(self, connection: str) -> bool:
        return False


@pytest.mark.parametrize("block", [1, 4, None])
@pytest.mark.parametrize("name", list(GEOMETRIES))
def test_an_eligibility_filters_what_arrived_when_it_arrived(name: str, block: int | None) -> None:
    """sbd, weight by weight: sum_t third factor x gain x trace, trace <- alpha trace + what was sent its delay ago.

    Must fail when the trace is of what sets out (tried)."""
    network, told = onto(name, block), Told()
    neuron = network.populations["n"].neuron
    assert neuron is not None
    x, weight, geometry = spikes(network), network.weights["input->n"], delayed(network)
    learner = Learner(network, RULES["sbd"](), LOSSES["cross_entropy"](), seeded(2))
    learner.learn(Batch(x, torch.arange(3)), (told,), seeded(3), told)
    gates = [gated(neuron, shown, factor, DT) for shown, factor in zip(told.shown, told.factors, strict=True)]
    (alpha,), present = neuron.filters(DT), network.present(network.connections["input->n"])  # type: ignore[misc]
    wanted = torch.zeros_like(weight)
    for place, one in each_weight(weight):
        late, trace = int(geometry.delays()[place]), torch.zeros_like(geometry.undelayed.carry(x[0]))
        for t in range(len(x)):
            trace = alpha * trace + (geometry.undelayed.carry(x[t - late]) if t >= late else 0)
            wanted[place] += (gates[t] * geometry.undelayed.drive(Synapses(one, None), trace)).sum()
    found = weight.grad
    assert found is not None and found.any()
    torch.testing.assert_close(found, wanted if present is None else wanted * present, rtol=1e-11, atol=1e-13)


def recurrent(storage: Any, block: int | None = None, neuron: Any = None, **more: Any) -> Network:
    """Masked, wired and biased connections with delays of their own, forward and back, in float64; loud enough."""
    delay = more.pop("delay", TIMES)
    wiring = neurosbd.wirings["indegree"](count=3)
    populations = [
        Population("input", (30,), None), Population("exc", (12,), neuron or LIF(tau_mem=10e-3)),
        Population("out", (5,), LI(tau_mem=10e-3)),
    ]  # fmt: skip
    weight = more.pop("weight", neurosbd.initialisers["normal"](mean=0.6, std=0.2))
    connections = [
        Connection("input", "exc", Dense(bias=not more, sparsity=0.8, weight=weight, storage=storage), delay=delay,
                   **more),
        Connection("exc", "exc", Dense(wiring=wiring, autapses=False, weight=weight, storage=storage), delay=delay,
                   **more),
        Connection("exc", "out", Dense(weight=weight, storage="dense"), plastic=not more),
    ]  # fmt: skip
    return Network(populations, connections, seeded(1), DT, block=block).double()


def as_list(network: Network, name: str, values: Tensor) -> Tensor:
    """Values of a matrix as a network that lists its synapses has them."""
    geometry = network.connections[name].geometry
    if not isinstance(geometry, Sparse):
        return values
    return values[geometry.lists.post.long(), geometry.lists.pre.long() % values.shape[1]]


def alike(matrix: Network, listed: Network, gradients: bool = True) -> None:
    """Weights, delays and gradients."""
    for name, weight in listed.weights.items():
        own = matrix.connections[name].geometry
        torch.testing.assert_close(weight, as_list(listed, name, matrix.weights[name]), rtol=0, atol=1e-12)
        if isinstance(own, Delayed):
            geometry = listed.connections[name].geometry
            assert isinstance(geometry, Sparse) and torch.equal(geometry.delays(), as_list(listed, name, own.delays()))  # type: ignore[arg-type]
        if gradients and weight.grad is not None:
            wanted = matrix.weights[name].grad
            assert wanted is not None and weight.grad.any()
            torch.testing.assert_close(weight.grad, as_list(listed, name, wanted), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["bptt", "sbd", *WAITING])
def test_rules_learn_the_same_in_every_storage(name: str) -> None:
    """A matrix and a list with the same delays, in one step and in blocks. Must fail when an eligibility per synapse
    hears the first lag alone (tried)."""
    kind = neurosbd.neurons["escape"](tau_mem=10e-3) if name == "rmax" else neurosbd.neurons["alif"](**ADAPTING)
    found = []
    for storage, block in (("dense", 1), ("dense", 5), ("sparse", 1), ("automatic", 5)):
        network = recurrent(storage, block, kind)
        rule: Any = RULES[name]() if name in RULES and name not in WAITING else WAITING[name]()
        learner = neurosbd.learner(network, rule=rule, loss=rule.loss or "cross_entropy", seed=0)
        learner.learn(Batch(spikes_of(12, 3), torch.tensor([0, 3, 1])), noise=seeded(4))
        found.append(network)
    for other in found[2:]:
        alike(found[0], other)
    same(*({n: p.grad for n, p in each.named_parameters() if p.grad is not None} for each in found[:2]))


@pytest.mark.parametrize("plasticity", list(PLASTICITIES))
def test_plasticities_change_the_same_in_every_storage(plasticity: str) -> None:
    """Of connections of their own, at every spike. Must fail when pairs of both sides are looked for at the first lag
    (tried)."""
    part = neurosbd.plasticities[plasticity.partition(" ")[0]](**PLASTICITIES[plasticity])
    weight = neurosbd.initialisers["normal"](mean=-0.6 if "inhib" in plasticity else 0.6, std=0.2)
    found = []
    for storage in ("dense", "sparse"):
        network = recurrent(storage, plasticity=part, weight=weight)
        learner = neurosbd.learner(network, rule="stdp", loss=None, seed=0)
        drive = 0.7 * torch.rand(40, 3, 12, generator=seeded(7)).double()
        learner.learn(Batch(spikes_of(40, 5), drives={"exc": drive}))
        found.append(network)
    alike(*found)


@pytest.mark.parametrize("block", [1, 4, None])
@pytest.mark.parametrize("unit", [LIF(), ALIF()], ids=["factorised", "exact"])
def test_eprop_behind_masked_delays_is_backprop_through_time(unit: Any, block: int | None) -> None:
    """With a mask, whose weights have a delay each, one hidden layer; bptt goes through it by autograd.

    Must fail when the sensitivity is of what sets out (tried)."""
    found = {}
    for rule in ("eprop", "bptt"):
        populations = [
            Population("input", (6,), None), Population("hidden", (5,), unit), Population("output", (3,), LI()),
        ]  # fmt: skip
        connections = [
            Connection("input", "hidden", Dense(bias=True), delay=TIMES, constraints=(Mask(KEPT),)),
            Connection("hidden", "output", Dense()),
        ]
        network = Network(populations, connections, seeded(), DT, block=block).double()
        with torch.no_grad():
            network.weights["input->hidden"].mul_(3)
        options: Any = {"neuromodulator": Transposed()} if rule == "eprop" else {}
        learner = Learner(network, RULES[rule](**options), LOSSES["cross_entropy"](), seeded(2))
        learner.learn(Batch(spikes(network), torch.arange(3)))
        assert isinstance(delayed(network, "input->hidden"), Delayed)
        found[rule] = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        gradient = network.weights["input->hidden"].grad
        assert gradient is not None and gradient.any() and not gradient[KEPT == 0].any()
    for name, wanted in found["bptt"].items():
        torch.testing.assert_close(found["eprop"][name], wanted, rtol=1e-9, atol=1e-12)


def test_stdp_of_a_kernel_pairs_what_arrives() -> None:
    """Weight by weight of a convolution: potentiation by the trace of arrivals as a unit fires, depression by the trace
    of the unit at an arrival, summed over positions.

    Must fail when arrivals are those of the shortest delay (tried)."""
    network, told = onto("conv2d, pooled drive", 1), Told()
    geometry = Conv2d(2)
    populations = [network.populations["input"], Population("n", (3, 4, 4), LIF(10e-3))]
    network = Network(populations, [Connection("input", "n", geometry, delay=TIMES)], seeded(), DT).double()
    with torch.no_grad():
        network.weights["input->n"].mul_(3)
    x, own = spikes(network), delayed(network)
    plain = neurosbd.plasticities["spike_timing"](window=Window(w_min=-1e9, w_max=1e9))
    learner = Learner(network, RULES["stdp"](plasticity=plain, readout="rule"), None, seeded())
    learner.learn(Batch(x), (told,))
    fired = [shown.value for shown in told.shown]
    left, wanted = torch.exp(torch.tensor(-DT / 20e-3).double()), torch.zeros_like(network.weights["input->n"])
    for place, one in each_weight(wanted):
        late, post = int(own.delays()[place]), torch.zeros_like(fired[0])
        pre, before = torch.zeros_like(x[0]), torch.zeros_like(fired[0])
        for t in range(len(x)):
            arrived = x[t - late] if t >= late else torch.zeros_like(x[0])
            pre, post = pre * left + arrived, post * left
            wanted[place] += (before * geometry.drive(Synapses(one, None), pre)).sum() / 3
            wanted[place] -= (post * geometry.drive(Synapses(one, None), arrived)).sum() / 3
            post, before = post + before, fired[t]
    gradient = network.weights["input->n"].grad
    assert gradient is not None and gradient.any()
    torch.testing.assert_close(-gradient, wanted, rtol=1e-6, atol=1e-9)


def test_what_is_pruned_is_silent_and_returns_with_its_delay() -> None:
    """A mask changes what is there, not when it is heard.

    Must fail when delays are drawn for those that are there alone (tried)."""
    network = recurrent("dense", constraints=(Mask(),))
    name, geometry = "input->exc", delayed(network, "input->exc")
    assert geometry.delays().min() >= 1
    network.prune(name, torch.zeros_like(network.weights[name]))
    assert not network.weights[name].any()
    network.prune(name, torch.ones_like(network.weights[name]))
    assert torch.equal(delayed(network, name).delays(), geometry.delays())


@pytest.mark.parametrize("build", [lambda s: recurrent("dense"), lambda s: recurrent("sparse")], ids=["matrix", "list"])
def test_a_checkpoint_brings_its_delays(build: Callable[[int], Network]) -> None:
    """Into a network that drew others: another range, so that even how long the longest is differs.

    Must fail when the lags of a list are those of the network (tried)."""
    network, x = build(0), spikes_of(12, 3)
    other = recurrent("dense" if isinstance(network.connections["exc->exc"].geometry, Delayed) else "sparse",
                      delay=neurosbd.distributions["uniform"](2e-3, 7e-3))  # fmt: skip
    assert other.longest != network.longest
    other.load_state_dict(network.state_dict())
    assert other.longest == network.longest and other.delays == network.delays
    ends = [unroll(each, x).activity["out"].value for each in (network, other)]
    assert torch.equal(*ends) and ends[0].any()
    state = network.state_dict()
    key = next(key for key in state if key.startswith("delays:") or key.endswith(":lags"))
    state[key] = state[key] * 0
    with pytest.raises(neurosbd.UsageError, match=r"its delays are no whole steps from 1 to 100,000"):
        other.load_state_dict(state)


def test_a_file_has_a_delay_for_every_weight(tmp_path: Any) -> None:
    """Of kernels too; one of another shape is refused with the shape that is needed."""
    import numpy as np

    times = DT * np.arange(1, 25).reshape(3, 2, 2, 2)
    np.save(tmp_path / "delay.npy", times)
    populations = [Population("input", (2, 4, 4), None), Population("n", (3, 3, 3), LIF())]
    delay = neurosbd.distributions["file"](str(tmp_path / "delay.npy"))
    network = Network(populations, [Connection("input", "n", Conv2d(2), delay=delay)], seeded(), DT)
    assert torch.equal(delayed(network).delays().flatten(), torch.arange(1, 25, dtype=torch.int32))
    np.save(tmp_path / "delay.npy", times[:2])
    with pytest.raises(ValueError, match=r"is \[2, 2, 2, 2\]; needed are \[3, 2, 2, 2\], \[post, pre, ..\]"):
        Network(populations, [Connection("input", "n", Conv2d(2), delay=delay)], seeded(), DT)


@pytest.mark.parametrize("storage", ["dense", "sparse", "automatic"])
@pytest.mark.parametrize("delay", [1, TIMES])
def test_a_connection_without_a_synapse_is_said_and_sends_nothing(storage: Any, delay: Any) -> None:
    """Too sparse for its few pairs. Must fail when a list counts arrivals by the delays that occur, of which there are
    none (tried), or when nobody says it (tried)."""
    populations = [Population("input", (4,), None), Population("n", (3,), LI())]
    connection = Connection("input", "n", Dense(sparsity=0.9999, storage=storage), delay=delay)
    with pytest.warns(UserWarning, match="'input->n': none of 12 pairs is joined, so that nothing arrives through it"):
        network = Network(populations, [connection], seeded(), DT)
    value = unroll(network, torch.ones(9, 2, 4)).activity["n"].value
    assert not value.any() and value.shape == (2, 3)


def test_what_cannot_have_them_says_so() -> None:
    """Vectors, rules of one step, and what multiplies whole matrices."""
    vectors: Any = ("units", "components")
    neuron = neurosbd.neurons["ct_relu"]()
    populations = [Population("input", (4, 2), None, vectors), Population("n", (3, 2), neuron, vectors)]
    with pytest.raises(ValueError, match=r"'input->n': delays are drawn for the weights of dense, conv2d and local2d"):
        Network(populations, [Connection("input", "n", Vector(), delay=TIMES)], seeded(), DT)
    with pytest.raises(ValueError, match=r"'input->n' have delays of their own, but this rule.*give them one delay"):
        Learner(onto("conv2d"), RULES["pepita"](), LOSSES["cross_entropy"](), seeded())
    for storage in ("dense", "sparse"):
        with pytest.raises(neurosbd.UsageError, match=r"synapses have delays of their own, and NIR has one delay for"):
            neurosbd.to_nir(_onto_readout(storage))
    with pytest.raises(ValueError, match="nothing goes back through synapses with delays of their own"):
        network = onto("dense")
        geometry = delayed(network)
        geometry.back(network.synapses(network.connections["input->n"]), torch.zeros(1, 5), torch.zeros(1, 6))


def _onto_readout(storage: Any) -> Network:
    neuron = LIF(10e-3, reset="to_value")
    populations = [Population("input", (4,), None), Population("n", (3,), neuron), Population("out", (3,), LI())]
    connections = [Connection("input", "n", Dense(storage=storage), delay=TIMES), Connection("n", "out", Dense())]
    return Network(populations, connections, seeded(), DT)


@pytest.mark.parametrize("storage", ["dense", "sparse"])
def test_a_trace_says_the_delay_of_every_recorded_synapse(storage: Any, tmp_path: Any) -> None:
    """Of a matrix as of a list, and so do the edges of its SONATA export. Must fail when a matrix has ends without
    delays (tried)."""
    path = tmp_path / "model.toml"
    path.write_text(MODEL.replace("STORAGE", storage))
    run = neurosbd.simulate(path, out=tmp_path / "run")
    network, ends = run.network(), run.trace["source->cells.weight"].ends
    geometry, delays = network.connections["source->cells"].geometry, torch.zeros(3, 4, dtype=torch.int32)
    assert isinstance(geometry, Delayed if storage == "dense" else Sparse) and ends.delay is not None
    if isinstance(geometry, Delayed):
        delays = geometry.delays()
    if isinstance(geometry, Sparse):
        delays[geometry.lists.post.long(), geometry.lists.pre.long() % 4] = geometry.delays()  # type: ignore[assignment]
    assert torch.equal(delays[ends.post, ends.pre], torch.from_numpy(ends.delay)) and len(ends.delay) > 5


MODEL = """
simulation = { duration = "40 ms" }
stimulus = [{ population = "source", kind = "poisson", rate = "100 Hz" }]
rule = { kind = "stdp", plasticity = { window = { a_plus = 0.01, a_minus = 0.01 } } }
record = { signals = ["cells.spikes", "source->cells.weight"] }
[[connection]]
pre = "source"
post = "cells"
kind = "dense"
storage = "STORAGE"
sparsity = 0.2
delay = { kind = "uniform", low = "1 ms", high = "4 ms" }
[population]
source = { size = [4], neuron = "relay" }
cells = { size = [3], neuron = "lif" }
"""
