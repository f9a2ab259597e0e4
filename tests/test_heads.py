"""Which population is the readout and which are heads is declared, and what a head costs is its own."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.cli import catalogue
from neurosbd.config.resolve import resolve_table
from neurosbd.connections import Dense
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.expansions import EXPANSIONS
from neurosbd.interchange.nir_reader import from_nir
from neurosbd.interchange.nir_writer import to_nir
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.learner import Learner
from neurosbd.learning.passes import Run
from neurosbd.learning.rule import Rule, TensorState
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import NEURONS
from neurosbd.rules import RULES
from neurosbd.runs.loggers import NullLogger

T, B = 7, 5
MODEL = """
seed = 0
loss = "cross_entropy"
rule = "sbd"
[data]
name = "digits"
subset = 10
test_subset = 5
[training]
epochs = 2
batch_size = 20
[population]
input = {{ size = [1, 8, 8] }}
hidden = {{ size = [20], neuron = "relu" }}
probe = {{ size = [10], neuron = "identity"{probe} }}
deep = {{ size = [15], neuron = "relu" }}
output = {{ size = [10], neuron = "identity"{output} }}
[[connection]]
pre = "input"
post = "hidden"
kind = "dense"
[[connection]]
pre = "hidden"
post = "probe"
kind = "dense"
bias = true
[[connection]]
pre = "hidden"
post = "deep"
kind = "dense"
[[connection]]
pre = "deep"
post = "output"
kind = "dense"
"""


def network(head: bool = True, unit: str = "tanh", out: str = "identity", readout: Any = None) -> Network:
    """input -> hidden -> deep -> output in float64, and a head 'probe' of `hidden`, drawn last."""
    populations = [
        Population("input", (6,), None), Population("hidden", (8,), NEURONS[unit]()),
        Population("deep", (7,), NEURONS[unit]()), Population("output", (3,), NEURONS[out](), role=readout),
    ]  # fmt: skip
    connections = [Connection(pre, post, Dense(bias=True)) for pre, post in pairwise(_ORDER)]
    if head:
        populations.insert(2, Population("probe", (3,), NEURONS[out](), role="head"))
        connections.append(Connection("hidden", "probe", Dense(bias=True)))
    return Network(populations, connections, torch.Generator().manual_seed(0)).double()


_ORDER = ["input", "hidden", "deep", "output"]


def batch(steps: int = 1) -> Batch:
    x = torch.randn(steps, B, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return Batch(x.abs() if steps > 1 else x, torch.tensor([0, 1, 2, 0, 1]))


def gradients(net: Network, rule: Rule[Any], steps: int = 1) -> dict[str, Tensor]:
    """Of every parameter after one batch."""
    learner = Learner(net, rule, LOSSES["cross_entropy"](), torch.Generator().manual_seed(2))
    learner.learn(batch(steps), noise=torch.Generator().manual_seed(3))
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


# What a head learns -------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["sbd", "sbp", "dfa", "ebd", "bp"])
def test_a_head_changes_nothing_but_itself(rule: str) -> None:
    """All other gradients are bitwise those without it. Must fail when bp goes on from a head into the population that
    it reads (tried), or when a head is given a projection of its own (tried)."""
    with_head, without = (gradients(network(head), RULES[rule]()) for head in (True, False))
    assert set(with_head) - set(without) == {"weights.hidden->probe", "biases.hidden->probe"}
    for name, gradient in without.items():
        assert torch.equal(gradient, with_head[name]), name


@pytest.mark.parametrize("rule", ["sbd", "dfa", "bp"])
def test_a_head_descends_its_own_loss(rule: str) -> None:
    """Oracle: autograd of the loss of a linear readout on the activity of `hidden`. Must fail for another loss."""
    net = network()
    found = gradients(net, RULES[rule]())
    hidden = unroll(net, batch().inputs).activity["hidden"].value
    weight = net.weights["hidden->probe"].detach().clone().requires_grad_()
    bias = net.biases["hidden->probe"].detach().clone().requires_grad_()
    loss = LOSSES["cross_entropy"]().per_example(hidden @ weight.t() + bias, batch().target).mean()
    exact = torch.autograd.grad(loss, (weight, bias))
    for name, gradient in zip(("weights.hidden->probe", "biases.hidden->probe"), exact, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-12, atol=1e-14)


def test_a_spiking_head_with_a_leak_descends_it_through_time() -> None:
    """An online rule gives a head the gradient that backprop through time gives it: its leak is followed, once.

    Must fail when it learns by the plasticity of the rule, which waits for the readout (tried: `eprop`)."""
    exact = gradients(network(unit="lif", out="li"), RULES["bptt"](), T)["weights.hidden->probe"]
    for rule in ("sbd", "eprop"):
        online = gradients(network(unit="lif", out="li"), RULES[rule](), T)["weights.hidden->probe"]
        torch.testing.assert_close(online, exact, rtol=1e-10, atol=1e-12)
        assert online.any()


def test_heads_are_no_part_of_what_is_broadcast() -> None:
    """'top' is the population before the readout, also where a head stands between or behind. Must fail when it is the
    last but one of all (tried)."""
    net, found = network(), {}
    last = Network(
        [p for p in net.populations.values() if p.name != "probe"] + [net.populations["probe"]],
        list(net.connections.values()), torch.Generator().manual_seed(0),
    ).double()  # fmt: skip
    for source in ("top", "deep", "output"):
        rule = RULES["sbd"](expansion=(EXPANSIONS["gated"](source=source, features=4),))
        learner = Learner(last, rule, LOSSES["cross_entropy"](), torch.Generator().manual_seed(2))
        last.zero_grad()
        for _ in range(3):
            learner.learn(batch())
        found[source] = last.weights["input->hidden"].grad.clone()  # type: ignore[union-attr]
    assert torch.equal(found["top"], found["deep"]) and not torch.equal(found["top"], found["output"])


@dataclass(frozen=True)
class LocalLosses(Rule[TensorState]):
    """Every population learns from the head that reads it, and from nothing else; a rule on passes."""

    teaches_heads: ClassVar[bool] = True

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        net = run.network
        for p in run(batch):
            for judged in (net.readout, *net.heads):
                signal = p.gate(judged, p.score(judged) * p.weight)
                for onto in net.incoming[judged]:
                    p.deposit(onto, signal)
                    hidden = p.gate(onto.pre, p.back(onto, signal))
                    for connection in net.incoming[onto.pre]:
                        p.deposit(connection, hidden)
        return run.result()


def test_a_rule_on_passes_learns_a_population_from_its_head() -> None:
    """Oracle: autograd of each loss by itself. Must fail for the score of another head or of the readout (tried)."""
    net = network()
    found = gradients(net, LocalLosses())
    x, target = batch().inputs, batch().target
    assert isinstance(x, Tensor)
    weights = {name: w.detach().clone().requires_grad_() for name, w in net.weights.items()}
    hidden = torch.tanh(x[0] @ weights["input->hidden"].t())
    loss = LOSSES["cross_entropy"]().per_example(hidden @ weights["hidden->probe"].t(), target).mean()
    (exact,) = torch.autograd.grad(loss, weights["input->hidden"])
    torch.testing.assert_close(found["weights.input->hidden"], exact, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match=r"nobody judges population 'hidden'.*role = 'head'"):
        gradients(net, _Judging("hidden"))
    result = Learner(net, LocalLosses(), LOSSES["cross_entropy"](), torch.Generator()).learn(batch())
    assert result.heads["probe"].output.shape == (B, 3) and torch.isfinite(result.heads["probe"].loss)


@dataclass(frozen=True)
class _Judging(Rule[TensorState]):
    """Asks for the score of one population."""

    population: str = ""
    teaches_heads: ClassVar[bool] = True

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        for p in run(batch):
            p.score(self.population)
        return run.result()


# The readout --------------------------------------------------------------------------------------


def test_the_readout_is_declared_or_the_last_that_is_no_head() -> None:
    assert network().readout == "output" and network().heads == ("probe",)
    first = [Population("input", (6,), None), Population("out", (3,), NEURONS["identity"](), role="readout")]
    first.append(Population("loop", (3,), NEURONS["tanh"]()))
    wires = [
        Connection("input", "out", Dense()),
        Connection("out", "loop", Dense()),
        Connection("loop", "out", Dense()),
    ]
    net = Network(first, wires, torch.Generator().manual_seed(0)).double()
    assert net.readout == "out"
    result = Learner(net, RULES["sbd"](), LOSSES["cross_entropy"](), torch.Generator()).learn(batch(2))
    assert result.output.shape == (B, 3)
    table = repr(net.summary())
    assert "readout" in table and "head" in repr(network().summary())


E_I = [("input", "exc"), ("exc", "inh"), ("inh", "exc")]
GUESSED = [
    (E_I, ["input", "exc", "inh"], r"every population feeds another; give one of them.*population.inh.role"),
    ([("input", "a"), ("input", "b")], ["input", "a", "b"], "'a' and 'b' feed no other population; give one of them"),
    ([("input", "b"), ("b", "a")], ["input", "a", "b"], "'a' feeds no other population, and 'b' is the last"),
]


@pytest.mark.parametrize(("wires", "names", "message"), GUESSED)
def test_a_loss_guesses_no_readout(wires: list[tuple[str, str]], names: list[str], message: str) -> None:
    """Refused with the candidates and the fix, in Python and of a model file. Must fail when the last population is
    taken (tried). The controls: a declared role, a free run, and a last population that alone feeds no other."""

    def populations(**roles: Any) -> list[Population]:
        return [Population(n, (3,), NEURONS["tanh"]() if n != "input" else None, role=roles.get(n)) for n in names]

    def made(**roles: Any) -> Network:
        connections = [Connection(pre, post, Dense()) for pre, post in wires]
        return Network(populations(**roles), connections, torch.Generator().manual_seed(0))

    with pytest.raises(ValueError, match=message):
        Learner(made(), RULES["sbd"](), LOSSES["cross_entropy"](), torch.Generator())
    for name in names[1:]:
        judged = Learner(made(**{name: "readout"}), RULES["sbd"](), LOSSES["cross_entropy"](), torch.Generator())
        assert judged.network.readout == name
    Learner(made(), RULES["stdp"](readout="rule"), None, torch.Generator())  # nobody is judged
    table: dict[str, Any] = {
        "name": "guessed",
        "population": {n: {"size": (3,)} | ({"neuron": "lif"} if n != "input" else {}) for n in names},
        "connection": [{"pre": pre, "post": post, "kind": "dense"} for pre, post in wires],
    }
    with pytest.raises(UsageError, match=message):
        resolve_table(copy.deepcopy(table), "guessed.toml", "guessed")
    free = resolve_table(copy.deepcopy(table | {"simulation": {"duration": "1 s"}}), "guessed.toml", "guessed")
    assert free.definition.simulation is not None
    table["population"][names[1]]["role"] = "readout"
    assert resolve_table(table, "guessed.toml", "guessed").definition.readout == names[1]


def test_loops_and_heads_leave_no_doubt() -> None:
    """The last population that alone feeds no other: it may feed itself and heads."""
    names, wires = ["input", "a", "out"], [("input", "a"), ("a", "out"), ("out", "out"), ("out", "probe")]
    made = [Population(n, (3,), NEURONS["tanh"]() if n != "input" else None) for n in names]
    made.append(Population("probe", (3,), NEURONS["tanh"](), role="head"))
    net = Network(made, [Connection(*ends, Dense()) for ends in wires], torch.Generator())
    assert Learner(net, RULES["sbd"](), LOSSES["cross_entropy"](), torch.Generator()).network.readout == "out"


def _population(name: str, **changes: Any) -> Callable[[Network], list[Population]]:
    return lambda net: [replace(p, **changes) if p.name == name else p for p in net.populations.values()]


REFUSED: list[tuple[Callable[[Network], list[Population]], str]] = [
    (_population("probe", role="readout"), ""),
    (
        _population("probe", size=(4,)),
        r"'probe' is a head, judged by the loss of the readout.*'output', \[3\], got \[4\]",
    ),
    (_population("hidden", role="head"), r"'hidden' is a head, which feeds nothing, but.*'hidden->deep'"),
    (_population("deep", role="raedout"), r"'deep': there is no role 'raedout'; did you mean 'readout'"),
    (_population("input", role="head"), r"'input' is clamped to the data and can be no head"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED[1:])
def test_roles_that_make_no_sense_are_refused(change: Callable[[Network], list[Population]], message: str) -> None:
    net = network()
    with pytest.raises(ValueError, match=message):
        Network(change(net), list(net.connections.values()), torch.Generator())


def test_two_readouts_or_none_are_refused() -> None:
    net = network(readout="readout")
    populations = _population("probe", role="readout")(net)
    with pytest.raises(ValueError, match=r"'probe' and 'output' both have role = 'readout', but a network has one"):
        Network(populations, list(net.connections.values()), torch.Generator())
    with pytest.raises(ValueError, match="no population is the readout"):
        Network(
            [Population("input", (2,), None), Population("a", (2,), NEURONS["relu"](), role="head")],
            [Connection("input", "a", Dense())], torch.Generator(),
        )  # fmt: skip


def test_who_teaches_no_heads_refuses_them() -> None:
    """Must fail when a rule leaves a head as it was drawn without a word (tried)."""
    with pytest.raises(ValueError, match=r"'probe' is a head, which this rule does not teach"):
        Learner(network(), replace_heads(LocalLosses)(), LOSSES["cross_entropy"](), torch.Generator())
    with pytest.raises(ValueError, match=r"'probe' is a head, but there is no loss to judge it"):
        Learner(network(), RULES["stdp"](readout="rule"), None, torch.Generator())


def replace_heads(rule: type[LocalLosses]) -> type[LocalLosses]:
    """The same rule, which says nothing of heads."""
    return type("Silent", (rule,), {"teaches_heads": False})


# Model files and runs -----------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "probed.toml"
    path.write_text(MODEL.format(probe=', role = "head"', output=""))
    return path


def test_a_model_file_names_its_readout(model: Path, tmp_path: Path) -> None:
    """And `show` says which it is, also where it is the last population and nothing says so."""
    definition = neurosbd.load_model(str(model))
    assert definition.readout == "output" and definition.population["probe"].role == "head"
    shown = catalogue.show(str(model))
    assert [line.split()[:2] for line in shown.splitlines() if line.startswith("population.output.role")] == [
        ["population.output.role", "readout"]
    ]
    model.write_text(MODEL.format(probe=', role = "readout"', output=', role = "readout"'))
    with pytest.raises(UsageError, match=r"probed.toml.*'probe' and 'output' both have role = 'readout'"):
        neurosbd.load_model(str(model))
    model.write_text(MODEL.format(probe=', role = "haed"', output=""))
    with pytest.raises(UsageError, match=r"population.probe.role.*'haed'.*did you mean 'head'"):
        neurosbd.load_model(str(model))


def test_a_run_judges_its_heads(model: Path, tmp_path: Path) -> None:
    """Loss and accuracy of every head stand beside those of the readout; it learns, and can be recorded.

    Must fail when the weights of a head are no part of the optimizer's (tried).
    """
    asked: dict[str, Any] = {
        "record": ["probe.score[every=5 batches]", "probe.loss", "probe.rate"],
        "loggers": [NullLogger()],
    }
    run = neurosbd.fit(str(model), out=tmp_path / "one", **asked)
    last = run.metrics[-1]
    assert last["train_probe.loss"] < run.metrics[0]["train_probe.loss"]
    assert 0 <= last["test_probe.accuracy"] <= 1 and last["test_probe.loss"] != last["test_loss"]
    assert run.trace["probe.score"].shape[-1] == 10 and run.trace["probe.loss"].shape[-1] == 20
    with pytest.raises(
        UsageError, match=r"hidden.score: score belongs to the network; write score, or probe.score of a"
    ):
        neurosbd.fit(str(model), out=tmp_path / "two", record=["hidden.score"], loggers=[NullLogger()])
    config = json.loads((run.path / "config.json").read_text())
    assert config["definition"]["population"]["output"]["role"] == "readout"


def test_a_recipe_leaves_heads_linear(model: Path) -> None:
    definition = neurosbd.load_model(str(model), recipe="standard")
    kinds = {name: spec.neuron.kind for name, spec in definition.population.items() if spec.neuron}
    assert kinds == {"hidden": "standardised", "probe": "identity", "deep": "standardised", "output": "identity"}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_heads_are_left_out_of_a_nir_graph() -> None:
    """And a readout that is not the last population stays the readout. Must fail when a head is written (tried)."""
    pytest.importorskip("nir")
    net = network(unit="if", out="li").float()
    for name in ("hidden", "deep"):
        net.populations[name] = replace(net.populations[name], neuron=NEURONS["if"](reset="to_value"))
    with pytest.warns(UsageWarning, match=r"heads are left out of it \(probe\)"):
        graph = to_nir(net)
    read = from_nir(graph, net.dt)
    assert list(read.populations) == ["input", "hidden", "deep", "output"] and read.readout == "output"
