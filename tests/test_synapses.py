"""Synapses with dynamics: closed forms, blocks of time, what rules make of them, and what is refused."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.connections import Dense
from neurosbd.connections.initialisers import INITIALISERS
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network import Connection, Frame, Network, Population
from neurosbd.neuromodulators import Transposed
from neurosbd.neurons import ALIF, LI, LIF
from neurosbd.neurons.neuron import Neuron
from neurosbd.plasticity import PLASTICITIES
from neurosbd.rules import RULES
from neurosbd.synapses import (
    NMDA,
    SYNAPSES,
    Alpha,
    Conductance,
    Delta,
    DoubleExponential,
    Exponential,
    Synapse,
    TsodyksMarkram,
)
from tests.test_blocks import rows, same, seeded, spikes

TAU, DT = 20e-3, 1e-4
VOLTS: dict[str, Any] = {"v_leak": -70e-3, "v_threshold": -50e-3, "v_reset": -60e-3, "reset": "to_value"}


def alone(synapse: Synapse, neuron: LIF, arrivals: Tensor, **more: Any) -> Tensor:
    """Potential [T] of one neuron behind one synapse of weight 1."""
    populations = [Population("input", (1,), None), Population("n", (1,), neuron)]
    one = Dense(weight=INITIALISERS["constant"](1.0))
    network = Network(populations, [Connection("input", "n", one, synapse=synapse, **more)], seeded(), DT).double()
    found: list[Tensor] = []
    unroll(network, arrivals[:, None, None].double(), [lambda t, frame: found.append(frame.state.neurons["n"].v)])
    return torch.stack(found).flatten()


def charged(t: Tensor, tau: float) -> Tensor:
    """A leaky membrane of TAU under exp(-t / tau)."""
    return (torch.exp(-t / TAU) - torch.exp(-t / tau)) / (TAU / tau - 1)


CLOSED = {
    "exponential": (Exponential(5e-3), lambda t: charged(t, 5e-3)),
    "double_exponential": (
        DoubleExponential(1e-3, 4e-3),
        lambda t: (charged(t, 4e-3) - charged(t, 1e-3)) / (0.25 ** (1 / 3) - 0.25 ** (4 / 3)),
    ),
    "alpha": (
        Alpha(2e-3),
        lambda t: (
            (math.e / 2e-3 / TAU)
            * (torch.exp(-t / TAU) - torch.exp(-t / 2e-3) * (1 + t * (1 / 2e-3 - 1 / TAU)))
            / (1 / 2e-3 - 1 / TAU) ** 2
        ),
    ),
}


@pytest.mark.parametrize("name", CLOSED)
def test_a_leaky_membrane_goes_the_way_of_the_closed_form(name: str) -> None:
    """An arrival at the beginning of step 3, seen at the end of every step. Must fail when what is felt over a step is
    its value at the beginning (tried: off by 1 %), or comes a step late."""
    synapse, closed = CLOSED[name]
    arrivals = torch.zeros(150)
    arrivals[3] = 1
    v = alone(synapse, LIF(TAU, v_threshold=9.0, r=1 - math.exp(-DT / TAU)), arrivals)
    t = torch.arange(1, 148).double() * DT
    torch.testing.assert_close(v[3:], closed(t), rtol=1e-10, atol=1e-14)
    assert not v[:3].any()


def test_responses_have_a_peak_of_1() -> None:
    """The weight is the peak. Must fail for an alpha function without its e (tried)."""
    for name in ("exponential", "alpha", "double_exponential"):
        synapse, one = SYNAPSES[name](), torch.ones(1, 1).double()
        state, found = synapse.arrive(synapse.init(one), one, 1e-5), []
        for _ in range(1000):
            found.append(synapse.value(state, 1e-5, None).item())
            state = synapse.arrive(state, 0 * one, 1e-5)
        assert max(found) == pytest.approx(1, abs=1e-5), name


def test_conductances_pull_towards_their_reversal_potential() -> None:
    """A lasting g ends at (v_leak + g E) / (1 + g), however large g dt is; a magnesium block opens with the potential:
    Jahr, Stevens 1990, half open at -20.5 mV in 1 mM. Must fail for an Euler step, which explodes (tried)."""
    for g in (1.0, 1e4):
        v = alone(Conductance(-60e-3, Exponential(1e3)), LIF(TAU, **VOLTS), torch.tensor([g] + [0.0] * 999))
        assert v[-1].item() == pytest.approx((-70e-3 - g * 60e-3) / (1 + g), rel=1e-3)
    block = NMDA().unblocked(torch.tensor([-65e-3, -math.log(3.57) / 62, 40e-3]).double())
    torch.testing.assert_close(block, torch.tensor([0.0596682, 0.5, 0.9770802]).double(), rtol=1e-5, atol=0)
    assert (NMDA(magnesium=0).unblocked(torch.tensor([-65e-3])) == 1).all()


def test_two_connections_of_one_source_keep_their_own_time() -> None:
    """AMPA and NMDA between the same two populations: together they do what one neuron makes of both conductances.

    Must fail when their states share a name (tried)."""
    populations = [Population("input", (1,), None), Population("n", (2,), LIF(TAU, **VOLTS))]
    one = Dense(weight=INITIALISERS["constant"](0.1))
    fast = Connection("input", "n", one, label="ampa", synapse=Conductance())
    slow = Connection("input", "n", one, label="nmda", synapse=NMDA())
    arrivals = torch.zeros(300, 1, 1).double()
    arrivals[::40] = 1
    found = {}
    for name, connections in {"both": [fast, slow], "fast": [fast], "slow": [slow]}.items():
        network = Network(populations, connections, seeded(), DT).double()
        found[name] = unroll(network, arrivals).state.neurons["n"].v[0, 0].item()
    rise = {name: v + 70e-3 for name, v in found.items()}
    assert rise["both"] > max(rise["fast"], rise["slow"]) > 0
    assert rise["both"] == pytest.approx(rise["fast"] + rise["slow"], rel=0.1)


SHORT = TsodyksMarkram(0.4, 0.1, 0.2)


def lasting(synapse: Synapse, block: int | None, recurrent: bool = True) -> Network:
    """Synapses with dynamics forward, back, with and without a delay."""
    volts = VOLTS if isinstance(synapse, Conductance | NMDA) else {}
    unit = LIF(tau_mem=5e-3, refractory=2e-3, **volts)
    weight = INITIALISERS["uniform"](0.0, 5.0 if isinstance(synapse, NMDA) else 1.0)
    populations = [
        Population("input", (6,), None), Population("first", (5,), unit), Population("second", (4,), unit),
        Population("output", (3,), LI()),
    ]  # fmt: skip
    connections = [
        Connection("input", "first", Dense(weight=weight), synapse=synapse, short_term=SHORT),
        Connection("first", "second", Dense(weight=weight), delay=2, synapse=synapse),
        Connection("second", "output", Dense(), synapse=Alpha()),
    ]
    if recurrent:
        connections += [
            Connection("second", "second", Dense(weight=weight), synapse=synapse),
            Connection("second", "first", Dense(weight=weight), delay=3, short_term=SHORT, label="fading"),
        ] if not volts else [Connection("second", "first", Dense(weight=weight), delay=3, synapse=synapse)]  # fmt: skip
    return Network(populations, connections, seeded(), 1e-3, block=block).double()


KINDS = [Exponential(), Alpha(), DoubleExponential(), Conductance(), NMDA(), Delta()]


@pytest.mark.parametrize("synapse", KINDS, ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("recurrent", [True, False])
def test_blocks_of_time_change_nothing(synapse: Synapse, recurrent: bool) -> None:
    """Must fail when a block begins with rested synapses (tried)."""
    wanted = rows(lasting(synapse, 1, recurrent))
    assert any(row["first 0"].any() for row in wanted)
    for block in (4, 11):
        for one, other in zip(rows(lasting(synapse, block, recurrent)), wanted, strict=True):
            same(one, other)


@pytest.mark.parametrize("synapse", KINDS, ids=lambda s: type(s).__name__)
def test_a_run_split_in_two_is_the_whole_run_bitwise(synapse: Synapse) -> None:
    """Must fail when the state leaves out what was felt (tried)."""
    network = lasting(synapse, None)
    inputs, found = spikes(network), []

    def look(t: int, frame: Frame) -> None:
        found.append(frame.activity["output"].value)

    unroll(network, inputs, (look,))
    whole, halfway = torch.stack(found), unroll(network, inputs[:5])
    found.clear()
    unroll(network, inputs[5:], (look,), halfway)
    assert torch.equal(torch.stack(found), whole[5:])


@pytest.mark.parametrize("block", [1, None])
@pytest.mark.parametrize("unit", [LIF(), ALIF()], ids=["factorised", "exact"])
@pytest.mark.parametrize("synapse", KINDS[:3], ids=lambda s: type(s).__name__)
def test_eligibility_through_a_synapse_is_the_gradient(synapse: Synapse, unit: Neuron, block: int | None) -> None:
    """e-prop onto one hidden layer is backprop through time: the response of what arrived is d drive / d weight, behind
    short-term plasticity as well. Must fail for the arrivals themselves (tried), and when a block starts afresh."""
    populations = [Population("input", (6,), None), Population("hidden", (5,), unit), Population("output", (3,), LI())]
    connections = [
        Connection("input", "hidden", Dense(), synapse=synapse, short_term=SHORT),
        Connection("hidden", "output", Dense()),
    ]
    found = {}
    for rule in ("eprop", "bptt"):
        network = Network(populations, connections, seeded(), 1e-3, block=block).double()
        with torch.no_grad():
            network.weights["input->hidden"].mul_(3)
        options: Any = {"neuromodulator": Transposed()} if rule == "eprop" else {}
        learner = Learner(network, RULES[rule](**options), LOSSES["cross_entropy"](), seeded(2))
        learner.learn(Batch(spikes(network), torch.arange(3)))
        gradient = network.weights["input->hidden"].grad
        assert gradient is not None and gradient.any()
        found[rule] = gradient
    torch.testing.assert_close(found["eprop"], found["bptt"], rtol=1e-9, atol=1e-12)


def test_spike_timing_works_on_spikes() -> None:
    """STDP looks at when spikes arrive, not at how long they are felt. Must fail if it is given responses (tried)."""
    stdp = PLASTICITIES["spike_timing"]()
    found = []
    for synapse in (Delta(), Alpha()):
        populations = [Population("input", (2,), None), Population("n", (2,), LIF(v_threshold=1e3))]
        network = Network(populations, [Connection("input", "n", Dense(), synapse=synapse)], seeded(), 1e-3)
        learner = Learner(network, RULES["stdp"](plasticity=stdp, readout="rule"), None, seeded())
        learner.learn(Batch((torch.rand(20, 1, 2, generator=seeded(1)) < 0.4).float()))
        gradient = network.weights["input->n"].grad
        assert gradient is not None
        found.append(gradient)
    assert torch.equal(found[0], found[1])


def test_short_term_plasticity_settles_where_its_closed_form_says() -> None:
    """At a steady rate r, with E = exp(-1 / (r tau)): u = u_0 / (1 - (1 - u_0) E_facil), x = (1 - E_rec) / (1 - (1 - u)
    E_rec); the first spike sends u_0. Must fail when x is taken with the u of the spike before (tried)."""
    short, every, dt = TsodyksMarkram(0.2, 0.3, 0.5), 50, 1e-3
    facil, rec = math.exp(-every * dt / 0.5), math.exp(-every * dt / 0.3)
    u = 0.2 / (1 - 0.8 * facil)
    x = (1 - rec) / (1 - (1 - u) * rec)
    sent, state = [], short.init(torch.zeros(1, 1).double())
    for step in range(5001):
        passed, state = short.step(state, torch.full((1, 1), float(step % every == 0)).double(), dt)
        sent.append(passed.item())
    assert sent[0] == 0.2 and sent[5000] == pytest.approx(u * x, rel=1e-12)


def built(post: object = None, pre: int = 2, **more: Any) -> Network:
    neuron: Any = post or LIF(TAU, **VOLTS)
    populations = [Population("input", (pre,), None), Population("n", (3,), neuron)]
    return Network(populations, [Connection("input", "n", more.pop("geometry", Dense()), **more)], seeded(), DT)


GLUTAMATE = Conductance()
GIVEN = Dense(weight=INITIALISERS["constant"](0.1))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: built(LIF(), synapse=GLUTAMATE, geometry=GIVEN), r"in volts, but LIF.v_threshold is 1 V; give real"),
        (lambda: built(neurosbd.neurons["izhikevich"](), synapse=GLUTAMATE), "Izhikevich neurons do not offer; take"),
        (lambda: built(synapse=Alpha(), geometry=Dense(bias=True)), "has a bias, which would pass its synapse like a"),
        (lambda: built(synapse=GLUTAMATE), r"cannot be negative.*the smallest is -"),
        (lambda: built(synapse="alpha"), r"its synapse is the text 'alpha'; give an instance"),
        (lambda: Conductance(reversal=-70), r"Conductance.reversal must be in -0.2..0.2 V.*as in '-70 mV'"),
        (lambda: SYNAPSES["exponential"](tau="5 mV"), "must be a time"),
        (lambda: DoubleExponential(5e-3, 5e-3), "where both are one, take 'alpha'"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


def test_rules_that_cannot_follow_are_refused() -> None:
    """With the reason and what to do."""
    network = built(synapse=GLUTAMATE, geometry=GIVEN)
    with pytest.raises(ValueError, match=r"'input->n': it is a conductance.*plasticity = 'spike_timing'"):
        Learner(network, RULES["sbd"](), LOSSES["squared_error"](), seeded())
    network = built(LI(), synapse=Alpha())
    with pytest.raises(ValueError, match=r"'input->n' has dynamics.*take a composition"):
        Learner(network, RULES["pepita"](), LOSSES["cross_entropy"](), seeded())
