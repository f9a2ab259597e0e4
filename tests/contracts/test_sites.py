"""What a plasticity or an eligibility says of a site before anything runs is what happens there."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from neurosbd.connections import CONNECTIONS
from neurosbd.connections.synapses import Synapses
from neurosbd.distributions import Uniform
from neurosbd.eligibility.local import Local
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.online import LocalRule
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Frame, Network, Population
from neurosbd.neuromodulators import NEUROMODULATORS
from neurosbd.neurons import NEURONS
from neurosbd.plasticity import PLASTICITIES, ThreeFactor
from neurosbd.rules import RULES
from neurosbd.surrogates import Without

T, B = 6, 3
UNITS = {  # neurons of the population whose synapses are asked
    **NEURONS,
    "lif without": lambda: NEURONS["lif"](surrogate=Without()),
    "lif of several leaks": lambda: NEURONS["lif"](tau_mem=Uniform(10e-3, 30e-3)),
}
READOUTS = ("li", "alif")  # one with a leak that a plasticity can wait for, one without
GEOMETRIES: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...], Any]] = {
    "dense": ({}, (5,), (4,), None),
    "conv2d": ({"kernel": 3}, (2, 4, 4), (3, 2, 2), None),
    "local2d": ({"kernel": 3}, (2, 4, 4), (3, 2, 2), None),
    "vector": ({}, (5,), (4, 3), ("units", "components")),
    "vector_conv2d": ({"kernel": 3}, (2, 4, 4), (3, 2, 2, 2), ("channels", "components", "height", "width")),
    "vector_local2d": ({"kernel": 3}, (2, 4, 4), (3, 2, 2, 2), ("channels", "components", "height", "width")),
}
SITES = [(geometry, unit, readout) for geometry in GEOMETRIES for unit in UNITS for readout in READOUTS]
PAIRS = [(name, kind) for name, make in PLASTICITIES.items() for kind in make().eligibilities or ("factorised",)]


def network_at(geometry: str, unit: str, readout: str, bias: bool = True, place: Any = "soma") -> Network:
    """input -> hidden -> output in float64; the synapses onto `hidden` are the site."""
    constants, pre, post, axes = GEOMETRIES[geometry]
    populations = [
        Population("input", pre, None), Population("hidden", post, UNITS[unit](), axes),
        Population("output", (2,), NEURONS[readout]()),
    ]  # fmt: skip
    connections = [
        Connection("input", "hidden", CONNECTIONS[geometry](**constants, bias=bias), compartment=place),
        Connection("hidden", "output", CONNECTIONS["dense"](bias=True), plastic=False),
    ]
    dt = 1e-4 if unit == "hodgkin_huxley" else 1e-3  # its gates move within a millisecond
    return Network(populations, connections, torch.Generator().manual_seed(0), dt).double()


def learned(network: Network, plasticity: Any, eligibility: Any) -> dict[str, Tensor]:
    """Gradients of one batch, whose reward reaches a plasticity that wants a third factor."""
    sender = NEUROMODULATORS["reward"](baseline=0.0) if plasticity.modulated else None
    rule = LocalRule(plasticity, sender, eligibility, readout="rule")
    size = network.populations["input"].size

    def give(t: int, frame: Frame) -> Tensor | None:
        return torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64) if t == T - 1 else None

    x = (torch.rand(T, B, *size, generator=torch.Generator().manual_seed(1)) < 0.5).double() * 3
    batch = Batch(x, torch.zeros(B, dtype=torch.long), reward=give)
    learner = Learner(network, rule, LOSSES["cross_entropy"](), torch.Generator().manual_seed(2))
    learner.learn(batch, noise=torch.Generator().manual_seed(3))
    return {name: weight.grad for name, weight in network.weights.items() if weight.grad is not None}


@pytest.mark.filterwarnings("ignore::neurosbd.errors.UsageWarning")
@pytest.mark.parametrize(("plasticity", "eligibility"), PAIRS)
def test_a_plasticity_runs_where_its_check_accepts_and_is_refused_elsewhere(plasticity: str, eligibility: str) -> None:
    """A learner refuses naming the connection or population, or learns; nothing fails on the way.

    Must fail when a check lets a convolution pass that the plasticity cannot follow (tried: `eprop`), and when neurons
    without a pseudo-derivative are only found out by a step (tried).
    """
    outcomes = {True: 0, False: 0}
    for geometry, unit, readout in SITES:
        network = network_at(geometry, unit, readout)
        make: Any = PLASTICITIES[plasticity]
        try:
            Learner(network, LocalRule(make(), None, eligibility, readout="rule"), None, torch.Generator())  # type: ignore[arg-type]
        except ValueError as problem:
            assert "connection 'input->hidden'" in str(problem) or "population 'hidden'" in str(problem)
            outcomes[False] += 1
            continue
        outcomes[True] += 1
        assert torch.isfinite(learned(network, make(), eligibility)["input->hidden"]).all(), (geometry, unit, readout)
    assert outcomes[True], "refused everywhere"


def test_a_check_reads_constants_and_runs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Must fail when a learner takes a step of the network, or of a plasticity, to find out (tried)."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("a learner ran something before it was given a batch")

    network = network_at("dense", "lif", "li")
    monkeypatch.setattr(Network, "step", never)
    for part in (ThreeFactor, *(type(make()) for make in PLASTICITIES.values())):
        monkeypatch.setattr(part, "step", never)
        monkeypatch.setattr(part, "init", never)
    rule = LocalRule(ThreeFactor(), NEUROMODULATORS["fixed_random"]())
    Learner(network, rule, LOSSES["cross_entropy"](), torch.Generator())


@dataclass(frozen=True)
class Unasked:
    """A plasticity of one's own that says nothing of sites: Hebbian, without `check`."""

    modulated: ClassVar[bool] = False
    states_changes: ClassVar[bool] = True
    waits: ClassVar[bool] = False
    rate_regulated: ClassVar[bool] = False
    eligibilities: ClassVar[tuple[str, ...]] = ()

    def init(self, local: Local) -> tuple[()]:
        """Nothing."""
        return ()

    def step(self, state: tuple[()], local: Local, dt: float) -> tuple[Synapses | None, tuple[()]]:
        """Minus pre x post."""
        return local.outer(-local.post.value / len(local.pre), local.pre), state

    def eligibility(self, state: tuple[()], local: Local, examples: Tensor) -> Tensor:
        """There is none."""
        raise ValueError("nothing waits")


def test_a_plasticity_without_a_check_is_accepted() -> None:
    for geometry in GEOMETRIES:
        found = learned(network_at(geometry, "relu", "li"), Unasked(), "factorised")
        assert found["input->hidden"].any()


def test_neurons_that_a_step_does_not_suit_are_refused_before_anything_runs() -> None:
    """With any rule, backprop too. Must fail when only the first step finds it (tried)."""
    network = network_at("dense", "corinfomax", "li", place="basal")
    fast = replace(network.populations["hidden"].neuron, tau_mem=5e-3)  # type: ignore[type-var]
    network.populations["hidden"] = replace(network.populations["hidden"], neuron=fast)
    for name in ("corinfomax", "bp"):
        with pytest.raises(ValueError, match=r"population 'hidden': CorInfoMax: a step.*overshoots.*at least 0.00717"):
            Learner(network, RULES[name](), LOSSES["cross_entropy"](), torch.Generator())
