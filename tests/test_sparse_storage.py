"""Connections stored as lists of their synapses: the same numbers as with a mask over all pairs."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Dense, wirings
from neurosbd.connections.sparse import Sparse
from neurosbd.errors import UsageError
from neurosbd.learning.local_traces import LocalTraces
from neurosbd.learning.passes import Continuation
from neurosbd.plasticity import Triplet, Window
from neurosbd.rules import RULES
from neurosbd.seeds import generator

SIZES = {"source": 30, "exc": 40, "out": 5}


def network(
    storage: Any, constraints: tuple[Any, ...] = (), plasticity: Any = None, neuron: Any = None, **more: Any
) -> neurosbd.Network:
    """Spikes onto spiking units that excite themselves with a delay, onto a readout; in float64."""
    lif, li = neurosbd.neurons["lif"], neurosbd.neurons["li"]
    populations = [
        neurosbd.Population("input", (SIZES["source"],), None),
        neurosbd.Population("exc", (SIZES["exc"],), neuron or lif(tau_mem=10e-3)),
        neurosbd.Population("out", (SIZES["out"],), li(tau_mem=10e-3)),
    ]
    normal = neurosbd.initialisers["normal"](mean=0.6, std=0.2)
    wiring, kept = neurosbd.wirings["indegree"](count=4), {"weight": normal, "storage": storage} | more
    connections = [
        neurosbd.Connection("input", "exc", Dense(sparsity=0.8, bias=plasticity is None, **kept), True, 2, "soma",
                            constraints, plasticity),
        neurosbd.Connection("exc", "exc", Dense(wiring=wiring, autapses=False, **kept), True, 3, "soma", constraints,
                            plasticity),
        neurosbd.Connection("exc", "out", Dense(sparsity=0.5, **kept), plasticity is None),
    ]  # fmt: skip
    made = neurosbd.Network(populations, connections, generator(1, "weights"))
    return made.double()


def pairs_of(made: neurosbd.Network, name: str) -> tuple[Tensor, Tensor]:
    geometry = made.connections[name].geometry
    assert isinstance(geometry, Sparse)
    return geometry.lists.post.long(), geometry.lists.pre.long()


def begun_alike(dense: neurosbd.Network, sparse: neurosbd.Network) -> None:
    """Norms of float32 differ by the order of their sums; in float64 both go on from those of the dense one."""
    state = sparse.state_dict()
    for name, value in dense.state_dict().items():
        if name.endswith("target"):  # a dense one counts its mask as a constraint
            where, connection, number, field = name.split(":")
            state[f"{where}:{connection}:{int(number) - 1}:{field}"].copy_(value.flatten())
        elif name.startswith("weights."):
            state[name].copy_(value[pairs_of(sparse, name.removeprefix("weights."))])


def same_weights(dense: neurosbd.Network, sparse: neurosbd.Network, tolerance: float = 1e-12) -> None:
    for name, weight in sparse.weights.items():
        torch.testing.assert_close(weight, dense.weights[name][pairs_of(sparse, name)], rtol=0, atol=tolerance)
        present = dense.present(dense.connections[name])
        assert present is not None and len(weight) == present.sum()


def spikes(steps: int, seed: int) -> Tensor:
    chance = torch.rand(steps, 3, SIZES["source"], generator=torch.Generator().manual_seed(seed))
    return (chance < 0.15).double()


CONSTRAINTS = {
    "none": lambda: (),
    "nonnegative": lambda: (neurosbd.constraints["nonnegative"](),),
    "dale": lambda: (neurosbd.constraints["dale"](excitatory=0.6),),
    "l1": lambda: (neurosbd.constraints["norm"](),),
    "fan_in": lambda: (neurosbd.constraints["norm"](size="fan_in", target=0.5),),
    "l2": lambda: (neurosbd.constraints["norm"](size="l2", target=1.0), neurosbd.constraints["bounds"](-2.0, 2.0)),
}


@pytest.mark.parametrize("kind", list(CONSTRAINTS))
@pytest.mark.parametrize("rule", ["sbd", "bptt"])
def test_a_network_that_learns_from_a_loss_learns_the_same(rule: str, kind: str) -> None:
    """Online and through time, biases and delays included. Must fail when the gradient of a synapse is that of another
    (tried)."""
    both = [network(storage, CONSTRAINTS[kind]()) for storage in ("dense", "sparse")]
    same_weights(*both, tolerance=0.0 if kind in ("none", "nonnegative", "dale") else 1e-6)
    begun_alike(*both)
    learners = [neurosbd.learner(each, rule=rule, loss="cross_entropy", seed=0) for each in both]
    for step in range(3):
        for learner in learners:
            learner.network.zero_grad()
            learner.progress = step / 3
            learner.learn(neurosbd.Batch(spikes(20, step), torch.tensor([0, 3, 1])))
            torch.optim.SGD(learner.network.parameters(), 0.05).step()
            learner.after_step()
    same_weights(both[0], both[1])
    for name, bias in both[0].biases.items():
        torch.testing.assert_close(bias, both[1].biases[name], rtol=0, atol=1e-12)
    start = network("sparse", CONSTRAINTS[kind]()).weights["exc->exc"]
    assert not torch.allclose(start, both[1].weights["exc->exc"])


PLASTICITIES = {
    "spike_timing": {"window": Window(0.02, 0.03, w_min=0, w_max=1)},
    "spike_timing nn_pre_centered": {"window": Window(0.02, 0.03, w_min=0, w_max=1, pairing="nn_pre_centered")},
    "spike_timing nn_restr": {"window": Window(0.02, 0.03, w_min=0, w_max=1, pairing="nn_restr")},
    "triplet": {"a3_minus": 0.02},
    "symmetric_inhibitory": {"w_min": -2.0, "w_max": 0.0},
    "bcm": {"tau": 20e-3},
    "oja": {"tau": 20e-3},
    "voltage_based": {"theta_minus": 0.1, "theta_plus": 0.5, "peak": 1.5, "a_plus": 0.2, "u_ref": 0.5, "v_rest": 0.0},
    "synaptic_scaling": {"tau": 0.5, "tau_rate": 50e-3, "beside": Triplet(a3_minus=0.02)},
}


@pytest.mark.parametrize("examples", [1, 3])
@pytest.mark.parametrize("plasticity", list(PLASTICITIES))
def test_plasticities_of_connections_change_the_same(plasticity: str, examples: int) -> None:
    """Every step, going on over updates."""
    part = neurosbd.plasticities[plasticity.partition(" ")[0]](**PLASTICITIES[plasticity])
    weight = neurosbd.initialisers["normal"](mean=-0.6 if "inhib" in plasticity else 0.6, std=0.2)
    both = [network(storage, plasticity=part, weight=weight) for storage in ("dense", "sparse")]
    rule = neurosbd.rules["stdp"]()
    learners = [neurosbd.learner(each, rule=rule, loss=None, seed=0) for each in both]
    runs = [Continuation(each.init(torch.zeros(examples, 30).double())) for each in both]
    drive = 0.7 * torch.rand(60, examples, 40, generator=torch.Generator().manual_seed(7)).double()
    for step in range(60):
        for learner, run in zip(learners, runs, strict=True):
            learner.network.zero_grad()
            shown = spikes(60, 5)[step : step + 1, :examples]
            learner.learn(neurosbd.Batch(shown, drives={"exc": drive[step : step + 1]}), continuation=run)
            torch.optim.SGD(learner.network.parameters(), 1.0).step()
            learner.after_step()
    same_weights(both[0], both[1])
    for a, b in zip(*(vars(run.traces).values() for run in runs), strict=True):
        assert str(a) == str(b) or "nn_pre" in plasticity  # which keeps a trace for every synapse
    assert isinstance(runs[0].traces, LocalTraces)
    assert (both[1].weights["exc->exc"] - network("sparse", weight=weight).weights["exc->exc"]).abs().max() > 1e-3


def test_every_rule_learns_it_or_says_that_it_needs_it_dense() -> None:
    """And those that learn it find the same gradients."""
    refused, learned = [], []
    for name, make in RULES.items():
        rule: Any = make()
        both = [network(storage) for storage in ("dense", "sparse")]
        loss = rule.loss or "cross_entropy"
        try:
            dense = neurosbd.learner(both[0], rule=rule, loss=loss, seed=0)
        except (ValueError, UsageError):
            continue  # no rule of such a network
        try:
            sparse = neurosbd.learner(both[1], rule=rule, loss=loss, seed=0)
        except (ValueError, UsageError) as problem:
            assert "storage = 'dense'" in str(problem) and "connection '" in str(problem), (name, problem)
            refused.append(name)
            continue
        for learner in (dense, sparse):
            learner.learn(neurosbd.Batch(spikes(12, 3), torch.tensor([0, 3, 1])))
        for key, weight in both[1].weights.items():
            want, got = both[0].weights[key].grad, weight.grad
            assert (want is None) == (got is None)
            if want is not None and name != "weight_perturbation":  # whose noise goes by places: see test_perturbation
                torch.testing.assert_close(got, want[pairs_of(both[1], key)], rtol=0, atol=1e-12)
        learned.append(name)
    assert {"sbd", "dfa", "sbp", "bptt", "ebd", "stdp", "eprop", "rstdp", "rflo", "weight_perturbation"} <= {*learned}
    assert refused == ["corinfomax"]


def _rstdp(**window: Any) -> Any:
    kept: dict[str, Any] = {"a_plus": 0.02, "a_minus": 0.03, "w_min": 0.0, "w_max": 2.0} | window
    return RULES["rstdp"](plasticity=neurosbd.plasticities["rewarded_spike_timing"](Window(**kept)))


ALIF = {"beta": 0.3, "tau_adapt": 60e-3, "tau_mem": 10e-3}
WAITING: dict[str, Any] = {
    "eprop": lambda: RULES["eprop"](rate_cost=0.1),
    "sbd, exact": lambda: RULES["sbd"](eligibility="exact", rate_cost=0.1),
    "rstdp": _rstdp,
    "rstdp, multiplicative": lambda: _rstdp(bounds="multiplicative"),
    "rstdp, nn_restr": lambda: _rstdp(pairing="nn_restr"),
    "rstdp, nn_pre_centered": lambda: _rstdp(pairing="nn_pre_centered"),
    "rmax": RULES["rmax"],
}


@pytest.mark.parametrize("name", list(WAITING))
def test_values_per_synapse_and_example_are_those_of_a_matrix(name: str) -> None:
    """Gradients and what waits, in float64, with biases, delays and blocks of five steps. Must fail when biases are
    taken for synapses, and when a third factor meets the units that send (tried, both)."""
    waiting: list[dict[str, list[Tensor]]] = []
    kind, constants = ("escape", {"tau_mem": 10e-3}) if name == "rmax" else ("alif", ALIF)
    both = [network(storage, neuron=neurosbd.neurons[kind](**constants)) for storage in ("dense", "sparse")]
    for made in both:
        watch, made.block = _Watch(), 5  # of twelve steps, so that something waits from block to block
        learner = neurosbd.learner(made, rule=WAITING[name](), loss="cross_entropy", seed=0)
        for step in range(2):
            batch = neurosbd.Batch(spikes(12, step), torch.tensor([0, 3, 1]))
            learner.learn(batch, noise=generator(3, "noise"), learning_observer=watch if step else None)
        waiting.append(watch.seen)
    assert waiting[0].keys() == waiting[1].keys() > {"exc->exc"}
    for key, weight in both[1].weights.items():
        post, pre = pairs_of(both[1], key)
        want, got = both[0].weights[key].grad, weight.grad
        assert want is not None and got is not None and want.any()
        torch.testing.assert_close(got, want[post, pre], rtol=0, atol=1e-12)
        for one, other in zip(waiting[0].get(key, ()), waiting[1].get(key, ()), strict=True):
            assert other.shape == (3, len(weight))  # nothing of all pairs
            torch.testing.assert_close(other, one[:, post, pre], rtol=0, atol=1e-12)
    for key, bias in both[0].biases.items():
        torch.testing.assert_close(both[1].biases[key].grad, bias.grad, rtol=0, atol=1e-12)


class _Watch:
    """Keeps what waits after every step."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Tensor]] = {}

    def looks_at(self, connection: str) -> bool:
        return True

    def on_third_factor(self, population: str, third_factor: Tensor | None) -> None:
        pass

    def on_eligibility(self, connection: str, eligibility: Any) -> None:
        self.seen.setdefault(connection, []).append(eligibility(torch.arange(3)).clone())


def test_lists_go_with_the_network_into_checkpoints(tmp_path: Path) -> None:
    """Of another seed too, with another number of synapses. Must fail when the lists stay as they are (tried)."""
    one = network("sparse")
    other = neurosbd.Network(
        list(one.populations.values()),
        [neurosbd.Connection(c.pre, c.post, c.geometry.dense, c.plastic, c.delay)  # type: ignore[attr-defined]
         for c in one.connections.values()],
        generator(2, "weights"),
    ).double()  # fmt: skip
    torch.save(one.state_dict(), tmp_path / "state.pt")
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert len(one.weights["input->exc"]) != len(other.weights["input->exc"])
    other.load_state_dict(state)
    x = spikes(10, 2)
    for made in (one, other):
        made.eval()
    frames = [neurosbd.unroll(made, x) for made in (one, other)]
    assert torch.equal(*(frame.activity["out"].value for frame in frames)) and frames[0].activity["out"].value.any()
    assert all(each is other.connections[each.name] for onto in other.incoming.values() for each in onto)
    state["lists:exc->exc:pre"] = state["lists:exc->exc:pre"] + 40
    with pytest.raises(UsageError, match="'exc->exc': the lists of its synapses are none of 40 onto 40 units"):
        other.load_state_dict(state)


def test_large_connections_with_few_synapses_are_stored_sparsely_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """If spikes arrive; drawn in parts, the synapses and weights are those of the whole. Must fail when a part has 26
    rows (tried)."""
    relay, lif = neurosbd.neurons["relay"](), neurosbd.neurons["lif"]()

    def made(storage: Any, **changes: Any) -> neurosbd.Network:
        names = ("input", "a", "b")
        populations = [neurosbd.Population(n, (281,), k) for n, k in zip(names, (None, relay, lif), strict=True)]
        kept: dict[str, Any] = {"sparsity": 0.92} | changes
        dense = Dense(storage=storage, **kept)
        ends = (("input", "a"), ("a", "b"))
        return neurosbd.Network(
            populations, [neurosbd.Connection(*end, dense) for end in ends], generator(0, "weights")
        )

    def stored(network: neurosbd.Network) -> list[str]:
        return [name for name, c in network.connections.items() if isinstance(c.geometry, Sparse)]

    assert stored(made("automatic")) == ["a->b"] and stored(made("sparse")) == ["input->a", "a->b"]
    assert stored(made("dense")) == stored(made("automatic", sparsity=0.9)) == []
    wide = neurosbd.wirings["distance"](width=0.3)
    assert stored(made("automatic", sparsity=0.0, wiring=neurosbd.wirings["outdegree"](count=20))) == ["a->b"]
    assert stored(made("automatic", sparsity=0.0, wiring=wide)) == []
    monkeypatch.setattr(wirings, "_AT_ONCE", 281 * 40)
    whole, parts = made("dense"), made("sparse")
    for name, weight in parts.weights.items():
        assert torch.equal(weight, whole.weights[name][pairs_of(parts, name)]), name
    summary = parts.summary()
    assert summary.parameters == sum(map(len, parts.weights.values())) == summary.multiplications


def test_what_cannot_be_stored_sparsely_is_refused() -> None:
    mask = (neurosbd.constraints["mask"](),)
    with pytest.raises(ValueError, match="'input->exc': storage = 'sparse' keeps no pairs without a synapse"):
        network("sparse", mask)
    with pytest.raises(ValueError, match="storage"):
        network("spare")
    with pytest.raises(UsageError, match="has no mask to prune"):
        network("sparse").prune("exc->exc", torch.ones(40, 40))


def test_it_goes_to_nir_as_a_matrix_and_comes_back_as_lists() -> None:
    """Must fail when the lists of what comes back are drawn anew (tried)."""
    cubalif = neurosbd.neurons["cubalif"](tau_mem=10e-3, tau_syn=5e-3, reset="to_value")
    names = ("input", "a", "b")
    populations = [neurosbd.Population(n, (300,), k) for n, k in zip(names, (None, cubalif, cubalif), strict=True)]
    few = Dense(sparsity=0.95)
    connections = [neurosbd.Connection("input", "a", Dense()), neurosbd.Connection("a", "b", few)]
    made = neurosbd.Network(populations, connections, generator(0, "weights"))
    graph: Any = neurosbd.to_nir(made)
    assert graph.nodes["w_a_b"].weight.shape == (300, 300)
    back = neurosbd.from_nir(graph)
    assert all(map(torch.equal, pairs_of(back, "a->b"), pairs_of(made, "a->b")))
    torch.testing.assert_close(back.weights["a->b"], made.weights["a->b"])
