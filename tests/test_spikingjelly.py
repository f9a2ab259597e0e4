"""Modules of SpikingJelly come in: its own nodes where it is installed, stand-ins of their equations everywhere."""

import importlib.util
import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import neurosbd
from neurosbd.interchange.adapter import Cell
from neurosbd.interchange.translate import translated
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.neurons import IF, LIF
from neurosbd.rules import RULES, LocalRule
from neurosbd.surrogates import ArcTan

DT = 1e-3
INSTALLED = importlib.util.find_spec("spikingjelly") is not None


# Stand-ins: classes that say they are of SpikingJelly, with its equations and its names ------------


class BaseNode(nn.Module):
    """A node keeps its memory in `_memories`, begins at `_memories_rv`, and fires at and above its threshold."""

    def __init__(self, v_threshold: float = 1.0, v_reset: float | None = 0.0, **more: Any) -> None:
        super().__init__()
        self.v_threshold, self.v_reset, self.step_mode, self.backend = v_threshold, v_reset, "m", "cupy"
        self._memories_rv: dict[str, Any] = {"v": 0.0 if v_reset is None else v_reset}
        self._memories: dict[str, Any] = dict(self._memories_rv)
        self.surrogate_function = Arctan()
        for key, value in more.items():
            setattr(self, key, value)

    def reset(self) -> None:
        self._memories = dict(self._memories_rv)

    def charged(self, v: Any, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        assert self.step_mode == "s"
        v = self.charged(self._memories["v"], x)
        spike = self.surrogate_function(v - self.v_threshold)
        after = v - self.v_threshold * spike if self.v_reset is None else spike * self.v_reset + (1 - spike) * v
        self._memories["v"] = after
        return spike


class Arctan(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return Spike.apply(x)  # type: ignore[no-any-return]


class Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] / (1 + (torch.pi * ctx.saved_tensors[0]).square())


class IFNode(BaseNode):
    def charged(self, v: Any, x: Tensor) -> Tensor:
        return v + x


class LIFNode(BaseNode):
    tau, decay_input = 2.0, True

    def charged(self, v: Any, x: Tensor) -> Tensor:
        rest = 0.0 if self.v_reset is None else self.v_reset
        return v + (x - (v - rest)) / self.tau if self.decay_input else v - (v - rest) / self.tau + x


class ParametricLIFNode(BaseNode):
    decay_input = True

    def __init__(self, **more: Any) -> None:
        super().__init__(**more)
        self.w = nn.Parameter(torch.tensor(-0.4))

    def charged(self, v: Any, x: Tensor) -> Tensor:
        share = self.w.sigmoid()
        return v + (x - v) * share if self.decay_input else v * (1 - share) + x


class Conv2d(nn.Conv2d):
    step_mode = "s"


class Dropout(nn.Module):
    p = 0.5


for made in (BaseNode, IFNode, LIFNode, ParametricLIFNode):
    made.__module__ = "spikingjelly.activation_based.neuron"
for made in (Conv2d, Dropout):
    made.__module__ = "spikingjelly.activation_based.layer"

STANDING_IN = types.SimpleNamespace(neuron=sys.modules[__name__], layer=sys.modules[__name__])


def _library(installed: bool) -> Any:
    if not installed:
        return STANDING_IN
    if not INSTALLED:
        pytest.skip("spikingjelly is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from spikingjelly import activation_based  # type: ignore[import-not-found]
        from spikingjelly.activation_based import layer, neuron  # type: ignore[import-not-found] # noqa: F401
    return activation_based


both = pytest.mark.parametrize("installed", [False, True], ids=["stand-in", "installed"])

NODES: list[tuple[str, dict[str, Any], type]] = [
    ("IFNode", {}, IF),
    ("IFNode", {"v_reset": None, "v_threshold": 0.7}, IF),
    ("IFNode", {"v_reset": 0.1}, Cell),  # it begins there
    ("LIFNode", {}, LIF),
    ("LIFNode", {"v_reset": -0.2}, LIF),
    ("LIFNode", {"decay_input": False, "tau": 3.0}, LIF),
    ("LIFNode", {"v_reset": None}, Cell),  # what a spike takes leaks with the membrane, ours does not
    ("ParametricLIFNode", {}, LIF),
]


@both
@pytest.mark.parametrize(("kind", "constants", "becomes"), NODES)
def test_a_node_goes_spike_for_spike(kind: str, constants: dict[str, Any], becomes: type, installed: bool) -> None:
    """200 steps of the node itself. Must fail when the drive is not multiplied by 1 / tau (tried)."""
    node = getattr(_library(installed).neuron, kind)(**constants)
    found = translated(node, (5,), DT).neuron
    assert isinstance(found, becomes)
    node.reset()
    node.step_mode = "s"
    x = 2.5 * torch.rand(200, 3, 5) - 0.5
    state, total = found.init(x[0]), 0.0
    with torch.no_grad():
        for now in x:
            activity, state = found.step(state, now, DT)
            spikes = node(now)
            assert torch.equal(activity.value, spikes)
            total += spikes.mean().item() / 200
    assert 0.05 < total < 0.99


@both
def test_a_network_of_its_layers_comes_in_and_learns(installed: bool) -> None:
    library = _library(installed)
    node: Callable[[], Any] = lambda: library.neuron.LIFNode(decay_input=False)  # noqa: E731
    torch.manual_seed(0)
    module = nn.Sequential(
        library.layer.Conv2d(1, 4, 3), nn.MaxPool2d(2), node(), nn.Flatten(), library.layer.Dropout(0.5) if installed
        else Dropout(), nn.Linear(36, 3), node()
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(3)
    network = neurosbd.from_torch(module, (1, 8, 8))
    assert [type(p.neuron) for p in network.populations.values()][1:] == [LIF, LIF]
    nodes: list[Any] = [part for part in module.modules() if hasattr(part, "reset")]
    for part in nodes:
        part.reset()
        part.step_mode = "s"
    x, shown = torch.rand(50, 4, 1, 8, 8), []
    rule = RULES["sbd"]()
    assert isinstance(rule, LocalRule)
    with torch.no_grad():
        unroll(network, x, [lambda t, frame: shown.append(frame.activity["output"].value)])
        layers = [part for part in module if type(part).__name__ != "Dropout"]
        for now, mine in zip(x, shown, strict=True):
            for part in layers:
                now = part(now)
            assert torch.equal(mine, now)
    assert torch.stack(shown).any()
    learner = Learner(network, rule, LOSSES["cross_entropy"](), torch.Generator())
    learner.learn(Batch(x[:10], torch.zeros(4).long(), (0.1,) * 10))
    assert all(p.grad is not None and p.grad.any() for p in network.parameters())


def test_its_surrogate_is_recognised() -> None:
    found = translated(IFNode(), (5,), DT).neuron
    assert isinstance(found, IF) and found.surrogate == ArcTan(2.0)


def test_its_way_by_nir_exists() -> None:
    """The names that `advice` gives."""
    _library(True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from spikingjelly.activation_based import nir_exchange  # type: ignore[import-not-found]
    assert callable(nir_exchange.export_to_nir)
