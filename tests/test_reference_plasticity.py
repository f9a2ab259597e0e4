"""Synapses that learn against Brian2 2.9.0, whose weights are kept here: it is not needed to run this.

`python benchmarks/brian2_plasticity.py` makes them, and says how a step of Brian2 and one of ours belong together.
"""

from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from neurosbd.connections import Dense
from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Local
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.passes import Continuation
from neurosbd.network import Connection, Frame, Network, Population
from neurosbd.neurons import LIF
from neurosbd.neurons.neuron import Activity
from neurosbd.plasticity import Plasticity, SpikeTiming, Window
from neurosbd.rules import RULES
from tests.synthetic import loaded

DT = 1e-3
TAUS: dict[str, Any] = {"tau_plus": 17e-3, "tau_minus": 34e-3, "w_min": 0.0, "w_max": 1.0}


@pytest.fixture(scope="module")
def brian2() -> ModuleType:
    """The script that made the figures; it imports Brian2 only where it runs it."""
    return loaded("benchmarks/brian2_plasticity.py")


def followed(plasticity: Plasticity[Any], pre: Tensor, post: Tensor, weight: Tensor) -> Tensor:
    """The weight [post, pre] after spikes [T, pre] and [T, post], moved at every step and kept in 0..1."""
    geometry, state = Dense(), None
    for arriving, fired in zip(pre[:, None], post[:, None], strict=True):
        synapses = Synapses(weight, None)
        local = Local(
            arriving, Activity(fired, fired), None, synapses, None,  # type: ignore[arg-type]
            partial(geometry.outer, synapses), partial(geometry.each, synapses), partial(torch.zeros_like, fired), None,
        )  # fmt: skip
        state = plasticity.init(local) if state is None else state
        change, state = plasticity.step(state, local, DT)
        if change is not None:
            weight = (weight - change.weight).clamp(0, 1)
    return weight


CASES: dict[str, tuple[Plasticity[Any], list[float]]] = {
    "additive": (
        SpikeTiming(Window(0.006, 0.004, **TAUS)),
        [0.16817894805609063, 0.2252694129256436, 0.3585839384872731, 0.4466702928095323, 0.4917517024684187,
         0.607575831295049],
    ),
    "multiplicative": (
        SpikeTiming(Window(0.06, 0.04, **TAUS, bounds="multiplicative")),
        [0.49962138534748723, 0.4625036637604924, 0.3926888395014102, 0.4229809030777524, 0.40447829132418966,
         0.41197572054707143],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_weights_that_move_at_every_step_are_those_of_brian2(name: str, brian2: ModuleType) -> None:
    """To 1e-9 after 2 s of spikes, 60 a unit, with some on both sides at once.

    Must fail when a spike does not pair with what arrived in its step, when arrivals come after spikes, or when soft
    bounds use a weight of before (tried).
    """
    plasticity, theirs = CASES[name]
    pre, post, start = (torch.from_numpy(each) for each in (*brian2.trains(), brian2.start()))
    found = followed(plasticity, pre, post, start).flatten()
    torch.testing.assert_close(found, torch.tensor(theirs, dtype=torch.float64), rtol=1e-9, atol=0)


def test_a_network_with_stdp_is_that_of_brian2(brian2: ModuleType) -> None:
    """Half a second of excitatory and inhibitory neurons, with plastic and recurrent synapses that move at every step:
    the same numbers of spikes, in steps of the same sum, and the same mean weights.

    Must fail when a lag is a step shorter or longer than there.
    """
    theirs = {"spikes": [367, 96], "steps": [102038, 27145], "means": [0.0742332484686061, 0.023834904956117797]}
    net, neuron = brian2.balanced(), LIF(20e-3, reset="to_value")
    populations = [Population("input", (20,), None), Population("exc", (30,), neuron), Population("inh", (8,), neuron)]
    connections = [
        Connection("input", "exc", Dense()),
        Connection("exc", "exc", Dense(autapses=False)),
        Connection("exc", "inh", Dense(), plastic=False, delay=1),
        Connection("inh", "exc", Dense(), plastic=False),
    ]
    network = Network(populations, connections, torch.Generator(), dt=DT).double()
    for name, weight in zip(network.weights, (net.to_exc, net.exc_exc, net.exc_inh, -net.inh_exc), strict=True):
        network.weights[name].data.copy_(torch.from_numpy(weight))
    window = Window(brian2.A_PLUS, brian2.A_MINUS, 17e-3, 34e-3, 0.0, brian2.W_MAX)
    rule = RULES["stdp"](plasticity=SpikeTiming(window), readout="rule")
    learner = Learner(network, rule, None, torch.Generator())
    optimizer = torch.optim.SGD(network.parameters(), 1.0)
    found: dict[str, list[float]] = {"spikes": [0, 0], "steps": [0, 0]}
    continuation = Continuation()
    for t, x in enumerate(torch.from_numpy(net.inputs)[:, None, None]):

        def count(_: int, frame: Frame, t: int = t) -> None:
            for number, name in enumerate(("exc", "inh")):
                fired = int(frame.activity[name].value.sum())
                found["spikes"][number] += fired
                found["steps"][number] += fired * t

        optimizer.zero_grad()
        learner.learn(Batch(x, reward=lambda t, frame: None), (count,), continuation=continuation)
        optimizer.step()
        learner.after_step()
    assert found == {key: theirs[key] for key in found}
    others = ~torch.eye(30, dtype=torch.bool)
    means = [network.weights["input->exc"].mean().item(), network.weights["exc->exc"][others].mean().item()]
    assert means == pytest.approx(theirs["means"], rel=1e-9)
