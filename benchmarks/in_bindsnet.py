"""Networks of BindsNET, for scripts that measure it beside others; BindsNET is imported where they are built.

It keeps all pairs of neurons, joined or not, and a synapse that is not there has 0 for its weight and for its largest.
Weights are [pre, post]. It pairs spikes as they are sent: those of one step weaken and strengthen a synapse at once.
Its refractory count is one step less than the time to the earliest next spike.
"""

import importlib
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple
from unittest import mock

Pair = tuple[str, str]  # pre and post


def without_environments() -> None:
    """Let `import bindsnet` succeed without torchvision, gymnasium and the like, which its networks do not need."""
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError):
        for name in [m for m in sys.modules if m.startswith("torchvision")]:
            del sys.modules[name]
        for name in ("", ".transforms", ".datasets", ".utils", ".datasets.folder", ".io"):
            sys.modules[f"torchvision{name}"] = mock.MagicMock()
    for name in ("ale_py", "gymnasium", "gym"):
        try:
            importlib.import_module(name)
        except ImportError:
            sys.modules[name] = mock.MagicMock()


class Neurons(NamedTuple):
    """A population of leaky integrate-and-fire neurons that rest at 0 and spike at 1."""

    size: int
    tau: float  # s
    refractory: float  # s


class Pairing(NamedTuple):
    """Additive STDP of all pairs, whose weights stay between 0 and `most`."""

    plus: float
    minus: float
    most: Any  # tensor like the weight
    tau: float  # s


class Spikes:
    """A monitor that keeps how many spikes there are, and, if asked, which: (step, population, neuron) of each."""

    def __init__(self, layers: Mapping[str, Any], each: bool = False) -> None:
        self.layers, self.each, self.step = layers, each, 0
        self.counted = dict.fromkeys(layers, 0.0)
        self.found: list[tuple[int, str, int]] = []

    def record(self) -> None:
        """After a step."""
        for name, layer in self.layers.items():
            self.counted[name] += layer.s.sum()
            if self.each:
                self.found += [(self.step, name, unit) for unit in layer.s[0].nonzero()[:, 0].tolist()]
        self.step += 1

    def reset_state_variables(self) -> None:
        """When the network is set back, which it is not."""


def built(
    neurons: Mapping[str, Neurons], weights: Mapping[Pair, Any], learning: Mapping[Pair, Pairing], dt: float, each: bool
) -> tuple[Any, Spikes]:
    """(a network, the monitor of its spikes); what is given to `run` is added to the drive of a step.

    Args:
        neurons: by name.
        weights: of every pair of populations that is joined, [pre, post].
        learning: of pairs that learn.
        dt: s.
        each: whether single spikes are kept.
    """
    without_environments()
    network: Any = importlib.import_module("bindsnet.network")
    nodes: Any = importlib.import_module("bindsnet.network.nodes")
    topology: Any = importlib.import_module("bindsnet.network.topology")
    rules: Any = importlib.import_module("bindsnet.learning")
    whole, layers = network.Network(dt=dt * 1e3), {}
    taus = {end: rule.tau for pair, rule in learning.items() for end in pair}
    for name, (size, tau, refractory) in neurons.items():
        traces = {"traces": True, "traces_additive": True, "tc_trace": taus[name] * 1e3} if name in taus else {}
        layers[name] = nodes.LIFNodes(
            n=size, thresh=1.0, rest=0.0, reset=0.0, refrac=round(refractory / dt) - 1, tc_decay=tau * 1e3, **traces
        )
        whole.add_layer(layers[name], name=name)
    for pair, weight in weights.items():
        how: dict[str, Any] = {}
        if pair in learning:
            plus, minus, most, _ = learning[pair]
            how = {"wmin": 0.0, "wmax": most, "update_rule": rules.PostPre, "nu": (minus, plus)}
        source, target = (layers[name] for name in pair)
        whole.add_connection(topology.Connection(source, target, w=weight, **how), *pair)
    monitor = Spikes(layers, each)
    whole.add_monitor(monitor, name="spikes")
    return whole, monitor
