"""Connections with a plasticity of their own, and several between the same two populations."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Dense
from neurosbd.errors import UsageError
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import LIF
from neurosbd.plasticity import Plasticity, RewardedSpikeTiming, SpikeTiming, SymmetricInhibitory, Triplet, Window
from neurosbd.rules import RULES, Rule
from neurosbd.surrogates import Without

OWN = Triplet(a2_plus=0.01)
WIDE = SpikeTiming(Window(a_plus=0.02, a_minus=0.01, w_min=-0.5, w_max=0.5))


def balanced(exc: Plasticity | None, inh: Plasticity | None, **more: object) -> Network:
    """Inputs that excite, and inhibition, each with its plasticity or with that of the rule."""
    neuron = LIF(10e-3, surrogate=Without())
    populations = [Population("input", (6,), None), Population("exc", (4,), neuron)]
    populations.append(Population("inh", (3,), neuron, role="readout"))
    connections = [
        Connection("input", "exc", Dense(), plasticity=exc, **more),  # type: ignore[arg-type]
        Connection("exc", "inh", Dense(), plastic=False),
        Connection("inh", "exc", Dense(), plasticity=inh),
    ]
    network = Network(populations, connections, torch.Generator().manual_seed(0)).double()
    for name, sign in (("input->exc", 1), ("exc->inh", 1), ("inh->exc", -1)):
        network.weights[name].data.abs_().mul_(sign)
    return network


def changes(network: Network, plasticity: Plasticity = WIDE) -> dict[str, Tensor]:
    """Gradients of a trial under a network-wide plasticity."""
    learner = Learner(network, RULES["stdp"](plasticity=plasticity, readout="rule"), None, torch.Generator())
    x = (torch.rand(60, 2, 6, generator=torch.Generator().manual_seed(3)) < 0.3).double()
    learner.learn(Batch(x, reward=lambda t, frame: None))
    return {name: weight.grad for name, weight in network.weights.items() if weight.grad is not None}


def test_every_connection_follows_its_own_plasticity_and_the_others_that_of_the_rule() -> None:
    """Bit for bit what a network-wide rule of that plasticity does to it.

    Must fail when one plasticity serves all connections onto a population (tried).
    """
    inhibitory = SymmetricInhibitory()
    mixed = changes(balanced(OWN, None))
    assert torch.equal(mixed["input->exc"], changes(balanced(None, None), OWN)["input->exc"])
    assert torch.equal(mixed["inh->exc"], changes(balanced(None, None))["inh->exc"])
    all_own = changes(balanced(OWN, inhibitory))
    assert torch.equal(all_own["input->exc"], mixed["input->exc"]) and mixed["input->exc"].any()
    assert torch.equal(all_own["inh->exc"], changes(balanced(None, None), inhibitory)["inh->exc"])


def test_weights_stay_within_the_bounds_of_their_own_plasticity() -> None:
    """Must fail when all have the bounds of the rule, -0.5..0.5 (tried)."""
    network = balanced(OWN, SymmetricInhibitory(w_min=-0.2))
    learner = Learner(network, RULES["stdp"](plasticity=WIDE, readout="rule"), None, torch.Generator())
    with torch.no_grad():
        network.weights["input->exc"].fill_(3.0)
        network.weights["inh->exc"].fill_(-3.0)
    learner.after_step()
    assert (network.weights["input->exc"] == 1.0).all() and (network.weights["inh->exc"] == -0.2).all()


def test_two_connections_between_two_populations_add_up() -> None:
    """One with half of the weights twice is one with all of them; a label tells them apart, also in recordings."""
    populations = [Population("input", (6,), None), Population("out", (4,), LIF())]
    fast, slow = (Connection("input", "out", Dense(), label=label) for label in ("fast", "slow"))
    both = Network(populations, [fast, slow], torch.Generator().manual_seed(0))
    whole = Network(populations, [Connection("input", "out", Dense())], torch.Generator().manual_seed(0))
    assert list(both.weights) == ["input->out (fast)", "input->out (slow)"]
    for weight in both.weights.values():
        weight.data.copy_(whole.weights["input->out"] / 2)
    x = torch.rand(3, 6)
    found, expected = (net.step(net.init(x), x).activity["out"].potential for net in (both, whole))
    torch.testing.assert_close(found, expected)
    with pytest.raises(ValueError, match=r"'input->out \(fast\)' is declared twice; give each a label of its own"):
        Network(populations, [fast, fast], torch.Generator())


@pytest.mark.parametrize(
    ("rule", "network", "message"),
    [
        (
            RULES["bp"](),
            lambda: balanced(OWN, None),
            r"'input->exc' has a plasticity of its own, which this rule does not",
        ),
        (
            RULES["stdp"](readout="rule"),
            lambda: balanced(RewardedSpikeTiming(), None),
            r"changes nothing without a third",
        ),
    ],
)
def test_what_nobody_would_carry_out_is_refused(rule: Rule, network: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Learner(network(), rule, LOSSES["cross_entropy"](), torch.Generator())  # type: ignore[operator]


def test_a_plasticity_of_what_does_not_learn_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'input->exc' has a plasticity, but plastic = False"):
        balanced(OWN, None, plastic=False)
    with pytest.raises(ValueError, match=r"its label must be of letters, digits"):
        balanced(OWN, None, label="a b")


MODEL = """
[population]
input = { size = [1, 8, 8] }
output = { size = [10], neuron = { kind = "lif", surrogate = "none" } }

[[connection]]
pre = "input"
post = "output"
kind = "dense"
label = "fast"
plasticity = { kind = "triplet", a2_plus = 1e-3 }
"""


def test_a_model_file_names_the_plasticity_of_a_connection(tmp_path: Path) -> None:
    """No rule is needed where every plastic connection has its own; its changes are not scaled by an optimizer.

    Must fail when the default rule, sbd, is taken.
    """
    (tmp_path / "own.toml").write_text(MODEL)
    definition = neurosbd.load_model(tmp_path / "own.toml")
    assert (definition.rule.kind, definition.training.optimizer.model_dump()["lr"]) == ("stdp", 1.0)
    assert definition.network().connections["input->output (fast)"].plasticity == Triplet(a2_plus=1e-3)
    with pytest.raises(UsageError, match=r"there is no 'triplett'; did you mean 'triplet'"):
        neurosbd.load_model(tmp_path / "own.toml", settings={"connection.0.plasticity": "triplett"})
    with pytest.warns(
        neurosbd.UsageWarning, match=r"plasticity of connection 'input->output \(fast\)' states by how much"
    ):
        settings = {"training.optimizer": "adam", "training.epochs": 1, "data.subset": 1}
        neurosbd.fit(tmp_path / "own.toml", settings=settings, out=tmp_path / "run", record=["*.dweight"])


PAIR = """
simulation = { duration = "40 ms" }
stimulus = [
    { population = "pre", kind = "spikes", times = ["10 ms"], units = [0] },
    { population = "post", kind = "spikes", times = ["15 ms"], units = [0], amplitude = 2.0 },
]
training.rates = { "pre->post (slow)" = 0.25 }
population.pre = { size = [1], neuron = "relay" }
population.post = { size = [1], neuron = { kind = "lif", reset = "to_value" } }

[[connection]]
pre = "pre"
post = "post"
kind = "dense"
plasticity = { kind = "spike_timing", window = { a_plus = 0.01 } }

[[connection]]
pre = "pre"
post = "post"
label = "slow"
kind = "dense"
plasticity = { kind = "spike_timing", window = { a_plus = 0.01 } }
constraints = [{ kind = "bounds", upper = 0.5015 }, "nonnegative"]
"""


def test_learning_rate_bounds_and_norm_are_those_of_a_connection(tmp_path: Path) -> None:
    """Of two alike one learns at a quarter of the rate, and stops at a bound of its own; with a norm it stays.

    Must fail when the rate of a connection is that of all onto its population (tried).
    """
    start = {f"connection.{n}.weight": {"kind": "constant", "value": 0.25} for n in (0, 1)}
    pair = 0.01 * 2.718281828459045 ** (-6 / 20)

    def learned(**more: object) -> tuple[float, float]:
        (tmp_path / "pair.toml").write_text(PAIR)
        out = tmp_path / str(len(list(tmp_path.iterdir())))
        weights = neurosbd.simulate(tmp_path / "pair.toml", settings={**start, **more}, out=out).network().weights
        return weights["pre->post"].item() - 0.25, weights["pre->post (slow)"].item() - 0.25

    assert learned() == pytest.approx((pair, pair / 4), rel=1e-4)
    assert learned(**{"connection.1.constraints.0.upper": 0.251})[1] == pytest.approx(0.001, rel=1e-4)
    assert learned(**{"connection.1.constraints": ["norm"]}) == pytest.approx((pair, 0.0), abs=1e-7)
    with pytest.raises(UsageError, match=r"no population or connection 'pre->pots'; did you mean 'pre->post'"):
        learned(**{"training.rates": {"pre->pots": 2.0}})
