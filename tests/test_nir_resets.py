"""Resets that no neuron of NIR has: spelt out exactly, or replaced and said to be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosbd
from neurosbd.connections import Conv2d, Dense
from neurosbd.errors import UsageError
from neurosbd.network.network import Connection, Network
from neurosbd.neurons import IF, LIF, CubaLIF
from neurosbd.surrogates import ArcTan
from tests.test_nir import DT, built, inputs, spikes

nir = pytest.importorskip("nir")


def single(neuron: Any) -> Network:
    return built(
        [("input", (4,), None), ("output", (5,), neuron)], [Connection("input", "output", Dense(bias=True))], 0.6
    )


def deep(neuron: Any) -> Network:
    return built(
        [("input", (2, 8, 8), None), ("maps", (3, 6, 6), neuron), ("output", (5,), neuron)],
        [
            Connection("input", "maps", Conv2d(3, bias=True)),
            Connection("maps", "output", Dense(), delay=2),
            Connection("output", "output", Dense()),
        ],
        0.4,
    )


NEURONS = [
    LIF(2e-3, reset="subtract", r=0.5, v_leak=0.1, v_threshold=0.7, surrogate=ArcTan(3.0)),
    LIF(2e-3, reset="none", v_threshold=1.5),
    IF(reset="subtract", v_threshold=1.2, r=0.8),
]


@pytest.mark.parametrize("neuron", NEURONS, ids=["subtract", "none", "if"])
def test_the_spelt_out_reset_says_the_same_as_its_equations(neuron: Any) -> None:
    """Oracle: NIR's own equations of LI, I, Threshold and Scale by forward Euler, the loop one step later.

    Must fail when the Scale takes v_threshold in place of v_threshold / rise (tried).
    """
    network = single(neuron)
    graph = neurosbd.to_nir(network, resets="loop")
    nodes: dict[str, Any] = dict(graph.nodes)
    membrane, fire, back = nodes["n_output"], nodes["fire_output"], nodes.get("reset_output")
    assert (back is None) == (neuron.reset == "none") and type(fire).__name__ == "Threshold"
    x, weights = inputs(network, 1), nodes["w_input_output"]
    v, z, shown = getattr(membrane, "v_leak", np.zeros(5)).astype(np.float64), np.zeros(5), []
    for now in x[:, 0].numpy():
        drive = weights.weight @ now + weights.bias + (0 if back is None else back.scale * z)
        leaking = type(membrane).__name__ == "LI"
        v = v + (DT / membrane.tau * (membrane.v_leak - v + membrane.r * drive) if leaking else DT * membrane.r * drive)
        z = (v > fire.threshold).astype(np.float64)
        shown.append(z)
    mine = spikes(network, x)[:, 0].numpy()
    np.testing.assert_array_equal(np.array(shown), mine)
    assert 0.02 < mine.mean() < 0.98


@pytest.mark.parametrize("neuron", NEURONS, ids=["subtract", "none", "if"])
def test_back_from_a_file_it_is_the_same_network(neuron: Any, tmp_path: Path) -> None:
    network = deep(neuron)
    nir.write(tmp_path / "net.nir", neurosbd.to_nir(network, resets="loop"))
    back = neurosbd.from_nir(tmp_path / "net.nir")
    assert list(back.populations) == list(network.populations) and list(back.connections) == list(network.connections)
    for name, population in network.populations.items():
        for field, value in vars(population.neuron).items() if population.neuron is not None else ():
            got = getattr(back.populations[name].neuron, field)
            assert got == (pytest.approx(value, rel=1e-6) if isinstance(value, float) else value), field
    x = inputs(network)
    assert torch.equal(spikes(back, x), spikes(network, x)) and spikes(network, x).any()


def test_a_replaced_reset_is_the_same_up_to_the_first_spike() -> None:
    for neuron in (NEURONS[0], CubaLIF(2e-3, 1e-3, reset="subtract")):
        network = single(neuron)
        other = neurosbd.from_nir(neurosbd.to_nir(network, resets="to_value"))
        made: Any = other.populations["output"].neuron
        assert made.reset == "to_value"
        x = inputs(network)
        one, two = spikes(network, x), spikes(other, x)
        before = torch.cumsum(one, 0) - one == 0  # up to and with the first
        assert torch.equal(one[before], two[before]) and not torch.equal(one, two)


def test_without_a_word_it_is_refused_with_both_ways() -> None:
    with pytest.raises(
        UsageError, match=r"'output': reset = 'subtract'.*resets='loop'.*first spike.*resets='to_value'"
    ):
        neurosbd.to_nir(single(LIF()))
    with pytest.raises(UsageError, match=r"'output': reset = 'none'.*Exact: nothing"):
        neurosbd.to_nir(single(CubaLIF(reset="none")), resets="loop")
    with pytest.raises(UsageError, match=r"resets must be 'loop', 'to_value' or None, got 'hard'"):
        neurosbd.to_nir(single(LIF()), resets="hard")  # type: ignore[arg-type]


def test_groups_that_are_no_such_neuron_are_named() -> None:
    graph = neurosbd.to_nir(single(NEURONS[0]), resets="loop")
    back: Any = graph.nodes["reset_output"]
    back.scale = back.scale * 2
    with pytest.raises(UsageError, match=r"'reset_output' \(Scale\).*step of -1.4.*legal is minus the threshold, -0.7"):
        neurosbd.from_nir(graph)
    graph = neurosbd.to_nir(single(NEURONS[0]), resets="loop")
    graph.edges.append(("n_output", "output"))
    with pytest.raises(UsageError, match=r"'fire_output': Threshold cannot be read without one LI or I"):
        neurosbd.from_nir(graph)
    graph = neurosbd.to_nir(single(LIF(reset="to_value")))
    graph.nodes["gain"] = nir.Scale(np.ones(4))
    graph.edges[:] = [("input", "gain"), ("gain", "w_input_output"), *graph.edges[1:]]
    with pytest.raises(UsageError, match=r"'gain': Scale cannot be read without a Threshold"):
        neurosbd.from_nir(graph)
