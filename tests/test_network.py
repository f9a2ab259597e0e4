"""Networks and the simulation: order of update, lateness, errors that name the fix."""

import pytest
import torch

from neurosbd.connections import Conv2d, Dense
from neurosbd.connections.pooling import AveragePool
from neurosbd.learning.simulation import unroll
from neurosbd.network.network import Connection, Network, Population
from neurosbd.neurons import NEURONS
from tests.conftest import cnn, mlp


def population(name: str, *size: int, neuron: str = "identity") -> Population:
    return Population(name, size, None if name == "input" else NEURONS[neuron]())


def build(populations: list[Population], connections: list[Connection]) -> Network:
    return Network(populations, connections, torch.Generator().manual_seed(0))


def test_a_feed_forward_network_equals_torch_modules() -> None:
    """Second implementation: torch.nn with the same weights."""
    network = cnn()
    conv1, conv2 = torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.Conv2d(4, 6, 3, 2, 1, bias=False)
    fc, out = torch.nn.Linear(24, 5), torch.nn.Linear(5, 3)
    twin = torch.nn.Sequential(
        conv1, torch.nn.ReLU(), torch.nn.AvgPool2d(2), conv2, torch.nn.ReLU(), torch.nn.Flatten(),
        fc, torch.nn.ReLU(), out,
    ).double()  # fmt: skip
    with torch.no_grad():
        for module, name in ((conv1, "input->conv1"), (conv2, "conv1->conv2"), (fc, "conv2->fc"), (out, "fc->output")):
            module.weight.copy_(network.weights[name])
            if module.bias is not None:
                network.biases[name].copy_(torch.randn(module.bias.shape))
                module.bias.copy_(network.biases[name])
        x = torch.randn(7, 2, 8, 8, dtype=torch.float64)
        torch.testing.assert_close(network(x), twin(x), rtol=1e-12, atol=1e-12)


def test_a_late_connection_is_felt_one_step_later() -> None:
    """A unit driven by itself with weight w and by input 1 once: v[t] = w^t."""
    network = build(
        [population("input", 1), population("unit", 1)],
        [Connection("input", "unit", Dense()), Connection("unit", "unit", Dense())],
    )
    with torch.no_grad():
        network.weights["input->unit"].fill_(1.0)
        network.weights["unit->unit"].fill_(0.5)
        inputs = torch.zeros(4, 1, 1)
        inputs[0] = 1
        seen: list[float] = []
        unroll(network, inputs, [lambda t, frame: seen.append(frame.activity["unit"].value.item())])
    assert seen == [1.0, 0.5, 0.25, 0.125]


def test_a_run_in_two_parts_is_the_run_in_one() -> None:
    network = build(
        [population("input", 2), population("unit", 3, neuron="tanh")],
        [Connection("input", "unit", Dense()), Connection("unit", "unit", Dense())],
    )
    inputs = torch.randn(6, 4, 2)
    with torch.no_grad():
        whole = unroll(network, inputs)
        parts = unroll(network, inputs[3:], start=unroll(network, inputs[:3]))
    assert torch.equal(whole.activity["unit"].value, parts.activity["unit"].value)


def test_an_empty_sequence_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        unroll(mlp([2, 3]), torch.zeros(0, 1, 2))


def test_weights_depend_on_the_generator_alone() -> None:
    torch.manual_seed(1)
    one = mlp([3, 4, 2], sparsity=0.3)
    torch.manual_seed(2)
    two = mlp([3, 4, 2], sparsity=0.3)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_sparsity_is_the_stated_fraction() -> None:
    network = mlp([200, 300, 2], sparsity=0.4)
    share = (network.weights["input->hidden1"] == 0).double().mean().item()
    assert share == pytest.approx(0.4, abs=0.01)  # 60,000 draws: standard deviation 0.002


@pytest.mark.parametrize(
    ("populations", "connections", "message"),
    [
        ([population("input", 2)], [], "needs a population beside 'input'"),
        ([population("input", 2), population("a", 3)], [Connection("x", "a", Dense())], "no population 'x'"),
        ([population("input", 2), population("a", 3)], [Connection("a", "input", Dense())], "cannot be driven"),
        ([population("a", 2), population("input", 2)], [], "'input' must be the first population"),
        ([population("input", 2), population("a", 3)], [Connection("input", "a", Dense())] * 2, "declared twice"),
        (
            [population("input", 3, 8, 8), population("a", 4, 8, 8)],
            [Connection("input", "a", Conv2d(5, padding=2, pool=AveragePool()))],
            r"write size = \[4, 4, 4\]",
        ),
        ([population("input", 9), population("a", 4, 8, 8)], [Connection("input", "a", Conv2d(3))], "reads maps"),
        ([population("input", 9), population("a", 4, 8, 8)], [Connection("input", "a", Dense())], r"size \[n\]"),
        (
            [population("input", 3, 2, 2), population("a", 4, 8, 8)],
            [Connection("input", "a", Conv2d(5))],
            "kernel of 5 does not fit",
        ),
    ],
)
def test_networks_that_do_not_fit_say_why(
    populations: list[Population], connections: list[Connection], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build(populations, connections)
