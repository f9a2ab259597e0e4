"""Analyses of free runs: spike statistics, the STDP window that a run shows, weights over time."""

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neurosbd
from neurosbd.errors import UsageError
from neurosbd.report.analyses import Outcome, chosen, run_analysis

RECORDED = '"*.spikes", "source->cell.weight", "source->cell (steady).weight"'
MODEL = """
simulation = { duration = "1.5 s", report = "50 ms" }
stimulus = [{ population = "source", kind = "poisson", rate = "40 Hz" }]
rule.kind = "stdp"
rule.plasticity.window = { a_plus = 1e-4, a_minus = 1.2e-4, tau_plus = "10 ms", tau_minus = "20 ms" }
record = { signals = [RECORDED] }
[[connection]]
pre = "source"
post = "cell"
label = "steady"
kind = "dense"
plastic = false
weight = { kind = "constant", value = 0.001 }
[[connection]]
pre = "source"
post = "cell"
kind = "dense"
delay = 3
sparsity = 0.2
weight = { kind = "normal", mean = 0.2, std = 0.02 }
[population]
source = { size = [40], neuron = "relay" }
cell = { size = [8], neuron = { kind = "lif", tau_mem = "20 ms" } }
""".replace("RECORDED", RECORDED)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    folder = tmp_path_factory.mktemp("free")
    (folder / "own.toml").write_text(MODEL)
    run = neurosbd.simulate(folder / "own.toml", out=folder / "run")
    names = ("spike_statistics", "stdp_window", "weight_distribution")
    found = {analysis.name: run_analysis(analysis, run) for analysis in chosen(()) if analysis.name in names}
    assert set(found) == set(names) and not any(each.problem for each in found.values()), found
    run.trace.close()
    return found


def test_the_window_of_a_run_is_that_of_its_rule(outcomes: dict[str, Outcome]) -> None:
    """With a delay and absent synapses. Must fail when lag 0 is depression, or the delay is left out (tried, both)."""
    result = outcomes["stdp_window"].result
    assert result.explained[0] > 0.99  # type: ignore[attr-defined]
    lag, window = result.lag[0], result.window[0]  # type: ignore[attr-defined]
    near = np.abs(lag) < 0.03
    expected = np.where(lag >= 0, 1e-4 * np.exp(-lag / 0.01), -1.2e-4 * np.exp(lag / 0.02))
    assert window[near] == pytest.approx(expected[near], abs=6e-6)


def test_statistics_and_weights_are_those_of_the_run(outcomes: dict[str, Outcome]) -> None:
    spikes, weights = outcomes["spike_statistics"], outcomes["weight_distribution"]
    rate, cv = spikes.result.rate, spikes.result.cv  # type: ignore[attr-defined]
    assert spikes.result.population == ("source", "cell")  # type: ignore[attr-defined]
    assert np.nanmean(rate[0]) == pytest.approx(40, rel=0.1) and np.nanmean(cv[0]) == pytest.approx(1, abs=0.1)
    assert np.isnan(rate[1, 8:]).all() and "ISI CV" in spikes.caption
    first, last, weight = (getattr(weights.result, name)[0] for name in ("first", "last", "weight"))
    first, last = first[np.isfinite(first)], last[np.isfinite(last)]
    assert first.sum() == pytest.approx(1) and last.sum() == pytest.approx(1)
    assert (np.diff(weight, axis=0) >= 0).all() and weight[0, 0] > 0.1  # absent synapses are not there
    assert weights.result.progress[0, -1] == pytest.approx(1.5)  # type: ignore[attr-defined]


def test_weights_that_are_all_the_same_stand_in_the_middle_of_their_axis(outcomes: dict[str, Outcome]) -> None:
    """Must fail when the axis ends 1 above them, whatever they are (tried)."""
    result: Any = outcomes["weight_distribution"].result
    place = result.connection.index("source->cell (steady)")
    known = np.isfinite(result.edge[place])
    edges = np.append(result.edge[place, known], result.edge[place, known][-1] + result.width[place])
    assert edges[[0, -1]] == pytest.approx([0.0005, 0.0015]) and result.first[place, known].sum() == pytest.approx(1)


CONDUCTING = """
simulation = { duration = "60 ms", report = "20 ms" }
stimulus = [
    { population = "source", kind = "poisson", rate = "100 Hz" },
    { population = "wave", kind = "sine", amplitude = 1.0, offset = 2.0, frequency = "50 Hz" },
]
reward = [{ kind = "poisson", rate = "100 Hz", tau = "20 ms" }]
rule = { kind = "rmax", neuromodulator = { baseline = 0.0 }, plasticity = { tau_e = "50 ms" } }
record = { signals = ["*.conductance", "*.current", "reward", "exc.v", "source.spikes", "*.eligibility", "*.drive"] }
[[connection]]
pre = "source"
post = "exc"
label = "g"
kind = "dense"
weight = { kind = "constant", value = 0.1 }
synapse = "conductance"
plastic = false
[[connection]]
pre = "source"
post = "cells"
kind = "dense"
weight = { kind = "constant", value = 0.1 }
synapse = "alpha"
[population]
source = { size = [20], neuron = "relay" }
wave = { size = [2], neuron = "relay" }
cells = { size = [3], neuron = { kind = "escape", tau_mem = "20 ms" } }
[population.exc]
size = [10]
[population.exc.neuron]
kind = "lif"
tau_mem = "20 ms"
v_leak = "-70 mV"
v_threshold = "-50 mV"
v_reset = "-60 mV"
reset = "to_value"
"""


@pytest.fixture(scope="module")
def conducting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[neurosbd.Run]:
    folder = tmp_path_factory.mktemp("conducting")
    (folder / "own.toml").write_text(CONDUCTING)
    run = neurosbd.simulate(folder / "own.toml", out=folder / "run")
    yield run
    run.trace.close()


def test_conductances_currents_and_rewards_are_recorded(conducting: neurosbd.Run) -> None:
    """g decays by its tau and grows by weight x spikes; the mean reward is that of the reports; the current of the only
    connection is the drive. Must fail when what is recorded has added up over steps (tried)."""
    trace = conducting.trace
    g, spikes = trace["source->exc (g).conductance"][:][:, 0, 0], trace["source.spikes"][:][:, 0].sum(1)
    kept, expected = np.exp(-1e-3 / 5e-3), 0.0
    for k, arrived in enumerate(spikes):
        expected = expected * (kept if k else 0.0) + 0.1 * arrived
        assert g[k] == pytest.approx(expected, rel=1e-5)
    reward = trace["reward"][:][:, 0].reshape(3, 20).mean(1)
    assert reward == pytest.approx([line["reward"] for line in conducting.metrics], rel=1e-5) and reward.any()
    current = trace["source->cells.current"]
    np.testing.assert_array_equal(current[:], trace["cells.drive"][:])
    assert current.shape == (60, 1, 3) and "exc.drive" not in trace
    assert trace["exc.v"].unit == "V" and trace["source->exc (g).conductance"].unit == "leak"
    assert "wave.activity" in conducting.metrics[0] and "source.rate" in conducting.metrics[0]
    assert conducting.metrics[0]["wave.activity"] == pytest.approx(2.0, abs=0.01)


def test_pages_say_units_known_half_lives_and_no_advice_that_does_not_apply(conducting: neurosbd.Run) -> None:
    """Must fail when advice asks for the impossible: a score, a test, weights onto what a stimulus drives (tried)."""
    found = {analysis.name: run_analysis(analysis, conducting) for analysis in chosen(())}
    raster, eligibility = found["raster"], found["eligibility"]
    assert raster.result.voltage_unit == ("mV",) and (raster.result.voltage < -40).all()  # type: ignore[attr-defined]
    assert raster.result.threshold == pytest.approx([-50])  # type: ignore[attr-defined]
    assert raster.result.flow_unit == ("leaks", "mV", "1")  # type: ignore[attr-defined]
    assert eligibility.result.known == pytest.approx([0.05 * np.log(2)])  # type: ignore[attr-defined]
    assert "34.7 ms by its constants" in eligibility.caption and not eligibility.advice
    for name in ("decorrelation", "alignment", "hebbian_alignment"):
        assert re.match("nobody scores a free run|a free run has no test", str(found[name].problem))
        assert not found[name].spec
    busy = dataclasses.replace(raster.result, neurons=np.array([1]))  # type: ignore[type-var]
    module = next(analysis for analysis in chosen(()) if analysis.name == "raster").load()
    assert "lower the rate or the amplitude of its stimulus" in module.advice(busy)[0]


def test_what_has_no_reward_says_where_rewards_come_from(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no network has reward .*\[\[reward\]\] in a free run"):
        neurosbd.simulate("stdp-window", record="reward", out=tmp_path / "run")


def test_windows_of_listed_synapses_and_of_drawn_delays(tmp_path: Path) -> None:
    """Of synapses with delays of their own, too, and a connection that did not move is left out by name.

    Must fail when one connection without a window leaves none, when the numbers of a list are taken for those of a
    matrix, or when all delays are taken for the shortest (tried: all three).
    """
    listed = MODEL.replace("sparsity = 0.2", 'sparsity = 0.2\nlabel = "listed"\nstorage = "sparse"')
    start = listed.rindex("[[connection]]")  # of the one that learns
    stop = listed.index("[population]")
    drawn = listed[start:stop].replace('"listed"', '"drawn"').replace(
        "delay = 3", 'delay = { kind = "uniform", low = "1 ms", high = "4 ms" }'
    )  # fmt: skip
    still = (
        listed[start:stop].replace('"listed"', '"still"')
        + 'plasticity.kind = "spike_timing"\nplasticity.window = { a_plus = 0.0, a_minus = 0.0 }\n'
    )
    record = '"*.spikes", "*.weight"'
    text = (listed[:stop] + drawn + still + listed[stop:]).replace(RECORDED, record)
    (tmp_path / "own.toml").write_text(text)
    run = neurosbd.simulate(tmp_path / "own.toml", out=tmp_path / "run")
    found = next(run_analysis(each, run) for each in chosen(()) if each.name == "stdp_window")
    assert found.result.connection == ("source->cell (listed)", "source->cell (drawn)"), found.problem  # type: ignore[attr-defined]
    assert (found.result.explained > 0.99).all()  # type: ignore[attr-defined]
    assert "source->cell (still): no recorded weight has moved" in found.caption
    run.trace.close()
