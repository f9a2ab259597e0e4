"""Analyses of free runs: spike statistics, the STDP window that a run shows, weights over time."""

from pathlib import Path

import numpy as np
import pytest

import neurosbd
from neurosbd.report.analyses import Outcome, chosen, run_analysis

MODEL = """
simulation = { duration = "1.5 s", report = "50 ms" }
stimulus = [{ population = "source", kind = "poisson", rate = "40 Hz" }]
rule.kind = "stdp"
rule.plasticity.window = { a_plus = 1e-4, a_minus = 1.2e-4, tau_plus = "10 ms", tau_minus = "20 ms" }
record = { signals = ["*.spikes", "source->cell.weight"] }
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
"""


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
    assert first.sum() == pytest.approx(1) and last.sum() == pytest.approx(1)
    assert (np.diff(weight, axis=0) >= 0).all() and weight[0, 0] > 0.1  # absent synapses are not there
    assert weights.result.time[0, -1] == pytest.approx(1.5)  # type: ignore[attr-defined]


def test_what_is_no_free_run_says_so(tmp_path: Path) -> None:
    settings = {"training.epochs": 1, "data.subset": 3, "time.steps": 4}
    run = neurosbd.fit("digits-snn", settings=settings, record=["*.spikes", "*.weight"], out=tmp_path / "run")
    found = {analysis.name: run_analysis(analysis, run).problem or "" for analysis in chosen(())}
    assert "are of free runs" in found["spike_statistics"] and "are of free runs" in found["weight_distribution"]
    assert "measured from a free run" in found["stdp_window"]
    run.trace.close()
