"""Membranes that are held, and the current that it takes."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.experiments.free_session import FreeSession

LIF = 'kind = "lif", v_leak = "-70 mV", v_threshold = "-50 mV", v_reset = "-60 mV", reset = "to_value"'
MODEL = """
simulation = { duration = "20 ms", report = "20 ms" }
time = { dt = "50 us" }
record = { signals = ["cells.v", "cells.clamp", "cells.spikes"] }
stimulus = [
    { population = "source", kind = "regular", rate = "200 Hz" },
    { population = "cells", kind = "voltage_clamp", times = ["2 ms", "10 ms"], values = [POTENTIALS], units = [0, 2] },
]
[[connection]]
pre = "source"
post = "cells"
kind = "dense"
weight = { kind = "constant", value = WEIGHT }
synapse = SYNAPSE
plastic = false
[population]
source = { size = [1], neuron = "relay" }
cells = { size = [3], neuron = { NEURON } }
"""


def model(folder: Path, neuron: str, first: str, second: str, weight: str = "0.0", synapse: str = '"delta"') -> Path:
    text = MODEL.replace("NEURON", neuron).replace("POTENTIALS", f'"{first}", "{second}"')
    (folder / "m.toml").write_text(text.replace("WEIGHT", weight).replace("SYNAPSE", synapse))
    return folder / "m.toml"


def ran(path: Path, out: Path) -> dict[str, np.ndarray]:
    done = neurosbd.simulate(path, out=out)
    trace: Any = done.trace
    return {what: trace[f"cells.{what}"][:, 0] for what in ("v", "clamp", "spikes")}


def test_a_leaky_membrane_is_held_by_what_leaks(tmp_path: Path) -> None:
    """I = (v - v_leak) / R, here (1 - alpha) (v - v_leak) as a drive, and less by what its synapses give it.

    Must fail when the current leaves out what else drives, or when all units are held (tried: both).
    """
    synapse = '{ kind = "exponential", tau = "5 ms" }'
    found = ran(model(tmp_path, LIF, "-65 mV", "-55 mV", "0.00003", synapse), tmp_path / "r")
    free = ran(model(tmp_path, LIF, "-65 mV", "-55 mV"), tmp_path / "silent")
    leak = 1 - math.exp(-0.05 / 20)
    for run in (found, free):
        assert np.allclose(run["v"][40:200, [0, 2]], -65e-3, atol=1e-8)
        assert np.allclose(run["v"][200:, [0, 2]], -55e-3, atol=1e-8)
        assert not run["clamp"][:, 1].any() and not run["clamp"][:40].any() and not run["spikes"].any()
    assert np.allclose(free["clamp"][41:200, 0], leak * 5e-3, atol=1e-7)
    assert np.allclose(free["clamp"][201:, 2], leak * 15e-3, atol=1e-7)
    assert free["clamp"][200, 0] == pytest.approx(leak * 5e-3 + 10e-3, rel=1e-4)  # what charges the membrane
    given = free["clamp"][41:200, 0] - found["clamp"][41:200, 0]
    assert given.max() > 2e-5 and np.allclose(given[60:99] / given[61:100], math.exp(0.05 / 5), atol=1e-2)
    assert np.abs(found["v"][:, 1] - free["v"][:, 1]).max() > 1e-4  # the free one feels its synapses


def test_currents_of_the_axon_are_those_of_its_gates(tmp_path: Path) -> None:
    """Steps to -30 and 0 mV: g_na m^3 h (v - v_na) + g_k n^4 (v - v_k) + g_leak (v - v_leak), with gates in closed form
    at a held potential. Must fail when the membrane is let drift by a thousandth a step (tried)."""
    found = ran(model(tmp_path, 'kind = "hodgkin_huxley"', "-30 mV", "0 mV"), tmp_path / "r")
    gates, rates = [], []
    for v, start in ((-65.0, None), (-30.0, 0)):
        line = lambda x: x / (1 - math.exp(-x)) if x else 1.0  # noqa: E731
        rates = [
            (line((v + 40) / 10), 4 * math.exp(-(v + 65) / 18)),
            (0.07 * math.exp(-(v + 65) / 20), 1 / (1 + math.exp(-(v + 35) / 10))),
            (0.1 * line((v + 55) / 10), 0.125 * math.exp(-(v + 65) / 80)),
        ]
        if start is None:
            gates = [a / (a + b) for a, b in rates]
    for step in (50, 80, 120, 199):
        t = (step - 41) * 0.05  # the current of a step is that of the gates before it
        m, h, n = (
            a / (a + b) + (x - a / (a + b)) * math.exp(-(a + b) * t) for (a, b), x in zip(rates, gates, strict=True)
        )
        ionic = 120 * m**3 * h * (-30 - 50) + 36 * n**4 * (-30 + 77) + 0.3 * (-30 + 54.387)
        assert found["clamp"][step, 0] * 1e10 == pytest.approx(ionic, rel=2e-2, abs=1.0), step
    assert found["clamp"][45:80, 0].min() < -15e-9 < 15e-9 < found["clamp"][199, 0]  # A, inward, then outward
    assert np.array_equal(found["clamp"][:, 0], found["clamp"][:, 2])
    assert not found["spikes"][:, [0, 2]].any()  # the last command is the very threshold


def test_conductances_are_held_against_and_a_stop_changes_nothing(tmp_path: Path) -> None:
    """Within a clamp. Must fail when the steps that are done are not kept (tried)."""
    path = model(tmp_path, LIF, "-65 mV", "-55 mV", "2.0", '"conductance"')

    def session() -> FreeSession:
        loaded = neurosbd.load_model(path, settings={"record.signals": []})
        return FreeSession(loaded.build(), torch.device("cpu"))

    whole, cut, after = session(), session(), session()
    while not whole.over():
        whole.advance()
    while cut.step < 192:
        cut.advance()
    torch.save(cut.state_dict(), tmp_path / "cut.pt")
    after.load_state_dict(torch.load(tmp_path / "cut.pt", weights_only=True), tmp_path / "cut.pt")
    while not after.over():
        after.advance()
    one, other = (dict(enumerate(_state(each))) for each in (whole, after))
    assert all(torch.equal(one[n], other[n]) for n in one)
    assert torch.allclose(one[0][:, [0, 2]], torch.tensor(-55e-3), atol=1e-8)


def _state(session: FreeSession) -> list[torch.Tensor]:
    assert session.continuation.frame is not None
    return [part for part in session.continuation.frame.state.neurons["cells"] if part is not None]


def test_a_network_built_by_hand_has_its_neurons_back(tmp_path: Path) -> None:
    """Also where the run is refused. Must fail when they stay held (tried)."""
    neuron = neurosbd.neurons["lif"]()
    network = neurosbd.Network([neurosbd.Population("a", (2,), neuron)], [], torch.Generator())
    clamp = neurosbd.Stimulation("a", neurosbd.stimuli["voltage_clamp"](values=(0.5,)))
    done = neurosbd.run(network, "5 ms", [clamp], record="a.clamp", out=tmp_path / "run")
    assert network.populations["a"].neuron is neuron
    assert np.allclose(done.trace["a.clamp"][1:], 0.5 * (1 - math.exp(-1 / 20)))
    with pytest.raises(UsageError):
        neurosbd.run(network, "5 ms", [clamp], record="a.nothing", out=tmp_path / "again")
    assert network.populations["a"].neuron is neuron


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (LIF, 'kind = "relu"', "ReLU neurons have no membrane; take 'lif'"),
        ('"-55 mV"', '"-45 mV"', r"would spike and be reset at every step at -0.045, above their threshold of -0.05"),
        ("units = [0, 2]", "units = [0, 3]", "unit 3 is not there; the population has 3, 0..2"),
        ('"-55 mV"', '"5 s"', "must be a potential"),
        (
            'population = "cells", kind',
            'population = "cell", kind',
            "no such population; did you mean 'cells'",
        ),
        ("units = [0, 2] },", 'units = [0] },\n{ population = "cells", kind = "voltage_clamp" },', "there are two"),
        ('times = ["2 ms", "10 ms"]', 'times = ["30 ms", "40 ms"]', "nobody is held"),
    ],
)
def test_what_cannot_be_held_is_refused(tmp_path: Path, old: str, new: str, said: str) -> None:
    """Before anything is written."""
    path = model(tmp_path, LIF, "-65 mV", "-55 mV")
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(UsageError, match=said):
        neurosbd.simulate(path, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("neuron", "unit"), [("izhikevich", "mV"), ("cubalif", "threshold"), ("hodgkin_huxley", "V")])
def test_held_potentials_keep_their_unit(tmp_path: Path, neuron: str, unit: str) -> None:
    """That of the neuron that is held. Must fail when every neuron under clamp is asked for its volts (tried)."""
    path = model(tmp_path, f'kind = "{neuron}"', "", "")
    path.write_text(path.read_text().replace('"", ""', "0.01, 0.02"))  # bare, in the unit of each
    run = neurosbd.simulate(path, out=tmp_path / "r")
    assert run.trace["cells.v"].unit == unit
    run.trace.close()
