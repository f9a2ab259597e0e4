"""The orders of layers that tutorials have, what users hand over by mistake, and advice that exists."""

import copy
import importlib
import importlib.util
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neurosbd
from neurosbd.connections import Conv2d
from neurosbd.connections.pooling import AveragePool, MaxPool
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.neurons import LIF, CubaLIF, Identity, ReLU, Tanh
from neurosbd.rules import RULES, LocalRule

with warnings.catch_warnings():  # of third parties, as they are imported
    warnings.simplefilter("ignore")
    snn: Any = pytest.importorskip("snntorch")
    norse: Any = pytest.importorskip("norse.torch")

MAPS = (1, 16, 16)


def leaky(beta: Any = 0.5, **constants: Any) -> nn.Module:
    return snn.Leaky(beta=beta, init_hidden=True, spike_grad=snn.surrogate.fast_sigmoid(slope=25), **constants)


def tutorial(scale: float = 1.0) -> nn.Sequential:
    """snnTorch's sixth tutorial, smaller: conv, max pool, Leaky, twice, then a fully connected Leaky."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(1, 12, 5), nn.MaxPool2d(2), leaky(),
        nn.Conv2d(12, 16, 3), nn.MaxPool2d(2), leaky(),
        nn.Flatten(), nn.Linear(64, 10), leaky(),
    )  # fmt: skip
    with torch.no_grad():
        for layer in module:
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight.mul_(scale)
    return module


def outputs(network: neurosbd.Network, x: Tensor) -> Tensor:
    shown: list[Tensor] = []
    with torch.no_grad():
        unroll(network, x, [lambda t, frame: shown.append(frame.activity["output"].value)])
    return torch.stack(shown)


def test_the_tutorial_goes_spike_for_spike_and_teaches_spiking_units_only() -> None:
    """Every population spikes; no identity before a pool. Must fail when the pooling goes to the next connection
    (tried)."""
    module = tutorial(3.0)
    network = neurosbd.from_torch(module, MAPS)
    neurons = [p.neuron for p in network.populations.values()][1:]
    assert [type(n) for n in neurons] == [LIF] * 3
    assert [p.size for p in network.populations.values()] == [MAPS, (12, 6, 6), (16, 2, 2), (10,)]
    assert network.connections["input->hidden1"].geometry == Conv2d(5, bias=True, pool_drive=MaxPool(2, 2))
    x = torch.rand(100, 5, *MAPS)
    with torch.no_grad():
        theirs = torch.stack([module(now) for now in x])
    assert torch.equal(outputs(network, x), theirs) and 0.01 < theirs.mean() < 0.9
    rule = RULES["sbd"]()
    assert isinstance(rule, LocalRule)
    learner = Learner(network, rule, LOSSES["cross_entropy"](), torch.Generator().manual_seed(0))
    learner.learn(Batch(x[:20], torch.randint(0, 10, (5,)), (0.05,) * 20))
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any() and not parameter.grad.requires_grad, name


def test_constants_that_leave_layers_silent_are_said_once() -> None:
    """The tutorial as it stands, with torch's own initial weights: one warning with the names."""
    with pytest.warns(
        UsageWarning, match=r"'hidden2', 'output' never spiked in 50 steps.*multiply its weights"
    ) as found:
        neurosbd.from_torch(tutorial(), MAPS)
    assert len(found) == 1 and found[0].filename == __file__


ORDERS: dict[str, tuple[Callable[[], nn.Module], list[type], Any]] = {
    "pool, neuron": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.AvgPool2d(2), leaky(threshold=0.1)), [LIF],
                     AveragePool(2, 2)),
    "neuron, pool": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), leaky(threshold=0.1), nn.MaxPool2d(7), nn.Flatten(),
                              nn.Linear(16, 3)),
        [LIF, Identity], None),
    "pool, flatten, neuron": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(7), nn.Flatten(),
                              leaky(torch.linspace(0.2, 0.9, 16), threshold=0.1), nn.Linear(16, 3)),
        [LIF, Identity], MaxPool(7, 7)),
    "overlapping": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(3, 1), leaky(threshold=0.1)), [LIF],
                    MaxPool(3, 1)),
    "synaptic": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2),
                                       snn.Synaptic(0.8, 0.9, init_hidden=True, threshold=0.5)), [CubaLIF],
                 MaxPool(2, 2)),
    "recurrent": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2),
                                        snn.RLeaky(0.9, conv2d_channels=4, kernel_size=3, init_hidden=True)), [LIF],
                  MaxPool(2, 2)),
    "average, relu": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.AvgPool2d(2), nn.ReLU()), [ReLU], AveragePool(2, 2)),
    "maximum, tanh": (lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(7), nn.Tanh(), nn.Flatten(),
                                            nn.Linear(16, 3)), [Tanh, Identity], None),
}  # fmt: skip


@pytest.mark.parametrize("name", list(ORDERS))
def test_every_order_gives_what_the_module_gives(name: str) -> None:
    make, kinds, pool = ORDERS[name]
    torch.manual_seed(0)
    module = make()
    network = neurosbd.from_torch(module, MAPS)
    assert [type(p.neuron) for p in network.populations.values()][1:] == kinds
    first: Any = network.connections[next(iter(network.connections))].geometry
    assert first.pool_drive == pool
    x = 2 * torch.rand(60, 3, *MAPS)
    with torch.no_grad():
        theirs = torch.stack([module(now) for now in x])
    torch.testing.assert_close(outputs(network, x), theirs, rtol=1e-5, atol=1e-5)
    assert theirs.any()


# Mistakes -----------------------------------------------------------------------------------------


def _with(module: nn.Module, weight: float) -> nn.Module:
    with torch.no_grad():
        next(module.parameters()).fill_(weight)
    return module


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x).relu()


def _shared() -> nn.Module:
    fc = nn.Linear(4, 4)
    return nn.Sequential(fc, nn.ReLU(), fc)


def _state_shared() -> nn.Module:
    cell = leaky()
    return nn.Sequential(nn.Linear(4, 4), cell, nn.Linear(4, 4), cell)


def _endless() -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 4))
    module.add_module("again", module)
    return module


def _hooked() -> nn.Module:
    module = nn.Sequential(nn.Linear(4, 4))
    module[0].register_forward_hook(lambda *_: None)
    return module


MISTAKES: list[tuple[Callable[[], nn.Module], Any, str]] = [
    (lambda: nn.Sequential(_with(nn.Linear(4, 3), float("nan"))), 4, r"'0' \(Linear\): has a weight with.*not finite"),
    (lambda: nn.Sequential(nn.Linear(4, 3, device="meta")), 4, r"'0' \(Linear\): has a weight of.*on 'meta'"),
    (lambda: nn.Sequential(nn.Linear(4, 3, dtype=torch.complex64)), 4, r"'0' \(Linear\).*torch.complex64.*floating"),
    (
        lambda: nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2).double()),
        4,
        r"'1' \(Linear\): is torch.float64, module '0'",
    ),
    (_shared, 4, r"'2' \(Linear\): shares its weights with module '0'.*copy.deepcopy"),
    (_state_shared, 4, r"'3' \(Leaky\): shares its state with module '1'"),
    (_endless, 4, r"'again' \(Sequential\) contains itself"),
    (_hooked, 4, r"'0' \(Linear\): has forward hooks"),
    (Own, 4, r"\(Own\): cannot be translated; a forward of one's own.*nn.Sequential"),
    (lambda: nn.Sequential(nn.Conv2d(1, 4, 3, dilation=2)), MAPS, r"'0' \(Conv2d\): has dilation = \(2, 2\)"),
    (lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular")), MAPS, r"padding_mode = 'circular'"),
    (lambda: nn.Sequential(nn.Conv2d(1, 4, 4, padding="same")), MAPS, r"'0' \(Conv2d\): pads an even kernel to 'same'"),
    (lambda: nn.Sequential(nn.Conv2d(1, 4, 33)), MAPS, r"'0' \(Conv2d\): a kernel of 33 does not fit"),
    (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)),
        MAPS,
        r"'1' \(BatchNorm2d\).*NEURONS\['standardised'\]",
    ),
    (lambda: nn.Sequential(norse.LILinearCell(4, 3)), 4, r"'0' \(LILinearCell\).*nn.Linear.*norse.torch.LICell\(\)"),
    (lambda: nn.Sequential(nn.Linear(4, 3), norse.LSNN()), 4, r"'1' \(LSNN\).*norse.torch.LSNNCell"),
    (lambda: nn.Sequential(snn.LeakyParallel(4, 3)), 4, r"'0' \(LeakyParallel\).*snntorch.Leaky"),
    (lambda: nn.Linear(4, 3), "4", r"input_size must be units or.*'4'"),
    (lambda: nn.Linear(4, 3), 4.0, r"input_size must be units or.*4.0"),
    (lambda: nn.Linear(4, 3), True, r"input_size must be units or.*True"),
    (lambda: nn.Conv2d(1, 4, 3), (1, 2.5, 3), r"input_size must be units or"),
    (lambda: nn.Conv2d(1, 4, 3), (1, 10**6, 10**6), r"more than 268,435,456 units"),
    (lambda: nn.Conv2d(1, 2000, 1), (1, 1000, 1000), r"'' \(Conv2d\): makes \[2000, 1000, 1000\], more than"),
]


@pytest.mark.parametrize(("make", "size", "message"), MISTAKES)
def test_a_mistake_has_one_sentence_with_the_name_of_the_module(make: Any, size: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        neurosbd.from_torch(make(), size)
    with pytest.raises(UsageError, match="dt must be a time in s, > 0, got -1"):
        neurosbd.from_torch(nn.Linear(4, 3), 4, dt=-1)


def test_a_stateless_module_may_be_used_twice() -> None:
    """nn.Module.named_children tells the second place of a module from nobody. Must fail with it (tried)."""
    relu = nn.ReLU()
    module = nn.Sequential(nn.Linear(4, 5), relu, nn.Linear(5, 5), relu, nn.Linear(5, 2))
    x = torch.randn(6, 4)
    with torch.no_grad():
        torch.testing.assert_close(neurosbd.from_torch(module, 4)(x), module(x))


def test_dropout_of_a_module_in_train_mode_is_said_to_be_left_out() -> None:
    module = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5), nn.Linear(5, 2))
    with pytest.warns(UsageWarning, match=r"train mode; its Dropouts \('1'\) are left out"):
        neurosbd.from_torch(module, 4)
    neurosbd.from_torch(module.eval(), 4)


# Names that messages give -------------------------------------------------------------------------

NAMED = re.compile(r"\b(?:norse|snntorch|spikingjelly|nir|torch)(?:\.\w+)+")


def test_every_class_and_function_that_messages_and_documents_name_exists() -> None:
    """Must fail for snntorch.import_from_nir or norse.torch.LILinear (tried)."""
    root = Path(neurosbd.__file__).parents[1]
    texts = [*(root / "neurosbd" / "interchange").glob("*.py"), root / "docs" / "interchange.md"]
    named = {name for text in texts for name in NAMED.findall(text.read_text())}
    libraries = {"norse", "snntorch", "nir", "torch", "spikingjelly"}
    assert {name.partition(".")[0] for name in named} == libraries
    missing = []
    for name in sorted(named - {"nir.NIRGraph"}):
        library = name.partition(".")[0]
        if library == "spikingjelly" and importlib.util.find_spec(library) is None:
            continue  # looked at where it is installed, see test_spikingjelly.py
        if not _exists(name):
            missing.append(name)
    assert not missing


def _exists(name: str) -> bool:
    """Whether the first parts can be imported and the rest is found in them."""
    parts = name.split(".")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for count in range(len(parts), 0, -1):
            try:
                found: Any = importlib.import_module(".".join(parts[:count]))
            except ImportError:
                continue
            for part in parts[count:]:
                if not hasattr(found, part):
                    return False
                found = getattr(found, part)
            return True
    return False


def test_weights_of_the_network_are_its_own() -> None:
    module = tutorial(3.0)
    before = copy.deepcopy(module.state_dict())
    network = neurosbd.from_torch(module, MAPS)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items() if "mem" not in key)
