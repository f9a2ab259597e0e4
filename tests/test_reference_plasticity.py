"""Synapses that learn against Brian2 2.9.0, whose weights are kept here: it is not needed to run this.

`python benchmarks/brian2_plasticity.py` makes them, and says how a step of Brian2 and one of ours belong together.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Dense
from neurosbd.connections.synapses import Synapses
from neurosbd.eligibility.local import Local
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.passes import Continuation
from neurosbd.network.network import Connection, Frame, Network, Population
from neurosbd.neurons import LIF
from neurosbd.neurons.neuron import Activity
from neurosbd.plasticity import (
    BCM,
    Bounded,
    Oja,
    Plasticity,
    SpikeTiming,
    SymmetricInhibitory,
    SynapticScaling,
    Triplet,
    VoltageBased,
    Window,
)  # fmt: skip
from neurosbd.rules import RULES
from tests.synthetic import loaded

DT = 1e-3
TAUS: dict[str, Any] = {"tau_plus": 17e-3, "tau_minus": 34e-3, "w_min": 0.0, "w_max": 1.0}


@pytest.fixture(scope="module")
def brian2() -> ModuleType:
    """The script that made the figures; it imports Brian2 only where it runs it."""
    return loaded("benchmarks/brian2_plasticity.py")


def followed(
    plasticity: Plasticity[Any],
    pre: Tensor,
    post: Tensor,
    weight: Tensor,
    membrane: Tensor | None = None,
    rate: float = 1.0,
) -> Tensor:
    """The weight [post, pre] after activity [T, pre] and [T, post], moved at every step and kept in its bounds."""
    geometry, state = Dense(), None
    membrane = post if membrane is None else membrane
    bounds = plasticity.bounds if isinstance(plasticity, Bounded) else (-math.inf, math.inf)
    for arriving, fired, u in zip(pre[:, None], post[:, None], membrane[:, None], strict=True):
        synapses = Synapses(weight, None)
        local = Local(
            arriving, Activity(fired, fired), None, synapses, None,  # type: ignore[arg-type]
            partial(geometry.outer, synapses), partial(geometry.each, synapses), partial(torch.zeros_like, fired), None,
            membrane=u, rate=rate,
        )  # fmt: skip
        state = plasticity.init(local) if state is None else state
        change, state = plasticity.step(state, local, DT)
        if change is not None:
            weight = (weight - rate * change.weight).clamp(*bounds)
    return weight


CASES: dict[str, tuple[Plasticity[Any], list[float]]] = {
    "additive": (
        SpikeTiming(Window(0.006, 0.004, **TAUS)),
        [0.0403086657563329, 0.059398383020518766, 0.0970583926550206, 0.2945354489130127, 0.37498760075347887,
         0.4677000773729616],
    ),
    "nn_symm": (
        SpikeTiming(Window(0.006, 0.004, **TAUS, pairing="nn_symm")),
        [0.22152719422308825, 0.30494646151115495, 0.41263961109223585, 0.5198925969011288, 0.5859199690985148,
         0.6773910557316769],
    ),
    "nn_pre_centered": (
        SpikeTiming(Window(0.006, 0.004, **TAUS, pairing="nn_pre_centered")),
        [0.2112012281440281, 0.29069674578022775, 0.4051488500254998, 0.5018702153302181, 0.575077901055098,
         0.6912136188861344],
    ),
    "nn_restr": (
        SpikeTiming(Window(0.006, 0.004, **TAUS, pairing="nn_restr")),
        [0.2170846639915158, 0.30305771539135906, 0.4109986373298988, 0.5202789040955822, 0.5994756793379068,
         0.7038277724393622],
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
        [0.5917505035251927, 0.23992307673358476, 0.20333629891283322, 0.7399393022812928, 0.5912169307095122,
         0.7055788460948555],
    ),
    "symmetric_inhibitory": (
        SymmetricInhibitory(0.01, rate=25.0),
        [-0.9582407463666881, -0.8885078655127577, -0.9000760995722438, -0.9971525585712686, -0.9970799864405339,
         -0.9907267152070999],
    ),
    "voltage_based": (
        VoltageBased(width=0.0, delay=0.0, w_max=100.0),
        [0.2291019266676664, 0.40487878730135834, 0.5465816454132817, 0.7781525601914049, 0.8799531477758797,
         0.9856967950652143],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(CASES))
def test_weights_that_move_at_every_step_are_those_of_brian2(name: str, brian2: ModuleType) -> None:
    """To 1e-9 after 2 or 10 s of spikes, 30 a second and unit, with some on both sides at once.

    Must fail when a spike does not pair with what arrived in its step, when arrivals come after spikes, when soft
    bounds use a weight of before, or when averages of the membrane hold the step that they meet.
    """
    plasticity, theirs = CASES[name]
    steps = brian2.RULES[name].steps if name in brian2.RULES else brian2.SHORT
    pre, post, start = (torch.from_numpy(each) for each in (*brian2.trains(steps), brian2.start()))
    start = -start if name == "symmetric_inhibitory" else start  # there the weight is how much is inhibited
    membrane = torch.from_numpy(brian2.membranes()) if name == "voltage_based" else None
    found = followed(plasticity, pre, post, start, membrane).flatten()
    torch.testing.assert_close(found, torch.tensor(theirs, dtype=torch.float64), rtol=1e-9, atol=0)


LARGE: dict[str, Callable[[float], Plasticity[Any]]] = {
    "additive": lambda by: SpikeTiming(Window(0.6 / by, 0.5 / by, **TAUS)),
    "multiplicative": lambda by: SpikeTiming(Window(0.6 / by, 0.5 / by, **TAUS, bounds="multiplicative")),
    "triplet": lambda by: Triplet(a2_plus=0.2 / by, a2_minus=0.3 / by, a3_plus=0.2 / by, a3_minus=0.2 / by),
    "symmetric_inhibitory": lambda by: SymmetricInhibitory(0.4 / by, rate=25.0),
}


@pytest.mark.parametrize("rate", [1e-3, 40.0])
@pytest.mark.parametrize("name", LARGE)
def test_bounds_go_by_the_learning_rate(name: str, rate: float) -> None:
    """Changes n times as large under a learning rate of 1 / n leave the same weights, at the bounds too, where spikes
    come right after arrivals. Must fail when arrivals are bounded as if every rate was 1 (tried: as it was)."""
    make, random = LARGE[name], torch.Generator().manual_seed(0)
    pre, post = ((torch.rand(60, n, generator=random, dtype=torch.float64) < 0.2).double() for n in (3, 2))
    start = torch.rand(2, 3, generator=random, dtype=torch.float64) * (-1 if name == "symmetric_inhibitory" else 1)
    for steps in range(4, 60, 4):  # later all are at a bound
        expected = followed(make(1.0), pre[:steps], post[:steps], start)
        found = followed(make(rate), pre[:steps], post[:steps], start, rate=rate)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_a_session_says_its_learning_rate(tmp_path: Path) -> None:
    """To the plasticity: with changes a thousand times as large and a rate of a thousandth a training with STDP is the
    same, in float32. Must fail when nobody tells the learner of its optimizer (tried)."""
    found = []
    for rate in (1.0, 1e-3):
        window = {"a_plus": 0.3 / rate, "a_minus": 0.3 / rate, "w_min": -1.0, "w_max": 1.0}
        settings = {
            "rule.plasticity.window": window, "training.optimizer": {"kind": "sgd", "lr": rate}, "data.subset": 2,
            "training.epochs": 1, "training.batch_size": 1,
        }  # fmt: skip
        run = neurosbd.fit("digits-snn", rule="stdp", settings=settings, out=tmp_path / str(rate))
        weights = run.network().weights
        found.append(torch.cat([weights[name].flatten() for name in ("input->hidden1", "hidden1->hidden2")]))
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-5)


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


def test_inhibition_by_conductances_learns_as_that_by_currents(brian2: ModuleType) -> None:
    """Weights above 0 in place of below it. Must fail when the sign of the change is that of currents (tried)."""
    pre, post, start = (torch.from_numpy(each) for each in (*brian2.trains(200), brian2.start()))
    below = followed(SymmetricInhibitory(0.01, rate=25.0), pre, post, -start)
    above = followed(SymmetricInhibitory(0.01, rate=25.0, w_min=0.0, w_max=1.0), pre, post, start)
    torch.testing.assert_close(above, -below)
    with pytest.raises(ValueError, match="keeps weights on one side of 0"):
        SymmetricInhibitory(w_min=-1.0, w_max=1.0)


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


def test_synaptic_scaling_in_closed_form() -> None:
    """A silent unit: r = rate a^n after n steps, a = exp(-dt / tau_rate), and every weight grows by its own share
    dt / tau (1 - a^n) in step n; inhibition shrinks by it. What is beside adds its own changes.

    Must fail when the change is not in proportion to the weight, or grows inhibition (tried, each).
    """
    scaling = SynapticScaling(rate=5.0, tau=2.0, tau_rate=50e-3)
    start = torch.tensor([[0.2, -0.4]], dtype=torch.float64)
    silent = torch.zeros(100, 1, dtype=torch.float64)
    found = followed(scaling, torch.zeros(100, 2, dtype=torch.float64), silent, start)
    a, grown, shrunk = math.exp(-DT / 50e-3), 0.2, -0.4
    for n in range(1, 101):
        grown, shrunk = (w + abs(w) * DT / 2.0 * (1 - a**n) for w in (grown, shrunk))
    assert found.flatten().tolist() == pytest.approx([grown, shrunk], rel=1e-12)
    pre, beside = torch.ones(100, 2, dtype=torch.float64), SymmetricInhibitory(1e-3, w_min=-3.0)
    both = followed(SynapticScaling(beside=beside, tau=1e12), pre, silent, -start.abs())
    torch.testing.assert_close(both, followed(beside, pre, silent, -start.abs()))


def test_voltage_based_spikes_meet_averages_from_before_them() -> None:
    """One spike of 2 ms at a membrane at rest, right after an arrival: no change with a delay as long as the spike,
    potentiation without. Depression grows with the square of the mean depolarisation.

    Must fail when a delay is a step short, or the homeostatic factor is not squared (tried, each).
    """
    pre, post = torch.zeros(20, 1, dtype=torch.float64), torch.zeros(20, 1, dtype=torch.float64)
    pre[5], post[6], rest = 1.0, 1.0, torch.full((20, 1), -70.6e-3, dtype=torch.float64)
    start = torch.tensor([[0.5]], dtype=torch.float64)
    alone = [followed(VoltageBased(width=2e-3, delay=d), pre, post, start, rest).item() for d in (1e-3, 0.0)]
    assert alone[0] == 0.5 < alone[1]
    steady, arrivals = torch.full((200, 1), -60.6e-3, dtype=torch.float64), torch.zeros(200, 1, dtype=torch.float64)
    arrivals[-1] = 1.0
    for u_ref, factor in ((None, 1.0), (20e-3, (10e-3 * (1 - math.exp(-199 * DT / 50e-3)) / 20e-3) ** 2)):
        rule = VoltageBased(u_ref=u_ref, tau_ref=50e-3)
        change = 0.5 - followed(rule, arrivals, 0 * arrivals, start, steady).item()
        assert change == pytest.approx(0.14 * 10e-3 * factor, rel=1e-9)
