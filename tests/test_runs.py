"""Runs of spiking networks: split in two, in another precision, with constants of each unit, with delays."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.connections import Conv2d, Dense
from neurosbd.distributions import LogNormal, Normal, Uniform
from neurosbd.learning.simulation import unroll
from neurosbd.network.network import Connection, Frame, Network, Population
from neurosbd.neurons import LIF, NEURONS, Escape
from neurosbd.neurons.neuron import Neuron, gain
from neurosbd.schema.constants import Constant
from tests.spiking import legal_step

DT = 1e-3


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def reservoir(neuron: Neuron, inputs: int = 3, units: int = 6, delay: int = 3) -> Network:
    """Units that drive each other, one connection with a delay."""
    populations = [Population("input", (inputs,), None), Population("unit", (units,), neuron)]
    connections = [
        Connection("input", "unit", Dense(bias=True), delay=delay),
        Connection("unit", "unit", Dense(autapses=False)),
    ]
    return Network(populations, connections, seeded(), legal_step(neuron, DT))


def record(network: Network, inputs: Tensor, start: Frame | None = None) -> tuple[Tensor, Frame]:
    """Value of the readout at every step, and the last frame."""
    seen: list[Tensor] = []
    look = lambda t, frame: seen.append(frame.activity[network.readout].value)  # noqa: E731
    with torch.no_grad():
        last = unroll(network, inputs, (look,), start, seeded())
    return torch.stack(seen), last


def gains(network: Network, inputs: Tensor) -> Tensor:
    """Gain of the readout at every step."""
    neuron, seen = network.populations[network.readout].neuron, []
    assert neuron is not None
    look = lambda t, frame: seen.append(gain(neuron, frame.activity[network.readout], network.dt))  # noqa: E731
    with torch.no_grad():
        unroll(network, inputs, (look,), None, seeded())
    return torch.stack(seen)


def strength(name: str) -> float:
    """Drive that makes the neurons of millivolts spike, too."""
    return 20.0 if name == "izhikevich" else 2.0


@pytest.mark.parametrize("name", list(NEURONS))
def test_a_run_split_in_two_is_the_whole_run_bitwise(name: str) -> None:
    """Whatever a neuron needs is in its state, its noise included. Must fail when what is underway is lost (tried)."""
    fields = {f.name for f in dataclasses.fields(NEURONS[name]()) if f.init}  # type: ignore[arg-type]
    network = reservoir(NEURONS[name](**({"refractory": 2e-3} if "refractory" in fields else {})))
    inputs = strength(name) * torch.rand(40, 4, 3)
    whole, last = record(network, inputs)
    first, half = record(network, inputs[:17])
    second, end = record(network, inputs[17:], half)
    assert torch.equal(torch.cat((first, second)), whole) and whole.any()
    assert not torch.equal(record(network, inputs[17:])[0], second) or name not in fields
    for a, b in zip(_tensors(last), _tensors(end), strict=True):
        assert torch.equal(a, b)


def _tensors(frame: Frame) -> list[Tensor]:
    parts = [*frame.state.neurons.values(), *frame.state.underway.values()]
    return [t for part in parts for t in part if t is not None]


def test_the_batch_may_not_change_within_a_run() -> None:
    network = reservoir(LIF())
    _, frame = record(network, torch.rand(2, 3, 3))
    with pytest.raises(ValueError, match="batch changed from 3 to 2 examples"):
        network.step(frame, torch.rand(2, 3))


@pytest.mark.parametrize("neuron", [LIF(tau_mem=Uniform(5e-3, 50e-3), refractory=2e-3), Escape(), NEURONS["adex"]()])
def test_the_state_follows_the_precision_of_the_network(neuron: Neuron) -> None:
    """Constants that are tensors, too. Must fail when they stay float32 (tried: no `_apply`)."""
    for network, dtype in ((reservoir(neuron).double(), torch.float64), (reservoir(neuron), torch.float32)):
        values, frame = record(network, torch.rand(3, 2, 3, dtype=dtype))
        floating = [t for t in _tensors(frame) if t.is_floating_point()]
        assert values.dtype == dtype and all(t.dtype == dtype for t in floating)
        constant = getattr(network.populations["unit"].neuron, "tau_mem", None)
        assert not isinstance(constant, Tensor) or constant.dtype == dtype


# Constants that differ between units --------------------------------------------------------------

NOT_VARIED = (("escape", "v_reset"), ("ct_relu", "direction"))  # the second is a direction, whatever its length
VARIED = [
    (name, field.name)
    for name in NEURONS
    for field in dataclasses.fields(NEURONS[name]())  # type: ignore[arg-type]
    if field.type == Constant and field.init and (name, field.name) not in NOT_VARIED
]


def one_by_one(network: Network, neuron: Neuron, field: str, values: Sequence[float], inputs: Tensor) -> Any:
    """Values and gains of the same units, each in a network of its own whose neuron has that number for a constant."""
    alone = []
    for i, value in enumerate(values):
        single = Network(
            [Population("input", (3,), None), Population("unit", (1,), dataclasses.replace(neuron, **{field: value}))],  # type: ignore[type-var]
            [Connection("input", "unit", Dense())],
            seeded(),
            DT,
        ).double()
        with torch.no_grad():
            single.weights["input->unit"].copy_(network.weights["input->unit"][i : i + 1])
        alone.append((record(single, inputs)[0], gains(single, inputs)))
    return tuple(torch.cat(parts, 2) for parts in zip(*alone, strict=True))


def feed_forward(neuron: Neuron, units: int, seed: int = 0) -> Network:
    populations = [Population("input", (3,), None), Population("unit", (units,), neuron)]
    generator = torch.Generator().manual_seed(seed)
    return Network(populations, [Connection("input", "unit", Dense())], generator, DT).double()


@pytest.mark.parametrize(("name", "field"), VARIED)
def test_units_with_their_own_constants_are_so_many_neurons(name: str, field: str) -> None:
    """Every constant of every neuron. Must fail when the unit of the surrogate or r is a mean (tried).

    exp of torch and of math differ in the last bit, hence the tolerance. Noise differs between places, so a
    stochastic neuron shows its gain, without a reset.
    """
    plain = NEURONS[name](**({"reset": "none"} if name == "escape" else {}))
    if field == "v_reset" and name != "adex":
        plain = NEURONS[name](reset="to_value")
    default = getattr(plain, field)
    values = [default * f if default else 0.1 * (f - 1) for f in (0.6, 0.8, 1.0, 1.4, 1.9)]
    network = feed_forward(dataclasses.replace(plain, **{field: torch.tensor(values, dtype=torch.float64)}), 5)  # type: ignore[type-var]
    mild = 1.0 if name in ("izhikevich", "adex") else 0.15
    inputs = mild * strength(name) * torch.rand(60, 1, 3, dtype=torch.float64)
    with torch.no_grad():
        network.weights["input->unit"].abs_()
    together = record(network, inputs)[0], gains(network, inputs)
    alone = one_by_one(network, plain, field, values, inputs)
    for a, b in list(zip(together, alone, strict=True))[name == "escape" :]:
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    same = one_by_one(network, plain, field, [default] * 5, inputs)
    assert any(not torch.allclose(a, b) for a, b in zip(alone, same, strict=True))  # the constant matters


@pytest.mark.parametrize("drawn", [Uniform(5e-3, 40e-3), Normal(20e-3, 10e-3, 2e-3), LogNormal(20e-3, 0.4)])
def test_drawn_constants_are_numbers_that_the_network_keeps(drawn: Any) -> None:
    """A network with a distribution is one with the numbers drawn; another generator draws others."""
    network = feed_forward(LIF(tau_mem=drawn), 12)
    neuron = network.populations["unit"].neuron
    assert isinstance(neuron, LIF) and isinstance(neuron.tau_mem, Tensor)
    assert neuron.tau_mem.min() >= drawn.least and len(neuron.tau_mem.unique()) == 12
    inputs = 0.4 * torch.rand(100, 1, 3, dtype=torch.float64)
    values, _ = record(network, inputs)
    assert torch.equal(values, one_by_one(network, LIF(), "tau_mem", neuron.tau_mem.tolist(), inputs)[0])
    assert values.sum() > 50
    other = feed_forward(LIF(tau_mem=drawn), 12, seed=1)
    assert not torch.equal(record(other, inputs)[0], values)
    other.load_state_dict(network.state_dict())
    assert torch.equal(record(other, inputs)[0], values)  # the constants travel with the weights


def test_constants_of_a_map_may_be_given_per_channel() -> None:
    def build(tau: Any) -> Network:
        populations = [Population("input", (1, 4, 4), None), Population("map", (2, 4, 4), LIF(tau_mem=tau))]
        return Network(populations, [Connection("input", "map", Conv2d(3, padding=1))], seeded())

    network = build([5e-3, 50e-3])
    neuron = network.populations["map"].neuron
    assert isinstance(neuron, LIF) and isinstance(neuron.tau_mem, Tensor) and neuron.tau_mem.shape == (2, 4, 4)
    assert (neuron.tau_mem[0] == 5e-3).all() and (neuron.tau_mem[1] == 50e-3).all()
    with pytest.raises(ValueError, match=r"population 'map'.*3 values.*32 units"):
        build([1e-3] * 3)


# Delays -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("delay", [0, 1, 4])
def test_a_delay_shifts_the_arrival_by_exactly_so_many_steps(delay: int) -> None:
    """Bitwise the undelayed run of the shifted input. Must fail when the queue is one short (tried)."""
    networks = [reservoir(LIF(), delay=d) for d in (0, delay)]
    with torch.no_grad():
        networks[0].biases["input->unit"].fill_(0.1)
        networks[1].load_state_dict(networks[0].state_dict())
    inputs = torch.rand(30, 2, 3)
    shifted = torch.cat((torch.zeros(delay, 2, 3), inputs))[:30]
    late, _ = record(networks[1], inputs)
    assert torch.equal(late, record(networks[0], shifted)[0]) and late.any()


def test_a_delay_of_a_recurrent_connection_counts_from_the_spike() -> None:
    """A unit driven by itself alone with delay d fires every d steps."""
    populations = [Population("input", (1,), None), Population("unit", (1,), LIF(v_threshold=0.5, reset="to_value"))]
    connections = [Connection("input", "unit", Dense()), Connection("unit", "unit", Dense(), delay=5)]
    network = Network(populations, connections, seeded())
    with torch.no_grad():
        for weight in network.weights.values():
            weight.fill_(1.0)
    inputs = torch.zeros(30, 1, 1)
    inputs[2] = 1
    assert record(network, inputs)[0].flatten().nonzero().flatten().tolist() == [2, 7, 12, 17, 22, 27]
