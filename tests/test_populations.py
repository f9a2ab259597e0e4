"""What a network is made of by hand: each mistake is a sentence that names the part."""

from typing import Any

import numpy as np
import pytest
import torch

from neurosbd.connections import Conv2d, Dense, Local2d
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import LIF, ReLU
from neurosbd.rules import RULES

INPUT, HIDDEN, OUTPUT = (
    Population("input", (4,), None),
    Population("hidden", (3,), ReLU()),
    Population("out", (2,), ReLU()),
)
ONE, TWO = Connection("input", "hidden", Dense()), Connection("hidden", "out", Dense())


def build(populations: Any = (INPUT, HIDDEN, OUTPUT), connections: Any = (ONE, TWO), seed: Any = None) -> Network:
    return Network(populations, connections, torch.Generator().manual_seed(0) if seed is None else seed)


@pytest.mark.parametrize(
    ("hidden", "message"),
    [
        (Population("hidden", 3, ReLU()), r"'hidden': its size must be a tuple such as \(5,\).*got 3"),  # type: ignore
        (Population("hidden", [3], ReLU()), r"'hidden': its size must be a tuple.*got \[3\]"),  # type: ignore
        (Population("hidden", (), ReLU()), r"'hidden': its size must be whole numbers >= 1, got \(\)"),
        (Population("hidden", (-3,), ReLU()), "'hidden': its size must be whole numbers >= 1"),
        (Population("hidden", (0,), ReLU()), "'hidden': its size must be whole numbers >= 1"),
        (Population("hidden", (3.0,), ReLU()), "'hidden': its size must be whole numbers >= 1"),  # type: ignore
        (Population("hidden", (True,), ReLU()), "'hidden': its size must be whole numbers >= 1"),
        (Population("hidden", (3,), None), "'hidden' needs a neuron"),
        (Population("hidden", (3,), LIF), r"neuron is the class LIF itself; give an instance, LIF\("),  # type: ignore
        (Population("hidden", (3,), "lif"), r"neuron is the text 'lif'.*NEURONS\['lif'\]\(\)"),  # type: ignore
        (Population("hidden", (3,), Dense()), "neuron must be an entry of .*NEURONS"),  # type: ignore
        (Population("out", (3,), ReLU()), "two populations share a name: 'out'"),
        (Population("", (3,), ReLU()), "cannot be the name of a population"),
        (Population("a.b", (3,), ReLU()), "'a.b' cannot be the name of a population"),
        (Population(3, (3,), ReLU()), "the name of a population must be a text, got 3"),  # type: ignore
        ("hidden", "populations must be a list of Population"),
        (Population("lonely", (3,), ReLU()), "no population 'hidden'"),
    ],
)
def test_populations(hidden: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build((INPUT, hidden, OUTPUT))


@pytest.mark.parametrize(
    ("connection", "message"),
    [
        (Connection("input", "hiden", Dense()), "'input->hiden': no population 'hiden'; did you mean 'hidden'"),
        (Connection("inptu", "hidden", Dense()), "'inptu->hidden': no population 'inptu'; did you mean 'input'"),
        (Connection("hidden", "input", Dense()), "'hidden->input': the input is clamped"),
        (Connection("hidden", "out", Dense()), "'hidden->out' is declared twice"),
        (Connection("input", "out", Dense), r"geometry is the class Dense itself; give.* Dense\("),  # type: ignore
        (Connection("input", "out", "dense"), r"geometry is the text 'dense'.*CONNECTIONS\['dense'\]"),  # type: ignore
        (Connection("input", "out", None), "'input->out' needs a geometry"),  # type: ignore
        (Connection("input", "out", ReLU()), "geometry must be an entry of .*CONNECTIONS"),  # type: ignore
        (Connection("input", "out", Conv2d(3)), "'input->out': .*"),
        (Connection("input", "out", Local2d(3)), "'input->out': .*"),
        (Connection("input", "out", Dense(), delay=2.0), "delay 2.0 is a time of 2 s; if that is meant"),  # type: ignore
        (Connection("input", "out", Dense(), delay=True), "delay must be a whole number of steps"),
        (Connection("input", "out", Dense(), delay=-1), "a delay of -1 steps is shorter than possible"),
        (Connection(INPUT, "out", Dense()), "joins populations by their names, got Population"),  # type: ignore
        (("input", "out"), "connections must be a list of Connection"),
    ],
)
def test_connections(connection: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(connections=(ONE, TWO, connection))


def test_the_rest_of_a_network() -> None:
    for seed in (0, "seed", np.random.default_rng(0)):
        with pytest.raises(ValueError, match=r"generator must be a torch.Generator.*manual_seed\(seed\)"):
            build(seed=seed)
    with pytest.raises(ValueError, match="populations must be a list of Population"):
        build(INPUT)
    with pytest.raises(ValueError, match="needs a population beside 'input'"):
        build((), ())
    with pytest.raises(ValueError, match="'input' must be the first population"):
        build((HIDDEN, INPUT, OUTPUT), (ONE, TWO))
    with pytest.raises(ValueError, match="'hidden' needs a neuron; 'input' alone goes without"):
        build((Population("hidden", (3,), None), OUTPUT), (TWO,))


def test_whole_numbers_of_numpy_are_whole_numbers() -> None:
    one = (INPUT, Population("hidden", (np.int64(3),), ReLU()), OUTPUT)  # type: ignore[arg-type]
    network = build(one, (ONE, Connection("hidden", "out", Dense(), delay=np.int64(2))))  # type: ignore[arg-type]
    assert network.delays["hidden->out"] == 2 and type(network.delays["hidden->out"]) is int


@pytest.mark.parametrize("delay", [2.0, True, -1, "2"])
def test_the_delay_of_a_third_factor_is_a_whole_number(delay: Any) -> None:
    with pytest.raises(ValueError, match="delay"):
        RULES["sbd"](delay=delay)
