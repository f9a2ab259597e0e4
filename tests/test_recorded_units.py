"""Units of recorded signals: currents in A and conductances in S where a leak is known, drives in V, in every file."""

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from recorded import CONTENTS, write
from torch import Tensor

import neurosbd
from neurosbd.connections import Dense
from neurosbd.connections.initialisers import INITIALISERS
from neurosbd.errors import UsageError
from neurosbd.learning.rule import RuleSignals
from neurosbd.learning.simulation import unroll
from neurosbd.network.network import Connection, Frame, Network, Population
from neurosbd.neurons import ALIF, LIF, AdEx, HodgkinHuxley, Izhikevich
from neurosbd.neurons.neuron import Neuron
from neurosbd.neurons.units import lifted
from neurosbd.recording.signals import Recorded, StepView, kind_of
from neurosbd.recording.units import reading, unit_of
from neurosbd.report.analyses import chosen, run_analysis
from neurosbd.synapses import NMDA, Alpha, Conductance, Exponential, Synapse
from neurosbd.tracefiles.recovery import resume
from tests.test_blocks import seeded

DT, LEAK = 5e-5, 10e-9
PASSIVE: dict[str, Any] = {"g_na": 1e-20, "g_k": 1e-20, "v_leak": -70e-3, "v_start": -70e-3, "g_leak": LEAK}
VOLTS: dict[str, Any] = {"v_leak": -70e-3, "v_threshold": -50e-3, "v_reset": -60e-3, "reset": "to_value"}


def measured(neuron: Neuron, synapse: Synapse, weight: float, arrivals: Tensor, *signals: str) -> list[np.ndarray]:
    """Signals [T, neurons] of a connection of one weight, or of its post neurons, in float64."""
    size = (2,)
    populations = [Population("input", (1,), None), Population("n", size, neuron)]
    one = Dense(weight=INITIALISERS["constant"](1.0))
    network = Network(populations, [Connection("input", "n", one, synapse=synapse)], seeded(), DT).double()
    with torch.no_grad():
        network.weights["input->n"].fill_(weight)
    recorded, found = Recorded(network, RuleSignals(), dict, None), {what: [] for what in signals}

    def observe(t: int, frame: Frame) -> None:
        for what in signals:
            kind, where = kind_of(what, network), "n" if what in ("v", "drive") else "input->n"
            assert kind is not None
            read = reading(what, kind, where, network)
            assert read is not None
            found[what].append(read(StepView(recorded, None, t, frame), where)[0].numpy())

    unroll(network, arrivals[:, None, None].double(), [observe])
    return [np.array(values) for values in found.values()]


def pulse(steps: int, *at: int) -> Tensor:
    """Arrivals of one spike at each of these steps."""
    found = torch.zeros(steps)
    found[list(at)] = 1
    return found


def test_a_step_of_two_nanosiemens_reads_two_nanosiemens() -> None:
    """And does to a membrane of 10 nS what 2 nS do: v = (g_leak v_leak + g E) / (g_leak + g), where the current of the
    synapse, g (E - v), is that of the leak. Must fail when leaks are not taken times g_leak (tried), and when the
    current is that of the potential before the step (tried in the test of the hand loop)."""
    lasting = Conductance(0.0, Exponential(1e9))
    g, i, v = measured(HodgkinHuxley(**PASSIVE), lasting, 2e-9 / LEAK, pulse(4000, 0), "conductance", "current", "v")
    assert g == pytest.approx(2e-9, rel=1e-9)
    assert v[-1] == pytest.approx(10 / 12 * -70e-3, rel=1e-6)
    assert i[-1] == pytest.approx(2e-9 * 10 / 12 * 70e-3, rel=1e-6)
    assert i[-1] == pytest.approx(LEAK * (v[-1] + 70e-3), rel=1e-6)


def test_a_current_of_a_hundred_picoamperes_reads_a_hundred_picoamperes() -> None:
    """And lifts a membrane of 10 nS by 10 mV; its drive is I / g_leak, in V. Must fail when it is recorded as a drive
    (tried)."""
    lasting, weight = Exponential(1e9), 100e-12 / LEAK
    i, drive, v = measured(HodgkinHuxley(**PASSIVE), lasting, weight, pulse(4000, 0), "current", "drive", "v")
    assert i == pytest.approx(100e-12, rel=1e-9) and drive == pytest.approx(10e-3, rel=1e-9)
    assert v[-1] == pytest.approx(-60e-3, rel=1e-6)


GIVEN = {
    "lif": LIF(**VOLTS, g_leak=LEAK),
    "lif, r = 1 - alpha": LIF(**VOLTS, g_leak=LEAK, r=1 - math.exp(-DT / 20e-3)),
    "alif": ALIF(**VOLTS, g_leak=LEAK),
    "adex": AdEx(v_leak=-70e-3, v_rheobase=20e-3, sharpness=2e-3, v_threshold=40e-3, v_reset=-60e-3, g_leak=LEAK),
}


@pytest.mark.parametrize("name", GIVEN)
def test_neurons_that_are_given_a_leak_are_recorded_in_amperes_and_siemens(name: str) -> None:
    """As those of Hodgkin and Huxley: a steady 100 pA through 10 nS lifts the membrane by 10 mV, 2 nS open to 0 V pull
    it to 10 / 12 of its rest, and their current is that of the leak. Must fail when a drive is taken times g_leak
    whatever the membrane makes of it, and when the current of a conductance is taken times `r` (tried: both)."""
    neuron = GIVEN[name]
    lasting, weight = Exponential(1e9), 100e-12 / LEAK / float(lifted(neuron, DT))
    i, v = measured(neuron, lasting, weight, pulse(8000, 0), "current", "v")
    assert i == pytest.approx(100e-12, rel=1e-8) and v[-1] == pytest.approx(-60e-3, rel=1e-6)
    neuron = dataclasses.replace(neuron, v_leak=-80e-3, v_threshold=-20e-3)
    opened = Conductance(0.0, lasting)
    g, i, v = measured(neuron, opened, 2e-9 / LEAK, pulse(8000, 0), "conductance", "current", "v")
    assert g == pytest.approx(2e-9, rel=1e-9) and v[-1] == pytest.approx(10 / 12 * -80e-3, rel=1e-6)
    assert i[-1] == pytest.approx(LEAK * (v[-1] + 80e-3), rel=1e-6)


def test_each_neuron_has_a_leak_of_its_own() -> None:
    """One weight, in leaks of 10 and 20 nS. Must fail when all have that of the first."""
    leaks: dict[str, Any] = {"g_leak": torch.tensor([10e-9, 20e-9], dtype=torch.float64)}
    neuron = HodgkinHuxley(**(PASSIVE | leaks))
    (g,) = measured(neuron, Conductance(0.0, Exponential(1e9)), 0.2, pulse(5, 0), "conductance")
    assert g[:, 0] == pytest.approx(2e-9, rel=1e-9) and g[:, 1] == pytest.approx(4e-9, rel=1e-9)


RESPONSES = {
    "exponential": (Exponential(3e-3), lambda s: np.exp(-s / 3e-3)),
    "alpha": (Alpha(2e-3), lambda s: s / 2e-3 * np.exp(1 - s / 2e-3)),
}


@pytest.mark.parametrize("name", RESPONSES)
@pytest.mark.parametrize("conducts", [False, True, "nmda"])
def test_currents_and_conductances_are_those_of_a_hand_loop(name: str, conducts: bool | str) -> None:
    """Sums of responses to three arrivals, in A and S; I = g B(v) (E - v) with the recorded v, in float64.

    Must fail when the block by magnesium is left out, or the potential is that before the step (tried: both).
    """
    response, shape = RESPONSES[name]
    arrivals, weight = (3, 40, 90), 2e-9
    time = DT * (np.arange(200)[:, None] - np.array(arrivals))
    expected = weight * np.where(time >= 0, shape(time), 0.0).sum(1)
    synapse: Synapse = {False: response, True: Conductance(-80e-3, response), "nmda": NMDA(0.0, 1.5, response)}[
        conducts
    ]
    what = ("conductance", "current", "v") if conducts else ("current", "v")
    *given, v = measured(HodgkinHuxley(**PASSIVE), synapse, weight / LEAK, pulse(200, *arrivals), *what)
    np.testing.assert_allclose(given[0][:, 0], expected, rtol=1e-9, atol=1e-24)
    if conducts:
        reversal = 0.0 if conducts == "nmda" else -80e-3
        unblocked = 1 / (1 + 1.5 / 3.57 * np.exp(-62 * v[:, 0])) if conducts == "nmda" else 1.0
        np.testing.assert_allclose(given[1][:, 0], expected * unblocked * (reversal - v[:, 0]), rtol=1e-9, atol=1e-24)


@pytest.mark.parametrize(
    ("neuron", "units"),
    [
        (LIF(), "threshold, 1, 1"),
        (LIF(**VOLTS), "V, V, V, leak"),
        (Izhikevich(), "mV, V/s, V/s"),
        (HodgkinHuxley(), "V, V, A, S"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_units_are_those_that_the_constants_say(neuron: Neuron, units: str) -> None:
    """Of v, drive and current, and of the conductance where one is possible."""
    synapses = [Exponential()] + [Conductance()] * (units.count(",") == 3)
    one = Dense(weight=INITIALISERS["constant"](1.0))
    connections = [Connection("input", "n", one, synapse=each, label=str(n)) for n, each in enumerate(synapses)]
    network = Network([Population("input", (1,), None), Population("n", (2,), neuron)], connections, seeded(), DT)
    found = []
    for what, where in (("v", "n"), ("drive", "n"), ("current", "input->n (0)"), ("conductance", "input->n (1)")):
        kind = kind_of(what, network)
        assert kind is not None
        found += [unit_of(what, kind, where, network).name] if where in ("n", *network.connections) else []
    assert ", ".join(found) == units


MODEL = """
simulation = { duration = "60 ms", report = "20 ms" }
time = { dt = "50 us" }
stimulus = [{ population = "source", kind = "poisson", rate = "100 Hz" }]
record = { signals = ["*.conductance", "*.current", "*.v", "*.drive"] }
[[connection]]
pre = "source"
post = "axon"
label = "ampa"
kind = "dense"
weight = { kind = "constant", value = "2 nS" }
synapse = "conductance"
[[connection]]
pre = "source"
post = "axon"
label = "i"
kind = "dense"
weight = { kind = "constant", value = "20 pA" }
synapse = "alpha"
[[connection]]
pre = "source"
post = "cell"
label = "g"
kind = "dense"
weight = { kind = "constant", value = 0.1 }
synapse = "conductance"
[[connection]]
pre = "source"
post = "point"
kind = "dense"
weight = { kind = "constant", value = "0.1 mV" }
synapse = "exponential"
[population]
source = { size = [10], neuron = "relay" }
axon = { size = [2], neuron = { kind = "hodgkin_huxley", g_leak = "10 nS" } }
cell = { size = [2], neuron = { VOLTS } }
point = { size = [2], neuron = { VOLTS } }
"""
LEAKY = 'kind = "lif", v_leak = "-70 mV", v_threshold = "-50 mV", v_reset = "-60 mV", reset = "to_value"'
UNITS = {
    "source->axon (ampa).conductance": "S", "source->cell (g).conductance": "leak",
    "source->axon (ampa).current": "A", "source->axon (i).current": "A", "source->cell (g).current": "V",
    "source->point.current": "V", "axon.v": "V", "cell.v": "V", "point.v": "V", "point.drive": "V",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[neurosbd.Run]:
    folder = tmp_path_factory.mktemp("units")
    (folder / "own.toml").write_text(MODEL.replace("VOLTS", LEAKY))
    done = neurosbd.simulate(folder / "own.toml", out=folder / "run")
    yield done
    done.trace.close()


def test_files_say_the_unit_of_every_signal(run: neurosbd.Run, tmp_path: Path) -> None:
    """The trace, which is NWB, in V, A and S; SONATA in mV, pA and nS, of the nodes of the post population.

    Must fail when SONATA has the values of the trace under its own unit (tried).
    """
    trace = run.trace
    assert {name: trace[name].unit for name in trace.names} == UNITS
    with h5py.File(run.path / "trace.h5") as file:
        acquired: Any = file["acquisition"]
        said = {group["data"].attrs["unit"] for group in acquired.values()}
    assert said == {"S", "leak", "A", "V"}
    g = trace["source->axon (ampa).conductance"][:][:, 0]
    jumps = g[1:, 0] - math.exp(-DT / 5e-3) * g[:-1, 0]
    assert jumps[jumps > 1e-9].min() == pytest.approx(2e-9, rel=1e-3)  # of a single spike
    with h5py.File(neurosbd.export(run, "sonata", tmp_path / "a.h5")) as file:
        reports: Any = file["report"]
        conductance, current, v = (
            reports[name] for name in ("source_to_axon (ampa).conductance", "source_to_axon (i).current", "axon")
        )
        assert conductance["data"].attrs["units"] == "nS" and current["data"].attrs["units"] == "pA"
        assert v["data"].attrs["units"] == "mV" and v["data"][0, 0] == pytest.approx(-65, abs=1)
        assert reports["source_to_cell (g).conductance/data"].attrs["units"] == "leak"
        assert reports["point.drive/data"].attrs["units"] == "mV"
        np.testing.assert_allclose(conductance["data"][:], g * 1e9, rtol=1e-5)
        assert conductance["mapping/node_ids"].attrs["node_population"] == "axon"


def test_the_page_draws_nanosiemens_picoamperes_and_millivolts(run: neurosbd.Run) -> None:
    """Must fail when a current in V is called one in pA."""
    analysis = next(each for each in chosen(()) if each.name == "raster")
    outcome: Any = run_analysis(analysis, run)
    assert not outcome.problem
    units = dict(zip(outcome.result.flow_of, outcome.result.flow_unit, strict=True))
    shown = {"S": "nS", "A": "pA", "V": "mV", "leak": "leaks"}
    assert units == {name: shown[unit] for name, unit in UNITS.items() if not name.endswith(".v")}
    drawn = analysis.load().figure(outcome.result)
    labels = {axes.get_title().partition(" of ")[2]: axes.get_ylabel() for axes in drawn.axes}
    assert labels["source->axon (i)"] == "I, pA" and labels["point"] == "drive, mV"


def test_a_trace_in_other_units_is_read_and_not_gone_on_with(tmp_path: Path) -> None:
    """Two halves of one signal would be in two units. Must fail when the contents are compared without their units
    (tried)."""
    write(tmp_path / "trace.h5", 3).close(complete=False)
    first, v, *others = CONTENTS.series
    now = CONTENTS.model_copy(update={"series": (first, v.model_copy(update={"unit": "V"}), *others)})
    with pytest.raises(UsageError, match=r"holds 'hidden.v' in threshold, where it is in V now"):
        resume(tmp_path / "trace.h5", now, [120, 9])
    assert neurosbd.open_run(tmp_path / "trace.h5.partial").trace["hidden.v"].unit == "threshold"
