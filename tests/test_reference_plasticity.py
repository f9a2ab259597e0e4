"""Synapses that learn against Brian2 2.9.0, whose weights are kept here: it is not needed to run this.

`python benchmarks/brian2_plasticity.py` makes them, and says how a step of Brian2 and one of ours belong together.
"""

import math
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
from neurosbd.plasticity import BCM, Bounded, Oja, Plasticity, SpikeTiming, SymmetricInhibitory, Triplet, Window
from neurosbd.rules import RULES
from tests.synthetic import loaded

DT = 1e-3
TAUS: dict[str, Any] = {"tau_plus": 17e-3, "tau_minus": 34e-3, "w_min": 0.0, "w_max": 1.0}


@pytest.fixture(scope="module")
def brian2() -> ModuleType:
    """The script that made the figures; it imports Brian2 only where it runs it."""
    return loaded("benchmarks/brian2_plasticity.py")


def followed(plasticity: Plasticity[Any], pre: Tensor, post: Tensor, weight: Tensor) -> Tensor:
    """The weight [post, pre] after activity [T, pre] and [T, post], moved at every step and kept in its bounds."""
    geometry, state = Dense(), None
    bounds = plasticity.bounds if isinstance(plasticity, Bounded) else (-math.inf, math.inf)
    for arriving, fired in zip(pre[:, None], post[:, None], strict=True):
        synapses = Synapses(weight, None)
        local = Local(
            arriving, Activity(fired, fired), None, synapses, None,  # type: ignore[arg-type]
            partial(geometry.outer, synapses), partial(geometry.each, synapses), partial(torch.zeros_like, fired), None,
        )  # fmt: skip
        state = plasticity.init(local) if state is None else state
        change, state = plasticity.step(state, local, DT)
        if change is not None:
            weight = (weight - change.weight).clamp(*bounds)
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
    "power_law": (
        SpikeTiming(Window(0.06, 0.04, **TAUS, bounds="power_law", mu=0.4)),
        [0.44333806133485903, 0.3598546787796415, 0.2902813646943871, 0.3219311764739204, 0.25812874830773813,
         0.2932314495891588],
    ),
    "triplet": (
        Triplet(a2_plus=0.001, a3_minus=0.002),
        [0.2462232109322177, 0.3331554281834857, 0.29183911489154263, 0.4336794717694379, 0.371554901800369,
         0.48587185506182545],
    ),
    "symmetric_inhibitory": (
        SymmetricInhibitory(0.01, rate=25.0),
        [-0.36530374332622745, -0.49773978804597596, -0.39047615553159337, -0.5819379833067104, -0.7512720415875337,
         -0.7699504145976757],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_weights_that_move_at_every_step_are_those_of_brian2(name: str, brian2: ModuleType) -> None:
    """To 1e-9 after 2 s of spikes, 60 a unit, with some on both sides at once.

    Must fail when a spike does not pair with what arrived in its step, when arrivals come after spikes, or when soft
    bounds use a weight of before.
    """
    plasticity, theirs = CASES[name]
    pre, post, start = (torch.from_numpy(each) for each in (*brian2.trains(), brian2.start()))
    start = -start if name == "symmetric_inhibitory" else start  # there the weight is how much is inhibited
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


def steady(level: float, steps: int) -> Tensor:
    return torch.full((steps, 1), level, dtype=torch.float64)


def test_oja_in_closed_form() -> None:
    """Steady x and y: w[n] = x / y + (w[0] - x / y) (1 - eta y^2)^n.

    Must fail when the decay is by y in place of y^2.
    """
    found = followed(Oja(0.1), steady(0.6, 20), steady(1.5, 20), steady(0.2, 1))
    assert found.item() == pytest.approx(0.4 + (0.2 - 0.4) * (1 - 0.1 * 1.5**2) ** 20, rel=1e-12)


def test_oja_finds_the_first_principal_component() -> None:
    """Linear unit, inputs with variances 4 and 1 along turned axes. Must fail for plain Hebbian learning (grows)."""
    generator = torch.Generator().manual_seed(0)
    axes = torch.tensor([[0.8, 0.6], [-0.6, 0.8]], dtype=torch.float64)
    x = torch.randn(3000, 2, generator=generator, dtype=torch.float64) * torch.tensor([2.0, 1.0]) @ axes
    weight = torch.tensor([[0.1, 0.1]], dtype=torch.float64)
    for each in x[:, None]:
        weight = followed(Oja(2e-3), each, each @ weight.t(), weight)
    assert (weight @ axes.t()).abs().flatten().tolist() == pytest.approx([1.0, 0.0], abs=0.1)


def test_bcm_in_closed_form() -> None:
    """y jumps from 1 to 2: the threshold goes from 1 to 4 with its time constant, 4 - 3 a^n, a = exp(-dt / tau), and w
    by eta x y sum (y - threshold) = eta x 2 sum (3 a^n - 2).

    Must fail when the threshold slides before it is used, or is the mean of y.
    """
    y = torch.cat((steady(1.0, 3), steady(2.0, 40)))
    found = followed(BCM(0.01, tau_threshold=20e-3), steady(0.5, 43), y, steady(0.3, 1))
    a = math.exp(-DT / 20e-3)
    assert found.item() == pytest.approx(0.3 + 0.01 * 0.5 * 2 * sum(3 * a**n - 2 for n in range(40)), rel=1e-12)
