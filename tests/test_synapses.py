"""Synapses with dynamics: closed forms, blocks of time, what rules make of them, and what is refused."""

import math
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor

import neurosbd
from neurosbd.config.wiring import GeometryEntry
from neurosbd.connections import Dense
from neurosbd.connections.initialisers import INITIALISERS
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.simulation import unroll
from neurosbd.losses import LOSSES
from neurosbd.network.network import Connection, Frame, Network, Population
from neurosbd.neuromodulators import Transposed
from neurosbd.neurons import ALIF, LI, LIF, AdEx, HodgkinHuxley
from neurosbd.neurons.neuron import Conductances, Conducting, Neuron
from neurosbd.plasticity import PLASTICITIES
from neurosbd.plasticity.spike_timing import Window
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


def potential(frame: Frame) -> Tensor:
    """Of the membranes of 'n'."""
    state = frame.state.neurons["n"]
    assert state
    return state[0]


def alone(synapse: Synapse, neuron: LIF, arrivals: Tensor, **more: Any) -> Tensor:
    """Potential [T] of one neuron behind one synapse of weight 1."""
    populations = [Population("input", (1,), None), Population("n", (1,), neuron)]
    one = Dense(weight=INITIALISERS["constant"](1.0))
    network = Network(populations, [Connection("input", "n", one, synapse=synapse, **more)], seeded(), DT).double()
    found: list[Tensor] = []
    unroll(network, arrivals[:, None, None].double(), [lambda t, frame: found.append(potential(frame))])
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
    its value at the beginning (off by 1 %), or comes a step late (tried: both)."""
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


RESTED: dict[str, Any] = {"refractory": 2e-3, "refractoriness": "clamped"}
SHARE = 1 - math.exp(-DT / TAU)
CONDUCTING: dict[str, tuple[Conducting[Any], float]] = {  # and the largest drive
    "lif": (LIF(TAU, **VOLTS), 60e-3 * SHARE),
    "lif, refractory": (LIF(TAU, **VOLTS, **RESTED), 60e-3 * SHARE),
    "alif": (ALIF(TAU, beta=2e-3, **VOLTS), 60e-3 * SHARE),
    "alif, drawn to a rate": (ALIF(TAU, beta=2e-3, rate=10.0, **VOLTS, **RESTED), 60e-3 * SHARE),
    "adex": (AdEx(), 2.0),
    "hodgkin_huxley": (HodgkinHuxley(), 60e-3),
}


@pytest.mark.parametrize("name", CONDUCTING)
def test_with_no_conductance_open_a_step_is_the_step_without(name: str) -> None:
    """Every variable of the neuron over 3,000 steps in which it spikes. Must fail for a term that one of both leaves
    out (tried: the `rate` of alif)."""
    neuron, largest = CONDUCTING[name]
    drives = largest * torch.rand(3000, 2, 3, generator=seeded(), dtype=torch.float64)
    none = Conductances(torch.zeros(2, 3).double(), torch.zeros(2, 3).double())
    state = other = neuron.init(drives[0], seeded())
    spikes = torch.zeros(2, 3).double()
    for drive in drives:
        activity, state = neuron.step(state, drive, DT)
        _, other = neuron.conduct(other, drive, none, DT)
        spikes += activity.value
    assert (spikes > 3).all()
    for one, two in zip(state, other, strict=True):
        if one is not None:
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-12)


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
        found[name] = potential(unroll(network, arrivals))[0, 0].item()
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
    short-term plasticity as well. Must fail for the arrivals themselves, and when a block starts
    afresh (tried: both)."""
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
    """STDP looks at when spikes arrive, not at how long they are felt; the post units spike when a teacher says so.

    Must fail if it is given responses (tried)."""
    stdp = PLASTICITIES["spike_timing"]()
    found, taught = [], torch.zeros(20, 1, 2)
    taught[4::5] = 3e3
    for synapse in (Delta(), Alpha()):
        populations = [Population("input", (2,), None), Population("n", (2,), LIF(v_threshold=1e3, reset="to_value"))]
        network = Network(populations, [Connection("input", "n", Dense(), synapse=synapse)], seeded(), 1e-3)
        learner = Learner(network, RULES["stdp"](plasticity=stdp, readout="rule"), None, seeded())
        arrivals = (torch.rand(20, 1, 2, generator=seeded(1)) < 0.4).float()
        learner.learn(Batch(arrivals, drives={"n": taught}))
        gradient = network.weights["input->n"].grad
        assert gradient is not None and gradient.any()
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


def test_a_delay_is_a_time() -> None:
    """'1.5 ms' is 15 steps of 0.1 ms. Must fail when seconds are taken for steps (tried)."""
    times = {15: 15, "1.5 ms": 15, 1.5e-3: 15, "0 ms": 0, None: 0}
    assert {given: built(delay=given).delays["input->n"] for given in times} == times
    for given, said in {
        "0.05 ms": r"'input->n': a delay of 5e-05 s is under a step of dt = 0.0001 s; take a smaller time.dt",
        "0.25 ms": r"'input->n': delay = 0.00025 s is no whole number of steps.*near it: 0.0002 and 0.0003 s",
        "2 mV": "its delay must be a time",
        "soon": "must be a whole number of steps of dt, a time in s",
        2.0: r"its delay 2.0 is a time of 2 s; if that is meant, write '2 s'",
        -1: "shorter than possible, since time runs forward",
    }.items():
        with pytest.raises(ValueError, match=said):
            built(delay=given)


class Counted:
    """Delays of .., 3, 2, 1 steps of DT, synapse by synapse, so that those that come first were not first."""

    least = DT

    def draw(self, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
        return torch.arange(shape[0], 0, -1) * DT


def scattered(block: int | None = None, **more: Any) -> Network:
    populations = [Population("input", (3,), None), Population("n", (2,), LIF(TAU, v_threshold=0.9))]
    dense = Dense(weight=INITIALISERS["uniform"](0.5, 1.0))
    connections = [
        Connection("input", "n", dense, delay=Counted(), **more),
        Connection("n", "n", dense, delay=neurosbd.distributions["uniform"](1e-4, 9e-4)),
    ]
    return Network(populations, connections, seeded(), DT, block=block).double()


def test_every_synapse_has_a_delay_of_its_own() -> None:
    """One spike of every input comes to each unit when its own delay is over, times its own weight; a loop by hand.

    Must fail when synapses are sorted by delay and weights are not (tried)."""
    network = scattered(plastic=False)
    x = torch.zeros(12, 1, 3).double()
    x[2] = 1
    found: list[Tensor] = []

    def look(t: int, frame: Frame) -> None:
        connection = network.connections["input->n"]
        found.append(connection.geometry.drive(network.synapses(connection), frame.carried["input->n"])[0])

    unroll(network, x, (look,))
    dense = scattered().connections["input->n"].geometry.dense.weight.draw((2, 3), seeded())  # type: ignore[attr-defined]
    wanted = torch.zeros(12, 2)
    for number, (post, pre) in enumerate((i, j) for i in range(2) for j in range(3)):
        wanted[2 + 6 - number, post] += dense[post, pre]
    torch.testing.assert_close(torch.stack(found).float(), wanted)


@pytest.mark.parametrize("more", [{}, {"synapse": Alpha(), "short_term": SHORT}], ids=["pulses", "responses"])
def test_drawn_delays_in_blocks_and_under_stdp(more: dict[str, Any]) -> None:
    """Blocks of time change nothing, and STDP pairs what arrives, when it does: a loop over synapses by hand.

    Must fail when a block waits for the longest delay alone (tried)."""
    inputs = (torch.rand(40, 1, 3, generator=seeded(1)) < 0.3).double()
    spikes_of: dict[int | None, Tensor] = {}
    for block in (1, 3, None):
        found: list[Tensor] = []
        unroll(scattered(block, **more), inputs, [lambda t, frame, to=found: to.append(frame.activity["n"].value)])
        spikes_of[block] = torch.stack(found)
    assert spikes_of[1].any() and torch.equal(spikes_of[1], spikes_of[3]) and torch.equal(spikes_of[1], spikes_of[None])
    network = scattered(**more)
    free = PLASTICITIES["spike_timing"](window=Window(w_min=-1e9, w_max=1e9))
    learner = Learner(network, RULES["stdp"](plasticity=free, readout="rule"), None, seeded())
    learner.learn(Batch(inputs))
    pre, post, up, down = torch.zeros(6), torch.zeros(2), 1.0, 1.0
    left, change, fired = math.exp(-DT / 20e-3), torch.zeros(6), torch.zeros(2)
    for t in range(40):
        arrived = torch.tensor([inputs[t - 6 + n, 0, n % 3].item() if t >= 6 - n else 0.0 for n in range(6)])
        unit = torch.arange(6) // 3
        pre, post = pre * left + arrived, post * left
        change += up * pre * fired[unit] - down * post[unit] * arrived
        post, fired = post + fired, spikes_of[1][t, 0].float()
    gradient = network.weights["input->n"].grad
    assert gradient is not None
    lists = network.connections["input->n"].geometry.lists  # type: ignore[attr-defined]
    number = lists.post.long() * 3 + lists.pre % 3
    torch.testing.assert_close(-gradient.float(), change[number], rtol=1e-4, atol=1e-5)


def test_drawn_delays_say_what_they_cannot() -> None:
    """Warned of and refused."""
    short = neurosbd.distributions["uniform"](0.0, 4e-4)
    with pytest.warns(neurosbd.UsageWarning, match=r"of 6 delays that were drawn are under a step of dt = 0.0001 s"):
        built(delay=short)
    with pytest.raises(ValueError, match=r"the longest is .* s, .* steps; the most is 100,000"):
        built(delay=neurosbd.distributions["uniform"](100.0, 200.0))
    with pytest.raises(ValueError, match="the synapses of connection 'input->n' have delays of their own, but"):
        Learner(scattered(), RULES["pepita"](), LOSSES["cross_entropy"](), seeded())


def test_a_file_says_delays_that_are_drawn() -> None:
    """What a run keeps of its definition is read again as it was. Must fail when only the kind is kept (tried)."""
    entry = {"kind": "dense", "pre": "a", "post": "b", "delay": {"kind": "uniform", "low": "1 ms", "high": "3 ms"}}
    kept = TypeAdapter(GeometryEntry).validate_python(entry).model_dump(mode="json")
    assert kept["delay"] == {"kind": "uniform", "low": 1e-3, "high": 3e-3}
